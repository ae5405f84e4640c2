//! What do the others notice when the filter traps on one of two workers?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::Settings;

use crate::envoy_lines::{LISTENER, MANAGER, ROUTER, part};
use crate::metering::{load_module, trapping_module};
use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, with};

const STREAMS: usize = 8;
const CLIENTS: usize = 4;
/// How long the trapped worker may take. Nor is an answer waited for any longer: one that was under way when its VM trapped may
/// never end.
const WITHIN: Duration = Duration::from_secs(10);

/// On a connection of its own.
async fn ask_anew(gateway: &Gateway, body: &Value) -> reqwest::Result<reqwest::Response> {
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
    request.header("connection", "close").json(body).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_on_one_worker_does_not_reach_the_other() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let held = Settings { hold_after_events: Some(3), ..Settings::default() };
    let setup = Setup::new()
        .edit(nobody_is_limited)
        .patch(move |envoy| {
            load_module(envoy, &module);
            // Half of the connections on each worker.
            part(envoy, LISTENER)["connection_balance_config"] = json!({ "exact_balance": {} });
        })
        .mock("ptu", held);
    let gateway = Gateway::start(setup).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let answer = ask_anew(&gateway, &with(chat("hello"), json!({ "stream": true }))).await.unwrap();
        assert_eq!(answer.status(), 200);
        streams.push(answer);
    }
    gateway.mock("ptu").update(|settings| settings.hold_after_events = None);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::new(&gateway);
        client.ask().await.unwrap();
        clients.push(client);
    }
    for worker in ["0", "1"] {
        let connections = ((STREAMS + CLIENTS) / 2) as f64;
        let worker = [("envoy_worker_id", worker)];
        gateway
            .wait_for_metric("envoy_listener_worker_downstream_cx_active", &worker, connections)
            .await
            .unwrap();
    }

    let is_over = AtomicBool::new(false);
    let others = futures_util::future::join_all(clients.iter_mut().map(|client| client.failures(&is_over)));
    let trap = async {
        let trap = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let _ = trap.header("x-trap", "1").header("connection", "close").json(&chat("hello")).send().await;
        // As many in a row as meet both workers.
        let start = Instant::now();
        let mut in_a_row = 0;
        while in_a_row < STREAMS {
            let answer = ask_anew(&gateway, &chat("hello")).await;
            in_a_row = if answer.is_ok_and(|answer| answer.status() == 200) { in_a_row + 1 } else { 0 };
            assert!(start.elapsed() < WITHIN, "the worker does not serve again");
        }
        is_over.store(true, Ordering::SeqCst);
    };
    let (failures, ()) = tokio::join!(others, trap);
    let undisturbed = failures.iter().filter(|failures| failures.is_empty()).count();
    assert!(undisturbed >= CLIENTS / 2, "{failures:?}");

    gateway.mock("ptu").release();
    let mut whole = 0;
    for stream in streams {
        // One that is not whole does not look like one that is.
        if let Ok(Ok(answer)) = tokio::time::timeout(WITHIN, Answer::read(stream)).await {
            assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
            whole += 1;
        }
    }
    assert_eq!(whole, STREAMS / 2);
    let lost = [("client", "web-shop"), ("outcome", "lost")];
    let waited = Instant::now();
    while gateway.metric("tollgate_requests", &lost).await.unwrap() < (STREAMS / 2) as f64 {
        assert!(waited.elapsed() < Duration::from_secs(30), "what was lost is not written down");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One that stays on its connection, and so on its worker, for as long as it is served there.
struct Client {
    address: String,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    fn new(gateway: &Gateway) -> Self {
        let address = gateway.url().strip_prefix("http://").unwrap().to_owned();
        Self { address, connection: None }
    }

    /// Asks until it is over and all is well again: what went wrong until then.
    async fn failures(&mut self, is_over: &AtomicBool) -> Vec<String> {
        let mut failures = Vec::new();
        loop {
            match self.ask().await {
                Err(failure) => failures.push(failure),
                Ok(()) if is_over.load(Ordering::SeqCst) => return failures,
                Ok(()) => {}
            }
        }
    }

    async fn ask(&mut self) -> Result<(), String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(|e| e.to_string())?,
        };
        let request = hyper::Request::post(CHAT)
            .header("host", &self.address)
            .header("authorization", format!("Bearer {WEB_SHOP}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(chat("hello").to_string())))
            .unwrap();
        let answer = async {
            connection.ready().await?;
            let answer = connection.send_request(request).await?;
            hyper::Result::Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
        };
        match tokio::time::timeout(WITHIN, answer).await {
            Ok(Ok((hyper::StatusCode::OK, _))) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Ok((status, body))) => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
            Ok(Err(e)) => Err(e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with its sender; what goes wrong in it is told to that too.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Makes the filter trap in a request of its own.
async fn trap(gateway: &Gateway) {
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
    let sent = request.header("x-trap", "1").json(&chat("hello")).send().await.unwrap();
    let answer = Answer::read(sent).await.unwrap();
    assert_eq!((answer.status, code(&answer)), (503, json!("gateway_restarting")), "{}", answer.text());
}

fn code(answer: &Answer) -> Value {
    assert!(!answer.body.is_empty(), "an answer with nothing but a head: {}", answer.status);
    answer.json()["error"]["code"].clone()
}

/// Each of the two filters is loaded anew by Envoy on its own account.
#[tokio::test(flavor = "multi_thread")]
async fn both_filters_are_back_in_the_same_request() {
    const TRAPS: usize = 8;
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let setup =
        Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy| load_module(envoy, &module));
    let gateway = Gateway::start(setup).await.unwrap();
    let mut served = 0;
    let mut asked = 0;
    for _ in 0..TRAPS {
        trap(&gateway).await;
        // So soon that Envoy still waits with it.
        loop {
            asked += 1;
            if gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status == 200 {
                break;
            }
        }
    }
    for line in gateway.wait_for_log(TRAPS + asked).await.unwrap() {
        // Whom the gateway's filter let through, the attempt's did too.
        if line["client"] == "web-shop" {
            check_record(&line, &json!({ "status": 200, "backend": "ptu" }));
            served += 1;
        }
    }
    assert_eq!(served, TRAPS);
}

/// Envoy answers in its place, with nothing but a head.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_attempt_filter_gets_a_complete_503() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy| {
        load_module(envoy, &module);
        let attempt = format!("{MANAGER}/{ROUTER}/upstream_http_filters/0/typed_config/config");
        part(envoy, &format!("{attempt}/reload_config/backoff"))["base_interval"] = json!("3600s");
    });
    let gateway = Gateway::start(setup).await.unwrap();
    trap(&gateway).await;
    let start = Instant::now();
    let mut asked = 1;
    let answer = loop {
        asked += 1;
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        if code(&answer) != "gateway_restarting" {
            break answer;
        }
        assert!(start.elapsed() < WITHIN, "the gateway's filter does not serve again");
    };
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (503, json!("backend_unavailable")));
    let record =
        json!({ "client": "web-shop", "outcome": "proxy_error", "prompt_tokens": "0", "backend": null });
    check_record(gateway.wait_for_log(asked).await.unwrap().last().unwrap(), &record);
}

/// Their answers can no longer be read, and Envoy gives its own in their place.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_when_the_filter_traps_gets_a_whole_503() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let held = Settings { hold: true, ..Settings::default() };
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .patch(move |envoy| load_module(envoy, &module))
        .mock("ptu", held);
    let gateway = Gateway::start(setup).await.unwrap();
    let bodies = [chat("hello"), with(chat("hello"), json!({ "stream": true }))];
    let waiting =
        futures_util::future::join_all(bodies.iter().map(|body| gateway.post(CHAT, WEB_SHOP, body)));
    let trapped = async {
        gateway.mock("ptu").wait_for_requests(bodies.len()).await;
        trap(&gateway).await;
        gateway.mock("ptu").release();
    };
    let (answers, ()) = tokio::join!(waiting, trapped);
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(code(&answer), json!("gateway_restarting"));
    }
}
