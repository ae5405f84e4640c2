//! Tollgate as an Envoy Wasm filter: the plug between Envoy and the core, which decides everything.
//!
//! One module, two roles, told apart by `root_id`: `gateway` in the listener's filter chain, `attempt` among the router's
//! upstream filters. Both run in one VM (same `vm_id`, same code), where a request's attempts find its [`flights`].

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod access;
mod attempt;
mod candidates;
mod configuration;
mod directory;
mod ended;
mod fetched;
mod fleet;
mod flights;
mod holding;
mod host;
mod http;
mod jobs;
mod journal;
mod links;
mod pending;
mod proxy_facts;
mod record;
mod root;
mod sockets;
mod spending;
mod standings;
mod waiting;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    // Where, but not what: a panic's message may quote a body.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        log::error!("a fault of ours at {place}; this worker's streams are lost, the VM is reloaded");
    }));
    // The first one of the VM stays.
    let _ = proxy_facts::CRYPTO.install_default();
    proxy_wasm::set_root_context(|_| Box::new(root::Root::default()));
}}
