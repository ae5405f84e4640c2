//! Who is it: by key, by a token that is remembered, by one that is not.
//!
//! Of RSA and ECDSA only the way to the signature is measured, which Envoy checks.

use crate::samples::NOW;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion};
use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken_10::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use std::hint::black_box;
use tollgate::config;
use tollgate::endpoint::Api;
use tollgate::gateway::Gateway;
use tollgate::identity::Identity;
use tollgate::identity::signature::{here, provider, verifier};
use tollgate::store::{MemoryStore, Moment};

/// To it every signature is good that a proxy has to check.
static CRYPTO: CryptoProvider = provider(|algorithm, key| {
    verifier(algorithm, key, |algorithm, key, message, signature| {
        here(algorithm, key, message, signature).unwrap_or(true)
    })
});

fn gateway() -> Gateway {
    let keys: Value = serde_json::from_str(include_str!("../../fixtures/jwks.json")).unwrap();
    let config = json!({
        "issuers": [{ "name": "idp", "issuer": "https://issuer.example", "audiences": ["us"], "keys": keys["keys"] }],
        "clients": [{
            "name": "app",
            "api_keys": [{ "sha256": "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683" }],
            "jwt": { "issuer": "idp", "claims": { "azp": "app", "roles": "ai.user" } },
            "models": ["*"],
        }],
        "models": [{ "name": "m", "backends": [{ "backend": "b" }] }],
        "backends": [{ "name": "b", "cluster": "b", "style": "openai" }],
    });
    config::from_value(config, &|_| None).unwrap()
}

/// As long as those of Entra ID: some 1.5 KB.
fn token(kid: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let header = json!({ "typ": "JWT", "alg": format!("{algorithm:?}"), "kid": kid }).to_string();
    let claims = json!({
        "iss": "https://issuer.example", "aud": "us", "exp": NOW.as_secs() + 600, "iat": NOW.as_secs(),
        "nbf": NOW.as_secs(), "azp": "app", "roles": ["ai.reader", "ai.user"], "sub": "x".repeat(40),
        "tid": "x".repeat(36), "oid": "x".repeat(36), "name": "x".repeat(500),
    });
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("Bearer {message}.{signature}")
}

pub(crate) fn bench(criterion: &mut Criterion) {
    CRYPTO.install_default().unwrap();
    let store = MemoryStore::default();
    let ask = |gateway: &Gateway, header: &str, value: &str| {
        let headers = [("user-agent", &b"x"[..]), (header, value.as_bytes())];
        let identity =
            gateway.clients.identify(headers.into_iter(), "", Api::OpenAi, Moment::new(&store, NOW)).unwrap();
        assert!(matches!(identity, Identity::Client(..)));
    };
    let known = gateway();
    criterion.bench_function("identity/a key", |bencher| {
        bencher.iter(|| ask(&known, "api-key", black_box("key")));
    });
    let rsa = EncodingKey::from_rsa_der(include_bytes!("../../fixtures/rsa-1.der"));
    let ed25519 = EncodingKey::from_ed_der(include_bytes!("../../fixtures/ed25519.der"));
    let rs256 = token("rsa-1", &rsa, Algorithm::RS256);
    criterion.bench_function("identity/a token that is remembered", |bencher| {
        bencher.iter(|| ask(&known, "authorization", black_box(&rs256)));
    });
    let new = [
        ("a new token, RS256, without its signature", &rs256),
        ("a new token, PS256", &token("rsa-1", &rsa, Algorithm::PS256)),
        ("a new token, EdDSA", &token("ed25519", &ed25519, Algorithm::EdDSA)),
    ];
    for (name, token) in new {
        criterion.bench_function(&format!("identity/{name}"), |bencher| {
            // A gateway that has seen nothing yet.
            let ask = |gateway: &mut Gateway| ask(gateway, "authorization", black_box(token));
            bencher.iter_batched_ref(gateway, ask, BatchSize::SmallInput);
        });
    }
}
