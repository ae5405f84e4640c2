//! Do the users of Anthropic's SDKs get what they would get from Anthropic, and are they metered, limited and failed over?

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup, credential_of};
use tollgate_tests::mock::{Fault, Settings, tokens};

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::requests::{
    CHAT, GPT_4O, WEB_SHOP, chat, check_record, details, nobody_is_limited, record_where, with,
};

const CLAUDE: &str = "claude-sonnet";

const MESSAGES: &str = "/v1/messages";

/// The classes of both packages.
const SDKS: [Sdk; 3] = [
    Sdk { language: Language::AnthropicPython, class: "Anthropic" },
    Sdk { language: Language::AnthropicPython, class: "AnthropicFoundry" },
    Sdk { language: Language::AnthropicNode, class: "Anthropic" },
];

/// Two backends speak Anthropic's API, the one as Azure's Foundry has it; the third serves chat.
fn speaks_anthropic(config: &mut Value) {
    config["other_endpoints"] = json!([]);
    for (at, base) in [(1, Some("/anthropic/v1")), (2, None)] {
        let backend = &mut config["backends"][at];
        backend["style"] = json!("anthropic");
        backend["credential"]["header"] = json!("x-api-key");
        if let Some(base) = base {
            backend["base_path"] = json!(base);
        }
    }
    let gpt_4o = with(
        config["models"][0].take(),
        json!({ "backends": [{ "backend": "ptu", "deployment": "gpt-4o-ptu" }] }),
    );
    let claude = json!({
        "name": CLAUDE,
        "prices": { "prompt": 3, "cached": 0.3, "completion": 15 },
        "backends": [{ "backend": "payg-a", "priority": 0 }, { "backend": "payg-b", "priority": 1, "deployment": "claude-eu" }],
    });
    config["models"] = json!([gpt_4o, claude]);
    config["clients"][0]["models"] = json!([GPT_4O, CLAUDE]);
}

fn message(text: &str) -> Value {
    json!({ "model": CLAUDE, "max_tokens": 100, "system": "be brief", "messages": [{ "role": "user", "content": text }] })
}

async fn start(setup: Setup) -> Gateway {
    Gateway::start(setup.edit(speaks_anthropic)).await.unwrap()
}

#[tokio::test]
async fn anthropics_sdks_are_answered_whole_and_as_a_stream() {
    let thinks = Settings { cached_tokens: 3, reasoning_tokens: 2, ..Settings::default() };
    let gateway = start(Setup::new().workers(1).edit(nobody_is_limited).mock("payg-a", thinks)).await;
    let asked = message("tell me something");
    let said = tokens::echo("tell me something", 22).concat();
    let prompt = tokens::chat(&[json!({ "content": "be brief" }), json!({ "content": "tell me something" })]);
    for sdk in SDKS {
        gateway.mock("payg-a").forget();
        let calls = [
            Call::new(sdk, WEB_SHOP, "messages.create", asked.clone()),
            Call::new(sdk, WEB_SHOP, "messages.stream", asked.clone()),
            Call::new(sdk, WEB_SHOP, "messages.create", with(asked.clone(), json!({ "stream": true }))),
            Call::new(sdk, WEB_SHOP, "messages.count_tokens", without_cap(&asked)),
        ];
        let found = outcomes(&gateway, &calls).await;
        let (whole, stream, events) = (&found[0]["answer"], &found[1], &found[2]["answer"]);
        assert_eq!(whole["content"][0]["text"], said, "{sdk:?} {}", found[0]);
        let usage = json!({ "input_tokens": prompt - 3, "cache_read_input_tokens": 3, "output_tokens": 24 });
        check_record(&whole["usage"], &usage);
        assert_eq!(stream["text"], said, "{stream}");
        check_record(&stream["answer"]["usage"], &usage);
        let events: Vec<_> = events.as_array().unwrap().iter().map(|event| &event["type"]).collect();
        assert_eq!((events[0], *events.last().unwrap()), (&json!("message_start"), &json!("message_stop")));
        assert_eq!(found[3]["answer"], json!({ "input_tokens": prompt }));
        let received = gateway.mock("payg-a").received();
        let paths: Vec<_> = received.iter().map(|request| &*request.path).collect();
        let one = "/anthropic/v1/messages";
        assert_eq!(paths, [one, one, one, "/anthropic/v1/messages/count_tokens"]);
        for request in &received {
            assert!(request.header("anthropic-version").is_some());
            assert_eq!(request.header("x-api-key"), Some(&*credential_of("payg-a")));
            assert!(request.header("authorization").is_none() && request.header("api-key").is_none());
        }
        assert!(gateway.mock("payg-b").received().is_empty());
    }
}

fn without_cap(asked: &Value) -> Value {
    let mut asked = asked.clone();
    asked.as_object_mut().unwrap().remove("max_tokens");
    asked
}

#[tokio::test]
async fn records_and_metrics_of_messages_say_what_was_billed() {
    let thinks = Settings { cached_tokens: 3, reasoning_tokens: 2, ..Settings::default() };
    let gateway = start(Setup::new().edit(nobody_is_limited).mock("payg-a", thinks)).await;
    for more in [json!({}), json!({ "stream": true })] {
        gateway.mock("payg-a").forget();
        let answer =
            gateway.post(MESSAGES, WEB_SHOP, &with(message("what does it cost"), more)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let record = record_where(&gateway, |line| line["request_id"] == answer.header("x-request-id")).await;
        let billed = gateway.mock("payg-a").billed()[0].usage;
        check_record(
            &record,
            &json!({
                "model": CLAUDE,
                "backend": "payg-a",
                "outcome": "served",
                "estimated": "false",
                "prompt_tokens": billed.prompt.to_string(),
                "completion_tokens": billed.completion.to_string(),
            }),
        );
        let details = details(&record);
        assert_eq!(
            (&details["cached_tokens"], &details["reasoning_tokens"]),
            (&json!(3), &json!(2)),
            "{details}"
        );
        let price = (billed.prompt - 3) * 3 + 1 + billed.completion * 15;
        assert!(details["price_micros"].as_u64().unwrap().abs_diff(price) <= 1, "{details}");
    }
}

#[tokio::test]
async fn messages_fail_over_among_backends_of_their_api() {
    let gateway = start(Setup::new().edit(nobody_is_limited)).await;
    let overloaded =
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    for fault in [
        Fault::answer(529).body(overloaded.clone()),
        Fault::answer(429).header("retry-after", "0"),
        // Some say it under 200.
        Fault::answer(200).body(overloaded),
    ] {
        gateway.mock("payg-a").update(|settings| settings.faults = [fault.clone()].into());
        gateway.mock("payg-b").forget();
        let answer = gateway.post(MESSAGES, WEB_SHOP, &message("is anybody there")).await.unwrap();
        assert_eq!(answer.status, 200, "{fault:?} {}", answer.text());
        let received = gateway.mock("payg-b").received();
        assert_eq!((received.len(), &*received[0].path), (1, MESSAGES));
        assert_eq!(received[0].json()["model"], "claude-eu");
        // What it was told is over before it is asked again.
        while gateway.post(MESSAGES, WEB_SHOP, &message("and now")).await.unwrap().json()["model"] != CLAUDE {
        }
    }
    assert!(gateway.mock("ptu").received().is_empty());
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("to whom does this go")).await.unwrap();
    assert_eq!((answer.status, gateway.mock("ptu").received().len()), (200, 1));
}

#[tokio::test]
async fn a_refusal_is_an_exception_of_anthropics_sdks() {
    let setup = Setup::new().workers(1).edit(|config| {
        config["clients"][0]["limits"] = json!([{ "tokens": 200, "per": "day" }]);
    });
    let gateway = start(setup).await;
    let refused = |found: &Value| {
        let error = &found["body"]["error"];
        (found["status"].clone(), found["exception"].clone(), error["type"].clone(), error["code"].clone())
    };
    for sdk in SDKS {
        let calls = [
            Call::new(sdk, "nobody", "messages.create", message("who am I")),
            Call::new(
                sdk,
                WEB_SHOP,
                "messages.create",
                with(message("what is it"), json!({ "model": "gpt-9" })),
            ),
            Call::new(
                sdk,
                WEB_SHOP,
                "messages.create",
                with(message("what is it"), json!({ "model": GPT_4O })),
            ),
            Call::new(
                sdk,
                WEB_SHOP,
                "messages.create",
                with(message("too much"), json!({ "max_tokens": 300 })),
            ),
        ];
        let found = outcomes(&gateway, &calls).await;
        let expected = [
            (401, "AuthenticationError", "authentication_error", "invalid_api_key"),
            (403, "PermissionDeniedError", "permission_error", "model_not_allowed"),
            (400, "BadRequestError", "invalid_request_error", "model_not_served_by_api"),
            (429, "RateLimitError", "rate_limit_error", "request_exceeds_limit"),
        ];
        for (found, (status, exception, kind, code)) in found.iter().zip(expected) {
            assert_eq!(found["body"]["type"], "error", "{sdk:?} {found}");
            let expected = (json!(status), json!(exception), json!(kind), json!(code));
            assert_eq!(refused(found), expected, "{sdk:?} {found}");
        }
    }
    let answer = gateway
        .post("/anthropic/v1/messages", WEB_SHOP, &json!({ "model": CLAUDE, "max_tokens": -1 }))
        .await
        .unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (400, &json!("invalid_request_error")));
}

#[tokio::test]
async fn a_message_that_is_left_is_charged_by_what_was_seen() {
    let held = Settings { completion_tokens: 80, hold_after_events: Some(23), ..Settings::default() };
    let gateway = start(Setup::new().workers(1).edit(nobody_is_limited).mock("payg-a", held)).await;
    let body = with(
        message("the quick brown fox jumps over the lazy dog"),
        json!({ "stream": true, "max_tokens": 300 }),
    );
    let url = format!("{}{MESSAGES}", gateway.url());
    let sent = gateway.http().post(url).header("x-api-key", WEB_SHOP).json(&body).send().await.unwrap();
    let mut pieces = sent.bytes_stream();
    let mut deltas = 0;
    while deltas < 20 {
        let piece = pieces.next().await.unwrap().unwrap();
        deltas += String::from_utf8_lossy(&piece).matches("text_delta").count();
    }
    drop(pieces);
    gateway.mock("payg-a").wait_for_disconnects(1).await;
    let record = record_where(&gateway, |line| line["outcome"] == "client_gone").await;
    let charged: u64 = record["completion_tokens"].as_str().unwrap().parse().unwrap();
    // Nothing was learnt of it yet: of the text that was seen, by what tokens are in general.
    assert!((15..=40).contains(&charged), "{record}");
    assert_eq!(record["estimated"], "true");
}
