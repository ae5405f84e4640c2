//! Does this error say that the deployment does not exist?
//!
//! Azure says so with 404 and the code `DeploymentNotFound`, and where the body names the model with 404 or 400 and a
//! sentence. It is a fault of the configuration, and another backend may not have it. Not decided here: what is done then.

use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// A longer error says something else.
pub const ERROR_BYTES_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Error<'a>,
}

#[derive(Deserialize)]
struct Error<'a> {
    code: Option<Value>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

/// Whether an answer with this status may say so, and its body is worth reading.
pub(super) fn may_be(status: u16) -> bool {
    matches!(status, 400 | 404)
}

/// Whether the body of such an answer does.
pub(super) fn is(body: &[u8]) -> bool {
    const SENTENCE: &str = "Could not find an existing deployment";
    let Ok(Body { error: Error { code, message } }) = serde_json::from_slice(body) else { return false };
    code.is_some_and(|code| code == "DeploymentNotFound")
        || message.is_some_and(|message| message.starts_with(SENTENCE))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn both_of_azures_ways_to_say_so_are_understood_and_nothing_else() {
        for (body, expected) in [
            (
                r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment does not exist."}}"#,
                true,
            ),
            (r#"{"error":{"message":"Could not find an existing deployment to match the model"}}"#, true),
            (r#"{"error":{"code":null,"message":"Could not find an existing deployment"}}"#, true),
            (r#"{"error":{"code":"model_not_found","message":"The model `x` does not exist"}}"#, false),
            (r#"{"error":{"code":"content_filter","message":"DeploymentNotFound"}}"#, false),
            (r#"{"error":{"message":"Invalid: 'Could not find an existing deployment'"}}"#, false),
            (r#"{"error":{"code":404,"message":"Resource not found"}}"#, false),
            (r#"{"code":"DeploymentNotFound"}"#, false),
            ("DeploymentNotFound", false),
            ("", false),
        ] {
            assert_eq!(is(body.as_bytes()), expected, "{body}");
        }
        let statuses: Vec<_> = (100..600).filter(|status| may_be(*status)).collect();
        assert_eq!(statuses, [400, 404]);
    }
}
