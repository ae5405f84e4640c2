//! What did it cost when somebody last looked? Kept in the repository, with the machine and the commit; shown beside the
//! numbers of now, and never asserted: another machine has others.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tollgate_tests::harness::tools;

use crate::measure::Outcome;
use crate::report::{self, Spread};

/// The numbers of one commit on one machine.
#[derive(Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// Of the code; `-dirty` behind it where that had changes.
    commit: String,
    cpu: String,
    cpus: usize,
    envoy: String,
    /// By their names, Tollgate's numbers.
    scenarios: BTreeMap<String, Numbers>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Numbers {
    connections: usize,
    rounds: usize,
    seconds: f64,
    cpu_of_bare: Spread,
    /// Bare Envoy against itself.
    noise: Spread,
    cpu_per_request_us: f64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
}

fn file() -> PathBuf {
    tools::workspace().join("tests/fixtures/benchmark.json")
}

impl Baseline {
    /// The one that is kept, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn load() -> Result<Option<Self>> {
        let file = file();
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).map(Some).with_context(|| format!("{}", file.display()))
    }

    /// Of this run.
    ///
    /// # Errors
    /// There is no account of CPU time here, or no git.
    pub(crate) fn of(outcomes: &[Outcome], envoy: &str) -> Result<Self> {
        let scenarios = outcomes.iter().map(|outcome| {
            let numbers = Numbers::of(outcome).context("a baseline needs an account of CPU time")?;
            Ok((outcome.scenario.name().to_owned(), numbers))
        });
        Ok(Self {
            commit: commit()?,
            cpu: cpu(),
            cpus: std::thread::available_parallelism()?.get(),
            envoy: envoy.to_owned(),
            scenarios: scenarios.collect::<Result<_>>()?,
        })
    }

    /// Keeps it. Scenarios that were not run stay as they were where they are of the same commit, machine and Envoy.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(mut self) -> Result<PathBuf> {
        if let Some(before) = Self::load()?
            && !self.commit.ends_with(DIRTY)
            && (&before.commit, &before.cpu, before.cpus, &before.envoy)
                == (&self.commit, &self.cpu, self.cpus, &self.envoy)
        {
            for (name, numbers) in before.scenarios {
                self.scenarios.entry(name).or_insert(numbers);
            }
        }
        let file = file();
        let text = serde_json::to_string_pretty(&self)? + "\n";
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// A scenario of it for the reader, to stand below the numbers of now.
    pub(crate) fn line(&self, scenario: &str) -> Option<String> {
        let Numbers { cpu_of_bare, noise, cpu_per_request_us, latency_p50_ms, latency_p99_ms, .. } =
            self.scenarios.get(scenario)?;
        Some(format!(
            "Baseline ({}, {} x {}): Tollgate {cpu_per_request_us:.1} µs, {} of bare Envoy (A/A {}), p50 {latency_p50_ms:.2} ms, \
             p99 {latency_p99_ms:.2} ms.\n",
            self.commit,
            self.cpus,
            self.cpu,
            report::ratio(Some(*cpu_of_bare)),
            report::ratio(Some(*noise)),
        ))
    }
}

impl Numbers {
    fn of(outcome: &Outcome) -> Option<Self> {
        let rows = report::rows(outcome);
        let tollgate = report::tollgate(&rows)?;
        Some(Self {
            connections: outcome.connections,
            rounds: tollgate.rounds.len(),
            seconds: outcome.lasts.as_secs_f64(),
            cpu_of_bare: tollgate.cpu_of_bare?,
            noise: report::again(&rows)?.cpu_of_bare?,
            cpu_per_request_us: tollgate.cpu_per_request_us?.median,
            latency_p50_ms: tollgate.latency_p50_ms?.median,
            latency_p99_ms: tollgate.latency_p99_ms?.median,
        })
    }
}

/// What stands after a commit that is not the whole of the code.
const DIRTY: &str = "-dirty";

/// The code that is measured.
pub(crate) fn commit() -> Result<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // The baseline itself is no code.
    let baseline = format!(":!{}", tools::shown(&file()).display());
    let changes = git(&["status", "--porcelain", "--", ".", &baseline])?;
    Ok(if changes.is_empty() { commit } else { commit + DIRTY })
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(tools::workspace())
        .output()
        .context("git cannot be run")?;
    ensure!(output.status.success(), "git does not tell the commit: a baseline is of one");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the kernel calls it.
pub(crate) fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    named.map_or(std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
