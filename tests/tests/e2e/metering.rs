//! Is every token counted, however an exchange ends?

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tollgate_tests::harness::tools::{self, target_dir, workspace};
use tollgate_tests::harness::{Answer, Gateway, Setup, credential_of};
use tollgate_tests::mock::{Gzip, Settings, Usage};

use crate::requests::{
    BATCH, CHAT, GPT_4O, WEB_SHOP, chat, check_record, details, nobody_is_limited, prompt_estimate,
    record_of, record_where, with,
};

fn route(envoy: &mut Value) -> &mut Value {
    let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/\
                routes/0/route";
    envoy.pointer_mut(path).expect("envoy.yaml has one route")
}

fn detail(record: &Value, field: &str) -> Value {
    details(record)[field].clone()
}

fn number(record: &Value, field: &str) -> f64 {
    record[field].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_request_that_no_backend_answers_in_time_costs_nothing() {
    let setup = Setup::new()
        .workers(1)
        .patch(|envoy| route(envoy)["timeout"] = json!("0.3s"))
        .mock("ptu", Settings { hold: true, ..Settings::default() });
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (504, json!("backend_timeout")));
    let record = record_of(&gateway, &answer).await;
    check_record(&record, &json!({ "outcome": "proxy_error", "estimated": "false", "prompt_tokens": "0" }));
    assert_eq!(detail(&record, "tries"), json!([ { "backend": "ptu", "status": null } ]));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_charged_for_what_came() {
    let silent = Settings { hold_after_events: Some(6), ..Settings::default() };
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .patch(|envoy| route(envoy)["idle_timeout"] = json!("0.5s"))
        .mock("ptu", silent);
    let gateway = Gateway::start(setup).await.unwrap();
    let body = with(chat("hello hello hello"), json!({ "stream": true }));
    let url = format!("{}{CHAT}", gateway.url());
    let sent = gateway.http().post(url).bearer_auth(WEB_SHOP).json(&body).send().await.unwrap();
    let mut pieces = sent.bytes_stream();
    while pieces.next().await.is_some_and(|piece| piece.is_ok()) {}
    let record = record_where(&gateway, |line| line["outcome"] == "broken").await;
    check_record(
        &record,
        &json!({ "estimated": "true", "prompt_tokens": prompt_estimate(&body).to_string() }),
    );
    assert!(number(&record, "completion_tokens") > 0.0, "{record:#}");
}

#[tokio::test]
async fn a_hung_up_stream_is_charged_within_a_tenth_of_its_tokens() {
    let long = Settings { completion_tokens: 200, ..Settings::default() };
    let gateway =
        Gateway::start(Setup::new().workers(1).edit(nobody_is_limited).mock("ptu", long)).await.unwrap();
    let body = with(
        chat("the quick brown fox jumps over the lazy dog"),
        json!({ "stream": true, "max_tokens": 300 }),
    );
    // What a token is in bytes is learnt from streams that told their usage.
    for _ in 0..12 {
        assert_eq!(gateway.post(CHAT, WEB_SHOP, &body).await.unwrap().status, 200);
    }
    gateway.mock("ptu").update(|settings| settings.hold_after_events = Some(120));
    gateway.mock("ptu").forget();
    let url = format!("{}{CHAT}", gateway.url());
    let sent = gateway.http().post(url).bearer_auth(WEB_SHOP).json(&body).send().await.unwrap();
    let mut pieces = sent.bytes_stream();
    let mut events = 0;
    while events < 120 {
        let piece = pieces.next().await.unwrap().unwrap();
        events += String::from_utf8_lossy(&piece).matches("data: ").count();
    }
    drop(pieces);
    gateway.mock("ptu").wait_for_disconnects(1).await;
    let record = record_where(&gateway, |line| line["outcome"] == "client_gone").await;
    check_within_a_tenth(&record, gateway.mock("ptu").billed()[0].usage);
}

#[tokio::test]
async fn a_stream_without_usage_is_charged_by_what_was_learnt() {
    let long = Settings { completion_tokens: 200, ..Settings::default() };
    // This version refuses `stream_options`.
    let old = |config: &mut Value| config["backends"][0]["api_version"] = json!("2024-06-01");
    let setup = Setup::new().workers(1).edit(nobody_is_limited).edit(old).mock("ptu", long);
    let gateway = Gateway::start(setup).await.unwrap();
    let body = with(chat("the quick brown fox jumps over the lazy dog"), json!({ "max_tokens": 300 }));
    for _ in 0..12 {
        assert_eq!(gateway.post(CHAT, WEB_SHOP, &body).await.unwrap().status, 200);
    }
    gateway.mock("ptu").forget();
    let body = with(body, json!({ "stream": true }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    let received = &gateway.mock("ptu").received()[0];
    assert_eq!((answer.status, received.json()["stream_options"].clone()), (200, Value::Null));
    assert_eq!(answer.body, received.response);
    let record = record_of(&gateway, &answer).await;
    check_record(&record, &json!({ "outcome": "served", "estimated": "true" }));
    assert_eq!(detail(&record, "unread"), "no_usage");
    check_within_a_tenth(&record, gateway.mock("ptu").billed()[0].usage);
}

#[track_caller]
fn check_within_a_tenth(record: &Value, billed: Usage) {
    assert!(billed.completion > 100, "{billed:?}");
    for (field, billed) in [("prompt_tokens", billed.prompt), ("completion_tokens", billed.completion)] {
        let error = (number(record, field) - billed as f64).abs() / billed as f64;
        assert!(error < 0.1, "{field}: {} for {billed}", number(record, field));
    }
}

#[tokio::test]
async fn a_compressed_answer_is_counted_as_unread() {
    let zipped = Settings { gzip: Gzip::Always, ..Settings::default() };
    let gateway = Gateway::start(Setup::new().workers(1).mock("ptu", zipped)).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    let record = record_of(&gateway, &answer).await;
    assert_eq!(detail(&record, "unread"), "compressed");
    gateway.wait_for_metric("tollgate_unread_answers", &[("reason", "compressed")], 1.0).await.unwrap();
    let tokens = number(&record, "prompt_tokens") + number(&record, "completion_tokens");
    let labels = [("client", "web-shop"), ("model", GPT_4O)];
    gateway.wait_for_metric("tollgate_estimated_tokens", &labels, tokens).await.unwrap();
}

#[tokio::test]
async fn the_record_has_the_price_the_tries_and_the_names() {
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited)).await.unwrap();
    let busy = tollgate_tests::mock::Fault::throttle_ms(60_000);
    gateway.mock("ptu").update(|settings| settings.faults = [busy].into());
    let alias = json!({ "model": "gpt-4o-2024-08-06", "stream": true, "max_tokens": 10 });
    let answer = gateway.post(CHAT, WEB_SHOP, &with(chat("hello"), alias)).await.unwrap();
    let record = record_of(&gateway, &answer).await;
    let expected = json!({
        "operation": "chat/completions", "model_asked": "gpt-4o-2024-08-06", "model_answered": GPT_4O,
        "deployment": GPT_4O, "stream": true,
        "tries": [ { "backend": "ptu", "status": 429 }, { "backend": "payg-a", "status": 200 } ],
    });
    check_record(&details(&record), &expected);
    // 2.50 and 10.00 for a million.
    let price =
        (number(&record, "prompt_tokens") * 2.5 + number(&record, "completion_tokens") * 10.0).round();
    assert_eq!(detail(&record, "price_micros"), price);
    assert!(detail(&record, "first_token_ms").is_f64() || detail(&record, "first_token_ms").is_u64());
    let labels = [("client", "web-shop"), ("model", GPT_4O)];
    gateway.wait_for_metric("tollgate_price_micros", &labels, price).await.unwrap();
    let histograms = [
        ("gen_ai_client_token_usage_count", 2.0),
        ("gen_ai_server_time_to_first_token_ms_count", 1.0),
        ("gen_ai_server_time_per_output_token_ms_count", 1.0),
        ("gen_ai_server_request_duration_ms_count", 1.0),
        ("tollgate_estimate_percent_count", 1.0),
    ];
    for (name, count) in histograms {
        gateway.wait_for_metric(name, &[("model", GPT_4O)], count).await.unwrap();
    }
}

#[tokio::test]
async fn other_endpoints_pass_unread_with_the_backends_own_key() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let url = format!("{}/openai/files?purpose=x&api-version=2020-01-01", gateway.url());
    let sent = gateway.http().request(Method::POST, url).header("api-key", BATCH);
    let sent = sent.header("content-type", "multipart/form-data; boundary=x").body("any bytes");
    let answer = Answer::read(sent.send().await.unwrap()).await.unwrap();
    // That is no form; what matters is what it was asked.
    assert_eq!(answer.status, 400);
    let received = gateway.mock("payg-b").received();
    assert_eq!((received[0].method.as_str(), received[0].path.as_str()), ("POST", "/v1/files?purpose=x"));
    assert_eq!(&received[0].body[..], b"any bytes");
    let bearer = format!("Bearer {}", credential_of("payg-b"));
    assert_eq!(received[0].header("authorization"), Some(bearer.as_str()));
    assert_eq!(received[0].header("api-key"), None);
    let record = record_of(&gateway, &answer).await;
    check_record(&record, &json!({ "client": "batch", "model": null, "prompt_tokens": "0" }));
    assert_eq!(detail(&record, "operation"), "other");
}

/// The filter with the feature that lets a request make its VM trap.
pub fn trapping_module() -> String {
    let folder = target_dir().join("trap");
    let built = tools::cargo()
        .current_dir(workspace())
        .args(["build", "--quiet", "--release", "-p", "tollgate-filter", "--features", "trap"])
        .args(["--target", "wasm32-wasip1", "--target-dir"])
        .arg(&folder)
        .status();
    assert!(built.unwrap().success());
    folder.join("wasm32-wasip1/release/tollgate_filter.wasm").display().to_string()
}

pub fn load_module(value: &mut Value, module: &str) {
    match value {
        Value::Object(members) => {
            if let Some(vm) = members.get_mut("vm_config") {
                vm["code"] = json!({ "local": { "filename": module } });
            }
            members.values_mut().for_each(|member| load_module(member, module));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| load_module(item, module)),
        _ => {}
    }
}

/// Asks until it is served: right after a trap a worker refuses whoever comes.
pub async fn served_again(gateway: &Gateway, key: &str, body: &Value) {
    let start = Instant::now();
    while gateway.post(CHAT, key, body).await.unwrap().status != 200 {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody is served again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_vm_traps_is_written_down_by_another() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    let setup = Setup::new()
        .workers(1)
        .patch(move |envoy| load_module(envoy, &module))
        .mock("ptu", Settings { hold: true, ..Settings::default() });
    let gateway = std::sync::Arc::new(Gateway::start(setup).await.unwrap());
    let body = chat("hello");
    let in_flight = tokio::spawn({
        let (gateway, body) = (std::sync::Arc::clone(&gateway), body.clone());
        async move { gateway.post(CHAT, WEB_SHOP, &body).await }
    });
    gateway.mock("ptu").wait_for_requests(1).await;
    let url = format!("{}{CHAT}", gateway.url());
    let trap = gateway.http().post(url).bearer_auth(WEB_SHOP).header("x-trap", "1").json(&body);
    let _ = trap.send().await;
    // What was under way stays open until its backend is done.
    gateway.mock("ptu").release();
    let _ = tokio::time::timeout(Duration::from_secs(10), in_flight).await;
    // Others are served again, once Envoy has loaded the filter anew.
    gateway.mock("ptu").update(|settings| settings.hold = false);
    served_again(&gateway, WEB_SHOP, &body).await;
    let lost = [("client", "web-shop"), ("model", GPT_4O), ("outcome", "lost")];
    gateway.wait_for_metric("tollgate_requests", &lost, 1.0).await.unwrap();
    // All that had been reserved for it.
    let reserved = prompt_estimate(&body) + 256;
    let labels = [("client", "web-shop"), ("model", GPT_4O)];
    gateway.wait_for_metric("tollgate_estimated_tokens", &labels, reserved as f64).await.unwrap();
    assert!(gateway.log_text().unwrap().contains("was lost with its VM"));
}
