//! Users as Locust has them: each asks, waits a second after the answer, and asks again.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinSet;

use super::Pace;
use crate::harness::{Answer, Gateway};

/// What a user waits between two requests.
const BETWEEN: f64 = 1.0;

/// A request that a user makes.
pub(super) struct Ask {
    pub(super) key: &'static str,
    pub(super) path: String,
    pub(super) is_low: bool,
    pub(super) body: Value,
}

/// What is asked by the number that a request has in the run: the same run asks the same.
pub(super) type Asks = Arc<dyn Fn(u64) -> Ask + Send + Sync>;

/// Users that come one after the other, and go at once.
pub(super) struct Crowd {
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) users: u32,
    /// How many of them come in a second.
    pub(super) spawn_rate: f64,
    pub(super) asks: Asks,
}

/// When a run began, and how fast it goes.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
    pace: Pace,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was made.
    pub at: f64,
    /// How long its answer took.
    pub took: f64,
    /// What was answered.
    pub status: u16,
    /// By whose key.
    pub key: &'static str,
    /// Whether it said that it is of low priority.
    pub is_low: bool,
    /// Who served it; the last one that was tried, if any was.
    pub backend: Option<String>,
    /// The tokens that the answer says it used.
    pub tokens: u64,
    /// The tokens that the record says it used.
    pub recorded: u64,
    /// The record's client.
    pub client: Option<String>,
}

impl Seen {
    /// Whether it was served.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.status == 200
    }

    /// Whether it was made between these times.
    #[must_use]
    pub fn is_within(&self, (from, until): (f64, f64)) -> bool {
        (from..until).contains(&self.at)
    }

    pub(super) fn is_by(&self, backend: &str) -> bool {
        self.backend.as_deref() == Some(backend)
    }
}

impl Clock {
    pub(super) fn start(pace: Pace) -> Self {
        Self { start: Instant::now(), pace }
    }

    pub(super) fn now(self) -> f64 {
        self.pace.shown(self.start.elapsed())
    }

    pub(super) async fn until(self, seconds: f64) {
        tokio::time::sleep_until((self.start + self.pace.real(seconds)).into()).await;
    }
}

/// Lets all of them ask until they go; what became of it, in the order in which it was asked.
pub(super) async fn run(gateway: &Gateway, clock: Clock, crowds: Vec<Crowd>) -> Result<Vec<Seen>> {
    let mut users = JoinSet::new();
    let mut first = 0;
    for crowd in crowds {
        for user in 0..crowd.users {
            let comes = crowd.from + f64::from(user) / crowd.spawn_rate;
            let (url, http) = (gateway.url().to_owned(), gateway.http().clone());
            let turns = (first + u64::from(user)) << 32;
            users.spawn(ask_until(clock, (comes, crowd.until), Arc::clone(&crowd.asks), turns, url, http));
        }
        first += u64::from(crowd.users);
    }
    let mut found = Vec::new();
    while let Some(user) = users.join_next().await {
        found.extend(user??);
    }
    with_records(gateway, found).await
}

async fn ask_until(
    clock: Clock,
    (from, until): (f64, f64),
    asks: Asks,
    turns: u64,
    url: String,
    http: reqwest::Client,
) -> Result<Vec<(String, Seen)>> {
    clock.until(from).await;
    let mut found = Vec::new();
    let mut turn = turns;
    while clock.now() < until {
        let Ask { key, path, is_low, body } = asks(turn);
        let at = clock.now();
        let mut request = http.post(format!("{url}{path}")).header("api-key", key).json(&body);
        if is_low {
            request = request.header("x-priority", "low");
        }
        let answer = Answer::read(request.send().await.context("Envoy did not answer")?).await?;
        let seen = Seen {
            at,
            took: clock.now() - at,
            status: answer.status,
            key,
            is_low,
            backend: None,
            tokens: answer.json()["usage"]["total_tokens"].as_u64().unwrap_or(0),
            recorded: 0,
            client: None,
        };
        found.push((answer.header("x-request-id").to_owned(), seen));
        turn += 1;
        tokio::time::sleep(clock.pace.real(BETWEEN)).await;
    }
    Ok(found)
}

/// Adds what the gateway wrote down about each.
async fn with_records(gateway: &Gateway, found: Vec<(String, Seen)>) -> Result<Vec<Seen>> {
    let mut by_id: std::collections::HashMap<String, Seen> = found.into_iter().collect();
    let count = by_id.len();
    let of_users = |line: &&Value| line["request_id"].as_str().is_some_and(|id| by_id.contains_key(id));
    let log = gateway.wait_for_log_where(|log| log.iter().filter(of_users).count() >= count).await?;
    for line in &log {
        let Some(seen) = line["request_id"].as_str().and_then(|id| by_id.get_mut(id)) else { continue };
        let number =
            |field: &str| line[field].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        seen.backend = line["backend"].as_str().map(str::to_owned);
        seen.client = line["client"].as_str().map(str::to_owned);
        seen.recorded = number("prompt_tokens") + number("completion_tokens");
    }
    let mut all: Vec<Seen> = by_id.into_values().collect();
    all.sort_by(|one, other| one.at.total_cmp(&other.at));
    Ok(all)
}
