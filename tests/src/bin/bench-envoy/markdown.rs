//! The tables of `docs/performance.md`, ready to be put there. How a number comes from the rounds stands in `report.rs`.

use std::fmt::Write;

use crate::load::Rate;
use crate::measure::{Memory, Outcome, Turn};
use crate::report::{self, Spread, cpu};
use crate::variant::Variant;

/// Latency at a rate.
pub(crate) fn latency(outcome: &Outcome) -> String {
    let mut text = String::new();
    if let Some(Rate(rate)) = outcome.rate {
        let _ = writeln!(text, "\n{rate} requests per second, over {} connections:\n", outcome.connections);
    }
    text.push_str("| | p50, ms | p99, ms | CPU a request, µs | worker busy |\n|---|---:|---:|---:|---:|\n");
    for (variant, turns) in &outcome.turns {
        let over = |number: fn(&Turn) -> Option<f64>| Spread::of(turns.iter().filter_map(number));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            variant.name(),
            spread(over(|turn| Some(turn.latency.p50_ms)), 2),
            spread(over(|turn| Some(turn.latency.p99_ms)), 2),
            spread(over(cpu), 0),
            median(over(|turn| turn.cpu.map(|cpu| cpu.worker_share * 100.0)), " %"),
        );
    }
    text
}

/// CPU and memory beside those of [`Variant::Tollgate`] in the same run.
pub(crate) fn growth(outcome: &Outcome, memory: &[Memory]) -> String {
    let base = outcome.turns.iter().find(|(variant, _)| *variant == Variant::Tollgate);
    let base = base.map(|(_, turns)| turns.as_slice()).unwrap_or_default();
    let mut text = String::from(
        "\n| with | CPU a request, µs | more, µs | times | memory idle, MiB | busy, MiB | each further worker, MiB |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for ((variant, turns), memory) in outcome.turns.iter().zip(memory) {
        let beside = |compared: fn(f64, f64) -> f64| {
            let pairs = turns.iter().zip(base);
            Spread::of(pairs.filter_map(|(turn, base)| Some(compared(cpu(turn)?, cpu(base)?))))
        };
        let (more, times) = match variant {
            Variant::Tollgate => (String::new(), String::new()),
            _ => (spread(beside(|cpu, base| cpu - base), 0), report::ratio(beside(|cpu, base| cpu / base))),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {more} | {times} | {} | {} | {} |",
            variant.name(),
            median(Spread::of(turns.iter().filter_map(cpu)), ""),
            mib(memory.idle_kib.map(u64::cast_signed)),
            mib(memory.after_load_kib.map(u64::cast_signed)),
            mib(memory.worker_kib),
        );
    }
    text
}

fn median(spread: Option<Spread>, unit: &str) -> String {
    spread.map_or("-".to_owned(), |spread| format!("{:.0}{unit}", spread.median))
}

/// With the quartiles in brackets.
fn spread(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".to_owned(), |Spread { lower_quartile, median, upper_quartile, .. }| {
        let [lower, median, upper] = [lower_quartile, median, upper_quartile].map(|number| {
            let text = format!("{number:.digits$}");
            if text.parse() == Ok(0.0) { text.replace('-', "") } else { text }
        });
        format!("{median} ({lower} to {upper})")
    })
}

/// Whole ones: an Envoy that is started again differs by several.
fn mib(kib: Option<i64>) -> String {
    kib.map_or(String::new(), |kib| format!("{:.0}", kib as f64 / 1024.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::growth::Growth;
    use crate::load::Latency;
    use crate::measure::Spent;
    use crate::scenario::Scenario;

    fn turn(cpu_us: f64, p99_ms: f64) -> Turn {
        let cpu = Spent { per_request_us: cpu_us, worker_share: 0.5, backend_per_request_us: 10.0 };
        let latency = Latency { p50_ms: 0.5, p90_ms: 1.0, p99_ms };
        Turn { requests: 100, per_second: 100.0, latency, cpu: Some(cpu) }
    }

    fn outcome(variants: [(Variant, [f64; 3]); 2]) -> Outcome {
        let turns = variants.map(|(variant, cpu)| (variant, cpu.map(|us| turn(us, us / 100.0)).to_vec()));
        let (connections, lasts) = (16, Duration::from_secs(1));
        let rate = Some(Rate(1000.0));
        Outcome { scenario: Scenario::Small, connections, lasts, rate, turns: turns.to_vec() }
    }

    #[test]
    fn what_grows_is_compared_within_each_round() {
        let grown = Variant::Grown(Growth::Limits(8));
        let memory = |worker_kib| Memory {
            variant: String::new(),
            idle_kib: Some(1024),
            after_load_kib: Some(2048),
            streams_kib: None,
            worker_kib,
        };
        // The machine was slow in the second round, for both.
        let outcome = outcome([(Variant::Tollgate, [100.0, 200.0, 110.0]), (grown, [110.0, 220.0, 109.8])]);
        let text = growth(&outcome, &[memory(Some(3072)), memory(None)]);
        let rows: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(
            rows,
            [
                "| Tollgate | 110 |  |  | 1 | 2 | 3 |",
                "| 8 limits | 110 | 10 (0 to 20) | 1.10 (1.00-1.10) | 1 | 2 |  |",
            ]
        );
    }

    #[test]
    fn latency_is_told_with_its_rate() {
        let outcome = outcome([(Variant::Bare, [100.0; 3]), (Variant::Tollgate, [300.0, 400.0, 500.0])]);
        let text = latency(&outcome);
        assert!(
            text.starts_with("\n1000 requests per second, over 16 connections:\n\n| | p50, ms"),
            "{text}"
        );
        let last = "| Tollgate | 0.50 (0.50 to 0.50) | 4.00 (3.00 to 5.00) | 400 (300 to 500) | 50 % |\n";
        assert!(text.ends_with(last), "{text}");
    }
}
