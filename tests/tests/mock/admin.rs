//! The endpoints under `/_mock/`.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_tests::mock::{Mock, RECORDS_MAX, Settings};

use crate::{CHAT, Got, chat, check_not_ready, get, post, request, start};

async fn put_settings(mock: &Mock, body: &str) -> Got {
    request(mock, Method::PUT, "/_mock/settings", &[], body.as_bytes()).await
}

fn defaults() -> Value {
    json!({
        "latency_ms": 0, "chunk_delay_ms": 0, "completion_tokens": 24, "reasoning_tokens": 0, "cached_tokens": 0,
        "tpm": null, "rpm": null, "window_ms": 60000, "requests_window_ms": null, "provisioned": false, "require_key": null, "models": null, "gzip": "never", "cut_bytes": null,
        "hold": false, "hold_after_events": null, "record": true, "faults": [],
    })
}

#[tokio::test]
async fn settings_are_shown_and_changed_field_by_field() {
    let mock = start(Settings::default()).await;
    assert_eq!(get(&mock, "/_mock/settings").await.json(), defaults());
    let faults = json!([
        {"effect": {"answer": {"status": 429, "headers": {"retry-after": "1"}, "body": null}}, "times": 2},
        {"effect": "close", "times": 1},
        {"effect": "hang", "times": 1},
        {"effect": {"reset": {"after_events": 3}}, "times": 1},
        {"effect": {"throttle": {"for_ms": 50}}, "times": 1},
    ]);
    let steps = [
        (json!({"tpm": 5, "gzip": "accepted"}), json!({"tpm": 5, "gzip": "accepted"})),
        (json!({"cut_bytes": 7}), json!({"tpm": 5, "gzip": "accepted", "cut_bytes": 7})),
        (json!({"tpm": null, "gzip": "never", "cut_bytes": null}), json!({})),
        (json!({}), json!({})),
        (json!({"faults": faults}), json!({"faults": faults})),
        (json!({"faults": [{"effect": "close"}]}), json!({"faults": [{"effect": "close", "times": 1}]})),
    ];
    for (patch, expected) in steps {
        let got = put_settings(&mock, &patch.to_string()).await;
        let expected = crate::with(defaults(), &expected);
        assert_eq!((got.status, got.json()), (200, expected.clone()), "{patch}");
        assert_eq!(get(&mock, "/_mock/settings").await.json(), expected, "{patch}");
    }
}

#[tokio::test]
async fn bad_settings_change_nothing_and_are_told_why() {
    let mock = start(Settings::default()).await;
    let fields = "`latency_ms`, `chunk_delay_ms`, `completion_tokens`, `reasoning_tokens`, `cached_tokens`, `tpm`, `rpm`, \
                  `window_ms`, `requests_window_ms`, `provisioned`, `require_key`, `models`, `gzip`, `cut_bytes`, `hold`, `hold_after_events`, `record`, `faults`";
    let table = [
        ("", "not a JSON object: EOF while parsing a value at line 1 column 0".to_owned()),
        ("[]", "not a JSON object: invalid type: sequence, expected a map at line 1 column 0".to_owned()),
        (r#"{"rpm": 1, "latency": 5}"#, format!("unknown field `latency`, expected one of {fields}")),
        (r#"{"rpm": 1, "tpm": -1}"#, "invalid value: integer `-1`, expected u32".to_owned()),
        (r#"{"cut_bytes": 0}"#, "invalid value: integer `0`, expected a nonzero usize".to_owned()),
        (r#"{"window_ms": 0}"#, "invalid value: integer `0`, expected a nonzero u64".to_owned()),
        (
            r#"{"rpm": 1, "faults": [{"effect": {"answer": {"status": 199}}}]}"#,
            "faults: status 199: expected 200 to 599".to_owned(),
        ),
        (
            r#"{"faults": [{"effect": {"answer": {"status": 200, "headers": {"a b": "c"}}}}]}"#,
            r#"faults: "a b": "c": not an HTTP header"#.to_owned(),
        ),
        (
            r#"{"faults": [{"effect": "explode"}]}"#,
            "unknown variant `explode`, expected one of `answer`, `close`, `hang`, `reset`, `throttle`"
                .to_owned(),
        ),
    ];
    for (patch, message) in table {
        let got = put_settings(&mock, patch).await;
        let error = json!({"error": {"code": "invalid_settings", "message": message}});
        assert_eq!((got.status, got.json()), (400, error), "{patch}");
        assert_eq!(mock.settings(), Settings::default(), "{patch}");
    }
}

#[tokio::test]
async fn records_are_shown_and_forgotten() {
    let mock = start(Settings::default()).await;
    let body = chat(&json!({"max_tokens": 2}));
    let answer = post(&mock, &format!("{CHAT}?a=b"), &body).await;
    request(&mock, Method::POST, CHAT, &[], b"\xff").await;

    let received = get(&mock, "/_mock/received").await.json();
    let first = &received[0];
    assert_eq!(
        (&first["serial"], &first["method"], &first["path"], &first["status"]),
        (&json!(0), &json!("POST"), &json!("/v1/chat/completions?a=b"), &json!(200))
    );
    assert_eq!(first["body"], body.to_string());
    assert_eq!(first["response"], answer.text());
    let headers = first["headers"].as_array().expect("pairs");
    assert!(headers.contains(&json!(["content-type", "application/json"])), "{headers:?}");
    assert_eq!((&received[1]["body_base64"], &received[1]["status"]), (&json!("/w=="), &json!(400)));
    // The administrator's own requests are not received.
    assert_eq!(received.as_array().map(Vec::len), Some(2));

    let usage = json!({"prompt": 8, "cached": 0, "completion": 2, "reasoning": 0});
    let bill =
        json!([{"serial": 0, "operation": "chat", "model": "m", "usage": usage, "outcome": "complete"}]);
    assert_eq!(get(&mock, "/_mock/billed").await.json(), bill);

    assert_eq!(request(&mock, Method::POST, "/_mock/reset", &[], b"").await.json(), json!({}));
    assert_eq!(get(&mock, "/_mock/received").await.json(), json!([]));
    assert_eq!(get(&mock, "/_mock/billed").await.json(), json!([]));
    check_not_ready(mock.wait_for_requests(1)).await;
    // Serials go on, and are found.
    let answer = post(&mock, CHAT, &body).await;
    assert_eq!((mock.received()[0].serial, &mock.received()[0].response), (2, &answer.body));
}

#[tokio::test]
async fn bodies_need_not_be_recorded() {
    let mock = start(Settings { record: false, ..Settings::default() }).await;
    for more in [json!({}), json!({"stream": true})] {
        mock.forget();
        let answer = post(&mock, CHAT, &chat(&more)).await;
        assert!(!answer.body.is_empty());
        let received = &mock.received()[0];
        assert_eq!((received.body.len(), received.response.len(), received.status), (0, 0, Some(200)));
        assert_eq!(received.header("content-type"), Some("application/json"));
        assert_eq!(mock.billed()[0].usage.total(), 32);
    }
}

#[tokio::test]
async fn records_are_bounded() {
    let mock = start(Settings::default()).await;
    let client = reqwest::Client::new();
    for _ in 0..RECORDS_MAX + 2 {
        client.get(mock.url() + "/v1/models").send().await.expect("an answer").bytes().await.expect("a body");
    }
    let serials: Vec<u64> = mock.received().iter().map(|record| record.serial).collect();
    assert_eq!((serials.len(), serials[0]), (RECORDS_MAX, 2));
    assert!(mock.received().iter().all(|record| record.status == Some(200) && !record.response.is_empty()));
    assert_eq!((mock.billed().len(), mock.billed()[0].serial), (RECORDS_MAX, 2));
}

#[tokio::test]
async fn the_gate_opens_from_outside() {
    let mock = start(Settings { hold: true, ..Settings::default() }).await;
    let open = async {
        mock.wait_for_requests(1).await;
        request(&mock, Method::POST, "/_mock/release", &[], b"").await
    };
    let body = chat(&json!({}));
    let (answer, opened) = tokio::join!(post(&mock, CHAT, &body), open);
    assert_eq!((answer.status, opened.status, opened.json()), (200, 200, json!({})));
}

#[tokio::test]
async fn it_is_well_and_says_what_there_is() {
    let mock = start(Settings { require_key: Some("k".to_owned()), ..Settings::default() }).await;
    let got = get(&mock, "/_mock/health").await;
    assert_eq!((got.status, got.json()), (200, json!({"name": "eu", "status": "ok"})));
    let got = request(&mock, Method::POST, "/_mock/settings", &[], b"").await;
    let message = "no POST /_mock/settings: there is GET or PUT /_mock/settings, GET /_mock/received, GET /_mock/billed, \
                   GET /_mock/load, GET /_mock/health, POST /_mock/reset, POST /_mock/release";
    assert_eq!((got.status, got.json()), (404, json!({"error": {"code": "not_found", "message": message}})));
}
