//! Where clients are known beside the configuration, as the operator writes it.

use crate::config::clients::wire::Client;
use serde::Deserialize;

/// Where clients are known beside the configuration: with exactly one of `store` and `document`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Directory {
    /// In the fleet's `store`, where `tollgate keys` and `tollgate clients` write: keys, and clients beside those of this configuration.
    /// Needs a `store`.
    pub(in crate::config) store: Option<StoreKeys>,
    /// In a JSON document that is fetched through an Envoy cluster: clients with their keys, beside those of this configuration.
    pub(in crate::config) document: Option<Document>,
}

/// Where a document with clients is fetched.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Document {
    /// The Envoy cluster to ask.
    pub(in crate::config) cluster: String,
    /// The host to ask for.
    pub(in crate::config) host: String,
    /// The path to ask for; it begins with `/`.
    pub(in crate::config) path: String,
    /// How often it is fetched, in seconds. A key or client that is taken out is good until a fetch has brought a good document without it,
    /// and four seconds more at the most.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604800)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 10)))]
    pub(in crate::config) refresh_s: Option<u64>,
    /// How long a fetch may take, in milliseconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 30000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 5000)))]
    pub(in crate::config) timeout_ms: Option<u64>,
    /// How long a request waits for the first one, in milliseconds; then it gets 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 30000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 3000)))]
    pub(in crate::config) wait_ms: Option<u64>,
    /// How long the last good one goes on after it was to be fetched again, while no good one comes, in seconds. Then each key that this
    /// configuration does not have gets 503. Absent: for ever.
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 31536000)))]
    pub(in crate::config) stale_s: Option<u64>,
}

/// The document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Clients {
    pub(in crate::config) clients: Vec<Client>,
}

/// How keys are looked up in the store.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StoreKeys {
    /// How long an answer of the store holds, in seconds: a key that was revoked, or whose client was removed, is good no longer than
    /// that.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3600)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 10)))]
    pub(in crate::config) fresh_s: Option<u64>,
    /// How long after the store's last answer a key that was known goes on being good while the store does not answer, in seconds;
    /// less than `fresh_s` is not at all.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 604800)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 3600)))]
    pub(in crate::config) stale_s: Option<u64>,
    /// How many keys that a worker does not know an Envoy looks up in a second; beyond that they get 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 1000)))]
    pub(in crate::config) lookups_per_second: Option<u64>,
}
