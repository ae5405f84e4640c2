use super::directory::{regional, regional_config};
use super::*;
use crate::capacity::Priority;
use crate::gateway::Client;
use crate::identity::KeyHash;
use crate::identity::issued::{Entry, Meaning, Problem, Said};
use crate::store::MemoryStore;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A configuration with a group and a limit by a header, beside which clients may come.
fn gateway() -> Gateway {
    regional(&json!({
        "models": ["*"],
        "limits": [{ "tokens": 1, "per": "day", "by": { "header": "X-User" } }],
    }))
}

fn heard(
    gateway: &Gateway,
    store: &MemoryStore,
    key: &Value,
    client: Option<(&str, Option<&Value>)>,
) -> Result<Meaning<Client>, Problem> {
    let (entry, text) = (key.to_string(), client.and_then(|(_, text)| text).map(ToString::to_string));
    let client = client.map(|(name, _)| (name, text.as_deref().map(str::as_bytes)));
    let said = Said { entry: entry.as_bytes(), client };
    gateway.clients.issued().unwrap().read(&KeyHash::of(b"k"), said, store)
}

/// The key of a client that stands in the store.
fn keyed(gateway: &Gateway, store: &MemoryStore, client: &Value) -> Result<Entry<Client>, Problem> {
    let name = client["name"].as_str().unwrap();
    match heard(gateway, store, &json!({ "client": name }), Some((name, Some(client))))? {
        Meaning::Whole(entry) => Ok(entry),
        Meaning::Lacks(client) => panic!("lacks {client:?}"),
    }
}

#[test]
fn a_client_of_the_store_is_as_it_would_be_if_configured() {
    let entry = json!({
        "name": "team", "models": ["gpt-4o"], "group": "sales", "policy": "short", "priority": "low", "regions": ["eu"],
        "limits": [{ "tokens": 7, "per": "day" }, { "cost": 1, "per": "month" }, { "requests": 3, "per": "minute", "by": "key" }],
        "policy_by_model": { "gpt-4o": "long" }, "audit_policy": ["watch"], "spill": "never", "operator": true,
        "endpoints": ["embeddings"], "held_bytes_max": 300_000_000,
    });
    let with = |clients: Vec<Value>| regional(&json!({ "models": ["*"], "more": clients }));
    let mut configured = entry.clone();
    configured["api_keys"] = json!([{ "sha256": "5".repeat(64) }]);
    let (configured, gateway) = (with(vec![configured]), with(vec![]));
    let found = keyed(&gateway, &MemoryStore::default(), &entry).unwrap().known.client;
    assert_eq!(found, configured.roster[1]);
    assert_eq!(found.priority, Priority::Low);
    // It shares its group's account with all others in it.
    let key = gateway.store.as_ref().unwrap().fleet().key("group/sales");
    let group = |client: &Client| client.budget.account(&key).unwrap();
    let account = gateway.account(&key).unwrap();
    assert!(Rc::ptr_eq(&group(&found), &account));
    assert!(gateway.shared_accounts().contains_key(&key));
}

#[test]
fn a_client_that_the_configuration_has_is_the_configured_one() {
    let (gateway, store) = (gateway(), MemoryStore::default());
    let entry = json!({ "name": "web", "models": ["o3"], "operator": true });
    let found = keyed(&gateway, &store, &entry).unwrap();
    assert!(Rc::ptr_eq(&found.known.whole, &gateway.roster[0]) && found.joined.is_none());
    assert!(gateway.joined.as_ref().unwrap().get("web").is_none());
}

#[test]
fn a_client_is_asked_for_by_the_name_that_its_key_has() {
    let (gateway, store) = (gateway(), MemoryStore::default());
    let (key, team) = (json!({ "client": "team" }), json!({ "name": "team", "models": ["*"] }));
    for client in [None, Some(("lab", None)), Some(("lab", Some(&team)))] {
        let found = heard(&gateway, &store, &key, client).unwrap();
        assert!(matches!(found, Meaning::Lacks(name) if &*name == "team"));
    }
    let absent = heard(&gateway, &store, &key, Some(("team", None))).map(|_| ());
    let problem = "client: no client of the configuration is named \"team\", and none of the store";
    assert_eq!(absent, Err(Problem::OfKey(problem.to_owned())));
}

#[test]
fn a_key_may_less_than_its_client_of_the_store_too() {
    let (gateway, store) = (gateway(), MemoryStore::default());
    let team = json!({ "name": "team", "models": ["gpt-4o*"], "policy": "long" });
    let narrowed = |policy: &str| {
        let key = json!({ "client": "team", "models": ["mini", "o3"], "policy": "short" });
        let mut team = team.clone();
        team["policy"] = json!(policy);
        match heard(&gateway, &store, &key, Some(("team", Some(&team)))).unwrap() {
            Meaning::Whole(entry) => entry,
            Meaning::Lacks(_) => panic!(),
        }
    };
    let found = narrowed("long");
    assert_eq!(found.beyond.len(), 1);
    assert_eq!(gateway.models_for(Some(&found.known.client)).count(), 1);
    let n = |entry: &Entry<Client>| entry.known.client.policy.n.map(|bound| bound.max);
    assert_eq!(n(&found), Some(Some(2)));
    // What its client was held to before holds no longer.
    assert_eq!(n(&narrowed("p")), None);
}

#[test]
fn a_fault_of_a_clients_entry_is_as_in_the_configuration() {
    let (gateway, store) = (gateway(), MemoryStore::default());
    for (more, problem) in [
        (json!({ "models": ["gpt-5"] }), ""),
        (json!({ "models": [] }), ""),
        (json!({ "group": "buyers" }), ""),
        (json!({ "policy": "none" }), ""),
        (json!({ "policy_by_model": { "o3": "none" } }), ""),
        (json!({ "regions": ["moon"] }), ""),
        (json!({ "limits": [{ "tokens": 0, "per": "day" }] }), ""),
        (json!({ "limits": [{ "cost": 1, "per": "day" }] }), ""),
        (json!({ "limits": [{ "tokens": 1, "per": "day", "by": { "claim": "sub" } }] }), ""),
        (json!({ "priority": "urgent" }), ""),
        (json!({ "held_bytes_max": 1 }), ""),
        (json!({ "modles": [] }), ""),
        (json!({ "endpoints": ["chat"] }), ""),
        (
            json!({ "api_keys": [{ "sha256": "0".repeat(64) }] }),
            "client.api_keys: a client of the store has issued keys: expected none, or a client of the configuration",
        ),
        (
            json!({ "may_act_for": ["*"] }),
            "client.may_act_for: a client of the store has issued keys: expected none, or a client of the configuration",
        ),
        (
            json!({ "limits": [{ "tokens": 1, "per": "day", "by": { "header": "x-other" } }] }),
            "client.limits[0].by.header: \"x-other\": expected a header that a limit of the configuration has: \"x-user\"",
        ),
        (
            json!({ "limits": [{ "tokens": 1, "per": "day", "alerts": [0.5] }] }),
            "client.limits[0].alerts: nobody is told of it: expected a limit of a client of the configuration",
        ),
        (json!({ "models": ["x".repeat(17_000)] }), "client: 17029 bytes: expected at most 16384"),
    ] {
        let mut entry = json!({ "name": "team", "models": ["*"] });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut configured = regional_config(&json!({ "models": ["*"], "more": [entry] }));
        configured["clients"][0]["limits"] =
            json!([{ "tokens": 1, "per": "day", "by": { "header": "X-User" } }]);
        let faults = load(configured).map(|_| ()).err().unwrap_or_default();
        let same: Vec<_> = faults.iter().map(|fault| fault.replacen("clients[1]", "client", 1)).collect();
        let expected = if problem.is_empty() { same.join("; ") } else { problem.to_owned() };
        let found = keyed(&gateway, &store, &entry).map(|_| ());
        assert_eq!(found, Err(Problem::OfClient(format!("\"team\": {expected}"), true)), "{entry}");
        // It is told once.
        assert!(matches!(keyed(&gateway, &store, &entry), Err(Problem::OfClient(_, false))));
    }
    let entry = json!({ "name": "team", "models": ["*"] });
    let found = heard(&gateway, &store, &json!({ "client": "lab" }), Some(("lab", Some(&entry)))).map(|_| ());
    let problem = "\"lab\": client.name: \"team\" stands as \"lab\"";
    assert_eq!(found, Err(Problem::OfClient(problem.to_owned(), true)));
}

#[test]
fn prices_are_looked_at_for_each_client_of_a_group() {
    let (gateway, store) =
        (regional(&json!({ "models": ["gpt-4o"], "group": "sales" })), MemoryStore::default());
    for name in ["one", "two"] {
        let entry = json!({ "name": name, "models": ["o3"], "group": "sales" });
        let found = keyed(&gateway, &store, &entry).map(|_| ());
        assert!(
            matches!(&found, Err(Problem::OfClient(text, true)) if text.contains("has no prices")),
            "{found:?}"
        );
    }
}

#[test]
fn a_client_is_the_same_as_long_as_its_entry_is() {
    let (gateway, store) = (gateway(), MemoryStore::default());
    let joined = gateway.joined.as_ref().unwrap();
    let mut entry = json!({ "name": "team", "models": ["*"], "limits": [{ "tokens": 7, "per": "day" }] });
    let first = keyed(&gateway, &store, &entry).unwrap().known.client;
    let again = keyed(&gateway, &store, &entry).unwrap().known.client;
    assert!(Rc::ptr_eq(&first, &again) && Rc::ptr_eq(&gateway.client("team").unwrap(), &first));
    let key = gateway.store.as_ref().unwrap().fleet().key("client/team");
    assert!(gateway.account(&key).is_some() && gateway.joined_account(&key).is_some());
    assert!(!gateway.is_whole(&first));
    entry["models"] = json!(["o3"]);
    let changed = keyed(&gateway, &store, &entry).unwrap().known.client;
    assert!(!Rc::ptr_eq(&first, &changed) && Rc::ptr_eq(&first.held_bytes, &changed.held_bytes));
    drop((first, again));
    assert!(gateway.client("team").is_some());
    // Nobody has a key of it any more.
    drop(changed);
    assert!(
        gateway.client("team").is_none() && gateway.account(&key).is_none() && joined.get("team").is_none()
    );
}

#[test]
fn no_more_clients_have_a_label_value_than_is_configured() {
    let store = MemoryStore::default();
    let worker_of = |clients_max: usize| {
        let mut config = regional_config(&json!({ "models": ["*"] }));
        config["metrics"] = json!({ "clients_max": clients_max });
        load(config).unwrap()
    };
    let worker = || worker_of(3);
    let (one, other) = (worker(), worker());
    let label = |gateway: &Gateway, name: &str| {
        let client = keyed(gateway, &store, &json!({ "name": name, "models": ["*"] })).unwrap().known.client;
        assert_eq!(&*client.name.text, name);
        client.name.label.to_string()
    };
    // One that cannot be used takes none.
    assert!(keyed(&one, &store, &json!({ "name": "broken", "models": [] })).is_err());
    // One is configured.
    assert_eq!([label(&one, "a"), label(&other, "b"), label(&one, "c")], ["a", "b", "other"]);
    // In all workers alike.
    assert_eq!([label(&other, "c"), label(&other, "a"), label(&one, "b")], ["other", "a", "b"]);
    assert_eq!((&*one.name_of("unheard").text, &*one.name_of("unheard").label), ("unheard", "other"));
    // Under a push that lets fewer have one the last lose theirs.
    let fewer = worker_of(2);
    assert_eq!([label(&fewer, "a"), label(&fewer, "b")], ["a", "other"]);
    store.break_with(Some(crate::store::StoreFault::Unavailable));
    assert_eq!(label(&worker(), "a"), "other");
}

#[test]
fn a_directory_needs_no_client_in_the_configuration() {
    let mut config = regional_config(&json!({ "models": ["*"] }));
    config["clients"] = json!([]);
    assert!(load(config.clone()).is_ok());
    config.as_object_mut().unwrap().remove("directory");
    assert_eq!(load(config).map(|_| ()).unwrap_err().len(), 1);
}

/// What clients of the store take of a worker's memory and time. Run it alone, in a release:
/// `cargo test --release -p tollgate --lib -- --ignored --nocapture a_hundred_thousand_clients`
#[cfg(target_os = "linux")]
#[test]
#[ignore = "it prints and decides nothing"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn a_hundred_thousand_clients_take_so_much() {
    use crate::endpoint::Api;
    use crate::identity::Identity;
    use std::time::{Duration, Instant};

    const CLIENTS: u32 = 100_000;
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    for (word, more) in [
        ("of least", json!({})),
        (
            "of a team",
            json!({
                "models": ["gpt-4o"], "group": "sales", "policy": "short", "regions": ["eu"],
                "limits": [{ "tokens": 5_000_000, "per": "day" }, { "requests": 600, "per": "minute" }],
            }),
        ),
    ] {
        let (gateway, store) = (regional(&json!({ "models": ["gpt-4o"] })), MemoryStore::default());
        let issued = gateway.clients.issued().unwrap();
        let (now, before) = (Duration::from_secs(1_795_000_000), resident());
        let moment = Moment::new(&store, now);
        let key = |number: u32| format!("tg-{number:064x}");
        let began = Instant::now();
        let mut bytes = 0;
        for number in 0..CLIENTS {
            let name = format!("team-{number}");
            let mut client = json!({ "name": name, "models": ["*"] });
            client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (entry, client) = (json!({ "client": name }).to_string(), client.to_string());
            bytes = client.len();
            let client = Some((name.as_str(), Some(client.as_bytes())));
            let said = Said { entry: entry.as_bytes(), client };
            issued.answered(KeyHash::of(key(number).as_bytes()), Some(said), moment).unwrap();
        }
        let (heard, taken) = (began.elapsed(), resident() - before);
        let began = Instant::now();
        let is_known = |number: &u32| {
            let bearer = format!("Bearer {}", key(*number));
            let headers = [("authorization", bearer.as_bytes())];
            let found = gateway.clients.identify(headers.into_iter(), "", Api::OpenAi, moment);
            matches!(found, Ok(Identity::Client(..)))
        };
        let known = (0..CLIENTS).rev().take(1000).filter(is_known).count();
        let asked = began.elapsed() / 1000;
        let is_alive = |number: &u32| gateway.client(&format!("team-{number}")).is_some();
        let all = (0..CLIENTS).filter(is_alive).count();
        println!(
            "{word}: an entry of {bytes} bytes; {all} of {CLIENTS} clients are known, of the last 1000 {known}; {taken} bytes, {} for each that \
             is known; {:?} to hear of one, {asked:?} to know it",
            taken / all as u64,
            heard / CLIENTS,
        );
    }
}
