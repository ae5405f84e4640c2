mod messages;

use super::*;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

struct Read {
    usage: Option<Usage>,
    out: Vec<u8>,
    produced_bytes: Option<u64>,
}

fn read(format: Format, event: UsageEvent, chunks: &[&[u8]]) -> Read {
    let mut reader = Reader::new(format, Operation::ChatCompletions, event);
    let mut out = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        match reader.push(chunk, at + 1 == chunks.len()) {
            Output::Same => out.extend_from_slice(chunk),
            Output::Replaced(bytes) => out.extend_from_slice(&bytes),
        }
    }
    Read { usage: reader.usage(), out, produced_bytes: reader.produced_bytes() }
}

fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Option<Usage> {
    Some(Usage { prompt, cached, completion, reasoning, ..Usage::default() })
}

#[track_caller]
fn check_json(body: &str, expected: Option<Usage>) {
    for cut in 0..=body.len() {
        let (head, tail) = body.as_bytes().split_at(cut);
        let found = read(Format::Json, UsageEvent::Show, &[head, tail]);
        assert_eq!(found.usage, expected, "cut at {cut}: {body}");
        assert_eq!(found.out, body.as_bytes());
    }
}

#[test]
fn the_usage_of_a_json_answer_is_read_at_the_top_only() {
    check_json(
        r#"{"id":"x","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
        usage(3, 0, 4, 0),
    );
    check_json(
        r#"{"usage" : {"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":5}} , "x":1}"#,
        usage(3, 2, 9, 5),
    );
    check_json(
        r#"{"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":1},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":2}}}"#,
        usage(3, 1, 4, 2),
    );
    check_json(r#"{"usage":{"prompt_tokens":8,"total_tokens":8}}"#, usage(8, 0, 0, 0));
    check_json(r#"{"a":{"usage":{"prompt_tokens":3}},"b":[{"usage":{"prompt_tokens":3}}]}"#, None);
    check_json(r#"{"a":"\"usage\":{\"prompt_tokens\":3}","b":"usage","c":{"prompt_tokens":4}}"#, None);
    check_json(r#"{"usage":null,"a":{"prompt_tokens":4}}"#, None);
    check_json(r#"{"usage":"x","a":{"prompt_tokens":4}}"#, None);
    check_json(
        r#"{"usages":{"prompt_tokens":4},"usag":{"prompt_tokens":4},"\\usage":{"prompt_tokens":4}}"#,
        None,
    );
    check_json(r#"{"usage":{"prompt_tokens":"4"}}"#, usage(4, 0, 0, 0));
    check_json(r#"{"usage":{"prompt_tokens":4},"usage":{"prompt_tokens":0}}"#, usage(4, 0, 0, 0));
    check_json(r#"{"x_groq":{"id":"r","usage":{"prompt_tokens":4}}}"#, usage(4, 0, 0, 0));
    check_json(r#"{"x":{"x_groq":{"usage":{"prompt_tokens":4}}}}"#, None);
    check_json(r#"{"usage":{"prompt_tokens":4}}{"usage":{"prompt_tokens":5}}"#, usage(4, 0, 0, 0));
    check_json(r#"[{"usage":{"prompt_tokens":4}}]"#, None);
    check_json(r#"not json at all"#, None);
}

const ROLE: &str =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n";
const DELTA: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\\\"é\"}}],\"usage\":null}\n\n";
const FIRST: &str = "data: {\"choices\":[],\"prompt_filter_results\":[{}],\"usage\":null}\n\n";
const USAGE_EVENT: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn exactly_the_usage_event_is_hidden() {
    let stream = [FIRST, ROLE, DELTA, DELTA, USAGE_EVENT, DONE].concat();
    let without = [FIRST, ROLE, DELTA, DELTA, DONE].concat();
    for cut in 0..=stream.len() {
        let (head, tail) = stream.as_bytes().split_at(cut);
        let hidden = read(Format::Events, UsageEvent::Hide, &[head, tail]);
        assert_eq!(hidden.usage, usage(5, 0, 6, 0));
        assert_eq!(String::from_utf8(hidden.out).unwrap(), without, "cut at {cut}");
        assert_eq!(hidden.produced_bytes, Some(10));
        let shown = read(Format::Events, UsageEvent::Show, &[head, tail]);
        assert_eq!(shown.usage, usage(5, 0, 6, 0));
        assert_eq!(String::from_utf8(shown.out).unwrap(), stream);
    }
}

#[track_caller]
fn check_event(event: &str, expected: Option<Usage>, hidden: bool) {
    let found = read(Format::Events, UsageEvent::Hide, &[event.as_bytes()]);
    assert_eq!((found.usage, found.out.is_empty()), (expected, hidden), "{event}");
}

#[test]
fn only_an_event_without_choices_is_the_usage_event() {
    let counted = "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}";
    check_event(&format!("data: {{\"choices\":[],{counted}}}\n\n"), usage(1, 0, 2, 0), true);
    check_event(&format!("data: {{\"choices\":[{{}}],{counted}}}\n\n"), usage(1, 0, 2, 0), false);
    check_event(&format!("data: {{{counted}}}\n\n"), usage(1, 0, 2, 0), true);
    check_event(&format!("data: {{\"choices\":null,{counted}}}\n\n"), usage(1, 0, 2, 0), true);
    check_event("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":0}}\n\n", usage(0, 0, 0, 0), true);
    check_event(
        &format!("data: {{\"choices\":[{{}}],\"x_groq\":{{{counted}}}}}\n\n"),
        usage(1, 0, 2, 0),
        false,
    );
    check_event(&format!("data: {{\"choices\":[{{{counted}}}]}}\n\n"), usage(1, 0, 2, 0), false);
    check_event(&format!("data: {{{counted},\"error\":{{\"code\":500}}}}\n\n"), usage(1, 0, 2, 0), false);
    check_event("data: {\"choices\":[],\"usage\":null}\n\n", None, false);
    check_event(
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
        usage(1, 0, 2, 0),
        false,
    );
    check_event("data: {\"response\":{\"usage\":null}}\n\n", None, false);
    check_event("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\"}}]}\n\n", None, false);
    check_event(&format!("data: broken {counted}\n\n"), None, false);
}

#[test]
fn a_usage_that_comes_with_choices_is_cut_out_of_its_event() {
    let counted = "\"usage\" : {\"prompt_tokens\":1,\"completion_tokens\":2}";
    let cases = [
        (format!("data: {{\"choices\":[{{}}],{counted}}}\n\n"), "data: {\"choices\":[{}]}\n\n"),
        (format!("data: {{{counted} , \"choices\":[{{}}]}}\n\n"), "data: { \"choices\":[{}]}\n\n"),
        (
            format!("data: {{\"a\":1, {counted}, \"choices\":[{{}}]}}\r\n\r\n"),
            "data: {\"a\":1, \"choices\":[{}]}\r\n\r\n",
        ),
    ];
    for (event, expected) in cases {
        let hidden = read(Format::Events, UsageEvent::Hide, &[event.as_bytes()]);
        assert_eq!(hidden.usage, usage(1, 0, 2, 0));
        assert_eq!(String::from_utf8(hidden.out).unwrap(), expected);
        let shown = read(Format::Events, UsageEvent::Show, &[event.as_bytes()]);
        assert_eq!(String::from_utf8(shown.out).unwrap(), event);
    }
}

#[test]
fn the_model_that_answered_is_read() {
    let model = |format, body: &str| {
        let mut reader = Reader::new(format, Operation::ChatCompletions, UsageEvent::Show);
        for byte in body.as_bytes() {
            let _ = reader.push(&[*byte], false);
        }
        reader.model().map(str::to_owned)
    };
    let json = r#"{"x":{"model":"no"},"model":"gpt-4o-2024-08-06","usage":{"prompt_tokens":1}}"#;
    assert_eq!(model(Format::Json, json).as_deref(), Some("gpt-4o-2024-08-06"));
    assert_eq!(model(Format::Json, r#"{"model":7}"#), None);
    let events = "data: {\"model\":\"\"}\n\ndata: {\"model\": \"gpt-4o\"}\n\ndata: {\"model\":\"x\"}\n\n";
    assert_eq!(model(Format::Events, events).as_deref(), Some("gpt-4o"));
}

#[test]
fn the_text_of_a_json_answer_is_measured_wherever_it_stands() {
    let bytes = |operation, body: &str| {
        let mut reader = Reader::new(Format::Json, operation, UsageEvent::Show);
        for byte in body.as_bytes() {
            let _ = reader.push(&[*byte], false);
        }
        reader.produced_bytes()
    };
    use Operation::*;
    let chat = r#"{"choices":[{"message":{"role":"assistant","content":"ab\"c","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}},{"message":{"content":null}},{"message":{"content":"d"}}],"model":"content","usage":{"prompt_tokens":1,"content":"no"}}"#;
    assert_eq!(bytes(ChatCompletions, chat), Some(8));
    assert_eq!(bytes(Completions, r#"{"choices":[{"text":"abc"},{"text": "d"}],"x":"text"}"#), Some(4));
    let response =
        r#"{"output":[{"content":[{"type":"output_text","text":"abc"}]}],"text":{"format":{"type":"text"}}}"#;
    assert_eq!(bytes(Responses, response), Some(3));
    // What is no text cannot be measured, which is not the same as none.
    assert_eq!(bytes(ImageGenerations, r#"{"data":[{"b64_json":"abc"}]}"#), None);
    assert_eq!(bytes(Embeddings, r#"{"content":"abc"}"#), None);
}

#[test]
fn the_deltas_of_every_choice_and_every_kind_are_counted() {
    let bytes = |event: &str| read(Format::Events, UsageEvent::Show, &[event.as_bytes()]).produced_bytes;
    assert_eq!(
        bytes("data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}},{\"delta\":{\"content\":\"c\"}}]}\n\n"),
        Some(3)
    );
    assert_eq!(bytes("data: {\"function\":{\"arguments\":\"{\\\"a\\\"\"}}\n\n"), Some(6));
    assert_eq!(bytes("data: {\"delta\":{\"content\":null,\"reasoning_content\":\"xyz\"}}\n\n"), Some(3));
}

#[test]
fn audio_tokens_and_those_of_images_and_transcriptions_are_read() {
    let json = |usage: &str| {
        read(Format::Json, UsageEvent::Show, &[format!("{{\"usage\":{usage}}}").as_bytes()]).usage.unwrap()
    };
    let chat = r#"{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"audio_tokens":7},"completion_tokens_details":{"audio_tokens":6}}"#;
    let expected =
        Usage { prompt: 9, completion: 8, prompt_audio: 7, completion_audio: 6, ..Usage::default() };
    assert_eq!(json(chat), expected);
    let transcript = r#"{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":5,"total_tokens":19}"#;
    let expected = Usage { prompt: 14, completion: 5, prompt_audio: 14, ..Usage::default() };
    assert_eq!(json(transcript), expected);
    let image = r#"{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":99,"output_tokens_details":{"image_tokens":90,"text_tokens":9}}"#;
    let expected =
        Usage { prompt: 50, prompt_image: 40, completion: 99, completion_image: 90, ..Usage::default() };
    assert_eq!(json(image), expected);
    let written = r#"{"prompt_tokens":50,"prompt_tokens_details":{"cached_tokens":7,"cache_write_tokens":40},"completion_tokens":1}"#;
    let expected = Usage { prompt: 50, cached: 7, cache_write: 40, completion: 1, ..Usage::default() };
    assert_eq!(json(written), expected);
}

#[test]
fn a_content_filters_refusal_is_told_from_other_errors() {
    let is_filter = |body: &str| {
        let mut reader = Reader::of_error(400);
        for byte in body.as_bytes() {
            assert_eq!(reader.push(&[*byte], false), Output::Same);
        }
        reader.billed_error() == Some(BilledError::ContentFilter)
    };
    assert!(is_filter(
        r#"{"error":{"message":"x","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#
    ));
    assert!(!is_filter(r#"{"error":{"message":"content_filter","code":"429"}}"#));
    assert!(!is_filter(r#"{"error":{"code":429}}"#));
    assert!(!is_filter(r#"{"error":"content_filter"}"#));
    assert!(!is_filter(&format!(r#"{{"x":"{}","error":{{"code":"content_filter"}}}}"#, "a".repeat(20_000))));
}

#[test]
fn errors_that_may_be_billed_are_a_closed_list() {
    let billed = |status, code: &str| {
        let mut reader = Reader::of_error(status);
        let _ = reader.push(format!(r#"{{"error":{{"message":"x","code":"{code}"}}}}"#).as_bytes(), true);
        reader.billed_error()
    };
    assert_eq!(billed(400, "context_length_exceeded"), Some(BilledError::InputTooLong));
    assert_eq!(billed(400, "string_above_max_length"), Some(BilledError::InputTooLong));
    assert_eq!(billed(400, "invalid_value"), None);
    assert_eq!(billed(408, "Timeout"), Some(BilledError::Timeout));
    for status in [401, 403, 404, 413, 422, 429, 500, 503] {
        assert_eq!(billed(status, "context_length_exceeded"), None);
    }
}

#[test]
fn the_format_is_told_by_the_headers() {
    let of =
        |kind: &str, encoding: Option<&str>| Format::of(Some(kind.as_bytes()), encoding.map(str::as_bytes));
    assert_eq!(of("application/json; charset=utf-8", None), Format::Json);
    assert_eq!(of("Text/Event-Stream", Some("identity")), Format::Events);
    assert_eq!(of("text/event-stream", Some(" ")), Format::Events);
    assert_eq!(of("application/json", Some("gzip")), Format::Compressed);
    assert_eq!(of("audio/mpeg", None), Format::Opaque);
    assert_eq!(of("text/html", None), Format::Opaque);
    assert_eq!(of("application/vnd.api+json; x=y", None), Format::Json);
    assert_eq!(of("text/plain; charset=utf-8", None), Format::Text);
    assert_eq!(of("text/vtt", None), Format::Text);
    assert_eq!(Format::of(None, None), Format::Text);
    assert_eq!(Format::of(None, Some(b"gzip")), Format::Compressed);
}

/// A reader of what came in pieces of so many bytes.
fn pieces(format: Format, operation: Operation, answer: &str, bytes: usize) -> Reader {
    let mut reader = Reader::new(format, operation, UsageEvent::Show);
    for chunk in answer.as_bytes().chunks(bytes) {
        assert_eq!(reader.push(chunk, false), Output::Same);
    }
    let _ = reader.push(b"", true);
    reader
}

#[test]
fn an_answer_without_a_type_is_the_stream_that_was_asked_for() {
    use Operation::{ChatCompletions, Transcriptions};
    for (kind, operation, is_stream, expected) in [
        (None, ChatCompletions, true, Format::Events),
        (Some(" "), ChatCompletions, true, Format::Events),
        (None, ChatCompletions, false, Format::Text),
        (Some("text/plain"), ChatCompletions, true, Format::Text),
        (Some("application/json"), ChatCompletions, true, Format::Json),
        (None, Transcriptions, true, Format::Text),
    ] {
        let found = Format::of_answer(kind.map(str::as_bytes), None, operation, is_stream);
        assert_eq!(found, expected, "{kind:?} {operation:?} {is_stream}");
    }
    assert_eq!(Format::of_answer(None, Some(b"gzip"), ChatCompletions, true), Format::Compressed);
}

#[test]
fn an_answer_without_its_type_is_told_by_its_first_byte() {
    use Operation::*;
    let told = |operation, answer: &str| {
        [1, 3, 1000].map(|bytes| {
            let reader = pieces(Format::Text, operation, answer, bytes);
            (reader.usage().map(Usage::total), reader.produced_bytes(), reader.unread())
        })
    };
    let json = " \r\n{\"choices\":[{\"message\":{\"content\":\"abc\"}}],\"usage\":{\"prompt_tokens\":4}}";
    assert_eq!(told(ChatCompletions, json), [(Some(4), Some(3), None); 3]);
    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"abc\"}}]}\n\ndata: {\"usage\":{\"prompt_tokens\":4}}\n\n";
    assert_eq!(told(ChatCompletions, events), [(Some(4), Some(3), None); 3]);
    assert_eq!(told(ChatCompletions, "<html>"), [(None, None, Some("not_json")); 3]);
    assert_eq!(told(Transcriptions, "hello there\n"), [(None, Some(12), None); 3]);
    assert_eq!(told(Translations, "WEBVTT\n\nhi"), [(None, Some(10), None); 3]);
    assert_eq!(told(Transcriptions, ""), [(None, Some(0), None); 3]);
    // Segments tell the text a second time.
    assert_eq!(
        told(Transcriptions, r#"{"text":"abc","segments":[{"text":"abc"}]}"#),
        [(None, Some(3), None); 3]
    );
}

#[test]
fn an_answer_that_is_not_what_its_type_says_is_read_as_it_is() {
    let told = |format, answer: &str| {
        [1, 2, 1000].map(|bytes| {
            let reader = pieces(format, Operation::ChatCompletions, answer, bytes);
            (reader.usage().map(Usage::total), reader.produced_bytes(), reader.unread())
        })
    };
    let json = "{\"choices\":[{\"message\":{\"content\":\"abc\"}}],\"usage\":{\"prompt_tokens\":4}}";
    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"abc\"}}]}\n\ndata: {\"usage\":{\"prompt_tokens\":4}}\n\n";
    for format in [Format::Json, Format::Events, Format::Text] {
        for start in ["", "\u{feff}", "\r\n \n"] {
            if !(format == Format::Events && start == "\u{feff}") {
                assert_eq!(
                    told(format, &format!("{start}{json}")),
                    [(Some(4), Some(3), None); 3],
                    "{format:?}"
                );
            }
            assert_eq!(
                told(format, &format!("{start}{events}")),
                [(Some(4), Some(3), None); 3],
                "{format:?}"
            );
        }
        // Compressed without a word, in UTF-16, an array: what it cost cannot be told.
        for answer in ["\u{1f}\u{8b}", "\0d\0a", "[{}]"] {
            assert_eq!(told(format, answer), [(None, None, Some("not_json")); 3], "{format:?} {answer:?}");
        }
        assert_eq!(told(format, " \n"), [(None, Some(0), None); 3]);
    }
    assert_eq!(told(Format::Events, "retry: 3\n\ndata: {\"usage\":{\"prompt_tokens\":4}}\n\n")[0].0, Some(4));
}

#[test]
fn what_was_thought_aloud_is_text_and_counts_once() {
    use Operation::*;
    #[track_caller]
    fn check(operation: Operation, data: &str, bytes: u64, plain: Option<u64>) {
        let event = format!("data: {data}\n\n");
        let reader = pieces(Format::Events, operation, &event, 7);
        assert_eq!((reader.produced_bytes(), reader.plain_bytes()), (Some(bytes), plain), "{data}");
        // The same in an event that is beyond the limit.
        let long = format!(": {}\n{event}", "x".repeat(crate::sse::EVENT_BYTES_MAX));
        let reader = pieces(Format::Events, ChatCompletions, &long, 60_000);
        if operation == ChatCompletions {
            assert_eq!((reader.produced_bytes(), reader.plain_bytes()), (Some(bytes), plain), "{data}");
        }
    }
    let chat = |delta: &str| format!(r#"{{"model":"m","choices":[{{"index":0,"delta":{delta}}}]}}"#);
    check(ChatCompletions, &chat(r#"{"role":"assistant","content":"ab"}"#), 2, Some(2));
    check(ChatCompletions, &chat(r#"{"reasoning":"abc"}"#), 3, None);
    check(ChatCompletions, &chat(r#"{"reasoning_content":"abc","content":null}"#), 3, None);
    let both =
        r#"{"content":"x","reasoning":"abc","reasoning_details":[{"type":"reasoning.text","text":"abc"}]}"#;
    check(ChatCompletions, &chat(both), 4, None);
    let parts = r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"abc"}]},{"type":"text","text":"de"}]}"#;
    check(ChatCompletions, &chat(parts), 5, None);
    check(ChatCompletions, &chat(r#"{"refusal":"no"}"#), 2, Some(2));
    check(ChatCompletions, &chat(r#"{"function_call":{"name":"f","arguments":"{}"}}"#), 2, Some(2));
    check(ChatCompletions, &chat(r#"{"audio":{"transcript":"abc","data":"AAAA"}}"#), 3, Some(3));
    check(Responses, r#"{"type":"response.output_text.delta","delta":"ab"}"#, 2, Some(2));
    check(Responses, r#"{"type":"response.reasoning_summary_text.delta","delta":"ab"}"#, 2, None);
    check(Responses, r#"{"type":"response.refusal.delta","delta":"ab"}"#, 2, Some(2));
    check(Responses, r#"{"type":"response.audio.delta","delta":"AAAA"}"#, 0, Some(0));
    check(Completions, r#"{"choices":[{"text":"ab"},{"text":"c"}]}"#, 3, Some(3));
}

#[track_caller]
fn check_progress(format: Format, operation: Operation, body: &str, expected: (&str, &str)) {
    for cut in 0..=body.len() {
        let (head, tail) = body.as_bytes().split_at(cut);
        let mut reader = Reader::new(format, operation, UsageEvent::Show);
        let _ = reader.push(head, false);
        let _ = reader.push(tail, true);
        let found = (reader.id().unwrap_or_default(), reader.status().unwrap_or_default());
        assert_eq!(found, expected, "cut at {cut}: {body}");
    }
}

#[test]
fn what_an_answer_is_called_and_how_far_it_is_are_read() {
    use Operation::{Other, Responses};
    let json = r#"{"output":[{"id":"msg_1","status":"completed"}],"id":"resp_1","status":"queued","usage":null,"error":{"id":"x"}}"#;
    check_progress(Format::Json, Responses, json, ("resp_1", "queued"));
    check_progress(Format::Json, Other, r#"{"id":7,"status":null}"#, ("", ""));
    let created = "data: {\"response\":{\"id\":\"resp_1\",\"status\":\"queued\"}}\n\n";
    let item = "data: {\"item\":{\"id\":\"msg_1\",\"status\":\"completed\"},\"id\":\"x\"}\n\n";
    check_progress(Format::Events, Responses, &[created, item].concat(), ("resp_1", "queued"));
    let failed = "data: {\"response\":{\"id\":\"resp_1\",\"status\":\"failed\",\"usage\":null}}\n\n";
    check_progress(Format::Events, Responses, &[created, item, failed].concat(), ("resp_1", "failed"));
    let thread = "data: {\"id\":\"thread_1\",\"object\":\"thread\"}\n\n";
    let run = "data: {\"id\":\"run_1\",\"object\":\"thread.run\",\"status\":\"in_progress\"}\n\n";
    let step = "data: {\"id\":\"step_1\",\"object\":\"thread.run.step\",\"status\":\"completed\",\"usage\":{\"prompt_tokens\":1}}\n\n";
    check_progress(Format::Events, Other, &[thread, run, step].concat(), ("run_1", "in_progress"));
    assert_eq!(read(Format::Events, UsageEvent::Show, &[step.as_bytes()]).usage, None);
}

#[test]
fn an_answer_says_what_became_of_it_and_who_served_it() {
    let said = |reader: &Reader| {
        [reader.id(), reader.object(), reader.status(), reader.service_tier(), reader.model()]
            .map(|word| word.unwrap_or("-").to_owned())
    };
    let response = r#"{"id":"resp_1","object":"response","status":"queued","service_tier":"auto","model":"m","x":{"id":"no","status":"no"},"usage":null}"#;
    let json = pieces(Format::Json, Operation::Responses, response, 3);
    assert_eq!(said(&json), ["resp_1", "response", "queued", "auto", "m"]);
    let created = format!("data: {{\"type\":\"response.created\",\"response\":{response}}}\n\n");
    let deltas =
        "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg\",\"delta\":\"x\"}\n\n".repeat(9);
    let end = response.replace("queued", "completed").replace("auto", "default");
    let completed = format!("data: {{\"type\":\"response.completed\",\"response\":{end}}}\n\n");
    let events = pieces(Format::Events, Operation::Responses, &[created, deltas, completed].concat(), 50);
    assert_eq!(said(&events), ["resp_1", "response", "completed", "default", "m"]);
    let first = "data: {\"id\":\"\",\"model\":\"\",\"choices\":[]}\n\n";
    let chunk = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"service_tier\":\"flex\",\"choices\":[{\"delta\":{}}]}\n\n";
    let chat = pieces(Format::Events, Operation::ChatCompletions, &[first, chunk, chunk].concat(), 50);
    assert_eq!(said(&chat), ["c", "chat.completion.chunk", "-", "flex", "m"]);
    let long = format!(r#"{{"id":"{}","status":"x"}}"#, "x".repeat(ID_BYTES_MAX + 1));
    assert_eq!(said(&pieces(Format::Json, Operation::Other, &long, 50)), ["-", "-", "x", "-", "-"]);
}

#[test]
fn a_backend_that_says_that_it_failed_is_heard() {
    let failed = |format, operation, answer: &str| {
        [1, 1000].map(|bytes| pieces(format, operation, answer, bytes).has_failed())
    };
    use Operation::*;
    let error = r#"{"error":{"message":"Provider returned error","code":429}}"#;
    assert_eq!(failed(Format::Json, ChatCompletions, error), [true; 2]);
    assert_eq!(failed(Format::Text, ChatCompletions, error), [true; 2]);
    assert_eq!(failed(Format::Json, ChatCompletions, r#"{"object":"error","message":"x"}"#), [true; 2]);
    assert_eq!(failed(Format::Json, ChatCompletions, r#"{"error":null,"choices":[{}]}"#), [false; 2]);
    assert_eq!(failed(Format::Json, Responses, r#"{"object":"response","error":{"code":"x"}}"#), [false; 2]);
    let event = format!("data: {error}\n\ndata: [DONE]\n\n");
    assert_eq!(failed(Format::Events, ChatCompletions, &event), [true; 2]);
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\"\"}}]}\n\n".repeat(9);
    assert_eq!(failed(Format::Events, ChatCompletions, &text), [false; 2]);
    assert_eq!(failed(Format::Events, ChatCompletions, &(text + &event)), [true; 2]);
    let responses =
        "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\"}\n\n";
    assert_eq!(failed(Format::Events, Responses, responses), [true; 2]);
    let of_response = "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\"},\"usage\":null}}\n\n";
    assert_eq!(failed(Format::Events, Responses, of_response), [true; 2]);
}

#[test]
fn usage_in_an_event_of_any_length_is_read_however_it_is_cut() {
    let image = "A".repeat(400_000);
    let event = format!(
        "event: response.completed\r\ndata: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"resp_1\",\"output\":[{{\"result\":\"{image}\"}}],\"usage\":{{\"input_tokens\":50,\"output_tokens\":1500}}}}}}"
    );
    for (bytes, end) in
        [(1000, "\r\n\r\n"), (16_000, "\r\n\r\n"), (16_384, ""), (500_000, "\n\n"), (500_000, "")]
    {
        let reader = pieces(Format::Events, Operation::Responses, &format!("{event}{end}"), bytes);
        assert_eq!(reader.usage(), usage(50, 0, 1500, 0), "{bytes}");
        assert_eq!((reader.id(), reader.unread()), (Some("resp_1"), None));
    }
    // Nothing of an object that is too long is taken for a count, and that is said.
    let long = format!(r#"{{"usage":{{"prompt_tokens":1,"x":"{}"}}}}"#, "x".repeat(USAGE_BYTES_MAX));
    let reader = pieces(Format::Json, Operation::ChatCompletions, &long, 1000);
    assert_eq!((reader.usage(), reader.unread()), (None, Some("unreadable_usage")));
}

#[test]
fn a_keep_alive_passes_at_once_while_usage_is_looked_for() {
    let mut reader = Reader::new(Format::Events, Operation::ChatCompletions, UsageEvent::Hide);
    let mut push = |chunk: &str| match reader.push(chunk.as_bytes(), false) {
        Output::Same => chunk.to_owned(),
        Output::Replaced(bytes) => String::from_utf8(bytes).unwrap(),
    };
    assert_eq!(push(": ping\n"), ": ping\n");
    assert_eq!(push("\n: OPENROUTER PROC"), "\n: OPENROUTER PROC");
    assert_eq!(push("ESSING\n\n"), "ESSING\n\n");
    // The last line of a stream needs no empty line behind it.
    assert_eq!(push("data: {\"choices\":[{\"delta\":{}}]}\n"), "data: {\"choices\":[{\"delta\":{}}]}\n");
    assert_eq!(push("\ndata: [DONE]\n"), "\ndata: [DONE]\n");
    assert_eq!(push("\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":4}}\n"), "\n");
    assert_eq!(reader.push(b"", true), Output::Replaced(Vec::new()));
    assert_eq!(reader.usage(), usage(4, 0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The naive model: read the whole body with serde_json.
    #[test]
    fn the_scanner_agrees_with_a_whole_parse(
        text in "[\\PC\"\\\\{}\\[\\],:]{0,20}", name in "usage|usag|us\"age|x", nested in any::<bool>(),
        prompt in 0..1000u64, cut in any::<prop::sample::Index>(),
    ) {
        let inner = serde_json::json!({ "prompt_tokens": prompt, "note": text });
        let value = if nested { serde_json::json!([inner]) } else { inner };
        let body = serde_json::json!({ "a": [text, { "usage": { "prompt_tokens": 0 } }], name.clone(): value }).to_string();
        let expected = (name == "usage" && !nested).then_some(Usage { prompt, ..Usage::default() });
        let (head, tail) = body.as_bytes().split_at(cut.index(body.len()));
        prop_assert_eq!(read(Format::Json, UsageEvent::Show, &[head, tail]).usage, expected);
    }

    /// Whatever the line ends, the comments, the cuts: the client's bytes are the backend's less the one event.
    #[test]
    fn the_client_gets_every_byte_but_the_usage_event(
        kinds in prop::collection::vec(0..8usize, 0..12), at in any::<prop::sample::Index>(),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]), bom in any::<bool>(), split in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let event = |lines: &[&str]| lines.iter().map(|line| format!("{line}{line_end}")).collect::<String>() + line_end;
        let others = [
            event(&["data: {\"choices\":[],\"prompt_filter_results\":[{}],\"usage\":null}"]),
            event(&["data: {\"choices\":[{\"delta\":{\"content\":\"é🦀\"}}],\"usage\":null}"]),
            event(&[": a comment", "data: {\"choices\":[{}],", "data: \"usage\":null}"]),
            event(&["event: ping"]),
            event(&["data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\"}}]}"]),
            event(&["id: 7", "data:[DONE]"]),
            event(&["data: {\"error\":{\"message\":\"\\\"usage\\\":{\"}}"]),
            event(&["data: {\"choices\":[{\"usage\":{\"prompt_tokens\":3}}],\"x_groq\":{\"usage\":{\"prompt_tokens\":5}}}"]),
        ];
        let counted = if split {
            event(&["data: {\"choices\":[],", "data: \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}"])
        } else {
            event(&["data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}"])
        };
        let mut events: Vec<_> = kinds.iter().map(|kind| others[*kind].clone()).collect();
        let start = if bom { "\u{feff}" } else { "" };
        let without = if events.is_empty() { String::new() } else { start.to_owned() + &events.concat() };
        // A byte order mark belongs to the first event, and the usage event is never first in a stream that has others.
        let place = if events.is_empty() { 0 } else { 1 + at.index(events.len()) };
        events.insert(place, counted);
        let stream = start.to_owned() + &events.concat();
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
        let hidden = read(Format::Events, UsageEvent::Hide, &chunks);
        prop_assert_eq!(hidden.usage, usage(5, 0, 6, 0));
        prop_assert_eq!(String::from_utf8(hidden.out).unwrap(), without);
        let shown = read(Format::Events, UsageEvent::Show, &chunks);
        prop_assert_eq!(String::from_utf8(shown.out).unwrap(), stream);
    }

    #[test]
    fn no_bytes_whatever_trouble_the_reader(
        words in prop::collection::vec(prop::sample::select(vec![
            "data: ", "\n", "\r\n", "\n\n", ": c", "{", "}", "[", "]", "\"usage\"", ":", ",", "\"choices\"", "\"delta\"",
            "\"content\"", "\"a\\\"\"", "\"error\"", "\"prompt_tokens\"", "7", "-1", "null", "\"", "\\", "é", "x_groq",
            "\"response\"",
        ]), 0..40),
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let answer = [words.concat().as_bytes(), &bytes].concat();
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).collect();
        places.extend([0, answer.len()]);
        places.sort_unstable();
        let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &answer[pair[0]..pair[1]]).collect();
        for format in [Format::Json, Format::Events, Format::Text] {
            let (whole, cut) = (read(format, UsageEvent::Show, &[&answer]), read(format, UsageEvent::Show, &chunks));
            prop_assert_eq!(&whole.out, &answer);
            prop_assert_eq!(&cut.out, &answer);
            // Where CR and LF are cut apart the LF counts to the event after, which may then be one of no account.
            prop_assert_eq!((whole.usage, whole.produced_bytes), (cut.usage, cut.produced_bytes));
        }
        let (whole, cut) = (read(Format::Events, UsageEvent::Hide, &[&answer]), read(Format::Events, UsageEvent::Hide, &chunks));
        prop_assert_eq!(String::from_utf8_lossy(&whole.out), String::from_utf8_lossy(&cut.out));
    }
}
