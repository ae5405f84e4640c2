//! What do `envoy/fleet.yaml` and the examples' variants for fleets have to be?

use anyhow::{Context, Result};

use super::{before, headed, indented, replace};

/// `envoy.yaml` with budgets that several Envoys share.
pub(super) fn envoy(whole: &str) -> Result<String> {
    let mut text = headed(ENVOY, whole)?;
    text = before(&text, "clusters:", &format!("{COMMENT}\n{}\n", item(LISTENER)))?;
    text = before(&text, "clients:", STORE)?;
    let keys =
        "environment_variables: { host_env_keys: [ PTU_KEY, PAYG_A_KEY, PAYG_B_KEY, REDIS_PASSWORD ] }";
    text = replace(&text, "environment_variables:", keys)?;
    let clusters = [TO_LISTENER, &TO_REDIS.replace("HOST", "redis")].map(item).concat();
    Ok(format!("{}\n\n{}", text.trim_end(), indented(&clusters, 2)))
}

/// `examples/istio/envoyfilter.yaml` for the same.
pub(super) fn istio(example: &str) -> Result<String> {
    let of_kind = |kind: &str, value: &str| {
        let patch = format!(
            "- applyTo: {kind}\n  match: {{ context: GATEWAY }}\n  patch:\n    operation: ADD\n    value:\n{}",
            indented(value, 6)
        );
        indented(&patch, 2)
    };
    kubernetes(ISTIO, example, &[of_kind("LISTENER", LISTENER)], &|cluster| of_kind("CLUSTER", cluster))
}

/// `examples/envoy-gateway/envoypatchpolicy.yaml` for the same.
pub(super) fn envoy_gateway(example: &str) -> Result<String> {
    let of_kind = |kind: &str, value: &str| {
        let name = value.lines().find_map(|line| line.strip_prefix("name: ")).unwrap_or_default();
        let patch = format!(
            "- type: type.googleapis.com/envoy.config.{kind}\n  name: {name}\n  operation:\n    op: add\n    path: \"\"\n    \
             value:\n{}",
            indented(value, 6)
        );
        indented(&patch, 2)
    };
    let listener = of_kind("listener.v3.Listener", LISTENER);
    kubernetes(ENVOY_GATEWAY, example, &[listener], &|cluster| of_kind("cluster.v3.Cluster", cluster))
}

fn kubernetes(
    head: &str,
    example: &str,
    listener: &[String],
    cluster: &dyn Fn(&str) -> String,
) -> Result<String> {
    let from = example.find("\napiVersion:").context("the example has no apiVersion")?;
    let text = before(&format!("{head}{}", &example[from + 1..]), "clients:", STORE)?;
    let keys = "environment_variables: { host_env_keys: [ PTU_KEY, PAYG_KEY, REDIS_PASSWORD ] }";
    let text = replace(&text, "environment_variables:", keys)?;
    // What other clusters of envoy.yaml have already stands there once for all.
    let to_redis = TO_REDIS
        .replace("HOST", "redis.example.com")
        .replace("*acknowledged", "{ socket_options: [ { level: 6, name: 18, int_value: 10000 } ] }")
        .replace("*probed", "{ tcp_keepalive: { keepalive_time: 5, keepalive_interval: 5 } }");
    let added = [listener.concat(), cluster(TO_LISTENER), cluster(&to_redis)].concat();
    Ok(format!("{}\n{added}", text.trim_end()))
}

/// An entry of a list.
fn item(mapping: &str) -> String {
    let text = indented(mapping, 2);
    // Comments stand before what they are about.
    let at: usize =
        text.lines().take_while(|line| line.trim_start().starts_with('#')).map(|line| line.len() + 1).sum();
    let (comments, rest) = text.split_at(at);
    let comments: String = comments.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    format!("{comments}- {}", rest.trim_start())
}

const ENVOY: &str = "\
# Several Envoys with one set of budgets, which stand in a Redis or Valkey and outlive all of them.
# Written from envoy.yaml by `cargo portable`; docs/fleet.md says how exact that is, and what is lost when.
";

const ISTIO: &str = "\
# envoyfilter.yaml for several pods with one set of budgets, which stand in a Redis or Valkey: apply it in place of that.
# Written from it by `cargo portable`; docs/fleet.md says how exact that is, and what is lost when.
";

const ENVOY_GATEWAY: &str = "\
# envoypatchpolicy.yaml for several pods with one set of budgets, which stand in a Redis or Valkey: apply it in place of that.
# Written from it by `cargo portable`; docs/fleet.md says how exact that is, and what is lost when.
";

const STORE: &str = "\
# The listener and the clusters tollgate-store and redis are the way there.
store: { redis: { cluster: tollgate-store, password_env: REDIS_PASSWORD } }";

const COMMENT: &str = "\
# The way to the store, for this Envoy alone: what Tollgate posts here becomes a connection to Redis, which gets the body as it
# is and whose replies are the answer. Whoever reaches this port reaches Redis: keep it on loopback.";

const LISTENER: &str = r#"name: tollgate-store
address: { socket_address: { address: 127.0.0.1, port_value: 10001 } }
# What is spent has to be reported, most of all when there is too much to do.
ignore_global_conn_limit: true
bypass_overload_manager: true
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: tollgate-store
      upgrade_configs: [ { upgrade_type: CONNECT } ]
      route_config:
        name: tollgate-store
        virtual_hosts:
        - name: tollgate-store
          domains: ["*"]
          routes:
          - match: { path: /redis }
            route:
              cluster: redis
              # Of a call that nobody waits for any more: as long as timeout_ms of the store may be.
              timeout: 5s
              # A POST, for a filter cannot send CONNECT.
              upgrade_configs: [ { upgrade_type: CONNECT, connect_config: { allow_post: true } } ]
      http_filters:
      - name: envoy.filters.http.router
        typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }"#;

const TO_LISTENER: &str = r#"# To this Envoy's own listener, which leads to Redis.
name: tollgate-store
type: STATIC
connect_timeout: 0.25s
load_assignment:
  cluster_name: tollgate-store
  endpoints:
  - lb_endpoints:
    - { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 10001 } } } }"#;

const TO_REDIS: &str = r#"# Redis or Valkey, behind one address. Each call is a connection of its own, some four in a second for each Envoy.
name: redis
type: STRICT_DNS
dns_lookup_family: V4_ONLY
connect_timeout: 0.25s
upstream_bind_config: *acknowledged
upstream_connection_options: *probed
# No outlier_detection: there is no other address to go to, and one that was ejected would be found again later.
load_assignment:
  cluster_name: redis
  endpoints:
  - lb_endpoints:
    - { endpoint: { address: { socket_address: { address: HOST, port_value: 6379 } } } }
# With TLS, the name that its certificate must have:
# transport_socket:
#   name: envoy.transport_sockets.tls
#   typed_config:
#     "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
#     sni: HOST
#     common_tls_context:
#       validation_context:
#         trusted_ca: { filename: /etc/ssl/certs/ca-certificates.crt }
#         match_typed_subject_alt_names: [ { san_type: DNS, matcher: { exact: HOST } } ]"#;
