//! The queue, as the operator writes it.

use crate::config::backends::wire::Azure;
use crate::config::fractions;
use crate::config::priorities::wire::Priority;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Where requests lie that may be answered later, until a worker has them answered. It stands in the `store`, or at a `broker`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Queue {
    /// The environment variable with the key that bodies are sealed with: 32 bytes as base64, the same for all Envoys and workers.
    /// Absent: they lie open there.
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
    /// A message broker that requests are published to, in place of the store. What waits there nobody counts and no answer comes
    /// back, so it does not go with `background: queue`, `jobs_max`, `bytes_max` or `keep_s`.
    pub(in crate::config) broker: Option<Broker>,
}

/// A message broker that takes messages by HTTP, and what it is sent. In `path`, `headers` and `body`, `%word%` stands for what is
/// told of a request, `%word:json%` for the same as a JSON string, `%word:base64%` as base64, and `%%` for a percent sign. The
/// words: `id` of its job, `client`, `priority`, `model`; not in `path`: `method`, `date` (now); only in `body`: `path`, `headers`
/// (a JSON object), `body`, and `request`, a JSON object with all of these but `date`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Broker {
    /// The Envoy cluster that leads to it.
    pub(in crate::config) cluster: String,
    /// The `Host` that it is asked by. Absent: the cluster's name.
    pub(in crate::config) authority: Option<String>,
    /// The method.
    #[serde(default)]
    pub(in crate::config) method: Method,
    /// The path, with what of its query is no secret: it begins with `/`.
    pub(in crate::config) path: String,
    /// The environment variable with the rest of the query, such as a shared access signature.
    pub(in crate::config) query_env: Option<String>,
    /// Headers that it is sent.
    #[serde(default)]
    pub(in crate::config) headers: BTreeMap<String, String>,
    /// Headers that are secrets: of each, the environment variable with its value.
    #[serde(default)]
    pub(in crate::config) headers_env: BTreeMap<String, String>,
    /// What it is shown.
    pub(in crate::config) credential: Option<BrokerCredential>,
    /// The message: `%request%` or `%body%` stand in it. With `key_env`, what the client asks is sealed in both.
    #[serde(default = "request")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "%request%")))]
    pub(in crate::config) body: String,
    /// The longest message, in bytes. A request that makes a longer one is not queued, as if its client had not asked for it.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 67_108_864)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 65_536)))]
    pub(in crate::config) bytes_max: Option<u64>,
    /// The statuses by which it says that it has taken a message. After any other one the client gets 503.
    #[serde(default = "created")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 8), inner(range(min = 200, max = 299))))]
    pub(in crate::config) taken: Vec<u16>,
    /// The region that it is in: what a client bound to `regions` has queued lies nowhere else. Absent: none of theirs is queued.
    pub(in crate::config) region: Option<String>,
    /// How long it may take until it has taken a message, in milliseconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 60_000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 5000)))]
    pub(in crate::config) timeout_ms: Option<u64>,
}

fn request() -> String {
    "%request%".to_owned()
}

fn created() -> Vec<u16> {
    vec![201]
}

/// How a broker is spoken to.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
pub(in crate::config) enum Method {
    /// As most of them are.
    #[default]
    #[serde(rename = "POST")]
    Post,
    /// As those are that have a name for each message.
    #[serde(rename = "PUT")]
    Put,
}

/// What a broker is shown beside its headers: a token.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BrokerCredential {
    /// A token that Azure issues, sent as `Bearer`.
    pub(in crate::config) azure: Azure,
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
