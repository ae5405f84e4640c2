//! Does the backend that answers soonest get the requests?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::Settings;

use crate::requests::{CHAT, EMBEDDING, EMBEDDINGS, GPT_4O, WEB_SHOP, chat, nobody_is_limited, with};

/// Two equals, of which the nearest comes first.
fn by_nearness(config: &mut Value) {
    config["models"][0]["order_by"] = json!("time_to_first_token");
    config["models"][0]["backends"] = json!([
        { "backend": "payg-a", "deployment": "gpt-4o" },
        { "backend": "payg-b", "deployment": "gpt-4o" },
    ]);
}

/// On a connection of its own, so that all workers are asked.
async fn ask(gateway: &Gateway, stream: bool) {
    let body = with(chat("how near are you"), json!({ "max_tokens": 8, "stream": stream }));
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
    let request = request.header("connection", "close").json(&body);
    let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn asked(gateway: &Gateway, backend: &str) -> usize {
    gateway.mock(backend).received().len()
}

/// Asks for streams until this backend has been asked so often.
async fn until(gateway: &Gateway, backend: &str, times: usize) {
    for _ in 0..200 {
        if asked(gateway, backend) >= times {
            return;
        }
        ask(gateway, true).await;
    }
    panic!("{backend} was asked {} times", asked(gateway, backend));
}

/// What is no stream goes to the nearest, for it asks nobody how near it is.
async fn all_go_to(gateway: &Gateway, backend: &str) {
    let before = asked(gateway, backend);
    for _ in 0..10 {
        ask(gateway, false).await;
    }
    assert_eq!(asked(gateway, backend), before + 10);
}

#[tokio::test]
async fn the_nearest_backend_is_asked_first_until_it_is_slower() {
    let slow = Settings { latency_ms: 300, ..Settings::default() };
    let setup = Setup::new().edit(nobody_is_limited).edit(by_nearness).mock("payg-a", slow);
    let gateway = Gateway::start(setup).await.unwrap();
    // Nothing is known: as they stand.
    all_go_to(&gateway, "payg-a").await;
    // One that shows its first token, and some that see how near the other is.
    until(&gateway, "payg-b", 1).await;
    all_go_to(&gateway, "payg-b").await;
    let before = asked(&gateway, "payg-a");
    for _ in 0..20 {
        ask(&gateway, true).await;
    }
    // It was seen a moment ago, so nobody asks it how near it is.
    assert_eq!(asked(&gateway, "payg-a"), before);
    // It gets slow, and the other is the nearer one again.
    gateway.mock("payg-b").update(|settings| settings.latency_ms = 3000);
    until(&gateway, "payg-a", before + 1).await;
    all_go_to(&gateway, "payg-a").await;
}

/// The same two equals for both models, measured by whole answers too.
fn by_latency(config: &mut Value) {
    by_nearness(config);
    let backends = config["models"][0]["backends"].clone();
    for model in config["models"].as_array_mut().unwrap() {
        if [GPT_4O, EMBEDDING].map(Some).contains(&model["name"].as_str()) {
            model["order_by"] = json!("latency");
            model["backends"] = backends.clone();
        }
    }
}

#[tokio::test]
async fn a_backend_ten_times_slower_is_left_by_whole_answers() {
    let slow = Settings { latency_ms: 300, ..Settings::default() };
    let setup = Setup::new().edit(nobody_is_limited).edit(by_latency).mock("payg-a", slow);
    let gateway = Gateway::start(setup).await.unwrap();
    let embeddings = json!({ "model": EMBEDDING, "input": "how near are you" });
    for (path, body) in
        [(CHAT, with(chat("how near are you"), json!({ "max_tokens": 8 }))), (EMBEDDINGS, embeddings)]
    {
        let ask = || async {
            let request = gateway.http().post(format!("{}{path}", gateway.url())).bearer_auth(WEB_SHOP);
            let request = request.header("connection", "close").json(&body);
            let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        };
        let (slow, fast) = (asked(&gateway, "payg-a"), asked(&gateway, "payg-b"));
        for _ in 0..200 {
            if asked(&gateway, "payg-b") > fast {
                break;
            }
            ask().await;
        }
        // Nothing was known, so the one that stands first was asked, until one went to see how the other is.
        assert!(asked(&gateway, "payg-a") > slow && asked(&gateway, "payg-b") == fast + 1, "{path}");
        let slow = asked(&gateway, "payg-a");
        for _ in 0..20 {
            ask().await;
        }
        assert_eq!((asked(&gateway, "payg-a"), asked(&gateway, "payg-b")), (slow, fast + 21), "{path}");
    }
}
