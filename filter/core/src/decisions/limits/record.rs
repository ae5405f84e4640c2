//! What is kept of an account: one entry for each of its limits, side by side in one value of the store.
//!
//! An entry is found by what its limit counts, not by its place. Entries of limits that this configuration does not have
//! stay for a while: during an update requests of the old and of the new one write the same record by turns.

use crate::codec::{self, Reader, Stored, Writer};

/// The state of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What the limit counts.
    pub(super) id: u64,
    /// Of a bucket: what is in it. Of a window: what is used. Of slots: how many are taken.
    pub(super) level: i128,
    /// Of a bucket: when that was so. Of a window: when it began. Of slots: when one was last taken. In nanoseconds.
    pub(super) at: u64,
}

/// An entry of another configuration is dropped when nobody has touched it for so long.
const IDLE_NS: u64 = 3_600_000_000_000;

/// The most entries of other configurations that are kept.
const STRANGERS_MAX: usize = 64;

impl Stored for Entry {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { id: from.u64()?, level: from.i128()?, at: from.u64()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.id);
        to.i128(self.level);
        to.u64(self.at);
    }
}

/// The entries of an account.
pub(super) struct Record(Vec<Entry>);

impl Record {
    /// Reads what the store has.
    pub(super) fn read(stored: &[u8]) -> Self {
        Self(codec::decode_all(stored))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        codec::encode_all(&self.0)
    }

    /// The entry of a limit, which most likely stands at `place`.
    pub(super) fn find(&self, id: u64, place: usize) -> Option<Entry> {
        let likely = self.0.get(place).filter(|entry| entry.id == id);
        likely.or_else(|| self.0.iter().find(|entry| entry.id == id)).copied()
    }

    /// Writes an entry where it stands, or behind all others.
    pub(super) fn set(&mut self, entry: Entry, place: usize) {
        let stands = |other: &Entry| other.id == entry.id;
        let place = match self.0.get(place) {
            Some(likely) if stands(likely) => Some(place),
            _ => self.0.iter().position(stands),
        };
        match place.and_then(|place| self.0.get_mut(place)) {
            Some(found) => *found = entry,
            None => self.0.push(entry),
        }
    }

    /// Drops what other configurations left behind and nobody needs any more: `own` says which are of this configuration, and
    /// `outlives` of the others whether one, perhaps idle for long, still counts.
    pub(super) fn tidy(
        &mut self,
        own: impl Fn(&Entry) -> bool,
        outlives: impl Fn(&Entry, bool) -> bool,
        now: u64,
    ) {
        let mut strangers = 0;
        self.0.retain(|entry| {
            if own(entry) {
                return true;
            }
            let keeps = outlives(entry, now.saturating_sub(entry.at) > IDLE_NS);
            strangers += usize::from(keeps);
            keeps && strangers <= STRANGERS_MAX
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_law_of_stored_values_holds() {
        let entry = |id, level, at| Entry { id, level, at };
        codec::law::holds("limit", &[entry(u64::MAX, -3, 1_795_000_000_000_000_000), entry(1, i128::MAX, 0)]);
    }
}
