//! Do users of LiteLLM, as a library, get what they would get from OpenAI or Azure?

use serde_json::{Value, json};
use tollgate_tests::harness::Gateway;

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::provider::{
    MORE_THAN_IS_LEFT, MOST, OPEN, PROMPT, Provider, STRICT, TEXT, TOO_MUCH, check_log, check_log_of_waits,
    line, tight,
};
use crate::requests::{EMBEDDING, GPT_4O, with};

/// Its providers for such servers.
const CLASSES: [Sdk; 2] = [
    Sdk { language: Language::LiteLlm, class: "openai" },
    Sdk { language: Language::LiteLlm, class: "azure" },
];

fn call(sdk: Sdk, key: &str, method: &'static str, more: Value) -> Call {
    let arguments = json!({ "model": GPT_4O, "text": "How warm is it?" });
    Call { max_retries: 2, ..Call::new(sdk, key, method, with(arguments, more)) }
}

#[tokio::test]
async fn litellms_users_get_answers_streams_and_refusals_as_by_openai() {
    let provider = Provider::start().await;
    let gateway = provider.gateway().await;
    for sdk in CLASSES {
        check_answers(&provider, &gateway, sdk).await;
        check_refusals(&provider, &gateway, sdk).await;
        check_waits(&provider, &gateway, sdk).await;
    }
}

async fn check_answers(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let open = |method, more| call(sdk, OPEN, method, more);
    let calls = [
        open("complete", json!({})),
        open("stream", json!({})),
        open("call_tool", json!({})),
        open("responses", json!({})),
        open("stream_responses", json!({})),
        open("embed", json!({ "model": EMBEDDING, "texts": ["a", "b c"] })),
        open("generate_image", json!({ "model": "gpt-image-1" })),
        open("transcribe", json!({ "model": "gpt-4o-transcribe" })),
    ];
    let found = outcomes(gateway, &calls).await;
    assert_eq!(provider.take().len(), calls.len() + 1, "{found:#?}");
    let called = json!({ "name": "temperature", "arguments": { "city": "Oslo" } });
    let expected = [
        json!({ "text": TEXT, "tokens": [PROMPT, 256] }),
        json!({ "text": TEXT, "tokens": [PROMPT, 256] }),
        json!({ "called": called, "text": TEXT }),
        json!({ "text": TEXT }),
        json!({ "last": "response.completed", "text": TEXT }),
        json!({ "vectors": [[0.25, 0.5], [0.25, 0.5]], "prompt": PROMPT }),
        json!({ "images": 1 }),
        json!({ "text": TEXT }),
    ];
    for ((call, found), expected) in calls.iter().zip(&found).zip(&expected) {
        assert_eq!(&found["answer"], expected, "{:?} {}: {found}", call.sdk, call.method);
    }
    let mut expected = vec![line(OPEN, "served", PROMPT, 256); 6];
    expected.extend([0, 40, 4].map(|completion| line(OPEN, "served", PROMPT, completion)));
    check_log(gateway, before, &expected).await;
}

async fn check_refusals(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let key = tight(sdk.class);
    let calls = [
        call(sdk, "nobody", "complete", json!({})),
        call(sdk, STRICT, "complete", json!({ "model": EMBEDDING })),
        call(sdk, STRICT, "stream", json!({ "max_tokens": 200 })),
        call(sdk, &key, "complete", json!({ "max_tokens": TOO_MUCH })),
        call(sdk, "nobody", "embed", json!({ "model": EMBEDDING, "texts": ["a"] })),
        call(sdk, "nobody", "responses", json!({})),
    ];
    let found = outcomes(gateway, &calls).await;
    let unknown_key = "The API key is not known here.";
    let expected = [
        ("AuthenticationError", json!(401), unknown_key),
        // It has no class for this one.
        (
            "APIError",
            json!(403),
            "The model `text-embedding-3-small` does not exist, or this client may not use it.",
        ),
        ("BadRequestError", json!(400), "`max_tokens` is 200, but this client's policy allows at most 128."),
        ("RateLimitError", json!(429), "more than this client's limit of 6000 per minute."),
        ("AuthenticationError", json!(401), unknown_key),
        ("AuthenticationError", json!(401), unknown_key),
    ];
    for (found, (exception, status, message)) in found.iter().zip(expected) {
        assert_eq!((&found["exception"], &found["status"]), (&json!(exception), &status), "{found}");
        assert!(found["message"].as_str().unwrap().contains(message), "{found}");
    }
    assert_eq!(provider.take().len(), 0);
    let expected = [
        line("", "invalid_api_key", 0, 0),
        line(STRICT, "model_not_allowed", 0, 0),
        line(STRICT, "parameter_above_maximum", 0, 0),
        line(&key, "request_exceeds_limit", 0, 0),
        line("", "invalid_api_key", 0, 0),
        line("", "invalid_api_key", 0, 0),
    ];
    check_log(gateway, before, &expected).await;
}

/// What is over the limit is tried once more, when there is room.
async fn check_waits(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let key = tight(sdk.class);
    let calls =
        [MOST, MORE_THAN_IS_LEFT].map(|cap| call(sdk, &key, "complete", json!({ "max_tokens": cap })));
    for found in outcomes(gateway, &calls).await {
        assert_eq!(found["answer"]["text"], TEXT, "{found}");
    }
    assert_eq!(provider.take().len(), 2);
    let expected = [
        line(&key, "served", PROMPT, MOST),
        line(&key, "rate_limit_exceeded", 0, 0),
        line(&key, "served", PROMPT, MORE_THAN_IS_LEFT),
    ];
    check_log_of_waits(gateway, before, &expected).await;
}
