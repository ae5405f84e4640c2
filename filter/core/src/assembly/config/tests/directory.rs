use super::*;
use crate::config::KeyEntry;
use crate::identity::Validity;
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
    assert_eq!(found.wait, Duration::from_millis(1300));
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
    refused(json!({}), "directory: missing field \"store\"");
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
            json!({ "client": "web", "models": ["*"] }),
            "models: unknown field, expected one of client, not_before, not_after, issued, note",
        ),
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
