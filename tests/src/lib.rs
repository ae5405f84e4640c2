//! What the end-to-end tests, the demo and the macro benchmark share: a mock OpenAI backend, and a harness that finds or
//! installs what is needed and runs a real Envoy with the filter in it.

pub mod cost;
pub mod harness;
pub mod mock;
pub mod release;
