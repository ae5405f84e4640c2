//! The numbers, for people and for programs.
//!
//! A number is the median over the rounds. A ratio is taken within a round and then the median of those: what slows this
//! machine down for a while slows both sides of it. In brackets stand the quartiles.

use std::fmt::Write;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::load::Rate;
use crate::measure::{About, Memory, Outcome, Plan, Turn};
use crate::process;
use crate::variant::Variant;

/// A number over the rounds. Half of them lie between the quartiles.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    min: f64,
    pub(crate) lower_quartile: f64,
    pub(crate) median: f64,
    pub(crate) upper_quartile: f64,
    max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        let quarter = sorted.len() / 4;
        let (lower_quartile, upper_quartile) = (sorted[quarter], sorted[sorted.len() - 1 - quarter]);
        Some(Self { min, lower_quartile, median, upper_quartile, max })
    }
}

/// A variant in a scenario.
#[derive(Serialize)]
pub(crate) struct Row {
    variant: String,
    requests: u64,
    pub(crate) cpu_per_request_us: Option<Spread>,
    pub(crate) cpu_of_bare: Option<Spread>,
    requests_per_second: Option<Spread>,
    requests_per_second_of_bare: Option<Spread>,
    pub(crate) latency_p50_ms: Option<Spread>,
    latency_p90_ms: Option<Spread>,
    pub(crate) latency_p99_ms: Option<Spread>,
    worker_busy: Option<Spread>,
    mock_cpu_per_request_us: Option<Spread>,
    pub(crate) rounds: Vec<Round>,
}

#[derive(Serialize)]
pub(crate) struct Round {
    requests: u64,
    requests_per_second: f64,
    cpu_per_request_us: Option<f64>,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
}

pub(crate) fn cpu(turn: &Turn) -> Option<f64> {
    turn.cpu.map(|cpu| cpu.per_request_us)
}

impl Row {
    fn of(variant: Variant, turns: &[Turn], bare: &[Turn]) -> Self {
        let over = |number: fn(&Turn) -> Option<f64>| Spread::of(turns.iter().filter_map(number));
        let of_bare = |number: fn(&Turn) -> Option<f64>| {
            let ratio = |(turn, bare)| Some(number(turn)? / number(bare)?);
            Spread::of(turns.iter().zip(bare).filter_map(ratio))
        };
        let round = |turn: &Turn| Round {
            requests: turn.requests,
            requests_per_second: turn.per_second,
            cpu_per_request_us: cpu(turn),
            p50_ms: turn.latency.p50_ms,
            p90_ms: turn.latency.p90_ms,
            p99_ms: turn.latency.p99_ms,
        };
        Self {
            variant: variant.name(),
            requests: turns.iter().map(|turn| turn.requests).sum(),
            cpu_per_request_us: over(cpu),
            cpu_of_bare: of_bare(cpu),
            requests_per_second: over(|turn| Some(turn.per_second)),
            requests_per_second_of_bare: of_bare(|turn| Some(turn.per_second)),
            latency_p50_ms: over(|turn| Some(turn.latency.p50_ms)),
            latency_p90_ms: over(|turn| Some(turn.latency.p90_ms)),
            latency_p99_ms: over(|turn| Some(turn.latency.p99_ms)),
            worker_busy: over(|turn| turn.cpu.map(|cpu| cpu.worker_share)),
            mock_cpu_per_request_us: over(|turn| turn.cpu.map(|cpu| cpu.backend_per_request_us)),
            rounds: turns.iter().map(round).collect(),
        }
    }
}

pub(crate) fn rows(outcome: &Outcome) -> Vec<Row> {
    let bare = outcome.turns.iter().find(|(variant, _)| *variant == Variant::Bare);
    let bare = bare.map(|(_, turns)| turns.as_slice()).unwrap_or_default();
    outcome.turns.iter().map(|(variant, turns)| Row::of(*variant, turns, bare)).collect()
}

/// The same Envoy against itself: what is not 1 here is noise.
pub(crate) fn again(rows: &[Row]) -> Option<&Row> {
    rows.iter().find(|row| row.variant == Variant::BareAgain.name())
}

/// What it is all about.
pub(crate) fn tollgate(rows: &[Row]) -> Option<&Row> {
    rows.iter().find(|row| row.variant == Variant::Tollgate.name())
}

/// A scenario for the reader.
pub(crate) fn table(outcome: &Outcome) -> String {
    let rows = rows(outcome);
    let mut text = String::new();
    let rounds = rows.first().map_or(0, |row| row.rounds.len());
    let (title, connections, seconds) =
        (outcome.scenario.title(), outcome.connections, outcome.lasts.as_secs_f64());
    let rate = outcome.rate.map_or(String::new(), |Rate(rate)| format!(", {rate} requests per second"));
    let _ = writeln!(text, "\n{title}; {connections} connections{rate}, {rounds} rounds of {seconds} s");
    let _ = writeln!(
        text,
        "{:18} {:>11} {:>20} {:>10} {:>20} {:>9} {:>9} {:>9} {:>7}",
        "", "CPU/request", "of bare", "requests/s", "of bare", "p50", "p90", "p99", "worker"
    );
    for row in &rows {
        let _ = writeln!(
            text,
            "{:18} {:>11} {:>20} {:>10} {:>20} {:>9} {:>9} {:>9} {:>7}",
            row.variant,
            shown(row.cpu_per_request_us, |us| format!("{us:.1} µs")),
            ratio(row.cpu_of_bare),
            shown(row.requests_per_second, |rate| format!("{rate:.0}")),
            ratio(row.requests_per_second_of_bare),
            shown(row.latency_p50_ms, |ms| format!("{ms:.2} ms")),
            shown(row.latency_p90_ms, |ms| format!("{ms:.2} ms")),
            shown(row.latency_p99_ms, |ms| format!("{ms:.2} ms")),
            shown(row.worker_busy, |share| format!("{:.0} %", share * 100.0)),
        );
    }
    if let Some(again) = again(&rows) {
        let _ = writeln!(
            text,
            "Noise (A/A): bare Envoy against itself comes to {} in CPU and {} in requests per second.",
            ratio(again.cpu_of_bare),
            ratio(again.requests_per_second_of_bare),
        );
    }
    let busy = rows.iter().filter_map(|row| row.worker_busy).map(|share| share.median).reduce(f64::min);
    if let (Some(busy), Some(cost)) = (busy, tollgate(&rows).and_then(|row| row.cpu_of_bare))
        && busy < BUSY
        && outcome.rate.is_none()
    {
        let _ = writeln!(
            text,
            "Not every worker was busy all the time: there, others than Envoy limit the requests per second. By its CPU, a worker \
             with Tollgate\nserves {:.0} % of the requests that one without serves.",
            100.0 / cost.median
        );
    }
    text
}

/// The share of the time from which on a worker is what limits the requests per second.
const BUSY: f64 = 0.9;

/// Memory for the reader.
pub(crate) fn memory_table(memory: &[Memory], streams: usize) -> String {
    let mut text = String::new();
    if !process::is_accounted() {
        return text;
    }
    let _ = writeln!(
        text,
        "\n{:18} {:>10} {:>12} {:>22} {:>22}",
        "Resident memory",
        "idle",
        "after load",
        format!("{streams} open streams"),
        "each further worker"
    );
    let mib = |kib: i64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let shown = |kib: Option<i64>| kib.map_or("?".to_owned(), mib);
    let total = |kib: Option<u64>| shown(kib.map(u64::cast_signed));
    for Memory { variant, idle_kib, after_load_kib, streams_kib, worker_kib } in memory {
        let (idle, after) = (total(*idle_kib), total(*after_load_kib));
        let (streams, worker) = (shown(*streams_kib), shown(*worker_kib));
        let _ = writeln!(text, "{variant:18} {idle:>10} {after:>12} {streams:>22} {worker:>22}");
    }
    let _ = writeln!(
        text,
        "CPU: all threads of the Envoy process, by {}. Worker: the share of the time its one worker was on a CPU.",
        process::CPU_SOURCE
    );
    text
}

fn shown(spread: Option<Spread>, show: impl Fn(f64) -> String) -> String {
    spread.map_or("-".to_owned(), |spread| show(spread.median))
}

pub(crate) fn ratio(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |Spread { lower_quartile, median, upper_quartile, .. }| {
        format!("{median:.2} ({lower_quartile:.2}-{upper_quartile:.2})")
    })
}

#[derive(Serialize)]
struct Everything<'a> {
    machine: &'a About,
    seconds: f64,
    scenarios: Vec<ScenarioRows>,
    /// How many are open for the memory of open streams.
    streams: usize,
    memory: &'a [Memory],
}

#[derive(Serialize)]
struct ScenarioRows {
    scenario: &'static str,
    connections: usize,
    /// Asked for; without it, as many as were answered.
    requests_per_second: Option<f64>,
    /// Bare Envoy against itself.
    noise_cpu: Option<Spread>,
    noise_requests_per_second: Option<Spread>,
    variants: Vec<Row>,
}

/// Everything for programs.
pub(crate) fn json(about: &About, plan: &Plan, outcomes: &[Outcome], memory: &[Memory]) -> Result<String> {
    let scenario = |outcome: &Outcome| {
        let rows = rows(outcome);
        ScenarioRows {
            scenario: outcome.scenario.name(),
            connections: outcome.connections,
            requests_per_second: outcome.rate.map(|Rate(rate)| rate),
            noise_cpu: again(&rows).and_then(|row| row.cpu_of_bare),
            noise_requests_per_second: again(&rows).and_then(|row| row.requests_per_second_of_bare),
            variants: rows,
        }
    };
    let everything = Everything {
        machine: about,
        seconds: plan.lasts.as_secs_f64(),
        scenarios: outcomes.iter().map(scenario).collect(),
        streams: plan.streams,
        memory,
    };
    Ok(serde_json::to_string_pretty(&everything)? + "\n")
}
