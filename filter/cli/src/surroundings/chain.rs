//! Does each link of the chain do its part: filters, route, retries, metrics, and the clusters of backends?
//!
//! Envoy starts without any of them, and serves wrongly. A link is missed where its place is in this document: the filters
//! beside Tollgate's own, the route where a table of routes is, labels where Envoy's bootstrap is.

use super::every;
use crate::source::Found;
use serde_json::Value;
use std::collections::BTreeSet;
use tollgate::gateway::Gateway;
use tollgate::ledger::Series;
use tollgate::route::Fitted;

/// The header by which the order comes to the route, and the one by which a pool's or a backend's cluster does.
const CANDIDATES: &str = "x-tollgate-candidates";
const CLUSTER: &str = "x-tollgate-cluster";

/// What no client may say: its prefixes, and what it could do by them.
const INTERNAL: [(&str, &str); 2] = [
    ("x-envoy-", "a client could set Envoy's own time limits and retries before Tollgate takes them out"),
    ("x-tollgate-", "a client could set headers of Tollgate's"),
];

/// In seconds: what ends an answer sooner ends many that are all right. A long answer takes minutes.
const TIMEOUT_LEAST: f64 = 60.0;

/// What each link lacks, and what comes of it.
pub(super) fn faults(found: &Found, gateway: &Gateway) -> Vec<String> {
    let around = &found.around;
    let reads_order = gateway.routing.pools.is_none();
    let mut faults = Vec::new();
    if has_filters(around) {
        faults.extend(attempt(around, gateway));
        if reads_order {
            faults.extend(order(around));
        }
        faults.extend(headers(around));
    }
    faults.extend(routes(around, reads_order));
    faults.extend(labels(around));
    faults.extend(asked_clusters(found));
    let targets = gateway.models.iter().flat_map(|model| &model.targets).chain(&gateway.other);
    let wanted: BTreeSet<_> = targets.map(|target| &*target.backend.cluster).collect();
    for cluster in clusters(around) {
        if cluster["name"].as_str().is_some_and(|name| wanted.contains(name)) {
            faults.extend(backend(cluster));
        }
    }
    faults
}

/// The members of this name, also where a patch sets one by its path.
fn settings<'v>(around: &'v Value, name: &str) -> Vec<&'v Value> {
    let of_patch = |value: &Value| {
        let path = value["path"].as_str().unwrap_or_default();
        // Also where it puts one more into a list.
        let is_place = |part: &&str| *part == "-" || part.parse::<usize>().is_ok();
        value.get("op").is_some() && path.rsplit('/').find(|part| !is_place(part)) == Some(name)
    };
    let members = every(around, &|value| value.get(name).is_some()).into_iter().map(|value| &value[name]);
    members.chain(every(around, &of_patch).into_iter().map(|patch| &patch["value"])).collect()
}

/// Whether a whole chain of filters is in it: a connection manager's, or patches of one.
fn has_filters(around: &Value) -> bool {
    let is_patch = |value: &Value| {
        value["applyTo"] == "HTTP_FILTER"
            || value["path"].as_str().is_some_and(|path| path.contains("/http_filters"))
    };
    !settings(around, "http_filters").is_empty() || !every(around, &is_patch).is_empty()
}

/// Whether the type of an extension's configuration ends so.
fn is_type(value: &Value, end: &str) -> bool {
    value["@type"].as_str().is_some_and(|name| name.ends_with(end))
}

/// Whoever gives each attempt its path and credential.
fn attempt(around: &Value, gateway: &Gateway) -> Option<String> {
    let of_clusters = every(around, &|value| value.get("typed_extension_protocol_options").is_some());
    let places = settings(around, "upstream_http_filters").into_iter().chain(of_clusters);
    let is_attempt = |value: &Value| value["root_id"] == "attempt";
    let is_there = places.into_iter().any(|place| !every(place, &is_attempt).is_empty());
    let is_needed = gateway.routing.fitted == Fitted::EachAttempt;
    (is_needed && !is_there).then(|| {
        "upstream_http_filters of the router: expected the filter with root_id: attempt: without it backends get no path of \
         theirs and no credential"
            .to_owned()
    })
}

/// The filters that bring the order to the route, where the route reads it.
fn order(around: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let is_rule = |value: &Value| value["header"] == CANDIDATES && value.get("on_header_present").is_some();
    let namespaces: Vec<_> = every(around, &|value| value.get("override_metadata_namespace").is_some());
    match every(around, &is_rule).first() {
        None => faults.push(format!(
            "http_filters: expected a header_to_metadata filter for {CANDIDATES} behind Tollgate: without it the route does not \
             know the order, and every request goes to its first group"
        )),
        Some(rule) => {
            let set = &rule["on_header_present"];
            for (name, expected) in
                [("type", "PROTOBUF_VALUE"), ("encode", "BASE64"), ("key", "priority_groups")]
            {
                if set[name] != expected {
                    faults.push(format!(
                        "header_to_metadata for {CANDIDATES}: expected {name}: {expected}: else the route cannot read the order"
                    ));
                }
            }
            if let [route] = namespaces.as_slice()
                && route["override_metadata_namespace"] != set["metadata_namespace"]
            {
                faults.push(format!(
                    "header_to_metadata for {CANDIDATES}: expected the metadata_namespace {}, where the route reads the order",
                    route["override_metadata_namespace"]
                ));
            }
        }
    }
    if every(around, &|value| value["clear_route_cache"] == true).is_empty() {
        faults.push(
            "http_filters: expected a set_filter_state filter with clear_route_cache: true behind the candidates: without it \
             the first attempt goes where the route led before the order was known"
                .to_owned(),
        );
    }
    faults.extend(settings(around, "http_filters").into_iter().filter_map(sequence));
    faults
}

/// A chain of filters that is in another sequence than the order needs.
fn sequence(filters: &Value) -> Option<String> {
    let filters = filters.as_array()?;
    let at =
        |is_it: &dyn Fn(&Value) -> bool| filters.iter().position(|filter| !every(filter, is_it).is_empty());
    // Filters before Tollgate's, that know who asks, may do it too: the last one counts.
    let clears = |filter: &Value| !every(filter, &|value| value["clear_route_cache"] == true).is_empty();
    let links = [
        ("Tollgate's", at(&|value| value["root_id"] == "gateway")),
        ("header_to_metadata", at(&|value| value["header"] == CANDIDATES)),
        ("the one with clear_route_cache", filters.iter().rposition(clears)),
        ("the router", at(&|value| is_type(value, ".router.v3.Router"))),
    ];
    let found: Vec<_> = links.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
    let misplaced = found.windows(2).find(|pair| matches!(pair, [(_, one), (_, next)] if one > next))?;
    let [(first, _), (next, _)] = misplaced else { return None };
    Some(format!("http_filters: expected {first} before {next}: else the order comes too late"))
}

/// What takes internal headers from clients.
fn headers(around: &Value) -> Vec<String> {
    let mutations = settings(around, "early_header_mutation_extensions");
    let removes = |prefix: &str| {
        let is_it = |value: &Value| {
            let matcher = &value["remove_on_match"]["key_matcher"];
            let is_wider = matcher["prefix"].as_str().is_some_and(|removed| prefix.starts_with(removed));
            // What else a regular expression says of it is not looked at.
            let word = prefix.trim_start_matches("x-").trim_end_matches('-');
            is_wider || matcher["safe_regex"]["regex"].as_str().is_some_and(|regex| regex.contains(word))
        };
        mutations.iter().any(|mutation| !every(mutation, &is_it).is_empty())
    };
    let missing = INTERNAL.iter().filter(|(prefix, _)| !removes(prefix));
    missing
        .map(|(prefix, comes)| {
            format!("early_header_mutation_extensions: expected one that removes {prefix}*: {comes}")
        })
        .collect()
}

/// The routes that lead to backends, where routes are in this document.
fn routes(around: &Value, reads_order: bool) -> Vec<String> {
    let has_groups =
        |plugin: &Value| !every(plugin, &|value| value.get("priority_groups").is_some()).is_empty();
    // A table of routes may have its plugins beside them, and call them by name.
    let named: BTreeSet<_> = every(around, &|value| value.get("cluster_specifier_plugins").is_some())
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
    let routes = every(around, &|value| value.get("route").is_some_and(&is_ours));
    let tables = settings(around, "virtual_hosts");
    // Then the tables that are here are those of other listeners.
    let is_elsewhere = |value: &Value| {
        (value.get("rds").is_some() || value.get("scoped_routes").is_some())
            && !every(&value["http_filters"], &|value| value["root_id"] == "gateway").is_empty()
    };
    if routes.is_empty() && !tables.is_empty() && every(around, &is_elsewhere).is_empty() {
        let (what, comes) = if reads_order {
            ("an inline_cluster_specifier_plugin with priority_groups", "the order of backends")
        } else {
            ("cluster_header: x-tollgate-cluster", "the choice of a backend")
        };
        return vec![format!("the route: expected {what}: without it {comes} changes nothing")];
    }
    // A host's policy holds for its routes that have none.
    let of_host =
        every(around, &|value| value.get("routes").is_some() && value.get("retry_policy").is_some());
    let mut faults = Vec::new();
    for route in routes {
        let action = &route["route"];
        let policy = if action["retry_policy"].is_null() {
            let has_route = |host: &&&Value| !every(host, &|value| std::ptr::eq(value, route)).is_empty();
            of_host.iter().find(has_route).map_or(&Value::Null, |host| &host["retry_policy"])
        } else {
            &action["retry_policy"]
        };
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
        let seconds =
            action["timeout"].as_str().and_then(|timeout| timeout.trim_end_matches('s').parse().ok());
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
    }
    faults
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
fn labels(around: &Value) -> Option<String> {
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

/// Clusters that give the keys of issuers or the tokens of backends, where Envoy says which it knows.
fn asked_clusters(found: &Found) -> Vec<String> {
    if clusters(&found.around).is_empty() || super::has_more_clusters(&found.around) {
        return Vec::new();
    }
    // Also those whose addresses come from elsewhere.
    let is_cluster = |value: &Value| {
        ["load_assignment", "type", "cluster_type"].iter().any(|name| value.get(name).is_some())
    };
    let known = every(&found.around, &is_cluster);
    let known: BTreeSet<_> = known.iter().filter_map(|cluster| cluster["name"].as_str()).collect();
    let issuers = found.value["issuers"].as_array().into_iter().flatten().enumerate();
    let of_issuers = issuers.filter_map(|(at, issuer)| {
        let without = "every token of this issuer would wait, and get 503";
        Some((format!("issuers[{at}].jwks.cluster"), issuer["jwks"]["cluster"].as_str()?, without))
    });
    let backends = found.value["backends"].as_array().into_iter().flatten().enumerate();
    let of_backends = backends.flat_map(|(at, backend)| {
        let without = "there would be no token for this backend, and nothing would be sent to it";
        let grants = backend["credential"]["azure"].as_object().into_iter().flatten();
        grants.flat_map(move |(grant, said)| {
            ["cluster", "token_cluster"].into_iter().filter_map(move |field| {
                let path = format!("backends[{at}].credential.azure.{grant}.{field}");
                Some((path, said[field].as_str()?, without))
            })
        })
    });
    let missing = of_issuers.chain(of_backends).filter_map(|(path, cluster, without)| {
        // Envoy Gateway calls its own clusters so: they are in no patch.
        (!known.contains(cluster) && !cluster.contains('/'))
            .then(|| format!("{path}: Envoy has no cluster {cluster:?}: {without}"))
    });
    missing.collect()
}

/// The clusters in this document, in whatever form.
fn clusters(around: &Value) -> Vec<&Value> {
    every(around, &|value| value.get("name").is_some() && value.get("load_assignment").is_some())
}

/// What a backend's cluster lacks.
fn backend(cluster: &Value) -> Vec<String> {
    let name = &cluster["name"];
    let mut faults = Vec::new();
    if cluster.get("outlier_detection").is_none() {
        faults.push(format!(
            "cluster {name}: expected outlier_detection: without it an address that fails is asked as often as the others"
        ));
    }
    let tls = every(&cluster["transport_socket"], &|value| is_type(value, ".tls.v3.UpstreamTlsContext"));
    let asks_https = !every(&cluster["load_assignment"], &|value| value["port_value"] == 443).is_empty();
    let has_socket =
        ["transport_socket", "transport_socket_matches"].iter().any(|name| cluster.get(name).is_some());
    match tls.first() {
        None if asks_https && !has_socket => faults.push(format!(
            "cluster {name}: expected a transport_socket with TLS for port 443: without it the key goes there unencrypted"
        )),
        None => {}
        Some(tls) => faults.extend(certificate(cluster, tls).map(|fault| format!("cluster {name}: {fault}"))),
    }
    faults
}

/// What is not looked at of a backend's certificate.
fn certificate(cluster: &Value, tls: &Value) -> Option<String> {
    let common = &tls["common_tls_context"];
    if !common["validation_context_sds_secret_config"].is_null() {
        // What it checks stands elsewhere.
        return None;
    }
    let combined = &common["combined_validation_context"];
    if !combined["validation_context_sds_secret_config"].is_null() {
        return None;
    }
    let checks = if combined.is_null() {
        &common["validation_context"]
    } else {
        &combined["default_validation_context"]
    };
    if checks["trust_chain_verification"] == "ACCEPT_UNTRUSTED" {
        return Some(
            "expected no trust_chain_verification: ACCEPT_UNTRUSTED: with it any certificate is taken, and whoever answers gets the key"
                .to_owned(),
        );
    }
    if checks.get("custom_validator_config").is_some() {
        // What it checks is its own.
        return None;
    }
    let authorities = [
        "trusted_ca",
        "system_root_certs",
        "ca_certificate_provider_instance",
        "verify_certificate_hash",
        "verify_certificate_spki",
    ];
    let knows_authorities = authorities.iter().any(|name| checks.get(name).is_some());
    let names = [
        "match_typed_subject_alt_names",
        "match_subject_alt_names",
        "verify_certificate_hash",
        "verify_certificate_spki",
    ];
    let knows_names = tls["auto_sni_san_validation"] == true
        || names.iter().any(|name| checks.get(name).is_some())
        || !every(cluster, &|value| value["auto_san_validation"] == true).is_empty();
    if !knows_authorities {
        return Some(
            "expected trusted_ca in its validation_context: without it any certificate is taken, and whoever answers gets the key"
                .to_owned(),
        );
    }
    (!knows_names).then(|| {
        "expected match_typed_subject_alt_names in its validation_context, or auto_sni_san_validation: without it a certificate for any name is taken, and \
         whoever has one gets the key"
            .to_owned()
    })
}
