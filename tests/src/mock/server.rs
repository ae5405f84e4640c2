//! Connections, and what becomes of each request: the order in which the mock decides.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::answer::{self, Answer, Content};
use super::endpoint::{Dialect, Endpoint, Operation};
use super::exchange::{Exchange, Shared};
use super::flow::Aborted;
use super::limiter::Exceeded;
use super::record::{Arrival, Outcome};
use super::refusal::Refusal;
use super::reply::{self, Body, Coding, Grant};
use super::settings::{Effect, Gzip, Settings};
use super::{admin, gzip, realtime, resources, responses_socket};

/// No request is larger.
const BODY_BYTES_MAX: usize = 64 << 20;
/// After a failure to accept, which is for lack of file descriptors or memory: some may come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A listener that is deaf once it is dropped, also if a process just being forked off this one still has a copy.
pub(super) struct Listener(pub(super) TcpListener);

impl Drop for Listener {
    fn drop(&mut self) {
        // Not every system lets a listener be shut down; there, closing must do.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

/// Serves until told to stop, or dropped; no connection outlives it.
pub(super) async fn serve(listener: Listener, shared: Arc<Shared>, stop: Arc<Notify>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.0.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = stop.notified() => break,
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Every piece of a stream is a packet of its own.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
    // HTTP/1 or 2, as the client begins. Errors are clients that went away, and the faults that were asked for.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

/// What is done with a request.
enum Verdict {
    Grant(Grant),
    Refuse(Refusal),
    Close,
    Hang,
}

/// An `Err` makes hyper close the connection without an answer.
async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Aborted> {
    if realtime::is_asked(&request) {
        return Ok(realtime::answer(&shared, request));
    }
    if responses_socket::is_asked(&request) {
        return Ok(responses_socket::answer(&shared, request));
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await.map(Collected::to_bytes) else {
        return Ok(reply::json(413, &json!({"error": {"code": "413", "message": "Request body too large"}})));
    };
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    if let Some(admin_path) = path.strip_prefix(admin::PREFIX) {
        return Ok(admin::answer(&shared, parts.method.as_str(), admin_path, &body));
    }

    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked = Asked {
        method: parts.method.as_str().to_owned(),
        path,
        keys: keys(&parts.headers),
        content_type: content_type.to_owned(),
        body,
    };
    let accepted = gzip::accepted(&parts.headers);
    let arrival =
        Arrival { method: &asked.method, path: &asked.path, headers: &parts.headers, body: &asked.body };
    let (mut exchange, fault) = Exchange::arrive(&shared, arrival);
    let settings = Arc::clone(&exchange.settings);
    let verdict = asked.verdict(&shared, &settings, fault);
    match &verdict {
        Verdict::Grant(grant) => exchange.admission = grant.admission,
        Verdict::Refuse(Refusal { status: 429, .. }) => shared.refused(),
        Verdict::Refuse(_) | Verdict::Close | Verdict::Hang => {}
    }
    let coding = match settings.gzip {
        Gzip::Always => Coding::Gzip,
        Gzip::Accepted if accepted => Coding::Gzip,
        Gzip::Accepted | Gzip::Never => Coding::Identity,
    };

    if settings.hold {
        exchange.released().await;
    }
    if settings.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(settings.latency_ms)).await;
    }
    match verdict {
        Verdict::Grant(grant) => Ok(reply::grant(exchange, grant, coding)),
        Verdict::Refuse(refusal) => Ok(reply::refuse(exchange, refusal, coding)),
        Verdict::Close => {
            exchange.end(Outcome::Complete);
            Err(Aborted)
        }
        Verdict::Hang => std::future::pending().await,
    }
}

/// What a request says.
struct Asked {
    method: String,
    path: String,
    keys: Vec<HeaderValue>,
    content_type: String,
    body: Bytes,
}

impl Asked {
    fn verdict(&self, shared: &Shared, settings: &Settings, fault: Option<Effect>) -> Verdict {
        let reset_after = match fault {
            None => None,
            Some(Effect::Reset { after_events }) => Some(after_events),
            Some(Effect::Close) => return Verdict::Close,
            Some(Effect::Hang) => return Verdict::Hang,
            Some(Effect::Answer { status, headers, body }) => {
                return Verdict::Refuse(told(status, headers, body));
            }
            Some(Effect::Throttle { for_ms }) => {
                return Verdict::Refuse(Exceeded::throttled(Duration::from_millis(for_ms)).refusal());
            }
        };
        match self.grant(shared, settings, reset_after) {
            Ok(grant) => Verdict::Grant(grant),
            Err(refusal) => Verdict::Refuse(refusal.said_in(Dialect::of(&self.path))),
        }
    }

    /// The key, then the request, then the limits: a request that is wrong costs nothing.
    fn grant(
        &self,
        shared: &Shared,
        settings: &Settings,
        reset_after: Option<usize>,
    ) -> Result<Grant, Refusal> {
        let dialect = Dialect::of(&self.path);
        if let Some(key) = &settings.require_key
            && !self.keys.iter().any(|presented| presented == key)
        {
            return Err(wrong_key(dialect));
        }
        let endpoint = Endpoint::parse(&self.method, &self.path)?;
        let answer = match endpoint.operation {
            Operation::Resources => self.resource(shared, &endpoint)?,
            Operation::Responses => self.response(shared, endpoint, settings)?,
            _ => answer::answer_of(&shared.name, endpoint, &self.body, settings)?,
        };
        let cost = match settings.provisioned {
            true => answer.cost - answer.usage.cached,
            false => answer.cost,
        };
        let admission = match answer.operation {
            Operation::Models | Operation::Resources => None,
            _ => Some(shared.admit(settings, cost).map_err(Exceeded::refusal)?),
        };
        if answer.operation == Operation::Responses {
            self.remember(shared, &answer);
        }
        Ok(Grant { answer, dialect, admission, reset_after })
    }

    fn resource(&self, shared: &Shared, endpoint: &Endpoint) -> Result<Answer, Refusal> {
        let Self { method, content_type, body, .. } = self;
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let asked = resources::Asked { method, segments: &endpoint.segments, query, content_type, body };
        resources::answer(&mut shared.kept(), &asked)
    }

    /// A response to what it refers to, if that is here.
    fn response(&self, shared: &Shared, endpoint: Endpoint, settings: &Settings) -> Result<Answer, Refusal> {
        if let Ok(body) = serde_json::from_slice(&self.body) {
            shared.kept().check(&body)?;
        }
        answer::answer_of(&shared.name, endpoint, &self.body, settings)
    }

    /// From here on the response can be referred to.
    fn remember(&self, shared: &Shared, answer: &Answer) {
        let response = match &answer.content {
            Content::Json(body) => serde_json::from_slice(body).ok(),
            Content::Begun(begun) => serde_json::from_slice(&begun.queued).ok(),
            Content::Stream(events) => events.last().and_then(|last| {
                let at = last.bytes.windows(6).position(|window| window == b"data: ")?;
                let mut event: Value = serde_json::from_slice(last.bytes.get(at + 6..)?).ok()?;
                Some(event["response"].take())
            }),
        };
        if let (Some(response), Ok(asked)) = (response, serde_json::from_slice(&self.body)) {
            let mut kept = shared.kept();
            resources::remember(&mut kept, &asked, response);
            if let Content::Begun(begun) = &answer.content {
                kept.goes_on("responses", begun);
            }
        }
    }
}

/// The keys a request presents.
fn keys(headers: &HeaderMap) -> Vec<HeaderValue> {
    let bearer = |value: &HeaderValue| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| HeaderValue::from_str(token).ok())?
    };
    headers
        .get_all("api-key")
        .iter()
        .chain(headers.get_all("x-api-key"))
        .cloned()
        .chain(headers.get_all(AUTHORIZATION).iter().filter_map(bearer))
        .collect()
}

fn wrong_key(dialect: Dialect) -> Refusal {
    match dialect {
        Dialect::Azure => Refusal::azure(
            401,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for \
             an active subscription and use a correct regional API endpoint for your resource.",
        ),
        Dialect::OpenAi | Dialect::Anthropic => {
            Refusal::invalid(401, "Incorrect API key provided.", None, Some("invalid_api_key"))
        }
    }
}

/// The answer of a fault.
fn told(status: u16, headers: BTreeMap<String, String>, body: Option<Value>) -> Refusal {
    let mut refusal = Refusal::azure(status, &status.to_string(), "The mock was told to answer so.");
    refusal.headers = headers.into_iter().collect();
    if let Some(body) = body {
        refusal.body = body.to_string().into();
    }
    refusal
}
