//! Does the filter say which link of the chain around it is missing, once, when a request shows it?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::envoy_lines::{MANAGER, ROUTER, part, take_out};
use crate::requests::{CHAT, WEB_SHOP, chat, nobody_is_limited, record_of};

/// On the route, from the manager.
const GROUPS: &str = "route_config/virtual_hosts/0/routes/0/route/inline_cluster_specifier_plugin/extension/typed_config/priority_groups";

const KINDS: [&str; 4] = ["candidates", "clear_route", "order", "attempt"];

const SENTENCES: [&str; 4] = [
    "x-tollgate-candidates came to an attempt, so the route does not know the order of backends",
    "a first attempt went where the route led before the order was known",
    "an attempt went where routing.order does not lead",
    "a backend answered and no attempt was seen",
];

/// Which of the sentences the log has, and how often, after requests of which the second one's order is not the route's.
async fn told(take: Option<String>) -> [usize; 4] {
    let full = Settings { faults: [Fault::throttle_ms(300_000)].into(), ..Settings::default() };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).mock("ptu", full);
    let gateway = Gateway::start(setup.patch(move |envoy| {
        if let Some(path) = take {
            take_out(envoy, &path);
        }
    }));
    let gateway = gateway.await.unwrap();
    for _ in 0..4 {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("who serves this")).await.unwrap();
        record_of(&gateway, &answer).await;
    }
    seen(&gateway).await
}

/// How often the log has each sentence, and whether the metric has counted its link.
async fn seen(gateway: &Gateway) -> [usize; 4] {
    let log = gateway.log_text().unwrap();
    for (kind, sentence) in KINDS.into_iter().zip(SENTENCES) {
        let counted = gateway.metric("tollgate_missing_links", &[("kind", kind)]).await.unwrap();
        assert_eq!(counted > 0.0, log.contains(sentence), "{kind}: {counted}");
    }
    SENTENCES.map(|sentence| log.matches(sentence).count())
}

#[tokio::test]
async fn a_chain_that_is_whole_is_not_complained_of() {
    assert_eq!(told(None).await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn candidates_that_come_back_are_told_once() {
    assert_eq!(told(Some(format!("{MANAGER}/http_filters/1"))).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_route_that_was_chosen_too_early_is_told_once() {
    assert_eq!(told(Some(format!("{MANAGER}/http_filters/2"))).await, [0, 1, 0, 0]);
}

/// Whose requests go elsewhere than by the route's order are served as ever.
#[tokio::test]
async fn an_order_that_is_not_the_routes_is_told_once() {
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(|envoy| {
        let groups = part(envoy, &format!("{MANAGER}/{GROUPS}"));
        groups.as_array_mut().unwrap().reverse();
    });
    let gateway = Gateway::start(setup).await.unwrap();
    for _ in 0..3 {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("who serves this")).await.unwrap();
        record_of(&gateway, &answer).await;
    }
    assert_eq!(seen(&gateway).await, [0, 0, 1, 0]);
    let body = json!({ "model": "text-embedding-3-small", "input": "x" });
    let answer = gateway.post("/v1/embeddings", WEB_SHOP, &body).await.unwrap();
    assert_eq!((answer.status, gateway.mock("payg-a").received().len()), (200, 1));
}

#[tokio::test]
async fn attempts_that_nobody_sees_are_told_once() {
    assert_eq!(told(Some(format!("{MANAGER}/{ROUTER}/upstream_http_filters/0"))).await, [0, 0, 0, 1]);
}

/// They see every attempt, and know of none whose it is.
#[tokio::test]
async fn filters_in_two_vms_are_not_taken_for_a_missing_one() {
    let apart = |envoy: &mut Value| {
        let path = format!("{MANAGER}/{ROUTER}/upstream_http_filters/0/typed_config/config/vm_config/vm_id");
        *part(envoy, &path) = "another".into();
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited).patch(apart)).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("who serves this")).await.unwrap();
    record_of(&gateway, &answer).await;
    assert_ne!(answer.status, 200);
    assert_eq!(seen(&gateway).await, [0, 0, 0, 0]);
    let log = gateway.log_text().unwrap();
    assert!(log.contains("an attempt without its request: both filters need the same vm_config"));
}

/// A first backend without an address is no fault of the chain.
#[tokio::test]
async fn a_backend_without_an_address_is_not_complained_of() {
    let gone = |envoy: &mut Value| {
        // What stands for it where its name does not resolve is left.
        take_out(envoy, "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0");
    };
    let gateway = Gateway::start(Setup::new().workers(1).edit(nobody_is_limited).patch(gone)).await.unwrap();
    for _ in 0..3 {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("who serves this")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(seen(&gateway).await, [0, 0, 0, 0]);
}
