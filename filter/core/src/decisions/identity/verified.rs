//! Which tokens have been verified already?
//!
//! By the SHA-256 of the token, for as long as it is valid and the keys are those it was verified with. Bounded: what was not
//! asked for since as many others came as there is room for half of is forgotten.

use super::KeyHash;
use crate::value::Values;
use std::collections::HashMap;
use std::time::Duration;

/// The most tokens that are remembered.
pub(super) const VERIFIED_MAX: usize = 10_000;

/// What is known of a token.
#[derive(Clone, Debug)]
pub(super) struct Verified<C> {
    /// Whose it is.
    pub(super) client: C,
    /// Which issuer's.
    pub(super) issuer: usize,
    /// The generation of the issuer's keys.
    pub(super) generation: u64,
    /// From then on it is not valid.
    pub(super) until: Duration,
    /// What it tells of who asks.
    pub(super) values: Values,
}

/// A memory of tokens.
#[derive(Debug)]
pub(super) struct Memory<C> {
    young: HashMap<KeyHash, Verified<C>>,
    old: HashMap<KeyHash, Verified<C>>,
    half_max: usize,
}

impl<C: Clone> Memory<C> {
    /// An empty one for `max` tokens.
    #[must_use]
    pub(super) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half_max: (max / 2).max(1) }
    }

    /// What is known of a token.
    pub(super) fn recall(&mut self, token: &KeyHash) -> Option<Verified<C>> {
        if let Some(known) = self.young.get(token) {
            return Some(known.clone());
        }
        let known = self.old.remove(token)?;
        self.note(*token, known.clone());
        Some(known)
    }

    /// Remembers a token.
    pub(super) fn note(&mut self, token: KeyHash, verified: Verified<C>) {
        if self.young.len() >= self.half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, verified);
    }

    /// Forgets a token.
    pub(super) fn forget(&mut self, token: &KeyHash) {
        self.young.remove(token);
        self.old.remove(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn verified(client: u32) -> Verified<u32> {
        Verified { client, issuer: 0, generation: 0, until: Duration::MAX, values: Values::default() }
    }

    fn hash(number: u32) -> KeyHash {
        KeyHash::of(&number.to_le_bytes())
    }

    #[test]
    fn the_cache_stays_in_its_bound_and_keeps_what_is_asked_for() {
        let mut memory = Memory::new(10);
        memory.note(hash(0), verified(0));
        for number in 1..1000 {
            memory.note(hash(number), verified(number));
            assert!(memory.young.len() + memory.old.len() <= 10);
            assert_eq!(memory.recall(&hash(0)).map(|known| known.client), Some(0), "{number}");
        }
        assert!(memory.recall(&hash(999)).is_some());
        assert!(memory.recall(&hash(900)).is_none());
        memory.forget(&hash(0));
        assert!(memory.recall(&hash(0)).is_none());
    }
}
