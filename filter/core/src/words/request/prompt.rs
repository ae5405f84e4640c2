//! Which members of a body may be billed as prompt?
//!
//! All of them, those that we do not know among them, but for a list of those that are known to be none: a member of
//! another server's API, or a new one, is text until somebody has looked. Not decided here: what of a member's value is
//! text, and what it costs.

use crate::json::{Found, Names};
use memchr::memchr;

/// Members with whole texts, in the API or in that of servers like it.
/// <https://platform.openai.com/docs/api-reference>
static TEXTS: Names<8> =
    Names::new(["messages", "prompt", "input", "instructions", "tools", "functions", "suffix", "system"]);

/// Members with strings that are no prompt: who asks, what is remembered under which name, and how the answer is to be
/// made and told. The references of chat, responses, embeddings, speech and images say so of each; words such as
/// `"auto"` need no place here.
static ASIDE: Names<23> = Names::new([
    "model",
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "previous_response_id",
    "conversation",
    "service_tier",
    "stream_options",
    "include",
    "modalities",
    "audio",
    "voice",
    "reasoning",
    "reasoning_effort",
    "logit_bias",
    "context_management",
    "encoding_format",
    "mcp_servers",
    "stop_sequences",
    "thinking",
    "cache_control",
]);

/// A string up to this length that is one word, is the name of something: no API has prompts of that kind elsewhere.
const WORD_BYTES_MAX: usize = 64;

/// Whether a member may be billed as prompt.
pub(super) fn may_be(name: &str, value: &str) -> bool {
    if matches!(TEXTS.find(name), Found::Plain(_)) {
        return true;
    }
    // Without a quote there is no string in it: numbers and switches.
    memchr(b'"', value.as_bytes()).is_some()
        && !is_word(value)
        && !matches!(ASIDE.find(name), Found::Plain(_))
}

fn is_word(value: &str) -> bool {
    value.starts_with('"') && value.len() <= WORD_BYTES_MAX + 2 && !value.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(body: &str, prompt: &[&str]) {
        assert_eq!(Request::read(body.as_bytes()).unwrap().prompt, prompt, "{body}");
    }

    #[test]
    fn whatever_has_text_may_be_prompt_whoever_knows_its_name() {
        check(r#"{"messages":[1],"max_tokens":5,"seed":7}"#, &["[1]"]);
        check(r#"{"model":"m","input":[1,2],"stream":true,"stop_token_ids":[1,2]}"#, &["[1,2]"]);
        let schema = r#"{"type":"json_schema","json_schema":{"name":"n"}}"#;
        for name in ["response_format", "text", "prediction", "data_sources", "documents", "guided_json"] {
            check(&format!(r#"{{"messages":[],"{name}":{schema}}}"#), &["[]", schema]);
        }
        check(
            r#"{"stop":["a b"],"messages":"x","chat_template":"in all caps"}"#,
            &[r#""x""#, r#"["a b"]"#, r#""in all caps""#],
        );
        // Escapes hide no name that is billed.
        check(r#"{"d\u006fcuments":["a b"]}"#, &[r#"["a b"]"#]);
    }

    #[test]
    fn what_is_known_to_be_no_prompt_is_none() {
        let long = "some words ".repeat(50);
        for name in super::ASIDE.names() {
            if *name != "stream_options" && *name != "model" {
                check(&format!(r#"{{"{name}":["{long}"]}}"#), &[]);
            }
        }
        check(r#"{"tool_choice":"auto","quality":"high","truncation":"auto","prompt":null}"#, &[]);
        // But only one word is a name.
        check(r#"{"verbosity":"very much so"}"#, &[r#""very much so""#]);
    }
}
