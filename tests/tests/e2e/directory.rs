//! Are keys good that are issued while the gateway runs, for as long as they should be, whatever becomes of the store?

use std::process::Command;
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Redis, tools};
use tollgate_tests::mock::Settings;

use crate::fleets::{Fleet, PASSWORD, small_chat, until_async};
use crate::requests::{CHAT, check_record, record_of, with};

/// What the tool prints on standard output.
pub fn keys(redis: &Redis, words: &str) -> String {
    let output = Command::new(tools::tool().unwrap())
        .arg("keys")
        .args(words.split_whitespace())
        .args(["--store", &redis.url()])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "keys {words}: {}", text(output.stderr));
    text(output.stdout)
}

fn issue(redis: &Redis, client: &str) -> String {
    keys(redis, &format!("issue --client {client}")).trim().to_owned()
}

/// An Envoy with two clients that have no key yet.
async fn start(redis: &Redis, directory: Value) -> Fleet {
    let config = |config: &mut Value| {
        config["clients"] =
            json!([ { "name": "shop", "models": ["*"] }, { "name": "lab", "models": ["*"] } ]);
        config["directory"] = json!({ "store": directory });
    };
    Fleet::start(redis, 1, config, &Settings::default()).await
}

async fn ask(gateway: &Gateway, key: &str) -> Answer {
    gateway.post(CHAT, key, &small_chat()).await.unwrap()
}

/// Asks until this is the answer.
async fn ask_until(gateway: &Gateway, key: &str, status: u16) -> Answer {
    let mut last = None;
    until_async(async || {
        let answer = ask(gateway, key).await;
        let said = format!("{} {}", answer.status, answer.text());
        let is_it = answer.status == status;
        last = Some(answer);
        if is_it { Ok(()) } else { Err(said) }
    })
    .await;
    last.unwrap()
}

async fn looked_up(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("tollgate_key_lookups", &[("outcome", outcome)]).await.unwrap()
}

#[track_caller]
fn check_code(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{}", answer.text());
}

#[tokio::test]
async fn a_key_is_good_once_issued_and_not_once_revoked() {
    let name = "a_key_is_good_once_issued_and_not_once_revoked";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, json!({ "fresh_s": 1 })).await;
    let gateway = &fleet.0[0];
    let key = issue(&redis, "shop");
    let answer = ask(gateway, &key).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(gateway, &answer).await, &json!({ "client": "shop", "outcome": "served" }));
    let other = issue(&redis, "lab");
    let answer = ask(gateway, &other).await;
    check_record(&record_of(gateway, &answer).await, &json!({ "client": "lab", "outcome": "served" }));
    // The old one goes on beside the new one.
    let new = keys(&redis, "rotate --client shop").trim().to_owned();
    assert_eq!((ask(gateway, &key).await.status, ask(gateway, &new).await.status), (200, 200));
    keys(&redis, "revoke --client shop --all");
    for key in [&key, &new] {
        check_code(&ask_until(gateway, key, 401).await, 401, "invalid_api_key");
    }
    assert_eq!(ask(gateway, &other).await.status, 200);
    // What names no client is nobody's, and said to the operator.
    let stray = issue(&redis, "nobody");
    check_code(&ask(gateway, &stray).await, 401, "invalid_api_key");
    let log = gateway.log_text().unwrap();
    assert!(log.contains("no client of the configuration is named \"nobody\""), "{log}");
    assert!(![key, other, new, stray].iter().any(|key| log.contains(key)), "{log}");
    let early = keys(&redis, "issue --client shop --not-before 2999-01-01T00:00:00Z").trim().to_owned();
    check_code(&ask(gateway, &early).await, 401, "api_key_not_yet_valid");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_no_more_than_configured() {
    const PER_SECOND: f64 = 5.0;
    let name = "a_flood_of_unknown_keys_costs_no_more_than_configured";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, json!({ "lookups_per_second": PER_SECOND, "fresh_s": 3600 })).await;
    let gateway = &fleet.0[0];
    let key = issue(&redis, "shop");
    assert_eq!(ask(gateway, &key).await.status, 200);
    let began = Instant::now();
    let asked = (0..400).map(|number| async move { ask(gateway, &format!("tg-{number:064x}")).await });
    let answers = join_all(asked).await;
    for answer in &answers {
        match answer.status {
            401 => check_code(answer, 401, "invalid_api_key"),
            _ => check_code(answer, 503, "keys_unavailable"),
        }
    }
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    let absent = answers.len() - refused;
    assert!(refused > 0 && absent > 0, "{refused} and {absent}");
    // A second's at once, and as many in each second.
    let most = PER_SECOND * (began.elapsed().as_secs_f64() + 1.0);
    assert!(absent as f64 <= most, "{absent} were looked up, and {most} could be");
    // What does not look like a key that was issued costs nothing.
    for other in ["sk-0123456789", "tg-0123456789", &format!("tg-{:064X}", 0xabcd)] {
        check_code(&ask(gateway, other).await, 401, "invalid_api_key");
    }
    gateway.wait_for_metric("tollgate_key_lookups", &[("outcome", "absent")], absent as f64).await.unwrap();
    gateway.wait_for_metric("tollgate_key_lookups", &[("outcome", "limited")], refused as f64).await.unwrap();
    // When the flood is over a worker that did not know the key has a look-up left for it.
    ask_until(gateway, &key, 200).await;
}

#[tokio::test]
async fn a_known_key_goes_on_while_the_store_is_down_and_no_new_one() {
    let name = "a_known_key_goes_on_while_the_store_is_down_and_no_new_one";
    let Some(mut redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, json!({ "fresh_s": 1 })).await;
    let gateway = &fleet.0[0];
    let (key, new) = (issue(&redis, "shop"), issue(&redis, "shop"));
    assert_eq!(ask(gateway, &key).await.status, 200);
    redis.kill();
    // Until it has been looked up again in vain, more than once.
    until_async(async || {
        let answer = ask(gateway, &key).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let failed = looked_up(gateway, "unreached").await;
        if failed >= 2.0 { Ok(()) } else { Err(format!("{failed} look-ups failed")) }
    })
    .await;
    check_code(&ask(gateway, &new).await, 503, "keys_unavailable");
    redis.restart().unwrap();
    ask_until(gateway, &new, 200).await;
    keys(&redis, "revoke --client shop --all");
    check_code(&ask_until(gateway, &key, 401).await, 401, "invalid_api_key");
}

#[tokio::test]
async fn a_key_may_less_than_its_client() {
    let name = "a_key_may_less_than_its_client";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let config = |config: &mut Value| {
        config["clients"] = json!([ { "name": "shop", "models": ["*"], "policy": "large" } ]);
        config["policies"] = json!([
            { "name": "large", "max_tokens": { "max": 100, "over": "clamp" } },
            { "name": "small", "max_tokens": { "max": 4, "over": "clamp" } },
            { "name": "huge", "max_tokens": { "max": 1000, "over": "clamp" } },
        ]);
        config["directory"] = json!({ "store": { "fresh_s": 1 } });
    };
    let fleet = Fleet::start(&redis, 1, config, &Settings::default()).await;
    let gateway = &fleet.0[0];
    let issue = |words: &str| keys(&redis, &format!("issue --client shop {words}")).trim().to_owned();
    let whole = issue("");
    let asking = |max_tokens: u64| with(small_chat(), json!({ "max_tokens": max_tokens }));
    let policies = async |key: &str| {
        let answer = gateway.post(CHAT, key, &asking(500)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("x-tollgate-clamped").to_owned()
    };
    assert_eq!(policies(&whole).await, "max_tokens=100");
    assert_eq!(policies(&issue("--policy small")).await, "max_tokens=4");
    // What its client's policy does not allow, no key's does.
    assert_eq!(policies(&issue("--policy huge")).await, "max_tokens=100");

    let embeds = issue("--models text-embedding-3-small");
    check_code(&ask(gateway, &embeds).await, 403, "model_not_allowed");
    // Of a model that no configuration has nothing is left.
    check_code(&ask(gateway, &issue("--models gpt-99")).await, 401, "invalid_api_key");

    let [one, two] = ["requests: 1, per: day"; 2].map(|limit| limited(&redis, limit));
    assert_eq!(ask(gateway, &one).await.status, 200);
    let refused = ask(gateway, &one).await;
    check_code(&refused, 429, "insufficient_quota");
    // Each has its own, and their client none.
    assert_eq!((ask(gateway, &two).await.status, ask(gateway, &whole).await.status), (200, 200));
    let record = record_of(gateway, &refused).await;
    check_record(&record, &json!({ "client": "shop", "outcome": "insufficient_quota" }));
    let labels = [("client", "shop"), ("limit", "key/requests/day")];
    gateway.wait_for_metric("tollgate_limit_refusals", &labels, 1.0).await.unwrap();
}

/// A key with one limit of its own.
fn limited(redis: &Redis, limit: &str) -> String {
    let output = Command::new(tools::tool().unwrap())
        .args(["keys", "issue", "--client", "shop", "--limit", limit, "--store", &redis.url()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An Envoy whose clients come while it runs, and a folder with its configuration for the tool.
struct Open {
    fleet: Fleet,
    folder: tempfile::TempDir,
}

impl Open {
    async fn start(redis: &Redis, envoys: usize, clients_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = |config: &mut Value| {
            config["clients"] = json!([ { "name": "shop", "models": ["*"] } ]);
            config["groups"] =
                json!([ { "name": "sales", "limits": [ { "requests": 1000, "per": "month" } ] } ]);
            config["metrics"] = json!({ "clients_max": clients_max });
            config["directory"] = json!({ "store": { "fresh_s": 1 } });
        };
        let fleet = Fleet::start(redis, envoys, config, &Settings::default()).await;
        // What clients may name.
        let mut known = json!({
            "models": [
                { "name": "gpt-4o", "backends": [ { "backend": "b" } ] },
                { "name": "text-embedding-3-small", "backends": [ { "backend": "b" } ] },
            ],
            "backends": [ { "name": "b", "cluster": "b", "style": "openai" } ],
            "store": { "redis": { "cluster": "redis" } },
        });
        config(&mut known);
        std::fs::write(folder.path().join("gateway.json"), known.to_string()).unwrap();
        Self { fleet, folder }
    }

    fn put(&self, redis: &Redis, client: &Value) {
        std::fs::write(self.folder.path().join("client.json"), client.to_string()).unwrap();
        clients(redis, &["put", "--config", "gateway.json", "client.json"], self.folder.path());
    }
}

fn clients(redis: &Redis, words: &[&str], folder: &std::path::Path) {
    let output = Command::new(tools::tool().unwrap())
        .arg("clients")
        .args(words)
        .args(["--store", &redis.url()])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "clients {words:?}: {output:?}");
}

#[tokio::test]
async fn a_client_comes_changes_and_goes_while_the_gateway_runs() {
    let name = "a_client_comes_changes_and_goes_while_the_gateway_runs";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let open = Open::start(&redis, 1, 200).await;
    let gateway = &open.fleet.0[0];
    let limited = json!({
        "name": "team", "models": ["gpt-4o"], "group": "sales", "limits": [ { "requests": 2, "per": "day" } ],
    });
    open.put(&redis, &limited);
    let key = issue(&redis, "team");
    let answer = ask(gateway, &key).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(gateway, &answer).await, &json!({ "client": "team", "outcome": "served" }));
    // Another key of it spends the same budget.
    let other = issue(&redis, "team");
    assert_eq!(ask(gateway, &other).await.status, 200);
    check_code(&ask(gateway, &key).await, 429, "insufficient_quota");
    let labels = [("client", "team"), ("outcome", "served")];
    gateway.wait_for_metric("tollgate_requests", &labels, 2.0).await.unwrap();

    let mut wider = limited.clone();
    wider["limits"] = json!([ { "requests": 1000, "per": "day" } ]);
    open.put(&redis, &wider);
    ask_until(gateway, &key, 200).await;

    clients(&redis, &["remove", "team"], open.folder.path());
    for key in [&key, &other] {
        check_code(&ask_until(gateway, key, 401).await, 401, "invalid_api_key");
    }
    open.put(&redis, &wider);
    ask_until(gateway, &key, 200).await;
}

#[tokio::test]
async fn a_client_of_the_store_has_one_budget_in_all_envoys() {
    let name = "a_client_of_the_store_has_one_budget_in_all_envoys";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let open = Open::start(&redis, 2, 200).await;
    open.put(
        &redis,
        &json!({ "name": "team", "models": ["*"], "limits": [ { "requests": 12, "per": "day" } ] }),
    );
    let key = issue(&redis, "team");
    let asked = (0..40).map(|number| ask(&open.fleet.0[number % 2], &key));
    let answers = join_all(asked).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((1..=12).contains(&served), "{served}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        check_code(answer, 429, "insufficient_quota");
    }
    // What one of them still holds comes back to the other: just so many are served.
    let mut count = served;
    until_async(async || {
        for gateway in &open.fleet.0 {
            count += usize::from(ask(gateway, &key).await.status == 200);
        }
        assert!(count <= 12, "{count}");
        if count == 12 { Ok(()) } else { Err(format!("{count} were served")) }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_cannot_be_used_is_told_once() {
    let name = "a_client_that_cannot_be_used_is_told_once";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let open = Open::start(&redis, 1, 2).await;
    let gateway = &open.fleet.0[0];
    let enter = |name: &str, text: &str| {
        redis.ask(&["HSET", "tollgate:clients", name, text]).unwrap();
        issue(&redis, name)
    };
    let broken = enter("broken", r#"{"name":"broken","models":["gpt-99"]}"#);
    check_code(&ask(gateway, &broken).await, 401, "invalid_api_key");
    // It is looked up again and again, and each worker tells it once.
    until_async(async || {
        check_code(&ask(gateway, &broken).await, 401, "invalid_api_key");
        let found = looked_up(gateway, "client_unusable").await;
        if found >= 6.0 { Ok(()) } else { Err(format!("{found} look-ups")) }
    })
    .await;
    let log = gateway.log_text().unwrap();
    let problem = "client \"broken\": client.models[0]: no model is named \"gpt-99\"";
    let told = log.matches(problem).count();
    assert!((1..=2).contains(&told), "{told} times in {log}");
    // One that the configuration has is as it stands there, whatever the store says.
    let shop = enter("shop", "{");
    assert_eq!(ask(gateway, &shop).await.status, 200);
    // One more has a label value of its own; the others share one.
    for name in ["first", "second"] {
        let key = enter(name, &json!({ "name": name, "models": ["*"] }).to_string());
        let answer = ask(gateway, &key).await;
        check_record(&record_of(gateway, &answer).await, &json!({ "client": name }));
    }
    for client in ["first", "other"] {
        let labels = [("client", client), ("outcome", "served")];
        gateway.wait_for_metric("tollgate_requests", &labels, 1.0).await.unwrap();
    }
}
