//! How a client is known, as the operator writes it.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Where a key may stand.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum KeySource {
    /// The header `x-api-key`.
    XApiKey,
    /// `?api-key=` in the path's query, which is taken out there.
    Query,
}

/// An API key.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Key {
    /// The SHA-256 of the key in hexadecimal, never the key itself: `tollgate hash-key` prints it.
    pub(in crate::config) sha256: String,
    /// From when it is good: RFC 3339 in UTC. Absent: always.
    pub(in crate::config) not_before: Option<String>,
    /// Until just before when it is good: RFC 3339 in UTC. Absent: always.
    pub(in crate::config) not_after: Option<String>,
}

/// Which tokens are a client's.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Jwt {
    /// The name of one of `issuers`.
    pub(in crate::config) issuer: String,
    /// The value of the issuer's `client_claim`. Absent: the client's own name, unless there are `claims`.
    pub(in crate::config) client: Option<String>,
    /// Claims, by their paths, with the value that each must have or, as a list, hold. All of them have to match.
    #[serde(default)]
    pub(in crate::config) claims: BTreeMap<String, String>,
}

/// Which certificate is a client's: one of the two.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Certificate {
    /// The first URI among the names of the certificate.
    pub(in crate::config) uri_san: Option<String>,
    /// The first DNS name among the names of the certificate.
    pub(in crate::config) dns_san: Option<String>,
}

/// What an earlier filter says.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TrustedHeader {
    /// The header's name; clients must not be able to set it.
    pub(in crate::config) name: String,
    /// What it says for this client.
    pub(in crate::config) value: String,
}
