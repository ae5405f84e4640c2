use super::*;
use crate::prices::{Above, Prices, Rates};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_price_is_of_a_million_tokens_and_may_be_a_backends_own() {
    let mut config = whole();
    config["models"][0]["prices"] = json!({ "prompt": 2.5, "completion": 10 });
    config["models"][0]["backends"][1]["prices"] = json!({ "prompt": 0.075, "cached": 0, "completion": 0.3 });
    let gateway = load(config).unwrap();
    let found: Vec<_> = gateway.models[0]
        .targets
        .iter()
        .map(|target| target.prices.as_ref().unwrap().default.rates)
        .collect();
    assert_eq!(found, [Rates { cached: 0, ..rates(75_000, 300_000) }, rates(2_500_000, 10_000_000)]);
    let problem = "models[0].backends[0].prices: expected prices of a million tokens, from 0 to 1000000";
    check("/models/0/backends/0/prices", json!({ "prompt": -1 }), &[problem]);
}

#[test]
fn a_price_may_depend_on_kind_length_tier_and_spillover() {
    let mut config = whole();
    config["models"][0]["prices"] = json!({
        "prompt": 1, "cache_write": 2, "prompt_audio": 3, "prompt_image": 4, "completion": 5, "completion_audio": 6,
        "completion_image": 7, "above": { "prompt_tokens": 200_000, "prompt": 8, "completion": 9 },
        "tiers": { "flex": { "prompt": 0.5, "above": { "prompt_tokens": 7, "prompt": 1 } }, "priority": { "prompt": 2 } },
    });
    config["models"][0]["backends"][0]["spillover_prices"] = json!({ "prompt": 11 });
    let gateway = load(config).unwrap();
    let targets = &gateway.models[0].targets;
    let Prices { default, tiers } = targets.iter().find_map(|target| target.prices.clone()).unwrap();
    let expected = Rates {
        cache_write: 2_000_000,
        prompt_audio: 3_000_000,
        prompt_image: 4_000_000,
        completion_audio: 6_000_000,
        completion_image: 7_000_000,
        ..rates(1_000_000, 5_000_000)
    };
    assert_eq!(default.rates, expected);
    assert_eq!(default.above, Some(Above { prompt_tokens: 200_000, rates: rates(8_000_000, 9_000_000) }));
    let names: Vec<_> = tiers.iter().map(|(name, schedule)| (&**name, schedule.above.is_some())).collect();
    assert_eq!(names, [("flex", true), ("priority", false)]);
    let spillover: Vec<_> = targets.iter().filter_map(|target| target.spillover_prices.as_ref()).collect();
    assert_eq!(spillover.len(), 1);
    assert_eq!(spillover[0].default.rates, rates(11_000_000, 0));

    let prices = |more: Value| {
        let mut prices = json!({ "prompt": 1 });
        prices.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        prices
    };
    let of = "expected prices of a million tokens, from 0 to 1000000";
    let named = "expected flex, priority or the like: the default tier has the prices beside this";
    for (more, problem) in [
        (json!({ "tiers": { "flex": { "prompt": -1 } } }), format!("prices.tiers.flex: {of}")),
        (json!({ "tiers": { "default": { "prompt": 1 } } }), format!("prices.tiers.default: {named}")),
        (json!({ "tiers": { "auto": { "prompt": 1 } } }), format!("prices.tiers.auto: {named}")),
        (json!({ "above": { "prompt_tokens": 9, "prompt": 2e6 } }), format!("prices.above: {of}")),
        (
            json!({ "above": { "prompt_tokens": 0, "prompt": 1 } }),
            "prices.above.prompt_tokens: 0: expected at least 1".to_owned(),
        ),
        (json!({ "cache_write": -1 }), format!("prices: {of}")),
    ] {
        let problem = format!("models[0].backends[0].{problem}");
        check("/models/0/backends/0/prices", prices(more), &[&problem]);
    }
}
