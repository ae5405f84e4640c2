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

// From the lowest to the highest; `layers.rs` holds them to it.
mod assembly;
mod decisions;
mod order;
mod words;

pub use assembly::*;
pub use decisions::*;
pub use order::*;
pub use words::*;

// They read the sources, which a test as wasm cannot.
#[cfg(all(test, not(target_arch = "wasm32")))]
mod habits;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod layers;
