//! Which limits can be asked before a request's body is read?
//!
//! Those that count requests, whatever their model: of the headers it is known that there is one more. What tokens and money
//! it may take, under which model's limits it falls, and for which user it asks by a field, only the body tells.

use super::Budget;
use crate::allowance::{Allowance, Measure, Unit};
use crate::endpoint::Operation;
use crate::value::By;

/// Which of a budget's limits are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them at once.
    All,
    /// Those that need no body.
    Head,
    /// The others.
    Body,
    /// Those on how many there are at once, for a connection that has many requests.
    Connection,
    /// The others, for each of these.
    Turn,
}

impl Part {
    pub(super) fn has(self, allowance: &Allowance) -> bool {
        let counts_requests = matches!(allowance.measure.unit(), None | Some(Unit::Requests));
        let is_in_body = allowance.by.as_ref().is_some_and(By::is_in_body);
        let needs_no_body = counts_requests && allowance.scope.models.is_none() && !is_in_body;
        match self {
            Self::All => true,
            Self::Head => needs_no_body,
            Self::Body => !needs_no_body,
            Self::Connection => allowance.measure == Measure::Concurrent,
            Self::Turn => allowance.measure != Measure::Concurrent,
        }
    }
}

impl Budget {
    /// Whether it has a limit that can be asked before the body of such a request is read.
    #[must_use]
    pub fn has_part_of_head(&self, operation: Operation) -> bool {
        let mut allowances =
            self.accounts.iter().flat_map(|account| &*account.limits).map(|limit| &limit.allowance);
        allowances.any(|allowance| Part::Head.has(allowance) && allowance.scope.has(None, operation))
    }
}
