use super::*;
use crate::capacity::Priority;
use crate::gateway::ActsFor;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn queueing(queue: Value) -> Value {
    let mut config = whole();
    config["store"] = json!({ "redis": { "cluster": "s", "prefix": "eu", "region": "eu" } });
    config["queue"] = queue;
    config
}

#[test]
fn a_queue_has_bounds_by_default() {
    let queue = load(queueing(json!({}))).unwrap().queue.unwrap();
    assert_eq!((queue.least, queue.is_always, queue.makes_responses), (Priority::Low, false, false));
    assert_eq!((queue.jobs_max, queue.bytes_max, queue.headroom_min), (1000, 104_857_600, 0));
    assert_eq!((queue.age.as_secs(), queue.keep.as_secs()), (86_400, 3600));
    assert_eq!((queue.key, queue.region.as_deref()), (None, Some("eu")));
    assert!(queue.keys.stream().starts_with("eu:"));
    assert_eq!(load(queueing(json!({ "full_at": "0.8" }))).unwrap().queue.unwrap().headroom_min, 200_000);
    assert!(load(whole()).unwrap().queue.is_none());
}

#[test]
fn a_fault_of_a_queue_names_its_field() {
    let refused = |config, problem: &str| {
        assert_eq!(load(config).map(|_| ()), Err(vec![problem.to_owned()]));
    };
    let mut config = whole();
    config["queue"] = json!({});
    refused(config, "queue: jobs lie in a store, and there is none: expected store");
    for (field, value, bounds) in [
        ("jobs_max", 0, "1 to 1000000"),
        ("bytes_max", 17_179_869_185_u64, "1 to 17179869184"),
        ("age_s", 604_801, "1 to 604800"),
        ("keep_s", 0, "1 to 604800"),
    ] {
        refused(queueing(json!({ field: value })), &format!("queue.{field}: {value}: expected {bounds}"));
    }
    refused(queueing(json!({ "full_at": 0 })), "queue.full_at: 0: expected more than 0, and at most 1");
    refused(
        queueing(json!({ "key": "x" })),
        "queue.key: unknown field, expected one of key_env, for, when, full_at, background, jobs_max, bytes_max, age_s, keep_s",
    );
}

#[test]
fn a_worker_asks_for_clients_that_there_are() {
    let acting = |queue: bool, names: Value| {
        let mut config = queueing(json!({}));
        if !queue {
            config.as_object_mut().unwrap().remove("queue");
        }
        config["clients"][0]["may_act_for"] = names;
        load(config).map(|gateway| {
            let client = &gateway.roster[0].acts_for;
            (client.covers("web"), client.covers("other"))
        })
    };
    assert_eq!(acting(true, json!(["*"])), Ok((true, true)));
    assert_eq!(acting(true, json!(["web"])), Ok((true, false)));
    assert_eq!(acting(true, json!([])), Ok((false, false)));
    let unknown = "clients[0].may_act_for[0]: no client is named \"other\": expected one of \"*\", \"web\"";
    assert_eq!(acting(true, json!(["other"])), Err(vec![unknown.to_owned()]));
    let idle = "clients[0].may_act_for: there are no jobs to work off: expected queue";
    assert_eq!(acting(false, json!(["*"])), Err(vec![idle.to_owned()]));
    assert!(!ActsFor::These(Default::default()).covers(""));
}
