//! Which work goes on at a backend after its exchange has ended, and is not charged yet?
//!
//! A response in the background, a run and a batch are made by one request and say in the answer to another what they
//! cost. Until then a record of each stands in the shared store, found by the backend and the id that it gave. Whoever
//! takes a record out charges it; that is one caller, by compare-and-set. The records stand in a fixed number of keys, for
//! Envoy's shared data forgets none. Not decided here: what is charged, and to which limits it is due.

use crate::store::{self, Store, StoreFault};
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

/// How long work is waited for that nothing was reserved for: a batch takes up to a day, and is read when its client
/// comes back to it.
pub const UNRESERVED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The first byte of a key's value: how the rest is written. Values that begin with another are left alone.
const SHAPE: u8 = 1;

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
    /// What stays taken, in the bytes of whoever counts it; empty if nothing was.
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
    Known,
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

/// A record in a key's value: the mark, the second at which it is over, the length of the rest, the rest.
struct Entry<'v> {
    mark: &'v [u8],
    until: u64,
    body: &'v [u8],
    /// All of it.
    bytes: &'v [u8],
}

impl<'v> Entry<'v> {
    const HEAD: usize = Mark::BYTES + 8 + 4;

    fn first(value: &'v [u8]) -> Option<(Self, &'v [u8])> {
        let (mark, rest) = value.split_at_checked(Mark::BYTES)?;
        let (until, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (body, rest) = rest.split_at_checked(length)?;
        let bytes = value.get(..Self::HEAD + length)?;
        Some((Self { mark, until: u64::from_le_bytes(*until), body, bytes }, rest))
    }

    /// All entries of a value; `None` where it is written in a shape that is not known.
    fn all(value: &'v [u8]) -> Option<Vec<Self>> {
        let mut rest = match value.split_first() {
            None => return Some(Vec::new()),
            Some((&SHAPE, rest)) => rest,
            Some(_) => return None,
        };
        let mut entries = Vec::new();
        while let Some((entry, after)) = Entry::first(rest) {
            entries.push(entry);
            rest = after;
        }
        Some(entries)
    }

    fn write_all<'e>(entries: impl IntoIterator<Item = &'e Entry<'e>>) -> Vec<u8> {
        let mut value = vec![SHAPE];
        for entry in entries {
            value.extend_from_slice(entry.bytes);
        }
        value
    }
}

impl Pending {
    fn texts(&self) -> [&str; 5] {
        [&self.client, &self.model, &self.operation, &self.backend, &self.deployment]
    }

    fn write(&self, mark: &Mark, until: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        for number in [self.prompt, self.completion, self.cost] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for text in self.texts() {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.extend_from_slice(&self.reserved);
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&mark.0[..], &until.to_le_bytes(), &length.to_le_bytes(), &body].concat()
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (prompt, rest) = body.split_first_chunk()?;
        let (completion, rest) = rest.split_first_chunk()?;
        let (cost, rest) = rest.split_first_chunk()?;
        let mut rest = rest;
        let mut text = || {
            let end = memchr::memchr(0, rest)?;
            let (text, after) = rest.split_at_checked(end)?;
            rest = after.get(1..)?;
            std::str::from_utf8(text).ok().map(str::to_owned)
        };
        let [client, model, operation, backend, deployment] = [text()?, text()?, text()?, text()?, text()?];
        Some(Self {
            client,
            model,
            operation,
            backend,
            deployment,
            prompt: u64::from_le_bytes(*prompt),
            completion: u64::from_le_bytes(*completion),
            cost: u64::from_le_bytes(*cost),
            reserved: rest.to_vec(),
        })
    }

    /// How long it is waited for.
    fn wait(&self) -> Duration {
        if self.prompt == 0 && self.completion == 0 { UNRESERVED_MAX } else { RESERVED_MAX }
    }

    /// Notes that this goes on, unless there are too many.
    pub fn note(&self, store: &dyn Store, mark: &Mark, now: Duration) -> Result<Noted, StoreFault> {
        let bytes = self.write(mark, now.saturating_add(self.wait()).as_secs());
        store::update(store, &key(mark.bucket()), |value| {
            let Some(entries) = Entry::all(value) else { return (None, Noted::Full) };
            if entries.iter().any(|entry| entry.mark == mark.0) {
                return (None, Noted::Known);
            }
            let is_own = |entry: &&Entry<'_>| {
                Self::read(entry.body).is_some_and(|pending| pending.client == self.client)
            };
            if entries.len() >= IN_BUCKET_MAX || entries.iter().filter(is_own).count() >= OF_CLIENT_MAX {
                return (None, Noted::Full);
            }
            let mut value = Entry::write_all(&entries);
            value.extend_from_slice(&bytes);
            (Some(value), Noted::Pending)
        })
    }
}

fn key(bucket: u16) -> String {
    format!("tollgate/pending/{bucket}")
}

/// Takes work out that has ended; each is answered to one caller only.
pub fn take(store: &dyn Store, mark: &Mark) -> Result<Option<Pending>, StoreFault> {
    Ok(take_where(store, mark.bucket(), |entry| entry.mark == mark.0)?.pop())
}

/// Takes out of a bucket what has been waited for too long; each is answered to one caller only.
pub fn overdue(store: &dyn Store, bucket: u16, now: Duration) -> Result<Vec<Pending>, StoreFault> {
    take_where(store, bucket, |entry| entry.until <= now.as_secs())
}

fn take_where(
    store: &dyn Store,
    bucket: u16,
    is_due: impl Fn(&Entry<'_>) -> bool,
) -> Result<Vec<Pending>, StoreFault> {
    store::update(store, &key(bucket), |value| {
        let entries = Entry::all(value).unwrap_or_default();
        let (due, stay): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| is_due(entry));
        if due.is_empty() {
            return (None, Vec::new());
        }
        let due = due.iter().filter_map(|entry| Pending::read(entry.body)).collect();
        (Some(Entry::write_all(&stay)), due)
    })
}

#[cfg(test)]
mod tests;
