//! Hosted tools and data, and the fields that have a row.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const FUNCTION: &str = r#"{"type":"function","name":"f"}"#;

fn types(types: &[&str]) -> Policy {
    Policy { tool_types: Some(words(types)), ..Policy::default() }
}

fn hosts(hosts: &[&str]) -> Policy {
    Policy { mcp_hosts: Some(words(hosts)), ..Policy::default() }
}

fn offering(tools: &str) -> String {
    format!(r#"{{"tools":[{tools}]}}"#)
}

/// An item of Responses' input that hands in a tool.
fn item(kind: &str, tools: &str) -> String {
    format!(r#"{{"input":[{{"role":"user","content":"x"}},{{"type":"{kind}","tools":[{tools}]}}]}}"#)
}

#[test]
fn a_tool_of_a_type_that_is_not_listed_is_refused() {
    let policy = types(&["function", "web_search_preview_2025_03_11", "namespace", "tool_search"]);
    let only = "`function`, `web_search_preview_2025_03_11`, `namespace`, `tool_search`";
    let refused =
        |at: &str, kind: &str| format!("`{at}` is `{kind}`, but this client's policy allows only {only}.");
    let nested = format!(r#"{{"type":"namespace","name":"n","tools":[{FUNCTION}]}}"#);
    for tools in [
        FUNCTION,
        r#"{"type":"web_search_preview_2025_03_11"}"#,
        r#"{"type":"tool_search"}"#,
        &nested,
        // What a function takes is no tool.
        r#"{"type":"function","function":{"parameters":{"type":"object","tools":[{"type":"mcp"}]}}}"#,
        "",
    ] {
        check_same(&policy, &RESPONSES, &offering(tools));
    }
    for (tools, kind) in [
        (r#"{"type":"web_search"}"#.to_owned(), "web_search"),
        (format!(r#"{FUNCTION},{{"type":"code_interpreter"}}"#), "code_interpreter"),
        (r#"{"type":"m\u0063p"}"#.to_owned(), "mcp"),
        (r#"{"type":"namespace","tools":[{"type":"mcp"}]}"#.to_owned(), "mcp"),
        (
            r#"{"type":"namespace","tools":[{"type":"namespace","tools":[{"type":"shell"}]}]}"#.to_owned(),
            "shell",
        ),
        (r#"{"type":"Function"}"#.to_owned(), "Function"),
    ] {
        check(&policy, &RESPONSES, &offering(&tools), Err(&refused("tools.type", kind)));
        check(&policy, &CHAT, &offering(&tools), Err(&refused("tools.type", kind)));
    }
    for kind in ["additional_tools", "tool_search_output", "what_comes_next"] {
        check_same(&policy, &RESPONSES, &item(kind, FUNCTION));
        check(
            &policy,
            &RESPONSES,
            &item(kind, r#"{"type":"mcp"}"#),
            Err(&refused("input.tools.type", "mcp")),
        );
    }
    // What a server said that it has.
    check_same(&policy, &RESPONSES, &item("mcp_list_tools", r#"{"name":"a","input_schema":{}}"#));
    check_same(&policy, &RESPONSES, r#"{"input":"tools","tools":null}"#);
}

#[test]
fn a_tool_that_readers_may_differ_about_is_refused() {
    let policy = types(&["function"]);
    for (body, sentence) in [
        (offering("{}"), "The request has no `tools.type`."),
        (offering("7"), "The request has no `tools.type`."),
        (r#"{"tools":{"type":"function"}}"#.to_owned(), "The request has no `tools.type`."),
        (offering(r#"{"type":["function"]}"#), "`tools` must be a string."),
        (
            offering(r#"{"type":"function","type":"mcp"}"#),
            "In `tools`, `type` stands more than once in one object.",
        ),
        (
            offering(r#"{"type":"function","Type":"mcp"}"#),
            "In `tools`, `type` must be written plainly: lower case, without escapes.",
        ),
        (
            offering(r#"{"type":"function","server\u005furl":"https://a"}"#),
            "In `tools`, `server_url` must be written plainly: lower case, without escapes.",
        ),
        (
            item("additional_tools", r#"{"type":"function","tools":[],"tools":[]}"#),
            "In `input`, `tools` stands more than once in one object.",
        ),
        (
            r#"{"input":[{"type":"message","type":"mcp_list_tools","tools":[]}]}"#.to_owned(),
            "In `input`, `type` stands more than once in one object.",
        ),
        (
            offering(&format!("{}{}", r#"{"type":"function","tools":["#.repeat(5), "]}".repeat(5))),
            "`tools` must be tools nested at most 4 levels deep.",
        ),
    ] {
        check(&policy, &RESPONSES, &body, Err(sentence));
        check(&Policy { mode: Mode::Audit, ..policy.clone() }, &RESPONSES, &body, Err(sentence));
        check_same(&Policy::default(), &RESPONSES, &body);
    }
}

#[test]
fn chats_older_ways_to_offer_tools_have_a_type() {
    let (functions, search) = (r#"{"functions":[{"name":"f"}]}"#, r#"{"web_search_options":{}}"#);
    check_same(&types(&["function"]), &CHAT, functions);
    check_same(&types(&["web_search"]), &CHAT, search);
    let refused = "`functions` is not allowed by this client's policy.";
    check(&types(&["web_search"]), &CHAT, functions, Err(refused));
    let refused = "`web_search_options` is not allowed by this client's policy.";
    check(&types(&["function"]), &CHAT, search, Err(refused));
    check_same(&types(&["mcp"]), &CHAT, r#"{"functions":[],"web_search_options":null}"#);
}

#[test]
fn a_server_is_called_at_a_listed_host_only() {
    let policy = hosts(&["mcp.example.com", "*.tools.example"]);
    let mcp = |member: &str| offering(&format!(r#"{{"type":"mcp","server_label":"x"{member}}}"#));
    for url in ["https://mcp.example.com/sse", "https://a.b.tools.example:8443", "HTTPS://MCP.EXAMPLE.COM"] {
        check_same(&policy, &RESPONSES, &mcp(&format!(r#","server_url":"{url}""#)));
    }
    let only = "but this client's policy allows only `mcp.example.com`, `*.tools.example`.";
    for (url, shown) in [
        ("https://evil.example/mcp.example.com", "evil.example"),
        ("https://tools.example", "tools.example"),
        ("https://mcp.example.com@evil.example", "https://mcp.example.com@evil.example"),
        ("https://mcp.example.com#@evil.example", "https://mcp.example.com#@evil.example"),
    ] {
        let sentence = format!("`tools.server_url` is `{shown}`, {only}");
        check(&policy, &RESPONSES, &mcp(&format!(r#","server_url":"{url}""#)), Err(&sentence));
    }
    let missing = "The request has no `tools.server_url`.";
    check(&policy, &RESPONSES, &mcp(""), Err(missing));
    check(&policy, &RESPONSES, &mcp(r#","server_url":null"#), Err(missing));
    let connector = mcp(r#","connector_id":"connector_gmail""#);
    check(
        &policy,
        &RESPONSES,
        &connector,
        Err("`tools.connector_id` is not allowed by this client's policy."),
    );
    let tunnel = mcp(r#","server_url":"https://mcp.example.com","tunnel_id":"t""#);
    check(&policy, &RESPONSES, &tunnel, Err("`tools.tunnel_id` is not allowed by this client's policy."));
    // Whatever the tool is called.
    let other = offering(r#"{"type":"mcp_2027","server_url":"https://evil.example"}"#);
    let sentence = format!("`tools.server_url` is `evil.example`, {only}");
    check(&policy, &RESPONSES, &other, Err(&sentence));
    let handed = item("additional_tools", r#"{"type":"mcp","server_url":"https://evil.example"}"#);
    check(&policy, &RESPONSES, &handed, Err(&sentence.replace("`tools.", "`input.tools.")));

    let listed = Policy { mcp_connectors: Some(words(&["connector_gmail"])), ..Policy::default() };
    check_same(&listed, &RESPONSES, &connector);
    let other = mcp(r#","connector_id":"connector_dropbox""#);
    let sentence = "`tools.connector_id` is `connector_dropbox`, but this client's policy allows only `connector_gmail`.";
    check(&listed, &RESPONSES, &other, Err(sentence));
    let address = mcp(r#","server_url":"https://mcp.example.com""#);
    check(&listed, &RESPONSES, &address, Err("`tools.server_url` is not allowed by this client's policy."));
}

#[test]
fn tools_are_counted_wherever_they_stand() {
    let max = |max| Policy { tools: Quota::Max(max), ..Policy::default() };
    let nested = offering(&format!(r#"{{"type":"namespace","tools":[{FUNCTION},{FUNCTION}]}}"#));
    check_same(&max(3), &RESPONSES, &nested);
    let sentence = "`tools` has 3 entries, but this client's policy allows at most 2.";
    check(&max(2), &RESPONSES, &nested, Err(sentence));
    let handed = item("additional_tools", &format!("{FUNCTION},{FUNCTION}"));
    check_same(&max(2), &RESPONSES, &handed);
    let sentence = "`input` has 2 entries, but this client's policy allows at most 1.";
    check(&max(1), &RESPONSES, &handed, Err(sentence));
    let forbids = Policy { tools: Quota::Forbid, ..Policy::default() };
    check(&forbids, &RESPONSES, &handed, Err("`input` is not allowed by this client's policy."));
}

#[test]
fn an_item_of_the_input_cannot_make_the_model_think_more() {
    let clamping = Policy { reasoning_effort: Some(efforts(&["low"], Over::Clamp)), ..Policy::default() };
    let update = |word: &str| {
        format!(
            r#"{{"input":[{{"type":"configuration_update","reasoning":{{"effort":"{word}"}}}},{{}},"x"]}}"#
        )
    };
    let told = Some("input.reasoning.effort=low");
    check(&clamping, &RESPONSES, &update("max"), Ok((&update("low"), told)));
    check_same(&clamping, &RESPONSES, &update("low"));
    let twice = |word: &str| {
        let item = format!(r#"{{"reasoning":{{"effort": "{word}"}}}}"#);
        format!(r#"{{"input":[{item},{item}]}}"#)
    };
    check(&clamping, &RESPONSES, &twice("high"), Ok((&twice("low"), told)));
    let rejecting = Policy { reasoning_effort: Some(efforts(&["low"], Over::Reject)), ..Policy::default() };
    let sentence = "`input.reasoning.effort` is `high`, but this client's policy allows only `low`.";
    check(&rejecting, &RESPONSES, &twice("high"), Err(sentence));
    let audited = Policy { mode: Mode::Audit, ..rejecting };
    assert_eq!(outcome(&audited, &RESPONSES, &twice("high")).unwrap().would, ["reasoning_effort reject"]);
    let sentence = "In `input`, `effort` stands more than once in one object.";
    check(
        &clamping,
        &RESPONSES,
        r#"{"input":[{"reasoning":{"effort":"low","effort":"max"}}]}"#,
        Err(sentence),
    );
    let sentence = "In `input`, `reasoning` must be written plainly: lower case, without escapes.";
    check(&clamping, &RESPONSES, r#"{"input":[{"Reasoning":{"effort":"max"}}]}"#, Err(sentence));
    check_same(&clamping, &RESPONSES, r#"{"input":[{"reasoning":"a thought"},{"reasoning":null}]}"#);
}

#[test]
fn an_order_of_ones_own_has_words_that_no_release_knows() {
    let order = words(&["low", "high", "ultra", "hyper"]);
    let own = Levels { order, ..efforts(&["low", "ultra"], Over::Clamp) };
    let policy = Policy { reasoning_effort: Some(own), ..Policy::default() };
    check_same(&policy, &CHAT, r#"{"reasoning_effort":"ultra"}"#);
    for (asked, to) in [("hyper", "ultra"), ("high", "low")] {
        let body = |word: &str| format!(r#"{{"reasoning_effort":"{word}"}}"#);
        let told = format!("reasoning_effort={to}");
        check(&policy, &CHAT, &body(asked), Ok((&body(to), Some(&told))));
    }
    let sentence = "`reasoning_effort` is `medium`, but this client's policy allows only `low`, `ultra`.";
    check(&policy, &CHAT, r#"{"reasoning_effort":"medium"}"#, Err(sentence));
}

#[test]
fn verbosity_is_held_where_each_api_says_it() {
    let low = Levels {
        order: words(&VERBOSITIES),
        allowed: words(&["low"]),
        over: Over::Clamp,
        default: Some("low".to_owned()),
    };
    let policy = Policy { verbosity: Some(low), ..Policy::default() };
    let (chat, after) = (r#"{"verbosity":"high"}"#, r#"{"verbosity":"low"}"#);
    check(&policy, &CHAT, chat, Ok((after, Some("verbosity=low"))));
    let body = |word: &str| format!(r#"{{"text":{{"format":{{"type":"text"}},"verbosity":"{word}"}}}}"#);
    check(&policy, &RESPONSES, &body("medium"), Ok((&body("low"), Some("text.verbosity=low"))));
    let responses = Asked { operation: Operation::Responses, ..REASONING };
    check(&policy, &responses, "{}", Ok((r#"{"text":{"verbosity":"low"}}"#, None)));
    let (format, after) = (
        r#"{"text":{"format":{"type":"text"}}}"#,
        r#"{"text":{"verbosity":"low","format":{"type":"text"}}}"#,
    );
    check(&policy, &responses, format, Ok((after, None)));
    check(&policy, &REASONING, "{}", Ok((after_chat(), None)));
    // Models that do not know it would refuse it.
    check_same(&policy, &CHAT, "{}");
    check_same(&policy, &Asked { family: Family::OSeries, ..CHAT }, "{}");
    let sentence = "`text.verbosity` stands more than once in the request.";
    check(&policy, &RESPONSES, r#"{"text":{"verbosity":"low","verbosity":"high"}}"#, Err(sentence));
}

fn after_chat() -> &'static str {
    r#"{"verbosity":"low"}"#
}

#[test]
fn what_may_not_be_asked_for_is_refused_or_taken_back() {
    let with = |permission| Policy {
        data_sources: permission,
        context_management: permission,
        safety_identifier: permission,
        prompt_cache_key: permission,
        prompt_cache_options: permission,
        ..Policy::default()
    };
    for (field, value, neutral) in [
        ("data_sources", r#"[{"type":"azure_search"}]"#, "null"),
        ("context_management", r#"[{"type":"compaction"}]"#, "null"),
        ("safety_identifier", r#""me""#, "null"),
        ("prompt_cache_key", r#""k""#, "null"),
        ("prompt_cache_options", r#"{"mode":"explicit"}"#, "{}"),
    ] {
        let body = |value: &str| format!(r#"{{"{field}":{value}}}"#);
        check_same(&Policy::default(), &CHAT, &body(value));
        let refused = format!("`{field}` is not allowed by this client's policy.");
        check(&with(Permission::Forbid), &CHAT, &body(value), Err(&refused));
        check_same(&with(Permission::Forbid), &CHAT, &body(neutral));
        let told = format!("{field}={neutral}");
        check(&with(Permission::Drop), &RESPONSES, &body(value), Ok((&body(neutral), Some(&told))));
        check_same(&with(Permission::Drop), &RESPONSES, &body(neutral));
        let audited = Policy { mode: Mode::Audit, ..with(Permission::Forbid) };
        let rule = format!("{field} reject");
        assert_eq!(outcome(&audited, &CHAT, &body(value)).unwrap().would, [rule]);
    }
}

#[test]
fn data_sources_are_of_listed_types() {
    let policy = Policy { data_source_types: Some(words(&["azure_search"])), ..Policy::default() };
    let body = |sources: &str| format!(r#"{{"data_sources":{sources}}}"#);
    check_same(&policy, &CHAT, &body(r#"[{"type":"azure_search","parameters":{"type":"mongo_db"}}]"#));
    check_same(&policy, &CHAT, &body("null"));
    let sentence = "`data_sources.type` is `mongo_db`, but this client's policy allows only `azure_search`.";
    check(&policy, &CHAT, &body(r#"[{"type":"azure_search"},{"type":"mongo_db"}]"#), Err(sentence));
    check(&policy, &CHAT, &body("[{}]"), Err("The request has no `data_sources.type`."));
    check(&policy, &CHAT, &body("{}"), Err("`data_sources` must be an array of objects."));
    check(&policy, &CHAT, &body("[1]"), Err("`data_sources` must be an array of objects."));
    let sentence = "In `data_sources`, `type` stands more than once in one object.";
    check(&policy, &CHAT, &body(r#"[{"type":"azure_search","type":"mongo_db"}]"#), Err(sentence));
}

#[test]
fn listed_words_and_a_bound_on_calls_of_tools_hold() {
    let policy = Policy {
        reasoning_mode: Some(words(&["standard"])),
        prompt_cache_retention: Some(words(&["in_memory"])),
        max_tool_calls: Some(Bound { default: Some(2), ..clamp(5).unwrap() }),
        ..Policy::default()
    };
    check_same(&policy, &CHAT, r#"{"prompt_cache_retention":"in_memory","max_tool_calls":5}"#);
    let sentence = "`reasoning.mode` is `pro`, but this client's policy allows only `standard`.";
    check(&policy, &RESPONSES, r#"{"reasoning":{"effort":"low","mode":"pro"}}"#, Err(sentence));
    let sentence = "`prompt_cache_retention` is `24h`, but this client's policy allows only `in_memory`.";
    check(&policy, &CHAT, r#"{"prompt_cache_retention":"24h"}"#, Err(sentence));
    let after = r#"{"max_tool_calls":5}"#;
    check(&policy, &RESPONSES, r#"{"max_tool_calls":9}"#, Ok((after, Some("max_tool_calls=5"))));
    check(&policy, &RESPONSES, "{}", Ok((r#"{"max_tool_calls":2}"#, None)));
    check_same(&policy, &CHAT, "{}");
}

#[test]
fn fields_that_nobody_knows_are_refused_or_written_down() {
    let with = |unknown_fields| Policy { unknown_fields, ..Policy::default() };
    let body = r#"{"model":"m","messages":[],"top_k":1,"Temperature":2,"reasoning":{"x":1}}"#;
    check_same(&with(Unknown::Pass), &CHAT, r#"{"top_k":1}"#);
    let ours = "In disguise: that is refused first.";
    assert!(outcome(&with(Unknown::Pass), &CHAT, body).is_err(), "{ours}");
    let body = r#"{"model":"m","messages":[],"top_k":1,"User":"x","reasoning":{"x":1}}"#;
    let names = "`reasoning`, `top_k`, `User`";
    let sentence = format!("This client's policy allows only known fields, and does not know {names}.");
    check(&with(Unknown::Refuse), &CHAT, body, Err(&sentence));
    let audited = |policy: &Policy| {
        let mut request = Request::read(body.as_bytes()).unwrap();
        let findings = apply(policy, &CHAT, &mut request).unwrap().findings;
        assert!(request.patch().is_none());
        assert_eq!(findings[3], Finding { rule: "unknown_fields", effect: Effect::Would(Would::Reject) });
        findings.iter().filter_map(Finding::unknown).collect::<Vec<_>>()
    };
    let found = ["reasoning", "top_k", "User"];
    assert_eq!(audited(&with(Unknown::Audit)), found);
    assert_eq!(audited(&Policy { mode: Mode::Audit, ..with(Unknown::Refuse) }), found);

    let many: Vec<_> = (0..11).map(|at| format!(r#""x{at}":1"#)).collect();
    let names = (0..8).map(|at| format!("`x{at}`")).collect::<Vec<_>>().join(", ");
    let sentence =
        format!("This client's policy allows only known fields, and does not know {names} and 3 more.");
    check(&with(Unknown::Refuse), &CHAT, &format!("{{{}}}", many.join(",")), Err(&sentence));
    let long = format!(r#"{{"\n\u202e{}":1}}"#, "x".repeat(100));
    let sentence = format!(
        r"This client's policy allows only known fields, and does not know `\n\u{{202e}}{}…`.",
        "x".repeat(62)
    );
    check(&with(Unknown::Refuse), &CHAT, &long, Err(&sentence));
    // What a rule governs is known where the reference has it.
    check_same(&with(Unknown::Refuse), &RESPONSES, r#"{"reasoning":{},"us\u0065r":"x"}"#);
}

const IMAGES: Asked = Asked { operation: Operation::ImageGenerations, ..CHAT };

fn drawn(over: Over, default: Option<&str>) -> Policy {
    let levels = |order: &[&str], allowed: &[&str], default: Option<&str>| {
        let default = default.map(str::to_owned);
        Some(Levels { order: words(order), allowed: words(allowed), over, default })
    };
    let size = levels(&SIZES, &["512x512", "1024x1024"], default);
    Policy { size, quality: levels(&QUALITIES, &["low", "medium"], None), ..Policy::default() }
}

#[test]
fn images_are_as_large_and_as_well_drawn_as_is_allowed() {
    let clamping = drawn(Over::Clamp, None);
    check_same(&clamping, &IMAGES, r#"{"size":"1024x1024","quality":"medium"}"#);
    check_same(&clamping, &IMAGES, r#"{"size":null}"#);
    let after = r#"{"size":"1024x1024","quality":"medium"}"#;
    for asked in [r#"{"size":"1536x1024","quality":"high"}"#, r#"{"size":"auto","quality":"auto"}"#] {
        check(&clamping, &IMAGES, asked, Ok((after, Some("size=1024x1024, quality=medium"))));
    }
    let least = Ok((r#"{"size":"512x512"}"#, Some("size=512x512")));
    check(&clamping, &IMAGES, r#"{"size":"256x256"}"#, least);
    let sentence = "`size` is `3840x2160`, but this client's policy allows only `512x512`, `1024x1024`.";
    check(&clamping, &IMAGES, r#"{"size":"3840x2160"}"#, Err(sentence));
    let rejecting = drawn(Over::Reject, Some("512x512"));
    let sentence = "`quality` is `hd`, but this client's policy allows only `low`, `medium`.";
    check(&rejecting, &IMAGES, r#"{"size":"512x512","quality":"hd"}"#, Err(sentence));
    check(&rejecting, &IMAGES, "{}", Ok((r#"{"size":"512x512"}"#, None)));
    check(&rejecting, &IMAGES, r#"{"size":null}"#, Ok((r#"{"size":"512x512"}"#, None)));
    check(&rejecting, &IMAGES, r#"{"size":1}"#, Err("`size` must be a string."));
    let audited = Policy { mode: Mode::Audit, ..rejecting };
    let would = |body| outcome(&audited, &IMAGES, body).unwrap();
    assert_eq!(would(r#"{"size":"auto"}"#).would, ["size reject"]);
    assert_eq!((would("{}").would, would("{}").body), (vec!["size default".to_owned()], "{}".to_owned()));
}

#[test]
fn a_tool_draws_as_an_endpoint_does() {
    let tools = |tool: &str| format!(r#"{{"tools":[{{"type":"web_search","size":"x"}},{tool}]}}"#);
    let draws = |more: &str| format!(r#"{{"type":"image_generation"{more}}}"#);
    let clamping = drawn(Over::Clamp, None);
    check_same(&clamping, &RESPONSES, &tools(&draws("")));
    check_same(&clamping, &RESPONSES, &tools(&draws(r#","size":"512x512","quality":"low""#)));
    let twice = |size: &str| {
        let tool = draws(&format!(r#","size":"{size}""#));
        tools(&format!("{tool},{tool}"))
    };
    check(&clamping, &RESPONSES, &twice("auto"), Ok((&twice("1024x1024"), Some("tools.size=1024x1024"))));
    let sentence = "`tools.quality` is `high`, but this client's policy allows only `low`, `medium`.";
    let rejecting = drawn(Over::Reject, Some("512x512"));
    let high = draws(r#","quality":"high""#);
    check(&rejecting, &RESPONSES, &tools(&high), Err(sentence));
    // Chat has the tool at no vendor's, and might at some server.
    check(&rejecting, &CHAT, &tools(&high), Err(sentence));
    let of_item = format!(r#"{{"input":[{{"type":"additional_tools","tools":[{high}]}}]}}"#);
    check(&rejecting, &RESPONSES, &of_item, Err(sentence));
    let written = tools(r#"{"size":"512x512","type":"image_generation"}"#);
    check(&rejecting, &RESPONSES, &tools(&draws("")), Ok((&written, None)));
    let written = tools(&draws(r#","size":"512x512""#));
    check(&rejecting, &RESPONSES, &tools(&draws(r#","size":null"#)), Ok((&written, None)));
    let audited = Policy { mode: Mode::Audit, ..rejecting };
    let body = tools(&format!("{high},{high}"));
    let found = outcome(&audited, &RESPONSES, &body).unwrap();
    assert_eq!((found.would, found.body), (words(&["size default", "quality reject"]), body));
    let sentence = "In `tools`, `size` stands more than once in one object.";
    let body = tools(&draws(r#","size":"512x512","size":"auto""#));
    check(&clamping, &RESPONSES, &body, Err(sentence));
}

#[test]
fn speech_that_comes_as_events_is_a_stream() {
    let speech = Asked { operation: Operation::Speech, ..CHAT };
    let policy = Policy { stream: Streaming::Forbid, ..Policy::default() };
    let sentence = "`stream_format` is `sse`, but this client's policy allows only `audio`.";
    check(&policy, &speech, r#"{"stream_format":"sse"}"#, Err(sentence));
    check_same(&policy, &speech, r#"{"stream_format":"audio"}"#);
    check_same(&policy, &speech, "{}");
    check_same(&policy, &CHAT, r#"{"stream_format":"sse"}"#);
    check_same(
        &Policy { stream: Streaming::Require, ..Policy::default() },
        &speech,
        r#"{"stream_format":"sse"}"#,
    );
    let audited = Policy { mode: Mode::Audit, ..policy };
    assert_eq!(outcome(&audited, &speech, r#"{"stream_format":"sse"}"#).unwrap().would, ["stream reject"]);
}

#[test]
fn a_transcription_tells_how_likely_words_were_if_it_may() {
    let transcription = Asked { operation: Operation::Transcriptions, ..CHAT };
    let with = |logprobs| Policy { logprobs, ..Policy::default() };
    let body = r#"{"include":["logprobs","x"]}"#;
    check_same(&with(Permission::Allow), &transcription, body);
    let sentence = "`logprobs` is not allowed by this client's policy.";
    check(&with(Permission::Forbid), &transcription, body, Err(sentence));
    let told = Ok((r#"{"include":["x"]}"#, Some("logprobs=null")));
    check(&with(Permission::Drop), &transcription, body, told);
    check_same(&with(Permission::Drop), &transcription, r#"{"include":["x"]}"#);
}

#[test]
fn a_field_that_is_allowed_is_not_unknown() {
    let policy = Policy {
        allowed_fields: words(&["top_k", "min_p"]),
        unknown_fields: Unknown::Refuse,
        ..Policy::default()
    };
    check_same(&policy, &CHAT, r#"{"top_k":1,"min_p":0.1,"model":"m"}"#);
    let sentence = "This client's policy allows only known fields, and does not know `Top_k`.";
    check(&policy, &CHAT, r#"{"top_k":1,"Top_k":1}"#, Err(sentence));
    let audited = Policy { unknown_fields: Unknown::Audit, ..policy };
    let mut request = Request::read(br#"{"top_k":1,"top_p2":1}"#).unwrap();
    let findings = apply(&audited, &CHAT, &mut request).unwrap().findings;
    assert_eq!(findings.iter().filter_map(Finding::unknown).collect::<Vec<_>>(), ["top_p2"]);
}
