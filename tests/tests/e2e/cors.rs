//! May a page of another origin call the gateway where `envoy/cors.yaml` allows it, and nobody else's?
//!
//! In a real Chromium, with OpenAI's SDK for JavaScript and with `fetch`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tollgate_tests::harness::tools::{self, workspace};
use tollgate_tests::harness::{Browser, Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::doors::socket;
use crate::envoy_lines::{MANAGER, part, raw, take_out};
use crate::requests::{BATCH, CHAT, WEB_SHOP, chat};

/// How long a browser may take to start and to make all calls of the page.
const WITHIN: Duration = Duration::from_secs(120);

/// A client that may ask once a minute.
const ONCE: &str = "once";

fn fragment() -> Value {
    let text = fs::read_to_string(workspace().join("envoy/cors.yaml")).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

/// Puts the fragment where it says, for pages of this origin.
fn allow(envoy: &mut Value, mut fragment: Value, origin: &str) {
    if let Some(allowed) = fragment.pointer_mut(&format!("{POLICY}/allow_origin_string_match/0/exact")) {
        assert_eq!(*allowed, "https://app.example.com");
        *allowed = json!(origin);
    }
    let manager = part(envoy, MANAGER);
    part(manager, "/http_filters").as_array_mut().unwrap().insert(0, fragment["http_filter"].clone());
    part(manager, "/route_config/virtual_hosts/0")["typed_per_filter_config"] =
        fragment["typed_per_filter_config"].clone();
}

const POLICY: &str = "/typed_per_filter_config/envoy.filters.http.cors";

fn has_client_with_one_request(config: &mut Value) {
    let mut client = config["clients"][0].clone();
    client["name"] = json!(ONCE);
    client["api_keys"] = json!([{ "sha256": hex::encode(Sha256::digest(ONCE)) }]);
    client["limits"] = json!([{ "requests": 1, "per": "minute" }]);
    config["clients"].as_array_mut().unwrap().push(client);
}

/// A server of the page and of the SDK, and what the page tells it.
struct Site {
    origin: String,
    found: mpsc::UnboundedReceiver<Value>,
    server: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Site {
    async fn start() -> Self {
        let sdk = tokio::task::spawn_blocking(tools::node_packages).await.unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (tell, found) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sdk, tell) = (sdk.clone(), tell.clone());
                let service = service_fn(move |request| answer(request, sdk.clone(), tell.clone()));
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { origin, found, server }
    }

    /// What a browser finds that opens the page.
    async fn calls(&mut self, gateway: &Gateway) -> Value {
        let page = format!(
            "{}/?gateway={}&key={WEB_SHOP}&limited={ONCE}&keeper={BATCH}",
            self.origin,
            gateway.url()
        );
        let browser = Browser::open(&page).await.unwrap();
        let found = tokio::time::timeout(WITHIN, self.found.recv()).await;
        found.unwrap_or_else(|_| panic!("the page told nothing: {}", browser.said())).unwrap()
    }
}

async fn answer(
    request: Request<Incoming>,
    sdk: PathBuf,
    tell: mpsc::UnboundedSender<Value>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let (file, kind) = match path.as_str() {
        "/found" => {
            let body = request.into_body().collect().await?.to_bytes();
            tell.send(serde_json::from_slice(&body).unwrap()).unwrap();
            return Ok(Response::new(Full::default()));
        }
        "/" => (workspace().join("tests/browser/page.html"), "text/html"),
        path => (sdk.join(path.trim_start_matches('/')), "text/javascript"),
    };
    let answer = Response::builder().header("content-type", kind);
    Ok(match fs::read(file) {
        Ok(bytes) => answer.body(Full::from(bytes)).unwrap(),
        Err(_) => answer.status(404).body(Full::default()).unwrap(),
    })
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_reads_answers_and_refusals() {
    let mut site = Site::start().await;
    let mut elsewhere = Site::start().await;
    let origin = site.origin.clone();
    let setup = Setup::new().workers(1).edit(has_client_with_one_request);
    let setup = setup.patch(move |envoy| allow(envoy, fragment(), &origin));
    let gateway = Gateway::start(setup).await.unwrap();
    // Its only request.
    assert_eq!(gateway.post(CHAT, ONCE, &chat("first")).await.unwrap().status, 200);

    let found = site.calls(&gateway).await;
    let text = found["json"]["body"]["choices"][0]["message"]["content"].as_str();
    assert!(text.is_some_and(|text| !text.is_empty()), "{found:#}");
    let headers = &found["json"]["headers"];
    for name in [
        "x-request-id",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    ] {
        assert!(headers[name].is_string(), "{name}: {found:#}");
    }
    assert_eq!(found["stream"]["type"], "text/event-stream");
    assert!(found["stream"]["text"].as_str().unwrap().ends_with("data: [DONE]\n\n"), "{found:#}");
    assert_eq!(found["api_key"]["status"], 200);
    for (call, status, code) in
        [("unknown_key", 401, "invalid_api_key"), ("over_limit", 429, "rate_limit_exceeded")]
    {
        assert_eq!(found[call]["status"], status, "{found:#}");
        assert_eq!(found[call]["body"]["error"]["code"], code, "{found:#}");
    }
    assert_eq!(found["unknown_key"]["headers"]["x-should-retry"], "false", "{found:#}");
    let headers = &found["over_limit"]["headers"];
    assert_eq!(headers["x-ratelimit-limit-requests"], "1", "{found:#}");
    assert!(headers["retry-after"].is_string() && headers["retry-after-ms"].is_string(), "{found:#}");
    assert_eq!(found["header_that_is_not_listed"]["exception"], "TypeError", "{found:#}");
    assert_eq!(found["sdk"]["text"].as_str(), text);
    assert!(found["sdk"]["id"].is_string(), "{found:#}");
    assert_eq!(found["sdk_stream"]["text"].as_str(), text);
    assert_eq!(found["sdk_delete"]["exception"], "NotFoundError", "{found:#}");
    assert_eq!(found["sdk_unknown_key"]["exception"], "AuthenticationError", "{found:#}");
    assert_eq!(found["sdk_unknown_key"]["code"], "invalid_api_key");

    // Of another origin the browser does not even ask.
    for backend in gateway.backends().keys() {
        gateway.mock(backend).forget();
    }
    let found = elsewhere.calls(&gateway).await;
    for (call, outcome) in found.as_object().unwrap() {
        let exception = if call.starts_with("sdk") { "APIConnectionError" } else { "TypeError" };
        assert_eq!(outcome["exception"], exception, "{call}: {found:#}");
    }
    for backend in gateway.backends().keys() {
        assert_eq!(gateway.mock(backend).received(), [], "{backend}");
    }
}

const ORIGIN: &str = "https://app.example.com";

fn preflight() -> String {
    format!(
        "OPTIONS {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {ORIGIN}\r\n\
         access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n\r\n"
    )
}

fn asks(line: &str, more: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {ORIGIN}\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn refusals_have_the_headers_of_cors() {
    let fails = Settings { faults: [Fault::answer(401).always()].into(), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(has_client_with_one_request).mock("payg-a", fails);
    let setup = setup.patch(|envoy| allow(envoy, fragment(), ORIGIN));
    let gateway = Gateway::start(setup).await.unwrap();
    let own = format!("api-key: {WEB_SHOP}\r\n");
    let json = format!("{own}content-type: application/json\r\n");
    let body = chat("hello").to_string();
    let embedding = json!({ "model": "gpt-35-turbo-instruct", "prompt": "x" }).to_string();
    let batch = format!("api-key: {BATCH}\r\ncontent-type: application/json\r\n");
    let post = format!("POST {CHAT}");
    for (request, status) in [
        (asks(&post, "", &body), 401),
        (asks("GET /v1/nothing", &own, ""), 404),
        (asks(&post, &json, "{"), 400),
        (asks(&post, &json, &body.replace("gpt-4o", "gpt-5")), 403),
        (asks(&post, &format!("{own}content-type: text/html\r\n"), &body), 415),
        (asks(&post, &json, &body), 200),
        (asks("POST /v1/completions", &batch, &embedding), 503),
        (socket("/v1/responses").replace("host: x", &format!("host: x\r\norigin: {ORIGIN}")), 426),
    ] {
        let answer = raw(&gateway, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        for name in
            ["access-control-allow-origin: https://app.example.com\r\n", "access-control-expose-headers: "]
        {
            assert!(answer.contains(name), "{name} {request}: {answer}");
        }
    }
}

#[tokio::test]
async fn each_line_of_cors_makes_a_difference() {
    let allowed = "access-control-allow-origin: ";
    for (line, name, is_of_preflight) in [
        ("", "", true),
        ("/http_filter", allowed, true),
        (&format!("{POLICY}/allow_origin_string_match"), allowed, true),
        (&format!("{POLICY}/allow_methods"), "access-control-allow-methods: ", true),
        (&format!("{POLICY}/allow_headers"), "access-control-allow-headers: ", true),
        (&format!("{POLICY}/max_age"), "access-control-max-age: 600", true),
        (&format!("{POLICY}/expose_headers"), "access-control-expose-headers: ", false),
    ] {
        let mut without = fragment();
        match line {
            "" => {}
            "/http_filter" => without["http_filter"] = fragment_of_nothing(),
            line => take_out(&mut without, line),
        }
        let setup = Setup::new().workers(1).patch(move |envoy| allow(envoy, without, ORIGIN));
        let gateway = Gateway::start(setup).await.unwrap();
        let asked = raw(&gateway, &preflight()).await;
        let answered = raw(&gateway, &asks("GET /v1/models", "", "")).await;
        assert!(answered.starts_with("HTTP/1.1 401"), "{answered}");
        if line.is_empty() {
            assert!(asked.starts_with("HTTP/1.1 200"), "{asked}");
            for name in [allowed, "allow-methods: ", "allow-headers: ", "max-age: 600"] {
                assert!(asked.contains(name), "{name}: {asked}");
            }
            assert!(answered.contains("access-control-expose-headers: "), "{answered}");
            continue;
        }
        let found = if is_of_preflight { asked } else { answered };
        assert!(!found.contains(name), "{line}: {found}");
    }
}

/// In place of the filter: one that does nothing.
fn fragment_of_nothing() -> Value {
    json!({
        "name": "nothing",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
        },
    })
}
