//! Anthropic's Messages under the words that hold at chat.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MESSAGES: Asked = Asked { operation: Operation::Messages, ..CHAT };

#[test]
fn the_cap_of_messages_is_held_to_its_bound() {
    check(&bounded(), &MESSAGES, "{}", Ok((r#"{"max_tokens":100}"#, None)));
    check_same(&bounded(), &MESSAGES, r#"{"max_tokens":500}"#);
    check(
        &bounded(),
        &MESSAGES,
        r#"{"max_tokens":501}"#,
        Ok((r#"{"max_tokens":500}"#, Some("max_tokens=500"))),
    );
    check_ceiling(&bounded(), &MESSAGES, r#"{"max_tokens":7}"#, 7, 1);
}

#[test]
fn a_lowered_cap_lowers_what_may_be_thought() {
    let policy = Policy { max_tokens: clamp(4000), ..Policy::default() };
    let body = |cap: u32, budget: u32| {
        format!(r#"{{"max_tokens":{cap},"thinking":{{"type":"enabled","budget_tokens":{budget}}}}}"#)
    };
    check_same(&policy, &MESSAGES, &body(4000, 2000));
    check(&policy, &MESSAGES, &body(5000, 3999), Ok((&body(4000, 3999), Some("max_tokens=4000"))));
    check(
        &policy,
        &MESSAGES,
        &body(5000, 4000),
        Ok((&body(4000, 3999), Some("max_tokens=4000, thinking.budget_tokens=3999"))),
    );
    // The client's own mistake is the backend's to tell.
    check_same(&policy, &MESSAGES, &body(4000, 4000));
    let little = Policy { max_tokens: clamp(1024), ..Policy::default() };
    check(
        &little,
        &MESSAGES,
        &body(5000, 2000),
        Err("`thinking.budget_tokens` is 2000, but this client's policy allows at most 1023."),
    );
    let audit = Policy { mode: Mode::Audit, ..policy };
    assert_eq!(outcome(&audit, &MESSAGES, &body(5000, 4500)).unwrap().body, body(5000, 4500));
}

#[test]
fn a_tool_of_messages_that_says_no_type_is_the_clients_own() {
    let policy = Policy { tool_types: Some(words(&["custom", "mcp"])), ..Policy::default() };
    let own = r#"{"tools":[{"name":"f","input_schema":{"type":"object"}}]}"#;
    check_same(&policy, &MESSAGES, own);
    let only = "but this client's policy allows only `custom`, `mcp`.";
    let search = r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#;
    let refused = format!("`tools.type` is `web_search_20250305`, {only}");
    check(&policy, &MESSAGES, search, Err(&refused));
    // Elsewhere a tool without a type is none.
    check(&policy, &CHAT, own, Err("The request has no `tools.type`."));
}

#[test]
fn a_server_beside_the_tools_is_one_of_them() {
    let server = |member: &str| format!(r#"{{"mcp_servers":[{{"type":"url","name":"n"{member}}}]}}"#);
    let hosts = Policy { mcp_hosts: Some(words(&["good.example"])), ..Policy::default() };
    check_same(&hosts, &MESSAGES, &server(r#","url":"https://good.example/sse""#));
    check(
        &hosts,
        &MESSAGES,
        &server(r#","url":"https://evil.example""#),
        Err("`mcp_servers.url` is `evil.example`, but this client's policy allows only `good.example`."),
    );
    check(&hosts, &MESSAGES, &server(""), Err("The request has no `mcp_servers.url`."));
    check(
        &hosts,
        &MESSAGES,
        r#"{"mcp_servers":[{"url":"https://good.example","url":"https://evil.example"}]}"#,
        Err("In `mcp_servers`, `url` stands more than once in one object."),
    );
    let none = Policy { tools: Quota::Forbid, ..Policy::default() };
    let refused = "`mcp_servers` is not allowed by this client's policy.";
    check(&none, &MESSAGES, &server(r#","url":"https://good.example""#), Err(refused));
    let types = Policy { tool_types: Some(words(&["custom"])), ..Policy::default() };
    let refused = "`mcp_servers` is `mcp`, but this client's policy allows only `custom`.";
    check(&types, &MESSAGES, &server(r#","url":"https://good.example""#), Err(refused));
}

#[test]
fn effort_and_format_are_read_where_messages_has_them() {
    let levels = efforts(&["low", "medium"], Over::Clamp);
    let policy = Policy { reasoning_effort: Some(levels), ..Policy::default() };
    let body = |word: &str| format!(r#"{{"output_config":{{"effort":"{word}"}}}}"#);
    check_same(&policy, &MESSAGES, &body("low"));
    check(&policy, &MESSAGES, &body("high"), Ok((&body("medium"), Some("output_config.effort=medium"))));
    let policy = Policy { response_format: Some(words(&["text"])), ..Policy::default() };
    check(
        &policy,
        &MESSAGES,
        r#"{"output_config":{"format":{"type":"json_schema","schema":{}}}}"#,
        Err("`output_config.format.type` is `json_schema`, but this client's policy allows only `text`."),
    );
}

#[test]
fn images_and_documents_of_messages_are_counted() {
    let content = |part: &str| format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let image =
        content(r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aa"}}"#);
    let document = content(r#"{"type":"document","source":{"type":"url","url":"https://a"}}"#);
    // A tool's result may hold one too.
    let nested =
        content(r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{}}]}"#);
    let no_images = Policy { image_parts: Quota::Forbid, ..Policy::default() };
    let no_files = Policy { file_parts: Quota::Forbid, ..Policy::default() };
    let refused = "`messages` has an image, which this client's policy does not allow.";
    check(&no_images, &MESSAGES, &image, Err(refused));
    check(&no_images, &MESSAGES, &nested, Err(refused));
    check_same(&no_images, &MESSAGES, &document);
    let refused = "`messages` has a file, which this client's policy does not allow.";
    check(&no_files, &MESSAGES, &document, Err(refused));
    check(&no_files, &MESSAGES, &content(r#"{"type":"container_upload","file_id":"f"}"#), Err(refused));
    check_same(&no_files, &MESSAGES, &image);
}

#[test]
fn no_choices_are_written_where_there_are_none() {
    let policy =
        Policy { n: Some(Bound { default: Some(1), max: Some(1), over: Over::Clamp }), ..Policy::default() };
    check_same(&policy, &MESSAGES, "{}");
    check(&policy, &CHAT, "{}", Ok((r#"{"n":1}"#, None)));
    check(&policy, &MESSAGES, r#"{"n":2}"#, Ok((r#"{"n":1}"#, Some("n=1"))));
}
