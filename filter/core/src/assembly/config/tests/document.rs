use super::directory::regional_config;
use super::*;
use crate::config::check_document;
use crate::denial::Denial;
use crate::endpoint::Api;
use crate::gateway::Client;
use crate::identity::documented::Roster;
use crate::identity::fetched::Fetch;
use crate::identity::{Identity, KeyHash};
use crate::store::{MemoryStore, Moment};
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);

fn place() -> Value {
    json!({ "document": { "cluster": "c", "host": "clients.example", "path": "/clients.json" } })
}

/// A configuration beside which clients stand in a document.
fn config(more: &Value) -> Value {
    let mut config = regional_config(&json!({
        "models": ["*"], "api_keys": [{ "sha256": hash("web") }],
        "limits": [{ "tokens": 1, "per": "day", "by": { "header": "X-User" } }],
    }));
    config["directory"] = place();
    let document = config["directory"]["document"].as_object_mut().unwrap();
    document.extend(more.as_object().unwrap().clone());
    config
}

fn gateway() -> Gateway {
    load(config(&json!({}))).unwrap()
}

fn hash(key: &str) -> String {
    KeyHash::of(key.as_bytes()).hex()
}

/// A client with one key, which is its name.
fn client(name: &str, more: Value) -> Value {
    let mut client = json!({ "name": name, "models": ["gpt-4o"], "api_keys": [{ "sha256": hash(name) }] });
    client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client
}

fn document(clients: &[Value]) -> String {
    json!({ "clients": clients }).to_string()
}

fn read(gateway: &Gateway, document: &str) -> Result<Roster<Client>, Vec<String>> {
    let fetched = &gateway.clients.documented().unwrap().fetched;
    fetched.read(document.as_bytes(), &MemoryStore::default())
}

/// The source has this document now.
fn fetch(gateway: &Gateway, store: &MemoryStore, document: &str) -> &'static str {
    let fetched = &gateway.clients.documented().unwrap().fetched;
    fetched.settle(Moment::new(store, NOW), Fetch::Body(document.as_bytes()), None).unwrap().word()
}

fn ask(gateway: &Gateway, store: &MemoryStore, key: &str) -> Result<String, Denial> {
    let headers = [("api-key", key.as_bytes())];
    match gateway.clients.identify(headers.into_iter(), "", Api::OpenAi, Moment::new(store, NOW))? {
        Identity::Client(client, _) => Ok(client.name.text.to_string()),
        Identity::Unknown(_) => Ok("waits".to_owned()),
    }
}

#[test]
fn a_document_is_fetched_as_is_configured() {
    let gateway = gateway();
    let documented = gateway.clients.documented().unwrap();
    let origin = &documented.fetched.origin;
    let seconds = Duration::from_secs;
    assert_eq!((origin.refresh, origin.timeout, origin.wait), (seconds(10), seconds(5), seconds(3)));
    assert_eq!((documented.stale, gateway.clients.issued().is_none()), (None, true));
    let more = json!({ "refresh_s": 60, "timeout_ms": 100, "wait_ms": 0, "stale_s": 61 });
    let gateway = load(config(&more)).unwrap();
    let documented = gateway.clients.documented().unwrap();
    assert_eq!((documented.fetched.origin.refresh, documented.stale), (seconds(60), Some(seconds(121))));
    for (more, problem) in [
        (json!({ "refresh_s": 0 }), "refresh_s: 0: expected 1 to 604800"),
        (json!({ "stale_s": 9 }), "stale_s: 9: expected 10 to 31536000"),
        (json!({ "path": "clients" }), "path: \"clients\": expected a path that begins with /"),
        (json!({ "host": "" }), "host: \"\": expected a host name"),
    ] {
        let expected = vec![format!("directory.document.{problem}")];
        assert_eq!(load(config(&more)).map(|_| ()), Err(expected));
    }
    // Nobody can issue a key of a client of the configuration.
    let mut keyless = config(&json!({}));
    keyless["clients"][0].as_object_mut().unwrap().remove("api_keys");
    let faults = load(keyless).map(|_| ()).unwrap_err();
    assert!(faults.len() == 1 && faults[0].starts_with("clients[0]: nobody is this client"), "{faults:?}");
    let mut nobody = config(&json!({}));
    nobody["clients"] = json!([]);
    assert!(load(nobody).is_ok());
    let mut both = config(&json!({}));
    both["directory"]["store"] = json!({});
    let problem = "directory: expected exactly one of store, document";
    assert_eq!(load(both).map(|_| ()), Err(vec![problem.to_owned()]));
}

#[test]
fn a_client_of_a_document_is_as_it_would_be_if_configured() {
    let entry = client(
        "team",
        json!({
            "group": "sales", "policy": "short", "priority": "low", "regions": ["eu"], "operator": true,
            "limits": [{ "tokens": 7, "per": "day" }, { "requests": 3, "per": "minute", "by": "key" }],
            "policy_by_model": { "gpt-4o": "long" }, "endpoints": ["embeddings"], "spill": "never",
        }),
    );
    let mut configured = config(&json!({}));
    configured["clients"].as_array_mut().unwrap().push(entry.clone());
    let configured_text = configured.clone();
    let (configured, gateway, store) = (load(configured).unwrap(), gateway(), MemoryStore::default());
    assert_eq!(fetch(&gateway, &store, &document(std::slice::from_ref(&entry))), "changed");
    assert_eq!(ask(&gateway, &store, "team").as_deref(), Ok("team"));
    let found = gateway.client("team").unwrap();
    assert_eq!(found, configured.roster[1]);
    // Without a store its budget is this process's own, as theirs are.
    let alone = |mut config: Value| {
        config.as_object_mut().unwrap().remove("store");
        load(config).unwrap()
    };
    let (configured_alone, gateway_alone) = (alone(configured_text), alone(config(&json!({}))));
    assert_eq!(
        fetch(&gateway_alone, &MemoryStore::default(), &document(std::slice::from_ref(&entry))),
        "changed"
    );
    assert_eq!(gateway_alone.client("team").unwrap(), configured_alone.roster[1]);
    assert!(gateway_alone.client("team").unwrap().budget.shared().next().is_none());
    // It shares its group's account with all others in it, and is found where what it spent is settled.
    let key = gateway.store.as_ref().unwrap().fleet().key("group/sales");
    let account = found.budget.account(&key).unwrap();
    assert!(Rc::ptr_eq(&account, &gateway.account(&key).unwrap()));
    let own = found.budget.shared().next().unwrap().key().to_owned();
    assert!(gateway.joined_account(&own).is_some());
}

#[test]
fn clients_come_change_and_go_with_the_document() {
    let (gateway, store) = (gateway(), MemoryStore::default());
    assert_eq!(ask(&gateway, &store, "team").as_deref(), Ok("waits"));
    // The configuration's own keys need no document.
    assert_eq!(ask(&gateway, &store, "web").as_deref(), Ok("web"));
    assert_eq!(fetch(&gateway, &store, &document(&[client("team", json!({}))])), "changed");
    assert_eq!(ask(&gateway, &store, "team").as_deref(), Ok("team"));
    assert_eq!(ask(&gateway, &store, "lab"), Err(Denial::UnknownCredential));
    let before = gateway.client("team").unwrap();
    // One that is as it was is the same; one that has changed holds what it held.
    let both = [client("team", json!({})), client("lab", json!({}))];
    assert_eq!(fetch(&gateway, &store, &document(&both)), "changed");
    assert!(Rc::ptr_eq(&before, &gateway.client("team").unwrap()));
    let changed = [client("team", json!({ "models": ["o3"] })), client("lab", json!({}))];
    assert_eq!(fetch(&gateway, &store, &document(&changed)), "changed");
    let after = gateway.client("team").unwrap();
    assert!(!Rc::ptr_eq(&before, &after) && Rc::ptr_eq(&before.held_bytes, &after.held_bytes));
    assert_eq!(fetch(&gateway, &store, &document(&changed[1..])), "changed");
    assert_eq!(ask(&gateway, &store, "team"), Err(Denial::UnknownCredential));
    assert_eq!(ask(&gateway, &store, "lab").as_deref(), Ok("lab"));
    assert_eq!(fetch(&gateway, &store, &document(&[])), "changed");
    assert_eq!(ask(&gateway, &store, "lab"), Err(Denial::UnknownCredential));
    assert_eq!(ask(&gateway, &store, "web").as_deref(), Ok("web"));
}

#[test]
fn a_document_with_a_fault_changes_nothing() {
    let (gateway, store) = (gateway(), MemoryStore::default());
    let good = client("team", json!({}));
    assert_eq!(fetch(&gateway, &store, &document(std::slice::from_ref(&good))), "changed");
    let before = gateway.client("team").unwrap();
    let faulty =
        [client("team", json!({ "models": ["o3"] })), client("lab", json!({ "models": ["gpt-99"] }))];
    assert_eq!(fetch(&gateway, &store, &document(&faulty)), "unusable");
    assert!(Rc::ptr_eq(&before, &gateway.client("team").unwrap()));
    assert_eq!(ask(&gateway, &store, "team").as_deref(), Ok("team"));
    assert_eq!(ask(&gateway, &store, "lab"), Err(Denial::UnknownCredential));
    let problem = gateway.clients.documented().unwrap().fetched.take_problem().unwrap();
    assert!(problem.starts_with("clients[1].models[0]: no model is named \"gpt-99\""), "{problem}");
}

#[test]
fn all_faults_of_a_document_are_told_at_their_paths() {
    let gateway = gateway();
    let mut nobody = client("nobody", json!({ "policy": "x" }));
    nobody["api_keys"] = json!([]);
    let clients = [
        client("web", json!({ "api_keys": [{ "sha256": hash("web") }] })),
        client("a", json!({ "api_keys": [{ "sha256": hash("a") }, { "sha256": "5" }], "anonymous": true })),
        client("a", json!({})),
        nobody,
        client(
            "é",
            json!({ "limits": [{ "tokens": 1, "per": "day", "by": { "header": "X-Team" } }, { "cost": 1, "per": "day", "alerts": [0.5] }] }),
        ),
    ];
    let faults = read(&gateway, &document(&clients)).map(|_| ()).unwrap_err();
    let expected = [
        "clients[0].name: \"web\" is a client of the configuration",
        "clients[0].api_keys[0].sha256: is a key of client \"web\" already",
        "clients[1].anonymous: a client of the document has api_keys: expected none, or a client of the configuration",
        "clients[1].api_keys[1].sha256: expected the 64 hexadecimal digits of the key's SHA-256",
        "clients[2].name: \"a\" stands more than once",
        "clients[2].api_keys[0].sha256: is a key of client \"a\" already",
        "clients[3]: nobody is this client: expected at least one of api_keys",
        "clients[4].name: \"é\" is no name: expected 1 to 128 of letters, digits and . _ - : / @ +",
        "clients[3].policy: no policy is named \"x\": expected one of \"long\", \"naming\", \"p\", \"short\", \"streams\", \
         \"watch\"",
        "clients[4].limits[0].by.header: \"X-Team\": expected a header that a limit of the configuration has: \"x-user\"",
        "clients[4].limits[1].alerts: nobody is told of it: expected a limit of a client of the configuration",
    ];
    assert_eq!(faults, expected);
    // Without a configuration those that need none are told.
    let alone = check_document(document(&clients).as_bytes()).unwrap_err();
    assert_eq!(alone, [&expected[2..4], &expected[4..8]].concat());
    assert_eq!(check_document(document(&[client("a", json!({}))]).as_bytes()), Ok(vec!["a".to_owned()]));
}

#[test]
fn what_is_no_document_is_refused() {
    let gateway = gateway();
    let many: Vec<_> = (0..10_001).map(|at| client(&format!("c{at}"), json!({}))).collect();
    for (document, problem) in [
        ("{}".to_owned(), "document: missing field \"clients\""),
        (json!({ "clients": [], "groups": [] }).to_string(), "groups: unknown field, expected clients"),
        (document(&[json!({ "name": "a" })]), "clients[0]: missing field \"models\""),
        (
            document(&[client("a", json!({ "limit": 1 }))]),
            "clients[0].limit: unknown field, expected one of name",
        ),
        ("[".to_owned(), "document: EOF while parsing"),
        (document(&many), "clients: 10001 entries, at most 10000 are possible"),
        (" ".repeat(2_097_153), "document: 2097153 bytes: expected at most 2097152"),
    ] {
        let found = read(&gateway, &document).map(|_| ()).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
    }
}
