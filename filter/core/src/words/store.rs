//! What do all workers know together? Bytes under a key, changed by compare-and-set.
//!
//! Not decided here: what the bytes mean. In Envoy this is the shared data of the VM; [`MemoryStore`] serves tests and
//! benches.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// How often a compare-and-set is tried before the store counts as contended. Each try that fails means that another
/// worker made progress, so this is only reached with far more writers than Envoy has workers.
pub const SWAP_TRIES_MAX: u32 = 256;

/// The state of a key when it was read; `None` where there was nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub Option<u32>);

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The bytes; empty where there was nothing.
    pub value: Vec<u8>,
    /// To be given back to [`Store::swap`].
    pub version: Version,
}

/// What became of a write.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The value stands.
    Done,
    /// Somebody wrote in between: read again.
    Stale,
}

/// Why a store could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// The store answered with something other than a value.
    Unavailable,
    /// [`SWAP_TRIES_MAX`] writes in a row came too late.
    Contended,
}

/// How old a value may be that was only [glanced](Store::glance) at.
pub const GLANCE_MAX: Duration = Duration::from_millis(20);

/// Memory shared by all workers.
pub trait Store {
    /// Reads a key.
    fn load(&self, key: &str) -> Result<Loaded, StoreFault>;

    /// The value of a key as this worker has last seen it: what it wrote itself is there, what others wrote may come
    /// [`GLANCE_MAX`] later. For what is read by every request, seldom written, and never decided on alone.
    fn glance(&self, key: &str, now: Duration) -> Result<Rc<[u8]>, StoreFault> {
        let _ = now;
        self.load(key).map(|loaded| loaded.value.into())
    }

    /// Writes a key if nobody else did since `version` was read; with `Version(None)`, if it does not exist yet.
    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault>;

    /// Writes a key, whoever wrote it before.
    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault>;
}

/// When something is decided, and what all workers know then.
#[derive(Clone, Copy)]
pub struct Moment<'s> {
    /// The store of this process.
    pub store: &'s dyn Store,
    /// Since 1970.
    pub now: Duration,
}

impl<'s> Moment<'s> {
    /// This store, at this time since 1970.
    #[must_use]
    pub const fn new(store: &'s dyn Store, now: Duration) -> Self {
        Self { store, now }
    }
}

/// What a callback of Envoy's meets: the store of this process, and a clock. To ask the clock is a call, so it is asked where
/// time matters, and once.
pub struct Outside<'s> {
    /// The store of this process.
    pub store: &'s dyn Store,
    clock: &'s dyn Fn() -> Duration,
    now: OnceCell<Duration>,
}

impl<'s> Outside<'s> {
    /// A store, and a clock that tells the time since 1970.
    #[must_use]
    pub const fn new(store: &'s dyn Store, clock: &'s dyn Fn() -> Duration) -> Self {
        Self { store, clock, now: OnceCell::new() }
    }

    /// Since 1970.
    #[must_use]
    pub fn now(&self) -> Duration {
        *self.now.get_or_init(self.clock)
    }

    /// Both, where time matters.
    #[must_use]
    pub fn moment(&self) -> Moment<'s> {
        Moment { store: self.store, now: self.now() }
    }
}

/// Reads, changes and writes one key until the write stands. `change` is given the bytes and returns what to write,
/// or `None` to leave them, with a result for the caller.
pub fn update<T>(
    store: &dyn Store,
    key: &str,
    mut change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Result<T, StoreFault> {
    for _ in 0..SWAP_TRIES_MAX {
        let loaded = store.load(key)?;
        let (value, result) = change(&loaded.value);
        let Some(value) = value else { return Ok(result) };
        match store.swap(key, &value, loaded.version)? {
            Swap::Done => return Ok(result),
            Swap::Stale => {}
        }
    }
    Err(StoreFault::Contended)
}

/// A store for one thread, with faults on request.
#[derive(Debug, Default)]
pub struct MemoryStore {
    cells: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    fault: RefCell<Option<StoreFault>>,
}

impl MemoryStore {
    /// From now on every call answers `fault`; with `None` it works again.
    pub fn break_with(&self, fault: Option<StoreFault>) {
        self.fault.replace(fault);
    }
}

impl Store for MemoryStore {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        if let Some(fault) = *self.fault.borrow() {
            return Err(fault);
        }
        Ok(match self.cells.borrow().get(key) {
            Some((value, version)) => Loaded { value: value.clone(), version: Version(Some(*version)) },
            None => Loaded { value: Vec::new(), version: Version(None) },
        })
    }

    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        if let Some(fault) = *self.fault.borrow() {
            return Err(fault);
        }
        let mut cells = self.cells.borrow_mut();
        let current = cells.get(key).map(|(_, version)| *version);
        if current != version.0 {
            return Ok(Swap::Stale);
        }
        cells.insert(key.to_owned(), (value.to_vec(), current.unwrap_or(0).wrapping_add(1)));
        Ok(Swap::Done)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        let version = self.load(key)?.version;
        self.swap(key, value, version).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_write_after_somebody_elses_is_stale() {
        let store = MemoryStore::default();
        let first = store.load("k").unwrap();
        assert_eq!(store.swap("k", b"a", first.version), Ok(Swap::Done));
        assert_eq!(store.swap("k", b"b", first.version), Ok(Swap::Stale));
        assert_eq!(store.load("k").unwrap().value, b"a");
    }

    #[test]
    fn the_clock_is_asked_once_if_at_all() {
        let (store, asked) = (MemoryStore::default(), Cell::new(0));
        let clock = || {
            asked.set(asked.get() + 1);
            Duration::from_secs(asked.get())
        };
        let outside = Outside::new(&store, &clock);
        assert_eq!(asked.get(), 0);
        assert_eq!((outside.now(), outside.moment().now), (Duration::from_secs(1), Duration::from_secs(1)));
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn an_update_that_never_wins_ends_as_contended() {
        struct Busy(MemoryStore);
        impl Store for Busy {
            fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
                self.0.load(key)
            }
            fn swap(&self, _: &str, _: &[u8], _: Version) -> Result<Swap, StoreFault> {
                Ok(Swap::Stale)
            }
            fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
                self.0.put(key, value)
            }
        }
        let mut tries = 0;
        let outcome = update(&Busy(MemoryStore::default()), "k", |_| {
            tries += 1;
            (Some(vec![1]), ())
        });
        assert_eq!((outcome, tries), (Err(StoreFault::Contended), SWAP_TRIES_MAX));
    }
}
