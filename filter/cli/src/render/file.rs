//! What is the whole `envoy.yaml`?

use super::blocks::{Missing, indented, replace};
use super::clusters::{self, Model};
use super::plan::{Cluster, Plan, Tls};
use super::texts::{alone, as_item, cut, find, scalar, swap};
use super::{ENVOY, FLEET, HEAD, ONCE, POOLS};
use std::net::SocketAddr;

pub(super) fn written(plan: &Plan, variables: &str, gateway: &str) -> Result<String, Missing> {
    let (template, about) = match (&plan.pools, plan.is_fitted_once) {
        (None, _) => (ENVOY, cut(ENVOY, "# The chain", "admin:")?),
        (Some(_), false) => (
            POOLS,
            "# The route reads the name of one cluster, which may be a pool of several: docs/portable.md.\n",
        ),
        (Some(_), true) => (
            ONCE,
            "# The route reads the name of one cluster, which may be a pool of several, and path and credential are set once:\n# \
             docs/portable.md.\n",
        ),
    };
    let whole = &template[find(template, "\nadmin:")? + 1..];
    let (text, clusters) = whole.split_at(find(whole, "\n  clusters:\n")? + 1);
    let text = swap(text, "address: 127.0.0.1, port_value: 9901", &socket(plan.admin))?;
    let text = swap(&text, "address: 0.0.0.0, port_value: 10000", &socket(plan.listen))?;
    let text = match &plan.tls {
        Some(tls) => swap(&text, "    filter_chains:\n    - filters:\n", &of_listener(tls))?,
        None => text,
    };
    let text = of_filter(&text, "/etc/envoy/tollgate.wasm", plan, variables, gateway)?;
    let text = if plan.pools.is_none() {
        let group = |cluster: &Cluster| {
            let name = scalar(&cluster.name);
            format!("- {{ name: {name}, clusters: [ {{ cluster_name: {name}, weight: 1 }} ] }}\n")
        };
        let groups: String = plan.backends.iter().map(group).collect();
        replace(&text, "priority_groups:", &format!("priority_groups:\n{groups}"))?
    } else {
        text
    };
    let text = match &plan.store {
        // The listener that leads there.
        Some(_) => {
            let before = "  # One cluster for each backend.";
            let way = cut(FLEET, "  # The way to the store", before)?;
            swap(&text, before, &format!("{}{before}", &way.trim_start_matches('\n')))?
        }
        None => text,
    };
    let text = swap(
        &text,
        " For a real Azure OpenAI resource: its host name, port 443, and the TLS of\n  # examples/azure-tls.\n",
        "\n",
    )?;
    let mut all = String::from("  clusters:\n");
    for (at, backend) in plan.backends.iter().enumerate() {
        // The first says what the others repeat.
        let name = if at == 0 { "ptu" } else { "payg-a" };
        let text = alone(clusters, &format!("- name: {name}\n"))?;
        all.push_str(&as_item(&Model { text, name, host: name, port: 8080 }.backend(backend)?));
    }
    for issuer in &plan.issuers {
        all.push_str(&as_item(&clusters::issuer(issuer)?));
    }
    for (at, pool) in plan.pools.iter().flatten().enumerate() {
        if at == 0 {
            all.push_str(cut(clusters, "\n  # The pools:", "  - name: all\n")?);
        }
        all.push_str(&as_item(&clusters::pool(&alone(clusters, "- name: all\n")?, "all", pool)?));
    }
    if let Some(store) = &plan.store {
        let of_fleet = &FLEET[find(FLEET, "\n  clusters:\n")?..];
        let way = &of_fleet[find(of_fleet, "\n\n")? + 1..];
        all.push_str(&clusters::store(way, "redis", store)?);
    }
    Ok(format!("{HEAD}{about}{text}{all}"))
}

/// Where the module is, what it reads of the environment, and its configuration.
pub(super) fn of_filter(
    text: &str,
    module: &str,
    plan: &Plan,
    variables: &str,
    gateway: &str,
) -> Result<String, Missing> {
    let module_of_plan = plan.module.as_deref().unwrap_or(module);
    let text = swap(text, &format!("filename: {module}"), &format!("filename: {}", scalar(module_of_plan)))?;
    let keys = format!("environment_variables: {{ host_env_keys: [ {variables} ] }}");
    let text = replace(&text, "environment_variables:", &keys)?;
    let (before, rest) = text.split_at(find(&text, "google.protobuf.Struct\n")?);
    let value = format!("value:\n{}", indented(gateway, 2));
    Ok(format!("{before}{}", replace(rest, "value:", &value)?))
}

fn of_listener(tls: &Tls) -> String {
    format!(
        r#"    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [ h2, http/1.1 ]
            tls_certificates: [ {{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }} ]
      filters:
"#,
        scalar(&tls.certificate),
        scalar(&tls.key)
    )
}

fn socket(at: SocketAddr) -> String {
    format!("address: {}, port_value: {}", scalar(&at.ip().to_string()), at.port())
}
