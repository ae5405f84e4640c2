//! Refusals whose codes no other test of an exchange names.

use super::*;
use crate::finding::Would;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_key_outside_of_its_time_says_which() {
    let code = |times: Value| {
        let mut run = Run::with(gateway(|config| {
            let key = &mut config["clients"][0]["api_keys"][0];
            *key = with(key.take(), times);
        }));
        refused(run.head(&CHAT))
    };
    assert_eq!(code(json!({ "not_after": "2020-01-01T00:00:00Z" })), "401 expired_api_key");
    assert_eq!(code(json!({ "not_before": "2100-01-01T00:00:00Z" })), "401 api_key_not_yet_valid");
}

#[test]
fn a_body_below_a_bound_or_with_two_caps_is_refused() {
    let code = |members: &str| {
        let mut run = Run::with(gateway(|config| {
            config["policies"][0]["temperature"] = json!({ "min": 0.5, "over": "reject" });
        }));
        let _ = run.head(&CHAT);
        refused(run.body(&format!(r#"{{"model":"gpt-4o","messages":[],{members}}}"#)))
    };
    assert_eq!(code(r#""temperature":0.25"#), "400 parameter_below_minimum");
    assert_eq!(code(r#""n":3,"best_of":2"#), "400 parameter_below_minimum");
    assert_eq!(code(r#""max_tokens":5,"max_completion_tokens":5"#), "400 mutually_exclusive_parameters");
}

#[test]
fn a_second_policy_only_counts_whatever_the_first_does() {
    let would = |would, policy: &str| Finding {
        rule: "max_tokens",
        effect: Effect::WouldBeside(would, policy.into()),
    };
    let audits = |body: &str| {
        let mut run = Run::with(gateway(|config| {
            let stricter = json!({ "name": "q", "max_tokens": { "max": 10, "over": "reject" } });
            let kinder = json!({ "name": "r", "max_tokens": { "default": 5, "max": 1000, "over": "clamp" } });
            let policies = config["policies"].as_array_mut().unwrap();
            policies.extend([stricter, kinder]);
            policies[0]["n"] = json!({ "max": 1, "over": "reject" });
            config["clients"][0]["audit_policy"] = json!(["q", "r"]);
        }));
        let _ = run.head(&CHAT);
        let step = run.body(body);
        (matches!(step, Step::Forward(_)), run.finish().findings)
    };
    let body = |members: &str| format!(r#"{{"model":"gpt-4o","messages":[]{members}}}"#);
    assert_eq!(audits(&body(r#","max_tokens":7"#)), (true, vec![]));
    assert_eq!(audits(&body(r#","max_tokens":50"#)), (true, vec![would(Would::Reject, "q")]));
    assert_eq!(audits(&body("")), (true, ["q", "r"].map(|policy| would(Would::Default, policy)).to_vec()));
    // The first one's own findings stand behind, and its refusal is its own.
    let refused = Finding { rule: "n", effect: Effect::Refused };
    assert_eq!(audits(&body(r#","max_tokens":50,"n":2"#)), (false, vec![would(Would::Reject, "q"), refused]));
}
