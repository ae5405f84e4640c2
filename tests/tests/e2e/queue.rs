//! Who waits while a backend is full, and what becomes of those who do?
//!
//! One worker, so one queue. What it holds is known without a sleep: a request is written to the socket whole, and then
//! another one is answered, which Envoy cannot read before.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Received, Settings};

use crate::bodies::{End, pieces};
use crate::envoy_lines::{ROUTE, part};
use crate::requests::{
    BATCH, CHAT, EMBEDDING, EMBEDDINGS, WEB_SHOP, chat, check_record, details, nobody_is_limited,
    record_where, with,
};

/// Only the provisioned backend serves the chat model. The big request leaves no room for the small one, of which one
/// fits at a time beside what the big one has really used.
fn setup() -> Setup {
    Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .edit(|config| {
            config["models"][0]["backends"] = json!([{ "backend": "ptu", "deployment": "gpt-4o-ptu" }]);
            config["backends"][0]["tokens_per_minute"] = json!(560);
            config["backends"][0]["provisioned"] = json!(true);
            config["policies"] = json!([{ "name": "interactive" }, { "name": "frugal" }]);
            config["clients"][0]["priority"] = json!("high");
            config["clients"][1]["priority"] = json!("low");
            config["priorities"] = json!({
                "high": { "wait_ms": 60_000 }, "low": { "headroom_min": 0.05, "wait_ms": 60_000 },
            });
        })
        .mock("ptu", Settings { hold: true, ..Settings::default() })
}

fn big() -> Value {
    with(chat("big"), json!({ "max_tokens": 500 }))
}

fn small() -> Value {
    with(chat("small"), json!({ "max_tokens": 300 }))
}

/// Writes a request, of which the answer is to be read from what is returned.
async fn write(gateway: &Gateway, key: &str, body: &Value) -> TcpStream {
    write_with(gateway, key, "", body).await
}

/// With a header more, whole.
async fn write_with(gateway: &Gateway, key: &str, header: &str, body: &Value) -> TcpStream {
    write_to(gateway, CHAT, key, header, body).await
}

async fn write_to(gateway: &Gateway, path: &str, key: &str, header: &str, body: &Value) -> TcpStream {
    let address: SocketAddr = gateway.url().strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\napi-key: {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{header}connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    stream
}

/// Whatever was written before has been decided on once this is answered.
async fn be_sure_it_was_read(gateway: &Gateway) {
    let body = json!({ "model": EMBEDDING, "input": "x" });
    assert_eq!(gateway.post(EMBEDDINGS, BATCH, &body).await.unwrap().status, 200);
}

async fn read(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_request_that_lowers_itself_lets_others_go_first() {
    let gateway = Gateway::start(setup()).await.unwrap();
    let mock = gateway.mock("ptu");
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let lowered = write_with(&gateway, WEB_SHOP, "x-priority: low\r\n", &small()).await;
    be_sure_it_was_read(&gateway).await;
    // Nobody becomes more important so.
    let low = write_with(&gateway, BATCH, "x-priority: high\r\n", &small()).await;
    be_sure_it_was_read(&gateway).await;
    let high = write(&gateway, WEB_SHOP, &with(small(), json!({ "user": "high" }))).await;
    be_sure_it_was_read(&gateway).await;
    mock.update(|settings| settings.hold = false);
    mock.release();
    for answer in [full, high, lowered, low] {
        assert!(read(answer).await.starts_with("HTTP/1.1 200"));
    }
    let received = mock.received();
    assert_eq!(received[1].json()["user"].as_str(), Some("high"));
    assert!(received.iter().all(|request| request.header("x-priority").is_none()));
    let lowered = |line: &Value| line["client"] == "web-shop" && details(line)["priority"] == "low";
    record_where(&gateway, lowered).await;
    let low = |line: &Value| line["client"] == "batch" && details(line)["priority"] == "low";
    record_where(&gateway, low).await;
}

#[tokio::test]
async fn a_configured_header_and_parameter_lower_a_request() {
    let gateway = Gateway::start(setup().edit(|config| {
        config["priorities"]["header"] = json!("x-importance");
        config["priorities"]["query"] = json!("importance");
    }))
    .await
    .unwrap();
    let mock = gateway.mock("ptu");
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let mut answers = vec![full];
    let path = format!("{CHAT}?importance=low");
    for (path, header, user) in [
        (CHAT, "x-importance: low\r\n", "by header"),
        (&path, "", "by query"),
        // It is another name that is configured.
        (CHAT, "x-priority: low\r\n", "high"),
    ] {
        let body = with(small(), json!({ "user": user }));
        answers.push(write_to(&gateway, path, WEB_SHOP, header, &body).await);
        be_sure_it_was_read(&gateway).await;
    }
    mock.update(|settings| settings.hold = false);
    mock.release();
    for answer in answers {
        assert!(read(answer).await.starts_with("HTTP/1.1 200"));
    }
    let received = mock.received();
    let users: Vec<_> = received.iter().skip(1).map(|one| one.json()["user"].clone()).collect();
    assert_eq!(users, ["high", "by header", "by query"]);
    // Neither goes further.
    let goes_on =
        |request: &Received| request.header("x-importance").is_some() || request.path.contains("importance");
    assert!(!received.iter().any(goes_on), "{received:?}");
    let lowered = |line: &Value| line["client"] == "web-shop" && details(line)["priority"] == "low";
    record_where(&gateway, lowered).await;
}

#[tokio::test]
async fn a_full_queue_gives_up_the_least_important() {
    let setup = setup().edit(|config| config["priorities"]["waiting_max"] = json!(2));
    let gateway = Gateway::start(setup).await.unwrap();
    let mock = gateway.mock("ptu");
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let first = write(&gateway, BATCH, &small()).await;
    be_sure_it_was_read(&gateway).await;
    let last = write(&gateway, BATCH, &small()).await;
    be_sure_it_was_read(&gateway).await;
    let high = write(&gateway, WEB_SHOP, &with(small(), json!({ "user": "high" }))).await;
    let refused = read(last).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("capacity_exceeded"), "{refused}");
    // Nobody less important comes in its place.
    let answer = gateway.post(CHAT, BATCH, &small()).await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (429, Some("capacity_exceeded")));
    mock.update(|settings| settings.hold = false);
    mock.release();
    for answer in [full, high, first] {
        assert!(read(answer).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(mock.received()[1].json()["user"].as_str(), Some("high"));
}

#[tokio::test]
async fn batch_work_that_never_spills_waits_for_the_first_backend() {
    let setup = setup().edit(|config| {
        config["models"][0]["backends"] = json!([
            { "backend": "ptu", "deployment": "gpt-4o-ptu", "priority": 0 },
            { "backend": "payg-a", "deployment": "gpt-4o", "priority": 1 },
        ]);
        config["clients"][1]["spill"] = json!("never");
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let (mock, elsewhere) = (gateway.mock("ptu"), gateway.mock("payg-a"));
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let batch = write(&gateway, BATCH, &small()).await;
    be_sure_it_was_read(&gateway).await;
    let chats = |received: Vec<Received>| received.iter().filter(|one| one.path.ends_with(CHAT)).count();
    assert_eq!(chats(elsewhere.received()), 0);
    // The others go there.
    assert!(read(write(&gateway, WEB_SHOP, &small()).await).await.starts_with("HTTP/1.1 200"));
    assert_eq!(chats(elsewhere.received()), 1);
    mock.update(|settings| settings.hold = false);
    mock.release();
    assert!(read(full).await.starts_with("HTTP/1.1 200"));
    assert!(read(batch).await.starts_with("HTTP/1.1 200"));
    assert_eq!((mock.received().len(), chats(elsewhere.received())), (2, 1));
}

#[tokio::test]
async fn the_more_important_goes_first_though_it_came_last() {
    let gateway = Gateway::start(setup()).await.unwrap();
    let mock = gateway.mock("ptu");
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let low = write(&gateway, BATCH, &small()).await;
    be_sure_it_was_read(&gateway).await;
    let high = write(&gateway, WEB_SHOP, &with(small(), json!({ "user": "high" }))).await;
    be_sure_it_was_read(&gateway).await;
    assert_eq!(mock.received().len(), 1);

    mock.release();
    assert!(read(full).await.starts_with("HTTP/1.1 200"));
    mock.wait_for_requests(2).await;
    be_sure_it_was_read(&gateway).await;
    // The low one still waits, for the high one is not done.
    let received = mock.received();
    assert_eq!((received.len(), received[1].json()["user"].as_str()), (2, Some("high")));
    mock.update(|settings| settings.hold = false);
    mock.release();
    assert!(read(high).await.starts_with("HTTP/1.1 200"));
    assert!(read(low).await.starts_with("HTTP/1.1 200"));

    for (client, priority) in [("web-shop", "high"), ("batch", "low")] {
        let waited = |line: &Value| {
            line["client"] == client && line["backend"] == "ptu" && !details(line)["priority"].is_null()
        };
        let record = record_where(&gateway, waited).await;
        check_record(&record, &json!({ "outcome": "served", "estimated": "false" }));
        assert_eq!(details(&record)["priority"], priority);
        let labels = [("priority", priority), ("result", "went")];
        gateway.wait_for_metric("tollgate_queued_requests", &labels, 1.0).await.unwrap();
    }
}

#[tokio::test]
async fn equals_take_turns_by_client() {
    let setup = setup().edit(|config| config["clients"][1]["priority"] = json!("high"));
    let gateway = Gateway::start(setup).await.unwrap();
    let mock = gateway.mock("ptu");
    let mut answers = vec![write(&gateway, WEB_SHOP, &big()).await];
    mock.wait_for_requests(1).await;
    for (key, user) in [(WEB_SHOP, "first"), (WEB_SHOP, "second"), (WEB_SHOP, "third"), (BATCH, "other")] {
        answers.push(write(&gateway, key, &with(small(), json!({ "user": user }))).await);
        be_sure_it_was_read(&gateway).await;
    }
    mock.update(|settings| settings.hold = false);
    mock.release();
    for answer in answers {
        assert!(read(answer).await.starts_with("HTTP/1.1 200"));
    }
    let received = mock.received();
    let users: Vec<_> = received.iter().skip(1).map(|one| one.json()["user"].clone()).collect();
    assert_eq!(users, ["first", "other", "second", "third"]);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_lets_the_next_one_go() {
    let setup = setup()
        .edit(|config| config["clients"][0]["limits"] = json!([{ "tokens": 100_000, "per": "minute" }]));
    let gateway = Gateway::start(setup).await.unwrap();
    let mock = gateway.mock("ptu");
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let leaves = write(&gateway, WEB_SHOP, &small()).await;
    be_sure_it_was_read(&gateway).await;
    let stays = write(&gateway, WEB_SHOP, &with(small(), json!({ "user": "stays" }))).await;
    be_sure_it_was_read(&gateway).await;
    drop(leaves);
    let record = record_where(&gateway, |line| line["outcome"] == "client_gone").await;
    check_record(
        &record,
        &json!({ "client": "web-shop", "backend": null, "prompt_tokens": "0", "completion_tokens": "0", "estimated": "false" }),
    );
    assert_eq!(details(&record)["priority"], "high");
    let labels = [("priority", "high"), ("result", "left")];
    gateway.wait_for_metric("tollgate_queued_requests", &labels, 1.0).await.unwrap();

    mock.update(|settings| settings.hold = false);
    mock.release();
    assert!(read(full).await.starts_with("HTTP/1.1 200"));
    assert!(read(stays).await.starts_with("HTTP/1.1 200"));
    let received = mock.received();
    assert_eq!((received.len(), received[1].json()["user"].as_str()), (2, Some("stays")));
}

#[tokio::test]
async fn a_request_that_waited_too_long_is_told_when_there_is_room() {
    let setup = setup().edit(|config| {
        config["priorities"]["low"]["wait_ms"] = json!(50);
        config["priorities"]["waiting_max"] = json!(1);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let mock = gateway.mock("ptu");
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let answer = gateway.post(CHAT, BATCH, &small()).await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (429, Some("capacity_exceeded")));
    let wait_ms: u64 = answer.header("retry-after-ms").parse().unwrap();
    assert!((1..=61_000).contains(&wait_ms), "{wait_ms}");
    let labels = [("priority", "low"), ("result", "refused")];
    gateway.wait_for_metric("tollgate_queued_requests", &labels, 1.0).await.unwrap();

    // With one who waits the queue is full.
    let waits = write(&gateway, WEB_SHOP, &small()).await;
    be_sure_it_was_read(&gateway).await;
    let answer = gateway.post(CHAT, WEB_SHOP, &small()).await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (429, Some("capacity_exceeded")));
    assert_eq!(mock.received().len(), 1);
    mock.update(|settings| settings.hold = false);
    mock.release();
    assert!(read(full).await.starts_with("HTTP/1.1 200"));
    assert!(read(waits).await.starts_with("HTTP/1.1 200"));
}

/// The backend takes three in a second, and far more are declared. Nobody can be served elsewhere.
fn takes_less_than_declared() -> Setup {
    Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .edit(|config| {
            config["models"][0]["backends"] = json!([{ "backend": "ptu", "deployment": "gpt-4o-ptu" }]);
            config["backends"][0]["requests_per_minute"] = json!(600);
            config["clients"][0]["priority"] = json!("high");
            config["priorities"] = json!({ "high": { "wait_ms": 60_000 } });
        })
        .mock(
            "ptu",
            Settings { rpm: Some(180), window_ms: NonZeroU64::new(1000).unwrap(), ..Settings::default() },
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_goes_at_the_pace_that_its_backend_has_shown() {
    const QUEUED: usize = 12;
    let gateway = Arc::new(Gateway::start(takes_less_than_declared()).await.unwrap());
    let ask = |gateway: Arc<Gateway>| async move { gateway.post(CHAT, WEB_SHOP, &small()).await.unwrap() };
    let served = async |requests: usize| {
        let answers = (0..requests).map(|_| ask(gateway.clone())).collect::<JoinSet<_>>();
        for answer in answers.join_all().await {
            // Who comes while it pauses is told so; who was sent, and refused, comes back and is served.
            let code = answer.json()["error"]["code"].clone();
            assert!(
                answer.status == 200 || code == "backends_throttled",
                "{} {}",
                answer.status,
                answer.text()
            );
        }
    };
    while gateway.mock("ptu").load().refused == 0 {
        served(QUEUED).await;
    }
    served(QUEUED).await;
    // All at once they would be refused time after time; a busy machine may send some too close to each other.
    let load = gateway.mock("ptu").load();
    assert!(load.refused <= load.admitted, "{load:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_sent_and_refused_goes_back_to_its_place() {
    let gateway = Gateway::start(takes_less_than_declared()).await.unwrap();
    let mock = gateway.mock("ptu");
    // It refuses until it is told otherwise: whoever comes back is refused again, and comes back.
    let busy = Fault::answer(429).header("retry-after-ms", "200");
    mock.update(|settings| settings.faults = [busy.clone(), busy].into());
    let answer = gateway.post(CHAT, WEB_SHOP, &small()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(mock.received().len(), 3);
    let record = record_where(&gateway, |line| line["backend"] == "ptu").await;
    let tries = json!([{ "backend": "ptu", "status": 429 }, { "backend": "ptu", "status": 429 },
                       { "backend": "ptu", "status": 200 }]);
    assert_eq!(details(&record)["tries"], tries);
    let labels = [("priority", "high"), ("result", "returned")];
    gateway.wait_for_metric("tollgate_queued_requests", &labels, 2.0).await.unwrap();
    // What came back has the body that it had.
    let bodies: Vec<_> = mock.received().iter().map(Received::json).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

/// Each candidate has a body of its own, and what waits is more than Envoy reads at once.
#[tokio::test(flavor = "multi_thread")]
async fn who_two_backends_refuse_comes_back_with_the_body_of_each() {
    let setup = takes_less_than_declared().edit(|config| {
        config["models"][0]["backends"] = json!([
            { "backend": "payg-a", "deployment": "one", "priority": 0 },
            { "backend": "payg-b", "deployment": "another", "priority": 1 },
        ]);
        config["backends"][1]["requests_per_minute"] = json!(600);
        config["backends"][2]["requests_per_minute"] = json!(600);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let busy = Fault::answer(429).header("retry-after-ms", "300");
    for backend in ["payg-a", "payg-b"] {
        let busy = busy.clone();
        gateway.mock(backend).update(|settings| settings.faults = [busy].into());
    }
    let body = with(chat(&"many words ".repeat(18_000)), json!({ "max_tokens": 300 }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = record_where(&gateway, |line| line["status"] == 200).await;
    let tries: Vec<_> = details(&record)["tries"].as_array().unwrap().clone();
    assert_eq!(tries[0], json!({ "backend": "payg-a", "status": 429 }), "{tries:?}");
    assert_eq!(tries[1], json!({ "backend": "payg-b", "status": 429 }), "{tries:?}");
    assert_eq!((tries.len(), &tries[2]["status"]), (3, &json!(200)), "{tries:?}");
    let content = |body: &Value| body["messages"][0]["content"].as_str().map(str::len);
    for (backend, named) in [("payg-a", "one"), ("payg-b", "another")] {
        for received in gateway.mock(backend).received() {
            let received = received.json();
            assert_eq!(
                (received["model"].as_str(), content(&received)),
                (Some(named), content(&body)),
                "{backend}"
            );
        }
    }
}

/// What comes behind a body goes on by itself, and would take the held attempt along.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_let_no_held_attempt_go() {
    let gateway = Gateway::start(takes_less_than_declared()).await.unwrap();
    let mock = gateway.mock("ptu");
    let busy = Fault::answer(429).header("retry-after-ms", "500");
    mock.update(|settings| settings.faults = [busy].into());
    let body = with(chat(&"many pieces ".repeat(2000)), json!({ "max_tokens": 300 }));
    let http_2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let request = http_2.post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
    let request = request.header("trailer", "x-checksum").body(pieces(&body, End::Trailers));
    let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let bodies: Vec<_> = mock.received().iter().map(Received::json).collect();
    assert_eq!(bodies, [body.clone(), body]);
    let record = record_where(&gateway, |line| line["backend"] == "ptu").await;
    // An attempt that went without its turn is none that was seen.
    let tries = json!([{ "backend": "ptu", "status": 429 }, { "backend": "ptu", "status": 200 }]);
    assert_eq!(details(&record)["tries"], tries);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_while_held_asks_again_in_its_place() {
    // Envoy gives up whatever takes so long, and asks again.
    let setup = takes_less_than_declared().patch(|envoy| {
        part(envoy, ROUTE)["route"]["retry_policy"]["per_try_timeout"] = json!("1s");
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let mock = gateway.mock("ptu");
    let busy = Fault::answer(429).header("retry-after-ms", "2500");
    mock.update(|settings| settings.faults = [busy].into());
    let answer = gateway.post(CHAT, WEB_SHOP, &small()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(mock.received().len(), 2);
    record_where(&gateway, |line| line["backend"] == "ptu").await;
    let labels = [("priority", "high"), ("result", "returned")];
    assert_eq!(gateway.metric("tollgate_queued_requests", &labels).await.unwrap(), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_while_its_attempt_is_held_leaves() {
    let gateway = Gateway::start(takes_less_than_declared()).await.unwrap();
    let mock = gateway.mock("ptu");
    // Long enough for a busy machine to see it wait.
    let busy = Fault::answer(429).header("retry-after", "10");
    mock.update(|settings| settings.faults = [busy].into());
    let leaves = write(&gateway, WEB_SHOP, &small()).await;
    let labels = [("priority", "high"), ("result", "returned")];
    gateway.wait_for_metric("tollgate_queued_requests", &labels, 1.0).await.unwrap();
    drop(leaves);
    // It was refused, and nobody was at it any more.
    let record = record_where(&gateway, |line| line["outcome"] == "client_gone").await;
    let nothing = json!({ "prompt_tokens": "0", "completion_tokens": "0", "estimated": "false" });
    check_record(&record, &nothing);
    let labels = [("priority", "high"), ("result", "left")];
    gateway.wait_for_metric("tollgate_queued_requests", &labels, 1.0).await.unwrap();
    // The next one is served when the pause is over, and nothing of the first was sent again.
    let served = async || gateway.post(CHAT, WEB_SHOP, &small()).await.unwrap().status == 200;
    while !served().await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(mock.received().len(), 2);
}

#[tokio::test]
async fn a_request_goes_where_there_is_room_rather_than_wait() {
    let setup = setup().edit(|config| {
        config["models"][0]["backends"] = json!([
            { "backend": "ptu", "deployment": "gpt-4o-ptu" },
            { "backend": "payg-a", "deployment": "gpt-4o", "priority": 1 },
        ]);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let full = write(&gateway, WEB_SHOP, &big()).await;
    gateway.mock("ptu").wait_for_requests(1).await;
    let answer = gateway.post(CHAT, WEB_SHOP, &small()).await.unwrap();
    assert_eq!(answer.status, 200);
    let spilt = |line: &Value| line["backend"] == "payg-a" && line["model"] == "gpt-4o";
    let record = record_where(&gateway, spilt).await;
    assert_eq!(details(&record)["tries"], json!([{ "backend": "payg-a", "status": 200 }]));
    gateway.mock("ptu").release();
    assert!(read(full).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_that_wait_keep_their_order_when_a_push_comes() {
    let gateway = Gateway::start(setup().from_files()).await.unwrap();
    let mock = gateway.mock("ptu");
    let full = write(&gateway, WEB_SHOP, &big()).await;
    mock.wait_for_requests(1).await;
    let older = write(&gateway, WEB_SHOP, &with(small(), json!({ "user": "older" }))).await;
    be_sure_it_was_read(&gateway).await;

    gateway.push(|whole| whole.gateway_mut().unwrap()["clients"][1]["name"] = json!("renamed")).unwrap();
    let is_new = async || {
        let request = gateway.http().post(format!("{}{EMBEDDINGS}", gateway.url())).bearer_auth(BATCH);
        let request = request.header("connection", "close");
        let answer = request.json(&json!({ "model": EMBEDDING, "input": "x" })).send().await.unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        record_where(&gateway, |line| line["request_id"] == id.as_str()).await["client"] == "renamed"
    };
    while !is_new().await {}
    let newer = write(&gateway, WEB_SHOP, &with(small(), json!({ "user": "newer" }))).await;
    while !is_new().await {}
    // What the old one has reserved counts for the new one.
    assert_eq!(mock.received().len(), 1);

    for (at, stream) in [full, older, newer].into_iter().enumerate() {
        mock.wait_for_requests(at + 1).await;
        mock.release();
        assert!(read(stream).await.starts_with("HTTP/1.1 200"));
    }
    let received = mock.received();
    assert_eq!(["older", "newer"], [1, 2].map(|at| received[at].json()["user"].as_str().unwrap().to_owned()));
}
