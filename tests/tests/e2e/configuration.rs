//! Is a broken configuration refused at the start, in a sentence that says where and what?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};

use crate::requests::{CHAT, WEB_SHOP, chat, check_record, record_of, refusal};

/// Envoy does not start, and its log has these sentences of ours and no other.
async fn check(setup: Setup, expected: &[&str]) {
    let log = Gateway::expect_start_failure(setup.workers(1)).await.unwrap();
    let ours = |line: &'_ str| line.split_once(" tollgate: ").map(|(_, sentence)| sentence.to_owned());
    let mut found: Vec<String> = log.lines().filter_map(ours).collect();
    // Each VM that Envoy tries to configure says the same.
    found.sort_unstable();
    found.dedup();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let errors: Vec<&str> =
        log.lines().filter(|line| line.contains("[error]") || line.contains("[critical]")).collect();
    assert_eq!(found, expected, "{errors:#?}");
}

#[tokio::test]
async fn an_unknown_field_stops_envoys_start() {
    let misspelt = |config: &mut Value| config["clients"][0]["limit"] = json!([]);
    let sentence = "configuration: clients[0].limit: unknown field, expected one of name, api_keys, jwt, \
                    certificate, trusted_header, anonymous, models, endpoints, policy, audit_policy, policy_by_model, group, limits, \
                    priority, spill, regions, operator, may_act_for, held_bytes_max";
    check(Setup::new().edit(misspelt), &[sentence]).await;
}

#[tokio::test]
async fn a_missing_key_and_an_unknown_backend_stop_envoys_start() {
    let unknown = |config: &mut Value| config["models"][1]["backends"][0]["backend"] = json!("azure");
    let sentences = [
        "configuration: backends[1].credential.env: environment variable \"PAYG_A_KEY\" is not set: expected it in \
         Envoy's environment and in vm_config.environment_variables.host_env_keys of both Tollgate filters",
        "configuration: models[1].backends[0].backend: no backend is named \"azure\": expected one of \"payg-a\", \
         \"payg-b\", \"ptu\"",
    ];
    check(Setup::new().edit(unknown).env("PAYG_A_KEY", ""), &sentences).await;
}

#[tokio::test]
async fn no_configuration_at_all_stops_envoys_start() {
    let none = |envoy: &mut Value| {
        let filters = http_filters(envoy);
        filters[0]["typed_config"]["config"].as_object_mut().unwrap().remove("configuration");
    };
    let sentence = "configuration: empty: expected a google.protobuf.Struct, or a StringValue with JSON";
    check(Setup::new().patch(none), &[sentence]).await;
}

#[tokio::test]
async fn a_role_that_does_not_exist_stops_envoys_start() {
    let sentence = "root_id \"tollgate\" is no role of Tollgate: expected gateway or attempt";
    let gateway =
        |envoy: &mut Value| http_filters(envoy)[0]["typed_config"]["config"]["root_id"] = json!("tollgate");
    check(Setup::new().patch(gateway), &[sentence]).await;
    let attempt = |envoy: &mut Value| attempt_filter(envoy)["root_id"] = json!("tollgate");
    check(Setup::new().patch(attempt), &[sentence]).await;
}

#[tokio::test]
async fn a_configuration_may_be_json_in_a_string() {
    let as_text = |envoy: &mut Value| {
        let configuration = &mut http_filters(envoy)[0]["typed_config"]["config"]["configuration"];
        let text = configuration["value"].to_string();
        *configuration = json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text });
    };
    let gateway = Gateway::start(Setup::new().workers(1).patch(as_text)).await.unwrap();
    assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
}

#[tokio::test]
async fn filters_with_different_vms_send_nothing_anywhere_and_say_why() {
    let apart = |envoy: &mut Value| attempt_filter(envoy)["vm_config"]["vm_id"] = json!("another");
    let gateway = Gateway::start(Setup::new().workers(1).patch(apart)).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    assert_eq!(answer.status, 503);
    let message = "The gateway chose no backend for this attempt.";
    assert_eq!(answer.json(), refusal(message, "server_error", None, "backend_not_permitted"));
    let sentence = "an attempt without its request: both filters need the same vm_config";
    assert!(gateway.log_text().unwrap().contains(sentence));
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": null, "prompt_tokens": "0" }));
    for backend in gateway.backends().keys() {
        assert_eq!(gateway.mock(backend).received(), []);
    }
}

fn http_filters(envoy: &mut Value) -> &mut Vec<Value> {
    let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    envoy.pointer_mut(path).unwrap().as_array_mut().unwrap()
}

/// The `config` of the filter that runs once for each attempt.
fn attempt_filter(envoy: &mut Value) -> &mut Value {
    let router = http_filters(envoy).last_mut().unwrap();
    &mut router["typed_config"]["upstream_http_filters"][0]["typed_config"]["config"]
}
