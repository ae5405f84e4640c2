//! Whose tokens are trusted, as the operator writes it.

use crate::identity::claims::Json;
use serde::Deserialize;

/// Whose tokens are trusted, with exactly one of `jwks`, `keys`, `secret_env` and `verified_by_envoy`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Issuer {
    /// Its word in metrics and logs, and in `jwt.issuer` of clients.
    pub(in crate::config) name: String,
    /// The `iss` of its tokens, to the letter.
    pub(in crate::config) issuer: String,
    /// One of them has to be in `aud`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) audiences: Vec<String>,
    /// Those that its tokens may have: of RS256, RS384, RS512, PS256, ES256, ES384, EdDSA, or with `secret_env` of
    /// HS256, HS384, HS512. Absent: all that its keys can be for.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) algorithms: Option<Vec<String>>,
    /// How far its clock and Envoy's may differ, in seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 300)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 60)))]
    pub(in crate::config) leeway_s: Option<u64>,
    /// The path of the claim that names the client.
    pub(in crate::config) client_claim: Option<String>,
    /// Its keys are fetched from there.
    pub(in crate::config) jwks: Option<Jwks>,
    /// Its public keys, as JSON Web Keys.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 100)))]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")
    )]
    #[cfg_attr(feature = "schema", serde(serialize_with = "unwritten"))]
    pub(in crate::config) keys: Option<Vec<Json>>,
    /// The environment variable with the secret that it shares with the gateway: at least as long as the hash.
    pub(in crate::config) secret_env: Option<String>,
    /// Envoy's `jwt_authn` verifies its tokens.
    pub(in crate::config) verified_by_envoy: Option<VerifiedByEnvoy>,
}

/// Where keys are fetched.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Jwks {
    /// The Envoy cluster to ask.
    pub(in crate::config) cluster: String,
    /// The host to ask for.
    pub(in crate::config) host: String,
    /// The path to ask for; it begins with `/`.
    pub(in crate::config) path: String,
    /// How often they are fetched, in seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604800)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 3600)))]
    pub(in crate::config) refresh_s: Option<u64>,
    /// How long a fetch may take, in milliseconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 30000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 5000)))]
    pub(in crate::config) timeout_ms: Option<u64>,
    /// How long a request waits for keys, in milliseconds; then it gets 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 30000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 3000)))]
    pub(in crate::config) wait_ms: Option<u64>,
}

/// Where Envoy leaves what it has verified.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct VerifiedByEnvoy {
    /// The `payload_in_metadata` of the provider.
    pub(in crate::config) jwt_authn_metadata: String,
}

/// Keys stand in no default, so they are never written.
#[cfg(feature = "schema")]
fn unwritten<S: serde::Serializer>(_: &Option<Vec<Json>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}
