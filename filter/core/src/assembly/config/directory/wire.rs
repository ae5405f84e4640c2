//! Where clients are known beside the configuration, as the operator writes it.

use serde::Deserialize;

/// Where clients are known beside the configuration.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Directory {
    /// In the fleet's `store`, where `tollgate keys` and `tollgate clients` write: keys, and clients beside those of this configuration.
    /// Needs a `store`.
    pub(in crate::config) store: StoreKeys,
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
