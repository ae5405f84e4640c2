//! How many tokens may this request cost, before anybody has counted?
//!
//! A prompt is sketched once: its text by classes of characters, its messages, images and token ids by number. What the
//! sketch means for a model is [`Learnt`] from the usages that its answers report. What may be produced is the cap times
//! the candidates. Not decided here: whether there is budget for it.

mod learnt;
mod lessons;
mod parts;
mod sample;
mod strings;
mod text;

use crate::tokens::Usage;
pub use learnt::{Learnt, Observed, Produced};
pub use lessons::{Lessons, Subject};
use strings::Found;

/// What a message costs beside its text: three tokens that frame it, and its role.
/// <https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb>
const MESSAGE_TOKENS: u64 = 4;

/// The beginning of the answer, which the prompt ends with; same source.
const REPLY_TOKENS: u64 = 3;

/// Tokens a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What is sent.
    pub prompt: u64,
    /// What may be produced, all candidates together.
    pub completion: u64,
}

impl Estimate {
    /// As if that was used.
    #[must_use]
    pub fn usage(self) -> Usage {
        Usage { prompt: self.prompt, completion: self.completion, ..Usage::default() }
    }
}

/// What the parts of a prompt look like, before anything is learnt: computed once for a request, kept until its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// What the text costs in o200k_base, about, in [`text::TOKEN`]ths. This is what learning scales.
    text: u64,
    /// Tokens that need no estimate: ids, and the frames of messages.
    exact: u64,
    /// Images, audio, files: each costs what such a thing costs, however many bytes it has.
    items: u64,
}

impl Learnt {
    /// The tokens of a prompt, as far as they are sure enough to refuse a request for good: what was learnt may be of other
    /// texts, so it can excuse, and not accuse.
    #[must_use]
    pub fn prompt_tokens_sure(&self, sketch: &Sketch) -> u64 {
        self.prompt_tokens(sketch).min(Self::default().prompt_tokens(sketch))
    }
}

impl Sketch {
    /// Of a prompt whose tokens were estimated before.
    #[must_use]
    pub const fn of_tokens(tokens: u64) -> Self {
        Self { text: 0, exact: tokens, items: 0 }
    }

    /// Whether there are things in it whose tokens their bytes do not tell.
    #[must_use]
    pub const fn has_items(&self) -> bool {
        self.items > 0
    }
}

/// Sketches a prompt from its parts, as JSON: the values of all members of a body that may be prompt.
#[must_use]
pub fn sketch<'a>(parts: impl IntoIterator<Item = &'a str>) -> Sketch {
    let mut found = Found::default();
    for part in parts {
        found.add(parts::read(part));
    }
    let reply = if found.messages > 0 { REPLY_TOKENS } else { 0 };
    Sketch {
        text: found.text,
        exact: found.messages.saturating_mul(MESSAGE_TOKENS).saturating_add(reply).saturating_add(found.ids),
        items: found.items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(parts: &[&str], tokens: u64) {
        let sketch = sketch(parts.iter().copied());
        assert_eq!(Learnt::default().prompt_tokens(&sketch), tokens, "{parts:?}");
    }

    #[test]
    fn all_parts_count_and_messages_have_their_frames() {
        // Each text is less than a token, and their sum is rounded up once.
        check(&[], 0);
        check(&[r#""a""#], 1);
        check(&[r#""a""#, r#"["a"]"#], 2);
        check(&[r#"[{"role":"user","content":"a"}]"#], 4 + 3 + 1);
        check(
            &[r#"[{"role":"system","content":"a"},{"role":"user","content":"a"}]"#, r#""a""#],
            4 + 4 + 3 + 3,
        );
        check(&["[[1,2],[3]]", "[4, 5]"], 5);
    }

    #[test]
    fn both_kinds_of_tokens_make_the_total() {
        assert_eq!(Estimate { prompt: 3, completion: 300 }.usage().total(), 303);
        assert_eq!(Estimate { prompt: u64::MAX, completion: 1 }.usage().total(), u64::MAX);
    }
}
