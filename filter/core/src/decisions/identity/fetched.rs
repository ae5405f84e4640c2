//! When is something fetched that all workers need, and what of it holds?
//!
//! One fetch serves the whole process: who fetches is agreed on in the shared store, and what was fetched is left there for all,
//! with its `etag`. It is refreshed before anybody needs a newer one; the last good one holds however long the source is away.
//! Not decided here: how it is fetched, what it means, and for how long an old one is good.

use crate::codec::{self, Reader, Stored, Writer};
use crate::fetching::{Fetching, ms};
use crate::store::{self, Moment, Store, StoreFault};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use crate::fetching::Fetch;

/// What somebody needs that is not there makes for a fetch out of turn, at most once in this time: anybody may name it.
pub const SPUR_EVERY: Duration = Duration::from_secs(60);

/// The longest `etag` that is sent back; with a longer one the whole is fetched each time.
const ETAG_BYTES_MAX: usize = 256;

/// Where it is, and how patiently it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `Host`.
    pub host: String,
    /// The path and query.
    pub path: String,
    /// How old it may be before it is fetched again.
    pub refresh: Duration,
    /// How long a fetch may take.
    pub timeout: Duration,
    /// How long a request waits for it.
    pub wait: Duration,
}

/// What came of a fetch. A closed list: it is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has changed.
    Changed,
    /// It is the same.
    Same,
    /// No answer came.
    Unreachable,
    /// The answer was neither 200 nor 304.
    Refused,
    /// The answer was longer than it may be.
    TooLong,
    /// It cannot be used.
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

/// What the bytes mean, or every fault of them. It may leave something in the shared store.
pub type Read<T> = Box<dyn Fn(&[u8], &dyn Store) -> Result<T, Vec<String>>>;

/// What is fetched.
pub struct Fetched<T> {
    /// From where.
    pub origin: Origin,
    bytes_max: usize,
    read: Read<T>,
    state_key: String,
    copy_key: String,
    told_key: String,
    cached: RefCell<Cached<T>>,
}

/// What this VM has read of it.
struct Cached<T> {
    /// What all know of the fetches, as it was when this VM last looked.
    state: Fetching,
    generation: u64,
    value: Option<Rc<T>>,
    /// This VM cannot use what all have: its configuration may be another one than that of the VM that fetched.
    is_faulty: bool,
    /// What nobody was told of yet.
    problem: Option<String>,
    /// Somebody needs what is not there.
    wants_more: bool,
}

/// What was fetched, as it is left for all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Copy {
    etag: String,
    body: Vec<u8>,
}

impl Stored for Copy {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { etag: from.text()?.to_owned(), body: from.bytes()?.to_vec() })
    }

    fn write(&self, to: &mut Writer) {
        to.text(&self.etag);
        to.bytes(&self.body);
    }
}

impl<T> fmt::Debug for Fetched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Whether a fetch out of turn may begin.
fn may_be_spurred(state: &Fetching, now: u64) -> bool {
    state.spurred == 0 || now >= state.spurred + ms(SPUR_EVERY)
}

fn known(record: &[u8]) -> Fetching {
    codec::decode(record).unwrap_or_default()
}

impl<T> Fetched<T> {
    /// Nothing of it is known yet. `kind` is what it is, in the names of records; `read` tells what the bytes mean, of which there
    /// are `bytes_max` at the most.
    #[must_use]
    pub fn new(origin: Origin, kind: &str, bytes_max: usize, read: Read<T>) -> Self {
        let place = format!("fetched/{kind}/{}/{}{}", origin.cluster, origin.host, origin.path);
        let cached = Cached {
            state: Fetching::default(),
            generation: 0,
            value: None,
            is_faulty: false,
            problem: None,
            wants_more: false,
        };
        Self {
            origin,
            bytes_max,
            read,
            state_key: format!("{place}#state"),
            told_key: format!("{place}#told"),
            copy_key: place,
            cached: RefCell::new(cached),
        }
    }

    /// The longest body, in bytes.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What holds, if there is anything yet.
    #[must_use]
    pub fn value(&self) -> Option<Rc<T>> {
        self.cached.borrow().value.clone()
    }

    /// Which one it is: another number, another one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.cached.borrow().generation
    }

    /// How long ago the source last said what holds, as far as this VM has looked.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.cached.borrow().state.succeeded))
    }

    /// Whether the last fetch has failed, or what it brought is of no use to this VM, so that nobody need wait for it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let cached = self.cached.borrow();
        cached.is_faulty || cached.state.failures > 0
    }

    /// What is wrong, if it was not told in this process yet.
    #[must_use]
    pub fn take_problem(&self) -> Option<String> {
        self.cached.borrow_mut().problem.take()
    }

    /// What these bytes mean, or every fault of them.
    pub fn read(&self, body: &[u8], store: &dyn Store) -> Result<T, Vec<String>> {
        (self.read)(body, store)
    }

    /// The `etag` of what all have.
    pub fn etag(&self, store: &dyn Store) -> Result<Option<String>, StoreFault> {
        Ok(self.copy(store)?.map(|copy| copy.etag).filter(|etag| !etag.is_empty()))
    }

    fn copy(&self, store: &dyn Store) -> Result<Option<Copy>, StoreFault> {
        Ok(codec::decode(&store.load(&self.copy_key)?.value))
    }

    /// Takes over what another VM has fetched.
    pub fn load(&self, store: &dyn Store) -> Result<(), StoreFault> {
        let state = known(&store.load(&self.state_key)?.value);
        self.cached.borrow_mut().state = state;
        if state.generation == self.generation() {
            return Ok(());
        }
        // It is written before the state; should a newer one stand there already, the next look brings its number.
        let Some(copy) = self.copy(store)? else { return Ok(()) };
        let found = (self.read)(&copy.body, store);
        self.take(found, state.generation, store)
    }

    fn take(
        &self,
        found: Result<T, Vec<String>>,
        generation: u64,
        store: &dyn Store,
    ) -> Result<(), StoreFault> {
        let problem = {
            let mut cached = self.cached.borrow_mut();
            cached.generation = generation;
            cached.is_faulty = found.is_err();
            match found {
                Ok(value) => {
                    cached.value = Some(Rc::new(value));
                    return Ok(());
                }
                Err(faults) => faults.join("; "),
            }
        };
        self.tell(problem, store)
    }

    /// Keeps a problem until somebody asks, unless this process has been told of the same one last.
    fn tell(&self, problem: String, store: &dyn Store) -> Result<(), StoreFault> {
        let digest = Sha256::digest(problem.as_bytes()).to_vec();
        let is_news = store::update(store, &self.told_key, |told| {
            let is_news = told != digest;
            (is_news.then(|| digest.clone()), is_news)
        })?;
        if is_news {
            self.cached.borrow_mut().problem = Some(problem);
        }
        Ok(())
    }

    /// Whether what is not there may come with a fetch that is under way, or with one out of turn, which is then wanted.
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
            let before = known(bytes);
            let state = before.as_of(now);
            if state.is_under_way(self.origin.timeout, now) {
                return (None, false);
            }
            let is_spurred = wants_more && may_be_spurred(&state, now);
            if !is_spurred && !state.is_due(self.origin.refresh, now) {
                return (None, false);
            }
            let spurred = if is_spurred { now } else { state.spurred };
            // What holds is no older for a clock that was put back.
            let succeeded = before.succeeded.min(now);
            (Some(codec::encode(&Fetching { began: now, spurred, succeeded, ..state })), true)
        })
    }

    /// Takes what a fetch brought, with the `etag` that was with it. Whatever is wrong with it, what is there stays.
    pub fn settle(
        &self,
        moment: Moment<'_>,
        fetch: Fetch<'_>,
        etag: Option<&str>,
    ) -> Result<Outcome, StoreFault> {
        let store = moment.store;
        // A VM that has not looked yet does not know what it would be the same as.
        self.load(store)?;
        let mut found = None;
        let outcome = match fetch {
            Fetch::Nothing => Outcome::Unreachable,
            Fetch::Refusal => Outcome::Refused,
            Fetch::TooLong => Outcome::TooLong,
            Fetch::Body(body) if body.len() > self.bytes_max => Outcome::TooLong,
            Fetch::Unchanged if self.generation() == 0 => Outcome::Refused,
            Fetch::Unchanged => self.as_before(),
            Fetch::Body(body) => {
                let etag = etag.filter(|etag| etag.len() <= ETAG_BYTES_MAX).unwrap_or_default();
                let before = self.copy(store)?;
                let is_same = before.as_ref().is_some_and(|before| before.body == body);
                let copy = Copy { etag: etag.to_owned(), body: body.to_vec() };
                if is_same && self.generation() > 0 {
                    if before.is_some_and(|before| before.etag != copy.etag) {
                        store.put(&self.copy_key, &codec::encode(&copy))?;
                    }
                    self.as_before()
                } else {
                    match (self.read)(body, store) {
                        Err(faults) => {
                            self.tell(faults.join("; "), store)?;
                            Outcome::Unusable
                        }
                        Ok(value) => {
                            store.put(&self.copy_key, &codec::encode(&copy))?;
                            found = Some(value);
                            Outcome::Changed
                        }
                    }
                }
            }
        };
        let now = ms(moment.now);
        let is_good = matches!(outcome, Outcome::Changed | Outcome::Same);
        let state = store::update(store, &self.state_key, |bytes| {
            let state = known(bytes);
            let state =
                if is_good { state.succeed(outcome == Outcome::Changed, now) } else { state.fail(now) };
            (Some(codec::encode(&state)), state)
        })?;
        self.cached.borrow_mut().state = state;
        if let Some(value) = found {
            self.take(Ok(value), state.generation, store)?;
        }
        match outcome {
            Outcome::Unusable => {}
            // The same problem, once it comes again, is news.
            _ if is_good => {
                store::update(store, &self.told_key, |told| ((!told.is_empty()).then(Vec::new), ()))?;
            }
            _ => self.tell(outcome.word().to_owned(), store)?,
        }
        Ok(outcome)
    }

    /// What came of a fetch that brought what all have.
    fn as_before(&self) -> Outcome {
        if self.cached.borrow().is_faulty { Outcome::Unusable } else { Outcome::Same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_law_of_stored_values_holds() {
        codec::law::holds("fetched", &[Copy { etag: "\"7\"".to_owned(), body: b"{}".to_vec() }]);
    }
}
