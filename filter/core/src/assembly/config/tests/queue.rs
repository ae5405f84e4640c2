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
    refused(config, "queue: jobs lie in a store, and there is none: expected store, or queue.broker");
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
        "queue.key: unknown field, expected one of key_env, for, when, full_at, background, jobs_max, bytes_max, age_s, keep_s, broker",
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

/// A queue at a broker, without a store, with these members as well.
fn publishing(queue: Value, broker: Value) -> Result<Gateway, Vec<String>> {
    let mut config = whole();
    config["queue"] = queue;
    config["queue"]["broker"] = json!({ "cluster": "hub", "path": "/q/messages" });
    for (name, value) in broker.as_object().unwrap() {
        config["queue"]["broker"][name] = value.clone();
    }
    load(config)
}

#[test]
fn a_broker_needs_no_store_and_has_defaults() {
    let gateway = publishing(json!({}), json!({ "region": "eu" })).unwrap();
    assert!(gateway.store.is_none() && !gateway.tells_of_jobs());
    let queue = gateway.queue.unwrap();
    let broker = queue.broker.unwrap();
    assert_eq!((queue.region.as_deref(), &*broker.cluster, &*broker.authority), (Some("eu"), "hub", "hub"));
    assert_eq!((broker.method, broker.bytes_max, broker.timeout.as_secs()), ("POST", 65_536, 5));
    assert_eq!(broker.taken, [201]);
    // The store's region is not the broker's.
    let mut config = queueing(json!({ "broker": { "cluster": "hub", "path": "/" } }));
    config["store"]["envoys"] = json!(2);
    assert_eq!(load(config).unwrap().queue.unwrap().region, None);
    let azure =
        json!({ "scope": "https://eventhubs.azure.net/.default", "managed_identity": { "cluster": "imds" } });
    let gateway = publishing(json!({}), json!({ "credential": { "azure": azure } })).unwrap();
    assert_eq!((gateway.accesses.len(), &*gateway.accesses[0].backend), (1, "queue.broker"));
    // It is no header of a backend's credential.
    assert_eq!(gateway.credential_headers, ["api-key", "authorization"]);
}

#[test]
fn a_broker_and_the_stores_queue_exclude_each_other() {
    for (field, value) in [
        ("background", json!("queue")),
        ("jobs_max", json!(1)),
        ("bytes_max", json!(1)),
        ("keep_s", json!(1)),
    ] {
        let problem = format!(
            "queue.{field}: is of the store's queue, and queue.broker is there in its place: expected one of the two"
        );
        assert_eq!(publishing(json!({ field: value }), json!({})).map(|_| ()), Err(vec![problem]));
    }
}

#[test]
fn a_fault_of_a_broker_names_its_field() {
    for (broker, expected) in [
        (json!({ "cluster": "" }), ".cluster: \"\" is no name"),
        (json!({ "authority": "a b" }), ".authority: \"a b\": expected a host"),
        (json!({ "path": "q" }), ".path: \"q\": expected a path that begins with /, without #"),
        (
            json!({ "path": "/%body%" }),
            ".path: %body% stands for nothing here: expected one of %id%, %client%, %priority%, %model%, alone",
        ),
        (json!({ "headers": { "x": "%request%" } }), ".headers.x: %request% stands for nothing here"),
        (json!({ "headers": { "x": "%headers%" } }), ".headers.x: %headers% stands for nothing here"),
        (json!({ "headers": { "x": "a\nb" } }), ".headers.x: it has characters that no header may have"),
        (json!({ "headers": { "a b": "" } }), ".headers.a b: it is no name of a header"),
        (json!({ "headers": { "Host": "" } }), ".headers.Host: it is Envoy's to say"),
        (
            json!({ "headers": { "x": "" }, "headers_env": { "X": "A" } }),
            ".headers_env.X: this header is said more than once",
        ),
        (json!({ "headers_env": { "x": "C" } }), ".headers_env.x: environment variable \"C\" is not set"),
        (json!({ "query_env": "C" }), ".query_env: environment variable \"C\" is not set"),
        (
            json!({ "body": "%id%" }),
            ".body: it says nothing of what is asked: expected %request% or %body% in it",
        ),
        (json!({ "body": "%request" }), ".body: %request% stands for nothing here"),
        (json!({ "bytes_max": 0 }), ".bytes_max: 0: expected 1 to 67108864"),
        (json!({ "taken": [] }), ".taken: 0 entries: expected 1 to 8"),
        (json!({ "taken": [201, 404] }), ".taken[1]: 404: expected 200 to 299"),
        (json!({ "region": "" }), ".region: \"\" is no name"),
        (json!({ "timeout_ms": 60_001 }), ".timeout_ms: 60001: expected 10 to 60000"),
        (
            json!({ "credential": { "azure": { "scope": "s" } } }),
            ".credential.azure: expected exactly one of",
        ),
    ] {
        let faults = publishing(json!({}), broker.clone()).map(|_| ()).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with(&format!("queue.broker{expected}")),
            "{broker}: {faults:?}"
        );
    }
}
