//! Does a request that its last backend refused go back into the queue?
//!
//! It does while its time lasts: Envoy asks that backend again, and the attempt is held until it is its turn. Observed on Envoy 1.40:
//! an attempt whose headers and body are held has a connection, and goes on when the tick lets it; `per_try_timeout` runs meanwhile.
//! Envoy has been told of these attempts before, so where nobody comes back it is stopped. Not decided here: whose turn it is.

use super::Flight;
use super::flight::Trial;
use crate::capacity::{self, Ask, Seat, Turn};
use crate::denial::Denial;
use crate::ledger::{Queued, Series, Wait};
use crate::route::Cooldown;
use crate::store::{Outside, StoreFault};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// How often one comes back. Each time costs its backend a refusal.
const RETURNS_MAX: usize = 5;

/// What a request needs to come back to the queue.
#[derive(Debug)]
pub struct Returning {
    /// What it asks for, at the last backend that it may go to. It waits no longer for that than it would have at first: a clock that
    /// is set back makes nobody wait.
    ask: Ask,
    /// Until when it waits.
    deadline: Duration,
    /// How often it still may.
    left: Cell<usize>,
    /// Whether the attempt that comes next waits for its turn.
    is_back: Cell<bool>,
    /// Since when that one is held, once it has asked.
    held_since: Cell<Option<Duration>>,
    /// Whether it has a seat by a turn that it has waited for.
    has_turn: Cell<bool>,
    /// Why it waits no longer, if it has waited in vain.
    refusal: RefCell<Option<Denial>>,
}

/// A request that comes back to the queue.
#[derive(Debug)]
pub struct Back {
    /// What it asks for.
    pub ask: Ask,
    /// Whether it was its client's turn when it went. One whose connection has ended while it was held has not gone since.
    pub had_turn: bool,
    /// To be counted; `None` if it was.
    pub series: Option<Series>,
}

impl Returning {
    /// One that waits until then for what it asks.
    #[must_use]
    pub fn new(ask: Ask, deadline: Duration) -> Self {
        let (left, refusal) = (Cell::new(RETURNS_MAX), RefCell::default());
        let (is_back, held_since, has_turn) = (Cell::default(), Cell::default(), Cell::default());
        Self { ask, deadline, left, is_back, held_since, has_turn, refusal }
    }

    /// For how long it still waits.
    fn time_left(&self, now: Duration) -> Duration {
        self.deadline.saturating_sub(now).min(self.ask.precedence.wait_max)
    }
}

impl Flight {
    /// Lets it come back to the queue. There it asks for room at the last of its candidates, for Envoy goes to no other afterwards.
    #[must_use]
    pub fn with_returning(self, returning: Option<Returning>) -> Self {
        let returning = returning.and_then(|mut returning| {
            let last = self.candidates.last()?.lane(self.tier);
            returning.ask.places.retain(|place| place.lane == last);
            let is_declared = returning.ask.places.iter().any(|place| !place.gauges.is_empty());
            (is_declared && self.cluster.is_none()).then_some(returning)
        });
        Self { returning, ..self }
    }

    /// How often Envoy may ask after the first attempt.
    #[must_use]
    pub fn retries(&self) -> usize {
        let returns = if self.returning.is_some() { RETURNS_MAX } else { 0 };
        self.candidates.len().saturating_sub(1) + returns
    }

    /// Decides at an error of the candidate at this place whether the request comes back. Answers whether Envoy is to be stopped: it
    /// has been told of more attempts than there are candidates.
    pub(super) fn ends_unless_back(
        &self,
        at: usize,
        status: u16,
        pause: Option<Cooldown>,
        now: Duration,
    ) -> bool {
        let Some(returning) = self.returning.as_ref().filter(|_| at + 1 == self.candidates.len()) else {
            return false;
        };
        let in_time = pause.is_some_and(|pause| pause.wait < returning.time_left(now));
        let is_back = status == 429 && in_time && returning.left.get() > 0;
        returning.is_back.set(is_back);
        if is_back {
            returning.left.set(returning.left.get() - 1);
        }
        !is_back
    }

    /// Whether the last of its candidates did not answer, and Envoy asks once more, for it has been told of more attempts.
    pub(super) fn is_beyond_the_last(&self) -> bool {
        let is_last = |trial: &Trial| trial.at + 1 == self.candidates.len() && trial.status.is_none();
        self.returning.is_some() && self.tries.borrow().last().is_some_and(is_last)
    }

    /// Whether it may ever come back.
    #[must_use]
    pub fn may_come_back(&self) -> bool {
        self.returning.as_ref().is_some_and(|returning| returning.is_back.get())
    }

    /// Whether whatever an attempt answers in its backend's place is to end the request.
    #[must_use]
    pub fn ends_with_refusal(&self) -> bool {
        self.returning.is_some()
    }

    /// What the attempt that begins has to ask the queue for first; `None` if it may go at once.
    #[must_use]
    pub fn comes_back(&self, now: Duration) -> Option<Back> {
        let returning = self.returning.as_ref().filter(|returning| returning.is_back.get())?;
        let mut ask = returning.ask.clone();
        ask.precedence.wait_max = returning.time_left(now);
        // Whoever asks again had a connection that ended while it was held.
        let is_first = returning.held_since.get().is_none();
        returning.held_since.set(returning.held_since.get().or(Some(now)));
        let series = Series::Queued { priority: ask.priority.word(), result: Wait::Returned.word() };
        let series = Some(series).filter(|_| is_first);
        // What Envoy has gone on to is another backend than the one that it had a turn for.
        let had_turn = is_first && (self.candidates.len() == 1 || returning.left.get() + 1 < RETURNS_MAX);
        Some(Back { ask, had_turn, series })
    }

    /// Takes the turn that it came back for, or the refusal that ends its waiting.
    pub fn take_turn(&self, turn: Turn) -> Result<(), Denial> {
        let Some(returning) = &self.returning else { return Ok(()) };
        returning.is_back.set(false);
        returning.held_since.set(None);
        match turn {
            Turn::Goes { seat, .. } => {
                returning.has_turn.set(seat.is_some());
                self.seat.replace(seat);
                Ok(())
            }
            Turn::Waits => Ok(()),
            Turn::Leaves { wait } => {
                let denial = Denial::NoCapacity { wait };
                returning.refusal.replace(Some(denial.clone()));
                Err(denial)
            }
        }
    }

    /// Whether the attempt that begins has its seat already, by a turn that it has waited for.
    pub(super) fn has_turn(&self, seat: Option<&Seat>) -> bool {
        let has_turn = self.returning.as_ref().is_some_and(|returning| returning.has_turn.take());
        has_turn && seat.is_some()
    }

    /// How it left the queue, if its client hung up while its attempt was held; `before` is how it waited until it went first.
    #[must_use]
    pub fn left_queue(&self, before: Option<Queued>, now: Duration) -> Option<Queued> {
        let returning = self.returning.as_ref()?;
        let held = now.saturating_sub(returning.held_since.get()?);
        let time = before.map_or(Duration::ZERO, |before| before.time).saturating_add(held);
        Some(Queued { priority: returning.ask.priority.word(), wait: Wait::Left, time })
    }

    /// Gives back what it has by a turn, for it does not go after all.
    pub(super) fn give_turn_back(&self, outside: &Outside<'_>) -> Result<(), StoreFault> {
        let seat = self.seat.take();
        match seat {
            Some(seat) if self.has_turn(Some(&seat)) => capacity::undo(outside.moment(), &seat),
            seat => {
                self.seat.replace(seat);
                Ok(())
            }
        }
    }

    /// Why it was refused by us though a backend had been asked, for it came back to the queue in vain.
    #[must_use]
    pub fn return_refusal(&self) -> Option<Denial> {
        self.returning.as_ref()?.refusal.borrow().clone()
    }
}
