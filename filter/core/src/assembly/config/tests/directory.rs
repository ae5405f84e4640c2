use super::*;
use crate::capacity::Priority;
use crate::config::KeyEntry;
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::gateway::Client;
use crate::identity::issued::{Entry, Meaning, Said};
use crate::identity::{KeyHash, Validity};
use crate::store::MemoryStore;
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A configuration whose client has no key.
fn keyless(directory: Value) -> Value {
    let mut config = whole();
    config["clients"][0].as_object_mut().unwrap().remove("api_keys");
    config["store"] = json!({ "redis": { "cluster": "s", "timeout_ms": 300 } });
    config["directory"] = directory;
    config
}

#[test]
fn keys_that_are_issued_have_rules_by_default() {
    let rules = |directory| load(keyless(directory)).unwrap().clients.issued().unwrap().rules();
    let found = rules(json!({ "store": {} }));
    let seconds = Duration::from_secs;
    assert_eq!((found.fresh, found.stale, found.per_second), (seconds(10), seconds(3600), 1000));
    assert_eq!(found.wait, Duration::from_millis(1600));
    let found = rules(json!({ "store": { "fresh_s": 60, "stale_s": 60, "lookups_per_second": 7 } }));
    assert_eq!((found.fresh, found.stale, found.per_second), (seconds(60), seconds(60), 7));
    assert!(load(whole()).unwrap().clients.issued().is_none());
}

#[test]
fn a_fault_of_a_directory_names_its_field() {
    let refused = |directory, problem: &str| {
        assert_eq!(load(keyless(directory)).map(|_| ()), Err(vec![problem.to_owned()]));
    };
    for fresh_s in [0, 3601] {
        refused(
            json!({ "store": { "fresh_s": fresh_s } }),
            &format!("directory.store.fresh_s: {fresh_s}: expected 1 to 3600"),
        );
    }
    refused(
        json!({ "store": { "stale_s": 604_801 } }),
        "directory.store.stale_s: 604801: expected 0 to 604800",
    );
    for per_second in [0, 100_001] {
        refused(
            json!({ "store": { "lookups_per_second": per_second } }),
            &format!("directory.store.lookups_per_second: {per_second}: expected 1 to 100000"),
        );
    }
    refused(json!({}), "directory: expected exactly one of store, document");
    refused(
        json!({ "store": { "fresh": 1 } }),
        "directory.store.fresh: unknown field, expected one of fresh_s, stale_s, lookups_per_second",
    );
    let mut config = whole();
    config["directory"] = json!({ "store": {} });
    let problem = "directory.store: keys are issued in a store, and there is none: expected store";
    assert_eq!(load(config).map(|_| ()), Err(vec![problem.to_owned()]));
}

#[test]
fn an_entry_of_the_store_is_read_whole_or_refused() {
    let read = |entry: Value| {
        KeyEntry::read(entry.to_string().as_bytes())
            .and_then(|entry| entry.validity())
            .map_err(|fault| fault.to_string())
    };
    assert_eq!(read(json!({ "client": "web" })), Ok(Validity::ALWAYS));
    let (from, until) = (Duration::ZERO, Duration::from_secs(86_400));
    let entry = json!({ "client": "web", "not_after": "1970-01-02T00:00:00Z", "issued": "x", "note": "y" });
    assert_eq!(read(entry), Ok(Validity { from, until }));
    for (entry, problem) in [
        (json!({}), "entry: missing field \"client\""),
        (json!({ "client": 7 }), "client: invalid type: integer \"7\", expected a string"),
        (
            json!({ "client": "web", "endpoints": ["*"] }),
            "endpoints: unknown field, expected one of client, not_before, not_after, issued, note, models, limits, policy, \
             regions, priority",
        ),
        (
            json!({ "client": "web", "limits": [{ "tokens": 1, "pre": "day" }] }),
            "limits[0].pre: unknown field, expected one of tokens, requests, cost, concurrent, per, models, endpoints, weights, \
             by, alerts, shadow",
        ),
        (
            json!({ "client": "web", "limits": [{ "tokens": 1, "per": "day", "by": "key" }] }),
            "limits[0].by: a limit of a key is the key's alone: expected no by",
        ),
        (
            json!({ "client": "web", "limits": [{ "tokens": 1, "per": "day", "alerts": [0.5] }] }),
            "limits[0].alerts: nobody is told of a key's limit: expected a limit of its client",
        ),
        (
            json!({ "client": "web", "priority": "urgent" }),
            "priority: unknown variant \"urgent\", expected one of \"high\", \"normal\", \"low\"",
        ),
        (json!({ "client": "web", "note": "x".repeat(4096) }), "entry: 4122 bytes: expected at most 4096"),
        (
            json!({ "client": "web", "not_before": "now" }),
            "not_before: \"now\": expected a date and time in UTC such as 2026-11-01T00:00:00Z",
        ),
        (
            json!({ "client": "web", "not_before": "1970-01-02T00:00:00Z", "not_after": "1970-01-02T00:00:00Z" }),
            "not_after: is not after not_before: the key would never be valid",
        ),
    ] {
        assert_eq!(read(entry), Err(problem.to_owned()));
    }
    assert!(KeyEntry::read(b"{").is_err());
}

/// A configuration with two models in two regions, whose client may do some of it.
pub(super) fn regional(client: &Value) -> Gateway {
    load(regional_config(client)).unwrap()
}

/// The same; `more` are more clients.
pub(super) fn regional_config(client: &Value) -> Value {
    let mut config = keyless(json!({ "store": {} }));
    let entry = config["clients"][0].as_object_mut().unwrap();
    entry.extend(client.as_object().unwrap().clone());
    let more = entry.remove("more").unwrap_or_default();
    config["clients"].as_array_mut().unwrap().extend(more.as_array().cloned().unwrap_or_default());
    config["policies"] = json!([
        { "name": "p", "max_tokens": { "max": 10, "over": "clamp" }, "stream": "forbid" },
        { "name": "short", "max_tokens": { "max": 5, "over": "reject" } },
        { "name": "long", "max_tokens": { "max": 50, "over": "clamp" }, "n": { "max": 2, "over": "reject" } },
        { "name": "streams", "stream": "force" },
        { "name": "naming", "allowed_fields": ["fallbacks", "top_k"] },
        { "name": "watch", "mode": "audit", "n": { "max": 1, "over": "reject" } },
    ]);
    config["models"] = json!([
        { "name": "gpt-4o", "prices": { "prompt": 1 }, "backends": [{ "backend": "b" }] },
        { "name": "gpt-4o-mini", "aliases": ["mini"], "backends": [{ "backend": "b" }] },
        { "name": "o3", "backends": [{ "backend": "b" }] },
    ]);
    config["backends"][0]["region"] = json!("us");
    config["backends"][1]["region"] = json!("eu");
    config["groups"] = json!([{ "name": "sales", "limits": [{ "cost": 5, "per": "month" }] }]);
    config
}

fn narrowed(gateway: &Gateway, key: &str, entry: &Value) -> Result<Entry<Client>, String> {
    let mut entry = entry.clone();
    entry["client"] = json!("web");
    match heard(gateway, key, &entry, None)? {
        Meaning::Whole(entry) => Ok(entry),
        Meaning::Lacks(client) => panic!("{client:?} is not configured"),
    }
}

/// What the store's words of a key and of its client mean.
fn heard(
    gateway: &Gateway,
    key: &str,
    entry: &Value,
    client: Option<(&str, Option<&Value>)>,
) -> Result<Meaning<Client>, String> {
    let (entry, store) = (entry.to_string(), MemoryStore::default());
    let text = client.and_then(|(_, text)| text).map(ToString::to_string);
    let client = client.map(|(name, _)| (name, text.as_deref().map(str::as_bytes)));
    let said = Said { entry: entry.as_bytes(), client };
    let issued = gateway.clients.issued().unwrap();
    issued.read(&KeyHash::of(key.as_bytes()), said, &store).map_err(|problem| problem.text().to_owned())
}

#[test]
fn a_key_may_what_its_entry_leaves_of_its_client() {
    let gateway =
        regional(&json!({ "models": ["gpt-4o*", "o3"], "regions": ["eu", "us"], "priority": "normal" }));
    let whole = gateway.roster[0].clone();
    let may = |entry: Value| {
        let entry = narrowed(&gateway, "k", &entry).unwrap();
        assert_eq!(entry.beyond, Vec::<String>::new());
        assert!(Rc::ptr_eq(&entry.known.whole, &whole));
        entry.known.client
    };
    let plain = narrowed(&gateway, "k", &json!({ "note": "x" })).unwrap();
    assert!(Rc::ptr_eq(&plain.known.client, &whole) && plain.weight == 1);

    let names = |client: &Client| {
        gateway.models_for(Some(client)).map(|model| model.name.text.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&may(json!({ "models": ["mini"] }))), ["gpt-4o-mini"]);
    assert_eq!(names(&may(json!({ "models": ["gpt-*"] }))), ["gpt-4o", "gpt-4o-mini"]);
    assert!(Rc::ptr_eq(&may(json!({ "models": ["*"] })).models, &whole.models));
    let mini = may(json!({ "models": ["mini"] }));
    assert_eq!(gateway.model(&mini, "o3"), Err(Denial::ModelNotAllowed("o3".to_owned())));
    let regions = |client: &Client| client.regions.clone();
    assert_eq!(regions(&may(json!({ "regions": ["us"] }))), Some(vec!["us".into()]));
    assert_eq!(regions(&mini), whole.regions);
    assert_eq!(may(json!({ "priority": "low" })).priority, Priority::Low);
    assert_eq!(may(json!({ "priority": "normal" })).priority, Priority::Normal);
    // Nothing else of it is another's.
    let Client { name, group, models, endpoints, policy, audits, policy_by_model, budget, .. } = &*mini;
    assert_eq!(
        (name, group, endpoints, audits),
        (&whole.name, &whole.group, &whole.endpoints, &whole.audits)
    );
    assert_eq!((policy, policy_by_model, budget), (&whole.policy, &whole.policy_by_model, &whole.budget));
    assert_ne!(models, &whole.models);
    assert!(Rc::ptr_eq(&mini.held_bytes, &whole.held_bytes));
}

#[test]
fn a_key_with_fewer_models_names_no_other_unseen() {
    let gateway = regional(&json!({
        "models": ["gpt-4o", "o3"], "endpoints": ["chat/completions", "other"],
        "policy": "naming", "policy_by_model": { "gpt-4o": "naming" },
    }));
    let fields = |entry: Value| {
        let client = narrowed(&gateway, "k", &entry).unwrap().known.client;
        let may_other = client.endpoints.contains(&Operation::Other);
        (
            client.policy.allowed_fields.clone(),
            client.policy_by_model["gpt-4o"].allowed_fields.clone(),
            may_other,
        )
    };
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = || list(&["fallbacks", "top_k"]);
    assert_eq!(fields(json!({ "models": ["*"] })), (all(), all(), true));
    assert_eq!(fields(json!({ "models": ["gpt-4o"] })), (list(&["top_k"]), list(&["top_k"]), false));
    // A policy beside its client's lets nobody name what it would not.
    assert_eq!(fields(json!({ "policy": "short" })), (list(&["top_k"]), list(&["top_k"]), true));
}

#[test]
fn a_key_is_held_to_its_policy_and_its_clients() {
    let gateway = regional(&json!({ "models": ["gpt-4o", "o3"], "policy_by_model": { "o3": "long" } }));
    let key = narrowed(&gateway, "k", &json!({ "policy": "short" })).unwrap().known.client;
    let max = |policy: &Policy| policy.max_tokens.unwrap();
    let five = Bound { default: Some(5), max: Some(5), over: Over::Reject };
    assert_eq!((max(&key.policy), max(&key.policy_by_model["o3"])), (five, five));
    assert_eq!(key.policy_by_model["o3"].n, Some(Bound { default: None, max: Some(2), over: Over::Reject }));
    let long = narrowed(&gateway, "k", &json!({ "policy": "long" })).unwrap().known.client;
    let ten = Bound { default: Some(10), max: Some(10), over: Over::Clamp };
    assert_eq!(max(&long.policy), ten);
    // Another key with the same has the same.
    let other = narrowed(&gateway, "other", &json!({ "policy": "long" })).unwrap().known.client;
    assert!(Rc::ptr_eq(&long.policy, &other.policy));
}

#[test]
fn a_key_has_limits_of_its_own_beside_its_clients() {
    let gateway = regional(&json!({ "models": ["gpt-4o"] }));
    let limits = json!({ "limits": [{ "tokens": 7, "per": "day" }, { "concurrent": 2 }] });
    let key = |name: &str| narrowed(&gateway, name, &limits).unwrap().known.client;
    let words = |client: &Client| {
        let (store, values) = (MemoryStore::default(), crate::value::Values::default());
        let budget = client.budget.of(&values);
        let inquiry =
            crate::limits::Inquiry { budget, model: None, operation: crate::endpoint::Operation::Limits };
        let report = crate::limits::read(Moment::new(&store, Duration::ZERO), &inquiry).unwrap();
        report.states.iter().map(|state| state.allowance.word.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(words(&key("k")), ["tokens/minute", "key/tokens/day", "key/concurrent"]);
    assert_eq!(key("k").budget, key("k").budget);
    assert_ne!(key("k").budget, key("other").budget);
}

#[test]
fn what_a_client_may_not_no_entry_gives_its_key() {
    let gateway = regional(&json!({ "models": ["gpt-4o*"], "regions": ["eu"], "priority": "normal" }));
    let beyond = |entry: Value, problem: &str| {
        let entry = narrowed(&gateway, "k", &entry).unwrap();
        assert_eq!(entry.beyond, [problem]);
        entry.known.client
    };
    let client = beyond(
        json!({ "models": ["mini", "o3"] }),
        "models[1]: \"o3\" is no model that its client may call: expected one of \"gpt-4o\", \"gpt-4o-mini\"",
    );
    assert_eq!(gateway.models_for(Some(&client)).count(), 1);
    let client = beyond(
        json!({ "regions": ["us", "eu"] }),
        "regions[0]: \"us\" is no region that may serve its client: expected \"eu\"",
    );
    assert_eq!(client.regions, Some(vec!["eu".into()]));
    let client = beyond(
        json!({ "priority": "high" }),
        "priority: \"high\" goes before its client, which has \"normal\"",
    );
    assert_eq!(client.priority, Priority::Normal);
}

#[test]
fn an_entry_that_leaves_nothing_cannot_be_used() {
    let gateway = regional(&json!({ "models": ["gpt-4o*"], "regions": ["eu"] }));
    for (entry, problem) in [
        (
            json!({ "models": ["o3"] }),
            "models: none that its client may call: expected one of \"gpt-4o\", \"gpt-4o-mini\"",
        ),
        (
            json!({ "models": [] }),
            "models: none that its client may call: expected one of \"gpt-4o\", \"gpt-4o-mini\"",
        ),
        (json!({ "regions": ["us"] }), "regions: none that may serve its client: expected \"eu\""),
        (
            json!({ "policy": "x" }),
            "policy: no policy is named \"x\": expected one of \"long\", \"naming\", \"p\", \"short\", \"streams\", \"watch\"",
        ),
        (json!({ "policy": "watch" }), "policy: \"watch\" only looks on: expected a policy that is enforced"),
        (
            json!({ "policy": "streams" }),
            "policy: \"streams\" and its client's policy allow nothing of stream together: expected a policy that leaves \
             something",
        ),
        (
            json!({ "limits": [{ "tokens": 1 }] }),
            "limits[0].per: missing: expected second, minute, hour, day, week or month",
        ),
        (
            json!({ "limits": [{ "cost": 1, "per": "day" }] }),
            "limits[0].cost: model \"gpt-4o-mini\" has no prices at backend \"b\": expected prices, or a limit with models \
             that all have them",
        ),
    ] {
        assert_eq!(narrowed(&gateway, "k", &entry).map(|_| ()), Err(problem.to_owned()));
    }
    let cost = json!({ "models": ["gpt-4o"], "limits": [{ "cost": 1, "per": "day" }] });
    assert!(narrowed(&gateway, "k", &cost).is_ok());
}
