//! How does a test, the demo or the benchmark get a real Envoy with the filter in it?
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use serde_json::json;
//! use tollgate_tests::harness::{Gateway, Setup};
//!
//! let gateway = Gateway::start(Setup::new().edit(|config| config["clients"][0]["models"] = json!(["*"]))).await?;
//! let answer = gateway.post("/v1/chat/completions", "demo-web-shop", &json!({"model": "gpt-4o"})).await?;
//! assert_eq!(answer.status, 200);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Setup`] says what is different from `envoy/envoy.yaml` and from default mock backends; a [`Gateway`] is what runs,
//! and ends with its value. [`tools`] has what must be there first: the built filter, Envoy, Python, Node.
//! Nothing here knows what Tollgate decides; that is for the tests to say.

pub mod bootstrap;
pub mod console;
pub mod document;
pub mod engine;
pub mod leash;
pub mod metrics;
pub mod portable;
pub mod tools;
pub mod v8;

mod browser;
mod envoy;
mod files;
mod gateway;
mod link;
mod prometheus;
mod redis;
mod setup;

pub use browser::{Browser, Key, Page};
pub use gateway::{Answer, Gateway};
pub use link::{Link, LinkFault};
pub use metrics::Sample;
pub use prometheus::{Prometheus, promtool};
pub use redis::{Connection, Redis};
pub use setup::{Setup, credential_of};
