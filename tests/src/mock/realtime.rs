//! A conversation at `/v1/realtime`, over a WebSocket.
//!
//! What is heard is not listened to: a client that appends [`TURN`] is taken to have spoken and stopped, so that a turn begins by itself;
//! [`LONG_TURN`] begins one that goes on until it is cancelled. Each turn uses [`INPUT`] tokens and all that it may say, or
//! [`OUTPUT`]. `ITEM` of a `conversation.item.retrieve` is told what the session has been set to.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::exchange::{Exchange, Shared};
use super::record::{Arrival, Outcome};
use super::reply::Body;

/// Sound after which the backend answers by itself.
pub const TURN: &str = "VFVSTg==";
/// The same, and the answer does not end by itself.
pub const LONG_TURN: &str = "TE9ORw==";
/// What every turn is given, a half of it as sound.
pub const INPUT: u64 = 40;
/// What every turn says that has no cap.
pub const OUTPUT: u64 = 20;
/// What it costs to write down what was heard.
pub const HEARD: u64 = 14;

/// Whether it is asked for a socket.
pub(super) fn is_asked(request: &Request<Incoming>) -> bool {
    request.uri().path().ends_with("/realtime") && request.headers().contains_key(UPGRADE)
}

/// Agrees to a socket, and goes on with it.
pub(super) fn answer(shared: &Arc<Shared>, mut request: Request<Incoming>) -> Response<Body> {
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
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            Conversation { socket, session: json!({ "type": "realtime" }), turns: 0, under_way: None }
                .go_on()
                .await;
        }
        exchange.end(Outcome::Complete);
    });
    response
}

struct Conversation {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    session: Value,
    turns: u64,
    /// A turn that does not end by itself.
    under_way: Option<String>,
}

impl Conversation {
    async fn go_on(mut self) {
        self.say(json!({ "type": "session.created", "session": self.session })).await;
        while let Some(Ok(message)) = self.socket.next().await {
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).unwrap_or_default();
            self.hear(&event).await;
        }
    }

    async fn say(&mut self, event: Value) {
        // Who has gone away is noticed by reading.
        let _ = self.socket.send(Message::text(event.to_string())).await;
    }

    async fn hear(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "session.update" => {
                if let (Some(session), Some(more)) =
                    (self.session.as_object_mut(), event["session"].as_object().cloned())
                {
                    session.extend(more);
                }
                self.say(json!({ "type": "session.updated", "session": self.session })).await;
            }
            "response.create" => self.turn(&event["response"], false).await,
            "input_audio_buffer.append" if event["audio"] == TURN => {
                let heard = json!({ "type": "tokens", "total_tokens": HEARD, "input_tokens": HEARD - 4, "output_tokens": 4,
                    "input_token_details": { "text_tokens": 0, "audio_tokens": HEARD - 4 } });
                self.say(json!({
                    "type": "conversation.item.input_audio_transcription.completed",
                    "item_id": "item_1", "content_index": 0, "transcript": "hello", "usage": heard,
                }))
                .await;
                self.turn(&Value::Null, false).await;
            }
            "input_audio_buffer.append" if event["audio"] == LONG_TURN => self.turn(&Value::Null, true).await,
            "response.cancel" => {
                if let Some(id) = self.under_way.take() {
                    self.end(&id, "cancelled", 1).await;
                }
            }
            "conversation.item.retrieve" => {
                self.say(json!({ "type": "conversation.item.retrieved", "item": self.session })).await;
            }
            _ => {}
        }
    }

    async fn turn(&mut self, response: &Value, is_long: bool) {
        self.turns += 1;
        let id = format!("resp_{}", self.turns);
        self.say(json!({ "type": "response.created", "response": { "id": id, "object": "realtime.response", "status": "in_progress" } }))
            .await;
        for text in ["hello", " there"] {
            self.say(json!({
                "type": "response.output_text.delta", "response_id": id, "item_id": "item_2",
                "output_index": 0, "content_index": 0, "delta": text,
            }))
            .await;
        }
        if is_long {
            self.under_way = Some(id);
            return;
        }
        let cap = response["max_output_tokens"].as_u64().or(self.session["max_output_tokens"].as_u64());
        self.end(&id, "completed", cap.unwrap_or(OUTPUT)).await;
    }

    async fn end(&mut self, id: &str, status: &str, output: u64) {
        let usage = json!({
            "total_tokens": INPUT + output, "input_tokens": INPUT, "output_tokens": output,
            "input_token_details": { "text_tokens": INPUT / 2, "audio_tokens": INPUT / 2, "cached_tokens": 0 },
            "output_token_details": { "text_tokens": output, "audio_tokens": 0 },
        });
        self.say(json!({ "type": "response.done", "response": {
            "id": id, "object": "realtime.response", "status": status, "output": [], "usage": usage,
        } }))
        .await;
    }
}
