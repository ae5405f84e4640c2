//! Which keys were issued while the gateway runs?
//!
//! They stand in the fleet's store, by their SHA-256. A key that this worker does not know waits for one look-up; what came of it is
//! remembered for a stated time, and what is in use is looked up again before that is over. Who was known goes on for a while if
//! the store does not answer. A client that stands there too is asked for together with its key, so what is known of both is of
//! one age. Not decided here: how the store is asked, and what its entries mean.

use super::issuer::Doubt;
use super::memory::Memory;
use super::{KeyHash, Known, Validity};
use crate::codec::{self, Reader, Stored, Writer};
use crate::denial::Denial;
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::millis;
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// What an issued key begins with; 64 hexadecimal digits in lower case follow. Nothing else is ever looked up.
pub const KEY_PREFIX: &str = "tg-";

/// How many digits follow.
const DIGITS: usize = 64;

/// How much of a key's hash names it to an operator.
const ID_DIGITS: usize = 12;

/// The most keys that a worker knows; those that were used last are at least half of them. One that may less than its client counts
/// as several.
const KNOWN_MAX: usize = 200_000;

/// The most keys of which it remembers that they are nobody's.
const UNKNOWN_MAX: usize = 10_000;

/// The most keys that one call asks about.
pub const KEYS_PER_CALL_MAX: usize = 1000;

/// How long after a call that failed the next one comes.
const RETRY: Duration = Duration::from_secs(1);

/// The record of when the next key may be looked up, in the store of this process.
const PACE: &str = "tollgate/issued-keys";

/// How many may be looked up at once, after nobody was: those of this time.
const BURST_MS: u64 = 1000;

/// What an operator calls a key: the beginning of its hash.
#[must_use]
pub fn id(key: &KeyHash) -> String {
    key.hex().chars().take(ID_DIGITS).collect()
}

/// Whether a key looks like one that was issued.
#[must_use]
pub fn is_meant(key: &[u8]) -> bool {
    key.strip_prefix(KEY_PREFIX.as_bytes()).is_some_and(|digits| {
        digits.len() == DIGITS && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// How long what is known holds, and how much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long an answer holds: no longer than that is a key good that was revoked.
    pub fresh: Duration,
    /// How long a key goes on being good that was known, while the store does not answer.
    pub stale: Duration,
    /// How many keys that a worker does not know are looked up in a second, by all workers of this process together.
    pub per_second: u64,
    /// How long a request waits for an answer.
    pub wait: Duration,
}

/// What an entry of the store means.
#[derive(Debug)]
pub struct Entry<C> {
    /// When the key is good.
    pub validity: Validity,
    /// Whose it is, and what it may.
    pub known: Known<C>,
    /// As how many it counts of those that a worker knows.
    pub weight: usize,
    /// What is said of it that its client may not, and it therefore may not either.
    pub beyond: Vec<String>,
    /// The name of its client, if that stands in the store too.
    pub joined: Option<Rc<str>>,
}

/// A key to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its hash.
    pub key: KeyHash,
    /// The client to be looked up with it, for it stands in the store.
    pub client: Option<Rc<str>>,
}

/// What the store has said of a key.
#[derive(Clone, Copy)]
pub struct Said<'s> {
    /// What stands there of it.
    pub entry: &'s [u8],
    /// The client that was asked for with it, and what stands there of that.
    pub client: Option<(&'s str, Option<&'s [u8]>)>,
}

/// What that means.
#[derive(Debug)]
pub enum Meaning<C> {
    /// All that is to be known.
    Whole(Entry<C>),
    /// Nothing before this client has been looked up with it.
    Lacks(Rc<str>),
}

/// Why it means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is the key's entry.
    OfKey(String),
    /// It is its client's; and whether that was not told before.
    OfClient(String, bool),
}

/// What the store has of a key, and what that means; or why it means nothing. The store of this process is for what its workers
/// have in common.
pub type Read<C> = Box<dyn Fn(&KeyHash, Said<'_>, &dyn Store) -> Result<Meaning<C>, Problem>>;

/// What came of looking a key up. A closed list: it is a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a client's.
    Found,
    /// It is nobody's.
    Absent,
    /// The store has something about it, or about its client, that makes no sense.
    Unusable(Problem),
}

impl Problem {
    /// What is wrong.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::OfKey(text) | Self::OfClient(text, _) => text,
        }
    }
}

impl Outcome {
    /// The word in metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Unusable(Problem::OfKey(_)) => "unusable",
            Self::Unusable(Problem::OfClient(..)) => "client_unusable",
        }
    }
}

/// A key that is a client's.
struct Remembered<C> {
    validity: Validity,
    holder: Known<C>,
    joined: Option<Rc<str>>,
    /// When the store was asked.
    asked: Cell<Duration>,
    /// Whether it was used since.
    is_used: Cell<bool>,
}

/// The keys that were issued, as far as this worker has heard of them.
pub struct Issued<C> {
    rules: Rules,
    read: Read<C>,
    known: RefCell<Memory<Rc<Remembered<C>>>>,
    /// Keys that are nobody's, and when the store was asked.
    unknown: RefCell<Memory<Duration>>,
    /// Those that requests wait for, in their order.
    wanted: RefCell<VecDeque<Wanted>>,
    /// Those that are wanted, and those that the store is being asked about.
    pending: RefCell<HashSet<KeyHash>>,
    /// When which key that is known is to be looked up again, in this order.
    due: RefCell<VecDeque<(Duration, KeyHash)>>,
    /// When the last call failed, if that failed.
    failed: Cell<Option<Duration>>,
    /// How many keys were not looked up, for too many were.
    refused: Cell<u64>,
}

impl<C> fmt::Debug for Issued<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// When the next key may be looked up, in microseconds since 1970, if all that came before had come evenly.
#[derive(Debug, PartialEq, Eq)]
struct Pace(u64);

impl Stored for Pace {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self(from.u64()?))
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.0);
    }
}

/// Whether one more key may be looked up now.
fn takes_one(moment: Moment<'_>, per_second: u64) -> Result<bool, StoreFault> {
    let now = millis(moment.now).saturating_mul(1000);
    let each = 1_000_000 / per_second.max(1);
    store::update(moment.store, PACE, |record| {
        let Pace(next) = codec::decode(record).unwrap_or(Pace(0));
        // A time that is further ahead is of a clock that was put back since.
        let next = if next > now.saturating_add(BURST_MS * 1000) { now } else { next.max(now) };
        let after = next.saturating_add(each);
        if after > now.saturating_add(BURST_MS * 1000) {
            return (None, false);
        }
        (Some(codec::encode(&Pace(after))), true)
    })
}

impl<C> Issued<C> {
    /// Nothing is known yet. `read` tells what the store's entries mean.
    #[must_use]
    pub fn new(rules: Rules, read: Read<C>) -> Self {
        Self {
            rules,
            read,
            known: RefCell::new(Memory::new(KNOWN_MAX)),
            unknown: RefCell::new(Memory::new(UNKNOWN_MAX)),
            wanted: RefCell::default(),
            pending: RefCell::default(),
            due: RefCell::default(),
            failed: Cell::new(None),
            refused: Cell::new(0),
        }
    }

    /// How long what is known holds, and how much is asked.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Whose key this is, and when it is good; `None` if it is nobody's.
    pub(super) fn find(
        &self,
        hash: KeyHash,
        moment: Moment<'_>,
    ) -> Result<Option<(Validity, Known<C>)>, Doubt> {
        let now = moment.now;
        let known = self.known.borrow_mut().recall(&hash);
        if let Some(known) = &known {
            known.is_used.set(true);
            let age = age(known.asked.get(), now);
            let found = || Ok(Some((known.validity, known.holder.clone())));
            if age.is_some_and(|age| age < self.rules.fresh) {
                return found();
            }
            if self.is_down(now) && age.is_some_and(|age| age < self.rules.stale) {
                if !self.is_resting(now) {
                    self.want(hash, known.joined.clone());
                }
                return found();
            }
        } else if let Some(asked) = self.unknown.borrow_mut().recall(&hash)
            && age(asked, now).is_some_and(|age| age < self.rules.fresh)
        {
            return Ok(None);
        }
        if self.is_resting(now) {
            return Err(Doubt::Denied(Denial::KeysUnavailable));
        }
        if !self.pending.borrow().contains(&hash) {
            // Who was known is known again before those who never were.
            if known.is_none() && takes_one(moment, self.rules.per_second) != Ok(true) {
                self.refused.set(self.refused.get().saturating_add(1));
                return Err(Doubt::Denied(Denial::KeysUnavailable));
            }
            self.want(hash, known.and_then(|known| known.joined.clone()));
        }
        Err(Doubt::Wait(self.rules.wait))
    }

    fn want(&self, key: KeyHash, client: Option<Rc<str>>) {
        if self.pending.borrow_mut().insert(key) {
            self.wanted.borrow_mut().push_back(Wanted { key, client });
        }
    }

    /// Whether the store is silent, as far as that is known: what failed long ago says nothing of now, for without requests nobody asks.
    fn is_down(&self, now: Duration) -> bool {
        let last = self.failed.get().and_then(|failed| age(failed, now));
        last.is_some_and(|age| age < RETRY + self.rules.wait)
    }

    /// Whether a call has failed just now, so that none is made.
    fn is_resting(&self, now: Duration) -> bool {
        self.failed.get().and_then(|failed| age(failed, now)).is_some_and(|age| age < RETRY)
    }

    /// The keys to ask the store about now, if any. What came of it must be told to [`Self::answered`] or [`Self::failed`].
    pub fn due(&self, now: Duration) -> Vec<Wanted> {
        if self.is_resting(now) {
            return Vec::new();
        }
        let mut wanted = self.wanted.borrow_mut();
        let count = wanted.len().min(KEYS_PER_CALL_MAX);
        let mut keys: Vec<_> = wanted.drain(..count).collect();
        let mut due = self.due.borrow_mut();
        // Not later because the clock was set back.
        let is_due = |at: Duration| now >= at || now + self.rules.fresh < at;
        while keys.len() < KEYS_PER_CALL_MAX
            && let Some((_, hash)) = due.front().copied().filter(|(at, _)| is_due(*at))
        {
            due.pop_front();
            let known = self.known.borrow().peek(&hash);
            // Who is not there any more comes back by a request of his own.
            let Some(known) = known.filter(|known| known.is_used.get()) else { continue };
            if self.pending.borrow_mut().insert(hash) {
                keys.push(Wanted { key: hash, client: known.joined.clone() });
            }
        }
        keys
    }

    /// Takes what the store has said of a key, which it was asked about at that moment. `None` if its client is to be looked up with
    /// it, which is due at once.
    pub fn answered(&self, hash: KeyHash, said: Option<Said<'_>>, asked: Moment<'_>) -> Option<Outcome> {
        self.failed.set(None);
        let outcome = match said.map(|said| (self.read)(&hash, said, asked.store)) {
            Some(Ok(Meaning::Lacks(client))) => {
                // Those who wait for it have waited for one call already.
                self.wanted.borrow_mut().push_front(Wanted { key: hash, client: Some(client) });
                return None;
            }
            Some(Ok(Meaning::Whole(Entry { validity, known: holder, weight, joined, .. }))) => {
                self.pending.borrow_mut().remove(&hash);
                let (asked, is_used) = (Cell::new(asked.now), Cell::new(false));
                let mut due = self.due.borrow_mut();
                if due.len() < KNOWN_MAX {
                    due.push_back((asked.get() + self.rules.fresh * 3 / 4, hash));
                }
                let known = Rc::new(Remembered { validity, holder, joined, asked, is_used });
                self.known.borrow_mut().note_weighing(hash, known, weight);
                return Some(Outcome::Found);
            }
            Some(Err(problem)) => Outcome::Unusable(problem),
            None => Outcome::Absent,
        };
        self.pending.borrow_mut().remove(&hash);
        self.known.borrow_mut().forget(&hash);
        self.unknown.borrow_mut().note(hash, asked.now);
        Some(outcome)
    }

    /// Takes that the store did not answer about these keys; says whether it did before.
    pub fn failed(&self, keys: &[Wanted], now: Duration) -> bool {
        let is_news = self.failed.replace(Some(now)).is_none();
        let mut pending = self.pending.borrow_mut();
        // Whoever waits for others is told at once, too.
        let wanted = self.wanted.take();
        for Wanted { key, .. } in keys.iter().chain(&wanted) {
            pending.remove(key);
        }
        is_news
    }

    /// What the store's words for this key mean, or would.
    pub fn read(&self, hash: &KeyHash, said: Said<'_>, store: &dyn Store) -> Result<Meaning<C>, Problem> {
        (self.read)(hash, said, store)
    }

    /// The first that is found among those whose keys are known.
    pub fn find_map<F>(&self, find: impl Fn(&C) -> Option<F>) -> Option<F> {
        self.known.borrow().all().find_map(|known| find(&known.holder.client))
    }

    /// How many keys were not looked up since this was asked last, for too many were.
    #[must_use]
    pub fn take_refused(&self) -> u64 {
        self.refused.take()
    }
}

/// How long ago it was; `None` of what has not come: the clock was set back since.
fn age(then: Duration, now: Duration) -> Option<Duration> {
    now.checked_sub(then)
}

#[cfg(test)]
mod tests;
