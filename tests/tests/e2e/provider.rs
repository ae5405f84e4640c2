//! A backend that answers where the mock does not: calls of a function, JSON by a schema, images, sound, files, work in the
//! background. An answer uses all that its request allows, so that a test knows what it must cost.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_tests::harness::{Gateway, Setup};

use crate::pinned::BACKENDS;
use crate::requests::{check_record, with};
use crate::stand_in::StandIn;

/// What every prompt costs.
pub const PROMPT: u64 = 30;
/// What every answer costs whose request has no cap.
pub const UNCAPPED: u64 = 7;
/// What it says.
pub const TEXT: &str = "hello there";
/// What the provider calls each of its answers.
pub const REQUEST_ID: &str = "req_of_the_provider";

/// What arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The server. It ends with this value.
pub struct Provider {
    server: StandIn,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    pub async fn start() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let serial = Arc::new(AtomicU64::new(0));
        let server =
            StandIn::start(move |request| serve(request, Arc::clone(&log), Arc::clone(&serial))).await;
        Self { server, asked }
    }

    /// An Envoy with the clients of [`clients`], before this provider as each of its backends.
    pub async fn gateway(&self) -> Gateway {
        let mut setup = Setup::new().workers(1).edit(clients);
        for (name, env) in BACKENDS {
            setup = setup.backend(name, &format!("http://{}", self.server.addr)).env(env, "unused");
        }
        Gateway::start(setup).await.unwrap()
    }

    /// What has arrived since it was last asked for.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// The key of a client under the smallest policy of the README, without a limit that would be met.
pub const OPEN: &str = "open";
/// That of one that may have few tokens at a time, and one model.
pub const STRICT: &str = "strict";
/// What a client of [`tight`] may use in a minute.
pub const TIGHT_TOKENS: u64 = 6000;
/// A cap that leaves little of that.
pub const MOST: u64 = 5500;
/// A cap for which there is room some seconds later, whatever the prompt is taken for.
pub const MORE_THAN_IS_LEFT: u64 = 800;
/// A cap for which there is never room.
pub const TOO_MUCH: u64 = 7000;

fn client(name: &str, more: Value) -> Value {
    let keys = json!([{ "sha256": hex::encode(Sha256::digest(name)) }]);
    with(json!({ "name": name, "api_keys": keys, "models": ["*"], "limits": [] }), more)
}

/// A client without a policy that is soon at its limit; one for each class that is tried.
pub fn tight(class: &str) -> String {
    format!("tight-{class}")
}

/// The classes that have a client of [`tight`].
const CLASSES: [&str; 6] = ["OpenAI", "AzureOpenAI", "openai", "azure", "azure-v1", "azure-dated"];

fn clients(config: &mut Value) {
    let roomy = json!([{ "tokens": 1_000_000, "per": "minute" }, { "requests": 10_000, "per": "minute" }]);
    let limit = json!([{ "tokens": TIGHT_TOKENS, "per": "minute" }]);
    let open = json!({ "policy": "interactive", "endpoints": ["*", "other"], "limits": roomy });
    let mut clients =
        vec![client(OPEN, open), client(STRICT, json!({ "policy": "frugal", "models": ["gpt-4o"] }))];
    clients.extend(CLASSES.map(|class| client(&tight(class), json!({ "limits": limit }))));
    config["clients"] = json!(clients);
    // What is made is found again where it was made.
    config["other_endpoints"] = json!(["payg-a"]);
    for model in ["gpt-image-1", "gpt-4o-transcribe", "gpt-4o-mini-tts"] {
        config["models"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "name": model, "backends": [{ "backend": "payg-a" }] }));
    }
}

/// What the access log must say of a request whose answer told its usage.
pub fn line(client: &str, outcome: &str, prompt: u64, completion: u64) -> Value {
    let client = if client.is_empty() { Value::Null } else { json!(client) };
    json!({
        "client": client, "outcome": outcome, "prompt_tokens": prompt.to_string(),
        "completion_tokens": completion.to_string(), "estimated": "false",
    })
}

/// The access log has exactly these lines, after so many others.
pub async fn check_log(gateway: &Gateway, before: usize, expected: &[Value]) {
    let log = gateway.wait_for_log(before + expected.len()).await.unwrap().split_off(before);
    assert_eq!(log.len(), expected.len(), "{log:#?}");
    for (line, expected) in log.iter().zip(expected) {
        check_record(line, expected);
    }
}

/// The same, of calls that wait for room. A machine that is slow between two of them has room again before it is asked: one
/// refusal less is as good, one more is not.
pub async fn check_log_of_waits(gateway: &Gateway, before: usize, expected: &[Value]) {
    let waits = |line: &&Value| line["outcome"] == "rate_limit_exceeded";
    let others: Vec<_> = expected.iter().filter(|line| !waits(line)).collect();
    let is_whole =
        |log: &[Value]| log.iter().skip(before).filter(|line| !waits(line)).count() >= others.len();
    let log = gateway.wait_for_log_where(is_whole).await.unwrap().split_off(before);
    let (refused, rest): (Vec<_>, Vec<_>) = log.iter().partition(waits);
    assert!(refused.len() <= expected.len() - others.len(), "{log:#?}");
    assert_eq!(rest.len(), others.len(), "{log:#?}");
    for (line, expected) in rest.into_iter().zip(others) {
        check_record(line, expected);
    }
}

enum Reply {
    Json(Value),
    Events(Vec<(Option<&'static str>, Value)>),
    Sound,
    Missing,
}

async fn serve(
    request: Request<hyper::body::Incoming>,
    log: Arc<Mutex<Vec<Asked>>>,
    serial: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let asked =
        Asked { method: head.method.to_string(), path: head.uri.to_string(), headers: head.headers, body };
    let reply = answer(&asked, &format!("resp_{:016}", serial.fetch_add(1, Ordering::Relaxed)));
    log.lock().unwrap().push(asked);
    let (status, kind, body) = match reply {
        Reply::Json(body) => (200, "application/json", body.to_string()),
        Reply::Events(events) => (200, "text/event-stream; charset=utf-8", written(&events)),
        Reply::Sound => (200, "audio/mpeg", "ID3 sound".to_owned()),
        Reply::Missing => {
            (404, "application/json", json!({ "error": { "message": "Not here." } }).to_string())
        }
    };
    let answer = Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("x-request-id", REQUEST_ID)
        .header("x-ratelimit-limit-tokens", "1")
        .header("openai-poll-after-ms", "250");
    Ok(answer.body(Full::new(body.into())).unwrap())
}

/// A stream of OpenAI's: events with names are of responses, those without of chats, whose stream has an end of its own.
fn written(events: &[(Option<&'static str>, Value)]) -> String {
    let mut text = String::new();
    for (name, data) in events {
        if let Some(name) = name {
            text += &format!("event: {name}\n");
        }
        text += &format!("data: {data}\n\n");
    }
    if events.iter().all(|(name, _)| name.is_none()) {
        text += "data: [DONE]\n\n";
    }
    text
}

/// `id` is that of a response that is made.
fn answer(asked: &Asked, id: &str) -> Reply {
    let path = asked.path.split('?').next().unwrap();
    let below = ["/openai/deployments/", "/openai/v1/", "/openai/", "/v1/"];
    let rest = below.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or_default();
    let rest = match path.starts_with("/openai/deployments/") {
        true => rest.split_once('/').map_or("", |(_, rest)| rest),
        false => rest,
    };
    let body = asked.json();
    match (asked.method.as_str(), rest) {
        ("POST", "chat/completions") => chat(&body),
        ("POST", "responses") => responses(&body, id),
        ("POST", "responses/compact") => {
            let item = json!({ "id": "cmp_1", "type": "compaction", "encrypted_content": SECRET });
            Reply::Json(json!({
                "id": "resp_c", "object": "response.compaction", "created_at": 1, "output": [item],
                "usage": responses_usage(UNCAPPED),
            }))
        }
        ("POST", "responses/input_tokens") => {
            Reply::Json(json!({ "object": "response.input_tokens", "input_tokens": PROMPT }))
        }
        ("GET", path) if path.starts_with("responses/") => {
            Reply::Json(response(&path[10..], "completed", vec![message(TEXT)], Some(UNCAPPED)))
        }
        ("POST", path) if path.starts_with("responses/") => {
            let id = path[10..].strip_suffix("/cancel").unwrap();
            Reply::Json(response(id, "cancelled", vec![], None))
        }
        ("POST", "embeddings") => embeddings(&body),
        ("POST", "images/generations" | "images/edits") => Reply::Json(json!({
            "created": 1, "data": [{ "b64_json": "iVBORw0KGgo=" }],
            "usage": { "input_tokens": PROMPT, "output_tokens": 40, "total_tokens": PROMPT + 40 },
        })),
        ("POST", "audio/transcriptions" | "audio/translations") => Reply::Json(json!({
            "text": TEXT,
            "usage": { "type": "tokens", "input_tokens": PROMPT, "output_tokens": 4, "total_tokens": PROMPT + 4 },
        })),
        ("POST", "audio/speech") => Reply::Sound,
        ("POST", "files") => Reply::Json(file()),
        ("GET", "files") => Reply::Json(json!({
            "object": "list", "data": [file()], "has_more": false, "first_id": FILE, "last_id": FILE,
        })),
        _ => Reply::Missing,
    }
}

pub const FILE: &str = "file-abc123def456";
/// What a client keeps of a model's reasoning.
pub const SECRET: &str = "gAAAAABwhat-nobody-but-the-provider-can-read-and-a-client-sends-back";

fn file() -> Value {
    json!({
        "id": FILE, "object": "file", "bytes": 3, "created_at": 1, "filename": "a.jsonl", "purpose": "batch",
        "status": "processed",
    })
}

fn embeddings(body: &Value) -> Reply {
    let count = body["input"].as_array().map_or(1, Vec::len);
    // Two numbers, 0.25 and 0.5, little-endian.
    let vector = if body["encoding_format"] == "base64" { json!("AACAPgAAAD8=") } else { json!([0.25, 0.5]) };
    let data: Vec<Value> =
        (0..count).map(|at| json!({ "object": "embedding", "index": at, "embedding": vector })).collect();
    Reply::Json(json!({
        "object": "list", "model": body["model"], "data": data,
        "usage": { "prompt_tokens": PROMPT, "total_tokens": PROMPT },
    }))
}

/// What an answer to this costs.
fn completion(body: &Value) -> u64 {
    let caps = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    caps.iter().find_map(|cap| body[cap].as_u64()).unwrap_or(UNCAPPED)
}

/// What is said to who asked for JSON by a schema.
fn text(by_schema: bool) -> &'static str {
    if by_schema { r#"{"city":"Oslo"}"# } else { TEXT }
}

const ARGUMENTS: &str = r#"{"city": "Oslo"}"#;

fn chat(body: &Value) -> Reply {
    let completion = completion(body);
    let usage = json!({
        "prompt_tokens": PROMPT, "completion_tokens": completion, "total_tokens": PROMPT + completion,
        "prompt_tokens_details": { "cached_tokens": 0 }, "completion_tokens_details": { "reasoning_tokens": 0 },
    });
    let is_told = body["messages"].as_array().unwrap().iter().any(|message| message["role"] == "tool");
    let calls = body["tools"].is_array() && !is_told;
    let function = json!({ "name": "temperature", "arguments": ARGUMENTS });
    let call = json!({ "index": 0, "id": "call_1", "type": "function", "function": function });
    let (content, reason) = if calls {
        (json!({ "role": "assistant", "content": null, "tool_calls": [call] }), "tool_calls")
    } else {
        (json!({ "role": "assistant", "content": text(body["response_format"].is_object()) }), "stop")
    };
    let object = |kind: &str| json!({ "id": "chatcmpl-1", "object": kind, "created": 1, "model": "gpt-4o" });
    if body["stream"] != true {
        let choice = json!({ "index": 0, "message": content, "finish_reason": reason, "logprobs": null });
        return Reply::Json(with(object("chat.completion"), json!({ "choices": [choice], "usage": usage })));
    }
    let chunk = |more| (None, with(object("chat.completion.chunk"), more));
    let choice =
        |delta, reason| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }] });
    let mut events = vec![chunk(choice(content, Value::Null)), chunk(choice(json!({}), json!(reason)))];
    if body["stream_options"]["include_usage"] == true {
        events.push(chunk(json!({ "choices": [], "usage": usage })));
    }
    Reply::Events(events)
}

fn responses_usage(completion: u64) -> Value {
    json!({
        "input_tokens": PROMPT, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": completion,
        "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": PROMPT + completion,
    })
}

fn message(text: &str) -> Value {
    let part = json!({ "type": "output_text", "text": text, "annotations": [] });
    json!({ "type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part] })
}

fn response(id: &str, status: &str, output: Vec<Value>, completion: Option<u64>) -> Value {
    json!({
        "id": id, "object": "response", "created_at": 1, "status": status, "error": null,
        "incomplete_details": null, "instructions": null, "metadata": {}, "model": "gpt-4o", "output": output,
        "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": completion.map(responses_usage),
    })
}

fn responses(body: &Value, id: &str) -> Reply {
    if body["background"] == true {
        return Reply::Json(response(id, "queued", vec![], None));
    }
    let by_schema = body["text"]["format"]["type"] == "json_schema";
    let input = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_told = input.iter().any(|item| item["type"] == "function_call_output");
    let has_function =
        body["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["type"] == "function"));
    let mut output = Vec::new();
    if body["include"].as_array().is_some_and(|asked| asked.contains(&json!("reasoning.encrypted_content"))) {
        output.push(json!({ "id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": SECRET }));
    }
    if has_function && !is_told {
        output.push(json!({
            "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "temperature",
            "arguments": ARGUMENTS, "status": "completed",
        }));
    } else {
        output.push(message(text(by_schema)));
    }
    let whole = response(id, "completed", output.clone(), Some(completion(body)));
    if body["stream"] == true { Reply::Events(events(&output, &whole)) } else { Reply::Json(whole) }
}

fn events(output: &[Value], whole: &Value) -> Vec<(Option<&'static str>, Value)> {
    let begun = with(whole.clone(), json!({ "status": "in_progress", "output": [], "usage": null }));
    let mut events = vec![
        ("response.created", json!({ "response": begun })),
        ("response.in_progress", json!({ "response": begun })),
    ];
    for (at, item) in output.iter().enumerate() {
        let place = json!({ "item_id": item["id"], "output_index": at, "content_index": 0 });
        let empty = match item["type"].as_str() {
            Some("message") => json!({ "status": "in_progress", "content": [] }),
            Some("function_call") => json!({ "status": "in_progress", "arguments": "" }),
            _ => json!({}),
        };
        let added = json!({ "output_index": at, "item": with(item.clone(), empty) });
        events.push(("response.output_item.added", added));
        if item["type"] == "message" {
            let part = &item["content"][0];
            let empty = with(part.clone(), json!({ "text": "" }));
            let text = json!({ "delta": part["text"], "logprobs": [] });
            events.push(("response.content_part.added", with(place.clone(), json!({ "part": empty }))));
            events.push(("response.output_text.delta", with(place.clone(), text)));
            let text = json!({ "text": part["text"], "logprobs": [] });
            events.push(("response.output_text.done", with(place.clone(), text)));
            events.push(("response.content_part.done", with(place, json!({ "part": part }))));
        } else if item["type"] == "function_call" {
            let delta = json!({ "delta": item["arguments"] });
            events.push(("response.function_call_arguments.delta", with(place.clone(), delta)));
            let done = json!({ "arguments": item["arguments"], "name": item["name"] });
            events.push(("response.function_call_arguments.done", with(place, done)));
        }
        events.push(("response.output_item.done", json!({ "output_index": at, "item": item })));
    }
    events.push(("response.completed", json!({ "response": whole })));
    let numbered = events.into_iter().zip(0..).map(|((name, data), number)| {
        (Some(name), with(data, json!({ "type": name, "sequence_number": number })))
    });
    numbered.collect()
}
