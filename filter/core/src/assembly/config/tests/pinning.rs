use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
        &["pinning.secret_env: unknown field, expected one of secret_envs, bound_to, unsealed_ids, batches"],
    );
    check(
        "/pinning",
        json!({ "secret_envs": ["A_SECRET_THAT_HAS_THIRTY_TWO_BYTES"], "batches": "count" }),
        &["pinning.batches: unknown variant \"count\", expected \"pass\" or \"govern\""],
    );
    let mut config = whole();
    config["pinning"] = json!({ "secret_envs": ["LONG"], "bound_to": "anyone", "batches": "govern" });
    let faults = from_value(config, &long).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["pinning.batches: govern: expected bound_to: client beside it"]);
}
