//! The load: oha, a load generator of the ecosystem. It keeps so many connections busy for so long, and reports JSON.
//! <https://github.com/hatoo/oha>

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::tools;

const VERSION: &str = "1.16.0";

/// No request takes longer, or something hangs.
const REQUEST_TIMEOUT: &str = "30s";

/// An oha that is there.
pub(crate) struct Oha(PathBuf);

/// What is asked for.
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a Path,
    pub(crate) connections: usize,
    pub(crate) lasts: Duration,
}

/// What came of it. Every answer was a 200.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    /// From the first byte sent to the last one received.
    pub(crate) latency: Latency,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Of oha's report, what is looked at; times in seconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    summary: Summary,
    latency_percentiles: Percentiles,
    status_code_distribution: BTreeMap<String, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    requests_per_sec: f64,
}

#[derive(Deserialize)]
struct Percentiles {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

impl Oha {
    /// Finds it under the target directory, or installs it there.
    pub(crate) fn install() -> Result<Self> {
        let home = tools::target_dir().join("tools").join(format!("oha-{VERSION}"));
        let program = home.join("bin/oha");
        if program.exists() {
            return Ok(Self(program));
        }
        eprintln!(
            "tollgate: installing oha {VERSION} (crates.io, a few minutes) under {}",
            tools::shown(&home).display()
        );
        let mut cargo = tools::cargo();
        // cargo itself lets one installation wait for another, and puts the program there only when it is whole. Its
        // TLS is never used, but without it this version does not build.
        cargo.args(["install", "oha", "--locked", "--version", VERSION, "--root"]).arg(&home);
        // What an interrupted installation has built is there for the next one.
        let build = home.join("build");
        cargo.arg("--target-dir").arg(&build);
        if !stderr().is_terminal() {
            cargo.arg("--quiet");
        }
        let status = Leashed::spawn(&mut cargo).and_then(Leashed::wait).context("cargo cannot be run")?;
        ensure!(
            status.success(),
            "oha does not install (it needs a C compiler and make): what cargo says of it stands above"
        );
        fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
        Ok(Self(program))
    }

    /// Runs a load to its end, the requests under way at its end included.
    pub(crate) fn run(&self, load: &Load<'_>) -> Result<Answers> {
        let report = tempfile::NamedTempFile::new()?;
        let transcript = tempfile::NamedTempFile::new()?;
        let mut oha = Command::new(&self.0);
        oha.args(["--no-tui", "--output-format", "json", "--output"]).arg(report.path());
        oha.args(["-m", "POST", "-T", "application/json", "-t", REQUEST_TIMEOUT, "-D"]).arg(load.body);
        oha.args(["-c", &load.connections.to_string(), "-z", &format!("{}ms", load.lasts.as_millis()), "-w"]);
        for (name, value) in load.headers {
            oha.args(["-H", &format!("{name}: {value}")]);
        }
        oha.arg(load.url).stdin(Stdio::null());
        oha.stdout(transcript.reopen()?).stderr(transcript.reopen()?);
        let status = Leashed::spawn(&mut oha).and_then(Leashed::wait).context("oha cannot be run")?;
        ensure!(status.success(), "oha has failed: {}", fs::read_to_string(transcript.path())?);
        let report = serde_json::from_slice(&fs::read(report.path())?).context("oha's report")?;
        answers(&report)
    }
}

/// Nothing but 200 counts: a load of errors is fast.
fn answers(report: &Report) -> Result<Answers> {
    let Report { summary, latency_percentiles: Percentiles { p50, p90, p99 }, .. } = report;
    let statuses = &report.status_code_distribution;
    let requests = statuses.get("200").copied().unwrap_or_default();
    if statuses.len() != 1 || requests == 0 || !report.error_distribution.is_empty() {
        bail!("not every answer was 200: statuses {statuses:?}, errors {:?}", report.error_distribution);
    }
    let ms = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1000.0).context("oha reports no latency");
    Ok(Answers {
        requests,
        per_second: summary.requests_per_sec,
        latency: Latency { p50_ms: ms(*p50)?, p90_ms: ms(*p90)?, p99_ms: ms(*p99)? },
    })
}
