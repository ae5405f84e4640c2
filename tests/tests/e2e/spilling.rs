//! What goes to a backend of a lower priority, and how much of it may?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{
    CHAT, WEB_SHOP, chat, check_record, details, nobody_is_limited, prompt_estimate, record_of, refusal, with,
};

const MAX_TOKENS: u64 = 40;

fn body() -> Value {
    with(chat("overflow"), json!({ "max_tokens": MAX_TOKENS }))
}

async fn ask(gateway: &Gateway) -> Answer {
    gateway.post(CHAT, WEB_SHOP, &body()).await.unwrap()
}

/// Two backends, of which the second has a lower priority and takes what spills.
fn spilling(spill: Value) -> impl FnOnce(&mut Value) + Send {
    move |config| {
        config["models"][0]["backends"] = json!([
            { "backend": "ptu", "deployment": "gpt-4o-ptu", "priority": 0 },
            { "backend": "payg-a", "deployment": "gpt-4o", "priority": 1 },
        ]);
        config["models"][0]["spill"] = spill;
    }
}

fn asked(gateway: &Gateway) -> [usize; 2] {
    ["ptu", "payg-a"].map(|backend| gateway.mock(backend).received().len())
}

async fn check_spill(gateway: &Gateway, answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let details = details(&record_of(gateway, answer).await);
    assert_eq!((&details["spilled_from"], &details["spill_reason"]), (&json!("ptu"), &json!(reason)));
    let labels = [("model", "gpt-4o"), ("from", "ptu"), ("to", "payg-a"), ("reason", reason)];
    gateway.wait_for_metric("tollgate_spills", &labels, 1.0).await.unwrap();
}

fn throttled(fault: Fault) -> Settings {
    Settings { faults: [fault].into(), ..Settings::default() }
}

#[tokio::test]
async fn what_spills_is_counted_and_no_more_of_it_than_its_limit() {
    let busy = throttled(Fault::answer(429).header("retry-after", "300"));
    let limits = json!({ "limits": [{ "requests": 2, "per": "month" }] });
    let setup = Setup::new().edit(nobody_is_limited).edit(spilling(limits)).mock("ptu", busy);
    let gateway = Gateway::start(setup).await.unwrap();
    check_spill(&gateway, &ask(&gateway).await, "throttled").await;
    check_spill(&gateway, &ask(&gateway).await, "paused").await;
    assert_eq!(asked(&gateway), [1, 2]);

    let answer = ask(&gateway).await;
    let wait_ms: u64 = answer.header("retry-after-ms").parse().unwrap();
    assert!(wait_ms <= 300_000, "{wait_ms}");
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, &error["code"]), (429, &json!("spill_limit_exceeded")));
    let message = error["message"].as_str().unwrap();
    let rule = "the spill limit of model `gpt-4o` of 2 requests per month is reached. Try again in ";
    assert!(message.contains(rule), "{message}");
    assert_eq!(asked(&gateway), [1, 2]);
    let record = record_of(&gateway, &answer).await;
    check_record(
        &record,
        &json!({ "outcome": "spill_limit_exceeded", "backend": null, "prompt_tokens": "0" }),
    );
    assert_eq!(details(&record)["limit"], "spill/requests/month");
}

#[tokio::test]
async fn fail_over_stops_where_the_limit_on_spilling_is_used_up() {
    let busy = throttled(Fault::answer(500).always());
    let limits = json!({ "limits": [{ "requests": 1, "per": "month" }] });
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .edit(spilling(limits))
        .patch(|envoy| {
            // Who ejects a backend for its errors is Envoy, which is not what is asked about here.
            for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
                cluster.as_object_mut().unwrap().remove("outlier_detection");
            }
        })
        .mock("ptu", busy);
    let gateway = Gateway::start(setup).await.unwrap();
    check_spill(&gateway, &ask(&gateway).await, "failed").await;
    let answer = ask(&gateway).await;
    let message = "The first backends for this model have no room, and the spill limit of model `gpt-4o` of 1 requests per \
                   month is reached. Try again in 1.0 s.";
    let expected = refusal(message, "rate_limit_error", None, "spill_limit_exceeded");
    assert_eq!((answer.status, answer.json()), (429, expected));
    assert_eq!(answer.header("retry-after-ms"), "1000");
    assert_eq!(asked(&gateway), [2, 1]);
    let record = record_of(&gateway, &answer).await;
    check_record(
        &record,
        &json!({ "outcome": "spill_limit_exceeded", "backend": "ptu", "prompt_tokens": "0" }),
    );
    assert_eq!(details(&record)["tries"], json!([{ "backend": "ptu", "status": 500 }]));
    // It costs nothing there, so it is still one that was spent.
    gateway.mock("ptu").update(|settings| settings.faults.clear());
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(asked(&gateway), [3, 1]);
}

#[tokio::test]
async fn requests_above_a_share_spill_before_anybody_is_throttled() {
    let cost = prompt_estimate(&body()) + MAX_TOKENS;
    let declared = move |config: &mut Value| config["backends"][0]["tokens_per_minute"] = json!(10 * cost);
    let setup = Setup::new().edit(nobody_is_limited).edit(spilling(json!({ "above": 0.5 }))).edit(declared);
    let gateway = Gateway::start(setup).await.unwrap();
    for _ in 0..4 {
        assert_eq!(ask(&gateway).await.status, 200);
    }
    assert_eq!(asked(&gateway), [4, 0]);
    // What a prompt costs is learnt a little from each answer, so the fifth is near the line.
    ask(&gateway).await;
    let [first, second] = asked(&gateway);
    for at in 1..=5 {
        let answer = ask(&gateway).await;
        assert_eq!(asked(&gateway), [first, second + at]);
        let details = details(&record_of(&gateway, &answer).await);
        assert_eq!(details["spill_reason"], "capacity");
    }
}
