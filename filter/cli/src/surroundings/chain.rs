//! Does the route do its part, and do metrics get their labels?
//!
//! Envoy starts without any of it, and serves wrongly. A link is missed where its place is in this document: the route where a
//! table of routes is, labels where Envoy's bootstrap is.

use super::every;
use super::filters::{Place, settings};
use serde_json::Value;
use std::collections::BTreeSet;
use tollgate::gateway::Gateway;
use tollgate::ledger::Series;

/// The header by which a pool's or a backend's cluster comes to the route.
const CLUSTER: &str = "x-tollgate-cluster";

/// In seconds: what ends an answer sooner ends many that are all right. A long answer takes minutes.
const TIMEOUT_LEAST: f64 = 60.0;

/// How long a body Envoy keeps back where nobody says it.
const BUFFER: u64 = 1024 * 1024;

/// The tables of routes by which these filters' requests go, and whether one of them has to lead to backends.
pub(super) fn tables<'v>(place: &Place<'v>, around: &'v Value) -> (Vec<&'v Value>, bool) {
    let manager = place.inside;
    if !place.is_manager {
        return (vec![around], !settings(around, "virtual_hosts").is_empty());
    }
    if manager.get("route_config").is_some() {
        return (vec![&manager["route_config"]], true);
    }
    // By RDS: it is here where a table has the name.
    let name = &manager["rds"]["route_config_name"];
    let is_it = |value: &Value| value.get("virtual_hosts").is_some() && value["name"] == *name;
    let tables = if name.is_null() { Vec::new() } else { every(around, &is_it) };
    let is_here = !tables.is_empty();
    (tables, is_here)
}

/// The routes that lead to backends, where routes are in this document.
pub(super) fn routes(place: &Place<'_>, around: &Value, gateway: &Gateway) -> Vec<String> {
    let (tables, is_here) = tables(place, around);
    let mut faults = Vec::new();
    let mut lead_somewhere = false;
    for table in tables {
        let routes = leading(table, gateway.routing.pools.is_none());
        lead_somewhere |= !routes.is_empty();
        for route in routes {
            faults.extend(one(route, table, place, around, gateway));
        }
    }
    if is_here && !lead_somewhere {
        let (what, comes) = if gateway.routing.pools.is_none() {
            ("an inline_cluster_specifier_plugin with priority_groups", "the order of backends")
        } else {
            ("cluster_header: x-tollgate-cluster", "the choice of a backend")
        };
        return vec![format!("the route: expected {what}: without it {comes} changes nothing")];
    }
    faults
}

/// The routes of a table that go by the order, or by the cluster that is chosen.
fn leading(table: &Value, reads_order: bool) -> Vec<&Value> {
    let has_groups =
        |plugin: &Value| !every(plugin, &|value| value.get("priority_groups").is_some()).is_empty();
    // A table of routes may have its plugins beside them, and call them by name.
    let named: BTreeSet<_> = every(table, &|value| value.get("cluster_specifier_plugins").is_some())
        .into_iter()
        .flat_map(|table| table["cluster_specifier_plugins"].as_array().into_iter().flatten())
        .filter(|plugin| has_groups(plugin))
        .filter_map(|plugin| plugin["extension"]["name"].as_str())
        .collect();
    let by_order = |action: &Value| {
        has_groups(&action["inline_cluster_specifier_plugin"])
            || action["cluster_specifier_plugin"].as_str().is_some_and(|name| named.contains(name))
    };
    let by_cluster = |action: &Value| action["cluster_header"] == CLUSTER;
    let is_ours = |value: &Value| if reads_order { by_order(value) } else { by_cluster(value) };
    every(table, &|value| value.get("route").is_some_and(&is_ours))
}

/// What one of them lacks.
fn one(route: &Value, table: &Value, place: &Place<'_>, around: &Value, gateway: &Gateway) -> Vec<String> {
    let reads_order = gateway.routing.pools.is_none();
    let mut faults = Vec::new();
    let action = &route["route"];
    // What a host says holds for its routes that say nothing.
    let has_route = |host: &&Value| !every(host, &|value| std::ptr::eq(value, route)).is_empty();
    let hosts = every(table, &|value| value.get("routes").is_some());
    let host = hosts.into_iter().find(has_route).unwrap_or(&Value::Null);
    let policy =
        if action["retry_policy"].is_null() { &host["retry_policy"] } else { &action["retry_policy"] };
    faults.extend(retries(policy, reads_order));
    let is_aggregate = |value: &Value| value["cluster_type"]["name"] == "envoy.clusters.aggregate";
    let needs_priority = !reads_order && !every(around, &is_aggregate).is_empty();
    if needs_priority && !policy.is_null() && policy["retry_priority"].is_null() {
        faults.push(
            "retry_policy: expected a retry_priority with previous_priorities: else each attempt goes to the first member \
             of the pool again"
                .to_owned(),
        );
    }
    // With the second the first is out of force.
    if action["timeout"].is_null() && action["max_stream_duration"].is_null() {
        faults.push(
            "the route: expected timeout: 0s: Envoy's own 15 s would end answers that take longer, and streams"
                .to_owned(),
        );
    }
    let seconds = action["timeout"].as_str().and_then(|timeout| timeout.trim_end_matches('s').parse().ok());
    if let Some(seconds) = seconds.filter(|seconds: &f64| *seconds > 0.0 && *seconds < TIMEOUT_LEAST) {
        faults.push(format!(
            "the route: expected timeout: 0s: {seconds} s would end answers that take longer, and streams"
        ));
    }
    if policy.get("per_try_timeout").is_some() {
        faults.push(
            "retry_policy.per_try_timeout: expected none: it ends at an answer's headers, which a long answer sends last, \
             and a second backend would bill as well"
                .to_owned(),
        );
    }
    let sets_host =
        ["auto_host_rewrite", "host_rewrite_literal", "host_rewrite_header", "host_rewrite_path_regex"];
    if !sets_host.iter().any(|name| action.get(name).is_some_and(|value| *value != false)) {
        faults.push(
            "the route: expected auto_host_rewrite: true: else backends are asked by the name that the client asked for"
                .to_owned(),
        );
    }
    faults.extend(silence(action, place));
    faults.extend(long_bodies(route, host, around, gateway));
    faults
}

/// How long an answer may be silent.
fn silence(action: &Value, place: &Place<'_>) -> Option<String> {
    let of_manager = place.inside.get("stream_idle_timeout").filter(|_| place.is_manager);
    let Some(said) = action.get("idle_timeout").or(of_manager) else {
        return Some(
            "the route: expected idle_timeout: 600s: Envoy's own five minutes of silence would end answers that begin later"
                .to_owned(),
        );
    };
    let seconds: f64 = said.as_str()?.trim_end_matches('s').parse().ok()?;
    (seconds > 0.0 && seconds < TIMEOUT_LEAST).then(|| {
        format!("the route: expected idle_timeout: 600s: {seconds} s of silence would end answers that begin later")
    })
}

/// How long a body may be, for it waits as a whole until it is decided.
fn long_bodies(route: &Value, host: &Value, around: &Value, gateway: &Gateway) -> Option<String> {
    const LIMITS: [&str; 2] = ["request_body_buffer_limit", "per_request_buffer_limit_bytes"];
    let longest = gateway.roster.iter().map(|client| client.request_bytes_max()).max()?;
    let longest = u64::try_from(longest).ok()?;
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let said = [route, host].into_iter().find_map(|of| LIMITS.iter().find_map(|name| number(&of[*name])));
    let of_listeners = settings(around, "per_connection_buffer_limit_bytes").into_iter().filter_map(number);
    let bound = said.or_else(|| of_listeners.min()).unwrap_or(BUFFER);
    (bound < longest).then(|| {
        format!(
            "the route: expected request_body_buffer_limit: 33554432: Envoy refuses bodies of more than {bound} bytes, and \
             clients may send {longest}"
        )
    })
}

/// What of the retries is missing: each is a kind of failure that the client would get.
fn retries(policy: &Value, reads_order: bool) -> Vec<String> {
    if policy.is_null() {
        return vec![
            "the route: expected the retry_policy of envoy/envoy.yaml: without it a 429 or a failure of the first backend is \
             what the client gets"
                .to_owned(),
        ];
    }
    let on: BTreeSet<_> = policy["retry_on"].as_str().unwrap_or_default().split(',').map(str::trim).collect();
    let mut faults = Vec::new();
    let mut expect = |is_there: bool, what: &str, gets: &str| {
        if !is_there {
            faults.push(format!("retry_policy: expected {what}: else {gets}"));
        }
    };
    let failed = "a failure of the first backend is what the client gets";
    let codes = policy["retriable_status_codes"].as_array();
    let by_code = on.contains("retriable-status-codes");
    let has_code = |code: u64| codes.is_some_and(|codes| codes.iter().any(|listed| *listed == code));
    // gateway-error: 502 to 504, and no answer at all.
    let fails = on.contains("5xx") || on.contains("gateway-error") && by_code && has_code(500);
    expect(fails, "5xx in retry_on", failed);
    expect(
        by_code,
        "retriable-status-codes in retry_on",
        "a 429 of the first backend is what the client gets",
    );
    for (code, gets) in [
        (401, "a credential that one backend refuses fails the request"),
        (408, "a backend that gave up fails the request"),
        (429, "a 429 of the first backend is what the client gets"),
    ] {
        expect(has_code(code) || !by_code, &format!("{code} among retriable_status_codes"), gets);
    }
    let elsewhere = "x-tollgate-elsewhere";
    let by_header = on.contains("retriable-headers")
        && !every(&policy["retriable_headers"], &|value| value["name"] == elsewhere).is_empty();
    let gets = "a deployment that one backend does not have fails the request";
    expect(
        by_header,
        &format!("retriable-headers in retry_on, and {elsewhere} among retriable_headers"),
        gets,
    );
    if reads_order {
        let refreshes = policy["refresh_cluster_on_retry"] == true;
        expect(refreshes, "refresh_cluster_on_retry: true", "each attempt goes to the first backend again");
    }
    faults
}

/// What makes labels of metrics' names, where Envoy's bootstrap is.
pub(super) fn labels(around: &Value) -> Option<String> {
    let is_bootstrap = ["static_resources", "dynamic_resources"]
        .iter()
        .any(|name| !every(around, &|value| value.get(name).is_some()).is_empty());
    let tags = every(around, &|value| value.get("tag_name").is_some());
    let named: BTreeSet<_> = tags.iter().filter_map(|tag| tag["tag_name"].as_str()).collect();
    let missing: BTreeSet<_> =
        Series::LABELS.iter().filter(|label| !named.contains(*label)).copied().collect();
    (is_bootstrap && !missing.is_empty()).then(|| {
        let missing: Vec<_> = missing.into_iter().collect();
        format!(
            "stats_config.stats_tags: expected {}: else labels stay in the metrics' names, and no dashboard or alert finds them",
            missing.join(", ")
        )
    })
}
