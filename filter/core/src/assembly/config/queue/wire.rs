//! The queue, as the operator writes it.

use crate::config::fractions;
use crate::config::priorities::wire::Priority;
use serde::Deserialize;

/// Where requests lie that may be answered later, until a worker has them answered. It stands in the `store`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Queue {
    /// The environment variable with the key that bodies are sealed with: 32 bytes as base64, the same for all Envoys and workers.
    /// Absent: they lie open in the store.
    pub(in crate::config) key_env: Option<String>,
    /// The most important requests that are queued: those of this priority, and of lower ones.
    #[serde(default = "low", rename = "for")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "low")))]
    pub(in crate::config) least: Priority,
    /// When a request is queued whose client has said `Prefer: respond-async`.
    #[serde(default)]
    pub(in crate::config) when: When,
    /// The share of the backends' declared capacity that is in use when they count as full. Absent: what the request's priority
    /// leaves free, as for all requests.
    #[serde(default, deserialize_with = "fractions::maybe")]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "maximum" = 1)))]
    pub(in crate::config) full_at: Option<f64>,
    /// Whose background mode a response with `background: true` is made in.
    #[serde(default)]
    pub(in crate::config) background: Background,
    /// So many jobs of each client wait or run; beyond that it gets 429.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 1000)))]
    pub(in crate::config) jobs_max: Option<u64>,
    /// So many bytes of each client's bodies wait or run; beyond that it gets 429.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 17_179_869_184_u64)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 104_857_600)))]
    pub(in crate::config) bytes_max: Option<u64>,
    /// How long a job may wait, in seconds. Then it has failed.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604_800)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 86400)))]
    pub(in crate::config) age_s: Option<u64>,
    /// How long an answer is kept, in seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604_800)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 3600)))]
    pub(in crate::config) keep_s: Option<u64>,
}

const fn low() -> Priority {
    Priority::Low
}

/// When requests are queued that may be.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum When {
    /// In place of a 429: when there is no room at the backends, or a limit of the client's is used up for now.
    #[default]
    Full,
    /// At once.
    Always,
}

/// Where responses are made in the background.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Background {
    /// At the backend, which must have such a mode.
    #[default]
    Backend,
    /// In the queue.
    Queue,
}
