//! Is an answer paid at the price of its tier, its length and of who served it, and is that told alike everywhere?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::Fault;

use crate::requests::{CHAT, GPT_4O, WEB_SHOP, chat, details, nobody_is_limited, record_of};

fn priced(config: &mut Value) {
    nobody_is_limited(config);
    config["clients"][0]["limits"] = json!([{ "cost": 100, "per": "month", "models": [GPT_4O] }]);
    config["models"][0]["backends"] = json!([{
        "backend": "ptu", "deployment": "gpt-4o-ptu",
        "prices": {
            "prompt": 2.5, "cached": 0.25, "cache_write": 3.125, "completion": 10,
            "above": { "prompt_tokens": 1000, "prompt": 5, "cached": 0.5, "completion": 15 },
            "tiers": { "priority": { "prompt": 4.25, "completion": 17 } },
        },
        "spillover_prices": { "prompt": 3, "completion": 12 },
    }]);
}

#[tokio::test]
async fn a_price_is_that_of_the_tier_and_of_who_served_it() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(priced)).await.unwrap();
    let spillover = ("x-ms-spillover-from-deployment", "gpt-4o-ptu");
    let cases = [
        // 600 * 2.5 + 100 * 0.25 + 200 * 3.125 + 7 * 10
        (
            json!({ "prompt_tokens": 900, "completion_tokens": 7,
                    "prompt_tokens_details": { "cached_tokens": 100, "cache_write_tokens": 200 } }),
            "default",
            None,
            2220,
        ),
        // 10 * 4.25 + 3 * 17 = 93.5
        (json!({ "prompt_tokens": 10, "completion_tokens": 3 }), "priority", None, 94),
        // A tier without prices of its own: 3 * 2.5 + 10 = 17.5
        (json!({ "prompt_tokens": 3, "completion_tokens": 1 }), "flex", None, 18),
        // 11 * 3 + 5 * 12
        (json!({ "prompt_tokens": 11, "completion_tokens": 5 }), "default", Some(spillover), 93),
        // A long prompt: 1000 * 5 + 0.5 + 2 * 15 = 5030.5
        (
            json!({ "prompt_tokens": 1001, "completion_tokens": 2,
                    "prompt_tokens_details": { "cached_tokens": 1 } }),
            "default",
            None,
            5031,
        ),
        // One token less is a short one: 1000 * 2.5 + 2 * 10
        (json!({ "prompt_tokens": 1000, "completion_tokens": 2 }), "default", None, 2520),
    ];
    let mut sum = 0;
    for (usage, tier, header, micros) in cases {
        let message = json!({ "role": "assistant", "content": "yes" });
        let body = json!({
            "id": "c", "object": "chat.completion", "model": GPT_4O, "service_tier": tier, "usage": usage,
            "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        });
        let fault = Fault::answer(200).body(body);
        let fault = header.into_iter().fold(fault, |fault, (name, value)| fault.header(name, value));
        gateway.mock("ptu").update(|settings| settings.faults = [fault].into());
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let record = details(&record_of(&gateway, &answer).await);
        assert_eq!(record["price_micros"], json!(micros), "{usage} {tier}");
        assert_eq!(record["service_tier"], json!(tier));
        assert_eq!(record.get("served_by_spillover").is_some(), header.is_some(), "{record}");
        sum += micros;
    }
    assert_eq!(sum, 9976);
    let labels = [("client", "web-shop"), ("model", GPT_4O)];
    gateway.wait_for_metric("tollgate_price_micros", &labels, 9976.0).await.unwrap();
    let request = gateway.http().get(format!("{}/tollgate/v1/usage", gateway.url())).bearer_auth(WEB_SHOP);
    let usage = Answer::read(request.send().await.unwrap()).await.unwrap().json();
    assert_eq!(usage["limits"][0]["used"], json!(0.009976), "{usage}");
}
