//! Is a request that may wait answered later, to its client alone, and paid once? The tests play the worker.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Answer, Gateway, Redis};
use tollgate_tests::mock::Settings;

use crate::directory::keys;
use crate::fleets::{Fleet, PASSWORD, client, small_chat};
use crate::requests::{CHAT, RESPONSES, details, record_of, with};

const JOBS: &str = "/tollgate/v1/jobs/";

/// An Envoy whose clients `shop` and `other` may have their requests queued, and whose `worker` works them off. Keys are names.
async fn start(redis: &Redis, queue: Value) -> Fleet {
    let config = |config: &mut Value| {
        let limits = json!([ { "tokens": 100_000, "per": "day" } ]);
        let worker = with(client("worker", json!([])), json!({ "may_act_for": ["shop"] }));
        config["clients"] = json!([client("shop", limits), client("other", json!([])), worker]);
        config["models"] = json!([
            { "name": "gpt-4o", "backends": [ { "backend": "ptu", "deployment": "gpt-4o-ptu" } ] },
            { "name": "writer", "backends": [ { "backend": "payg-b" } ] },
        ]);
        config["directory"] = json!({ "store": {} });
        config["queue"] = with(queue.clone(), json!({ "for": "normal" }));
        // Longer than a busy machine takes for anything.
        config["store"]["redis"]["timeout_ms"] = json!(5000);
    };
    Fleet::start(redis, 1, config, &Settings::default()).await
}

async fn ask(
    gateway: &Gateway,
    key: &str,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let request = gateway.http().request(method, format!("{}{path}", gateway.url())).bearer_auth(key);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = body.iter().fold(request, |request, body| request.json(body));
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

async fn enqueue(gateway: &Gateway) -> Answer {
    ask(gateway, "shop", (Method::POST, CHAT), &[("prefer", "respond-async")], Some(&small_chat())).await
}

async fn get(gateway: &Gateway, key: &str, path: &str) -> Answer {
    ask(gateway, key, (Method::GET, path), &[], None).await
}

fn field(redis: &Redis, id: &str, name: &str) -> String {
    match redis.ask(&["HGET", &format!("tollgate:{{jobs}}:job:{id}"), name]).unwrap() {
        Reply::Bulk(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{name}: {other:?}"),
    }
}

/// As a worker does when there is an answer.
fn answered(redis: &Redis, id: &str, status: u16, answer: &str) {
    let (job, status, answer) =
        (format!("tollgate:{{jobs}}:job:{id}"), status.to_string(), format!("\0{answer}"));
    let words = [
        "HSET",
        &job,
        "state",
        "done",
        "status",
        &status,
        "answer_type",
        "application/json",
        "answer",
        &answer,
    ];
    redis.ask(&words).unwrap();
}

#[track_caller]
fn check_code(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{}", answer.text());
}

#[tokio::test]
async fn a_chat_that_may_wait_is_fetched_later_and_paid_once() {
    let name = "a_chat_that_may_wait_is_fetched_later_and_paid_once";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, json!({ "when": "always" })).await;
    let gateway = &fleet.0[0];
    let taken = enqueue(gateway).await;
    assert_eq!(
        (taken.status, taken.header("preference-applied")),
        (202, "respond-async"),
        "{}",
        taken.text()
    );
    assert_eq!(record_of(gateway, &taken).await["outcome"], "queued");
    let path = taken.header("location").to_owned();
    let id = path.strip_prefix(JOBS).unwrap().to_owned();
    assert_eq!(taken.json(), json!({ "id": id, "object": "job", "state": "queued", "place": 1 }));
    let waits = get(gateway, "shop", &path).await;
    assert_eq!((waits.status, &waits.json()["state"]), (202, &json!("queued")));
    for (method, key) in [(Method::GET, "other"), (Method::DELETE, "other"), (Method::GET, "worker")] {
        check_code(&ask(gateway, key, (method, &path), &[], None).await, 404, "id_not_found");
    }
    assert_eq!(gateway.mock("ptu").received().len(), 0);
    // The worker's turn: what lies there is what was asked.
    assert_eq!((field(&redis, &id, "path").as_str(), field(&redis, &id, "method").as_str()), (CHAT, "POST"));
    let body: Value = serde_json::from_str(field(&redis, &id, "body").strip_prefix('\0').unwrap()).unwrap();
    assert_eq!(body, small_chat());
    let replay = [("tollgate-act-for", "shop"), ("tollgate-job", id.as_str()), ("prefer", "respond-async")];
    let chat = (Method::POST, CHAT);
    for key in ["shop", "other"] {
        check_code(&ask(gateway, key, chat.clone(), &replay, Some(&body)).await, 403, "act_for_not_allowed");
    }
    let served = ask(gateway, "worker", chat, &replay, Some(&body)).await;
    assert_eq!(served.status, 200, "{}", served.text());
    let record = record_of(gateway, &served).await;
    assert_eq!((&record["client"], &record["outcome"]), (&json!("shop"), &json!("served")));
    let told = details(&record);
    assert_eq!((&told["job"], &told["worker"]), (&json!(id), &json!("worker")));
    let received = gateway.mock("ptu").received();
    assert_eq!(received.len(), 1);
    answered(&redis, &id, 200, &served.text());
    let answer = get(gateway, "shop", &path).await;
    assert_eq!((answer.status, answer.body.clone()), (200, served.body.clone()));
    let usage = get(gateway, "shop", "/tollgate/v1/usage").await.json();
    assert_eq!(usage["limits"][0]["used"], served.json()["usage"]["total_tokens"], "{usage}");
    // Forgotten, it was never there.
    assert_eq!(ask(gateway, "shop", (Method::DELETE, &path), &[], None).await.json()["state"], "deleted");
    check_code(&get(gateway, "shop", &path).await, 404, "id_not_found");
    // Whoever has not asked for it is answered at once.
    assert_eq!(gateway.post(CHAT, "shop", &small_chat()).await.unwrap().status, 200);
}

#[tokio::test]
async fn what_is_full_refuses_and_what_is_gone_keeps_nothing() {
    let name = "what_is_full_refuses_and_what_is_gone_keeps_nothing";
    let Some(mut redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, json!({ "when": "always", "jobs_max": 1 })).await;
    let gateway = &fleet.0[0];
    let path = enqueue(gateway).await.header("location").to_owned();
    let full = enqueue(gateway).await;
    check_code(&full, 429, "queue_full");
    assert_eq!(full.header("retry-after"), "60");
    let ended = ask(gateway, "shop", (Method::DELETE, &path), &[], None).await;
    assert_eq!((ended.status, &ended.json()["state"]), (200, &json!("cancelled")));
    check_code(&get(gateway, "shop", &path).await, 410, "job_cancelled");
    redis.kill();
    let gone = enqueue(gateway).await;
    check_code(&gone, 503, "queue_unavailable");
    assert_eq!(gone.header("retry-after"), "1");
    check_code(&get(gateway, "shop", &path).await, 503, "queue_unavailable");
    for (outcome, count) in [("queued", 1.0), ("full", 1.0), ("cancelled", 1.0), ("unavailable", 2.0)] {
        let labels = [("client", "shop"), ("outcome", outcome)];
        gateway.wait_for_metric("tollgate_queue_outcomes", &labels, count).await.unwrap();
    }
    redis.restart().unwrap();
    assert_eq!(redis.ask(&["XLEN", "tollgate:{jobs}"]).unwrap(), Reply::Integer(0));
}

/// A worker asks for the whole client, and a key may be good for less.
#[tokio::test]
async fn a_key_that_may_less_than_its_client_queues_nothing() {
    let name = "a_key_that_may_less_than_its_client_queues_nothing";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, json!({ "when": "always", "background": "queue" })).await;
    let gateway = &fleet.0[0];
    let issue = |more: &str| keys(&redis, &format!("issue --client shop {more}")).trim().to_owned();
    let (whole, narrow) = (issue(""), issue("--models gpt-4o,writer"));
    let background = json!({ "model": "writer", "input": "hello", "background": true });
    let patience = [("prefer", "respond-async")];
    let ask_both = async |key: &str| {
        let chat = ask(gateway, key, (Method::POST, CHAT), &patience, Some(&small_chat())).await;
        (chat, gateway.post(RESPONSES, key, &background).await.unwrap())
    };
    let (chat, response) = ask_both(&whole).await;
    assert_eq!((chat.status, &response.json()["status"]), (202, &json!("queued")), "{}", response.text());
    let queued = chat.header("location").to_owned();
    let (chat, response) = ask_both(&narrow).await;
    // A preference is passed over.
    assert_eq!(chat.status, 200, "{}", chat.text());
    check_code(&response, 403, "queue_not_for_key");
    // What its client has queued it reads.
    assert_eq!(get(gateway, &narrow, &queued).await.status, 202);
}

#[tokio::test]
async fn a_response_in_the_background_is_made_in_the_queue() {
    let name = "a_response_in_the_background_is_made_in_the_queue";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis, json!({ "background": "queue" })).await;
    let gateway = &fleet.0[0];
    let body = json!({ "model": "writer", "input": "hello", "background": true });
    let mut ids = Vec::new();
    for _ in 0..2 {
        let made = gateway.post(RESPONSES, "shop", &body).await.unwrap();
        assert_eq!((made.status, &made.json()["status"]), (200, &json!("queued")), "{}", made.text());
        ids.push(made.json()["id"].as_str().unwrap().to_owned());
    }
    let of = |id: &str| format!("{RESPONSES}/{id}");
    assert_eq!(get(gateway, "shop", &of(&ids[0])).await.json()["status"], "queued");
    check_code(&get(gateway, "other", &of(&ids[0])).await, 404, "id_not_found");
    let job = ids[0].strip_prefix("resp_job_").unwrap();
    assert!(field(&redis, job, "body").contains(r#""background":false"#));
    answered(&redis, job, 200, r#"{"id":"resp_1","object":"response","status":"completed","output":[]}"#);
    let done = get(gateway, "shop", &of(&ids[0])).await.json();
    assert_eq!(done, json!({ "id": ids[0], "object": "response", "status": "completed", "output": [] }));
    let cancelled = ask(gateway, "shop", (Method::POST, &format!("{}/cancel", of(&ids[1]))), &[], None).await;
    assert_eq!(
        (cancelled.status, &cancelled.json()["status"]),
        (200, &json!("cancelled")),
        "{}",
        cancelled.text()
    );
    let gone = ask(gateway, "shop", (Method::DELETE, &of(&ids[1])), &[], None).await;
    assert_eq!(gone.json()["deleted"], true);
    check_code(&get(gateway, "shop", &of(&ids[1])).await, 404, "id_not_found");
}
