//! What does a request cost, in what can be counted exactly?
//!
//! Calls of Envoy into the module, calls of the module back, and the module's bytes: the same on every machine, where
//! microseconds are not. They are read from Envoy's own trace of a run with the configuration that the README shows.
//! `cargo exact-cost` writes them to [`FILE`], which a test compares with what it counts.

mod trace;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Setup, tools};
use crate::mock::Settings;
pub use trace::{Cost, Role};

/// Where it is written down, in the workspace.
pub const FILE: &str = "tests/fixtures/exact-cost.json";

/// How far the module may be from its bytes there, in percent: another compiler makes another module.
pub const BYTES_PERCENT_MAX: u64 = 1;

/// Each request is sent so often. What is first met, what a worker tells the others only now and then, what it has not seen for
/// some milliseconds, or a piece that the network cut off makes one dearer; nothing makes one cheaper.
const TIMES: usize = 64;

/// The events of the stream, which come at once.
const EVENTS: u32 = 100;

const CHAT: &str = "/v1/chat/completions";

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The size of the module.
    pub module_bytes: u64,
    /// Each kind of request, with the least that one of it has cost.
    pub requests: BTreeMap<String, Cost>,
}

/// A kind of request.
struct Kind {
    name: &'static str,
    method: Method,
    path: &'static str,
    key: &'static str,
    body: Option<Value>,
    status: u16,
}

fn kinds() -> Vec<Kind> {
    let (post, key) = (Method::POST, "demo-web-shop");
    let of = |name, body| Kind { name, method: post.clone(), path: CHAT, key, body: Some(body), status: 200 };
    let mut stream = chat(2 << 10);
    stream["stream"] = json!(true);
    stream["max_tokens"] = json!(EVENTS);
    let embeddings = json!({ "model": "text-embedding-3-small", "input": "a question of some words" });
    vec![
        of("chat of 2 KB", chat(2 << 10)),
        of("chat of 64 KB", chat(64 << 10)),
        of("chat of 2 KB, answered by a stream", stream),
        Kind { path: "/v1/embeddings", ..of("embeddings", embeddings) },
        Kind { key: "nobody", status: 401, ..of("chat of 2 KB, refused with 401", chat(2 << 10)) },
        Kind { method: Method::GET, path: "/v1/models", body: None, ..of("list of models", Value::Null) },
    ]
}

/// A chat with a body of so many bytes.
fn chat(bytes: usize) -> Value {
    let of = |text: String| json!({ "model": "gpt-4o", "messages": [ { "role": "user", "content": text } ] });
    let words = "A question has words, and some more of them. ";
    let mut text = words.repeat(bytes / words.len());
    text.truncate(bytes - of(String::new()).to_string().len());
    of(text)
}

/// What [`FILE`] says.
///
/// # Errors
/// It is not there, or not readable.
pub fn written() -> Result<Counted> {
    let text =
        std::fs::read(path()).with_context(|| format!("there is no {FILE}: `cargo exact-cost` writes it"))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{FILE} is not readable: `cargo exact-cost` writes it anew"))
}

/// Writes it down.
///
/// # Errors
/// It cannot be written.
pub fn write(counted: &Counted) -> Result<()> {
    let text = serde_json::to_string_pretty(counted)?;
    std::fs::write(path(), text + "\n").with_context(|| format!("cannot write {FILE}"))
}

fn path() -> PathBuf {
    tools::workspace().join(FILE)
}

/// Runs an Envoy and counts.
///
/// # Errors
/// It does not run, or a request is not answered as it should be.
pub async fn count() -> Result<Counted> {
    let module_bytes = std::fs::metadata(tools::wasm()?)?.len();
    // An answer is one piece, so that it is not the network that is counted.
    let settings =
        Settings { cut_bytes: NonZeroUsize::new(1 << 20), completion_tokens: EVENTS, ..Settings::default() };
    let setup = Setup::new()
        .workers(1)
        .options(["--component-log-level", "wasm:trace"])
        .mock("ptu", settings.clone())
        .mock("payg-a", settings)
        // Nothing is refused, but all is counted.
        .edit(|config| config["clients"][0]["limits"][0]["tokens"] = json!(100_000_000));
    let gateway = Gateway::start(setup).await?;
    let kinds = kinds();
    for kind in &kinds {
        for _ in 0..TIMES {
            kind.ask(&gateway).await?;
        }
    }
    // One more, so that the end of the others is written.
    gateway.http().get(gateway.url()).send().await?;
    let costs = trace::costs(&gateway.log_text()?)?;
    ensure!(costs.len() >= kinds.len() * TIMES, "only {} requests are in the trace", costs.len());
    let requests = kinds.iter().zip(costs.chunks(TIMES));
    let requests =
        requests.filter_map(|(kind, costs)| Some((kind.name.to_owned(), costs.iter().min()?.clone())));
    Ok(Counted { module_bytes, requests: requests.collect() })
}

impl Kind {
    async fn ask(&self, gateway: &Gateway) -> Result<()> {
        let answer = Answer::read(self.request(gateway).send().await?).await?;
        ensure!(answer.status == self.status, "{}: {} {}", self.name, answer.status, answer.text());
        Ok(())
    }

    fn request(&self, gateway: &Gateway) -> RequestBuilder {
        let url = format!("{}{}", gateway.url(), self.path);
        let request = gateway.http().request(self.method.clone(), url).bearer_auth(self.key);
        match &self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }
}
