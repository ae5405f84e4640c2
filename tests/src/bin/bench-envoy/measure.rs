//! The run: every Envoy up at once, loaded one after another, the order turned round by round, so that whatever else
//! happens on this machine happens to all of them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, credential_of, v8};

use crate::backend::Backend;
use crate::credentials::Credentials;
use crate::load::{Answers, Latency, Load, Rate};
use crate::process;
use crate::profile::{Looking, Profile};
use crate::scenario::{PATH, Scenario};
use crate::variant::{Modules, Variant};

/// What is to be run.
pub(crate) struct Plan {
    pub(crate) lasts: Duration,
    pub(crate) rounds: u32,
    /// Instead of the scenario's own number.
    pub(crate) connections: Option<usize>,
    /// Instead of as many as are answered.
    pub(crate) pace: Option<Pace>,
    pub(crate) scenarios: Vec<Scenario>,
    /// How many are open at once when their memory is looked at.
    pub(crate) streams: usize,
    /// So many tokens stand for a new one each time.
    pub(crate) new_tokens: usize,
}

/// Requests per second, whether those before are answered or not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    At(Rate),
    /// Half of what is answered at most with Tollgate, found out in the same run.
    Half,
}

/// How often it is found out what is answered at most.
const SATURATIONS: usize = 3;

/// One worker, so that what a request costs is not spread over several.
const WORKERS: u32 = 1;

/// The backend that is asked: the first of `envoy.yaml`, which alone has the highest priority.
const FIRST_BACKEND: &str = "ptu";

/// Of a stream that stays open.
const EVENTS_BEFORE_PAUSE: usize = 10;

/// So many more, to see what each of them takes: two Envoys that are alike differ by some 10 MiB.
const MORE_WORKERS: u32 = 32;

/// All that runs.
pub(crate) struct Bench {
    envoys: Vec<Envoy>,
    modules: Modules,
    backend: Backend,
}

struct Envoy {
    variant: Variant,
    gateway: Gateway,
    credentials: Credentials,
    idle_kib: Option<u64>,
}

/// One Envoy under load for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) latency: Latency,
    pub(crate) cpu: Option<Spent>,
}

/// Of a load, what is the same for every Envoy.
#[derive(Clone)]
struct Asked {
    body: Bytes,
    connections: usize,
    lasts: Duration,
    rate: Option<Rate>,
}

/// CPU time, by the kernel's account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// Of the whole Envoy process, for each request.
    pub(crate) per_request_us: f64,
    /// The share of the time that the worker was on a CPU.
    pub(crate) worker_share: f64,
    /// Of the mock, for each request.
    pub(crate) backend_per_request_us: f64,
}

/// A scenario's turns: for each variant, one in each round.
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) connections: usize,
    pub(crate) lasts: Duration,
    pub(crate) rate: Option<Rate>,
    pub(crate) turns: Vec<(Variant, Vec<Turn>)>,
}

/// Resident memory of an Envoy.
#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) variant: String,
    /// When it was ready.
    pub(crate) idle_kib: Option<u64>,
    /// When all loads were over.
    pub(crate) after_load_kib: Option<u64>,
    /// What open streams add to that.
    pub(crate) streams_kib: Option<i64>,
    /// What each further worker adds to an idle one.
    pub(crate) worker_kib: Option<i64>,
}

/// Where the numbers come from.
#[derive(Serialize)]
pub(crate) struct About {
    pub(crate) envoy: String,
    os: &'static str,
    architecture: &'static str,
    pub(crate) cpus: usize,
    cpu_time_from: Option<&'static str>,
}

impl Bench {
    pub(crate) async fn start(plan: &Plan, variants: &[Variant], modules: Modules) -> Result<Self> {
        let backend = Backend::start().await?;
        // Signing takes longer than Envoys need to start.
        let new_tokens = plan.new_tokens;
        let signing = |variant: Variant| {
            (variant, tokio::task::spawn_blocking(move || variant.credentials(new_tokens)))
        };
        let credentials: Vec<_> = variants.iter().copied().map(signing).collect();
        let mut envoys = Vec::new();
        for (variant, credentials) in credentials {
            let setup = variant.setup(WORKERS, backend.url(), &modules)?;
            let gateway = Gateway::start(setup).await.with_context(|| variant.name())?;
            let idle_kib = process::resident_kib(gateway.pid());
            envoys.push(Envoy { variant, gateway, credentials: credentials.await??, idle_kib });
        }
        let seconds = plan.lasts * plan.rounds * u32::try_from(envoys.len() * plan.scenarios.len())?;
        eprintln!("tollgate: measuring, {} s of load and some more", seconds.as_secs());
        Ok(Self { envoys, modules, backend })
    }

    pub(crate) async fn run(&mut self, scenario: Scenario, plan: &Plan) -> Result<Outcome> {
        self.backend.set(&scenario.mock()).await?;
        let body = Bytes::from(scenario.body());
        let connections = plan.connections.unwrap_or(scenario.connections());
        let mut asked = Asked { body, connections, lasts: plan.lasts, rate: None };
        let mut turns: Vec<_> = self.envoys.iter().map(|envoy| (envoy.variant, Vec::new())).collect();
        for at in 0..self.envoys.len() {
            self.check(at, scenario).await?;
            // Connections, V8's compiled code, allocators: what the first requests build up.
            self.turn(at, scenario, Asked { lasts: plan.lasts / 4, ..asked.clone() }).await?;
        }
        asked.rate = self.rate(scenario, plan, &asked).await?;
        for round in 0..plan.rounds as usize {
            for place in 0..self.envoys.len() {
                let at = (round + place) % self.envoys.len();
                let turn = self.turn(at, scenario, asked.clone()).await?;
                turns[at].1.push(turn);
            }
        }
        Ok(Outcome { scenario, connections, lasts: plan.lasts, rate: asked.rate, turns })
    }

    /// How many requests per second are asked for; `None` for as many as are answered.
    async fn rate(&mut self, scenario: Scenario, plan: &Plan, asked: &Asked) -> Result<Option<Rate>> {
        match plan.pace {
            None => Ok(None),
            Some(Pace::At(rate)) => Ok(Some(rate)),
            Some(Pace::Half) => {
                let tollgate = self.envoys.iter().position(|envoy| envoy.variant.is_tollgate());
                let at = tollgate.context("Tollgate is not among what is measured")?;
                let mut most = Vec::new();
                for _ in 0..SATURATIONS {
                    most.push(self.turn(at, scenario, asked.clone()).await?.per_second);
                }
                most.sort_by(f64::total_cmp);
                Ok(Some(Rate((most[most.len() / 2] / 2.0).round().max(1.0))))
            }
        }
    }

    /// Looks at the worker of each Envoy while it is loaded; the first is bare. Answers what each request took there.
    pub(crate) async fn profile(&mut self, scenario: Scenario, plan: &Plan) -> Result<Vec<(Profile, f64)>> {
        self.backend.set(&scenario.mock()).await?;
        let body = Bytes::from(scenario.body());
        let connections = plan.connections.unwrap_or(scenario.connections());
        let asked = Asked { body, connections, lasts: plan.lasts, rate: None };
        let dir = tempfile::TempDir::new()?;
        let data = dir.path().join("perf.data");
        let mut found = Vec::new();
        for at in 0..self.envoys.len() {
            self.check(at, scenario).await?;
            self.turn(at, scenario, Asked { lasts: plan.lasts / 4, ..asked.clone() }).await?;
            let asked = Asked { rate: self.rate(scenario, plan, &asked).await?, ..asked.clone() };
            let Envoy { variant, gateway, .. } = &self.envoys[at];
            let (pid, is_tollgate) = (gateway.pid(), variant.is_tollgate());
            if is_tollgate {
                v8::are_told(pid)?;
            }
            let worker = process::worker(pid).context("which of Envoy's threads is its worker")?;
            let looking = Looking::at(worker, plan.lasts, &data)?;
            let turn = self.turn(at, scenario, asked).await?;
            let profile = looking.end(&data)?;
            let _ = std::fs::remove_file(v8::names_of(pid));
            found.push((profile, turn.cpu.context("what Envoy's CPU time was")?.per_request_us));
        }
        Ok(found)
    }

    /// One request, looked at closely: that each Envoy does what it is here to be measured for.
    async fn check(&mut self, at: usize, scenario: Scenario) -> Result<()> {
        let Envoy { variant, gateway, credentials, .. } = &self.envoys[at];
        let name = variant.name();
        let request = gateway.http().post(format!("{}{PATH}", gateway.url()));
        let request = request.header(credentials.header, credentials.next());
        let request = request.header("content-type", "application/json").body(scenario.body());
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{name}: {status}: {text}");
        let events = text.matches("data: ").count();
        let expected = scenario.events().unwrap_or_default();
        ensure!(events == expected, "{name}: {events} events came, not {expected}: {text}");

        let received = self.backend.last_received().await?;
        let headers = received["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let key = headers.iter().find(|header| header[0] == "api-key").map(|header| &header[1]);
        let key = key.and_then(Value::as_str).unwrap_or_default();
        let is_of_first = key == credential_of(FIRST_BACKEND);
        ensure!(
            is_of_first == variant.is_tollgate(),
            "{name}: Tollgate puts the key of {FIRST_BACKEND} in the client's place and nobody else does, but the backend got {key:?}"
        );
        self.backend.settle(1, scenario.completion_tokens()).await
    }

    async fn turn(&mut self, at: usize, scenario: Scenario, asked: Asked) -> Result<Turn> {
        let Envoy { variant, gateway, credentials, .. } = &mut self.envoys[at];
        let credentials = credentials.clone();
        let address = gateway.url().trim_start_matches("http://").parse::<SocketAddr>()?;
        let Asked { body, connections, lasts, rate } = asked;
        let load = Load { address, path: PATH, credentials, body, connections, lasts, rate };
        let pids = [gateway.pid(), self.backend.pid()];
        let before = pids.map(process::cpu);
        let Answers { requests, per_second, latency } = load.run().await.with_context(|| variant.name())?;
        let after = pids.map(process::cpu);
        gateway.check_alive()?;
        self.backend.settle(requests, scenario.completion_tokens()).await.with_context(|| variant.name())?;

        let [envoy, backend] = [0, 1].map(|which| Some((before[which]?, after[which]?)));
        let per_request_us = |spent: Duration| spent.as_secs_f64() * 1e6 / requests as f64;
        let cpu = envoy.zip(backend).map(|((envoy, envoy_after), (backend, backend_after))| Spent {
            per_request_us: per_request_us(envoy_after.all - envoy.all),
            worker_share: (envoy_after.workers - envoy.workers).as_secs_f64()
                / (requests as f64 / per_second),
            backend_per_request_us: per_request_us(backend_after.all - backend.all),
        });
        Ok(Turn { requests, per_second, latency, cpu })
    }

    /// What each Envoy takes.
    pub(crate) async fn memory(&self, streams: usize) -> Result<Vec<Memory>> {
        let mut memory = Vec::new();
        for Envoy { variant, gateway, credentials, idle_kib } in &self.envoys {
            let after_load_kib = process::resident_kib(gateway.pid());
            let open = self.open(gateway, credentials, streams).await.with_context(|| variant.name())?;
            let open_kib = process::resident_kib(gateway.pid());
            let streams_kib =
                open_kib.zip(after_load_kib).map(|(open, after)| open.cast_signed() - after.cast_signed());
            self.backend.release().await?;
            for stream in open {
                stream.bytes().await.context("a stream broke off")?;
            }
            memory.push(Memory {
                variant: variant.name(),
                idle_kib: *idle_kib,
                after_load_kib,
                streams_kib,
                worker_kib: self.of_each_worker(*variant, *idle_kib).await?,
            });
        }
        Ok(memory)
    }

    /// What each Envoy takes, without open streams; what each worker takes only where it is of interest.
    pub(crate) async fn memory_of_growth(&self) -> Result<Vec<Memory>> {
        let mut memory = Vec::new();
        for Envoy { variant, gateway, idle_kib, .. } in &self.envoys {
            let worker_kib = match variant {
                Variant::Grown(growth) if !growth.grows_in_each_worker() => None,
                _ => self.of_each_worker(*variant, *idle_kib).await?,
            };
            let after_load_kib = process::resident_kib(gateway.pid());
            let variant = variant.name();
            memory.push(Memory {
                variant,
                idle_kib: *idle_kib,
                after_load_kib,
                streams_kib: None,
                worker_kib,
            });
        }
        Ok(memory)
    }

    /// What each further worker adds to an idle Envoy.
    async fn of_each_worker(&self, variant: Variant, idle_kib: Option<u64>) -> Result<Option<i64>> {
        let setup = variant.setup(WORKERS + MORE_WORKERS, self.backend.url(), &self.modules)?;
        let larger = Gateway::start(setup).await.with_context(|| variant.name())?;
        let larger_kib = process::resident_kib(larger.pid());
        let more_kib = larger_kib.zip(idle_kib).map(|(larger, one)| larger.cast_signed() - one.cast_signed());
        Ok(more_kib.map(|kib| kib / i64::from(MORE_WORKERS)))
    }

    /// So many streams at once, each of which has begun and waits in its middle.
    async fn open(
        &self,
        gateway: &Gateway,
        credentials: &Credentials,
        streams: usize,
    ) -> Result<Vec<reqwest::Response>> {
        let mut settings = Scenario::Stream.mock();
        settings["hold_after_events"] = json!(EVENTS_BEFORE_PAUSE);
        self.backend.set(&settings).await?;
        let begin = || async {
            let request = gateway.http().post(format!("{}{PATH}", gateway.url()));
            let request = request.header(credentials.header, credentials.next());
            let request = request.header("content-type", "application/json").body(Scenario::Stream.body());
            let mut answer = request.send().await?.error_for_status()?;
            let mut begun = String::new();
            while begun.matches("data: ").count() < EVENTS_BEFORE_PAUSE {
                let chunk = answer.chunk().await?.context("the stream is over")?;
                begun.push_str(&String::from_utf8_lossy(&chunk));
            }
            Ok(answer)
        };
        let begun = (0..streams).map(|_| begin());
        futures_util::future::join_all(begun).await.into_iter().collect()
    }

    pub(crate) async fn about(&self) -> Result<About> {
        let envoy = self.envoys.first().context("there is no Envoy")?;
        let page: Value = serde_json::from_str(&envoy.gateway.admin("/server_info").await?)?;
        Ok(About {
            envoy: page["version"].as_str().unwrap_or_default().to_owned(),
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism()?.get(),
            cpu_time_from: process::is_accounted().then_some(process::CPU_SOURCE),
        })
    }
}
