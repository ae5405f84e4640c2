//! What an Envoy lacks, as the operator writes it.

use serde::Deserialize;

/// For Envoys that lack a part of what `envoy.yaml` uses.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Routing {
    /// Clusters that stand for several backends. If they are given, even as an empty list, the route reads one
    /// cluster's name; absent: it reads the whole order.
    pub(in crate::config) pools: Option<Vec<Pool>>,
    /// The backends that the route's `priority_groups` begin with, in that order. A request that goes to the first of
    /// them, in this order, needs no header that tells Envoy so, and takes less of its time; absent: each request has it.
    pub(in crate::config) order: Option<Vec<String>>,
    /// By whom a request gets the path and the credential of its backend.
    pub(in crate::config) fitted: Fitted,
}

/// Clusters that Envoy takes for one.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pool {
    /// Envoy's name for the cluster: one of the pool's own.
    pub(in crate::config) cluster: String,
    /// Whose clusters it is made of, in its order.
    #[cfg_attr(feature = "schema", schemars(length(min = 2)))]
    pub(in crate::config) backends: Vec<String>,
}

/// By whom a request gets the path and the credential of its backend.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Fitted {
    /// By each attempt, among Envoy's upstream filters.
    #[default]
    EachAttempt,
    /// Once, before the first attempt: all backends that a request may go to are asked alike.
    Once,
}
