//! Which fields does a body have, by the vendors' public reference?
//!
//! Those at the top: of Anthropic's API as its SDK 2.14.0 for Python has it, without what only a beta has
//! (<https://github.com/anthropics/anthropic-sdk-python/tree/main/src/anthropic/types>), and of OpenAI's API as openai-python 3.57.0 has it (November 2026,
//! <https://github.com/openai/openai-python/tree/main/src/openai/types>), and those that Azure has beside them
//! (`data_sources`, `user_security_context`: <https://learn.microsoft.com/azure/ai-foundry/openai/latest>). A form's list
//! is written `name` here and `name[]` by some clients.

use crate::endpoint::Operation;

const CHAT: &[&str] = &[
    "audio",
    "data_sources",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "user_security_context",
    "verbosity",
    "web_search_options",
];

const COMPLETIONS: &[&str] = &[
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "model",
    "n",
    "presence_penalty",
    "prompt",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_p",
    "user",
];

const EMBEDDINGS: &[&str] = &["dimensions", "encoding_format", "input", "model", "user"];

const RESPONSES: &[&str] = &[
    "access_programs",
    "background",
    "background_options",
    "context_management",
    "conversation",
    "image",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

const COMPACT: &[&str] = &[
    "image",
    "input",
    "instructions",
    "model",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
];

const INPUT_TOKENS: &[&str] = &[
    "conversation",
    "input",
    "instructions",
    "model",
    "parallel_tool_calls",
    "personality",
    "previous_response_id",
    "reasoning",
    "text",
    "tool_choice",
    "tools",
    "truncation",
];

/// What `images/generations` and `images/edits` both have.
const IMAGES: &[&str] = &[
    "background",
    "complexity",
    "frame_count",
    "frame_duration_ms",
    "model",
    "moderation",
    "n",
    "output_compression",
    "output_format",
    "partial_images",
    "prompt",
    "quality",
    "response_format",
    "safety_identifier",
    "size",
    "stream",
    "svg",
    "user",
];

const IMAGE_GENERATIONS: &[&str] = &["style"];

const IMAGE_EDITS: &[&str] = &["image", "images", "input_fidelity", "markup", "mask"];

const TRANSCRIPTIONS: &[&str] = &[
    "chunking_strategy",
    "file",
    "include",
    "keywords",
    "known_speaker_names",
    "known_speaker_references",
    "language",
    "languages",
    "model",
    "prompt",
    "response_format",
    "stream",
    "temperature",
    "timestamp_granularities",
];

const TRANSLATIONS: &[&str] = &["file", "model", "prompt", "response_format", "temperature"];

const SPEECH: &[&str] =
    &["input", "instructions", "model", "response_format", "speed", "stream_format", "voice"];

const MESSAGES: &[&str] = &[
    "cache_control",
    "container",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

const COUNT_TOKENS: &[&str] = &[
    "cache_control",
    "messages",
    "model",
    "output_config",
    "speed",
    "system",
    "thinking",
    "tool_choice",
    "tools",
];

/// Of `session` and `response` in the events that a client of Realtime sends. <https://platform.openai.com/docs/api-reference/realtime-client-events>
const REALTIME: &[&str] = &[
    "audio",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "metadata",
    "model",
    "output_modalities",
    "parallel_tool_calls",
    "prompt",
    "reasoning",
    "tool_choice",
    "tools",
    "tracing",
    "truncation",
    "type",
];

/// Whether an operation's body has this field.
pub(super) fn is_known_field(operation: Operation, name: &str) -> bool {
    let (fields, more): (&[&str], &[&str]) = match operation {
        Operation::ChatCompletions => (CHAT, &[]),
        Operation::Completions => (COMPLETIONS, &[]),
        Operation::Embeddings => (EMBEDDINGS, &[]),
        Operation::Responses => (RESPONSES, &[]),
        Operation::Compact => (COMPACT, &[]),
        Operation::InputTokens => (INPUT_TOKENS, &[]),
        Operation::ImageGenerations => (IMAGES, IMAGE_GENERATIONS),
        Operation::ImageEdits => (IMAGES, IMAGE_EDITS),
        Operation::Transcriptions => (TRANSCRIPTIONS, &[]),
        Operation::Translations => (TRANSLATIONS, &[]),
        Operation::Speech => (SPEECH, &[]),
        Operation::Realtime => (REALTIME, &[]),
        Operation::Messages => (MESSAGES, &[]),
        Operation::CountTokens => (COUNT_TOKENS, &[]),
        Operation::Models
        | Operation::Other
        | Operation::Limits
        | Operation::Health
        | Operation::Config
        | Operation::Order
        | Operation::Job
        | Operation::ResponsesSocket => (&[], &[]),
    };
    fields.contains(&name) || more.contains(&name)
}
