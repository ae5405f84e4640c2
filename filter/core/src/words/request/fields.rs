//! Which fields are governed, and under which name does a model read its cap?

use crate::endpoint::Operation;
use crate::json::{Found, Names};

macro_rules! fields {
    ($($field:ident = $name:literal),* $(,)?) => {
        /// A governed member of a body, of whatever operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Field {
            $($field),*
        }

        impl Field {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$field),*];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// As it stands in a body.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name),*
                }
            }
        }

        pub(super) static FIELDS: Names<{ Field::COUNT }> = Names::new([$($name),*]);
    };
}

fields! {
    Model = "model",
    Stream = "stream",
    StreamOptions = "stream_options",
    N = "n",
    BestOf = "best_of",
    MaxTokens = "max_tokens",
    MaxCompletionTokens = "max_completion_tokens",
    MaxOutputTokens = "max_output_tokens",
    Messages = "messages",
    Prompt = "prompt",
    Input = "input",
    Instructions = "instructions",
    Tools = "tools",
    Functions = "functions",
    WebSearchOptions = "web_search_options",
    Temperature = "temperature",
    TopP = "top_p",
    Logprobs = "logprobs",
    TopLogprobs = "top_logprobs",
    Include = "include",
    Echo = "echo",
    LogitBias = "logit_bias",
    Seed = "seed",
    ResponseFormat = "response_format",
    Text = "text",
    Store = "store",
    Background = "background",
    ServiceTier = "service_tier",
    ReasoningEffort = "reasoning_effort",
    Reasoning = "reasoning",
    Metadata = "metadata",
    ParallelToolCalls = "parallel_tool_calls",
    Prediction = "prediction",
    Verbosity = "verbosity",
    MaxToolCalls = "max_tool_calls",
    ContextManagement = "context_management",
    SafetyIdentifier = "safety_identifier",
    PromptCacheKey = "prompt_cache_key",
    PromptCacheRetention = "prompt_cache_retention",
    PromptCacheOptions = "prompt_cache_options",
    DataSources = "data_sources",
    Size = "size",
    Quality = "quality",
    StreamFormat = "stream_format",
    McpServers = "mcp_servers",
    OutputConfig = "output_config",
    Thinking = "thinking",
}

impl Field {
    /// What a name is among theirs; its place is that in [`Self::ALL`].
    #[must_use]
    pub fn find(name: &str) -> Found {
        FIELDS.find(name)
    }
}

static TYPE: Names<1> = Names::new(["type"]);
static FORMAT: Names<1> = Names::new(["format"]);
static EFFORT: Names<1> = Names::new(["effort"]);
static MODE: Names<1> = Names::new(["mode"]);
static VERBOSITY: Names<1> = Names::new(["verbosity"]);

/// A name to look for in an object, and where that object stands.
type Step = (&'static Names<1>, &'static str);

static RESPONSE_FORMAT_TYPE: [Step; 1] = [(&TYPE, "response_format")];
static TEXT_FORMAT_TYPE: [Step; 2] = [(&FORMAT, "text"), (&TYPE, "text.format")];
static REASONING_EFFORT: [Step; 1] = [(&EFFORT, "reasoning")];
static OUTPUT_CONFIG_EFFORT: [Step; 1] = [(&EFFORT, "output_config")];
static OUTPUT_CONFIG_FORMAT_TYPE: [Step; 2] = [(&FORMAT, "output_config"), (&TYPE, "output_config.format")];
static REASONING_MODE: [Step; 1] = [(&MODE, "reasoning")];
static TEXT_VERBOSITY: [Step; 1] = [(&VERBOSITY, "text")];

/// A governed string inside of a governed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// Chat's `response_format.type`.
    ResponseFormatType,
    /// Its name in Responses, `text.format.type`.
    TextFormatType,
    /// Responses' `reasoning.effort`.
    ReasoningEffort,
    /// Responses' `reasoning.mode`.
    ReasoningMode,
    /// Responses' `text.verbosity`.
    TextVerbosity,
    /// Messages' `output_config.effort`.
    OutputConfigEffort,
    /// Messages' `output_config.format.type`.
    OutputConfigFormatType,
}

impl Inner {
    /// Where it stands.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ResponseFormatType => "response_format.type",
            Self::TextFormatType => "text.format.type",
            Self::ReasoningEffort => "reasoning.effort",
            Self::ReasoningMode => "reasoning.mode",
            Self::TextVerbosity => "text.verbosity",
            Self::OutputConfigEffort => "output_config.effort",
            Self::OutputConfigFormatType => "output_config.format.type",
        }
    }

    /// Its own name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ResponseFormatType | Self::TextFormatType | Self::OutputConfigFormatType => "type",
            Self::ReasoningEffort | Self::OutputConfigEffort => "effort",
            Self::ReasoningMode => "mode",
            Self::TextVerbosity => "verbosity",
        }
    }

    /// The object that holds it, in the body.
    pub(super) const fn field(self) -> Field {
        match self {
            Self::ResponseFormatType => Field::ResponseFormat,
            Self::TextFormatType | Self::TextVerbosity => Field::Text,
            Self::ReasoningEffort | Self::ReasoningMode => Field::Reasoning,
            Self::OutputConfigEffort | Self::OutputConfigFormatType => Field::OutputConfig,
        }
    }

    /// The way to it from there.
    pub(super) fn steps(self) -> &'static [Step] {
        match self {
            Self::ResponseFormatType => &RESPONSE_FORMAT_TYPE,
            Self::TextFormatType => &TEXT_FORMAT_TYPE,
            Self::ReasoningEffort => &REASONING_EFFORT,
            Self::ReasoningMode => &REASONING_MODE,
            Self::TextVerbosity => &TEXT_VERBOSITY,
            Self::OutputConfigEffort => &OUTPUT_CONFIG_EFFORT,
            Self::OutputConfigFormatType => &OUTPUT_CONFIG_FORMAT_TYPE,
        }
    }

    /// Whether the object that holds it must have it: a format without a type is no format.
    pub(super) fn is_required(self) -> bool {
        matches!(self, Self::ResponseFormatType | Self::TextFormatType | Self::OutputConfigFormatType)
    }
}

/// The three names of the limit on what a request may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapField {
    /// Chat on older models, legacy completions, and Messages.
    MaxTokens,
    /// Chat on reasoning models; counts the hidden reasoning too.
    MaxCompletionTokens,
    /// Responses.
    MaxOutputTokens,
}

impl CapField {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MaxTokens, Self::MaxCompletionTokens, Self::MaxOutputTokens];

    /// The field.
    #[must_use]
    pub const fn field(self) -> Field {
        match self {
            Self::MaxTokens => Field::MaxTokens,
            Self::MaxCompletionTokens => Field::MaxCompletionTokens,
            Self::MaxOutputTokens => Field::MaxOutputTokens,
        }
    }

    /// As it stands in a body.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.field().name()
    }

    /// Whether an operation documents this name.
    #[must_use]
    pub fn is_read_by(self, operation: Operation) -> bool {
        match self {
            Self::MaxTokens => {
                matches!(operation, Operation::ChatCompletions | Operation::Completions | Operation::Messages)
            }
            Self::MaxCompletionTokens => operation == Operation::ChatCompletions,
            Self::MaxOutputTokens => matches!(operation, Operation::Responses | Operation::Realtime),
        }
    }
}

/// What a model is, as far as its requests are written differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// gpt-3.5, gpt-4, and most servers that speak the same API: chat reads `max_tokens`.
    Gpt4,
    /// gpt-5: chat reads `max_completion_tokens` only.
    Gpt5,
    /// o1, o3, o4-mini: the same.
    OSeries,
}

impl Family {
    /// Whether it thinks before it answers, so that it can be told how much.
    #[must_use]
    pub fn reasons(self) -> bool {
        matches!(self, Self::Gpt5 | Self::OSeries)
    }

    /// Whether it can be told how much to say. <https://platform.openai.com/docs/guides/latest-model#verbosity>
    #[must_use]
    pub fn has_verbosity(self) -> bool {
        self == Self::Gpt5
    }

    /// The name under which a default is written: one that the model reads wherever it is served.
    #[must_use]
    pub fn cap_field(self, operation: Operation) -> CapField {
        match operation {
            Operation::Responses | Operation::Realtime => CapField::MaxOutputTokens,
            Operation::ChatCompletions if self.reasons() => CapField::MaxCompletionTokens,
            _ => CapField::MaxTokens,
        }
    }
}

/// Under which names a chat model takes its cap at some backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapNames {
    /// `max_tokens` and `max_completion_tokens`.
    Either,
    /// Only `max_tokens`: the backend does not know the other.
    MaxTokens,
    /// Only `max_completion_tokens`: the model refuses the other.
    MaxCompletionTokens,
    /// Under none: the model refuses the one, the backend the other.
    Neither,
}

impl CapNames {
    /// The name that a cap must get, if it cannot keep the one that the client gave it.
    #[must_use]
    pub fn other_than(self, given: CapField, operation: Operation) -> Option<CapField> {
        match (operation, given, self) {
            (Operation::ChatCompletions, CapField::MaxTokens, Self::MaxCompletionTokens) => {
                Some(CapField::MaxCompletionTokens)
            }
            (Operation::ChatCompletions, CapField::MaxCompletionTokens, Self::MaxTokens) => {
                Some(CapField::MaxTokens)
            }
            _ => None,
        }
    }
}

/// The most a request may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// For each candidate.
    pub completion_tokens: u32,
    /// How many are generated and billed.
    pub candidates: u32,
}

impl Ceiling {
    /// All candidates together.
    #[must_use]
    pub fn tokens(self) -> u64 {
        u64::from(self.completion_tokens) * u64::from(self.candidates)
    }
}
