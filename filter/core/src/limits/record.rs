//! What is kept of an account: one entry for each of its limits, side by side in one value of the store.
//!
//! An entry is found by what its limit counts, not by its place. Entries of limits that this configuration does not have
//! stay for a while: during an update requests of the old and of the new one write the same record by turns.

use super::measured::Measured;

/// The state of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What the limit counts; see [`Measured::id`].
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

impl Entry {
    pub(super) const BYTES: usize = 32;

    fn read(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let at = rest.first_chunk()?;
        Some(Self {
            id: u64::from_le_bytes(*id),
            level: i128::from_le_bytes(*level),
            at: u64::from_le_bytes(*at),
        })
    }

    fn write(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (id, rest) = bytes.split_at_mut(8);
        let (level, at) = rest.split_at_mut(16);
        id.copy_from_slice(&self.id.to_le_bytes());
        level.copy_from_slice(&self.level.to_le_bytes());
        at.copy_from_slice(&self.at.to_le_bytes());
        bytes
    }
}

/// The entries of an account.
pub(super) struct Record(Vec<u8>);

impl Record {
    /// Takes what the store has; `limits` more entries may come.
    pub(super) fn new(stored: &[u8], limits: usize) -> Self {
        let whole = stored.len() - stored.len() % Entry::BYTES;
        let mut bytes = Vec::with_capacity(whole.max(limits * Entry::BYTES));
        bytes.extend_from_slice(stored.get(..whole).unwrap_or_default());
        Self(bytes)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The entry of a limit, which most likely stands at `place`.
    pub(super) fn find(&self, id: u64, place: usize) -> Option<Entry> {
        find(&self.0, id, place)
    }

    /// Writes an entry where it stands, or behind all others.
    pub(super) fn set(&mut self, entry: Entry, place: usize) {
        let stands = |bytes: &&mut [u8]| bytes.starts_with(&entry.id.to_le_bytes());
        let likely = place * Entry::BYTES..(place + 1) * Entry::BYTES;
        // Twice, because what is found in the first try cannot be let go of otherwise.
        let place = if self.0.get_mut(likely.clone()).as_ref().is_some_and(stands) {
            self.0.get_mut(likely)
        } else {
            self.0.chunks_exact_mut(Entry::BYTES).find(stands)
        };
        match place {
            Some(bytes) => bytes.copy_from_slice(&entry.write()),
            None => self.0.extend_from_slice(&entry.write()),
        }
    }

    /// Drops what other configurations left behind and nobody needs any more.
    pub(super) fn tidy(&mut self, own: &[Measured], now: u64) {
        if self.0.len() <= own.len() * Entry::BYTES {
            return;
        }
        let is_own = |entry: &Entry| own.iter().any(|limit| limit.id() == entry.id);
        let idle = |entry: &Entry| now.saturating_sub(entry.at) > IDLE_NS;
        let mut strangers = 0;
        let kept: Vec<u8> = entries(&self.0)
            .filter(|entry| {
                if is_own(entry) {
                    return true;
                }
                let keeps = Measured::outlives_its_configuration(entry, idle(entry), now);
                strangers += usize::from(keeps);
                keeps && strangers <= STRANGERS_MAX
            })
            .flat_map(Entry::write)
            .collect();
        self.0 = kept;
    }
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    bytes.chunks_exact(Entry::BYTES).filter_map(Entry::read)
}

/// The entry of this id in stored bytes.
pub(super) fn find(bytes: &[u8], id: u64, place: usize) -> Option<Entry> {
    let likely = bytes.get(place * Entry::BYTES..).and_then(Entry::read);
    likely.filter(|entry| entry.id == id).or_else(|| entries(bytes).find(|entry| entry.id == id))
}
