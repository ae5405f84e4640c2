//! Two priorities that come and go, where one backend takes less than both ask for.
//!
//! Low requests do not wait here: the toolkit refuses them at once, and users that wait would ask for less.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::balancing::{KEY, backend, client};
use super::load::{self, Ask, Clock, Crowd, Seen};
use super::report::{self, Chart, Group, Mark, Outcome, Shows, Stage, percent, share};
use super::spikes::{REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, limited};
use super::{Pace, Scenario};
use crate::harness::{Gateway, Setup};
use crate::mock::Settings;

/// Each stage, and who asks in it: nine users of one priority, or eighteen that ask both alike.
const STAGE: f64 = 120.0;
const STAGES: [(&str, Who); 5] =
    [("low", Who::Low), ("both", Who::Both), ("high", Who::High), ("both", Who::Both), ("low", Who::Low)];
const CHATS: &str = "gpt-35-turbo-100k-token";
const EMBEDDINGS: &str = "embedding100k";
const CHAT_TOKENS: u32 = 50;
/// A text of so many characters has a fourth as many tokens.
const CHARACTERS: usize = 1000;
/// What stays free for the important, and for what is under way between gateway and backend.
const LOW_HEADROOM: f64 = 0.1;
const HIGH_HEADROOM: f64 = 0.03;
/// What an important request waits at most.
const HIGH_WAITS: f64 = 5.0;
/// What is used of the backend while more than some are refused: users that fall into step leave room in between. The delays of
/// a busy machine make the backend refuse some.
const USED_MIN: f64 = 0.8;
const SOME: f64 = 0.05;
const REFUSED_MAX: f64 = 0.01;
const REFUSED_MAX_QUICK: f64 = 0.25;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Low,
    High,
    Both,
}

/// What is asked for, and of what there is too little.
struct Kind {
    deployment: &'static str,
    path: &'static str,
    body: Value,
    latency_ms: u64,
    /// What the backend takes in a second.
    per_second: f64,
}

pub(super) async fn chats(scenario: Scenario, pace: Pace) -> Result<Outcome> {
    let kind = Kind {
        deployment: CHATS,
        path: "chat/completions",
        body: json!({ "messages": [{ "role": "user", "content": "Tell a short story" }], "max_tokens": CHAT_TOKENS }),
        latency_ms: u64::from(CHAT_TOKENS),
        per_second: f64::from(REQUESTS_PER_MINUTE) / 60.0,
    };
    let mut outcome = run(scenario, pace, kind).await?;
    let high = report::count(&outcome.seen, |seen| !seen.is_low);
    let refused = report::count(&outcome.seen, |seen| !seen.is_low && !seen.is_served());
    let bound = if pace.is_quick() { REFUSED_MAX_QUICK } else { 0.0 };
    outcome.marks.insert(
        0,
        Mark::new(
            format!("of high requests {} are refused at most", percent(bound)),
            format!("{refused} of {high}"),
            share(refused, high) <= bound && high > 0,
        ),
    );
    Ok(outcome)
}

pub(super) async fn embeddings(scenario: Scenario, pace: Pace) -> Result<Outcome> {
    let words = "tokens of a text that is embedded ";
    let text: String = words.chars().cycle().take(CHARACTERS).collect();
    let cost = crate::mock::tokens::text(&text) as f64;
    let kind = Kind {
        deployment: EMBEDDINGS,
        path: "embeddings",
        body: json!({ "input": text }),
        latency_ms: 0,
        per_second: f64::from(TOKENS_PER_MINUTE) / 60.0 / cost,
    };
    run(scenario, pace, kind).await
}

async fn run(scenario: Scenario, pace: Pace, kind: Kind) -> Result<Outcome> {
    let mut asking = client(KEY);
    asking["priority"] = json!("high");
    let mut payg = backend("payg1");
    payg["tokens_per_minute"] = json!(pace.per_minute(TOKENS_PER_MINUTE));
    payg["window_s"] = json!(pace.tokens_window_s());
    payg["requests_per_minute"] = json!(pace.per_minute(REQUESTS_PER_MINUTE));
    payg["requests_window_s"] = json!(pace.requests_window_s());
    let config = json!({
        "clients": [asking],
        "priorities": {
            "high": { "headroom_min": HIGH_HEADROOM, "wait_ms": pace.real(HIGH_WAITS).as_millis() as u64 },
            "low": { "headroom_min": LOW_HEADROOM, "wait_ms": 0 },
        },
        "models": [{ "name": kind.deployment, "backends": [{ "backend": "payg1" }] }],
        "backends": [payg],
    });
    let mock = Settings {
        latency_ms: pace.latency_ms(kind.latency_ms),
        completion_tokens: CHAT_TOKENS,
        ..limited(pace)
    };
    let gateway = Gateway::start(Setup::new().config(config).mock("payg1", mock)).await?;
    let stage = pace.of_stage(STAGE);
    let (path, body) =
        (format!("/openai/deployments/{}/{}?api-version=2024-10-21", kind.deployment, kind.path), kind.body);
    let crowds = STAGES.iter().enumerate().map(|(at, (_, who))| {
        let (who, path, body) = (*who, path.clone(), body.clone());
        // A user of both asks each of them every other time.
        let asks = move |turn: u64| Ask {
            key: KEY,
            path: path.clone(),
            is_low: who == Who::Low || who == Who::Both && (turn ^ (turn >> 32)) & 1 == 0,
            body: body.clone(),
        };
        Crowd {
            from: stage * at as f64,
            until: stage * (at + 1) as f64,
            users: if who == Who::Both { 18 } else { 9 },
            spawn_rate: f64::from(pace.shortened),
            asks: Arc::new(asks),
        }
    });
    let seen = load::run(&gateway, Clock::start(pace), crowds.collect()).await?;
    let refused_by_backend = gateway.mock("payg1").load().refused;
    let stages: Vec<Stage> = (0..STAGES.len())
        .map(|at| Stage { name: STAGES[at].0, span: (stage * at as f64, stage * (at + 1) as f64) })
        .collect();
    let group = |name, is_low: bool, is_served: bool| {
        Group::new(name, move |seen: &Seen| seen.is_low == is_low && seen.is_served() == is_served)
    };
    let groups = vec![
        group("high, 200", false, true),
        group("low, 200", true, true),
        group("high, 429", false, false),
        group("low, 429", true, false),
    ];
    Ok(Outcome {
        scenario,
        pace,
        marks: marks(&seen, &stages, pace, kind.per_second, refused_by_backend),
        seen,
        stages,
        charts: vec![
            Chart { title: "Requests by priority and answer", shows: Shows::Count, groups },
            Chart { title: "Requests", shows: Shows::Count, groups: vec![Group::new("all", |_| true)] },
        ],
    })
}

fn marks(seen: &[Seen], stages: &[Stage], pace: Pace, per_second: f64, refused_by_backend: u64) -> Vec<Mark> {
    let refused_max = if pace.is_quick() { REFUSED_MAX_QUICK } else { REFUSED_MAX };
    let of = |span, is_low: bool, is_served: bool| {
        report::count(seen, |seen| {
            seen.is_within(span) && seen.is_low == is_low && seen.is_served() == is_served
        })
    };
    let mut marks = vec![Mark::new(
        "the gateway refuses what does not fit, and not the backend",
        format!("{refused_by_backend} of {} by the backend", seen.len()),
        share(refused_by_backend as usize, seen.len()) <= refused_max,
    )];
    for (at, (stage, (_, who))) in stages.iter().zip(STAGES).enumerate() {
        let nth = at + 1;
        // When all have come, and what there was before has left the window.
        let settled = (f64::midpoint(stage.span.0, stage.span.1), stage.span.1);
        let [high, low] = [false, true].map(|is_low| (of(settled, is_low, true), of(settled, is_low, false)));
        let (served, refused) = (high.0 + low.0, high.1 + low.1);
        let used = served as f64 / (per_second * (settled.1 - settled.0));
        marks.push(
            Mark::new(
                format!(
                    "in stage {nth} {} is used, or fewer than {} refused",
                    percent(USED_MIN),
                    percent(SOME)
                ),
                format!("{} used, {refused} of {} refused", percent(used), served + refused),
                used >= USED_MIN || share(refused, served + refused) < SOME,
            )
            .unless_quick(pace),
        );
        if who == Who::Both {
            let [high, low] = [high, low].map(|(served, refused)| share(served, served + refused));
            marks.push(
                Mark::new(
                    format!("in stage {nth} high is served before low"),
                    format!("{} of high, {} of low", percent(high), percent(low)),
                    high >= low && high > 0.0,
                )
                .unless_quick(pace),
            );
        }
    }
    marks
}
