use super::*;
use crate::number::Decimal;
use crate::policy::{
    Bound, EFFORTS, Levels, Mode, Over, Permission, Policy, PromptBounds, QUALITIES, Quota, Range, SIZES,
    Streaming, Unknown,
};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
