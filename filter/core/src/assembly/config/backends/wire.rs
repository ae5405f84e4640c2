//! A backend, as the operator writes it.

use serde::Deserialize;

/// A cluster of Envoy, and what it speaks.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Backend {
    /// Its word in metrics, logs and the rest of the configuration.
    pub(in crate::config) name: String,
    /// Envoy's name for it: no two have the same.
    pub(in crate::config) cluster: String,
    /// Which API it speaks.
    pub(in crate::config) style: Style,
    /// The version of the API, with style `azure` only, and always there: `YYYY-MM-DD` or `YYYY-MM-DD-preview`.
    pub(in crate::config) api_version: Option<String>,
    /// What its paths begin with. Absent: `/openai` with style `azure`, `/openai/v1` with `azure-v1`, `/v1` with `openai` and `anthropic`.
    pub(in crate::config) base_path: Option<String>,
    /// Where it is, any word: for logs, and for clients with `regions`.
    pub(in crate::config) region: Option<String>,
    /// What it is shown. Absent: that is left to Envoy.
    pub(in crate::config) credential: Option<Credential>,
    /// How much it takes, all its deployments together, in tokens a minute. Absent: tokens hold nobody back.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) tokens_per_minute: Option<u32>,
    /// Over so many seconds it counts that.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 60)))]
    pub(in crate::config) window_s: Option<u32>,
    /// What of a request it counts as tokens.
    #[serde(default)]
    pub(in crate::config) counts: Counted,
    /// How many requests it takes in a minute, all its deployments together. Absent: their number holds nobody back.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) requests_per_minute: Option<u32>,
    /// Over so many seconds it counts requests. Absent: as `window_s`.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 60)))]
    pub(in crate::config) requests_window_s: Option<u32>,
    /// Whether what was asked for and not used is given back, as with provisioned throughput.
    #[serde(default)]
    pub(in crate::config) provisioned: bool,
}

/// What of a request a backend counts as tokens when it admits it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Counted {
    /// What was sent, and the most that may be produced.
    #[default]
    PromptAndCap,
    /// The most that may be produced.
    Cap,
}

/// Which API a backend speaks.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Deserialize)]
pub(in crate::config) enum Style {
    /// Azure OpenAI, with a dated version in each URL.
    #[serde(rename = "azure")]
    Azure,
    /// Azure OpenAI at `/openai/v1/`.
    #[serde(rename = "azure-v1")]
    AzureV1,
    /// OpenAI, and whatever speaks like it.
    #[serde(rename = "openai")]
    OpenAi,
    /// Anthropic's Messages, of Anthropic itself, Azure's Foundry (`base_path: /anthropic/v1`) and whatever speaks like it.
    #[serde(rename = "anthropic")]
    Anthropic,
}

/// What a backend is shown: a key, by `header` and `env`, or a token, by `azure`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Credential {
    /// `api-key` or `x-api-key`; or `authorization`, which is sent as `Bearer`.
    pub(in crate::config) header: Option<String>,
    /// The environment variable with the secret: Envoy's, named in `host_env_keys` of both filters.
    pub(in crate::config) env: Option<String>,
    /// A token that Azure issues, sent as `Bearer`.
    pub(in crate::config) azure: Option<Azure>,
}

/// A token that Azure issues, with exactly one of `managed_identity`, `workload_identity` and `client_secret`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Azure {
    /// What it lets in to: `https://cognitiveservices.azure.com/.default`, or `https://ai.azure.com/.default`; a queue's broker,
    /// `https://eventhubs.azure.net/.default`, or `https://storage.azure.com/.default`.
    pub(in crate::config) scope: String,
    /// The identity that the machine has.
    pub(in crate::config) managed_identity: Option<ManagedIdentity>,
    /// The identity of a pod in Kubernetes.
    pub(in crate::config) workload_identity: Option<WorkloadIdentity>,
    /// An application with a secret.
    pub(in crate::config) client_secret: Option<ClientSecret>,
}

/// The identity that a machine has at Azure.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ManagedIdentity {
    /// The Envoy cluster of the machine's metadata service, 169.254.169.254.
    pub(in crate::config) cluster: String,
    /// Which identity, where the machine has several. Absent: its own.
    pub(in crate::config) client_id: Option<String>,
}

/// The identity that a pod has at Azure, by the token that Kubernetes gives it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WorkloadIdentity {
    /// The Envoy cluster of Entra.
    pub(in crate::config) cluster: String,
    /// The Envoy cluster that answers `GET /` with the token of Kubernetes.
    pub(in crate::config) token_cluster: String,
    /// The tenant.
    pub(in crate::config) tenant: String,
    /// The client id of the identity.
    pub(in crate::config) client_id: String,
    /// The host of Entra. Absent: `login.microsoftonline.com`.
    pub(in crate::config) host: Option<String>,
}

/// An application of Entra.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClientSecret {
    /// The Envoy cluster of Entra.
    pub(in crate::config) cluster: String,
    /// The tenant.
    pub(in crate::config) tenant: String,
    /// The client id of the application.
    pub(in crate::config) client_id: String,
    /// The environment variable with its secret: Envoy's, named in `host_env_keys` of both filters.
    pub(in crate::config) env: String,
    /// The host of Entra. Absent: `login.microsoftonline.com`.
    pub(in crate::config) host: Option<String>,
}
