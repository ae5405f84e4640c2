//! Does the gateway keep its promises, all the way through a real Envoy?
//!
//! Every test starts an Envoy and its backends of its own. What is expected is worked out from what was asked, by the
//! mock's rules and by [`requests`], not read back from the gateway.

mod accounting;
mod bodies;
mod cases;
mod configuration;
mod connections;
mod dashboards;
mod doors;
mod drivers;
mod envoy_lines;
mod every_line;
mod exact_cost;
mod examples;
mod explain;
mod failover;
mod faults;
mod fitting;
mod held;
mod identity;
mod issuer;
mod kept;
mod langchain;
mod limits;
mod mesh;
mod metering;
mod names;
mod nearness;
mod openings;
mod pinned;
mod policy;
mod portable;
mod priority;
mod proven;
mod queue;
mod quotas;
mod replayed;
mod requests;
mod retries;
mod routing;
mod sdk;
mod secrecy;
mod semantic_kernel;
mod soak;
mod spilling;
mod steering;
mod streams;
mod terminator;
mod throttling;
mod tls;
mod tls_listener;
mod tokens;
mod trailers;
mod traps;
mod updates;
