//! What the end-to-end tests, the demo and the macro benchmark share: a mock OpenAI backend, and a harness that finds or
//! installs what is needed and runs a real Envoy with the filter in it, and a model of the store that a fleet shares.

pub mod cost;
pub mod fleet;
pub mod harness;
pub mod mock;
pub mod percentile;
pub mod release;
pub mod scenarios;
