use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn names_of_headers_that_never_pass_are_refused_with_their_path() {
    let mut config = whole();
    config["pass_headers"] = json!(["x-corp-*", "x-forwarded-host", "a b", "x-who"]);
    config["clients"][0]["trusted_header"] = json!({ "name": "x-who", "value": "a" });
    config["pass_answer_headers"] = json!(["x-ratelimit-*"]);
    assert_eq!(
        load(config).unwrap_err(),
        [
            "pass_headers[1]: \"x-forwarded-host\" cannot pass, for \"x-forwarded-*\" never does: \
             it chooses at the backend where a request goes, or who asks",
            "pass_headers[2]: \"a b\": expected the name of a header, or the beginning of names and \"*\" as in \"x-corp-*\"",
            "pass_headers: lets \"x-who\" pass, in which a credential is sent",
            "pass_answer_headers[0]: \"x-ratelimit-*\" cannot pass, for \"x-ratelimit-*\" never does: \
             the gateway has its own",
        ]
    );
}
