//! Who goes first, as the operator writes it.

use crate::config::fractions;
use serde::Deserialize;

/// Who goes first where there is not room for all.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Priority {
    /// First.
    High,
    /// Next.
    #[default]
    Normal,
    /// With what is left.
    Low,
}

/// What each priority means; and how many requests wait in each worker.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Priorities {
    /// For clients of priority `high`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = { "headroom_min": 0.0, "wait_ms": 5000 })))]
    pub(in crate::config) high: Precedence,
    /// For clients of priority `normal`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = { "headroom_min": 0.05, "wait_ms": 5000 })))]
    pub(in crate::config) normal: Precedence,
    /// For clients of priority `low`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = { "headroom_min": 0.2, "wait_ms": 15000 })))]
    pub(in crate::config) low: Precedence,
    /// So many requests wait in each worker; each holds its body. When all places are taken, the least important give up theirs.
    #[cfg_attr(feature = "schema", schemars(range(max = 100_000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 1000)))]
    pub(in crate::config) waiting_max: Option<u32>,
    /// By this header a request says that it is less important than its client's others. It goes no further.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "x-priority")))]
    pub(in crate::config) header: Option<String>,
    /// By this parameter of the query it says the same. Absent: by none.
    pub(in crate::config) query: Option<String>,
}

/// What a priority means.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Precedence {
    /// The share of a backend's capacity that must stay free. Absent: the priority's own default.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0, "exclusiveMaximum" = 1)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(in crate::config) headroom_min: Option<f64>,
    /// How long a request waits for that, in milliseconds. Absent: the priority's own default.
    #[cfg_attr(feature = "schema", schemars(range(max = 60_000)))]
    pub(in crate::config) wait_ms: Option<u32>,
}
