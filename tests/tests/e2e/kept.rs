//! Is what was made through the gateway found again through it, and nowhere else?
//!
//! A mock keeps what was made at it and says 404 of everything else, as a resource does: a follow-up that went to another
//! one would fail. What is at which is seen once more by asking each with the backend's own id.

use serde_json::{Value, json};
use tollgate_tests::harness::Gateway;
use tollgate_tests::mock::{Fault, Mock, Settings};

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::pinned::{BACKENDS, envoy, envoy_with, unsealed};
use crate::requests::{BATCH, GPT_4O, WEB_SHOP};

const PYTHON: Sdk = Sdk { language: Language::Python, class: "OpenAI" };
const AZURE: Sdk = Sdk { language: Language::Python, class: "AzureOpenAI" };
const NODE: Sdk = Sdk { language: Language::Node, class: "OpenAI" };

async fn mocks() -> Vec<Mock> {
    let mut mocks = Vec::new();
    for (name, _) in BACKENDS {
        mocks.push(Mock::start(name, Settings::default()).await.unwrap());
    }
    mocks
}

/// The next request does not stay at the first backend that it goes to.
fn moves_on(mocks: &[Mock], first: usize) {
    mocks[first].update(|settings| settings.faults = [Fault::answer(503)].into());
}

/// The fleet, and whoever asks it: each time the other Envoy.
struct Fleet {
    envoys: [Gateway; 2],
    asked: usize,
    sdk: Sdk,
}

impl Fleet {
    async fn try_as(&mut self, key: &str, method: &'static str, arguments: Value) -> Value {
        self.asked += 1;
        let envoy = &self.envoys[self.asked % 2];
        outcomes(envoy, &[Call::new(self.sdk, key, method, arguments)]).await.remove(0)
    }

    /// What is answered, which must be good.
    #[track_caller]
    fn call(&mut self, method: &'static str, arguments: Value) -> impl Future<Output = Value> {
        let from = std::panic::Location::caller();
        async move {
            let mut outcome = self.try_as(WEB_SHOP, method, arguments).await;
            assert!(outcome.get("answer").is_some(), "{method} of {from}: {outcome}");
            outcome["answer"].take()
        }
    }

    /// It is as if there were no such thing.
    async fn misses(&mut self, key: &str, method: &'static str, arguments: Value) {
        let outcome = self.try_as(key, method, arguments).await;
        assert_eq!(
            (&outcome["exception"], &outcome["status"], &outcome["code"]),
            (&json!("NotFoundError"), &json!(404), &json!("id_not_found")),
            "{method} {outcome}"
        );
    }
}

fn id(object: &Value) -> String {
    let id = object["id"].as_str().unwrap();
    assert!(id.contains("tg_"), "{object}");
    id.to_owned()
}

/// By its own id a thing is at this mock, and at no other.
async fn only_at(mocks: &[Mock], at: usize, path: &str) {
    let path = unsealed(path);
    for (mock, place) in mocks.iter().zip(0..) {
        let found = reqwest::get(format!("{}/v1/{path}", mock.url())).await.unwrap().status();
        assert_eq!(found == 200, place == at, "{path} at {place}: {found}");
    }
}

#[tokio::test]
async fn responses_and_conversations_are_found_again_from_any_envoy() {
    let mocks = mocks().await;
    let mut fleet = Fleet { envoys: [envoy(&mocks).await, envoy(&mocks).await], asked: 0, sdk: PYTHON };
    moves_on(&mocks, 0);
    let input = "remember me";
    let first = fleet.call("responses.create", json!({ "model": GPT_4O, "input": input })).await;
    let response = id(&first);
    only_at(&mocks, 1, &format!("responses/{response}")).await;
    let more = json!({ "model": GPT_4O, "input": "go on", "previous_response_id": response });
    assert_eq!(fleet.call("responses.create", more.clone()).await["previous_response_id"], json!(response));
    let stream =
        json!({ "model": GPT_4O, "input": "a stream", "previous_response_id": response, "stream": true });
    let events = fleet.call("responses.create", stream).await;
    let second = id(&events.as_array().unwrap().last().unwrap()["response"]);
    only_at(&mocks, 1, &format!("responses/{second}")).await;

    for response in [&response, &second] {
        let named = json!({ "response_id": response });
        assert_eq!(fleet.call("responses.retrieve", named.clone()).await["id"], json!(response));
        let items = fleet.call("responses.input_items.list", named.clone()).await;
        assert_eq!(items["data"].as_array().unwrap().len(), 1);
        assert_eq!(fleet.call("responses.cancel", named.clone()).await["status"], "cancelled");
        // Nobody else's, and nothing that was changed.
        fleet.misses(BATCH, "responses.retrieve", named.clone()).await;
        fleet.misses(WEB_SHOP, "responses.retrieve", json!({ "response_id": format!("{response}0") })).await;
        fleet.call("responses.delete", named.clone()).await;
        // The backend does not have it any more, and says so of the id that the client knows.
        let gone = fleet.try_as(WEB_SHOP, "responses.retrieve", named).await;
        let message = format!("Response with id '{response}' not found.");
        assert_eq!((&gone["code"], &gone["message"]), (&json!("not_found"), &json!(message)));
    }
    let gone = fleet.try_as(WEB_SHOP, "responses.create", more).await;
    let message = format!("Previous response with id '{response}' not found.");
    assert_eq!(gone["message"], json!(message), "{gone}");

    // A conversation goes to the first of the endpoints without a name, which is another backend.
    let made = fleet
        .call(
            "conversations.create",
            json!({ "items": [ { "type": "message", "role": "user", "content": "a" } ] }),
        )
        .await;
    let conversation = id(&made);
    only_at(&mocks, 2, &format!("conversations/{conversation}")).await;
    let said = fleet
        .call("responses.create", json!({ "model": GPT_4O, "input": "say it", "conversation": conversation }))
        .await;
    assert_eq!(said["conversation"]["id"], json!(conversation));
    let items = fleet.call("conversations.items.list", json!({ "conversation_id": conversation })).await;
    let item = id(&items["data"][2]);
    let named = json!({ "conversation_id": conversation, "item_id": item });
    assert_eq!(fleet.call("conversations.items.retrieve", named).await["role"], "assistant");
    fleet.misses(BATCH, "conversations.items.list", json!({ "conversation_id": conversation })).await;
}

#[tokio::test]
async fn hidden_reasoning_goes_back_to_who_can_read_it() {
    let mocks = mocks().await;
    let mut fleet = Fleet { envoys: [envoy(&mocks).await, envoy(&mocks).await], asked: 0, sdk: PYTHON };
    for stream in [false, true] {
        moves_on(&mocks, 0);
        let asked = json!({
            "model": GPT_4O, "input": "think", "store": false, "stream": stream,
            "include": ["reasoning.encrypted_content"],
        });
        let answer = fleet.call("responses.create", asked).await;
        let whole = if stream { &answer.as_array().unwrap().last().unwrap()["response"] } else { &answer };
        let kept = &whole["output"][0]["encrypted_content"];
        assert!(kept.as_str().unwrap().starts_with("tg_"), "{kept}");
        // Without its id nothing but the seal of the content tells where it is from.
        let reasoning = json!({ "type": "reasoning", "summary": [], "encrypted_content": kept });
        let question = json!({ "role": "user", "content": "and then?" });
        let follow_up = json!({ "model": GPT_4O, "input": [reasoning, question], "store": false });
        let billed = mocks[1].billed().len();
        fleet.call("responses.create", follow_up.clone()).await;
        assert_eq!(mocks[1].billed().len(), billed + 1);
        fleet.misses(BATCH, "responses.create", follow_up).await;
        // Another could not have read it.
        let raw = json!({ "type": "reasoning", "summary": [], "encrypted_content": unsealed(kept.as_str().unwrap()) });
        let body = json!({ "model": GPT_4O, "input": [raw] });
        let at = |at: usize| {
            reqwest::Client::new().post(format!("{}/v1/responses", mocks[at].url())).json(&body).send()
        };
        assert_eq!(at(1).await.unwrap().status(), 200);
        assert_eq!(at(0).await.unwrap().status(), 400);
    }
}

#[tokio::test]
async fn what_is_kept_at_a_backend_is_found_again_from_any_envoy() {
    let mocks = mocks().await;
    let mut fleet = Fleet { envoys: [envoy(&mocks).await, envoy(&mocks).await], asked: 0, sdk: PYTHON };
    for sdk in [PYTHON, AZURE] {
        fleet.sdk = sdk;
        // With one form, without ids: what is made goes to the second of the endpoints without a name.
        moves_on(&mocks, 2);
        let content = "{\"id\": \"what a client calls its own\"}\n";
        let upload = json!({ "file": ["in.jsonl", content], "purpose": "batch" });
        let file = id(&fleet.call("files.create", upload).await);
        only_at(&mocks, 1, &format!("files/{file}")).await;
        let named = json!({ "file_id": file });
        assert_eq!(fleet.call("files.retrieve", named.clone()).await["filename"], "in.jsonl");
        assert_eq!(fleet.call("files.content", named.clone()).await, json!(content));

        let store = id(&fleet.call("vector_stores.create", json!({ "file_ids": [file] })).await);
        let in_store = json!({ "vector_store_id": store });
        let files = fleet.call("vector_stores.files.list", in_store).await;
        assert_eq!((&files["data"][0]["id"], &files["last_id"]), (&json!(file), &json!(file)), "{files}");
        let one = json!({ "vector_store_id": store, "file_id": file });
        fleet.call("vector_stores.files.create", one.clone()).await;
        fleet.call("vector_stores.files.retrieve", one.clone()).await;
        fleet.call("vector_stores.files.delete", one).await;

        let tools = json!({ "file_search": { "vector_store_ids": [store] } });
        let made =
            json!({ "model": GPT_4O, "tools": [ { "type": "file_search" } ], "tool_resources": tools });
        let assistant = id(&fleet.call("beta.assistants.create", made).await);
        let thread = id(&fleet.call("beta.threads.create", json!({ "tool_resources": tools })).await);
        let message = json!({ "thread_id": thread, "role": "user", "content": "a b c" });
        let message = id(&fleet.call("beta.threads.messages.create", message).await);
        let named_message = json!({ "thread_id": thread, "message_id": message });
        fleet.call("beta.threads.messages.retrieve", named_message).await;
        let run = json!({ "thread_id": thread, "assistant_id": assistant });
        let run = id(&fleet.call("beta.threads.runs.create", run).await);
        let found =
            fleet.call("beta.threads.runs.retrieve", json!({ "thread_id": thread, "run_id": run })).await;
        assert_eq!((&found["assistant_id"], &found["thread_id"]), (&json!(assistant), &json!(thread)));
        let stream = json!({ "thread_id": thread, "assistant_id": assistant, "stream": true });
        let events = fleet.call("beta.threads.runs.create", stream).await;
        let events = events.as_array().unwrap();
        assert_eq!(events[0]["event"], "thread.run.created", "{events:?}");
        let last = events.last().unwrap();
        assert_eq!(
            (&last["event"], &last["data"]["thread_id"]),
            (&json!("thread.run.completed"), &json!(thread))
        );
        let run = id(&last["data"]);
        fleet.call("beta.threads.runs.retrieve", json!({ "thread_id": thread, "run_id": run })).await;
        let said = fleet.call("beta.threads.messages.list", json!({ "thread_id": thread })).await;
        assert_eq!(said["data"].as_array().unwrap().len(), 3);

        let batch = json!({ "input_file_id": file, "endpoint": "/v1/responses", "completion_window": "24h" });
        let batch = fleet.call("batches.create", batch).await;
        fleet.call("batches.retrieve", json!({ "batch_id": id(&batch) })).await;
        fleet.call("files.content", json!({ "file_id": batch["output_file_id"] })).await;
        fleet.call("batches.cancel", json!({ "batch_id": id(&batch) })).await;

        // A list shows what is where it is asked, which is another backend; its ids are of that one.
        let listed = fleet.call("files.list", json!({})).await;
        assert!(!listed.to_string().contains(&file), "{listed}");

        // Nobody else's, nothing that was changed, nothing of two backends.
        let foreign = [
            ("files.content", named.clone()),
            ("vector_stores.retrieve", json!({ "vector_store_id": store })),
            ("beta.assistants.retrieve", json!({ "assistant_id": assistant })),
            ("beta.threads.runs.create", json!({ "thread_id": thread, "assistant_id": assistant })),
            ("batches.retrieve", json!({ "batch_id": id(&batch) })),
        ];
        for (method, arguments) in foreign {
            fleet.misses(BATCH, method, arguments).await;
        }
        fleet.misses(WEB_SHOP, "files.retrieve", json!({ "file_id": format!("{file}0") })).await;
        let elsewhere = id(&fleet.call("beta.threads.create", json!({})).await);
        only_at(&mocks, 2, &format!("threads/{elsewhere}")).await;
        let run = json!({ "thread_id": elsewhere, "assistant_id": assistant });
        let mixed = fleet.try_as(WEB_SHOP, "beta.threads.runs.create", run).await;
        assert_eq!(mixed["code"], "ids_of_different_backends");

        assert_eq!(fleet.call("files.delete", named.clone()).await["deleted"], true);
        let gone = fleet.try_as(WEB_SHOP, "files.retrieve", named).await;
        assert_eq!(gone["message"], json!(format!("File with id '{file}' not found.")), "{gone}");
    }
}

#[tokio::test]
async fn a_pinned_429_is_passed_on_with_its_wait() {
    let mocks = mocks().await;
    let mut fleet = Fleet { envoys: [envoy(&mocks).await, envoy(&mocks).await], asked: 0, sdk: PYTHON };
    let thread = id(&fleet.call("beta.threads.create", json!({})).await);
    let path = format!("/v1/threads/{thread}");
    let before: Vec<usize> = mocks.iter().map(|mock| mock.received().len()).collect();
    mocks[2]
        .update(|settings| settings.faults = [Fault::answer(429).header("retry-after-ms", "300000")].into());
    let url = format!("{}{path}", fleet.envoys[0].url());
    let answer = fleet.envoys[0].http().get(url).bearer_auth(WEB_SHOP).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after-ms"], "300000");
    let after: Vec<usize> = mocks.iter().map(|mock| mock.received().len()).collect();
    assert_eq!(after, [before[0], before[1], before[2] + 1]);
}

#[tokio::test]
async fn a_model_without_a_policy_is_held_to_what_the_client_may_use() {
    let mocks = mocks().await;
    let alias = |config: &mut Value| {
        config["models"][0]["aliases"] = json!(["an-alias"]);
        config["models"][0]["backends"][2]["deployment"] = json!("its-own-name");
    };
    let gateway = envoy_with(&mocks, alias).await;
    let create =
        |model: &str| Call::new(PYTHON, WEB_SHOP, "beta.assistants.create", json!({ "model": model }));
    let found = outcomes(&gateway, &[create("an-alias"), create("gpt-35-turbo-instruct")]).await;
    assert_eq!(found[0]["answer"]["model"], "its-own-name", "{found:?}");
    assert_eq!((&found[1]["status"], &found[1]["code"]), (&json!(403), &json!("model_not_allowed")));
    assert_eq!(mocks.iter().map(|mock| mock.received().len()).collect::<Vec<_>>(), [0, 0, 1]);
}

#[tokio::test]
async fn unsealed_ids_are_refused_where_ids_are_bound() {
    let mocks = mocks().await;
    let envoys = [envoy(&mocks).await, envoy(&mocks).await];
    let mut fleet = Fleet { envoys, asked: 0, sdk: PYTHON };
    let first = fleet.call("responses.create", json!({ "model": GPT_4O, "input": "remember me" })).await;
    let response = id(&first);
    let thread = id(&fleet.call("beta.threads.create", json!({})).await);
    let asked = |mocks: &[Mock]| mocks.iter().map(|mock| mock.received().len()).sum::<usize>();
    let before = asked(&mocks);
    // They are there, and the backend would say so.
    only_at(&mocks, 0, &format!("responses/{response}")).await;
    let raw = unsealed(&response);
    let follow_up = json!({ "model": GPT_4O, "input": "x", "previous_response_id": raw });
    fleet.misses(WEB_SHOP, "responses.create", follow_up).await;
    fleet.misses(WEB_SHOP, "responses.retrieve", json!({ "response_id": raw })).await;
    fleet.misses(WEB_SHOP, "beta.threads.retrieve", json!({ "thread_id": unsealed(&thread) })).await;
    assert_eq!(asked(&mocks), before + mocks.len());
    fleet.call("responses.retrieve", json!({ "response_id": response })).await;
    fleet.call("beta.threads.retrieve", json!({ "thread_id": thread })).await;
}

#[tokio::test]
async fn the_sdk_for_node_finds_again_what_it_made() {
    let mocks = mocks().await;
    let mut fleet = Fleet { envoys: [envoy(&mocks).await, envoy(&mocks).await], asked: 0, sdk: NODE };
    moves_on(&mocks, 0);
    let first = fleet.call("responses.create", json!({ "model": GPT_4O, "input": "remember me" })).await;
    let response = id(&first);
    assert_eq!(fleet.call("responses.retrieve", json!([response])).await["id"], json!(response));
    fleet.call("responses.delete", json!([response])).await;
    moves_on(&mocks, 2);
    let upload = json!({ "file": ["in.jsonl", "{}\n"], "purpose": "batch" });
    let file = id(&fleet.call("files.create", upload).await);
    only_at(&mocks, 1, &format!("files/{file}")).await;
    assert_eq!(fleet.call("files.content", json!([file])).await, "{}\n");
    let assistant = id(&fleet.call("beta.assistants.create", json!({ "model": GPT_4O })).await);
    let thread = id(&fleet.call("beta.threads.create", json!({})).await);
    let run = json!([thread, { "assistant_id": assistant, "stream": true }]);
    let events = fleet.call("beta.threads.runs.create", run).await;
    let run = id(&events.as_array().unwrap().last().unwrap()["data"]);
    fleet.call("beta.threads.runs.retrieve", json!([run, { "thread_id": thread }])).await;
    fleet.misses(BATCH, "beta.threads.retrieve", json!([thread])).await;
}
