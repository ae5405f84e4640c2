//! What is measured: a gateway, requests, answers. All made up, in the shapes and sizes of real ones.

use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;
use tollgate::config;
use tollgate::endpoint::Api;
use tollgate::gateway::{Client, Gateway};
use tollgate::number::Decimal;
use tollgate::policy::{Bound, Over, Permission, Policy, PromptBounds, Quota, Range};
use tollgate::store::{MemoryStore, Moment};

/// When all of it happens.
pub(crate) const NOW: Duration = Duration::from_secs(1_795_000_000);

/// The key of the client below.
const KEY: &str = "Bearer key";

/// A client with a key, a policy and two limits that are never reached; a model at three backends.
pub(crate) fn gateway() -> Rc<Gateway> {
    let config = json!({
        "clients": [{
            "name": "web-shop",
            // "key"
            "api_keys": [{ "sha256": "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683" }],
            "models": ["gpt-4o"],
            "policy": "interactive",
            "limits": [{ "tokens": u32::MAX, "per": "second" }, { "tokens": u32::MAX, "per": "minute" }],
        }],
        "policies": [{
            "name": "interactive",
            "max_tokens": { "default": 256, "max": 512, "over": "clamp" },
            "n": { "max": 2, "over": "clamp" },
        }],
        "models": [{
            "name": "gpt-4o",
            "backends": [
                { "backend": "ptu", "deployment": "gpt-4o-ptu", "priority": 0 },
                { "backend": "payg-a", "priority": 1 },
                { "backend": "payg-b", "priority": 2 },
            ],
        }],
        "backends": [
            { "name": "ptu", "cluster": "ptu", "style": "azure", "api_version": "2024-10-21",
              "credential": { "header": "api-key", "env": "PTU_KEY" } },
            { "name": "payg-a", "cluster": "payg-a", "style": "azure-v1",
              "credential": { "header": "api-key", "env": "PAYG_A_KEY" } },
            { "name": "payg-b", "cluster": "payg-b", "style": "openai",
              "credential": { "header": "authorization", "env": "PAYG_B_KEY" } },
        ],
    });
    Rc::new(config::from_value(config, &|name| Some(format!("secret-{name}"))).unwrap())
}

/// A policy that says something about everything, and lets everything pass.
pub(crate) fn every_rule() -> Policy {
    let bound = Some(Bound { default: Some(256), max: Some(512), over: Over::Clamp });
    let range = Some(Range { min: Decimal::new(0.0), max: Decimal::new(1.0), over: Over::Clamp });
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    Policy {
        max_tokens: bound,
        n: bound.map(|bound| Bound { default: None, ..bound }),
        temperature: range,
        top_p: range,
        logprobs: Permission::Forbid,
        echo: Permission::Forbid,
        logit_bias: Quota::Max(10),
        seed: Permission::Forbid,
        tools: Quota::Max(100),
        response_format: words(&["text", "json_object"]),
        image_parts: Quota::Max(1000),
        audio_parts: Quota::Forbid,
        file_parts: Quota::Forbid,
        store: Permission::Forbid,
        background: Permission::Forbid,
        service_tier: words(&["auto", "default"]),
        prompt: PromptBounds {
            bytes_max: Some(u64::MAX),
            messages_max: Some(u64::MAX),
            tokens_max: Some(u64::MAX),
        },
        ..Policy::default()
    }
}

/// The client that the key belongs to.
pub(crate) fn client(gateway: &Gateway) -> Rc<Client> {
    let headers = [("api-key", &b"key"[..])].into_iter();
    let identity = gateway
        .clients
        .identify(headers, "", Api::OpenAi, Moment::new(&MemoryStore::default(), NOW))
        .unwrap();
    identity.client().unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// As the official Python SDK sends them, and Envoy adds to them.
pub(crate) fn request_headers() -> Vec<(String, Vec<u8>)> {
    headers(&[
        (":authority", "gateway.example"),
        (":path", "/v1/chat/completions"),
        (":method", "POST"),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate"),
        ("authorization", KEY),
        ("content-length", "2048"),
        ("content-type", "application/json"),
        ("user-agent", "OpenAI/Python 1.99.9"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "1.99.9"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-retry-count", "0"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "5c3e1a52-2b0c-4f6e-9d28-7b8a3f0f6a11"),
    ])
}

/// As Azure OpenAI sends them.
pub(crate) fn response_headers(content_type: &str) -> Vec<(String, Vec<u8>)> {
    headers(&[
        (":status", "200"),
        ("content-type", content_type),
        ("apim-request-id", "5c3e1a52-2b0c-4f6e-9d28-7b8a3f0f6a11"),
        ("azureml-model-session", "d123"),
        ("date", "Wed, 18 Nov 2026 12:00:00 GMT"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("x-content-type-options", "nosniff"),
        ("x-ms-region", "Sweden Central"),
        ("x-ratelimit-remaining-requests", "999"),
        ("x-ratelimit-remaining-tokens", "99000"),
        ("x-request-id", "5c3e1a52-2b0c-4f6e-9d28-7b8a3f0f6a11"),
    ])
}

/// Prose with what JSON must escape, and with letters outside ASCII.
const PROSE: &str = "The gateway counts what was asked for, and what came back. \"Why?\", asked the café's owner.\n\
                     Because somebody pays for it: every token has its price, and every budget its end.\n";

/// Exactly so many bytes of JSON string, quotes included.
fn text(bytes: usize) -> String {
    let escaped = serde_json::to_string(PROSE).unwrap();
    let unit = escaped.trim_matches('"');
    let room = bytes.checked_sub(2).unwrap();
    let whole = unit.repeat(room / unit.len());
    format!("\"{whole}{}\"", "x".repeat(room - whole.len()))
}

/// Messages between `head` and `tail`, as many and as long as make exactly `bytes` of body.
fn chat(bytes: usize, head: &str, tail: &str) -> Vec<u8> {
    let message = format!(r#"{{"role":"user","content":{}}},"#, text(1500));
    let before = [head, r#""messages":["#].concat();
    let (last, after) = (r#"{"role":"user","content":"#, ["}]", tail].concat());
    let room = bytes.checked_sub(before.len() + last.len() + after.len() + 2).unwrap();
    let messages = message.repeat(room / message.len());
    let filling = text(room + 2 - messages.len());
    let body = [&before, messages.as_str(), last, &filling, &after].concat().into_bytes();
    assert_eq!(body.len(), bytes);
    serde_json::from_slice::<Value>(&body).unwrap();
    body
}

/// A chat request of exactly so many bytes that asks for more tokens than it may have, in the order of the official
/// Python SDK: what is edited stands behind the messages.
pub(crate) fn chat_request(bytes: usize) -> Vec<u8> {
    chat(bytes, "{", r#","model":"gpt-4o","max_tokens":4096,"temperature":0.2}"#)
}

/// The same, with what is edited in front of the messages.
pub(crate) fn chat_request_options_first(bytes: usize) -> Vec<u8> {
    chat(bytes, r#"{"model":"gpt-4o","max_tokens":4096,"temperature":0.2,"#, "}")
}

/// The same as the first, to be answered as a stream.
pub(crate) fn stream_request(bytes: usize) -> Vec<u8> {
    chat(bytes, "{", r#","model":"gpt-4o","max_tokens":4096,"stream":true,"temperature":0.2}"#)
}

/// A chat request of about so many bytes that is a question about an image.
pub(crate) fn image_request(bytes: usize) -> Vec<u8> {
    let url = format!("data:image/png;base64,{}", "iVBORw0KGgoAAAANSUhEUgAA".repeat(bytes / 24));
    json!({
        "model": "gpt-4o",
        "max_tokens": 4096,
        "messages": [{ "role": "user", "content": [
            { "type": "text", "text": PROSE },
            { "type": "image_url", "image_url": { "url": url } },
        ]}],
    })
    .to_string()
    .into_bytes()
}

/// An answer of exactly so many bytes, as Azure writes it: `usage` stands behind the text.
pub(crate) fn json_answer(bytes: usize) -> Vec<u8> {
    let head = r#"{"id":"chatcmpl-B1","object":"chat.completion","created":1795000000,"model":"gpt-4o","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}}],"choices":[{"index":0,"finish_reason":"stop","logprobs":null,"message":{"role":"assistant","content":"#;
    let tail = r#","refusal":null}}],"usage":{"prompt_tokens":500,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens":200,"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0},"total_tokens":700},"system_fingerprint":"fp_1"}"#;
    let text = text(bytes.checked_sub(head.len() + tail.len()).unwrap());
    let answer = [head, &text, tail].concat().into_bytes();
    serde_json::from_slice::<Value>(&answer).unwrap();
    answer
}

/// An event of a stream that was asked for its usage.
pub(crate) const DELTA: &[u8] = b"data: {\"id\":\"chatcmpl-B1\",\"object\":\"chat.completion.chunk\",\"created\":1795000000,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null,\"content_filter_results\":{\"hate\":{\"filtered\":false,\"severity\":\"safe\"},\"violence\":{\"filtered\":false,\"severity\":\"safe\"}}}],\"system_fingerprint\":\"fp_1\",\"usage\":null}\n\n";

/// The event that was asked for.
pub(crate) const USAGE: &[u8] = b"data: {\"id\":\"chatcmpl-B1\",\"object\":\"chat.completion.chunk\",\"created\":1795000000,\"model\":\"gpt-4o\",\"choices\":[],\"system_fingerprint\":\"fp_1\",\"usage\":{\"prompt_tokens\":500,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens\":100,\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0},\"total_tokens\":600}}\n\n";

/// The last event.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";
