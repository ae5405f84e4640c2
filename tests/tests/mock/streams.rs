//! Streams: every byte of them, and how the bytes come.

use std::io::Read as _;
use std::num::NonZeroUsize;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tollgate_tests::mock::{Gzip, Mock, Outcome, Settings, Usage, stream_events};

use crate::{AZURE_CHAT, CHAT, COMPLETIONS, RESPONSES, chat, post, read_events, send, start, tempt, with};

/// A stream as text, without the ids, which nobody can read.
async fn stream(mock: &Mock, path: &str, body: &Value) -> String {
    let text = post(mock, path, body).await.text().to_owned();
    let id = text
        .split('"')
        .find(|word| ["chatcmpl-", "cmpl-", "resp_"].iter().any(|kind| word.starts_with(kind)));
    let id = id.and_then(|id| id.split(['-', '_']).nth(1)).expect("an id").to_owned();
    assert_eq!(id.len(), 32, "{text}");
    text.replace(&id, "ID")
}

fn lines(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[tokio::test]
async fn a_chat_stream_of_azures_with_usage() {
    let mock = start(Settings { completion_tokens: 2, ..Settings::default() }).await;
    let body = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let safe = r#"{"filtered":false,"severity":"safe"}"#;
    let head = r#"{"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"d","#;
    let tail = r#""system_fingerprint":"fp_mock","usage":null}"#;
    let chunk = |delta: &str, reason: &str| {
        format!(
            r#"{head}"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason},"content_filter_results":{{}}}}],{tail}"#
        )
    };
    let expected = lines(&[
        &format!(
            r#"{{"id":"","object":"","created":0,"model":"","prompt_filter_results":[{{"prompt_index":0,"content_filter_results":{{"hate":{safe},"self_harm":{safe},"sexual":{safe},"violence":{safe}}}}}],"choices":[],"usage":null}}"#
        ),
        &chunk(r#"{"role":"assistant","content":""}"#, "null"),
        &chunk(r#"{"content":"a"}"#, "null"),
        &chunk(r#"{"content":" b"}"#, "null"),
        &chunk("{}", r#""stop""#),
        &format!(
            r#"{head}"choices":[],"system_fingerprint":"fp_mock","usage":{{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}}}"#
        ),
        "[DONE]",
    ]);
    assert_eq!(stream(&mock, AZURE_CHAT, &body).await, expected);
}

#[tokio::test]
async fn a_chat_stream_of_openais_without_usage() {
    let mock = start(Settings::default()).await;
    let body = chat(&json!({"stream": true, "n": 2, "max_tokens": 1}));
    let chunk = |index: u8, delta: &str, reason: &str| {
        format!(
            r#"{{"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{reason}}}],"system_fingerprint":"fp_mock"}}"#
        )
    };
    let expected = lines(&[
        &chunk(0, r#"{"role":"assistant","content":""}"#, "null"),
        &chunk(1, r#"{"role":"assistant","content":""}"#, "null"),
        &chunk(0, r#"{"content":"a"}"#, "null"),
        &chunk(1, r#"{"content":"a"}"#, "null"),
        &chunk(0, "{}", r#""length""#),
        &chunk(1, "{}", r#""length""#),
        "[DONE]",
    ]);
    assert_eq!(stream(&mock, CHAT, &body).await, expected);
}

#[tokio::test]
async fn a_stream_of_legacy_completions() {
    let mock = start(Settings::default()).await;
    let body = json!({
        "model": "m", "prompt": ["a", "b"], "echo": true, "max_tokens": 1,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let head = r#"{"id":"cmpl-ID","object":"text_completion","created":1700000000,"model":"m","#;
    let chunk = |index: u8, text: &str, reason: &str| {
        format!(
            r#"{head}"choices":[{{"text":"{text}","index":{index},"logprobs":null,"finish_reason":{reason}}}],"usage":null}}"#
        )
    };
    let expected = lines(&[
        &chunk(0, "a", "null"),
        &chunk(1, "b", "null"),
        &chunk(0, "a", "null"),
        &chunk(1, "b", "null"),
        &chunk(0, "", r#""length""#),
        &chunk(1, "", r#""length""#),
        &format!(
            r#"{head}"choices":[],"usage":{{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}}}"#
        ),
        "[DONE]",
    ]);
    assert_eq!(stream(&mock, COMPLETIONS, &body).await, expected);
}

#[tokio::test]
async fn a_stream_of_the_responses_api() {
    for (tokens, last) in [(16, "response.completed"), (17, "response.incomplete")] {
        let mock =
            start(Settings { completion_tokens: tokens, reasoning_tokens: 14, ..Settings::default() }).await;
        let body = json!({"model": "m", "input": "a b", "stream": true, "max_output_tokens": 16});
        let text = stream(&mock, RESPONSES, &body).await;
        let events: Vec<(&str, Value)> = text
            .split_terminator("\n\n")
            .map(|event| {
                let (name, data) = event.split_once('\n').expect("two lines");
                let data = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
                (name.strip_prefix("event: ").expect("a name"), data)
            })
            .collect();
        let names: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
        let expected = [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            last,
        ];
        assert_eq!(names, expected);
        for (number, (name, data)) in events.iter().enumerate() {
            assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
        }
        let data = |at: usize| &events[at].1;
        assert_eq!(data(0)["response"]["usage"], Value::Null);
        assert_eq!(data(0)["response"]["status"], "in_progress");
        let place = json!({"type": "response.output_text.delta", "sequence_number": 5, "item_id": "msg_ID",
                           "output_index": 0, "content_index": 0, "delta": " b"});
        assert_eq!(*data(5), place);
        assert_eq!(data(6)["text"], "a b");
        assert_eq!(data(9)["response"]["status"], last.trim_start_matches("response."));
        assert_eq!(data(9)["response"]["output"][0]["content"][0]["text"], "a b");
        let usage = &data(9)["response"]["usage"];
        assert_eq!((&usage["output_tokens"], &usage["total_tokens"]), (&json!(16), &json!(23)));
    }
}

/// Streams of each kind.
fn streams() -> Vec<(&'static str, Value)> {
    let stream = json!({"stream": true, "stream_options": {"include_usage": true}});
    let wide = json!([{"role": "user", "content": "日本 👍🏽 é"}]);
    vec![
        (CHAT, with(chat(&stream), &json!({"messages": wide}))),
        (AZURE_CHAT, chat(&json!({"stream": true, "n": 2}))),
        (COMPLETIONS, with(json!({"model": "m", "prompt": "é ß", "n": 2}), &stream)),
        (RESPONSES, json!({"model": "m", "input": "é", "stream": true})),
    ]
}

#[tokio::test]
async fn what_is_sent_can_be_known_beforehand_and_is_recorded() {
    let mock = start(Settings::default()).await;
    for (path, body) in streams() {
        mock.forget();
        let got = post(&mock, path, &body).await;
        let received = &mock.received()[0];
        let events = stream_events(path, &received.body, &mock.settings()).expect("a stream");
        assert_eq!(events.concat(), got.body, "{path}");
        assert_eq!(received.response, got.body, "{path}");
        assert!(
            events.iter().all(|event| event.windows(2).filter(|pair| pair == b"\n\n").count() == 1),
            "{path}"
        );
        let charset = if path == AZURE_CHAT { "" } else { "; charset=utf-8" };
        assert_eq!(
            got.header("content-type"),
            Some(format!("text/event-stream{charset}").as_str()),
            "{path}"
        );
        assert_eq!(mock.billed().len(), 1, "{path}");
    }
}

#[test]
fn only_a_stream_has_events() {
    let refusal = stream_events(CHAT, chat(&json!({})).to_string().as_bytes(), &Settings::default());
    assert_eq!(refusal.expect_err("no stream").status, 400);
}

/// The chunks of a chunked body, or the only piece of one with a length, as they are on the wire.
async fn wire(mock: &Mock, path: &str, body: &Value) -> Vec<Vec<u8>> {
    let mut connection = tokio::net::TcpStream::connect(mock.addr()).await.expect("a connection");
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all((head + &body).as_bytes()).await.expect("sent");
    let mut raw = Vec::new();
    connection.read_to_end(&mut raw).await.expect("an answer");
    let split = |bytes: &[u8], at: &[u8]| {
        let at_byte = bytes.windows(at.len()).position(|window| window == at).expect("a separator");
        (bytes[..at_byte].to_vec(), bytes[at_byte + at.len()..].to_vec())
    };
    let (head, mut rest) = split(&raw, b"\r\n\r\n");
    if !String::from_utf8_lossy(&head).contains("transfer-encoding: chunked") {
        return vec![rest];
    }
    let mut chunks = Vec::new();
    loop {
        let (size, after) = split(&rest, b"\r\n");
        let size = usize::from_str_radix(std::str::from_utf8(&size).expect("ASCII"), 16).expect("a size");
        if size == 0 {
            return chunks;
        }
        chunks.push(after[..size].to_vec());
        rest = after[size + 2..].to_vec();
    }
}

#[tokio::test]
async fn each_event_is_a_chunk_unless_it_is_cut() {
    let mock = start(Settings::default()).await;
    for (path, body) in streams() {
        let events =
            stream_events(path, body.to_string().as_bytes(), &Settings::default()).expect("a stream");
        assert_eq!(wire(&mock, path, &body).await, events, "{path}");
    }
}

#[tokio::test]
async fn cuts_change_where_the_bytes_are_cut_and_nothing_else() {
    for cut in [1, 7, 100, 1_000_000] {
        let mock = start(Settings { cut_bytes: NonZeroUsize::new(cut), ..Settings::default() }).await;
        for (path, body) in streams() {
            mock.forget();
            let whole = stream_events(path, body.to_string().as_bytes(), &Settings::default())
                .expect("a stream")
                .concat();
            let chunks = wire(&mock, path, &body).await;
            let expected: Vec<&[u8]> = whole.chunks(cut).collect();
            assert_eq!(chunks, expected, "{path} {cut}");
            assert_eq!(mock.received()[0].response, whole);
            assert_eq!(mock.billed()[0].outcome, Outcome::Complete);
        }
        // An answer that is no stream keeps its length.
        let body = chat(&json!({}));
        let whole = post(&start(Settings::default()).await, CHAT, &body).await;
        let got = post(&mock, CHAT, &body).await;
        assert_eq!((&got.body, got.header("content-length")), (&whole.body, whole.header("content-length")));
        assert_eq!(mock.received()[1].response, whole.body);
        assert_eq!(mock.billed()[1].usage, Usage { prompt: 8, completion: 24, ..Usage::default() });
    }
}

#[tokio::test]
async fn a_compressed_stream_can_be_read_as_far_as_it_has_come() {
    let held = Settings { gzip: Gzip::Always, hold_after_events: Some(3), ..Settings::default() };
    let mock = start(held).await;
    let (path, body) = streams().remove(0);
    let events = stream_events(path, body.to_string().as_bytes(), &Settings::default()).expect("a stream");
    let mut response = send(&mock, path, &body).await.expect("an answer");
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut compressed = Vec::new();
    let so_far = events[..3].concat();
    loop {
        compressed.extend(response.chunk().await.expect("a chunk").expect("not yet the end"));
        let mut read = vec![0; so_far.len()];
        if flate2::read::GzDecoder::new(&*compressed).read_exact(&mut read).is_ok() {
            assert_eq!(read, so_far);
            break;
        }
    }
    mock.release();
    while let Some(chunk) = response.chunk().await.expect("a chunk") {
        compressed.extend(chunk);
    }
    let mut read = Vec::new();
    flate2::read::GzDecoder::new(&*compressed).read_to_end(&mut read).expect("gzip, whole");
    assert_eq!(read, events.concat());
    assert_eq!(mock.received()[0].response, compressed);
}

#[tokio::test]
async fn a_stream_can_be_held_after_any_event() {
    let (path, body) = streams().remove(1);
    let events = stream_events(path, body.to_string().as_bytes(), &Settings::default()).expect("a stream");
    for held in [0, 1, 5, events.len()] {
        // Cut: what is left of the last event must be out before the wait.
        let mock = start(Settings {
            hold_after_events: Some(held),
            cut_bytes: NonZeroUsize::new(50),
            ..Settings::default()
        });
        let mock = mock.await;
        let mut response = send(&mock, path, &body).await.expect("an answer");
        let mut text = read_events(&mut response, held).await;
        assert_eq!(text, String::from_utf8(events[..held].concat()).expect("UTF-8"));
        tempt(&mock).await;
        assert_eq!(mock.billed(), []);
        mock.release();
        while let Some(chunk) = response.chunk().await.expect("a chunk") {
            text += std::str::from_utf8(&chunk).expect("ASCII");
        }
        assert_eq!(text.into_bytes(), events.concat());
        assert_eq!(mock.billed()[0].outcome, Outcome::Complete);
    }
}
