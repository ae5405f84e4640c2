//! Tokens for tests, signed by another implementation than ours, and its opinion on signatures.

use super::claims::Json;
use super::public_key;
use super::signature;
use super::{ProxyFacts, SanKind};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use jsonwebtoken_10::{Algorithm as Alg, DecodingKey as Theirs, EncodingKey, crypto};
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

pub(crate) const NOW: Duration = Duration::from_secs(1_795_000_000);
pub(crate) const ISSUER: &str = "https://issuer.example/v2.0";
pub(crate) const AUDIENCE: &str = "api://gateway";
pub(crate) const JWKS: &str = include_str!("../../../fixtures/jwks.json");
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The public keys whose names begin like that.
pub(crate) fn public(prefix: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(JWKS).unwrap();
    let keys = set["keys"].as_array().unwrap();
    keys.iter().filter(|key| key["kid"].as_str().unwrap().starts_with(prefix)).cloned().collect()
}

pub(crate) fn private(kid: &str) -> EncodingKey {
    match kid {
        "rsa-1" => EncodingKey::from_rsa_der(include_bytes!("../../../fixtures/rsa-1.der")),
        "rsa-2" => EncodingKey::from_rsa_der(include_bytes!("../../../fixtures/rsa-2.der")),
        "ec-256" => EncodingKey::from_ec_der(include_bytes!("../../../fixtures/ec-256.der")),
        "ec-384" => EncodingKey::from_ec_der(include_bytes!("../../../fixtures/ec-384.der")),
        "ed25519" => EncodingKey::from_ed_der(include_bytes!("../../../fixtures/ed25519.der")),
        "secret" => EncodingKey::from_secret(SECRET),
        _ => panic!("{kid} is no key"),
    }
}

/// What a good token claims.
pub(crate) fn claims() -> Value {
    let now = NOW.as_secs();
    json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "nbf": now, "iat": now, "azp": "app" })
}

/// `claims` with these members instead; null takes one out.
pub(crate) fn claims_with(more: Value) -> Value {
    let mut claims = claims();
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// A token of any header and any claims, signed whatever they say.
pub(crate) fn signed(header: &str, claims: &str, kid: &str, algorithm: Alg) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = crypto::sign(message.as_bytes(), &private(kid), algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A token as the key `kid` signs it.
pub(crate) fn token(kid: &str, claims: &Value) -> String {
    let algorithm = match kid {
        "ec-256" => Alg::ES256,
        "ec-384" => Alg::ES384,
        "ed25519" => Alg::EdDSA,
        "secret" => Alg::HS256,
        _ => Alg::RS256,
    };
    token_by(algorithm, kid, claims)
}

/// The same with another algorithm than its first.
pub(crate) fn token_by(algorithm: Alg, kid: &str, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": format!("{algorithm:?}"), "kid": kid });
    signed(&header.to_string(), &claims.to_string(), kid, algorithm)
}

/// A proxy that knows what it is told.
#[derive(Debug, Default)]
pub(crate) struct Proxy {
    pub(crate) certified: HashMap<SanKind, String>,
    pub(crate) payloads: HashMap<String, String>,
}

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread has asked about a signature.
pub(crate) fn asked() -> usize {
    ASKED.get()
}

/// Cryptography that is another implementation's, and what is ours compared with it.
pub(crate) static ORACLE: CryptoProvider =
    signature::provider(|algorithm, key| signature::verifier(algorithm, key, is_good));

/// What both say, which must be the same.
pub(crate) fn is_good(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signature: &[u8]) -> bool {
    ASKED.set(ASKED.get() + 1);
    // Of pairs that Envoy is asked about, the oracle is shown what Envoy is.
    let der = public_key::der(key).unwrap_or_default();
    let theirs = match (key.family(), key.kind()) {
        (AlgorithmFamily::Rsa, _) => {
            let public = RsaPublicKey::from_public_key_der(&der).unwrap();
            Theirs::from_rsa_raw_components(&public.n().to_bytes_be(), &public.e().to_bytes_be())
        }
        (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
            Theirs::from_ec_der(&der[der.len() - point.len()..])
        }
        (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(point)) => Theirs::from_ed_der(point),
        (_, DecodingKeyKind::SecretOrDer(secret)) => Theirs::from_secret(secret),
        _ => panic!("{:?} has no such key", key.family()),
    };
    let named: Alg = format!("{algorithm:?}").parse().unwrap();
    let verdict = crypto::verify(&b64(signature), message, &theirs, named).unwrap_or(false);
    let ours = signature::here(algorithm, key, message, signature);
    assert!(ours.is_none_or(|ours| ours == verdict), "{algorithm:?}: {verdict} by another implementation");
    match algorithm.family() {
        AlgorithmFamily::Ec => public_key::ecdsa_der(algorithm, signature).is_some() && verdict,
        _ => verdict,
    }
}

impl ProxyFacts for Proxy {
    fn certified(&self, kind: SanKind) -> Option<String> {
        self.certified.get(&kind).cloned()
    }

    fn jwt_payload(&self, name: &str) -> Option<Json> {
        Json::object(self.payloads.get(name)?.as_bytes())
    }

    fn address(&self) -> Option<String> {
        Some("192.0.2.7".to_owned())
    }
}
