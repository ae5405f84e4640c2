use super::*;
use crate::gateway::{FleetStore, OnStoreFailure, Secret};
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[track_caller]
fn refused(redis: Value, problem: &str) {
    check("/store", json!({ "redis": redis }), &[problem]);
}

#[test]
fn a_store_has_defaults_for_all_but_its_cluster() {
    assert_eq!(load(whole()).unwrap().store, None);
    let mut config = whole();
    config["store"] = json!({ "redis": { "cluster": "tollgate-store" } });
    let mut expected = FleetStore {
        cluster: "tollgate-store".to_owned(),
        path: "/redis".to_owned(),
        timeout: Duration::from_millis(250),
        prefix: "tollgate".to_owned(),
        database: 0,
        user: None,
        password: None,
        spend_days: None,
        envoys: 1,
    };
    assert_eq!(load(config.clone()).unwrap().store.as_deref(), Some(&expected));
    config["store"]["redis"] = json!({
        "cluster": "s", "path": "/r", "timeout_ms": 5000, "prefix": "eu:a-b_c.d", "database": 3, "user_env": "A",
        "password_env": "B",
    });
    config["store"]["envoys"] = json!(3);
    config["store"]["spend"] = json!({});
    expected = FleetStore {
        cluster: "s".to_owned(),
        path: "/r".to_owned(),
        timeout: Duration::from_secs(5),
        prefix: "eu:a-b_c.d".to_owned(),
        database: 3,
        user: Some(Secret("secret-A".to_owned())),
        password: Some(Secret("secret-B".to_owned())),
        spend_days: Some(400),
        envoys: 3,
    };
    let gateway = load(config).unwrap();
    assert_eq!(gateway.store.as_deref(), Some(&expected));
    assert!(!format!("{gateway:?}").contains("secret"));
}

#[test]
fn a_fault_of_a_store_names_its_field() {
    refused(json!({}), "store.redis: missing field \"cluster\"");
    refused(
        json!({ "cluster": "a b" }),
        "store.redis.cluster: \"a b\" is no name: expected 1 to 128 of letters, digits and . _ - : / @ +",
    );
    for path in ["redis", "", "/a b", "/a?b", "/a#b"] {
        let problem =
            format!("store.redis.path: {path:?}: expected a path that begins with /, without ? and #");
        refused(json!({ "cluster": "s", "path": path }), &problem);
    }
    for database in [1024, u64::MAX] {
        let problem = format!("store.redis.database: {database}: expected 0 to 1023");
        refused(json!({ "cluster": "s", "database": database }), &problem);
    }
    for timeout_ms in [9, 5001] {
        let problem = format!("store.redis.timeout_ms: {timeout_ms}: expected 10 to 5000");
        refused(json!({ "cluster": "s", "timeout_ms": timeout_ms }), &problem);
    }
    for prefix in ["", "a{b}", "a b", "ü", &"a".repeat(65)] {
        let problem =
            format!("store.redis.prefix: {prefix:?}: expected 1 to 64 of letters, digits and - _ . :");
        refused(json!({ "cluster": "s", "prefix": prefix }), &problem);
    }
    refused(
        json!({ "cluster": "s", "user_env": "A" }),
        "store.redis.user_env: without password_env: expected both, or password_env alone",
    );
    refused(
        json!({ "cluster": "s", "password_env": "NONE" }),
        "store.redis.password_env: environment variable \"NONE\" is not set: expected it in Envoy's environment and in \
         vm_config.environment_variables.host_env_keys of both Tollgate filters",
    );
    refused(
        json!({ "cluster": "s", "password": "x" }),
        "store.redis.password: unknown field, expected one of cluster, path, database, user_env, password_env, prefix, \
         region, timeout_ms",
    );
    for envoys in [0, 10_001] {
        let problem = format!("store.envoys: {envoys}: expected 1 to 10000");
        check("/store", json!({ "redis": { "cluster": "s" }, "envoys": envoys }), &[&problem]);
    }
    for days in [0, 3651] {
        let problem = format!("store.spend.days: {days}: expected 1 to 3650");
        check("/store", json!({ "redis": { "cluster": "s" }, "spend": { "days": days } }), &[&problem]);
    }
    check("/store", json!({}), &["store: missing field \"redis\""]);
}

#[test]
fn what_happens_without_an_answer_depends_on_the_store() {
    let found = |has_store: bool, word: Option<&str>| {
        let mut config = whole();
        if has_store {
            config["store"] = json!({ "redis": { "cluster": "s" } });
        }
        if let Some(word) = word {
            config["on_store_failure"] = json!(word);
        }
        load(config).map(|gateway| gateway.on_store_failure)
    };
    assert_eq!(found(false, None), Ok(OnStoreFailure::Allow));
    assert_eq!(found(true, None), Ok(OnStoreFailure::Share));
    assert_eq!(found(true, Some("share")), Ok(OnStoreFailure::Share));
    for has_store in [false, true] {
        assert_eq!(found(has_store, Some("allow")), Ok(OnStoreFailure::Allow));
        assert_eq!(found(has_store, Some("deny")), Ok(OnStoreFailure::Deny));
    }
    let problem =
        "on_store_failure: \"share\" needs a store, and there is none: expected \"allow\" or \"deny\"";
    assert_eq!(found(false, Some("share")), Err(vec![problem.to_owned()]));
}
