//! What of a client's bodies is held before it is known whether they may go?

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate_tests::harness::{Gateway, Setup};

use crate::metering::{load_module, served_again, trapping_module};
use crate::requests::{BATCH, CHAT, WEB_SHOP, chat, check_record, details, refusal, with};

/// A body of 4 MiB, the longest that a client may send.
const LONG: usize = 4 * 1024 * 1024;

/// A request whose body has not come yet.
struct Announced(TcpStream);

impl Announced {
    async fn new(gateway: &Gateway, framing: &str) -> Self {
        let address = gateway.url().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\napi-key: {WEB_SHOP}\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    async fn of_length(gateway: &Gateway, length: usize) -> Self {
        Self::new(gateway, &format!("content-length: {length}")).await
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// What comes back, up to the end of a body that has the length which its head tells.
    async fn answer(&mut self) -> (u16, String, Value) {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() >= length.parse().unwrap() {
                    let status = head[9..12].parse().unwrap();
                    return (status, head.to_owned(), serde_json::from_str(body).unwrap());
                }
            }
            assert_ne!(self.0.read_buf(&mut read).await.unwrap(), 0, "it was closed after {text:?}");
        }
    }
}

/// A chat whose JSON has this many bytes.
fn chat_of(bytes: usize) -> String {
    let body = chat("").to_string();
    chat(&"x".repeat(bytes - body.len())).to_string()
}

/// Waits until so many of a client's requests hold places.
async fn wait_for_places(gateway: &Gateway, places: f64) {
    let labels = [("client", "web-shop"), ("limit", "concurrent")];
    gateway.wait_for_metric("tollgate_limit_used", &labels, places).await.unwrap();
}

/// Waits until Envoy has so many requests, and has decided on their headers: one worker does one thing at a time.
async fn wait_for_requests(gateway: &Gateway, requests: f64) {
    let labels = [("envoy_http_conn_manager_prefix", "openai")];
    gateway.wait_for_metric("envoy_http_downstream_rq_active", &labels, requests).await.unwrap();
}

#[tokio::test]
async fn a_hundred_long_bodies_beyond_the_places_are_not_read() {
    let limits = |config: &mut Value| config["clients"][0]["limits"] = json!([{ "concurrent": 2 }]);
    let gateway = Gateway::start(Setup::new().workers(1).edit(limits)).await.unwrap();
    let (mut served, leaves) = (
        Announced::of_length(&gateway, LONG).await,
        Announced::new(&gateway, "transfer-encoding: chunked").await,
    );
    wait_for_places(&gateway, 2.0).await;
    let message =
        "This client's limit of 2 concurrent requests is reached. Try again when one of them has ended.";
    let expected = refusal(message, "rate_limit_error", None, "concurrency_limit_exceeded");
    for at in 0..98 {
        // Not one byte of the body is sent.
        let mut refused = match at % 2 {
            0 => Announced::of_length(&gateway, LONG).await,
            _ => Announced::new(&gateway, "transfer-encoding: chunked").await,
        };
        let (status, head, body) = refused.answer().await;
        assert_eq!((status, body), (429, expected.clone()));
        assert!(head.contains("\r\nretry-after: 1"), "{head}");
    }
    drop(leaves);
    wait_for_places(&gateway, 1.0).await;
    served.send(chat_of(LONG).as_bytes()).await;
    let (status, _, body) = served.answer().await;
    assert_eq!(status, 200, "{body}");
    wait_for_places(&gateway, 0.0).await;
    // All of them are written down, each once.
    let log = gateway.wait_for_log(100).await.unwrap();
    let count = |outcome: &str| log.iter().filter(|line| line["outcome"] == outcome).count();
    assert_eq!((count("concurrency_limit_exceeded"), count("client_gone"), count("served")), (98, 1, 1));
    let refused = log.iter().find(|line| line["status"] == 429).unwrap();
    assert_eq!(details(refused)["limit"], "concurrent");
    let labels = [("client", "web-shop"), ("limit", "concurrent")];
    gateway.wait_for_metric("tollgate_limit_refusals", &labels, 98.0).await.unwrap();
}

#[tokio::test]
async fn a_client_holds_no_more_bytes_than_it_has_room_for() {
    let room = |config: &mut Value| {
        config["clients"][0]["held_bytes_max"] = json!(LONG);
        config["clients"][0]["limits"] = json!([]);
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(room)).await.unwrap();
    let message = format!(
        "This client sends bodies of more than {LONG} bytes at the same time, the most that is held for it. Send fewer at a \
         time."
    );
    let expected = refusal(&message, "rate_limit_error", None, "held_bytes_exceeded");
    let check = async |held: &mut Announced| {
        let (status, head, body) = held.answer().await;
        assert_eq!((status, body), (429, expected.clone()));
        assert!(head.contains("\r\nretry-after: 1"), "{head}");
    };
    let announced = Announced::of_length(&gateway, LONG - 1000).await;
    wait_for_requests(&gateway, 1.0).await;
    check(&mut Announced::of_length(&gateway, 1001).await).await;
    // One that does not say how long it is, is let in as far as there is room.
    let mut pieces = Announced::new(&gateway, "transfer-encoding: chunked").await;
    pieces.send(format!("7d0\r\n{}", "x".repeat(2000)).as_bytes()).await;
    check(&mut pieces).await;
    // Another client has room of its own.
    assert_eq!(
        gateway.post(CHAT, BATCH, &with(chat("hello"), json!({ "max_tokens": 5 }))).await.unwrap().status,
        200
    );
    // Whoever leaves makes room.
    drop(announced);
    wait_for_requests(&gateway, 0.0).await;
    for _ in 0..3 {
        let mut next = Announced::of_length(&gateway, LONG).await;
        next.send(chat_of(LONG).as_bytes()).await;
        assert_eq!(next.answer().await.0, 200);
    }
    let log = gateway.wait_for_log(7).await.unwrap();
    let refused: Vec<_> = log.iter().filter(|line| line["status"] == 429).collect();
    assert_eq!(refused.len(), 2);
    for line in refused {
        check_record(
            line,
            &json!({ "client": "web-shop", "outcome": "held_bytes_exceeded", "backend": null }),
        );
    }
    let labels = [("client", "web-shop"), ("outcome", "held_bytes_exceeded")];
    gateway.wait_for_metric("tollgate_requests", &labels, 2.0).await.unwrap();
}

/// The place, by its note; the room, for it is the VM's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_while_its_vm_traps_leaves_nothing_taken() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let limits = |config: &mut Value| {
        config["clients"][0]["limits"] = json!([{ "concurrent": 1 }]);
        config["clients"][0]["held_bytes_max"] = json!(LONG);
    };
    let setup = Setup::new().workers(1).edit(limits).patch(move |envoy| load_module(envoy, &module));
    let gateway = Gateway::start(setup).await.unwrap();
    let coming = Announced::of_length(&gateway, LONG).await;
    wait_for_places(&gateway, 1.0).await;
    let body = chat("hello");
    let url = format!("{}{CHAT}", gateway.url());
    let _ = gateway.http().post(url).bearer_auth(BATCH).header("x-trap", "1").json(&body).send().await;
    drop(coming);
    served_again(&gateway, BATCH, &with(body, json!({ "max_tokens": 9 }))).await;
    let lost = [("client", "web-shop"), ("outcome", "lost")];
    gateway.wait_for_metric("tollgate_requests", &lost, 1.0).await.unwrap();
    wait_for_places(&gateway, 0.0).await;
    let mut next = Announced::of_length(&gateway, LONG).await;
    next.send(chat_of(LONG).as_bytes()).await;
    assert_eq!(next.answer().await.0, 200);
    wait_for_places(&gateway, 0.0).await;
}
