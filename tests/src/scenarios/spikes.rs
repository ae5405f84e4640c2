//! A spike that is more than provisioned throughput takes, and pay-as-you-go behind it.

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::balancing::{KEY, backend, by_backend, client, of_status};
use super::load::{self, Ask, Clock, Crowd, Seen};
use super::report::{self, Chart, Group, Mark, Outcome, Shows, Stage, percent, share};
use super::{Pace, Scenario, window_ms};
use crate::harness::{Gateway, Setup};
use crate::mock::Settings;

const SPIKE: f64 = 180.0;
const END: f64 = 360.0;
const DEPLOYMENT: &str = "gpt-35-turbo-100k-token";
/// What the simulator takes of that deployment.
pub(super) const TOKENS_PER_MINUTE: u32 = 100_000;
pub(super) const REQUESTS_PER_MINUTE: u32 = 600;
/// Each chat may have so many tokens, at a millisecond each.
const TOKENS: u32 = 1000;
/// Nearly all of what comes before the spike.
const FIRST_MIN: f64 = 0.95;

/// A mock that takes what the simulator does.
pub(super) fn limited(pace: Pace) -> Settings {
    Settings {
        tpm: Some(pace.per_minute(TOKENS_PER_MINUTE)),
        rpm: Some(pace.per_minute(REQUESTS_PER_MINUTE)),
        window_ms: window_ms(pace.tokens_window_s()),
        requests_window_ms: Some(window_ms(pace.requests_window_s())),
        record: false,
        ..Settings::default()
    }
}

pub(super) async fn run(scenario: Scenario, pace: Pace) -> Result<Outcome> {
    let config = json!({
        "clients": [client(KEY)],
        "models": [{ "name": DEPLOYMENT, "backends": [
            { "backend": "ptu1", "priority": 0 },
            { "backend": "payg1", "priority": 1 },
        ] }],
        "backends": [backend("ptu1"), backend("payg1")],
    });
    let mock = Settings {
        latency_ms: pace.latency_ms(u64::from(TOKENS)),
        completion_tokens: TOKENS,
        ..limited(pace)
    };
    // In a window of a second there is room for some requests only: both would be full at times by chance.
    let payg = if pace.is_quick() { Settings { tpm: None, rpm: None, ..mock.clone() } } else { mock.clone() };
    let setup = Setup::new().config(config).mock("ptu1", mock).mock("payg1", payg);
    let gateway = Gateway::start(setup).await?;
    let (spike, end) = (pace.of_stage(SPIKE), pace.of_stage(END));
    let asks = |_| Ask {
        key: KEY,
        path: format!("/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"),
        is_low: false,
        body: json!({ "messages": [{ "role": "user", "content": "Tell a long story" }], "max_tokens": TOKENS }),
    };
    let crowd = |from, users, spawn_rate| Crowd { from, until: end, users, spawn_rate, asks: Arc::new(asks) };
    let crowds =
        vec![crowd(0.0, 2, 0.1 * f64::from(pace.shortened)), crowd(spike, 4, f64::from(pace.shortened))];
    let seen = load::run(&gateway, Clock::start(pace), crowds).await?;
    let mut groups = by_backend(&["ptu1", "payg1"]);
    groups.push(of_status("429", 429));
    Ok(Outcome {
        scenario,
        pace,
        marks: marks(&seen, spike, pace),
        seen,
        stages: vec![
            Stage { name: "two users", span: (0.0, spike) },
            Stage { name: "six users", span: (spike, end) },
        ],
        charts: vec![
            Chart { title: "Requests by backend", shows: Shows::Count, groups },
            Chart { title: "Requests", shows: Shows::Count, groups: vec![Group::new("all", |_| true)] },
        ],
    })
}

fn marks(seen: &[Seen], spike: f64, pace: Pace) -> Vec<Mark> {
    let (before, after): (Vec<Seen>, Vec<Seen>) = seen.iter().cloned().partition(|seen| seen.at < spike);
    let first = report::count(&before, |seen| seen.is_by("ptu1"));
    let [kept, spilled] = ["ptu1", "payg1"].map(|name| report::count(&after, |seen| seen.is_by(name)));
    vec![
        Mark::all_served(seen),
        Mark::new(
            format!("before the spike ptu1 serves at least {}", percent(FIRST_MIN)),
            format!("{first} of {}", before.len()),
            share(first, before.len()) >= FIRST_MIN,
        )
        .unless_quick(pace),
        Mark::new(
            "during the spike payg1 serves some, and ptu1 goes on",
            format!("ptu1 {kept}, payg1 {spilled}"),
            kept > 0 && spilled > 0,
        )
        .unless_quick(pace),
    ]
}
