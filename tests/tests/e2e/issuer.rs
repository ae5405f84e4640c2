//! An identity provider for tests: it signs tokens, and serves its keys as it is told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use tokio::sync::watch;
use tollgate_tests::harness::Setup;

use crate::requests::with;
use crate::stand_in::StandIn;

pub const ISSUER: &str = "https://issuer.example/v2.0";
pub const AUDIENCE: &str = "api://ai-gateway";

/// The names of the keys in `filter/core/fixtures`, each with an algorithm of its own.
pub const KEYS: [(&str, Algorithm); 5] = [
    ("rsa-1", Algorithm::RS256),
    ("rsa-2", Algorithm::RS512),
    ("ec-256", Algorithm::ES256),
    ("ec-384", Algorithm::ES384),
    ("ed25519", Algorithm::EdDSA),
];

/// The public halves of the keys whose names begin like that.
pub fn public(prefix: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(include_str!("../../../filter/core/fixtures/jwks.json")).unwrap();
    let keys = set["keys"].as_array().unwrap();
    keys.iter().filter(|key| key["kid"].as_str().unwrap().starts_with(prefix)).cloned().collect()
}

fn private(kid: &str) -> EncodingKey {
    match kid {
        "rsa-1" => EncodingKey::from_rsa_der(include_bytes!("../../../filter/core/fixtures/rsa-1.der")),
        "rsa-2" => EncodingKey::from_rsa_der(include_bytes!("../../../filter/core/fixtures/rsa-2.der")),
        "ec-256" => EncodingKey::from_ec_der(include_bytes!("../../../filter/core/fixtures/ec-256.der")),
        "ec-384" => EncodingKey::from_ec_der(include_bytes!("../../../filter/core/fixtures/ec-384.der")),
        "ed25519" => EncodingKey::from_ed_der(include_bytes!("../../../filter/core/fixtures/ed25519.der")),
        _ => panic!("{kid} is no key"),
    }
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a good token of `research` claims, with these claims as well.
pub fn claims(more: Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "iat": now, "azp": "research-app", "roles": ["ai.user"],
    });
    with(claims, more)
}

/// A token with this header, signed by this key whatever the header says.
pub fn signed(header: &Value, claims: &Value, kid: &str, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = crypto::sign(message.as_bytes(), &private(kid), algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A token of `research`.
pub fn token(kid: &str, algorithm: Algorithm) -> String {
    token_with(kid, algorithm, json!({}))
}

/// A token with these claims as well.
pub fn token_with(kid: &str, algorithm: Algorithm, more: Value) -> String {
    let header = json!({ "typ": "JWT", "alg": format!("{algorithm:?}"), "kid": kid });
    signed(&header, &claims(more), kid, algorithm)
}

/// A server of keys, on a free port. It ends with this value.
pub struct KeyServer {
    state: Arc<State>,
    server: StandIn,
}

struct State {
    /// Status and body.
    answer: Mutex<(u16, Bytes)>,
    /// Each path that was asked for, with its host.
    asked: Mutex<Vec<String>>,
    asked_now: watch::Sender<usize>,
    /// Whether answers are held.
    held: watch::Sender<bool>,
}

impl KeyServer {
    pub async fn start(keys: &[Value]) -> Self {
        let state = Arc::new(State {
            answer: Mutex::new((200, body(keys))),
            asked: Mutex::default(),
            asked_now: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        let served = state.clone();
        let server = StandIn::start(move |request| answer(served.clone(), request)).await;
        Self { state, server }
    }

    /// What it serves from now on.
    pub fn serve(&self, keys: &[Value]) {
        *self.state.answer.lock().unwrap() = (200, body(keys));
    }

    /// It answers with an error from now on.
    pub fn fail(&self, status: u16) {
        *self.state.answer.lock().unwrap() = (status, Bytes::from_static(b"<html>no</html>"));
    }

    /// Answers are held until they are released.
    pub fn hold(&self, is_held: bool) {
        self.state.held.send_replace(is_held);
    }

    /// What it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Until it has been asked so often.
    pub async fn wait_for(&self, times: usize) {
        let mut asked = self.state.asked_now.subscribe();
        asked.wait_for(|asked| *asked >= times).await.unwrap();
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// Envoy has it as the cluster `idp`.
    pub fn known_to(&self, setup: Setup) -> Setup {
        let addr = self.server.addr;
        setup.patch(move |envoy| add_cluster(envoy, "idp", addr))
    }
}

/// A cluster of one address.
pub fn add_cluster(envoy: &mut Value, name: &str, addr: SocketAddr) {
    let address =
        json!({ "socket_address": { "address": addr.ip().to_string(), "port_value": addr.port() } });
    envoy["static_resources"]["clusters"].as_array_mut().unwrap().push(json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [ { "lb_endpoints": [ { "endpoint": { "address": address } } ] } ],
        },
    }));
}

fn body(keys: &[Value]) -> Bytes {
    json!({ "keys": keys }).to_string().into()
}

async fn answer(
    state: Arc<State>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
    state.asked.lock().unwrap().push(format!("{}{}", host.unwrap_or_default(), request.uri()));
    state.asked_now.send_modify(|asked| *asked += 1);
    let mut held = state.held.subscribe();
    let _ = held.wait_for(|is_held| !*is_held).await;
    let (status, body) = state.answer.lock().unwrap().clone();
    let answer = Response::builder().status(status).header("content-type", "application/json");
    Ok(answer.body(Full::new(body)).unwrap())
}

/// A change of the configuration: an issuer with these fields, and a client `research` that is known by its tokens.
pub fn research(proof: Value) -> impl FnOnce(&mut Value) + Send {
    move |config| {
        let issuer = json!({ "name": "entra", "issuer": ISSUER, "audiences": [AUDIENCE] });
        config["issuers"] = json!([with(issuer, proof)]);
        config["clients"].as_array_mut().unwrap().push(json!({
            "name": "research",
            "jwt": { "issuer": "entra", "claims": { "azp": "research-app", "roles": "ai.user" } },
            "models": ["gpt-4*"],
        }));
    }
}

/// The keys are fetched from the cluster `idp`.
pub fn fetched(more: Value) -> Value {
    json!({ "jwks": with(json!({ "cluster": "idp", "host": "idp.example", "path": "/keys?v=2" }), more) })
}
