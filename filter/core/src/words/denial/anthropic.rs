//! What does an error look like in Anthropic's API?
//!
//! <https://platform.claude.com/docs/en/api/errors>. Not decided here: what the sentence says.

use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'a str,
    message: &'a str,
    /// Ours: the word of metrics and log. SDKs pass over what they do not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

/// The body of an error with this status.
#[must_use]
pub fn body(status: u16, message: &str, code: Option<&str>) -> Vec<u8> {
    let error = Error { r#type: kind(status), message, code };
    // Writing strings to memory cannot fail; an empty body would still carry the status.
    serde_json::to_vec(&Body { r#type: "error", error }).unwrap_or_default()
}

/// The word for a status.
const fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Denial;
    use crate::endpoint::Api;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_error_has_anthropics_shape_and_our_code() {
        let answer = Denial::MissingCredential.answer_in(Api::Anthropic);
        assert_eq!(answer.status, 401);
        assert_eq!(
            String::from_utf8(answer.body).unwrap(),
            r#"{"type":"error","error":{"type":"authentication_error","message":"SENTENCE","code":"missing_api_key"}}"#
                .replace("SENTENCE", &sentence(&Denial::MissingCredential))
        );
        assert_eq!(answer.headers, Denial::MissingCredential.answer().headers);
    }

    /// What it says in OpenAI's shape.
    fn sentence(denial: &Denial) -> String {
        let body: serde_json::Value = serde_json::from_slice(&denial.answer().body).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn each_status_has_its_word() {
        for (status, word) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (415, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ] {
            assert_eq!(kind(status), word, "{status}");
        }
    }
}
