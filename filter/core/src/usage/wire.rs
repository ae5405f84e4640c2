//! A usage object as backends write it, and an event that has one.

use crate::tokens::Usage;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Chat, completions and embeddings use one set of names; Responses, images and transcriptions another.
#[derive(Deserialize)]
pub(super) struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    #[serde(alias = "input_token_details")]
    input_tokens_details: Option<Details>,
    #[serde(alias = "output_token_details")]
    output_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    /// A usage object without a prompt count is no count at all.
    pub(super) fn usage(&self) -> Option<Usage> {
        let prompt = self.prompt_tokens_details.or(self.input_tokens_details).unwrap_or_default();
        let completion = self.completion_tokens_details.or(self.output_tokens_details).unwrap_or_default();
        Some(Usage {
            prompt: self.prompt_tokens.or(self.input_tokens)?,
            cached: prompt.cached_tokens.unwrap_or(0),
            cache_write: prompt.cache_write_tokens.unwrap_or(0),
            prompt_audio: prompt.audio_tokens.unwrap_or(0),
            prompt_image: prompt.image_tokens.unwrap_or(0),
            completion: self.completion_tokens.or(self.output_tokens).unwrap_or(0),
            reasoning: completion.reasoning_tokens.unwrap_or(0),
            completion_audio: completion.audio_tokens.unwrap_or(0),
            completion_image: completion.image_tokens.unwrap_or(0),
        })
    }
}

/// An event that has a usage object somewhere.
#[derive(Deserialize)]
pub(super) struct WireEvent<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    choices: Option<Emptiness>,
    response: Option<WireResponse>,
    #[serde(borrow)]
    object: Option<Cow<'a, str>>,
}

/// Where the usage of an event stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// It is all that the event is for: no choice came with it.
    Alone,
    /// It came with choices; this is its text.
    WithChoices(&'a str),
    /// Inside a response, or on an event of another kind.
    Elsewhere,
}

impl<'a> WireEvent<'a> {
    pub(super) fn usage(self) -> Option<(Usage, Place<'a>)> {
        // Its run says it again, with all its steps.
        if self.object.as_deref() == Some("thread.run.step") {
            return None;
        }
        let Some(raw) = self.usage.filter(|usage| usage.get() != "null") else {
            return Some((self.response?.usage?.usage()?, Place::Elsewhere));
        };
        let usage = serde_json::from_str::<WireUsage>(raw.get()).ok()?.usage()?;
        let place = match self.choices {
            Some(Emptiness(true)) => Place::Alone,
            Some(Emptiness(false)) => Place::WithChoices(raw.get()),
            None => Place::Elsewhere,
        };
        Some((usage, place))
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
