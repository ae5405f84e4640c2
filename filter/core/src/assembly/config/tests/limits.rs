use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A limit of the client, and one of its group.
fn limited(own: Value, shared: Value) -> Value {
    let mut config = whole();
    config["clients"][0]["limits"] = json!([own]);
    config["clients"][0]["group"] = json!("sales");
    config["groups"] = json!([{ "name": "sales", "limits": [shared] }]);
    config["models"][0]["prices"] = json!({ "prompt": 1 });
    config
}

/// The object with one member more.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

/// What each limit of the client is, in the words of the list that it may ask for.
fn limits_of(config: Value) -> Vec<Value> {
    let gateway = load(config).unwrap();
    let client = known(&gateway);
    let inquiry = crate::limits::Inquiry {
        budget: client.budget.clone(),
        model: None,
        operation: crate::endpoint::Operation::Other,
    };
    let now = std::time::Duration::from_secs(1_795_490_661);
    let report =
        crate::limits::read(Moment::new(&crate::store::MemoryStore::default(), now), &inquiry).unwrap();
    let states = report.states.iter().map(|state| crate::answer::Standing {
        allowance: &state.allowance,
        used: state.used,
        remaining: state.remaining,
        reset: state.reset,
    });
    let answer = crate::answer::limits(&client.name.text, states, now);
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    list["limits"].as_array().unwrap().clone()
}

#[test]
fn limits_are_what_is_written() {
    let day = "2026-11-25T00:00:00Z";
    let own = json!({
        "tokens": 5000, "per": "day", "shadow": true, "models": ["gpt-4o-2024-08-06"],
        "endpoints": ["responses", "chat/completions", "responses"], "weights": { "completion": 2.5 },
    });
    let found = limits_of(limited(own, json!({ "cost": 0.5, "per": "day" })));
    assert_eq!(
        found[0],
        json!({
            "unit": "tokens", "per": "day", "limit": 5000, "used": 0, "remaining": 5000, "resets_at": day,
            "resets_in_s": 74_139, "models": ["gpt-4o"], "endpoints": ["chat/completions", "responses"],
            "weights": { "prompt": 1.0, "cached": 1.0, "completion": 2.5 }, "group": null, "shared": false,
            "shadow": true,
        })
    );
    assert_eq!((&found[1]["limit"], &found[1]["group"]), (&json!(0.5), &json!("sales")));
    for (limit, unit, per) in [
        (json!({ "tokens": 1, "per": "second" }), "tokens", json!("second")),
        (json!({ "requests": 1, "per": "week" }), "requests", json!("week")),
        (json!({ "concurrent": 1 }), "concurrent", Value::Null),
        (json!({ "tokens": 1, "per": "month", "models": ["*"] }), "tokens", json!("month")),
    ] {
        let found = limits_of(limited(limit, json!({ "requests": 1, "per": "hour" })));
        assert_eq!(
            (&found[0]["unit"], &found[0]["per"], &found[0]["models"]),
            (&json!(unit), &per, &Value::Null)
        );
    }
}

#[test]
fn a_limit_that_cannot_be_meant_is_refused() {
    let check = |limit: Value, expected: &[&str]| {
        assert_eq!(
            load(limited(limit.clone(), json!({ "concurrent": 1 }))).unwrap_err(),
            expected,
            "{limit}"
        );
    };
    let one = "clients[0].limits[0]: expected exactly one of tokens, requests, cost, concurrent";
    check(json!({ "per": "day" }), &[one]);
    check(json!({ "tokens": 1, "requests": 1, "per": "day" }), &[one]);
    check(
        json!({ "tokens": 1 }),
        &["clients[0].limits[0].per: missing: expected second, minute, hour, day, week or month"],
    );
    check(
        json!({ "concurrent": 1, "per": "day" }),
        &["clients[0].limits[0].per: a limit on concurrent requests has none"],
    );
    check(json!({ "concurrent": 0 }), &["clients[0].limits[0].concurrent: 0: expected at least 1"]);
    check(
        json!({ "requests": 1_000_000_000_000_001u64, "per": "day" }),
        &["clients[0].limits[0].requests: 1000000000000001: expected at most 1000000000000000"],
    );
    check(
        json!({ "cost": -1, "per": "day" }),
        &["clients[0].limits[0].cost: -1: expected 0.000001 to 1000000000"],
    );
    check(
        json!({ "requests": 1, "per": "day", "weights": {} }),
        &["clients[0].limits[0].weights: only a limit on tokens has weights"],
    );
    check(
        json!({ "tokens": 1, "per": "day", "weights": { "cached": -0.5 } }),
        &["clients[0].limits[0].weights.cached: -0.5: expected 0 to 1000"],
    );
    check(
        json!({ "tokens": 1, "per": "day", "models": ["x"] }),
        &[
            "clients[0].limits[0].models[0]: no model is named \"x\": expected one of \"*\", \"gpt-4o\", \"gpt-4o-2024-08-06\"",
        ],
    );
    let endpoints = "expected one of \"audio/speech\", \"audio/transcriptions\", \"audio/translations\", \
                     \"chat/completions\", \"completions\", \"embeddings\", \"images/edits\", \
                     \"images/generations\", \"messages\", \"messages/count_tokens\", \"other\", \"realtime\", \
           \"responses\", \
                     \"responses/compact\", \"responses/input_tokens\", \"responses/websocket\"";
    check(
        json!({ "tokens": 1, "per": "day", "endpoints": ["models"] }),
        &[&format!("clients[0].limits[0].endpoints[0]: no endpoint is named \"models\": {endpoints}")],
    );
    check(
        json!({ "tokens": 1, "per": "day", "endpoints": [] }),
        &["clients[0].limits[0].endpoints: empty: expected at least one endpoint, or no such field"],
    );
    check(
        json!({ "tokens": 1, "per": "day", "model": "gpt-4o" }),
        &[
            "clients[0].limits[0].model: unknown field, expected one of tokens, requests, cost, concurrent, per, models, \
           endpoints, weights, by, alerts, shadow",
        ],
    );
}

#[test]
fn who_can_be_told_of_a_limit_and_of_how_much_is_bounded() {
    let day = |alerts: Value| json!({ "tokens": 5, "per": "day", "alerts": alerts });
    // As Envoy hands a fraction on.
    let gateway = load(limited(day(json!(["0.805", 1])), day(json!([0.29])))).unwrap();
    let watched = gateway.watched();
    let alerts: Vec<_> = watched
        .values()
        .flat_map(|account| account.limits())
        .map(|(_, limit)| limit.alerts.clone())
        .collect();
    assert_eq!(alerts, [vec![81, 100], vec![29]]);
    let refused = |limit: Value| load(limited(limit, day(json!([])))).map(|_| ()).unwrap_err();
    let path = "clients[0].limits[0].alerts";
    let nobody =
        |expected: &str| [format!("{path}: nobody could be told of this limit: expected {expected}")];
    let windows = nobody("per hour, day, week or month");
    assert_eq!(refused(json!({ "concurrent": 5, "alerts": [0.5] })), windows);
    assert_eq!(refused(json!({ "tokens": 5, "per": "minute", "alerts": [0.5] })), windows);
    assert_eq!(refused(with(day(json!([0.5])), "by", json!("key"))), nobody("a limit without by"));
    let many = [format!("{path}: 9 alerts, at most 8 are possible")];
    assert_eq!(refused(day(json!(vec![0.5; 9]))), many);
    let bounds =
        [format!("{path}[0]: 0: expected 0.01 to 1"), format!("{path}[2]: 1.01: expected 0.01 to 1")];
    assert_eq!(refused(day(json!([0.0, 0.01, 1.01]))), bounds);
    let mut spills = limited(day(json!([])), day(json!([])));
    spills["models"][0]["spill"] = json!({ "limits": [day(json!([0.5]))] });
    let told = load(spills).map(|_| ()).unwrap_err();
    let problem = "models[0].spill.limits[0].alerts: nobody could be told of this limit: expected a limit of a client or a group";
    assert!(told.iter().any(|told| told == problem), "{told:?}");
}

#[test]
fn what_each_has_of_its_own_is_told_beside_what_all_share() {
    let day = json!({ "tokens": 5, "per": "day" });
    let by = |by: Value| with(day.clone(), "by", by);
    let mut config = limited(by(json!("key")), by(json!({ "claim": "sub" })));
    config["clients"][0]["limits"].as_array_mut().unwrap().push(day.clone());
    let gateway = load(config.clone()).unwrap();
    assert!(!known(&gateway).budget.is_unlimited());
    // By the same word it counts the same.
    config["clients"][0]["limits"].as_array_mut().unwrap().push(by(json!("key")));
    let twice = "clients[0].limits[2]: an earlier limit counts the same: expected one of them";
    assert_eq!(load(config).unwrap_err(), [twice]);
}

#[test]
fn what_nobody_can_be_told_apart_by_is_refused() {
    let check = |by: Value, edit: &dyn Fn(&mut Value), expected: &[&str]| {
        let mut config = limited(json!({ "tokens": 1, "per": "day", "by": by }), json!({ "concurrent": 1 }));
        edit(&mut config);
        assert_eq!(load(config).map(|_| ()).unwrap_err(), expected);
    };
    check(
        json!({ "claim": "sub" }),
        &|_| {},
        &["clients[0].limits[0].by: the client has no jwt, so nobody has it: expected it, or another by"],
    );
    check(
        json!("key"),
        &|config| {
            config["clients"][0]["api_keys"] = json!([]);
            config["clients"][0]["anonymous"] = json!(true);
        },
        &[
            "clients[0].limits[0].by: the client has no api_keys, so nobody has it: expected it, or another by",
        ],
    );
    check(
        json!("name"),
        &|_| {},
        &[
            "clients[0].limits[0].by: unknown variant \"name\", expected one of \"key\", \"claim\", \"header\", \"field\"",
        ],
    );
    for name in ["", "x user", "authorization", "X-Tollgate-User"] {
        let problem = format!(
            "clients[0].limits[0].by.header: {name:?}: expected the name of a header that only an earlier filter sets"
        );
        check(json!({ "header": name }), &|_| {}, &[&problem]);
    }
    let mut config = limited(json!({ "concurrent": 1 }), json!({ "concurrent": 1, "by": { "claim": "" } }));
    let no_path = "groups[0].limits[0].by.claim: \"\" is no path to a claim: expected for example \"azp\", \
                   \"realm_access.roles\" or \"/a.b/c\"";
    assert_eq!(load(config.clone()).unwrap_err(), [no_path]);
    config["groups"][0]["limits"][0]["by"] = json!("key");
    assert!(load(config.clone()).is_ok());
    config["models"][0]["spill"] = json!({ "limits": [{ "tokens": 1, "per": "day", "by": "key" }] });
    let for_all = "models[0].spill.limits[0].by: a limit on what spills is one for all: expected no by";
    assert_eq!(load(config).unwrap_err(), [for_all]);
}

#[test]
fn two_limits_of_one_kind_are_a_slip_unless_one_only_reports() {
    let twice = |second: Value| {
        let mut config = whole();
        config["clients"][0]["limits"].as_array_mut().unwrap().push(second);
        load(config).map(|_| ())
    };
    let problem = "clients[0].limits[1]: an earlier limit counts the same: expected one of them";
    assert_eq!(twice(json!({ "tokens": 50, "per": "minute" })), Err(vec![problem.to_owned()]));
    assert_eq!(twice(json!({ "tokens": 50, "per": "minute", "shadow": true })), Ok(()));
    assert_eq!(twice(json!({ "tokens": 50, "per": "minute", "models": ["gpt-4o"] })), Ok(()));
    assert_eq!(twice(json!({ "tokens": 50, "per": "second" })), Ok(()));
    let mut config = whole();
    config["clients"][0]["limits"] = json!(vec![json!({ "concurrent": 1 }); 33]);
    assert_eq!(load(config).unwrap_err()[0], "clients[0].limits: 33 limits, at most 32 are possible");
}

#[test]
fn a_limit_on_money_needs_prices_wherever_it_may_hold() {
    let mut config = limited(json!({ "cost": 1, "per": "day" }), json!({ "cost": 1, "per": "month" }));
    config["models"][0].as_object_mut().unwrap().remove("prices");
    config["models"][0]["backends"][0]["prices"] = json!({ "prompt": 1 });
    let problem = "model \"gpt-4o\" has no prices at backend \"a\": expected prices, or a limit with models that all \
                   have them";
    let expected =
        ["clients[0].limits[0].cost", "groups[0].limits[0].cost"].map(|path| format!("{path}: {problem}"));
    assert_eq!(load(config.clone()).unwrap_err(), expected);
    // A model that nobody it holds for may use, or that is not in its scope, needs none.
    let free = json!({ "name": "free", "backends": [{ "backend": "b" }] });
    config["models"].as_array_mut().unwrap().push(free);
    config["models"][0]["prices"] = json!({ "prompt": 1 });
    assert!(load(config.clone()).is_ok());
    config["clients"][0]["models"] = json!(["*"]);
    assert_eq!(load(config.clone()).unwrap_err().len(), 2);
    for limit in ["/clients/0/limits/0", "/groups/0/limits/0"] {
        config.pointer_mut(limit).unwrap()["models"] = json!(["gpt-4o"]);
    }
    assert!(load(config).is_ok());
}

#[test]
fn a_group_that_is_not_there_says_which_there_are() {
    let mut config = limited(json!({ "concurrent": 1 }), json!({ "concurrent": 1 }));
    let group = config["groups"][0].clone();
    config["groups"].as_array_mut().unwrap().push(group);
    config["clients"][0]["group"] = json!("marketing");
    assert_eq!(
        load(config).unwrap_err(),
        [
            "groups[1].name: \"sales\" stands more than once",
            "clients[0].group: no group is named \"marketing\": expected \"sales\"",
        ]
    );
}
