//! What is to be done about an attempt, its body and its answer?

use super::Attempt;
use super::misfit::Misconfigured;
use crate::denial::Denial;
use crate::json::Patch;
use crate::ledger::Series;
use crate::store::StoreFault;
use std::borrow::Cow;

/// An attempt that may go, and what is done to the headers of its request.
#[must_use]
#[derive(Debug)]
pub struct Departure<'a> {
    /// Removed first.
    pub remove: &'a [String],
    /// The whole path and query.
    pub path: String,
    /// Then set: the backend's credential, unless Envoy adds it.
    pub set: Option<(&'a str, Cow<'a, str>)>,
    /// The length of its body, where attempts differ in it.
    pub content_length: Option<usize>,
}

/// An attempt that is under way.
#[must_use]
#[derive(Debug)]
pub struct Begun<'a> {
    /// What takes its body and its answer.
    pub attempt: Attempt,
    /// How it is sent.
    pub departure: Departure<'a>,
    /// To be counted, each once.
    pub counts: Vec<Series>,
    /// What the store could not be told.
    pub faults: Vec<StoreFault>,
    /// Whether it is the first one of its request that is seen, and not at the first candidate, which a route that knows the order
    /// goes to.
    pub began_elsewhere: bool,
}

/// An attempt that may not be made.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The answer in the backend's place.
    pub denial: Denial,
    /// To be counted, each once.
    pub counts: Vec<Series>,
    /// What the store could not be told.
    pub faults: Vec<StoreFault>,
}

/// A body as far as it waits in Envoy: while its headers do, from its beginning.
pub struct Waiting<'r> {
    /// So much of it.
    pub bytes: usize,
    /// Whether that is its end.
    pub end: bool,
    /// Its first bytes, of which there may be fewer.
    pub read: &'r dyn Fn(usize) -> Vec<u8>,
}

/// What becomes of the body that an attempt sends.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// It goes as it is.
    AsItIs,
    /// It waits for more of it.
    Waits,
    /// It goes, changed so.
    Patched(Patch),
    /// It is not the body that was decided on: answer in the backend's place.
    Denied(Denial),
}

/// What is to be done about an answer, as far as it has come.
#[must_use]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Headers that go.
    pub remove: Vec<String>,
    /// Headers that come.
    pub set: Vec<(&'static str, String)>,
    /// How the body that waits is changed.
    pub patch: Option<Patch>,
    /// To be counted, each once.
    pub counts: Vec<Series>,
    /// What the operator is told.
    pub misconfigured: Option<Misconfigured>,
    /// What the store could not be told.
    pub faults: Vec<StoreFault>,
    /// Whether what has come waits for more of it.
    pub waits: bool,
}

impl Heard {
    /// Takes what became of a record in the store: an attempt goes on whether the store takes it or not.
    pub(super) fn noted(&mut self, noted: Result<(), StoreFault>) {
        self.faults.extend(noted.err());
    }
}
