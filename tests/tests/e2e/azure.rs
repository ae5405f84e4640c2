//! What issues tokens at Azure, for tests: a machine's metadata service and Entra, in one server that takes each form to the
//! letter or not at all.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::stand_in::StandIn;

pub const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
pub const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
pub const WORKLOAD: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
pub const APPLICATION: &str = "22223333-cccc-4444-dddd-5555eeee6666";
pub const SECRET: &str = "s3cret~/+= of the application";

/// A server, on a free port. It ends with this value.
pub struct Azure {
    state: Arc<State>,
    server: StandIn,
}

struct State {
    /// How long tokens are good, in seconds.
    life: Mutex<u64>,
    /// It answers everything with this status, if that is not 200.
    status: Mutex<u16>,
    /// The token of the cluster that is exchanged.
    assertion: Mutex<String>,
    /// What was issued.
    issued: Mutex<Vec<String>>,
    /// Why something was not.
    refused: Mutex<Vec<String>>,
    asked_now: watch::Sender<usize>,
    /// Whether answers are held.
    held: watch::Sender<bool>,
}

impl Azure {
    pub async fn start() -> Self {
        let state = Arc::new(State {
            life: Mutex::new(3600),
            status: Mutex::new(200),
            assertion: Mutex::default(),
            issued: Mutex::default(),
            refused: Mutex::default(),
            asked_now: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        let served = state.clone();
        let server = StandIn::start(move |request| answer(served.clone(), request)).await;
        Self { state, server }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// So long are tokens good from now on, in seconds.
    pub fn life(&self, seconds: u64) {
        *self.state.life.lock().unwrap() = seconds;
    }

    /// It answers with this status from now on.
    pub fn fail(&self, status: u16) {
        *self.state.status.lock().unwrap() = status;
    }

    /// From now on it exchanges this token and no other.
    pub fn trust(&self, assertion: &str) {
        assertion.clone_into(&mut self.state.assertion.lock().unwrap());
    }

    /// Answers are held until they are released.
    pub fn hold(&self, is_held: bool) {
        self.state.held.send_replace(is_held);
    }

    /// What it has issued.
    pub fn issued(&self) -> Vec<String> {
        self.state.issued.lock().unwrap().clone()
    }

    /// Why it has not issued more.
    pub fn refused(&self) -> Vec<String> {
        self.state.refused.lock().unwrap().clone()
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        *self.state.asked_now.borrow()
    }

    /// Until it has been asked so often.
    pub async fn wait_for(&self, times: usize) {
        let mut asked = self.state.asked_now.subscribe();
        asked.wait_for(|asked| *asked >= times).await.unwrap();
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    state.asked_now.send_modify(|asked| *asked += 1);
    let mut held = state.held.subscribe();
    let _ = held.wait_for(|is_held| !*is_held).await;
    let status = *state.status.lock().unwrap();
    let life = *state.life.lock().unwrap();
    let (status, answer) = match status {
        200 => match read(&head, &body, &state.assertion.lock().unwrap()) {
            Ok(whose) => {
                let mut issued = state.issued.lock().unwrap();
                let token = format!("token-{}-{whose}", issued.len() + 1);
                issued.push(token.clone());
                (200, given(whose, &token, life))
            }
            Err(why) => {
                state.refused.lock().unwrap().push(why.clone());
                (400, json!({ "error": "invalid_request", "error_description": why }))
            }
        },
        _ => (status, json!({ "error": "temporarily_unavailable" })),
    };
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(answer.to_string().into()));
    Ok(answer.unwrap())
}

/// As each of the two spells it.
fn given(whose: &str, token: &str, life: u64) -> Value {
    match whose {
        "machine" => json!({
            "access_token": token, "client_id": WORKLOAD, "expires_in": life.to_string(), "expires_on": "1795003600",
            "ext_expires_in": life.to_string(), "not_before": "1795000000",
            "resource": "https://cognitiveservices.azure.com", "token_type": "Bearer",
        }),
        _ => {
            json!({ "token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token })
        }
    }
}

/// Who asks, or what is wrong with it.
fn read(head: &hyper::http::request::Parts, body: &[u8], assertion: &str) -> Result<&'static str, String> {
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = header("host").or_else(|| head.uri.host());
    let path = head.uri.path_and_query().map(|path| path.as_str()).unwrap_or_default();
    let expect = |what: &str, found: Option<&str>, expected: Option<&str>| {
        if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}")) }
    };
    if head.method == "GET" {
        let query = "/metadata/identity/oauth2/token?api-version=2018-02-01";
        let expected = format!("{query}&resource=https%3A%2F%2Fcognitiveservices.azure.com");
        if path != format!("{query}&resource=https%3A%2F%2Feventhubs.azure.net") {
            expect("path", Some(path), Some(&expected))?;
        }
        expect("host", host, Some("169.254.169.254"))?;
        expect("metadata", header("metadata"), Some("true"))?;
        // The metadata service takes nothing that was passed on.
        // https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#security-and-authentication
        expect("x-forwarded-for", header("x-forwarded-for"), None)?;
        return if body.is_empty() { Ok("machine") } else { Err("a body".to_owned()) };
    }
    expect("method", Some(head.method.as_str()), Some("POST"))?;
    expect("path", Some(path), Some(format!("/{TENANT}/oauth2/v2.0/token").as_str()))?;
    expect("host", host, Some("login.microsoftonline.com"))?;
    expect("content-type", header("content-type"), Some("application/x-www-form-urlencoded"))?;
    let url = reqwest::Url::parse(&format!("http://form/?{}", String::from_utf8_lossy(body))).unwrap();
    let mut form: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    form.sort();
    let same = [("grant_type", "client_credentials"), ("scope", SCOPE)];
    let assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let workload =
        [("client_assertion", assertion), ("client_assertion_type", assertion_type), ("client_id", WORKLOAD)];
    let application = [("client_id", APPLICATION), ("client_secret", SECRET)];
    let is = |more: &[(&str, &str)]| {
        let expected =
            more.iter().chain(&same).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        form == expected.collect::<Vec<_>>()
    };
    if is(&workload) {
        Ok("workload")
    } else if is(&application) {
        Ok("application")
    } else {
        Err(format!("form {form:?}"))
    }
}
