//! What can a policy say?

use crate::number::Decimal;

/// The longest body a client may send if its policy does not say.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It refuses and changes.
    #[default]
    Enforce,
    /// It notes what it would do, and does nothing.
    Audit,
}

/// What happens to a value out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It is brought to the bound.
    Clamp,
    /// The request is refused.
    Reject,
}

/// A bound on a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Written into a request that does not say.
    pub default: Option<u32>,
    /// The most that is allowed.
    pub max: Option<u32>,
    /// What happens above it.
    pub over: Over,
}

/// Bounds on a number with a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least that is allowed.
    pub min: Option<Decimal>,
    /// The most that is allowed.
    pub max: Option<Decimal>,
    /// What happens outside.
    pub over: Over,
}

/// Whether something may be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    #[default]
    Allow,
    /// The request is refused.
    Forbid,
    /// It is taken back: what means nothing is written in its place.
    Drop,
}

/// How many of something there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quota {
    /// As many as one likes.
    #[default]
    Allow,
    /// None.
    Forbid,
    /// So many.
    Max(u32),
}

/// How an answer may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streaming {
    /// As the client likes.
    #[default]
    Allow,
    /// A request for a stream is refused.
    Forbid,
    /// A request for anything else is refused.
    Require,
    /// As a stream, whatever the client asked for.
    Force,
}

/// How much a model is told to think, from the least, if the configuration does not say.
/// <https://platform.openai.com/docs/api-reference/responses/create#responses-create-reasoning>
pub const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// How much it is told to say.
/// <https://platform.openai.com/docs/api-reference/responses/create#responses-create-text>
pub const VERBOSITIES: [&str; 3] = ["low", "medium", "high"];

/// How large an image may be, from the least, if the configuration does not say; what the model picks by itself is the most.
/// <https://platform.openai.com/docs/api-reference/images/create#images_create-size>
pub const SIZES: [&str; 8] =
    ["256x256", "512x512", "1024x1024", "1024x1536", "1536x1024", "1024x1792", "1792x1024", "auto"];

/// How well it is drawn.
/// <https://platform.openai.com/docs/api-reference/images/create#images_create-quality>
pub const QUALITIES: [&str; 8] = ["low", "standard", "medium", "hd", "high", "xhigh", "max", "auto"];

/// Which words of an ordered list may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// All that there are, from the least. They need no escapes in JSON.
    pub order: Vec<String>,
    /// Those of them that may be asked for, at least one.
    pub allowed: Vec<String>,
    /// What happens to any other.
    pub over: Over,
    /// Written into a request that does not say, to a model that takes it.
    pub default: Option<String>,
}

impl Levels {
    /// Whether a word may be asked for.
    #[must_use]
    pub fn allows(&self, word: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == word)
    }

    /// What a word that is not allowed is brought to: the most that is allowed below it, else the least. A word that is not
    /// in the order is neither more nor less than another.
    #[must_use]
    pub fn nearest(&self, asked: &str) -> Option<&str> {
        let at = self.order.iter().position(|word| word == asked)?;
        let below = self.order.iter().take(at).rev().find(|word| self.allows(word));
        below.or_else(|| self.order.iter().find(|word| self.allows(word))).map(String::as_str)
    }
}

/// What happens to a field that nobody here knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// It goes on.
    #[default]
    Pass,
    /// The request is refused.
    Refuse,
    /// It goes on, and is written down.
    Audit,
}

/// How long a prompt may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptBounds {
    /// Bytes of its JSON.
    pub bytes_max: Option<u64>,
    /// Messages of a chat, or items of Responses' input.
    pub messages_max: Option<u64>,
    /// Tokens, by estimate.
    pub tokens_max: Option<u64>,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether it acts.
    pub mode: Mode,
    /// Completion tokens of one candidate, whichever name the field has.
    pub max_tokens: Option<Bound>,
    /// Candidates generated, all billed.
    pub best_of: Option<Bound>,
    /// Choices.
    pub n: Option<Bound>,
    /// Sampling temperature.
    pub temperature: Option<Range>,
    /// Nucleus sampling.
    pub top_p: Option<Range>,
    /// Probabilities of tokens in the answer.
    pub logprobs: Permission,
    /// How many of them for each token.
    pub top_logprobs: Option<Bound>,
    /// The prompt in the answer.
    pub echo: Permission,
    /// Tokens made more or less likely.
    pub logit_bias: Quota,
    /// The seed of sampling.
    pub seed: Permission,
    /// Tools and the older functions.
    pub tools: Quota,
    /// Kinds of tools, if not all are allowed.
    pub tool_types: Option<Vec<String>>,
    /// Where tools may be called: whole names of hosts, or `*.` before the end of one. With [`Self::mcp_connectors`], if
    /// one of the two is there.
    pub mcp_hosts: Option<Vec<String>>,
    /// Connectors and tunnels that may stand in for a host.
    pub mcp_connectors: Option<Vec<String>>,
    /// Whether a backend may look into data of its own.
    pub data_sources: Permission,
    /// Kinds of such data, if not all are allowed.
    pub data_source_types: Option<Vec<String>>,
    /// How often the backend may call its own tools.
    pub max_tool_calls: Option<Bound>,
    /// Kinds of `response_format`, if not all are allowed.
    pub response_format: Option<Vec<String>>,
    /// Images in the prompt.
    pub image_parts: Quota,
    /// Sound in the prompt.
    pub audio_parts: Quota,
    /// Files in the prompt.
    pub file_parts: Quota,
    /// How the answer may come.
    pub stream: Streaming,
    /// Whether the backend may keep it.
    pub store: Permission,
    /// Whether the backend may answer later.
    pub background: Permission,
    /// Tiers, if not all are allowed.
    pub service_tier: Option<Vec<String>>,
    /// How much the model may think.
    pub reasoning_effort: Option<Levels>,
    /// Modes of thinking, if not all are allowed.
    pub reasoning_mode: Option<Vec<String>>,
    /// How much the model may say.
    pub verbosity: Option<Levels>,
    /// Whether the backend may shorten a conversation.
    pub context_management: Permission,
    /// Whether the vendor may be told who asks.
    pub safety_identifier: Permission,
    /// Whether a prompt may be kept under a name.
    pub prompt_cache_key: Permission,
    /// How long it may be kept, if not all times are allowed.
    pub prompt_cache_retention: Option<Vec<String>>,
    /// Whether it may be said what of it is kept.
    pub prompt_cache_options: Permission,
    /// How large images may be.
    pub size: Option<Levels>,
    /// How well they may be drawn.
    pub quality: Option<Levels>,
    /// What happens to fields that no public reference has.
    pub unknown_fields: Unknown,
    /// Fields that are not among those, though no reference has them; they may name any models.
    pub allowed_fields: Vec<String>,
    /// How long the prompt may be.
    pub prompt: PromptBounds,
    /// Length of a body; held in either mode, for it bounds memory.
    pub request_bytes_max: usize,
}

impl Policy {
    /// Whether it lets a request ask for this tier of service.
    #[must_use]
    pub fn permits_tier(&self, tier: &str) -> bool {
        let permits = |tiers: &Vec<String>| tiers.iter().any(|permitted| permitted == tier);
        self.mode == Mode::Audit || self.service_tier.as_ref().is_none_or(permits)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            max_tokens: None,
            best_of: None,
            n: None,
            temperature: None,
            top_p: None,
            logprobs: Permission::Allow,
            top_logprobs: None,
            echo: Permission::Allow,
            logit_bias: Quota::Allow,
            seed: Permission::Allow,
            tools: Quota::Allow,
            tool_types: None,
            mcp_hosts: None,
            mcp_connectors: None,
            data_sources: Permission::Allow,
            data_source_types: None,
            max_tool_calls: None,
            response_format: None,
            image_parts: Quota::Allow,
            audio_parts: Quota::Allow,
            file_parts: Quota::Allow,
            stream: Streaming::Allow,
            store: Permission::Allow,
            background: Permission::Allow,
            service_tier: None,
            reasoning_effort: None,
            reasoning_mode: None,
            verbosity: None,
            context_management: Permission::Allow,
            safety_identifier: Permission::Allow,
            prompt_cache_key: Permission::Allow,
            prompt_cache_retention: None,
            prompt_cache_options: Permission::Allow,
            size: None,
            quality: None,
            unknown_fields: Unknown::Pass,
            allowed_fields: Vec::new(),
            prompt: PromptBounds::default(),
            request_bytes_max: REQUEST_BYTES_MAX,
        }
    }
}
