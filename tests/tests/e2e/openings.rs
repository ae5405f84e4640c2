//! Where does a request go whose backend says that all is well and then that it failed?

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::requests::{
    BATCH, CHAT, COMPLETIONS, INSTRUCT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, with,
};

/// The backends of `gpt-4o` in their order, and where their keys are.
const BACKENDS: [(&str, &str); 3] = [("ptu", "PTU_KEY"), ("payg-a", "PAYG_A_KEY"), ("payg-b", "PAYG_B_KEY")];

const ONCE: &str = "envoy/portable-once.yaml";

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

const THROTTLED: &str = r#"{"error":{"message":"Provider returned error","code":429}}"#;
const GOOD: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
const DELTA: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What a backend answers, with 200: its type, and its pieces. At an empty one it waits until it is told to go on.
#[derive(Clone, Default)]
struct Script {
    kind: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    pieces: Vec<String>,
}

fn script(kind: &'static str, pieces: &[&str]) -> Script {
    Script { kind, headers: Vec::new(), pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect() }
}

fn good(is_stream: bool) -> Script {
    if is_stream { script(EVENTS, &[DELTA, DONE]) } else { script(JSON, &[GOOD]) }
}

/// A backend that does as it is told.
#[derive(Clone, Default)]
struct Backend {
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<usize>>,
    go_on: Arc<Notify>,
}

impl Backend {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let backend = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let backend = backend.clone();
                let service = service_fn(move |request| backend.clone().answer(request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // An error is an Envoy that went away.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        url
    }

    async fn answer(
        self,
        request: Request<hyper::body::Incoming>,
    ) -> Result<Response<StreamBody<impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>>>>, Infallible>
    {
        let _ = request.into_body().collect().await;
        *self.asked.lock().unwrap() += 1;
        let Script { kind, headers, pieces } = self.script.lock().unwrap().clone();
        let go_on = self.go_on.clone();
        let frames = stream::iter(pieces).then(move |piece| {
            let go_on = go_on.clone();
            async move {
                if piece.is_empty() {
                    go_on.notified().await;
                }
                // So that what is before goes out by itself.
                tokio::task::yield_now().await;
                Ok(Frame::data(Bytes::from(piece)))
            }
        });
        let mut answer = Response::builder().header("content-type", kind);
        for (name, value) in headers {
            answer = answer.header(name, value);
        }
        Ok(answer.body(StreamBody::new(frames)).unwrap())
    }
}

struct Bed {
    gateway: Gateway,
    backends: [Backend; 3],
}

impl Bed {
    async fn new(setup: Setup) -> Self {
        let backends: [Backend; 3] = Default::default();
        let mut setup = setup.workers(1).edit(nobody_is_limited).env("BACKENDS_KEY", "unused");
        for (backend, (name, env)) in backends.iter().zip(BACKENDS) {
            *backend.script.lock().unwrap() = good(false);
            setup = setup.backend(name, &backend.listen().await).env(env, "unused");
        }
        Self { gateway: Gateway::start(setup).await.unwrap(), backends }
    }

    /// What the backends answer from now on; nobody has been asked, and nobody pauses any more.
    fn answer(&self, scripts: [Script; 3]) {
        for (backend, script) in self.backends.iter().zip(scripts) {
            *backend.script.lock().unwrap() = script;
            *backend.asked.lock().unwrap() = 0;
        }
    }

    fn asked(&self) -> [usize; 3] {
        self.backends.each_ref().map(|backend| *backend.asked.lock().unwrap())
    }

    async fn ask(&self, is_stream: bool) -> Answer {
        let body = with(chat("hello"), json!({ "stream": is_stream }));
        self.gateway.post(CHAT, WEB_SHOP, &body).await.unwrap()
    }
}

/// No other backend takes the blame for a while: pauses are of the one that failed.
fn with_retry_at_once(script: Script) -> Script {
    Script { headers: vec![("retry-after-ms", "0.001")], ..script }
}

/// Errors under 200, and what the status of each would be.
fn failures() -> Vec<(bool, Script, u16)> {
    let server = r#"{"error":{"message":"x","code":502},"choices":[]}"#;
    vec![
        (false, script(JSON, &[THROTTLED]), 429),
        (false, script(JSON, &[&THROTTLED[..20], &THROTTLED[20..]]), 429),
        (false, script(JSON, &[server]), 502),
        (false, script("text/plain", &[THROTTLED]), 429),
        (false, script(JSON, &[r#"{"object":"error","message":"x","code":500}"#]), 500),
        (true, script(EVENTS, &[&format!("data: {THROTTLED}\n\n"), DONE]), 429),
        (true, script(EVENTS, &[&format!("data: {THROTTLED}\n\n{DONE}")]), 429),
        (true, script(EVENTS, &[&format!("data: {}", &THROTTLED[..30]), &THROTTLED[30..], "\n", "\n"]), 429),
        (true, script(EVENTS, &[&format!(": OPENROUTER PROCESSING\n\ndata: {server}\n\n"), DONE]), 502),
        (
            true,
            script(
                EVENTS,
                &["event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}"],
            ),
            529,
        ),
        (true, script(EVENTS, &["event: error\ndata: {\"message\":\"x\"}\n\n"]), 500),
        (true, script(EVENTS, &["event: error\ndata: upstream is busy\n\n"]), 500),
        // An error is JSON, whatever was asked for.
        (true, script(JSON, &[THROTTLED]), 429),
    ]
}

#[tokio::test]
async fn an_error_under_200_goes_to_the_next_backend() {
    let bed = Bed::new(Setup::new().patch(nobody_is_ejected)).await;
    for (at, (is_stream, failure, status)) in failures().into_iter().enumerate() {
        bed.answer([with_retry_at_once(failure), good(is_stream), good(is_stream)]);
        let answer = bed.ask(is_stream).await;
        assert_eq!((answer.status, bed.asked()), (200, [1, 1, 0]), "{at}: {}", answer.text());
        let expected = if is_stream { format!("{DELTA}{DONE}") } else { GOOD.to_owned() };
        assert_eq!(answer.text(), expected, "{at}");
        let record = record_of(&bed.gateway, &answer).await;
        check_record(&record, &json!({ "backend": "payg-a", "attempts": 2, "outcome": "served" }));
        let tries = crate::requests::details(&record)["tries"].clone();
        let expected =
            json!([{ "backend": "ptu", "status": status }, { "backend": "payg-a", "status": 200 }]);
        assert_eq!(tries, expected, "{at}");
    }
}

/// Ejections are Envoy's own judgement, which is not what is asked about here.
fn nobody_is_ejected(envoy: &mut Value) {
    for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
        cluster.as_object_mut().unwrap().remove("outlier_detection");
    }
}

#[tokio::test]
async fn an_error_under_200_makes_a_pause() {
    for is_stream in [false, true] {
        let bed = Bed::new(Setup::new().patch(nobody_is_ejected)).await;
        let failure = match is_stream {
            true => script(EVENTS, &[&format!("data: {THROTTLED}\n\n"), DONE]),
            false => script(JSON, &[THROTTLED]),
        };
        let told = Script { headers: vec![("retry-after", "300")], ..failure };
        bed.answer([told, good(is_stream), good(is_stream)]);
        for expected in [[1, 1, 0], [1, 2, 0]] {
            assert_eq!(bed.ask(is_stream).await.status, 200);
            assert_eq!(bed.asked(), expected);
        }
    }
}

async fn last_is_told(setup: Setup) {
    let bed = Bed::new(setup.patch(nobody_is_ejected)).await;
    for (at, (is_stream, failure, status)) in failures().into_iter().enumerate() {
        bed.answer([failure.clone(), failure.clone(), failure].map(with_retry_at_once));
        let answer = bed.ask(is_stream).await;
        assert_eq!(answer.status, status, "{at}: {}", answer.text());
        assert_eq!(
            answer.header("content-type").split(';').next(),
            Some(if at == 3 { "text/plain" } else { JSON })
        );
        let error = answer.json();
        let is_error = error["error"].is_object() || error["object"] == "error";
        assert!(is_error, "{at}: {error}");
        let expected = json!({ "outcome": "backend_error", "prompt_tokens": "0", "completion_tokens": "0" });
        check_record(&record_of(&bed.gateway, &answer).await, &expected);
    }
}

#[tokio::test]
async fn the_last_error_under_200_is_told_in_its_status() {
    last_is_told(Setup::new()).await;
    last_is_told(Setup::new().file(ONCE)).await;
}

#[tokio::test]
async fn a_clients_own_error_under_200_is_told_and_goes_nowhere_else() {
    let bed = Bed::new(Setup::new()).await;
    let own = r#"{"error":{"message":"x","type":"invalid_request_error","code":null}}"#;
    for (is_stream, failure) in
        [(false, script(JSON, &[own])), (true, script(EVENTS, &[&format!("data: {own}\n\n"), DONE]))]
    {
        bed.answer([failure, good(is_stream), good(is_stream)]);
        let answer = bed.ask(is_stream).await;
        assert_eq!((answer.status, bed.asked()), (400, [1, 0, 0]));
        let error = json!({ "message": "x", "type": "invalid_request_error", "code": null });
        for (name, value) in error.as_object().unwrap() {
            assert_eq!(&answer.json()["error"][name], value);
        }
    }
}

#[tokio::test]
async fn a_refused_credential_under_200_goes_elsewhere() {
    let bed = Bed::new(Setup::new()).await;
    let refused = r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#;
    bed.answer([script(JSON, &[refused]), script(EVENTS, &[&format!("data: {refused}\n\n")]), good(false)]);
    let answer = bed.ask(false).await;
    assert_eq!((answer.status, bed.asked()), (200, [1, 1, 1]));
    for backend in ["ptu", "payg-a"] {
        let labels = [("backend", backend)];
        bed.gateway.wait_for_metric("tollgate_backend_auth_failures", &labels, 1.0).await.unwrap();
    }
}

#[tokio::test]
async fn a_backend_alone_is_passed_as_it_is() {
    let bed = Bed::new(Setup::new()).await;
    bed.answer([good(false), script(JSON, &[THROTTLED]), good(false)]);
    let body = json!({ "model": INSTRUCT, "prompt": "hello" });
    let answer = bed.gateway.post(COMPLETIONS, BATCH, &body).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, THROTTLED.to_owned()));
    let expected = json!({ "outcome": "backend_error", "prompt_tokens": "0" });
    check_record(&record_of(&bed.gateway, &answer).await, &expected);
}

/// What has come by the time that the backend waits, for a stream.
async fn comes_before(bed: &Bed, awaited: &str) -> String {
    let body = with(chat("hello"), json!({ "stream": true }));
    let url = format!("{}{CHAT}", bed.gateway.url());
    let sent = bed.gateway.http().post(url).bearer_auth(WEB_SHOP).json(&body).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let (mut text, mut pieces) = (String::new(), sent.bytes_stream());
    while !text.contains(awaited) {
        let piece = pieces.next().await.unwrap_or_else(|| panic!("{text}")).unwrap();
        text += std::str::from_utf8(&piece).unwrap();
    }
    bed.backends[0].go_on.notify_one();
    while let Some(piece) = pieces.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
    }
    text
}

#[tokio::test]
async fn neither_an_event_nor_a_comment_is_held() {
    let bed = Bed::new(Setup::new()).await;
    for first in [DELTA, ": ping\n\n", ": ping\n"] {
        bed.answer([script(EVENTS, &[first, "", DELTA, DONE]), good(true), good(true)]);
        assert_eq!(comes_before(&bed, first).await, format!("{first}{DELTA}{DONE}"));
        assert_eq!(bed.asked(), [1, 0, 0]);
    }
}

#[tokio::test]
async fn an_answer_longer_than_an_error_passes_whole() {
    let bed = Bed::new(Setup::new()).await;
    let long = GOOD.replace("hi", &"error ".repeat(50_000));
    bed.answer([
        script(JSON, &[&long[..100], &long[100..20_000], &long[20_000..]]),
        good(false),
        good(false),
    ]);
    let answer = bed.ask(false).await;
    assert!(answer.text() == long);
    check_record(&record_of(&bed.gateway, &answer).await, &json!({ "prompt_tokens": "3", "attempts": 1 }));
}
