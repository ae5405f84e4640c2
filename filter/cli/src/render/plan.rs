//! What does the `envoy` part beside a gateway's configuration say, and what follows from that configuration itself?

use crate::source::Found;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use tollgate::config::ConfigError;

/// All that a rendered file has of its own.
pub(super) struct Plan {
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Where Envoy finds the module.
    pub(super) module: String,
    pub(super) tls: Option<Tls>,
    /// In the order of the backends.
    pub(super) backends: Vec<Cluster>,
    /// Those that issuers' keys come from, in the order of the issuers.
    pub(super) issuers: Vec<Cluster>,
    pub(super) store: Option<Cluster>,
}

/// How the listener proves who it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// The PEM file of its chain.
    pub(super) certificate: String,
    /// The PEM file of its key.
    pub(super) key: String,
}

/// Where a cluster leads.
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) address: String,
    /// The host that it is asked for, and that its certificate is for.
    pub(super) host: String,
    pub(super) port: u16,
    /// The PEM file of the authorities that it is trusted by, if it speaks TLS.
    pub(super) authorities: Option<String>,
}

/// Where it leads, as the operator writes it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    address: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    tls: Option<bool>,
    authorities: Option<String>,
}

const MEMBERS: [&str; 6] = ["listen", "admin", "module", "tls", "clusters", "store"];
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Reads it, or tells all that is wrong with it.
pub(super) fn read(found: &Found) -> Result<Plan, Vec<ConfigError>> {
    let Some(Value::Object(envoy)) = &found.envoy else {
        return Err(vec![fault("envoy", "expected an object with the clusters' addresses")]);
    };
    let mut faults = Vec::new();
    for name in envoy.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
        let expected = MEMBERS.join(", ");
        faults.push(fault(&format!("envoy.{name}"), &format!("unknown field, expected one of {expected}")));
    }
    let gateway = &found.value;
    if !gateway["routing"]["pools"].is_null() || !gateway["routing"]["fitted"].is_null() {
        let problem =
            "expected none: what is rendered reads the whole order of backends, which Envoy 1.40 can";
        faults.push(fault("routing", problem));
    }
    let mut address = |name: &str, default: &str| {
        let written: Option<String> = member(envoy, name, "envoy", &mut faults);
        written.as_deref().unwrap_or(default).parse().unwrap_or_else(|_| {
            faults.push(fault(&format!("envoy.{name}"), &format!("expected IP:PORT, for example {default}")));
            SocketAddr::from(([0; 4], 0))
        })
    };
    let (listen, admin) = (address("listen", "0.0.0.0:10000"), address("admin", "127.0.0.1:9901"));
    let module = member(envoy, "module", "envoy", &mut faults);
    let tls = member(envoy, "tls", "envoy", &mut faults);
    let written = match envoy.get("clusters") {
        None => Map::new(),
        Some(Value::Object(clusters)) => clusters.clone(),
        Some(_) => {
            faults.push(fault("envoy.clusters", "expected an object: for each cluster where it leads"));
            Map::new()
        }
    };
    let mut plan = Plan {
        listen,
        admin,
        module: module.unwrap_or_else(|| "/etc/envoy/tollgate.wasm".to_owned()),
        tls,
        backends: Vec::new(),
        issuers: Vec::new(),
        store: None,
    };
    for (at, backend) in gateway["backends"].as_array().into_iter().flatten().enumerate() {
        if !backend["credential"]["azure"].is_null() {
            let problem =
                "expected a key: the clusters of tokens are not rendered; examples/keyless has them";
            faults.push(fault(&format!("backends[{at}].credential.azure"), problem));
        }
        let Some(name) = backend["cluster"].as_str() else { continue };
        let expected = match backend["style"].as_str() {
            Some("azure" | "azure-v1") => {
                "expected an address: for a backend of Azure the host name of its resource, NAME.openai.azure.com"
            }
            _ => "expected an address: the host name of the backend, for OpenAI api.openai.com",
        };
        plan.backends.extend(cluster(&written, name, Err(expected), &mut faults));
    }
    for issuer in gateway["issuers"].as_array().into_iter().flatten() {
        let jwks = &issuer["jwks"];
        let Some(name) = jwks["cluster"].as_str() else { continue };
        if plan.backends.iter().chain(&plan.issuers).all(|cluster| cluster.name != name) {
            let host = jwks["host"].as_str().ok_or("expected an address: the host of the issuer's keys");
            plan.issuers.extend(cluster(&written, name, host, &mut faults));
        }
    }
    match (gateway.get("store"), envoy.get("store")) {
        (None, None) => {}
        (None, Some(_)) => faults.push(fault("envoy.store", "expected none: the configuration has no store")),
        (Some(_), store) => {
            let store = store.cloned().unwrap_or_else(|| json!({}));
            plan.store = one(
                &store,
                "redis",
                "envoy.store",
                (Err("expected an address: of Redis"), false, 6379),
                &mut faults,
            );
        }
    }
    let known: Vec<_> =
        plan.backends.iter().chain(&plan.issuers).map(|cluster| cluster.name.as_str()).collect();
    if let Some(name) = written.keys().find(|name| !known.contains(&name.as_str()))
        && faults.is_empty()
    {
        let problem = format!(
            "no backend and no issuer has the cluster \"{name}\": expected one of {}",
            known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
        );
        return Err(vec![fault(&format!("envoy.clusters.{name}"), &problem)]);
    }
    if faults.is_empty() { Ok(plan) } else { Err(faults) }
}

fn fault(path: &str, problem: &str) -> ConfigError {
    ConfigError { path: path.to_owned(), problem: problem.to_owned() }
}

fn member<T: DeserializeOwned>(
    of: &Map<String, Value>,
    name: &str,
    path: &str,
    faults: &mut Vec<ConfigError>,
) -> Option<T> {
    match T::deserialize(of.get(name)?) {
        Ok(value) => Some(value),
        Err(error) => {
            faults.push(fault(&format!("{path}.{name}"), &error.to_string()));
            None
        }
    }
}

/// A cluster by its entry, where there is one.
fn cluster(
    written: &Map<String, Value>,
    name: &str,
    address: Result<&str, &str>,
    faults: &mut Vec<ConfigError>,
) -> Option<Cluster> {
    let empty = json!({});
    one(
        written.get(name).unwrap_or(&empty),
        name,
        &format!("envoy.clusters.{name}"),
        (address, true, 443),
        faults,
    )
}

/// A cluster by its entry. What is not written is the default: its address or what is expected of it, whether it speaks TLS, and
/// the port then.
fn one(
    entry: &Value,
    name: &str,
    path: &str,
    (address, speaks_tls, port): (Result<&str, &str>, bool, u16),
    faults: &mut Vec<ConfigError>,
) -> Option<Cluster> {
    let written = match Written::deserialize(entry) {
        Ok(written) => written,
        Err(error) => {
            faults.push(fault(path, &error.to_string()));
            return None;
        }
    };
    let address = match (written.address, address) {
        (Some(address), _) => address,
        (None, Ok(address)) => address.to_owned(),
        (None, Err(expected)) => {
            faults.push(fault(path, expected));
            return None;
        }
    };
    if address.is_empty() || address.contains([':', '/', ' ']) {
        let problem = format!(
            "{address:?} is no host: expected a name or an address of IPv4 alone, and the port in port"
        );
        faults.push(fault(&format!("{path}.address"), &problem));
        return None;
    }
    let has_tls = written.tls.unwrap_or(speaks_tls);
    if !has_tls && written.authorities.is_some() {
        faults.push(fault(&format!("{path}.authorities"), "expected none: it speaks no TLS"));
    }
    Some(Cluster {
        name: name.to_owned(),
        host: written.host.unwrap_or_else(|| address.clone()),
        address,
        port: written.port.unwrap_or(if has_tls || port != 443 { port } else { 80 }),
        authorities: has_tls.then(|| written.authorities.unwrap_or_else(|| AUTHORITIES.to_owned())),
    })
}
