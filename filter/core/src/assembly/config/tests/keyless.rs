//! What is written of backends without a key.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

fn with_credential(credential: Value) -> Result<Gateway, Vec<String>> {
    let mut whole = whole();
    whole["backends"][0]["credential"] = credential;
    load(whole)
}

#[track_caller]
fn check_azure(azure: Value, expected: &[&str]) {
    let faults = with_credential(json!({ "azure": azure })).map(|_| ()).unwrap_err();
    let expected: Vec<_> = expected.iter().map(|fault| format!("backends[0].credential{fault}")).collect();
    assert_eq!(faults, expected);
}

#[test]
fn each_way_to_a_token_is_read() {
    for azure in [
        json!({ "managed_identity": { "cluster": "imds" } }),
        json!({ "managed_identity": { "cluster": "imds", "client_id": "c-1" } }),
        json!({ "workload_identity": { "cluster": "e", "token_cluster": "f", "tenant": "t", "client_id": "c" } }),
        json!({ "client_secret": { "cluster": "e", "tenant": "t.example", "client_id": "c", "env": "A" } }),
    ] {
        let mut azure = azure;
        azure["scope"] = json!(SCOPE);
        let gateway = with_credential(json!({ "azure": azure })).unwrap();
        assert_eq!(gateway.accesses.len(), 1);
        assert_eq!(&*gateway.accesses[0].backend, "a");
        assert_eq!(gateway.credential_headers, ["authorization"]);
        assert!(!format!("{gateway:?}").contains("secret-A"));
    }
}

#[test]
fn a_credential_is_a_key_or_a_token_and_one_of_three() {
    let machine = json!({ "cluster": "imds" });
    for credential in [
        json!({}),
        json!({ "header": "api-key" }),
        json!({ "env": "A" }),
        json!({ "header": "api-key", "env": "A", "azure": { "scope": SCOPE, "managed_identity": machine } }),
    ] {
        let faults = with_credential(credential).map(|_| ()).unwrap_err();
        assert_eq!(faults, ["backends[0].credential: expected either header and env, or azure"]);
    }
    let one = ".azure: expected exactly one of managed_identity, workload_identity, client_secret";
    check_azure(json!({ "scope": SCOPE }), &[one]);
    let secret = json!({ "cluster": "e", "tenant": "t", "client_id": "c", "env": "A" });
    check_azure(json!({ "scope": SCOPE, "managed_identity": machine, "client_secret": secret }), &[one]);
}

#[test]
fn what_cannot_stand_in_a_request_for_a_token_is_refused() {
    let id = "expected the client id, letters, digits and -";
    check_azure(
        json!({ "scope": "", "managed_identity": { "cluster": "i m", "client_id": "c d" } }),
        &[
            ".azure.scope: \"\": expected https://cognitiveservices.azure.com/.default",
            &format!(".azure.managed_identity.client_id: \"c d\": {id}"),
            ".azure.managed_identity.cluster: \"i m\" is no name: expected 1 to 128 of letters, digits and . _ - : / @ +",
        ],
    );
    check_azure(
        json!({ "scope": SCOPE, "workload_identity": {
            "cluster": "e", "token_cluster": "", "tenant": "t?", "client_id": "", "host": "h h" } }),
        &[
            ".azure.workload_identity.token_cluster: \"\" is no name: expected 1 to 128 of letters, digits and . _ - : / @ +",
            ".azure.workload_identity.tenant: \"t?\": expected its id or one of its domains",
            &format!(".azure.workload_identity.client_id: \"\": {id}"),
            ".azure.workload_identity.host: \"h h\": expected login.microsoftonline.com",
        ],
    );
    check_azure(
        json!({ "scope": SCOPE, "client_secret": { "cluster": "e", "tenant": "t", "client_id": "c", "env": "C" } }),
        &[
            ".azure.client_secret.env: environment variable \"C\" is not set: expected it in Envoy's environment and in \
           vm_config.environment_variables.host_env_keys of both Tollgate filters",
        ],
    );
}
