//! Which configuration is this?

use super::fractions;
use crate::digest::hex;
use crate::sorting;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The SHA-256 of a configuration, as hexadecimal digits. It is that of what was meant, not of how it was written: the order
/// of members does not count, nor does the format, nor `10` or `10.0`, which a protobuf `Struct` cannot tell apart, nor `1.5` or
/// `"1.5"`, which Envoy makes of it.
pub(super) fn of(value: &Value) -> String {
    let mut hash = Sha256::new();
    take(value, &mut hash);
    hex(&hash.finalize())
}

fn take(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            sorting::sort_by(&mut members, |(one, _), (other, _)| one.cmp(other));
            hash.update("{");
            for (name, value) in members {
                take(&Value::from(name.as_str()), hash);
                take(value, hash);
            }
            hash.update("}");
        }
        Value::Array(values) => {
            hash.update("[");
            for value in values {
                take(value, hash);
            }
            hash.update("]");
        }
        // Every number of a configuration is one that a float has exactly, or was rounded to it on the way.
        Value::Number(number) => take_number(number.as_f64().unwrap_or_default(), hash),
        Value::String(text) => match fractions::read(text) {
            Some(number) => take_number(number, hash),
            // In quotes, with those in it escaped.
            None => hash.update(value.to_string()),
        },
        Value::Null | Value::Bool(_) => hash.update(value.to_string()),
    }
}

fn take_number(number: f64, hash: &mut Sha256) {
    hash.update(format!("{number};"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn only_equal_configurations_have_the_same_fingerprint() {
        let read = |text: &str| of(&serde_json::from_str(text).unwrap());
        let one = read(r#"{ "a": [10.0, "b"], "c": null }"#);
        assert_eq!(one, read(r#"{"c":null,"a":[10,"b"]}"#));
        assert_eq!(one, read(r#"{"c":null,"a":["10.00","b"]}"#));
        assert_eq!(one.len(), 64);
        let others = [
            json!({ "a": [11, "b"], "c": null }),
            json!({ "a": ["b", 10], "c": null }),
            json!({ "a": ["10", "b"], "c": null }),
            json!({ "a": [10, "b"], "c": false }),
            json!({ "a": [10, "b"] }),
            json!({ "a": [10], "b": "c" }),
            json!([1, 23]),
            json!([12, 3]),
        ];
        let mut all: Vec<_> = others.iter().map(of).chain([one]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9);
    }
}
