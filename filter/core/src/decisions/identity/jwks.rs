//! When are an issuer's keys fetched, and which are the ones that hold?
//!
//! One fetch serves the whole process: who fetches is agreed on in the shared store, and the keys are left there for all.
//! They are refreshed before anybody needs newer ones; the last good ones hold however long the issuer is away. Not decided
//! here: how they are fetched.

use super::keys::KeySet;
use crate::codec;
use crate::fetching::{Fetching, ms};
use crate::store::{self, Moment, Store, StoreFault};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

pub use crate::fetching::Fetch;

/// The longest key set, in bytes.
pub const KEYS_BYTES_MAX: usize = 64 * 1024;

/// A token that names an unknown key makes for a fetch out of turn, at most once in this time: the tokens are anybody's.
pub const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(60);

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

/// Whether a fetch out of turn may begin.
fn may_be_spurred(state: &Fetching, now: u64) -> bool {
    state.spurred == 0 || now >= state.spurred + ms(UNKNOWN_KEY_EVERY)
}

fn known(record: &[u8]) -> Fetching {
    codec::decode(record).unwrap_or_default()
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
        let state = known(&store.load(&self.state_key)?.value);
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
        let state = known(&moment.store.load(&self.state_key)?.value).as_of(now);
        if state.is_under_way(self.origin.timeout, now) {
            return Ok(true);
        }
        let may = may_be_spurred(&state, now);
        self.cached.borrow_mut().wants_more |= may;
        Ok(may)
    }

    /// Whether to fetch now. Of all VMs that ask, one is told to, and must tell what came of it to [`Self::settle`].
    pub fn claim(&self, moment: Moment<'_>) -> Result<bool, StoreFault> {
        let now = ms(moment.now);
        let wants_more = std::mem::take(&mut self.cached.borrow_mut().wants_more);
        store::update(moment.store, &self.state_key, |bytes| {
            let state = known(bytes).as_of(now);
            if state.is_under_way(self.origin.timeout, now) {
                return (None, false);
            }
            let is_spurred = wants_more && may_be_spurred(&state, now);
            if !is_spurred && !state.is_due(self.origin.refresh, now) {
                return (None, false);
            }
            let spurred = if is_spurred { now } else { state.spurred };
            (Some(codec::encode(&Fetching { began: now, spurred, ..state })), true)
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
            let state = known(bytes);
            let state = match outcome {
                Outcome::Changed | Outcome::Same => state.succeed(outcome == Outcome::Changed, now),
                _ => state.fail(now),
            };
            (Some(codec::encode(&state)), ())
        })?;
        self.load(moment.store)?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests;
