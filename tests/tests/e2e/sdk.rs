//! Do the official SDK's users get what they would get from OpenAI, and understand what they are refused?

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tollgate_tests::harness::{Gateway, Setup, tools};
use tollgate_tests::mock::{Content, Settings, answer, stream_events, tokens};

use crate::requests::{
    BATCH, EMBEDDING, GPT_4O, INSTRUCT, WEB_SHOP, check_record, nobody_is_limited, prompt_estimate,
    web_shop_has, with,
};

/// Both classes of the package.
const SDKS: [&str; 2] = ["OpenAI", "AzureOpenAI"];

/// A call of one of the SDK's methods.
#[derive(Clone)]
struct Call {
    sdk: &'static str,
    key: &'static str,
    method: &'static str,
    arguments: Value,
    max_retries: u32,
}

impl Call {
    fn new(sdk: &'static str, key: &'static str, method: &'static str, arguments: Value) -> Self {
        Self { sdk, key, method, arguments, max_retries: 0 }
    }

    fn chat(sdk: &'static str, key: &'static str, more: Value) -> Self {
        let message = json!({ "role": "user", "content": "tell me something" });
        let arguments = json!({ "model": GPT_4O, "messages": [message] });
        Self::new(sdk, key, "chat.completions.create", with(arguments, more))
    }

    fn line(&self, url: &str) -> String {
        let Self { sdk, key, method, arguments, max_retries } = self;
        let call = json!({
            "url": url, "sdk": sdk, "key": key, "method": method, "arguments": arguments,
            "max_retries": max_retries,
        });
        format!("{call}\n")
    }
}

/// What becomes of these calls, made one after the other.
async fn outcomes(gateway: &Gateway, calls: &[Call]) -> Vec<Value> {
    let python = tokio::task::spawn_blocking(tools::python).await.unwrap().unwrap();
    let mut process = Command::new(python)
        .arg(tools::workspace().join("tests/python/sdk.py"))
        .env("NO_PROXY", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    let lines: String = calls.iter().map(|call| call.line(gateway.url())).collect();
    input.write_all(lines.as_bytes()).await.unwrap();
    drop(input);
    let output = process.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcomes = String::from_utf8(output.stdout).unwrap();
    let outcomes: Vec<Value> = outcomes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(outcomes.len(), calls.len());
    outcomes
}

/// The events of a stream that have an object in them.
fn data(events: &[bytes::Bytes]) -> Vec<Value> {
    let after_data = |event: &bytes::Bytes| {
        let text = String::from_utf8(event.to_vec()).unwrap();
        serde_json::from_str(text.split_once("data: ").unwrap().1).ok()
    };
    events.iter().filter_map(after_data).collect()
}

#[tokio::test]
async fn a_chat_is_answered_whole_and_as_a_stream() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited)).await.unwrap();
    let options = [
        json!({}),
        json!({ "n": 2, "max_tokens": 5 }),
        json!({ "stream": true }),
        json!({ "stream": true, "n": 2 }),
        json!({ "stream": true, "stream_options": { "include_usage": true } }),
    ];
    let calls: Vec<_> = SDKS
        .iter()
        .flat_map(|sdk| options.iter().map(|more| Call::chat(sdk, WEB_SHOP, more.clone())))
        .collect();
    let outcomes = outcomes(&gateway, &calls).await;
    let received = gateway.mock("ptu").received();
    assert_eq!(received.len(), calls.len());

    let settings = Settings::default();
    for ((call, outcome), received) in calls.iter().zip(&outcomes).zip(&received) {
        let (asked, found) = (&call.arguments, &outcome["answer"]);
        let words = tokens::echo("tell me something", asked["max_tokens"].as_u64().unwrap_or(24));
        let choices = asked["n"].as_u64().unwrap_or(1);
        if asked["stream"] == true {
            let mut events = stream_events(&received.path, &received.body, &settings).unwrap();
            if asked["stream_options"].is_null() {
                events.remove(events.len() - 2);
            }
            assert_eq!(found, &json!(data(&events)), "{} {asked}", call.sdk);
            let said: String = found
                .as_array()
                .unwrap()
                .iter()
                .filter(|chunk| chunk["choices"][0]["index"] == 0)
                .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
                .collect();
            assert_eq!(said, words.concat());
        } else {
            let expected = answer("POST", &received.path, &received.body, &settings).unwrap();
            let Content::Json(body) = expected.content else { panic!("{expected:?}") };
            assert_eq!(found, &serde_json::from_slice::<Value>(&body).unwrap());
            assert_eq!(found["choices"][0]["message"]["content"], words.concat());
            assert_eq!(found["usage"]["completion_tokens"], choices * words.len() as u64);
            let prompt = tokens::chat(asked["messages"].as_array().unwrap());
            assert_eq!(found["usage"]["prompt_tokens"], prompt);
        }
    }
}

#[tokio::test]
async fn completions_embeddings_responses_and_models_are_answered() {
    let newer = |config: &mut Value| config["backends"][0]["api_version"] = json!("2025-03-01-preview");
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited).edit(newer)).await.unwrap();
    let prompt = json!({ "model": INSTRUCT, "prompt": "one two three", "max_tokens": 4 });
    let input = json!({ "model": GPT_4O, "input": "one two three", "max_output_tokens": 16 });
    let stream = json!({ "stream": true });
    for sdk in SDKS {
        for backend in gateway.backends().keys() {
            gateway.mock(backend).forget();
        }
        let calls = [
            Call::new(sdk, BATCH, "completions.create", prompt.clone()),
            Call::new(sdk, BATCH, "completions.create", with(prompt.clone(), stream.clone())),
            Call::new(sdk, WEB_SHOP, "responses.create", input.clone()),
            Call::new(sdk, WEB_SHOP, "responses.create", with(input.clone(), stream.clone())),
            Call::new(sdk, WEB_SHOP, "models.list", json!({})),
            Call::new(
                sdk,
                WEB_SHOP,
                "embeddings.create",
                json!({ "model": EMBEDDING, "input": ["a", "b c"] }),
            ),
        ];
        let found: Vec<Value> =
            outcomes(&gateway, &calls).await.iter().map(|outcome| outcome["answer"].clone()).collect();
        assert_eq!(found[0]["choices"][0]["text"], "one two three one", "{}", found[0]);
        let usage = json!({ "prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8 });
        check_record(&found[0]["usage"], &usage);
        let texts =
            found[1].as_array().unwrap().iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap());
        assert_eq!(texts.collect::<String>(), "one two three one");

        let said = tokens::echo("one two three", 16).concat();
        assert_eq!(found[2]["output"][0]["content"][0]["text"], said, "{}", found[2]);
        check_record(&found[2]["usage"], &json!({ "input_tokens": 10, "output_tokens": 16 }));
        let received = &gateway.mock("ptu").received()[1];
        let mut events = data(&stream_events(&received.path, &received.body, &Settings::default()).unwrap());
        for created_at in events.iter_mut().filter_map(|event| event.pointer_mut("/response/created_at")) {
            // To the SDK a time is not a whole number.
            *created_at = json!(created_at.as_f64());
        }
        assert_eq!(found[3], json!(events));

        let names: Vec<_> = found[4]["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
        assert_eq!(names, [GPT_4O, EMBEDDING]);

        check_embeddings(&gateway, &found[5]);
    }
}

/// The SDK asks for base64 and makes numbers of it: they are those that a client gets who asks for numbers.
#[track_caller]
fn check_embeddings(gateway: &Gateway, found: &Value) {
    let received = gateway.mock("payg-a").received().pop().unwrap();
    assert_eq!(received.json()["encoding_format"], "base64");
    let plain = with(received.json(), json!({ "encoding_format": "float" })).to_string();
    let plain = answer("POST", &received.path, plain.as_bytes(), &Settings::default()).unwrap();
    let Content::Json(body) = plain.content else { panic!("{plain:?}") };
    let expected: Value = serde_json::from_slice(&body).unwrap();
    let vectors = |body: &Value| -> Vec<Vec<f32>> {
        let vector = |datum: &Value| -> Vec<f32> {
            datum["embedding"]
                .as_array()
                .unwrap()
                .iter()
                .map(|number| number.as_f64().unwrap() as f32)
                .collect()
        };
        body["data"].as_array().unwrap().iter().map(vector).collect()
    };
    assert_eq!(vectors(found), vectors(&expected));
    assert_eq!(found["usage"], json!({ "prompt_tokens": 2, "total_tokens": 2 }));
}

#[tokio::test]
async fn a_refusal_is_the_exception_that_it_is_with_openai() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(web_shop_has(100))).await.unwrap();
    let too_much = Call::chat("", WEB_SHOP, json!({ "max_tokens": 200 }));
    let never_fits = format!(
        "The request may cost {} tokens, more than this client's limit of 100 per minute. Ask for fewer completion \
         tokens or send a shorter prompt.",
        prompt_estimate(&too_much.arguments) + 200
    );
    let cases = [
        (
            Call::chat("", "nobody", json!({})),
            json!({
                "exception": "AuthenticationError", "status": 401, "code": "invalid_api_key", "param": null,
                "type": "authentication_error", "message": "The API key is not known here.",
            }),
        ),
        (
            Call::chat("", WEB_SHOP, json!({ "model": INSTRUCT })),
            json!({
                "exception": "PermissionDeniedError", "status": 403, "code": "model_not_allowed", "param": "model",
                "type": "permission_error",
                "message": "The model `gpt-35-turbo-instruct` does not exist, or this client may not use it.",
            }),
        ),
        (
            Call::chat("", BATCH, json!({ "max_tokens": 4096 })),
            json!({
                "exception": "BadRequestError", "status": 400, "code": "parameter_above_maximum",
                "param": "max_tokens", "type": "invalid_request_error",
                "message": "`max_tokens` is 4096, but this client's policy allows at most 128.",
            }),
        ),
        (
            Call::new(
                "",
                BATCH,
                "completions.create",
                json!({ "model": INSTRUCT, "prompt": "a", "best_of": 20 }),
            ),
            json!({
                "exception": "BadRequestError", "status": 400, "code": "parameter_above_maximum",
                "param": "best_of", "type": "invalid_request_error",
                "message": "`best_of` is 20, but this client's policy allows at most 1.",
            }),
        ),
        (
            too_much,
            json!({
                "exception": "RateLimitError", "status": 429, "code": "request_exceeds_limit", "param": null,
                "type": "rate_limit_error", "message": never_fits,
            }),
        ),
    ];
    // The SDK would like to try again, and is told that it is of no use.
    let calls: Vec<_> = SDKS
        .iter()
        .flat_map(|sdk| cases.iter().map(|(call, _)| Call { sdk, max_retries: 2, ..call.clone() }))
        .collect();
    let found = outcomes(&gateway, &calls).await;
    for (outcome, (_, expected)) in found.iter().zip(cases.iter().chain(&cases)) {
        assert_eq!(outcome, expected);
    }
    assert_eq!(gateway.wait_for_log(calls.len()).await.unwrap().len(), calls.len());
    for backend in gateway.backends().keys() {
        assert_eq!(gateway.mock(backend).received(), []);
    }
}

#[tokio::test]
async fn a_parameter_over_the_bound_is_lowered_without_the_user_noticing() {
    let long = Settings { completion_tokens: 10_000, ..Settings::default() };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).mock("ptu", long);
    let gateway = Gateway::start(setup).await.unwrap();
    let calls = SDKS.map(|sdk| Call::chat(sdk, WEB_SHOP, json!({ "max_tokens": 4096, "n": 5 })));
    for (at, outcome) in outcomes(&gateway, &calls).await.iter().enumerate() {
        let received = gateway.mock("ptu").received()[at].json();
        check_record(&received, &json!({ "max_tokens": 512, "n": 2 }));
        let answer = &outcome["answer"];
        assert_eq!(answer["usage"]["completion_tokens"], 1024);
        assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
}

#[tokio::test]
async fn the_sdk_waits_as_long_as_it_is_told_and_is_then_served() {
    tokio::join!(check_wait(SDKS[0]), check_wait(SDKS[1]));
}

async fn check_wait(sdk: &'static str) {
    let long = Settings { completion_tokens: 500, ..Settings::default() };
    let setup = Setup::new().workers(1).edit(web_shop_has(600)).mock("ptu", long);
    let gateway = Gateway::start(setup).await.unwrap();
    let spend = Call::chat(sdk, WEB_SHOP, json!({ "max_tokens": 500 }));
    // Three seconds' worth more than is left then: it is still missing when the SDK comes to ask.
    let left = 600 - 500 - tokens::chat(spend.arguments["messages"].as_array().unwrap());
    let cap = left + 30 - prompt_estimate(&spend.arguments);
    let again = Call { max_retries: 1, ..Call::chat(sdk, WEB_SHOP, json!({ "max_tokens": cap })) };
    let found = outcomes(&gateway, &[spend, again]).await;
    assert_eq!((&found[0]["retries"], &found[1]["retries"]), (&json!(0), &json!(1)), "{found:?}");
    assert_eq!(found[1]["answer"]["usage"]["completion_tokens"], cap);

    let log = gateway.wait_for_log(3).await.unwrap();
    let outcomes: Vec<_> = log.iter().map(|line| (&line["status"], &line["outcome"])).collect();
    let (served, refused) = (json!("served"), json!("rate_limit_exceeded"));
    let (ok, too_many) = (json!(200), json!(429));
    assert_eq!(outcomes, [(&ok, &served), (&too_many, &refused), (&ok, &served)]);
    assert_eq!(gateway.mock("ptu").received().len(), 2);
}
