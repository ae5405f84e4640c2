//! What does `envoy/envoy.yaml` become for one run on this machine?
//!
//! Only what differs from run to run is changed: ports, where the backends are, where `tollgate.wasm` is, the gateway's
//! configuration, and where the access log goes. What is written here is pure: YAML in, JSON out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::tools::workspace;

/// Where the real or the mock server of a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// What Envoy puts into `Host`, and for TLS into SNI.
    pub hostname: String,
    /// A name or an IP address.
    pub address: String,
    /// The TCP port.
    pub port: u16,
    /// The PEM file of the authorities to trust when it speaks TLS.
    pub tls: Option<String>,
}

/// What a gateway configuration says of one backend, as far as Envoy must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Its Envoy cluster.
    pub cluster: String,
    /// The environment variable of its key.
    pub env: Option<String>,
}

/// An Envoy configuration that is being changed.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    whole: Value,
    /// The clusters of the backends that the file itself has.
    of_backends: BTreeSet<String>,
}

impl Bootstrap {
    /// `envoy/envoy.yaml`.
    ///
    /// # Errors
    /// It cannot be read or is not YAML.
    pub fn load() -> Result<Self> {
        Self::load_from("envoy/envoy.yaml")
    }

    /// Another whole configuration, by its path in the workspace.
    ///
    /// # Errors
    /// It cannot be read or is not YAML.
    pub fn load_from(file: &str) -> Result<Self> {
        let mut loaded = Self { whole: read(&workspace().join(file))?, of_backends: BTreeSet::new() };
        // Not every file has a gateway's configuration: then there is none to replace.
        if let Ok(gateway) = loaded.gateway_mut() {
            let clusters = backends(gateway).into_iter().map(|backend| backend.cluster);
            loaded.of_backends = clusters.collect();
        }
        Ok(loaded)
    }

    /// All of it, for a change that has no name here.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.whole
    }

    /// All of it.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.whole
    }

    /// Tollgate's own configuration, inside the Wasm filter's.
    ///
    /// # Errors
    /// There is no Wasm filter with a configuration.
    pub fn gateway_mut(&mut self) -> Result<&mut Value> {
        let filter = find(&mut self.whole, "configuration")
            .context("envoy.yaml: no Wasm filter has a configuration")?;
        filter["configuration"]
            .get_mut("value")
            .context("envoy.yaml: the Wasm filter's configuration has no value")
    }

    /// Both Wasm filters load the module from `file`.
    pub fn load_module_from(&mut self, file: &Path) {
        load_module(&mut self.whole, file);
    }

    /// The module is given these variables of Envoy's environment. Both filters alike: only then do they share a VM.
    pub fn pass_environment(&mut self, names: &BTreeSet<String>) {
        for_each(&mut self.whole, "vm_config", &mut |filter| {
            filter["vm_config"]["environment_variables"] = json!({ "host_env_keys": names });
        });
    }

    /// Listens on loopback only, on ports that the kernel picks.
    ///
    /// # Errors
    /// There is no listener.
    pub fn listen_on_free_ports(&mut self) -> Result<()> {
        let anywhere = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        self.whole["admin"]["address"] = anywhere.clone();
        let listener =
            self.whole.pointer_mut("/static_resources/listeners/0").context("envoy.yaml has no listener")?;
        listener["address"] = anywhere;
        Ok(())
    }

    /// The access log goes to a file, its fields as they are.
    ///
    /// # Errors
    /// There is no access log.
    pub fn log_access_to(&mut self, file: &Path) -> Result<()> {
        let logs = find(&mut self.whole, "access_log").context("envoy.yaml has no access log")?;
        let log = logs["access_log"].get_mut(0).context("envoy.yaml has an empty access log")?;
        log["typed_config"]["@type"] =
            json!("type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog");
        log["typed_config"]["path"] = json!(file);
        Ok(())
    }

    /// The store of a file that has one is the Redis at `address`. Its listener is a socket in the file system: the cluster that
    /// leads to it would have to know a port before the kernel picks it.
    ///
    /// # Errors
    /// The file has no store.
    pub fn reach_store(&mut self, socket: &Path, address: SocketAddr) -> Result<()> {
        let pipe = json!({ "pipe": { "path": socket } });
        let there = json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } });
        self.named("listeners", "tollgate-store")?["address"] = pipe.clone();
        for (cluster, address) in [("tollgate-store", pipe), ("redis", there)] {
            let cluster = self.named("clusters", cluster)?;
            let endpoint = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint");
            endpoint.context("a cluster of the store has no endpoint")?["address"] = address;
        }
        Ok(())
    }

    fn named(&mut self, list: &str, name: &str) -> Result<&mut Value> {
        let list = self.whole["static_resources"][list].as_array_mut().into_iter().flatten();
        let mut found = list.filter(|one| one["name"] == name);
        found.next().with_context(|| format!("the file has no {name}: expected envoy/fleet.yaml"))
    }

    /// One cluster, and one priority group where the route has them, for each cluster that the gateway's configuration
    /// names, in its order, all after the model of the first in the file; what is no backend's there stays: pools, the way to
    /// a store. A backend that `upstreams` does not know is at a closed port.
    ///
    /// # Errors
    /// There is no cluster to take for a model.
    pub fn connect(&mut self, backends: &[Backend], upstreams: &BTreeMap<String, Upstream>) -> Result<()> {
        let present = self.whole.pointer("/static_resources/clusters").and_then(Value::as_array);
        let present = present.context("envoy.yaml has no clusters")?;
        let model = present.first().context("envoy.yaml has no cluster")?.clone();
        let is_backends =
            |cluster: &&Value| cluster["name"].as_str().is_some_and(|name| self.of_backends.contains(name));
        let (of_backends, others): (Vec<_>, Vec<_>) = present.iter().partition(is_backends);
        let others: Vec<Value> = others.into_iter().cloned().collect();
        let mut clusters: Vec<Value> = Vec::new();
        let mut groups: Vec<Value> = Vec::new();
        // A configuration without a backend is for Tollgate to refuse, not for Envoy for the want of a cluster.
        let stand_ins = if backends.is_empty() { stand_ins(&of_backends) } else { Vec::new() };
        for backend in backends.iter().chain(&stand_ins) {
            if clusters.iter().any(|cluster| cluster["name"] == json!(backend.cluster)) {
                continue;
            }
            let nowhere = Upstream {
                hostname: backend.name.clone(),
                address: "127.0.0.1".to_owned(),
                port: 9,
                tls: None,
            };
            clusters.push(cluster(
                model.clone(),
                &backend.cluster,
                upstreams.get(&backend.name).unwrap_or(&nowhere),
            ));
            groups.push(json!({
                "name": backend.cluster,
                "clusters": [ { "cluster_name": backend.cluster, "weight": 1 } ],
            }));
        }
        clusters.extend(others);
        self.whole["static_resources"]["clusters"] = Value::Array(clusters);
        if let Some(route) = find(&mut self.whole, "priority_groups") {
            route["priority_groups"] = Value::Array(groups);
        }
        Ok(())
    }
}

/// All Wasm filters of `envoy` load the module from `file`.
pub fn load_module(envoy: &mut Value, file: &Path) {
    for_each(envoy, "vm_config", &mut |filter| {
        filter["vm_config"]["code"] = json!({ "local": { "filename": file } });
    });
}

/// The backends that a gateway configuration names. One that is broken is left out: to say so is the filter's part.
#[must_use]
pub fn backends(gateway: &Value) -> Vec<Backend> {
    let entries = gateway["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    entries
        .iter()
        .filter_map(|entry| {
            let name = text(&entry["name"])?;
            let cluster = text(&entry["cluster"]).unwrap_or_else(|| name.clone());
            let credential = &entry["credential"];
            let env = text(&credential["env"]).or_else(|| text(&credential["azure"]["client_secret"]["env"]));
            Some(Backend { name, cluster, env })
        })
        .collect()
}

/// A gateway configuration from a file of YAML or JSON.
///
/// # Errors
/// It cannot be read, is neither, or is something else.
pub fn gateway_from(file: &Path) -> Result<Value> {
    let value = read(file)?;
    ensure!(
        value.get("static_resources").is_none(),
        "{} is a configuration of Envoy: give the part of it under the Wasm filter's `configuration: value:`",
        file.display()
    );
    ensure!(
        value.is_object(),
        "{} is not a gateway configuration: clients, models, backends",
        file.display()
    );
    Ok(value)
}

fn read(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_yaml_ng::from_str(&text).with_context(|| format!("{} is not YAML", file.display()))
}

fn stand_ins(clusters: &[&Value]) -> Vec<Backend> {
    let names = clusters.iter().filter_map(|cluster| cluster["name"].as_str());
    names.map(|name| Backend { name: name.to_owned(), cluster: name.to_owned(), env: None }).collect()
}

fn cluster(model: Value, name: &str, upstream: &Upstream) -> Value {
    let mut cluster = model;
    let tells = find(&mut cluster, "metadata").is_some();
    cluster["name"] = json!(name);
    let assignment = &mut cluster["load_assignment"];
    assignment["cluster_name"] = json!(name);
    // The first is where the backend is; the other is for when it is nowhere.
    assignment["endpoints"][0]["lb_endpoints"][0]["endpoint"] = json!({
        "hostname": upstream.hostname,
        "address": { "socket_address": { "address": upstream.address, "port_value": upstream.port } },
    });
    if tells {
        // What an attempt in a pool knows its backend by.
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] =
            json!({ "filter_metadata": { "tollgate": { "cluster": name } } });
    }
    if let Some(authorities) = &upstream.tls {
        cluster["transport_socket"] = tls(&upstream.address, authorities);
    }
    cluster
}

/// TLS to a server that must prove to be `host`.
fn tls(host: &str, authorities: &str) -> Value {
    // SNI is for names; a server at an address has to have the address in its certificate.
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let kind = if is_address { "IP_ADDRESS" } else { "DNS" };
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": if is_address { "" } else { host },
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": { "filename": authorities },
                    "match_typed_subject_alt_names": [ { "san_type": kind, "matcher": { "exact": host } } ],
                },
            },
        },
    })
}

impl Upstream {
    /// From `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    ///
    /// # Errors
    /// It is no such URL, or it is https and this machine's authorities are not found.
    pub fn from_url(text: &str) -> Result<Self> {
        let Ok(url) = text.parse::<reqwest::Url>() else {
            bail!("{text:?} is not a URL: expected for example https://NAME.openai.azure.com");
        };
        let (Some(host), Some(port), "http" | "https") =
            (url.host_str(), url.port_or_known_default(), url.scheme())
        else {
            bail!("{text:?} is not the URL of a backend: expected http://HOST:PORT or https://HOST");
        };
        ensure!(
            matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty(),
            "{text:?} has more than a host and a port: the path and the key of a request are Tollgate's to set"
        );
        let hostname = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let address = host.trim_matches(['[', ']']).to_owned();
        let tls = if url.scheme() == "https" { Some(authorities()?) } else { None };
        Ok(Self { hostname, address, port, tls })
    }
}

/// The PEM file of the authorities that this machine trusts.
fn authorities() -> Result<String> {
    // Debian and Alpine, Fedora and RHEL, openSUSE, macOS and the BSDs.
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    if let Ok(chosen) = std::env::var("SSL_CERT_FILE") {
        ensure!(Path::new(&chosen).is_file(), "SSL_CERT_FILE is {chosen:?}, which is not a file");
        return Ok(chosen);
    }
    let found = PLACES.into_iter().find(|place| Path::new(place).is_file());
    Ok(found
        .context("an https backend needs this machine's CA certificates: set SSL_CERT_FILE to them")?
        .to_owned())
}

/// The first object, in the order of the arrays, that has `key`.
fn find<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) if map.contains_key(key) => Some(value),
        Value::Object(map) => map.values_mut().find_map(|child| find(child, key)),
        Value::Array(list) => list.iter_mut().find_map(|child| find(child, key)),
        _ => None,
    }
}

/// Every object that has `key`.
fn for_each(value: &mut Value, key: &str, change: &mut impl FnMut(&mut Value)) {
    if value.get(key).is_some() {
        change(value);
    }
    match value {
        Value::Object(map) => map.values_mut().for_each(|child| for_each(child, key, change)),
        Value::Array(list) => list.iter_mut().for_each(|child| for_each(child, key, change)),
        _ => {}
    }
}
