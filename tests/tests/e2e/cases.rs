//! Does what people have reported in public of gateways and clients go well here?
//!
//! Each file in `tests/fixtures/cases` is one situation, with its source, what a client sends, what a backend answers, and
//! what should come of it. Cases with the same configuration share an Envoy; all faults are told at once.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Gateway, Setup};

/// How long a backend waits for its client to see what it has sent: whoever holds that back is found out.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// The fewest cases that there are: a folder that is not found has none.
const CASES_MIN: usize = 44;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[allow(dead_code, reason = "for readers")]
    source: String,
    #[allow(dead_code, reason = "for readers")]
    severity: String,
    #[allow(dead_code, reason = "for readers")]
    situation: String,
    #[allow(dead_code, reason = "for readers")]
    should: String,
    #[serde(default)]
    #[allow(dead_code, reason = "for readers")]
    hold: Option<Value>,
    config: Option<Map<String, Value>>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    request: Request,
    #[serde(default)]
    backend: Backend,
    #[serde(default)]
    expect: Expect,
    #[serde(default = "once")]
    times: usize,
}

fn once() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    path: Option<String>,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Absent: the first client's; null: none.
    #[serde(default = "first_key")]
    key: Option<String>,
    json: Option<Value>,
    text: Option<String>,
    base64: Option<String>,
    /// A whole request, as it goes over the wire.
    raw_http: Option<String>,
}

fn first_key() -> Option<String> {
    Some("sk-a".to_owned())
}

/// What every backend answers.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backend {
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pieces: Vec<Piece>,
    cut_bytes: Option<usize>,
    /// What is sent is flushed piece by piece anyhow.
    #[allow(dead_code, reason = "for readers")]
    gap_ms: Option<u64>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Repeat {
        repeat: (String, usize),
    },
    /// It waits here until the client has seen what is before.
    Wait {
        #[allow(dead_code, reason = "for readers")]
        wait_ms: u64,
    },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: Option<Value>,
    #[serde(default)]
    body_has: Vec<String>,
    #[serde(default)]
    body_has_not: Vec<String>,
    asked: Option<usize>,
    asked_path: Option<String>,
    asked_body_has: Option<String>,
    #[serde(default)]
    asked_has_not_header: Vec<String>,
    #[serde(default)]
    headers_not: Vec<String>,
    #[serde(default)]
    record: BTreeMap<String, Value>,
    #[serde(default)]
    record_min: BTreeMap<String, f64>,
    tokens: Option<u64>,
    tokens_max: Option<u64>,
    cost_min: Option<f64>,
    /// A text that arrives before the backend goes on. The time is that of whoever runs it with a clock.
    arrives_by_ms: Option<(String, u64)>,
}

/// A request as a backend got it.
struct Received {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Backends that hand out what the step at hand says.
#[derive(Clone)]
struct Backends {
    answer: Arc<Mutex<Backend>>,
    /// What a client is to see before more is sent.
    awaited: Arc<Mutex<Option<String>>>,
    received: Arc<Mutex<Vec<Received>>>,
    seen: watch::Sender<bool>,
}

impl Backends {
    /// One more, at the answered URL.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let backends = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let backends = backends.clone();
                // A connection that breaks is the proxy's own affair.
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Ok(true) = backends.serve(&mut stream).await {}
                });
            }
        });
        url
    }

    /// Serves one request; false at the end of the connection.
    async fn serve(&self, stream: &mut BufReader<TcpStream>) -> Result<bool> {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(false);
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers = read_headers(stream).await?;
        let body = read_body(stream, &headers).await?;
        self.received.lock().unwrap().push(Received { path, headers, body });
        let answer = self.answer.lock().unwrap().clone();
        self.send(stream, &answer).await?;
        Ok(true)
    }

    async fn send(&self, stream: &mut BufReader<TcpStream>, answer: &Backend) -> Result<()> {
        let mut headers = BTreeMap::from([("content-type".to_owned(), Some("application/json".to_owned()))]);
        headers.extend(answer.headers.clone());
        let is_stream = headers["content-type"].as_ref().is_some_and(|kind| kind.starts_with("text/event"));
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status.unwrap_or(200));
        for (name, value) in &headers {
            head += &value.as_ref().map(|value| format!("{name}: {value}\r\n")).unwrap_or_default();
        }
        if !is_stream {
            let body: String = answer.pieces.iter().map(text).collect();
            head += &format!("content-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await?;
            return Ok(());
        }
        stream.write_all((head + "transfer-encoding: chunked\r\n\r\n").as_bytes()).await?;
        let awaited = self.awaited.lock().unwrap().clone();
        let mut is_sent = false;
        for piece in &answer.pieces {
            if let Piece::Wait { .. } = piece
                && is_sent
            {
                let mut seen = self.seen.subscribe();
                // Its client tells what it has not seen.
                let _ = tokio::time::timeout(SEEN_WITHIN, seen.wait_for(|seen| *seen)).await;
            }
            is_sent |= awaited.as_ref().is_some_and(|awaited| text(piece).contains(awaited));
            for part in text(piece).as_bytes().chunks(answer.cut_bytes.unwrap_or(usize::MAX)) {
                stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await?;
                stream.write_all(part).await?;
                stream.write_all(b"\r\n").await?;
                stream.flush().await?;
                tokio::task::yield_now().await;
            }
        }
        stream.write_all(b"0\r\n\r\n").await?;
        Ok(())
    }
}

fn text(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => text.clone(),
        Piece::Repeat { repeat: (text, times) } => text.repeat(*times),
        Piece::Wait { .. } => String::new(),
    }
}

async fn read_headers(stream: &mut BufReader<TcpStream>) -> Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(headers) };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

async fn read_body(stream: &mut BufReader<TcpStream>, headers: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    if let Some(length) = headers.get("content-length") {
        let mut body = vec![0; length.parse()?];
        stream.read_exact(&mut body).await?;
        return Ok(body);
    }
    let mut body = Vec::new();
    while headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let mut chunk = vec![0; usize::from_str_radix(line.trim_end(), 16)? + 2];
        stream.read_exact(&mut chunk).await?;
        chunk.truncate(chunk.len() - 2);
        if chunk.is_empty() {
            break;
        }
        body.extend(chunk);
    }
    Ok(body)
}

/// An answer, whole.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn configuration(changes: &Map<String, Value>) -> Value {
    let key = |key: &str| json!([{ "sha256": hex::encode(Sha256::digest(key)) }]);
    let prices = json!({ "prompt": 2.0, "cached": 1.0, "completion": 10.0 });
    let model = |name: &str, backend: &str| {
        let backends = json!([{ "backend": backend, "deployment": format!("d-{name}") }]);
        json!({ "name": name, "prices": prices, "backends": backends })
    };
    let all = json!(["*", "other"]);
    let mut whole = json!({
        "clients": [
            { "name": "a", "api_keys": key("sk-a"), "models": ["*"], "endpoints": all,
              "limits": [{ "tokens": 100_000_000, "per": "day" }, { "cost": 100_000, "per": "day" }] },
            { "name": "plain", "api_keys": key("sk-plain"), "models": ["gpt-4o", "gpt-4o-az"] },
            { "name": "small", "api_keys": key("sk-small"), "models": ["gpt-4o-az"],
              "endpoints": ["chat/completions", "other"], "policy": "p" },
            { "name": "tight", "api_keys": key("sk-tight"), "models": ["gpt-4o"], "endpoints": all,
              "limits": [{ "cost": 0.02, "per": "day" }] },
            { "name": "few", "api_keys": key("sk-few"), "models": ["gpt-4o"], "endpoints": all,
              "limits": [{ "tokens": 2000, "per": "day" }] },
        ],
        "policies": [{ "name": "p", "max_tokens": { "default": 256, "max": 512, "over": "clamp" } }],
        "models": [
            model("gpt-4o", "b"), model("gpt-4o-az", "az"), model("gpt-image-1", "b"),
            model("gpt-4o-transcribe", "b"), model("emb", "b"),
            { "name": "duo", "prices": prices,
              "backends": [{ "backend": "b", "priority": 0 }, { "backend": "b2", "priority": 1 }] },
        ],
        "other_endpoints": ["b"],
        "backends": [
            { "name": "b", "cluster": "b", "style": "openai",
              "credential": { "header": "authorization", "env": "B_KEY" } },
            { "name": "b2", "cluster": "b2", "style": "openai" },
            { "name": "az", "cluster": "az", "style": "azure", "api_version": "2025-04-01-preview",
              "credential": { "header": "api-key", "env": "AZ_KEY" } },
        ],
    });
    whole.as_object_mut().unwrap().extend(changes.clone());
    whole
}

/// An Envoy with its backends.
struct Bed {
    gateway: Gateway,
    backends: Backends,
}

impl Bed {
    async fn new(changes: &Map<String, Value>) -> Self {
        let (answer, received, seen) = (Arc::default(), Arc::default(), watch::Sender::new(false));
        let backends = Backends { answer, awaited: Arc::default(), received, seen };
        let mut setup = Setup::new().workers(1).config(configuration(changes));
        for name in ["b", "b2", "az"] {
            setup = setup.backend(name, &backends.listen().await);
        }
        let setup = setup.env("B_KEY", "bk").env("AZ_KEY", "azk");
        Self { gateway: Gateway::start(setup).await.unwrap(), backends }
    }

    /// Whatever is asked makes a line in the log, which is written when all is settled.
    async fn logged<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let lines = self.gateway.access_log()?.len();
        let answer = asked.await?;
        self.gateway.wait_for_log(lines + 1).await?;
        Ok(answer)
    }

    /// What the limits of a key have used, by their unit.
    async fn used(&self, key: Option<&str>) -> Result<BTreeMap<String, f64>> {
        let Some(key) = key else { return Ok(BTreeMap::new()) };
        let url = format!("{}/tollgate/v1/usage", self.gateway.url());
        let asked = async { Ok(self.gateway.http().get(url).bearer_auth(key).send().await?.json().await?) };
        let found: Value = self.logged(asked).await?;
        let limits = found["limits"].as_array().cloned().unwrap_or_default();
        let pair =
            |limit: &Value| Some((limit["unit"].as_str()?.to_owned(), limit["used"].as_f64().unwrap_or(0.0)));
        Ok(limits.iter().filter_map(pair).collect())
    }

    async fn ask(&self, request: &Request, awaited: Option<&str>) -> Result<Answer> {
        if let Some(raw) = &request.raw_http {
            return self.ask_raw(raw).await;
        }
        let body = match (&request.base64, &request.text, &request.json) {
            (Some(text), ..) => Some(STANDARD.decode(text)?),
            (_, Some(text), _) => Some(text.clone().into_bytes()),
            (.., Some(json)) => Some(serde_json::to_vec(json)?),
            _ => None,
        };
        let method = request.method.as_deref().unwrap_or(if body.is_some() { "POST" } else { "GET" });
        let path = request.path.as_deref().context("a request has a path")?;
        let mut headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
        headers.extend(request.key.iter().map(|key| ("authorization".to_owned(), format!("Bearer {key}"))));
        headers.extend(request.headers.clone());
        let url = format!("{}{path}", self.gateway.url());
        let mut asked = self.gateway.http().request(method.parse()?, url);
        for (name, value) in &headers {
            asked = asked.header(name, value);
        }
        let answer = asked.body(body.unwrap_or_default()).send().await?;
        let status = answer.status().as_u16();
        let text = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers = answer.headers().iter().map(text).collect();
        let (mut body, mut stream) = (Vec::new(), answer.bytes_stream());
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk?);
            if awaited.is_some_and(|text| String::from_utf8_lossy(&body).contains(text)) {
                self.backends.seen.send_replace(true);
            }
        }
        Ok(Answer { status, headers, body })
    }

    async fn ask_raw(&self, raw: &str) -> Result<Answer> {
        let address = self.gateway.url().strip_prefix("http://").context("it speaks HTTP")?;
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        stream.write_all(raw.as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).context("no status")?.parse()?;
        let headers = read_headers(&mut stream).await?;
        let body = read_body(&mut stream, &headers).await?;
        Ok(Answer { status, headers, body })
    }

    /// What does not hold of a step.
    async fn step(&self, step: &Step) -> Result<Vec<String>> {
        let expect = &step.expect;
        *self.backends.answer.lock().unwrap() = step.backend.clone();
        let (charges, key) = (
            expect.tokens.is_some() || expect.tokens_max.is_some() || expect.cost_min.is_some(),
            step.request.key.as_deref(),
        );
        let before = if charges { self.used(key).await? } else { BTreeMap::new() };
        self.backends.received.lock().unwrap().clear();
        self.backends.seen.send_replace(false);
        let awaited = expect.arrives_by_ms.as_ref().map(|(text, _)| text.as_str());
        *self.backends.awaited.lock().unwrap() = awaited.map(str::to_owned);
        let mut last = None;
        for _ in 0..step.times {
            last = Some(self.logged(self.ask(&step.request, awaited)).await?);
        }
        let answer = last.context("a step has a request")?;
        let line = self.gateway.access_log()?.pop().unwrap_or_default();
        let after = if charges { self.used(key).await? } else { BTreeMap::new() };
        let mut faults = self.faults_of(expect, &answer);
        faults.extend(faults_of_record(expect, &line));
        let added = |unit: &str| after.get(unit).unwrap_or(&0.0) - before.get(unit).unwrap_or(&0.0);
        let mut check = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{what}: {} tokens, {} of money", added("tokens"), added("cost")));
            }
        };
        check(expect.tokens.is_none_or(|tokens| added("tokens") == tokens as f64), "tokens charged");
        check(expect.tokens_max.is_none_or(|max| added("tokens") <= max as f64), "tokens charged");
        check(expect.cost_min.is_none_or(|min| added("cost") >= min - 1e-9), "cost charged");
        Ok(faults)
    }

    fn faults_of(&self, expect: &Expect, answer: &Answer) -> Vec<String> {
        let mut faults = Vec::new();
        let received = self.backends.received.lock().unwrap();
        let body = String::from_utf8_lossy(&answer.body);
        let paths: Vec<_> = received.iter().map(|asked| asked.path.as_str()).collect();
        let mut check = |holds: bool, what: String| {
            if !holds {
                let start: String = body.chars().take(160).collect();
                faults.push(format!("{what}; got {} {start}, asked {paths:?}", answer.status));
            }
        };
        if let Some(status) = &expect.status {
            let fits = match status {
                Value::Array(several) => several.contains(&json!(answer.status)),
                one => *one == json!(answer.status),
            };
            check(fits, format!("status {status}"));
        }
        for text in &expect.body_has {
            check(body.contains(text), format!("the body has {text}"));
        }
        for text in &expect.body_has_not {
            check(!body.contains(text), format!("the body has not {text}"));
        }
        if let Some(asked) = expect.asked {
            check(received.len() == asked, format!("{asked} requests to backends"));
        }
        if let Some(path) = &expect.asked_path {
            check(received.last().is_some_and(|asked| asked.path == *path), format!("asked {path}"));
        }
        if let Some(text) = &expect.asked_body_has {
            let has = |asked: &Received| String::from_utf8_lossy(&asked.body).contains(text);
            check(received.last().is_some_and(has), format!("the backend's body has {text}"));
        }
        for name in &expect.asked_has_not_header {
            let stays = received.iter().all(|asked| !asked.headers.contains_key(name));
            check(stays, format!("the header {name} stays here"));
        }
        for name in &expect.headers_not {
            check(!answer.headers.contains_key(name), format!("the answer has no {name}"));
        }
        if let Some((text, _)) = &expect.arrives_by_ms {
            check(*self.backends.seen.borrow(), format!("{text} arrives at once"));
        }
        faults
    }
}

/// What does not hold of the record, whose numbers may be text.
fn faults_of_record(expect: &Expect, line: &Value) -> Vec<String> {
    let details: Value =
        line["details"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let field = |name: &str| match &line[name] {
        Value::Null => shown(&details[name]),
        found => shown(found),
    };
    let equal = expect.record.iter().filter_map(|(name, value)| {
        let found = field(name);
        let fits = match value {
            Value::Array(several) => several.iter().any(|one| shown(one) == found),
            one => shown(one) == found,
        };
        (!fits).then(|| format!("the record's {name} is {found}, not {value}"))
    });
    let least = expect.record_min.iter().filter_map(|(name, min)| {
        let found = field(name);
        let fits = found.parse::<f64>().is_ok_and(|found| found >= *min);
        (!fits).then(|| format!("the record's {name} is {found}, below {min}"))
    });
    equal.chain(least).collect()
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[tokio::test]
async fn what_was_reported_in_public_goes_well_here() {
    let folder = workspace().join("tests/fixtures/cases");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= CASES_MIN, "{} files in {}", files.len(), folder.display());
    let mut groups: BTreeMap<String, (Map<String, Value>, Vec<Case>)> = BTreeMap::new();
    for file in files {
        let case: Case = serde_json::from_str(&fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|fault| panic!("{}: {fault}", file.display()));
        let changes = case.config.clone().unwrap_or_default();
        // A failure may leave a pause behind.
        let fails = case.steps.iter().any(|step| step.backend.status.is_some_and(|status| status >= 400));
        let own = if fails { case.id.as_str() } else { "" };
        groups.entry(format!("{own} {}", json!(changes))).or_insert((changes, Vec::new())).1.push(case);
    }
    let mut faults = Vec::new();
    for (changes, cases) in groups.values() {
        let bed = Bed::new(changes).await;
        for case in cases {
            for (at, step) in case.steps.iter().enumerate() {
                let found = bed.step(step).await.unwrap_or_else(|fault| vec![format!("{fault:#}")]);
                faults.extend(found.iter().map(|fault| format!("{} step {}: {fault}", case.id, at + 1)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
