//! May a request go to a backend of a lower priority, and what if not?

use super::Next;
use super::admitting::Admitting;
use super::draft::Draft;
use super::preparing::{Expected, Ready};
use crate::attempt::{Spilling, refusal};
use crate::capacity::{Seat, undo};
use crate::denial::Denial;
use crate::gateway::OnStoreFailure;
use crate::ledger::{Cause, Wait};
use crate::limits::{self, Claim, Grant, Part, Reservation};
use crate::route::{Choice, Cooldowns};
use crate::store::Moment;
use std::cell::{Cell, RefCell};

impl Draft {
    /// What is taken from the model's bound before this request goes to a backend of a lower priority.
    fn spill_claim(&self, ready: &Ready) -> Option<Claim> {
        let model = self.model.as_ref()?;
        let budget = model.spill.budget.clone()?;
        let usage = Expected { estimate: ready.expected.sure(), ..ready.expected }.usage_max();
        let operation = ready.expected.operation;
        // Wherever it goes in the end.
        let cost = model.cost_max(usage, self.tier_asked.as_deref());
        let (part, model) = (Part::All, Some(model.name.text.clone()));
        Some(Claim { budget, part, model, operation, usage, cost })
    }

    /// Whether it goes to a backend of a lower priority at once, and that is bounded.
    pub(super) fn spills_within_a_bound(&self, choice: &Choice) -> bool {
        let is_bounded = self.model.as_ref().is_some_and(|model| model.spill.budget.is_some());
        is_bounded && choice.targets.first().is_some_and(|target| choice.is_spill(target))
    }

    /// Takes from the bound, if the place that was found is of a lower priority.
    pub(super) fn claim_spill(
        &mut self,
        admitting: &Admitting,
        place: usize,
        moment: Moment<'_>,
    ) -> Result<Option<Reservation>, Denial> {
        let choice = &admitting.choice;
        if !choice.targets.get(place).is_some_and(|target| choice.is_spill(target)) {
            return Ok(None);
        }
        let Some(claim) = self.spill_claim(&admitting.ready) else { return Ok(None) };
        match limits::reserve(moment, claim) {
            Ok(Grant::Granted(granted)) => Ok(Some(granted.reservation)),
            Ok(Grant::Refused(denial, ..)) => Err(denial),
            Err(_) => {
                self.store_faults += 1;
                match self.gateway.on_store_failure {
                    OnStoreFailure::Share | OnStoreFailure::Allow => Ok(None),
                    OnStoreFailure::Deny => Err(Denial::StoreUnavailable),
                }
            }
        }
    }

    /// What its attempts need to know of its spilling. `held` is what was taken from the bound.
    pub(super) fn spilling(
        &self,
        ready: &Ready,
        choice: &Choice,
        held: Option<Reservation>,
    ) -> Option<Spilling> {
        let preferred = choice.preferred.clone()?;
        if !choice.targets.iter().any(|target| choice.is_spill(target)) {
            return None;
        }
        let spills = choice.targets.first().is_some_and(|target| choice.is_spill(target));
        // Those that pause have been left out; those that have no room stand behind.
        let has_preferred = choice.targets.iter().any(|target| !choice.is_spill(target));
        let cause = spills.then_some(if has_preferred { Cause::Capacity } else { Cause::Paused });
        Some(Spilling {
            preferred,
            cause,
            claim: self.spill_claim(ready),
            held: RefCell::new(held),
            refusal: RefCell::default(),
            faults: Cell::default(),
        })
    }
}

impl Admitting {
    /// Goes on as if there were no backend of a lower priority, for the bound does not have it.
    pub(super) fn keep_from_spilling(
        mut self,
        seat: Option<Seat>,
        denial: Denial,
        moment: Moment<'_>,
        draft: &mut Draft,
    ) -> Next {
        let Moment { store, now } = moment;
        if let Some(seat) = seat {
            draft.store_faults += u64::from(undo(moment, &seat).is_err());
        }
        let choice = &mut self.choice;
        let (preferred, tier) = (choice.preferred.clone(), choice.tier);
        let elsewhere = choice.keep_preferred();
        // Only a choice without any of the preferred ones begins elsewhere, and only the first asks about a pause.
        choice.probes_first &= elsewhere.is_empty() || !choice.targets.is_empty();
        if self.choice.targets.is_empty() || denial == Denial::StoreUnavailable {
            if let Some(patient) = draft.patient.take_if(|_| denial != Denial::StoreUnavailable) {
                return patient.enqueue(self.reservation);
            }
            draft.queued = self.queued(Wait::Refused, now);
            let cooldowns = Cooldowns::load(store).unwrap_or_default();
            let pause = preferred.map(|preferred| cooldowns.remaining(preferred.lane(tier), now));
            let denial = refusal(denial, pause.filter(|pause| !pause.is_zero()));
            return self.refuse(&denial, draft);
        }
        self.spill_refusal = Some(denial);
        self.ask_for_room(now, draft)
    }

    pub(super) fn refuse(self, denial: &Denial, draft: &mut Draft) -> Next {
        draft.limit = denial.limit().map(|limit| limit.word.clone());
        draft.refuse(denial, self.reservation, self.standing)
    }
}
