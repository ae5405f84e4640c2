//! From what is to be said to an HTTP response: the headers Azure sends, and the body on its way.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::answer::{self, Answer, Background, Content, Event, Produced};
use super::endpoint::Dialect;
use super::exchange::Exchange;
use super::flow::{self, Aborted, Way};
use super::gzip;
use super::limiter::Admission;
use super::record::Outcome;
use super::refusal::Refusal;

pub(super) type Body = UnsyncBoxBody<Bytes, Aborted>;

/// A good answer, and what goes with it.
pub(super) struct Grant {
    pub(super) answer: Answer,
    pub(super) dialect: Dialect,
    /// None for what no limit counts.
    pub(super) admission: Option<Admission>,
    pub(super) reset_after: Option<usize>,
}

/// The answer's `content-encoding`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
}

/// Where a body whose length was announced ends.
#[derive(Clone, Copy)]
enum End {
    Proper,
    Middle,
}

pub(super) fn grant(mut exchange: Exchange, grant: Grant, coding: Coding) -> Response<Body> {
    let Grant { answer, dialect, admission, reset_after } = grant;
    let mut headers = headers(&exchange);
    for (name, value) in admission.map(|admission| admission.left.headers()).into_iter().flatten() {
        put(&mut headers, &name, &value);
    }
    exchange.answering(200, Some(&answer));
    match answer.content {
        Content::Json(body) | Content::Begun(Background { queued: body, .. }) => {
            let end = if reset_after.is_some() { End::Middle } else { End::Proper };
            whole(exchange, headers, body, coding, end)
        }
        Content::Stream(events) => {
            put(&mut headers, "cache-control", "no-cache, must-revalidate");
            put(
                &mut headers,
                CONTENT_TYPE.as_str(),
                match dialect {
                    Dialect::Azure => "text/event-stream",
                    Dialect::OpenAi | Dialect::Anthropic => "text/event-stream; charset=utf-8",
                },
            );
            // Unlike a whole answer, a stream is paid for as it goes.
            exchange.produced(Produced::default());
            let way = Way {
                delay: Duration::from_millis(exchange.settings.chunk_delay_ms),
                cut_bytes: exchange.settings.cut_bytes,
                gzip: coding == Coding::Gzip,
                hold_after: exchange.settings.hold_after_events,
                reset_after,
            };
            if way.gzip {
                put(&mut headers, CONTENT_ENCODING.as_str(), "gzip");
            }
            response(200, headers, flowing(exchange, events, way))
        }
    }
}

pub(super) fn refuse(mut exchange: Exchange, refusal: Refusal, coding: Coding) -> Response<Body> {
    let mut headers = headers(&exchange);
    for (name, value) in &refusal.headers {
        put(&mut headers, name, value);
    }
    exchange.answering(refusal.status, None);
    let mut response = whole(exchange, headers, refusal.body, coding, End::Proper);
    *response.status_mut() = status(refusal.status);
    response
}

/// An answer that belongs to no exchange.
pub(super) fn json(status: u16, body: &impl Serialize) -> Response<Body> {
    let mut headers = HeaderMap::new();
    put(&mut headers, CONTENT_TYPE.as_str(), "application/json");
    response(status, headers, full(answer::json(body)))
}

/// A body whose length is known.
fn whole(
    mut exchange: Exchange,
    mut headers: HeaderMap,
    body: Bytes,
    coding: Coding,
    end: End,
) -> Response<Body> {
    let body = match coding {
        Coding::Identity => body,
        Coding::Gzip => {
            put(&mut headers, CONTENT_ENCODING.as_str(), "gzip");
            gzip::compress(&body)
        }
    };
    if !headers.contains_key(CONTENT_TYPE) {
        put(&mut headers, CONTENT_TYPE.as_str(), "application/json");
    }
    put(&mut headers, CONTENT_LENGTH.as_str(), &body.len().to_string());
    let produced = exchange.billed();
    let cut_bytes = exchange.settings.cut_bytes;
    let body = match end {
        End::Middle => {
            let half = Event { bytes: body.slice(..body.len() / 2), produced };
            flowing(exchange, vec![half], Way { cut_bytes, reset_after: Some(1), ..Way::default() })
        }
        End::Proper if cut_bytes.is_some() => {
            flowing(exchange, vec![Event { bytes: body, produced }], Way { cut_bytes, ..Way::default() })
        }
        End::Proper => {
            exchange.sent(&body);
            exchange.end(Outcome::Complete);
            full(body)
        }
    };
    response(200, headers, body)
}

fn headers(exchange: &Exchange) -> HeaderMap {
    let serial = exchange.serial;
    let mut headers = HeaderMap::with_capacity(16);
    // The region says which mock it was.
    put(&mut headers, "x-ms-region", exchange.name());
    put(&mut headers, "apim-request-id", &format!("00000000-0000-4000-8000-{serial:012x}"));
    put(&mut headers, "x-request-id", &format!("req_{serial:032x}"));
    headers
}

/// What is no header is left out: names of mocks and faults may be anything.
fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

fn flowing(exchange: Exchange, events: Vec<Event>, way: Way) -> Body {
    StreamBody::new(flow::pieces(exchange, events, way).map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn response(code: u16, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status(code);
    *response.headers_mut() = headers;
    response
}

/// [`super::Settings::patched`] refuses what HTTP has no room for; set in process, it is a server's fault.
fn status(code: u16) -> StatusCode {
    match StatusCode::from_u16(code) {
        Ok(status) if !status.is_informational() => status,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
