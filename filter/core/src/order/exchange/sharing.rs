//! Has a backend had its share of the model's requests, and where does a request go then?

use super::Next;
use super::admitting::Admitting;
use super::draft::Draft;
use crate::capacity::{Seat, undo};
use crate::decision::Why;
use crate::denial::Denial;
use crate::ledger::Wait;
use crate::limits::{self, Reservation, Spent};
use crate::route::{COOLDOWN_DEFAULT, Choice, Open};
use crate::store::Moment;

impl Draft {
    /// Counts a request that goes to this place of its choice, and answers which of the others have a share left; `None` if the
    /// place has none. Without the store nobody knows, and the request goes.
    pub(super) fn count_share(&mut self, choice: &Choice, place: usize, moment: Moment<'_>) -> Option<Open> {
        let (Some(shares), Some(first)) = (&choice.shares, choice.targets.get(place)) else {
            return Some(Open::default());
        };
        shares.send(first, moment.store).unwrap_or_else(|_| {
            self.store_faults += 1;
            Some(Open::default())
        })
    }

    /// Counts a request for which there was no room anywhere.
    pub(super) fn count_unserved(&mut self, choice: &Choice, moment: Moment<'_>) {
        if let Some(shares) = &choice.shares {
            self.store_faults += u64::from(shares.serve_nobody(moment.store).is_err());
        }
    }
}

impl Admitting {
    /// Goes on as if there were no such place: others have had the share that was left when this request was read.
    pub(super) fn keep_from(
        mut self,
        place: usize,
        seat: Option<Seat>,
        spilled: Option<Reservation>,
        moment: Moment<'_>,
        draft: &mut Draft,
    ) -> Next {
        if let Some(seat) = seat {
            draft.store_faults += u64::from(undo(moment, &seat).is_err());
        }
        if let Some(spilled) = spilled {
            let settlement = spilled.settle(Spent::default());
            draft.store_faults += u64::from(limits::settle(moment, &settlement).is_err());
        }
        let choice = &mut self.choice;
        let kept_from = choice.targets.get(place).map(|target| target.number());
        choice.probes_first &= place != 0;
        let left = choice.targets.extract_if(.., |target| Some(target.number()) == kept_from);
        draft.passed_over.extend(left.map(|target| target.passed_over(Why::Share)));
        if choice.targets.is_empty() {
            if let Some(patient) = draft.patient.take() {
                return patient.enqueue(self.reservation);
            }
            draft.queued = self.queued(Wait::Refused, moment.now);
            draft.count_unserved(&self.choice, moment);
            return self.refuse(&Denial::BackendsThrottled { wait: COOLDOWN_DEFAULT }, draft);
        }
        self.ask_for_room(moment.now, draft)
    }
}
