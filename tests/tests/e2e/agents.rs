//! Do users of OpenAI's agents get what they would get from OpenAI, with a function that is called, whole and as a stream?

use serde_json::{Value, json};
use tollgate_tests::harness::Gateway;

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::provider::{
    MORE_THAN_IS_LEFT, MOST, OPEN, PROMPT, Provider, STRICT, TEXT, TOO_MUCH, check_log, check_log_of_waits,
    line, tight,
};
use crate::requests::{EMBEDDING, GPT_4O, check_record, with};

/// The agents on top of each of the package's clients.
const CLASSES: [Sdk; 2] = [
    Sdk { language: Language::Agents, class: "OpenAI" },
    Sdk { language: Language::Agents, class: "AzureOpenAI" },
];
const APIS: [&str; 2] = ["responses", "chat"];

fn call(sdk: Sdk, key: &str, api: &str, method: &'static str, more: Value) -> Call {
    let arguments = json!({ "model": GPT_4O, "text": "How warm is it?", "api": api });
    Call { max_retries: 2, ..Call::new(sdk, key, method, with(arguments, more)) }
}

#[tokio::test]
async fn agents_call_functions_stream_and_are_refused_as_by_openai() {
    let provider = Provider::start().await;
    let gateway = provider.gateway().await;
    for sdk in CLASSES {
        for api in APIS {
            check_answers(&provider, &gateway, sdk, api).await;
        }
        check_refusals(&provider, &gateway, sdk).await;
        check_waits(&provider, &gateway, sdk).await;
    }
}

async fn check_answers(provider: &Provider, gateway: &Gateway, sdk: Sdk, api: &str) {
    let before = gateway.access_log().unwrap().len();
    let methods = ["call_tool", "stream_tool", "typed"];
    let calls = methods.map(|method| call(sdk, OPEN, api, method, json!({})));
    let found = outcomes(gateway, &calls).await;
    let asked = provider.take();
    assert_eq!(asked.len(), 5, "{found:#?}");

    let told = json!({ "output": TEXT, "requests": 2, "called": ["Oslo"], "tokens": [2 * PROMPT, 512] });
    assert_eq!(found[0]["answer"], told, "{sdk:?} {api}");
    // Of a chat's stream this version does not ask for the usage, and is told none; it is recorded all the same.
    let tokens = if api == "chat" { json!([0, 0]) } else { json!([2 * PROMPT, 512]) };
    let streamed = with(told, json!({ "deltas": [TEXT], "tokens": tokens }));
    assert_eq!(found[1]["answer"], streamed, "{sdk:?} {api}");
    check_record(&found[2]["answer"], &json!({ "output": { "city": "Oslo" }, "tokens": [PROMPT, 256] }));
    for (asked, streams) in asked.iter().zip([false, false, true, true, false]) {
        assert_eq!(asked.json()["stream"] == true, streams, "{sdk:?} {api}");
    }
    check_log(gateway, before, &vec![line(OPEN, "served", PROMPT, 256); 5]).await;
}

async fn check_refusals(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let key = tight(sdk.class);
    let calls: Vec<_> = APIS
        .iter()
        .flat_map(|api| {
            [
                call(sdk, "nobody", api, "run", json!({})),
                call(sdk, STRICT, api, "run", json!({ "model": EMBEDDING })),
                call(sdk, STRICT, api, "stream_tool", json!({ "max_tokens": 200 })),
                call(sdk, &key, api, "run", json!({ "max_tokens": TOO_MUCH })),
            ]
        })
        .collect();
    let found = outcomes(gateway, &calls).await;
    for (found, cap) in found.chunks(4).zip(["max_output_tokens", "max_tokens"]) {
        let refused = |exception: &str, status: u16, code: &str, param: Value| json!({ "exception": exception, "status": status, "code": code, "param": param, "retries": 0 });
        assert_eq!(found[0], refused("AuthenticationError", 401, "invalid_api_key", Value::Null));
        assert_eq!(found[1], refused("PermissionDeniedError", 403, "model_not_allowed", json!("model")));
        assert_eq!(found[2], refused("BadRequestError", 400, "parameter_above_maximum", json!(cap)));
        assert_eq!(found[3], refused("RateLimitError", 429, "request_exceeds_limit", Value::Null));
    }
    assert_eq!(provider.take().len(), 0);
    let of_one = [
        line("", "invalid_api_key", 0, 0),
        line(STRICT, "model_not_allowed", 0, 0),
        line(STRICT, "parameter_above_maximum", 0, 0),
        line(&key, "request_exceeds_limit", 0, 0),
    ];
    check_log(gateway, before, &[of_one.clone(), of_one].concat()).await;
}

/// What is over the limit is tried once more, when there is room.
async fn check_waits(provider: &Provider, gateway: &Gateway, sdk: Sdk) {
    let before = gateway.access_log().unwrap().len();
    let key = tight(sdk.class);
    let calls = [MOST, MORE_THAN_IS_LEFT]
        .map(|cap| call(sdk, &key, "responses", "run", json!({ "max_tokens": cap })));
    for found in outcomes(gateway, &calls).await {
        assert_eq!(found["answer"]["output"], TEXT, "{found}");
    }
    assert_eq!(provider.take().len(), 2);
    let expected = [
        line(&key, "served", PROMPT, MOST),
        line(&key, "rate_limit_exceeded", 0, 0),
        line(&key, "served", PROMPT, MORE_THAN_IS_LEFT),
    ];
    check_log_of_waits(gateway, before, &expected).await;
}
