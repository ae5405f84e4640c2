//! Does `check` tell what Envoy lacks around a configuration, and nothing that it does not?

mod common;

use common::{root, run};
use std::fs;

#[test]
fn an_envoy_that_does_not_know_a_backend_is_told() {
    let envoy = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let (code, printed, _) =
        run(&["check", "-"], &envoy.replace("- { name: ptu, clusters", "- { name: other, clusters"));
    let fault = "  error: Envoy's part: priority_groups of the route: expected one with the name \"ptu\"\n";
    assert!(code == 1 && printed.contains(fault), "{printed}");
}

#[test]
fn an_order_that_is_not_the_routes_is_told() {
    let envoy = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let (code, printed, _) =
        run(&["check", "-"], &envoy.replace("order: [ ptu, payg-a, payg-b ]", "order: [ payg-a, ptu ]"));
    let fault = "  error: Envoy's part: priority_groups of the route are ptu, payg-a, payg-b: expected them to begin with \
                 payg-a, ptu, as routing.order says\n";
    assert!(code == 1 && printed.contains(fault), "{printed}");
    // The route may have more.
    let (code, printed, _) =
        run(&["check", "-"], &envoy.replace("order: [ ptu, payg-a, payg-b ]", "order: [ ptu, payg-a ]"));
    assert!(code == 0, "{printed}");
}

#[test]
fn each_fault_on_the_way_to_the_store_is_told() {
    let fleet = fs::read_to_string(root().join("envoy/fleet.yaml")).unwrap();
    let (code, printed, _) = run(&["check", "-"], &fleet);
    assert!(code == 0 && printed.contains(": ok: "), "{printed}");
    let own = "address: { socket_address: { address: 127.0.0.1, port_value: 10001 } }";
    let endpoint = format!("- {{ endpoint: {{ {own} }} }}");
    let anywhere = format!("\n    {own}");
    let connect = "upgrade_configs: [ { upgrade_type: CONNECT, connect_config: { allow_post: true } } ]";
    for (from, to, fault) in [
        (
            "cluster: tollgate-store, password_env",
            "cluster: store, password_env",
            "clusters: expected one with the name \"store\", which store.redis names",
        ),
        (
            "cluster: tollgate-store, password_env",
            "cluster: redis, password_env",
            "cluster \"redis\" leads to redis:6379: expected this Envoy's own listener on loopback, as in envoy/fleet.yaml",
        ),
        (
            &endpoint,
            "- { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 10002 } } } }",
            "listeners: expected one at 127.0.0.1:10002, where the cluster \"tollgate-store\" leads",
        ),
        (
            &anywhere,
            "\n    address: { socket_address: { address: 0.0.0.0, port_value: 10001 } }",
            "listener \"tollgate-store\" is at 0.0.0.0:10001: expected loopback, for whoever reaches it reaches the store",
        ),
        (
            "match: { path: /redis }",
            "match: { path: /other }",
            "listener \"tollgate-store\": expected a route with the path \"/redis\", which store.redis names",
        ),
        (
            connect,
            "upgrade_configs: [ { upgrade_type: CONNECT } ]",
            "listener \"tollgate-store\": the route with the path \"/redis\": expected upgrade_configs: \
             [ { upgrade_type: CONNECT, connect_config: { allow_post: true } } ]",
        ),
        (
            "PAYG_B_KEY, REDIS_PASSWORD ]",
            "PAYG_B_KEY ]",
            "vm_config.environment_variables.host_env_keys: expected REDIS_PASSWORD among them",
        ),
    ] {
        let changed = fleet.replacen(from, to, 1);
        assert_ne!(changed, fleet, "{from}");
        let (code, printed, _) = run(&["check", "-"], &changed);
        let line = format!(": 1 error\n  error: Envoy's part: {fault}\n");
        assert!(code == 1 && printed.contains(&line), "{printed}\nnot {line}");
    }
    // A socket in the file system is nobody else's either.
    let pipe = fleet.replace(own, "address: { pipe: { path: /run/tollgate.sock } }");
    let (code, printed, _) = run(&["check", "-"], &pipe);
    assert!(code == 0, "{printed}");
}

/// Takes out what a path of members and indices leads to.
fn take_out(value: &mut serde_json::Value, path: &str) {
    let (parent, last) = path.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap_or_else(|| panic!("nothing is at {parent}")) {
        serde_json::Value::Object(members) => drop(members.remove(last).unwrap()),
        serde_json::Value::Array(values) => drop(values.remove(last.parse().unwrap())),
        other => panic!("{other} has no members"),
    }
}

/// The configuration in this file without a part of it, or with another in its place, checked.
fn check_without(file: &str, path: &str, in_its_place: Option<serde_json::Value>) -> (i32, String) {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let mut envoy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    match in_its_place {
        Some(value) => *envoy.pointer_mut(path).unwrap_or_else(|| panic!("nothing is at {path}")) = value,
        None => take_out(&mut envoy, path),
    }
    let (code, printed, _) = run(&["check", "-"], &envoy.to_string());
    (code, printed)
}

#[test]
fn each_link_of_the_chain_that_is_missing_is_told() {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let router = format!("{manager}/http_filters/3/typed_config");
    let route = format!("{manager}/route_config/virtual_hosts/0/routes/0/route");
    for (path, fault) in [
        (
            format!("{router}/upstream_http_filters"),
            "upstream_http_filters of the router: expected the filter with root_id: attempt",
        ),
        (
            format!("{router}/upstream_http_filters/0"),
            "upstream_http_filters of the router: expected the filter with root_id: attempt",
        ),
        (
            format!("{manager}/http_filters/1"),
            "http_filters: expected a header_to_metadata filter for x-tollgate-candidates",
        ),
        (
            format!("{manager}/http_filters/2"),
            "http_filters: expected a set_filter_state filter with clear_route_cache: true",
        ),
        (
            format!("{route}/inline_cluster_specifier_plugin"),
            "the route: expected an inline_cluster_specifier_plugin with priority_groups",
        ),
        (format!("{route}/retry_policy"), "the route: expected the retry_policy of envoy/envoy.yaml"),
        (format!("{route}/idle_timeout"), "the route: expected idle_timeout: 600s: Envoy's own five minutes"),
        (
            format!("{manager}/route_config/virtual_hosts/0/routes/0/request_body_buffer_limit"),
            "the route: expected request_body_buffer_limit: 33554432: Envoy refuses bodies of more than 32768 bytes, and \
             clients may send 4194304",
        ),
        (
            format!("{manager}/http_filters/0/typed_config/config/failure_policy"),
            "the filter with root_id gateway: expected failure_policy: FAIL_RELOAD: else after a trap every request",
        ),
        (
            format!("{router}/upstream_http_filters/0/typed_config/config/failure_policy"),
            "the filter with root_id attempt: expected failure_policy: FAIL_RELOAD",
        ),
        (
            format!("{route}/retry_policy/retriable_status_codes/2"),
            "retry_policy: expected 429 among retriable_status_codes",
        ),
        (
            format!("{route}/retry_policy/retriable_status_codes/0"),
            "retry_policy: expected 401 among retriable_status_codes",
        ),
        (
            format!("{route}/retry_policy/retriable_headers"),
            "retry_policy: expected retriable-headers in retry_on, and x-tollgate-elsewhere",
        ),
        (
            format!("{route}/retry_policy/refresh_cluster_on_retry"),
            "retry_policy: expected refresh_cluster_on_retry: true",
        ),
        (format!("{route}/timeout"), "the route: expected timeout: 0s"),
        (format!("{route}/auto_host_rewrite"), "the route: expected auto_host_rewrite: true"),
        (
            format!("{manager}/early_header_mutation_extensions/0/typed_config/mutations/1"),
            "early_header_mutation_extensions: expected one that removes x-tollgate-*",
        ),
        ("/stats_config/stats_tags/0".to_owned(), "stats_config.stats_tags: expected client:"),
        (
            "/static_resources/clusters/0/outlier_detection".to_owned(),
            "cluster \"ptu\": expected outlier_detection",
        ),
    ] {
        let (code, printed) = check_without("envoy/envoy.yaml", &path, None);
        let line = format!(": 1 error\n  error: Envoy's part: {fault}");
        assert!(code == 1 && printed.contains(&line), "{path}: {printed}\nnot {line}");
    }
    // Two are told each by its own line.
    let (code, printed) =
        check_without("envoy/envoy.yaml", &format!("{manager}/early_header_mutation_extensions"), None);
    assert!(code == 1 && printed.contains(": 2 errors\n"), "{printed}");
    // A time that ends what is all right, and one that does not.
    for (timeout, fault) in [("15s", "the route: expected timeout: 0s: 15 s would end answers"), ("600s", "")]
    {
        let path = format!("{route}/timeout");
        let (code, printed) = check_without("envoy/envoy.yaml", &path, Some(timeout.into()));
        assert_eq!(code, i32::from(!fault.is_empty()), "{printed}");
        assert!(printed.contains(fault), "{printed}");
    }
    // A retry policy that is too narrow.
    let narrow = Some("connect-failure,retriable-headers".into());
    let (_, printed) = check_without("envoy/envoy.yaml", &format!("{route}/retry_policy/retry_on"), narrow);
    for fault in ["expected 5xx in retry_on", "expected retriable-status-codes in retry_on"] {
        assert!(
            printed.contains(&format!("  error: Envoy's part: retry_policy: {fault}: else ")),
            "{printed}"
        );
    }
}

/// What others write in another way, and Envoy serves alike.
#[test]
fn a_chain_that_is_written_otherwise_is_well() {
    use serde_json::{Value, json};
    fn take(of: &mut Value, name: &str) -> Value {
        of.as_object_mut().unwrap().remove(name).expect("it to be there")
    }
    fn at(envoy: &mut Value, path: &str, change: &dyn Fn(&mut Value)) {
        change(envoy.pointer_mut(path).unwrap_or_else(|| panic!("nothing is at {path}")));
    }
    #[track_caller]
    fn check(what: &str, change: &dyn Fn(&mut Value)) {
        let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
        let mut envoy: Value = serde_yaml_ng::from_str(&text).unwrap();
        change(&mut envoy);
        let (code, printed, problem) = run(&["check", "-"], &envoy.to_string());
        assert_eq!(code, 0, "{what}: {printed}{problem}");
    }
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let table = format!("{manager}/route_config");
    let host = format!("{table}/virtual_hosts/0");
    let route = format!("{host}/routes/0/route");
    let filters = format!("{manager}/http_filters");
    let mutations = format!("{manager}/early_header_mutation_extensions/0/typed_config/mutations");
    let configuration = format!("{filters}/0/typed_config/config/configuration/value");
    let issuers = json!([{
        "name": "idp", "issuer": "https://issuer.example", "audiences": ["us"],
        "jwks": { "cluster": "idp", "host": "issuer.example", "path": "/keys" },
    }]);
    let tls = |context: Value| {
        json!({ "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": context,
        } })
    };
    let redirects = json!({ "name": "redirect", "filter_chains": [ { "filters": [ { "typed_config": {
        "route_config": { "virtual_hosts": [ { "name": "all", "domains": ["*"], "routes": [
            { "match": { "prefix": "/" }, "redirect": { "https_redirect": true } },
        ] } ] },
        "http_filters": [],
    } } ] } ] });
    check("routes by RDS, and a listener that redirects", &|envoy| {
        at(envoy, manager, &|manager| {
            take(manager, "route_config");
            manager["rds"] = json!({ "route_config_name": "openai" });
        });
        at(envoy, "/static_resources/listeners", &|all| all.as_array_mut().unwrap().push(redirects.clone()));
    });
    check("a host's policy beside another host's", &|envoy| {
        at(envoy, &host, &|host| {
            let policy = take(&mut host["routes"][0]["route"], "retry_policy");
            host["retry_policy"] = policy;
        });
        let other = json!({ "name": "other", "retry_policy": { "retry_on": "reset" }, "routes": [] });
        at(envoy, &table, &|table| {
            table["virtual_hosts"].as_array_mut().unwrap().insert(0, other.clone());
        });
    });
    check("a plugin by its name", &|envoy| {
        at(envoy, &table, &|table| {
            let route = &mut table["virtual_hosts"][0]["routes"][0]["route"];
            let plugin = take(route, "inline_cluster_specifier_plugin");
            route["cluster_specifier_plugin"] = plugin["extension"]["name"].clone();
            table["cluster_specifier_plugins"] = json!([plugin]);
        });
    });
    check("another filter that clears the route before Tollgate", &|envoy| {
        let other = json!({ "name": "authz", "typed_config": { "clear_route_cache": true } });
        at(envoy, &filters, &|all| all.as_array_mut().unwrap().insert(0, other.clone()));
    });
    for matcher in [json!({ "prefix": "x-" }), json!({ "safe_regex": { "regex": "x-(envoy|tollgate)-.*" } })]
    {
        check("internal headers by another matcher", &|envoy| {
            at(envoy, &mutations, &|all| {
                *all = json!([{ "remove_on_match": { "key_matcher": matcher.clone() } }]);
            });
        });
    }
    check("the failures one by one, and no timeout by another field", &|envoy| {
        at(envoy, &route, &|route| {
            take(route, "timeout");
            route["max_stream_duration"] = json!({ "max_stream_duration": "3600s" });
            route["retry_policy"]["retry_on"] =
                json!("gateway-error,retriable-status-codes,retriable-headers");
            route["retry_policy"]["retriable_status_codes"] = json!([401, 408, 429, 500]);
        });
    });
    check("an issuer's cluster whose addresses come from elsewhere", &|envoy| {
        at(envoy, &configuration, &|value| value["issuers"] = issuers.clone());
        let cluster = json!({ "name": "idp", "type": "EDS" });
        at(envoy, "/static_resources/clusters", &|all| all.as_array_mut().unwrap().push(cluster.clone()));
    });
    check("clusters by CDS", &|envoy| {
        at(envoy, &configuration, &|value| value["issuers"] = issuers.clone());
        envoy["dynamic_resources"] = json!({ "cds_config": { "ads": {} } });
        at(envoy, "/static_resources/clusters", &|all| {
            all.as_array_mut().unwrap().truncate(1);
            all[0]["name"] = json!("xds");
        });
    });
    for context in [
        json!({ "combined_validation_context": {
            "default_validation_context": {}, "validation_context_sds_secret_config": { "name": "ca" },
        } }),
        json!({ "validation_context": { "custom_validator_config": { "name": "spiffe" } } }),
    ] {
        check("a certificate that is checked elsewhere", &|envoy| {
            at(envoy, "/static_resources/clusters/0", &|cluster| {
                cluster["transport_socket"] = tls(context.clone());
            });
        });
    }
    check("TLS by the address", &|envoy| {
        at(envoy, "/static_resources/clusters/0", &|cluster| {
            cluster["transport_socket_matches"] =
                json!([{ "name": "all", "match": {}, "transport_socket": tls(json!({})) }]);
            let end =
                "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
            *cluster.pointer_mut(end).unwrap() = json!(443);
        });
    });
}

#[test]
fn a_chain_whose_links_are_in_another_order_is_told() {
    let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let mut envoy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    envoy.pointer_mut(filters).unwrap().as_array_mut().unwrap().swap(0, 1);
    let (code, printed, _) = run(&["check", "-"], &envoy.to_string());
    let line =
        "1 error\n  error: Envoy's part: http_filters: expected Tollgate's before header_to_metadata: ";
    assert!(code == 1 && printed.contains(line), "{printed}");
}

/// A whole Envoy with a second listener, which is like the first but for this.
fn with_a_second_listener(change: &dyn Fn(&mut serde_json::Value)) -> (i32, String) {
    let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let mut envoy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    let listeners = envoy.pointer_mut("/static_resources/listeners").unwrap().as_array_mut().unwrap();
    let mut second = listeners[0].clone();
    second["name"] = "second".into();
    change(&mut second);
    listeners.push(second);
    let (code, printed, _) = run(&["check", "-"], &envoy.to_string());
    (code, printed)
}

#[test]
fn each_listener_is_judged_by_itself() {
    let manager = "/filter_chains/0/filters/0/typed_config";
    let configuration = format!("{manager}/http_filters/0/typed_config/config/configuration/value");
    let of_its_own = |listener: &mut serde_json::Value| {
        let client = listener.pointer_mut(&format!("{configuration}/clients/0")).unwrap();
        client["name"] = "other".into();
        // A VM of its own, which its two filters share.
        for filter in ["http_filters/0", "http_filters/3/typed_config/upstream_http_filters/0"] {
            let vm = format!("{manager}/{filter}/typed_config/config/vm_config/vm_id");
            *listener.pointer_mut(&vm).unwrap() = "second".into();
        }
    };
    let (code, printed) = with_a_second_listener(&of_its_own);
    assert!(code == 0, "{printed}");
    let route = format!("{manager}/route_config/virtual_hosts/0/routes/0");
    for (path, fault) in [
        (format!("{manager}/http_filters/3/typed_config/upstream_http_filters"), "upstream_http_filters of"),
        (format!("{manager}/http_filters/1"), "http_filters: expected a header_to_metadata filter"),
        (format!("{manager}/http_filters/2"), "http_filters: expected a set_filter_state filter"),
        (format!("{manager}/early_header_mutation_extensions"), "early_header_mutation_extensions: expected"),
        (format!("{route}/route/retry_policy"), "the route: expected the retry_policy"),
        (format!("{route}/route/inline_cluster_specifier_plugin"), "the route: expected an inline_cluster"),
    ] {
        let (code, printed) = with_a_second_listener(&|listener| {
            of_its_own(listener);
            take_out(listener, &path);
        });
        let line = format!("  error: Envoy's part: listener \"second\": {fault}");
        assert!(code == 1 && printed.contains(&line), "{path}: {printed}");
        // The first one is well.
        assert_eq!(printed.matches(": ok: ").count(), 1, "{printed}");
        assert!(!printed.contains("listener \"openai\""), "{printed}");
    }
}

#[test]
fn patches_that_put_filters_behind_the_router_are_told() {
    let first = "      operation: INSERT_FIRST\n";
    let istio = fs::read_to_string(root().join("examples/istio/envoyfilter.yaml")).unwrap();
    let gateway = fs::read_to_string(root().join("examples/envoy-gateway/envoypatchpolicy.yaml")).unwrap();
    let at = "path: /filter_chains/0/filters/0/typed_config/http_filters/0\n";
    for (text, from, to) in [
        (&istio, first, "      operation: ADD\n"),
        (&gateway, at, &*at.replace("filters/0\n", "filters/1\n")),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(&changed, text);
        let (code, printed, _) = run(&["check", "-"], &changed);
        let line = "1 error\n  error: Envoy's part: http_filters: expected Tollgate's before the router: ";
        assert!(code == 1 && printed.contains(line), "{printed}");
    }
}

/// The filters that bring the order, in an EnvoyFilter, as their patches come.
fn patched_in_order(operation: &str, order: [usize; 3]) -> (i32, String) {
    use serde_json::{Value, json};
    let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let envoy: Value = serde_yaml_ng::from_str(&text).unwrap();
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let filters = envoy.pointer(&format!("{manager}/http_filters")).unwrap();
    let router = json!({ "name": "envoy.filters.http.router" });
    let patch = |value: &Value, operation: &str| {
        json!({
            "applyTo": "HTTP_FILTER",
            "match": { "listener": { "filterChain": { "filter": { "subFilter": router } } } },
            "patch": { "operation": operation, "value": value },
        })
    };
    let mut patches: Vec<_> = order.iter().map(|at| patch(&filters[*at], operation)).collect();
    patches.push(patch(&filters[3], "MERGE"));
    let early = envoy.pointer(&format!("{manager}/early_header_mutation_extensions")).unwrap();
    patches.push(json!({ "applyTo": "NETWORK_FILTER",
        "patch": { "operation": "MERGE", "value": { "early_header_mutation_extensions": early } } }));
    let policy = json!({ "kind": "EnvoyFilter", "spec": { "configPatches": patches } });
    let (code, printed, _) = run(&["check", "-"], &policy.to_string());
    (code, printed)
}

#[test]
fn the_sequence_that_patches_make_is_judged() {
    for (operation, order, fault) in [
        ("INSERT_BEFORE", [0, 1, 2], None),
        // Of two that come first, the later one is the first.
        ("INSERT_FIRST", [2, 1, 0], None),
        ("INSERT_FIRST", [0, 1, 2], Some("expected Tollgate's before header_to_metadata: ")),
        (
            "INSERT_BEFORE",
            [0, 2, 1],
            Some("expected header_to_metadata before the one with clear_route_cache: "),
        ),
        ("INSERT_AFTER", [2, 1, 0], Some("expected the one with clear_route_cache before the router: ")),
    ] {
        let (code, printed) = patched_in_order(operation, order);
        let line = fault.map(|fault| format!("  error: Envoy's part: http_filters: {fault}"));
        let is_told = line.is_none_or(|line| printed.contains(&line));
        assert!(code == i32::from(fault.is_some()) && is_told, "{operation} {order:?}: {printed}");
    }
}

/// EnvoyFilters and patch policies have the same links in other places.
#[test]
fn a_missing_link_is_told_of_patches_too() {
    let (istio, gateway) =
        ("examples/istio/envoyfilter.yaml", "examples/envoy-gateway/envoypatchpolicy.yaml");
    let index = |file: &str, list: &str, what: &str| {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let policy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
        let patches = policy.pointer(list).unwrap().as_array().unwrap();
        patches.iter().position(|patch| patch.to_string().contains(what)).unwrap()
    };
    let istios = |what: &str| format!("/spec/configPatches/{}", index(istio, "/spec/configPatches", what));
    let gateways = |what: &str| format!("/spec/jsonPatches/{}", index(gateway, "/spec/jsonPatches", what));
    let attempt = "upstream_http_filters of the router: expected the filter with root_id: attempt";
    let internal = "early_header_mutation_extensions: expected one that removes x-envoy-*";
    let retries = "the route: expected the retry_policy of envoy/envoy.yaml";
    let tls = "cluster \"ptu\": expected a transport_socket with TLS for port 443";
    for (file, path, fault) in [
        (istio, istios("\"upstream_http_filters\""), attempt),
        (gateway, gateways("\"upstream_http_filters\""), attempt),
        (
            istio,
            format!("{}/patch/value/typed_config/early_header_mutation_extensions", istios("early_header")),
            internal,
        ),
        (gateway, gateways("early_header_mutation_extensions"), internal),
        (istio, format!("{}/patch/value/routes/0/route/retry_policy", istios("retry_policy")), retries),
        (gateway, format!("{}/operation/value/route/retry_policy", gateways("retry_policy")), retries),
        (gateway, format!("{}/operation/value/transport_socket", gateways("load_assignment")), tls),
    ] {
        let (code, printed) = check_without(file, &path, None);
        assert!(
            code == 1 && printed.contains(&format!("  error: Envoy's part: {fault}")),
            "{path}: {printed}"
        );
    }
}

#[test]
fn a_backend_whose_certificate_nobody_checks_is_told() {
    let gateway = "examples/envoy-gateway/envoypatchpolicy.yaml";
    let text = fs::read_to_string(root().join(gateway)).unwrap();
    let policy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    let patches = policy.pointer("/spec/jsonPatches").unwrap().as_array().unwrap();
    let at = patches.iter().position(|patch| patch["name"] == "ptu").unwrap();
    let tls = format!("/spec/jsonPatches/{at}/operation/value/transport_socket/typed_config");
    let context = format!("{tls}/common_tls_context/validation_context");
    for (path, fault) in [
        (context.clone(), "expected trusted_ca in its validation_context"),
        (format!("{context}/trusted_ca"), "expected trusted_ca in its validation_context"),
        (format!("{context}/match_typed_subject_alt_names"), "expected match_typed_subject_alt_names"),
    ] {
        let (code, printed) = check_without(gateway, &path, None);
        let line = format!(": 1 error\n  error: Envoy's part: cluster \"ptu\": {fault}");
        assert!(code == 1 && printed.contains(&line), "{path}: {printed}");
    }
}

#[test]
fn a_backend_whose_addresses_come_by_eds_is_judged_too() {
    use serde_json::{Value, json};
    let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let envoy: Value = serde_yaml_ng::from_str(&text).unwrap();
    let with = |transport: Value| {
        let mut envoy = envoy.clone();
        let cluster = envoy.pointer_mut("/static_resources/clusters/0").unwrap();
        take_out(cluster, "/load_assignment");
        cluster["type"] = json!("EDS");
        cluster["transport_socket"] = transport;
        let (code, printed, _) = run(&["check", "-"], &envoy.to_string());
        (code, printed)
    };
    let context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    let (code, printed) = with(json!({ "name": "tls", "typed_config": { "@type": context } }));
    let line =
        ": 1 error\n  error: Envoy's part: cluster \"ptu\": expected trusted_ca in its validation_context";
    assert!(code == 1 && printed.contains(line), "{printed}");
    // Which port it is nobody says here.
    assert_eq!(with(Value::Null).0, 0);
}

#[test]
fn an_issuer_whose_keys_come_from_no_cluster_is_told() {
    let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let mut envoy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    let value = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value";
    let jwks = serde_json::json!({ "cluster": "nowhere", "host": "issuer.example", "path": "/keys" });
    envoy.pointer_mut(value).unwrap()["issuers"] = serde_json::json!([{ "name": "idp", "issuer": "https://issuer.example", "audiences": ["us"], "jwks": jwks }]);
    let (code, printed, _) = run(&["check", "-"], &envoy.to_string());
    let line = "  error: Envoy's part: issuers[0].jwks.cluster: Envoy has no cluster \"nowhere\": ";
    assert!(code == 1 && printed.contains(line), "{printed}");
}

#[test]
fn a_backend_whose_tokens_come_from_no_cluster_is_told() {
    let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let mut envoy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    let value = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value";
    let scope = "https://ai.azure.com/.default";
    for (azure, paths) in [
        (
            serde_json::json!({ "scope": scope, "managed_identity": { "cluster": "nowhere" } }),
            &["managed_identity.cluster"][..],
        ),
        (
            serde_json::json!({ "scope": scope, "workload_identity": {
                "cluster": "nowhere", "token_cluster": "nowhere", "tenant": "t", "client_id": "c" } }),
            &["workload_identity.cluster", "workload_identity.token_cluster"],
        ),
    ] {
        envoy.pointer_mut(value).unwrap()["backends"][0]["credential"] =
            serde_json::json!({ "azure": azure });
        let (code, printed, _) = run(&["check", "-"], &envoy.to_string());
        for path in paths {
            let line = format!(
                "error: Envoy's part: backends[0].credential.azure.{path}: Envoy has no cluster \"nowhere\": "
            );
            assert!(code == 1 && printed.contains(&line), "{printed}");
        }
    }
}

#[test]
fn a_broker_that_is_in_no_cluster_is_told() {
    let text = fs::read_to_string(root().join("envoy/envoy.yaml")).unwrap();
    let mut envoy: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    let value = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value";
    let azure = serde_json::json!({ "scope": "https://eventhubs.azure.net/.default", "managed_identity": { "cluster": "nowhere" } });
    envoy.pointer_mut(value).unwrap()["queue"]["broker"] = serde_json::json!({ "cluster": "nowhere", "path": "/hub/messages", "credential": { "azure": azure } });
    let (code, printed, _) = run(&["check", "-"], &envoy.to_string());
    for path in ["cluster", "credential.azure.managed_identity.cluster"] {
        let line = format!("error: Envoy's part: queue.broker.{path}: Envoy has no cluster \"nowhere\": ");
        assert!(code == 1 && printed.contains(&line), "{printed}");
    }
}
