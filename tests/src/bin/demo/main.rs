//! `cargo demo`: Tollgate at work on this machine. Mock backends, a real Envoy with the filter, a few requests shown as
//! they happen, then curl lines to go on with.

mod fleet;
mod page;
mod queue;
mod show;
mod spending;
mod tips;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_tests::harness::bootstrap::{Bootstrap, backends, gateway_from};
use tollgate_tests::harness::v8::Compile;
use tollgate_tests::harness::{Gateway, Setup, tools};

use crate::page::Page;

/// Tollgate at work: mock OpenAI backends, a real Envoy with the filter, and a few requests.
#[derive(Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Options {
    /// End after the show instead of staying up for your own requests.
    #[arg(long, conflicts_with = "json")]
    once: bool,
    /// For programs: print one line of JSON when ready, and run until SIGTERM or the end of standard input.
    #[arg(long)]
    json: bool,
    /// Another gateway configuration, YAML or JSON, with a mock behind each of its backends.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// So many Envoys that share their budgets through a Redis; 2 if it is not said.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u8).range(2..=16))]
    fleet: Option<u8>,
    /// A peak that is queued in a Redis and worked off by a worker.
    #[arg(long, conflicts_with_all = ["json", "config", "fleet", "backends", "port"])]
    queue: bool,
    /// The port of 127.0.0.1 on which Envoy listens; one that is free if it is not said.
    #[arg(long, conflicts_with = "fleet", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A real server for a backend instead of a mock, http or https; its key comes from the environment.
    #[arg(long = "backend", value_name = "NAME=URL", value_parser = named_url)]
    backends: Vec<(String, String)>,
}

/// The line of `--json`.
#[derive(Serialize)]
struct Ready<'a> {
    proxy: &'a str,
    admin: &'a str,
    backends: &'a BTreeMap<String, String>,
}

fn named_url(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').ok_or("expected NAME=URL")?;
    Ok((name.to_owned(), url.to_owned()))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return tools::exit(Err(error).context("the demo cannot start")),
    };
    let result = runtime.block_on(until_told_to_stop(options));
    // A build or an installation that still runs is not waited for: it ends with us.
    runtime.shutdown_background();
    tools::exit(result)
}

/// Runs the demo; a signal ends it in order whatever it is at.
async fn until_told_to_stop(options: Options) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let once = options.once;
    tokio::select! {
        result = demo(options) => return result,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // To be told to stop is how all but this one end.
    ensure!(!once, "stopped before the show was over");
    Ok(())
}

async fn demo(options: Options) -> Result<()> {
    if options.queue {
        return queue::demo(&options).await;
    }
    if let Some(envoys) = options.fleet {
        return fleet::demo(&options, envoys).await;
    }
    let config = match &options.config {
        Some(file) => gateway_from(file)?,
        None => Bootstrap::load()?.gateway_mut()?.clone(),
    };
    check(&config)?;
    if let Some(port) = options.port {
        // Envoy shares a port with whoever shares it too, and else tells it in the midst of its log.
        let bound = std::net::TcpListener::bind(("127.0.0.1", port));
        drop(bound.with_context(|| format!("--port {port} cannot be used"))?);
    }
    let mut gateway = Gateway::start(setup(&options, &config)).await?;
    if options.json {
        let ready = Ready { proxy: gateway.url(), admin: gateway.admin_url(), backends: gateway.backends() };
        Page::new().line(&serde_json::to_string(&ready)?)?;
        end_of_input().await;
        return Ok(());
    }
    let mut page = Page::new();
    // The show knows the default configuration by heart, and must not spend money at a real server.
    if options.config.is_none() && options.backends.is_empty() {
        show::run(&gateway, &mut page).await?;
    } else {
        tips::who_and_what(&config, &gateway, &mut page)?;
    }
    if options.once {
        return Ok(());
    }
    tips::curl(&config, &gateway, &mut page)?;
    follow(&mut gateway, &mut page).await
}

/// Says what `tollgate check` would, where Envoy would say it in the midst of its log and end.
fn check(config: &Value) -> Result<()> {
    // Long enough for any secret; the run has its own.
    let secret = |_: &str| Some("a-secret-that-is-long-enough-for-any-purpose".to_owned());
    let faults = tollgate::config::from_value(config.clone(), &secret).err().unwrap_or_default();
    let faults: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    ensure!(faults.is_empty(), "the configuration does not load:{faults}");
    Ok(())
}

fn setup(options: &Options, config: &Value) -> Setup {
    let real: BTreeMap<_, _> = options.backends.iter().cloned().collect();
    let mut setup = Setup::new().config(config.clone()).compile(Compile::AsShipped);
    for backend in backends(config).iter().filter(|backend| !real.contains_key(&backend.name)) {
        // A key that is set wins over a demo key, for a mock as well.
        if let Some(env) = &backend.env
            && let Ok(key) = std::env::var(env)
        {
            setup = setup.env(env, &key);
        }
    }
    if let Some(port) = options.port {
        setup = setup.patch(move |envoy| {
            let address = envoy.pointer_mut("/static_resources/listeners/0/address/socket_address");
            if let Some(address) = address {
                address["port_value"] = port.into();
            }
        });
    }
    real.iter().fold(setup, |setup, (name, url)| setup.backend(name, url))
}

/// Not tokio's: a read of standard input that waits for ever would keep the runtime from ending.
async fn end_of_input() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// Shows what others send, a line for each request, until a signal.
async fn follow(gateway: &mut Gateway, page: &mut Page) -> Result<()> {
    let mut seen = gateway.access_log()?.len();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        gateway.check_alive()?;
        let log = gateway.access_log()?;
        for line in &log[seen.min(log.len())..] {
            page.request(line)?;
        }
        seen = log.len();
    }
}
