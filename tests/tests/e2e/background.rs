//! Is work that goes on after its answer charged once, whoever reads how it ended, and does everybody say the same of it?

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Billed, Operation, Settings};

use crate::requests::{BATCH, GPT_4O, RESPONSES, WEB_SHOP, details, nobody_is_limited, record_of, with};

/// Both clients may read what there is at the one backend.
fn one_backend(config: &mut Value) {
    nobody_is_limited(config);
    for client in config["clients"].as_array_mut().unwrap() {
        client["endpoints"] = json!(["*", "other"]);
    }
    config["clients"][0]["limits"] = json!([{ "tokens": 1_000_000, "per": "month" }]);
    config["other_endpoints"] = json!(["ptu"]);
    config["backends"][0]["api_version"] = json!("2025-03-01-preview");
    config["models"][0]["backends"] = json!([{
        "backend": "ptu", "deployment": "gpt-4o-ptu", "prices": { "prompt": 3, "cached": 1, "completion": 11 },
    }]);
}

struct Shop {
    gateway: Gateway,
    /// How many requests there were.
    asked: usize,
}

impl Shop {
    async fn ask(&mut self, key: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.asked += 1;
        let request = self.gateway.http().request(method, format!("{}{path}", self.gateway.url()));
        let request = body.iter().fold(request.bearer_auth(key), |request, body| request.json(body));
        let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    }

    /// Makes a response in the background, and answers its path.
    async fn make(&mut self, input: &str) -> String {
        let body = json!({ "model": GPT_4O, "input": input, "background": true, "max_output_tokens": 200 });
        let made = self.ask(WEB_SHOP, Method::POST, RESPONSES, Some(body)).await;
        assert_eq!((&made.json()["status"], &made.json()["usage"]), (&json!("queued"), &Value::Null));
        let record = record_of(&self.gateway, &made).await;
        assert_eq!((&record["prompt_tokens"], &record["completion_tokens"]), (&json!("0"), &json!("0")));
        assert_eq!(details(&record)["stored"], "pending");
        format!("{RESPONSES}/{}", made.json()["id"].as_str().unwrap())
    }

    /// What is written down of a reading, which charges the work or does not.
    async fn read(&mut self, key: &str, path: &str, charges: bool) -> Answer {
        let method = if path.ends_with("/cancel") { Method::POST } else { Method::GET };
        let answer = self.ask(key, method, path, None).await;
        let record = record_of(&self.gateway, &answer).await;
        let stored = details(&record)["stored"].clone();
        assert_eq!(stored, if charges { json!("charged") } else { Value::Null }, "{path} {record}");
        let payer = if charges || key == WEB_SHOP { "web-shop" } else { "batch" };
        assert_eq!(record["client"], payer, "{record}");
        if !charges {
            assert_eq!((&record["prompt_tokens"], &record["completion_tokens"]), (&json!("0"), &json!("0")));
        }
        answer
    }
}

fn price(bill: &Billed) -> u64 {
    let usage = bill.usage;
    3 * (usage.prompt - usage.cached) + usage.cached + 11 * usage.completion
}

/// A kind of a bill's tokens.
type Part = fn(&Billed) -> u64;

#[tokio::test]
async fn bill_log_and_metrics_agree_on_work_in_the_background() {
    let thinks = Settings { reasoning_tokens: 7, cached_tokens: 2, ..Settings::default() };
    let setup = Setup::new().workers(2).edit(one_backend).mock("ptu", thinks);
    let mut shop = Shop { gateway: Gateway::start(setup).await.unwrap(), asked: 0 };

    let polled = shop.make("it is polled").await;
    assert_eq!(shop.read(WEB_SHOP, &polled, false).await.json()["status"], "in_progress");
    for charges in [true, false, false] {
        assert_eq!(shop.read(WEB_SHOP, &polled, charges).await.json()["status"], "completed");
    }
    let another = shop.make("another client reads it").await;
    let _ = shop.read(BATCH, &another, false).await;
    let _ = shop.read(BATCH, &another, true).await;
    for key in [BATCH, WEB_SHOP] {
        let _ = shop.read(key, &another, false).await;
    }
    let cancelled = shop.make("it is cancelled").await;
    let cancel = format!("{cancelled}/cancel");
    assert_eq!(shop.read(WEB_SHOP, &cancel, true).await.json()["status"], "cancelled");
    for path in [&cancel, &cancelled] {
        let _ = shop.read(WEB_SHOP, path, false).await;
    }
    let resumed = shop.make("it is resumed as a stream").await;
    for (key, after, charges) in [(BATCH, 3, true), (WEB_SHOP, 5, false)] {
        let answer = shop.read(key, &format!("{resumed}?stream=true&starting_after={after}"), charges).await;
        assert!(answer.text().contains("event: response.completed"), "{}", answer.text());
    }
    // A stream that is read to its end needs nobody to read it again.
    let body = json!({ "model": GPT_4O, "input": "a stream", "background": true });
    let _ = shop.ask(WEB_SHOP, Method::POST, RESPONSES, Some(with(body, json!({ "stream": true })))).await;
    let log = shop.gateway.wait_for_log(shop.asked).await.unwrap();

    let billed = shop.gateway.mock("ptu").billed();
    let billed: Vec<_> = billed.iter().filter(|bill| bill.operation == Operation::Responses).collect();
    assert_eq!(billed.len(), 5);
    let sum = |part: Part| billed.iter().map(|bill| part(bill)).sum::<u64>();
    let kinds: [(&str, Part); 4] = [
        ("prompt", |bill| bill.usage.prompt),
        ("cached", |bill| bill.usage.cached),
        ("completion", |bill| bill.usage.completion),
        ("reasoning", |bill| bill.usage.reasoning),
    ];
    let labels = [("client", "web-shop"), ("model", GPT_4O)];
    for (kind, part) in kinds {
        let labels = [labels[0], labels[1], ("kind", kind)];
        assert!(sum(part) > 0);
        shop.gateway.wait_for_metric("tollgate_tokens", &labels, sum(part) as f64).await.unwrap();
        shop.gateway.wait_for_metric("tollgate_tokens", &[("kind", kind)], sum(part) as f64).await.unwrap();
    }
    let logged = |field: &str| {
        log.iter().map(|line| line[field].as_str().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!(logged("prompt_tokens"), sum(kinds[0].1));
    assert_eq!(logged("completion_tokens"), sum(kinds[2].1));
    let prices = log.iter().filter_map(|line| details(line)["price_micros"].as_u64()).sum::<u64>();
    assert_eq!(prices, sum(price));
    shop.gateway.wait_for_metric("tollgate_price_micros", &labels, prices as f64).await.unwrap();

    // Whoever reads nothing is charged what was reserved, later; until then that stays taken.
    let _ = shop.make("nobody reads it").await;
    let log = shop.gateway.wait_for_log(shop.asked).await.unwrap();
    let reserved = details(log.last().unwrap())["reserved_tokens"].as_u64().unwrap();
    assert!(reserved > 200);
    let usage = shop.ask(WEB_SHOP, Method::GET, "/tollgate/v1/usage", None).await.json();
    assert_eq!(usage["limits"][0]["used"], json!(sum(|bill| bill.usage.total()) + reserved));
    for (result, count) in [("pending", 5.0), ("charged", 4.0)] {
        let labels = [("client", "web-shop"), ("result", result)];
        shop.gateway.wait_for_metric("tollgate_stored_work", &labels, count).await.unwrap();
    }
}
