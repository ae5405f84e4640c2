//! What may be spent, as the operator writes it.

use crate::config::fractions;
use serde::Deserialize;

/// Clients that share limits.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Group {
    /// Its word in metrics and logs.
    pub(in crate::config) name: String,
    /// What its clients may spend together.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub(in crate::config) limits: Vec<Limit>,
}

/// Exactly one of `tokens`, `requests`, `cost` and `concurrent`, with `per` for all but the last. Of a second or a
/// minute: a bucket that fills evenly; of an hour to a month: a quota of the calendar, in UTC.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limit {
    /// So many tokens, sent and produced.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000_000_000u64)))]
    pub(in crate::config) tokens: Option<u64>,
    /// So many requests.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000_000_000u64)))]
    pub(in crate::config) requests: Option<u64>,
    /// So much money, in the currency of the prices.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.000001, max = 1_000_000_000u64)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(in crate::config) cost: Option<f64>,
    /// So many requests at the same time.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000_000_000u64)))]
    pub(in crate::config) concurrent: Option<u64>,
    /// In what time; `concurrent` has none.
    pub(in crate::config) per: Option<Period>,
    /// The models that it counts, as in `clients[].models`. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) models: Option<Vec<String>>,
    /// The endpoints that it counts, by their paths. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) endpoints: Option<Vec<String>>,
    /// What a token of each kind counts; with `tokens` only.
    pub(in crate::config) weights: Option<Weights>,
    /// What each has a limit of its own by. Absent: all share one.
    pub(in crate::config) by: Option<By>,
    /// Which parts used, from 0.01 to 1, are told of once in a window; with `hour` to `month` only. Rounded to whole percents.
    #[cfg_attr(feature = "schema", schemars(length(max = 8), inner(range(min = 0.01, max = 1.0))))]
    #[serde(default, deserialize_with = "fractions::list")]
    pub(in crate::config) alerts: Vec<f64>,
    /// Whether it only reports what it would refuse.
    #[serde(default)]
    pub(in crate::config) shadow: bool,
}

/// What tells the users of a client apart.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum By {
    /// The API key.
    Key,
    /// The claim of the token that has this path.
    Claim(#[cfg_attr(feature = "schema", schemars(length(min = 1)))] String),
    /// The header of this name, which only an earlier filter may set.
    Header(#[cfg_attr(feature = "schema", schemars(length(min = 1)))] String),
    /// The field of the body in which the client says for whom it asks.
    Field(UserField),
}

/// Where a client says for which of its users it asks.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum UserField {
    /// `user`.
    User,
    /// `safety_identifier`.
    SafetyIdentifier,
}

/// In what time.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Period {
    /// A bucket of a second.
    Second,
    /// A bucket of a minute.
    Minute,
    /// An hour of the clock.
    Hour,
    /// From midnight, UTC.
    Day,
    /// From Monday, UTC.
    Week,
    /// From the first of the month, UTC.
    Month,
}

/// What a token of each kind counts.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Weights {
    /// A token that was sent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1000.0)))]
    #[serde(deserialize_with = "fractions::one")]
    pub(in crate::config) prompt: f64,
    /// A token that was sent and found in the backend's cache. Absent: as `prompt` in a limit, 0 in a capacity.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1000.0)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(in crate::config) cached: Option<f64>,
    /// A token that was produced.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1000.0)))]
    #[serde(deserialize_with = "fractions::one")]
    pub(in crate::config) completion: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { prompt: 1.0, cached: None, completion: 1.0 }
    }
}
