//! Do users of LangChain get what they would get from OpenAI or Azure?

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings, tokens};

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::requests::{
    BATCH, EMBEDDING, GPT_4O, INSTRUCT, WEB_SHOP, check_record, nobody_is_limited, prompt_estimate, with,
};

/// LangChain's classes on top of each of the package's.
const CLASSES: [Sdk; 2] = [
    Sdk { language: Language::LangChain, class: "OpenAI" },
    Sdk { language: Language::LangChain, class: "AzureOpenAI" },
];
const TEXT: &str = "tell me something";

fn call(sdk: Sdk, key: &str, method: &'static str, more: Value) -> Call {
    let arguments = json!({ "model": GPT_4O, "text": TEXT, "max_tokens": 6 });
    Call::new(sdk, key, method, with(arguments, more))
}

/// One client that has only so much for each class; `web-shop` has no limit.
fn a_small_limit_for_each(config: &mut Value) {
    nobody_is_limited(config);
    let clients = config["clients"].as_array_mut().unwrap();
    for Sdk { class, .. } in CLASSES {
        let limited = json!({
            "name": class, "api_keys": [{ "sha256": hex::encode(Sha256::digest(class)) }],
            "limits": [{ "tokens": 600, "per": "minute" }],
        });
        clients.push(with(clients[0].clone(), limited));
    }
}

/// What the backend answers that wants a function called.
pub fn wants_the_temperature() -> Fault {
    let function = json!({ "name": "temperature", "arguments": "{\"city\": \"Oslo\"}" });
    let call = json!({ "id": "call_1", "type": "function", "function": function });
    let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
    Fault::answer(200).body(json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-ptu",
        "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }],
        "usage": { "prompt_tokens": 70, "completion_tokens": 15, "total_tokens": 85 },
    }))
}

#[tokio::test]
async fn langchain_gets_answers_streams_tools_and_refusals_on_record() {
    let long = Settings { completion_tokens: 500, ..Settings::default() };
    let setup = Setup::new().workers(1).edit(a_small_limit_for_each).mock("ptu", long);
    let gateway = Gateway::start(setup).await.unwrap();
    for sdk in CLASSES {
        check_class(&gateway, sdk).await;
    }
}

async fn check_class(gateway: &Gateway, sdk: Sdk) {
    let prompt = json!({ "messages": [{ "role": "user", "content": TEXT }] });
    let prompt_tokens = tokens::chat(prompt["messages"].as_array().unwrap());
    // As in `retries`: two seconds' worth more than is left when 500 and the prompt are spent.
    let cap = 600 - 500 - prompt_tokens + 20 - prompt_estimate(&prompt);
    let calls = [
        call(sdk, WEB_SHOP, "call_tool", json!({})),
        call(sdk, sdk.class, "invoke", json!({ "max_tokens": 500 })),
        Call { max_retries: 4, ..call(sdk, sdk.class, "invoke", json!({ "max_tokens": cap })) },
        call(sdk, WEB_SHOP, "invoke", json!({})),
        call(sdk, WEB_SHOP, "stream", json!({})),
        call(sdk, WEB_SHOP, "embed", json!({ "model": EMBEDDING, "texts": ["a", "b c"] })),
        call(sdk, "nobody", "invoke", json!({})),
        call(sdk, WEB_SHOP, "invoke", json!({ "model": INSTRUCT })),
        call(sdk, BATCH, "invoke", json!({ "max_tokens": 4096 })),
        call(sdk, sdk.class, "invoke", json!({ "max_tokens": 512 })),
    ];
    gateway.mock("ptu").forget();
    let before = gateway.access_log().unwrap().len();
    gateway.mock("ptu").update(|settings| settings.faults.push_back(wants_the_temperature()));
    let found = outcomes(gateway, &calls).await;
    let answers: Vec<_> = found.iter().map(|one| &one["answer"]).collect();
    let log = gateway.wait_for_log(before + calls.len() + 2).await.unwrap().split_off(before);
    let called = answers[0];
    let told = &called["answered"]["usage"];
    let line = |client: Value, outcome: &str, prompt: u64, completion: u64| {
        json!({
            "client": client, "outcome": outcome, "prompt_tokens": prompt.to_string(),
            "completion_tokens": completion.to_string(), "estimated": "false",
        })
    };
    let shop = || json!("web-shop");
    let own = || json!(sdk.class);
    let expected = [
        line(shop(), "served", 70, 15),
        with(line(shop(), "served", 0, 256), json!({ "prompt_tokens": told["input_tokens"].to_string() })),
        line(own(), "served", prompt_tokens, 500),
        line(own(), "rate_limit_exceeded", 0, 0),
        line(own(), "served", prompt_tokens, cap),
        line(shop(), "served", prompt_tokens, 6),
        line(shop(), "served", prompt_tokens, 6),
        line(shop(), "served", 2, 0),
        line(Value::Null, "invalid_api_key", 0, 0),
        line(shop(), "model_not_allowed", 0, 0),
        line(json!("batch"), "parameter_above_maximum", 0, 0),
        line(own(), "rate_limit_exceeded", 0, 0),
    ];
    assert_eq!(log.len(), expected.len());
    for (line, expected) in log.iter().zip(&expected) {
        check_record(line, expected);
    }

    let wanted =
        json!([{ "id": "call_1", "name": "temperature", "args": { "city": "Oslo" }, "type": "tool_call" }]);
    check_record(&called["asked"], &json!({ "tool_calls": wanted, "finish_reason": "tool_calls" }));
    // The mock echoes the user's words for as long as the policy lets it.
    assert_eq!(called["answered"]["text"], tokens::echo(TEXT, 256).concat(), "{}", found[0]);
    let sent = gateway.mock("ptu").received()[1].json();
    let result = json!({ "role": "tool", "tool_call_id": "call_1", "content": "12 degrees in Oslo" });
    check_record(&sent["messages"][2], &result);

    assert_eq!(answers[2]["usage"]["output_tokens"], cap, "{}", found[2]);
    let said = tokens::echo(TEXT, 6).concat();
    let usage =
        json!({ "input_tokens": prompt_tokens, "output_tokens": 6, "total_tokens": prompt_tokens + 6 });
    for (at, class) in [(3, "AIMessage"), (4, "AIMessageChunk")] {
        let expected =
            json!({ "class": class, "text": said, "finish_reason": "length", "model": "gpt-4o-ptu" });
        check_record(answers[at], &expected);
    }
    check_record(&answers[3]["usage"], &usage);
    assert_eq!(answers[4]["texts"], json!(tokens::echo(TEXT, 6)));
    if sdk.class == "AzureOpenAI" {
        check_record(&answers[4]["usage"], &usage);
    } else {
        // With an address of one's own this class does not ask for it, and is not told. It is recorded all the same.
        assert_eq!(answers[4]["usage"], Value::Null);
    }
    let vectors = answers[5].as_array().unwrap();
    assert_eq!((vectors.len(), vectors[0].as_array().unwrap().len()), (2, 8));

    let refused = |exception: &str, status: u16, code: &str, param: Value, waits: bool| {
        json!({
            "exception": exception, "status": status, "code": code, "param": param, "waits": waits,
        })
    };
    check_record(
        &found[6],
        &refused("OpenAIAuthenticationError", 401, "invalid_api_key", Value::Null, false),
    );
    check_record(
        &found[7],
        &refused("OpenAIPermissionDeniedError", 403, "model_not_allowed", json!("model"), false),
    );
    // The newer class writes the newer name.
    let cap = if sdk.class == "OpenAI" { "max_completion_tokens" } else { "max_tokens" };
    let above = refused("OpenAIInvalidRequestError", 400, "parameter_above_maximum", json!(cap), false);
    check_record(&found[8], &above);
    check_record(&found[9], &refused("OpenAIRateLimitError", 429, "rate_limit_exceeded", Value::Null, true));
}
