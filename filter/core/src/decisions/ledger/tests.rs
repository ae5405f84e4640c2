use super::*;
use crate::finding::{Effect, Would};
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
        ],
    );
    let words = |word: &str| Detail::Words(vec![word.to_owned()]);
    let expected = [
        ("clamped", words("n=2")),
        ("refused_by", words("seed")),
        ("would_refuse", words("echo")),
        ("would_clamp", words("max_tokens")),
        ("would_default", words("best_of")),
        ("unknown_fields", words("top_k")),
    ];
    assert_eq!(record.details()[9..], expected);
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
    let details = record.details();
    assert!(details.contains(&("limit", Detail::Text("tokens/minute".to_owned()))));
    let shadows = ["group/cost/day", "concurrent"].map(str::to_owned).to_vec();
    assert!(details.contains(&("shadow_refusals", Detail::Words(shadows))));
}

#[test]
fn an_unknown_client_has_a_label_of_its_own() {
    check(
        &Record::new(Outcome::Denied("invalid_api_key")),
        &[("tollgate_requests;client=none;model=none;operation=none;outcome=invalid_api_key", 1)],
    );
}

#[test]
fn the_log_leaves_out_what_is_not_known() {
    let names = |record: &Record| record.details().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&record()).len(), 9);
    let usage = Usage { cache_write: 3, prompt_image: 2, completion_image: 1, ..Usage::default() };
    let more = Record { asked: Some("x".to_owned()), price_micros: Some(1), usage, ..record() };
    let kinds = ["cache_write_tokens", "prompt_image_tokens", "completion_image_tokens"];
    assert_eq!(names(&more)[9..], [&["model_asked", "price_micros"][..], &kinds].concat());
}
