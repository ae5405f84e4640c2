//! Do the users of the official SDKs get what they would get from OpenAI, and understand what they are refused?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Content, Settings, answer, stream_events, tokens};

use crate::drivers::{Call, SDKS, outcomes};
use crate::requests::{
    BATCH, EMBEDDING, GPT_4O, INSTRUCT, WEB_SHOP, check_record, nobody_is_limited, prompt_estimate,
    web_shop_has, with,
};

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
        .flat_map(|sdk| options.iter().map(|more| Call::chat(*sdk, WEB_SHOP, more.clone())))
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
            assert_eq!(found, &json!(data(&events)), "{:?} {asked}", call.sdk);
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
        let events = data(&stream_events(&received.path, &received.body, &Settings::default()).unwrap());
        assert_eq!(fractions(&found[3]), fractions(&json!(events)));

        let names: Vec<_> = found[4]["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
        assert_eq!(names, [GPT_4O, EMBEDDING]);

        check_embeddings(&gateway, &found[5]);
    }
}

/// The same, but every number has a fraction: to a language all numbers may be of one kind.
fn fractions(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) => list.iter().map(fractions).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), fractions(value))).collect(),
        other => other.clone(),
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
    let too_much = Call::chat(SDKS[0], WEB_SHOP, json!({ "max_tokens": 200 }));
    let never_fits = format!(
        "The request may cost {} tokens, more than this client's limit of 100 per minute. Ask for fewer completion \
         tokens or send a shorter prompt.",
        prompt_estimate(&too_much.arguments) + 200
    );
    let cases = [
        (
            Call::chat(SDKS[0], "nobody", json!({})),
            json!({
                "exception": "AuthenticationError", "retries": 0, "status": 401, "code": "invalid_api_key", "param": null,
                "type": "authentication_error", "message": "The API key is not known here.",
            }),
        ),
        (
            Call::chat(SDKS[0], WEB_SHOP, json!({ "model": INSTRUCT })),
            json!({
                "exception": "PermissionDeniedError", "retries": 0, "status": 403, "code": "model_not_allowed", "param": "model",
                "type": "permission_error",
                "message": "The model `gpt-35-turbo-instruct` does not exist, or this client may not use it.",
            }),
        ),
        (
            Call::chat(SDKS[0], BATCH, json!({ "max_tokens": 4096 })),
            json!({
                "exception": "BadRequestError", "retries": 0, "status": 400, "code": "parameter_above_maximum",
                "param": "max_tokens", "type": "invalid_request_error",
                "message": "`max_tokens` is 4096, but this client's policy allows at most 128.",
            }),
        ),
        (
            Call::new(
                SDKS[0],
                BATCH,
                "completions.create",
                json!({ "model": INSTRUCT, "prompt": "a", "best_of": 20 }),
            ),
            json!({
                "exception": "BadRequestError", "retries": 0, "status": 400, "code": "parameter_above_maximum",
                "param": "best_of", "type": "invalid_request_error",
                "message": "`best_of` is 20, but this client's policy allows at most 1.",
            }),
        ),
        (
            too_much,
            json!({
                "exception": "RateLimitError", "retries": 0, "status": 429, "code": "request_exceeds_limit", "param": null,
                "type": "rate_limit_error", "message": never_fits,
            }),
        ),
    ];
    // The SDK would like to try again, and is told that it is of no use.
    let calls: Vec<_> = SDKS
        .iter()
        .flat_map(|sdk| cases.iter().map(|(call, _)| Call { sdk: *sdk, max_retries: 2, ..call.clone() }))
        .collect();
    let found = outcomes(&gateway, &calls).await;
    for (outcome, (_, expected)) in found.iter().zip(cases.iter().cycle()) {
        assert_eq!(outcome, expected);
    }
    assert_eq!(gateway.wait_for_log(calls.len()).await.unwrap().len(), calls.len());
    for backend in gateway.backends().keys() {
        assert_eq!(gateway.mock(backend).received(), []);
    }
}

#[tokio::test]
async fn a_parameter_over_the_bound_is_lowered_for_an_sdks_user() {
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
