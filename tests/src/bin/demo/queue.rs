//! What becomes of a peak? The important are served, the rest is queued and answered when there is room.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tollgate_tests::harness::bootstrap::Bootstrap;
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::v8::Compile;
use tollgate_tests::harness::{Answer, Gateway, Redis, Setup, tools};

use crate::page::{Page, Tone};
use crate::show::{self, BATCH, WEB_SHOP};
use crate::{Options, follow, tips};

/// What the store asks for.
const PASSWORD: &str = "demo-redis";

/// The worker's key, and what bodies are sealed with.
const WORKER: &str = "demo-worker";
const WORKER_SHA256: &str = "d98451ef87c1e0d24105824b1c67ec975f9d91a2a219ec36218728f292f059c1";
const SEAL: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// What ptu takes in a window, and how long that is.
const CAPACITY: usize = 10;
const WINDOW_S: usize = 5;

/// What both ask for at once: twice of what there is.
const HIGH: usize = 4;
const LOW: usize = 16;

/// What is worked off takes less.
const WITHIN: Duration = Duration::from_secs(120);

/// The demo, with a queue.
pub async fn demo(options: &Options) -> Result<()> {
    let config = config()?;
    crate::check(&config)?;
    let redis = tokio::task::spawn_blocking(|| Redis::start_with(Some(PASSWORD), &[])).await??;
    let setup =
        Setup::new().config(config.clone()).redis(redis.address(), PASSWORD).compile(Compile::AsShipped);
    let mut gateway = Gateway::start(setup.env("QUEUE_KEY", SEAL)).await?;
    let mut page = Page::new();
    page.line(&page.paint(Tone::Title, "Tollgate: a queue for what may be answered later"))?;
    page.line(&format!(
        "  {} is Envoy, {} is the Redis that the queue stands in",
        gateway.url(),
        redis.url()
    ))?;
    page.line(&format!("  ptu takes {CAPACITY} requests in {WINDOW_S} s. batch has priority low and leaves half of that to others."))?;
    let _worker = run(&gateway, &redis, &mut page).await?;
    if options.once {
        return Ok(());
    }
    tips::curl(&config, &gateway, &mut page)?;
    page.line("  With -H 'api-key: demo-batch' and -H 'prefer: respond-async' a request may be queued.")?;
    follow(&mut gateway, &mut page).await
}

/// That of the fleet's Envoys, with one backend that is soon full.
fn config() -> Result<Value> {
    let mut config = Bootstrap::load_from("envoy/fleet.yaml")?.gateway_mut()?.clone();
    config["queue"] = json!({ "for": "low", "key_env": "QUEUE_KEY" });
    config["priorities"] = json!({ "low": { "headroom_min": 0.5 } });
    for client in config["clients"].as_array_mut().into_iter().flatten() {
        client["priority"] = json!(if client["name"] == "batch" { "low" } else { "high" });
        client["models"] = json!(["*"]);
        client["limits"] = json!([ { "tokens": 1_000_000, "per": "day" } ]);
    }
    let worker = json!({
        "name": "worker", "models": ["*"], "may_act_for": ["*"], "api_keys": [ { "sha256": WORKER_SHA256 } ],
    });
    config["clients"].as_array_mut().context("envoy/fleet.yaml has no clients")?.push(worker);
    config["models"] =
        json!([ { "name": "gpt-4o", "backends": [ { "backend": "ptu", "deployment": "gpt-4o-ptu" } ] } ]);
    config["backends"][0]["requests_per_minute"] = json!(CAPACITY * 60 / WINDOW_S);
    config["backends"][0]["requests_window_s"] = json!(WINDOW_S);
    Ok(config)
}

async fn run(gateway: &Gateway, redis: &Redis, page: &mut Page) -> Result<Leashed> {
    page.title("1  A peak: both ask for twice of what there is, at once")?;
    let ask_all = |key: &'static str, count: usize| try_join_all((0..count).map(move |_| ask(gateway, key)));
    let (high, low) = tokio::join!(ask_all(WEB_SHOP, HIGH), ask_all(BATCH, LOW));
    let (high, low) = (high?, low?);
    page.asks("web-shop", &format!("gpt-4o, {HIGH} times"))?;
    ensure!(
        high.iter().all(|answer| answer.status == 200),
        "the show expected all of web-shop's to be served"
    );
    page.answers(200, &format!("{HIGH} times: the important do not notice"))?;
    page.asks("batch", &format!("gpt-4o, {LOW} times, prefer: respond-async"))?;
    let (queued, served): (Vec<_>, Vec<_>) = low.iter().partition(|answer| answer.status == 202);
    let places = queued.iter().filter_map(|answer| answer.json()["place"].as_u64());
    let last = places.max().context("the show expected some of batch's to be queued")?;
    ensure!(served.iter().all(|answer| answer.status == 200), "the show expected 200 or 202 for batch");
    if !served.is_empty() {
        page.answers(200, &format!("{} times", served.len()))?;
    }
    page.answers(
        202,
        &format!("{} times, the last is number {last} in line, and where to ask:", queued.len()),
    )?;
    let locations: Vec<_> = queued.iter().map(|answer| answer.header("location")).collect();
    page.answers_more(locations.first().context("a 202 says no location")?)?;

    page.title("2  tollgate work sends them again, when there is room")?;
    let since = Instant::now();
    let worker = work(gateway, redis).await?;
    let fetched = join_all(locations.iter().map(|place| until_done(gateway, place, since))).await;
    let mut fetched = fetched.into_iter().collect::<Result<Vec<_>>>()?;
    fetched.sort_by_key(|(after, _)| *after);
    for (after, answer) in &fetched {
        ensure!(answer.status == 200, "the show expected an answer, and got {}", answer.text());
        page.answers(200, &format!("after {:.1} s", after.as_secs_f64()))?;
    }

    page.title("3  Nothing is lost, and nothing is paid twice")?;
    let tokens = |answer: &Answer| answer.json()["usage"]["total_tokens"].as_u64().unwrap_or_default();
    let answers = high.iter().chain(served).chain(fetched.iter().map(|(_, answer)| answer));
    let answered: u64 = answers.map(tokens).sum();
    let bill = gateway.mock("ptu").billed();
    let billed: u64 = bill.iter().map(|billed| billed.usage.total()).sum();
    page.answers_more(&format!("{} requests of {billed} tokens were billed by ptu", bill.len()))?;
    page.answers_more(&format!("{} answers of {answered} tokens were given", HIGH + LOW))?;
    ensure!((bill.len(), billed) == (HIGH + LOW, answered), "the books do not balance");
    Ok(worker)
}

async fn ask(gateway: &Gateway, key: &str) -> Result<Answer> {
    let url = format!("{}/v1/chat/completions", gateway.url());
    let body = show::chat("A line of a very long list.", json!({ "max_tokens": 20 }));
    let request = gateway.http().post(url).bearer_auth(key).header("prefer", "respond-async").json(&body);
    Answer::read(request.send().await.context("Envoy did not answer")?).await
}

/// The answer, and how long after that time it was there.
async fn until_done(gateway: &Gateway, location: &str, since: Instant) -> Result<(Duration, Answer)> {
    loop {
        let request = gateway.http().get(format!("{}{location}", gateway.url())).bearer_auth(BATCH);
        let answer = Answer::read(request.send().await.context("Envoy did not answer")?).await?;
        if answer.status != 202 {
            return Ok((since.elapsed(), answer));
        }
        ensure!(since.elapsed() < WITHIN, "the show expected an answer by now: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn work(gateway: &Gateway, redis: &Redis) -> Result<Leashed> {
    let tool = tokio::task::spawn_blocking(tools::tool).await??;
    let mut command = Command::new(tool);
    command
        .args(["work", "--store", &redis.url(), "--gateway", gateway.url()])
        .args(["--key-env", "WORKER_KEY", "--seal-env", "SEAL"])
        .envs([("WORKER_KEY", WORKER), ("SEAL", SEAL)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Leashed::spawn(&mut command).context("the worker does not start")
}
