//! A conversation at `/v1/realtime`, over a WebSocket.
//!
//! What is heard is not listened to: a client that appends [`TURN`] is taken to have spoken and stopped, so that a turn begins by itself;
//! [`LONG_TURN`] begins one that goes on until it is cancelled. Each turn uses [`INPUT`] tokens and all that it may say, or
//! [`OUTPUT`]. `ITEM` of a `conversation.item.retrieve` is told what the session has been set to.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::exchange::Shared;
use super::reply::Body;
use super::socket::{self, Socket};

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

/// Whether it is asked for a conversation.
pub(super) fn is_asked(request: &Request<Incoming>) -> bool {
    socket::is_asked(request, "/realtime")
}

/// Agrees to a conversation, and goes on with it.
pub(super) fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    socket::answer(shared, request, |socket| {
        Conversation { socket, session: json!({ "type": "realtime" }), turns: 0, under_way: None }.go_on()
    })
}

struct Conversation {
    socket: Socket,
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
