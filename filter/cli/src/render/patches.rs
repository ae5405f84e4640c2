//! What are the patches by which a control plane's gateway becomes Tollgate's?

use super::HEAD;
use super::blocks::{Missing, extent, indented};
use super::clusters::{self, Model};
use super::file::of_filter;
use super::plan::{Form, Plan};
use super::texts::{below, cut, find, scalar, swap};

const ISTIO: &str = include_str!("../../../../examples/istio/envoyfilter.yaml");
const ISTIO_FLEET: &str = include_str!("../../../../examples/istio/envoyfilter-fleet.yaml");
const ENVOY_GATEWAY: &str = include_str!("../../../../examples/envoy-gateway/envoypatchpolicy.yaml");
const ENVOY_GATEWAY_FLEET: &str =
    include_str!("../../../../examples/envoy-gateway/envoypatchpolicy-fleet.yaml");

/// Where both examples mount the module's image.
const MODULE: &str = "/etc/tollgate/module/plugin.wasm";

/// An example, and where in it something begins.
struct Template {
    text: &'static str,
    fleet: &'static str,
    /// Each patch that brings a cluster.
    cluster: &'static str,
    /// The way to the store, in the fleet's.
    store: &'static str,
}

pub(super) fn written(plan: &Plan, form: Form, variables: &str, gateway: &str) -> Result<String, Missing> {
    let template = match form {
        Form::EnvoyGateway => Template {
            text: ENVOY_GATEWAY,
            fleet: ENVOY_GATEWAY_FLEET,
            cluster: "  - type: type.googleapis.com/envoy.config.cluster.v3.Cluster\n",
            store: "  - type: type.googleapis.com/envoy.config.listener.v3.Listener\n    name: tollgate-store\n",
        },
        _ => Template {
            text: ISTIO,
            fleet: ISTIO_FLEET,
            cluster: "  - applyTo: CLUSTER\n",
            store: "  - applyTo: LISTENER\n    match: { context: GATEWAY }\n",
        },
    };
    let about = cut(template.text, "#", "apiVersion:")?;
    let mut patches = template.text.split(template.cluster);
    let (Some(head), Some(ptu), Some(_), Some(all)) =
        (patches.next(), patches.next(), patches.next(), patches.next())
    else {
        return Err(Missing(template.cluster.to_owned()));
    };
    let text = of_gateway(&head[about.len()..], plan, form)?;
    let mut text = of_filter(&text, MODULE, plan, variables, gateway)?;
    let model =
        Model { text: below(ptu, "value:")?, name: "ptu", host: "example-ptu.openai.azure.com", port: 443 };
    let (before, _) = ptu.split_at(extent(ptu, "value:")?.start);
    let patch = |name: &str, cluster: &str| {
        let before = before.replacen("name: ptu\n", &format!("name: {}\n", scalar(name)), 1);
        format!("{}{before}      value:\n{}", template.cluster, indented(cluster, 8))
    };
    for backend in &plan.backends {
        text.push_str(&patch(&backend.name, &model.backend(backend)?));
    }
    for issuer in &plan.issuers {
        text.push_str(&patch(&issuer.name, &clusters::issuer(issuer)?));
    }
    for pool in plan.pools.iter().flatten() {
        text.push_str(&patch(&pool.name, &clusters::pool(&below(all, "value:")?, "all", pool)?));
    }
    if let Some(store) = &plan.store {
        let way = &template.fleet[find(template.fleet, template.store)?..];
        text.push_str(&clusters::store(way, "redis.example.com", store)?);
    }
    let folder = if form == Form::EnvoyGateway { "envoy-gateway" } else { "istio" };
    let about = swap(about, "deployment.yaml", &format!("examples/{folder}/deployment.yaml"))?;
    Ok(format!("{HEAD}{about}{text}"))
}

/// Which gateway it is, and what the control plane calls its parts.
fn of_gateway(text: &str, plan: &Plan, form: Form) -> Result<String, Missing> {
    let gateway = &plan.gateway;
    let (name, namespace, port) = (scalar(&gateway.name), scalar(&gateway.namespace), gateway.port);
    let text = swap(
        text,
        "metadata: { name: tollgate, namespace: tollgate }",
        &format!("metadata: {{ name: {name}, namespace: {namespace} }}"),
    )?;
    if form == Form::Istio {
        let text = swap(&text, "gateway-name: tollgate }", &format!("gateway-name: {name} }}"))?;
        let host = gateway.host.as_deref().unwrap_or_default();
        let text = swap(&text, "domains: [ openai.example.com ]", &format!("domains: [ {} ]", scalar(host)))?;
        return Ok(text.replace("portNumber: 443", &format!("portNumber: {port}")));
    }
    let text = swap(&text, "kind: Gateway, name: tollgate }", &format!("kind: Gateway, name: {name} }}"))?;
    let of_listener = format!("{}/{}/{}", gateway.namespace, gateway.name, gateway.listener);
    let listener = if gateway.names_listener_by_port { format!("tcp-{port}") } else { of_listener.clone() };
    let text = swap(&text, "name: tollgate/tollgate/https\n", &format!("name: {}\n", scalar(&of_listener)))?;
    Ok(text.replace("name: tcp-443\n", &format!("name: {}\n", scalar(&listener))))
}
