//! What each of three clients has used, as it is written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::balancing::{DEPLOYMENT, LATENCY_MS, backend, client, completion};
use super::load::{self, Clock, Crowd, Seen};
use super::report::{Chart, Group, Mark, Outcome, Shows, Stage};
use super::{Pace, Scenario};
use crate::harness::{Gateway, Setup};
use crate::mock::Settings;

const LASTS: f64 = 180.0;
const USERS: u32 = 3;
const KEYS: [&str; 3] = ["subscription-one", "subscription-two", "subscription-three"];
/// The caps that are drawn from.
const TOKENS: std::ops::RangeInclusive<u64> = 5..=20;

pub(super) async fn run(scenario: Scenario, pace: Pace) -> Result<Outcome> {
    let config = json!({
        "clients": KEYS.map(client),
        "models": [{ "name": DEPLOYMENT, "backends": [{ "backend": "payg1" }] }],
        "backends": [backend("payg1")],
    });
    let mock = Settings { latency_ms: pace.latency_ms(LATENCY_MS), ..Settings::default() };
    let gateway = Gateway::start(Setup::new().config(config).mock("payg1", mock)).await?;
    let until = pace.of_stage(LASTS);
    let asks = |turn: u64| {
        let lot = tollgate::route::lot(turn);
        let cap = TOKENS.start() + (lot >> 8) % (TOKENS.end() - TOKENS.start() + 1);
        completion(KEYS[lot as usize % KEYS.len()], cap as u32)
    };
    let crowd = Crowd { from: 0.0, until, users: USERS, spawn_rate: 1.0, asks: Arc::new(asks) };
    let seen = load::run(&gateway, Clock::start(pace), vec![crowd]).await?;
    let billed: u64 = gateway.mock("payg1").billed().iter().map(|bill| bill.usage.total()).sum();
    let groups = KEYS.map(|key| Group::new(key, move |seen: &Seen| seen.key == key)).into();
    Ok(Outcome {
        scenario,
        pace,
        marks: marks(&seen, billed),
        seen,
        stages: vec![Stage { name: "three users", span: (0.0, until) }],
        charts: vec![Chart { title: "Requests by client", shows: Shows::Count, groups }],
    })
}

fn marks(seen: &[Seen], billed: u64) -> Vec<Mark> {
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    let mut recorded: BTreeMap<&str, u64> = BTreeMap::new();
    for seen in seen {
        *told.entry(seen.key).or_default() += seen.tokens;
        *recorded.entry(seen.client.as_deref().unwrap_or_default()).or_default() += seen.recorded;
    }
    let total: u64 = recorded.values().sum();
    let shown: Vec<String> = recorded.iter().map(|(client, tokens)| format!("{client} {tokens}")).collect();
    vec![
        Mark::all_served(seen),
        Mark::new(
            "each client's tokens are written down as its answers told them",
            shown.join(", "),
            told == recorded,
        ),
        Mark::new(
            "together they are what the backend bills, to the token",
            format!("{total} written down, {billed} billed"),
            total == billed,
        ),
        Mark::new(
            "all three have used some",
            format!("{} of {}", recorded.values().filter(|tokens| **tokens > 0).count(), KEYS.len()),
            recorded.len() == KEYS.len() && recorded.values().all(|tokens| *tokens > 0),
        ),
    ]
}
