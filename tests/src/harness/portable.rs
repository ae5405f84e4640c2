//! What do `envoy/portable-pools.yaml`, `envoy/portable-once.yaml`, `envoy/fleet.yaml`, what is like it for Istio and Envoy
//! Gateway, `envoy/queue.yaml`, and the alerts for the Prometheus Operator have to be?
//!
//! Whole files, for a reader to copy; but each is another one with some blocks replaced, and is written from it:
//! `cargo portable`. What a block is, the tool says, which renders whole files from `envoy.yaml` too.

#[path = "../../../filter/cli/src/render/blocks.rs"]
mod blocks;
mod fleet;
mod queue;

use std::fs;

use anyhow::{Context, Result};

use super::tools::workspace;
use blocks::{indented, place, replace};

/// The files, by their paths in the workspace, with what has to be in them.
///
/// # Errors
/// `envoy/envoy.yaml` cannot be read, or a block that is to be replaced is not in it.
pub fn files() -> Result<[(&'static str, String); 7]> {
    let read = |file: &'static str| fs::read_to_string(workspace().join(file)).context(file);
    let whole = read("envoy/envoy.yaml")?;
    let pools = pools(&whole)?;
    let once = once(&pools)?;
    let fleet = fleet::envoy(&whole)?;
    let queue = queue::envoy(&fleet)?;
    let istio = fleet::istio(&read("examples/istio/envoyfilter.yaml")?)?;
    let envoy_gateway = fleet::envoy_gateway(&read("examples/envoy-gateway/envoypatchpolicy.yaml")?)?;
    let rule = format!("{RULE}{}", indented(&read("examples/prometheus/alerts.yml")?, 2));
    Ok([
        ("envoy/portable-pools.yaml", pools),
        ("envoy/portable-once.yaml", once),
        ("envoy/fleet.yaml", fleet),
        ("envoy/queue.yaml", queue),
        ("examples/istio/envoyfilter-fleet.yaml", istio),
        ("examples/envoy-gateway/envoypatchpolicy-fleet.yaml", envoy_gateway),
        ("examples/prometheus/prometheusrule.yml", rule),
    ])
}

const RULE: &str = "\
# alerts.yml for the Prometheus Operator. Written from it by `cargo portable`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: { name: tollgate, namespace: tollgate }
spec:
";

const POOLS: &str = "\
# Tollgate on an Envoy before 1.40, whose routes cannot read an ordered list: they read the name of one cluster.
# Written from envoy.yaml by `cargo portable`; docs/portable.md says what differs, and what is lost.
";

const ONCE: &str = "\
# Tollgate where it cannot be loaded among the router's upstream filters: path and credential are set once.
# Written from envoy.yaml by `cargo portable`; docs/portable.md says what differs, and what is lost.
";

/// `envoy.yaml` for a route that reads one cluster's name.
fn pools(whole: &str) -> Result<String> {
    let mut text = headed(POOLS, whole)?;
    for (key, replacement) in [
        ("inline_cluster_specifier_plugin:", "cluster_header: x-tollgate-cluster"),
        (
            "request_headers_to_remove:",
            "request_headers_to_remove: [ x-forwarded-for, x-forwarded-proto, x-tollgate-cluster ]",
        ),
        ("refresh_cluster_on_retry:", PREVIOUS_PRIORITIES),
        ("- name: candidates", ""),
        ("- name: clear-route", ""),
    ] {
        text = replace(&text, key, replacement)?;
    }
    text = replace(&text, "routing:", ROUTING)?;
    for cluster in ["ptu", "payg-a", "payg-b"] {
        let (head, tail) = split(&text, &format!("- name: {cluster}\n    type:"))?;
        let tail = replace(tail, "load_assignment:", &LOAD_ASSIGNMENT.replace("CLUSTER", cluster))?;
        text = format!("{head}{tail}");
    }
    Ok(format!("{}\n{CLUSTERS}", text.trim_end()))
}

/// `envoy.yaml` without what it says of itself, after this.
fn headed(head: &str, whole: &str) -> Result<String> {
    let from_admin = whole.find("\nadmin:").context("envoy.yaml has no admin")?;
    Ok(format!("{head}{}", &whole[from_admin..].trim_start_matches('\n')))
}

/// The same without the role among the upstream filters, and with backends that are asked alike.
fn once(pools: &str) -> Result<String> {
    let mut text = pools.replacen(POOLS, ONCE, 1);
    for (key, replacement) in [
        ("upstream_http_filters:", STRIP),
        ("environment_variables:", "environment_variables: { host_env_keys: [ BACKENDS_KEY ] }"),
        (
            "pools:",
            "pools:\n- { cluster: all, backends: [ ptu, payg-a, payg-b ] }\n- { cluster: payg, backends: [ payg-a, payg-b ] }\nfitted: once",
        ),
        ("models:\n                    - name: gpt-4o\n", MODELS),
        ("backends:\n                    - name: ptu\n", BACKENDS),
    ] {
        text = replace(&text, key, replacement)?;
    }
    Ok(text)
}

const STRIP: &str = "\
# A backend has no say in what Envoy does. In the other files Tollgate's attempts see to it.
upstream_http_filters:
- name: strip-internal-headers
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
    mutations:
      response_mutations:
      - remove_on_match: { key_matcher: { prefix: \"grpc-\" } }
      - remove_on_match: { key_matcher: { prefix: \"x-envoy-\" } }
      - remove_on_match: { key_matcher: { prefix: \"x-tollgate-\" } }
- name: envoy.filters.http.upstream_codec
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";

const PREVIOUS_PRIORITIES: &str = "\
# To the next member of the pool, not to the same once more. A composite cluster, which Envoys have from 1.37
# on, needs no such rule.
retry_priority:
  name: envoy.retry_priorities.previous_priorities
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig
    update_frequency: 1";

const ROUTING: &str = "\
# The clusters at the end of this file. One is used if all of its members may be tried; else the first
# candidate's own cluster.
routing:
  pools:
  - { cluster: all, backends: [ ptu, payg-a, payg-b ] }
  - { cluster: payg, backends: [ payg-a, payg-b ] }";

const LOAD_ASSIGNMENT: &str = "\
load_assignment:
  cluster_name: CLUSTER
  endpoints:
  - lb_endpoints:
    - endpoint: { hostname: CLUSTER, address: { socket_address: { address: CLUSTER, port_value: 8080 } } }
      # In a pool Envoy tells a filter the pool's name only; this is how it knows whose turn it is.
      metadata: { filter_metadata: { tollgate: { cluster: CLUSTER } } }";

const CLUSTERS: &str = "
  # The pools: their members in the order in which they are tried, the same as in the gateway's configuration.
  - name: all
    connect_timeout: 2s
    lb_policy: CLUSTER_PROVIDED
    cluster_type:
      name: envoy.clusters.aggregate
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig
        clusters: [ ptu, payg-a, payg-b ]
  - name: payg
    connect_timeout: 2s
    lb_policy: CLUSTER_PROVIDED
    cluster_type:
      name: envoy.clusters.aggregate
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig
        clusters: [ payg-a, payg-b ]
";

const MODELS: &str = "\
models:
- name: gpt-4o
  aliases: [ gpt-4o-2024-08-06 ]
  family: gpt-4
  prices: { prompt: 2.50, cached: 1.25, completion: 10.00 }
  backends:
  - { backend: ptu, priority: 0, prices: { prompt: 0 } }
  - { backend: payg-a, priority: 1 }
  - { backend: payg-b, priority: 2 }
- name: text-embedding-3-small
  backends:
  - { backend: payg-a, priority: 0 }
  - { backend: payg-b, priority: 1 }";

const BACKENDS: &str = "\
# One style, one key and one name of each deployment: a request is written once for all of them.
backends:
- { name: ptu, cluster: ptu, region: swedencentral, style: azure-v1, credential: { header: api-key, env: BACKENDS_KEY } }
- { name: payg-a, cluster: payg-a, style: azure-v1, credential: { header: api-key, env: BACKENDS_KEY } }
- { name: payg-b, cluster: payg-b, style: azure-v1, credential: { header: api-key, env: BACKENDS_KEY } }";

fn split<'t>(text: &'t str, at: &str) -> Result<(&'t str, &'t str)> {
    let found = text.find(at).with_context(|| format!("envoy.yaml has no {at:?}"))?;
    Ok(text.split_at(found))
}

/// Puts a block before the comment and the line that begins with `key`.
fn before(text: &str, key: &str, block: &str) -> Result<String> {
    let (mut start, indent) = place(text, key)?;
    while let Some(line) = text[..start].trim_end_matches('\n').rsplit('\n').next()
        && line.trim_start().starts_with('#')
    {
        start -= line.len() + 1;
    }
    Ok(format!("{}{}{}", &text[..start], indented(block, indent), &text[start..]))
}
