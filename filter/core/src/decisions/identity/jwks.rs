//! When are an issuer's keys fetched, and which are the ones that hold?
//!
//! One fetch serves the whole process: who fetches is agreed on in the shared store, and the keys are left there for all.
//! They are refreshed before anybody needs newer ones; the last good ones hold however long the issuer is away. Not decided
//! here: how they are fetched.

use super::keys::KeySet;
use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::millis;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The longest key set, in bytes.
pub const KEYS_BYTES_MAX: usize = 64 * 1024;

/// A token that names an unknown key makes for a fetch out of turn, at most once in this time: the tokens are anybody's.
pub const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(60);

/// After a failure the next fetch comes after this, then after twice as long, and so on.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// But no later than this.
const RETRY_LAST: Duration = Duration::from_secs(60);

/// A fetch that has not ended so long after its timeout was that of a VM that died. A time that is so far ahead is none.
const SLACK: Duration = Duration::from_secs(1);

/// Where keys are, and how patiently they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `Host`.
    pub host: String,
    /// The path and query.
    pub path: String,
    /// How old keys may be before they are fetched again.
    pub refresh: Duration,
    /// How long a fetch may take.
    pub timeout: Duration,
    /// How long a request waits for keys.
    pub wait: Duration,
}

/// What came of a fetch. A closed list: it is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The keys have changed.
    Changed,
    /// They are the same.
    Same,
    /// No answer came.
    Unreachable,
    /// The answer was not 200.
    Refused,
    /// The answer was longer than [`KEYS_BYTES_MAX`].
    TooLong,
    /// There was no key in it that we can use.
    Unusable,
}

impl Outcome {
    /// The word in metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Same => "same",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::TooLong => "too_long",
            Self::Unusable => "unusable",
        }
    }
}

/// What a fetch brought.
#[derive(Clone, Copy, Debug)]
pub enum Fetch<'b> {
    /// Nothing.
    Nothing,
    /// An answer of this status.
    Refusal,
    /// A body that was not read, for its length.
    TooLong,
    /// This body.
    Body(&'b [u8]),
}

/// The keys of an issuer that are fetched from it.
#[derive(Debug)]
pub struct Fetched {
    /// From where.
    pub origin: Origin,
    state_key: String,
    keys_key: String,
    cached: RefCell<CachedKeys>,
}

/// What this VM has read of them.
#[derive(Debug, Default)]
struct CachedKeys {
    generation: u64,
    keys: Option<Rc<KeySet>>,
    /// A token named a key that is not there.
    wants_more: bool,
}

/// What all VMs know, in milliseconds since the epoch; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Of the keys; 0 before the first.
    generation: u64,
    /// When the last fetch began.
    began: u64,
    /// When the last good one ended.
    succeeded: u64,
    /// When the last bad one ended.
    failed: u64,
    /// How many have failed since the last good one.
    failures: u64,
    /// When the last one out of turn began.
    spurred: u64,
}

impl Stored for State {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            generation: from.u64()?,
            began: from.u64()?,
            succeeded: from.u64()?,
            failed: from.u64()?,
            failures: from.u64()?,
            spurred: from.u64()?,
        })
    }

    fn write(&self, to: &mut Writer) {
        for number in [self.generation, self.began, self.succeeded, self.failed, self.failures, self.spurred]
        {
            to.u64(number);
        }
    }
}

impl State {
    fn of(record: &[u8]) -> Self {
        codec::decode(record).unwrap_or_default()
    }

    /// Without the times that have not come: the clock was put back since, and might take a year to come there again.
    fn as_of(self, now: u64) -> Self {
        let past = |time: u64| if time > now + ms(SLACK) { 0 } else { time };
        Self {
            began: past(self.began),
            succeeded: past(self.succeeded),
            failed: past(self.failed),
            spurred: past(self.spurred),
            ..self
        }
    }

    fn is_under_way(&self, origin: &Origin, now: u64) -> bool {
        self.began > self.succeeded.max(self.failed) && now < self.began + ms(origin.timeout + SLACK)
    }

    fn may_be_spurred(&self, now: u64) -> bool {
        self.spurred == 0 || now >= self.spurred + ms(UNKNOWN_KEY_EVERY)
    }

    /// Whether a fetch is due in its turn.
    fn is_due(&self, origin: &Origin, now: u64) -> bool {
        if self.failures > 0 {
            let doublings = u32::try_from(self.failures - 1).unwrap_or(u32::MAX).min(16);
            let retry = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LAST).min(origin.refresh);
            return now >= self.failed + ms(retry);
        }
        // A fetch whose VM died leaves `began` behind and nothing else.
        self.succeeded == 0 || now >= self.succeeded + ms(origin.refresh)
    }
}

fn ms(duration: Duration) -> u64 {
    // Half of the range, so that the sum of two is one too; the year 292 million.
    millis(duration).min(u64::MAX / 4)
}

impl Fetched {
    /// Keys of which nothing is known yet.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        let place = format!("jwks/{}/{}{}", origin.cluster, origin.host, origin.path);
        Self { origin, state_key: format!("{place}#state"), keys_key: place, cached: RefCell::default() }
    }

    /// The keys that hold, if there are any yet.
    #[must_use]
    pub fn keys(&self) -> Option<Rc<KeySet>> {
        self.cached.borrow().keys.clone()
    }

    /// Which ones they are: another number, other keys.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.cached.borrow().generation
    }

    /// Takes over the keys that another VM has fetched.
    pub fn load(&self, store: &dyn Store) -> Result<(), StoreFault> {
        let state = State::of(&store.load(&self.state_key)?.value);
        if state.generation == self.generation() {
            return Ok(());
        }
        let stored = store.load(&self.keys_key)?.value;
        // The keys are written before the state; should newer ones stand there already, the next look brings their number.
        if let Some(keys) = KeySet::read(&stored) {
            let mut cached = self.cached.borrow_mut();
            cached.keys = Some(Rc::new(keys));
            cached.generation = state.generation;
        }
        Ok(())
    }

    /// Whether a key that is not among ours may come with a fetch that is under way, or with one out of turn, which is then
    /// wanted.
    pub fn may_bring_more(&self, moment: Moment<'_>) -> Result<bool, StoreFault> {
        let now = ms(moment.now);
        let state = State::of(&moment.store.load(&self.state_key)?.value).as_of(now);
        if state.is_under_way(&self.origin, now) {
            return Ok(true);
        }
        let may = state.may_be_spurred(now);
        self.cached.borrow_mut().wants_more |= may;
        Ok(may)
    }

    /// Whether to fetch now. Of all VMs that ask, one is told to, and must tell what came of it to [`Self::settle`].
    pub fn claim(&self, moment: Moment<'_>) -> Result<bool, StoreFault> {
        let now = ms(moment.now);
        let wants_more = std::mem::take(&mut self.cached.borrow_mut().wants_more);
        store::update(moment.store, &self.state_key, |bytes| {
            let state = State::of(bytes).as_of(now);
            if state.is_under_way(&self.origin, now) {
                return (None, false);
            }
            let is_spurred = wants_more && state.may_be_spurred(now);
            if !is_spurred && !state.is_due(&self.origin, now) {
                return (None, false);
            }
            let spurred = if is_spurred { now } else { state.spurred };
            (Some(codec::encode(&State { began: now, spurred, ..state })), true)
        })
    }

    /// Takes what a fetch brought. Whatever is wrong with it, the keys that are there stay.
    pub fn settle(&self, moment: Moment<'_>, fetch: Fetch<'_>) -> Result<Outcome, StoreFault> {
        let outcome = match fetch {
            Fetch::Nothing => Outcome::Unreachable,
            Fetch::Refusal => Outcome::Refused,
            Fetch::TooLong => Outcome::TooLong,
            Fetch::Body(body) if body.len() > KEYS_BYTES_MAX => Outcome::TooLong,
            Fetch::Body(body) if KeySet::read(body).is_none() => Outcome::Unusable,
            Fetch::Body(body) if moment.store.load(&self.keys_key)?.value == body => Outcome::Same,
            Fetch::Body(body) => {
                moment.store.put(&self.keys_key, body)?;
                Outcome::Changed
            }
        };
        let now = ms(moment.now);
        store::update(moment.store, &self.state_key, |bytes| {
            let state = State::of(bytes);
            let state = match outcome {
                Outcome::Changed | Outcome::Same => State {
                    generation: state.generation
                        + u64::from(outcome == Outcome::Changed || state.generation == 0),
                    succeeded: now,
                    failures: 0,
                    ..state
                },
                _ => State { failed: now, failures: state.failures.saturating_add(1), ..state },
            };
            (Some(codec::encode(&state)), ())
        })?;
        self.load(moment.store)?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests;
