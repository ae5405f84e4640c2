//! A usage object as backends write it, and an event that has one.

use crate::tokens::Usage;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;

/// Chat, completions and embeddings use one set of names, Responses another.
#[derive(Deserialize)]
pub(super) struct WireUsage {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
    #[serde(alias = "input_tokens_details")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(alias = "output_tokens_details")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    /// A usage object without a prompt count is no count at all.
    pub(super) fn usage(&self) -> Option<Usage> {
        Some(Usage {
            prompt: self.prompt_tokens?,
            cached: self
                .prompt_tokens_details
                .as_ref()
                .and_then(|details| details.cached_tokens)
                .unwrap_or(0),
            completion: self.completion_tokens.unwrap_or(0),
            reasoning: self
                .completion_tokens_details
                .as_ref()
                .and_then(|details| details.reasoning_tokens)
                .unwrap_or(0),
        })
    }
}

/// An event that has a usage object somewhere.
#[derive(Deserialize)]
pub(super) struct WireEvent {
    usage: Option<WireUsage>,
    choices: Option<Emptiness>,
    response: Option<WireResponse>,
}

impl WireEvent {
    /// The usage, and whether it is all that the event is for: it came without a choice.
    pub(super) fn usage(self) -> Option<(Usage, bool)> {
        let alone = self.usage.is_some() && matches!(self.choices, Some(Emptiness(true)));
        let usage = self.usage.or_else(|| self.response.and_then(|response| response.usage))?;
        Some((usage.usage()?, alone))
    }
}

#[derive(Deserialize)]
struct WireResponse {
    usage: Option<WireUsage>,
}

/// Whether an array has nothing in it, without reading what it has.
struct Emptiness(bool);

impl<'de> Deserialize<'de> for Emptiness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Emptiness;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Emptiness, A::Error> {
                let mut is_empty = true;
                while array.next_element::<IgnoredAny>()?.is_some() {
                    is_empty = false;
                }
                Ok(Emptiness(is_empty))
            }
        }
        deserializer.deserialize_seq(Array)
    }
}
