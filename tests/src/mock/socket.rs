//! How a WebSocket is agreed to.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::exchange::{Exchange, Shared};
use super::record::{Arrival, Outcome};
use super::reply::Body;

/// The backend's side of one.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether it is asked for one at a path that ends so.
pub(super) fn is_asked(request: &Request<Incoming>, path_end: &str) -> bool {
    request.uri().path().ends_with(path_end) && request.headers().contains_key(UPGRADE)
}

/// Agrees to one, and goes on with it.
pub(super) fn answer<C>(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
    converse: impl FnOnce(Socket) -> C + Send + 'static,
) -> Response<Body>
where
    C: Future<Output = ()> + Send + 'static,
{
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let arrival = Arrival { method: "GET", path: &path, headers: request.headers(), body: &[] };
    let (mut exchange, _) = Exchange::arrive(shared, arrival);
    let key = request.headers().get("sec-websocket-key").map(HeaderValue::as_bytes).unwrap_or_default();
    let nothing = Full::default().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(nothing);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = derive_accept_key(key).parse() {
        headers.insert("sec-websocket-accept", accept);
    }
    if request.headers().get("sec-websocket-protocol").is_some() {
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("realtime"));
    }
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            converse(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await)
                .await;
        }
        exchange.end(Outcome::Complete);
    });
    response
}
