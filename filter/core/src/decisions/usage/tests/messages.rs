//! Answers of Anthropic's API.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn reader(format: Format, chunks: &[&[u8]]) -> Reader {
    let mut reader = Reader::new(format, Operation::Messages, UsageEvent::Show);
    for (at, chunk) in chunks.iter().enumerate() {
        let output = reader.push(chunk, at + 1 == chunks.len());
        assert!(matches!(output, Output::Same), "a byte was changed");
    }
    reader
}

/// The events of the public reference, with a cache and thinking.
/// <https://platform.claude.com/docs/en/build-with-claude/streaming>
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"claude-x\",\"stop_reason\":null,\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":7,\"cache_read_input_tokens\":100,\"output_tokens\":3,\"service_tier\":\"standard\"}}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const THINKING: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"abcd\"}}\n\n";
const SIGNATURE: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pki\"}}\n\n";
const TEXT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n";
const INPUT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\n";
const DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15,\"output_tokens_details\":{\"thinking_tokens\":4}}}\n\n";
const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

#[test]
fn a_stream_tells_its_prompt_first_and_its_answer_last() {
    let stream = [START, PING, THINKING, SIGNATURE, TEXT, INPUT, DELTA, STOP].concat();
    let expected =
        Usage { prompt: 132, cached: 100, cache_write: 7, completion: 15, reasoning: 4, ..Usage::default() };
    for cut in 0..=stream.len() {
        let (head, tail) = stream.as_bytes().split_at(cut);
        let found = reader(Format::Events, &[head, tail]);
        assert_eq!(found.usage(), Some(expected), "cut at {cut}");
        assert_eq!(found.produced_bytes(), Some(4 + 5 + 9));
        assert_eq!((found.id(), found.model()), (Some("msg_1"), Some("claude-x")));
        assert_eq!(found.service_tier(), Some("default"));
    }
}

#[test]
fn what_begins_a_stream_says_nothing_of_what_it_produces() {
    let found = reader(Format::Events, &[START.as_bytes(), TEXT.as_bytes()]);
    let expected = Usage { prompt: 132, cached: 100, cache_write: 7, ..Usage::default() };
    assert_eq!((found.usage(), found.produced_bytes()), (Some(expected), Some(5)));
}

#[test]
fn a_later_count_of_the_same_prompt_is_the_same() {
    let delta = DELTA.replace("{\"output_tokens\"", "{\"input_tokens\":25,\"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":0,\"output_tokens\"");
    let found = reader(Format::Events, &[START.as_bytes(), delta.as_bytes()]);
    assert_eq!(found.usage().map(|usage| (usage.prompt, usage.completion)), Some((132, 15)));
}

#[test]
fn a_whole_message_is_read_at_its_top() {
    let body = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"t","name":"f","input":{"usage":{"input_tokens":9}}}],"stop_reason":"tool_use","usage":{"input_tokens":2000,"cache_creation_input_tokens":0,"cache_read_input_tokens":10,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":503,"server_tool_use":{"web_search_requests":1},"service_tier":"priority"}}"#;
    for cut in 0..=body.len() {
        let (head, tail) = body.as_bytes().split_at(cut);
        let found = reader(Format::Json, &[head, tail]);
        let expected = Usage { prompt: 2010, cached: 10, completion: 503, ..Usage::default() };
        assert_eq!(found.usage(), Some(expected), "cut at {cut}");
        assert_eq!((found.produced_bytes(), found.service_tier()), (Some(2), Some("priority")));
        assert!(!found.has_failed());
    }
}

#[test]
fn an_error_of_anthropics_shape_is_one() {
    let event = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    assert!(reader(Format::Events, &[START.as_bytes(), event.as_bytes()]).has_failed());
    let body =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
    assert!(reader(Format::Json, &[body.as_bytes()]).has_failed());
}
