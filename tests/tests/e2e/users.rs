//! Has each user of a client his own limits, whichever worker serves him, and are there never too many of them?

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tollgate::value;
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Settings, tokens};

use crate::issuer::{ISSUER, public, research, token_with};
use crate::metering::{load_module, served_again, trapping_module};
use crate::proven::said_by_a_filter;
use crate::requests::{BATCH, CHAT, WEB_SHOP, chat, details, prompt_estimate, record_of, with};

/// Of a month, so that time gives nothing back while a test runs.
const TOKENS: u64 = 1000;

/// A change of the configuration: a client `research`, of whose users each has these limits.
fn each_user_has(limits: Value) -> impl FnOnce(&mut Value) + Send {
    move |config| {
        research(json!({ "keys": public("ed25519") }))(config);
        let clients = config["clients"].as_array_mut().unwrap();
        clients.last_mut().unwrap()["limits"] = limits;
    }
}

/// A token of this user.
fn user(name: &str) -> String {
    token_with("ed25519", Algorithm::EdDSA, json!({ "sub": name }))
}

/// Connections are dealt out evenly. Without this the kernel does as it likes, perhaps all to one worker.
fn to_both_workers(envoy: &mut Value) {
    envoy["static_resources"]["listeners"][0]["connection_balance_config"] = json!({ "exact_balance": {} });
}

/// What is used of each of his limits.
async fn used(gateway: &Gateway, bearer: &str) -> Vec<u64> {
    used_at(gateway, "/tollgate/v1/usage", bearer).await
}

/// The same, as this path tells it.
async fn used_at(gateway: &Gateway, path: &str, bearer: &str) -> Vec<u64> {
    let request = gateway.http().get(format!("{}{path}", gateway.url())).bearer_auth(bearer);
    let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let limits = answer.json()["limits"].as_array().unwrap().clone();
    limits.iter().map(|limit| limit["used"].as_u64().unwrap()).collect()
}

#[track_caller]
fn check_refused(answer: &Answer, code: &str, limit: &str) {
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!(code)), "{}", answer.text());
    assert!(answer.text().contains(limit), "{limit}: {}", answer.text());
}

#[tokio::test]
async fn two_workers_give_each_user_his_own_to_the_token() {
    const EACH: u64 = 80;
    let hold = Settings { hold: true, ..Settings::default() };
    let limits = json!([ { "tokens": TOKENS, "per": "month", "by": { "claim": "sub" } } ]);
    let setup = Setup::new().workers(2).patch(to_both_workers).edit(each_user_has(limits)).mock("ptu", hold);
    let gateway = Gateway::start(setup).await.unwrap();

    let (names, mut asked) = (["ann", "bob"], JoinSet::new());
    for at in 0..2 * EACH {
        let name = names[(at % 2) as usize];
        let body = with(chat(name), json!({ "max_tokens": 10 + at % 7 * 5 }));
        let reserved = prompt_estimate(&body) + body["max_tokens"].as_u64().unwrap();
        let (url, http, token) = (format!("{}{CHAT}", gateway.url()), gateway.http().clone(), user(name));
        asked.spawn(async move {
            let request = http.post(url).bearer_auth(token).json(&body);
            (name, reserved, Answer::read(request.send().await.unwrap()).await.unwrap())
        });
    }
    // Whoever is admitted waits at the backend, so nothing is settled; the others have their answer.
    let mut refused = Vec::new();
    loop {
        tokio::select! {
            Some(answer) = asked.join_next() => refused.push(answer.unwrap()),
            () = gateway.mock("ptu").wait_for_requests((2 * EACH as usize) - refused.len()) => break,
        }
    }
    let admitted: Vec<Value> =
        gateway.mock("ptu").received().iter().map(|received| received.json()).collect();
    for name in names {
        let is_his = |body: &&Value| body["messages"][0]["content"] == name;
        let reserved: u64 = admitted
            .iter()
            .filter(is_his)
            .map(|body| prompt_estimate(body) + body["max_tokens"].as_u64().unwrap())
            .sum();
        assert_eq!(used(&gateway, &user(name)).await, [reserved]);
        assert!(reserved <= TOKENS, "{reserved} of {name}");
        let least =
            refused.iter().filter(|(other, ..)| *other == name).map(|(_, reserved, _)| *reserved).min();
        assert!(TOKENS < reserved + least.unwrap(), "{least:?} would fit beside {reserved} of {name}");
    }
    for (_, _, answer) in &refused {
        check_refused(
            answer,
            "insufficient_quota",
            "This client's limit of 1000 tokens per month for each `sub`",
        );
    }
    // Nobody else has spent anything.
    assert_eq!(used(&gateway, &user("carl")).await, [0]);
    gateway.mock("ptu").release();
    gateway.mock("ptu").update(|settings| settings.hold = false);
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap().2.status, 200);
    }
    let answer =
        gateway.post(CHAT, &user("carl"), &with(chat("carl"), json!({ "max_tokens": 20 }))).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    record_of(&gateway, &answer).await;
    // Each is charged what he used, and nothing of the others.
    let is_chat = |line: &&Value| details(line)["operation"] == "chat/completions";
    let all = 2 * EACH as usize + 1;
    gateway.wait_for_log_where(|log| log.iter().filter(is_chat).count() == all).await.unwrap();
    let mut all = 0;
    for name in ["ann", "bob", "carl"] {
        let bodies = gateway.mock("ptu").received().into_iter().map(|received| received.json());
        let his = bodies.filter(|body| body["messages"][0]["content"] == name);
        let produced = |body: &Value| body["max_tokens"].as_u64().map_or(24, |most| most.min(24));
        let billed: u64 =
            his.map(|body| tokens::chat(body["messages"].as_array().unwrap()) + produced(&body)).sum();
        assert_eq!(used(&gateway, &user(name)).await, [billed], "{name}");
        all += billed;
    }
    assert_eq!(all, gateway.mock("ptu").billed().iter().map(|bill| bill.usage.total()).sum::<u64>());
    // No metric has a user.
    let metrics = gateway.admin("/stats?filter=tollgate").await.unwrap();
    assert!(metrics.contains("claim/tokens/month"), "{metrics}");
    assert!(
        !metrics.contains("carl") && !metrics.contains(&value::Value::of(ISSUER, b"carl").to_string()),
        "{metrics}"
    );
}

#[tokio::test]
async fn each_key_of_a_client_has_its_own_limits() {
    const SECOND: &str = "demo-web-shop-2";
    let edit = |config: &mut Value| {
        let second = hex::encode(Sha256::digest(SECOND));
        config["clients"][0]["api_keys"].as_array_mut().unwrap().push(json!({ "sha256": second }));
        config["clients"][0]["limits"] =
            json!([ { "requests": 3, "per": "month" }, { "requests": 2, "per": "month", "by": "key" } ]);
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(edit)).await.unwrap();
    let ask = async |key| gateway.post(CHAT, key, &chat("hello")).await.unwrap();
    for left in ["1", "0"] {
        let answer = ask(WEB_SHOP).await;
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining-requests")), (200, left));
    }
    check_refused(&ask(WEB_SHOP).await, "insufficient_quota", "2 requests per month for each key");
    assert_eq!(ask(SECOND).await.status, 200);
    // All of them together have no more than the client has.
    check_refused(&ask(SECOND).await, "insufficient_quota", "This client's limit of 3 requests per month");
    assert_eq!(used(&gateway, SECOND).await, [3, 1]);
    assert_eq!(used(&gateway, WEB_SHOP).await, [3, 2]);
}

#[tokio::test]
async fn a_flood_of_users_leaves_each_his_own() {
    const FLOOD: usize = 2000;
    let limits = |config: &mut Value| {
        config["clients"][0]["limits"] =
            json!([ { "requests": 2, "per": "month", "by": { "field": "user" } } ]);
    };
    let gateway = Gateway::start(Setup::new().workers(2).patch(to_both_workers).edit(limits)).await.unwrap();
    let of = |user: &str| with(chat("hello"), json!({ "user": user, "max_tokens": 1 }));
    for _ in 0..2 {
        assert_eq!(gateway.post(CHAT, WEB_SHOP, &of("ann")).await.unwrap().status, 200);
    }
    let mut asked = JoinSet::new();
    for worker in 0..8 {
        let (url, http) = (format!("{}{CHAT}", gateway.url()), gateway.http().clone());
        let bodies: Vec<_> = (0..FLOOD / 8).map(|at| of(&format!("user {worker} {at}"))).collect();
        asked.spawn(async move {
            for body in bodies {
                assert_eq!(
                    http.post(&url).bearer_auth(WEB_SHOP).json(&body).send().await.unwrap().status(),
                    200
                );
            }
        });
    }
    while let Some(outcome) = asked.join_next().await {
        outcome.unwrap();
    }
    let refused = gateway.post(CHAT, WEB_SHOP, &of("ann")).await.unwrap();
    check_refused(
        &refused,
        "insufficient_quota",
        "This client's limit of 2 requests per month for each `user`",
    );
    assert_eq!(gateway.post(CHAT, WEB_SHOP, &of("user 7 7")).await.unwrap().status, 200);
    let usage = async |user| used_at(&gateway, &format!("/tollgate/v1/usage?user={user}"), WEB_SHOP).await;
    assert_eq!(
        (usage("ann").await, usage("user%203%203").await, usage("carl").await),
        (vec![2], vec![1], vec![0])
    );
    // Nobody of them had to be forgotten, and the record says by a hash who it was.
    let metrics = gateway.admin("/stats?filter=tollgate_limit_values_forgotten").await.unwrap();
    assert_eq!(metrics, "");
    let hash = value::Value::of("", b"ann");
    assert_eq!(details(&record_of(&gateway, &refused).await)["users"], json!([format!("field/user={hash}")]));
}

#[tokio::test]
async fn only_an_earlier_filter_says_by_a_header_who_it_is() {
    let limits = |config: &mut Value| {
        config["clients"][0]["limits"] =
            json!([ { "requests": 1, "per": "month", "by": { "header": "X-User" } } ]);
        config["record_users"] = json!("value");
    };
    let gateway =
        Gateway::start(Setup::new().workers(1).patch(said_by_a_filter("x-user")).edit(limits)).await.unwrap();
    let ask = async |user: &str, claimed: &str| {
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let request = request.header("x-gate", user).header("x-user", claimed).json(&chat("hello"));
        Answer::read(request.send().await.unwrap()).await.unwrap()
    };
    let answer = ask("ann", "bob").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(details(&record_of(&gateway, &answer).await)["users"], json!(["header/x-user=ann"]));
    check_refused(&ask("ann", "carl").await, "insufficient_quota", "1 requests per month for each `x-user`");
    assert_eq!(ask("bob", "ann").await.status, 200);
    let received = gateway.mock("ptu").received();
    assert!(received.iter().all(|received| received.header("x-user").is_none()), "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_of_a_user_whose_vm_traps_is_returned_by_another() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let limits = |config: &mut Value| {
        config["clients"][0]["limits"] = json!([ { "concurrent": 1, "by": { "field": "user" } } ]);
    };
    let hold = Settings { hold: true, ..Settings::default() };
    let setup = Setup::new()
        .workers(1)
        .edit(limits)
        .patch(move |envoy| load_module(envoy, &module))
        .mock("ptu", hold);
    let gateway = std::sync::Arc::new(Gateway::start(setup).await.unwrap());
    let body = with(chat("hello"), json!({ "user": "ann" }));
    let in_flight = tokio::spawn({
        let (gateway, body) = (std::sync::Arc::clone(&gateway), body.clone());
        async move { gateway.post(CHAT, WEB_SHOP, &body).await }
    });
    gateway.mock("ptu").wait_for_requests(1).await;
    assert_eq!(used_at(&gateway, "/tollgate/v1/usage?user=ann", WEB_SHOP).await, [1]);
    let url = format!("{}{CHAT}", gateway.url());
    let trap = gateway.http().post(url).bearer_auth(BATCH).header("x-trap", "1").json(&body);
    let _ = trap.send().await;
    // What was under way stays open until its backend is done.
    gateway.mock("ptu").release();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), in_flight).await;
    gateway.mock("ptu").update(|settings| settings.hold = false);
    // A request makes Envoy start another VM, which finds what the first left.
    served_again(&gateway, BATCH, &chat("hello")).await;
    let lost = [("client", "web-shop"), ("outcome", "lost")];
    gateway.wait_for_metric("tollgate_requests", &lost, 1.0).await.unwrap();
    assert_eq!(used_at(&gateway, "/tollgate/v1/usage?user=ann", WEB_SHOP).await, [0]);
    assert_eq!(gateway.post(CHAT, WEB_SHOP, &body).await.unwrap().status, 200);
}
