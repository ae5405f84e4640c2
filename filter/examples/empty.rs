//! A filter that does nothing: what any Wasm filter costs an Envoy, for `cargo bench-envoy` to compare Tollgate with.

// Natively there is no Envoy to call, and nothing to be built.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext};

struct Empty;

impl Context for Empty {}

impl HttpContext for Empty {}

proxy_wasm::main! {{
    proxy_wasm::set_http_context(|_, _| Box::new(Empty));
}}
