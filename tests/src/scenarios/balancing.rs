//! Requests that are spread over two backends, evenly or by weights.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::load::{self, Ask, Clock, Crowd};
use super::report::{self, Chart, Group, Mark, Outcome, Shows, Stage, percent, share};
use super::{Pace, Scenario};
use crate::harness::{Gateway, Setup};
use crate::mock::Settings;

/// The two users ask for three minutes.
const LASTS: f64 = 180.0;
const USERS: u32 = 2;
pub(super) const DEPLOYMENT: &str = "gpt-35-turbo-100m-token";
/// So many tokens each, at ten milliseconds each.
const TOKENS: u32 = 10;
pub(super) const LATENCY_MS: u64 = 10 * TOKENS as u64;
/// A share is within so many standard deviations of what chance leaves of it.
const DEVIATIONS: f64 = 5.0;
pub(super) const KEY: &str = "subscription-one";

/// A backend by its name.
pub(super) fn backend(name: &str) -> Value {
    json!({
        "name": name, "cluster": name, "style": "azure", "api_version": "2024-10-21",
        "credential": { "header": "api-key", "env": name.to_uppercase() + "_KEY" },
    })
}

/// A client of that name, which is its key too.
pub(super) fn client(name: &str) -> Value {
    use sha2::{Digest, Sha256};
    json!({ "name": name, "api_keys": [{ "sha256": hex::encode(Sha256::digest(name)) }], "models": ["*"] })
}

/// A completion as the toolkit asks for it, of so many tokens at most.
pub(super) fn completion(key: &'static str, max_tokens: u32) -> Ask {
    Ask {
        key,
        path: format!("/openai/deployments/{DEPLOYMENT}/completions?api-version=2024-10-21"),
        is_low: false,
        body: json!({ "prompt": "Tell a story", "max_tokens": max_tokens }),
    }
}

/// Who served, among backends.
pub(super) fn by_backend(names: &[&'static str]) -> Vec<Group> {
    let of = |name: &&'static str| {
        let name = *name;
        Group::new(name, move |seen| seen.is_served() && seen.is_by(name))
    };
    names.iter().map(of).collect()
}

/// Those that got this status.
pub(super) fn of_status(name: &str, status: u16) -> Group {
    Group::new(name, move |seen| seen.status == status)
}

pub(super) async fn run(scenario: Scenario, pace: Pace, weights: [u32; 2]) -> Result<Outcome> {
    let config = json!({
        "clients": [client(KEY)],
        "models": [{ "name": DEPLOYMENT, "backends": [
            { "backend": "payg1", "weight": weights[0] },
            { "backend": "payg2", "weight": weights[1] },
        ] }],
        "backends": [backend("payg1"), backend("payg2")],
    });
    let mock = Settings { latency_ms: pace.latency_ms(LATENCY_MS), record: false, ..Settings::default() };
    let setup = Setup::new().config(config).mock("payg1", mock.clone()).mock("payg2", mock);
    let gateway = Gateway::start(setup).await?;
    let until = pace.of_stage(LASTS);
    let crowd = Crowd {
        from: 0.0,
        until,
        users: USERS,
        spawn_rate: 1.0,
        asks: Arc::new(|_| completion(KEY, TOKENS)),
    };
    let seen = load::run(&gateway, Clock::start(pace), vec![crowd]).await?;
    let marks = marks(&seen, weights);
    let mut groups = by_backend(&["payg1", "payg2"]);
    groups.push(of_status("429", 429));
    Ok(Outcome {
        scenario,
        pace,
        marks,
        seen,
        stages: vec![Stage { name: "two users", span: (0.0, until) }],
        charts: vec![Chart { title: "Requests by backend", shows: Shows::Count, groups }],
    })
}

fn marks(seen: &[load::Seen], weights: [u32; 2]) -> Vec<Mark> {
    let served = report::count(seen, load::Seen::is_served);
    let first = report::count(seen, |seen| seen.is_served() && seen.is_by("payg1"));
    let wanted = f64::from(weights[0]) / f64::from(weights[0] + weights[1]);
    let deviation = (wanted * (1.0 - wanted) / seen.len().max(1) as f64).sqrt();
    let found = share(first, served);
    vec![
        Mark::all_served(seen),
        Mark::new(
            format!("payg1 serves {} of them, by a lot for each", percent(wanted)),
            format!("{}, ± {} by chance", percent(found), percent(DEVIATIONS * deviation)),
            (found - wanted).abs() <= DEVIATIONS * deviation,
        ),
    ]
}
