//! How ids lead back to their backend, as the operator writes it.

use serde::Deserialize;

/// How ids of what a backend keeps lead back there.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pinning {
    /// Environment variables: the first one's secret seals ids, all of them open. Each has at least 32 bytes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 8)))]
    pub(in crate::config) secret_envs: Vec<String>,
    /// Who may use an id.
    #[serde(default)]
    pub(in crate::config) bound_to: BoundTo,
    /// What becomes of requests with ids that have no seal. Absent: `refuse` where ids are bound to their client, for
    /// whoever knows a backend's own id would be past that; else `pass`.
    pub(in crate::config) unsealed_ids: Option<UnsealedIds>,
    /// What becomes of the files of batches, and of the batches.
    #[serde(default)]
    pub(in crate::config) batches: Batches,
}

/// What becomes of the files of batches, and of the batches.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Batches {
    /// Files pass unread, and nothing is reserved for a batch.
    #[default]
    Pass,
    /// Each line of a file is held to its client's policy, and a batch takes from the limits what its lines may cost. With
    /// `bound_to: client` only.
    Govern,
}

/// Who may use an id.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum BoundTo {
    /// The client that was told it.
    #[default]
    Client,
    /// Whoever knows it.
    Anyone,
}

/// What becomes of requests with ids that have no seal.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum UnsealedIds {
    /// They go where any request goes.
    Pass,
    /// They get 404.
    Refuse,
}
