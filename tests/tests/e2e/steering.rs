//! Does a backend have a say in what Envoy does, or which of its answers go elsewhere?

use std::fs;

use serde_json::{Value, json};
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of};

const FILES: [&str; 3] = ["envoy/envoy.yaml", "envoy/portable-pools.yaml", "envoy/portable-once.yaml"];

/// Ejections are Envoy's own judgement; whether an address is well is asked by a check of its health.
fn health_is_checked(envoy: &mut Value) {
    for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
        let cluster = cluster.as_object_mut().unwrap();
        if cluster.get("load_assignment").is_none() {
            continue;
        }
        cluster.remove("outlier_detection");
        // Once, and then never again while this test runs.
        let check = json!({
            "timeout": "5s", "interval": "3600s", "no_traffic_interval": "3600s",
            "healthy_threshold": 1, "unhealthy_threshold": 1, "tcp_health_check": {},
        });
        cluster.insert("health_checks".to_owned(), json!([check]));
    }
}

/// What steers Envoy 1.40 by a backend's answer, and its neighbours.
const STEERING: [(&str, &str); 7] = [
    ("x-envoy-ratelimited", "true"),
    ("x-envoy-overloaded", "true"),
    ("x-envoy-immediate-health-check-fail", "true"),
    ("x-envoy-degraded", "true"),
    ("x-envoy-upstream-canary", "true"),
    ("x-envoy-decorator-operation", "chosen"),
    ("grpc-status", "0"),
];

fn with_all(mut fault: Fault) -> Fault {
    for (name, value) in STEERING {
        fault = fault.header(name, value);
    }
    fault
}

#[tokio::test]
async fn no_header_of_an_answer_steers_envoy() {
    for file in FILES {
        let setup = Setup::new()
            .file(file)
            .workers(1)
            .edit(nobody_is_limited)
            .patch(health_is_checked)
            .env("BACKENDS_KEY", "unused");
        let gateway = Gateway::start(setup).await.unwrap();
        let well = [("envoy_cluster_name", "ptu")];
        gateway.wait_for_metric("envoy_cluster_health_check_success", &well, 1.0).await.unwrap();
        let before = gateway.metric("envoy_cluster_membership_healthy", &well).await.unwrap();
        for status in [429, 500, 503] {
            let fault = with_all(Fault::answer(status).header("retry-after-ms", "0.001"));
            gateway.mock("ptu").update(|settings| settings.faults = [fault].into());
            let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
            assert_eq!(answer.status, 200, "{file} {status}: {}", answer.text());
            check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 2, "backend": "payg-a" }));
        }
        let good = json!({ "object": "chat.completion", "choices": [] });
        let fault = with_all(Fault::answer(200).body(good.clone()));
        gateway.mock("ptu").update(|settings| settings.faults = [fault].into());
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("anybody")).await.unwrap();
        assert_eq!((answer.status, answer.json()), (200, good), "{file}");
        for (name, _) in STEERING {
            assert_eq!(answer.header(name), "", "{file} {name}");
        }
        let after = gateway.metric("envoy_cluster_membership_healthy", &well).await.unwrap();
        assert_eq!(after, before, "{file}");
        let canary = gateway.metric("envoy_cluster_canary_upstream_rq_completed", &well).await.unwrap();
        assert_eq!(canary, 0.0, "{file}");
    }
}

/// Another list in one of them would be another product there.
#[test]
fn all_files_and_the_document_agree_on_what_goes_elsewhere() {
    const EXAMPLES: [&str; 2] =
        ["examples/istio/envoyfilter.yaml", "examples/envoy-gateway/envoypatchpolicy.yaml"];
    const RETRY_ON: &str = r#""5xx,retriable-status-codes,retriable-headers""#;
    let read = |file: &str| fs::read_to_string(workspace().join(file)).unwrap();
    let values = |file: &str, key: &str| {
        let text = read(file);
        let found: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::to_owned).collect();
        let [value] = found.as_slice() else { panic!("{file}: {key} {found:?}") };
        value.trim().to_owned()
    };
    for key in ["retry_on:", "retriable_status_codes:", "retriable_headers:"] {
        let expected = values(FILES[0], key);
        for file in FILES.into_iter().chain(EXAMPLES) {
            assert_eq!(values(file, key), expected, "{file}: {key}");
        }
    }
    let codes: Vec<u16> = serde_json::from_str(&values(FILES[0], "retriable_status_codes:")).unwrap();
    assert_eq!(
        (values(FILES[0], "retry_on:"), codes.as_slice()),
        (RETRY_ON.to_owned(), [401, 408, 429].as_slice())
    );
    let said = "goes on to the next backend on 401, 408, 429, every 5xx,";
    assert!(read("docs/routing.md").contains(said));
    // What an error under 200 is taken for goes elsewhere as well, unless it is the client's.
    for error in [r#"{"code":"rate_limit_exceeded"}"#, r#"{"code":"invalid_api_key"}"#, "{}"] {
        let body = format!(r#"{{"error":{error}}}"#);
        let status = tollgate::failure::Failure::of_answer(body.as_bytes()).unwrap().status();
        assert!(codes.contains(&status) || status >= 500, "{error}");
    }
}

/// Of 503, which outlier detection counts as well, and of what an error under 200 becomes.
#[tokio::test]
async fn an_error_under_200_counts_for_ejection_like_any_other() {
    let error = json!({ "error": { "message": "x", "code": 503 } });
    let failing =
        Settings { faults: [Fault::answer(200).body(error).times(6)].into(), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).mock("ptu", failing);
    let gateway = Gateway::start(setup).await.unwrap();
    for _ in 0..6 {
        assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
    }
    let labels = [("envoy_cluster_name", "ptu")];
    let name = "envoy_cluster_outlier_detection_ejections_active";
    assert_eq!(gateway.metric(name, &labels).await.unwrap(), 1.0);
}
