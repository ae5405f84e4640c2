//! What does a client show to be known? A key, or a token: the same one each time, or a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use hyper::header::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// A header and its values, which are sent one after the other, and then from the first again.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) header: &'static str,
    values: Arc<[HeaderValue]>,
    sent: Arc<AtomicUsize>,
}

impl Credentials {
    fn new(header: &'static str, texts: impl Iterator<Item = String>) -> Result<Self> {
        let values = texts.map(HeaderValue::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { header, values: values.into(), sent: Arc::default() })
    }

    /// API keys, each of another client.
    pub(crate) fn keys(keys: impl Iterator<Item = String>) -> Result<Self> {
        Self::new("api-key", keys)
    }

    /// So many tokens of one client, signed with this algorithm.
    pub(crate) fn tokens(algorithm: Algorithm, count: usize) -> Result<Self> {
        let signer = Signer::of(algorithm);
        let tokens = (0..count).map(|id| signer.token(id)).collect::<Result<Vec<_>>>()?;
        Self::new("authorization", tokens.into_iter().map(|token| format!("Bearer {token}")))
    }

    /// The one whose turn it is.
    pub(crate) fn next(&self) -> HeaderValue {
        let turn = self.sent.fetch_add(1, Ordering::Relaxed);
        self.values[turn % self.values.len()].clone()
    }
}

const ISSUER: &str = "https://issuer.example/v2.0";
const AUDIENCE: &str = "api://ai-gateway";
const APP: &str = "bench-envoy";

/// The public halves of the keys, with the names that [`Signer::of`] has.
const JWKS: &str = include_str!("../../../../filter/core/fixtures/jwks.json");

struct Signer {
    header: Header,
    key: EncodingKey,
    expires: u64,
}

impl Signer {
    fn of(algorithm: Algorithm) -> Self {
        let (kid, key) = match algorithm {
            Algorithm::ES256 => (
                "ec-256",
                EncodingKey::from_ec_der(include_bytes!("../../../../filter/core/fixtures/ec-256.der")),
            ),
            Algorithm::EdDSA => (
                "ed25519",
                EncodingKey::from_ed_der(include_bytes!("../../../../filter/core/fixtures/ed25519.der")),
            ),
            _ => (
                "rsa-1",
                EncodingKey::from_rsa_der(include_bytes!("../../../../filter/core/fixtures/rsa-1.der")),
            ),
        };
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { header, key, expires: now + 3600 }
    }

    fn token(&self, id: usize) -> Result<String> {
        let claims =
            json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": self.expires, "azp": APP, "jti": id.to_string() });
        Ok(jsonwebtoken::encode(&self.header, &claims, &self.key)?)
    }
}

/// The first client is known by such tokens and by nothing else.
pub(crate) fn known_by_token(gateway: &mut Value) -> Result<()> {
    let keys: Value = serde_json::from_str(JWKS)?;
    gateway["issuers"] = json!([
        { "name": "issuer", "issuer": ISSUER, "audiences": [AUDIENCE], "keys": keys["keys"] }
    ]);
    if let Some(client) = gateway["clients"][0].as_object_mut() {
        client.remove("api_keys");
        client.insert("jwt".to_owned(), json!({ "issuer": "issuer", "claims": { "azp": APP } }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_another_until_all_have_been_sent() {
        let tokens = Credentials::tokens(Algorithm::EdDSA, 3).unwrap();
        let [one, two, three, again] = std::array::from_fn(|_| tokens.next());
        assert!(one != two && two != three && three != one);
        assert_eq!(one, again);
    }
}
