//! Are the files of batches held to the policy line by line, and is a batch paid once, by what it used?

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway};
use tollgate_tests::mock::{Mock, Settings};

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::pinned::{BACKENDS, envoy_with};
use crate::requests::{GPT_4O, WEB_SHOP, details, record_where, with};

const PYTHON: Sdk = Sdk { language: Language::Python, class: "OpenAI" };
const NODE: Sdk = Sdk { language: Language::Node, class: "OpenAI" };

/// What a client has for a day.
const BUDGET: u64 = 10_000;

/// In millionths a token: what is asked at once, and what is asked in a batch.
const PRICES: (u64, u64) = (1000, 500);

fn governed(config: &mut Value) {
    config["pinning"]["batches"] = json!("govern");
    config["other_endpoints"] = json!(["payg-a"]);
    config["clients"][0]["limits"] = json!([{ "tokens": BUDGET, "per": "month" }]);
    let prices = |price: u64| json!({ "prompt": price, "cached": price, "completion": price });
    let tiers = json!({ "tiers": { "batch": prices(PRICES.1) } });
    config["models"][0]["prices"] = with(prices(PRICES.0), tiers);
    for backend in config["models"][0]["backends"].as_array_mut().unwrap() {
        backend.as_object_mut().unwrap().remove("prices");
    }
}

/// A gateway, and its one client.
struct Shop {
    gateway: Gateway,
    mocks: Vec<Mock>,
    sdk: Sdk,
}

fn line(id: u32, more: Value) -> String {
    let body = json!({ "model": GPT_4O, "messages": [{ "role": "user", "content": "one two three" }], "max_tokens": 50 });
    let line = json!({
        "custom_id": id.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": with(body, more),
    });
    format!("{line}\n")
}

impl Shop {
    async fn new(sdk: Sdk) -> Self {
        Self::with(sdk, |_| {}).await
    }

    async fn with(sdk: Sdk, change: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        let mut mocks = Vec::new();
        for (name, _) in BACKENDS {
            mocks.push(Mock::start(name, Settings::default()).await.unwrap());
        }
        let gateway = envoy_with(&mocks, |config| {
            governed(config);
            change(config);
        });
        Self { gateway: gateway.await, mocks, sdk }
    }

    async fn outcome(&self, method: &'static str, arguments: Value) -> Value {
        outcomes(&self.gateway, &[Call::new(self.sdk, WEB_SHOP, method, arguments)]).await.remove(0)
    }

    #[track_caller]
    fn call(&self, method: &'static str, arguments: Value) -> impl Future<Output = Value> {
        let from = std::panic::Location::caller();
        async move {
            let mut outcome = self.outcome(method, arguments).await;
            assert!(outcome.get("answer").is_some(), "{method} of {from}: {outcome}");
            outcome["answer"].take()
        }
    }

    async fn upload(&self, file: &str) -> String {
        let answer =
            self.call("files.create", json!({ "file": ["in.jsonl", file], "purpose": "batch" })).await;
        let id = answer["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("file-tgb_"), "{id}");
        id
    }

    fn order(file: &str) -> Value {
        json!({ "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h" })
    }

    /// Makes a batch of a file; answers its id, and what was reserved for it.
    async fn make(&self, file: &str) -> (String, u64) {
        let before = self.used().await;
        let batch = self.call("batches.create", Self::order(file)).await;
        assert_eq!(batch["status"], "validating", "{batch}");
        (batch["id"].as_str().unwrap().to_owned(), self.used().await - before)
    }

    async fn read(&self, batch: &str) -> Value {
        let arguments =
            if self.sdk.language == Language::Node { json!([batch]) } else { json!({ "batch_id": batch }) };
        self.call("batches.retrieve", arguments).await
    }

    async fn used(&self) -> u64 {
        let url = format!("{}/tollgate/v1/usage", self.gateway.url());
        let answer = self.gateway.http().get(url).bearer_auth(WEB_SHOP).send().await.unwrap();
        Answer::read(answer).await.unwrap().json()["limits"][0]["used"].as_u64().unwrap()
    }

    /// How many files a backend has been sent to the end.
    fn files(&self) -> usize {
        let is_file = |received: &tollgate_tests::mock::Received| {
            received.path.ends_with("/files") && received.status == Some(200)
        };
        self.mocks.iter().flat_map(|mock| mock.received()).filter(is_file).count()
    }
}

#[tokio::test]
async fn a_batch_is_reserved_and_settled_once_at_its_price() {
    for sdk in [PYTHON, NODE] {
        let shop = Shop::new(sdk).await;
        let file = shop.upload(&(line(1, json!({})) + &line(2, json!({})))).await;
        let (batch, reserved) = shop.make(&file).await;
        // Fifty tokens for each answer, and the prompts.
        assert!((100..200).contains(&reserved), "{reserved}");
        assert_eq!(shop.read(&batch).await["status"], "in_progress");
        assert_eq!(shop.used().await, reserved);
        let mut used = 0;
        for _ in 0..3 {
            let done = shop.read(&batch).await;
            assert_eq!(done["status"], "completed");
            used = done["usage"]["total_tokens"].as_u64().unwrap();
            assert!(used > 0 && used < reserved, "{done}");
            assert_eq!(shop.used().await, used);
        }
        let record = record_where(&shop.gateway, |line| details(line)["stored"] == "charged").await;
        assert_eq!(details(&record)["price_micros"], json!(used * PRICES.1));
        assert_eq!((&record["model"], &details(&record)["service_tier"]), (&json!(GPT_4O), &json!("batch")));
        // The books: what the metrics say was used is what the limits have.
        let of = [("client", "web-shop"), ("model", GPT_4O)];
        shop.gateway.wait_for_metric("tollgate_tokens", &of, used as f64).await.unwrap();
        let price = (used * PRICES.1) as f64;
        shop.gateway.wait_for_metric("tollgate_price_micros", &of, price).await.unwrap();
        for (result, count) in [("pending", 1.0), ("charged", 1.0)] {
            shop.gateway.wait_for_metric("tollgate_stored_work", &[("result", result)], count).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_cancelled_gives_back_what_it_did_not_use() {
    let shop = Shop::new(PYTHON).await;
    let file = shop.upload(&(line(1, json!({})) + &line(2, json!({})))).await;
    for is_begun in [false, true] {
        let before = shop.used().await;
        let (batch, reserved) = shop.make(&file).await;
        if is_begun {
            assert_eq!(shop.read(&batch).await["status"], "in_progress");
        }
        let cancelling = shop.call("batches.cancel", json!({ "batch_id": batch })).await;
        assert_eq!(cancelling["status"], "cancelling");
        assert_eq!(shop.used().await, before + reserved);
        for _ in 0..2 {
            let cancelled = shop.read(&batch).await;
            let used = cancelled["usage"]["total_tokens"].as_u64().unwrap();
            assert_eq!((&cancelled["status"], used > 0), (&json!("cancelled"), is_begun));
            assert_eq!(shop.used().await, before + used);
        }
    }
}

#[tokio::test]
async fn a_batch_that_does_not_fit_gets_429_and_is_not_made() {
    let shop = Shop::with(PYTHON, |config| config["clients"][0]["limits"][0]["tokens"] = json!(300)).await;
    let file = shop.upload(&(line(1, json!({})) + &line(2, json!({})))).await;
    let large = shop.upload(&(1..9).map(|id| line(id, json!({}))).collect::<String>()).await;
    let (_, reserved) = shop.make(&file).await;
    let (_, again) = shop.make(&file).await;
    assert_eq!(reserved, again);
    for (file, code) in [(&file, "insufficient_quota"), (&large, "request_exceeds_limit")] {
        let refused = shop.outcome("batches.create", Shop::order(file)).await;
        let found = (&refused["exception"], &refused["status"], &refused["code"]);
        assert_eq!(found, (&json!("RateLimitError"), &json!(429), &json!(code)), "{refused}");
    }
    assert_eq!(shop.used().await, 2 * reserved);
    let made =
        shop.mocks.iter().flat_map(|mock| mock.received()).filter(|asked| asked.path.ends_with("/batches"));
    assert_eq!(made.count(), 2);
}

#[tokio::test]
async fn a_file_with_a_bad_line_is_refused_with_its_number() {
    for sdk in [PYTHON, NODE] {
        let shop = Shop::with(sdk, |config| {
            config["policies"][0]["max_tokens"] = json!({ "max": 60, "over": "reject" });
        });
        let shop = shop.await;
        // In one piece, and in many.
        for lines in [3, 20_000] {
            let bad = lines - 1;
            let lines: Vec<_> = (1..=lines)
                .map(|id| line(id, if id == bad { json!({ "max_tokens": 61 }) } else { json!({}) }))
                .collect();
            let file = json!({ "file": ["in.jsonl", lines.concat()], "purpose": "batch" });
            let refused = shop.outcome("files.create", file).await;
            assert_eq!(
                (&refused["status"], &refused["code"]),
                (&json!(400), &json!("batch_line_refused")),
                "{refused}"
            );
            let message = refused["message"].as_str().unwrap();
            assert!(
                message.contains(&format!("Line {bad} of the batch's file: `max_tokens` is 61")),
                "{message}"
            );
        }
        assert_eq!(shop.files(), 0);
        assert_eq!(shop.used().await, 0);
        // Another file passes, on the same connections.
        let _ = shop.upload(&line(1, json!({}))).await;
        assert_eq!(shop.files(), 1);
    }
}

#[tokio::test]
async fn a_file_that_was_not_counted_is_refused_for_a_batch() {
    let shop = Shop::new(PYTHON).await;
    let upload = json!({ "file": ["in.jsonl", line(1, json!({}))], "purpose": "user_data" });
    let other = shop.call("files.create", upload).await;
    let file = shop.upload(&line(1, json!({}))).await;
    let listed = shop.call("files.retrieve", json!({ "file_id": file })).await;
    assert_eq!(listed["purpose"], "batch");
    for id in [&other["id"], &listed["id"]] {
        let refused = shop.outcome("batches.create", Shop::order(id.as_str().unwrap())).await;
        let found = (&refused["status"], &refused["code"]);
        assert_eq!(found, (&json!(400), &json!("batch_file_not_counted")), "{refused}");
    }
    assert_eq!(shop.call("files.content", json!({ "file_id": file })).await, json!(line(1, json!({}))));
    let _ = shop.make(&file).await;
}
