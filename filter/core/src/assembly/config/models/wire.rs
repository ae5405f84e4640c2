//! A model and where it is served, as the operator writes it.

use crate::config::fractions;
use crate::config::limits::wire::Weights;
use crate::config::prices::wire::Prices;
use crate::config::spill::wire::Spill;
use serde::Deserialize;

/// What clients call, and where it is served.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Model {
    /// What clients call it; its word in metrics and logs.
    pub(in crate::config) name: String,
    /// What they may call it as well.
    #[serde(default)]
    pub(in crate::config) aliases: Vec<String>,
    /// Which field the model reads its cap from.
    #[serde(default)]
    pub(in crate::config) family: Family,
    /// The prices of its tokens, where its backends have none of their own. Absent: no cost is reckoned.
    pub(in crate::config) prices: Option<Prices>,
    /// Where it is served.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) backends: Vec<Place>,
    /// What keeps to the same backend among those with weights. Absent: each request draws anew.
    pub(in crate::config) sticky_by: Option<StickyBy>,
    /// What orders backends of the same priority; if absent, weights or their places here do.
    pub(in crate::config) order_by: Option<OrderBy>,
    /// What goes to backends of a lower priority. Absent: what the others have no room for, all of it.
    pub(in crate::config) spill: Option<Spill>,
    /// What requests for a tier of service are asked again as, where every backend that was asked for the tier has failed and one
    /// has refused it. Absent: nothing.
    pub(in crate::config) tiers: Option<Tiers>,
    /// Whether backends may serve different versions.
    #[serde(default)]
    pub(in crate::config) rollout: bool,
    /// After so many milliseconds in which its answer has not begun, a stream is asked for elsewhere. Absent: no bound.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) stream_start_ms_max: Option<u32>,
    /// After so many milliseconds in which it has not begun, an answer that is no stream is asked for elsewhere, though the
    /// backend that is left may produce it and bill it. Absent: no bound.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) answer_start_ms_max: Option<u32>,
}

/// What requests for a tier of service are asked again as.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tiers {
    /// Those with `service_tier: flex`. Absent: they are refused.
    pub(in crate::config) flex: Option<Again>,
    /// Those with `service_tier: priority`. Absent: they are refused.
    pub(in crate::config) priority: Option<Again>,
}

/// What they are asked again as.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Again {
    /// With `service_tier: default`.
    Default,
}

/// What keeps to the same backend.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum StickyBy {
    /// A client.
    Client,
}

/// What orders backends of the same priority.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OrderBy {
    /// How soon each has spoken of late, by its streams; whole answers follow.
    TimeToFirstToken,
    /// The same for streams, and for whole answers the time that each took for a token of late.
    Latency,
}

/// What kind of model it is.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
pub(in crate::config) enum Family {
    /// `max_tokens` bounds what it produces.
    #[default]
    #[serde(rename = "gpt-4")]
    Gpt4,
    /// It reasons: `max_completion_tokens` bounds what it produces.
    #[serde(rename = "gpt-5")]
    Gpt5,
    /// As `gpt-5`.
    #[serde(rename = "o-series")]
    OSeries,
}

/// A model at a backend.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Place {
    /// The name of one of `backends`; it may stand here more than once, each time with another `deployment`.
    pub(in crate::config) backend: String,
    /// What the model is called there. Absent: its own name.
    pub(in crate::config) deployment: Option<String>,
    /// Lower is tried first; equals by their weights, or in the order they stand in.
    #[serde(default)]
    pub(in crate::config) priority: u32,
    /// Its part of the requests among those of the same priority. Absent, at all of them: they are asked in the order
    /// they stand in.
    pub(in crate::config) weight: Option<u32>,
    /// The most of the model's requests that go there, as a share of them, whatever the others do. Absent: all.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(in crate::config) share_max: Option<f64>,
    /// Which version of the model is served there: the same at all, unless the model has `rollout`.
    pub(in crate::config) version: Option<String>,
    /// The prices of tokens there. Absent: the model's.
    pub(in crate::config) prices: Option<Prices>,
    /// The prices of what another deployment of the backend's own has served, by Azure's header
    /// `x-ms-spillover-from-deployment`. Absent: the same.
    pub(in crate::config) spillover_prices: Option<Prices>,
    /// How much this deployment takes, in tokens a minute. Absent: the backend's holds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) tokens_per_minute: Option<u32>,
    /// How many requests this deployment takes in a minute. Absent: the backend's holds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) requests_per_minute: Option<u32>,
    /// What a token of each kind takes of the capacity in tokens that holds here, the deployment's or the backend's. Absent: each
    /// takes 1, but nothing if the cache had it.
    pub(in crate::config) weights: Option<Weights>,
}
