//! What does a usage cost, and what may a request cost at the most?
//!
//! A token has a price by its kind; a long prompt may have other prices than a short one, and a tier of service than
//! another. Money is in millionths of the currency, rounded once, at the end. Not decided here: who pays.

use crate::tokens::Usage;

/// What a million tokens of each kind cost, in millionths of the currency; a token then costs so many millionths of a
/// millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Sent, and none of the following.
    pub prompt: u64,
    /// Sent, and found in the backend's cache.
    pub cached: u64,
    /// Sent, and written into it.
    pub cache_write: u64,
    /// Sent as audio.
    pub prompt_audio: u64,
    /// Sent as images.
    pub prompt_image: u64,
    /// Produced, and none of the following.
    pub completion: u64,
    /// Produced as audio.
    pub completion_audio: u64,
    /// Produced as images.
    pub completion_image: u64,
}

/// The prices of long prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Above {
    /// A request with more tokens in its prompt is paid at these rates, all of it.
    pub prompt_tokens: u64,
    /// The rates.
    pub rates: Rates,
}

/// The prices of requests of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Where nothing else holds.
    pub rates: Rates,
    /// Where the prompt is long; `None` where that makes no difference.
    pub above: Option<Above>,
}

/// What a model costs somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// In the default tier of service, and in those that are not named.
    pub default: Schedule,
    /// In these tiers.
    pub tiers: Vec<(Box<str>, Schedule)>,
}

/// How a backend says that it has served a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service<'a> {
    /// In which tier.
    pub tier: Option<&'a str>,
    /// Whether it was by another of its own deployments, as a full one of Azure's hands over what it cannot take.
    pub is_spillover: bool,
}

/// The tier that [`Prices::default`] is of.
/// <https://platform.openai.com/docs/api-reference/chat/create#chat_create-service_tier>
pub const DEFAULT_TIER: &str = "default";

/// The tier that a batch is served in, though its object does not say so.
/// <https://platform.openai.com/docs/guides/batch>
pub const BATCH_TIER: &str = "batch";

/// Tokens of a kind at its price.
fn part(tokens: u64, price: u64) -> u128 {
    u128::from(tokens) * u128::from(price)
}

/// To the nearest millionth.
fn rounded(sum: u128) -> u64 {
    u64::try_from(sum.saturating_add(500_000) / 1_000_000).unwrap_or(u64::MAX)
}

/// The prices of some kinds of tokens that are part of `whole`, and of what is left of it. A backend may say more of a kind
/// than there is, or count a token among two kinds: it is paid once, as the first of them.
fn split(whole: u64, kinds: &[(u64, u64)], rest: u64) -> u128 {
    let mut left = whole;
    let mut sum = 0u128;
    for (tokens, price) in kinds {
        let tokens = left.min(*tokens);
        left -= tokens;
        sum = sum.saturating_add(part(tokens, *price));
    }
    sum.saturating_add(part(left, rest))
}

impl Rates {
    fn sum(&self, usage: Usage) -> u128 {
        let sent = [
            (usage.cached, self.cached),
            (usage.cache_write, self.cache_write),
            (usage.prompt_audio, self.prompt_audio),
            (usage.prompt_image, self.prompt_image),
        ];
        let produced = [
            (usage.completion_audio, self.completion_audio),
            (usage.completion_image, self.completion_image),
        ];
        split(usage.prompt, &sent, self.prompt).saturating_add(split(
            usage.completion,
            &produced,
            self.completion,
        ))
    }

    /// The most that so much can cost: what the cache will have is known only afterwards, and of audio and images only
    /// that there may be some.
    fn sum_max(&self, usage: Usage) -> u128 {
        let dearest = |rates: &[(u64, u64)]| {
            rates.iter().filter(|(tokens, _)| *tokens > 0).map(|(_, rate)| *rate).max().unwrap_or(0)
        };
        let sent = dearest(&[
            (1, self.prompt),
            (1, self.cached),
            (1, self.cache_write),
            (usage.prompt_audio, self.prompt_audio),
            (usage.prompt_image, self.prompt_image),
        ]);
        let produced = dearest(&[
            (1, self.completion),
            (usage.completion_audio, self.completion_audio),
            (usage.completion_image, self.completion_image),
        ]);
        part(usage.prompt, sent).saturating_add(part(usage.completion, produced))
    }
}

impl Schedule {
    fn sum(&self, usage: Usage) -> u128 {
        match self.above {
            Some(above) if usage.prompt > above.prompt_tokens => above.rates.sum(usage),
            _ => self.rates.sum(usage),
        }
    }

    fn sum_max(&self, usage: Usage) -> u128 {
        // An estimate may be a third too low.
        let may_be_above =
            |above: &Above| usage.prompt.saturating_add(usage.prompt / 2) > above.prompt_tokens;
        let above = self.above.filter(may_be_above).map_or(0, |above| above.rates.sum_max(usage));
        self.rates.sum_max(usage).max(above)
    }
}

impl Prices {
    fn tier(&self, name: &str) -> Option<&Schedule> {
        self.tiers.iter().find(|(other, _)| **other == *name).map(|(_, schedule)| schedule)
    }

    /// The price of a usage in millionths of the currency, rounded to the nearest. `tier` is the one that served it, by
    /// the backend's word.
    #[must_use]
    pub fn micros(&self, usage: Usage, tier: Option<&str>) -> u64 {
        let schedule = tier.and_then(|tier| self.tier(tier)).unwrap_or(&self.default);
        rounded(schedule.sum(usage))
    }

    /// The most that a usage can cost, in millionths. `asked` is the tier that the request names. One that is named and
    /// has no room falls back on the default; without a name, the vendor's own settings decide, so it may be any.
    #[must_use]
    pub fn micros_max(&self, usage: Usage, asked: Option<&str>) -> u64 {
        let named = asked.map(|asked| (asked == DEFAULT_TIER, self.tier(asked)));
        let tiers = match named {
            Some((true, _)) => 0,
            Some((false, Some(schedule))) => schedule.sum_max(usage),
            _ => self.tiers.iter().map(|(_, schedule)| schedule.sum_max(usage)).max().unwrap_or(0),
        };
        rounded(self.default.sum_max(usage).max(tiers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// 2.50, 1.25 and 10.00 of the currency for a million, times a factor.
    fn rates(factor: u64) -> Rates {
        Rates {
            prompt: 2_500_000 * factor,
            cached: 1_250_000 * factor,
            cache_write: 3_125_000 * factor,
            prompt_audio: 40_000_000 * factor,
            prompt_image: 5_000_000 * factor,
            completion: 10_000_000 * factor,
            completion_audio: 80_000_000 * factor,
            completion_image: 40_000_000 * factor,
        }
    }

    fn schedule(factor: u64) -> Schedule {
        Schedule { rates: rates(factor), above: None }
    }

    fn prices() -> Prices {
        let above = Some(Above { prompt_tokens: 200_000, rates: rates(2) });
        Prices {
            default: Schedule { above, ..schedule(1) },
            tiers: vec![
                ("priority".into(), schedule(3)),
                ("flex".into(), Schedule { rates: half(), above: None }),
            ],
        }
    }

    fn half() -> Rates {
        let Rates { prompt, cached, completion, .. } = rates(1);
        Rates { prompt: prompt / 2, cached: cached / 2, completion: completion / 2, ..rates(1) }
    }

    fn usage(prompt: u64, completion: u64) -> Usage {
        Usage { prompt, completion, ..Usage::default() }
    }

    #[test]
    fn a_price_is_that_of_a_million_tokens() {
        let micros = |usage| prices().micros(usage, None);
        assert_eq!(micros(usage(100_000, 0)), 250_000);
        assert_eq!(micros(Usage { cached: 400, ..usage(1000, 100) }), 1500 + 500 + 1000);
        // Rounded once, half up.
        assert_eq!((micros(usage(1, 0)), micros(Usage { cached: 1, ..usage(1, 0) })), (3, 1));
        assert_eq!(micros(Usage { cached: 1, ..usage(2, 0) }), 4);
        // A backend that says more was cached than was sent.
        assert_eq!(micros(Usage { cached: 5, ..usage(1, 0) }), 1);
        assert_eq!(micros(usage(u64::MAX, u64::MAX)), u64::MAX);
    }

    #[test]
    fn each_kind_has_its_price_and_no_token_is_paid_twice() {
        let micros = |usage| prices().micros(usage, None);
        let mixed =
            Usage { cached: 200, cache_write: 400, prompt_audio: 100, prompt_image: 50, ..usage(1000, 0) };
        assert_eq!(micros(mixed), 250 + 1250 + 4000 + 250 + 625);
        assert_eq!(micros(Usage { cache_write: 900, cached: 900, ..usage(1000, 0) }), 1125 + 313);
        let said = Usage { completion_audio: 10, completion_image: 20, reasoning: 30, ..usage(0, 100) };
        assert_eq!(micros(said), 700 + 800 + 800);
    }

    #[test]
    fn a_prompt_above_the_bound_makes_all_of_the_request_dearer() {
        let micros = |prompt| prices().micros(usage(prompt, 100), None);
        assert_eq!(micros(200_000), 500_000 + 1000);
        assert_eq!(micros(200_001), 1_000_005 + 2000);
    }

    #[test]
    fn the_tier_that_answers_is_what_is_paid() {
        for (tier, micros) in [
            (None, 3500),
            (Some("default"), 3500),
            (Some("scale"), 3500),
            (Some("flex"), 1750),
            (Some("priority"), 10_500),
        ] {
            assert_eq!(prices().micros(usage(1000, 100), tier), micros, "{tier:?}");
        }
    }

    #[test]
    fn what_is_reserved_is_the_dearest_that_may_come() {
        let micros_max = |usage, asked| prices().micros_max(usage, asked);
        // Writing to the cache is dearer than not.
        assert_eq!(micros_max(usage(1000, 100), Some("default")), 3125 + 1000);
        assert_eq!(micros_max(usage(1000, 100), Some("flex")), 3125 + 1000);
        assert_eq!(micros_max(usage(1000, 100), Some("priority")), 9375 + 3000);
        // Without a tier, the project's setting decides.
        for asked in [None, Some("auto"), Some("fast")] {
            assert_eq!(micros_max(usage(1000, 100), asked), 9375 + 3000, "{asked:?}");
        }
        assert_eq!(micros_max(usage(150_000, 0), Some("default")), 2 * 468_750);
        assert_eq!(micros_max(usage(100_000, 0), Some("default")), 312_500);
        let media = Usage { prompt_image: 1, completion_audio: 1, ..usage(1000, 100) };
        assert_eq!(micros_max(media, Some("default")), 5000 + 8000);
    }

    proptest! {
        /// Whatever of the prompt is cached, written or neither, and whatever tier serves it.
        #[test]
        fn no_answer_costs_more_than_the_most(
            prompt in 0..400_000u64, completion in 0..10_000u64, cached: u64, cache_write: u64, at in 0..4usize
        ) {
            let reserved = usage(prompt, completion);
            let answer = Usage { cached, cache_write, ..reserved };
            let tier = [None, Some("default"), Some("priority"), Some("flex")][at];
            prop_assert!(prices().micros(answer, tier) <= prices().micros_max(reserved, None));
        }
    }
}
