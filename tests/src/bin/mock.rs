//! The mock backend as a program of its own.

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_tests::mock::{Mock, Settings};

/// A mock (Azure) OpenAI server: deterministic answers, exact usage, faults to order.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Its name, sent as x-ms-region.
    #[arg(long, default_value = "mock")]
    name: String,
    /// Settings as a JSON object, the same as PUT /_mock/settings takes. The options below go before it.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// Milliseconds before an answer.
    #[arg(long, value_name = "MS")]
    latency_ms: Option<u64>,
    /// Milliseconds between two events of a stream.
    #[arg(long, value_name = "MS")]
    chunk_delay_ms: Option<u64>,
    /// Tokens in an answer.
    #[arg(long, value_name = "N")]
    completion_tokens: Option<u32>,
    /// Tokens per minute; more are answered 429.
    #[arg(long, value_name = "N")]
    tpm: Option<u32>,
    /// Requests per minute; more are answered 429.
    #[arg(long, value_name = "N")]
    rpm: Option<u32>,
    /// The only key accepted.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Keep no bodies.
    #[arg(long)]
    no_record: bool,
    /// Start nothing: succeed if the mock that listens there answers. For a container that has nothing else to ask with.
    #[arg(long, value_name = "ADDR")]
    probe: Option<String>,
}

impl Options {
    fn settings(self) -> Result<Settings, String> {
        let mut settings = Settings::default().patched(self.settings.as_bytes())?;
        settings.latency_ms = self.latency_ms.unwrap_or(settings.latency_ms);
        settings.chunk_delay_ms = self.chunk_delay_ms.unwrap_or(settings.chunk_delay_ms);
        settings.completion_tokens = self.completion_tokens.unwrap_or(settings.completion_tokens);
        settings.tpm = self.tpm.or(settings.tpm);
        settings.rpm = self.rpm.or(settings.rpm);
        settings.require_key = self.key.or(settings.require_key);
        settings.record &= !self.no_record;
        Ok(settings)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("mock: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    if let Some(address) = options.probe {
        return probe(&address).await.map_err(|error| format!("--probe {address}: {error}"));
    }
    let (listen, name) = (options.listen.clone(), options.name.clone());
    let settings = options.settings().map_err(|problem| format!("--settings: {problem}"))?;
    // Before the line that says it is ready: whoever reads that may send a signal at once.
    let told_to_stop = told_to_stop().map_err(|error| error.to_string())?;
    let mock = Mock::start_on(&listen, &name, settings)
        .await
        .map_err(|error| format!("--listen {listen}: {error}"))?;
    println!("mock {} listening on {}", mock.name(), mock.url());
    told_to_stop.await;
    mock.stop().await;
    Ok(())
}

async fn probe(address: &str) -> reqwest::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    client.get(format!("http://{address}/_mock/health")).send().await?.error_for_status()?;
    Ok(())
}

/// Ready when SIGTERM or SIGINT comes. The first process of a container has no other way to be stopped.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
