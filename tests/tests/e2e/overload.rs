//! Does Envoy refuse what would be too much for it, and say so in OpenAI's shape?
//!
//! Each line of `envoy.yaml` that does it is also taken out.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::envoy_lines::{MANAGER, part, take_out};
use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, refusal};

pub const OVERLOAD: &str = "/overload_manager";
const HEAP: &str = "/overload_manager/resource_monitors/0/typed_config/max_heap_size_bytes";
const CONNECTIONS: &str =
    "/overload_manager/resource_monitors/1/typed_config/max_active_downstream_connections";

/// Starts an Envoy whose heap is full, and waits until it knows.
async fn full(without: Option<String>) -> Gateway {
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy| {
        *part(envoy, HEAP) = json!(1);
        if let Some(line) = without {
            take_out(envoy, &line);
        }
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let name = "envoy_overload_envoy_resource_monitors_fixed_heap_pressure";
    let deadline = Instant::now() + Duration::from_secs(15);
    while gateway.metric(name, &[]).await.unwrap() < 100.0 {
        assert!(Instant::now() < deadline, "Envoy does not know of its heap");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway
}

/// Its workers learn of it a moment after its main thread.
async fn refused(gateway: &Gateway) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        if answer.status != 200 {
            return answer;
        }
        assert!(Instant::now() < deadline, "a full Envoy goes on");
    }
}

#[tokio::test]
async fn an_envoy_whose_heap_is_full_says_so_in_openais_shape() {
    let gateway = full(None).await;
    let answer = refused(&gateway).await;
    let message = "The gateway has too much to do. Ask again later.";
    let expected = refusal(message, "server_error", None, "gateway_overloaded");
    assert_eq!((answer.status, answer.json()), (503, expected));
    assert_eq!(answer.header("retry-after"), "1");
    let log = gateway.wait_for_log_where(|log| log.iter().any(|line| line["status"] == 503)).await.unwrap();
    let refused = log.iter().find(|line| line["status"] == 503).unwrap();
    check_record(refused, &json!({ "backend": null, "client": null }));
    let shrinks = "envoy_overload_envoy_overload_actions_shrink_heap_active";
    gateway.wait_for_metric(shrinks, &[], 1.0).await.unwrap();
}

#[tokio::test]
async fn each_line_about_a_full_heap_is_needed() {
    let gateway = full(Some(format!("{OVERLOAD}/actions/1"))).await;
    assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
    let gateway = full(Some(format!("{OVERLOAD}/actions/0"))).await;
    let shrinks = gateway.metrics().await.unwrap();
    assert!(!shrinks.iter().any(|sample| sample.name.contains("shrink_heap_active")));
    let gateway = full(Some(format!("{MANAGER}/local_reply_config/mappers/0/headers_to_add"))).await;
    assert_eq!(refused(&gateway).await.header("retry-after"), "");
    let gateway = full(Some(format!("{MANAGER}/local_reply_config/mappers/0"))).await;
    assert_eq!(refused(&gateway).await.text(), "envoy overloaded");
}

/// How many of forty connections at once are served, and whether the admin interface still answers.
async fn served(is_bounded: bool) -> (usize, bool) {
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy| match is_bounded {
        true => *part(envoy, CONNECTIONS) = json!(20),
        false => take_out(envoy, "/overload_manager/resource_monitors/1"),
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let address = gateway.url().strip_prefix("http://").unwrap();
    let mut open = Vec::new();
    for _ in 0..40 {
        open.extend(is_served(address, "/v1/models").await);
    }
    let admin = gateway.admin_url().strip_prefix("http://").unwrap();
    (open.len(), is_served(admin, "/ready").await.is_some())
}

/// A new connection on which a request was answered with 200.
async fn is_served(address: &str, path: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\napi-key: {WEB_SHOP}\r\n\r\n");
    let mut answer = [0; 12];
    stream.write_all(request.as_bytes()).await.ok()?;
    stream.read_exact(&mut answer).await.ok()?;
    (&answer == b"HTTP/1.1 200").then_some(stream)
}

/// Connections to the admin interface count, and are not refused.
#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_admin_answers() {
    let (found, admin) = served(true).await;
    assert!((10..=20).contains(&found) && admin, "{found} {admin}");
    assert_eq!(served(false).await, (40, true));
}

/// What Envoy tells a client that speaks HTTP/2: streams, window of a stream, and by how much more the connection's is.
async fn told(without: Option<&'static str>) -> [Option<u32>; 3] {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    let setup = Setup::new().workers(1).patch(move |envoy| {
        if let Some(line) = without {
            take_out(envoy, &format!("{MANAGER}/http2_protocol_options/{line}"));
        }
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let mut stream = TcpStream::connect(gateway.url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let mut told = [None; 3];
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        match head[3] {
            SETTINGS => {
                for setting in payload.chunks_exact(6) {
                    match setting[1] {
                        3 => told[0] = Some(number(&setting[2..])),
                        4 => told[1] = Some(number(&setting[2..])),
                        _ => (),
                    }
                }
            }
            // It comes last.
            WINDOW_UPDATE => {
                told[2] = Some(number(&payload));
                return told;
            }
            _ => (),
        }
    }
}

#[tokio::test]
async fn one_http2_connection_has_bounded_streams_and_windows() {
    let expected = [Some(100), Some(65_536), Some(1_048_576 - 65_535)];
    assert_eq!(told(None).await, expected);
    for (at, line) in
        ["max_concurrent_streams", "initial_stream_window_size", "initial_connection_window_size"]
            .into_iter()
            .enumerate()
    {
        let found = told(Some(line)).await;
        assert_ne!(found[at], expected[at], "{line} {found:?}");
    }
}
