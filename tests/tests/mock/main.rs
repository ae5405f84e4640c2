//! The mock backend's own tests: other tests rest on what it says.

use bytes::Bytes;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tollgate_tests::mock::{Mock, Settings};

mod admin;
mod answers;
mod faults;
mod kept;
mod limits;
mod program;
mod refusals;
mod streams;

const CHAT: &str = "/v1/chat/completions";
const AZURE_CHAT: &str = "/openai/deployments/d/chat/completions?api-version=2024-10-21";
const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const RESPONSES: &str = "/v1/responses";

async fn start(settings: Settings) -> Mock {
    Mock::start("eu", settings).await.expect("a free port")
}

/// A whole answer.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Got {
    async fn of(response: Response) -> Self {
        let status = response.status().as_u16();
        let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().expect("ASCII").to_owned())
        };
        let headers = response.headers().iter().map(header).collect();
        Self { status, headers, body: response.bytes().await.expect("a whole body") }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

async fn post(mock: &Mock, path: &str, body: &Value) -> Got {
    Got::of(send(mock, path, body).await.expect("an answer")).await
}

async fn get(mock: &Mock, path: &str) -> Got {
    request(mock, Method::GET, path, &[], b"").await
}

/// The head has come; the body may still be on its way.
async fn send(mock: &Mock, path: &str, body: &Value) -> reqwest::Result<Response> {
    Client::new().post(mock.url() + path).json(body).send().await
}

async fn request(mock: &Mock, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
    let mut request = Client::new().request(method, mock.url() + path).body(body.to_vec());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Got::of(request.send().await.expect("an answer")).await
}

async fn check_not_ready(wait: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = wait => panic!("ready"),
        () = std::future::ready(()) => {}
    }
}

/// Gives the mock the time to do what it should not: a right one never does, however long this takes.
async fn tempt(mock: &Mock) {
    for _ in 0..10 {
        get(mock, "/_mock/health").await;
    }
}

/// A chat that says `a b c`, and whatever else.
fn chat(more: &Value) -> Value {
    with(json!({"model": "m", "messages": [{"role": "user", "content": "a b c"}]}), more)
}

fn with(mut body: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// Reads a body until it holds so many events, and no further.
async fn read_events(response: &mut Response, events: usize) -> String {
    let mut text = String::new();
    while text.matches("\n\n").count() < events {
        let chunk = response.chunk().await.expect("a chunk").expect("not yet the end");
        text += std::str::from_utf8(&chunk).expect("uncut");
    }
    text
}
