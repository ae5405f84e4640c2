//! What is reserved of a limit on money, and what is charged, by tier and by who served it.

use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The first backend has tiers and spills over; the limit is on money.
fn priced() -> Rc<Gateway> {
    gateway(|config| {
        config["clients"][0]["limits"] = json!([{ "cost": 5, "per": "month" }]);
        config["models"][0]["prices"] = json!({ "prompt": 1 });
        config["models"][0]["backends"][0]["prices"] = json!({
            "prompt": 100, "cache_write": 200, "completion": 1000,
            "tiers": { "flex": { "prompt": 50, "completion": 500 }, "priority": { "prompt": 300, "completion": 3000 } },
        });
    })
}

fn claimed(gateway: &Rc<Gateway>, more: Value) -> u64 {
    let mut run = Run::with(gateway.clone());
    let _ = run.head(&CHAT);
    let body = with(serde_json::from_str(PROMPT).unwrap(), more).to_string();
    match run.exchange.request_body(body.as_bytes(), Moment::new(&run.store, NOW)) {
        Step::Reserve(claim) => claim.cost,
        step => panic!("{step:?}"),
    }
}

#[test]
fn the_dearest_that_may_come_is_reserved() {
    // 8 tokens sent, 100 produced.
    let (default, priority) = (8 * 200 + 100 * 1000, 8 * 300 + 100 * 3000);
    for (tier, cost) in [
        (json!(null), priority),
        (json!("auto"), priority),
        (json!("default"), default),
        (json!("flex"), default),
        (json!("priority"), priority),
    ] {
        assert_eq!(claimed(&priced(), json!({ "service_tier": tier })), cost, "{tier}");
    }
    let spills = gateway(|config| {
        config["models"][0]["prices"] = json!({ "prompt": 0 });
        config["models"][0]["backends"][0]["spillover_prices"] =
            json!({ "prompt": 100, "prompt_image": 300 });
    });
    assert_eq!(claimed(&spills, json!({})), 8 * 100);
    let image =
        json!([{ "role": "user", "content": [{ "image_url": { "url": "https://example.com/a.png" } }] }]);
    assert_eq!(claimed(&spills, json!({ "messages": image })), (765 + 7) * 300);
    let speaks = gateway(|config| {
        config["models"][0]["prices"] = json!({ "prompt": 0, "completion": 1, "completion_audio": 5 });
    });
    assert_eq!(claimed(&speaks, json!({})), 100);
    assert_eq!(claimed(&speaks, json!({ "audio": { "voice": "a" } })), 500);
}

fn served(gateway: Rc<Gateway>, more: &[(&str, &str)], body: &str) -> Record {
    let mut run = Run::with(gateway);
    let forward = run.send(PROMPT);
    let _ = begin(&forward.flight, b"ca").unwrap();
    let head = [(":status", "200"), ("content-type", "application/json")];
    let head: Vec<_> = head.iter().chain(more).copied().collect();
    let _ = run.exchange.response_head(&headers(&head), false, || Origin::Backend);
    let _ = run.exchange.response_chunk(body.as_bytes(), true, || NOW);
    run.finish()
}

#[test]
fn the_tier_of_the_answer_is_what_is_charged_and_written_down() {
    let usage = r#""usage":{"prompt_tokens":10,"completion_tokens":20}"#;
    for (tier, micros) in [("default", 21_000), ("flex", 10_500), ("priority", 63_000), ("new", 21_000)] {
        let record = served(priced(), &[], &format!(r#"{{"service_tier":"{tier}",{usage}}}"#));
        assert_eq!((record.price_micros, record.service_tier.as_deref()), (Some(micros), Some(tier)));
        assert!(record.details().contains(&format!(r#","service_tier":"{tier}""#)));
    }
    let record = served(priced(), &[], &format!("{{{usage}}}"));
    assert_eq!((record.price_micros, record.service_tier), (Some(21_000), None));
}

#[test]
fn what_azures_spillover_served_has_its_own_price() {
    let spills = || {
        gateway(|config| {
            config["models"][0]["backends"][0]["prices"] = json!({ "prompt": 0 });
            config["models"][0]["backends"][0]["spillover_prices"] =
                json!({ "prompt": 100, "completion": 200 });
        })
    };
    let usage = r#"{"usage":{"prompt_tokens":10,"completion_tokens":20}}"#;
    let record = served(spills(), &[], usage);
    assert_eq!((record.price_micros, record.served_by_spillover), (Some(0), false));
    let record = served(spills(), &[("x-ms-spillover-from-deployment", "d")], usage);
    assert_eq!((record.price_micros, record.served_by_spillover), (Some(5000), true));
    assert!(record.details().contains(r#","served_by_spillover":true"#));
}
