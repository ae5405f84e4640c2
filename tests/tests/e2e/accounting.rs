//! Do the access log and the metrics say what the backends billed?

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{
    BATCH, CHAT, COMPLETIONS, EMBEDDING, EMBEDDINGS, GPT_4O, INSTRUCT, RESPONSES, WEB_SHOP, chat,
    nobody_is_limited, with,
};

/// Tokens by client and model: prompt, cached, completion, reasoning.
type Tokens = BTreeMap<(String, String), [u64; 4]>;

fn add(tokens: &mut Tokens, client: &str, model: &str, more: [u64; 4]) {
    let entry = tokens.entry((client.to_owned(), model.to_owned())).or_default();
    for (sum, more) in entry.iter_mut().zip(more) {
        *sum += more;
    }
}

/// The models by the names that backends know them by.
fn model_of(deployment: &str) -> &str {
    if deployment == "gpt-4o-ptu" { GPT_4O } else { deployment }
}

#[tokio::test]
async fn bill_log_and_metrics_agree_to_the_token() {
    let thinks = Settings { reasoning_tokens: 7, cached_tokens: 3, ..Settings::default() };
    let setup = Setup::new()
        .edit(nobody_is_limited)
        // The only one the mock takes responses for.
        .edit(|config| config["backends"][0]["api_version"] = json!("2025-03-01-preview"))
        .mock("ptu", thinks.clone())
        .mock("payg-a", thinks);
    let gateway = Gateway::start(setup).await.unwrap();

    let stream = json!({ "stream": true });
    let seen = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let completion = json!({ "model": INSTRUCT, "prompt": ["one two", "three"], "max_tokens": 9 });
    let response = json!({ "model": GPT_4O, "input": "hello", "instructions": "be brief" });
    let requests = [
        (WEB_SHOP, CHAT, chat("hello")),
        (WEB_SHOP, CHAT, with(chat("a longer question"), json!({ "n": 2, "max_tokens": 8 }))),
        (WEB_SHOP, CHAT, with(chat("a stream"), stream.clone())),
        (WEB_SHOP, CHAT, with(chat("a stream"), with(seen, json!({ "n": 2 })))),
        (BATCH, CHAT, with(chat("another client"), stream.clone())),
        (BATCH, COMPLETIONS, completion.clone()),
        (BATCH, COMPLETIONS, with(completion, stream.clone())),
        (WEB_SHOP, EMBEDDINGS, json!({ "model": EMBEDDING, "input": ["hello", "world and more"] })),
        (BATCH, EMBEDDINGS, json!({ "model": EMBEDDING, "input": [[1, 2, 3, 4], [5]] })),
        (WEB_SHOP, RESPONSES, response.clone()),
        (WEB_SHOP, RESPONSES, with(response, stream)),
    ];
    for (at, (key, path, body)) in requests.iter().enumerate() {
        // Every third one is served by the second backend, if there is one. Responses stay with the first: Azure reads
        // the deployment from their body, and the others know the model by another name.
        let busy =
            (at % 3 == 2 && *path != RESPONSES).then(|| Fault::answer(429).header("retry-after-ms", "0.001"));
        gateway.mock("ptu").update(|settings| settings.faults = busy.into_iter().collect());
        let answer = gateway.post(path, key, body).await.unwrap();
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    }
    // Refusals and errors cost nothing.
    gateway.mock("ptu").update(|settings| settings.faults = [Fault::answer(400)].into());
    for (key, status) in [(WEB_SHOP, 400), ("nobody", 401)] {
        assert_eq!(gateway.post(CHAT, key, &chat("hello")).await.unwrap().status, status);
    }
    let log = gateway.wait_for_log(requests.len() + 2).await.unwrap();

    let mut billed = Tokens::new();
    for backend in gateway.backends().keys() {
        let mock = gateway.mock(backend);
        let received = mock.received();
        for bill in mock.billed() {
            // Whose it was is nothing that a backend is told: the words are.
            let request = received.iter().find(|received| received.serial == bill.serial).unwrap();
            let client = client_of(&request.json(), &requests);
            let usage = bill.usage;
            let tokens = [usage.prompt, usage.cached, usage.completion, usage.reasoning];
            add(&mut billed, client, model_of(&bill.model), tokens);
        }
    }

    let mut logged = Tokens::new();
    for line in log.iter().filter(|line| line["outcome"] == "served") {
        let number = |field: &str| line[field].as_str().unwrap().parse::<u64>().unwrap();
        let text = |field: &str| line[field].as_str().unwrap();
        assert_eq!(text("estimated"), "false");
        let tokens = [number("prompt_tokens"), 0, number("completion_tokens"), 0];
        add(&mut logged, text("client"), text("model"), tokens);
    }
    let logged_part: Tokens =
        billed.iter().map(|(key, tokens)| (key.clone(), [tokens[0], 0, tokens[2], 0])).collect();
    assert_eq!(logged, logged_part);
    assert_eq!(billed.len(), 5);

    for ((client, model), tokens) in &billed {
        for (kind, tokens) in ["prompt", "cached", "completion", "reasoning"].iter().zip(tokens) {
            let labels = [("client", client.as_str()), ("model", model), ("kind", kind)];
            // A counter that never counted is not there, which reads as zero.
            gateway.wait_for_metric("tollgate_tokens", &labels, *tokens as f64).await.unwrap();
        }
    }
    let total: u64 = billed.values().flatten().sum();
    gateway.wait_for_metric("tollgate_tokens", &[], total as f64).await.unwrap();
    let outcomes = [("served", requests.len()), ("backend_error", 1), ("invalid_api_key", 1)];
    for (outcome, count) in outcomes {
        gateway.wait_for_metric("tollgate_requests", &[("outcome", outcome)], count as f64).await.unwrap();
    }
    let unknown = [("client", "none"), ("model", "none")];
    gateway.wait_for_metric("tollgate_requests", &unknown, 1.0).await.unwrap();
    gateway.wait_for_metric("tollgate_cooldowns", &[("backend", "ptu")], busy_count(&gateway)).await.unwrap();
    assert_eq!(gateway.metric("tollgate_store_faults", &[]).await.unwrap() + 0.0, 0.0);
}

/// Whose request a backend was sent: the one with the same prompt.
fn client_of(sent: &Value, requests: &[(&str, &str, Value)]) -> &'static str {
    let is_it =
        |body: &Value| ["messages", "prompt", "input"].iter().all(|field| body[*field] == sent[*field]);
    let (key, ..) = requests.iter().find(|(_, _, body)| is_it(body)).unwrap();
    if *key == WEB_SHOP { "web-shop" } else { "batch" }
}

/// How often `ptu` said that it was busy.
fn busy_count(gateway: &Gateway) -> f64 {
    let received = gateway.mock("ptu").received();
    received.iter().filter(|request| request.status == Some(429)).count() as f64
}
