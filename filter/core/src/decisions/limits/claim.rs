//! What is asked of a budget, and what is owed to it?

use super::measured::Measured;
use super::{Budget, Part};
use crate::allowance::{Measure, Unit};
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::tokens::Usage;
use std::rc::Rc;

/// What is asked of the store: take what this request may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// From which budget.
    pub budget: Rc<Budget>,
    /// From which of its limits.
    pub part: Part,
    /// For which model; `None` if the request names none.
    pub model: Option<Rc<str>>,
    /// For what.
    pub operation: Operation,
    /// The tokens it may cost.
    pub usage: Usage,
    /// The money it may cost, in millionths.
    pub cost: u64,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Its tokens.
    pub usage: Usage,
    /// Its price, in millionths.
    pub cost: u64,
    /// One if it reached a backend, else none.
    pub requests: u64,
}

impl Spent {
    pub(super) fn of(&self, measure: Measure) -> u64 {
        match measure.unit() {
            Some(Unit::Tokens(weights)) => weights.tokens(self.usage),
            Some(Unit::Requests) => self.requests,
            Some(Unit::Cost) => self.cost,
            None => 0,
        }
    }
}

impl Claim {
    /// Why no wait helps, if one of the limits never has so much.
    #[must_use]
    pub fn excess(&self) -> Option<Denial> {
        let limits = self.budget.accounts.iter().flat_map(|account| account.limits.iter());
        let mut met = limits.filter(|limit| !limit.allowance.shadow && self.meets(limit));
        met.find_map(|limit| {
            let (allowance, needed) = (limit.allowance.clone(), self.of(limit.allowance.measure));
            limit.never_has(needed).then_some(Denial::NeverFits { allowance, needed })
        })
    }

    pub(super) fn meets(&self, limit: &Measured) -> bool {
        self.part.has(&limit.allowance) && limit.allowance.scope.has(self.model.as_deref(), self.operation)
    }

    pub(super) fn of(&self, measure: Measure) -> u64 {
        match measure.unit() {
            Some(Unit::Tokens(weights)) => weights.tokens_max(self.usage),
            Some(Unit::Cost) => self.cost,
            Some(Unit::Requests) | None => 1,
        }
    }
}

/// What one limit gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) account: usize,
    pub(super) limit: usize,
    pub(super) amount: u64,
    /// The entry's `at`.
    pub(super) window: u64,
}

/// What was taken, to be settled once. Not `Clone`: whoever has it owes the settlement.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    pub(super) budget: Rc<Budget>,
    pub(super) tokens: u64,
    pub(super) taken: Vec<Taken>,
}

impl Reservation {
    /// How many tokens were reserved.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Both, to be settled together. `self` is of the same budget.
    pub fn with(mut self, other: Option<Self>) -> Self {
        if let Some(other) = other {
            self.tokens = self.tokens.saturating_add(other.tokens);
            self.taken.extend(other.taken);
        }
        self
    }

    /// Turns it into the debt that the store is to be told, once the real cost is known.
    pub fn settle(self, spent: Spent) -> Settlement {
        Settlement { budget: self.budget, taken: self.taken, spent }
    }

    /// Where its slots are, as [`return_slots`](super::return_slots) reads it: for whoever must return them in this one's place.
    #[must_use]
    pub fn slots(&self) -> String {
        let place = |taken: &Taken| {
            let account = self.budget.accounts.get(taken.account)?;
            let limit = account.limits.get(taken.limit)?;
            let is_slot = limit.allowance.measure == Measure::Concurrent;
            is_slot.then(|| format!("{} {:x}", account.key, limit.id()))
        };
        self.taken.iter().filter_map(place).collect::<Vec<_>>().join(",")
    }
}

/// What is asked of the store: put back what was taken and not used, or take what was used beyond.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub(super) budget: Rc<Budget>,
    pub(super) taken: Vec<Taken>,
    pub(super) spent: Spent,
}
