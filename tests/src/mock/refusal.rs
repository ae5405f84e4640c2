//! How the mock says no: OpenAI's error object, or the shorter one that Azure's front door writes.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::endpoint::Dialect;

/// A refusal, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Headers that belong to it, `retry-after` and the like.
    pub headers: Vec<(String, String)>,
    /// The body, a JSON object.
    pub body: Bytes,
}

#[derive(Serialize)]
struct Body<E> {
    error: E,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct AzureError<'a> {
    code: &'a str,
    message: &'a str,
}

impl Refusal {
    /// What the model server says: `{"error": {"message", "type", "param", "code"}}`.
    pub(super) fn invalid(status: u16, message: &str, param: Option<&str>, code: Option<&str>) -> Self {
        Self::new(status, &OpenAiError { message, kind: "invalid_request_error", param, code })
    }

    /// What Azure's front door says: `{"error": {"code", "message"}}`.
    pub(super) fn azure(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, &AzureError { code, message })
    }

    /// A path Azure does not have, or has only with an `api-version`.
    pub(super) fn resource_not_found() -> Self {
        Self::azure(404, "404", "Resource not found")
    }

    /// A field this operation has never heard of.
    pub(super) fn unrecognized(field: &str) -> Self {
        Self::invalid(400, &format!("Unrecognized request argument supplied: {field}"), None, None)
    }

    /// A field whose value has the wrong type; `expected` and `got` come with their articles.
    pub(super) fn wrong_type(field: &str, expected: &str, got: &str) -> Self {
        let message = format!("Invalid type for '{field}': expected {expected}, but got {got} instead.");
        Self::invalid(400, &message, Some(field), Some("invalid_type"))
    }

    /// The same in the words of this dialect.
    pub(super) fn said_in(self, dialect: Dialect) -> Self {
        if dialect != Dialect::Anthropic {
            return self;
        }
        let said: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = match self.status {
            401 => "authentication_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        let body = json!({ "type": "error", "error": { "type": kind, "message": said["error"]["message"] } });
        Self { body: body.to_string().into(), ..self }
    }

    fn new(status: u16, error: &impl Serialize) -> Self {
        // Strings cannot fail to serialize.
        let body = serde_json::to_vec(&Body { error }).unwrap_or_default();
        Self { status, headers: Vec::new(), body: body.into() }
    }
}
