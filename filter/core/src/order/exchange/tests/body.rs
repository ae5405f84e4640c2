use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn the_body_is_decided_before_anything_is_sent() {
    let with = |body: &str| {
        let mut run = Run::new();
        let _ = run.head(&CHAT);
        let code = refused(run.body(body));
        assert_eq!(run.finish().usage, Usage::default());
        assert_eq!(run.left(), BUDGET);
        code
    };
    assert_eq!(with("{"), "400 invalid_json");
    assert_eq!(with("{}"), "400 missing_required_parameter");
    assert_eq!(with(r#"{"model":"secret"}"#), "403 model_not_allowed");
    assert_eq!(with(r#"{"model":"no such"}"#), "403 model_not_allowed");
    assert_eq!(with(r#"{"model":"gpt-4o","n":101}"#), "429 request_exceeds_limit");
}

#[test]
fn a_body_is_refused_as_soon_as_it_is_too_long() {
    let mut run = Run::new();
    let _ = run.head(&CHAT);
    assert!(run.exchange.request_body_grows(1000).is_none());
    let step = run.exchange.request_body_grows(1001).unwrap();
    assert_eq!(refused(run.perform(step)), "413 request_too_large");
}

#[test]
fn the_path_names_the_model_in_azures_style() {
    let mut run = Run::new();
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let _ = run.head(&[CHAT[0], (":path", path), CHAT[2]]);
    let step = run.body(r#"{"model":"secret","max_tokens":5}"#);
    let Step::Forward(forward) = step else { panic!("{step:?}") };
    // A backend of another style reads the model from the body.
    let patch = forward.patch.unwrap();
    assert_eq!(String::from_utf8(patch.bytes).unwrap(), r#"{"model":"e""#);
    assert_eq!(forward.content_length, None);
}

#[test]
fn a_client_is_told_what_its_policy_changed() {
    let mut run = Run::new();
    let forward = run.send(r#"{"model":"gpt-4o","max_tokens":101}"#);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert_eq!(patch, r#"{"model":"e","max_tokens":100"#);
    let edits = run.answer("200", "application/json");
    assert!(edits.set.contains(&("x-tollgate-clamped", "max_tokens=100".to_owned())), "{edits:?}");
    let findings = run.finish().findings;
    assert_eq!(findings.iter().filter_map(Finding::clamped).collect::<Vec<_>>(), ["max_tokens=100"]);
    let mut run = Run::new();
    let _ = run.send(r#"{"model":"gpt-4o","max_tokens":100}"#);
    assert!(run.answer("200", "application/json").set.iter().all(|(name, _)| *name != "x-tollgate-clamped"));
}

#[test]
fn a_refused_request_names_its_rule_and_was_not_changed() {
    let forbids = |config: &mut Value| config["policies"][0]["seed"] = json!("forbid");
    for (body, code, by) in [
        // Its cap would have been lowered, had it gone.
        (r#"{"model":"gpt-4o","max_tokens":101,"seed":1}"#, "400 parameter_not_allowed", Some("seed")),
        (r#"{"model":"gpt-4o","max_tokens":"x"}"#, "400 invalid_type", None),
    ] {
        let mut run = Run::with(gateway(forbids));
        let _ = run.head(&CHAT);
        assert_eq!(refused(run.body(body)), code);
        let expected: Vec<_> = by.map(|rule| Finding { rule, effect: Effect::Refused }).into_iter().collect();
        assert_eq!(run.finish().findings, expected, "{body}");
    }
}

#[test]
fn names_of_unknown_fields_are_written_down() {
    let with = |word: &str| {
        let word = word.to_owned();
        // One that looks on beside it tells the same of them.
        Run::with(gateway(move |config| {
            config["policies"][0]["unknown_fields"] = json!(word);
            config["clients"][0]["audit_policy"] = json!([config["policies"][0]["name"]]);
        }))
    };
    let unknown = |mut run: Run| {
        let details: Value = serde_json::from_str(&run.finish().details()).unwrap();
        details.get("unknown_fields").cloned()
    };
    let body = r#"{"model":"gpt-4o","top_k":1}"#;
    let names = Some(json!(["top_k"]));
    let mut run = with("refuse");
    let _ = run.head(&CHAT);
    assert_eq!(refused(run.body(body)), "400 unknown_parameter");
    assert_eq!(unknown(run), names);
    let mut run = with("audit");
    run.send(body);
    assert_eq!(unknown(run), names);
    let mut run = with("pass");
    run.send(body);
    assert_eq!(unknown(run), None);
}

#[test]
fn an_audit_sends_what_the_client_wrote_and_reserves_for_it() {
    let mut run = Run::with(gateway(|config| {
        config["policies"][0]["mode"] = json!("audit");
        config["policies"][0]["seed"] = json!("forbid");
    }));
    let forward = run.send(r#"{"model":"gpt-4o","max_tokens":300,"seed":1}"#);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert_eq!(patch, r#"{"model":"e""#);
    assert_eq!(run.left(), BUDGET - 300);
    let edits = run.answer("200", "application/json");
    assert!(edits.set.iter().all(|(name, _)| *name != "x-tollgate-clamped"));
    let record = run.finish();
    let details = record.details();
    assert!(details.contains(r#""would_refuse""#) && details.contains(r#""would_clamp""#), "{details}");
}

#[test]
fn a_forced_stream_is_asked_for_its_usage_like_any_other() {
    let mut run = Run::with(gateway(|config| config["policies"][0]["stream"] = json!("force")));
    let forward = run.send(PROMPT);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert!(patch.contains(r#""stream":true"#) && patch.contains("include_usage"), "{patch}");
    let _ = run.answer("200", "text/event-stream");
    assert!(run.finish().stream);
}

#[test]
fn a_models_policy_takes_the_clients_place() {
    let models = |config: &mut Value| {
        let policy =
            json!({ "name": "q", "max_tokens": { "max": 7, "over": "clamp" }, "request_bytes_max": 60 });
        config["policies"].as_array_mut().unwrap().push(policy);
        config["clients"][0]["policy_by_model"] = json!({ "gpt-4o": "q" });
    };
    let mut run = Run::with(gateway(models));
    let forward = run.send(r#"{"model":"gpt-4o"}"#);
    assert!(String::from_utf8(forward.patch.unwrap().bytes).unwrap().contains(r#""max_tokens":7"#));
    let mut run = Run::with(gateway(models));
    let _ = run.head(&CHAT);
    // Before the model is known, the client's longest bound holds.
    assert!(run.exchange.request_body_grows(1000).is_none());
    assert_eq!(refused(run.body(PROMPT)), "413 request_too_large");
}

#[test]
fn a_model_is_found_however_its_name_is_written_in_the_path() {
    let colon: fn(&mut Value) = |config| {
        config["models"][0]["name"] = json!("ft:gpt-4o");
        config["clients"][0]["models"] = json!(["ft:gpt-4o"]);
    };
    for name in ["ft:gpt-4o", "ft%3Agpt-4o", "ft%3agpt%2D4o"] {
        let mut run = Run::with(gateway(colon));
        let path = format!("/openai/deployments/{name}/chat/completions");
        let _ = run.head(&[CHAT[0], (":path", &path), CHAT[2]]);
        assert!(matches!(run.body(PROMPT), Step::Forward(_)), "{name}");
        assert_eq!(run.finish().asked.as_deref(), Some("ft:gpt-4o"));
        let path = format!("/v1/models/{name}");
        let step = Run::with(gateway(colon)).head(&[(":method", "GET"), (":path", &path), CHAT[2]]);
        assert!(matches!(step, Step::Answer(Answer { status: 200, .. })), "{name}: {step:?}");
    }
    for name in ["ft%253Agpt-4o", "ft%3", "%ff", "ft%00"] {
        let path = format!("/v1/models/{name}");
        let step = Run::with(gateway(colon)).head(&[(":method", "GET"), (":path", &path), CHAT[2]]);
        assert!(matches!(step, Step::Answer(Answer { status: 403, .. })), "{name}: {step:?}");
    }
}

#[test]
fn an_older_api_version_is_not_asked_for_usage() {
    let mut run = Run::with(gateway(|config| config["backends"][0]["api_version"] = json!("2024-06-01")));
    let forward = run.send(STREAM);
    assert!(!String::from_utf8(forward.patch.unwrap().bytes).unwrap().contains("stream_options"));
}
