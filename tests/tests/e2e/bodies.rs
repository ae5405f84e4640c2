//! Does a body get through in whatever way it comes, up to the bound and not beyond?

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, refusal, with};

/// The shipped default of `request_bytes_max`.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A chat whose JSON has this many bytes.
fn chat_of(bytes: usize) -> Value {
    let body = with(chat(""), json!({ "max_tokens": 9 }));
    let text = "x".repeat(bytes - body.to_string().len());
    with(chat(&text), json!({ "max_tokens": 9 }))
}

/// What the rest of a body is when it is sent in pieces.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Plain,
    Trailers,
}

/// A body in pieces, whose length nobody is told beforehand.
pub fn pieces(body: &Value, end: End) -> reqwest::Body {
    let text = body.to_string().into_bytes();
    let mut frames: Vec<_> =
        text.chunks(3000).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
    if matches!(end, End::Trailers) {
        let trailers = HeaderMap::from_iter([("x-checksum".parse().unwrap(), HeaderValue::from_static("1"))]);
        frames.push(Frame::trailers(trailers));
    }
    reqwest::Body::wrap(StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>))))
}

#[tokio::test]
async fn a_body_of_two_megabytes_is_served_and_counted() {
    let setup = Setup::new().workers(1).edit(nobody_is_limited);
    let gateway = Gateway::start(setup).await.unwrap();
    for bytes in [2_000_000, BYTES_MAX] {
        gateway.mock("ptu").forget();
        let body = chat_of(bytes);
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = gateway.mock("ptu").received().remove(0);
        assert_eq!(received.body, body.to_string());
        let usage = gateway.mock("ptu").billed()[0].usage;
        let record = json!({ "prompt_tokens": usage.prompt.to_string(), "completion_tokens": "9" });
        check_record(&record_of(&gateway, &answer).await, &record);
    }
}

#[tokio::test]
async fn a_long_body_is_edited_and_sent_to_the_next_backend_whole() {
    let busy = Settings { faults: [Fault::answer(429)].into(), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).mock("ptu", busy);
    let gateway = Gateway::start(setup).await.unwrap();
    let body = with(chat_of(2_000_000), json!({ "max_tokens": 1_000_000, "stream": true }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = with(body, json!({ "max_tokens": 512, "stream_options": { "include_usage": true } }));
    for backend in ["ptu", "payg-a"] {
        let received = gateway.mock(backend).received().remove(0);
        assert!(received.json() == expected, "{backend}");
        assert_eq!(received.header("content-length"), Some(received.body.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn a_body_over_the_clients_bound_is_refused_in_openais_shape() {
    let bound = |config: &mut Value| config["policies"][0]["request_bytes_max"] = json!(100_000);
    let setup = Setup::new().workers(1).edit(bound).edit(nobody_is_limited);
    let gateway = Gateway::start(setup).await.unwrap();
    let message = "The request body is longer than 100000 bytes, the most this client may send.";
    let expected = refusal(message, "invalid_request_error", None, "request_too_large");
    for (bytes, status) in [(100_000, 200), (100_001, 413), (3_000_000, 413)] {
        for in_pieces in [false, true] {
            let body = chat_of(bytes);
            let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
            let request = match in_pieces {
                false => request.json(&body),
                true => request.body(pieces(&body, End::Plain)),
            };
            let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
            assert_eq!(answer.status, status, "{bytes} {in_pieces} {}", answer.text());
            if status == 413 {
                assert_eq!(answer.json(), expected);
                assert_eq!(answer.header("x-should-retry"), "false");
                let record = json!({ "client": "web-shop", "outcome": "request_too_large", "backend": null });
                check_record(&record_of(&gateway, &answer).await, &record);
            }
        }
    }
    assert_eq!(gateway.mock("ptu").received().len(), 2);
}

#[tokio::test]
async fn a_body_over_envoys_own_bound_is_refused_in_openais_shape() {
    let bound = |envoy: &mut Value| {
        envoy["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = json!(16_384);
        let filter = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let route = "/route_config/virtual_hosts/0/routes/0/request_body_buffer_limit";
        *envoy.pointer_mut(&format!("{filter}{route}")).unwrap() = json!(65_536);
    };
    let setup = Setup::new().workers(1).patch(bound).edit(nobody_is_limited);
    let gateway = Gateway::start(setup).await.unwrap();
    assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat_of(60_000)).await.unwrap().status, 200);
    for in_pieces in [false, true] {
        let body = chat_of(200_000);
        let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
        let request = match in_pieces {
            false => request.json(&body),
            true => request.body(pieces(&body, End::Plain)),
        };
        let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
        assert_eq!(answer.status, 413);
        let message = "The request body is longer than the gateway takes.";
        let expected = refusal(message, "invalid_request_error", None, "request_too_large");
        assert_eq!(answer.json(), expected, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json");
        let record = json!({ "client": "web-shop", "backend": null, "outcome": "proxy_error" });
        check_record(&record_of(&gateway, &answer).await, &record);
    }
    assert_eq!(gateway.mock("ptu").received().len(), 1);
}

#[tokio::test]
async fn bodies_are_the_same_over_http_1_and_2_and_with_trailers() {
    let setup = Setup::new().workers(1).edit(nobody_is_limited);
    let gateway = Gateway::start(setup).await.unwrap();
    let http_2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let body = with(chat(&"many pieces ".repeat(2000)), json!({ "max_tokens": 600, "stream": true }));
    let expected =
        with(body.clone(), json!({ "max_tokens": 512, "stream_options": { "include_usage": true } }));
    let mut answers = Vec::new();
    for (http, version) in [(gateway.http(), "HTTP/1.1"), (&http_2, "HTTP/2.0")] {
        for end in [None, Some(End::Plain), Some(End::Trailers)] {
            gateway.mock("ptu").forget();
            let request = http.post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
            let request = match end {
                None => request.json(&body),
                // HTTP/1 sends only those trailers that it has announced.
                Some(end) => request.header("trailer", "x-checksum").body(pieces(&body, end)),
            };
            let response = request.send().await.unwrap();
            assert_eq!(format!("{:?}", response.version()), version);
            let answer = Answer::read(response).await.unwrap();
            assert_eq!(answer.status, 200, "{version} {end:?}: {}", answer.text());
            let received = gateway.mock("ptu").received().remove(0);
            assert_eq!(received.json(), expected, "{version} {end:?}");
            let usage = gateway.mock("ptu").billed()[0].usage;
            let record = json!({
                "prompt_tokens": usage.prompt.to_string(), "completion_tokens": "24", "outcome": "served",
                "estimated": "false",
            });
            check_record(&record_of(&gateway, &answer).await, &record);
            answers.push(answer.body);
        }
    }
    // Identical requests, so identical answers: every one whole.
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
}

#[tokio::test]
async fn a_request_without_a_body_is_told_that_it_needs_one() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
    let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 400);
    let expected = refusal(
        "The request has no `body`.",
        "invalid_request_error",
        Some("body"),
        "missing_required_parameter",
    );
    assert_eq!(answer.json(), expected);
}
