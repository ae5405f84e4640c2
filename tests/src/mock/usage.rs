//! What was used, and the forms in which the operations report it.

use serde::Serialize;

use super::settings::Settings;

/// What a request used. `cached` is part of `prompt`, `reasoning` part of `completion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// All tokens of the prompt.
    pub prompt: u64,
    /// Those of them that were cached.
    pub cached: u64,
    /// All tokens generated, for choices that were not returned too.
    pub completion: u64,
    /// Those of them that were hidden reasoning.
    pub reasoning: u64,
}

impl Usage {
    pub(super) fn of_prompt(prompt: u64, settings: &Settings) -> Self {
        Self { prompt, cached: prompt.min(settings.cached_tokens.into()), ..Self::default() }
    }

    /// `total_tokens`.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.prompt + self.completion
    }

    pub(super) fn for_chat(&self) -> ChatUsage {
        ChatUsage {
            prompt_tokens: self.prompt,
            completion_tokens: self.completion,
            total_tokens: self.total(),
            prompt_tokens_details: PromptDetails { cached_tokens: self.cached, audio_tokens: 0 },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: self.reasoning,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
    }

    pub(super) fn for_embeddings(&self) -> EmbeddingsUsage {
        EmbeddingsUsage { prompt_tokens: self.prompt, total_tokens: self.total() }
    }

    pub(super) fn for_responses(&self) -> ResponsesUsage {
        ResponsesUsage {
            input_tokens: self.prompt,
            input_tokens_details: InputDetails { cached_tokens: self.cached },
            output_tokens: self.completion,
            output_tokens_details: OutputDetails { reasoning_tokens: self.reasoning },
            total_tokens: self.total(),
        }
    }
}

/// Chat and legacy completions.
#[derive(Clone, Copy, Serialize)]
pub(super) struct ChatUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct EmbeddingsUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct ResponsesUsage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}
