//! What does a shared budget cost while plenty of it is left? Envoys with a store, and the same without one.
//!
//! Requests come at a rate, whether the ones before are answered or not. The calls are counted by the Envoys themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_tests::harness::v8::Compile;
use tollgate_tests::harness::{Gateway, Redis, Setup, credential_of};
use tollgate_tests::mock::{Mock, Settings};
use tollgate_tests::percentile;

const PASSWORD: &str = "bench-redis";

/// Leases begin small.
const WARM_UP: Duration = Duration::from_secs(5);

/// What a fleet's store costs while plenty is left.
#[derive(Parser)]
struct Options {
    /// Requests a second, over all Envoys.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How long is measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many clients, each with a budget.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
}

/// What came of a run.
struct Figures {
    requests: usize,
    failed: usize,
    calls: f64,
    waited: f64,
    /// In microseconds, in order.
    times: Vec<u128>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mock = Mock::start("ptu", Settings { record: false, latency_ms: 20, ..Settings::default() }).await?;
    let redis = tokio::task::spawn_blocking(|| Redis::start_with(Some(PASSWORD), &[])).await??;
    println!("| three Envoys | requests/s | not 200 | store calls/100 requests | waited | p50 | p90 | p99 |");
    println!("|---|---|---|---|---|---|---|---|");
    for has_store in [false, true] {
        let figures = run(&options, &mock, has_store.then_some(&redis)).await?;
        let percent = |many: f64| many * 100.0 / figures.requests as f64;
        let time = |percent: usize| {
            percentile::of(&figures.times, percent).map_or(f64::NAN, |us| us as f64 / 1000.0)
        };
        println!(
            "| {} | {:.0} | {} | {:.2} | {:.2} % | {:.2} ms | {:.2} ms | {:.2} ms |",
            if has_store { "with a store" } else { "without" },
            figures.requests as f64 / f64::from(options.seconds),
            figures.failed,
            percent(figures.calls),
            percent(figures.waited),
            time(50),
            time(90),
            time(99),
        );
    }
    Ok(())
}

/// Half of the clients have a quota, the others a bucket, none of which is ever used up.
fn config(clients: u32, has_store: bool) -> impl FnOnce(&mut Value) + Send {
    move |config| {
        let client = |at: u32| {
            let name = format!("client-{at}");
            let per = if at.is_multiple_of(2) { "month" } else { "minute" };
            let keys = json!([ { "sha256": hex::encode(Sha256::digest(&name)) } ]);
            let limits = json!([ { "tokens": 1_000_000_000, "per": per } ]);
            json!({ "name": name, "api_keys": keys, "models": ["gpt-4o"], "limits": limits })
        };
        config["clients"] = json!((0..clients).map(client).collect::<Vec<_>>());
        config["groups"] = json!([]);
        if has_store {
            config["store"] =
                json!({ "redis": { "cluster": "tollgate-store", "password_env": "REDIS_PASSWORD" } });
        } else if let Some(config) = config.as_object_mut() {
            config.remove("store");
            config.remove("on_store_failure");
        }
    }
}

async fn run(options: &Options, mock: &Mock, redis: Option<&Redis>) -> Result<Figures> {
    let mut gateways = Vec::new();
    for _ in 0..3 {
        let setup = match redis {
            Some(redis) => Setup::new().redis(redis.address(), PASSWORD),
            None => Setup::new(),
        };
        let setup = setup.compile(Compile::AsShipped).edit(config(options.clients, redis.is_some()));
        let setup = setup.backend("ptu", &mock.url()).env("PTU_KEY", &credential_of("ptu"));
        gateways.push(Gateway::start(setup).await?);
    }
    let warm_up = WARM_UP.as_secs() as u32 * options.rate;
    ask(options, &gateways, warm_up).await?;
    let before = [calls(&gateways).await?, waited(&gateways).await?];
    let answers = ask(options, &gateways, options.seconds * options.rate).await?;
    let mut times: Vec<_> = answers.iter().map(|(time, _)| time.as_micros()).collect();
    times.sort_unstable();
    Ok(Figures {
        requests: answers.len(),
        failed: answers.iter().filter(|(_, is_good)| !is_good).count(),
        calls: calls(&gateways).await? - before[0],
        waited: waited(&gateways).await? - before[1],
        times,
    })
}

async fn calls(gateways: &[Gateway]) -> Result<f64> {
    let mut all = 0.0;
    for gateway in gateways {
        let samples = gateway.metrics().await?;
        let calls = samples.iter().filter(|sample| sample.is("tollgate_store_calls", &[]));
        all += calls.map(|sample| sample.value).sum::<f64>();
    }
    Ok(all)
}

async fn waited(gateways: &[Gateway]) -> Result<f64> {
    let mut all = 0.0;
    for gateway in gateways {
        all += gateway.metric("tollgate_store_waited_requests", &[]).await?;
    }
    Ok(all)
}

/// Asks so many times, each when its time has come. Times are from then on, so one that is sent late is slow.
async fn ask(options: &Options, gateways: &[Gateway], many: u32) -> Result<Vec<(Duration, bool)>> {
    let began = Instant::now();
    let body = json!({ "model": "gpt-4o", "max_tokens": 40, "messages": [ { "role": "user", "content": "hello" } ] });
    let mut asked = JoinSet::new();
    for at in 0..many {
        let due = began + Duration::from_secs(1) * at / options.rate;
        tokio::time::sleep_until(due).await;
        let gateway = gateways.get(at as usize % gateways.len()).context("there are three")?;
        // Each client is at each Envoy.
        let key = format!("client-{}", at / 3 % options.clients);
        let url = format!("{}/v1/chat/completions", gateway.url());
        let request = gateway.http().post(url).bearer_auth(key).json(&body);
        asked.spawn(async move {
            let is_good = match request.send().await {
                Ok(answer) => answer.status().is_success() && answer.bytes().await.is_ok(),
                Err(_) => false,
            };
            (due.elapsed(), is_good)
        });
    }
    let answers = asked.join_all().await;
    ensure!(answers.iter().any(|(_, is_good)| *is_good), "nobody was served");
    Ok(answers)
}
