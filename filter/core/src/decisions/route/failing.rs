//! Which targets fail of late?
//!
//! Envoy knows more, and ejects hosts by it, but tells a filter nothing of that. Here stands only what attempts came to:
//! one that was answered with 5xx, or that Envoy gave up without an answer, is a failure, and any other answer takes them all
//! back. It is told to those who ask how the backends are, and to attempts, which may make a pause of it. The list is in the
//! store, which is written on failures and on the first answer after them, never while all goes well.

use super::Target;
use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::nanos;
use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

/// After so many failures with nothing good in between a target counts as down.
const FAILURES_MIN: u32 = 3;

/// After so many it is worth a pause: as many as Envoy ejects an address for (`consecutive_5xx` in `envoy.yaml`), so that where a
/// backend has several, the one that fails goes first.
const STEADY_MIN: u32 = 5;

/// Failures that are older say nothing any more: somebody has to try again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Where the failures are kept.
const KEY: &str = "tollgate/failures";

/// What this worker knows of failures, so that good answers need not ask the store.
#[derive(Debug, Default)]
pub struct Failing {
    /// The targets that have failed here since they last answered well here.
    noted: RefCell<HashSet<u64>>,
}

impl Failing {
    /// Notes that an attempt at a target failed. Answers whether that goes on for so long that it is worth a pause.
    pub fn failed(&self, target: &Target, moment: Moment<'_>) -> Result<bool, StoreFault> {
        self.noted.borrow_mut().insert(target.id);
        let now = nanos(moment.now);
        store::update(moment.store, KEY, |record| {
            let mut failures = Failures::read(record, now);
            match failures.0.iter_mut().find(|known| known.target == target.id) {
                Some(known) => *known = Failure { count: known.count.saturating_add(1), last: now, ..*known },
                None => failures.0.push(Failure { target: target.id, last: now, count: 1 }),
            }
            (Some(failures.write()), failures.is_steady(target.id))
        })
    }

    /// Takes back what was noted here against a target, for it has answered well.
    pub fn answered(&self, target: &Target, store: &dyn Store) -> Result<(), StoreFault> {
        let is_noted = self.noted.borrow().contains(&target.id);
        if is_noted { self.recovered(target, store) } else { Ok(()) }
    }

    /// Takes back what was noted against a target, whichever worker has noted it: it was asked whether it is well, and is.
    pub fn recovered(&self, target: &Target, store: &dyn Store) -> Result<(), StoreFault> {
        self.noted.borrow_mut().remove(&target.id);
        store::update(store, KEY, |record| {
            let mut failures = Failures::read(record, 0);
            failures.0.retain(|known| known.target != target.id);
            (Some(failures.write()), ())
        })
    }
}

/// The failures as read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(Vec<Failure>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    target: u64,
    /// Nanoseconds since the epoch.
    last: u64,
    count: u32,
}

impl Stored for Failure {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { target: from.u64()?, last: from.u64()?, count: from.u32()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.target);
        to.u64(self.last);
        to.u32(self.count);
    }
}

impl Failures {
    /// Reads those that still count.
    pub fn load(moment: Moment<'_>) -> Result<Self, StoreFault> {
        Ok(Self::read(&moment.store.load(KEY)?.value, nanos(moment.now)))
    }

    /// Whether the target with this number has failed time after time.
    #[must_use]
    pub fn is_down(&self, target: u64) -> bool {
        self.count(target) >= FAILURES_MIN
    }

    /// Whether it has failed for so long that this is worth a pause.
    #[must_use]
    pub fn is_steady(&self, target: u64) -> bool {
        self.count(target) >= STEADY_MIN
    }

    fn count(&self, target: u64) -> u32 {
        self.0.iter().find(|known| known.target == target).map_or(0, |known| known.count)
    }

    fn read(record: &[u8], now: u64) -> Self {
        let mut failures: Vec<Failure> = codec::decode_all(record);
        failures.retain(|known| now < known.last.saturating_add(nanos(FORGOTTEN_AFTER)));
        Self(failures)
    }

    fn write(&self) -> Vec<u8> {
        codec::encode_all(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Style;
    use crate::route::{Backend, Counts};
    use crate::store::MemoryStore;
    use std::rc::Rc;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_795_000_000);

    fn target(name: &str) -> Target {
        let backend = Backend {
            name: name.into(),
            cluster: name.into(),
            style: Style::OpenAi,
            base: Style::OpenAi.base().into(),
            region: None,
            credential: None,
            gauges: crate::gauge::Gauges::default(),
            counts: Counts::default(),
        };
        Target::new(Rc::new(backend), "d".into(), None)
    }

    #[test]
    fn a_target_is_down_while_failures_in_a_row_are_fresh() {
        let (store, here, there) = (MemoryStore::default(), Failing::default(), Failing::default());
        let (one, other) = (target("one"), target("other"));
        let down = |after| {
            let failures = Failures::load(Moment::new(&store, NOW + Duration::from_secs(after))).unwrap();
            [failures.is_down(one.id), failures.is_down(other.id)]
        };
        // Two in a row are not enough, and an answer in between begins anew.
        for _ in 0..2 {
            here.failed(&one, Moment::new(&store, NOW)).unwrap();
        }
        here.answered(&one, &store).unwrap();
        for worker in [&here, &there] {
            worker.failed(&one, Moment::new(&store, NOW)).unwrap();
            worker.failed(&other, Moment::new(&store, NOW)).unwrap();
        }
        assert_eq!(down(0), [false, false]);
        // All workers count together.
        there.failed(&one, Moment::new(&store, NOW + Duration::from_secs(5))).unwrap();
        assert_eq!(down(5), [true, false]);
        assert_eq!(down(34), [true, false]);
        assert_eq!(down(35), [false, false]);
        here.answered(&one, &store).unwrap();
        assert_eq!(down(5), [false, false]);
        // Whoever went to see takes back what others have noted.
        let steady: Vec<_> = (0..6).map(|_| here.failed(&one, Moment::new(&store, NOW)).unwrap()).collect();
        assert_eq!(steady, [false, false, false, false, true, true]);
        let another = Failing::default();
        another.answered(&one, &store).unwrap();
        assert_eq!(down(0), [true, false]);
        another.recovered(&one, &store).unwrap();
        assert_eq!(down(0), [false, false]);
    }

    #[test]
    fn while_all_goes_well_the_store_is_not_asked() {
        let (store, failing) = (MemoryStore::default(), Failing::default());
        store.break_with(Some(StoreFault::Unavailable));
        assert_eq!(failing.answered(&target("one"), &store), Ok(()));
        assert_eq!(failing.failed(&target("one"), Moment::new(&store, NOW)), Err(StoreFault::Unavailable));
        assert_eq!(failing.answered(&target("one"), &store), Err(StoreFault::Unavailable));
    }

    #[test]
    fn the_law_of_stored_values_holds() {
        codec::law::holds("failure", &[Failure { target: 7, last: 1_795_000_000_000_000_000, count: 3 }]);
    }
}
