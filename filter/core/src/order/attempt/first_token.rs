//! How long did the backend take that answered, until its first token?
//!
//! Measured from the departure of the attempt that served the request: what was spent before, in a queue or at backends
//! that failed, says nothing of this one. Only where the model is ordered by it.

use super::Flight;
use crate::route::{Sight, Watch};
use crate::store::{Moment, Outside, Store, StoreFault};
use std::cell::Cell;
use std::time::Duration;

/// When the last attempt departed, and whether there is something to be noted.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    watch: Option<Watch>,
    departed: Cell<Duration>,
    spoke: Cell<Option<Duration>>,
}

impl Stopwatch {
    pub(super) fn new(watch: Option<Watch>) -> Self {
        Self { watch, ..Self::default() }
    }

    /// An attempt departs.
    pub(super) fn start(&self, outside: &Outside<'_>) {
        if self.watch.is_some() {
            self.departed.set(outside.now());
        }
    }
}

impl Flight {
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
        watch.note(Moment::new(local, spoke), &sights)
    }
}
