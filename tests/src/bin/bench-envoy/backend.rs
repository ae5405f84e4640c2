//! The mock, as a process of its own: what it uses is not Envoy's, and not ours.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::mock::{Mock, RECORDS_MAX, Settings};

/// The option by which this program starts itself as a mock.
pub(crate) const OPTION: &str = "--serve-mock";

const READY_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A running mock.
pub(crate) struct Backend {
    process: Leashed,
    url: String,
    http: reqwest::Client,
    /// How many requests it has had: the serial of the next one.
    requests: u64,
    _dir: TempDir,
}

/// Of a bill, what is looked at.
#[derive(Deserialize)]
struct Bill {
    serial: u64,
    usage: Used,
    outcome: String,
}

#[derive(Deserialize)]
struct Used {
    completion: usize,
}

/// Is the mock, and writes into `address` where. Ends when it is killed.
pub(crate) async fn serve(address: &Path) -> Result<()> {
    let mock = Mock::start_on((Ipv4Addr::LOCALHOST, 0), "bench", Settings::default()).await?;
    fs::write(address, format!("{}\n", mock.url()))?;
    std::future::pending().await
}

impl Backend {
    pub(crate) async fn start() -> Result<Self> {
        let dir = TempDir::new()?;
        let address = dir.path().join("address");
        let program = std::env::current_exe().context("this program cannot be found again")?;
        let mut command = Command::new(program);
        command.arg(OPTION).arg(&address).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Leashed::spawn(&mut command).context("the mock cannot be started")?;
        let deadline = Instant::now() + READY_WITHIN;
        let url = loop {
            let written = fs::read_to_string(&address).unwrap_or_default();
            if let Some(url) = written.strip_suffix('\n') {
                break url.to_owned();
            }
            ensure!(process.ended()?.is_none(), "the mock has ended: what it says stands above");
            ensure!(Instant::now() < deadline, "the mock was not ready within {READY_WITHIN:?}");
            tokio::time::sleep(POLL).await;
        };
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { process, url, http, requests: 0, _dir: dir })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) async fn set(&self, settings: &Value) -> Result<()> {
        let answer = self.http.put(format!("{}/_mock/settings", self.url)).json(settings).send().await?;
        answer.error_for_status().context("the mock refuses its settings")?;
        Ok(())
    }

    /// Goes on with the streams that it holds.
    pub(crate) async fn release(&self) -> Result<()> {
        self.http.post(format!("{}/_mock/release", self.url)).send().await?.error_for_status()?;
        Ok(())
    }

    /// The last request that it has received.
    pub(crate) async fn last_received(&self) -> Result<Value> {
        let mut received: Vec<Value> = self.records("received").await?;
        received.pop().context("the mock has received nothing")
    }

    /// Holds the bills since the last call against what the client has seen, and forgets them.
    pub(crate) async fn settle(&mut self, requests: u64, completion_tokens: usize) -> Result<()> {
        let bills: Vec<Bill> = self.records("billed").await?;
        let next = bills.iter().map(|bill| bill.serial + 1).max().unwrap_or(self.requests);
        let billed = next - std::mem::replace(&mut self.requests, next);
        ensure!(billed == requests, "the client got {requests} answers, but the backend gave {billed}");
        let kept = bills.len() as u64;
        ensure!(kept == requests.min(RECORDS_MAX as u64), "of {requests} answers, {kept} were billed");
        for Bill { usage, outcome, serial } in &bills {
            ensure!(
                outcome == "complete" && usage.completion == completion_tokens,
                "answer {serial} is billed {} tokens and {outcome}: expected {completion_tokens} and complete",
                usage.completion
            );
        }
        self.http.post(format!("{}/_mock/reset", self.url)).send().await?.error_for_status()?;
        Ok(())
    }

    async fn records<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>> {
        let answer = self.http.get(format!("{}/_mock/{kind}", self.url)).send().await?;
        answer.error_for_status()?.json().await.with_context(|| format!("what the mock has {kind}"))
    }
}
