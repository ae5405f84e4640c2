//! What is to be done about a request, its answer and its end?

use crate::answer::Answer;
use crate::attempt::Flight;
use crate::capacity::Ask;
use crate::json::Patch;
use crate::ledger::Record;
use crate::limits::{Claim, Inquiry, Settlement};
use std::rc::Rc;
use std::time::Duration;

/// What is to be done next.
#[must_use]
#[derive(Debug)]
pub enum Step {
    /// Hold the headers, without these, and read the whole body.
    AwaitBody {
        /// Headers that must go no further.
        strip: Vec<String>,
    },
    /// Ask the store, and bring its answer to `Exchange::reserved`. Then note what `Exchange::note` says. Asked once, or
    /// for a long body twice: before it is read, and after.
    Reserve(Claim),
    /// Ask for room at a backend, and bring the answer to `Exchange::admitted`.
    Admit(Ask),
    /// Ask the store where the limits stand, and bring its answer to `Exchange::limits_read`.
    ReadLimits(Inquiry),
    /// Ask the queue, with what `Exchange::errand` says, and bring the answer to `Exchange::queue_answered`.
    AskQueue,
    /// Let the request go.
    Forward(Forward),
    /// Answer in the backend's place.
    Answer(Answer),
    /// Hold everything, until its turn comes or `Exchange::wake` has something to do.
    Wait,
}

/// A request that may go.
#[derive(Debug)]
pub struct Forward {
    /// Headers that must go no further, if they have not been taken out yet.
    pub strip: Vec<String>,
    /// How its body is changed.
    pub patch: Option<Patch>,
    /// The new `content-length`, if there was one and the body is changed.
    pub content_length: Option<usize>,
    /// The new `content-type`, if it is not to be the client's.
    pub content_type: Option<String>,
    /// How long each attempt may take until its answer begins; `None` is as long as it takes.
    pub start_max: Option<Duration>,
    /// Where to, and what its attempts need.
    pub flight: Rc<Flight>,
}

/// What is changed about the head of an answer.
#[must_use]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ResponseEdits {
    /// Headers that go.
    pub remove: Vec<String>,
    /// Headers that come.
    pub set: Vec<(&'static str, String)>,
    /// What is sent in place of an answer that has no body which could be replaced.
    pub instead: Option<Answer>,
}

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A backend.
    Backend,
    /// Tollgate's filter at an attempt.
    Attempt,
    /// Envoy.
    Proxy,
}

/// Who broke an exchange off that did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The client hung up.
    Client,
    /// The backend, the network or a timeout.
    Other,
}

/// The end of an exchange.
#[derive(Debug)]
pub struct Finished {
    /// What the store is to be told, of all that was reserved.
    pub settlements: Vec<Settlement>,
    /// What is written down.
    pub record: Record,
}
