//! What is known of secrets by their hashes, in a bounded memory: what was not asked for since as many others came as there is room
//! for half of is forgotten. What takes more room than others counts as several.

use super::KeyHash;
use std::collections::HashMap;

/// A memory of secrets.
#[derive(Debug)]
pub(super) struct Memory<V> {
    young: HashMap<KeyHash, (V, usize)>,
    old: HashMap<KeyHash, (V, usize)>,
    half_max: usize,
    /// As how many those count that are young.
    young_weight: usize,
}

impl<V: Clone> Memory<V> {
    /// An empty one for `max` of them.
    #[must_use]
    pub(super) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half_max: (max / 2).max(1), young_weight: 0 }
    }

    /// What is known of a secret.
    pub(super) fn recall(&mut self, hash: &KeyHash) -> Option<V> {
        if let Some((known, _)) = self.young.get(hash) {
            return Some(known.clone());
        }
        let (known, weight) = self.old.remove(hash)?;
        self.note_weighing(*hash, known.clone(), weight);
        Some(known)
    }

    /// The same, without it being asked for.
    pub(super) fn peek(&self, hash: &KeyHash) -> Option<V> {
        self.young.get(hash).or_else(|| self.old.get(hash)).map(|(known, _)| known.clone())
    }

    /// Remembers a secret.
    pub(super) fn note(&mut self, hash: KeyHash, known: V) {
        self.note_weighing(hash, known, 1);
    }

    /// Remembers a secret that counts as so many.
    pub(super) fn note_weighing(&mut self, hash: KeyHash, known: V, weight: usize) {
        self.forget(&hash);
        if self.young_weight.saturating_add(weight) > self.half_max {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight = self.young_weight.saturating_add(weight);
        self.young.insert(hash, (known, weight));
    }

    /// Forgets a secret.
    pub(super) fn forget(&mut self, hash: &KeyHash) {
        if let Some((_, weight)) = self.young.remove(hash) {
            self.young_weight = self.young_weight.saturating_sub(weight);
        }
        self.old.remove(hash);
    }

    /// All that is known.
    pub(super) fn all(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values()).map(|(known, _)| known)
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

    #[test]
    fn what_takes_more_room_counts_as_several() {
        let mut memory = Memory::new(10);
        for number in 0..1000 {
            memory.note_weighing(hash(number), number, 2);
            // The same again is no other.
            memory.note_weighing(hash(number), number, 2);
            assert!(memory.all().count() <= 4, "{number}");
            assert!(memory.recall(&hash(number)).is_some());
        }
        assert_eq!(memory.recall(&hash(998)), Some(998));
        memory.forget(&hash(998));
        memory.forget(&hash(999));
        memory.note_weighing(hash(1), 1, 5);
        assert_eq!((memory.young.len(), memory.young_weight), (1, 5));
    }
}
