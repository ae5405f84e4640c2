//! What does Tollgate do? Six answers, each a request or two at the default configuration of `envoy/envoy.yaml`.
//!
//! What is printed is what came back, never what should have. Where that is not what the show is about, the show ends
//! with an error: `cargo demo --once` is a test of the whole as well.

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway};
use tollgate_tests::mock::Fault;

use crate::page::{Page, Tone, number};
use crate::spending;

const CHAT: &str = "/v1/chat/completions";
/// The keys behind the hashes in `envoy/envoy.yaml`.
pub const WEB_SHOP: &str = "demo-web-shop";
pub const BATCH: &str = "demo-batch";

/// The whole show.
pub async fn run(gateway: &Gateway, page: &mut Page) -> Result<()> {
    page.line(&page.paint(Tone::Title, "Tollgate: an OpenAI gateway inside Envoy"))?;
    page.line(&format!(
        "  {} is Envoy with tollgate.wasm in it. Behind it, as mocks: ptu (provisioned,",
        gateway.url()
    ))?;
    page.line("  first choice), payg-a and payg-b (pay as you go). Each request below is a real one.")?;

    allowed(gateway, page).await?;
    clamped(gateway, page).await?;
    refused(gateway, page).await?;
    spilled(gateway, page).await?;
    streamed(gateway, page).await?;
    spending::show(gateway, page).await
}

/// What came back, and what Envoy's access log says of it.
pub struct Outcome {
    pub answer: Answer,
    pub log: Value,
}

impl Outcome {
    fn backend(&self) -> &str {
        self.log["backend"].as_str().unwrap_or("no backend")
    }

    pub fn tokens(&self) -> String {
        let (prompt, completion) = (&self.log["prompt_tokens"], &self.log["completion_tokens"]);
        format!("{} prompt + {} completion tokens", number(prompt), number(completion))
    }

    /// A refusal as it reads: `code: message`.
    pub fn refusal(&self) -> String {
        let body = self.answer.json();
        let text = |field: &str| body["error"][field].as_str().unwrap_or("?").to_owned();
        format!("{}: {}", text("code"), text("message"))
    }

    fn attempts(&self) -> u64 {
        number(&self.log["attempts"])
    }

    fn expect_status(self, status: u16) -> Result<Self> {
        let found = self.answer.status;
        ensure!(
            found == status,
            "the show expected {status} here and got {found}: {} (access log: {})",
            self.answer.text(),
            self.log
        );
        Ok(self)
    }

    fn expect_served_by(self, backend: &str, attempts: u64) -> Result<Self> {
        let outcome = self.expect_status(200)?;
        ensure!(
            outcome.backend() == backend && outcome.attempts() == attempts,
            "the show expected {backend} to serve this in attempt {attempts} (access log: {})",
            outcome.log
        );
        Ok(outcome)
    }
}

pub async fn ask(gateway: &Gateway, key: &str, body: &Value) -> Result<Outcome> {
    let answer = gateway.post(CHAT, key, body).await?;
    let log = logged(gateway, &answer).await?;
    Ok(Outcome { answer, log })
}

/// The line of the access log for this answer.
async fn logged(gateway: &Gateway, answer: &Answer) -> Result<Value> {
    let id = answer.header("x-request-id");
    let log = gateway.wait_for_log_where(|log| log.iter().any(|line| line["request_id"] == id)).await?;
    log.into_iter().find(|line| line["request_id"] == id).context("a line of the access log is gone")
}

pub fn chat(text: &str, more: Value) -> Value {
    let mut body = json!({ "model": "gpt-4o", "messages": [ { "role": "user", "content": text } ] });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

async fn allowed(gateway: &Gateway, page: &mut Page) -> Result<()> {
    page.title("1  Allowed")?;
    page.asks("web-shop", "gpt-4o, max_tokens 20")?;
    let outcome =
        ask(gateway, WEB_SHOP, &chat("What does a toll gate do?", json!({ "max_tokens": 20 }))).await?;
    let outcome = outcome.expect_served_by("ptu", 1)?;
    page.answers(200, &format!("served by {}: {}", outcome.backend(), outcome.tokens()))?;
    Ok(())
}

async fn clamped(gateway: &Gateway, page: &mut Page) -> Result<()> {
    page.title("2  Clamped: a policy sets what a client may ask for")?;
    page.asks("web-shop", "gpt-4o, max_tokens 4000, n 5")?;
    let body = chat("Tell me everything.", json!({ "max_tokens": 4000, "n": 5 }));
    let outcome = ask(gateway, WEB_SHOP, &body).await?.expect_served_by("ptu", 1)?;
    let received = gateway.mock("ptu").received().pop().context("the backend received nothing")?;
    let body = received.json();
    ensure!(
        body["max_tokens"] == 512 && body["n"] == 2,
        "the show expected ptu to receive 512 and 2, not {body}"
    );
    page.answers(
        200,
        &format!("{} received max_tokens {}, n {}", outcome.backend(), body["max_tokens"], body["n"]),
    )?;
    Ok(())
}

async fn refused(gateway: &Gateway, page: &mut Page) -> Result<()> {
    page.title("3  Refused, and told why")?;
    let hello = |more| chat("Hello.", more);
    let refusals = [
        ("nobody", "gpt-4o, with a key nobody has", "sk-unknown", hello(json!({})), 401),
        (
            "web-shop",
            "gpt-35-turbo-instruct, not on its list",
            WEB_SHOP,
            hello(json!({ "model": "gpt-35-turbo-instruct" })),
            403,
        ),
        ("batch", "gpt-4o, max_tokens 4000", BATCH, hello(json!({ "max_tokens": 4000 })), 400),
    ];
    for (who, what, key, body, status) in refusals {
        page.asks(who, what)?;
        let outcome = ask(gateway, key, &body).await?.expect_status(status)?;
        page.answers(status, &outcome.refusal())?;
    }
    spent(gateway, page).await
}

/// Asks until the budget of 1000 tokens a minute is spent.
async fn spent(gateway: &Gateway, page: &mut Page) -> Result<()> {
    const ENOUGH: usize = 20;
    page.asks("batch", "gpt-4o, long prompts until its 1000 tokens a minute are spent")?;
    let body = chat(&"All work and no play makes Jack a dull boy. ".repeat(40), json!({}));
    for served in 0..ENOUGH {
        let outcome = ask(gateway, BATCH, &body).await?;
        if outcome.answer.status == 200 {
            page.answers(200, &format!("served by {}: {}", outcome.backend(), outcome.tokens()))?;
            continue;
        }
        ensure!(served > 0, "the show expected at least one answer before the budget is spent");
        let outcome = outcome.expect_status(429)?;
        let wait = page.paint(
            Tone::Aside,
            &format!("(retry-after: {} s; SDKs obey it)", outcome.answer.header("retry-after")),
        );
        page.answers(429, &outcome.refusal())?;
        page.answers_more(&wait)?;
        return Ok(());
    }
    anyhow::bail!("the show expected a refusal after at most {ENOUGH} requests: the budget is never spent")
}

async fn spilled(gateway: &Gateway, page: &mut Page) -> Result<()> {
    page.title("4  Spilled over: ptu is full and answers 429, retry-after 10 s")?;
    gateway.mock("ptu").update(|settings| settings.faults.push_back(Fault::throttle_ms(10_000)));
    let body = chat("Is anybody there?", json!({}));
    for (attempts, remark) in [
        (2, "in attempt 2: the client saw nothing of the 429"),
        (1, "in attempt 1: ptu is left alone for 10 s"),
    ] {
        page.asks("web-shop", "gpt-4o")?;
        let outcome = ask(gateway, WEB_SHOP, &body).await?.expect_served_by("payg-a", attempts)?;
        page.answers(200, &format!("served by {}, {remark}", outcome.backend()))?;
    }
    Ok(())
}

async fn streamed(gateway: &Gateway, page: &mut Page) -> Result<()> {
    page.title("5  Streamed, and counted")?;
    page.asks("web-shop", "gpt-4o, stream; it does not ask for usage")?;
    let body = chat("Every token of a stream passes as it comes.", json!({ "stream": true }));
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
    let response = request.send().await.context("Envoy did not answer")?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut pieces = response.bytes_stream();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        whole.extend(piece.context("the stream broke off")?);
    }
    let answer = Answer { status, headers, body: whole.into() };
    let log = logged(gateway, &answer).await?;
    let outcome = Outcome { answer, log }.expect_status(200)?;

    let text = outcome.answer.text();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|event| serde_json::from_str(event).ok())
        .collect();
    let words: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let usages = events.iter().filter(|event| event["usage"].is_object()).count();
    ensure!(usages == 0, "the show expected no usage in a stream whose client had not asked for it");
    page.answers(200, &format!("{:?}", shortened(&words, 72)))?;
    page.answers_more(&format!(
        "{} events from {}, no usage among them, and yet counted: {}",
        events.len(),
        outcome.backend(),
        outcome.tokens()
    ))?;
    Ok(())
}

fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
