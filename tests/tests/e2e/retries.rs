//! Do the official SDKs try again when that is of use, and only then, by what a refusal says and without any help of ours?
//!
//! No wait is measured: that the second attempt is served, and is the only one, says that the SDK waited as long as it was
//! told, and that this was long enough.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings, tokens};

use crate::drivers::{Call, SDKS, Sdk, outcomes};
use crate::requests::{EMBEDDING, INSTRUCT, WEB_SHOP, nobody_is_limited, prompt_estimate, with};

/// More than either SDK needs, so that it is not the SDK's own bound that ends its trying.
const RETRIES_MAX: u32 = 4;

/// A client of its own for each SDK, what it has asked before, what it asks, and what becomes of that.
struct Case {
    name: &'static str,
    /// What is different from `web-shop` in the configuration; without it nobody has such a key.
    client: Option<Value>,
    /// Arguments of a chat that is served first.
    before: Option<Value>,
    /// The arguments of the chat, beside the message.
    asks: Value,
    outcome: Outcome,
}

enum Outcome {
    /// Refused with this code, and served when it is tried again once.
    ServedAfter(&'static str),
    /// Refused for good: the status and the code.
    Refused(u16, &'static str),
}

impl Case {
    /// A client without limits, whose first request is refused.
    fn refused(name: &'static str, asks: Value, status: u16, code: &'static str) -> Self {
        let client = Some(json!({ "limits": [] }));
        Self { name, client, before: None, asks, outcome: Outcome::Refused(status, code) }
    }
}

/// To test another refusal, add a row.
fn cases() -> Vec<Case> {
    let prompt = &Call::chat(SDKS[0], "", json!({})).arguments;
    // Two seconds' worth more than is left once 500 and the prompt are spent: it is still missing when the SDK comes to ask.
    let left = 600 - 500 - tokens::chat(prompt["messages"].as_array().unwrap());
    let cap = left + 20 - prompt_estimate(prompt);
    vec![
        Case {
            name: "spent",
            client: Some(json!({ "limits": [ { "tokens": 600, "per": "minute" } ] })),
            before: Some(json!({ "max_tokens": 500 })),
            asks: json!({ "max_tokens": cap }),
            outcome: Outcome::ServedAfter("rate_limit_exceeded"),
        },
        Case {
            name: "spent-stream",
            client: Some(json!({ "limits": [ { "tokens": 600, "per": "minute" } ] })),
            before: Some(json!({ "max_tokens": 500 })),
            asks: json!({ "max_tokens": cap, "stream": true }),
            outcome: Outcome::ServedAfter("rate_limit_exceeded"),
        },
        Case {
            name: "never-fits",
            client: Some(json!({ "limits": [ { "tokens": 100, "per": "minute" } ] })),
            before: None,
            asks: json!({ "max_tokens": 200 }),
            outcome: Outcome::Refused(429, "request_exceeds_limit"),
        },
        Case {
            name: "month-spent",
            client: Some(json!({ "limits": [ { "requests": 1, "per": "month" } ] })),
            before: Some(json!({ "max_tokens": 5 })),
            asks: json!({ "max_tokens": 5 }),
            outcome: Outcome::Refused(429, "insufficient_quota"),
        },
        Case::refused("wrong", json!({ "max_tokens": "many" }), 400, "invalid_type"),
        Case {
            client: Some(json!({ "limits": [], "policy": "frugal" })),
            ..Case::refused("above", json!({ "max_tokens": 4096 }), 400, "parameter_above_maximum")
        },
        Case {
            client: Some(json!({ "models": [EMBEDDING] })),
            ..Case::refused("not-its", json!({}), 403, "model_not_allowed")
        },
        Case::refused("not-there", json!({ "model": INSTRUCT }), 403, "model_not_allowed"),
        Case { client: None, ..Case::refused("stranger", json!({}), 401, "invalid_api_key") },
    ]
}

/// The name of a case's client, which is its key too.
fn name_of(case: &Case, sdk: Sdk) -> String {
    format!("{}-{:?}-{}", case.name, sdk.language, sdk.class).to_lowercase()
}

/// A client for each case and SDK, and nobody else.
fn a_client_for_each(config: &mut Value) {
    let web_shop = config["clients"][0].take();
    let client = |case: &Case, sdk: Sdk| {
        let name = name_of(case, sdk);
        let keys = json!([ { "sha256": hex::encode(Sha256::digest(&name)) } ]);
        let client = with(web_shop.clone(), json!({ "name": name, "api_keys": keys }));
        Some(with(client, case.client.clone()?))
    };
    let cases = cases();
    config["clients"] =
        cases.iter().flat_map(|case| SDKS.into_iter().filter_map(|sdk| client(case, sdk))).collect();
}

#[tokio::test]
async fn a_failure_that_may_be_retried_is_retried_once() {
    let long = Settings { completion_tokens: 500, ..Settings::default() };
    let setup = Setup::new().workers(1).edit(a_client_for_each).mock("ptu", long);
    let gateway = Arc::new(Gateway::start(setup).await.unwrap());
    let mut asked = JoinSet::new();
    for sdk in SDKS {
        let gateway = Arc::clone(&gateway);
        asked.spawn(async move { check_cases(&gateway, sdk).await });
    }
    let requests: usize = asked.join_all().await.iter().sum();
    let log = gateway.wait_for_log(requests).await.unwrap();
    assert_eq!(log.len(), requests, "{log:#?}");
    for (case, sdk) in cases().iter().flat_map(|case| SDKS.map(|sdk| (case, sdk))) {
        let client = name_of(case, sdk);
        let lines = log.iter().filter(|line| line["client"] == client);
        let found: Vec<_> =
            lines.map(|line| (line["status"].as_u64().unwrap(), line["outcome"].as_str().unwrap())).collect();
        let mut expected = vec![(200, "served"); usize::from(case.before.is_some())];
        match case.outcome {
            Outcome::ServedAfter(code) => expected.extend([(429, code), (200, "served")]),
            // Nobody knows whose that was.
            Outcome::Refused(401, _) => {}
            Outcome::Refused(status, code) => expected.push((status.into(), code)),
        }
        assert_eq!(found, expected, "{client}");
    }
}

/// Makes all calls of one SDK, and gives the number of requests that they should have taken.
async fn check_cases(gateway: &Gateway, sdk: Sdk) -> usize {
    let mut calls = Vec::new();
    let cases = cases();
    for case in &cases {
        let call = |more: &Value| Call {
            max_retries: RETRIES_MAX,
            ..Call::chat(sdk, &name_of(case, sdk), more.clone())
        };
        calls.extend(case.before.as_ref().map(call));
        calls.push(call(&case.asks));
    }
    let mut requests = 0;
    let mut found = outcomes(gateway, &calls).await.into_iter();
    for case in &cases {
        if case.before.is_some() {
            let before = found.next().unwrap();
            assert_eq!(before["retries"], 0, "{sdk:?} {}: {before}", case.name);
            requests += 1;
        }
        let outcome = found.next().unwrap();
        match case.outcome {
            Outcome::ServedAfter(_) => {
                let served = (&outcome["retries"], &outcome["code"], outcome["answer"].is_null());
                assert_eq!(served, (&json!(1), &Value::Null, false), "{sdk:?} {}", case.name);
                requests += 2;
            }
            Outcome::Refused(status, code) => {
                let refused = (&outcome["status"], &outcome["code"], &outcome["retries"]);
                assert_eq!(refused, (&json!(status), &json!(code), &json!(0)), "{sdk:?} {}", case.name);
                requests += 1;
            }
        }
    }
    requests
}

#[tokio::test]
async fn an_sdk_waits_as_long_as_throttled_backends_say() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited)).await.unwrap();
    for (at, sdk) in SDKS.into_iter().enumerate() {
        for backend in gateway.backends().keys() {
            gateway.mock(backend).update(|settings| settings.faults.push_back(Fault::throttle_ms(700)));
        }
        let call = Call { max_retries: RETRIES_MAX, ..Call::chat(sdk, WEB_SHOP, json!({})) };
        let found = outcomes(&gateway, &[call]).await;
        assert_eq!(
            (&found[0]["retries"], &found[0]["answer"]["object"]),
            (&json!(1), &json!("chat.completion"))
        );
        let log = gateway.wait_for_log(2 * (at + 1)).await.unwrap();
        let statuses: Vec<_> = log.iter().skip(2 * at).map(|line| line["status"].as_u64()).collect();
        assert_eq!(statuses, [Some(429), Some(200)], "{sdk:?}");
    }
}
