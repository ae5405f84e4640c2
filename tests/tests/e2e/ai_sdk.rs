//! Do users of the AI SDK get what they would get from OpenAI or Azure, by each way in which it writes a path?

use serde_json::{Value, json};
use tollgate_tests::harness::Gateway;

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::provider::{
    MORE_THAN_IS_LEFT, MOST, OPEN, PROMPT, Provider, STRICT, TEXT, TOO_MUCH, check_log, check_log_of_waits,
    line, tight,
};
use crate::requests::{EMBEDDING, GPT_4O, check_record, with};

const fn class(class: &'static str) -> Sdk {
    Sdk { language: Language::AiSdk, class }
}

/// `/v1`, `/openai/v1`, and below a deployment with `api-version=v1` or a date.
const CLASSES: [Sdk; 4] = [class("openai"), class("azure-v1"), class("azure"), class("azure-dated")];

fn call(sdk: Sdk, key: &str, method: &'static str, more: Value) -> Call {
    Call { max_retries: 2, ..Call::new(sdk, key, method, more) }
}

fn ask(sdk: Sdk, key: &str, method: &'static str, more: Value) -> Call {
    let arguments = json!({ "model": GPT_4O, "text": "How warm is it?", "api": "responses" });
    call(sdk, key, method, with(arguments, more))
}

#[tokio::test]
async fn the_ai_sdks_users_get_answers_and_refusals_by_each_path() {
    let provider = Provider::start().await;
    let gateway = provider.gateway().await;
    for sdk in CLASSES {
        check_answers(&provider, &gateway, sdk).await;
        check_refusals(&provider, &gateway, sdk).await;
    }
    for sdk in [CLASSES[0], CLASSES[2]] {
        check_tries(&provider, &gateway, sdk).await;
    }
}

async fn check_answers(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let mut calls = Vec::new();
    for api in ["responses", "chat"] {
        let api = json!({ "api": api });
        calls.extend(["text", "tools", "stream", "object"].map(|method| ask(sdk, OPEN, method, api.clone())));
    }
    calls.extend([
        call(sdk, OPEN, "embed", json!({ "model": EMBEDDING, "values": ["a", "b c"] })),
        call(sdk, OPEN, "image", json!({ "model": "gpt-image-1" })),
        call(sdk, OPEN, "edit", json!({ "model": "gpt-image-1" })),
        call(sdk, OPEN, "transcribe", json!({ "model": "gpt-4o-transcribe" })),
        call(sdk, OPEN, "speech", json!({ "model": "gpt-4o-mini-tts" })),
    ]);
    let found = outcomes(gateway, &calls).await;
    let asked = provider.take();
    // Two more, for what came of the function.
    assert_eq!(asked.len(), calls.len() + 2, "{found:#?}");

    let called = json!([{ "toolName": "temperature", "input": { "city": "Oslo" } }]);
    let texts = [
        json!({ "text": TEXT, "tokens": [PROMPT, 256] }),
        json!({ "called": called, "text": TEXT, "tokens": [2 * PROMPT, 512] }),
        json!({ "text": TEXT, "tokens": [PROMPT, 256] }),
        json!({ "city": "Oslo" }),
    ];
    let others = [
        json!({ "vectors": [[0.25, 0.5], [0.25, 0.5]], "tokens": PROMPT }),
        json!({ "images": 1 }),
        json!({ "images": 1 }),
        json!({ "text": TEXT }),
        json!({ "bytes": 9 }),
    ];
    let expected = texts.iter().chain(&texts).chain(&others);
    for ((call, found), expected) in calls.iter().zip(&found).zip(expected) {
        assert_eq!(&found["answer"], expected, "{:?} {}: {found}", call.sdk, call.method);
    }
    let edit = &asked[12];
    assert_eq!(edit.text().matches("name=\"image[]\"").count(), 2, "{}", edit.text());

    let mut expected = vec![line(OPEN, "served", PROMPT, 256); 10];
    expected.extend([0, 40, 40, 4].map(|completion| line(OPEN, "served", PROMPT, completion)));
    // Sound tells no usage.
    expected.push(json!({ "client": OPEN, "outcome": "served", "estimated": "true" }));
    check_log(gateway, before, &expected).await;
}

async fn check_refusals(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let calls = [
        ask(sdk, "nobody", "text", json!({})),
        ask(sdk, STRICT, "text", json!({ "model": EMBEDDING })),
        ask(sdk, STRICT, "stream", json!({ "maxOutputTokens": 200 })),
        ask(sdk, STRICT, "text", json!({ "maxOutputTokens": 200, "api": "chat" })),
    ];
    let found = outcomes(gateway, &calls).await;
    let message = "The model `text-embedding-3-small` does not exist, or this client may not use it.";
    let expected = [
        (401, "invalid_api_key", Value::Null, "The API key is not known here."),
        (403, "model_not_allowed", json!("model"), message),
        (
            400,
            "parameter_above_maximum",
            json!("max_output_tokens"),
            "`max_output_tokens` is 200, but this client's policy allows at most 128.",
        ),
        (
            400,
            "parameter_above_maximum",
            json!("max_tokens"),
            "`max_tokens` is 200, but this client's policy allows at most 128.",
        ),
    ];
    for (found, (status, code, param, message)) in found.iter().zip(&expected) {
        let expected = json!({
            "exception": "AI_APICallError", "status": status, "code": code, "param": param, "message": message,
            "retryable": false, "attempts": 1,
        });
        assert_eq!(found, &expected, "{sdk:?}");
    }
    assert_eq!(provider.take().len(), 0);
    let lines = [
        line("", "invalid_api_key", 0, 0),
        line(STRICT, "model_not_allowed", 0, 0),
        line(STRICT, "parameter_above_maximum", 0, 0),
        line(STRICT, "parameter_above_maximum", 0, 0),
    ];
    check_log(gateway, before, &lines).await;
}

/// What is over the limit is tried once more, when there is room; what never fits as well, for it does not read
/// `x-should-retry`. That costs no backend anything.
async fn check_tries(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let key = tight(sdk.class);
    let [most, more, never] = [MOST, MORE_THAN_IS_LEFT, TOO_MUCH]
        .map(|cap| ask(sdk, &key, "text", json!({ "maxOutputTokens": cap })));
    let found = outcomes(gateway, &[most, more, Call { max_retries: 1, ..never }]).await;
    for (found, attempts_max) in found[..2].iter().zip([1, 2]) {
        assert_eq!(found["answer"]["text"], TEXT, "{found}");
        assert!(found["attempts"].as_u64().unwrap() <= attempts_max, "{found}");
    }
    let never = json!({
        "exception": "AI_RetryError", "status": 429, "code": "request_exceeds_limit", "attempts": 2,
    });
    check_record(&found[2], &never);
    assert_eq!(provider.take().len(), 2);
    let lines = [
        line(&key, "served", PROMPT, MOST),
        line(&key, "rate_limit_exceeded", 0, 0),
        line(&key, "served", PROMPT, MORE_THAN_IS_LEFT),
        line(&key, "request_exceeds_limit", 0, 0),
        line(&key, "request_exceeds_limit", 0, 0),
    ];
    check_log_of_waits(gateway, before, &lines).await;
}
