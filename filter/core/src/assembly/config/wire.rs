//! The configuration as the operator writes it. Shapes only: what it means is checked where it is built.

use super::fractions;
pub(super) use super::tools::{Rules as ToolRules, Tools};
use crate::identity::claims::Json;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A configuration of Tollgate.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    /// Who may call: a caller that matches none gets 401.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
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
    /// What happens to requests when the store does not answer. Absent: `share` with a `store`, else `allow`.
    pub(super) on_store_failure: Option<OnStoreFailure>,
    /// Who may ask whether there are backends that can be asked.
    #[serde(default)]
    pub(super) health: Health,
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

/// Where a key may stand.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeySource {
    /// The header `x-api-key`.
    XApiKey,
    /// `?api-key=` in the path's query, which is taken out there.
    Query,
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

/// How ids of what a backend keeps lead back there.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pinning {
    /// Environment variables: the first one's secret seals ids, all of them open. Each has at least 32 bytes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 8)))]
    pub(super) secret_envs: Vec<String>,
    /// Who may use an id.
    #[serde(default)]
    pub(super) bound_to: BoundTo,
    /// What becomes of requests with ids that have no seal. Absent: `refuse` where ids are bound to their client, for
    /// whoever knows a backend's own id would be past that; else `pass`.
    pub(super) unsealed_ids: Option<UnsealedIds>,
}

/// Who may use an id.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BoundTo {
    /// The client that was told it.
    #[default]
    Client,
    /// Whoever knows it.
    Anyone,
}

/// What becomes of requests with ids that have no seal.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum UnsealedIds {
    /// They go where any request goes.
    Pass,
    /// They get 404.
    Refuse,
}

/// For Envoys that lack a part of what `envoy.yaml` uses.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Routing {
    /// Clusters that stand for several backends. If they are given, even as an empty list, the route reads one
    /// cluster's name; absent: it reads the whole order.
    pub(super) pools: Option<Vec<Pool>>,
    /// By whom a request gets the path and the credential of its backend.
    pub(super) fitted: Fitted,
}

/// Clusters that Envoy takes for one.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    /// Envoy's name for the cluster: one of the pool's own.
    pub(super) cluster: String,
    /// Whose clusters it is made of, in its order.
    #[cfg_attr(feature = "schema", schemars(length(min = 2)))]
    pub(super) backends: Vec<String>,
}

/// By whom a request gets the path and the credential of its backend.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fitted {
    /// By each attempt, among Envoy's upstream filters.
    #[default]
    EachAttempt,
    /// Once, before the first attempt: all backends that a request may go to are asked alike.
    Once,
}

/// How many names may be label values; those beyond share the value `other`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    /// So many clients, the first of the list, have a label value of their own.
    pub(super) clients_max: usize,
    /// So many models, the first of the list, have a label value of their own.
    pub(super) models_max: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { clients_max: 200, models_max: 50 }
    }
}

/// Who may call, and what. It needs at least one of `api_keys`, `jwt`, `certificate`, `trusted_header` and
/// `anonymous`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    /// Its word in metrics, logs and the record of what it has used.
    pub(super) name: String,
    /// Its keys, by their hashes; several are good while they are exchanged.
    #[serde(default)]
    pub(super) api_keys: Vec<Key>,
    /// The tokens that are its own.
    pub(super) jwt: Option<Jwt>,
    /// The certificate that is its own.
    pub(super) certificate: Option<Certificate>,
    /// The header, set by an earlier filter, that says it is this client.
    pub(super) trusted_header: Option<TrustedHeader>,
    /// Whether whoever shows nothing at all is this client: at most one is.
    #[serde(default)]
    pub(super) anonymous: bool,
    /// Names or aliases of models; `gpt-4*` for all that begin like that; `*` for all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) models: Vec<String>,
    /// Operations by their paths, such as `chat/completions`; `*` for all that have a name; `other` for
    /// `other_endpoints`. Absent: `*`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) endpoints: Option<Vec<String>>,
    /// The name of its policy. Absent: nothing is held to anything but `request_bytes_max`.
    pub(super) policy: Option<String>,
    /// Another policy for these models: model, by name or alias, to policy.
    #[serde(default)]
    pub(super) policy_by_model: BTreeMap<String, String>,
    /// The name of the group whose limits it shares.
    pub(super) group: Option<String>,
    /// What it may spend: all of them must have room.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub(super) limits: Vec<Limit>,
    /// Who goes first where there is not room for all.
    #[serde(default)]
    pub(super) priority: Priority,
    /// The only regions that may serve it, whatever is down. Absent: anywhere.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) regions: Option<Vec<String>>,
    /// Whether it may know what is behind the gateway: backends, decisions, which configuration runs.
    #[serde(default)]
    pub(super) operator: bool,
    /// How many bytes of its request bodies each worker holds at a time, while they come or wait to be sent on; beyond that
    /// its requests get 429. At least its longest `request_bytes_max`, which is the default where it is more than 64 MiB.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1073741824)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 67108864)))]
    pub(super) held_bytes_max: Option<usize>,
}

/// Clients that share limits.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Its word in metrics and logs.
    pub(super) name: String,
    /// What its clients may spend together.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub(super) limits: Vec<Limit>,
}

/// An API key.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    /// The SHA-256 of the key in hexadecimal, never the key itself: `tollgate hash-key` prints it.
    pub(super) sha256: String,
    /// From when it is good: RFC 3339 in UTC. Absent: always.
    pub(super) not_before: Option<String>,
    /// Until just before when it is good: RFC 3339 in UTC. Absent: always.
    pub(super) not_after: Option<String>,
}

/// Which tokens are a client's.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwt {
    /// The name of one of `issuers`.
    pub(super) issuer: String,
    /// The value of the issuer's `client_claim`. Absent: the client's own name, unless there are `claims`.
    pub(super) client: Option<String>,
    /// Claims, by their paths, with the value that each must have or, as a list, hold. All of them have to match.
    #[serde(default)]
    pub(super) claims: BTreeMap<String, String>,
}

/// Which certificate is a client's: one of the two.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    /// The first URI among the names of the certificate.
    pub(super) uri_san: Option<String>,
    /// The first DNS name among the names of the certificate.
    pub(super) dns_san: Option<String>,
}

/// What an earlier filter says.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustedHeader {
    /// The header's name; clients must not be able to set it.
    pub(super) name: String,
    /// What it says for this client.
    pub(super) value: String,
}

/// Whose tokens are trusted, with exactly one of `jwks`, `keys`, `secret_env` and `verified_by_envoy`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    /// Its word in metrics and logs, and in `jwt.issuer` of clients.
    pub(super) name: String,
    /// The `iss` of its tokens, to the letter.
    pub(super) issuer: String,
    /// One of them has to be in `aud`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) audiences: Vec<String>,
    /// Those that its tokens may have: of RS256, RS384, RS512, PS256, ES256, ES384, EdDSA, or with `secret_env` of
    /// HS256, HS384, HS512. Absent: all that its keys can be for.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) algorithms: Option<Vec<String>>,
    /// How far its clock and Envoy's may differ, in seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 300)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 60)))]
    pub(super) leeway_s: Option<u64>,
    /// The path of the claim that names the client.
    pub(super) client_claim: Option<String>,
    /// Its keys are fetched from there.
    pub(super) jwks: Option<Jwks>,
    /// Its public keys, as JSON Web Keys.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 100)))]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")
    )]
    #[cfg_attr(feature = "schema", serde(serialize_with = "unwritten"))]
    pub(super) keys: Option<Vec<Json>>,
    /// The environment variable with the secret that it shares with the gateway: at least as long as the hash.
    pub(super) secret_env: Option<String>,
    /// Envoy's `jwt_authn` verifies its tokens.
    pub(super) verified_by_envoy: Option<VerifiedByEnvoy>,
}

/// Where keys are fetched.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwks {
    /// The Envoy cluster to ask.
    pub(super) cluster: String,
    /// The host to ask for.
    pub(super) host: String,
    /// The path to ask for; it begins with `/`.
    pub(super) path: String,
    /// How often they are fetched, in seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 604800)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 3600)))]
    pub(super) refresh_s: Option<u64>,
    /// How long a fetch may take, in milliseconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 30000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 5000)))]
    pub(super) timeout_ms: Option<u64>,
    /// How long a request waits for keys, in milliseconds; then it gets 503.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 30000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 3000)))]
    pub(super) wait_ms: Option<u64>,
}

/// Where Envoy leaves what it has verified.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifiedByEnvoy {
    /// The `payload_in_metadata` of the provider.
    pub(super) jwt_authn_metadata: String,
}

/// Exactly one of `tokens`, `requests`, `cost` and `concurrent`, with `per` for all but the last. Of a second or a
/// minute: a bucket that fills evenly; of an hour to a month: a quota of the calendar, in UTC.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    /// So many tokens, sent and produced.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000_000_000u64)))]
    pub(super) tokens: Option<u64>,
    /// So many requests.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000_000_000u64)))]
    pub(super) requests: Option<u64>,
    /// So much money, in the currency of the prices.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.000001, max = 1_000_000_000u64)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(super) cost: Option<f64>,
    /// So many requests at the same time.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000_000_000u64)))]
    pub(super) concurrent: Option<u64>,
    /// In what time; `concurrent` has none.
    pub(super) per: Option<Period>,
    /// The models that it counts, as in `clients[].models`. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) models: Option<Vec<String>>,
    /// The endpoints that it counts, by their paths. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) endpoints: Option<Vec<String>>,
    /// What a token of each kind counts; with `tokens` only.
    pub(super) weights: Option<Weights>,
    /// Whether it only reports what it would refuse.
    #[serde(default)]
    pub(super) shadow: bool,
}

/// In what time.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Period {
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
pub(super) struct Weights {
    /// A token that was sent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1000.0)))]
    #[serde(deserialize_with = "fractions::one")]
    pub(super) prompt: f64,
    /// A token that was sent and found in the backend's cache. Absent: as `prompt` in a limit, 0 in a capacity.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1000.0)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(super) cached: Option<f64>,
    /// A token that was produced.
    #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1000.0)))]
    #[serde(deserialize_with = "fractions::one")]
    pub(super) completion: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { prompt: 1.0, cached: None, completion: 1.0 }
    }
}

/// What a client may ask for. What is absent is not held to anything.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    /// The word in `clients[].policy` and in metrics.
    pub(super) name: String,
    /// Whether it is enforced.
    #[serde(default)]
    pub(super) mode: Mode,
    /// Holds `max_tokens`, `max_completion_tokens` and `max_output_tokens`. Its `default` is `max` if not said.
    pub(super) max_tokens: Option<Bound>,
    /// Candidates of which the best is returned; all of them are charged.
    pub(super) best_of: Option<Bound>,
    /// Candidates that are returned; all of them are charged.
    pub(super) n: Option<Bound>,
    /// How freely words are drawn.
    pub(super) temperature: Option<Range>,
    /// From which share of the likely words one is drawn.
    pub(super) top_p: Option<Range>,
    /// Whether the likelihoods of words may be asked for.
    #[serde(default)]
    pub(super) logprobs: Permission,
    /// For how many words they may be asked for.
    pub(super) top_logprobs: Option<Cap>,
    /// Whether the prompt may be asked back.
    #[serde(default)]
    pub(super) echo: Permission,
    /// Words made likelier or less likely: how many.
    #[serde(default)]
    pub(super) logit_bias: Quota,
    /// Whether repeatable answers may be asked for.
    #[serde(default)]
    pub(super) seed: Permission,
    /// Tools that the model may call: how many, of which types, and where.
    #[serde(default)]
    pub(super) tools: Tools,
    /// Whether a backend may look into data of its own (Azure On Your Data).
    #[serde(default)]
    pub(super) data_sources: DataSources,
    /// How often the backend may call its own tools for one answer. Without a `default`, who says nothing has no bound.
    pub(super) max_tool_calls: Option<Bound>,
    /// The formats of answers that may be asked for. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) response_format: Option<Vec<Format>>,
    /// Images in a request: how many.
    #[serde(default)]
    pub(super) image_parts: Quota,
    /// Pieces of audio in a request: how many.
    #[serde(default)]
    pub(super) audio_parts: Quota,
    /// Files in a request: how many.
    #[serde(default)]
    pub(super) file_parts: Quota,
    /// Whether answers are streamed.
    #[serde(default)]
    pub(super) stream: Streaming,
    /// Whether the backend may be asked to keep answers.
    #[serde(default)]
    pub(super) store: Permission,
    /// Whether answers may be produced while nobody waits.
    #[serde(default)]
    pub(super) background: Permission,
    /// The tiers that may be asked for, any words: vendors add to them. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) service_tier: Option<Vec<String>>,
    /// How much the model may be asked to think. Its `order` is `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max` if
    /// not said; its `default` is for models of family `gpt-5` and `o-series`.
    pub(super) reasoning_effort: Option<Levels>,
    /// The modes of thinking that may be asked for (`reasoning.mode`), any words. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) reasoning_mode: Option<Vec<String>>,
    /// How much the model may be asked to say. Its `order` is `low`, `medium`, `high` if not said; its `default` is for models of
    /// family `gpt-5`.
    pub(super) verbosity: Option<Levels>,
    /// Whether the backend may be asked to shorten conversations.
    #[serde(default)]
    pub(super) context_management: Permission,
    /// Whether the vendor may be told who asks.
    #[serde(default)]
    pub(super) safety_identifier: Permission,
    /// Whether prompts may be cached under a key.
    #[serde(default)]
    pub(super) prompt_cache_key: Permission,
    /// For how long prompts may be cached, any words. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) prompt_cache_retention: Option<Vec<String>>,
    /// Whether it may be said what of a prompt is cached.
    #[serde(default)]
    pub(super) prompt_cache_options: Permission,
    /// How large images may be, of `images/*` and of the tool `image_generation`. Its `order` is `256x256`, `512x512`,
    /// `1024x1024`, `1024x1536`, `1536x1024`, `1024x1792`, `1792x1024`, `auto` if not said.
    pub(super) size: Option<Levels>,
    /// How well they may be drawn. Its `order` is `low`, `standard`, `medium`, `hd`, `high`, `xhigh`, `max`, `auto` if not said.
    pub(super) quality: Option<Levels>,
    /// What happens to fields that the vendors' reference does not have.
    #[serde(default)]
    pub(super) unknown_fields: Unknown,
    /// Fields besides those of the reference that are not unknown: what a backend has of its own. They pass unread, and may
    /// name models.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    #[serde(default)]
    pub(super) allowed_fields: Vec<String>,
    /// How long a prompt may be.
    #[serde(default)]
    pub(super) prompt: Prompt,
    /// The longest request body, in bytes; longer ones get 413.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 268435456)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 4194304)))]
    pub(super) request_bytes_max: Option<usize>,
}

/// Whether a policy is enforced.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// What it does not allow is refused or changed.
    #[default]
    Enforce,
    /// Nothing is refused or changed; the record says what would be.
    Audit,
}

/// A bound on a whole number.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bound {
    /// Written into requests that say nothing.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) default: Option<u32>,
    /// The most that may be asked for. Absent: any.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) max: Option<u32>,
    /// What happens to more.
    #[serde(default)]
    pub(super) over: Over,
}

/// A bound on what has no default.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cap {
    /// The most that may be asked for.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) max: u32,
    /// What happens to more.
    #[serde(default)]
    pub(super) over: Over,
}

/// A bound on a number: at least one of `min` and `max`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    /// The least that may be asked for.
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(super) min: Option<f64>,
    /// The most that may be asked for.
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(super) max: Option<f64>,
    /// What happens to less or more.
    #[serde(default)]
    pub(super) over: Over,
}

/// What happens to requests that ask for more.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Over {
    /// They are served with what is allowed.
    Clamp,
    /// They are refused.
    #[default]
    Reject,
}

/// What happens to requests that ask for it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Permission {
    /// They are served.
    #[default]
    Allow,
    /// They are refused.
    Forbid,
    /// Taken back, and the request served.
    Drop,
}

/// How many of it a request may have.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Quota {
    /// Any number.
    #[default]
    Allow,
    /// None.
    Forbid,
    /// At most so many.
    Max(#[cfg_attr(feature = "schema", schemars(range(min = 1)))] u32),
}

/// What happens to requests with data sources.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DataSources {
    /// They are served.
    #[default]
    Allow,
    /// They are refused.
    Forbid,
    /// Taken back, and the request served.
    Drop,
    /// They are served if all are of these types, any words.
    Types(#[cfg_attr(feature = "schema", schemars(length(min = 1)))] Vec<String>),
}

/// What happens to fields that are not known.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unknown {
    /// They go on.
    #[default]
    Pass,
    /// The request is refused.
    Refuse,
    /// They go on, and the record has their names.
    Audit,
}

/// Whether answers are streamed.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Streaming {
    /// As the client asks.
    #[default]
    Allow,
    /// Streams are refused.
    Forbid,
    /// Only streams are served.
    Require,
    /// All is served as a stream.
    Force,
}

/// A format of answers.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// Plain text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON by the client's schema.
    JsonSchema,
}

/// Words with an order that may be asked for.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Levels {
    /// All words that there are, from the least: for words that vendors add.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 32)))]
    pub(super) order: Option<Vec<String>>,
    /// Words of `order` that may be asked for. Absent: all of them.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) allowed: Option<Vec<String>>,
    /// What happens to requests that ask for something else: `clamp` goes to the next lower that is allowed, else to the lowest.
    #[serde(default)]
    pub(super) over: Over,
    /// One of `allowed`, written into requests that say nothing.
    pub(super) default: Option<String>,
}

/// How long a prompt may be.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    /// In bytes of all members of the body that may be billed as prompt.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) bytes_max: Option<u64>,
    /// In messages.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) messages_max: Option<u64>,
    /// In tokens of the same, by estimate.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) tokens_max: Option<u64>,
}

/// What clients call, and where it is served.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    /// What clients call it; its word in metrics and logs.
    pub(super) name: String,
    /// What they may call it as well.
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    /// Which field the model reads its cap from.
    #[serde(default)]
    pub(super) family: Family,
    /// The prices of its tokens, where its backends have none of their own. Absent: no cost is reckoned.
    pub(super) prices: Option<Prices>,
    /// Where it is served.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) backends: Vec<Place>,
    /// What keeps to the same backend among those with weights. Absent: each request draws anew.
    pub(super) sticky_by: Option<StickyBy>,
    /// What orders backends of the same priority; if absent, weights or their places here do.
    pub(super) order_by: Option<OrderBy>,
    /// What goes to backends of a lower priority. Absent: what the others have no room for, all of it.
    pub(super) spill: Option<Spill>,
    /// Whether backends may serve different versions.
    #[serde(default)]
    pub(super) rollout: bool,
    /// After so many milliseconds in which its answer has not begun, a stream is asked for elsewhere. Absent: no bound.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) stream_start_ms_max: Option<u32>,
}

/// What keeps to the same backend.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StickyBy {
    /// A client.
    Client,
}

/// What orders backends of the same priority.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OrderBy {
    /// How soon each has spoken of late.
    TimeToFirstToken,
}

/// What goes to backends of a lower priority.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spill {
    /// When this share of a backend's capacity is in use, requests go to the next one, if that has room.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(super) above: Option<f64>,
    /// How much may go there, all clients together.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub(super) limits: Vec<Limit>,
}

/// An object with the prices of all kinds of tokens, and what else is given.
macro_rules! prices {
    ($(#[$doc:meta])* $name:ident { $($more:tt)* }) => {
        $(#[$doc])*
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
        #[derive(Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            /// Of tokens that were sent.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(deserialize_with = "fractions::one")]
            pub(super) prompt: f64,
            /// Of tokens that were sent and found in the backend's cache. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(super) cached: Option<f64>,
            /// Of tokens that were sent and written into the backend's cache. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(super) cache_write: Option<f64>,
            /// Of tokens that were sent as audio. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(super) prompt_audio: Option<f64>,
            /// Of tokens that were sent as images. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(super) prompt_image: Option<f64>,
            /// Of tokens that were produced: nothing if not said, as for embeddings.
            #[serde(default, deserialize_with = "fractions::one")]
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            pub(super) completion: f64,
            /// Of tokens that were produced as audio. Absent: as `completion`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(super) completion_audio: Option<f64>,
            /// Of tokens that were produced as images. Absent: as `completion`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(super) completion_image: Option<f64>,
            $($more)*
        }

        impl $name {
            /// All kinds, each with its own price or the one that holds in its place.
            pub(super) fn kinds(&self) -> Kinds {
                Kinds {
                    prompt: self.prompt,
                    cached: self.cached.unwrap_or(self.prompt),
                    cache_write: self.cache_write.unwrap_or(self.prompt),
                    prompt_audio: self.prompt_audio.unwrap_or(self.prompt),
                    prompt_image: self.prompt_image.unwrap_or(self.prompt),
                    completion: self.completion,
                    completion_audio: self.completion_audio.unwrap_or(self.completion),
                    completion_image: self.completion_image.unwrap_or(self.completion),
                }
            }
        }
    };
}

/// The prices of all kinds of tokens.
#[derive(Clone, Copy)]
pub(super) struct Kinds {
    pub(super) prompt: f64,
    pub(super) cached: f64,
    pub(super) cache_write: f64,
    pub(super) prompt_audio: f64,
    pub(super) prompt_image: f64,
    pub(super) completion: f64,
    pub(super) completion_audio: f64,
    pub(super) completion_image: f64,
}

prices! {
    /// The price of a million tokens, in any currency.
    Prices {
        /// The prices of all tokens of a request whose prompt is long. Absent: the same.
        pub(super) above: Option<Above>,
        /// The prices in tiers of service other than the default one, by the word that the answer's `service_tier` has:
        /// `flex`, `priority`; batches are `batch`. Absent: the same.
        #[serde(default)]
        pub(super) tiers: BTreeMap<String, TierPrices>,
    }
}

prices! {
    /// The prices in one tier of service.
    TierPrices {
        /// The prices of all tokens of a request whose prompt is long. Absent: the same.
        pub(super) above: Option<Above>,
    }
}

prices! {
    /// The prices of all tokens of a request whose prompt is long.
    Above {
        /// They hold where the prompt has more tokens than this.
        #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
        pub(super) prompt_tokens: u64,
    }
}

/// What kind of model it is.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) enum Family {
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
pub(super) struct Place {
    /// The name of one of `backends`.
    pub(super) backend: String,
    /// What the model is called there. Absent: its own name.
    pub(super) deployment: Option<String>,
    /// Lower is tried first; equals by their weights, or in the order they stand in.
    #[serde(default)]
    pub(super) priority: u32,
    /// Its part of the requests among those of the same priority. Absent, at all of them: they are asked in the order
    /// they stand in.
    pub(super) weight: Option<u32>,
    /// Which version of the model is served there: the same at all, unless the model has `rollout`.
    pub(super) version: Option<String>,
    /// The prices of tokens there. Absent: the model's.
    pub(super) prices: Option<Prices>,
    /// The prices of what another deployment of the backend's own has served, by Azure's header
    /// `x-ms-spillover-from-deployment`. Absent: the same.
    pub(super) spillover_prices: Option<Prices>,
    /// How much this deployment takes, in tokens a minute. Absent: the backend's holds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) tokens_per_minute: Option<u32>,
    /// What a token of each kind takes of the capacity that holds here, the deployment's or the backend's. Absent: each
    /// takes 1, but nothing if the cache had it.
    pub(super) weights: Option<Weights>,
}

/// A cluster of Envoy, and what it speaks.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backend {
    /// Its word in metrics, logs and the rest of the configuration.
    pub(super) name: String,
    /// Envoy's name for it: no two have the same.
    pub(super) cluster: String,
    /// Which API it speaks.
    pub(super) style: Style,
    /// The version of the API, with style `azure` only, and always there: `YYYY-MM-DD` or `YYYY-MM-DD-preview`.
    pub(super) api_version: Option<String>,
    /// Where it is, any word: for logs, and for clients with `regions`.
    pub(super) region: Option<String>,
    /// What it is shown. Absent: that is left to Envoy.
    pub(super) credential: Option<Credential>,
    /// How much it takes, all its deployments together, in tokens a minute. Absent: nobody is held back.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) tokens_per_minute: Option<u32>,
    /// Over so many seconds it counts that.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 60)))]
    pub(super) window_s: Option<u32>,
    /// Whether what was asked for and not used is given back, as with provisioned throughput.
    #[serde(default)]
    pub(super) provisioned: bool,
}

/// Who goes first where there is not room for all.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Priority {
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
pub(super) struct Priorities {
    /// For clients of priority `high`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = { "headroom_min": 0.0, "wait_ms": 5000 })))]
    pub(super) high: Precedence,
    /// For clients of priority `normal`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = { "headroom_min": 0.05, "wait_ms": 5000 })))]
    pub(super) normal: Precedence,
    /// For clients of priority `low`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = { "headroom_min": 0.2, "wait_ms": 15000 })))]
    pub(super) low: Precedence,
    /// So many requests wait in each worker; each holds its body.
    #[cfg_attr(feature = "schema", schemars(range(max = 100_000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 1000)))]
    pub(super) waiting_max: Option<u32>,
}

/// What a priority means.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Precedence {
    /// The share of a backend's capacity that must stay free. Absent: the priority's own default.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0, "exclusiveMaximum" = 1)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(super) headroom_min: Option<f64>,
    /// How long a request waits for that, in milliseconds. Absent: the priority's own default.
    #[cfg_attr(feature = "schema", schemars(range(max = 60_000)))]
    pub(super) wait_ms: Option<u32>,
}

/// Which API a backend speaks.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
pub(super) enum Style {
    /// Azure OpenAI, with a dated version in each URL.
    #[serde(rename = "azure")]
    Azure,
    /// Azure OpenAI at `/openai/v1/`.
    #[serde(rename = "azure-v1")]
    AzureV1,
    /// OpenAI, and whatever speaks like it.
    #[serde(rename = "openai")]
    OpenAi,
}

/// What a backend is shown.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credential {
    /// `api-key`, or `authorization`, which is sent as `Bearer`.
    pub(super) header: String,
    /// The environment variable with the secret: Envoy's, named in `host_env_keys` of both filters.
    pub(super) env: String,
}

/// Where the budgets of several Envoys stand.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    /// A Redis, or what speaks like one: Valkey, a managed offering.
    pub(super) redis: Redis,
}

/// The Redis that all Envoys of a fleet share.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    /// The Envoy cluster that leads to the loopback listener before Redis, as in `envoy/fleet.yaml`; not Redis' own.
    pub(super) cluster: String,
    /// The path of that listener's route; it begins with `/`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "/redis")))]
    pub(super) path: Option<String>,
    /// The number of the database. Redis Cluster has only 0.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1023)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 0)))]
    pub(super) database: Option<u64>,
    /// The environment variable with the user's name: Envoy's, named in `host_env_keys` of both filters. Absent: Redis'
    /// default user.
    pub(super) user_env: Option<String>,
    /// The environment variable with the password. Absent: none is sent.
    pub(super) password_env: Option<String>,
    /// What the names of all keys begin with, so that several gateways can share a server. 1 to 64 letters, digits and
    /// `-`, `_`, `.`, `:`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "tollgate")))]
    pub(super) prefix: Option<String>,
    /// How long a call may take, in milliseconds. A request that needs the store waits no longer than that for one call.
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 5000)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 250)))]
    pub(super) timeout_ms: Option<u64>,
}

/// What happens to requests when the store does not answer.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnStoreFailure {
    /// Each Envoy goes on with its part of every limit, and charges what was spent when the store is back. Needs a `store`.
    Share,
    /// They are served, and not limited.
    Allow,
    /// They are refused with 503.
    Deny,
}

/// Keys stand in no default, so they are never written.
#[cfg(feature = "schema")]
fn unwritten<S: serde::Serializer>(_: &Option<Vec<Json>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}
