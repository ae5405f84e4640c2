//! What does the `envoy` part beside a gateway's configuration say, and what follows from that configuration itself?

use crate::source::Found;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use tollgate::config::ConfigError;

/// For whom it is rendered.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// The whole configuration of an Envoy
    Envoy,
    /// An EnvoyFilter
    Istio,
    /// An EnvoyPatchPolicy
    EnvoyGateway,
}

/// All that a rendered file has of its own.
pub(super) struct Plan {
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Where Envoy finds the module, if that is not where the form has it.
    pub(super) module: Option<String>,
    pub(super) tls: Option<Tls>,
    /// In the order of `routing.order`, and behind those in that of the backends.
    pub(super) backends: Vec<Cluster>,
    /// Those that issuers' keys come from, in the order of the issuers.
    pub(super) issuers: Vec<Cluster>,
    pub(super) store: Option<Cluster>,
    /// What the route may read in place of the order.
    pub(super) pools: Option<Vec<Pool>>,
    pub(super) is_fitted_once: bool,
    pub(super) gateway: Gateway,
}

/// A cluster that is made of others.
pub(super) struct Pool {
    pub(super) name: String,
    /// Their names, in their order.
    pub(super) members: Vec<String>,
}

/// The gateway of a control plane that becomes Tollgate's.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) port: u16,
    /// What clients ask for: an EnvoyFilter has a virtual host of its own.
    pub(super) host: Option<String>,
    /// The name of its listener, which Envoy Gateway calls its route by.
    pub(super) listener: String,
    /// Whether Envoy Gateway calls the listener by its port, as it does from 1.10 on.
    pub(super) names_listener_by_port: bool,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            name: "tollgate".to_owned(),
            namespace: "tollgate".to_owned(),
            port: 443,
            host: None,
            listener: "https".to_owned(),
            names_listener_by_port: true,
        }
    }
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

const MEMBERS: [&str; 7] = ["listen", "admin", "module", "tls", "clusters", "store", "gateway"];
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
    let routing = &gateway["routing"];
    let is_fitted_once = routing["fitted"] == "once";
    if is_fitted_once && routing["pools"].is_null() {
        let problem = "expected pools beside it: what is fitted once is rendered with pools only";
        faults.push(fault("routing.fitted", problem));
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
    let of_gateway: Gateway = member(envoy, "gateway", "envoy", &mut faults).unwrap_or_default();
    for (name, said) in
        [("name", &of_gateway.name), ("namespace", &of_gateway.namespace), ("listener", &of_gateway.listener)]
    {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if said.is_empty() || !said.bytes().all(is_part) {
            let problem = format!("{said:?} is no name: expected letters, digits, - and . alone");
            faults.push(fault(&format!("envoy.gateway.{name}"), &problem));
        }
    }
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
        module,
        tls,
        backends: Vec::new(),
        issuers: Vec::new(),
        store: None,
        pools: pools(gateway),
        is_fitted_once,
        gateway: of_gateway,
    };
    // Those of `routing.order` first: the route's groups begin with them.
    let order = gateway["routing"]["order"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut backends: Vec<_> = gateway["backends"].as_array().into_iter().flatten().enumerate().collect();
    backends.sort_by_key(|(_, backend)| {
        order.iter().position(|name| *name == backend["name"]).unwrap_or(order.len())
    });
    for (at, backend) in backends {
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
    let document = &gateway["directory"]["document"];
    if let Some(name) = document["cluster"].as_str()
        && plan.backends.iter().chain(&plan.issuers).all(|cluster| cluster.name != name)
    {
        let host = document["host"].as_str().ok_or("expected an address: the host of the clients' document");
        plan.issuers.extend(cluster(&written, name, host, &mut faults));
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

/// What is wrong with it for this form.
pub(super) fn unfit(plan: &Plan, form: Form, found: &Found) -> Vec<ConfigError> {
    let envoy = found.envoy.as_ref().unwrap_or(&Value::Null);
    let mut faults = Vec::new();
    let mut none = |name: &str, why: &str| {
        if envoy.pointer(&format!("/{}", name.replace('.', "/"))).is_some() {
            faults.push(fault(&format!("envoy.{name}"), &format!("expected none: {why}")));
        }
    };
    match form {
        Form::Envoy => none("gateway", "it is of the forms istio and envoy-gateway"),
        Form::Istio | Form::EnvoyGateway => {
            for name in ["listen", "admin", "tls"] {
                none(name, "the control plane has it of the Gateway");
            }
        }
    }
    match form {
        Form::Envoy => return faults,
        Form::Istio => {
            for name in ["gateway.listener", "gateway.names_listener_by_port"] {
                none(name, "an EnvoyFilter finds the listener by its port");
            }
        }
        Form::EnvoyGateway => none("gateway.host", "the HTTPRoute has it"),
    }
    if form == Form::Istio && plan.gateway.host.is_none() {
        let problem = "expected the host that clients ask for, or \"*\"";
        faults.push(fault("envoy.gateway.host", problem));
    }
    if found.value["record"] == "line" {
        let problem = "expected none: the access log of this form reads the fields of the record";
        faults.push(fault("record", problem));
    }
    if plan.is_fitted_once {
        let problem = "expected each_attempt: the Envoys of this form have upstream filters";
        faults.push(fault("routing.fitted", problem));
    }
    if plan.pools.is_none() {
        let names = found.value["models"].as_array().into_iter().flatten().map(of_model);
        let most = names.max_by_key(Vec::len).unwrap_or_default().join(", ");
        let problem = format!(
            "expected pools, for the Envoys of this form read the name of one cluster: for example {{ cluster: all, backends: [ {most} ] }}"
        );
        faults.push(fault("routing.pools", &problem));
    }
    faults
}

/// The backends of a model in their order, each once.
fn of_model(model: &Value) -> Vec<&str> {
    let mut backends: Vec<_> = model["backends"].as_array().into_iter().flatten().collect();
    backends.sort_by_key(|backend| backend["priority"].as_u64().unwrap_or_default());
    let mut names: Vec<_> = backends.iter().filter_map(|backend| backend["backend"].as_str()).collect();
    names.dedup();
    names
}

/// The pools, with the clusters of their backends.
fn pools(gateway: &Value) -> Option<Vec<Pool>> {
    let cluster_of = |name: &Value| {
        let mut backends = gateway["backends"].as_array().into_iter().flatten();
        let cluster = backends.find(|backend| backend["name"] == *name)?["cluster"].as_str()?;
        Some(cluster.to_owned())
    };
    let pool = |pool: &Value| {
        let members = pool["backends"].as_array().into_iter().flatten().filter_map(cluster_of).collect();
        Some(Pool { name: pool["cluster"].as_str()?.to_owned(), members })
    };
    Some(gateway["routing"]["pools"].as_array()?.iter().filter_map(pool).collect())
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
