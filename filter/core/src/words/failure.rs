//! What does a backend's error say?
//!
//! An error has an object, or a sentence, under `error`. Some backends send one with status 200, as a whole answer or as
//! the first event of a stream. Not decided here: what is done about it.
//!
//! <https://platform.openai.com/docs/guides/error-codes>,
//! <https://openrouter.ai/docs/api/reference/errors-and-debugging>,
//! <https://learn.microsoft.com/azure/ai-services/openai/reference>

use crate::denial::anthropic_body;
use crate::endpoint::Api;
use crate::sse;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A longer body is no error.
pub const FAILURE_BYTES_MAX: usize = 16 * 1024;

/// The error of a backend, as far as anything is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    code: Option<String>,
    kind: Option<String>,
    message: String,
    /// Whether it tells what a moderation found.
    is_moderated: bool,
}

/// What was sent: an error's members may stand on top of it.
#[derive(Deserialize)]
struct Sent {
    error: Option<Value>,
    object: Option<Value>,
    r#type: Option<Value>,
    code: Option<Value>,
    status: Option<Value>,
    message: Option<Value>,
    detail: Option<Value>,
    choices: Option<Vec<Choice>>,
    response: Option<Box<Sent>>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<Value>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Sent {
    fn read(json: &[u8]) -> Option<Self> {
        if json.len() > FAILURE_BYTES_MAX || memmem::find(json, b"error").is_none() {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    /// The error under `error`.
    fn inner(&self) -> Option<Failure> {
        match self.error.as_ref()? {
            Value::Object(error) => Some(Failure {
                code: text(error.get("code")),
                kind: text(error.get("type")),
                message: text(error.get("message")).unwrap_or_default(),
                is_moderated: error.get("metadata").is_some_and(|data| data.get("reasons").is_some()),
            }),
            Value::String(message) if !message.is_empty() => {
                Some(Failure { message: message.clone(), ..Failure::default() })
            }
            _ => None,
        }
    }

    /// An error whose members stand on top.
    fn outer(&self) -> Failure {
        Failure {
            code: text(self.code.as_ref()).or_else(|| text(self.status.as_ref())),
            kind: text(self.r#type.as_ref()),
            message: text(self.message.as_ref()).or_else(|| text(self.detail.as_ref())).unwrap_or_default(),
            is_moderated: false,
        }
    }

    /// Whether there is a choice that did not end by an error.
    fn has_choice(&self) -> bool {
        let choices = self.choices.as_deref().unwrap_or_default();
        choices.iter().any(|choice| choice.finish_reason.as_ref().is_none_or(|reason| reason != "error"))
    }

    /// Whether it says itself to be something that may have an `error` and still be an answer: a response, a job.
    fn is_object(&self) -> bool {
        const OF_ANSWERS: [&str; 3] = ["chat.completion", "chat.completion.chunk", "text_completion"];
        let word = self.object.as_ref().and_then(Value::as_str);
        word.is_some_and(|word| word != "error" && !OF_ANSWERS.contains(&word))
    }
}

impl Failure {
    /// Reads the body of an answer whose status says that it is an error.
    #[must_use]
    pub fn of_error(body: &[u8]) -> Option<Self> {
        Sent::read(body)?.inner()
    }

    /// Reads the whole JSON body of an answer whose status says that all is well. `None` if it is an answer.
    #[must_use]
    pub fn of_answer(body: &[u8]) -> Option<Self> {
        let sent = Sent::read(body)?;
        if sent.object.as_ref().is_some_and(|object| object == "error") {
            return sent.inner().or_else(|| Some(sent.outer()));
        }
        sent.inner().filter(|_| !sent.has_choice() && !sent.is_object())
    }

    /// Reads an event of a stream. `None` if it is part of an answer. One that is named an error is one whatever it has:
    /// of what is no object all is the sentence.
    #[must_use]
    pub fn of_event(event: &[u8]) -> Option<Self> {
        let data = sse::data(event).unwrap_or_default();
        if sse::is_error(event) {
            let data = data.get(..FAILURE_BYTES_MAX).unwrap_or(&data);
            let sent = serde_json::from_slice::<Sent>(data).ok();
            let message = || String::from_utf8_lossy(data).into_owned();
            return Some(match sent {
                Some(sent) => sent.inner().unwrap_or_else(|| sent.outer()),
                None => Self { message: message(), ..Self::default() },
            });
        }
        let sent = Sent::read(&data)?;
        match sent.r#type.as_ref().and_then(Value::as_str) {
            Some("error") => sent.inner().or_else(|| Some(sent.outer())),
            Some("response.failed") => sent.response.as_ref().and_then(|response| response.inner()),
            _ => Self::of_answer(&data),
        }
    }

    /// The status that such an error has where it is sent with one.
    #[must_use]
    pub fn status(&self) -> u16 {
        const THROTTLED: [&str; 7] = [
            "insufficient_quota",
            "rate_limit_error",
            "rate_limit_exceeded",
            "requests",
            "slow_down",
            "tokens",
            "too_many_requests",
        ];
        const OF_THE_CLIENT: [&str; 7] = [
            "content_filter",
            "content_policy_violation",
            "context_length_exceeded",
            "invalid_prompt",
            "invalid_request_error",
            "model_not_found",
            "string_above_max_length",
        ];
        let words = [self.code.as_deref(), self.kind.as_deref()];
        let number = words.into_iter().flatten().find_map(|word| word.parse::<u16>().ok());
        let is_among = |list: &[&str]| words.into_iter().flatten().any(|word| list.contains(&word));
        match number.filter(|status| (400..600).contains(status)) {
            Some(status) => status,
            None if is_among(&THROTTLED) => 429,
            None if is_among(&OF_THE_CLIENT) => 400,
            None if is_among(&["invalid_api_key", "authentication_error"]) => 401,
            // Anthropic's words. <https://platform.claude.com/docs/en/api/errors>
            None if is_among(&["permission_error"]) => 403,
            None if is_among(&["not_found_error"]) => 404,
            None if is_among(&["request_too_large"]) => 413,
            None if is_among(&["timeout_error"]) => 504,
            None if is_among(&["overloaded_error"]) => 529,
            None => 500,
        }
    }

    /// The body that such an error has where it is sent with its status, in the shape of this API.
    #[must_use]
    pub fn body(&self, api: Api) -> Vec<u8> {
        if api == Api::Anthropic {
            return anthropic_body(self.status(), &self.message, None);
        }
        let kind = self.kind.as_deref().unwrap_or("server_error");
        let (message, code) = (self.message.as_str(), self.code.as_deref());
        let error = Error { message, r#type: kind, param: None, code };
        // Writing strings to memory cannot fail; an empty body would still carry the status.
        serde_json::to_vec(&Body { error }).unwrap_or_default()
    }

    /// Whether it is about the gateway, not about what the client wrote: every 401, for clients' own credentials go to no
    /// backend, and every 403 but a filter's or a moderation's.
    #[must_use]
    pub fn is_about_gateway(&self, status: u16) -> bool {
        const OF_CONTENT: [&str; 5] = [
            "content_filter",
            "content_policy_violation",
            "cyber_policy_violation",
            "invalid_prompt",
            "moderation_blocked",
        ];
        let words = [self.code.as_deref(), self.kind.as_deref()];
        let is_of_content = self.is_moderated
            || self.message.contains("input was flagged")
            || words.into_iter().flatten().any(|word| OF_CONTENT.contains(&word));
        status == 401 || status == 403 && !is_of_content
    }

    /// Whether it says itself that it refuses the credential of this gateway, or the place from which it asks. A 403 that does
    /// not may be of something between, which looks at what clients write: no reason to leave the backend alone.
    ///
    /// What is listed was seen with 403:
    /// <https://github.com/microsoft/sample-app-aoai-chatGPT/issues/1000> (`AuthenticationTypeDisabled`),
    /// <https://docs.anthropic.com/en/api/errors> (`permission_error`),
    /// <https://platform.openai.com/docs/guides/error-codes>, <https://github.com/home-assistant/core/issues/120072>
    /// (`unsupported_country_region_territory`),
    /// <https://github.com/continuedev/continue/issues/12547>,
    /// <https://github.com/Azure-Samples/azure-sql-db-chatbot/issues/3>,
    /// <https://github.com/Aider-AI/aider/issues/604>,
    /// <https://github.com/Azure-Samples/azure-search-openai-demo/issues/1157> (the sentences, in their order).
    /// Deactivated accounts, missing scopes and roles, and addresses that are not permitted come with 401.
    #[must_use]
    pub fn refuses_credential(&self, status: u16) -> bool {
        // Of Azure's firewall the code is `403`, as a string. OpenRouter's is a number, and a moderation's too.
        const CODES: [&str; 3] =
            ["AuthenticationTypeDisabled", "permission_error", "unsupported_country_region_territory"];
        const SENTENCES: [&str; 4] = [
            "A Virtual Network is configured for this resource",
            "Access denied due to Virtual Network/Firewall",
            "Project `",
            "Public access is disabled",
        ];
        let words = [self.code.as_deref(), self.kind.as_deref()];
        status == 401
            || status == 403
                && (words.into_iter().flatten().any(|word| CODES.contains(&word))
                    || SENTENCES.iter().any(|sentence| self.message.starts_with(sentence)))
    }

    /// Whether the backend says that it does not have the deployment: Azure, with 404 and a code, or, where the body
    /// names the model, with 404 or 400 and a sentence.
    #[must_use]
    pub fn is_missing_deployment(&self) -> bool {
        self.code.as_deref() == Some("DeploymentNotFound")
            || self.message.starts_with("Could not find an existing deployment")
    }

    /// Whether a 404 says so in other words. They may quote what the client wrote: reason enough to ask elsewhere, and none to
    /// leave the backend alone. `Resource not found` says nothing of a deployment, and a client's own ids are not found either.
    #[must_use]
    pub fn speaks_of_missing_deployment(&self) -> bool {
        const MISSING: [&str; 6] =
            ["not found", "notfound", "not_found", "not exist", "could not find", "no deployment"];
        let message = self.message.to_ascii_lowercase();
        let code = self.code.as_deref().unwrap_or_default().to_ascii_lowercase();
        [message, code]
            .iter()
            .any(|text| text.contains("deployment") && MISSING.iter().any(|missing| text.contains(missing)))
    }

    /// Whether the input is longer than what the model takes. Azure may bill it.
    #[must_use]
    pub fn is_input_too_long(&self) -> bool {
        const CODES: [&str; 2] = ["context_length_exceeded", "string_above_max_length"];
        self.code.as_deref().is_some_and(|code| CODES.contains(&code))
    }

    /// Whether a content filter refused the prompt. Azure bills that prompt.
    #[must_use]
    pub fn is_content_filter(&self) -> bool {
        self.code.as_deref() == Some("content_filter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_error_under_200_is_known_by_its_body() {
        for (body, status) in [
            (r#"{"error":{"message":"Provider returned error","code":429}}"#, Some(429)),
            (r#"{"error":{"message":"x","code":"503"},"user_id":"u"}"#, Some(503)),
            (r#"{"error":{"message":"x","type":"rate_limit_error","code":null}}"#, Some(429)),
            (r#"{"error":{"message":"x","type":"tokens","code":"rate_limit_exceeded"}}"#, Some(429)),
            (r#"{"error":{"message":"x","type":"invalid_request_error","code":null}}"#, Some(400)),
            (r#"{"error":{"message":"x","code":"content_filter"}}"#, Some(400)),
            (r#"{"error":{"message":"x","code":"invalid_api_key"}}"#, Some(401)),
            (r#"{"error":{"message":"x","code":7}}"#, Some(500)),
            (r#"{"error":"overloaded"}"#, Some(500)),
            (r#"{"error":{}}"#, Some(500)),
            (r#"{"object":"error","message":"x","type":"BadRequestError","code":400}"#, Some(400)),
            (r#"{"object":"chat.completion","choices":[],"error":{"code":502}}"#, Some(502)),
            (r#"{"choices":[{"finish_reason":"error"}],"error":{"code":502}}"#, Some(502)),
            (r#"{"choices":[{"finish_reason":"stop"}],"error":{"code":502}}"#, None),
            (r#"{"choices":[{}],"error":null}"#, None),
            (r#"{"object":"response","status":"failed","error":{"code":"server_error"},"output":[]}"#, None),
            (r#"{"object":"fine_tuning.job","error":{"code":"x"}}"#, None),
            (r#"{"error":null}"#, None),
            (r#"{"error":""}"#, None),
            (r#"{"data":[{"error":{"code":500}}]}"#, None),
            (r#"[{"error":{"code":500}}]"#, None),
            ("error", None),
            ("", None),
        ] {
            assert_eq!(Failure::of_answer(body.as_bytes()).map(|found| found.status()), status, "{body}");
        }
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(FAILURE_BYTES_MAX));
        assert_eq!(Failure::of_answer(long.as_bytes()), None);
    }

    #[test]
    fn an_error_as_the_first_event_is_known_by_its_data() {
        for (data, status) in [
            (r#"{"error":{"message":"Provider returned error","code":429}}"#, Some(429)),
            (r#"{"type":"error","code":"rate_limit_exceeded","message":"x","param":null}"#, Some(429)),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#, Some(529)),
            (r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#, Some(500)),
            (
                r#"{"object":"chat.completion.chunk","error":{"code":502},"choices":[{"finish_reason":"error"}]}"#,
                Some(502),
            ),
            (r#"{"type":"response.created","response":{"error":null}}"#, None),
            (r#"{"object":"chat.completion.chunk","choices":[{"delta":{"content":"error"}}]}"#, None),
            ("[DONE]", None),
            (r#"{"message":"x","code":429}"#, None),
        ] {
            let event = format!("data: {data}\n\n");
            assert_eq!(Failure::of_event(event.as_bytes()).map(|found| found.status()), status, "{data}");
        }
    }

    #[test]
    fn an_event_that_is_named_an_error_is_one_whatever_it_has() {
        for (data, status, message) in [
            (r#"{"message":"x"}"#, 500, "x"),
            (r#"{"message":"x","code":429}"#, 429, "x"),
            (r#"{"detail":"x","status":503}"#, 503, "x"),
            (r#"{"type":"rate_limit_error","message":"x"}"#, 429, "x"),
            (r#"{"error":{"message":"x","code":"429"},"code":500}"#, 429, "x"),
            (r#"{"object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}"#, 500, ""),
            ("{}", 500, ""),
            ("upstream connect error", 500, "upstream connect error"),
            ("", 500, ""),
        ] {
            let event = format!("event: error\ndata: {data}\n\n");
            let found = Failure::of_event(event.as_bytes()).unwrap();
            assert_eq!((found.status(), found.message.as_str()), (status, message), "{data}");
        }
        assert_eq!(Failure::of_event(b"event: error\n\n").unwrap(), Failure::default());
        let long = format!("event: error\ndata: {}\n\n", "x".repeat(2 * FAILURE_BYTES_MAX));
        assert_eq!(Failure::of_event(long.as_bytes()).unwrap().message.len(), FAILURE_BYTES_MAX);
    }

    #[test]
    fn an_error_that_was_an_event_has_a_body_in_openais_shape() {
        for (data, body) in [
            (
                r#"{"error":{"message":"busy","code":429}}"#,
                r#"{"error":{"message":"busy","type":"server_error","param":null,"code":"429"}}"#,
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
                r#"{"error":{"message":"x","type":"overloaded_error","param":null,"code":null}}"#,
            ),
        ] {
            let found = Failure::of_event(format!("data: {data}\n\n").as_bytes()).unwrap();
            assert_eq!(String::from_utf8(found.body(Api::OpenAi)).unwrap(), body);
        }
    }

    #[test]
    fn both_of_azures_ways_to_miss_a_deployment_are_known() {
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
            let found = Failure::of_error(body.as_bytes());
            assert_eq!(found.is_some_and(|found| found.is_missing_deployment()), expected, "{body}");
        }
    }

    #[test]
    fn a_missing_deployment_is_known_in_other_words() {
        for (error, expected) in [
            (r#"{"code":"404","message":"Deployment not found"}"#, true),
            (r#"{"code":null,"message":"The deployment 'd' does not exist."}"#, true),
            (r#"{"code":"not_found","message":"Could not find deployment d on this resource"}"#, true),
            (r#"{"code":"deployment_not_found","message":""}"#, true),
            (r#"{"code":"DeploymentNotFound","message":"x"}"#, true),
            (r#"{"code":null,"message":"No deployment of that name."}"#, true),
            // Not a word of the one and a word of the other.
            (r#"{"code":"not_found","message":"The deployment is being updated."}"#, false),
            (r#"{"code":"404","message":"Resource not found"}"#, false),
            (r#"{"code":"model_not_found","message":"The model `d` does not exist"}"#, false),
            (r#"{"code":null,"message":"Response with id 'resp_1' not found."}"#, false),
            (r#"{"code":null,"message":"The deployment is being updated."}"#, false),
        ] {
            let found = Failure::of_error(format!(r#"{{"error":{error}}}"#).as_bytes()).unwrap();
            assert_eq!(found.speaks_of_missing_deployment(), expected, "{error}");
        }
    }

    #[test]
    fn a_403_refuses_the_credential_only_if_it_says_so() {
        for (error, expected) in [
            (r#"{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}"#, true),
            (
                r#"{"code":"403","message":"Public access is disabled. Please configure private endpoint."}"#,
                true,
            ),
            (
                r#"{"code":"AuthenticationTypeDisabled","message":"Key based authentication is disabled"}"#,
                true,
            ),
            (r#"{"code":"403","message":"A Virtual Network is configured for this resource."}"#, true),
            // With 403 nobody has told of it.
            (r#"{"code":"PermissionDenied","message":"The principal lacks the data action"}"#, false),
            (r#"{"code":"unsupported_country_region_territory","type":"request_forbidden"}"#, true),
            (r#"{"code":"model_not_found","message":"Project `p` does not have access to model `m`"}"#, true),
            (r#"{"code":null,"message":"You have insufficient permissions for this operation."}"#, false),
            (r#"{"type":"permission_error","message":"no"}"#, true),
            (r#"{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"]}}"#, false),
            (r#"{"code":"content_policy_violation","message":"no"}"#, false),
            (r#"{"code":"content_filter","message":"no"}"#, false),
        ] {
            let found = Failure::of_error(format!(r#"{{"error":{error}}}"#).as_bytes()).unwrap();
            assert_eq!(found.refuses_credential(403), expected, "{error}");
            assert!(found.refuses_credential(401));
            assert!(!found.refuses_credential(400));
        }
    }
}
