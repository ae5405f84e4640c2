//! The configuration as the operator writes it: what stands at its top. Each topic has its own part beside what is built of it.
//! Shapes only: what they mean is checked where it is built.

use super::backends::wire::Backend;
use super::clients::wire::Client;
use super::directory::wire::Directory;
use super::issuers::wire::Issuer;
use super::limits::wire::Group;
use super::metrics::Metrics;
use super::models::wire::Model;
use super::pinning::wire::Pinning;
use super::policies::wire::Policy;
use super::priorities::wire::Priorities;
use super::queue::wire::Queue;
use super::routing::wire::Routing;
use super::store::wire::{OnStoreFailure, Store};
use super::ways_in::wire::KeySource;
use super::websocket::wire::WebSocket;
use serde::Deserialize;

/// A configuration of Tollgate.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    /// Who may call: a caller that matches none gets 401. Empty only with a `directory`, from which they come.
    pub(super) clients: Vec<Client>,
    /// Departments: clients that share limits.
    #[serde(default)]
    pub(super) groups: Vec<Group>,
    /// Whose tokens are trusted.
    #[serde(default)]
    pub(super) issuers: Vec<Issuer>,
    /// Where clients may send their keys besides `Authorization: Bearer` and `api-key`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 2)))]
    pub(super) key_sources: Vec<KeySource>,
    /// What clients may ask for.
    #[serde(default)]
    pub(super) policies: Vec<Policy>,
    /// What clients call, and where it is served.
    pub(super) models: Vec<Model>,
    /// The Envoy clusters, and what they speak.
    pub(super) backends: Vec<Backend>,
    /// Backends, in their order, for endpoints that have no policy: files, batches. Absent: they are refused with
    /// 404.
    #[serde(default)]
    pub(super) other_endpoints: Vec<String>,
    /// First segments of paths that go to `other_endpoints` too, with all that is below them: what a backend has besides
    /// OpenAI's files, batches and the like.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub(super) other_paths: Vec<String>,
    /// How ids of what a backend keeps lead back there. Absent: ids pass as they are.
    pub(super) pinning: Option<Pinning>,
    /// How Envoy is told where a request goes.
    #[serde(default)]
    pub(super) routing: Routing,
    /// How many names may be label values of metrics.
    #[serde(default)]
    pub(super) metrics: Metrics,
    /// What it means to be important.
    #[serde(default)]
    pub(super) priorities: Priorities,
    /// Where the budgets of several Envoys stand. Absent: each Envoy has budgets of its own, in its memory.
    pub(super) store: Option<Store>,
    /// Which requests are answered later, by a worker, where that is better than to be refused now. Absent: none.
    pub(super) queue: Option<Queue>,
    /// Where keys of clients stand that are issued while the gateway runs. Absent: the keys of this configuration are all there
    /// are.
    pub(super) directory: Option<Directory>,
    /// What happens to requests when the store does not answer. Absent: `share` with a `store`, else `allow`.
    pub(super) on_store_failure: Option<OnStoreFailure>,
    /// Who may ask whether there are backends that can be asked.
    #[serde(default)]
    pub(super) health: Health,
    /// How the record of an exchange is left for the access log.
    #[serde(default)]
    pub(super) record: Record,
    /// How the record names the users whom limits with `by` tell apart. A key is named by its hash in any case.
    #[serde(default)]
    pub(super) record_users: RecordUsers,
    /// Which APIs are served by WebSocket. Absent: none, and whoever asks for one gets 426, at which clients go on by HTTP.
    pub(super) websocket: Option<WebSocket>,
    /// Headers of requests that go to backends beside those that do anyway: names, or beginnings of names and `*`.
    /// They stand here and not with a backend, for all attempts of a request share one set of headers.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub(super) pass_headers: Vec<String>,
    /// Headers of backends' answers that go to clients beside those that do anyway: names, or beginnings of names and
    /// `*`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub(super) pass_answer_headers: Vec<String>,
}

/// Who may ask `/tollgate/health`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Health {
    /// Whoever is a client.
    #[default]
    Clients,
    /// Whoever shows nothing at all, too.
    Open,
}

/// How the record names users.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RecordUsers {
    /// By half of a SHA-256, as digits.
    #[default]
    Hash,
    /// As they are said, cut to 128 bytes.
    Value,
}

/// How the record of an exchange is left for the access log.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// Each of its fields is filter state of its own, `wasm.tollgate.client` and so on: for logs and filters that read some.
    #[default]
    Fields,
    /// All of it is one text, `wasm.tollgate.record`: the end of a JSON object, as the log of `envoy.yaml` has it. It costs
    /// a request less.
    Line,
    /// The same text, with numbers as numbers, `estimated` as true or false, and `details` as an object.
    TypedLine,
}
