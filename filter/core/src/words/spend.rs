//! How much was spent: requests, tokens of each kind, money?

use crate::tokens::Usage;

/// How much. Money is in millionths of the currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// Requests that were sent to a backend.
    pub requests: u64,
    /// What was charged for them.
    pub usage: Usage,
    /// What that costs, where there are prices.
    pub price_micros: u64,
    /// Of the tokens sent and produced, those that nobody has reported.
    pub estimated_tokens: u64,
    /// Of the price, that of requests whose tokens nobody has reported.
    pub estimated_price_micros: u64,
    /// Requests with tokens that have no price.
    pub unpriced_requests: u64,
}

impl Spend {
    /// How many numbers it has.
    pub const NUMBERS: usize = 14;

    /// On one request.
    #[must_use]
    pub fn on(usage: Usage, price_micros: Option<u64>) -> Self {
        let price = price_micros.unwrap_or(0);
        let unpriced_requests = u64::from(price_micros.is_none() && usage.total() > 0);
        Self { requests: 1, usage, price_micros: price, unpriced_requests, ..Self::default() }
    }

    /// By estimate, all of it.
    #[must_use]
    pub fn estimated(self) -> Self {
        let (estimated_tokens, estimated_price_micros) = (self.usage.total(), self.price_micros);
        Self { estimated_tokens, estimated_price_micros, ..self }
    }

    /// Each number under its name.
    #[must_use]
    pub fn numbers(self) -> [(&'static str, u64); Self::NUMBERS] {
        let Usage { prompt, cached, cache_write, prompt_audio, prompt_image, .. } = self.usage;
        let Usage { completion, reasoning, completion_audio, completion_image, .. } = self.usage;
        [
            ("requests", self.requests),
            ("prompt_tokens", prompt),
            ("cached_tokens", cached),
            ("cache_write_tokens", cache_write),
            ("prompt_audio_tokens", prompt_audio),
            ("prompt_image_tokens", prompt_image),
            ("completion_tokens", completion),
            ("reasoning_tokens", reasoning),
            ("completion_audio_tokens", completion_audio),
            ("completion_image_tokens", completion_image),
            ("price_micros", self.price_micros),
            ("estimated_tokens", self.estimated_tokens),
            ("estimated_price_micros", self.estimated_price_micros),
            ("unpriced_requests", self.unpriced_requests),
        ]
    }

    /// Of its numbers, in their order.
    #[must_use]
    pub const fn of(numbers: [u64; Self::NUMBERS]) -> Self {
        let [requests, prompt, cached, cache_write, prompt_audio, prompt_image, rest @ ..] = numbers;
        let [completion, reasoning, completion_audio, completion_image, rest @ ..] = rest;
        let [price_micros, estimated_tokens, estimated_price_micros, unpriced_requests] = rest;
        let usage = Usage {
            prompt,
            cached,
            cache_write,
            prompt_audio,
            prompt_image,
            completion,
            reasoning,
            completion_audio,
            completion_image,
        };
        Self { requests, usage, price_micros, estimated_tokens, estimated_price_micros, unpriced_requests }
    }

    /// Adds another.
    pub fn add(&mut self, other: Self) {
        let mut sums = [0; Self::NUMBERS];
        let pairs = self.numbers().into_iter().zip(other.numbers());
        for (sum, ((_, one), (_, two))) in sums.iter_mut().zip(pairs) {
            *sum = one.saturating_add(two);
        }
        *self = Self::of(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_numbers_are_those_that_it_is_made_of() {
        let mut numbers = [0; Spend::NUMBERS];
        (1..).zip(&mut numbers).for_each(|(number, place)| *place = number);
        let mut spend = Spend::of(numbers);
        assert_eq!(spend.numbers().map(|(_, number)| number), numbers);
        spend.add(spend);
        assert_eq!(spend.numbers().map(|(_, number)| number), numbers.map(|number| 2 * number));
    }

    #[test]
    fn what_an_estimate_is_of_is_told_apart() {
        let usage = Usage { prompt: 7, completion: 5, cached: 3, ..Usage::default() };
        let reported = Spend { requests: 1, usage, price_micros: 9, ..Spend::default() };
        assert_eq!(Spend::on(usage, Some(9)), reported);
        let estimated = Spend { estimated_tokens: 12, estimated_price_micros: 9, ..reported };
        assert_eq!(Spend::on(usage, Some(9)).estimated(), estimated);
        let unpriced = Spend { price_micros: 0, unpriced_requests: 1, ..reported };
        assert_eq!(Spend::on(usage, None), unpriced);
        let nothing = Spend { requests: 1, ..Spend::default() };
        assert_eq!(Spend::on(Usage::default(), None), nothing);
    }
}
