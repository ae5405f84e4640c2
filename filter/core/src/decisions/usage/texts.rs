//! How much text was produced?
//!
//! Its strings are measured, escapes as they stand. What a model thought aloud is told by some backends under several
//! names at once, so of those the longest counts. Not decided here: how many tokens that is.

use super::Format;
use crate::endpoint::Operation;

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// What was said.
    Said,
    /// What was thought, under one of so many names.
    Thought(usize),
}

/// Under how many names thoughts are told.
const THOUGHTS: usize = 4;

/// A member whose string is produced text.
pub(super) type Name = (&'static str, Text);

/// vLLM's and OpenRouter's `reasoning`, DeepSeek's `reasoning_content`, Mistral's `thinking`, and the `text` of
/// OpenRouter's `reasoning_details`, which is also that of parts of a content.
/// <https://openrouter.ai/docs/use-cases/reasoning-tokens>, <https://api-docs.deepseek.com/guides/reasoning_model>
const CHAT: &[Name] = &[
    ("content", Text::Said),
    ("refusal", Text::Said),
    ("arguments", Text::Said),
    ("transcript", Text::Said),
    ("reasoning", Text::Thought(0)),
    ("reasoning_content", Text::Thought(1)),
    ("thinking", Text::Thought(2)),
    ("text", Text::Thought(3)),
];

/// Of Messages: what is said, the arguments of a tool as a stream has them, and what is thought.
/// <https://platform.claude.com/docs/en/build-with-claude/streaming>
const MESSAGES: &[Name] =
    &[("text", Text::Said), ("partial_json", Text::Said), ("thinking", Text::Thought(0))];

/// Where the text of an answer stands.
pub(super) const fn names(operation: Operation, format: Format) -> &'static [Name] {
    match (operation, format) {
        (Operation::ChatCompletions, _) => CHAT,
        (Operation::Messages, _) => MESSAGES,
        (Operation::Completions, _) => &[("text", Text::Said)],
        (Operation::Responses, Format::Events) | (Operation::Realtime, _) => &[("delta", Text::Said)],
        (Operation::Responses | Operation::Compact, _) => {
            &[("text", Text::Said), ("arguments", Text::Said), ("refusal", Text::Said), ("code", Text::Said)]
        }
        (Operation::Transcriptions | Operation::Translations, Format::Events) => &[("delta", Text::Said)],
        (Operation::Transcriptions | Operation::Translations, _) => &[("text", Text::Said)],
        _ => &[],
    }
}

/// Bytes of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    said: u64,
    thought: [u64; THOUGHTS],
}

impl Texts {
    pub(super) fn add(&mut self, text: Text, bytes: u64) {
        let sum = match text {
            Text::Said => &mut self.said,
            Text::Thought(name) => match self.thought.get_mut(name) {
                Some(sum) => sum,
                None => return,
            },
        };
        *sum = sum.saturating_add(bytes);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.said = self.said.saturating_add(other.said);
        for (sum, more) in self.thought.iter_mut().zip(other.thought) {
            *sum = sum.saturating_add(more);
        }
    }

    fn thoughts(self) -> u64 {
        self.thought.into_iter().max().unwrap_or(0)
    }

    /// All of it.
    pub(super) fn bytes(self) -> u64 {
        self.said.saturating_add(self.thoughts())
    }

    /// All of it, if nothing was thought aloud.
    pub(super) fn plain_bytes(self) -> Option<u64> {
        (self.thoughts() == 0).then_some(self.said)
    }
}
