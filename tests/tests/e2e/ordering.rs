//! Does what an operator says about the order of backends hold for all requests, and no longer than it says?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::Fault;

use crate::requests::{BATCH, CHAT, GPT_4O, WEB_SHOP, chat, details, nobody_is_limited, record_of};

const ORDER: &str = "/tollgate/v1/order";

/// `web-shop` is of the operators, `batch` is not; both may use `gpt-4o`, which `ptu`, `payg-a` and `payg-b` serve.
fn operators(config: &mut Value) {
    nobody_is_limited(config);
    config["clients"][0]["operator"] = json!(true);
}

/// On a connection of its own, so that all workers are asked.
async fn ask(gateway: &Gateway, method: &str, path: &str, key: &str, body: Option<Value>) -> Answer {
    let request = gateway.http().request(method.parse().unwrap(), format!("{}{path}", gateway.url()));
    let request = request.bearer_auth(key).header("connection", "close").header("tollgate-explain", "true");
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// Who served a chat.
async fn served(gateway: &Gateway, key: &str) -> String {
    let answer = ask(gateway, "POST", CHAT, key, Some(chat("who"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    record_of(gateway, &answer).await["backend"].as_str().unwrap().to_owned()
}

async fn all_go_to(gateway: &Gateway, backend: &str) {
    for _ in 0..5 {
        for key in [WEB_SHOP, BATCH] {
            assert_eq!(served(gateway, key).await, backend);
        }
    }
}

/// The decision about a chat of the operator's.
async fn decision(gateway: &Gateway) -> Value {
    let answer = ask(gateway, "POST", CHAT, WEB_SHOP, Some(chat("why there"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(answer.header("x-tollgate-decision")).unwrap()
}

/// An order takes its time to end, and what a worker has noted others see up to 20 ms later: until it is so many times in a
/// row, which takes longer.
async fn until_first_is(gateway: &Gateway, backend: &str) -> Value {
    let mut in_a_row = 0;
    for _ in 0..10_000 {
        let decision = decision(gateway).await;
        in_a_row = if decision["candidates"][0] == backend { in_a_row + 1 } else { 0 };
        if in_a_row == 20 {
            return decision;
        }
    }
    panic!("{backend} does not come first");
}

fn order(names: &[&str], for_s: u64) -> Option<Value> {
    Some(json!({ "model": GPT_4O, "order": names, "for_s": for_s }))
}

#[tokio::test]
async fn an_operators_order_holds_at_all_workers_until_it_is_ended() {
    let gateway = Gateway::start(Setup::new().workers(2).edit(operators)).await.unwrap();
    all_go_to(&gateway, "ptu").await;
    let answer = ask(&gateway, "POST", ORDER, WEB_SHOP, order(&["payg-b", "ptu"], 600)).await;
    assert_eq!(
        (answer.status, &answer.json()["order"]),
        (200, &json!(["payg-b", "ptu"])),
        "{}",
        answer.text()
    );
    let decision = until_first_is(&gateway, "payg-b").await;
    let candidates = json!(["payg-b", "ptu", "payg-a"]);
    assert_eq!((&decision["candidates"], &decision["ordered"]), (&candidates, &json!(true)));
    let moved = ask(&gateway, "POST", CHAT, BATCH, Some(chat("why there"))).await;
    let details = details(&record_of(&gateway, &moved).await);
    assert_eq!((&details["candidates"], &details["ordered"]), (&candidates, &json!(true)));
    all_go_to(&gateway, "payg-b").await;
    assert!(gateway.log_text().unwrap().contains("web-shop orders gpt-4o for 600 s: payg-b, ptu"));
    // Whoever fails is left for the next of the order.
    gateway.mock("payg-b").update(|settings| settings.faults.push_back(Fault::answer(500)));
    assert_eq!(served(&gateway, BATCH).await, "ptu");
    // Others may neither see nor end it.
    for (method, body) in [("GET", None), ("DELETE", None), ("POST", order(&["ptu"], 1))] {
        let answer = ask(&gateway, method, &format!("{ORDER}?model={GPT_4O}"), BATCH, body).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (403, &json!("endpoint_not_allowed")));
    }
    let list = ask(&gateway, "GET", ORDER, WEB_SHOP, None).await.json();
    assert_eq!(list["data"][0]["order"], json!(["payg-b", "ptu"]));
    let health = ask(&gateway, "GET", "/tollgate/health?model=gpt-4o", WEB_SHOP, None).await.json();
    assert_eq!(health["models"][0]["order"], json!(["payg-b", "ptu"]));
    let answer = ask(&gateway, "DELETE", &format!("{ORDER}?model={GPT_4O}"), WEB_SHOP, None).await;
    assert_eq!((answer.status, &answer.json()["deleted"]), (200, &json!(true)));
    until_first_is(&gateway, "ptu").await;
    all_go_to(&gateway, "ptu").await;
}

#[tokio::test]
async fn an_operators_order_ends_by_itself_and_names_backends() {
    let gateway = Gateway::start(Setup::new().workers(2).edit(operators)).await.unwrap();
    let answer = ask(&gateway, "POST", ORDER, WEB_SHOP, order(&["payg-c"], 600)).await;
    let error = &answer.json()["error"];
    assert_eq!(
        (answer.status, &error["param"], &error["code"]),
        (400, &json!("order"), &json!("backend_not_found"))
    );
    let answer = ask(&gateway, "POST", ORDER, WEB_SHOP, order(&["payg-b"], 86_401)).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("for_s")));
    assert_eq!(served(&gateway, BATCH).await, "ptu");
    let answer = ask(&gateway, "POST", ORDER, WEB_SHOP, order(&["payg-b"], 10)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let decision = until_first_is(&gateway, "payg-b").await;
    assert_eq!(decision["ordered"], true);
    let decision = until_first_is(&gateway, "ptu").await;
    assert_eq!(decision["ordered"], Value::Null);
    assert_eq!(ask(&gateway, "GET", ORDER, WEB_SHOP, None).await.json()["data"], json!([]));
    all_go_to(&gateway, "ptu").await;
}
