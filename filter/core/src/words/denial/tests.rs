use super::wording::long;
use super::*;
use crate::allowance::{Flow, Measure, Scope};
use crate::allowance::{Unit, Weights, Whose};
use crate::calendar::Span;
use crate::endpoint::Operation;
use std::num::NonZeroU64;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[track_caller]
fn check(denial: &Denial, status: u16, headers: &[(&str, &str)], body: &str) {
    let answer = denial.answer();
    assert_eq!(answer.status, status);
    let found: Vec<_> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(found, headers);
    assert_eq!(String::from_utf8(answer.body).unwrap(), body);
}

#[test]
fn a_refusal_names_the_field_and_the_bound() {
    check(
        &Denial::AboveMax { field: "best_of", max: Number::Count(1), asked: Number::Count(20) },
        400,
        &[JSON, ("x-should-retry", "false")],
        r#"{"error":{"message":"`best_of` is 20, but this client's policy allows at most 1.","type":"invalid_request_error","param":"best_of","code":"parameter_above_maximum"}}"#,
    );
}

#[test]
fn a_client_named_twice_is_told_by_what() {
    let told = |denial: &Denial| {
        let body: serde_json::Value = serde_json::from_slice(&denial.answer().body).unwrap();
        (denial.code(), body["error"]["message"].as_str().unwrap().to_owned())
    };
    let (code, message) = told(&Denial::AmbiguousClient);
    assert_eq!(code, told(&Denial::AmbiguousCredential).0);
    assert!(message.contains("by a header that is trusted here"), "{message}");
    assert!(!message.contains("More than one API key"), "{message}");
}

#[test]
fn what_the_caller_wrote_is_escaped() {
    check(
        &Denial::ModelNotAllowed("a\"b\n".to_owned()),
        403,
        &[JSON, ("x-should-retry", "false")],
        r#"{"error":{"message":"The model `a\"b\n` does not exist, or this client may not use it.","type":"permission_error","param":"model","code":"model_not_allowed"}}"#,
    );
}

const TOKENS: Unit = Unit::Tokens(Weights::PLAIN);

fn allowance(measure: Measure, amount: u64) -> Rc<Allowance> {
    let amount = NonZeroU64::new(amount).unwrap();
    Rc::new(Allowance::new(Whose::Client, measure, amount, Scope::default(), false))
}

#[track_caller]
fn check_limit(denial: &Denial, code: &str, headers: &[(&str, &str)], sentence: &str) {
    let answer = denial.answer();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let found: Vec<_> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!((answer.status, body["error"]["code"].as_str().unwrap()), (429, code));
    assert_eq!(body["error"]["message"], sentence);
    assert_eq!(found[1..], *headers);
}

#[test]
fn every_refusal_by_a_limit_says_which_it_was_and_what_to_do() {
    let exhausted = |allowance: Rc<Allowance>, needed, remaining, seconds| {
        let wait = Duration::from_secs(seconds);
        match allowance.measure {
            Measure::Quota(..) => Denial::QuotaExhausted { allowance, needed, remaining, wait },
            _ => Denial::RateExhausted { allowance, needed, remaining, wait },
        }
    };
    let soon = [("retry-after", "5"), ("retry-after-ms", "5000")];
    check_limit(
        &exhausted(allowance(Measure::Rate(TOKENS, Flow::Minute), 600), 20, 10, 5),
        "rate_limit_exceeded",
        &soon,
        "This client's limit of 600 tokens per minute is reached: the request may cost 20, 10 are left. Try again \
         in 5.0 s.",
    );
    check_limit(
        &exhausted(allowance(Measure::Rate(Unit::Requests, Flow::Second), 6), 1, 0, 5),
        "rate_limit_exceeded",
        &soon,
        "This client's limit of 6 requests per second is reached. Try again in 5.0 s.",
    );
    let scope = Scope {
        models: Some(vec!["gpt-4o".into(), "o3".into()]),
        endpoints: Some(vec![Operation::ChatCompletions]),
    };
    let (amount, group) = (NonZeroU64::new(50_000_000).unwrap(), Whose::Group("sales".into()));
    let month = Measure::Quota(Unit::Cost, Span::Month);
    let shared = Rc::new(Allowance::new(group, month, amount, scope, false));
    check_limit(
        &exhausted(shared, 1_250_000, 200, 200_000),
        "insufficient_quota",
        &[("retry-after", "200000"), ("retry-after-ms", "200000000"), ("x-should-retry", "false")],
        "The limit of group `sales` of 50.00 in money per month for gpt-4o, o3 at chat/completions is reached: the \
         request may cost 1.25, 0.0002 are left. Try again in 2 d 8 h.",
    );
    check_limit(
        &exhausted(allowance(Measure::Quota(TOKENS, Span::Hour), 9), 5, 4, 60),
        "insufficient_quota",
        &[("retry-after", "60"), ("retry-after-ms", "60000")],
        "This client's limit of 9 tokens per hour is reached: the request may cost 5, 4 are left. Try again in \
         60.0 s.",
    );
    let wait = Duration::from_secs(1);
    check_limit(
        &Denial::HeldBytesExceeded { bytes_max: 100, wait },
        "held_bytes_exceeded",
        &[("retry-after", "1")],
        "This client sends bodies of more than 100 bytes at the same time, the most that is held for it. Send fewer at \
         a time.",
    );
    check_limit(
        &Denial::TooManyAtOnce { allowance: allowance(Measure::Concurrent, 40), wait },
        "concurrency_limit_exceeded",
        &[("retry-after", "1")],
        "This client's limit of 40 concurrent requests is reached. Try again when one of them has ended.",
    );
    let weighted = Unit::Tokens(Weights { cached: 0, ..Weights::PLAIN });
    check_limit(
        &Denial::NeverFits { allowance: allowance(Measure::Rate(weighted, Flow::Minute), 10), needed: 11 },
        "request_exceeds_limit",
        &[("x-should-retry", "false")],
        "The request may cost 11 weighted tokens, more than this client's limit of 10 per minute. Ask for fewer \
         completion tokens or send a shorter prompt.",
    );
    check_limit(
        &Denial::NeverFits {
            allowance: allowance(Measure::Quota(Unit::Cost, Span::Day), 10),
            needed: 1_000_011,
        },
        "request_exceeds_limit",
        &[("x-should-retry", "false")],
        "The request may cost 1.000011, more than this client's limit of 0.00001 per day. Ask for fewer \
         completion tokens or send a shorter prompt.",
    );
}

#[test]
fn a_wait_is_told_in_what_people_count_it_in() {
    for (seconds, expected) in
        [(60, "60.0 s"), (61, "2 min"), (3600, "1 h 0 min"), (86_399, "1 d 0 h"), (90_001, "1 d 2 h")]
    {
        assert_eq!(long(Duration::from_secs(seconds)), expected);
    }
}

#[test]
fn the_wait_is_rounded_up_never_down() {
    check(
        &Denial::BackendsThrottled { wait: Duration::from_nanos(1_000_000_001) },
        429,
        &[JSON, ("retry-after", "2"), ("retry-after-ms", "1001")],
        r#"{"error":{"message":"Every backend for this model is at its limit. Try again in 1.1 s.","type":"rate_limit_error","param":null,"code":"backends_throttled"}}"#,
    );
}

#[test]
fn a_request_that_can_never_fit_is_not_to_be_retried() {
    let denial =
        Denial::NeverFits { allowance: allowance(Measure::Rate(TOKENS, Flow::Minute), 10), needed: 11 };
    let answer = denial.answer();
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains(&("x-should-retry", "false".to_owned())));
    assert!(answer.headers.iter().all(|(name, _)| *name != "retry-after"));
}
