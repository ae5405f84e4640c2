//! What clients may ask for, as the operator writes it.

use super::tools::Tools;
use crate::config::fractions;
use serde::Deserialize;

/// What a client may ask for. What is absent is not held to anything.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Policy {
    /// The word in `clients[].policy` and in metrics.
    pub(in crate::config) name: String,
    /// Whether it is enforced.
    #[serde(default)]
    pub(in crate::config) mode: Mode,
    /// Holds `max_tokens`, `max_completion_tokens` and `max_output_tokens`. Its `default` is `max` if not said.
    pub(in crate::config) max_tokens: Option<Bound>,
    /// Candidates of which the best is returned; all of them are charged.
    pub(in crate::config) best_of: Option<Bound>,
    /// Candidates that are returned; all of them are charged.
    pub(in crate::config) n: Option<Bound>,
    /// How freely words are drawn.
    pub(in crate::config) temperature: Option<Range>,
    /// From which share of the likely words one is drawn.
    pub(in crate::config) top_p: Option<Range>,
    /// Whether the likelihoods of words may be asked for.
    #[serde(default)]
    pub(in crate::config) logprobs: Permission,
    /// For how many words they may be asked for.
    pub(in crate::config) top_logprobs: Option<Cap>,
    /// Whether the prompt may be asked back.
    #[serde(default)]
    pub(in crate::config) echo: Permission,
    /// Words made likelier or less likely: how many.
    #[serde(default)]
    pub(in crate::config) logit_bias: Quota,
    /// Whether repeatable answers may be asked for.
    #[serde(default)]
    pub(in crate::config) seed: Permission,
    /// Tools that the model may call: how many, of which types, and where.
    #[serde(default)]
    pub(in crate::config) tools: Tools,
    /// Whether a backend may look into data of its own (Azure On Your Data).
    #[serde(default)]
    pub(in crate::config) data_sources: DataSources,
    /// How often the backend may call its own tools for one answer. Without a `default`, who says nothing has no bound.
    pub(in crate::config) max_tool_calls: Option<Bound>,
    /// The formats of answers that may be asked for. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) response_format: Option<Vec<Format>>,
    /// Images in a request: how many.
    #[serde(default)]
    pub(in crate::config) image_parts: Quota,
    /// Pieces of audio in a request: how many.
    #[serde(default)]
    pub(in crate::config) audio_parts: Quota,
    /// Files in a request: how many.
    #[serde(default)]
    pub(in crate::config) file_parts: Quota,
    /// Whether answers are streamed.
    #[serde(default)]
    pub(in crate::config) stream: Streaming,
    /// Whether the backend may be asked to keep answers.
    #[serde(default)]
    pub(in crate::config) store: Permission,
    /// Whether answers may be produced while nobody waits.
    #[serde(default)]
    pub(in crate::config) background: Permission,
    /// The tiers that may be asked for, any words: vendors add to them. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) service_tier: Option<Vec<String>>,
    /// How much the model may be asked to think. Its `order` is `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max` if
    /// not said; its `default` is for models of family `gpt-5` and `o-series`.
    pub(in crate::config) reasoning_effort: Option<Levels>,
    /// The modes of thinking that may be asked for (`reasoning.mode`), any words. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) reasoning_mode: Option<Vec<String>>,
    /// How much the model may be asked to say. Its `order` is `low`, `medium`, `high` if not said; its `default` is for models of
    /// family `gpt-5`.
    pub(in crate::config) verbosity: Option<Levels>,
    /// Whether the backend may be asked to shorten conversations.
    #[serde(default)]
    pub(in crate::config) context_management: Permission,
    /// Whether the vendor may be told who asks.
    #[serde(default)]
    pub(in crate::config) safety_identifier: Permission,
    /// Whether prompts may be cached under a key.
    #[serde(default)]
    pub(in crate::config) prompt_cache_key: Permission,
    /// For how long prompts may be cached, any words. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) prompt_cache_retention: Option<Vec<String>>,
    /// Whether it may be said what of a prompt is cached.
    #[serde(default)]
    pub(in crate::config) prompt_cache_options: Permission,
    /// How large images may be, of `images/*` and of the tool `image_generation`. Its `order` is `256x256`, `512x512`,
    /// `1024x1024`, `1024x1536`, `1536x1024`, `1024x1792`, `1792x1024`, `auto` if not said.
    pub(in crate::config) size: Option<Levels>,
    /// How well they may be drawn. Its `order` is `low`, `standard`, `medium`, `hd`, `high`, `xhigh`, `max`, `auto` if not said.
    pub(in crate::config) quality: Option<Levels>,
    /// What happens to fields that the vendors' reference does not have.
    #[serde(default)]
    pub(in crate::config) unknown_fields: Unknown,
    /// Fields besides those of the reference that are not unknown: what a backend has of its own. They pass unread, and may
    /// name models.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    #[serde(default)]
    pub(in crate::config) allowed_fields: Vec<String>,
    /// How long a prompt may be.
    #[serde(default)]
    pub(in crate::config) prompt: Prompt,
    /// The longest request body, in bytes; longer ones get 413.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 268435456)))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = 4194304)))]
    pub(in crate::config) request_bytes_max: Option<usize>,
}

/// Whether a policy is enforced.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Mode {
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
pub(in crate::config) struct Bound {
    /// Written into requests that say nothing.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) default: Option<u32>,
    /// The most that may be asked for. Absent: any.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) max: Option<u32>,
    /// What happens to more.
    #[serde(default)]
    pub(in crate::config) over: Over,
}

/// A bound on what has no default.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cap {
    /// The most that may be asked for.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) max: u32,
    /// What happens to more.
    #[serde(default)]
    pub(in crate::config) over: Over,
}

/// A bound on a number: at least one of `min` and `max`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Range {
    /// The least that may be asked for.
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(in crate::config) min: Option<f64>,
    /// The most that may be asked for.
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(in crate::config) max: Option<f64>,
    /// What happens to less or more.
    #[serde(default)]
    pub(in crate::config) over: Over,
}

/// What happens to requests that ask for more.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Over {
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
pub(in crate::config) enum Permission {
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
pub(in crate::config) enum Quota {
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
pub(in crate::config) enum DataSources {
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
pub(in crate::config) enum Unknown {
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
pub(in crate::config) enum Streaming {
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
pub(in crate::config) enum Format {
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
pub(in crate::config) struct Levels {
    /// All words that there are, from the least: for words that vendors add.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 32)))]
    pub(in crate::config) order: Option<Vec<String>>,
    /// Words of `order` that may be asked for. Absent: all of them.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) allowed: Option<Vec<String>>,
    /// What happens to requests that ask for something else: `clamp` goes to the next lower that is allowed, else to the lowest.
    #[serde(default)]
    pub(in crate::config) over: Over,
    /// One of `allowed`, written into requests that say nothing.
    pub(in crate::config) default: Option<String>,
}

/// How long a prompt may be.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Prompt {
    /// In bytes of all members of the body that may be billed as prompt.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) bytes_max: Option<u64>,
    /// In messages.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) messages_max: Option<u64>,
    /// In tokens of the same, by estimate.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) tokens_max: Option<u64>,
}
