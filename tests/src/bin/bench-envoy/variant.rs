//! Which Envoys are compared, and in what do they differ? In nothing but the filters.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_tests::harness::bootstrap::{self, Bootstrap};
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::v8::Compile;
use tollgate_tests::harness::{Setup, credential_of, tools};

use crate::credentials::Credentials;
use crate::growth::Growth;

/// What is in an Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The listener and the clusters of `envoy.yaml`, and a plain route to the first cluster.
    Bare,
    /// The same in a second process: what differs from the first is noise.
    BareAgain,
    /// A Wasm filter that does nothing.
    Empty,
    /// All of `envoy.yaml`.
    Tollgate,
    /// The same with another module.
    Beside,
    /// The same with more of something.
    Grown(Growth),
}

/// The modules that are no build of this workspace's filter.
#[derive(Clone)]
pub(crate) struct Modules {
    /// The filter that does nothing.
    pub(crate) empty: PathBuf,
    /// Another build of the filter, to compare with this one.
    pub(crate) beside: Option<PathBuf>,
    /// The other one has names, and V8 tells them; only bare Envoy is beside it.
    pub(crate) are_profiled: bool,
}

/// The client's key.
pub(crate) const KEY: &str = "bench-envoy";

impl Variant {
    /// Those that run: the last one only where there is something to compare with.
    pub(crate) fn all(modules: &Modules) -> Vec<Self> {
        let beside = modules.beside.as_ref().map(|_| Self::Beside);
        [Self::Bare, Self::BareAgain, Self::Empty, Self::Tollgate].into_iter().chain(beside).collect()
    }

    /// Whether the filter is in it.
    pub(crate) fn is_tollgate(self) -> bool {
        matches!(self, Self::Tollgate | Self::Beside | Self::Grown(_))
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Bare => "bare Envoy".to_owned(),
            Self::BareAgain => "bare Envoy again".to_owned(),
            Self::Empty => "empty Wasm filter".to_owned(),
            Self::Tollgate => "Tollgate".to_owned(),
            Self::Beside => "another module".to_owned(),
            Self::Grown(growth) => growth.to_string(),
        }
    }

    /// By what the load is known. `new` says how many tokens stand for a new one each time.
    pub(crate) fn credentials(self, new: usize) -> Result<Credentials> {
        match self {
            Self::Grown(growth) => growth.credentials(new),
            _ => Credentials::keys(std::iter::once(KEY.to_owned())),
        }
    }

    /// An Envoy that has every backend at one place, and does not talk to the disk.
    pub(crate) fn setup(self, workers: u32, backend_url: &str, modules: &Modules) -> Result<Setup> {
        let mut gateway = Bootstrap::load()?.gateway_mut()?.clone();
        never_refused(&mut gateway);
        if let Self::Grown(growth) = self {
            growth.apply(&mut gateway)?;
        }
        let compile = if modules.are_profiled { Compile::WithNames } else { Compile::AsShipped };
        let mut setup = Setup::new().workers(workers).config(gateway.clone()).compile(compile);
        for backend in bootstrap::backends(&gateway) {
            setup = setup.backend(&backend.name, backend_url);
            if let Some(env) = &backend.env {
                setup = setup.env(env, &credential_of(&backend.name));
            }
        }
        let (empty, beside) = (modules.empty.clone(), modules.beside.clone());
        Ok(setup.patch(move |envoy| {
            let connections =
                &mut envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
            let connections = &mut connections["typed_config"];
            // Every line is written, but no disk is measured.
            connections["access_log"][0]["typed_config"]["path"] = json!("/dev/null");
            match self {
                Self::Tollgate | Self::Grown(_) => {}
                Self::Beside => {
                    if let Some(module) = &beside {
                        bootstrap::load_module(envoy, module);
                    }
                }
                Self::Bare | Self::BareAgain => drop(take_filters(connections)),
                Self::Empty => {
                    if let Some(filter) = take_filters(connections) {
                        put_empty_filter(connections, filter, &empty);
                    }
                }
            }
        }))
    }
}

/// Two limits that are there and never reached, and a key that is ours.
fn never_refused(gateway: &mut Value) {
    let client = &mut gateway["clients"][0];
    client["api_keys"] = json!([{ "sha256": hex::encode(Sha256::digest(KEY)) }]);
    client["limits"] =
        json!([{ "tokens": u32::MAX, "per": "second" }, { "tokens": u32::MAX, "per": "minute" }]);
}

/// Leaves the router alone in the chain, with a route that needs nobody's help; answers the first filter there was.
fn take_filters(connections: &mut Value) -> Option<Value> {
    let filters = connections["http_filters"].as_array_mut()?;
    let mut router = filters.pop()?;
    if let Some(router) = router["typed_config"].as_object_mut() {
        router.remove("upstream_http_filters");
    }
    let first = std::mem::replace(filters, vec![router]).into_iter().next();
    let route = &mut connections["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    let route = route.as_object_mut()?;
    let groups = route.remove("inline_cluster_specifier_plugin")?;
    let clusters = &groups["extension"]["typed_config"]["priority_groups"][0]["clusters"];
    route.insert("cluster".to_owned(), clusters[0]["cluster_name"].clone());
    if let Some(retries) = route["retry_policy"].as_object_mut() {
        retries.remove("refresh_cluster_on_retry");
    }
    first
}

/// Puts a filter back in its place, with another module and without a configuration.
fn put_empty_filter(connections: &mut Value, mut filter: Value, module: &Path) {
    let config = &mut filter["typed_config"]["config"];
    if let Some(config) = config.as_object_mut() {
        config.remove("configuration");
    }
    config["vm_config"]["code"] = json!({ "local": { "filename": module } });
    if let Some(filters) = connections["http_filters"].as_array_mut() {
        filters.insert(0, filter);
    }
}

/// Builds the filter that does nothing.
pub(crate) fn empty_module() -> Result<PathBuf> {
    tools::rust_target(tools::WASM_WASI)?;
    let _report = tools::Report::if_slow("building the empty Wasm filter".to_owned());
    let mut cargo = tools::cargo();
    cargo.args(["build", "--quiet", "--release", "--package", "tollgate-filter", "--example", "empty"]);
    cargo.args(["--target", tools::WASM_WASI]).arg("--target-dir").arg(tools::target_dir());
    let status = Leashed::spawn(&mut cargo).and_then(Leashed::wait).context("cargo cannot be run")?;
    ensure!(status.success(), "the empty Wasm filter does not build: what cargo says of it stands above");
    Ok(tools::target_dir().join(tools::WASM_WASI).join("release/examples/empty.wasm"))
}
