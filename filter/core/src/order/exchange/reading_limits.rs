//! Where do the limits stand, for whoever is answered without a backend?

use super::closed::Closed;
use super::draft::Draft;
use super::{Next, Phase, Step};
use crate::answer::{self, Answer};
use crate::denial::Denial;
use crate::ledger::Outcome;
use crate::limits::Report;
use crate::store::StoreFault;
use std::time::Duration;

/// The store was asked where the limits stand, for this answer; for the list of them if there is none yet.
pub(super) struct ReadingLimits {
    pub(super) answer: Option<Answer>,
    pub(super) outcome: Outcome,
}

impl ReadingLimits {
    pub(super) fn on_report(
        self,
        report: Result<Report, StoreFault>,
        now: Duration,
        draft: &mut Draft,
    ) -> Next {
        draft.store_faults += u64::from(report.is_err());
        let (mut answer, outcome) = match (self.answer, &report, &draft.client) {
            (Some(answer), ..) => (answer, self.outcome),
            (None, Ok(report), Some(client)) => {
                let states = report.states.iter().map(|state| answer::Standing {
                    allowance: &state.allowance,
                    used: state.used,
                    remaining: state.remaining,
                    reset: state.reset,
                });
                (answer::limits(&client.name.text, states, now), self.outcome)
            }
            (None, ..) => {
                let denial = Denial::StoreUnavailable;
                (denial.answer_in(draft.api()), Outcome::Denied(denial.code()))
            }
        };
        answer.headers.extend(report.unwrap_or_default().standing.headers());
        (Phase::Closed(Closed { reservation: None, outcome }), Step::Answer(answer))
    }
}
