use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn the_providers_name_of_an_answer_is_told_and_written_down() {
    for (status, origin, told) in
        [("200", Origin::Backend, true), ("400", Origin::Backend, true), ("503", Origin::Proxy, false)]
    {
        let mut run = Run::new();
        let _ = run.send(PROMPT);
        let pairs = [(":status", status), ("apim-request-id", "a-1"), ("x-request-id", "req_1")];
        let edits = run.exchange.response_head(&headers(&pairs), false, || origin);
        assert_eq!(edits.remove, ["apim-request-id", "x-request-id"]);
        let id = edits.set.iter().find(|(name, _)| *name == "x-tollgate-provider-request-id");
        let expected = told.then_some("req_1");
        assert_eq!(id.map(|(_, id)| id.as_str()), expected, "{status}");
        assert_eq!(run.finish().provider_request_id.as_deref(), expected, "{status}");
    }
}

#[test]
fn the_client_is_charged_what_the_answer_says() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    // The prompt is sketched at 8 tokens, the cap is 100.
    assert_eq!(run.left(), BUDGET - 108);
    let edits = run.answer("200", "application/json");
    assert_eq!(edits.remove, ["x-ms-region"]);
    assert_eq!(
        edits.set[..2],
        [
            ("x-ratelimit-limit-tokens", BUDGET.to_string()),
            ("x-ratelimit-remaining-tokens", (BUDGET - 108).to_string()),
        ]
    );
    let _ = run.exchange.response_chunk(br#"{"usage":{"prompt_tokens":9,"completion"#, false, || NOW);
    let _ = run.exchange.response_chunk(br#"_tokens":20}}"#, true, || NOW);
    let record = run.finish();
    assert_eq!((record.outcome, record.source), (Outcome::Served, Source::Reported));
    assert_eq!((record.usage.prompt, record.usage.completion), (9, 20));
    assert_eq!(run.left(), BUDGET - 29);
}

#[test]
fn an_error_costs_nothing() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let _ = begin(&forward.flight, b"ca").unwrap();
    let _ = run.answer("429", "application/json");
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.served.map(|served| served.backend.to_string())),
        (Outcome::BackendError, Some("a".to_owned()))
    );
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn envoys_own_error_gets_openais_shape() {
    // JSON it is by `local_reply_config`.
    for content_type in ["text/plain", "application/json"] {
        let mut run = Run::new();
        let _ = run.send(PROMPT);
        let pairs = [(":status", "503"), ("content-type", content_type), ("content-length", "19")];
        let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Proxy);
        let Output::Replaced(body) = run.exchange.response_chunk(b"no healthy upstream", true, || NOW) else {
            panic!("{content_type}")
        };
        assert!(edits.set.contains(&("content-length", body.len().to_string())));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "backend_unavailable");
        assert_eq!(run.finish().outcome, Outcome::ProxyError);
        assert_eq!(run.left(), BUDGET);
    }
}

#[test]
fn envoys_own_error_that_is_only_a_head_is_answered_anew() {
    for is_sent in [true, false] {
        let mut run = Run::new();
        if is_sent {
            let _ = run.send(PROMPT);
        } else {
            let _ = run.head(&CHAT);
        }
        let edits = run.exchange.response_head(&headers(&[(":status", "503")]), true, || Origin::Proxy);
        // A length without a body would keep the client waiting.
        assert_eq!(edits.set, []);
        let answer = edits.instead.unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["error"]["code"]), (503, &json!("backend_unavailable")));
        let tells_budget = answer.headers.iter().any(|(name, _)| *name == "x-ratelimit-remaining-tokens");
        assert_eq!(tells_budget, is_sent);
        assert_eq!(run.finish().outcome, Outcome::ProxyError);
        assert_eq!(run.left(), BUDGET);
    }
}

#[test]
fn envoys_own_error_before_the_request_is_sent_gets_it_too() {
    let mut run = Run::new();
    let _ = run.head(&CHAT);
    let pairs = [(":status", "413"), ("content-type", "text/plain")];
    let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Proxy);
    assert!(edits.set.contains(&("content-type", "application/json".to_owned())));
    let Output::Replaced(body) = run.exchange.response_chunk(b"Payload Too Large", true, || NOW) else {
        panic!()
    };
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "request_too_large");
    assert_eq!(run.finish().outcome, Outcome::ProxyError);
}

#[test]
fn an_answer_of_our_own_is_not_touched() {
    let mut run = Run::new();
    let _ = run.head(&CHAT[..2]);
    assert!(!run.exchange.awaits_answer());
    assert_eq!(run.answer("401", "text/plain"), ResponseEdits::default());
    assert_eq!(run.exchange.response_chunk(b"{}", true, || NOW), Output::Same);
}

#[test]
fn a_stream_is_asked_for_usage_that_the_client_does_not_see() {
    let mut run = Run::new();
    let forward = run.send(STREAM);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert!(
        patch.starts_with(r#"{"stream_options":{"include_usage":true},"max_tokens":100,"model":"e""#),
        "{patch}"
    );
    let edits = run.answer("200", "text/event-stream");
    assert!(edits.remove.contains(&"content-length".to_owned()));
    assert_eq!(run.exchange.response_chunk(DELTA, false, || NOW), Output::Same);
    assert_eq!(run.exchange.response_chunk(COUNTED, false, || NOW), Output::Replaced(Vec::new()));
    assert_eq!(run.exchange.response_chunk(b"data: [DONE]\n\n", true, || NOW), Output::Same);
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.source, record.usage.total()),
        (Outcome::Served, Source::Reported, 29)
    );
}

#[test]
fn a_stream_without_a_type_is_known_by_its_first_bytes() {
    let untyped = [(":status", "200")];
    let mut run = Run::new();
    let _ = run.send(STREAM);
    let edits = run.exchange.response_head(&headers(&untyped), false, || Origin::Backend);
    assert!(edits.remove.contains(&"content-length".to_owned()));
    assert_eq!(run.exchange.response_chunk(DELTA, false, || NOW), Output::Same);
    assert_eq!(run.exchange.response_chunk(COUNTED, false, || NOW), Output::Replaced(Vec::new()));
    assert_eq!(run.exchange.response_chunk(b"data: [DONE]\n\n", true, || NOW), Output::Same);
    let record = run.finish();
    assert_eq!((record.source, record.usage.total()), (Source::Reported, 29));
    // What has a type is not taken for another one.
    let mut run = Run::new();
    let _ = run.send(STREAM);
    let edits = run.answer("200", "text/plain");
    assert!(!edits.remove.contains(&"content-length".to_owned()));
    // JSON is JSON, whatever was asked for.
    let mut run = Run::new();
    let _ = run.send(STREAM);
    let _ = run.exchange.response_head(&headers(&untyped), false, || Origin::Backend);
    let whole = br#"{"usage":{"prompt_tokens":9,"completion_tokens":20}}"#;
    assert_eq!(run.exchange.response_chunk(whole, true, || NOW), Output::Same);
    let record = run.finish();
    assert_eq!((record.source, record.usage.total()), (Source::Reported, 29));
}

#[test]
fn a_client_that_hangs_up_pays_for_what_was_produced() {
    let mut run = Run::new();
    let _ = run.send(STREAM);
    let _ = run.answer("200", "text/event-stream");
    let _ = run.exchange.response_chunk(&DELTA.repeat(5), false, || NOW);
    let record = run.finish();
    assert_eq!((record.outcome, record.source), (Outcome::ClientGone, Source::Estimated));
    assert_eq!((record.usage.prompt, record.usage.completion), (8, 10));
    assert_eq!(run.left(), BUDGET - 18);
}

#[test]
fn a_client_that_leaves_early_pays_if_a_backend_was_asked() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let _ = begin(&forward.flight, b"ca").unwrap();
    assert_eq!(run.finish().usage.total(), 108);
    assert_eq!(run.left(), BUDGET - 108);
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    assert_eq!(run.finish().usage.total(), 0);
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn a_compressed_answer_is_charged_in_full_by_estimate() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    let pairs = [(":status", "200"), ("content-type", "application/json"), ("content-encoding", "gzip")];
    let _ = run.exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    assert_eq!(run.exchange.response_chunk(b"\x1f\x8b", true, || NOW), Output::Same);
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.source, record.usage.total()),
        (Outcome::Served, Source::Estimated, 108)
    );
}

#[test]
fn a_prompt_refused_by_the_content_filter_is_charged() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let _ = begin(&forward.flight, b"ca").unwrap();
    let _ = run.answer("400", "application/json");
    let _ = run.exchange.response_chunk(br#"{"error":{"code":"content_filter"}}"#, true, || NOW);
    let record = run.finish();
    assert_eq!((record.outcome, record.source), (Outcome::ContentFilter, Source::Estimated));
    assert_eq!(record.usage, Usage { prompt: record.usage.prompt, ..Usage::default() });
    assert!(record.usage.prompt > 0);
    assert_eq!(run.left(), BUDGET - record.usage.prompt);
}

#[test]
fn an_image_without_reported_usage_is_charged_as_reserved() {
    let mut run = Run::new();
    let _ = run.head(&[CHAT[0], (":path", "/v1/images/generations"), CHAT[2]]);
    let Step::Forward(_) = run.body(r#"{"model":"gpt-4o","prompt":"a crab","n":2,"quality":"medium"}"#)
    else {
        panic!()
    };
    let reserved = BUDGET - run.left();
    let _ = run.answer("200", "application/json");
    let _ = run.exchange.response_chunk(br#"{"data":[{"b64_json":"AAAA"}]}"#, true, || NOW);
    let record = run.finish();
    assert_eq!((record.source, record.usage.total()), (Source::Estimated, reserved));
    assert_eq!(record.usage.completion, 2 * 1756);
}

#[test]
fn speech_reports_nothing_and_is_charged_for_its_input() {
    let mut run = Run::new();
    let _ = run.head(&[CHAT[0], (":path", "/v1/audio/speech"), CHAT[2]]);
    let Step::Forward(_) = run.body(r#"{"model":"gpt-4o","input":"Say it aloud."}"#) else { panic!() };
    let _ = run.answer("200", "audio/mpeg");
    let _ = run.exchange.response_chunk(b"\xff\xfb", true, || NOW);
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.source, record.usage.completion),
        (Outcome::Served, Source::Estimated, 0)
    );
    assert!(record.usage.prompt > 0);
}

#[test]
fn what_an_answer_reports_is_learnt_for_the_next_estimate() {
    let mut run = Run::new();
    let prompt = PROMPT.replace("hello", &"word ".repeat(100));
    let mut reserve = || {
        run.exchange = Exchange::new(gateway(|_| {}));
        let before = run.left();
        let _ = run.send(&prompt);
        let reserved = before - run.left();
        let _ = run.answer("200", "application/json");
        let usage = br#"{"usage":{"prompt_tokens":160,"completion_tokens":0}}"#;
        let _ = run.exchange.response_chunk(usage, true, || NOW);
        let _ = run.finish();
        // The cap is 100 of it.
        reserved - 100
    };
    let cold = reserve();
    assert!(cold.abs_diff(160) > 40, "{cold}");
    for _ in 0..20 {
        reserve();
    }
    let learnt = reserve();
    assert!(learnt.abs_diff(160) <= 3, "{learnt}");
}
