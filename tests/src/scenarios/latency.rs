//! The faster of two backends, where a scheduled task measures both and says the order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::balancing::{DEPLOYMENT, KEY, backend, by_backend, client, completion};
use super::load::{self, Clock, Crowd, Seen};
use super::report::{self, Chart, Mark, Outcome, Shows, Stage, percent, share};
use super::{Pace, Scenario};
use crate::harness::{Answer, Gateway, Setup};
use crate::mock::Settings;

const MINUTE: f64 = 60.0;
const MINUTES: [&str; 5] = ["1st minute", "2nd minute", "3rd minute", "4th minute", "5th minute"];
/// After so many minutes the other one is the faster, of which the task learns a minute later.
const CHANGES: usize = 2;
const TOKENS: u32 = 10;
/// Ten tokens at 10 ms each, and at 100 ms.
const FAST_MS: u64 = 100;
const SLOW_MS: u64 = 1000;
const BACKENDS: [&str; 2] = ["payg1", "payg2"];
/// How often the task measures each backend, taking turns: the best of each is what it believes. It goes on until that is
/// plain, for a machine that does something else makes all of them slow.
const MEASUREMENTS: usize = 3;
const MEASUREMENTS_MAX: usize = 50;
/// What one backend serves of a minute, but for what is under way when the order changes.
const SHARE_MIN: f64 = 0.9;
const OPERATOR: &str = "scheduled-task";

pub(super) async fn run(scenario: Scenario, pace: Pace) -> Result<Outcome> {
    let mut operator = client(OPERATOR);
    operator["operator"] = json!(true);
    let config = json!({
        "clients": [client(KEY), operator],
        "models": [{ "name": DEPLOYMENT, "backends": BACKENDS.map(|name| json!({ "backend": name })) }],
        "backends": BACKENDS.map(backend),
    });
    let mock = |milliseconds| Settings {
        latency_ms: pace.latency_ms(milliseconds),
        record: false,
        ..Settings::default()
    };
    let setup = Setup::new().config(config).mock(BACKENDS[0], mock(FAST_MS)).mock(BACKENDS[1], mock(SLOW_MS));
    let gateway = Gateway::start(setup).await?;
    let minute = pace.of_stage(MINUTE);
    measure_and_order(&gateway).await?;
    let clock = Clock::start(pace);
    let until = minute * MINUTES.len() as f64;
    let crowd =
        Crowd { from: 0.0, until, users: 1, spawn_rate: 1.0, asks: Arc::new(|_| completion(KEY, TOKENS)) };
    let task = async {
        let mut told = vec![0.0];
        for at in 1..MINUTES.len() {
            clock.until(minute * at as f64).await;
            measure_and_order(&gateway).await?;
            told.push(clock.now());
            if at == CHANGES {
                gateway.mock(BACKENDS[0]).update(|settings| settings.latency_ms = pace.latency_ms(SLOW_MS));
                gateway.mock(BACKENDS[1]).update(|settings| settings.latency_ms = pace.latency_ms(FAST_MS));
            }
        }
        anyhow::Ok(told)
    };
    let (seen, told) = tokio::join!(load::run(&gateway, clock, vec![crowd]), task);
    let (seen, mut told) = (seen?, told?);
    told.push(until);
    let stage = |at: usize| Stage { name: MINUTES[at], span: (minute * at as f64, minute * (at + 1) as f64) };
    let stages: Vec<Stage> = (0..MINUTES.len()).map(stage).collect();
    let charts = [("Requests by backend", Shows::Count), ("How long they took", Shows::Took)];
    Ok(Outcome {
        scenario,
        pace,
        marks: marks(&seen, &told, pace),
        seen,
        stages,
        charts: charts.map(|(title, shows)| Chart { title, shows, groups: by_backend(&BACKENDS) }).into(),
    })
}

/// What the scheduled task does: asks both, and says the order in which they have answered.
async fn measure_and_order(gateway: &Gateway) -> Result<()> {
    let mut measured = BACKENDS.map(|name| (Duration::MAX, name));
    for round in 1..=MEASUREMENTS_MAX {
        for (best, name) in &mut measured {
            let url = format!(
                "{}/openai/deployments/{DEPLOYMENT}/completions?api-version=2024-10-21",
                gateway.mock(name).url()
            );
            let body = json!({ "prompt": "How fast are you", "max_tokens": TOKENS });
            let asked = Instant::now();
            let answer = Answer::read(gateway.http().post(url).json(&body).send().await?).await?;
            ensure!(answer.status == 200, "{name} answers {}", answer.text());
            *best = asked.elapsed().min(*best);
        }
        let [(one, _), (other, _)] = measured;
        if round >= MEASUREMENTS && one.max(other) > one.min(other) * 2 {
            break;
        }
    }
    measured.sort_unstable();
    let order: Vec<&str> = measured.into_iter().map(|(_, name)| name).collect();
    let body: Value = json!({ "model": DEPLOYMENT, "order": order, "for_s": 3600 });
    let answer = gateway.post("/tollgate/v1/order", OPERATOR, &body).await?;
    ensure!(answer.status == 200, "no order was taken: {}", answer.text());
    Ok(())
}

/// `told` is when the orders were said, and the end: what is asked while the task measures goes by the order before.
fn marks(seen: &[Seen], told: &[f64], pace: Pace) -> Vec<Mark> {
    let mut marks = vec![Mark::all_served(seen)];
    // The third minute goes by what was measured before the change.
    for (at, (minute, span)) in MINUTES.iter().zip(told.windows(2)).enumerate() {
        let (name, span) = (BACKENDS[usize::from(at > CHANGES)], (span[0], span[1]));
        let asked = report::count(seen, |seen| seen.is_within(span));
        let found = report::count(seen, |seen| seen.is_within(span) && seen.is_by(name));
        marks.push(
            Mark::new(
                format!("by the order of the {minute} {name} serves at least {}", percent(SHARE_MIN)),
                format!("{found} of {asked}"),
                share(found, asked) >= SHARE_MIN,
            )
            .unless_quick(pace),
        );
    }
    marks
}
