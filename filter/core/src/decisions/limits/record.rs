//! What is kept of an account: one entry for each of its limits, side by side in one value of the store.
//!
//! An entry is found by what its limit counts, not by its place. Entries of limits that this configuration does not have
//! stay for a while: during an update requests of the old and of the new one write the same record by turns.

use super::leases::{Head, Lease};
use super::measured;
use crate::codec::{self, Reader, Stored, Writer};

/// The state of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What the limit counts.
    pub(super) id: u64,
    /// Of a bucket: what is in it. Of a window: what is used. Of slots: how many are taken.
    pub(super) level: i128,
    /// Of a bucket: when that was so. Of a window: when it began, and of a value's when that was first taken from. Of slots: when one was last taken. In nanoseconds.
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

/// The entries of an account, and of one that a fleet shares what this process holds of it.
#[derive(Default)]
pub(super) struct Record {
    entries: Vec<Entry>,
    leased: Option<Leased>,
}

/// What this process holds of an account that a fleet shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leased {
    pub(super) head: Head,
    pub(super) leases: Vec<Lease>,
}

/// The record of an account that a fleet shares.
#[derive(Debug, PartialEq, Eq)]
struct Shared {
    entries: Vec<Entry>,
    leased: Leased,
}

impl Stored for Shared {
    const VERSION: u8 = 3;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let entries = from.values()?;
        let leased = Leased { head: Head::read(from)?, leases: from.values()? };
        Some(Self { entries, leased })
    }

    fn write(&self, to: &mut Writer) {
        to.values(&self.entries);
        self.leased.head.write(to);
        to.values(&self.leased.leases);
    }
}

impl Record {
    /// Reads what the store has.
    pub(super) fn read(stored: &[u8]) -> Self {
        match codec::decode(stored) {
            Some(Shared { entries, leased }) => Self { entries, leased: Some(leased) },
            None => Self { entries: codec::decode_all(stored), leased: None },
        }
    }

    /// The moment by the clock that counts for this account: the fleet's, where one shares it.
    pub(super) fn clock(&self, now: u64) -> u64 {
        self.leased.as_ref().map_or(now, |leased| leased.head.clock(now))
    }

    /// What this process holds of it, until it is [shared](Self::share) again.
    pub(super) fn unshare(&mut self) -> Leased {
        self.leased.take().unwrap_or_default()
    }

    pub(super) fn share(&mut self, leased: Leased) {
        self.leased = Some(leased);
    }

    /// Gives back one place of a limit on requests under way.
    pub(super) fn return_place(&mut self, id: u64) {
        if let Some(leased) = &mut self.leased {
            leased.return_place(id);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.leased.is_none()
    }

    /// Whether nothing is lost without it: all of each limit is there again.
    pub(super) fn is_unused(&self, now: u64) -> bool {
        self.leased.is_none() && self.entries.iter().all(|entry| measured::is_unused(entry, now))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self.leased {
            Some(leased) => codec::encode(&Shared { entries: self.entries, leased }),
            None => codec::encode_all(&self.entries),
        }
    }

    /// The entry of a limit, which most likely stands at `place`.
    pub(super) fn find(&self, id: u64, place: usize) -> Option<Entry> {
        let likely = self.entries.get(place).filter(|entry| entry.id == id);
        likely.or_else(|| self.entries.iter().find(|entry| entry.id == id)).copied()
    }

    /// Writes an entry where it stands, or behind all others.
    pub(super) fn set(&mut self, entry: Entry, place: usize) {
        let stands = |other: &Entry| other.id == entry.id;
        let place = match self.entries.get(place) {
            Some(likely) if stands(likely) => Some(place),
            _ => self.entries.iter().position(stands),
        };
        match place.and_then(|place| self.entries.get_mut(place)) {
            Some(found) => *found = entry,
            None => self.entries.push(entry),
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
        self.entries.retain(|entry| {
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
        let leased = Leased { head: Head::default(), leases: vec![Lease::default()] };
        let shared = Shared { entries: vec![entry(7, 8, 9)], leased };
        let empty = Shared { entries: Vec::new(), leased: Leased::default() };
        codec::law::holds("shared_limits", &[shared, empty]);
        codec::law::holds("limit", &[entry(u64::MAX, -3, 1_795_000_000_000_000_000), entry(1, i128::MAX, 0)]);
    }
}
