//! Do real workers answer what a real Envoy has queued, once each, whoever is killed meanwhile?

use std::process::{Command, Stdio};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::{Answer, Gateway, Redis, tools};
use tollgate_tests::mock::Settings;

use crate::fleets::{Fleet, PASSWORD, QUEUE_KEY, client, small_chat, until_async};
use crate::requests::{CHAT, RESPONSES, with};

/// An Envoy that queues all that may wait, but for this change of its configuration. Keys are names.
pub async fn start(redis: &Redis, change: impl Fn(&mut Value)) -> Fleet {
    start_many(redis, 1, change).await
}

/// The same, of several of one store.
pub async fn start_many(redis: &Redis, envoys: usize, change: impl Fn(&mut Value)) -> Fleet {
    let config = |config: &mut Value| {
        let limits = json!([ { "tokens": 1_000_000, "per": "day" } ]);
        let worker = with(client("worker", json!([])), json!({ "may_act_for": ["*"] }));
        config["clients"] = json!([client("shop", limits), client("other", json!([])), worker]);
        config["models"] = json!([
            { "name": "gpt-4o", "backends": [ { "backend": "ptu", "deployment": "gpt-4o-ptu" } ] },
            { "name": "writer", "backends": [ { "backend": "payg-b" } ] },
        ]);
        config["queue"] = json!({ "for": "normal", "when": "always", "background": "queue" });
        // Longer than a busy machine takes for anything.
        config["store"]["redis"]["timeout_ms"] = json!(5000);
        change(config);
    };
    Fleet::start(redis, envoys, config, &Settings::default()).await
}

pub fn worker(redis: &Redis, gateway: &Gateway) -> Leashed {
    worker_with(redis, gateway, &[])
}

/// The same, with more words on its command line.
fn worker_with(redis: &Redis, gateway: &Gateway, more: &[&str]) -> Leashed {
    let mut command = Command::new(tools::tool().unwrap());
    command
        .args(["work", "--store", &redis.url(), "--gateway", gateway.url(), "--key-env", "WORKER_KEY"])
        .args(["--dead-after", "5", "--concurrency", "4"])
        .args(more)
        .env("WORKER_KEY", "worker")
        .env("SEAL", QUEUE_KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Leashed::spawn(&mut command).unwrap()
}

/// Asks for an answer later, and tells where it will be.
pub async fn enqueue(gateway: &Gateway) -> String {
    let request = gateway.http().request(Method::POST, format!("{}{CHAT}", gateway.url()));
    let request = request.bearer_auth("shop").header("prefer", "respond-async").json(&small_chat());
    let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.header("location").to_owned()
}

async fn get(gateway: &Gateway, key: &str, path: &str) -> Answer {
    let request = gateway.http().get(format!("{}{path}", gateway.url())).bearer_auth(key);
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// The answer, once it is there.
pub async fn fetched(gateway: &Gateway, path: &str) -> Answer {
    fetched_by(gateway, "shop", path).await
}

/// The same, for whose it is.
pub async fn fetched_by(gateway: &Gateway, key: &str, path: &str) -> Answer {
    let mut last = None;
    until_async(async || {
        let answer = get(gateway, key, path).await;
        let said = format!("{path}: {} {}", answer.status, answer.text());
        let is_it = answer.status != 202
            && !["queued", "in_progress"].iter().any(|word| answer.json()["status"] == *word);
        last = Some(answer);
        if is_it { Ok(()) } else { Err(said) }
    })
    .await;
    last.unwrap()
}

/// How many tokens of its first limit a client has used.
pub async fn used(gateway: &Gateway, key: &str) -> u64 {
    get(gateway, key, "/tollgate/v1/usage").await.json()["limits"][0]["used"].as_u64().unwrap()
}

#[tokio::test]
async fn two_workers_answer_all_that_was_queued_and_each_is_paid_once() {
    let name = "two_workers_answer_all_that_was_queued_and_each_is_paid_once";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |_| {}).await;
    let gateway = &fleet.0[0];
    let open = "queue has no key_env: what clients ask lies open in it";
    assert!(gateway.log_text().unwrap().contains(open));
    let mut paths = join_all((0..30).map(|_| enqueue(gateway))).await;
    let body = json!({ "model": "writer", "input": "hello", "background": true });
    let response = gateway.post(RESPONSES, "shop", &body).await.unwrap();
    assert_eq!(response.json()["status"], "queued", "{}", response.text());
    let id = response.json()["id"].as_str().unwrap().to_owned();
    paths.push(format!("{RESPONSES}/{id}"));
    assert_eq!(gateway.mock("ptu").received().len(), 0);
    let _workers = [worker(&redis, gateway), worker(&redis, gateway)];
    let answers = join_all(paths.iter().map(|path| fetched(gateway, path))).await;
    let mut tokens = 0;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        tokens += answer.json()["usage"]["total_tokens"].as_u64().unwrap();
    }
    let last = answers.last().unwrap().json();
    assert_eq!((&last["id"], &last["status"]), (&json!(id), &json!("completed")), "{last}");
    // Each was sent once, and the books are those of the answers, to the token.
    assert_eq!((gateway.mock("ptu").received().len(), gateway.mock("payg-b").received().len()), (30, 1));
    until_async(async || {
        let used = used(gateway, "shop").await;
        if used == tokens { Ok(()) } else { Err(format!("{used} are used, and {tokens} were answered")) }
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_killed_under_load_loses_no_job() {
    let name = "a_worker_that_is_killed_under_load_loses_no_job";
    let Some(mut redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |_| {}).await;
    let gateway = &fleet.0[0];
    let paths = join_all((0..40).map(|_| enqueue(gateway))).await;
    let first = worker(&redis, gateway);
    until_async(async || match gateway.mock("ptu").received().len() {
        0 => Err("nothing is sent".to_owned()),
        _ => Ok(()),
    })
    .await;
    drop(first);
    let _others = [worker(&redis, gateway), worker(&redis, gateway)];
    until_async(async || match gateway.mock("ptu").received().len() {
        0..=15 => Err("little is sent".to_owned()),
        _ => Ok(()),
    })
    .await;
    redis.kill();
    redis.restart().unwrap();
    for path in &paths {
        let answer = fetched(gateway, path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // What was under way when its worker died may have been sent twice, and nothing else.
    let sent = gateway.mock("ptu").received().len();
    assert!((40..=44).contains(&sent), "{sent}");
}

/// What an Envoy seals and what a worker opens are two programs' words for the same.
#[tokio::test]
async fn a_worker_opens_what_envoy_sealed_if_nobody_changed_it() {
    let name = "a_worker_opens_what_envoy_sealed_if_nobody_changed_it";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, |config| config["queue"]["key_env"] = json!("QUEUE_KEY")).await;
    let gateway = &fleet.0[0];
    assert!(!gateway.log_text().unwrap().contains("key_env"));
    let job = |path: &str| format!("tollgate:{{jobs}}:job:{}", path.rsplit_once('/').unwrap().1);
    let text = |path: &str, field: &str| match redis.ask(&["HGET", &job(path), field]).unwrap() {
        Reply::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => panic!("{field}: {other:?}"),
    };
    let good = enqueue(gateway).await;
    assert!(!text(&good, "body").contains("hello"));
    let changes = [
        ("path", "/v1/completions"),
        ("headers", r#"{"openai-beta":"x"}"#),
        ("model", "writer"),
        ("kind", "response"),
        ("method", "PUT"),
        ("client", "other"),
    ];
    let mut bad = Vec::new();
    for (field, value) in changes {
        let path = enqueue(gateway).await;
        redis.ask(&["HSET", &job(&path), field, value]).unwrap();
        bad.push(path);
    }
    // Of another job.
    let moved = enqueue(gateway).await;
    let copy = "redis.call('HSET', KEYS[2], 'body', redis.call('HGET', KEYS[1], 'body'))";
    redis.ask(&["EVAL", copy, "2", &job(&good), &job(&moved)]).unwrap();
    bad.push(moved);
    let _worker = worker_with(&redis, gateway, &["--seal-env", "SEAL", "--tries", "1"]);
    let answer = fetched(gateway, &good).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("hello"), "{}", answer.text());
    assert!(!text(&good, "answer").contains("hello"));
    for path in &bad {
        until_async(async || match text(path, "state").as_str() {
            "failed" => Ok(()),
            state => Err(format!("{path} is {state}")),
        })
        .await;
    }
    assert_eq!((gateway.mock("ptu").received().len(), gateway.mock("payg-b").received().len()), (1, 0));
    // An answer that was put in its place is no answer.
    redis.ask(&["HSET", &job(&good), "answer", "\0{}"]).unwrap();
    let answer = get(gateway, "shop", &good).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &json!("job_failed")));
}
