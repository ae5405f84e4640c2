//! What the decisions are about: values, and what they say.

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
pub mod resp;
pub mod sse;
pub mod store;
pub mod time;
pub mod tokens;
