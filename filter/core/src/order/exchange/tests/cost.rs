//! What an answer costs, by its own word or by estimate.

use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const GOOD: &str = r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}"#;
const ZEROS: &str = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#;

/// How it ended, by whose word, prompt, completion, and why it is not what the answer reports.
type Charged = (&'static str, Source, u64, u64, Option<&'static str>);

const REPORTED: Source = Source::Reported;
const ESTIMATED: Source = Source::Estimated;

fn tell(run: &mut Run) -> Charged {
    let record = run.finish();
    assert_eq!(run.left(), BUDGET.saturating_sub(record.usage.total()));
    let Usage { prompt, completion, .. } = record.usage;
    (record.outcome.word(), record.source, prompt, completion, record.unread)
}

/// Sends a request, which is answered by this.
fn ask(
    edit: impl FnOnce(&mut Value),
    path: &str,
    body: &str,
    status: &str,
    kind: &str,
    pieces: &[&str],
) -> Charged {
    let mut run = Run::with(gateway(edit));
    let _ = run.head(&[CHAT[0], (":path", path), CHAT[2]]);
    let Step::Forward(forward) = run.body(body) else { panic!("{body}") };
    let _ = begin(&forward.flight, b"ca").or_else(|_| begin(&forward.flight, b"cb")).unwrap();
    let _ = run.answer(status, kind);
    for (at, piece) in pieces.iter().enumerate() {
        let _ = run.exchange.response_chunk(piece.as_bytes(), at + 1 == pieces.len(), || NOW);
    }
    tell(&mut run)
}

fn chat(usage: &str) -> Charged {
    let answer = format!(
        r#"{{"choices":[{{"message":{{"role":"assistant","content":"12345678"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    );
    ask(|_| {}, CHAT[1].1, PROMPT, "200", "application/json", &[&answer])
}

#[test]
fn what_is_sound_of_a_usage_is_charged_and_the_rest_is_told() {
    assert_eq!(chat(GOOD), ("served", REPORTED, 11, 7, None));
    assert_eq!(chat(ZEROS), ("served", ESTIMATED, 8, 2, Some("zero_usage")));
    assert_eq!(
        chat(r#"{"prompt_tokens":11,"completion_tokens":0}"#),
        ("served", ESTIMATED, 11, 2, Some("zero_usage"))
    );
    assert_eq!(
        chat(r#"{"prompt_tokens":11,"completion_tokens":"x"}"#),
        ("served", ESTIMATED, 11, 2, Some("zero_usage"))
    );
    let odd = r#"{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":-1}}"#;
    assert_eq!(chat(odd), ("served", REPORTED, 11, 7, Some("odd_usage")));
    assert_eq!(chat(r#"{"total_tokens":20}"#), ("served", ESTIMATED, 8, 12, Some("total_only")));
    assert_eq!(chat(r#"{"total_tokens":5}"#), ("served", ESTIMATED, 5, 2, Some("zero_usage")));
    assert_eq!(chat("null"), ("served", ESTIMATED, 8, 2, Some("no_usage")));
    assert_eq!(chat(r#"{"prompt_tokens":11,}"#), ("served", ESTIMATED, 8, 2, Some("unreadable_usage")));
}

#[test]
fn an_embedding_has_no_completion() {
    let embedding = |usage: &str| {
        let answer = format!(r#"{{"object":"list","data":[],"usage":{usage}}}"#);
        ask(
            |_| {},
            "/v1/embeddings",
            r#"{"model":"gpt-4o","input":"hello"}"#,
            "200",
            "application/json",
            &[&answer],
        )
    };
    assert_eq!(embedding(r#"{"total_tokens":8}"#), ("served", REPORTED, 8, 0, None));
    assert_eq!(embedding(ZEROS), ("served", ESTIMATED, 1, 0, Some("zero_usage")));
}

#[test]
fn no_usage_is_believed_beyond_what_the_request_could_cost() {
    let huge = r#"{"prompt_tokens":1e13,"completion_tokens":1e13}"#;
    // The body's bytes, and what servers add; the policy's cap.
    let body = PROMPT.len() as u64 + 4096;
    assert_eq!(chat(huge), ("served", ESTIMATED, body, 100, Some("usage_too_large")));
    let with = |body: &str| {
        let edit = |config: &mut Value| {
            config["clients"][0]["policy"].take();
            config["clients"][0].as_object_mut().unwrap().remove("policy");
        };
        let answer = format!(r#"{{"choices":[],"usage":{huge}}}"#);
        let charged = ask(edit, CHAT[1].1, body, "200", "application/json", &[&answer]);
        (charged.2, charged.3)
    };
    // An assumption is no cap, and what is not in the body is not bounded by it.
    let uncapped = r#"{"model":"gpt-4o","n":2,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#;
    assert_eq!(with(uncapped), (2 << 20, 2 * (128 << 10)));
    let capped = r#"{"model":"gpt-4o","n":2,"max_tokens":30}"#;
    assert_eq!(with(capped), (capped.len() as u64 + 4096, 60));
    let predicted = r#"{"model":"gpt-4o","max_tokens":30,"prediction":{}}"#;
    assert_eq!(with(predicted).1, 128 << 10);
    let searched = r#"{"model":"gpt-4o","max_tokens":30,"web_search_options":{}}"#;
    assert_eq!(with(searched).0, 2 << 20);
}

#[test]
fn of_a_stream_the_last_usage_that_counted_is_charged() {
    let stream = |usages: &[&str]| {
        let events: Vec<_> =
            usages.iter().map(|usage| format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n")).collect();
        let delta = std::str::from_utf8(DELTA).unwrap();
        let pieces: Vec<_> = [delta]
            .into_iter()
            .chain(events.iter().map(String::as_str))
            .chain(["data: [DONE]\n\n"])
            .collect();
        ask(|_| {}, CHAT[1].1, STREAM, "200", "text/event-stream", &pieces)
    };
    assert_eq!(stream(&[GOOD, ZEROS]), ("served", REPORTED, 11, 7, None));
    assert_eq!(stream(&[ZEROS, GOOD]), ("served", REPORTED, 11, 7, None));
    assert_eq!(stream(&[ZEROS]), ("served", ESTIMATED, 8, 2, Some("zero_usage")));
}

#[test]
fn an_error_under_200_costs_what_was_produced_before() {
    let json = |answer: &str| ask(|_| {}, CHAT[1].1, PROMPT, "200", "application/json", &[answer]);
    let stream = |pieces: &[&str]| ask(|_| {}, CHAT[1].1, STREAM, "200", "text/event-stream", pieces);
    let error = r#"{"error":{"message":"Provider returned error","code":429}}"#;
    let event = format!("data: {error}\n\n");
    let delta = std::str::from_utf8(DELTA).unwrap();
    assert_eq!(json(error), ("backend_error", REPORTED, 0, 0, None));
    assert_eq!(stream(&[&event, "data: [DONE]\n\n"]), ("backend_error", REPORTED, 0, 0, None));
    // It needs no empty line at the end.
    assert_eq!(stream(&[event.trim_end()]), ("backend_error", REPORTED, 0, 0, None));
    assert_eq!(stream(&[delta, &event]), ("broken", ESTIMATED, 8, 2, Some("no_usage")));
    let counted = std::str::from_utf8(COUNTED).unwrap();
    assert_eq!(stream(&[delta, counted, &event]), ("broken", REPORTED, 9, 20, None));
}

#[test]
fn an_event_that_is_named_an_error_is_no_answer() {
    let stream = |pieces: &[&str]| ask(|_| {}, CHAT[1].1, STREAM, "200", "text/event-stream", pieces);
    let delta = std::str::from_utf8(DELTA).unwrap();
    let long = "x".repeat(300 * 1024);
    for data in [r#"{"message":"overloaded"}"#, "overloaded", "", &long] {
        let event = format!("event: error\ndata: {data}\n\n");
        assert_eq!(stream(&[&event]), ("backend_error", REPORTED, 0, 0, None), "{data:.20}");
        assert_eq!(stream(&[delta, &event]), ("broken", ESTIMATED, 8, 2, Some("no_usage")), "{data:.20}");
    }
    let other = "event: errors\ndata: {\"message\":\"x\"}\n\n";
    assert_eq!(stream(&[delta, other]).0, "served");
}

#[test]
fn what_has_no_answer_costs_nothing() {
    for status in ["101", "204", "205", "302", "304"] {
        assert_eq!(
            ask(|_| {}, CHAT[1].1, PROMPT, status, "application/json", &[""]),
            ("served", REPORTED, 0, 0, None)
        );
        for (kind, body) in [
            ("application/json", r#"{"message":"moved"}"#),
            ("application/json", r#"{"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#),
            ("text/html", "<html>moved</html>"),
            ("text/plain", "moved"),
            ("text/event-stream", "data: [DONE]\n\n"),
        ] {
            let charged = ask(|_| {}, CHAT[1].1, PROMPT, status, kind, &[body]);
            assert_eq!(charged, ("served", REPORTED, 0, 0, None), "{status} {body}");
        }
    }
}

#[test]
fn an_answer_of_any_status_below_400_is_charged() {
    let delta = std::str::from_utf8(DELTA).unwrap();
    let counted = std::str::from_utf8(COUNTED).unwrap();
    let message = r#"{"choices":[{"message":{"role":"assistant","content":"12345678"}}]"#;
    for status in ["204", "205", "300", "302", "399"] {
        let json = |answer: &str| ask(|_| {}, CHAT[1].1, PROMPT, status, "application/json", &[answer]);
        let stream = |pieces: &[&str]| ask(|_| {}, CHAT[1].1, STREAM, status, "text/event-stream", pieces);
        assert_eq!(json(&format!(r#"{message},"usage":{GOOD}}}"#)), ("served", REPORTED, 11, 7, None));
        assert_eq!(json(&format!("{message}}}")), ("served", ESTIMATED, 8, 2, Some("no_usage")));
        assert_eq!(stream(&[delta, counted]), ("served", REPORTED, 9, 20, None));
        assert_eq!(stream(&[delta]), ("served", ESTIMATED, 8, 2, Some("no_usage")));
    }
}

#[test]
fn an_error_that_may_be_billed_costs_its_prompt() {
    let error = |status, code| {
        let body = format!(r#"{{"error":{{"message":"x","code":"{code}"}}}}"#);
        ask(|_| {}, CHAT[1].1, PROMPT, status, "application/json", &[&body])
    };
    assert_eq!(error("400", "context_length_exceeded"), ("input_too_long", ESTIMATED, 8, 0, None));
    assert_eq!(error("408", "Timeout"), ("backend_timeout", ESTIMATED, 8, 0, None));
    assert_eq!(error("400", "invalid_value"), ("backend_error", REPORTED, 0, 0, None));
}

#[test]
fn who_thinks_unseen_is_charged_what_was_reserved() {
    let of_family = |family: &'static str, body: &'static str, pieces: &[&str]| {
        let edit = |config: &mut Value| config["models"][0]["family"] = json!(family);
        ask(edit, CHAT[1].1, body, "200", "text/event-stream", pieces)
    };
    let delta = std::str::from_utf8(DELTA).unwrap();
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    assert_eq!(of_family("gpt-5", STREAM, &[role]).3, 100);
    assert_eq!(of_family("o-series", STREAM, &[role, delta]).3, 100);
    assert_eq!(of_family("gpt-4", STREAM, &[role, delta]).3, 2);
    // Who is told not to does not, and what failed is not finished.
    let none = r#"{"model":"gpt-4o","stream":true,"reasoning_effort":"none","messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(of_family("gpt-5", none, &[role, delta]).3, 2);
    assert_eq!(of_family("gpt-5", STREAM, &[role, delta, "data: {\"error\":{\"code\":500}}\n\n"]).3, 2);
    // A usage that was told is what it was.
    assert_eq!(of_family("gpt-5", STREAM, &[role, delta, std::str::from_utf8(COUNTED).unwrap()]).3, 20);
}

#[test]
fn an_answer_in_one_piece_is_charged_though_the_client_left() {
    let head = r#"{"choices":[{"message":{"role":"assistant","content":"12345678"#;
    let whole = format!(r#"{head}"}}}}],"usage":{GOOD}}}"#);
    for (kind, answer, interruption, expected) in [
        ("application/json", head, Interruption::Client, ("client_gone", ESTIMATED, 8, 100)),
        ("application/json", head, Interruption::Other, ("broken", ESTIMATED, 8, 2)),
        ("application/json", &whole, Interruption::Client, ("client_gone", REPORTED, 11, 7)),
        (
            "text/event-stream",
            "data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\n",
            Interruption::Client,
            ("client_gone", ESTIMATED, 8, 2),
        ),
    ] {
        let mut run = Run::with(gateway(|_| {}));
        let forward = run.send(PROMPT);
        let _ = begin(&forward.flight, b"ca").unwrap();
        let _ = run.answer("200", kind);
        let _ = run.exchange.response_chunk(answer.as_bytes(), false, || NOW);
        let finished = run.exchange.finish(Moment::new(&run.store, NOW), || interruption);
        let Record { outcome, source, usage, .. } = finished.record;
        assert_eq!((outcome.word(), source, usage.prompt, usage.completion), expected, "{answer}");
    }
}

#[test]
fn a_transcription_in_plain_text_costs_its_length() {
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nsound\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n--b--\r\n";
    let transcribe = |kind: Option<&str>, text: &str| {
        let mut run = Run::with(gateway(|_| {}));
        let path = (":path", "/v1/audio/transcriptions");
        let _ = run.head(&[CHAT[0], path, CHAT[2], ("content-type", "multipart/form-data; boundary=b")]);
        let Step::Forward(forward) = run.body(form) else { panic!() };
        let _ = begin(&forward.flight, b"cb").unwrap();
        let head: Vec<_> =
            [(":status", "200")].into_iter().chain(kind.map(|kind| ("content-type", kind))).collect();
        let _ = run.exchange.response_head(&headers(&head), false, || Origin::Backend);
        let _ = run.exchange.response_chunk(text.as_bytes(), true, || NOW);
        tell(&mut run).3
    };
    assert_eq!(transcribe(Some("text/plain; charset=utf-8"), "hello there\n"), 3);
    // No stream was asked for.
    assert_eq!(transcribe(None, "hello there\n"), 3);
    assert_eq!(transcribe(Some("text/vtt"), "WEBVTT\n\nhi\n\n"), 3);
    assert_eq!(
        transcribe(
            Some("text/plain"),
            r#"{"text":"hello there","usage":{"input_tokens":1,"output_tokens":9}}"#
        ),
        9
    );
    // An hour's worth is more than was reserved.
    assert_eq!(transcribe(Some("text/plain"), &"word ".repeat(8_000)), 10_000);
}
