//! Does an error say that its backend does not fit its configuration?

use super::step::Waiting;
use super::{FAILURE_BYTES_MAX, Heard, Leg, Phase};
use crate::failure::Failure;
use crate::store::Outside;

/// An error, which waits until it is whole or longer than what is read of one.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) status: u16,
}

impl Failed {
    pub(super) fn on_body(
        self,
        body: &Waiting<'_>,
        leg: &Leg,
        outside: &Outside<'_>,
        heard: &mut Heard,
    ) -> Phase {
        let failure = if body.bytes > FAILURE_BYTES_MAX {
            // Of a longer one nothing is known but its status.
            None
        } else if body.end {
            Failure::of_error(&(body.read)(body.bytes))
        } else {
            return Phase::Failed(self);
        };
        leg.leave_misfit(self.status, &failure.unwrap_or_default(), outside, heard);
        Phase::Passing
    }
}
