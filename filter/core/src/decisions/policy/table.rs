//! Which rules are there, and at which operations does each one hold?
//!
//! A rule holds where its field means what the rule means: `background` is a mode of Responses and a colour of images. At
//! the operations that write text it holds at all of them, whichever documents the field, for a server that has one of
//! them may read the fields of another. A new rule is a row here; not decided here: what it does.

use crate::endpoint::Operation;
use crate::endpoint::Operation::{
    ChatCompletions, Compact, Completions, CountTokens, Embeddings, ImageEdits, ImageGenerations,
    InputTokens, Messages, Realtime, Responses, Speech, Transcriptions, Translations,
};

/// They write text, and read each other's fields.
const TEXT: &[Operation] = &[ChatCompletions, Completions, Responses, Messages];

/// They are told how much they may say.
const CAPPED: &[Operation] = &[ChatCompletions, Completions, Responses, Messages, Realtime];

/// They take what a model may call, its tier and effort and what is cached, though three of them do not let it speak.
/// <https://platform.openai.com/docs/api-reference/responses/compact>
/// <https://platform.openai.com/docs/api-reference/responses/input-tokens>
/// <https://platform.claude.com/docs/en/api/messages-count-tokens>
const SERVED: &[Operation] =
    &[ChatCompletions, Completions, Responses, Compact, InputTokens, Messages, CountTokens];

/// They take what a model may call.
const CALLING: &[Operation] =
    &[ChatCompletions, Completions, Responses, Compact, InputTokens, Messages, CountTokens, Realtime];

/// Their prompt is messages or items.
const MESSAGES: &[Operation] = &[ChatCompletions, Responses, Compact, InputTokens, Messages, CountTokens];

/// Their prompt may have parts that are no text; of embeddings, at servers whose models see.
const PARTS: &[Operation] =
    &[ChatCompletions, Completions, Responses, Compact, InputTokens, Embeddings, Messages, CountTokens];

/// They are given a text.
const PROMPTED: &[Operation] = &[
    ChatCompletions,
    Completions,
    Responses,
    Compact,
    InputTokens,
    Embeddings,
    ImageGenerations,
    ImageEdits,
    Transcriptions,
    Translations,
    Speech,
    Messages,
    CountTokens,
];

/// They make more than one of what is asked for, if so asked.
/// <https://platform.openai.com/docs/api-reference/images/create#images_create-n>
const CHOICES: &[Operation] =
    &[ChatCompletions, Completions, Responses, ImageGenerations, ImageEdits, Messages];

/// They draw words.
/// <https://platform.openai.com/docs/api-reference/audio/createTranscription#audio_createtranscription-temperature>
const DRAWN: &[Operation] =
    &[ChatCompletions, Completions, Responses, Transcriptions, Translations, Messages, Realtime];

/// They tell how likely words were.
/// <https://platform.openai.com/docs/api-reference/audio/createTranscription#audio_createtranscription-include>
const LIKELY: &[Operation] = &[ChatCompletions, Completions, Responses, Transcriptions, Messages];

/// Their `stream` says that the answer comes as events, of speech their `stream_format`.
/// <https://platform.openai.com/docs/api-reference/images/create#images_create-stream>
/// <https://platform.openai.com/docs/api-reference/audio/createTranscription#audio_createtranscription-stream>
/// <https://platform.openai.com/docs/api-reference/audio/createSpeech#audio_createspeech-stream_format>
const STREAMED: &[Operation] = &[
    ChatCompletions,
    Completions,
    Responses,
    ImageGenerations,
    ImageEdits,
    Transcriptions,
    Speech,
    Messages,
];

/// They draw, or let a tool draw (`image_generation`).
/// <https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools>
const DRAWING: &[Operation] = &[
    ImageGenerations,
    ImageEdits,
    ChatCompletions,
    Completions,
    Responses,
    Compact,
    InputTokens,
    Messages,
    CountTokens,
];

/// The vendor is told who asks.
/// <https://platform.openai.com/docs/api-reference/images/create>
const TOLD_WHO: &[Operation] = CHOICES;

/// All whose fields are known.
const READ: &[Operation] = &[
    ChatCompletions,
    Completions,
    Responses,
    Compact,
    InputTokens,
    Embeddings,
    ImageGenerations,
    ImageEdits,
    Transcriptions,
    Translations,
    Speech,
    Messages,
    CountTokens,
    Realtime,
];

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal at $operations:ident),* $(,)?) => {
        /// A rule of a policy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Rule {
            $($(#[$doc])* $rule),*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$rule),*];

            /// By its name in the configuration, which is its label in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name),*
                }
            }

            /// Where it holds.
            #[must_use]
            pub const fn operations(self) -> &'static [Operation] {
                match self {
                    $(Self::$rule => $operations),*
                }
            }
        }
    };
}

rules! {
    PromptBytes = "prompt.bytes_max" at PROMPTED,
    PromptTokens = "prompt.tokens_max" at PROMPTED,
    PromptMessages = "prompt.messages_max" at MESSAGES,
    ImageParts = "image_parts" at PARTS,
    AudioParts = "audio_parts" at PARTS,
    FileParts = "file_parts" at PARTS,
    N = "n" at CHOICES,
    MaxTokens = "max_tokens" at CAPPED,
    BestOf = "best_of" at TEXT,
    Temperature = "temperature" at DRAWN,
    TopP = "top_p" at TEXT,
    Echo = "echo" at TEXT,
    Seed = "seed" at TEXT,
    Logprobs = "logprobs" at LIKELY,
    TopLogprobs = "top_logprobs" at TEXT,
    LogitBias = "logit_bias" at TEXT,
    Tools = "tools" at CALLING,
    ToolTypes = "tools.types" at CALLING,
    McpHosts = "tools.mcp_hosts" at CALLING,
    McpConnectors = "tools.mcp_connectors" at CALLING,
    ResponseFormat = "response_format" at SERVED,
    /// No stream.
    Stream = "stream" at STREAMED,
    /// Nothing but streams, where every model streams.
    StreamOnly = "stream" at TEXT,
    Background = "background" at TEXT,
    Store = "store" at TEXT,
    ServiceTier = "service_tier" at SERVED,
    ReasoningEffort = "reasoning_effort" at SERVED,
    Verbosity = "verbosity" at SERVED,
    ReasoningMode = "reasoning_mode" at SERVED,
    PromptCacheRetention = "prompt_cache_retention" at SERVED,
    MaxToolCalls = "max_tool_calls" at TEXT,
    DataSources = "data_sources" at TEXT,
    ContextManagement = "context_management" at TEXT,
    SafetyIdentifier = "safety_identifier" at TOLD_WHO,
    PromptCacheKey = "prompt_cache_key" at SERVED,
    PromptCacheOptions = "prompt_cache_options" at SERVED,
    Size = "size" at DRAWING,
    Quality = "quality" at DRAWING,
    UnknownFields = "unknown_fields" at READ,
}

impl Rule {
    /// Whether it holds at this operation.
    #[must_use]
    pub fn holds_at(self, operation: Operation) -> bool {
        self.operations().contains(&operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Decimal;
    use crate::policy::{
        Asked, Bound, Levels, Over, Permission, Policy, PromptBounds, Quota, Range, Streaming, Unknown, apply,
    };
    use crate::request::{Family, Request};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// A policy that has only this rule, and a request that does not keep it wherever the rule holds.
    fn broken(rule: Rule) -> (Policy, &'static str) {
        let bound = Some(Bound { default: None, max: Some(1), over: Over::Reject });
        let range = Some(Range { min: None, max: Decimal::new(1.0), over: Over::Reject });
        let words = || Some(vec!["a".to_owned()]);
        let levels = Some(Levels {
            order: vec!["a".to_owned(), "b".to_owned()],
            allowed: vec!["a".to_owned()],
            over: Over::Reject,
            default: None,
        });
        let (none, forbid, free) = (Quota::Forbid, Permission::Forbid, Policy::default());
        let prompt = PromptBounds::default();
        match rule {
            Rule::PromptBytes => (
                Policy { prompt: PromptBounds { bytes_max: Some(1), ..prompt }, ..free },
                r#"{"input":"text","prompt":"text"}"#,
            ),
            Rule::PromptTokens => {
                (Policy { prompt: PromptBounds { tokens_max: Some(1), ..prompt }, ..free }, "{}")
            }
            Rule::PromptMessages => (
                Policy { prompt: PromptBounds { messages_max: Some(1), ..prompt }, ..free },
                r#"{"input":["a","b"],"messages":[{},{}]}"#,
            ),
            Rule::ImageParts => (
                Policy { image_parts: none, ..free },
                r#"{"input":[{"type":"input_image"}],"messages":[{"content":[{"type":"image_url"}]}]}"#,
            ),
            Rule::AudioParts => {
                (Policy { audio_parts: none, ..free }, r#"{"input":[{"type":"input_audio"}]}"#)
            }
            Rule::FileParts => (Policy { file_parts: none, ..free }, r#"{"input":[{"type":"input_file"}]}"#),
            Rule::N => (Policy { n: bound, ..free }, r#"{"n":2}"#),
            Rule::MaxTokens => {
                (Policy { max_tokens: bound, ..free }, r#"{"max_tokens":2,"max_output_tokens":2}"#)
            }
            Rule::BestOf => (Policy { best_of: bound, ..free }, r#"{"best_of":2}"#),
            Rule::Temperature => (Policy { temperature: range, ..free }, r#"{"temperature":2}"#),
            Rule::TopP => (Policy { top_p: range, ..free }, r#"{"top_p":2}"#),
            Rule::Echo => (Policy { echo: forbid, ..free }, r#"{"echo":true}"#),
            Rule::Seed => (Policy { seed: forbid, ..free }, r#"{"seed":7}"#),
            Rule::Logprobs => (Policy { logprobs: forbid, ..free }, r#"{"logprobs":true}"#),
            Rule::TopLogprobs => (Policy { top_logprobs: bound, ..free }, r#"{"top_logprobs":2}"#),
            Rule::LogitBias => (Policy { logit_bias: none, ..free }, r#"{"logit_bias":{"1":1}}"#),
            Rule::Tools => (Policy { tools: none, ..free }, r#"{"tools":[{}]}"#),
            Rule::ResponseFormat => (
                Policy { response_format: words(), ..free },
                r#"{"response_format":{"type":"b"},"text":{"format":{"type":"b"}}}"#,
            ),
            Rule::Stream => {
                (Policy { stream: Streaming::Forbid, ..free }, r#"{"stream":true,"stream_format":"sse"}"#)
            }
            Rule::StreamOnly => (Policy { stream: Streaming::Require, ..free }, r#"{"stream":false}"#),
            // The colour of an image in one place, in another a mode that the API does not have, but some server might.
            Rule::Background => (Policy { background: forbid, ..free }, r#"{"background":"transparent"}"#),
            Rule::Store => (Policy { store: forbid, ..free }, r#"{"store":true}"#),
            Rule::ServiceTier => (Policy { service_tier: words(), ..free }, r#"{"service_tier":"b"}"#),
            Rule::ReasoningEffort => {
                (Policy { reasoning_effort: levels, ..free }, r#"{"reasoning_effort":"b"}"#)
            }
            Rule::Verbosity => (Policy { verbosity: levels, ..free }, r#"{"text":{"verbosity":"b"}}"#),
            Rule::ReasoningMode => {
                (Policy { reasoning_mode: words(), ..free }, r#"{"reasoning":{"mode":"b"}}"#)
            }
            Rule::PromptCacheRetention => {
                (Policy { prompt_cache_retention: words(), ..free }, r#"{"prompt_cache_retention":"b"}"#)
            }
            Rule::MaxToolCalls => (Policy { max_tool_calls: bound, ..free }, r#"{"max_tool_calls":2}"#),
            Rule::DataSources => (Policy { data_sources: forbid, ..free }, r#"{"data_sources":[{}]}"#),
            Rule::ContextManagement => {
                (Policy { context_management: forbid, ..free }, r#"{"context_management":[{}]}"#)
            }
            Rule::SafetyIdentifier => {
                (Policy { safety_identifier: forbid, ..free }, r#"{"safety_identifier":"x"}"#)
            }
            Rule::PromptCacheKey => {
                (Policy { prompt_cache_key: forbid, ..free }, r#"{"prompt_cache_key":"x"}"#)
            }
            Rule::PromptCacheOptions => {
                (Policy { prompt_cache_options: forbid, ..free }, r#"{"prompt_cache_options":{"a":1}}"#)
            }
            Rule::Size => (
                Policy { size: levels, ..free },
                r#"{"size":"b","tools":[{"type":"image_generation","size":"b"}]}"#,
            ),
            Rule::Quality => (
                Policy { quality: levels, ..free },
                r#"{"quality":"b","tools":[{"type":"image_generation","quality":"b"}]}"#,
            ),
            Rule::UnknownFields => (Policy { unknown_fields: Unknown::Refuse, ..free }, r#"{"made_up":1}"#),
            Rule::ToolTypes => (Policy { tool_types: words(), ..free }, r#"{"tools":[{"type":"b"}]}"#),
            Rule::McpHosts => (
                Policy { mcp_hosts: words(), ..free },
                r#"{"tools":[{"type":"mcp","server_url":"https://b"}]}"#,
            ),
            Rule::McpConnectors => (
                Policy { mcp_connectors: words(), ..free },
                r#"{"tools":[{"type":"mcp","connector_id":"b"}]}"#,
            ),
        }
    }

    /// The rules that hold at an operation, said once more: whoever adds an operation says here which do.
    fn expected(operation: Operation) -> Vec<Rule> {
        use Rule::*;
        let prompt = [PromptBytes, PromptTokens];
        let parts = [ImageParts, AudioParts, FileParts];
        let text = [
            N,
            MaxTokens,
            BestOf,
            Temperature,
            TopP,
            Echo,
            Seed,
            Logprobs,
            TopLogprobs,
            LogitBias,
            Tools,
            ToolTypes,
            McpHosts,
            McpConnectors,
            ResponseFormat,
            Stream,
            StreamOnly,
            Background,
            Store,
            ServiceTier,
            ReasoningEffort,
            Verbosity,
            ReasoningMode,
            PromptCacheRetention,
            MaxToolCalls,
            DataSources,
            ContextManagement,
            SafetyIdentifier,
            PromptCacheKey,
            PromptCacheOptions,
            Size,
            Quality,
            UnknownFields,
        ];
        match operation {
            ChatCompletions | Responses | Messages => {
                [&prompt[..], &[PromptMessages], &parts, &text].concat()
            }
            Compact | InputTokens | CountTokens => {
                let served = [
                    Tools,
                    ToolTypes,
                    McpHosts,
                    McpConnectors,
                    ResponseFormat,
                    ServiceTier,
                    ReasoningEffort,
                    Verbosity,
                    ReasoningMode,
                    PromptCacheRetention,
                    PromptCacheKey,
                    PromptCacheOptions,
                    Size,
                    Quality,
                    UnknownFields,
                ];
                [&prompt[..], &[PromptMessages], &parts, &served].concat()
            }
            Completions => [&prompt[..], &parts, &text].concat(),
            Embeddings => [&prompt[..], &parts, &[UnknownFields]].concat(),
            ImageGenerations | ImageEdits => {
                [&prompt[..], &[N, Stream, SafetyIdentifier, Size, Quality, UnknownFields]].concat()
            }
            Transcriptions => [&prompt[..], &[Temperature, Logprobs, Stream, UnknownFields]].concat(),
            Translations => [&prompt[..], &[Temperature, UnknownFields]].concat(),
            Speech => [&prompt[..], &[Stream, UnknownFields]].concat(),
            Realtime => {
                vec![MaxTokens, Temperature, Tools, ToolTypes, McpHosts, McpConnectors, UnknownFields]
            }
            Operation::Models
            | Operation::Other
            | Operation::Limits
            | Operation::Health
            | Operation::Config
            | Operation::Order
            | Operation::Job
            | Operation::ResponsesSocket => Vec::new(),
        }
    }

    #[test]
    fn each_rule_holds_where_its_field_means_what_it_means() {
        for operation in Operation::NAMED.into_iter().chain([Operation::Other]).chain(Operation::OWN) {
            let holding: Vec<_> = Rule::ALL.iter().copied().filter(|rule| rule.holds_at(operation)).collect();
            assert_eq!(holding, expected(operation), "{operation:?}");
        }
    }

    /// The table is what acts: no rule goes by anything else.
    #[test]
    fn a_rule_refuses_where_it_holds_and_nowhere_else() {
        for rule in Rule::ALL {
            let (policy, body) = broken(*rule);
            for operation in Operation::reaching_backends() {
                let asked = Asked { operation, family: Family::Gpt4, prompt_tokens: 2 };
                let mut request = Request::read(body.as_bytes()).unwrap();
                let found = apply(&policy, &asked, &mut request).map_err(|refusal| refusal.rule);
                match found {
                    Err(found) => {
                        assert_eq!(
                            found,
                            rule.holds_at(operation).then_some(*rule),
                            "{rule:?} {operation:?}"
                        );
                    }
                    Ok(verdict) => {
                        assert!(!rule.holds_at(operation), "{rule:?} {operation:?}");
                        assert_eq!((verdict.findings, request.patch()), (Vec::new(), None));
                    }
                }
            }
        }
    }
}
