//! What tokens cost.

pub(super) mod wire;

use super::Build;
use crate::prices::{Above, DEFAULT_TIER, Prices, Rates, Schedule};

/// Above this a price would be a slip of the pen.
const PRICE_MAX: f64 = 1e6;

/// The most tiers; more would be a slip of the pen.
const TIERS_MAX: usize = 16;

impl Build<'_> {
    pub(super) fn prices(&mut self, path: &str, wire: &wire::Prices) -> Option<Prices> {
        let default = self.schedule(path, wire.kinds(), wire.above.as_ref());
        if wire.tiers.len() > TIERS_MAX {
            let problem = format!("{} tiers, at most {TIERS_MAX} are possible", wire.tiers.len());
            self.fault(format!("{path}.tiers"), problem);
        }
        let mut tiers = Vec::new();
        for (name, tier) in &wire.tiers {
            let path = format!("{path}.tiers.{name}");
            if matches!(name.as_str(), DEFAULT_TIER | "auto" | "") {
                let problem =
                    "expected flex, priority or the like: the default tier has the prices beside this";
                self.fault(path, problem);
                continue;
            }
            if let Some(schedule) = self.schedule(&path, tier.kinds(), tier.above.as_ref()) {
                tiers.push((name.as_str().into(), schedule));
            }
        }
        Some(Prices { default: default?, tiers })
    }

    fn schedule(&mut self, path: &str, kinds: wire::Kinds, above: Option<&wire::Above>) -> Option<Schedule> {
        let rates = self.rates(path, kinds);
        let above = match above {
            Some(wire) => {
                let path = format!("{path}.above");
                if wire.prompt_tokens == 0 {
                    self.fault(format!("{path}.prompt_tokens"), "0: expected at least 1");
                }
                let rates = self.rates(&path, wire.kinds())?;
                Some(Above { prompt_tokens: wire.prompt_tokens, rates })
            }
            None => None,
        };
        Some(Schedule { rates: rates?, above })
    }

    fn rates(&mut self, path: &str, kinds: wire::Kinds) -> Option<Rates> {
        let mut is_sound = true;
        let mut micros = |price: f64| {
            is_sound &= (0.0..=PRICE_MAX).contains(&price);
            (price * 1e6).round() as u64
        };
        let rates = Rates {
            prompt: micros(kinds.prompt),
            cached: micros(kinds.cached),
            cache_write: micros(kinds.cache_write),
            prompt_audio: micros(kinds.prompt_audio),
            prompt_image: micros(kinds.prompt_image),
            completion: micros(kinds.completion),
            completion_audio: micros(kinds.completion_audio),
            completion_image: micros(kinds.completion_image),
        };
        if !is_sound {
            self.fault(path.to_owned(), "expected prices of a million tokens, from 0 to 1000000");
        }
        is_sound.then_some(rates)
    }
}
