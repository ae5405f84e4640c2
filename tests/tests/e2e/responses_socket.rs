//! Are responses by WebSocket governed and charged, each by itself?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::responses_socket::{INPUT, LONG, OUTPUT};

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::pinned::passes_the_secret;
use crate::realtime::{Client, serving, used};
use crate::requests::{WEB_SHOP, check_record, details, record_where};

/// Two models at one backend, and one elsewhere.
fn serves(config: &mut Value) {
    config["websocket"] = json!({ "responses": { "model": "gpt-5" } });
    let backend = |name: &str, deployment: &str| json!([{ "backend": name, "deployment": deployment }]);
    config["models"].as_array_mut().unwrap().extend([
        json!({ "name": "gpt-5", "backends": backend("ptu", "large") }),
        json!({ "name": "gpt-5-mini", "backends": backend("ptu", "small") }),
        json!({ "name": "elsewhere", "backends": backend("payg-a", "other") }),
    ]);
    for backend in config["backends"].as_array_mut().unwrap() {
        backend["style"] = json!("azure-v1");
        backend.as_object_mut().unwrap().remove("api_version");
    }
    config["clients"][0]["models"] = json!(["*"]);
}

async fn gateway(change: impl FnOnce(&mut Value) + Send + 'static) -> Gateway {
    serving(serves, change).await
}

async fn open(gateway: &Gateway) -> Client {
    Client::open_by(gateway, "/v1/responses").await.unwrap()
}

fn create(model: &str, more: Value) -> Value {
    let mut event = json!({ "type": "response.create", "model": model, "input": "hello" });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

#[tokio::test]
async fn each_response_is_charged_and_the_log_has_their_sum() {
    let gateway = gateway(|_| {}).await;
    let mut client = open(&gateway).await;
    client.say(create("gpt-5", json!({}))).await;
    assert_eq!(client.hear("response.completed").await["response"]["model"], "large");
    assert_eq!(used(&gateway).await, INPUT + OUTPUT);
    client.say(create("gpt-5-mini", json!({ "max_output_tokens": 50, "stream_id": "b" }))).await;
    let ended = client.hear("response.completed").await;
    assert_eq!((&ended["response"]["model"], &ended["stream_id"]), (&json!("small"), &json!("b")));
    let total = 2 * INPUT + OUTPUT + 50;
    assert_eq!(used(&gateway).await, total);
    client.end().await;
    let record = record_where(&gateway, |line| details(line)["operation"] == "responses/websocket").await;
    check_record(
        &record,
        &json!({
            "client": "web-shop", "model": "gpt-5", "backend": "ptu", "outcome": "served",
            "prompt_tokens": (2 * INPUT).to_string(), "completion_tokens": (OUTPUT + 50).to_string(),
        }),
    );
    assert_eq!(details(&record)["turns"], 2);
    for model in ["gpt-5", "gpt-5-mini"] {
        let labels =
            [("client", "web-shop"), ("model", model), ("operation", "responses"), ("outcome", "served")];
        gateway.wait_for_metric("tollgate_requests", &labels, 1.0).await.unwrap();
    }
    let received = &gateway.mock("ptu").received()[0];
    assert_eq!(received.path, "/openai/v1/responses");
    assert!(!format!("{:?}", received.headers).contains(WEB_SHOP));
}

#[tokio::test]
async fn responses_that_may_not_be_are_refused_by_an_event() {
    let gateway = gateway(|config| {
        let policy =
            json!({ "name": "small", "max_tokens": { "max": 40, "over": "clamp" }, "tools": "forbid" });
        config["policies"].as_array_mut().unwrap().push(policy);
        config["clients"][0]["policy"] = json!("small");
    })
    .await;
    let mut client = open(&gateway).await;
    for (event, status, code) in [
        (create("elsewhere", json!({})), 400, "model_not_served_there"),
        (create("none", json!({})), 403, "model_not_allowed"),
        (create("gpt-5", json!({ "tools": [{ "type": "web_search" }] })), 400, "parameter_not_allowed"),
        (create("gpt-5", json!({ "background": true })), 400, "invalid_type"),
        (json!({ "type": "response.steer" }), 400, "parameter_value_not_allowed"),
    ] {
        client.say(event).await;
        let error = client.hear("error").await;
        assert_eq!((&error["status"], &error["error"]["code"]), (&json!(status), &json!(code)), "{error}");
    }
    client.say(create("gpt-5", json!({ "max_output_tokens": 500 }))).await;
    let ended = client.hear("response.completed").await;
    assert_eq!(ended["response"]["max_output_tokens"], 40);
    assert_eq!(used(&gateway).await, INPUT + 40);
    client.end().await;
}

#[tokio::test]
async fn a_response_beyond_the_budget_is_told_and_the_socket_stays() {
    let limits = json!([{ "tokens": 120, "per": "minute" }]);
    let gateway = gateway(move |config| config["clients"][0]["limits"] = limits).await;
    let mut client = open(&gateway).await;
    let asks = || create("gpt-5", json!({ "max_output_tokens": 90 }));
    client.say(asks()).await;
    client.hear("response.completed").await;
    client.say(asks()).await;
    let error = client.hear("error").await;
    assert_eq!((&error["status"], &error["error"]["code"]), (&json!(429), &json!("rate_limit_exceeded")));
    assert!(error["headers"]["retry-after"].is_string(), "{error}");
    client.end().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_charged_by_what_was_seen() {
    let gateway = gateway(|_| {}).await;
    let mut client = open(&gateway).await;
    client.say(create("gpt-5", json!({ "input": LONG }))).await;
    client.hear("response.output_text.delta").await;
    client.hear("response.output_text.delta").await;
    drop(client);
    let record = record_where(&gateway, |line| details(line)["operation"] == "responses/websocket").await;
    check_record(&record, &json!({ "outcome": "served", "estimated": "true" }));
    let produced: u64 = record["completion_tokens"].as_str().unwrap().parse().unwrap();
    assert!((1..10).contains(&produced), "{record}");
}

#[tokio::test]
async fn ids_of_responses_by_socket_are_sealed() {
    let setup = Setup::new().workers(1).edit(|config| {
        serves(config);
        config["pinning"] = json!({ "secret_envs": ["TOLLGATE_IDS"] });
    });
    let setup = setup.patch(passes_the_secret).env("TOLLGATE_IDS", "the same secret for all of a fleet");
    let gateway = Gateway::start(setup).await.unwrap();
    let mut client = open(&gateway).await;
    client.say(create("gpt-5", json!({}))).await;
    let made = client.hear("response.completed").await["response"]["id"].as_str().unwrap().to_owned();
    assert!(!made.contains("resp_ws_"), "{made}");
    client.say(create("gpt-5", json!({ "previous_response_id": made }))).await;
    assert_eq!(client.hear("response.completed").await["response"]["previous_response_id"], made);
    let mut forged = made.clone();
    forged.replace_range(made.len() - 6..made.len() - 2, "0000");
    for (id, code) in [(&*forged, "id_not_found"), ("resp_ws_0", "id_not_found")] {
        client.say(create("gpt-5", json!({ "previous_response_id": id }))).await;
        assert_eq!(client.hear("error").await["error"]["code"], code, "{id}");
    }
    // Of a connection that is over, the backend says so, in its client's words.
    client.end().await;
    let mut client = open(&gateway).await;
    client.say(create("gpt-5", json!({ "previous_response_id": made }))).await;
    let error = client.hear("error").await["error"].clone();
    assert_eq!(error["code"], "previous_response_not_found");
    assert!(error["message"].as_str().unwrap().contains(&made), "{error}");
    client.end().await;
}

#[tokio::test]
async fn the_official_sdk_asks_for_responses_by_socket() {
    let gateway = gateway(|_| {}).await;
    let asked = json!([
        { "model": "gpt-5", "input": "hello" },
        { "model": "none", "input": "hello" },
        { "model": "gpt-5-mini", "input": "hello", "max_output_tokens": 40 },
    ]);
    let sdk = Sdk { language: Language::Python, class: "OpenAI" };
    let found = outcomes(&gateway, &[Call::new(sdk, WEB_SHOP, "responses.connect", asked)]).await.remove(0);
    let answers = &found["answer"];
    assert_eq!(answers[0], json!({ "text": "hello there", "output_tokens": OUTPUT }), "{found}");
    assert_eq!(answers[1]["error"]["error"]["code"], "model_not_allowed", "{found}");
    assert_eq!(answers[2]["output_tokens"], 40, "{found}");
    assert_eq!(used(&gateway).await, 2 * INPUT + OUTPUT + 40);
}
