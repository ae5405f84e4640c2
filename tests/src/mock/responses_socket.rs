//! Responses by a WebSocket at `/v1/responses`, one after the other.
//!
//! Each uses [`INPUT`] tokens and all that it may say, or [`OUTPUT`]. One that is asked with [`LONG`] does not end by itself. What it
//! refers to (`previous_response_id`) has to be of the same connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::exchange::Shared;
use super::reply::Body;
use super::socket::{self, Socket};

/// An input whose response does not end by itself.
pub const LONG: &str = "go on and on";
/// What every response is given.
pub const INPUT: u64 = 30;
/// What every response says that has no cap.
pub const OUTPUT: u64 = 25;

/// Whether it is asked for a socket of Responses.
pub(super) fn is_asked(request: &Request<Incoming>) -> bool {
    socket::is_asked(request, "/responses")
}

/// Agrees to a socket, and goes on with it.
pub(super) fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    socket::answer(shared, request, |socket| Connection { socket, made: Vec::new() }.go_on())
}

/// How many responses there were: no two have the same id.
static MADE: AtomicU64 = AtomicU64::new(0);

struct Connection {
    socket: Socket,
    /// Their ids.
    made: Vec<String>,
}

impl Connection {
    async fn go_on(mut self) {
        while let Some(Ok(message)) = self.socket.next().await {
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).unwrap_or_default();
            self.create(&event).await;
        }
    }

    async fn say(&mut self, asked: &Value, mut event: Value) {
        if let Some(lane) = asked["stream_id"].as_str() {
            event["stream_id"] = lane.into();
        }
        // Who has gone away is noticed by reading.
        let _ = self.socket.send(Message::text(event.to_string())).await;
    }

    async fn create(&mut self, asked: &Value) {
        let previous = asked["previous_response_id"].as_str();
        if let Some(previous) = previous.filter(|previous| self.made.iter().all(|made| made != previous)) {
            let error = json!({
                "type": "invalid_request_error", "code": "previous_response_not_found", "param": "previous_response_id",
                "message": format!("Previous response with id '{previous}' not found."),
            });
            return self.say(asked, json!({ "type": "error", "status": 400, "error": error })).await;
        }
        let id = format!("resp_ws_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let mut response = json!({
            "id": id, "object": "response", "created_at": 0, "status": "in_progress", "model": asked["model"],
            "max_output_tokens": asked["max_output_tokens"], "output": [], "usage": null, "parallel_tool_calls": true,
            "tool_choice": "auto", "tools": [], "previous_response_id": previous,
        });
        self.say(asked, json!({ "type": "response.created", "sequence_number": 0, "response": response }))
            .await;
        if asked["generate"] != false {
            for (number, text) in ["hello", " there"].into_iter().enumerate() {
                let delta = json!({
                    "type": "response.output_text.delta", "sequence_number": number + 1, "item_id": "msg_1",
                    "output_index": 0, "content_index": 0, "delta": text, "logprobs": [],
                });
                self.say(asked, delta).await;
            }
        }
        if asked["input"] == LONG {
            return;
        }
        let output = match asked["generate"] == false {
            true => 0,
            false => asked["max_output_tokens"].as_u64().unwrap_or(OUTPUT),
        };
        response["status"] = "completed".into();
        response["usage"] = json!({
            "input_tokens": INPUT, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": INPUT + output,
        });
        self.made.push(id);
        self.say(asked, json!({ "type": "response.completed", "sequence_number": 3, "response": response }))
            .await;
    }
}
