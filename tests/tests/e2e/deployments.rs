//! Does a model that has several deployments of one backend go to each of them, with no cluster for each?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::pinned::{passes_the_secret, pinning};
use crate::requests::{
    CHAT, GPT_4O, RESPONSES, WEB_SHOP, chat, check_record, details, nobody_is_limited, record_of, with,
};

fn fails_with(fault: Fault) -> Settings {
    Settings { faults: [fault].into(), ..Settings::default() }
}

fn busy() -> Fault {
    Fault::answer(429).header("retry-after", "300")
}

/// `gpt-4o` is served by these.
fn served_by(backends: Value) -> impl FnOnce(&mut Value) + Send {
    move |config| config["models"][0]["backends"] = backends
}

async fn ask(gateway: &Gateway) -> Answer {
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("which deployment")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// The deployments that a backend was asked for, in their order: `ptu` has them in the path, the others in the body.
fn asked(gateway: &Gateway, backend: &str) -> Vec<String> {
    let deployment = |path: &str, body: Value| match path.strip_prefix("/openai/deployments/") {
        Some(rest) => rest.split('/').next().unwrap().to_owned(),
        None => body["model"].as_str().unwrap().to_owned(),
    };
    gateway.mock(backend).received().iter().map(|sent| deployment(&sent.path, sent.json())).collect()
}

#[tokio::test]
async fn a_request_goes_down_the_deployments_of_one_backend() {
    let order = json!([
        { "backend": "ptu", "deployment": "new" }, { "backend": "ptu", "deployment": "old" },
        { "backend": "payg-a", "deployment": "a-longer-name" }, { "backend": "payg-a", "deployment": "old" },
        { "backend": "payg-b", "deployment": "old" },
    ]);
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .edit(served_by(order))
        .mock("ptu", fails_with(busy().times(2)))
        .mock("payg-a", fails_with(busy()));
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(asked(&gateway, "ptu"), ["new", "old"]);
    assert_eq!(asked(&gateway, "payg-a"), ["a-longer-name", "old"]);
    assert!(gateway.mock("payg-b").received().is_empty());
    for sent in gateway.mock("payg-a").received() {
        assert_eq!(sent.header("content-length"), Some(sent.body.len().to_string().as_str()));
    }
    let record = record_of(&gateway, &answer).await;
    check_record(&record, &json!({ "backend": "payg-a", "attempts": 4, "outcome": "served" }));
    let details = details(&record);
    assert_eq!(details["deployment"], "old");
    let tries = details["tries"].as_array().unwrap().iter();
    let tried: Vec<_> = tries.map(|tried| tried["backend"].as_str().unwrap()).collect();
    assert_eq!(tried, ["ptu/new", "ptu/old", "payg-a/a-longer-name", "payg-a/old"]);
    for (backend, status) in [("ptu/new", "429"), ("ptu/old", "429"), ("payg-a/old", "200")] {
        let labels = [("backend", backend), ("status", status)];
        gateway.wait_for_metric("tollgate_upstream_responses", &labels, 1.0).await.unwrap();
    }

    // Those that are throttled pause, and no other.
    ask(&gateway).await;
    assert_eq!(asked(&gateway, "ptu").len(), 2);
    assert_eq!(asked(&gateway, "payg-a"), ["a-longer-name", "old", "old"]);
}

#[tokio::test]
async fn a_canary_that_is_not_there_yet_costs_no_request() {
    let canary = json!([
        { "backend": "payg-a", "deployment": "canary", "weight": 50 },
        { "backend": "payg-a", "deployment": "stable", "weight": 50 },
    ]);
    let only_stable = Settings { models: Some(vec!["stable".to_owned()]), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).edit(served_by(canary));
    let gateway = Gateway::start(setup.mock("payg-a", only_stable)).await.unwrap();
    // Forty draws are alike once in 500 000 million times.
    for _ in 0..40 {
        ask(&gateway).await;
    }
    let names = asked(&gateway, "payg-a");
    let missed = names.len() - 40;
    // It pauses for half a minute.
    assert!(
        (1..5).contains(&missed) && names.iter().filter(|name| *name == "canary").count() == missed,
        "{names:?}"
    );
    let labels = [("backend", "payg-a/canary")];
    gateway.wait_for_metric("tollgate_missing_deployments", &labels, missed as f64).await.unwrap();

    let both = json!([
        { "backend": "payg-b", "deployment": "canary", "weight": 50 },
        { "backend": "payg-b", "deployment": "stable", "weight": 50 },
    ]);
    let setup = Setup::new().workers(1).edit(nobody_is_limited).edit(served_by(both));
    let gateway = Gateway::start(setup).await.unwrap();
    for _ in 0..40 {
        ask(&gateway).await;
    }
    let names = asked(&gateway, "payg-b");
    assert!(["canary", "stable"].iter().all(|one| names.iter().any(|name| name == one)), "{names:?}");
}

/// A pool has each cluster once, so a request goes on from a deployment to the next backend.
#[tokio::test]
async fn in_a_pool_a_request_goes_to_one_deployment_of_a_backend() {
    let order = json!([
        { "backend": "ptu", "deployment": "new" }, { "backend": "ptu", "deployment": "old" },
        { "backend": "payg-a", "deployment": GPT_4O, "priority": 1 },
        { "backend": "payg-b", "deployment": GPT_4O, "priority": 2 },
    ]);
    let setup = Setup::new()
        .file("envoy/portable-pools.yaml")
        .workers(1)
        .edit(nobody_is_limited)
        .edit(served_by(order))
        .mock("ptu", fails_with(busy()));
    let gateway = Gateway::start(setup).await.unwrap();
    ask(&gateway).await;
    assert_eq!(
        (asked(&gateway, "ptu"), asked(&gateway, "payg-a")),
        (vec!["new".to_owned()], vec![GPT_4O.to_owned()])
    );
    // The other one does not pause.
    let answer = ask(&gateway).await;
    assert_eq!(asked(&gateway, "ptu"), ["new", "old"]);
    let record = record_of(&gateway, &answer).await;
    assert_eq!((&record["backend"], &details(&record)["deployment"]), (&json!("ptu"), &json!("old")));
}

/// What is kept is the resource's, whichever deployment has made it.
#[tokio::test]
async fn an_id_leads_to_the_deployments_of_its_backend() {
    let order = json!([
        { "backend": "payg-b", "deployment": "new" },
        { "backend": "payg-b", "deployment": "old" },
        { "backend": "payg-a", "deployment": "new" },
    ]);
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .edit(pinning)
        .edit(served_by(order))
        .patch(passes_the_secret)
        .env("TOLLGATE_IDS", "a secret of more than thirty-two bytes");
    let gateway = Gateway::start(setup).await.unwrap();
    let body = json!({ "model": GPT_4O, "input": "hello" });
    let answer = gateway.post(RESPONSES, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway.mock("payg-b").update(|settings| settings.faults = [busy()].into());
    let body = with(body, json!({ "previous_response_id": answer.json()["id"] }));
    let answer = gateway.post(RESPONSES, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(asked(&gateway, "payg-b"), ["new", "new", "old"]);
    assert!(gateway.mock("payg-a").received().is_empty());
}
