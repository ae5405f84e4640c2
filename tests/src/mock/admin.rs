//! The mock's own endpoints, under `/_mock/`: settings, records, and the gate.

use hyper::Response;
use serde_json::json;

use super::exchange::Shared;
use super::reply::{self, Body};

/// Where they are; no API of OpenAI's is here.
pub(super) const PREFIX: &str = "/_mock/";

const PATHS: &str = "GET or PUT /_mock/settings, GET /_mock/received, GET /_mock/billed, GET /_mock/load, \
                     GET /_mock/health, POST /_mock/reset, POST /_mock/release";

/// `path` is what follows the prefix.
pub(super) fn answer(shared: &Shared, method: &str, path: &str, body: &[u8]) -> Response<Body> {
    match (method, path) {
        ("GET", "settings") => reply::json(200, &*shared.settings()),
        ("PUT", "settings") => {
            match shared.update(|settings| settings.patched(body).map(|new| *settings = new)) {
                Ok(()) => reply::json(200, &*shared.settings()),
                Err(problem) => {
                    reply::json(400, &json!({"error": {"code": "invalid_settings", "message": problem}}))
                }
            }
        }
        ("GET", "received") => reply::json(200, &shared.received()),
        ("GET", "billed") => reply::json(200, &shared.billed()),
        ("GET", "load") => reply::json(200, &shared.load()),
        ("GET", "health") => reply::json(200, &json!({"name": shared.name, "status": "ok"})),
        ("POST", "reset") => {
            shared.forget();
            reply::json(200, &json!({}))
        }
        ("POST", "release") => {
            shared.release();
            reply::json(200, &json!({}))
        }
        _ => {
            let message = format!("no {method} {PREFIX}{path}: there is {PATHS}");
            reply::json(404, &json!({"error": {"code": "not_found", "message": message}}))
        }
    }
}
