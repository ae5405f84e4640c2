//! What is known of secrets by their hashes, in a bounded memory: what was not asked for since as many others came as there is room
//! for half of is forgotten.

use super::KeyHash;
use std::collections::HashMap;

/// A memory of secrets.
#[derive(Debug)]
pub(super) struct Memory<V> {
    young: HashMap<KeyHash, V>,
    old: HashMap<KeyHash, V>,
    half_max: usize,
}

impl<V: Clone> Memory<V> {
    /// An empty one for `max` of them.
    #[must_use]
    pub(super) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half_max: (max / 2).max(1) }
    }

    /// What is known of a secret.
    pub(super) fn recall(&mut self, hash: &KeyHash) -> Option<V> {
        if let Some(known) = self.young.get(hash) {
            return Some(known.clone());
        }
        let known = self.old.remove(hash)?;
        self.note(*hash, known.clone());
        Some(known)
    }

    /// The same, without it being asked for.
    pub(super) fn peek(&self, hash: &KeyHash) -> Option<V> {
        self.young.get(hash).or_else(|| self.old.get(hash)).cloned()
    }

    /// Remembers a secret.
    pub(super) fn note(&mut self, hash: KeyHash, known: V) {
        if self.young.len() >= self.half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, known);
    }

    /// Forgets a secret.
    pub(super) fn forget(&mut self, hash: &KeyHash) {
        self.young.remove(hash);
        self.old.remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn hash(number: u32) -> KeyHash {
        KeyHash::of(&number.to_le_bytes())
    }

    #[test]
    fn the_cache_stays_in_its_bound_and_keeps_what_is_asked_for() {
        let mut memory = Memory::new(10);
        memory.note(hash(0), 0);
        for number in 1..1000 {
            memory.note(hash(number), number);
            assert!(memory.young.len() + memory.old.len() <= 10);
            assert_eq!(memory.recall(&hash(0)), Some(0), "{number}");
        }
        assert!(memory.recall(&hash(999)).is_some());
        assert!(memory.recall(&hash(900)).is_none());
        memory.forget(&hash(0));
        assert!(memory.recall(&hash(0)).is_none());
    }
}
