//! Other ways in than a request for an answer, through a real Envoy.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Mock, Settings};

use crate::envoy_lines::{MANAGER, part, raw};
use crate::requests::{WEB_SHOP, nobody_is_limited};

/// A request for a socket, as Codex and realtime clients send it.
pub fn socket(path: &str) -> String {
    upgrade(path, "websocket", "x", WEB_SHOP)
}

/// A request to go on with another protocol.
pub fn upgrade(path: &str, protocol: &str, host: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: Upgrade, close\r\n\
         upgrade: {protocol}\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
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

/// By HTTP/2 too a socket may be asked for, as RFC 8441 has it.
pub fn takes_extended_connect(manager: &mut Value) {
    manager["http2_protocol_options"]["allow_connect"] = json!(true);
}

/// Whoever asks for another protocol, in whichever way, gets 426 where there is something to be asked, and 404 else.
/// Envoy must take upgrades, and extended CONNECT.
pub async fn check_sockets(gateway: &Gateway, host: &str, key: &str) {
    const KNOWN: [&str; 4] = [
        "/v1/responses",
        "/v1//responses/",
        "/openai/v1/realtime?model=gpt-4o",
        "/openai/deployments/gpt-4o/responses",
    ];
    const UNKNOWN: [&str; 3] = ["/v1/socket", "/v1/responses;x", "/v1/%72ealtimes"];
    let cases: Vec<_> = KNOWN
        .into_iter()
        .map(|path| (path, 426, "upgrade_not_supported"))
        .chain(UNKNOWN.into_iter().map(|path| (path, 404, "unknown_url")))
        .collect();
    for (path, status, code) in &cases {
        for protocol in ["websocket", "WebSocket", " WEBSOCKET "] {
            let answer = raw(gateway, &upgrade(path, protocol, host, key)).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{protocol} {path}: {answer}");
            assert!(answer.contains(code), "{protocol} {path}: {answer}");
        }
    }
    // Envoy takes this one off, for it has been given up (RFC 9113, section 3.1): what stays is a plain GET.
    let answer = raw(gateway, &upgrade("/v1/models", "h2c", host, key)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The listener allows one protocol, and compares the whole header with it: lists and others Envoy refuses itself.
    for protocol in ["websocket, h2c", "h2c, websocket", "TLS/1.0", "websocket\r\nupgrade: h2c"] {
        let answer = raw(gateway, &upgrade("/v1/responses", protocol, host, key)).await;
        assert!(answer.starts_with("HTTP/1.1 426"), "{protocol}: {answer}");
        assert!(answer.contains("upgrade_not_supported"), "{protocol}: {answer}");
    }

    let stream = TcpStream::connect(gateway.url().trim_start_matches("http://")).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    // With the first answer it is known that Envoy takes extended CONNECT.
    let first = ("/v1/models", 200, "gpt-4o");
    for (path, status, says) in std::iter::once(first).chain(cases) {
        let request = Request::builder().uri(format!("http://{host}{path}"));
        let request = request.header("authorization", format!("Bearer {key}"));
        let request = match status {
            200 => request,
            _ => request.method("CONNECT").extension(Protocol::from_static("websocket")),
        };
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "CONNECT {path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(says), "CONNECT {path}: {body:?}");
    }
    connection.abort();
}

#[tokio::test]
async fn a_socket_is_refused_however_it_is_asked_for() {
    for file in ["envoy/envoy.yaml", "envoy/portable-pools.yaml", "envoy/portable-once.yaml"] {
        let setup = Setup::new().file(file).workers(1).edit(nobody_is_limited);
        let setup = setup.patch(|envoy| takes_extended_connect(part(envoy, MANAGER)));
        let gateway = Gateway::start(setup).await.unwrap();
        check_sockets(&gateway, "x", WEB_SHOP).await;
        assert!(gateway.backends().keys().all(|backend| gateway.mock(backend).received().is_empty()));
    }
}

#[tokio::test]
async fn a_request_written_oddly_is_read_in_one_way() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited)).await.unwrap();
    for (line, status, says) in [
        // One way to write it is left when it is decided on.
        ("GET //v1/models", 200, "gpt-4o"),
        ("GET /v1//models//", 200, "gpt-4o"),
        ("GET /v1/./x/../models", 200, "gpt-4o"),
        ("GET /v1/%6dodels", 200, "gpt-4o"),
        ("GET http://elsewhere/v1/models", 200, "gpt-4o"),
        ("HEAD /v1/models", 200, "content-length: 176"),
        ("HEAD /v1//models/gpt-4o/", 200, "application/json"),
        ("GET /v1/models/ft:gpt-4o:org::1", 403, "`ft:gpt-4o:org::1`"),
        ("OPTIONS /v1/chat/completions/", 204, "allow: GET, POST, OPTIONS"),
        ("OPTIONS /v1/models/gpt-4o", 204, "allow: GET, HEAD, DELETE, OPTIONS"),
        ("OPTIONS /v1/responses/resp_1", 204, "allow: GET, DELETE, OPTIONS"),
        ("OPTIONS /tollgate/health", 204, "allow: GET, HEAD, OPTIONS"),
        ("OPTIONS /v1/nothing", 404, "unknown_url"),
        ("GET /v1/models;x=1", 404, "unknown_url"),
        ("GET /v1;x=1/models", 404, "unknown_url"),
        ("GET /V1/models", 404, "unknown_url"),
        ("GET /v1/responses", 404, "unknown_url"),
        ("HEAD /v1/chat/completions", 404, ""),
        ("TRACE /v1/models", 404, "unknown_url"),
        ("CONNECT x:443", 404, "unknown_url"),
        // These are none for Envoy.
        ("OPTIONS *", 404, ""),
        ("CONNECT /v1/models", 400, ""),
        ("GET /v1%2fmodels", 400, ""),
        ("GET /v1/models%5c", 400, ""),
        ("GET /v1/models%00", 400, ""),
        ("GET /v1/models#x", 400, ""),
        ("GET \\v1\\models", 400, ""),
        ("GET v1/models", 400, ""),
        ("GET https://x/v1/models", 403, ""),
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nhost: x\r\napi-key: {WEB_SHOP}\r\nconnection: close\r\n\r\n");
        let answer = raw(&gateway, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
        assert!(answer.contains(says), "{line}: {answer}");
    }
    assert!(gateway.backends().keys().all(|backend| gateway.mock(backend).received().is_empty()));
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
    // The last two are none for Envoy, which leaves their answers as they are.
    for (content_type, is_grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", false),
        ("application/grpc-web", false),
    ] {
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
            // Envoy has no body for it.
            assert_eq!(answer.ends_with("\r\n\r\n"), is_grpc, "{answer}");
            assert_eq!(answer.contains("content-type: application/json"), !is_grpc, "{answer}");
        }
    }
    assert!(mock.received().is_empty());
}
