use super::*;
use crate::caller::Caller;
use crate::decision::{PassedOver, Why};
use crate::finding::{Effect, Would};
use serde_json::{Value, json};
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn record() -> Record {
    Record {
        operation: "chat/completions",
        client: Some(Name::new("web-shop")),
        model: Some(Name { text: "gpt-4.1".into(), label: "other".into() }),
        usage: Usage { prompt: 30, completion: 11, reasoning: 1, ..Usage::default() },
        ..Record::new(Outcome::Served)
    }
}

#[track_caller]
fn check(record: &Record, expected: &[(&str, u64)]) {
    let found: Vec<_> = record.additions().iter().map(|(series, amount)| (series.name(), *amount)).collect();
    let found: Vec<_> = found.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_record_adds_what_it_says_and_nothing_that_is_zero() {
    check(
        &record(),
        &[
            ("tollgate_requests;client=web-shop;model=other;operation=chat/completions;outcome=served", 1),
            ("tollgate_tokens;client=web-shop;model=other;kind=prompt", 30),
            ("tollgate_tokens;client=web-shop;model=other;kind=completion", 11),
            ("tollgate_tokens;client=web-shop;model=other;kind=reasoning", 1),
            ("gen_ai.client.token.usage;client=web-shop;model=other;type=input", 30),
            ("gen_ai.client.token.usage;client=web-shop;model=other;type=output", 11),
        ],
    );
}

#[test]
fn no_counter_grows_by_nothing() {
    let record = Record {
        source: Source::Estimated,
        price_micros: Some(0),
        estimated_prompt: Some(0),
        first_token: Some(Duration::ZERO),
        ..Record::new(Outcome::Broken)
    };
    let names: Vec<_> = record.additions().iter().map(|(series, _)| series.name()).collect();
    assert_eq!(
        names,
        [
            "tollgate_requests;client=none;model=none;operation=none;outcome=broken",
            "gen_ai.server.time_to_first_token_ms;model=none"
        ]
    );
}

#[test]
fn times_prices_and_estimates_are_added_where_they_are_known() {
    let record = Record {
        usage: Usage { prompt: 30, completion: 11, ..Usage::default() },
        source: Source::Estimated,
        estimated_prompt: Some(36),
        price_micros: Some(7),
        first_token: Some(Duration::from_millis(200)),
        duration: Duration::from_millis(700),
        served: Some(Served { backend: "a".into(), deployment: "d".into(), region: None }),
        unread: Some("compressed"),
        ..record()
    };
    let found: Vec<_> = record.additions().iter().map(|(series, amount)| (series.name(), *amount)).collect();
    let expected = [
        ("tollgate_estimated_tokens;client=web-shop;model=other", 41),
        ("tollgate_price_micros;client=web-shop;model=other", 7),
        ("tollgate_unread_answers;reason=compressed", 1),
        ("tollgate_estimate_percent;model=other", 120),
        ("gen_ai.server.time_to_first_token_ms;model=other", 200),
        ("gen_ai.server.time_per_output_token_ms;model=other", 50),
        ("gen_ai.server.request.duration_ms;model=other", 700),
    ];
    assert_eq!(found[5..], expected.map(|(name, amount)| (name.to_owned(), amount)));
}

#[test]
fn what_a_policy_found_is_counted_and_written_down() {
    let findings = vec![
        Finding { rule: "n", effect: Effect::Clamped("n=2".to_owned()) },
        Finding { rule: "seed", effect: Effect::Refused },
        Finding { rule: "echo", effect: Effect::Would(Would::Reject) },
        Finding { rule: "max_tokens", effect: Effect::Would(Would::Clamp) },
        Finding { rule: "best_of", effect: Effect::Would(Would::Default) },
        Finding { rule: "unknown_fields", effect: Effect::Unknown("top_k".to_owned()) },
        Finding { rule: "n", effect: Effect::WouldBeside(Would::Reject, "strict".into()) },
    ];
    let record = Record { findings, client: Some(Name::new("web")), ..Record::new(Outcome::Served) };
    check(
        &record,
        &[
            ("tollgate_requests;client=web;model=none;operation=none;outcome=served", 1),
            ("tollgate_policy_clamps;client=web;rule=n", 1),
            ("tollgate_policy_refusals;client=web;rule=seed", 1),
            ("tollgate_policy_audits;client=web;rule=echo;effect=reject", 1),
            ("tollgate_policy_audits;client=web;rule=max_tokens;effect=clamp", 1),
            ("tollgate_policy_audits;client=web;rule=best_of;effect=default", 1),
            ("tollgate_policy_audits;client=web;rule=strict/n;effect=reject", 1),
        ],
    );
    let expected = concat!(
        r#","clamped":["n=2"],"refused_by":["seed"],"would_refuse":["echo","strict/n"],"would_clamp":["max_tokens"]"#,
        r#","would_default":["best_of"],"unknown_fields":["top_k"]}"#
    );
    assert!(record.details().ends_with(expected), "{}", record.details());
}

#[test]
fn refusals_by_limits_are_counted_by_limit() {
    let record = Record {
        client: Some(Name::new("web-shop")),
        limit: Some("tokens/minute".into()),
        shadow_refusals: vec!["group/cost/day".into(), "concurrent".into()],
        ..Record::new(Outcome::Denied("rate_limit_exceeded"))
    };
    let found: Vec<_> = record.additions().iter().map(|(series, amount)| (series.name(), *amount)).collect();
    let expected = [
        ("tollgate_limit_refusals;client=web-shop;limit=tokens/minute", 1),
        ("tollgate_limit_shadow_refusals;client=web-shop;limit=group/cost/day", 1),
        ("tollgate_limit_shadow_refusals;client=web-shop;limit=concurrent", 1),
    ];
    assert_eq!(found[1..], expected.map(|(name, amount)| (name.to_owned(), amount)));
    let expected = r#","limit":"tokens/minute","shadow_refusals":["group/cost/day","concurrent"]}"#;
    assert!(record.details().ends_with(expected), "{}", record.details());
}

#[test]
fn an_unknown_client_has_a_label_of_its_own() {
    check(
        &Record::new(Outcome::Denied("invalid_api_key")),
        &[("tollgate_requests;client=none;model=none;operation=none;outcome=invalid_api_key", 1)],
    );
}

#[test]
fn the_log_tells_of_a_refused_caller_what_is_known() {
    let told = |caller| {
        let refused_caller = Some(Box::new(caller));
        Record { refused_caller, ..Record::new(Outcome::Denied("invalid_api_key")) }.details()
    };
    let address = Some("192.0.2.7".to_owned());
    let key =
        Caller { address: address.clone(), key_begins: Some("sk-01234".to_owned()), ..Caller::default() };
    let expected = r#","caller_address":"192.0.2.7","key_begins":"sk-01234"}"#;
    assert!(told(key.clone()).ends_with(expected), "{}", told(key));
    let [iss, sub, oid] = ["i", "s\"", "o"].map(|claim| Some(claim.to_owned()));
    let token = Caller { address, key_begins: None, iss, sub, oid };
    let expected =
        r#","caller_address":"192.0.2.7","unverified_iss":"i","unverified_sub":"s\"","unverified_oid":"o"}"#;
    assert!(told(token.clone()).ends_with(expected), "{}", told(token));
}

#[test]
fn the_log_leaves_out_what_is_not_known() {
    let always = concat!(
        r#"{"operation":"chat/completions","stream":false,"tries":[],"reserved_tokens":0,"cached_tokens":0"#,
        r#","prompt_audio_tokens":0,"reasoning_tokens":1,"completion_audio_tokens":0,"duration_ms":0"#
    );
    assert_eq!(record().details(), [always, "}"].concat());
    let usage = Usage { cache_write: 3, prompt_image: 2, completion_image: 1, ..record().usage };
    let more = Record { asked: Some("x\"".to_owned()), price_micros: Some(1), usage, ..record() };
    let known = concat!(
        r#","model_asked":"x\"","price_micros":1,"cache_write_tokens":3,"prompt_image_tokens":2"#,
        r#","completion_image_tokens":1}"#
    );
    assert_eq!(more.details(), [always, known].concat());
}

#[test]
fn a_line_is_the_fields_behind_a_comma() {
    let passed_over = vec![
        PassedOver { backend: "a".into(), why: Why::Pausing(Duration::from_micros(1500)) },
        PassedOver { backend: "b".into(), why: Why::Region },
    ];
    let tries =
        vec![Try { backend: "a".into(), status: Some(429) }, Try { backend: "b".into(), status: None }];
    let record = Record { passed_over, tries, ..record() };
    let line = String::from_utf8(record.line("i\"d", false)).unwrap();
    let whole: Value = serde_json::from_str(&format!("{{{}}}", line.strip_prefix(',').unwrap())).unwrap();
    let details: Value = serde_json::from_str(whole["details"].as_str().unwrap()).unwrap();
    assert_eq!(
        details["tries"],
        json!([{ "backend": "a", "status": 429 }, { "backend": "b", "status": null }])
    );
    let why =
        json!([{ "backend": "a", "why": "cooldown", "wait_ms": 2 }, { "backend": "b", "why": "region" }]);
    assert_eq!(details["passed_over"], why);
    let expected = concat!(
        r#","request_id":"i\"d","client":"web-shop","model":"gpt-4.1","backend":null,"outcome":"served""#,
        r#","prompt_tokens":"30","completion_tokens":"11","estimated":"false","details":"{\"operation\":"#
    );
    assert!(line.starts_with(expected), "{line}");
    // With all that is JSON as that.
    let typed = String::from_utf8(record.line("i\"d", true)).unwrap();
    let typed: Value = serde_json::from_str(&format!("{{{}}}", typed.strip_prefix(',').unwrap())).unwrap();
    assert_eq!(typed["details"], details);
    assert_eq!((&typed["prompt_tokens"], &typed["completion_tokens"]), (&json!(30), &json!(11)));
    assert_eq!((&typed["estimated"], &typed["backend"]), (&json!(false), &Value::Null));
    assert_eq!((&typed["request_id"], &typed["client"]), (&whole["request_id"], &whole["client"]));
}

#[test]
fn a_record_is_kept_by_who_pays_and_the_day_it_began() {
    let midnight = Duration::from_secs(20_785 * 86_400);
    let served = Served { backend: "a".into(), deployment: "d".into(), region: None };
    let record = Record {
        group: Some("sales".into()),
        served: Some(served),
        price_micros: Some(9),
        duration: Duration::from_secs(2),
        ..record()
    };
    let row = record.spend(midnight + Duration::from_secs(1)).unwrap();
    assert_eq!((row.day, row.field()), (20_784, "web-shop\u{1f}sales\u{1f}gpt-4.1\u{1f}a\u{1f}".to_owned()));
    assert_eq!((row.spend.requests, row.spend.price_micros, row.spend.estimated_tokens), (1, 9, 0));
    assert!(record.details().contains(r#""group":"sales""#));
    // Work of somebody else has ended.
    let charge = Charge { client: Name::new("lab"), group: None, model: None, price_micros: None };
    let record = Record { charge: Some(charge), source: Source::Estimated, ..record };
    let row = record.spend(midnight).unwrap();
    assert_eq!((row.field(), row.spend.estimated_tokens), ("lab\u{1f}\u{1f}\u{1f}a\u{1f}".to_owned(), 41));
    assert!(!record.details().contains("group"));
    // What went nowhere costs nothing.
    let refused = Record { served: None, usage: Usage::default(), price_micros: None, ..record };
    assert_eq!(refused.spend(midnight), None);
}
