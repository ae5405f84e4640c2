//! Which work goes on at a backend after its exchange has ended, and is not charged yet?
//!
//! A response in the background, a run and a batch are made by one request and say in the answer to another what they
//! cost. Until then a record of each stands in the shared store, found by the backend and the id that it gave. Whoever
//! takes a record out charges it; that is one caller, by compare-and-set. The records stand in a fixed number of keys, for
//! Envoy's shared data forgets none. Not decided here: what is charged, and to which limits it is due.

use crate::codec::{self, Reader, Stored, Writer};
use crate::endpoint::Operation;
use crate::store::{self, Moment, Store, StoreFault};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How many keys the records stand in.
pub const BUCKETS: u16 = 256;

/// The most records of one key: 65,536 in all.
const IN_BUCKET_MAX: usize = 256;

/// The most of them that are one client's, so that it leaves room for the others.
const OF_CLIENT_MAX: usize = 64;

/// How long work is waited for that something was reserved for. OpenAI deletes a response that was made in the background
/// after some ten minutes unless it is to be stored: <https://platform.openai.com/docs/guides/background>.
pub const RESERVED_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long work is waited for that nothing was reserved for, and a batch: that takes up to a day, and is read when its
/// client comes back to it.
pub const UNRESERVED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Work that goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The name of the client that asked for it.
    pub client: String,
    /// The name of the model; empty if it is not known.
    pub model: String,
    /// The word for what was asked.
    pub operation: String,
    /// The name of the backend that does it.
    pub backend: String,
    /// What the model is called there.
    pub deployment: String,
    /// Tokens that were reserved for the prompt.
    pub prompt: u64,
    /// Tokens that were reserved for what may be produced.
    pub completion: u64,
    /// Money that was reserved, in millionths.
    pub cost: u64,
    /// Whether another deployment of the backend's own does it.
    pub is_spillover: bool,
    /// What stays taken, as a record of whoever counts it; empty if nothing was.
    pub reserved: Vec<u8>,
}

/// By what a record is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; Self::BYTES]);

/// What came of noting work.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is found by its id from now on.
    Pending,
    /// There is work of this id already.
    IsThere,
    /// There are too many.
    Full,
}

impl Mark {
    const BYTES: usize = 16;

    /// The mark of what a backend calls so. Half of a SHA-256: nobody finds two ids of one mark.
    #[must_use]
    pub fn new(backend: &str, id: &str) -> Self {
        let digest = Sha256::new().chain_update(backend).chain_update([0]).chain_update(id).finalize();
        let mut mark = [0; Self::BYTES];
        for (byte, from) in mark.iter_mut().zip(digest) {
            *byte = from;
        }
        Self(mark)
    }

    fn bucket(&self) -> u16 {
        let [first, second, ..] = self.0;
        u16::from_le_bytes([first, second]) % BUCKETS
    }
}

/// What stands under a key, one for each work.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mark: Mark,
    /// The second at which it is waited for no longer.
    until: u64,
    pending: Pending,
}

impl Stored for Entry {
    const VERSION: u8 = 2;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (mark, until) = (Mark(from.array()?), from.u64()?);
        let mut text = || from.text().map(str::to_owned);
        let [client, model, operation, backend, deployment] = [text()?, text()?, text()?, text()?, text()?];
        let (prompt, completion, cost) = (from.u64()?, from.u64()?, from.u64()?);
        let is_spillover = from.u8()? != 0;
        let reserved = from.bytes()?.to_vec();
        let pending = Pending {
            client,
            model,
            operation,
            backend,
            deployment,
            prompt,
            completion,
            cost,
            is_spillover,
            reserved,
        };
        Some(Self { mark, until, pending })
    }

    fn write(&self, to: &mut Writer) {
        let Pending {
            client,
            model,
            operation,
            backend,
            deployment,
            prompt,
            completion,
            cost,
            is_spillover,
            reserved,
        } = &self.pending;
        to.array(self.mark.0);
        to.u64(self.until);
        for text in [client, model, operation, backend, deployment] {
            to.text(text);
        }
        for number in [prompt, completion, cost] {
            to.u64(*number);
        }
        to.u8((*is_spillover).into());
        to.bytes(reserved);
    }
}

impl Pending {
    /// How long it is waited for.
    fn wait(&self) -> Duration {
        let is_batch = self.operation == Operation::Other.word();
        if is_batch || self.prompt == 0 && self.completion == 0 { UNRESERVED_MAX } else { RESERVED_MAX }
    }

    /// Notes that this goes on, unless there are too many.
    pub fn note(&self, moment: Moment<'_>, mark: &Mark) -> Result<Noted, StoreFault> {
        let until = moment.now.saturating_add(self.wait()).as_secs();
        store::update(moment.store, &key(mark.bucket()), |value| {
            let mut entries: Vec<Entry> = codec::decode_all(value);
            if entries.iter().any(|entry| entry.mark == *mark) {
                return (None, Noted::IsThere);
            }
            let own = entries.iter().filter(|entry| entry.pending.client == self.client).count();
            if entries.len() >= IN_BUCKET_MAX || own >= OF_CLIENT_MAX {
                return (None, Noted::Full);
            }
            entries.push(Entry { mark: *mark, until, pending: self.clone() });
            (Some(codec::encode_all(&entries)), Noted::Pending)
        })
    }
}

fn key(bucket: u16) -> String {
    format!("tollgate/pending/{bucket}")
}

/// Takes work out that has ended; each is answered to one caller only.
pub fn take(store: &dyn Store, mark: &Mark) -> Result<Option<Pending>, StoreFault> {
    Ok(take_where(store, mark.bucket(), |entry| entry.mark == *mark)?.pop())
}

/// Takes out of a bucket what has been waited for too long; each is answered to one caller only.
pub fn overdue(moment: Moment<'_>, bucket: u16) -> Result<Vec<Pending>, StoreFault> {
    // No time is longer than the longest: what ends later was noted before the clock was set back.
    let latest = moment.now.saturating_add(UNRESERVED_MAX).as_secs();
    take_where(moment.store, bucket, |entry| entry.until <= moment.now.as_secs() || entry.until > latest)
}

fn take_where(
    store: &dyn Store,
    bucket: u16,
    is_due: impl Fn(&Entry) -> bool,
) -> Result<Vec<Pending>, StoreFault> {
    store::update(store, &key(bucket), |value| {
        let entries: Vec<Entry> = codec::decode_all(value);
        let (due, stay): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| is_due(entry));
        if due.is_empty() {
            return (None, Vec::new());
        }
        let due = due.into_iter().map(|entry| entry.pending).collect();
        (Some(codec::encode_all(&stay)), due)
    })
}

#[cfg(test)]
mod tests;
