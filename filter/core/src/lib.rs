//! The decisions of Tollgate, an OpenAI gateway that runs inside Envoy.
//!
//! Everything here is arithmetic on values: no IO, no clock, no proxy-wasm. Time is an argument, memory is the
//! [`store::Store`] trait, and what is to be done is returned as a [`exchange::Step`]. `ARCHITECTURE.md` has the map.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

// Words: what the decisions are about.
pub mod allowance;
pub mod answer;
pub mod calendar;
pub mod capability;
pub mod codec;
pub mod decision;
pub mod denial;
pub mod digest;
pub mod endpoint;
pub mod failure;
pub mod finding;
pub mod form;
pub mod gauge;
pub mod headers;
pub mod health;
pub mod ids;
pub mod json;
pub mod media;
pub mod number;
pub mod prices;
pub mod request;
pub mod sse;
pub mod store;
pub mod time;
pub mod tokens;

// Decisions: one question each, in words only.
pub mod capacity;
pub mod estimate;
pub mod identity;
pub mod journal;
pub mod ledger;
pub mod limits;
pub mod pending;
pub mod pinning;
pub mod policy;
pub mod route;
pub mod usage;

// Assembly: what the operator writes becomes what runs.
pub mod config;
pub mod gateway;
pub mod standings;

// Order: one request and its tries.
pub mod attempt;
pub mod exchange;
pub mod prove;

#[cfg(test)]
mod layers;
