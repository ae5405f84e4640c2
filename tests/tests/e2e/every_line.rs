//! Would a line of `envoy/envoy.yaml` be missed, whichever it is?
//!
//! [`envoy_lines`] takes lines out and sees what changes. For all others of the connection manager and of a cluster the
//! test that fails without it stands here, or why none does.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tollgate_tests::harness::bootstrap::Bootstrap;
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Gateway, Setup};

use crate::deaf::Deaf;
use crate::envoy_lines::{MANAGER, PTU, ROUTE, part, paths_of_lines, shortened, take_out};
use crate::overload::OVERLOAD;
use crate::requests::{CHAT, WEB_SHOP, chat, nobody_is_limited};

const ATTEMPTS: &str = "each_attempt_has_its_own_path_host_and_credential";
const ORDER: &str = "a_throttled_backend_is_left_alone_as_long_as_it_said";
const GOES_ON: &str = "a_failure_that_another_backend_may_not_have_is_tried_there";
const MISSING: &str = "a_missing_deployment_is_reported_and_the_next_backend_asked";
const TRAP: &str = "a_vm_that_trapped_is_replaced_because_envoy_yaml_says_so";
const RESTARTING: &str = "both_filters_are_back_in_the_same_request";
const SLOW_REQUEST: &str = "a_request_that_comes_too_slowly_is_ended";
const EJECTION: &str = "an_address_that_fails_is_ejected_and_one_that_is_busy_is_not";
const CUT: &str = "a_cut_network_and_a_stopped_backend_are_passed_over";
const NO_NAME: &str = "a_backend_whose_name_does_not_resolve_is_passed_over";

const FULL: &str = "each_line_about_a_full_heap_is_needed";
const CONNECTIONS: &str = "connections_beyond_the_bound_are_closed_and_admin_answers";
const HTTP2: &str = "one_http2_connection_has_bounded_streams_and_windows";

/// The role of each attempt, among the connection manager's lines.
const ATTEMPT: &str = "http_filters/3/typed_config/upstream_http_filters/0/typed_config/config";

/// What begins so is missed by that test. It was taken out once, and the test seen to fail.
fn missed() -> Vec<(String, &'static str)> {
    let below = |whole: &str, lines: &[(&str, &'static str)]| -> Vec<_> {
        lines.iter().map(|(line, test)| (format!("{whole}/{line}"), *test)).collect()
    };
    let manager = below(
        MANAGER,
        &[
            (
                "always_set_request_id_in_response",
                "a_caller_without_a_key_is_refused_and_no_backend_is_asked",
            ),
            ("upgrade_configs", "a_socket_is_refused_with_426_and_reaches_no_backend"),
            ("request_headers_timeout", SLOW_REQUEST),
            ("request_timeout", SLOW_REQUEST),
            (
                "common_http_protocol_options/max_stream_duration",
                "an_answer_that_drips_for_ever_is_ended_and_charged",
            ),
            ("http_filters/0/typed_config/config/root_id", ATTEMPTS),
            ("http_filters/0/typed_config/config/allow_on_headers_stop_iteration", ATTEMPTS),
            ("http_filters/0/typed_config/config/failure_policy", TRAP),
            ("http_filters/0/typed_config/config/reload_config", TRAP),
            ("http_filters/0/typed_config/config/vm_config/vm_id", ATTEMPTS),
            ("http_filters/1/typed_config/request_rules/0/header", ORDER),
            ("http_filters/1/typed_config/request_rules/0/on_header_present", ORDER),
            ("http2_protocol_options", HTTP2),
            ("local_reply_config/mappers/0", FULL),
            ("local_reply_config/mappers/1", RESTARTING),
            ("local_reply_config/mappers/2", "without_its_mapper_envoy_answers_in_text"),
            ("local_reply_config/mappers/3", "an_upgrade_without_its_mapper_gets_403_with_nothing"),
            (&format!("{ATTEMPT}/root_id"), ATTEMPTS),
            (&format!("{ATTEMPT}/allow_on_headers_stop_iteration"), MISSING),
            (&format!("{ATTEMPT}/failure_policy"), TRAP),
            (&format!("{ATTEMPT}/reload_config"), RESTARTING),
            (&format!("{ATTEMPT}/vm_config/vm_id"), ATTEMPTS),
        ],
    );
    let route = below(
        ROUTE,
        &[
            ("request_body_buffer_limit", "a_body_of_two_megabytes_is_served_and_counted"),
            ("route/auto_host_rewrite", ATTEMPTS),
            ("route/idle_timeout", "a_backend_that_never_answers_is_ended_and_costs_nothing"),
            (
                "route/inline_cluster_specifier_plugin/extension/typed_config/override_metadata_namespace",
                ORDER,
            ),
            ("route/retry_policy/retry_on/5xx", GOES_ON),
            ("route/retry_policy/retry_on/retriable-status-codes", GOES_ON),
            ("route/retry_policy/retry_on/retriable-headers", MISSING),
            ("route/retry_policy/retriable_status_codes", GOES_ON),
            ("route/retry_policy/retriable_headers", MISSING),
            ("route/retry_policy/refresh_cluster_on_retry", ATTEMPTS),
        ],
    );
    let cluster = below(
        PTU,
        &[
            ("type", NO_NAME),
            ("connect_timeout", "a_backend_that_lets_nobody_connect_is_left_for_the_next_one"),
            ("upstream_bind_config", CUT),
            ("upstream_connection_options", CUT),
            ("outlier_detection/max_ejection_percent", EJECTION),
            ("common_lb_config/healthy_panic_threshold", EJECTION),
            (
                "load_assignment/endpoints/0/lb_endpoints/0/load_balancing_weight",
                "an_ejected_backend_is_asked_where_it_is_the_only_one",
            ),
        ],
    );
    let process = [
        ("/overload_manager/resource_monitors/0", FULL),
        ("/overload_manager/resource_monitors/1", CONNECTIONS),
        ("/overload_manager/actions", FULL),
    ];
    let process = process.map(|(path, test)| (path.to_owned(), test)).to_vec();
    [manager, route, cluster, process].concat()
}

/// The end of a line that no test would miss, and why that is no harm.
const NOT_MISSED: &[(&str, &str)] = &[
    ("/name", "a name"),
    ("/@type", "Envoy does not start without it"),
    ("/stat_prefix", "a name"),
    ("/cluster_name", "a name"),
    ("/domains/0", "Envoy does not start without it"),
    ("/match/prefix", "Envoy does not start without it"),
    ("/runtime", "this build of Envoy has no other"),
    ("/dns_lookup_family", "the tests' machines have no IPv6 address to prefer"),
    ("/lb_endpoints/1/load_balancing_weight", "Envoy's default, said beside the other's"),
    ("/outlier_detection/consecutive_5xx", "Envoy's default, said for who reads it"),
    ("/outlier_detection/base_ejection_time", "an ejection is longer without it"),
    ("/refresh_interval", "Envoy looks every second without it"),
    ("/retry_back_off/base_interval", "fail-over is slower without it"),
    ("/retry_back_off/max_interval", "fail-over is slower without it"),
];

/// Every line of a configuration, by its path; what the harness writes is left out.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    const WRITTEN: [&str; 7] = [
        "access_log",
        "configuration",
        "priority_groups",
        "code",
        "environment_variables",
        "address",
        "hostname",
    ];
    match value {
        Value::Object(map) => {
            let members = map.iter().filter(|(name, _)| !WRITTEN.contains(&name.as_str()));
            members.for_each(|(name, member)| leaves(member, &format!("{path}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| leaves(item, &format!("{path}/{at}"), found));
        }
        // Each word is a rule.
        Value::String(words) if path.ends_with("/retry_on") => {
            found.extend(words.split(',').map(|word| format!("{path}/{word}")));
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_line_would_be_missed_or_does_no_harm() {
    let mut bootstrap = Bootstrap::load().unwrap();
    let mut lines = Vec::new();
    for whole in [MANAGER, PTU, OVERLOAD] {
        leaves(part(bootstrap.value_mut(), whole), whole, &mut lines);
    }
    let table = paths_of_lines();
    let missed = missed();
    let begins = |line: &str, with: &str| {
        line.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let known = |line: &&String| {
        table.iter().any(|path| begins(line, path))
            || missed.iter().any(|(path, _)| begins(line, path))
            || NOT_MISSED.iter().any(|(end, _)| line.ends_with(end))
    };
    let unknown: Vec<_> = lines.iter().filter(|line| !known(line)).collect();
    assert!(unknown.is_empty(), "nothing says who would miss {unknown:#?}");

    let tests = ["tests/tests/e2e", "tests/tests/compose", "tests/tests"]
        .map(|folder| sources(folder, "rs"))
        .concat();
    for (path, test) in &missed {
        assert!(lines.iter().any(|line| begins(line, path)), "envoy.yaml has no {path}");
        assert!(tests.contains(&format!("fn {test}(")), "no test is named {test}");
    }
    for (end, _) in NOT_MISSED {
        assert!(lines.iter().any(|line| line.ends_with(end)), "envoy.yaml has no line {end}");
    }
}

fn sources(folder: &str, extension: &str) -> String {
    let files = fs::read_dir(workspace().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|found| found == extension));
    files.map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// A label without its rule stays in the metric's name, where nobody finds it.
#[test]
fn every_label_of_a_metric_has_its_rule() {
    let source = fs::read_to_string(workspace().join("filter/core/src/decisions/ledger/series.rs")).unwrap();
    // Each stands at the beginning of its line, before the field that has its value.
    let lines = source.lines().map(str::trim).filter_map(|line| line.strip_prefix('"'));
    let labels: BTreeSet<_> = lines.filter_map(|line| Some(line.split_once("\" ")?.0)).collect();
    assert!(labels.len() > 10, "{labels:?}");
    let mut bootstrap = Bootstrap::load().unwrap();
    let rules = part(bootstrap.value_mut(), "/stats_config/stats_tags").as_array().unwrap();
    let expected: BTreeSet<_> =
        labels.iter().map(|label| (label.to_string(), format!("(;{label}=([^;]*))"))).collect();
    let rules: BTreeSet<_> = rules
        .iter()
        .map(|rule| {
            (rule["tag_name"].as_str().unwrap().to_owned(), rule["regex"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(rules, expected);
}

#[tokio::test]
async fn a_backend_that_lets_nobody_connect_is_left_for_the_next_one() {
    let deaf = Deaf::new().await;
    for is_there in [true, false] {
        let patch = move |envoy: &mut Value| {
            // Envoy would try for five seconds.
            let line = format!("{PTU}/connect_timeout");
            match is_there {
                true => shortened(envoy, &line, "0.2s"),
                false => take_out(envoy, &line),
            }
            shortened(envoy, &format!("{ROUTE}/route/idle_timeout"), "3s");
        };
        let setup = Setup::new()
            .workers(1)
            .edit(nobody_is_limited)
            .patch(patch)
            .backend("ptu", &deaf.url())
            .env("PTU_KEY", "unused");
        let gateway = Gateway::start(setup).await.unwrap();
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        let log = gateway.wait_for_log(1).await.unwrap();
        let expected = if is_there { (200, json!("payg-a")) } else { (504, json!("ptu")) };
        assert_eq!((answer.status, log[0]["backend"].clone()), expected, "{log:?}");
    }
}
