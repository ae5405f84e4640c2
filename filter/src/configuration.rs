//! From the bytes Envoy hands over to a [`Gateway`].

use prost::Message;
use prost_types::value::Kind;
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;
use serde_json::{Map, Number, Value};
use tollgate::config;
use tollgate::gateway::Gateway;
use tollgate::identity::claims::Json;

/// Reads the plugin's configuration. The error has one line for each fault.
pub(crate) fn load() -> Result<Gateway, String> {
    let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX)
        .map_err(|status| format!("Envoy did not hand over the configuration: {status:?}"))?
        .unwrap_or_default();
    let env = |name: &str| std::env::var(name).ok();
    parse(&bytes).and_then(|value| {
        config::from_value(value, &env).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(|error| format!("configuration: {error}")).collect();
            lines.join("\n")
        })
    })
}

/// A `StringValue` or `BytesValue` comes as its text, which must be JSON. A `Struct` comes as protobuf bytes, which is
/// not what Envoy's documentation says, but what Envoy 1.40 does.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    if bytes.is_empty() {
        return Err(
            "configuration: empty: expected a google.protobuf.Struct, or a StringValue with JSON".to_owned()
        );
    }
    let json_error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match prost_types::Struct::decode(bytes) {
        Ok(fields) => Ok(object(fields)),
        Err(_) => {
            Err(format!("configuration: not a google.protobuf.Struct, and not JSON either: {json_error}"))
        }
    }
}

/// The same value, as the core reads claims. A `Struct` has no name twice.
pub(crate) fn json(value: prost_types::Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Flag(flag),
        Some(Kind::NumberValue(number)) => Json::Number(number),
        Some(Kind::StringValue(text)) => Json::Text(text),
        Some(Kind::ListValue(list)) => Json::List(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(object)) => {
            Json::Object(object.fields.into_iter().map(|(name, value)| (name, json(value))).collect())
        }
    }
}

fn object(fields: prost_types::Struct) -> Value {
    Value::Object(fields.fields.into_iter().map(|(name, field)| (name, value(field))).collect::<Map<_, _>>())
}

fn value(value_: prost_types::Value) -> Value {
    match value_.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::NumberValue(number)) => self::number(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}

/// A `Struct` has no integers; a whole number in it was one where it was written.
fn number(number: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        if number >= 0.0 { Value::from(number as u64) } else { Value::from(number as i64) }
    } else {
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}
