//! Are clients known that stand in a document, as long as they do, whatever becomes of its source?

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::{Request, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::fleets::{small_chat, until_async};
use crate::issuer::add_cluster;
use crate::requests::{CHAT, WEB_SHOP, check_record, record_of, with};
use crate::stand_in::StandIn;

/// Where the document is. It ends with this value.
struct Source {
    state: Arc<State>,
    server: StandIn,
}

struct State {
    /// The status, and the document.
    answer: Mutex<(u16, String)>,
    /// What each request had in `if-none-match`, and the status that it got.
    asked: Mutex<Vec<(String, u16)>>,
    asked_now: watch::Sender<usize>,
    is_held: watch::Sender<bool>,
}

impl Source {
    async fn start(clients: &[Value]) -> Self {
        let state = Arc::new(State {
            answer: Mutex::new((200, json!({ "clients": clients }).to_string())),
            asked: Mutex::default(),
            asked_now: watch::Sender::new(0),
            is_held: watch::Sender::new(false),
        });
        let served = state.clone();
        Self { server: StandIn::start(move |request| answer(served.clone(), request)).await, state }
    }

    /// It has these clients from now on.
    fn serve(&self, clients: &[Value]) {
        *self.state.answer.lock().unwrap() = (200, json!({ "clients": clients }).to_string());
    }

    /// It answers with an error from now on.
    fn fail(&self) {
        self.state.answer.lock().unwrap().0 = 500;
    }

    fn asked(&self) -> Vec<(String, u16)> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Until it has been asked so often again.
    async fn wait_for_more(&self, times: usize) {
        let before = self.asked().len();
        let mut asked = self.state.asked_now.subscribe();
        asked.wait_for(|asked| *asked >= before + times).await.unwrap();
    }

    /// An Envoy that reads it, beside the clients that it has anyway.
    async fn gateway(&self, workers: u32, more: Value) -> Gateway {
        let addr = self.server.addr;
        let place = json!({
            "cluster": "clients", "host": "clients.example", "path": "/clients.json?v=1", "refresh_s": 1,
            // At a load the first fetch may take its time.
            "wait_ms": 20_000, "timeout_ms": 20_000,
        });
        let setup = Setup::new()
            .workers(workers)
            .patch(move |envoy| add_cluster(envoy, "clients", addr))
            .edit(move |config| config["directory"] = json!({ "document": with(place, more) }));
        Gateway::start(setup).await.unwrap()
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri(), "/clients.json?v=1");
    assert_eq!(request.headers()["host"], "clients.example");
    state.asked_now.send_modify(|asked| *asked += 1);
    let mut is_held = state.is_held.subscribe();
    let _ = is_held.wait_for(|is_held| !*is_held).await;
    let (status, body) = state.answer.lock().unwrap().clone();
    let etag = format!("\"{:x}\"", Sha256::digest(&body));
    let known = request.headers().get("if-none-match").map(|etag| etag.to_str().unwrap()).unwrap_or_default();
    let status = if status == 200 && known == etag { 304 } else { status };
    state.asked.lock().unwrap().push((known.to_owned(), status));
    let body = if status == 200 { body } else { String::new() };
    Ok(Response::builder().status(status).header("etag", etag).body(Full::new(body.into())).unwrap())
}

/// A client whose key is its name.
fn client(name: &str, more: Value) -> Value {
    let key = json!({ "sha256": format!("{:x}", Sha256::digest(name)) });
    with(json!({ "name": name, "models": ["*"], "api_keys": [key] }), more)
}

async fn ask(gateway: &Gateway, key: &str) -> Answer {
    gateway.post(CHAT, key, &small_chat()).await.unwrap()
}

async fn ask_until(gateway: &Gateway, key: &str, status: u16) {
    until_async(async || {
        let answer = ask(gateway, key).await;
        if answer.status == status { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
    })
    .await;
}

#[track_caller]
fn check_code(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{}", answer.text());
}

async fn fetches(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("tollgate_directory_fetches", &[("outcome", outcome)]).await.unwrap()
}

#[tokio::test]
async fn clients_come_change_and_go_with_the_document() {
    let limited = json!({ "limits": [ { "requests": 1, "per": "month" } ] });
    let source = Source::start(&[client("team", limited)]).await;
    let gateway = source.gateway(2, json!({})).await;
    let answer = ask(&gateway, "team").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(&gateway, &answer).await, &json!({ "client": "team", "outcome": "served" }));
    check_code(&ask(&gateway, "team").await, 429, "insufficient_quota");
    check_code(&ask(&gateway, "lab").await, 401, "invalid_api_key");
    let labels = [("client", "team"), ("outcome", "served")];
    gateway.wait_for_metric("tollgate_requests", &labels, 1.0).await.unwrap();

    source.serve(&[client("team", json!({})), client("lab", json!({}))]);
    ask_until(&gateway, "lab", 200).await;
    ask_until(&gateway, "team", 200).await;
    source.serve(&[client("lab", json!({}))]);
    ask_until(&gateway, "team", 401).await;
    assert_eq!((ask(&gateway, "lab").await.status, ask(&gateway, WEB_SHOP).await.status), (200, 200));
}

#[tokio::test]
async fn a_document_with_a_fault_changes_nothing() {
    let source = Source::start(&[client("team", json!({}))]).await;
    let gateway = source.gateway(2, json!({})).await;
    assert_eq!(ask(&gateway, "team").await.status, 200);
    source.serve(&[client("lab", json!({})), client("team", json!({ "models": ["gpt-99"] }))]);
    until_async(async || {
        let found = fetches(&gateway, "unusable").await;
        if found >= 3.0 { Ok(()) } else { Err(format!("{found} were faulty")) }
    })
    .await;
    assert_eq!(ask(&gateway, "team").await.status, 200);
    check_code(&ask(&gateway, "lab").await, 401, "invalid_api_key");
    let log = gateway.log_text().unwrap();
    let problem = "clients[1].models[0]: no model is named \"gpt-99\"";
    assert_eq!(log.matches(problem).count(), 1, "{log}");
    // One that the configuration has is a fault too.
    source.serve(&[client("web-shop", json!({}))]);
    let problem = "clients[0].name: \"web-shop\" is a client of the configuration";
    until_async(async || {
        let log = gateway.log_text().unwrap();
        if log.contains(problem) { Ok(()) } else { Err(log) }
    })
    .await;
    source.serve(&[client("lab", json!({}))]);
    ask_until(&gateway, "lab", 200).await;
    ask_until(&gateway, "team", 401).await;
}

#[tokio::test]
async fn before_the_first_document_no_key_is_said_to_be_nobodys() {
    let source = Source::start(&[client("team", json!({}))]).await;
    source.fail();
    let gateway = source.gateway(1, json!({})).await;
    check_code(&ask(&gateway, "team").await, 503, "keys_unavailable");
    // The configuration's own clients need no document.
    assert_eq!(ask(&gateway, WEB_SHOP).await.status, 200);
    source.serve(&[client("team", json!({}))]);
    ask_until(&gateway, "team", 200).await;
    check_code(&ask(&gateway, "lab").await, 401, "invalid_api_key");
}

#[tokio::test]
async fn the_last_document_holds_while_its_source_is_away() {
    let source = Source::start(&[client("team", json!({}))]).await;
    let gateway = source.gateway(2, json!({})).await;
    assert_eq!(ask(&gateway, "team").await.status, 200);
    source.fail();
    source.wait_for_more(3).await;
    assert_eq!(ask(&gateway, "team").await.status, 200);
    check_code(&ask(&gateway, "lab").await, 401, "invalid_api_key");
    assert!(fetches(&gateway, "refused").await >= 2.0);
    let log = gateway.log_text().unwrap();
    assert_eq!(log.matches("from cluster clients: refused; the last one holds").count(), 1, "{log}");
}

#[tokio::test]
async fn a_document_is_sent_once_for_all_workers() {
    let source = Source::start(&[client("team", json!({}))]).await;
    source.state.is_held.send_replace(true);
    let gateway = source.gateway(4, json!({ "wait_ms": 20_000, "timeout_ms": 20_000 })).await;
    let asked = join_all((0..20).map(|_| ask(&gateway, "team")));
    let release = async {
        source.wait_for_more(1).await;
        source.state.is_held.send_replace(false);
    };
    let (answers, ()) = tokio::join!(asked, release);
    assert!(answers.iter().all(|answer| answer.status == 200));
    source.wait_for_more(3).await;
    let asked = source.asked();
    let etag =
        format!("\"{:x}\"", Sha256::digest(json!({ "clients": [client("team", json!({}))] }).to_string()));
    assert_eq!(asked[0], (String::new(), 200));
    assert!(asked[1..].iter().all(|asked| *asked == (etag.clone(), 304)), "{asked:?}");
    gateway.wait_for_metric("tollgate_directory_fetches", &[("outcome", "changed")], 1.0).await.unwrap();
    assert!(fetches(&gateway, "same").await >= 1.0);
    assert_eq!(ask(&gateway, "team").await.status, 200);
}
