//! Is an answer whole that trailers end?

use std::convert::Infallible;
use std::net::Ipv4Addr;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate_tests::harness::{Gateway, Setup};

use crate::pinned::{BACKENDS, passes_the_secret, pinning};
use crate::requests::{
    CHAT, GPT_4O, RESPONSES, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, with,
};

const MADE: &str = r#"{"id":"resp_abc123def456","object":"response","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":4}}"#;
const ERROR: &str = r#"{"error":{"message":"Previous response 'resp_abc123def456' is of another kind.","code":"invalid_value"}}"#;
const DELTA: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n";

/// A backend whose answers are all ended by trailers: a response, an error that quotes it, or a stream whose last event has
/// no empty line.
async fn backend(last: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, last));
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // An error is an Envoy that went away.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    url
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    last: &'static str,
) -> Result<Response<StreamBody<impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>>>>, Infallible> {
    let is_stream = request.uri().path().ends_with("chat/completions");
    let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let (status, kind, pieces) = match body.get("previous_response_id") {
        _ if is_stream => (200, "text/event-stream", vec![DELTA, last]),
        Some(_) => (422, "application/json", vec![&ERROR[..40], &ERROR[40..]]),
        None => (200, "application/json", vec![&MADE[..50], &MADE[50..]]),
    };
    let end = HeaderMap::from_iter([("x-checksum".parse().unwrap(), HeaderValue::from_static("1"))]);
    let data = pieces.into_iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
    let frames = data.chain([Frame::trailers(end)]).map(Ok::<_, Infallible>);
    // HTTP/1 sends only those trailers that it has announced.
    let answer =
        Response::builder().status(status).header("content-type", kind).header("trailer", "x-checksum");
    Ok(answer.body(StreamBody::new(stream::iter(frames.collect::<Vec<_>>()))).unwrap())
}

/// Trailers need HTTP/2: of HTTP/1, Envoy drops them.
fn asks_by_http_2(envoy: &mut Value) {
    for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
        let options = &mut cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        options["@type"] =
            json!("type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
        options["explicit_http_config"] = json!({ "http2_protocol_options": {} });
    }
}

async fn gateway(last: &'static str) -> Gateway {
    let mut setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .edit(pinning)
        .patch(passes_the_secret)
        .patch(asks_by_http_2);
    setup = setup.env("TOLLGATE_IDS", "the same secret for all of a fleet");
    let url = backend(last).await;
    for (name, env) in BACKENDS {
        setup = setup.backend(name, &url).env(env, "unused");
    }
    Gateway::start(setup).await.unwrap()
}

#[tokio::test]
async fn an_error_that_trailers_end_is_whole_and_quotes_ids() {
    let gateway = gateway(USAGE).await;
    let body = json!({ "model": GPT_4O, "input": "hello", "max_output_tokens": 16 });
    let made = gateway.post(RESPONSES, WEB_SHOP, &body).await.unwrap().json();
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("resp_tg_"), "{made}");
    let body = with(body.clone(), json!({ "previous_response_id": id }));
    let error = gateway.post(RESPONSES, WEB_SHOP, &body).await.unwrap();
    assert_eq!((error.status, error.text()), (422, ERROR.replace("resp_abc123def456", id)));
}

#[tokio::test]
async fn a_stream_that_trailers_end_loses_nothing_but_its_usage() {
    for (last, told, tokens) in
        [(USAGE, DELTA.to_owned(), "11"), ("data: [DONE]\n", format!("{DELTA}data: [DONE]\n"), "8")]
    {
        let gateway = gateway(last).await;
        let body = with(chat("hello"), json!({ "stream": true }));
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, told));
        check_record(&record_of(&gateway, &answer).await, &json!({ "prompt_tokens": tokens }));
    }
}
