//! What do several Envoys with one set of budgets do, and what happens when one of them is killed?

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tollgate_tests::harness::bootstrap::{Bootstrap, backends, gateway_from};
use tollgate_tests::harness::v8::Compile;
use tollgate_tests::harness::{Gateway, Redis, Setup, credential_of};
use tollgate_tests::mock::{Mock, Settings};

use crate::page::{Page, Tone, number};
use crate::show::{self, BATCH};
use crate::{Options, end_of_input, tips};

/// What the store asks for.
const PASSWORD: &str = "demo-redis";

/// What `batch` has for a day, in the show.
const BUDGET: u64 = 4000;

/// An Envoy that is killed gives its leases back after so long.
const LEASE: Duration = Duration::from_secs(3);

/// Envoys that share the backends and a Redis. They end with this value.
struct Fleet {
    // First, so that they are dropped first.
    gateways: Vec<Gateway>,
    redis: Redis,
    _mocks: Vec<Mock>,
    config: Value,
    /// Where each backend is, mock or real.
    urls: BTreeMap<String, String>,
    /// What each Envoy is given for a backend.
    keys: BTreeMap<String, String>,
}

/// The line of `--json`.
#[derive(Serialize)]
struct Ready<'a> {
    proxies: Vec<&'a str>,
    admins: Vec<&'a str>,
    store: String,
    pids: Pids,
    backends: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Pids {
    envoys: Vec<u32>,
    redis: Option<u32>,
}

/// The demo, with so many Envoys.
pub async fn demo(options: &Options, envoys: u8) -> Result<()> {
    let is_show = options.config.is_none() && options.backends.is_empty() && !options.json;
    let config = match &options.config {
        Some(file) => gateway_from(file)?,
        None => Bootstrap::load_from("envoy/fleet.yaml")?.gateway_mut()?.clone(),
    };
    let config = shared(config, is_show);
    crate::check(&config)?;
    let mut fleet = Fleet::start(config, envoys, &options.backends).await?;
    let mut page = Page::new();
    if options.json {
        page.line(&serde_json::to_string(&fleet.ready())?)?;
        tokio::select! {
            () = end_of_input() => return Ok(()),
            result = fleet.watch() => return result,
        }
    }
    fleet.introduce(&mut page)?;
    if is_show {
        fleet.show(&mut page).await?;
    } else {
        tips::who_and_what(&fleet.config, &fleet.gateways[0], &mut page)?;
    }
    if options.once {
        return Ok(());
    }
    tips::curl(&fleet.config, &fleet.gateways[0], &mut page)?;
    fleet.follow(&mut page).await
}

/// The configuration with the store of this run.
fn shared(mut config: Value, is_show: bool) -> Value {
    let redis = &mut config["store"]["redis"];
    redis["cluster"] = json!("tollgate-store");
    redis["path"] = json!("/redis");
    redis["password_env"] = json!("REDIS_PASSWORD");
    if let Some(redis) = redis.as_object_mut() {
        redis.remove("user_env");
    }
    if is_show {
        for client in config["clients"].as_array_mut().into_iter().flatten() {
            if client["name"] == "batch" {
                client["limits"] = json!([ { "tokens": BUDGET, "per": "day" } ]);
            }
        }
    }
    config
}

impl Fleet {
    async fn start(config: Value, envoys: u8, real: &[(String, String)]) -> Result<Self> {
        let mut urls: BTreeMap<_, _> = real.iter().cloned().collect();
        let (mut keys, mut mocks) = (BTreeMap::new(), Vec::new());
        for backend in backends(&config) {
            let is_real = urls.contains_key(&backend.name);
            if !is_real {
                let mock = Mock::start(&backend.name, Settings::default()).await?;
                urls.insert(backend.name.clone(), mock.url());
                mocks.push(mock);
            }
            // A key that is set wins over a demo key, for a mock as well.
            let Some(env) = backend.env else { continue };
            let set = std::env::var(&env).ok();
            keys.extend(
                set.or_else(|| (!is_real).then(|| credential_of(&backend.name))).map(|key| (env, key)),
            );
        }
        let redis = tokio::task::spawn_blocking(|| Redis::start_with(Some(PASSWORD), &[])).await??;
        let mut fleet = Self { gateways: Vec::new(), redis, _mocks: mocks, config, urls, keys };
        for _ in 0..envoys {
            fleet.add().await?;
        }
        Ok(fleet)
    }

    async fn add(&mut self) -> Result<()> {
        let setup = Setup::new()
            .config(self.config.clone())
            .redis(self.redis.address(), PASSWORD)
            .compile(Compile::AsShipped);
        let setup = self.urls.iter().fold(setup, |setup, (name, url)| setup.backend(name, url));
        let setup = self.keys.iter().fold(setup, |setup, (env, key)| setup.env(env, key));
        self.gateways.push(Gateway::start(setup).await?);
        Ok(())
    }

    fn ready(&self) -> Ready<'_> {
        Ready {
            proxies: self.gateways.iter().map(Gateway::url).collect(),
            admins: self.gateways.iter().map(Gateway::admin_url).collect(),
            store: self.redis.url(),
            pids: Pids { envoys: self.gateways.iter().map(Gateway::pid).collect(), redis: self.redis.id() },
            backends: &self.urls,
        }
    }

    /// Starts Redis again whenever it dies.
    async fn watch(&mut self) -> Result<()> {
        loop {
            self.redis.revive()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn introduce(&self, page: &mut Page) -> Result<()> {
        let envoys = self.gateways.len();
        page.line(&page.paint(Tone::Title, &format!("Tollgate: {envoys} Envoys with one set of budgets")))?;
        for (at, gateway) in self.gateways.iter().enumerate() {
            page.line(&format!("  {} is Envoy {}", gateway.url(), at + 1))?;
        }
        page.line(&format!("  {} is the Redis that the budgets stand in", self.redis.url()))?;
        Ok(())
    }

    async fn show(&mut self, page: &mut Page) -> Result<()> {
        let whole = format!("batch may spend {BUDGET} tokens a day");
        page.title(&format!("1  One budget: {whole}, and asks one Envoy after the other"))?;
        let mut spent = 0;
        for at in 0..4 {
            spent += self.ask(at % self.gateways.len(), page).await?.unwrap_or_default();
        }
        ensure!(spent > 0, "the show expected answers before the budget is spent");
        // What an Envoy has spent is told within a quarter of a second.
        tokio::time::sleep(Duration::from_secs(1)).await;

        page.title("2  Envoy 1 is killed; the others go on with what is left")?;
        let killed = Command::new("kill").args(["-9", &self.gateways[0].pid().to_string()]).status();
        ensure!(killed.is_ok_and(|status| status.success()), "Envoy 1 could not be killed");
        let since = Instant::now();
        let mut others = (1..self.gateways.len()).cycle();
        loop {
            let at = others.next().context("the show needs another Envoy")?;
            match self.ask(at, page).await? {
                Some(tokens) => spent += tokens,
                None if since.elapsed() > LEASE + Duration::from_secs(1) => break,
                None => {
                    let text = "what Envoy 1 held comes back three seconds after it was last heard of";
                    page.answers_more(&page.paint(Tone::Aside, text))?;
                    tokio::time::sleep((LEASE + Duration::from_secs(1)).saturating_sub(since.elapsed()))
                        .await;
                }
            }
        }
        page.answers_more(&format!("{spent} of {BUDGET} tokens were spent, through all of them together"))?;
        ensure!(spent <= BUDGET, "more was spent than there was");

        page.title("3  Another Envoy is started: nobody gets a new budget by that")?;
        self.add().await?;
        let refused = self.ask(self.gateways.len() - 1, page).await?.is_none();
        ensure!(refused, "the show expected a refusal by an Envoy that has just begun");
        Ok(())
    }

    /// What a request cost, or nothing if it was refused.
    async fn ask(&self, at: usize, page: &mut Page) -> Result<Option<u64>> {
        let text = "All work and no play makes Jack a dull boy. ".repeat(30);
        let outcome = show::ask(&self.gateways[at], BATCH, &show::chat(&text, json!({}))).await?;
        page.asks("batch", &format!("gpt-4o, at Envoy {}", at + 1))?;
        let status = outcome.answer.status;
        if status == 429 {
            page.answers(status, &outcome.refusal())?;
            return Ok(None);
        }
        ensure!(status == 200, "the show expected 200 or 429 and got {status}: {}", outcome.answer.text());
        let left = outcome.answer.header("x-ratelimit-remaining-tokens");
        page.answers(status, &format!("{}, {left} are left", outcome.tokens()))?;
        Ok(Some(number(&outcome.log["prompt_tokens"]) + number(&outcome.log["completion_tokens"])))
    }

    /// Shows what others send, a line for each request, until a signal.
    async fn follow(&mut self, page: &mut Page) -> Result<()> {
        let mut seen = Vec::new();
        for gateway in &self.gateways {
            seen.push(gateway.access_log()?.len());
        }
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.redis.revive()?;
            for (gateway, seen) in self.gateways.iter().zip(&mut seen) {
                let log = gateway.access_log()?;
                for line in &log[(*seen).min(log.len())..] {
                    page.request(line)?;
                }
                *seen = log.len();
            }
        }
    }
}
