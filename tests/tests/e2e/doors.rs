//! Other ways in than a request for an answer, through a real Envoy.

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Mock, Settings};

use crate::envoy_lines::raw;
use crate::requests::WEB_SHOP;

/// A request for a socket, as Codex and realtime clients send it.
fn socket(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {WEB_SHOP}\r\nconnection: Upgrade, close\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test]
async fn a_socket_is_refused_with_426_and_reaches_no_backend() {
    let mock = Mock::start("ptu", Settings::default()).await.unwrap();
    let gateway =
        Gateway::start(Setup::new().backend("ptu", &mock.url()).env("PTU_KEY", "unused")).await.unwrap();
    for path in ["/v1/responses", "/v1/realtime?model=gpt-4o", "/openai/realtime?deployment=gpt-4o"] {
        let answer = raw(&gateway, &socket(path)).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 426"), "{path}: {answer}");
        assert!(answer.contains("\r\nupgrade: http/1.1\r\n"), "{answer}");
        assert!(answer.contains("upgrade_not_supported") && answer.contains("application/json"), "{answer}");
        let is_it = |line: &Value| line["outcome"] == json!("upgrade_not_supported");
        gateway.wait_for_log_where(|lines| lines.iter().any(is_it)).await.unwrap();
    }
    let unknown = raw(&gateway, &socket("/v1/socket")).await;
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("unknown_url"), "{unknown}");
    assert!(mock.received().is_empty());
}

#[tokio::test]
async fn a_preflight_is_answered_and_reaches_no_backend() {
    let mock = Mock::start("ptu", Settings::default()).await.unwrap();
    let gateway =
        Gateway::start(Setup::new().backend("ptu", &mock.url()).env("PTU_KEY", "unused")).await.unwrap();
    let preflight = |path: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: https://app.example\r\n\
             access-control-request-method: POST\r\n\r\n"
        )
    };
    let answer = raw(&gateway, &preflight("/v1//chat/completions/")).await.to_ascii_lowercase();
    assert!(
        answer.starts_with("http/1.1 204") && answer.contains("\r\nallow: get, post, options\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("access-control-"), "{answer}");
    assert!(raw(&gateway, &preflight("/v1/engines/x")).await.starts_with("HTTP/1.1 404"));
    assert!(mock.received().is_empty());
}

#[tokio::test]
async fn a_request_that_calls_itself_grpc_gets_the_real_status() {
    let mock = Mock::start("ptu", Settings::default()).await.unwrap();
    let setup = Setup::new().backend("ptu", &mock.url()).env("PTU_KEY", "unused");
    let gateway = Gateway::start(setup).await.unwrap();
    for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
        for (path, key, status) in [
            ("/v1/chat/completions", "x", "401"),
            ("/v1/chat/completions", WEB_SHOP, "415"),
            ("/v1/engines/x", WEB_SHOP, "404"),
        ] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
                 content-type: {content_type}\r\nte: trailers\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0"
            );
            let answer = raw(&gateway, &request).await.to_ascii_lowercase();
            assert!(answer.starts_with(&format!("http/1.1 {status}")), "{path} {content_type}: {answer}");
            assert!(!answer.contains("grpc"), "{answer}");
        }
    }
    assert!(mock.received().is_empty());
}
