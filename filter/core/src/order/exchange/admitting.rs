//! Is there room for it at a backend, and what if not?

use super::closed::Closed;
use super::draft::Draft;
use super::preparing::Ready;
use super::sent::{Sent, Taken};
use super::{Finished, Next, Phase, Step};
use crate::attempt::{Returning, Whose, refusal};
use crate::capacity::{Ask, Place, Priority, Seat, Turn};
use crate::decision::Why;
use crate::denial::Denial;
use crate::gateway::JobQueue;
use crate::ledger::{Outcome, Queued, Wait};
use crate::limits::{Reservation, Standing};
use crate::route::{Choice, Cooldowns, Fitted, Target};
use crate::store::{Moment, StoreFault};
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

    pub(super) fn queued(&self, wait: Wait, now: Duration) -> Option<Queued> {
        let since = self.waits_since?;
        Some(Queued { priority: self.priority.word(), wait, time: now.saturating_sub(since) })
    }
}

impl Admitting {
    /// Asks for room, if any of the backends has declared how much it has, or what goes to one is bounded.
    pub(super) fn begin(
        mut ready: Ready,
        reservation: Option<Reservation>,
        standing: Standing,
        draft: &mut Draft,
    ) -> Next {
        let mut choice = match std::mem::replace(&mut ready.choice, Ok(Choice::default())) {
            Ok(choice) => choice,
            Err(denial) => {
                let gateway = draft.gateway.clone();
                let outlasts = |queue: &JobQueue| queue.outlasts(&denial);
                return match draft.patient.take_if(|_| gateway.queue.as_ref().is_some_and(outlasts)) {
                    Some(patient) => patient.enqueue(reservation),
                    None => draft.refuse(&denial, reservation, standing),
                };
            }
        };
        if draft.connected.is_some() {
            return Sent::begin(ready, choice, reservation, standing, Taken::default(), draft);
        }
        if draft.gateway.routing.fitted == Fitted::Once {
            // The body that waits is the first one's, and no attempt makes another of it.
            let as_default = choice.as_default;
            let whose = |target: &Target| Whose { target: target.number(), as_default };
            choice.targets.retain(|target| ready.bodies.edits(whose(target)).is_none());
        }
        let is_declared = choice.targets.iter().any(|target| !target.gauges.is_empty());
        if !is_declared && choice.shares.is_none() && !draft.spills_within_a_bound(&choice) {
            return Sent::begin(ready, choice, reservation, standing, Taken::default(), draft);
        }
        let priority = draft.priority;
        let (waits_since, spill_refusal) = (None, None);
        Self { ready, choice, reservation, standing, priority, waits_since, spill_refusal }
            .ask_for_room(Duration::ZERO, draft)
    }

    /// Asks for room; the time that it has waited already is taken off.
    pub(super) fn ask_for_room(self, now: Duration, draft: &Draft) -> Next {
        let ask = self.ask(now, draft);
        (Phase::Admitting(Box::new(self)), Step::Admit(ask))
    }

    fn ask(&self, now: Duration, draft: &Draft) -> Ask {
        let Self { ready, choice, priority, waits_since, .. } = self;
        let spare = draft.model.as_ref().map_or(0, |model| model.spill.spare);
        let place = |target: &Rc<Target>| Place {
            lane: target.lane(choice.tier),
            gauges: target.gauges,
            spare: if choice.is_spill(target) { 0 } else { spare },
        };
        let precedences = &draft.gateway.precedences;
        let mut precedence = precedences.of(*priority);
        // Whoever says that it is less important leaves no less free for that, however the operator has set the two.
        let own = precedences.of(ready.client.priority).headroom_min;
        precedence.headroom_min = precedence.headroom_min.max(own);
        if let (Some(queue), true) = (&draft.gateway.queue, draft.patient.is_some()) {
            // In the queue it waits better.
            precedence.headroom_min = precedence.headroom_min.max(queue.headroom_min);
            precedence.wait_max = Duration::ZERO;
        }
        let waited = waits_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        precedence.wait_max = precedence.wait_max.saturating_sub(waited);
        Ask {
            places: choice.targets.iter().map(place).collect(),
            client: ready.client.name.text.clone(),
            usage: ready.expected.estimate.usage(),
            priority: *priority,
            precedence,
        }
    }

    /// What it needs to come back if its backend has no room after all. A tier that is refused is another matter.
    fn returning(&self, seat: Option<&Seat>, now: Duration, draft: &Draft) -> Option<Returning> {
        seat.filter(|_| draft.gateway.routing.fitted == Fitted::EachAttempt && self.choice.tier.is_none())?;
        let ask = self.ask(now, draft);
        let wait_max = ask.precedence.wait_max;
        (!wait_max.is_zero()).then(|| Returning::new(ask, now.saturating_add(wait_max)))
    }

    /// Takes the answer, and after [`Turn::Waits`] the one that ends the waiting. Without the store nobody knows whether there
    /// is room, and the request goes.
    pub(super) fn on_turn(
        mut self,
        turn: Result<Turn, StoreFault>,
        moment: Moment<'_>,
        draft: &mut Draft,
    ) -> Next {
        let Moment { store, now } = moment;
        draft.store_faults += u64::from(turn.is_err());
        let (place, seat) = match turn {
            Ok(Turn::Waits) => {
                self.waits_since.get_or_insert(now);
                return (Phase::Admitting(Box::new(self)), Step::Wait);
            }
            Ok(Turn::Leaves { wait }) => {
                if let Some(patient) = draft.patient.take() {
                    return patient.enqueue(self.reservation);
                }
                draft.queued = self.queued(Wait::Refused, now);
                draft.count_unserved(&self.choice, moment);
                let denial = match self.spill_refusal.take() {
                    Some(denial) => refusal(denial, Some(wait)),
                    None => Denial::NoCapacity { wait },
                };
                return self.refuse(&denial, draft);
            }
            Ok(Turn::Goes { place, seat }) => (place, seat),
            Err(_) => (0, None),
        };
        let spilled = match draft.claim_spill(&self, place, moment) {
            Ok(spilled) => spilled,
            Err(denial) => return self.keep_from_spilling(seat, denial, moment, draft),
        };
        let Some(may_go_on) = draft.count_share(&self.choice, place, moment) else {
            return self.keep_from(place, seat, spilled, moment, draft);
        };
        draft.queued = self.queued(Wait::Went, now);
        let returning = self.returning(seat.as_ref(), now, draft);
        let Self { ready, mut choice, reservation, standing, .. } = self;
        // Those before the one with room have none.
        let at = place.min(choice.targets.len());
        let full = choice.targets.iter().take(at).map(|target| target.passed_over(Why::Capacity));
        draft.passed_over.extend(full);
        choice.targets.rotate_left(at);
        choice.probes_first &= at == 0;
        let cooldowns = Cooldowns::load(store).unwrap_or_default();
        let mut is_first = true;
        choice.targets.retain(|target| {
            std::mem::take(&mut is_first) || cooldowns.remaining(target.lane(choice.tier), now).is_zero()
        });
        choice.put_bounded_last(&may_go_on, draft.gateway.routing.fitted);
        Sent::begin(ready, choice, reservation, standing, Taken { seat, spilled, returning }, draft)
    }

    /// Its client does not want it any more.
    pub(super) fn finish(self, now: Duration, draft: &mut Draft) -> Finished {
        draft.queued = self.queued(Wait::Left, now);
        Closed { reservation: self.reservation, outcome: Outcome::ClientGone }.finish()
    }
}
