//! Where a fleet's budgets stand, as the operator writes it.

use serde::Deserialize;

/// Where the budgets of several Envoys stand.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Store {
    /// A Redis, or what speaks like one: Valkey, a managed offering.
    pub(in crate::config) redis: Redis,
    /// How many Envoys share it. Used only by `on_store_failure: share`: while the store does not answer, each Envoy serves from
    /// the limit divided by this number, or by the number of Envoys that the store told last, whichever is larger.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 1)))]
    pub(in crate::config) envoys: Option<u64>,
    /// That it keeps what was spent, a record for each day: `tollgate spend` tells it.
    pub(in crate::config) spend: Option<Spend>,
}

/// For how long what was spent is kept.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Spend {
    /// For so many days.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 3650)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 400)))]
    pub(in crate::config) days: Option<u64>,
}

/// The Redis that all Envoys of a fleet share.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Redis {
    /// The Envoy cluster that leads to the loopback listener before Redis, as in `envoy/fleet.yaml`; not Redis' own.
    pub(in crate::config) cluster: String,
    /// The path of that listener's route; it begins with `/`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "/redis")))]
    pub(in crate::config) path: Option<String>,
    /// The number of the database. Redis Cluster has only 0.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1023)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 0)))]
    pub(in crate::config) database: Option<u64>,
    /// The environment variable with the user's name: Envoy's, named in `host_env_keys` of both filters. Absent: Redis'
    /// default user.
    pub(in crate::config) user_env: Option<String>,
    /// The environment variable with the password. Absent: none is sent.
    pub(in crate::config) password_env: Option<String>,
    /// What the names of all keys begin with, so that several gateways can share a server. 1 to 64 letters, digits and
    /// `-`, `_`, `.`, `:`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "tollgate")))]
    pub(in crate::config) prefix: Option<String>,
    /// The region that it is in: what a client bound to `regions` has queued lies nowhere else. Absent: none of theirs is queued.
    pub(in crate::config) region: Option<String>,
    /// How long a call may take, in milliseconds. A request that needs the store waits no longer than that for one call.
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 5000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 250)))]
    pub(in crate::config) timeout_ms: Option<u64>,
}

/// What happens to requests when the store does not answer.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum OnStoreFailure {
    /// Each Envoy goes on with its part of every limit, and charges what was spent when the store is back. Needs a `store`.
    Share,
    /// They are served, and not limited.
    Allow,
    /// They are refused with 503.
    Deny,
}
