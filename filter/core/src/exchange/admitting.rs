//! Is there room for it at a backend, and what if not?

use super::preparing::Ready;
use super::{Exchange, Phase, Step};
use crate::attempt::refusal;
use crate::capacity::{Ask, Place, Priority, Turn};
use crate::decision::Why;
use crate::denial::Denial;
use crate::ledger::{Queued, Wait};
use crate::limits::{Reservation, Standing};
use crate::route::{Choice, Cooldowns, Target};
use crate::store::{Store, StoreFault};
use std::rc::Rc;
use std::time::Duration;

/// A request for which there is budget, and perhaps no room yet.
pub(super) struct Admitting {
    pub(super) ready: Ready,
    pub(super) choice: Choice,
    pub(super) reservation: Option<Reservation>,
    pub(super) standing: Standing,
    priority: Priority,
    /// Since when it waits; `None` if it has not been told to.
    waits_since: Option<Duration>,
    /// What the bound on spilling said, if it kept the request from going elsewhere.
    pub(super) spill_refusal: Option<Denial>,
}

impl Admitting {
    pub(super) fn waits(&self) -> bool {
        self.waits_since.is_some()
    }

    /// What has been reserved for it.
    pub(super) fn into_reservation(self) -> Option<Reservation> {
        self.reservation
    }

    /// For the record of a request that is not wanted any more.
    pub(super) fn given_up(self, now: Duration) -> (Option<Reservation>, Option<Queued>) {
        let queued = self.queued(Wait::Left, now);
        (self.reservation, queued)
    }

    pub(super) fn queued(&self, wait: Wait, now: Duration) -> Option<Queued> {
        let since = self.waits_since?;
        Some(Queued { priority: self.priority.word(), wait, time: now.saturating_sub(since) })
    }
}

impl Exchange {
    /// Asks for room, if any of the backends has declared how much it has, or what goes elsewhere is bounded.
    pub(super) fn admit(
        &mut self,
        mut ready: Ready,
        reservation: Option<Reservation>,
        standing: Standing,
    ) -> Step {
        let choice = match std::mem::replace(&mut ready.choice, Ok(Choice::default())) {
            Ok(choice) => choice,
            Err(denial) => return self.refuse(&denial, reservation, standing),
        };
        if choice.targets.iter().all(|target| target.gauge.is_none()) && !self.spills_within_a_bound(&choice)
        {
            return self.forward(ready, choice, reservation, standing, None, None);
        }
        let priority = ready.client.priority;
        let admitting = Admitting {
            ready,
            choice,
            reservation,
            standing,
            priority,
            waits_since: None,
            spill_refusal: None,
        };
        let ask = self.ask(&admitting, Duration::ZERO);
        self.phase = Phase::Admitting(Box::new(admitting));
        Step::Admit(ask)
    }

    /// What it asks for; the time that it has waited already is taken off.
    pub(super) fn ask(&self, admitting: &Admitting, now: Duration) -> Ask {
        let Admitting { ready, choice, priority, waits_since, .. } = admitting;
        let spare = self.known.model.as_ref().map_or(0, |model| model.spill.spare);
        let place = |target: &Rc<Target>| Place {
            target: target.number(),
            gauge: target.gauge,
            spare: if choice.is_spill(target) { 0 } else { spare },
        };
        let mut precedence = self.gateway.precedences.of(*priority);
        let waited = waits_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        precedence.wait_max = precedence.wait_max.saturating_sub(waited);
        Ask {
            places: choice.targets.iter().map(place).collect(),
            usage: ready.expected.estimate.usage(),
            priority: *priority,
            precedence,
        }
    }

    /// Takes the answer to [`Step::Admit`], and after [`Turn::Waits`] the one that ends the waiting. Without the store
    /// nobody knows whether there is room, and the request goes.
    pub fn admitted(&mut self, turn: Result<Turn, StoreFault>, local: &dyn Store, now: Duration) -> Step {
        let mut admitting = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Admitting(admitting) => admitting,
            phase => {
                self.phase = phase;
                return Step::Answer(Denial::OutOfTurn.answer());
            }
        };
        self.store_faults += u64::from(turn.is_err());
        let (place, seat) = match turn {
            Ok(Turn::Waits) => {
                admitting.waits_since.get_or_insert(now);
                self.phase = Phase::Admitting(admitting);
                return Step::Wait;
            }
            Ok(Turn::Leaves { wait }) => {
                self.known.queued = admitting.queued(Wait::Refused, now);
                let denial = match admitting.spill_refusal.take() {
                    Some(denial) => refusal(denial, Some(wait)),
                    None => Denial::NoCapacity { wait },
                };
                return self.refuse_spill(&denial, *admitting);
            }
            Ok(Turn::Goes { place, seat }) => (place, seat),
            Err(_) => (0, None),
        };
        let spilled = match self.claim_spill(&admitting, place, local, now) {
            Ok(spilled) => spilled,
            Err(denial) => return self.keep_from_spilling(admitting, seat, denial, local, now),
        };
        self.known.queued = admitting.queued(Wait::Went, now);
        let Admitting { ready, mut choice, reservation, standing, .. } = *admitting;
        // Those before the one with room have none.
        let at = place.min(choice.targets.len());
        let full = choice.targets.iter().take(at).map(|target| target.passed_over(Why::Capacity));
        self.known.passed_over.extend(full);
        choice.targets.rotate_left(at);
        choice.asks &= at == 0;
        let cooldowns = Cooldowns::load(local).unwrap_or_default();
        let mut is_first = true;
        choice.targets.retain(|target| {
            std::mem::take(&mut is_first) || cooldowns.remaining(target.number(), now).is_zero()
        });
        self.forward(ready, choice, reservation, standing, seat, spilled)
    }
}
