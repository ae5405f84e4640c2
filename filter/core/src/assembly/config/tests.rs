use super::*;
use crate::allowance::Weights;
use crate::number::Decimal;
use crate::policy::{
    Bound, EFFORTS, Levels, Mode, Over, Permission, Policy, PromptBounds, QUALITIES, Quota, Range, SIZES,
    Streaming, Unknown,
};
use crate::prices::{Above, Prices, Rates};
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
    gateway.clients.identify(headers, "", &store, std::time::Duration::ZERO).unwrap().client().unwrap()
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
        .map(|credential| (credential.header.as_str(), credential.value.as_str()))
        .collect();
    assert_eq!(values, [("api-key", "secret-A"), ("authorization", "Bearer secret-B")]);
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
            "clients[0].token_per_minute: unknown field, expected one of name, api_keys, jwt, certificate, trusted_header, anonymous, models, endpoints, policy, policy_by_model, group, limits, priority, regions, operator, held_bytes_max",
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
        "/models/0/backends/0/backend",
        json!("a"),
        &["models[0].backends[1].backend: \"a\" stands more than once"],
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
    check(
        "/backends/1/cluster",
        json!("ca"),
        &["backends[1].cluster: backends[0] has cluster \"ca\" too: expected one cluster for each backend"],
    );
    check(
        "/backends/0/credential/header",
        json!("x"),
        &["backends[0].credential.header: \"x\": expected api-key or authorization"],
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

#[test]
fn a_policy_says_all_that_it_can() {
    let mut config = whole();
    config["policies"][0] = json!({
        "name": "p",
        "mode": "audit",
        "max_tokens": { "default": 5, "max": 10, "over": "clamp" },
        "n": { "max": 2, "over": "clamp" },
        "best_of": { "max": 3 },
        "temperature": { "min": 0, "max": 1, "over": "clamp" },
        "top_p": { "min": 0.1 },
        "logprobs": "forbid",
        "top_logprobs": { "max": 5, "over": "clamp" },
        "echo": "drop",
        "logit_bias": { "max": 10 },
        "seed": "forbid",
        "tools": {
            "max": 16, "types": ["function", "mcp"], "mcp_hosts": ["a.com", "*.b.com"], "mcp_connectors": ["c"],
        },
        "data_sources": { "types": ["azure_search"] },
        "max_tool_calls": { "default": 3, "max": 5, "over": "clamp" },
        "response_format": ["text", "json_object", "json_schema"],
        "image_parts": { "max": 4 },
        "audio_parts": "forbid",
        "file_parts": "allow",
        "stream": "force",
        "store": "forbid",
        "background": "drop",
        "service_tier": ["auto", "default"],
        "reasoning_effort": { "allowed": ["minimal", "low"], "over": "clamp", "default": "low" },
        "reasoning_mode": ["standard"],
        "verbosity": { "order": ["low", "high", "epic"], "default": "high" },
        "context_management": "drop",
        "safety_identifier": "forbid",
        "prompt_cache_key": "drop",
        "prompt_cache_retention": ["in_memory"],
        "prompt_cache_options": "forbid",
        "size": { "allowed": ["512x512", "1024x1024"], "over": "clamp", "default": "512x512" },
        "quality": { "allowed": ["low"] },
        "unknown_fields": "audit",
        "allowed_fields": ["top_k", "min-p.1"],
        "prompt": { "bytes_max": 1, "messages_max": 2, "tokens_max": 3 },
        "request_bytes_max": 1000,
    });
    let bound = |default, max, over| Some(Bound { default, max: Some(max), over });
    let decimal = |value| Decimal::new(value);
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let expected = Policy {
        mode: Mode::Audit,
        max_tokens: bound(Some(5), 10, Over::Clamp),
        n: bound(None, 2, Over::Clamp),
        best_of: bound(None, 3, Over::Reject),
        temperature: Some(Range { min: decimal(0.0), max: decimal(1.0), over: Over::Clamp }),
        top_p: Some(Range { min: decimal(0.1), max: None, over: Over::Reject }),
        logprobs: Permission::Forbid,
        top_logprobs: bound(None, 5, Over::Clamp),
        echo: Permission::Drop,
        logit_bias: Quota::Max(10),
        seed: Permission::Forbid,
        tools: Quota::Max(16),
        tool_types: words(&["function", "mcp"]),
        mcp_hosts: words(&["a.com", "*.b.com"]),
        mcp_connectors: words(&["c"]),
        data_sources: Permission::Allow,
        data_source_types: words(&["azure_search"]),
        max_tool_calls: bound(Some(3), 5, Over::Clamp),
        response_format: Some(["text", "json_object", "json_schema"].map(str::to_owned).to_vec()),
        image_parts: Quota::Max(4),
        audio_parts: Quota::Forbid,
        file_parts: Quota::Allow,
        stream: Streaming::Force,
        store: Permission::Forbid,
        background: Permission::Drop,
        service_tier: Some(["auto", "default"].map(str::to_owned).to_vec()),
        reasoning_effort: Some(Levels {
            order: EFFORTS.map(str::to_owned).to_vec(),
            allowed: ["minimal", "low"].map(str::to_owned).to_vec(),
            over: Over::Clamp,
            default: Some("low".to_owned()),
        }),
        reasoning_mode: words(&["standard"]),
        verbosity: Some(Levels {
            order: ["low", "high", "epic"].map(str::to_owned).to_vec(),
            allowed: ["low", "high", "epic"].map(str::to_owned).to_vec(),
            over: Over::Reject,
            default: Some("high".to_owned()),
        }),
        context_management: Permission::Drop,
        safety_identifier: Permission::Forbid,
        prompt_cache_key: Permission::Drop,
        prompt_cache_retention: words(&["in_memory"]),
        prompt_cache_options: Permission::Forbid,
        size: Some(Levels {
            order: SIZES.map(str::to_owned).to_vec(),
            allowed: ["512x512", "1024x1024"].map(str::to_owned).to_vec(),
            over: Over::Clamp,
            default: Some("512x512".to_owned()),
        }),
        quality: Some(Levels {
            order: QUALITIES.map(str::to_owned).to_vec(),
            allowed: ["low"].map(str::to_owned).to_vec(),
            over: Over::Reject,
            default: None,
        }),
        unknown_fields: Unknown::Audit,
        allowed_fields: ["top_k", "min-p.1"].map(str::to_owned).to_vec(),
        prompt: PromptBounds { bytes_max: Some(1), messages_max: Some(2), tokens_max: Some(3) },
        request_bytes_max: 1000,
    };
    let gateway = load(config).unwrap();
    let client = known(&gateway);
    assert_eq!(*client.policy, expected);
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused() {
    let faults = [
        ("temperature", json!({}), "temperature: expected min or max, a finite number"),
        ("top_p", json!({ "min": 0.5, "max": 0.25 }), "top_p.min: 0.5 is above max, which is 0.25"),
        ("tools", json!({ "max": 0 }), "tools.max: 0: expected at least 1, or \"forbid\" in its place"),
        (
            "tools",
            json!("none"),
            "tools: unknown variant \"none\", expected one of \"allow\", \"forbid\", \"max\", \"types\", \"mcp_hosts\", \"mcp_connectors\"",
        ),
        ("allowed_fields", json!(["a", "a"]), "allowed_fields[1]: \"a\" stands more than once"),
        (
            "allowed_fields",
            json!(["a b"]),
            "allowed_fields[0]: \"a b\": expected 1 to 64 letters, digits, - _ and .",
        ),
        (
            "allowed_fields",
            json!(["a".repeat(65)]),
            &format!(
                "allowed_fields[0]: \"{}\": expected 1 to 64 letters, digits, - _ and .",
                "a".repeat(65)
            ),
        ),
        (
            "allowed_fields",
            json!([""]),
            "allowed_fields[0]: \"\": expected 1 to 64 letters, digits, - _ and .",
        ),
        (
            "allowed_fields",
            json!((0..65).map(|at| format!("a{at}")).collect::<Vec<_>>()),
            "allowed_fields: 65 of them: expected at most 64",
        ),
        ("service_tier", json!([]), "service_tier: empty: expected at least one that is allowed"),
        (
            "response_format",
            json!(["json"]),
            "response_format[0]: unknown variant \"json\", expected one of \"text\", \"json_object\", \"json_schema\"",
        ),
        (
            "reasoning_effort",
            json!({ "allowed": ["low"], "default": "high" }),
            "reasoning_effort.default: \"high\" is not among allowed",
        ),
        (
            "reasoning_effort",
            json!({ "allowed": ["low", "ultra"] }),
            "reasoning_effort.allowed[1]: \"ultra\" is not in order: expected one of \"none\", \"minimal\", \"low\", \
             \"medium\", \"high\", \"xhigh\", \"max\"",
        ),
        ("verbosity", json!({ "order": ["a", "b", "a"] }), "verbosity.order[2]: \"a\" stands more than once"),
        (
            "verbosity",
            json!({ "order": ["a\""] }),
            "verbosity.order[0]: \"a\\\"\": expected 1 to 32 letters, digits, - _ and .",
        ),
        ("verbosity", json!({ "order": [] }), "verbosity.order: expected 1 to 32 words"),
        ("tools", json!({}), "tools: expected max, types, mcp_hosts or mcp_connectors"),
        ("tools", json!({ "types": [] }), "tools.types: empty: expected at least one that is allowed"),
        (
            "tools",
            json!({ "mcp_hosts": ["https://a.com"] }),
            "tools.mcp_hosts[0]: \"https://a.com\": expected a host's name in lower case, as mcp.example.com or \
             *.example.com",
        ),
        (
            "tools",
            json!({ "hosts": ["a.com"] }),
            "tools.hosts: unknown field, expected one of max, types, mcp_hosts, mcp_connectors",
        ),
        (
            "data_sources",
            json!({ "types": [] }),
            "data_sources.types: empty: expected at least one that is allowed",
        ),
        ("max_tool_calls", json!({ "max": 0 }), "max_tool_calls.max: 0: expected at least 1"),
        (
            "unknown_fields",
            json!("drop"),
            "unknown_fields: unknown variant \"drop\", expected one of \"pass\", \"refuse\", \"audit\"",
        ),
        ("prompt", json!({ "tokens_max": 0 }), "prompt.tokens_max: 0: expected at least 1"),
        ("top_logprobs", json!({ "max": 0 }), "top_logprobs.max: 0: expected at least 1"),
        ("mode", json!("off"), "mode: unknown variant \"off\", expected \"enforce\" or \"audit\""),
        (
            "echo",
            json!("never"),
            "echo: unknown variant \"never\", expected one of \"allow\", \"forbid\", \"drop\"",
        ),
    ];
    for (field, value, expected) in faults {
        check(&format!("/policies/0/{field}"), value, &[&format!("policies[0].{expected}")]);
    }
}

#[test]
fn a_model_may_have_a_policy_of_its_own() {
    let mut config = whole();
    config["policies"] =
        json!([{ "name": "p", "request_bytes_max": 5 }, { "name": "q", "request_bytes_max": 7 }]);
    config["clients"][0]["policy_by_model"] = json!({ "gpt-4o-2024-08-06": "q" });
    let gateway = load(config).unwrap();
    let client = known(&gateway);
    let model = gateway.model(&client, "gpt-4o").unwrap();
    assert_eq!(client.policy(&model).request_bytes_max, 7);
    assert_eq!((client.policy.request_bytes_max, client.request_bytes_max()), (5, 7));
    check(
        "/clients/0/policy_by_model",
        json!({ "gpt-4o": "q", "x": "p" }),
        &[
            "clients[0].policy_by_model.gpt-4o: no policy is named \"q\": expected \"p\"",
            "clients[0].policy_by_model.x: no model is named \"x\": expected one of \"gpt-4o\", \"gpt-4o-2024-08-06\"",
        ],
    );
    check(
        "/clients/0/policy_by_model",
        json!({ "gpt-4o": "p", "gpt-4o-2024-08-06": "p" }),
        &[
            "clients[0].policy_by_model.gpt-4o-2024-08-06: is model \"gpt-4o\", which has a policy here already",
        ],
    );
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
fn prices_are_of_a_million_tokens_and_a_backend_may_have_its_own() {
    let mut config = whole();
    config["models"][0]["prices"] = json!({ "prompt": 2.5, "completion": 10 });
    config["models"][0]["backends"][1]["prices"] = json!({ "prompt": 0.075, "cached": 0, "completion": 0.3 });
    let gateway = load(config).unwrap();
    let found: Vec<_> = gateway.models[0]
        .targets
        .iter()
        .map(|target| target.prices.as_ref().unwrap().default.rates)
        .collect();
    assert_eq!(found, [Rates { cached: 0, ..rates(75_000, 300_000) }, rates(2_500_000, 10_000_000)]);
    let problem = "models[0].backends[0].prices: expected prices of a million tokens, from 0 to 1000000";
    check("/models/0/backends/0/prices", json!({ "prompt": -1 }), &[problem]);
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
fn a_price_may_depend_on_kind_length_tier_and_spillover() {
    let mut config = whole();
    config["models"][0]["prices"] = json!({
        "prompt": 1, "cache_write": 2, "prompt_audio": 3, "prompt_image": 4, "completion": 5, "completion_audio": 6,
        "completion_image": 7, "above": { "prompt_tokens": 200_000, "prompt": 8, "completion": 9 },
        "tiers": { "flex": { "prompt": 0.5, "above": { "prompt_tokens": 7, "prompt": 1 } }, "priority": { "prompt": 2 } },
    });
    config["models"][0]["backends"][0]["spillover_prices"] = json!({ "prompt": 11 });
    let gateway = load(config).unwrap();
    let targets = &gateway.models[0].targets;
    let Prices { default, tiers } = targets.iter().find_map(|target| target.prices.clone()).unwrap();
    let expected = Rates {
        cache_write: 2_000_000,
        prompt_audio: 3_000_000,
        prompt_image: 4_000_000,
        completion_audio: 6_000_000,
        completion_image: 7_000_000,
        ..rates(1_000_000, 5_000_000)
    };
    assert_eq!(default.rates, expected);
    assert_eq!(default.above, Some(Above { prompt_tokens: 200_000, rates: rates(8_000_000, 9_000_000) }));
    let names: Vec<_> = tiers.iter().map(|(name, schedule)| (&**name, schedule.above.is_some())).collect();
    assert_eq!(names, [("flex", true), ("priority", false)]);
    let spillover: Vec<_> = targets.iter().filter_map(|target| target.spillover_prices.as_ref()).collect();
    assert_eq!(spillover.len(), 1);
    assert_eq!(spillover[0].default.rates, rates(11_000_000, 0));

    let prices = |more: Value| {
        let mut prices = json!({ "prompt": 1 });
        prices.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        prices
    };
    let of = "expected prices of a million tokens, from 0 to 1000000";
    let named = "expected flex, priority or the like: the default tier has the prices beside this";
    for (more, problem) in [
        (json!({ "tiers": { "flex": { "prompt": -1 } } }), format!("prices.tiers.flex: {of}")),
        (json!({ "tiers": { "default": { "prompt": 1 } } }), format!("prices.tiers.default: {named}")),
        (json!({ "tiers": { "auto": { "prompt": 1 } } }), format!("prices.tiers.auto: {named}")),
        (json!({ "above": { "prompt_tokens": 9, "prompt": 2e6 } }), format!("prices.above: {of}")),
        (
            json!({ "above": { "prompt_tokens": 0, "prompt": 1 } }),
            "prices.above.prompt_tokens: 0: expected at least 1".to_owned(),
        ),
        (json!({ "cache_write": -1 }), format!("prices: {of}")),
    ] {
        let problem = format!("models[0].backends[0].{problem}");
        check("/models/0/backends/0/prices", prices(more), &[&problem]);
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
fn other_endpoints_go_to_named_backends() {
    let mut config = whole();
    config["other_endpoints"] = json!(["b"]);
    assert_eq!(&*load(config).unwrap().other[0].backend.name, "b");
    check(
        "/other_endpoints",
        json!(["x"]),
        &["other_endpoints[0]: no backend is named \"x\": expected one of \"a\", \"b\""],
    );
    check("/other_endpoints", json!(["a", "a"]), &["other_endpoints[1]: \"a\" stands more than once"]);
    check(
        "/other_paths",
        json!(["rerank", "Deployments"]),
        &[
            "other_paths[1]: \"Deployments\" cannot be added: expected the first segment of a path, and none below which \
           deployments or operations under policy are",
        ],
    );
    check("/other_paths", json!(vec!["x"; 33]), &["other_paths: 33 entries: expected at most 32"]);
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
            target.gauge.map(|gauge| (gauge.tokens.get(), gauge.window.as_secs(), gauge.is_provisioned))
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
        let gauges = gateway.models[0].targets.iter().filter_map(|target| target.gauge);
        gauges.map(|gauge| gauge.weights).collect()
    };
    let eight = Weights { prompt: 1_000_000, cached: 0, completion: 8_000_000 };
    let found = weights(config.clone());
    assert!(found.contains(&eight) && found.contains(&Weights::UNCACHED), "{found:?}");
    config["models"][0]["backends"][1]["weights"] = json!({ "prompt": 2, "cached": 0.5 });
    let half = Weights { prompt: 2_000_000, cached: 500_000, completion: 1_000_000 };
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
fn capacity_and_priority_have_bounds() {
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
    check(
        "/clients/0/priority",
        json!("urgent"),
        &["clients[0].priority: unknown variant \"urgent\", expected one of \"high\", \"normal\", \"low\""],
    );
}

#[test]
fn regions_are_those_of_backends() {
    let mut config = whole();
    config["backends"][0]["region"] = json!("eu");
    config["clients"][0]["regions"] = json!(["eu"]);
    let gateway = load(config.clone()).unwrap();
    let client = known(&gateway);
    let home: Vec<_> =
        gateway.models[0].targets.iter().map(|target| target.is_in(client.regions.as_deref())).collect();
    // One that names no region is in none.
    assert_eq!(home, [true, false]);
    let faults = |regions: Value| {
        config["clients"][0]["regions"] = regions;
        load(config.clone()).unwrap_err()
    };
    let mut faults = faults;
    assert_eq!(
        faults(json!(["eu", "EU"])),
        ["clients[0].regions[1]: no backend is in region \"EU\": expected \"eu\""]
    );
    assert_eq!(
        faults(json!([])),
        ["clients[0].regions: empty: expected at least one region, or no such field for anywhere"]
    );
}

#[test]
fn a_stream_may_have_a_time_to_begin_in() {
    let mut config = whole();
    assert_eq!(load(config.clone()).unwrap().models[0].stream_start_max, None);
    config["models"][0]["stream_start_ms_max"] = json!(1500);
    let model = load(config).unwrap().models[0].clone();
    assert_eq!(model.stream_start_max, Some(std::time::Duration::from_millis(1500)));
    let problem = "models[0].stream_start_ms_max: 0: expected at least 1";
    check("/models/0/stream_start_ms_max", json!(0), &[problem]);
}

#[test]
fn backends_may_name_the_model_each_in_its_own_way() {
    let mut config = whole();
    config["backends"][0] = json!({ "name": "a", "cluster": "ca", "style": "azure-v1" });
    let gateway = load(config).unwrap();
    let names: Vec<_> = gateway.models[0].targets.iter().map(|target| &*target.deployment).collect();
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_pool_has_one_version_unless_it_is_a_rollout() {
    let mut config = whole();
    config["models"][0]["backends"][0]["version"] = json!("2024-08-06");
    config["models"][0]["backends"][0]["weight"] = json!(10);
    assert!(load(config.clone()).is_ok());
    config["models"][0]["backends"][1]["version"] = json!("2024-11-20");
    assert_eq!(
        load(config.clone()).unwrap_err(),
        [
            "models[0].backends[1].version: \"2024-11-20\" differs from \"2024-08-06\": expected one version, or rollout: \
             true at the model"
        ]
    );
    config["models"][0]["rollout"] = json!(true);
    config["models"][0]["sticky_by"] = json!("client");
    let gateway = load(config).unwrap();
    let model = &gateway.models[0];
    let weights: Vec<_> = model.targets.iter().map(|target| (target.priority, target.weight)).collect();
    assert_eq!(weights, [(0, None), (1, Some(10))]);
    let client = known(&gateway);
    let lot = |ns| model.lot(&client, std::time::Duration::from_nanos(ns));
    assert_eq!(lot(1), lot(2));
}

#[test]
fn of_one_priority_all_have_weights_or_none_has() {
    let mut config = whole();
    let backends = &mut config["models"][0]["backends"];
    backends[0]["priority"] = json!(1);
    backends[0]["weight"] = json!(10);
    backends[1]["priority"] = json!(1);
    assert_eq!(
        load(config.clone()).unwrap_err(),
        [
            "models[0].backends[1].weight: missing: another backend of priority 1 has one, expected at all of a priority \
             or at none"
        ]
    );
    config["models"][0]["backends"][1]["priority"] = json!(0);
    assert!(load(config.clone()).is_ok());
    config["models"][0]["backends"][1] = with_weight(&config["models"][0]["backends"][1], 0);
    config["models"][0]["backends"][1]["priority"] = json!(1);
    assert!(load(config).is_ok());
}

fn with_weight(backend: &Value, weight: u32) -> Value {
    let mut backend = backend.clone();
    backend["weight"] = json!(weight);
    backend
}

/// A limit of the client, and one of its group.
fn limited(own: Value, shared: Value) -> Value {
    let mut config = whole();
    config["clients"][0]["limits"] = json!([own]);
    config["clients"][0]["group"] = json!("sales");
    config["groups"] = json!([{ "name": "sales", "limits": [shared] }]);
    config["models"][0]["prices"] = json!({ "prompt": 1 });
    config
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
    let report = crate::limits::look(&crate::store::MemoryStore::default(), &inquiry, now).unwrap();
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
                     \"images/generations\", \"other\", \"responses\", \
                     \"responses/compact\", \"responses/input_tokens\"";
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
           endpoints, weights, shadow",
        ],
    );
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

mod identity;
mod spill;
mod store;

#[test]
fn pinning_wants_secrets_that_cannot_be_guessed() {
    let mut config = whole();
    config["pinning"] = json!({ "secret_envs": ["LONG", "ALSO"] });
    let long = |name: &str| Some(if name == "LONG" { "x".repeat(32) } else { format!("{name:x>32}") });
    let gateway = from_value(config, &long).unwrap();
    let mut names: Vec<_> = gateway.pinning.unwrap().targets.into_keys().collect();
    names.sort();
    assert_eq!(names, ["a".into(), "b".into()]);

    check("/pinning", json!({ "secret_envs": [] }), &["pinning.secret_envs: 0 entries: expected 1 to 8"]);
    check(
        "/pinning",
        json!({ "secret_envs": ["A"] }),
        &[
            "pinning.secret_envs[0]: environment variable \"A\" has 8 bytes: expected at least 32, for example of \
           `openssl rand -hex 32`",
        ],
    );
    check(
        "/pinning",
        json!({ "secret_envs": ["A"], "bound_to": "group" }),
        &["pinning.bound_to: unknown variant \"group\", expected \"client\" or \"anyone\""],
    );
    check(
        "/pinning",
        json!({ "secret_envs": ["A"], "unsealed_ids": "deny" }),
        &["pinning.unsealed_ids: unknown variant \"deny\", expected \"pass\" or \"refuse\""],
    );
    check(
        "/pinning",
        json!({ "secret_env": "A" }),
        &["pinning.secret_env: unknown field, expected one of secret_envs, bound_to, unsealed_ids"],
    );
}

#[test]
fn names_of_headers_that_never_pass_are_refused_with_their_path() {
    let mut config = whole();
    config["pass_headers"] = json!(["x-corp-*", "x-forwarded-host", "a b", "x-who"]);
    config["clients"][0]["trusted_header"] = json!({ "name": "x-who", "value": "a" });
    config["pass_answer_headers"] = json!(["x-ratelimit-*"]);
    assert_eq!(
        load(config).unwrap_err(),
        [
            "pass_headers[1]: \"x-forwarded-host\" cannot pass, for \"x-forwarded-*\" never does: \
             it chooses at the backend where a request goes, or who asks",
            "pass_headers[2]: \"a b\": expected the name of a header, or the beginning of names and \"*\" as in \"x-corp-*\"",
            "pass_headers: lets \"x-who\" pass, in which a credential is sent",
            "pass_answer_headers[0]: \"x-ratelimit-*\" cannot pass, for \"x-ratelimit-*\" never does: \
             the gateway has its own",
        ]
    );
}
