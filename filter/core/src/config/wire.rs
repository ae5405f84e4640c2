//! The configuration as the operator writes it. Shapes only: what it means is checked where it is built.

use crate::identity::claims::Json;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    /// Who may call: a caller that matches none gets 401.
    pub(super) clients: Vec<Client>,
    /// Departments: clients that share limits.
    #[serde(default)]
    pub(super) groups: Vec<Group>,
    /// Whose tokens are trusted.
    #[serde(default)]
    pub(super) issuers: Vec<Issuer>,
    /// What clients may ask for.
    #[serde(default)]
    pub(super) policies: Vec<Policy>,
    /// What clients call, and where it is served.
    pub(super) models: Vec<Model>,
    /// The Envoy clusters, and what they speak.
    pub(super) backends: Vec<Backend>,
    /// Where endpoints go that have no policy: files, batches. Absent: they are refused with 404.
    #[serde(default)]
    pub(super) other_endpoints: Vec<String>,
    /// How ids of what a backend keeps lead back there. Absent: they pass as they are.
    pub(super) pinning: Option<Pinning>,
    /// How Envoy is told where a request goes.
    #[serde(default)]
    pub(super) routing: Routing,
    #[serde(default)]
    pub(super) metrics: Metrics,
    /// What it means to be important.
    #[serde(default)]
    pub(super) priorities: Priorities,
    /// What happens to requests when the shared store does not answer.
    #[serde(default)]
    pub(super) on_store_failure: OnStoreFailure,
    /// Who may ask whether there are backends that can be asked.
    #[serde(default)]
    pub(super) health: Health,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Health {
    #[default]
    Clients,
    /// Whoever shows nothing at all, too.
    Open,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pinning {
    /// Environment variables: the first one's secret seals, all of them open.
    pub(super) secret_envs: Vec<String>,
    #[serde(default)]
    pub(super) bound_to: BoundTo,
    /// What becomes of requests with ids that have no seal.
    #[serde(default)]
    pub(super) unsealed_ids: UnsealedIds,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BoundTo {
    #[default]
    Client,
    Anyone,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum UnsealedIds {
    #[default]
    Pass,
    Refuse,
}

/// For Envoys that lack a part of what `envoy.yaml` uses.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Routing {
    /// The route reads one cluster's name. Absent: it reads the whole order.
    pub(super) pools: Option<Vec<Pool>>,
    pub(super) fitted: Fitted,
}

/// Clusters that Envoy takes for one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) cluster: String,
    pub(super) backends: Vec<String>,
}

/// By whom a request gets the path and the credential of its backend.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fitted {
    #[default]
    EachAttempt,
    Once,
}

/// How many names may be label values; those beyond share the value `other`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) clients_max: usize,
    pub(super) models_max: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { clients_max: 200, models_max: 50 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    pub(super) name: String,
    #[serde(default)]
    pub(super) api_keys: Vec<Key>,
    pub(super) jwt: Option<Jwt>,
    pub(super) certificate: Option<Certificate>,
    pub(super) trusted_header: Option<TrustedHeader>,
    /// Whoever shows nothing at all.
    #[serde(default)]
    pub(super) anonymous: bool,
    pub(super) models: Vec<String>,
    /// All that are named, if absent.
    pub(super) endpoints: Option<Vec<String>>,
    pub(super) policy: Option<String>,
    /// Another one, for these models.
    #[serde(default)]
    pub(super) policy_by_model: BTreeMap<String, String>,
    pub(super) group: Option<String>,
    #[serde(default)]
    pub(super) limits: Vec<Limit>,
    #[serde(default)]
    pub(super) priority: Priority,
    /// The only regions that may serve it, whatever is down. Absent: anywhere.
    pub(super) regions: Option<Vec<String>>,
    /// Whether it may know what is behind the gateway.
    #[serde(default)]
    pub(super) operator: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) limits: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    /// Never the key itself.
    pub(super) sha256: String,
    /// RFC 3339, in UTC.
    pub(super) not_before: Option<String>,
    pub(super) not_after: Option<String>,
}

/// Which tokens are a client's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwt {
    pub(super) issuer: String,
    /// The value of the issuer's `client_claim`; the client's own name if absent.
    pub(super) client: Option<String>,
    /// All of these have to match.
    #[serde(default)]
    pub(super) claims: BTreeMap<String, String>,
}

/// Which certificate is a client's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) uri_san: Option<String>,
    pub(super) dns_san: Option<String>,
}

/// What an earlier filter says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustedHeader {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Option<Vec<String>>,
    pub(super) leeway_s: Option<u64>,
    pub(super) client_claim: Option<String>,
    pub(super) jwks: Option<Jwks>,
    pub(super) keys: Option<Vec<Json>>,
    pub(super) secret_env: Option<String>,
    pub(super) verified_by_envoy: Option<VerifiedByEnvoy>,
}

/// Where keys are fetched.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwks {
    pub(super) cluster: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) refresh_s: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) wait_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifiedByEnvoy {
    /// The `payload_in_metadata` of the provider.
    pub(super) jwt_authn_metadata: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    /// One of these four.
    pub(super) tokens: Option<u64>,
    pub(super) requests: Option<u64>,
    /// Money, in the currency of the prices.
    pub(super) cost: Option<f64>,
    pub(super) concurrent: Option<u64>,
    /// With all but `concurrent`.
    pub(super) per: Option<Period>,
    /// All if absent.
    pub(super) models: Option<Vec<String>>,
    /// All if absent.
    pub(super) endpoints: Option<Vec<String>>,
    /// What a token of each kind counts; with `tokens` only.
    pub(super) weights: Option<Weights>,
    /// Whether it only reports what it would refuse.
    #[serde(default)]
    pub(super) shadow: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Weights {
    pub(super) prompt: f64,
    /// That of `prompt` if absent.
    pub(super) cached: Option<f64>,
    pub(super) completion: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { prompt: 1.0, cached: None, completion: 1.0 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) name: String,
    #[serde(default)]
    pub(super) mode: Mode,
    pub(super) max_tokens: Option<Bound>,
    pub(super) best_of: Option<Bound>,
    pub(super) n: Option<Bound>,
    pub(super) temperature: Option<Range>,
    pub(super) top_p: Option<Range>,
    #[serde(default)]
    pub(super) logprobs: Permission,
    pub(super) top_logprobs: Option<Cap>,
    #[serde(default)]
    pub(super) echo: Permission,
    #[serde(default)]
    pub(super) logit_bias: Quota,
    #[serde(default)]
    pub(super) seed: Permission,
    #[serde(default)]
    pub(super) tools: Quota,
    pub(super) response_format: Option<Vec<Format>>,
    #[serde(default)]
    pub(super) image_parts: Quota,
    #[serde(default)]
    pub(super) audio_parts: Quota,
    #[serde(default)]
    pub(super) file_parts: Quota,
    #[serde(default)]
    pub(super) stream: Streaming,
    #[serde(default)]
    pub(super) store: Permission,
    #[serde(default)]
    pub(super) background: Permission,
    /// Any words: vendors add to them.
    pub(super) service_tier: Option<Vec<String>>,
    pub(super) reasoning_effort: Option<Efforts>,
    #[serde(default)]
    pub(super) prompt: Prompt,
    pub(super) request_bytes_max: Option<usize>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    #[default]
    Enforce,
    /// Nothing is refused or changed.
    Audit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bound {
    pub(super) default: Option<u32>,
    pub(super) max: Option<u32>,
    #[serde(default)]
    pub(super) over: Over,
}

/// A bound on what has no default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cap {
    pub(super) max: u32,
    #[serde(default)]
    pub(super) over: Over,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    #[serde(default)]
    pub(super) over: Over,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Over {
    Clamp,
    #[default]
    Reject,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Permission {
    #[default]
    Allow,
    Forbid,
    /// Taken back, and the request served.
    Drop,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Quota {
    #[default]
    Allow,
    Forbid,
    Max(u32),
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Streaming {
    #[default]
    Allow,
    Forbid,
    /// Only streams are served.
    Require,
    /// All is served as a stream.
    Force,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    Text,
    JsonObject,
    JsonSchema,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Efforts {
    pub(super) allowed: Vec<Effort>,
    #[serde(default)]
    pub(super) over: Over,
    /// Written into requests to models of family gpt-5 and o-series.
    pub(super) default: Option<Effort>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    pub(super) bytes_max: Option<u64>,
    pub(super) messages_max: Option<u64>,
    /// By estimate.
    pub(super) tokens_max: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) name: String,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    #[serde(default)]
    pub(super) family: Family,
    pub(super) prices: Option<Prices>,
    pub(super) backends: Vec<Place>,
    /// What keeps to the same backend among those with weights.
    pub(super) sticky_by: Option<StickyBy>,
    /// What orders backends of the same priority; if absent, weights or their places here do.
    pub(super) order_by: Option<OrderBy>,
    /// What goes to backends of a lower priority. Absent: what the others have no room for, all of it.
    pub(super) spill: Option<Spill>,
    /// Whether backends may serve different versions.
    #[serde(default)]
    pub(super) rollout: bool,
    /// After so many milliseconds without the head of an answer, a stream is asked for elsewhere.
    pub(super) stream_start_ms_max: Option<u32>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StickyBy {
    Client,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OrderBy {
    TimeToFirstToken,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spill {
    /// When this share of a backend's capacity is in use, requests go to the next one, if that has room.
    pub(super) above: Option<f64>,
    /// How much may go there, all clients together.
    #[serde(default)]
    pub(super) limits: Vec<Limit>,
}

/// The price of a million tokens, in any currency.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prices {
    pub(super) prompt: f64,
    /// That of `prompt` if absent.
    pub(super) cached: Option<f64>,
    /// Nothing if absent, as for embeddings.
    #[serde(default)]
    pub(super) completion: f64,
}

#[derive(Clone, Copy, Default, Deserialize)]
pub(super) enum Family {
    #[default]
    #[serde(rename = "gpt-4")]
    Gpt4,
    #[serde(rename = "gpt-5")]
    Gpt5,
    #[serde(rename = "o-series")]
    OSeries,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) backend: String,
    /// What the model is called there; its own name if absent.
    pub(super) deployment: Option<String>,
    /// Lower is tried first; equals by their weights, or in the order they stand in.
    #[serde(default)]
    pub(super) priority: u32,
    /// Its part of the requests among those of the same priority.
    pub(super) weight: Option<u32>,
    /// Which version of the model is served there, for comparison with the others.
    pub(super) version: Option<String>,
    /// In place of the model's.
    pub(super) prices: Option<Prices>,
    /// In place of the backend's, for this deployment alone.
    pub(super) tokens_per_minute: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backend {
    pub(super) name: String,
    /// Envoy's name for it.
    pub(super) cluster: String,
    pub(super) style: Style,
    pub(super) api_version: Option<String>,
    pub(super) region: Option<String>,
    pub(super) credential: Option<Credential>,
    /// What it takes, all its deployments together. Absent: nobody is held back.
    pub(super) tokens_per_minute: Option<u32>,
    /// Over so many seconds it counts that.
    pub(super) window_s: Option<u32>,
    /// Whether what was asked for and not used is given back, as with provisioned throughput.
    #[serde(default)]
    pub(super) provisioned: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

/// What each priority means; and how many requests wait in each worker.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Priorities {
    pub(super) high: Precedence,
    pub(super) normal: Precedence,
    pub(super) low: Precedence,
    pub(super) waiting_max: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Precedence {
    /// The share of a backend's capacity that must stay free.
    pub(super) headroom_min: Option<f64>,
    /// How long a request waits for that.
    pub(super) wait_ms: Option<u32>,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) enum Style {
    #[serde(rename = "azure")]
    Azure,
    #[serde(rename = "azure-v1")]
    AzureV1,
    #[serde(rename = "openai")]
    OpenAi,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credential {
    pub(super) header: String,
    pub(super) env: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnStoreFailure {
    #[default]
    Allow,
    Deny,
}
