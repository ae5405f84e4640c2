//! How many tokens may this request cost, before anybody has counted?
//!
//! Prompt tokens are estimated from bytes; what may be produced is the cap times the candidates. Not decided here:
//! whether there is budget for it.

use crate::request::Ceiling;

/// Bytes of text to a token: the usual figure for English.
/// <https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them>
const TEXT_BYTES_PER_TOKEN: u64 = 4;

/// What an image costs at the least: 85 tokens, the base charge in OpenAI's vision guide.
const IMAGE_TOKENS: u64 = 85;

/// Where the base64 of an image or audio part begins.
const BASE64_MARK: &[u8] = b";base64,";

/// Tokens a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What is sent.
    pub prompt: u64,
    /// What may be produced, all candidates together.
    pub completion: u64,
}

impl Estimate {
    /// Both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// Estimates from the parts of a prompt, as JSON, and the ceiling on what may be produced.
#[must_use]
pub fn estimate(prompt: &[Option<&str>], ceiling: Ceiling) -> Estimate {
    Estimate {
        prompt: prompt.iter().flatten().map(|part| prompt_tokens(part)).sum(),
        completion: ceiling.tokens(),
    }
}

/// Tokens for so many bytes of produced text.
#[must_use]
pub fn text_tokens(text_bytes: u64) -> u64 {
    text_bytes.div_ceil(TEXT_BYTES_PER_TOKEN)
}

/// The base64 of an image says nothing of its tokens, so it does not count as text.
fn prompt_tokens(json: &str) -> u64 {
    let bytes = json.as_bytes();
    let mut text_bytes = bytes.len();
    let mut images = 0;
    let mut at = 0;
    while let Some(found) = memchr::memmem::find(bytes.get(at..).unwrap_or_default(), BASE64_MARK) {
        let start = at + found + BASE64_MARK.len();
        let rest = bytes.get(start..).unwrap_or_default();
        let image_bytes = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        text_bytes -= image_bytes;
        images += 1;
        at = start + image_bytes;
    }
    text_tokens(text_bytes as u64) + images * IMAGE_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn text_counts_by_bytes_and_candidates_multiply() {
        let ceiling = Ceiling { completion_tokens: 100, candidates: 3 };
        let found = estimate(&[Some("12345678"), None, Some("1")], ceiling);
        assert_eq!(found, Estimate { prompt: 3, completion: 300 });
        assert_eq!(found.total(), 303);
    }

    #[test]
    fn the_base64_of_an_image_is_not_text() {
        let image = format!(r#""data:image/png;base64,{}""#, "A".repeat(1_000_000));
        let ceiling = Ceiling { completion_tokens: 0, candidates: 1 };
        // 22 bytes of text before the base64, a quote after it.
        assert_eq!(estimate(&[Some(&image)], ceiling).prompt, 6 + 85);
    }
}
