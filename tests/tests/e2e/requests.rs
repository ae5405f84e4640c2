//! What do the tests ask, what must it cost, and what was written down about it?

use serde_json::{Value, json};
use tollgate::estimate::{self, Learnt};
use tollgate::request::Request;
use tollgate_tests::harness::{Answer, Gateway};

/// The keys behind the hashes in `envoy/envoy.yaml`.
pub const WEB_SHOP: &str = "demo-web-shop";
pub const BATCH: &str = "demo-batch";

pub const CHAT: &str = "/v1/chat/completions";
pub const COMPLETIONS: &str = "/v1/completions";
pub const EMBEDDINGS: &str = "/v1/embeddings";
pub const RESPONSES: &str = "/v1/responses";

/// The model that all three backends serve, and the one that only `payg-a` does.
pub const GPT_4O: &str = "gpt-4o";
pub const INSTRUCT: &str = "gpt-35-turbo-instruct";
pub const EMBEDDING: &str = "text-embedding-3-small";

/// A chat of one message.
pub fn chat(text: &str) -> Value {
    json!({ "model": GPT_4O, "messages": [ { "role": "user", "content": text } ] })
}

/// The object with these members as well.
pub fn with(mut object: Value, more: Value) -> Value {
    let (Some(members), Value::Object(more)) = (object.as_object_mut(), more) else {
        panic!("only objects have members");
    };
    members.extend(more);
    object
}

/// What the prompt is taken for beforehand, by a gateway that has learnt nothing yet.
pub fn prompt_estimate(body: &Value) -> u64 {
    let body = body.to_string();
    let prompt = Request::read(body.as_bytes()).unwrap().prompt;
    Learnt::default().prompt_tokens(&estimate::sketch(prompt))
}

/// A change of the configuration: the only limit of `web-shop` is so many tokens a minute.
pub fn web_shop_has(tokens_per_minute: u32) -> impl FnOnce(&mut Value) + Send {
    move |config| config["clients"][0]["limits"] = json!([ { "tokens": tokens_per_minute, "per": "minute" } ])
}

/// A change of the configuration: nobody has a limit.
pub fn nobody_is_limited(config: &mut Value) {
    for client in config["clients"].as_array_mut().unwrap() {
        client["limits"] = json!([]);
    }
}

/// The answer in OpenAI's shape to a request that is refused.
pub fn refusal(message: &str, kind: &str, param: Option<&str>, code: &str) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}

/// The access log's line about an answer.
pub async fn record_of(gateway: &Gateway, answer: &Answer) -> Value {
    record_where(gateway, |line| line["request_id"] == answer.header("x-request-id")).await
}

/// The first line of the access log that is so.
pub async fn record_where(gateway: &Gateway, is_it: impl Fn(&Value) -> bool) -> Value {
    let log = gateway.wait_for_log_where(|log| log.iter().any(&is_it)).await.unwrap();
    log.into_iter().find(is_it).unwrap()
}

/// A record has at least these fields, with these values.
#[track_caller]
pub fn check_record(record: &Value, expected: &Value) {
    let fields = expected.as_object().unwrap().keys();
    let found: Value = fields.map(|field| (field.clone(), record[field].clone())).collect();
    assert_eq!(&found, expected, "{record:#}");
}

/// The part of a record that is a JSON object as text.
pub fn details(record: &Value) -> Value {
    serde_json::from_str(record["details"].as_str().unwrap()).unwrap()
}
