//! What goes to a backend of a lower priority, why, and may it?
//!
//! A request spills when a backend of a lower priority serves it than where it would go, were every backend open. What
//! spills may be bounded: whoever goes there first takes from the bound what the request may cost, once, wherever among
//! those backends it ends; what it did not cost there is given back. Not decided here: who has room.

use super::Flight;
use super::flight::Trial;
use crate::denial::Denial;
use crate::gateway::OnStoreFailure;
use crate::ledger::{Cause, Spill};
use crate::limits::{self, Claim, Grant, Kept, Reservation, Settlement, Spent};
use crate::route::{COOLDOWN_DEFAULT, Cooldowns, Target};
use crate::store::{Moment, Outside};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// What is known of a request's spilling when it sets out.
#[derive(Debug)]
pub struct Spilling {
    /// Where it would go, were every backend open.
    pub preferred: Rc<Target>,
    /// Why it does not go to one of that priority first; `None` if it does.
    pub cause: Option<Cause>,
    /// What is to be taken before it goes to one of a lower priority; `None` where that is not bounded.
    pub claim: Option<Claim>,
    /// What was taken already.
    pub held: RefCell<Option<Reservation>>,
    /// The bound that kept it from being tried elsewhere.
    pub refusal: RefCell<Option<Denial>>,
    /// How often the store failed.
    pub faults: Cell<u64>,
}

/// Words a refusal by the bound. `room` is when one of the preferred backends may take it.
#[must_use]
pub fn refusal(denial: Denial, room: Option<Duration>) -> Denial {
    let sooner = |wait: Duration| room.map_or(wait, |room| room.min(wait));
    match denial {
        Denial::QuotaExhausted { allowance, wait, .. } | Denial::RateExhausted { allowance, wait, .. } => {
            Denial::SpillExhausted { allowance, wait: sooner(wait) }
        }
        Denial::NeverFits { allowance, .. } => {
            Denial::SpillExhausted { allowance, wait: room.unwrap_or(COOLDOWN_DEFAULT) }
        }
        other => other,
    }
}

impl Spilling {
    fn is_spill(&self, target: &Target) -> bool {
        target.priority > self.preferred.priority
    }

    /// Takes from the bound, if there is one and this request has not done so.
    fn take(&self, on_failure: OnStoreFailure, moment: Moment<'_>) -> Result<(), Denial> {
        let mut held = self.held.borrow_mut();
        let Some(claim) = self.claim.clone().filter(|_| held.is_none()) else { return Ok(()) };
        match limits::reserve(moment, claim) {
            Ok(Grant::Granted(granted)) => *held = Some(granted.reservation),
            Ok(Grant::Refused(denial, ..)) => return Err(denial),
            Err(_) => {
                self.faults.set(self.faults.get() + 1);
                if on_failure == OnStoreFailure::Deny {
                    return Err(Denial::StoreUnavailable);
                }
            }
        }
        Ok(())
    }
}

impl Flight {
    /// What is known of its spilling.
    #[must_use]
    pub fn with_spilling(self, spilling: Option<Spilling>) -> Self {
        Self { spilling, ..self }
    }

    /// Whether an attempt may go to a target: where that is of a lower priority, the bound must have it.
    pub(super) fn may_spill_to(&self, target: &Target, outside: &Outside<'_>) -> Result<(), Denial> {
        let Some(spilling) = self.spilling.as_ref().filter(|spilling| spilling.claim.is_some()) else {
            return Ok(());
        };
        if !spilling.is_spill(target) {
            return Ok(());
        }
        let moment = outside.moment();
        spilling.take(self.gateway.on_store_failure, moment).map_err(|denial| {
            let denial = refusal(denial, Some(self.preferred_wait(spilling, moment)));
            *spilling.refusal.borrow_mut() = Some(denial.clone());
            denial
        })
    }

    /// Until one of the preferred backends, which have all failed, is worth another try.
    fn preferred_wait(&self, spilling: &Spilling, moment: Moment<'_>) -> Duration {
        let cooldowns = Cooldowns::load(moment.store).unwrap_or_default();
        let preferred = self.candidates.iter().filter(|target| !spilling.is_spill(target));
        let pauses = preferred.map(|target| cooldowns.remaining(target.lane(self.tier), moment.now));
        pauses.filter(|pause| !pause.is_zero()).min().unwrap_or(COOLDOWN_DEFAULT)
    }

    /// The bound that kept it from being tried elsewhere.
    #[must_use]
    pub fn spill_refusal(&self) -> Option<Denial> {
        self.spilling.as_ref()?.refusal.borrow().clone()
    }

    /// Where it went in place of which backend, and why; `None` if it did not spill.
    #[must_use]
    pub fn spill(&self) -> Option<Spill> {
        let spilling = self.spilling.as_ref()?;
        let tries = self.tries.borrow();
        let served = &tries.last().filter(|last| spilling.is_spill(&last.target))?.target;
        let preferred = tries.iter().rev().find(|tried| !spilling.is_spill(&tried.target));
        let cause = match (preferred, spilling.cause) {
            (None, cause) => cause?,
            (Some(Trial { status: Some(429), .. }), _) => Cause::Throttled,
            (Some(_), _) => Cause::Failed,
        };
        let (from, to) = (spilling.preferred.word.clone(), served.word.clone());
        Some(Spill { from, to, cause })
    }

    /// What stays taken from the bound if the work goes on after its exchange.
    #[must_use]
    pub fn kept_spill(&self) -> Kept {
        let Some(spilling) = self.spilling.as_ref().filter(|spilling| self.ended_at_spill(spilling)) else {
            return Kept::default();
        };
        spilling.held.borrow().as_ref().map(Reservation::kept).unwrap_or_default()
    }

    /// Parts with what was taken from the bound and [stays taken](Self::kept_spill); the rest is due at once.
    pub fn keep_spill(&self) -> Option<Settlement> {
        let spilling = self.spilling.as_ref().filter(|spilling| self.ended_at_spill(spilling))?;
        spilling.held.take().map(Reservation::give_back_places)
    }

    fn ended_at_spill(&self, spilling: &Spilling) -> bool {
        self.last_tried().is_some_and(|target| spilling.is_spill(&target))
    }

    /// Gives back to the bound what was not spent of it: all, if the request did not end at a backend of a lower
    /// priority. Answers how often the store failed in all of this.
    pub(crate) fn settle_spill(&self, spent: Spent, moment: Moment<'_>) -> u64 {
        let Some(spilling) = &self.spilling else { return 0 };
        let faults = spilling.faults.take();
        let Some(held) = spilling.held.take() else { return faults };
        let spent = if self.ended_at_spill(spilling) { spent } else { Spent::default() };
        let settled = limits::settle(moment, &held.settle(spent));
        faults + u64::from(settled.is_err())
    }
}
