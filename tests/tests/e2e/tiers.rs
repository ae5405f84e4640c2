//! What becomes of a request whose tier of service is refused?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::Fault;

use crate::requests::{CHAT, WEB_SHOP, chat, check_record, details, nobody_is_limited, record_of, with};

/// As OpenAI refuses it: <https://platform.openai.com/docs/guides/flex-processing#resource-unavailable-errors>
fn no_capacity() -> Fault {
    let error = json!({ "error": { "message": "Resource Unavailable", "type": "resource_unavailable", "code": "resource_unavailable" } });
    Fault::answer(429).header("retry-after", "300").body(error)
}

async fn ask(gateway: &Gateway, tier: &str) -> Answer {
    let body = with(chat("at which tier"), json!({ "service_tier": tier }));
    gateway.post(CHAT, WEB_SHOP, &body).await.unwrap()
}

/// The tiers that a backend was asked for, in their order.
fn asked(gateway: &Gateway, backend: &str) -> Vec<Value> {
    gateway.mock(backend).received().iter().map(|sent| sent.json()["service_tier"].take()).collect()
}

#[tokio::test]
async fn a_refused_tier_pauses_alone() {
    let setup = Setup::new().edit(nobody_is_limited).edit(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "payg-b", "deployment": "gpt-4o" }]);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    gateway.mock("payg-b").update(|settings| settings.faults = [no_capacity()].into());
    let answer = ask(&gateway, "flex").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!("resource_unavailable")));
    for _ in 0..4 {
        let answer = ask(&gateway, "flex").await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!("backends_throttled")));
        let record = json!({ "backend": null, "outcome": "backends_throttled", "prompt_tokens": "0" });
        check_record(&record_of(&gateway, &answer).await, &record);
        for tier in ["default", "priority", "auto"] {
            assert_eq!(ask(&gateway, tier).await.status, 200, "{tier}");
        }
    }
    assert_eq!(asked(&gateway, "payg-b").iter().filter(|tier| **tier == "flex").count(), 1);
}

/// `gpt-4o` is served by two, and a refused tier is asked again.
fn falls_back(config: &mut Value) {
    config["models"][0]["backends"] = json!([{ "backend": "ptu", "deployment": "gpt-4o" }, { "backend": "payg-b", "deployment": "gpt-4o" }]);
    config["models"][0]["tiers"] = json!({ "flex": "default" });
    let flex = json!({ "prompt": 1, "completion": 1 });
    config["models"][0]["prices"] = json!({ "prompt": 1000, "completion": 1000, "tiers": { "flex": flex } });
}

/// An answer of this tier, with ten tokens.
fn served_as(tier: &str) -> Fault {
    let usage = json!({ "prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10 });
    let answer = json!({ "id": "c", "object": "chat.completion", "model": "gpt-4o", "service_tier": tier, "usage": usage,
                         "choices": [{ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" }] });
    Fault::answer(200).body(answer)
}

#[tokio::test]
async fn a_refused_tier_is_asked_again_as_the_default() {
    let gateway = Gateway::start(Setup::new().edit(nobody_is_limited).edit(falls_back)).await.unwrap();
    gateway.mock("ptu").update(|settings| settings.faults = [no_capacity(), served_as("default")].into());
    gateway.mock("payg-b").update(|settings| settings.faults = [no_capacity()].into());
    let answer = ask(&gateway, "flex").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(asked(&gateway, "ptu"), ["flex", "default"]);
    assert_eq!(asked(&gateway, "payg-b"), ["flex"]);
    for sent in gateway.mock("ptu").received() {
        assert_eq!(sent.header("content-length"), Some(sent.body.len().to_string().as_str()));
    }
    let record = record_of(&gateway, &answer).await;
    check_record(&record, &json!({ "backend": "ptu", "attempts": 3, "outcome": "served" }));
    let details = details(&record);
    let told = ["service_tier", "refused_tier", "price_micros"].map(|name| &details[name]);
    assert_eq!(told, [&json!("default"), &json!("flex"), &json!(10_000)]);
    let labels = [("model", "gpt-4o"), ("from", "flex")];
    gateway.wait_for_metric("tollgate_tier_fallbacks", &labels, 1.0).await.unwrap();

    // Both pause for the tier: the next one is asked as the default at once, and a stream too.
    for body in [json!({}), json!({ "stream": true })] {
        let body = with(with(chat("once more"), json!({ "service_tier": "flex" })), body);
        let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "ptu", "attempts": 1 }));
    }
    assert_eq!(asked(&gateway, "ptu"), ["flex", "default", "default", "default"]);
    assert_eq!(asked(&gateway, "payg-b").len(), 1);
}

#[tokio::test]
async fn what_fails_otherwise_is_not_asked_again_as_the_default() {
    for (fault, status, outcome) in
        [(Fault::answer(500), 500, "backend_error"), (Fault::close(), 503, "proxy_error")]
    {
        let setup = Setup::new().edit(nobody_is_limited).edit(falls_back);
        let gateway = Gateway::start(setup).await.unwrap();
        for backend in ["ptu", "payg-b"] {
            gateway.mock(backend).update(|settings| settings.faults = [fault.clone()].into());
        }
        let answer = ask(&gateway, "flex").await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(
            !answer.headers.keys().any(|name| name.as_str().starts_with("x-envoy")),
            "{:?}",
            answer.headers
        );
        check_record(
            &record_of(&gateway, &answer).await,
            &json!({ "outcome": outcome, "prompt_tokens": "0" }),
        );
        for backend in ["ptu", "payg-b"] {
            assert_eq!(asked(&gateway, backend), ["flex"], "{status}");
        }
    }
}
