//! Bad requests, and the exact words they are answered with.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_tests::mock::{Mock, Settings};

use crate::{AZURE_CHAT, CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, chat, request, start, with};

/// OpenAI's error object.
fn openai(message: &str, param: Option<&str>, code: Option<&str>) -> Value {
    json!({"message": message, "type": "invalid_request_error", "param": param, "code": code})
}

/// Azure's front door's.
fn azure(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

async fn check(mock: &Mock, method: Method, path: &str, body: &str, status: u16, error: &Value) {
    mock.forget();
    let got = request(mock, method.clone(), path, &[], body.as_bytes()).await;
    assert_eq!((got.status, got.json()), (status, json!({"error": error})), "{method} {path} {body}");
    assert_eq!(got.header("content-type"), Some("application/json"), "{method} {path} {body}");
    // Received, and not billed.
    let received: Vec<(Option<u16>, String)> =
        mock.received().into_iter().map(|record| (record.status, record.path)).collect();
    assert_eq!(received, [(Some(status), path.to_owned())]);
    assert_eq!(mock.billed(), []);
}

#[tokio::test]
async fn paths_and_versions() {
    let mock = start(Settings { models: Some(vec!["m".to_owned()]), ..Settings::default() }).await;
    let not_found = azure("404", "Resource not found");
    let gone = azure(
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, \
         please wait a moment and try again.",
    );
    let unknown = openai(
        "The model `x` does not exist or you do not have access to it.",
        None,
        Some("model_not_found"),
    );
    let old_responses = azure(
        "BadRequest",
        "Azure OpenAI Responses API is enabled only for api-version 2025-03-01-preview and later",
    );
    let key = azure("404", "Resource not found");
    let post = Method::POST;
    let table = [
        (post.clone(), "/v1/nothing", 404, openai("Invalid URL (POST /v1/nothing)", None, None)),
        (
            post.clone(),
            "//v1/chat/completions",
            404,
            openai("Invalid URL (POST //v1/chat/completions)", None, None),
        ),
        (post.clone(), "/", 404, openai("Invalid URL (POST /)", None, None)),
        (
            Method::GET,
            "/v1/chat/completions",
            405,
            openai("Not allowed to GET on /v1/chat/completions.", None, Some("method_not_supported")),
        ),
        (post.clone(), "/openai/deployments/m/chat/completions", 404, not_found.clone()),
        (post.clone(), "/openai/deployments/m/chat/completions?api-version=", 404, not_found.clone()),
        (post.clone(), "/openai/deployments/m/chat/completions?api-version=preview", 404, not_found.clone()),
        (post.clone(), "/openai/deployments/m/chat/completions?api-version=2024-1-1", 404, not_found.clone()),
        (
            post.clone(),
            "/openai/deployments/m/responses?api-version=2025-03-01-preview",
            404,
            not_found.clone(),
        ),
        (post.clone(), "/openai/chat/completions?api-version=2024-10-21", 404, not_found.clone()),
        (post.clone(), "/openai/responses", 404, key),
        (post.clone(), "/openai/responses?api-version=2024-10-21", 400, old_responses),
        (Method::GET, "/openai/v1/chat/completions", 404, not_found),
        (post.clone(), "/openai/deployments/x/chat/completions?api-version=2024-10-21", 404, gone),
        (Method::GET, "/v1/models/x", 404, unknown.clone()),
    ];
    for (method, path, status, error) in table {
        check(&mock, method, path, &chat(&json!({})).to_string(), status, &error).await;
    }
    check(&mock, post, CHAT, &chat(&json!({"model": "x"})).to_string(), 404, &unknown).await;
}

#[tokio::test]
async fn keys() {
    let mock = start(Settings { require_key: Some("secret".to_owned()), ..Settings::default() }).await;
    let body = chat(&json!({})).to_string();
    let openai = openai("Incorrect API key provided.", None, Some("invalid_api_key"));
    check(&mock, Method::POST, CHAT, &body, 401, &openai).await;
    let azure = azure(
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an \
         active subscription and use a correct regional API endpoint for your resource.",
    );
    check(&mock, Method::POST, AZURE_CHAT, &body, 401, &azure).await;
}

#[tokio::test]
async fn bodies_that_are_no_json_objects() {
    let mock = start(Settings::default()).await;
    let table = [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\"model\":\"m\"", "EOF while parsing an object at line 1 column 12"),
        ("{} x", "trailing characters at line 1 column 4"),
        ("[]", "expected an object, but got an array instead"),
    ];
    for (body, problem) in table {
        let message = format!("We could not parse the JSON body of your request. ({problem})");
        check(&mock, Method::POST, CHAT, body, 400, &openai(&message, None, None)).await;
    }
}

/// (message, param, code)
type Words = (String, Option<&'static str>, Option<&'static str>);

fn unnamed(message: &str) -> Words {
    (message.to_owned(), None, None)
}

fn unrecognized(field: &str) -> Words {
    unnamed(&format!("Unrecognized request argument supplied: {field}"))
}

fn said(message: &str, param: &'static str, code: &'static str) -> Words {
    (message.to_owned(), Some(param), Some(code))
}

fn wrong_type(param: &'static str, expected: &str, got: &str) -> Words {
    said(
        &format!("Invalid type for '{param}': expected {expected}, but got {got} instead."),
        param,
        "invalid_type",
    )
}

fn below(param: &'static str, bound: u64, got: i64) -> Words {
    let expected =
        format!("integer below minimum value. Expected a value >= {bound}, but got {got} instead.");
    said(&format!("Invalid '{param}': {expected}"), param, "integer_below_min_value")
}

fn above(param: &'static str, bound: u64, got: i64) -> Words {
    let expected =
        format!("integer above maximum value. Expected a value <= {bound}, but got {got} instead.");
    said(&format!("Invalid '{param}': {expected}"), param, "integer_above_max_value")
}

async fn check_fields(path: &str, table: Vec<(Value, Words)>) {
    let mock = start(Settings::default()).await;
    for (body, (message, param, code)) in table {
        check(&mock, Method::POST, path, &body.to_string(), 400, &openai(&message, param, code)).await;
    }
}

#[tokio::test]
async fn fields_of_a_chat() {
    let both = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
    let reasons = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' \
                   instead.";
    let empty = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array \
                 instead.";
    let no_stream = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
    let usage = |include: Value| json!({"stream": true, "stream_options": {"include_usage": include}});
    let table = vec![
        (json!({"messages": []}), unnamed("you must provide a model parameter")),
        (chat(&json!({"model": ""})), unnamed("you must provide a model parameter")),
        (chat(&json!({"model": 4})), wrong_type("model", "a string", "an integer")),
        (
            json!({"model": "m"}),
            said("Missing required parameter: 'messages'.", "messages", "missing_required_parameter"),
        ),
        (chat(&json!({"messages": []})), said(empty, "messages", "empty_array")),
        (chat(&json!({"messages": "a"})), wrong_type("messages", "an array of objects", "a string")),
        (
            chat(&json!({"messages": [{"role": "user"}, 1]})),
            wrong_type("messages[1]", "an object", "an integer"),
        ),
        (chat(&json!({"messages": [{}]})), wrong_type("messages[0].role", "a string", "null")),
        (chat(&json!({"max_tokens": 0})), below("max_tokens", 1, 0)),
        (chat(&json!({"max_tokens": -1})), below("max_tokens", 1, -1)),
        (chat(&json!({"max_completion_tokens": 0})), below("max_completion_tokens", 1, 0)),
        (chat(&json!({"max_tokens": "5"})), wrong_type("max_tokens", "an integer", "a string")),
        (chat(&json!({"max_tokens": 5.5})), wrong_type("max_tokens", "an integer", "a decimal number")),
        (chat(&json!({"max_tokens": [5]})), wrong_type("max_tokens", "an integer", "an array")),
        (chat(&json!({"n": 0})), below("n", 1, 0)),
        (chat(&json!({"n": 129})), above("n", 128, 129)),
        (chat(&json!({"stream": "yes"})), wrong_type("stream", "a boolean", "a string")),
        (chat(&json!({"best_of": 2})), unrecognized("best_of")),
        (chat(&json!({"max_output_tokens": 2})), unrecognized("max_output_tokens")),
        (
            chat(&json!({"max_tokens": 1, "max_completion_tokens": 1})),
            said(both, "max_tokens", "invalid_parameter_combination"),
        ),
        (
            chat(&json!({"model": "o3-mini", "max_tokens": 1})),
            said(reasons, "max_tokens", "unsupported_parameter"),
        ),
        (
            chat(&json!({"stream_options": {"include_usage": true}})),
            (no_stream.to_owned(), Some("stream_options"), None),
        ),
        (
            chat(&json!({"stream": true, "stream_options": []})),
            wrong_type("stream_options", "an object", "an array"),
        ),
        (chat(&usage(json!(1))), wrong_type("stream_options.include_usage", "a boolean", "an integer")),
    ];
    check_fields(CHAT, table).await;
    let table = vec![
        (chat(&usage(json!(true))), unrecognized("stream_options")),
        (chat(&json!({"max_completion_tokens": 3})), unrecognized("max_completion_tokens")),
    ];
    check_fields("/openai/deployments/d/chat/completions?api-version=2024-08-01-preview", table).await;
}

#[tokio::test]
async fn fields_of_a_completion() {
    let more_than_made = "You requested that the server return more choices than it will generate (n=3, best_of=2). Set \
                          'best_of' to be greater than or equal to 'n'.";
    let prompts = "a string, or an array of strings or tokens, none empty";
    let completion = |more: Value| with(json!({"model": "m", "prompt": "a"}), &more);
    let table = vec![
        (completion(json!({"n": 3, "best_of": 2})), (more_than_made.to_owned(), Some("best_of"), None)),
        (
            completion(json!({"best_of": 2, "stream": true})),
            ("Cannot stream results with best_of > 1.".to_owned(), Some("best_of"), None),
        ),
        (completion(json!({"best_of": 21})), above("best_of", 20, 21)),
        (completion(json!({"max_tokens": -1})), below("max_tokens", 0, -1)),
        (completion(json!({"max_completion_tokens": 2})), unrecognized("max_completion_tokens")),
        (completion(json!({"messages": []})), unrecognized("messages")),
        (completion(json!({"prompt": 4})), wrong_type("prompt", prompts, "an integer")),
        (completion(json!({"prompt": []})), wrong_type("prompt", prompts, "an array")),
        (completion(json!({"prompt": [1, "a"]})), wrong_type("prompt", prompts, "an array")),
        (completion(json!({"prompt": [[]]})), wrong_type("prompt", prompts, "an array")),
    ];
    check_fields(COMPLETIONS, table).await;
}

#[tokio::test]
async fn fields_of_embeddings() {
    let long = "Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with length \
                2049 instead.";
    let hex = "Invalid value: 'hex'. Supported values are: 'float' and 'base64'.";
    let input = |more: Value| with(json!({"model": "m", "input": "a"}), &more);
    let table = vec![
        (
            json!({"model": "m"}),
            said("Missing required parameter: 'input'.", "input", "missing_required_parameter"),
        ),
        (
            input(json!({"input": ["a", ""]})),
            ("'$.input' is invalid: an input is empty.".to_owned(), Some("input"), None),
        ),
        (input(json!({"input": vec!["a"; 2049]})), said(long, "input", "array_above_max_length")),
        (input(json!({"dimensions": 3073})), above("dimensions", 3072, 3073)),
        (input(json!({"max_tokens": 5})), unrecognized("max_tokens")),
        (input(json!({"stream": true})), unrecognized("stream")),
        (input(json!({"encoding_format": "hex"})), said(hex, "encoding_format", "invalid_value")),
    ];
    check_fields(EMBEDDINGS, table).await;
}

#[tokio::test]
async fn fields_of_a_response() {
    let moved = |from: &'static str, to: &str| {
        let message = format!(
            "Unsupported parameter: '{from}'. In the Responses API, this parameter has moved to '{to}'. Try again with the \
             new parameter."
        );
        said(&message, from, "unsupported_parameter")
    };
    let unknown =
        |field: &'static str| said(&format!("Unknown parameter: '{field}'."), field, "unknown_parameter");
    let input = |more: Value| with(json!({"model": "m", "input": "a"}), &more);
    let table = vec![
        (input(json!({"input": 4})), wrong_type("input", "a string or an array of items", "an integer")),
        (input(json!({"instructions": 4})), wrong_type("instructions", "a string", "an integer")),
        (input(json!({"max_output_tokens": 15})), below("max_output_tokens", 16, 15)),
        (input(json!({"max_tokens": 20})), moved("max_tokens", "max_output_tokens")),
        (input(json!({"max_completion_tokens": 20})), moved("max_completion_tokens", "max_output_tokens")),
        (input(json!({"messages": []})), moved("messages", "input")),
        (input(json!({"n": 2})), unknown("n")),
        (input(json!({"best_of": 2})), unknown("best_of")),
        (
            input(json!({"stream": true, "stream_options": {"include_usage": true}})),
            unknown("stream_options.include_usage"),
        ),
    ];
    check_fields(RESPONSES, table).await;
}
