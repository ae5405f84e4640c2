//! Which tier of service is meant, and what of a target is that?
//!
//! A tier has capacity of its own at a backend: it may be refused there while all others are served.

use crate::digest::fnv1a;

/// A tier that a backend may refuse by itself. A closed list: a pause for each word that a client can write would be no list
/// that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Cheaper, while there is capacity. <https://platform.openai.com/docs/guides/flex-processing>
    Flex,
    /// Dearer and faster. <https://platform.openai.com/docs/guides/priority-processing>
    Priority,
}

impl Tier {
    /// The tier of this word, if it is one of those.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Flex, Self::Priority].into_iter().find(|tier| tier.word() == word)
    }

    /// The vendors' word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Priority => "priority",
        }
    }
}

/// What is asked for of a target: whatever it has, or one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The target's number.
    pub target: u64,
    /// The tier, if it is one that may be refused by itself.
    pub tier: Option<Tier>,
}

impl From<u64> for Lane {
    fn from(target: u64) -> Self {
        Self { target, tier: None }
    }
}

impl Lane {
    /// The number by which its own pauses are known.
    #[must_use]
    pub fn number(self) -> u64 {
        let of_tier = |tier: Tier| fnv1a(fnv1a(self.target, b"\0"), tier.word().as_bytes());
        self.tier.map_or(self.target, of_tier)
    }

    /// The numbers of all pauses that stand in its way: the target's, and its own.
    pub fn numbers(self) -> impl Iterator<Item = u64> {
        [Some(self.target), self.tier.map(|_| self.number())].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_tiers_pauses_are_its_own_and_the_targets_are_everybodys() {
        let lane = |tier| Lane { target: 7, tier };
        let [all, flex, priority] = [None, Some(Tier::Flex), Some(Tier::Priority)].map(lane);
        assert_eq!(all.numbers().collect::<Vec<_>>(), [7]);
        assert_eq!(flex.numbers().collect::<Vec<_>>(), [7, flex.number()]);
        assert!(
            flex.number() != priority.number() && ![flex, priority].iter().any(|lane| lane.number() == 7)
        );
        let words = ["flex", "priority", "default", "auto", "scale", ""].map(Tier::of_word);
        assert_eq!(words, [Some(Tier::Flex), Some(Tier::Priority), None, None, None, None]);
    }
}
