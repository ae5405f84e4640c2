//! Are keys read from where the configuration says, and is one in a path kept out of all that is written of it?

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Mock, Settings};

use crate::doors::socket;
use crate::envoy_lines::{MANAGER, log_too, part, raw};
use crate::requests::{BATCH, CHAT, WEB_SHOP, chat, nobody_is_limited};

const UNKNOWN: &str = "unknown-key-of-somebody";

/// Wherever they may be.
fn everywhere(config: &mut Value) {
    config["key_sources"] = json!(["x-api-key", "query"]);
}

/// Envoy writes paths into its access log, and sends every trace there at once.
fn writes_paths(envoy: &mut Value, collector: &Mock) {
    let manager = part(envoy, MANAGER);
    log_too(manager, "path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%");
    let uri = format!("{}/v1/traces", collector.url());
    manager["tracing"] = json!({
        "spawn_upstream_span": true,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "gateway",
                "http_service": { "http_uri": { "uri": uri, "cluster": "collector", "timeout": "5s" } },
            },
        },
    });
    let address = collector.addr();
    let endpoint = json!({ "address": {
        "socket_address": { "address": address.ip().to_string(), "port_value": address.port() }
    } });
    let collector = json!({
        "name": "collector",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "collector",
            "endpoints": [ { "lb_endpoints": [ { "endpoint": endpoint } ] } ],
        },
    });
    part(envoy, "/static_resources/clusters").as_array_mut().unwrap().push(collector);
    envoy["layered_runtime"] = json!({ "layers": [ {
        "name": "static", "static_layer": { "tracing.opentelemetry.min_flush_spans": 1 }
    } ] });
}

async fn ask(gateway: &Gateway, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = gateway.http().request(method.clone(), format!("{}{path}", gateway.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == Method::POST {
        request = request.json(&chat("hello"));
    }
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_key_in_a_path_is_read_and_gets_into_no_log_and_no_trace() {
    let collector = Mock::start("collector", Settings::default()).await.unwrap();
    let target = std::sync::Arc::new(collector);
    let at = target.clone();
    let setup = Setup::new().workers(1).edit(nobody_is_limited).edit(everywhere);
    let gateway = Gateway::start(setup.patch(move |envoy| writes_paths(envoy, &at))).await.unwrap();
    let logging = format!("{}/logging?wasm=trace", gateway.admin_url());
    assert_eq!(gateway.http().post(logging).send().await.unwrap().status(), 200);

    let (get, post) = (Method::GET, Method::POST);
    // What is asked, with which key in its path; what of the path stays.
    let cases = [
        (&post, CHAT.to_owned() + "?api-key=" + WEB_SHOP, 200, CHAT),
        (&post, CHAT.to_owned() + "?x=1&API%2DKey=demo%2Dweb-shop&y", 200, "/v1/chat/completions?x=1&y"),
        (&get, format!("/v1/models?api-key={WEB_SHOP}&limit=1"), 200, "/v1/models?limit=1"),
        (&get, format!("/v1/files?limit=2&api-key={BATCH}"), 200, "/v1/files?limit=2"),
        (&get, format!("/v1/models?api-key={UNKNOWN}"), 401, "/v1/models"),
        (&get, format!("/v1/models?api-key={WEB_SHOP}&api-key={BATCH}"), 401, "/v1/models"),
        (&get, "/v1/models?api-key=".to_owned(), 401, "/v1/models"),
        (&get, format!("/v1/nothing?api-key={WEB_SHOP}"), 404, "/v1/nothing"),
        (&get, format!("/v1/models?x-api-key={UNKNOWN}&api_key={UNKNOWN}"), 401, "/v1/models"),
        (&Method::OPTIONS, format!("{CHAT}?api-key={WEB_SHOP}"), 204, CHAT),
    ];
    for (method, path, status, _) in &cases {
        let answer = ask(&gateway, (*method).clone(), path, &[]).await;
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text());
    }
    let answer = raw(&gateway, &socket(&format!("/v1/responses?api-key={UNKNOWN}"))).await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");

    let log = gateway.wait_for_log(cases.len() + 1).await.unwrap();
    for (method, path, status, stays) in &cases {
        // A backend has its own way to write a path.
        let is_it = |line: &&Value| line["status"] == *status && line["path"] == *stays;
        let sent = *status == 200 && !path.starts_with("/v1/models");
        assert!(sent || log.iter().any(|line| is_it(&line)), "{method} {path}: {log:#?}");
    }
    let sent: Vec<_> = ["ptu", "payg-a", "payg-b"]
        .iter()
        .flat_map(|backend| gateway.mock(backend).received())
        .map(|sent| format!("{} {:?}", sent.path, sent.headers))
        .collect();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().any(|sent| sent.starts_with("/v1/files?limit=2 ")), "{sent:?}");

    // One span for each request, and one for each attempt.
    target.wait_for_requests(cases.len() + 1 + sent.len()).await;
    let traced: Vec<_> =
        target.received().iter().map(|sent| String::from_utf8_lossy(&sent.body).into_owned()).collect();
    for path in ["/v1/nothing", "/v1/models?limit=1", "/v1/responses"] {
        assert!(traced.iter().any(|trace| trace.contains(path)), "{path}: {traced:#?}");
    }
    let log = gateway.log_text().unwrap();
    for secret in [WEB_SHOP, BATCH, UNKNOWN, "demo%2D"] {
        let told = log.lines().chain(traced.iter().chain(&sent).map(String::as_str));
        assert_eq!(told.into_iter().find(|line| line.contains(secret)), None, "{secret}");
    }
}

#[tokio::test]
async fn two_keys_at_two_places_must_be_the_same() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(everywhere)).await.unwrap();
    let own = format!("/v1/models?api-key={WEB_SHOP}");
    let bearer = format!("Bearer {WEB_SHOP}");
    for (path, headers, expected) in [
        ("/v1/models", &[("x-api-key", WEB_SHOP)][..], None),
        (&own, &[("x-api-key", WEB_SHOP), ("api-key", WEB_SHOP), ("authorization", &bearer)], None),
        (&own, &[("x-api-key", BATCH)], Some("ambiguous_api_key")),
        (&own, &[("authorization", "Bearer demo-batch")], Some("ambiguous_api_key")),
        ("/v1/models", &[("x-api-key", BATCH), ("api-key", WEB_SHOP)], Some("ambiguous_api_key")),
        ("/v1/models", &[("x-api-key", UNKNOWN)], Some("invalid_api_key")),
        ("/v1/models", &[("x-api-key", "")], Some("missing_api_key")),
    ] {
        let answer = ask(&gateway, Method::GET, path, headers).await;
        assert_eq!(answer.json()["error"]["code"].as_str(), expected, "{path} {headers:?}");
        assert_eq!(answer.status, if expected.is_some() { 401 } else { 200 });
    }
}
