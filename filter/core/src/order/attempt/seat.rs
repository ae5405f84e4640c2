//! How much of a backend's declared capacity does the request take, wherever it is?

use super::flight::Trial;
use super::{Flight, Leg};
use crate::capacity::{self, Seat};
use crate::gauge::{Gauge, RoomLeft};
use crate::headers::{self, Headers};
use crate::route::{self, Cooldown, Target};
use crate::store::{Moment, Outside, StoreFault};
use crate::tokens::Usage;

impl Flight {
    /// Takes its part at the target that it goes to now, if it has not yet, and gives back what it took elsewhere.
    pub(super) fn take_seat(&self, target: &Target, outside: &Outside<'_>) -> Result<(), StoreFault> {
        let (mut seat, tries) = (self.seat.borrow_mut(), self.tries.borrow());
        // The attempt that is beginning is the last of its tries.
        let before = tries.iter().rev().nth(1);
        let gauges = seat.as_ref().map(Seat::gauges).unwrap_or_default();
        let has_turn = self.has_turn(seat.as_ref());
        if (has_turn || before.is_none() || gauges.is_empty()) && gauges == target.gauges {
            return Ok(());
        }
        let (left, moment) = (seat.take(), outside.moment());
        let given_back = match (left, before) {
            (Some(left), None) => capacity::undo(moment, &left),
            // It has been a request, whatever came of it.
            (Some(left), Some(Trial { status: Some(_), .. })) => {
                capacity::give_back(moment, &left, Usage::default())
            }
            // The backend may be at it still.
            (Some(_), Some(_)) | (None, _) => Ok(()),
        };
        if !target.gauges.is_empty() {
            *seat = Some(capacity::take_anyhow(moment, target.gauges, self.usage)?);
        }
        given_back
    }

    /// The most that it takes of each capacity that was declared for a target.
    pub fn takes_of(&self, target: &Target) -> impl Iterator<Item = (Gauge, u64)> {
        target.gauges.iter().map(|gauge| (gauge, gauge.takes_max(self.usage)))
    }

    /// The most that it may cost at a target, in millionths of the currency; `None` if nobody said. `tier` is the one that it asks for.
    #[must_use]
    pub fn costs_at(&self, target: &Target, tier: Option<&str>) -> Option<u64> {
        target.prices.as_ref().map(|_| target.micros_max(self.usage, tier))
    }

    /// Gives back what it took and did not use, where the backend does. `took` is `None` if nobody knows.
    pub(crate) fn land(&self, took: Option<Usage>, moment: Moment<'_>) -> Result<(), StoreFault> {
        let Some(seat) = self.seat.take() else { return Ok(()) };
        if self.tries.borrow().is_empty() {
            return capacity::undo(moment, &seat);
        }
        match took {
            Some(took) if seat.gauges().iter().any(|gauge| gauge.is_provisioned) => {
                capacity::give_back(moment, &seat, took)
            }
            _ => Ok(()),
        }
    }
}

impl Leg {
    /// Learns from an answer's head how much room there is at the backend. Whoever was throttled took none; `pause` is what it asked for.
    pub(super) fn learn_room(
        &self,
        status: u16,
        pause: Option<Cooldown>,
        headers: &Headers,
        outside: &Outside<'_>,
    ) -> Result<(), StoreFault> {
        let gauges = self.target.gauges;
        if gauges.is_empty() {
            return Ok(());
        }
        let room = |gauge: Gauge| route::room(gauge.unit, |name| headers::text(headers, name));
        if status == 429 {
            let Some(seat) = self.flight.seat.take() else { return Ok(()) };
            let moment = outside.moment();
            // What refuses a tier says nothing of the others, and a guess nothing of the backend.
            let told = pause.filter(|pause| pause.from_backend && self.flight.tier.is_none());
            let Some(pause) = told else { return capacity::undo(moment, &seat) };
            // Of two that are counted it may say that one has room.
            let lacks = |gauge: Gauge| match room(gauge) {
                Some(RoomLeft::Amount(left)) => left < gauge.takes_max(self.flight.usage),
                _ => true,
            };
            return capacity::refused(moment, &seat, moment.now.saturating_add(pause.wait), &lacks);
        }
        gauges.iter().try_for_each(|gauge| {
            room(gauge).map_or(Ok(()), |room| capacity::learn(outside.moment(), gauge, room))
        })
    }
}
