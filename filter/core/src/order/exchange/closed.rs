//! What is left to do of a request that was answered in its backend's place?

use super::draft::untouched;
use super::{Finished, Headers, Phase, ResponseEdits};
use crate::denial::Denial;
use crate::endpoint::Api;
use crate::headers;
use crate::ledger::{Outcome, Record};
use crate::limits::Reservation;
use crate::sse::Output;

/// Tollgate has answered itself, or it is all over.
pub(super) struct Closed {
    pub(super) reservation: Option<Reservation>,
    pub(super) outcome: Outcome,
}

/// Envoy has answered before the request was sent on; its answer gets this body.
pub(super) struct Interrupted {
    body: Option<Vec<u8>>,
    reservation: Option<Reservation>,
}

impl Closed {
    /// Nobody waits for an answer any more.
    pub(super) const GONE: Self = Self { reservation: None, outcome: Outcome::ClientGone };

    pub(super) fn finish(self) -> Finished {
        let reserved = self.reservation.as_ref().map_or(0, Reservation::tokens);
        Finished {
            settlements: untouched(self.reservation),
            record: Record { reserved, ..Record::new(self.outcome) },
        }
    }
}

impl Interrupted {
    /// Gives Envoy's answer a body in the shape that its client's API has.
    pub(super) fn by_proxy(phase: Phase, api: Api, headers: &Headers, end: bool) -> (Self, ResponseEdits) {
        let reservation = match phase {
            Phase::Admitting(admitting) => admitting.into_reservation(),
            Phase::Queueing(queueing) => queueing.into_reservation(),
            _ => None,
        };
        let mut edits = ResponseEdits::default();
        let body = edits.speak(&Denial::Proxy { status: headers::status(headers) }, api, end);
        (Self { body, reservation }, edits)
    }

    /// The whole body takes the place of the first piece.
    pub(super) fn on_chunk(&mut self) -> Output {
        Output::Replaced(self.body.take().unwrap_or_default())
    }

    pub(super) fn finish(self) -> Finished {
        Finished { settlements: untouched(self.reservation), record: Record::new(Outcome::ProxyError) }
    }
}
