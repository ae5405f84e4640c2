//! How much of a backend's declared capacity does the request take, wherever it is?

use super::{Flight, Leg};
use crate::capacity::{self, Seat};
use crate::headers::{self, Headers};
use crate::route::{self, Target};
use crate::store::{Moment, Outside, StoreFault};
use crate::tokens::Usage;

impl Flight {
    /// Takes its tokens at the target that it goes to now, if it has not yet, and gives back those it took elsewhere.
    pub(super) fn take_seat(&self, target: &Target, outside: &Outside<'_>) -> Result<(), StoreFault> {
        let mut seat = self.seat.borrow_mut();
        if seat.as_ref().map(Seat::gauge) == target.gauge {
            return Ok(());
        }
        let left = seat.take();
        if let Some(gauge) = target.gauge {
            *seat = Some(capacity::take_anyhow(outside.moment(), gauge, self.usage)?);
        }
        left.map_or(Ok(()), |left| capacity::give_back(outside.moment(), &left, Usage::default()))
    }

    /// The most that it takes of a target's capacity, where that was declared.
    #[must_use]
    pub fn takes_of(&self, target: &Target) -> Option<u64> {
        target.gauge.map(|gauge| gauge.weights.tokens_max(self.usage))
    }

    /// The most that it may cost at a target, in millionths of the currency; `None` if nobody said. `tier` is the one that it asks for.
    #[must_use]
    pub fn costs_at(&self, target: &Target, tier: Option<&str>) -> Option<u64> {
        target.prices.as_ref().map(|_| target.micros_max(self.usage, tier))
    }

    /// Gives back what it took and did not use, where the backend does. `took` is `None` if nobody knows.
    pub(crate) fn land(&self, took: Option<Usage>, moment: Moment<'_>) -> Result<(), StoreFault> {
        let Some(seat) = self.seat.take() else { return Ok(()) };
        let was_sent = !self.tries.borrow().is_empty();
        match took {
            Some(took) if seat.gauge().is_provisioned || !was_sent => {
                capacity::give_back(moment, &seat, took)
            }
            _ => Ok(()),
        }
    }
}

impl Leg {
    /// Learns from an answer's head how much room there is at the backend. Whoever was throttled took none.
    pub(super) fn learn_room(
        &self,
        status: u16,
        headers: &Headers,
        outside: &Outside<'_>,
    ) -> Result<(), StoreFault> {
        let Some(gauge) = self.target.gauge else { return Ok(()) };
        if status == 429 {
            return match self.flight.seat.take() {
                Some(seat) => capacity::give_back(outside.moment(), &seat, Usage::default()),
                None => Ok(()),
            };
        }
        match route::room(|name| headers::text(headers, name)) {
            Some(room) => capacity::learn(outside.moment(), gauge, room),
            None => Ok(()),
        }
    }
}
