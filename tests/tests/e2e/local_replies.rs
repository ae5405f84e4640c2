//! Is what Envoy answers by itself in OpenAI's shape, where the filter has not seen the request?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};

use crate::doors::upgrade;
use crate::envoy_lines::{MANAGER, raw, shortened, take_out};
use crate::requests::{CHAT, WEB_SHOP, nobody_is_limited};

/// A request that Envoy answers, by what it is, and with which status.
fn requests() -> Vec<(&'static str, String, u16)> {
    let host = "host: x\r\nconnection: close\r\n";
    let key = format!("authorization: Bearer {WEB_SHOP}\r\ncontent-type: application/json\r\n");
    let long = "x".repeat(70_000);
    let many: String = (0..120).map(|at| format!("x-{at}: 1\r\n")).collect();
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\n{host}{more}\r\n");
    let post = |more: &str, body: &str| format!("POST {CHAT} HTTP/1.1\r\n{host}{key}{more}\r\n{body}");
    vec![
        ("HTTP/1.0", format!("GET /v1/models HTTP/1.0\r\n{host}\r\n"), 426),
        ("no host", "GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), 400),
        ("no HTTP", "GARBAGE\r\n\r\n".to_owned(), 400),
        ("TLS", "\x16\x03\x01\x02garbage\r\n\r\n".to_owned(), 400),
        ("a long header", get("/v1/models", &format!("x-long: {long}\r\n")), 431),
        ("many headers", get("/v1/models", &many), 431),
        ("an escaped slash", get("/v1/files%2fx", &key), 400),
        ("a fragment", get("/v1/models#x", &key), 400),
        ("no path", format!("OPTIONS * HTTP/1.1\r\n{host}\r\n"), 404),
        ("a host that is none", "GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n".to_owned(), 400),
        ("two lengths", post("content-length: 3\r\ncontent-length: 4\r\n", "abcd"), 400),
        (
            "a length and pieces",
            post("content-length: 3\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
            400,
        ),
        ("an unknown coding", post("transfer-encoding: gzip\r\n", ""), 501),
        ("a piece without a length", post("transfer-encoding: chunked\r\n", "zz\r\n"), 400),
        ("a head that does not end", "GET /v1/models HTTP/1.1\r\n".to_owned(), 408),
        ("a body that does not end", post("content-length: 3\r\n", "x"), 408),
    ]
}

async fn gateway(change: impl FnOnce(&mut Value) + Send + 'static) -> Gateway {
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(|envoy| {
        shortened(envoy, &format!("{MANAGER}/request_headers_timeout"), "0.5s");
        shortened(envoy, &format!("{MANAGER}/request_timeout"), "1s");
    });
    Gateway::start(setup.patch(change)).await.unwrap()
}

/// The error in an answer, where it is one in OpenAI's shape.
fn error_in(answer: &str) -> Option<Value> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let error = serde_json::from_str::<Value>(body).ok()?["error"].take();
    let is_whole = ["message", "type", "param", "code"].iter().all(|name| error.get(name).is_some());
    (head.contains("content-type: application/json") && is_whole).then_some(error)
}

#[tokio::test]
async fn what_envoy_answers_by_itself_has_openais_shape() {
    let gateway = gateway(|_| ()).await;
    for (name, request, status) in requests() {
        let answer = raw(&gateway, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        let error = error_in(&answer).unwrap_or_else(|| panic!("{name}: {answer}"));
        let kind = json!("invalid_request_error");
        assert_eq!((&error["type"], &error["code"]), (&kind, &json!("proxy_error")), "{name}");
    }
}

/// Protocols that Envoy refuses before a filter, where the listener takes WebSockets and where it takes none.
async fn refused_upgrades(change: impl Fn(&mut Value) + Send + Clone + 'static) -> Vec<String> {
    let mut answers = Vec::new();
    for (takes_websockets, protocols) in
        [(true, &["websocket, h2c", "TLS/1.0"][..]), (false, &["websocket", "websocket, h2c", "TLS/1.0"])]
    {
        let change = change.clone();
        let gateway = gateway(move |envoy| {
            change(envoy);
            if !takes_websockets {
                take_out(envoy, &format!("{MANAGER}/upgrade_configs"));
            }
        });
        let gateway = gateway.await;
        for protocol in protocols {
            answers.push(raw(&gateway, &upgrade("/v1/responses", protocol, "x", WEB_SHOP)).await);
        }
    }
    answers
}

#[tokio::test]
async fn an_upgrade_that_envoy_refuses_gets_426() {
    for answer in refused_upgrades(|_| ()).await {
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        for header in ["\r\nupgrade: HTTP/1.1\r\n", "\r\nconnection: upgrade\r\n"] {
            assert!(answer.contains(header), "{answer}");
        }
        let error = error_in(&answer).unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(error["code"], "upgrade_not_supported");
    }
}

#[tokio::test]
async fn an_upgrade_without_its_mapper_gets_403_with_nothing() {
    let mapper = || format!("{MANAGER}/local_reply_config/mappers/3");
    for answer in refused_upgrades(move |envoy| take_out(envoy, &mapper())).await {
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn without_its_mapper_envoy_answers_in_text() {
    let gateway = gateway(|envoy| take_out(envoy, &format!("{MANAGER}/local_reply_config/mappers/2"))).await;
    let (_, request, _) = requests().remove(0);
    assert_eq!(error_in(&raw(&gateway, &request).await), None);
}
