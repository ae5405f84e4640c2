//! How long did the backend take that answered?
//!
//! Until its first token, or for each token of an answer that comes whole. Measured from the departure of the attempt that
//! served the request: what was spent before, in a queue or at backends that failed, says nothing of this one. Only where the
//! model is ordered by it.

use super::Flight;
use crate::route::{Measure, Sight, Watch, per_token};
use crate::store::{Moment, Outside, Store, StoreFault};
use crate::tokens::Usage;
use std::cell::Cell;
use std::time::Duration;

/// When the last attempt departed, and whether there is something to be noted.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    watch: Option<Watch>,
    departed: Cell<Duration>,
    stopped: Cell<Option<Duration>>,
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

    fn measuring(&self, measure: Measure) -> Option<&Watch> {
        self.watch.as_ref().filter(|watch| watch.shows(measure))
    }
}

impl Flight {
    /// The first token is here.
    pub fn speaks(&self, now: Duration) {
        if self.stopwatch.measuring(Measure::ToFirstToken).is_some() {
            self.stopwatch.stopped.set(Some(now));
        }
    }

    /// The end of the answer is here. `now` is only asked if its time is measured.
    pub fn ends(&self, now: impl FnOnce() -> Duration) {
        if self.stopwatch.measuring(Measure::PerToken).is_some() {
            self.stopwatch.stopped.set(Some(now()));
        }
    }

    /// Notes how long the first token took, once it is here.
    pub fn note_first_token(&self, local: &dyn Store) -> Result<(), StoreFault> {
        self.note_took(Measure::ToFirstToken, |took| took, local)
    }

    /// Notes how long an answer took that came whole and has used so much.
    pub fn note_answer(&self, used: Usage, local: &dyn Store) -> Result<(), StoreFault> {
        self.note_took(Measure::PerToken, |took| per_token(took, used), local)
    }

    /// Once; the attempts before have failed.
    fn note_took(
        &self,
        measure: Measure,
        of: impl FnOnce(Duration) -> Duration,
        local: &dyn Store,
    ) -> Result<(), StoreFault> {
        let Some(watch) = self.stopwatch.measuring(measure) else { return Ok(()) };
        let Some(stopped) = self.stopwatch.stopped.take() else { return Ok(()) };
        let took = of(stopped.saturating_sub(self.stopwatch.departed.get()));
        let tries = self.tries.borrow();
        let Some((last, earlier)) = tries.split_last() else { return Ok(()) };
        let mut sights: Vec<_> = earlier.iter().map(|tried| (tried.target.number(), Sight::Failed)).collect();
        sights.push((last.target.number(), Sight::Took(took)));
        watch.note(Moment::new(local, stopped), &sights)
    }
}
