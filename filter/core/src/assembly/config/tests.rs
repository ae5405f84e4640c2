mod capacity;
mod directory;
mod document;
mod identity;
mod joined;
mod keyless;
mod limits;
mod models;
mod passing;
mod pinning;
mod policies;
mod prices;
mod queue;
mod spill;
mod store;

use super::*;
use crate::ledger::Name;
use crate::policy::{Bound, Over};
use crate::prices::Rates;
use crate::store::Moment;
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn whole() -> Value {
    json!({
        "clients": [{
            "name": "web",
            "api_keys": [{ "sha256": "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683" }],
            "models": ["gpt-4o-2024-08-06"],
            "policy": "p",
            "limits": [{ "tokens": 100, "per": "minute" }],
        }],
        "policies": [{ "name": "p", "max_tokens": { "max": 10, "over": "clamp" } }],
        "models": [{
            "name": "gpt-4o",
            "aliases": ["gpt-4o-2024-08-06"],
            "backends": [
                { "backend": "b", "deployment": "d", "priority": 1 },
                { "backend": "a", "deployment": "x" },
            ],
        }],
        "backends": [
            { "name": "a", "cluster": "ca", "style": "azure", "api_version": "2024-10-21",
              "credential": { "header": "api-key", "env": "A" } },
            { "name": "b", "cluster": "cb", "style": "openai",
              "credential": { "header": "Authorization", "env": "B" } },
        ],
    })
}

fn known(gateway: &Gateway) -> Rc<crate::gateway::Client> {
    let store = crate::store::MemoryStore::default();
    let headers = [("api-key", &b"key"[..])].into_iter();
    gateway
        .clients
        .identify(headers, "", crate::endpoint::Api::OpenAi, Moment::new(&store, std::time::Duration::ZERO))
        .unwrap()
        .client()
        .unwrap()
}

fn load(value: Value) -> Result<Gateway, Vec<String>> {
    let env = |name: &str| ["A", "B"].contains(&name).then(|| format!("secret-{name}\n"));
    from_value(value, &env).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn a_whole_configuration_is_resolved() {
    let gateway = load(whole()).unwrap();
    let client = known(&gateway);
    assert_eq!(client.name, Name::new("web"));
    assert_eq!(client.policy.max_tokens, Some(Bound { default: Some(10), max: Some(10), over: Over::Clamp }));
    let model = gateway.model(&client, "gpt-4o").unwrap();
    assert_eq!(gateway.model(&client, "gpt-4o-2024-08-06"), Ok(model.clone()));
    let order: Vec<_> =
        model.targets.iter().map(|target| (&*target.backend.cluster, &*target.deployment)).collect();
    assert_eq!(order, [("ca", "x"), ("cb", "d")]);
    let values: Vec<_> = model
        .targets
        .iter()
        .map(|target| target.backend.credential.as_ref().unwrap())
        .map(|credential| (credential.header.as_str(), credential.value.value().unwrap()))
        .collect();
    assert_eq!(values, [("api-key", "secret-A".into()), ("authorization", "Bearer secret-B".into())]);
    assert_eq!(gateway.credential_headers, ["api-key", "authorization"]);
    assert!(!format!("{gateway:?}").contains("secret"));
}

/// Sets the value at a JSON pointer (or removes it) and answers the errors.
#[track_caller]
fn check(pointer: &str, value: Value, expected: &[&str]) {
    let mut config = whole();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(object), Value::Null) => {
            object.remove(name);
        }
        (Value::Object(object), value) => {
            object.insert(name.to_owned(), value);
        }
        (Value::Array(array), value) => {
            let at: usize = name.parse().unwrap();
            array.resize(array.len().max(at + 1), Value::Null);
            array[at] = value;
        }
        _ => panic!("{pointer} has no parent"),
    }
    assert_eq!(load(config).unwrap_err(), expected);
}

#[test]
fn a_fault_in_the_shape_names_its_path() {
    check(
        "/clients/0/token_per_minute",
        json!(1),
        &[
            "clients[0].token_per_minute: unknown field, expected one of name, api_keys, jwt, certificate, trusted_header, anonymous, models, endpoints, policy, audit_policy, policy_by_model, group, limits, priority, spill, regions, operator, may_act_for, held_bytes_max",
        ],
    );
    check("/clients/0/name", Value::Null, &["clients[0]: missing field \"name\""]);
    check("/clients", Value::Null, &["configuration: missing field \"clients\""]);
    check(
        "/clients/0/limits/0/tokens",
        json!(-1),
        &["clients[0].limits[0].tokens: invalid value: integer \"-1\", expected u64"],
    );
    check(
        "/clients/0/limits/0/per",
        json!("fortnight"),
        &[
            "clients[0].limits[0].per: unknown variant \"fortnight\", expected one of \"second\", \"minute\", \"hour\", \"day\", \"week\", \"month\"",
        ],
    );
    check(
        "/models/0/backends/0/backend",
        json!(7),
        &["models[0].backends[0].backend: invalid type: integer \"7\", expected a string"],
    );
}

#[test]
fn a_name_that_leads_nowhere_says_which_there_are() {
    check(
        "/models/0/backends/0/backend",
        json!("azure"),
        &["models[0].backends[0].backend: no backend is named \"azure\": expected one of \"a\", \"b\""],
    );
    check("/clients/0/policy", json!("q"), &["clients[0].policy: no policy is named \"q\": expected \"p\""]);
    check(
        "/clients/0/models/0",
        json!("gpt-5"),
        &[
            "clients[0].models[0]: no model is named \"gpt-5\": expected one of \"*\", \"gpt-4o\", \"gpt-4o-2024-08-06\"",
        ],
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    check("/clients", json!([]), &["clients: empty: expected at least one client, or nobody can call"]);
    check(
        "/clients/0/models",
        json!([]),
        &["clients[0].models: empty: expected at least one model, or \"*\" for all"],
    );
    check(
        "/clients/0/api_keys/0/sha256",
        json!("key"),
        &["clients[0].api_keys[0].sha256: expected the 64 hexadecimal digits of the key's SHA-256"],
    );
    check(
        "/clients/1",
        whole()["clients"][0].clone(),
        &[
            "clients[1].name: \"web\" stands more than once",
            "clients[1].api_keys[0].sha256: is a key of client \"web\" already",
        ],
    );
    check("/clients/0/limits/0/tokens", json!(0), &["clients[0].limits[0].tokens: 0: expected at least 1"]);
    check(
        "/clients/0/name",
        json!("a;b"),
        &["clients[0].name: \"a;b\" is no name: expected 1 to 128 of letters, digits and . _ - : / @ +"],
    );
    check(
        "/policies/0/max_tokens/default",
        json!(11),
        &["policies[0].max_tokens.default: 11 is above max, which is 10"],
    );
    check("/policies/0/max_tokens/max", json!(0), &["policies[0].max_tokens.max: 0: expected at least 1"]);
    check(
        "/policies/0/request_bytes_max",
        json!(0),
        &["policies[0].request_bytes_max: 0: expected 1 to 268435456"],
    );
    check(
        "/clients/0/held_bytes_max",
        json!(999),
        &["clients[0].held_bytes_max: 999: expected 4194304, its longest `request_bytes_max`, to 1073741824"],
    );
    check("/models/0/backends", json!([]), &["models[0].backends: empty: expected at least one backend"]);
    check(
        "/models/0/backends/0",
        json!({ "backend": "a", "deployment": "x", "priority": 1 }),
        &[
            "models[0].backends[1].backend: \"a\" stands more than once with deployment \"x\": expected another deployment each \
           time",
        ],
    );
    check(
        "/models/0/backends/1/deployment",
        json!("a/b"),
        &[
            "models[0].backends[1].deployment: \"a/b\": expected letters, digits and . _ - ~, for it stands in a path",
        ],
    );
    check(
        "/models/0/aliases/0",
        json!("gpt-4o"),
        &[
            "models[0].aliases[0]: \"gpt-4o\" names a model already",
            "clients[0].models[0]: no model is named \"gpt-4o-2024-08-06\": expected one of \"*\", \"gpt-4o\"",
        ],
    );
    check(
        "/backends/0/api_version",
        Value::Null,
        &["backends[0].api_version: missing: style azure needs one, for example \"2024-10-21\""],
    );
    check(
        "/backends/0/api_version",
        json!("latest"),
        &["backends[0].api_version: \"latest\": expected YYYY-MM-DD or YYYY-MM-DD-preview"],
    );
    check(
        "/backends/1/api_version",
        json!("2024-10-21"),
        &["backends[1].api_version: only style azure has one"],
    );
    for wrong in ["", "/", "v1", "/v1/", "//v1", "/a/../v1", "/a%2fb", "/a?b", "/a b"] {
        let problem = format!(
            "backends[1].base_path: {wrong:?}: expected /NAME/NAME of at most 256 bytes, its names of letters, digits and . _ - ~"
        );
        check("/backends/1/base_path", json!(wrong), &[&problem]);
    }
    check(
        "/backends/1/cluster",
        json!("ca"),
        &["backends[1].cluster: backends[0] has cluster \"ca\" too: expected one cluster for each backend"],
    );
    check(
        "/backends/0/credential/header",
        json!("x"),
        &["backends[0].credential.header: \"x\": expected api-key, x-api-key or authorization"],
    );
    check(
        "/backends/0/credential/env",
        json!("C"),
        &[
            "backends[0].credential.env: environment variable \"C\" is not set: expected it in Envoy's environment and in \
         vm_config.environment_variables.host_env_keys of both Tollgate filters",
        ],
    );
}

/// The same for all tokens sent, and for all produced.
fn rates(prompt: u64, completion: u64) -> Rates {
    Rates {
        prompt,
        cached: prompt,
        cache_write: prompt,
        prompt_audio: prompt,
        prompt_image: prompt,
        completion,
        completion_audio: completion,
        completion_image: completion,
    }
}

#[test]
fn a_fraction_may_come_as_the_text_that_envoy_makes_of_it() {
    let mut config = whole();
    config["models"][0]["prices"] = json!({ "prompt": "2.50", "cached": "1.25e-1", "completion": "10.0" });
    let prices = load(config).unwrap().models[0].targets[0].prices.clone().unwrap();
    assert_eq!(prices.default.rates, Rates { cached: 125_000, ..rates(2_500_000, 10_000_000) });
    for text in ["10", "", ".", "e", "1.5 ", "1e999", "inf", "0x1.8"] {
        let problem = format!("models[0].prices.prompt: invalid type: string {text:?}, expected f64");
        check("/models/0/prices", json!({ "prompt": text }), &[&problem]);
    }
}

#[test]
fn names_beyond_the_bound_share_a_label() {
    let mut config = whole();
    config["metrics"] = json!({ "clients_max": 0, "models_max": 1 });
    let gateway = load(config).unwrap();
    let client = known(&gateway);
    assert_eq!((&*client.name.text, &*client.name.label), ("web", "other"));
    assert_eq!(&*gateway.models[0].name.label, "gpt-4o");
}

#[test]
fn all_faults_are_told_at_once() {
    let mut config = whole();
    config["clients"][0]["policy"] = json!("q");
    config["backends"][0]["cluster"] = json!("");
    assert_eq!(load(config).unwrap_err().len(), 2);
}

#[test]
fn what_is_no_json_is_refused() {
    let errors = from_json(b"clients: []", &|_| None).unwrap_err();
    assert_eq!(errors[0].to_string(), "configuration: expected value at line 1 column 1");
}
