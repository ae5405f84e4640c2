use super::*;
use crate::allowance::Weights;
use crate::gauge::{Gauge, Unit};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn capacity_is_a_backends_or_one_deployments_own() {
    let mut config = whole();
    config["backends"][0]["tokens_per_minute"] = json!(6000);
    config["backends"][0]["window_s"] = json!(10);
    config["backends"][0]["provisioned"] = json!(true);
    config["models"][0]["backends"][0]["tokens_per_minute"] = json!(500);
    config["clients"][0]["priority"] = json!("low");
    config["priorities"] = json!({ "low": { "headroom_min": 0.25, "wait_ms": 1500 }, "waiting_max": 7 });
    let gateway = load(config).unwrap();
    let gauges: Vec<_> = gateway.models[0]
        .targets
        .iter()
        .map(|target| {
            let gauge = target.gauges.tokens;
            gauge.map(|gauge| (gauge.size.get(), gauge.window.as_secs(), gauge.is_provisioned))
        })
        .collect();
    assert_eq!(gauges, [Some((1000, 10, true)), Some((500, 60, false))]);
    let client = known(&gateway);
    let precedence = gateway.precedences.of(client.priority);
    assert_eq!((precedence.headroom_min, precedence.wait_max.as_millis()), (250_000, 1500));
    assert_eq!((gateway.precedences.high.headroom_min, gateway.waiting_max), (0, 7));
}

#[test]
fn a_capacity_has_weights_where_a_model_is_served() {
    let mut config = whole();
    config["backends"][0]["tokens_per_minute"] = json!(6000);
    config["models"][0]["backends"][0]["tokens_per_minute"] = json!(500);
    config["models"][0]["backends"][0]["weights"] = json!({ "completion": 8 });
    let weights = |config: Value| -> Vec<_> {
        let gateway = load(config).unwrap();
        let gauges = gateway.models[0].targets.iter().filter_map(|target| target.gauges.tokens);
        gauges.map(|gauge| gauge.unit).collect()
    };
    let eight = Unit::Tokens(Weights { prompt: 1_000_000, cached: 0, completion: 8_000_000 });
    let found = weights(config.clone());
    assert!(found.contains(&eight) && found.contains(&Unit::Tokens(Weights::UNCACHED)), "{found:?}");
    config["models"][0]["backends"][1]["weights"] = json!({ "prompt": 2, "cached": 0.5 });
    let half = Unit::Tokens(Weights { prompt: 2_000_000, cached: 500_000, completion: 1_000_000 });
    assert!(weights(config).contains(&half));
    check(
        "/models/0/backends/0/weights",
        json!({}),
        &[
            "models[0].backends[0].weights: there is no capacity: expected tokens_per_minute here or at the backend",
        ],
    );
    let mut config = whole();
    config["models"][0]["backends"][0]["tokens_per_minute"] = json!(0);
    config["models"][0]["backends"][0]["weights"] = json!({ "completion": 1001 });
    let errors: Vec<_> = load(config).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "models[0].backends[0].tokens_per_minute: 0: expected at least one token in 60 s",
            "models[0].backends[0].weights.completion: 1001: expected 0 to 1000",
        ]
    );
}

#[test]
fn a_backend_may_count_the_cap_alone() {
    let units = |config: Value| -> Vec<Unit> {
        let gateway = load(config).unwrap();
        let gauges = gateway.models[0].targets.iter().filter_map(|target| target.gauges.tokens);
        gauges.map(|gauge| gauge.unit).collect()
    };
    let mut config = whole();
    config["backends"][0]["tokens_per_minute"] = json!(6000);
    config["backends"][0]["counts"] = json!("prompt_and_cap");
    assert_eq!(units(config.clone()), [Unit::Tokens(Weights::UNCACHED)]);
    config["backends"][0]["counts"] = json!("cap");
    let produced = Weights { prompt: 0, cached: 0, completion: 1_000_000 };
    assert_eq!(units(config.clone()), [Unit::Tokens(produced)]);
    // A deployment's own capacity too, and what it weighs there.
    let places = config["models"][0]["backends"].as_array().unwrap();
    let at = places.iter().position(|place| place["backend"] == config["backends"][0]["name"]).unwrap();
    config["models"][0]["backends"][at]["tokens_per_minute"] = json!(500);
    assert_eq!(units(config.clone()), [Unit::Tokens(produced)]);
    config["models"][0]["backends"][at]["weights"] = json!({ "completion": 8 });
    assert_eq!(units(config.clone()), [Unit::Tokens(Weights { completion: 8_000_000, ..produced })]);
    for weights in [json!({ "prompt": 2 }), json!({ "cached": 0 })] {
        config["models"][0]["backends"][at]["weights"] = weights;
        let errors: Vec<_> = load(config.clone()).unwrap_err().iter().map(ToString::to_string).collect();
        let expected = format!(
            "models[0].backends[{at}].weights: the backend counts the cap alone: expected completion and nothing else"
        );
        assert_eq!(errors, [expected]);
    }
}

#[test]
fn what_is_passed_on_takes_no_capacity() {
    let mut config = whole();
    for backend in config["backends"].as_array_mut().unwrap() {
        backend["requests_per_minute"] = json!(600);
    }
    config["other_endpoints"] = json!(["a"]);
    config["pinning"] = json!({ "secret_envs": ["LONG"] });
    let gateway = from_value(config, &|_| Some("x".repeat(32))).unwrap();
    let of_ids = gateway.pinning.iter().flat_map(|pinned| pinned.targets.values());
    let targets: Vec<_> = gateway.other.iter().chain(of_ids).collect();
    assert!(!targets.is_empty() && targets.iter().all(|target| target.gauges.is_empty()));
}

#[test]
fn requests_are_a_capacity_beside_tokens() {
    let gauges = |config: &Value| -> Vec<Vec<(&str, u32, u64, bool)>> {
        let gateway = load(config.clone()).unwrap();
        let told = |gauge: Gauge| {
            (gauge.unit.word(), gauge.size.get(), gauge.window.as_secs(), gauge.is_provisioned)
        };
        let targets = &gateway.models[0].targets;
        targets.iter().map(|target| target.gauges.iter().map(told).collect()).collect()
    };
    let mut config = whole();
    config["backends"][0]["requests_per_minute"] = json!(600);
    assert_eq!(gauges(&config)[0], [("requests", 600, 60, false)]);
    config["backends"][0]["requests_window_s"] = json!(10);
    config["backends"][0]["provisioned"] = json!(true);
    assert_eq!(gauges(&config)[0], [("requests", 100, 10, false)]);
    config["backends"][0]["tokens_per_minute"] = json!(6000);
    assert_eq!(gauges(&config)[0], [("tokens", 6000, 60, true), ("requests", 100, 10, false)]);
    // Both over the same time, if nobody says otherwise.
    config["backends"][0].as_object_mut().unwrap().remove("requests_window_s");
    config["backends"][0]["window_s"] = json!(1);
    assert_eq!(gauges(&config)[0], [("tokens", 100, 1, true), ("requests", 10, 1, false)]);
    // A deployment has its own of one, and its backend's of the other.
    let place = config["models"][0]["backends"].as_array().unwrap();
    let at = place.iter().position(|place| place["backend"] == config["backends"][0]["name"]).unwrap();
    config["models"][0]["backends"][at]["requests_per_minute"] = json!(120);
    let mut other = config["models"][0].clone();
    (other["name"], other["aliases"]) = (json!("other"), json!([]));
    other["backends"][at].as_object_mut().unwrap().remove("requests_per_minute");
    config["models"].as_array_mut().unwrap().push(other);
    assert_eq!(gauges(&config)[0], [("tokens", 100, 1, true), ("requests", 2, 1, false)]);
    // Each is told to the fleet: tokens, requests, and the deployment's own.
    assert_eq!(load(config).unwrap().gauges().len(), 3);
}

#[test]
fn capacity_and_priority_have_bounds() {
    check(
        "/backends/0/requests_per_minute",
        json!(0),
        &["backends[0].requests_per_minute: 0: expected at least one request in 60 s"],
    );
    check("/backends/0/requests_window_s", json!(0), &["backends[0].requests_window_s: 0: expected 1 to 60"]);
    check(
        "/models/0/backends/0/requests_per_minute",
        json!(0),
        &["models[0].backends[0].requests_per_minute: 0: expected at least one request in 60 s"],
    );
    check(
        "/backends/0/tokens_per_minute",
        json!(0),
        &["backends[0].tokens_per_minute: 0: expected at least one token in 60 s"],
    );
    check("/backends/0/window_s", json!(61), &["backends[0].window_s: 61: expected 1 to 60"]);
    check(
        "/models/0/backends/0/tokens_per_minute",
        json!(0),
        &["models[0].backends[0].tokens_per_minute: 0: expected at least one token in 60 s"],
    );
    check(
        "/priorities",
        json!({ "high": { "headroom_min": 1.0 } }),
        &["priorities.high.headroom_min: 1: expected a share from 0 to less than 1"],
    );
    check(
        "/priorities",
        json!({ "low": { "wait_ms": 60_001 } }),
        &["priorities.low.wait_ms: 60001: expected at most 60000"],
    );
    check(
        "/priorities",
        json!({ "waiting_max": 100_001 }),
        &["priorities.waiting_max: 100001: expected at most 100000"],
    );
    for (name, shown) in [("api-key", "\"api-key\""), ("", "\"\"")] {
        let problem = |field: &str, what: &str| {
            format!("priorities.{field}: {shown}: expected the name of a {what} that means nothing else")
        };
        check("/priorities", json!({ "header": name }), &[&problem("header", "header")]);
        check("/priorities", json!({ "query": name }), &[&problem("query", "parameter")]);
    }
    check(
        "/clients/0/priority",
        json!("urgent"),
        &["clients[0].priority: unknown variant \"urgent\", expected one of \"high\", \"normal\", \"low\""],
    );
}

#[test]
fn deployments_that_share_a_capacity_have_each_its_own_pace() {
    let paces = |config: &Value| -> Vec<Option<u64>> {
        let gateway = load(config.clone()).unwrap();
        let targets = gateway.models.iter().flat_map(|model| model.targets.iter());
        targets.flat_map(|target| target.gauges.iter()).map(|gauge| gauge.pace_id).collect()
    };
    let mut config = whole();
    config["backends"][0]["requests_per_minute"] = json!(600);
    let mut other = config["models"][0].clone();
    (other["name"], other["aliases"]) = (json!("other"), json!([]));
    config["models"].as_array_mut().unwrap().push(other);
    assert_eq!(paces(&config), [None, None]);
    let at = config["models"].as_array().unwrap().len() - 1;
    config["models"][at]["backends"][1]["deployment"] = json!("another");
    let found = paces(&config);
    assert!(found.len() == 2 && found[0] != found[1] && found.iter().all(Option::is_some), "{found:?}");
    // What is declared for a deployment is its own.
    config["models"][at]["backends"][1]["requests_per_minute"] = json!(60);
    assert_eq!(paces(&config).into_iter().filter(Option::is_some).count(), 1);
}

#[test]
fn each_declared_capacity_is_told_to_the_fleet_once() {
    let ids = |config: &Value| -> Vec<u64> {
        load(config.clone()).unwrap().gauges().iter().map(|gauge| gauge.id).collect()
    };
    let mut config = whole();
    assert_eq!(ids(&config), Vec::<u64>::new());
    // By two models.
    config["backends"][0]["tokens_per_minute"] = json!(6000);
    let mut other = config["models"][0].clone();
    (other["name"], other["aliases"]) = (json!("other"), json!([]));
    config["models"].as_array_mut().unwrap().push(other);
    assert_eq!(ids(&config).len(), 1);
    // A deployment's own is another one.
    config["models"][0]["backends"][0]["tokens_per_minute"] = json!(500);
    assert_eq!(ids(&config).len(), 2);
}
