//! Two policies together are the narrower of both, for whatever is asked.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn bound(default: Option<u32>, max: u32, over: Over) -> Option<Bound> {
    Some(Bound { default, max: Some(max), over })
}

fn range(min: f64, max: f64, over: Over) -> Option<Range> {
    Some(Range { min: decimal(min), max: decimal(max), over })
}

fn list(listed: &[&str]) -> Option<Vec<String>> {
    Some(words(listed))
}

/// Policies that say one thing each, and two that say much.
fn policies() -> Vec<Policy> {
    let plain = Policy::default;
    let mut policies = vec![
        plain(),
        Policy { max_tokens: bound(Some(100), 500, Over::Clamp), ..plain() },
        Policy { max_tokens: bound(Some(400), 600, Over::Reject), ..plain() },
        Policy { max_tokens: Some(Bound { default: Some(50), max: None, over: Over::Clamp }), ..plain() },
        Policy { n: bound(None, 3, Over::Clamp), best_of: bound(None, 2, Over::Reject), ..plain() },
        Policy { n: bound(None, 1, Over::Reject), top_logprobs: bound(None, 2, Over::Clamp), ..plain() },
        Policy { temperature: range(0.0, 1.0, Over::Clamp), top_p: range(0.5, 1.0, Over::Reject), ..plain() },
        Policy { temperature: range(0.5, 2.0, Over::Clamp), top_p: range(0.0, 0.6, Over::Clamp), ..plain() },
        Policy { temperature: range(1.5, 2.0, Over::Reject), ..plain() },
        Policy { logprobs: Permission::Drop, store: Permission::Forbid, ..plain() },
        Policy { logprobs: Permission::Forbid, store: Permission::Drop, ..plain() },
        Policy { seed: Permission::Drop, logit_bias: Quota::Forbid, ..plain() },
        Policy { seed: Permission::Forbid, logit_bias: Quota::Max(1), ..plain() },
        Policy { tools: Quota::Max(1), image_parts: Quota::Forbid, ..plain() },
        Policy { tools: Quota::Max(2), image_parts: Quota::Max(1), ..plain() },
        Policy { tools: Quota::Forbid, background: Permission::Forbid, ..plain() },
        Policy { tool_types: list(&["function", "mcp"]), ..plain() },
        Policy { tool_types: list(&["mcp"]), max_tool_calls: bound(None, 3, Over::Clamp), ..plain() },
        Policy {
            tool_types: list(&["web_search"]),
            max_tool_calls: bound(Some(1), 2, Over::Reject),
            ..plain()
        },
        Policy { mcp_hosts: list(&["*.example.com"]), ..plain() },
        Policy { mcp_hosts: list(&["mcp.example.com", "*.eu.example.com", "other.org"]), ..plain() },
        Policy { mcp_connectors: list(&["connector_a", "connector_b"]), ..plain() },
        Policy { mcp_connectors: list(&["connector_b"]), mcp_hosts: list(&["other.org"]), ..plain() },
        Policy { response_format: list(&["text", "json_object"]), ..plain() },
        Policy { response_format: list(&["json_object"]), ..plain() },
        Policy { stream: Streaming::Forbid, ..plain() },
        Policy { stream: Streaming::Require, ..plain() },
        Policy { stream: Streaming::Force, ..plain() },
        Policy { service_tier: list(&["default", "flex"]), ..plain() },
        Policy { service_tier: list(&["flex"]), ..plain() },
        Policy { reasoning_effort: Some(efforts(&["low", "medium"], Over::Clamp)), ..plain() },
        Policy { reasoning_effort: Some(efforts(&["medium", "high"], Over::Reject)), ..plain() },
        Policy { unknown_fields: Unknown::Refuse, allowed_fields: words(&["mine", "ours"]), ..plain() },
        Policy { unknown_fields: Unknown::Refuse, allowed_fields: words(&["ours"]), ..plain() },
        Policy { unknown_fields: Unknown::Audit, ..plain() },
        Policy {
            prompt: PromptBounds { messages_max: Some(1), ..PromptBounds::default() },
            prompt_cache_key: Permission::Drop,
            ..plain()
        },
        Policy {
            prompt: PromptBounds { bytes_max: Some(80), messages_max: Some(2), tokens_max: Some(9) },
            prompt_cache_key: Permission::Forbid,
            ..plain()
        },
    ];
    policies.push(Policy {
        max_tokens: bound(Some(10), 20, Over::Clamp),
        tools: Quota::Max(1),
        stream: Streaming::Force,
        ..plain()
    });
    policies
}

const BODIES: [&str; 38] = [
    "{}",
    r#"{"max_tokens":1000}"#,
    r#"{"max_tokens":550}"#,
    r#"{"max_tokens":5}"#,
    r#"{"n":9}"#,
    r#"{"n":2,"best_of":2}"#,
    r#"{"logprobs":true,"top_logprobs":5}"#,
    r#"{"temperature":0.1}"#,
    r#"{"temperature":0.7,"top_p":0.55}"#,
    r#"{"temperature":1.7,"top_p":0.9}"#,
    r#"{"top_p":0.2}"#,
    r#"{"store":true}"#,
    r#"{"seed":7,"logit_bias":{"1":2}}"#,
    r#"{"logit_bias":{"1":2,"3":4}}"#,
    r#"{"background":true}"#,
    r#"{"tools":[{"type":"function","function":{"name":"f"}}]}"#,
    r#"{"tools":[{"type":"function","function":{"name":"f"}},{"type":"web_search"}]}"#,
    r#"{"tools":[{"type":"mcp","server_url":"https://mcp.example.com/"}]}"#,
    r#"{"tools":[{"type":"mcp","server_url":"https://a.eu.example.com/"}]}"#,
    r#"{"tools":[{"type":"mcp","server_url":"https://other.org/"}]}"#,
    r#"{"tools":[{"type":"mcp","connector_id":"connector_a"}]}"#,
    r#"{"tools":[{"type":"mcp","connector_id":"connector_b"}]}"#,
    r#"{"tools":[{"type":"mcp"}]}"#,
    r#"{"max_tool_calls":9}"#,
    r#"{"max_tool_calls":2}"#,
    r#"{"response_format":{"type":"text"}}"#,
    r#"{"response_format":{"type":"json_object"}}"#,
    r#"{"stream":true}"#,
    r#"{"stream":false}"#,
    r#"{"service_tier":"flex"}"#,
    r#"{"service_tier":"priority"}"#,
    r#"{"reasoning_effort":"low"}"#,
    r#"{"reasoning_effort":"high"}"#,
    r#"{"mine":1}"#,
    r#"{"ours":1}"#,
    r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#,
    r#"{"messages":[{"role":"user","content":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"}]}"#,
    r#"{"prompt_cache_key":"k","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#,
];

#[test]
fn both_policies_let_pass_what_the_two_together_do() {
    let policies = policies();
    let mut passed = 0;
    for one in &policies {
        for other in &policies {
            let Ok(both) = one.narrowed_by(other) else { continue };
            for asked in [&CHAT, &RESPONSES, &REASONING] {
                for body in BODIES {
                    let Ok(Outcome { body: after, .. }) = outcome(&both, asked, body) else { continue };
                    passed += 1;
                    for policy in [one, other] {
                        let again = outcome(policy, asked, &after).map(|outcome| outcome.body);
                        assert_eq!(
                            again.as_deref(),
                            Ok(&*after),
                            "{body} under {one:?} and {other:?}: not by {policy:?}"
                        );
                    }
                }
            }
        }
    }
    assert!(passed > 10_000, "{passed}");
}

#[test]
fn the_two_together_change_nothing_that_neither_would() {
    let policies = policies();
    for one in &policies {
        for other in &policies {
            let passes = |body: &str| {
                let same = |policy| outcome(policy, &CHAT, body).is_ok_and(|outcome| outcome.body == body);
                same(one) && same(other)
            };
            // A field that one names and the other lets pass unnamed is not allowed: it might name any model.
            let names_alike = one.allowed_fields == other.allowed_fields;
            let is_named = |body: &str| body.contains("mine") || body.contains("ours");
            for body in BODIES.into_iter().filter(|body| passes(body) && (names_alike || !is_named(body))) {
                let both = one.narrowed_by(other);
                let found = both.as_ref().map(|both| outcome(both, &CHAT, body).map(|outcome| outcome.body));
                // A field that is left out keeps no rule from having nothing that it allows.
                if let Ok(found) = found {
                    assert_eq!(found.as_deref(), Ok(body), "{one:?} and {other:?}");
                }
            }
        }
    }
}

#[test]
fn rules_that_allow_nothing_together_are_told() {
    let of = |one: Policy, other: Policy| one.narrowed_by(&other).err();
    let plain = Policy::default;
    let hot = Policy { temperature: range(1.5, 2.0, Over::Reject), ..plain() };
    let cold = Policy { temperature: range(0.0, 1.0, Over::Clamp), ..plain() };
    assert_eq!(of(hot, cold), Some("temperature"));
    let types = |types: &[&str]| Policy { tool_types: list(types), ..plain() };
    assert_eq!(of(types(&["mcp"]), types(&["function"])), Some("tools.types"));
    let stream = |stream| Policy { stream, ..plain() };
    assert_eq!(of(stream(Streaming::Forbid), stream(Streaming::Force)), Some("stream"));
    assert_eq!(of(stream(Streaming::Require), stream(Streaming::Force)), None);
    let levels = |levels: &[&str]| Policy { verbosity: Some(efforts(levels, Over::Clamp)), ..plain() };
    assert_eq!(of(levels(&["low"]), levels(&["high"])), Some("verbosity"));
}

#[test]
fn a_policy_that_only_looks_on_takes_nothing_away() {
    let looks_on =
        Policy { mode: Mode::Audit, seed: Permission::Forbid, request_bytes_max: 1000, ..Policy::default() };
    let other = Policy { n: clamp(3), request_bytes_max: 2000, ..Policy::default() };
    // But for the length of a body, which holds in either mode.
    assert_eq!(looks_on.narrowed_by(&other), Ok(Policy { request_bytes_max: 1000, ..other }));
}
