//! May Envoy go to the cluster that it picked, and how is that backend asked?
//!
//! All attempts of a request share one set of headers in Envoy, so an attempt first removes every credential there may
//! be and then sets its own, and it sets its path whole.

use super::flight::Trial;
use super::step::{Begun, Departure, Outgoing, Refused, Waiting};
use super::{Attempt, Flight, Heard, Leg, Phase, Place};
use crate::denial::Denial;
use crate::endpoint::{Api, Operation};
use crate::json::Edits;
use crate::route::{COOLDOWN_DEFAULT, Fitted, Target};
use crate::store::{Outside, StoreFault};
use std::rc::Rc;

/// What is asked of whichever backend it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An operation on the target's deployment.
    Deployment(Operation),
    /// A path and query below the style's prefix, passed on as they are.
    Passthrough(String, String),
}

impl Flight {
    /// Whose API its client speaks.
    #[must_use]
    pub fn api(&self) -> Api {
        match self.destination {
            Destination::Deployment(operation) => operation.api(),
            Destination::Passthrough(..) => Api::OpenAi,
        }
    }

    /// Whether it only asks how long a prompt is.
    pub(super) fn only_counts(&self) -> bool {
        matches!(self.destination, Destination::Deployment(Operation::CountTokens))
    }

    /// Begins an attempt at the cluster that Envoy picked. One that is not among the candidates gets nothing.
    pub fn begin(self: &Rc<Self>, cluster: &[u8], outside: &Outside<'_>) -> Result<Begun<'_>, Refused> {
        let Heard { counts, mut faults, .. } = self.learn_miss(outside);
        let candidate = self.candidate(cluster).ok_or(Denial::Unplanned);
        let candidate = candidate.and_then(|(at, target)| {
            self.may_ask_again(at)?;
            self.may_go_to(target, outside, &mut faults).map(|()| (at, target))
        });
        let (at, target) = match candidate {
            Ok(candidate) => candidate,
            Err(denial) => {
                faults.extend(self.give_turn_back(outside).err());
                faults.extend(self.take_back_pause(outside).err());
                return Err(Refused { denial, counts, faults });
            }
        };
        // The client's own credentials were taken out before: the first attempt meets none, each later one its
        // predecessor's, which Envoy may have added.
        let is_first = self.tries.borrow().is_empty();
        let remove: &[String] = if is_first { &[] } else { &self.gateway.credential_headers };
        self.tries.borrow_mut().push(Trial { at, target: target.clone(), status: None });
        self.misfit.set(None);
        self.stopwatch.start(outside);
        faults.extend(self.take_seat(target, outside).err());
        let leg = Leg { flight: self.clone(), at, target: target.clone(), place: Place::Upstream };
        let is_to_edit = leg.edits().is_some();
        let attempt = Attempt { leg, is_to_edit, phase: Phase::Passing };
        let departure = self.departure(at, target, remove);
        let began_elsewhere = is_first && at > 0 && self.cluster().is_none();
        Ok(Begun { attempt, departure, counts, faults, began_elsewhere })
    }

    /// Whether an attempt may go to a candidate: the bounds on spilling and on the shares of backends must have it.
    fn may_go_to(
        &self,
        target: &Target,
        outside: &Outside<'_>,
        faults: &mut Vec<StoreFault>,
    ) -> Result<(), Denial> {
        self.may_spill_to(target, outside)?;
        let Some(shares) = &self.shares else { return Ok(()) };
        let mut counted = self.counted.borrow_mut();
        if counted.contains(&target.number()) {
            return Ok(());
        }
        match shares.go_on(target, outside.store) {
            Ok(true) => counted.push(target.number()),
            Ok(false) => {
                let wait = self.shortest_pause().unwrap_or(COOLDOWN_DEFAULT);
                return Err(Denial::BackendsThrottled { wait });
            }
            Err(fault) => faults.push(fault),
        }
        Ok(())
    }

    /// Begins all attempts, where none of them is seen; `None` where each is.
    pub fn begin_once(&self) -> Option<Departure<'_>> {
        let first = self.candidates.first().filter(|_| self.gateway.routing.fitted == Fitted::Once)?;
        // Until the answer tells who was asked.
        self.tries.replace(vec![Trial { at: 0, target: first.clone(), status: None }]);
        Some(self.departure(0, first, &self.gateway.credential_headers))
    }

    fn departure<'a>(&'a self, at: usize, target: &'a Target, remove: &'a [String]) -> Departure<'a> {
        let backend = &target.backend;
        Departure {
            remove,
            path: match &self.destination {
                Destination::Deployment(operation) => backend.path(*operation, &target.deployment),
                Destination::Passthrough(rest, query) => backend.other_path(rest, query),
            },
            set: backend
                .credential
                .as_ref()
                .and_then(|credential| Some((&*credential.header, credential.value.value()?))),
            content_length: self.bodies.content_length(self.body_of(at, target)),
        }
    }
}

impl Leg {
    /// What makes its body of the one that waits; `None` if it is that one.
    fn edits(&self) -> Option<&Edits> {
        self.flight.bodies.edits(self.flight.body_of(self.at, &self.target))
    }

    /// Changes the front of the body that waits, once all of that front is here.
    pub(super) fn patched(&self, body: &Waiting<'_>) -> Outgoing {
        let Some(edits) = self.edits() else { return Outgoing::AsItIs };
        if body.bytes < edits.reach() && !body.end {
            return Outgoing::Waits;
        }
        let front = (body.read)(edits.reach());
        match edits.clone().patch(&front) {
            Some(patch) if front.len() == patch.replaced => Outgoing::Patched(patch),
            _ => Outgoing::Denied(Denial::OutOfTurn),
        }
    }
}
