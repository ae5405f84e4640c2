//! The fields of a request body, each asked for by name and type, and refused in the words OpenAI uses.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use super::refusal::Refusal;

/// A request's JSON object. `null` counts as absent.
pub(super) struct Fields(Map<String, Value>);

/// How the answer is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Stream { include_usage: bool },
}

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let unreadable = |problem: &str| {
            let message = format!("We could not parse the JSON body of your request. ({problem})");
            Refusal::invalid(400, &message, None, None)
        };
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => Err(unreadable(&format!("expected an object, but got {} instead", kind(&other)))),
            Err(error) => Err(unreadable(&error.to_string())),
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn required(&self, name: &str) -> Result<&Value, Refusal> {
        self.value(name).ok_or_else(|| {
            let message = format!("Missing required parameter: '{name}'.");
            Refusal::invalid(400, &message, Some(name), Some("missing_required_parameter"))
        })
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Refusal::wrong_type(name, "a string", kind(other))),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, Refusal> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(other) => Err(Refusal::wrong_type(name, "a boolean", kind(other))),
        }
    }

    pub(super) fn integer(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let outside = |side: &str, sign: &str, bound: u64, code: &str| {
            let message = format!(
                "Invalid '{name}': integer {side} value. Expected a value {sign} {bound}, but got {value} instead."
            );
            Refusal::invalid(400, &message, Some(name), Some(code))
        };
        let below = || outside("below minimum", ">=", *range.start(), "integer_below_min_value");
        match value.as_u64() {
            Some(number) if number < *range.start() => Err(below()),
            Some(number) if number > *range.end() => {
                Err(outside("above maximum", "<=", *range.end(), "integer_above_max_value"))
            }
            Some(number) => Ok(Some(number)),
            None if value.is_i64() => Err(below()),
            None => Err(Refusal::wrong_type(name, "an integer", kind(value))),
        }
    }

    /// Refuses the fields of other operations.
    pub(super) fn refuse(&self, names: &[&str]) -> Result<(), Refusal> {
        match names.iter().find(|name| self.value(name).is_some()) {
            Some(name) => Err(Refusal::unrecognized(name)),
            None => Ok(()),
        }
    }

    /// `stream` and `stream_options`, as chat and legacy completions know them.
    pub(super) fn delivery(&self, endpoint: &Endpoint) -> Result<Delivery, Refusal> {
        let stream = self.boolean("stream")?;
        let Some(options) = self.value("stream_options") else {
            return Ok(if stream { Delivery::Stream { include_usage: false } } else { Delivery::Whole });
        };
        if endpoint.predates_stream_options() {
            return Err(Refusal::unrecognized("stream_options"));
        }
        if !stream {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(Refusal::invalid(400, message, Some("stream_options"), None));
        }
        let Value::Object(options) = options else {
            return Err(Refusal::wrong_type("stream_options", "an object", kind(options)));
        };
        match options.get("include_usage") {
            None | Some(Value::Null) => Ok(Delivery::Stream { include_usage: false }),
            Some(Value::Bool(include_usage)) => Ok(Delivery::Stream { include_usage: *include_usage }),
            Some(other) => Err(Refusal::wrong_type("stream_options.include_usage", "a boolean", kind(other))),
        }
    }
}

/// What a value is, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
