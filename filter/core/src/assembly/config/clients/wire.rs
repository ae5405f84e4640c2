//! A client, as the operator writes it.

use crate::config::limits::wire::Limit;
use crate::config::priorities::wire::Priority;
use crate::config::ways_in::wire::{Certificate, Jwt, Key, TrustedHeader};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Who may call, and what. It needs at least one of `api_keys`, `jwt`, `certificate`, `trusted_header` and
/// `anonymous`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Client {
    /// Its word in metrics, logs and the record of what it has used.
    pub(in crate::config) name: String,
    /// Its keys, by their hashes; several are good while they are exchanged.
    #[serde(default)]
    pub(in crate::config) api_keys: Vec<Key>,
    /// The tokens that are its own.
    pub(in crate::config) jwt: Option<Jwt>,
    /// The certificate that is its own.
    pub(in crate::config) certificate: Option<Certificate>,
    /// The header, set by an earlier filter, that says it is this client.
    pub(in crate::config) trusted_header: Option<TrustedHeader>,
    /// Whether whoever shows nothing at all is this client: at most one is.
    #[serde(default)]
    pub(in crate::config) anonymous: bool,
    /// Names or aliases of models; `gpt-4*` for all that begin like that; `*` for all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) models: Vec<String>,
    /// Operations by their paths, such as `chat/completions`; `*` for all that have a name; `other` for
    /// `other_endpoints`. Absent: `*`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) endpoints: Option<Vec<String>>,
    /// The name of its policy. Absent: nothing is held to anything but `request_bytes_max`.
    pub(in crate::config) policy: Option<String>,
    /// The names of policies that only look on, beside that one: what they would do is counted.
    #[serde(default)]
    pub(in crate::config) audit_policy: Vec<String>,
    /// Another policy for these models: model, by name or alias, to policy.
    #[serde(default)]
    pub(in crate::config) policy_by_model: BTreeMap<String, String>,
    /// The name of the group whose limits it shares.
    pub(in crate::config) group: Option<String>,
    /// What it may spend: all of them must have room.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub(in crate::config) limits: Vec<Limit>,
    /// Who goes first where there is not room for all.
    #[serde(default)]
    pub(in crate::config) priority: Priority,
    /// Whether its requests go to backends of a lower priority.
    #[serde(default)]
    pub(in crate::config) spill: Spilling,
    /// The only regions that may serve it, whatever is down. Absent: anywhere.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) regions: Option<Vec<String>>,
    /// Whether it may know what is behind the gateway: backends, decisions, which configuration runs; and say in which order
    /// backends are asked.
    #[serde(default)]
    pub(in crate::config) operator: bool,
    /// Names of clients for which it may ask, `*` for all: it works off their jobs, and they are charged.
    #[serde(default)]
    pub(in crate::config) may_act_for: Vec<String>,
    /// How many bytes of its request bodies each worker holds at a time, while they come or wait to be sent on; beyond that
    /// its requests get 429. At least its longest `request_bytes_max`, which is the default where it is more than 64 MiB.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1073741824)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 67108864)))]
    pub(in crate::config) held_bytes_max: Option<usize>,
}

/// Whether requests go to backends of a lower priority.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Spilling {
    /// As the model has it.
    #[default]
    Allowed,
    /// They wait for those of the first priority, or are refused.
    Never,
}
