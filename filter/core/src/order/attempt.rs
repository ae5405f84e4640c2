//! One try at one backend, in its order: what it is sent, what its answer teaches, and what is made of that answer before
//! anybody else sees it.
//!
//! The order stands here and nowhere else. Each method takes what has come to the phase that the answer is in, and answers
//! what is to be done; whoever calls does it, in one place. Where attempts are seen, each answer is read among the upstream
//! filters, before Envoy decides whether to ask the next backend; where they are not, the last one is read in the
//! listener's chain. Not decided here: which backend is tried next; Envoy goes down the candidates.

mod again;
mod bodies;
mod departing;
mod failed;
mod flight;
mod head;
mod lesson;
mod misfit;
mod opening;
mod returning;
mod seat;
mod spilling;
mod step;
mod stopwatch;
mod unproven;

pub use bodies::{Bodies, EditedBody, Whose};
pub use departing::Destination;
pub use flight::Flight;
pub use misfit::{Misconfigured, Misfit};
pub use returning::{Back, Returning};
pub use spilling::{Spilling, refusal};
pub use step::{Begun, Departure, Heard, Outgoing, Refused, Waiting};

use crate::endpoint::Api;
use crate::failure::FAILURE_BYTES_MAX;
use crate::json::Patch;
use crate::route::Target;
use crate::store::Outside;
use failed::Failed;
use std::rc::Rc;
use unproven::Unproven;

/// One try, from its departure until its answer goes on.
#[derive(Debug)]
pub struct Attempt {
    leg: Leg,
    /// Whether its body is another one than what waits, and has not been changed yet.
    is_to_edit: bool,
    phase: Phase,
}

/// Which request goes where: what all phases know.
#[derive(Debug)]
struct Leg {
    flight: Rc<Flight>,
    /// Its place among the candidates.
    at: usize,
    target: Rc<Target>,
    place: Place,
}

/// Where an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At its attempt: Envoy may still ask the next backend.
    Upstream,
    /// In the listener's chain: the client gets it.
    Listener,
}

/// Where an answer is, with what that phase knows.
#[derive(Debug)]
enum Phase {
    /// Its status says that all is well; it waits until its beginning does.
    Unproven(Box<Unproven>),
    /// It is an error that waits until it is read.
    Failed(Failed),
    /// It goes on as it comes, or nothing of it is here yet.
    Passing,
    /// Another one goes in its place: nothing that still comes of it goes on.
    Replaced,
}

impl Phase {
    const fn waits(&self) -> bool {
        matches!(self, Self::Unproven(_) | Self::Failed(_))
    }
}

impl Attempt {
    /// Whose API its client speaks.
    #[must_use]
    pub fn api(&self) -> Api {
        self.leg.flight.api()
    }

    /// Takes the body of the request. Every attempt is shown the one that waits in Envoy, from its beginning.
    pub fn request_body(&mut self, body: &Waiting<'_>) -> Outgoing {
        if !self.is_to_edit {
            return Outgoing::AsItIs;
        }
        let outgoing = self.leg.patched(body);
        self.is_to_edit = !matches!(outgoing, Outgoing::Patched(_));
        outgoing
    }

    /// Takes the head of the answer. `end` says that no body follows.
    pub fn response_head(
        &mut self,
        headers: Vec<(String, Vec<u8>)>,
        end: bool,
        outside: &Outside<'_>,
    ) -> Heard {
        self.hear(|_, leg, heard| leg.on_head(headers, end, outside, heard))
    }

    /// Takes the body of the answer.
    pub fn response_body(&mut self, body: &Waiting<'_>, outside: &Outside<'_>) -> Heard {
        self.hear(|phase, leg, heard| match phase {
            Phase::Unproven(unproven) => unproven.on_body(body, leg, outside, heard),
            Phase::Failed(failed) => failed.on_body(body, leg, outside, heard),
            Phase::Passing => Phase::Passing,
            Phase::Replaced => {
                heard.patch = Some(Patch { replaced: body.bytes, bytes: Vec::new() });
                Phase::Replaced
            }
        })
    }

    /// Takes the trailers, which end an answer that has them: what waits of its body is whole by then. `read` reads the
    /// first bytes of that.
    pub fn response_trailers(&mut self, read: &dyn Fn(usize) -> Vec<u8>, outside: &Outside<'_>) -> Heard {
        if !self.waits() {
            return Heard::default();
        }
        let whole = read(FAILURE_BYTES_MAX);
        self.response_body(&Waiting { bytes: whole.len(), end: true, read: &|_| whole.clone() }, outside)
    }

    /// Whether what has come of the answer waits for more of it.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.phase.waits()
    }

    fn hear(&mut self, hear: impl FnOnce(Phase, &Leg, &mut Heard) -> Phase) -> Heard {
        let mut heard = Heard::default();
        self.phase = hear(std::mem::replace(&mut self.phase, Phase::Passing), &self.leg, &mut heard);
        heard.waits = self.waits();
        heard
    }
}
