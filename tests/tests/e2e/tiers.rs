//! What becomes of a request whose tier of service is refused?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::Fault;

use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, with};

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
