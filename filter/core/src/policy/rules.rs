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
    /// It is taken back: `null` or `false` is written in its place.
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

/// How much a model is told to think, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
}

impl Effort {
    const ALL: [Self; 6] = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh];

    /// As it stands in a body.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
        }
    }

    /// The effort of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.word() == word)
    }
}

/// Which efforts may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Efforts {
    /// These, at least one.
    pub allowed: Vec<Effort>,
    /// What happens to any other.
    pub over: Over,
    /// Written into a request to a reasoning model that does not say.
    pub default: Option<Effort>,
}

impl Efforts {
    /// What an effort that is not allowed is brought to: the most that is allowed below it, else the least.
    #[must_use]
    pub fn nearest(&self, asked: Effort) -> Option<Effort> {
        let below = self.allowed.iter().filter(|effort| **effort < asked).max();
        below.or_else(|| self.allowed.iter().min()).copied()
    }
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
    pub reasoning_effort: Option<Efforts>,
    /// How long the prompt may be.
    pub prompt: PromptBounds,
    /// Length of a body; held in either mode, for it bounds memory.
    pub request_bytes_max: usize,
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
            response_format: None,
            image_parts: Quota::Allow,
            audio_parts: Quota::Allow,
            file_parts: Quota::Allow,
            stream: Streaming::Allow,
            store: Permission::Allow,
            background: Permission::Allow,
            service_tier: None,
            reasoning_effort: None,
            prompt: PromptBounds::default(),
            request_bytes_max: REQUEST_BYTES_MAX,
        }
    }
}
