//! A running Envoy with the filter in it and the backends behind it, and what can be asked of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::bootstrap::Bootstrap;
use super::envoy::{Envoy, Launch, POLL, RunDir, Start, tail};
use super::files;
use super::metrics::{self, Sample};
use super::setup::{Scene, Setup};
use super::tools;
use crate::mock::Mock;

/// How long something may take that follows from what has been done already, such as a line in the log.
const WITHIN: Duration = Duration::from_secs(15);

/// How long an answer may take, its body included: a request that hangs fails its test, and not the whole run.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// Envoy and its mock backends, on free ports. They end with this value.
pub struct Gateway {
    // First, so that it is dropped first: no request may find a backend gone.
    envoy: Envoy,
    mocks: BTreeMap<String, Mock>,
    backends: BTreeMap<String, String>,
    http: reqwest::Client,
    /// What was configured last.
    bootstrap: Mutex<Bootstrap>,
    dir: RunDir,
}

/// What came back for a request, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: bytes::Bytes,
}

impl Answer {
    /// The body as JSON, or null if it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's first value, or the empty string.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Reads a response to its end.
    ///
    /// # Errors
    /// The connection broke before.
    pub async fn read(response: reqwest::Response) -> Result<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(Self { status, headers, body: response.bytes().await.context("the answer broke off")? })
    }
}

impl Gateway {
    /// Builds the filter, finds Envoy, starts the mocks and Envoy, and comes back when it serves.
    ///
    /// # Errors
    /// Something is missing on this machine, or Envoy refuses to start: its log's end is in the error.
    pub async fn start(setup: Setup) -> Result<Self> {
        match Attempt::start(setup).await? {
            Attempt { start: Start::Ready(envoy), scene, http, dir } => {
                let (mocks, backends, bootstrap) = (scene.mocks, scene.backends, Mutex::new(scene.bootstrap));
                Ok(Self { envoy, mocks, backends, http, bootstrap, dir })
            }
            Attempt { start: Start::Refused(status), dir, .. } => {
                bail!("Envoy refuses to start ({status}); its log ends:\n{}", tail(&dir.log()))
            }
        }
    }

    /// The log of an Envoy that refuses to start.
    ///
    /// # Errors
    /// It does start.
    pub async fn expect_start_failure(setup: Setup) -> Result<String> {
        match Attempt::start(setup).await? {
            Attempt { start: Start::Refused(_), dir, .. } => Ok(fs::read_to_string(dir.log())?),
            Attempt { start: Start::Ready(_), .. } => {
                bail!("Envoy started with a configuration it should refuse")
            }
        }
    }

    /// Gives Envoy a changed configuration, by files: see [`Setup::from_files`]. It takes it a moment later.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn push(&self, change: impl FnOnce(&mut Bootstrap)) -> Result<()> {
        let mut whole = self.bootstrap.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut whole);
        files::put_in_place(&whole, &self.dir)
    }

    /// The folder with the files of this run.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.dir.file("")
    }

    /// `http://127.0.0.1:PORT` where clients send their requests.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.envoy.url
    }

    /// `http://127.0.0.1:PORT` of Envoy's admin interface.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.envoy.admin
    }

    /// Envoy's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.envoy.process.id()
    }

    /// The URL of every backend, mock or real, by its name.
    #[must_use]
    pub fn backends(&self) -> &BTreeMap<String, String> {
        &self.backends
    }

    /// The mock of a backend.
    ///
    /// # Panics
    /// There is no mock for a backend of that name.
    #[must_use]
    #[track_caller]
    pub fn mock(&self, backend: &str) -> &Mock {
        match self.mocks.get(backend) {
            Some(mock) => mock,
            None => panic!("no mock is behind {backend:?}: there are {:?}", self.mocks.keys()),
        }
    }

    /// A client that knows no proxy, for what `post` is too simple for.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Posts JSON as the client with that key (`authorization: Bearer`), and reads the whole answer.
    ///
    /// # Errors
    /// No answer came, or it broke off.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.url())).bearer_auth(key).json(body);
        Answer::read(request.send().await.context("Envoy did not answer")?).await
    }

    /// Whether Envoy still runs.
    ///
    /// # Errors
    /// It does not; its log's end is in the error.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.envoy.process.ended()? {
            None => Ok(()),
            Some(status) => bail!("Envoy has ended ({status}); its log ends:\n{}", tail(&self.dir.log())),
        }
    }

    /// The access log's lines so far.
    ///
    /// # Errors
    /// A line is not JSON.
    pub fn access_log(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.dir.access_log()).unwrap_or_default();
        // A line that is being written has no end yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The access log once it has at least `lines` lines.
    ///
    /// # Errors
    /// It does not get that long in time.
    pub async fn wait_for_log(&self, lines: usize) -> Result<Vec<Value>> {
        self.wait_for_log_where(|log| log.len() >= lines).await
    }

    /// The access log once `holds` of it.
    ///
    /// # Errors
    /// It never does within the time; the log is in the error.
    pub async fn wait_for_log_where(&self, holds: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let log = self.access_log()?;
            if holds(&log) {
                return Ok(log);
            }
            if Instant::now() > deadline {
                bail!("not in the access log within {WITHIN:?}; it has {log:#?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Everything Envoy has written anywhere: what it printed, and the access log.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn log_text(&self) -> Result<String> {
        let mut text = fs::read(self.dir.log())?;
        text.extend(fs::read(self.dir.access_log()).unwrap_or_default());
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A page of the admin interface, for example `/stats`.
    ///
    /// # Errors
    /// It does not answer with success.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let answer = self.http.get(format!("{}{path}", self.admin_url())).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Every metric, as Prometheus would read it.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn metrics(&self) -> Result<Vec<Sample>> {
        Ok(metrics::parse(&self.admin("/stats/prometheus").await?))
    }

    /// The sum of a metric over the samples that have those labels; 0 if there is none.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self
            .metrics()
            .await?
            .iter()
            .filter(|sample| sample.is(name, labels))
            .map(|sample| sample.value)
            .sum())
    }

    /// Waits until that sum is `value`: a worker's counters reach the page a moment after its answer.
    ///
    /// # Errors
    /// It is not within the time; what it was instead is in the error.
    pub async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let now = self.metric(name, labels).await?;
            // Counters are whole numbers: equal or not, never nearly.
            #[allow(clippy::float_cmp)]
            if now == value {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{name}{labels:?} is {now}, not {value}, after {WITHIN:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

struct Attempt {
    start: Start,
    scene: Scene,
    http: reqwest::Client,
    dir: RunDir,
}

impl Attempt {
    async fn start(setup: Setup) -> Result<Self> {
        let plan = setup.plan()?;
        let version = plan.envoy;
        let tools = tokio::task::spawn_blocking(move || {
            let program = match version {
                Some(version) => tools::envoy_of(version)?,
                None => tools::envoy()?,
            };
            Ok::<_, anyhow::Error>((tools::wasm()?, program))
        });
        let (module, program) = tools.await??;
        let dir = RunDir::new()?;
        let scene = plan.scene(&module, &dir.access_log()).await?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWERED_WITHIN).build()?;
        let whole = scene.bootstrap.value();
        let bootstrap =
            if scene.from_files { files::take_out(&scene.bootstrap, &dir)? } else { whole.clone() };
        let launch = Launch {
            program: &program,
            dir: &dir,
            bootstrap: &bootstrap,
            env: &scene.env,
            workers: scene.workers,
            log_level: &scene.log_level,
            compile: scene.compile,
            args: &scene.args,
        };
        let start = launch.start(&http).await?;
        Ok(Self { start, scene, http, dir })
    }
}
