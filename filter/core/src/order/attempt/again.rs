//! May a request whose tier of service is refused be asked again as one for the default tier?
//!
//! Every candidate is asked for the tier first, for it is what the client wants. Only if one of them has refused it, by 429, or
//! still pauses for it, they are asked for the default tier: what fails for another reason would fail there too, and may cost
//! more. Envoy has been told the whole order before, so where it is not to go on it is stopped.

use super::Flight;
use crate::denial::Denial;
use crate::tier::Tier;

impl Flight {
    /// The tier that the candidate at this place is asked for, if it may be refused by itself.
    pub(super) fn tier_at(&self, at: usize) -> Option<Tier> {
        self.tier.filter(|_| !self.is_as_default(at))
    }

    /// Whether the order ends before the candidate at this place, for it is asked for the default tier and nobody has refused the
    /// one that the request names.
    pub(super) fn ends_before(&self, at: usize) -> bool {
        at < self.candidates.len() && self.is_as_default(at) && self.refused.get().is_none()
    }

    /// Whether the candidate at this place may be asked. An answer before it stops Envoy; where there was none, the refusal
    /// says what Envoy would have said.
    pub(super) fn may_ask_again(&self, at: usize) -> Result<(), Denial> {
        if self.ends_before(at) || self.is_beyond_the_last() {
            self.has_ended.set(true);
            return Err(Denial::Proxy { status: 503 });
        }
        Ok(())
    }

    /// Whether it ended before all of its candidates were asked, and nobody answered.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.get()
    }
}
