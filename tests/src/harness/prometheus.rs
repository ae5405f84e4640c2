//! A running Prometheus that reads a gateway's metrics, and what can be asked of it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::envoy::{POLL, RunDir, tail};
use super::leash::Leashed;
use super::tools;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// Prometheus on a free port. It ends with this value, and its data with it.
pub struct Prometheus {
    // First, so that it is dropped before its data is.
    _process: Leashed,
    _dir: RunDir,
    url: String,
    http: reqwest::Client,
}

impl Prometheus {
    /// Starts one with a configuration, as JSON, which is YAML.
    ///
    /// # Errors
    /// It is not there and cannot be installed, or refuses the configuration: its log's end is in the error.
    pub async fn start(config: &Value) -> Result<Self> {
        let program = tokio::task::spawn_blocking(tools::prometheus).await??;
        let dir = RunDir::new()?;
        let (file, log) = (dir.file("prometheus.yml"), dir.file("prometheus.log"));
        fs::write(&file, config.to_string()).context("cannot write Prometheus' configuration")?;
        let said = File::create(&log).context("cannot create Prometheus' log")?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.file("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let mut process = Leashed::spawn(&mut command).context("Prometheus cannot be started")?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = process.ended()? {
                bail!("Prometheus refuses to start ({status}); its log ends:\n{}", tail(&log));
            }
            if let Some(url) = address(&log)
                && http
                    .get(format!("{url}/-/ready"))
                    .send()
                    .await
                    .is_ok_and(|answer| answer.status().is_success())
            {
                return Ok(Self { _process: process, _dir: dir, url, http });
            }
            ensure!(Instant::now() < deadline, "Prometheus was not ready; its log ends:\n{}", tail(&log));
            tokio::time::sleep(POLL).await;
        }
    }

    /// A configuration that reads Envoy's page so often.
    #[must_use]
    pub fn reading(admin_url: &str, every: &str) -> Value {
        json!({
            "global": { "scrape_interval": every, "scrape_timeout": every },
            "scrape_configs": [ {
                "job_name": "tollgate",
                "metrics_path": "/stats/prometheus",
                "static_configs": [ { "targets": [ admin_url.trim_start_matches("http://") ] } ],
            } ],
        })
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The `data` of an answer of its API, for example to `query`.
    ///
    /// # Errors
    /// It refuses: its reason is in the error.
    pub async fn ask(&self, path: &str, words: &[(&str, &str)]) -> Result<Value> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), words)?;
        let answer: Value = self.http.get(url).send().await?.json().await?;
        ensure!(answer["status"] == "success", "{words:?}: {}", answer["error"]);
        Ok(answer["data"].clone())
    }
}

/// It says in its log which port it got.
fn address(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains("msg=\"Listening on\""))?;
    Some(format!("http://{}", line.rsplit_once("address=")?.1.trim()))
}

/// Runs `promtool` with these words, in this directory.
///
/// # Errors
/// It is not there and cannot be installed.
pub fn promtool(dir: &Path, words: &[&str]) -> Result<Output> {
    let program = tools::prometheus()?.with_file_name("promtool");
    let program = program.canonicalize().unwrap_or(program);
    Command::new(&program)
        .args(words)
        .current_dir(dir)
        .output()
        .with_context(|| format!("{}", program.display()))
}
