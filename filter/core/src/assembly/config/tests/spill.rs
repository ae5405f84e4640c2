use super::*;
use crate::limits::{self, Inquiry};
use crate::route::Nearness;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn model(spill: Value) -> Value {
    let mut config = whole();
    config["models"][0]["spill"] = spill;
    config["models"][0]["prices"] = json!({ "prompt": 1 });
    config["backends"][0]["tokens_per_minute"] = json!(1000);
    config
}

#[test]
fn what_spills_has_a_share_and_limits() {
    let spill =
        json!({ "above": 0.8, "limits": [{ "tokens": 5, "per": "day" }, { "cost": 2.5, "per": "month" }] });
    let gateway = load(model(spill)).unwrap();
    let spill = &gateway.models[0].spill;
    assert_eq!(spill.spare, 200_000);
    let inquiry = Inquiry {
        budget: spill.budget.clone().unwrap(),
        model: None,
        operation: crate::endpoint::Operation::Responses,
    };
    let report =
        limits::read(Moment::new(&crate::store::MemoryStore::default(), Default::default()), &inquiry)
            .unwrap();
    let found: Vec<_> =
        report.states.iter().map(|state| (&*state.allowance.word, state.allowance.amount.get())).collect();
    assert_eq!(found, [("spill/tokens/day", 5), ("spill/cost/month", 2_500_000)]);
    let gateway = load(whole()).unwrap();
    assert_eq!(gateway.models[0].spill, crate::gateway::Spill::default());
    assert_eq!(gateway.models[0].nearness, None);
}

#[test]
fn what_cannot_spill_so_is_a_fault() {
    #[track_caller]
    fn check(config: Value, expected: &[&str]) {
        assert_eq!(load(config).unwrap_err(), expected);
    }
    for above in [0.0, 1.0, 2.0, -1.0] {
        let problem = format!("models[0].spill.above: {above}: expected a share above 0 and below 1");
        check(model(json!({ "above": above })), &[&problem]);
    }
    let mut undeclared = model(json!({ "above": 0.5 }));
    undeclared["backends"][0].as_object_mut().unwrap().remove("tokens_per_minute");
    check(
        undeclared,
        &["models[0].spill.above: no backend of the first priority says how much it takes: expected \
           tokens_per_minute or requests_per_minute"],
    );
    let mut equals = model(json!({}));
    equals["models"][0]["backends"][0]["priority"] = json!(0);
    check(
        equals,
        &[
            "models[0].spill: every backend has the same priority: expected one of a lower priority to spill to",
        ],
    );
    let limit =
        json!({ "tokens": 5, "per": "day", "shadow": true, "models": [], "endpoints": ["responses"] });
    let has_none = |field: &str| {
        format!(
            "models[0].spill.limits[0].{field}: a limit on spilling has none: expected tokens, requests or cost, and per"
        )
    };
    let expected = [has_none("models"), has_none("endpoints"), has_none("shadow")];
    let found = load(model(json!({ "limits": [limit] }))).unwrap_err();
    assert_eq!(found[..3], expected);
    let mut unpriced = model(json!({ "limits": [{ "cost": 1, "per": "day" }] }));
    unpriced["models"][0].as_object_mut().unwrap().remove("prices");
    check(
        unpriced,
        &[
            "models[0].spill.limits[0].cost: model \"gpt-4o\" has no prices at backend \"a\": expected prices, or a \
           limit with models that all have them",
        ],
    );
    let problem = "models[0].spill.over: unknown field, expected above or limits";
    let found = load(model(json!({ "over": "wait" }))).unwrap_err();
    assert_eq!(found[0].replace("one of ", ""), problem);
}

#[test]
fn nearness_and_weights_exclude_each_other() {
    let mut config = whole();
    config["models"][0]["order_by"] = json!("time_to_first_token");
    let gateway = load(config.clone()).unwrap();
    assert_eq!(gateway.models[0].nearness, Some(Nearness::new("gpt-4o", false)));
    config["models"][0]["order_by"] = json!("latency");
    let gateway = load(config.clone()).unwrap();
    assert_eq!(gateway.models[0].nearness, Some(Nearness::new("gpt-4o", true)));
    config["models"][0]["backends"][1]["weight"] = json!(1);
    config["models"][0]["sticky_by"] = json!("client");
    let problems = [
        "models[0].backends[1].weight: order_by decides which backend is first: expected one of order_by and weights",
        "models[0].sticky_by: order_by decides which backend is first: expected one of order_by and sticky_by",
    ];
    assert_eq!(load(config).unwrap_err(), problems);
    check(
        "/models/0/order_by",
        json!("price"),
        &["models[0].order_by: unknown variant \"price\", expected \"time_to_first_token\" or \"latency\""],
    );
}
