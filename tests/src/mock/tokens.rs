//! What does a request cost, in tokens? Simple rules, so that a test can say beforehand what a gateway has to find.
//!
//! - A text has ⌈characters / 4⌉ tokens; an array of token ids has its length; an image has [`PER_IMAGE`].
//! - A chat prompt has those of its parts, [`PER_MESSAGE`] for each message, and [`PER_CHAT`].
//! - The Responses API counts as chat does: `instructions` are a message, and so is an `input` that is a string.
//! - Legacy completions and embeddings have nothing but their texts. A completion without a prompt has one token.
//! - Each choice completes with the request's cap or [`Settings::completion_tokens`], whichever is less.
//! - Token i of a choice is word i of the last user message or of the prompt, over and over, with one space
//!   between words.

use serde_json::Value;

use super::fields::kind;
use super::refusal::Refusal;
use super::settings::Settings;

/// Characters of text to a token.
pub const CHARACTERS_PER_TOKEN: u64 = 4;
/// Tokens of an image, whatever its size.
pub const PER_IMAGE: u64 = 85;
/// Tokens a chat message has besides its content.
pub const PER_MESSAGE: u64 = 3;
/// Tokens a chat has besides its messages.
pub const PER_CHAT: u64 = 3;
/// What a legacy completion may produce if it doesn't say.
pub const COMPLETIONS_MAX_TOKENS: u64 = 16;

/// The answer to those who said no word.
const WORD: &str = "mock";
/// A prompt may be one word of megabytes; no token is.
const WORD_CHARACTERS_MAX: usize = 32;

/// The tokens of a text.
#[must_use]
pub fn text(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(CHARACTERS_PER_TOKEN)
}

/// The tokens of chat messages, as `messages` of a chat or a list as `input` of a response has them.
#[must_use]
pub fn chat(messages: &[Value]) -> u64 {
    messages.iter().map(|message| PER_MESSAGE + content(&message["content"])).sum::<u64>() + PER_CHAT
}

/// The tokens of one choice: how many, and whether a cap cut it.
#[must_use]
pub fn completion(cap: Option<u64>, settings: &Settings) -> Completion {
    let wanted = u64::from(settings.completion_tokens);
    match cap {
        Some(cap) if cap < wanted => Completion { tokens: cap, cut: true },
        _ => Completion { tokens: wanted, cut: false },
    }
}

/// One choice's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Its tokens, hidden reasoning included.
    pub tokens: u64,
    /// Would have been longer.
    pub cut: bool,
}

impl Completion {
    /// `finish_reason`.
    #[must_use]
    pub fn finish_reason(self) -> &'static str {
        if self.cut { "length" } else { "stop" }
    }

    /// How many of the tokens are hidden reasoning.
    #[must_use]
    pub fn reasoning(self, settings: &Settings) -> u64 {
        self.tokens.min(settings.reasoning_tokens.into())
    }
}

/// The first `count` tokens that echo a text: all but the first begin with a space.
#[must_use]
pub fn echo(source: &str, count: u64) -> Vec<String> {
    // Only words that are needed are looked at: a prompt may be long.
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let words: Vec<String> = source
        .split_whitespace()
        .take(count)
        .map(|word| word.chars().take(WORD_CHARACTERS_MAX).collect())
        .collect();
    let words = if words.is_empty() { vec![WORD.to_owned()] } else { words };
    words
        .iter()
        .cycle()
        .take(count)
        .enumerate()
        .map(|(at, word)| if at == 0 { word.clone() } else { format!(" {word}") })
        .collect()
}

/// The text that the answer to these messages echoes: that of the last user message.
pub(super) fn last_user_text(messages: &[Value]) -> String {
    let Some(message) = messages.iter().rfind(|message| message["role"] == "user") else {
        return String::new();
    };
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// One prompt of a legacy completion, or one input to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Text(String),
    Tokens(Vec<u64>),
}

impl Prompt {
    pub(super) fn tokens(&self) -> u64 {
        match self {
            Self::Text(prompt) => text(prompt),
            Self::Tokens(ids) => ids.len() as u64,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(prompt) => prompt,
            Self::Tokens(_) => "",
        }
    }

    /// All that a `prompt` or `input` holds: a string, an array of strings, of token ids, or of arrays of those.
    pub(super) fn list(field: &str, value: &Value) -> Result<Vec<Self>, Refusal> {
        let invalid = || {
            Refusal::wrong_type(field, "a string, or an array of strings or tokens, none empty", kind(value))
        };
        let Value::Array(items) = value else {
            return Ok(vec![Self::text_of(value).ok_or_else(invalid)?]);
        };
        if let Some(ids) = Self::ids_of(items) {
            return Ok(vec![ids]);
        }
        let one = |item: &Value| match item {
            Value::Array(ids) => Self::ids_of(ids),
            _ => Self::text_of(item),
        };
        let prompts: Option<Vec<Self>> = items.iter().map(one).collect();
        prompts.filter(|prompts| !prompts.is_empty()).ok_or_else(invalid)
    }

    fn text_of(value: &Value) -> Option<Self> {
        value.as_str().map(|text| Self::Text(text.to_owned()))
    }

    fn ids_of(values: &[Value]) -> Option<Self> {
        let ids: Option<Vec<u64>> = values.iter().map(Value::as_u64).collect();
        ids.filter(|ids| !ids.is_empty()).map(Self::Tokens)
    }
}

/// The tokens of a message's content. Parts that are neither text nor image are not counted.
fn content(content: &Value) -> u64 {
    match content {
        Value::String(string) => text(string),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part["type"].as_str() {
                Some("image_url" | "input_image") => PER_IMAGE,
                _ => part["text"].as_str().map_or(0, text),
            })
            .sum(),
        _ => 0,
    }
}
