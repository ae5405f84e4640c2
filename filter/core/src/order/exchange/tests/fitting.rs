//! The body of each attempt, and who gets none.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// An old version of Azure's API, a server that speaks OpenAI's, and Azure's v1; each with a name of its own for the
/// model.
fn mixed(config: &mut Value) {
    config["models"][0]["backends"] = json!([
        { "backend": "old", "deployment": "o" },
        { "backend": "b", "deployment": "e" },
        { "backend": "v1", "deployment": "longer-than-the-others" },
    ]);
    config["backends"] = json!([
        { "name": "old", "cluster": "cold", "style": "azure", "api_version": "2024-06-01", "region": "eu" },
        { "name": "b", "cluster": "cb", "style": "openai", "region": "us" },
        { "name": "v1", "cluster": "cv1", "style": "azure-v1", "region": "us" },
    ]);
}

const CLUSTERS: [&[u8]; 3] = [b"cold", b"cb", b"cv1"];

/// What the attempt at this cluster sends, and the length that it says.
fn sent(forward: &Forward, body: &str, cluster: &[u8]) -> (String, Option<usize>) {
    let waiting = match &forward.patch {
        Some(patch) => [&patch.bytes, &body.as_bytes()[patch.replaced..]].concat(),
        None => body.as_bytes().to_vec(),
    };
    let Begun { mut attempt, departure, .. } = begin(&forward.flight, cluster).unwrap();
    let read = |bytes: usize| waiting[..bytes].to_vec();
    let sent = match attempt.request_body(&Waiting { bytes: waiting.len(), end: true, read: &read }) {
        Outgoing::Patched(patch) => [&patch.bytes, &waiting[patch.replaced..]].concat(),
        Outgoing::AsItIs => waiting,
        outgoing => panic!("{outgoing:?}"),
    };
    (String::from_utf8(sent).unwrap(), departure.content_length)
}

fn go(config: impl Fn(&mut Value), path: &str, body: &str) -> Step {
    let mut run = Run::with(gateway(config));
    let _ = run.head(&[CHAT[0], (":path", path), CHAT[2], CHAT[3]]);
    run.body(body)
}

/// What each of the three is sent for a body.
#[track_caller]
fn check(path: &str, body: &str, expected: [&str; 3]) {
    let Step::Forward(forward) = go(mixed, path, body) else { panic!("{body}") };
    for (cluster, expected) in CLUSTERS.into_iter().zip(expected) {
        let (sent, content_length) = sent(&forward, body, cluster);
        assert_eq!(sent, expected, "{body}");
        // They differ, so each says its own.
        assert_eq!(content_length, Some(sent.len()), "{sent}");
    }
}

#[test]
fn every_attempt_sends_the_body_that_its_backend_takes() {
    let chat = "/v1/chat/completions";
    check(
        chat,
        r#"{"messages":[],"model":"gpt-4o","max_completion_tokens":50,"stream":true}"#,
        [
            r#"{"messages":[],"model":"e","max_tokens":50,"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"messages":[],"model":"e","max_completion_tokens":50,"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"messages":[],"model":"longer-than-the-others","max_completion_tokens":50,"stream":true}"#,
        ],
    );
    // What the policy wrote is in all of them: the most is 100.
    check(
        chat,
        r#"{"model":"gpt-4o","max_tokens":101,"n":1}"#,
        [
            r#"{"model":"e","max_tokens":100,"n":1}"#,
            r#"{"model":"e","max_tokens":100,"n":1}"#,
            r#"{"model":"longer-than-the-others","max_tokens":100,"n":1}"#,
        ],
    );
    check(
        "/v1/embeddings",
        r#"{"input":"x","model":"gpt-4o"}"#,
        [
            r#"{"input":"x","model":"e"}"#,
            r#"{"input":"x","model":"e"}"#,
            r#"{"input":"x","model":"longer-than-the-others"}"#,
        ],
    );
}

#[test]
fn a_form_too_names_each_backends_own_deployment() {
    let form =
        |model| format!("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n");
    let mut run = Run::with(gateway(mixed));
    let kind = ("content-type", "multipart/form-data; boundary=b");
    let _ = run.head(&[CHAT[0], (":path", "/v1/audio/transcriptions"), CHAT[2], CHAT[3], kind]);
    let Step::Forward(forward) = run.body(&form("gpt-4o")) else { panic!() };
    for (cluster, name) in CLUSTERS.into_iter().zip(["e", "e", "longer-than-the-others"]) {
        let expected = form(name);
        let len = expected.len();
        assert_eq!(sent(&forward, &form("gpt-4o"), cluster), (expected, Some(len)));
    }
}

#[test]
fn where_all_take_the_same_body_no_attempt_touches_it() {
    // The one names the model in its path, the other in the body.
    let mut run = Run::new();
    let forward = run.send(STREAM);
    for cluster in [b"ca", b"cb"] {
        let Begun { mut attempt, departure, .. } = begin(&forward.flight, cluster).unwrap();
        assert_eq!(departure.content_length, None);
        let unread = Waiting { bytes: 9, end: true, read: &|_| panic!("it goes as it is") };
        assert_eq!(attempt.request_body(&unread), Outgoing::AsItIs);
    }
}

#[test]
fn the_body_of_an_attempt_waits_until_its_front_is_here() {
    let mut run = Run::with(gateway(mixed));
    let forward = run.send(STREAM);
    let here = |bytes: usize, end: bool| {
        let mut attempt = begin(&forward.flight, CLUSTERS[2]).unwrap().attempt;
        let read = |reach: usize| STREAM.as_bytes()[..reach.min(bytes)].to_vec();
        attempt.request_body(&Waiting { bytes, end, read: &read })
    };
    assert_eq!(here(1, false), Outgoing::Waits);
    assert_eq!(here(1, true), Outgoing::Denied(Denial::OutOfTurn));
    assert!(matches!(here(STREAM.len(), false), Outgoing::Patched(_)));
}

#[test]
fn without_a_content_length_none_is_set() {
    let mut run = Run::with(gateway(mixed));
    let _ = run.head(&CHAT[..3]);
    let Step::Forward(forward) = run.body(STREAM) else { panic!() };
    assert_eq!(forward.content_length, None);
    assert_eq!(CLUSTERS.map(|cluster| sent(&forward, STREAM, cluster).1), [None; 3]);
}

#[test]
fn a_usage_event_is_hidden_only_if_the_last_attempt_asked() {
    let told = |clusters: &[&[u8]]| {
        let mut run = Run::with(gateway(mixed));
        let forward = run.send(STREAM);
        for cluster in clusters {
            let _ = begin(&forward.flight, cluster).unwrap();
        }
        let _ = run.answer("200", "text/event-stream");
        run.exchange.response_chunk(COUNTED, true, || NOW)
    };
    let hidden = Output::Replaced(Vec::new());
    assert_eq!(told(&CLUSTERS[..1]), Output::Same);
    assert_eq!(told(&CLUSTERS[..2]), hidden);
    assert_eq!(told(&CLUSTERS), hidden);
    assert_eq!(told(&[CLUSTERS[2], CLUSTERS[0]]), Output::Same);
}

fn candidates(config: impl Fn(&mut Value), path: &str, body: &str) -> Vec<Rc<str>> {
    match go(config, path, body) {
        Step::Forward(forward) => {
            forward.flight.candidates().iter().map(|target| target.backend.name.clone()).collect()
        }
        step => panic!("{step:?}"),
    }
}

#[track_caller]
fn refused(config: impl Fn(&mut Value), path: &str, body: &str) -> (u16, Value) {
    match go(config, path, body) {
        Step::Answer(answer) => (answer.status, serde_json::from_slice(&answer.body).unwrap()),
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_target_that_cannot_take_the_request_is_left_out() {
    let chat = "/v1/chat/completions";
    for body in [
        r#"{"model":"gpt-4o","store":true}"#,
        r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}"#,
    ] {
        assert_eq!(candidates(mixed, chat, body), ["b".into(), "v1".into()], "{body}");
    }
    assert_eq!(candidates(mixed, chat, r#"{"model":"gpt-4o","store":null}"#).len(), 3);
    let body = r#"{"model":"gpt-4o","input":"x"}"#;
    assert_eq!(candidates(mixed, "/v1/responses", body), ["b".into(), "v1".into()]);
    assert_eq!(candidates(mixed, "/v1/embeddings", body).len(), 3);

    let mut run = Run::with(gateway(mixed));
    let _ = run.send(r#"{"model":"gpt-4o","store":true}"#);
    let record = run.finish();
    let passed: Vec<_> = record.passed_over.iter().map(|one| (&*one.backend, one.why.word())).collect();
    assert_eq!(passed, [("old", "unsupported")]);
}

#[test]
fn when_none_can_take_it_the_refusal_names_what_it_is_for() {
    let old_only = |config: &mut Value| {
        mixed(config);
        config["models"][0]["backends"] = json!([{ "backend": "old", "deployment": "o" }]);
    };
    let in_europe = |config: &mut Value| {
        mixed(config);
        config["clients"][0]["regions"] = json!(["eu"]);
    };
    let field = json!({ "error": {
        "message": "`store` is taken by no backend that may serve this request: it needs API version \
                    2024-12-01-preview or a later preview.",
        "type": "invalid_request_error", "param": "store", "code": "unsupported_parameter",
    } });
    let operation = json!({ "error": {
        "message": "No backend that may serve this request has `responses`: it needs API version \
                    2025-03-01-preview or a later preview.",
        "type": "invalid_request_error", "param": null, "code": "unsupported_operation",
    } });
    // Whether there is no other, or none where the client may be served.
    for config in [&old_only as &dyn Fn(&mut Value), &in_europe] {
        let body = r#"{"model":"gpt-4o","store":true}"#;
        assert_eq!(refused(config, "/v1/chat/completions", body), (400, field.clone()));
        let body = r#"{"model":"gpt-4o","input":"x"}"#;
        assert_eq!(refused(config, "/v1/responses", body), (400, operation.clone()));
    }
    // Where the client may be served nowhere, that is why.
    let nowhere = |config: &mut Value| {
        old_only(config);
        config["backends"][1]["region"] = json!("asia");
        config["clients"][0]["regions"] = json!(["us"]);
    };
    let (status, body) = refused(nowhere, "/v1/chat/completions", r#"{"model":"gpt-4o","store":true}"#);
    assert_eq!((status, &body["error"]["code"]), (403, &json!("region_not_permitted")));
}
