use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn the_head_is_decided_before_the_body_is_read() {
    let with = |pairs: &[(&str, &str)]| refused(Run::new().head(pairs));
    assert_eq!(with(&[(":method", "POST"), (":path", "/v1/nothing")]), "404 unknown_url");
    assert_eq!(with(&CHAT[..2]), "401 missing_api_key");
    assert_eq!(with(&[CHAT[0], CHAT[1], ("api-key", "other")]), "401 invalid_api_key");
    let no_body = Run::new().end_of_head();
    assert_eq!(refused(no_body), "400 missing_required_parameter");
}

#[test]
fn a_client_sees_the_models_it_may_use() {
    let step = Run::new().head(&[(":method", "GET"), (":path", "/v1/models"), ("api-key", "key")]);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["data"][0]["id"], "gpt-4o");
}

#[test]
fn credentials_and_internal_headers_are_stripped_at_once() {
    let mut pairs = CHAT.to_vec();
    pairs.extend([("x-tollgate-candidates", "x"), ("accept-encoding", "gzip"), ("x-request-id", "1")]);
    let Step::AwaitBody { strip } = Run::new().head(&pairs) else { panic!() };
    assert_eq!(strip, ["authorization", "x-tollgate-candidates", "accept-encoding"]);
}

#[test]
fn a_header_passes_only_if_it_is_known_or_configured() {
    let mut run = Run::with(gateway(|config| {
        config["pass_headers"] = json!(["x-corp-*"]);
        config["pass_answer_headers"] = json!(["x-ms-region"]);
    }));
    let mut pairs = CHAT.to_vec();
    pairs.extend([("x-corp-team", "a"), ("x-real-ip", "b"), ("x-real-ip", "c")]);
    let Step::AwaitBody { strip } = run.head(&pairs) else { panic!() };
    assert_eq!(strip, ["authorization", "x-real-ip"]);
    let Step::Forward(_) = run.body(PROMPT) else { panic!() };
    assert_eq!(run.answer("200", "application/json").remove, Vec::<String>::new());
}

#[test]
fn a_body_announced_too_long_is_refused_from_the_headers() {
    for (length, is_refused) in [("1000", false), ("1001", true), ("18446744073709551615", true)] {
        let step = Run::new().head(&[CHAT[0], CHAT[1], CHAT[2], ("content-length", length)]);
        match is_refused {
            true => assert_eq!(refused(step), "413 request_too_large", "{length}"),
            false => assert!(matches!(step, Step::AwaitBody { .. }), "{length}"),
        }
    }
}

#[test]
fn other_endpoints_pass_unread_or_are_refused() {
    let files = [
        (":method", "GET"),
        (":path", "/v1/files?limit=1&importance=low"),
        ("api-key", "key"),
        ("cookie", "x"),
    ];
    assert_eq!(refused(Run::new().head(&files)), "404 unknown_url");
    let mut run = Run::with(gateway(|config| {
        config["other_endpoints"] = json!(["a"]);
        config["clients"][0]["endpoints"] = json!(["other"]);
        config["priorities"] = json!({ "query": "importance" });
    }));
    let Step::Reserve(claim) =
        run.exchange.request_head(&headers(&files), true, Moment::new(&run.store, NOW))
    else {
        panic!()
    };
    assert_eq!(claim.usage, Usage::default());
    let grant = limits::reserve(Moment::new(&run.store, NOW), claim);
    let Step::Forward(forward) = run.exchange.reserved(grant) else { panic!() };
    assert_eq!(forward.strip, ["api-key", "cookie"]);
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    assert_eq!(departure.path, "/openai/files?api-version=2024-10-21&limit=1");
    let _ = run.answer("200", "application/json");
    let _ = run.exchange.response_chunk(b"{\"data\":[]}", true, || NOW);
    let record = run.finish();
    assert_eq!(
        (record.operation, record.outcome, record.source),
        ("other", Outcome::Served, Source::Reported)
    );
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn a_body_that_says_to_be_something_else_is_refused_unread() {
    for (path, headers, expected) in [
        ("/v1/chat/completions", [("content-type", "text/plain"), CHAT[3]], "415 unsupported_media_type"),
        (
            "/v1/audio/transcriptions",
            [("content-type", "application/json"), CHAT[3]],
            "415 unsupported_media_type",
        ),
        ("/v1/audio/transcriptions", [("content-type", "multipart/form-data"), CHAT[3]], "400 invalid_form"),
        ("/v1/responses", [("content-encoding", "zstd"), CHAT[3]], "415 unsupported_content_encoding"),
    ] {
        let mut run = Run::new();
        let step = run.head(&[&[CHAT[0], (":path", path), CHAT[2]][..], &headers].concat());
        assert_eq!(refused(step), expected, "{path} {headers:?}");
    }
}

#[test]
fn one_content_type_of_ours_goes_on() {
    let body = r#"{"model":"gpt-4o"}"#;
    for (said, sent) in [
        (&[("content-type", "application/json")][..], None),
        (&[("content-type", "application/json; charset=utf-8")], Some("application/json")),
        (&[], Some("application/json")),
    ] {
        let mut run = Run::new();
        let _ = run.head(&[&CHAT, said].concat());
        let Step::Forward(forward) = run.body(body) else { panic!() };
        assert_eq!(forward.content_type.as_deref(), sent);
    }
    let mut run = Run::new();
    let step = run.head(&[&CHAT[..], &[("content-encoding", "identity")]].concat());
    assert!(matches!(step, Step::AwaitBody { strip } if strip.contains(&"content-encoding".to_owned())));
}
