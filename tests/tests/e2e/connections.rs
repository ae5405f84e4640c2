//! Does a connection stay open after a refusal whose request was read to its end?

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tollgate_tests::harness::{Gateway, Setup};

use crate::requests::{BATCH, CHAT, COMPLETIONS, INSTRUCT, WEB_SHOP, chat};

/// One request on a connection that may have had others, and the status of its answer.
async fn ask(connection: &mut BufReader<TcpStream>, path: &str, key: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\napi-key: {key}\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all((head + body).as_bytes()).await.unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        assert_ne!(
            connection.read_line(&mut line).await.unwrap(),
            0,
            "the connection was closed: {path} {body}"
        );
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(first) = line.strip_prefix("http/1.1 ") {
            status = first[..3].parse().unwrap();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            break;
        }
        assert_ne!(line, "connection: close", "{path} {body}");
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_refusal_of_a_whole_request_leaves_its_connection_open() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let address = gateway.url().strip_prefix("http://").unwrap();
    let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
    let many = json!({ "model": INSTRUCT, "prompt": "x", "best_of": 20 }).to_string();
    let foreign = json!({ "model": "none", "messages": [] }).to_string();
    for (path, key, body, status, code) in [
        (CHAT, WEB_SHOP, "{", 400, "invalid_json"),
        (CHAT, WEB_SHOP, "{}", 400, "missing_required_parameter"),
        // There is none to be read.
        (CHAT, WEB_SHOP, "", 400, "missing_required_parameter"),
        (COMPLETIONS, BATCH, many.as_str(), 400, "parameter_above_maximum"),
        (CHAT, WEB_SHOP, foreign.as_str(), 403, "model_not_allowed"),
    ] {
        let (found, body) = ask(&mut connection, path, key, body).await;
        assert_eq!((found, body["error"]["code"].as_str()), (status, Some(code)), "{body}");
    }
    let (status, body) = ask(&mut connection, CHAT, WEB_SHOP, &chat("hello").to_string()).await;
    assert_eq!((status, body["object"].as_str()), (200, Some("chat.completion")), "{body}");
    let log = gateway.wait_for_log(6).await.unwrap();
    let statuses: Vec<_> = log.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [400, 400, 400, 400, 403, 200]);
}
