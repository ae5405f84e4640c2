//! One Envoy process: started, found ready, killed. What it runs is for the bootstrap to say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::leash::Leashed;
use super::tools::target_dir;
use super::v8::{self, Compile};

/// Compiling the module takes a second for each of workers + 2 VMs when all cores are busy with other tests, and some tests start
/// eight Envoys at once. One that has ended is not waited for.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// How often a condition is looked at that nothing announces.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// The directory of one run; it goes with the value, or stays for the reader when a test has failed.
pub(super) struct RunDir(Option<TempDir>);

impl RunDir {
    pub(super) fn new() -> Result<Self> {
        let parent = target_dir().join("runs");
        fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
        remove_old(&parent);
        Ok(Self(Some(tempfile::tempdir_in(parent).context("cannot create the directory of a run")?)))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.as_ref().map(TempDir::path).unwrap_or(Path::new(".")).join(name)
    }

    pub(super) fn access_log(&self) -> PathBuf {
        self.file("access.log")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.file("envoy.log")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take()
            && std::thread::panicking()
        {
            eprintln!(
                "tollgate: what was given to a process of this run, and what it said, is in {}",
                dir.keep().display()
            );
        }
    }
}

/// Removes what runs that failed or were killed have left, once nobody will read it any more.
fn remove_old(runs: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for run in fs::read_dir(runs).into_iter().flatten().flatten() {
        let age = run.metadata().and_then(|about| about.modified()).map(|modified| modified.elapsed());
        if let Ok(Ok(age)) = age
            && age > DAY
        {
            // Another process may be at it as well.
            let _ = fs::remove_dir_all(run.path());
        }
    }
}

/// An Envoy that serves.
pub(super) struct Envoy {
    pub(super) process: Leashed,
    /// `http://127.0.0.1:PORT` of the listener.
    pub(super) url: String,
    /// `http://127.0.0.1:PORT` of the admin interface.
    pub(super) admin: String,
}

/// How a start ends when nothing is wrong with the machine.
pub(super) enum Start {
    Ready(Envoy),
    Refused(ExitStatus),
}

/// What an Envoy is started with.
pub(super) struct Launch<'a> {
    pub(super) program: &'a Path,
    pub(super) dir: &'a RunDir,
    pub(super) bootstrap: &'a Value,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) workers: u32,
    pub(super) log_level: &'a str,
    pub(super) compile: Compile,
    pub(super) args: &'a [String],
}

impl Launch<'_> {
    pub(super) async fn start(&self, http: &reqwest::Client) -> Result<Start> {
        let mut process = self.spawn()?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = process.ended()? {
                return Ok(Start::Refused(status));
            }
            if let Some(admin) = self.admin()
                && is_ready(http, &admin).await
            {
                let url = listener(http, &admin).await?;
                return Ok(Start::Ready(Envoy { process, url, admin }));
            }
            ensure!(
                Instant::now() < deadline,
                "Envoy was not ready within {READY_WITHIN:?}; its log ends:\n{}",
                tail(&self.dir.log())
            );
            tokio::time::sleep(POLL).await;
        }
    }

    fn spawn(&self) -> Result<Leashed> {
        let places = v8::places(self.compile, self.program);
        let config = self.dir.file("envoy.json");
        fs::write(&config, serde_json::to_vec_pretty(self.bootstrap)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let log = File::create(self.dir.log()).context("cannot create Envoy's log")?;
        let mut command = Command::new(self.program);
        command
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(self.dir.file("admin"))
            .args(["--concurrency", &self.workers.to_string()])
            .args(["--log-level", self.log_level])
            // The access log is there to be read at once.
            .args(["--file-flush-interval-msec", "10"])
            // Nothing in shared memory, so that any number can run side by side.
            .arg("--disable-hot-restart")
            .args(self.args)
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if self.compile == Compile::WithNames {
            // V8 leaves a log where it is started.
            command.current_dir(self.dir.file("."));
        }
        let process = Leashed::spawn(&mut command)
            .with_context(|| format!("Envoy cannot be started from {}", self.program.display()))?;
        v8::set(self.compile, places, process.id(), self.program)?;
        Ok(process)
    }

    /// Envoy writes the address it listens on to a file; `None` until it has.
    fn admin(&self) -> Option<String> {
        let address = fs::read_to_string(self.dir.file("admin")).ok()?;
        address.contains(':').then(|| format!("http://{}", address.trim()))
    }
}

async fn is_ready(http: &reqwest::Client, admin: &str) -> bool {
    let answer = http.get(format!("{admin}/ready")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

async fn listener(http: &reqwest::Client, admin: &str) -> Result<String> {
    let page: Value = http.get(format!("{admin}/listeners?format=json")).send().await?.json().await?;
    let address = &page["listener_statuses"][0]["local_address"]["socket_address"];
    let (Some(host), Some(port)) = (address["address"].as_str(), address["port_value"].as_u64()) else {
        bail!("Envoy has no listener: its admin interface says {page}");
    };
    Ok(format!("http://{host}:{port}"))
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
