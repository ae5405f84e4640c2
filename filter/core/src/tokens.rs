//! How many tokens of each kind, and what do they cost?

/// Tokens as the backend counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sent, with all that is named below as part of it.
    pub prompt: u64,
    /// Of those, found in the backend's cache.
    pub cached: u64,
    /// Of those, written into the backend's cache.
    pub cache_write: u64,
    /// Of those, audio.
    pub prompt_audio: u64,
    /// Of those, images.
    pub prompt_image: u64,
    /// Produced, with all that is named below as part of it.
    pub completion: u64,
    /// Of those, hidden reasoning.
    pub reasoning: u64,
    /// Of those, audio.
    pub completion_audio: u64,
    /// Of those, images.
    pub completion_image: u64,
}

impl Usage {
    /// Sent and produced.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Makes no part more than what it is part of; answers whether one was.
    pub fn cut_to_whole(&mut self) -> bool {
        let before = *self;
        self.cached = self.cached.min(self.prompt);
        self.cache_write = self.cache_write.min(self.prompt - self.cached);
        self.prompt_audio = self.prompt_audio.min(self.prompt);
        self.prompt_image = self.prompt_image.min(self.prompt - self.prompt_audio);
        self.reasoning = self.reasoning.min(self.completion);
        self.completion_audio = self.completion_audio.min(self.completion);
        self.completion_image = self.completion_image.min(self.completion - self.completion_audio);
        *self != before
    }

    /// Each kind under its name, in metrics and logs. What follows `prompt` is part of it, and what follows `completion` of
    /// that.
    #[must_use]
    pub fn kinds(self) -> [(&'static str, u64); 9] {
        [
            ("prompt", self.prompt),
            ("cached", self.cached),
            ("cache_write", self.cache_write),
            ("prompt_audio", self.prompt_audio),
            ("prompt_image", self.prompt_image),
            ("completion", self.completion),
            ("reasoning", self.reasoning),
            ("completion_audio", self.completion_audio),
            ("completion_image", self.completion_image),
        ]
    }
}

/// What a million tokens cost, in millionths of the currency; a token then costs so many millionths of a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Tokens sent that were not in the cache.
    pub prompt: u64,
    /// Tokens sent that were.
    pub cached: u64,
    /// Tokens produced.
    pub completion: u64,
}

impl Prices {
    /// The price of a usage in millionths of the currency, rounded to the nearest.
    #[must_use]
    pub fn micros(self, usage: Usage) -> u64 {
        let cached = usage.cached.min(usage.prompt);
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let sum = part(usage.prompt - cached, self.prompt)
            + part(cached, self.cached)
            + part(usage.completion, self.completion);
        u64::try_from((sum + 500_000) / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_price_is_that_of_a_million_tokens() {
        // 2.50, 1.25 and 10.00 of the currency for a million.
        let prices = Prices { prompt: 2_500_000, cached: 1_250_000, completion: 10_000_000 };
        let usage = |prompt, cached, completion| Usage { prompt, cached, completion, ..Usage::default() };
        assert_eq!(prices.micros(usage(1_000_000, 0, 0)), 2_500_000);
        assert_eq!(prices.micros(usage(1000, 400, 100)), 1500 + 500 + 1000);
        // A backend that says more was cached than was sent.
        assert_eq!(prices.micros(usage(1, 5, 0)), 1);
        assert_eq!(prices.micros(usage(u64::MAX, 0, u64::MAX)), u64::MAX);
    }
}
