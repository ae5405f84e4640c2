//! How long did the backend take that answered, until its first token?
//!
//! Measured from the departure of the attempt that served the request: what was spent before, in a queue or at backends
//! that failed, says nothing of this one. Only where the model is ordered by it.

use super::Flight;
use crate::route::{Sight, Watch};
use crate::store::{Store, StoreFault};
use std::cell::Cell;
use std::time::Duration;

/// When the last attempt departed, and whether there is something to be noted.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    pub(super) watch: Option<Watch>,
    departed: Cell<Duration>,
    spoke: Cell<Option<Duration>>,
}

impl Stopwatch {
    pub(super) fn new(watch: Option<Watch>) -> Self {
        Self { watch, ..Self::default() }
    }
}

impl Flight {
    /// An attempt departs. `now` is only asked where somebody wants to know.
    pub fn departs(&self, now: impl FnOnce() -> Duration) {
        if self.stopwatch.watch.is_some() {
            self.stopwatch.departed.set(now());
        }
    }

    /// The first token is here.
    pub fn speaks(&self, now: Duration) {
        if self.stopwatch.watch.is_some() {
            self.stopwatch.spoke.set(Some(now));
        }
    }

    /// Notes how long that took, once; the attempts before have failed.
    pub fn note_first_token(&self, local: &dyn Store) -> Result<(), StoreFault> {
        let (Some(watch), Some(spoke)) = (&self.stopwatch.watch, self.stopwatch.spoke.take()) else {
            return Ok(());
        };
        let took = spoke.saturating_sub(self.stopwatch.departed.get());
        let tries = self.tries.borrow();
        let Some(((last, _), earlier)) = tries.split_last() else { return Ok(()) };
        let mut sights: Vec<_> = earlier.iter().map(|(target, _)| (target.number(), Sight::Failed)).collect();
        sights.push((last.number(), Sight::FirstToken(took)));
        watch.note(local, &sights, spoke)
    }
}
