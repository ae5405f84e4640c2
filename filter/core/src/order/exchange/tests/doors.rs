//! What comes in by another way than a request for an answer.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The answer to this head, which waits for no body.
#[track_caller]
fn answered(run: &mut Run, method: &str, path: &str, more: &[(&str, &str)]) -> Answer {
    let mut pairs = vec![(":method", method), (":path", path)];
    pairs.extend_from_slice(more);
    match run.head(&pairs) {
        Step::Answer(answer) => answer,
        step => panic!("{method} {path}: {step:?}"),
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_socket_is_refused_where_there_is_something_to_ask() {
    let websocket = [("upgrade", "websocket"), ("connection", "Upgrade"), ("authorization", "Bearer key")];
    let connect = [(":protocol", "websocket"), ("authorization", "Bearer key")];
    for path in [
        "/v1/responses",
        "/v1/realtime?model=gpt-4o",
        "/openai/realtime?deployment=d&api-version=1",
        "/openai/v1/realtime",
        "/openai/deployments/gpt-4o/responses",
        "/v1/chat/completions",
        "/v1/models",
    ] {
        for (method, more) in [("GET", &websocket[..]), ("POST", &websocket[..]), ("CONNECT", &connect[..])] {
            let mut run = Run::new();
            let answer = answered(&mut run, method, path, more);
            assert_eq!(answer.status, 426, "{path}");
            assert!(String::from_utf8_lossy(&answer.body).contains("upgrade_not_supported"));
            // RFC 9110, 15.5.22: what would be right.
            assert_eq!(header(&answer, "upgrade"), Some("HTTP/1.1"));
            assert_eq!(header(&answer, "connection"), Some("upgrade"));
            assert_eq!(run.finish().outcome, Outcome::Denied("upgrade_not_supported"));
            assert_eq!(run.left(), BUDGET);
        }
    }
    for path in ["/", "/v1/socket", "/v1/files", "/realtime"] {
        let answer = answered(&mut Run::new(), "GET", path, &websocket);
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[test]
fn options_are_told_the_methods_and_reach_nothing() {
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    for (path, allow) in [
        ("/v1/chat/completions", Some("POST, OPTIONS")),
        ("/openai/deployments/gpt-4o/chat/completions", Some("POST, OPTIONS")),
        ("/v1/models", Some("GET, HEAD, OPTIONS")),
        ("/v1/files", None),
        ("/v1/deployments/gpt-4o", None),
        ("*", None),
    ] {
        let mut run = Run::new();
        let answer = answered(&mut run, "OPTIONS", path, &preflight);
        assert_eq!(answer.status, if allow.is_some() { 204 } else { 404 }, "{path}");
        assert_eq!(header(&answer, "allow"), allow, "{path}");
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")));
        assert_eq!(run.finish().reserved, 0);
        assert_eq!(run.left(), BUDGET);
    }
}

#[test]
fn the_head_of_the_list_of_models_is_as_the_list() {
    let key = [("api-key", "key")];
    for path in ["/v1/models", "/v1/models/gpt-4o", "/openai/models?api-version=2024-10-21"] {
        let list = answered(&mut Run::new(), "GET", path, &key);
        assert_eq!(answered(&mut Run::new(), "HEAD", path, &key), list);
        assert_eq!(list.status, 200);
    }
    assert_eq!(answered(&mut Run::new(), "HEAD", "/v1/models/secret", &key).status, 403);
}

#[test]
fn responses_below_a_deployment_are_that_models() {
    let mut run =
        Run::with(gateway(|config| config["backends"][0]["api_version"] = json!("2025-04-01-preview")));
    let path = "/openai/deployments/gpt-4o/responses?api-version=2025-04-01-preview&beta=true";
    let _ = run.head(&[CHAT[0], (":path", path), CHAT[2]]);
    let Step::Forward(forward) = run.body(r#"{"model":"secret","input":"x"}"#) else { panic!() };
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    assert_eq!(departure.path, "/openai/responses?api-version=2025-04-01-preview");
    let body = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert!(body.contains(r#""model":"d""#), "{body}");
    assert_eq!(run.finish().model.map(|name| name.text), Some("gpt-4o".into()));
}

/// A request to one of Responses' endpoints, and what it reserved.
fn responses(run: &mut Run, path: &str, body: &str) -> (Step, u64) {
    let step = match run.head(&[CHAT[0], (":path", path), CHAT[2]]) {
        Step::AwaitBody { .. } => run.body(body),
        step => step,
    };
    let reserved = BUDGET - run.left();
    (step, reserved)
}

fn with_responses() -> Rc<Gateway> {
    gateway(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "b", "deployment": "e" }]);
        config["clients"][0]["limits"] =
            json!([{ "tokens": BUDGET, "per": "minute" }, { "requests": 1, "per": "minute" }]);
    })
}

#[test]
fn compaction_is_charged_by_usage_and_counting_is_free() {
    let body = r#"{"model":"gpt-4o","input":"a long conversation"}"#;
    let usage = r#"{"id":"resp_1","object":"response.compaction","output":[],"usage":{"input_tokens":100,"output_tokens":50,"total_tokens":150}}"#;
    let count = r#"{"object":"response.input_tokens","input_tokens":11,"usage":{"input_tokens":11,"output_tokens":0,"total_tokens":11}}"#;
    for (path, answer, charged, operation) in [
        ("/v1/responses/compact", usage, 150, "responses/compact"),
        ("/openai/v1/responses/compact", usage, 150, "responses/compact"),
        ("/v1/responses/input_tokens", count, 0, "responses/input_tokens"),
    ] {
        let mut run = Run::with(with_responses());
        let (step, reserved) = responses(&mut run, path, body);
        let Step::Forward(forward) = step else { panic!("{step:?}") };
        assert_eq!(reserved > 0, charged > 0, "{path}");
        let departure = begin(&forward.flight, b"cb").unwrap().departure;
        assert_eq!(departure.path, format!("/v1/{operation}"));
        let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
        // The deployment's name, and no field that the API does not have there.
        assert!(patch.contains(r#""model":"e""#) && !patch.contains("max_"), "{patch}");
        let _ = run.answer("200", "application/json");
        let _ = run.exchange.response_chunk(answer.as_bytes(), true, || NOW);
        let record = run.finish();
        assert_eq!((record.operation, record.usage.total()), (operation, charged));
        assert_eq!(run.left(), BUDGET - charged);
        // It was one request.
        run.exchange = Exchange::new(with_responses());
        assert_eq!(refused(responses(&mut run, path, body).0), "429 rate_limit_exceeded");
    }
}

#[test]
fn compaction_and_counting_obey_models_endpoints_and_policy() {
    for path in ["/v1/responses/compact", "/v1/responses/input_tokens"] {
        let asks = |edit: fn(&mut Value), body: &str| {
            let mut run = Run::with(gateway(|config| {
                config["models"][0]["backends"] = json!([{ "backend": "b", "deployment": "e" }]);
                edit(config);
            }));
            let head = run.head(&[CHAT[0], (":path", path), CHAT[2]]);
            if matches!(head, Step::AwaitBody { .. }) { run.body(body) } else { head }
        };
        let body = r#"{"model":"gpt-4o","input":"a b c"}"#;
        assert_eq!(refused(asks(|_| {}, r#"{"model":"secret","input":"x"}"#)), "403 model_not_allowed");
        assert_eq!(refused(asks(|_| {}, r#"{"input":"x"}"#)), "400 missing_required_parameter");
        let other = |config: &mut Value| config["clients"][0]["endpoints"] = json!(["responses", "other"]);
        assert_eq!(refused(asks(other, body)), "403 endpoint_not_allowed");
        let short = |config: &mut Value| config["policies"][0]["prompt"] = json!({ "bytes_max": 3 });
        assert_eq!(refused(asks(short, body)), "400 parameter_above_maximum");
    }
}

#[test]
fn an_operator_adds_paths_that_pass_as_other() {
    let head =
        [(":method", "POST"), (":path", "/v1/rerank/jobs?x=1&api-key=k&API%2dKey=k"), ("api-key", "key")];
    let with = |paths: Value| {
        Run::with(gateway(|config| {
            config["other_endpoints"] = json!(["a"]);
            config["other_paths"] = paths;
            config["clients"][0]["endpoints"] = json!(["other"]);
        }))
    };
    assert_eq!(refused(with(json!([])).head(&head)), "404 unknown_url");
    let mut run = with(json!(["rerank"]));
    assert!(matches!(run.head(&head), Step::AwaitBody { .. }));
    let Step::Forward(forward) = run.body("{}") else { panic!() };
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    // What a client shows who it is by goes no further.
    assert_eq!(departure.path, "/openai/rerank/jobs?api-version=2024-10-21&x=1");
}

#[test]
fn a_body_of_other_names_only_models_of_the_client() {
    let asks = |body: &str| {
        let mut run = Run::with(gateway(|config| {
            config["other_endpoints"] = json!(["a", "b"]);
            config["clients"][0]["endpoints"] = json!(["other"]);
        }));
        let head = [(":method", "POST"), (":path", "/v1/threads/runs"), ("api-key", "key")];
        assert!(matches!(run.head(&head), Step::AwaitBody { .. }));
        run.body(body)
    };
    assert_eq!(refused(asks(r#"{"model":"secret"}"#)), "403 model_not_allowed");
    assert_eq!(refused(asks(r#"{"model":"gpt-4o","model":"secret"}"#)), "400 ambiguous_parameter");
    assert!(matches!(asks(r#"{"model":"gpt-4o"}"#), Step::Forward(_)));
    assert!(matches!(asks(r#"{"assistant_id":"a"}"#), Step::Forward(_)));
}
