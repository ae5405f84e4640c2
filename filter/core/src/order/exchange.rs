//! One request and its answer: the decisions in their order.
//!
//! The order stands here and nowhere else. Each method takes what has come to the phase that the exchange is in, and
//! answers what is to be done; whoever calls does it, in one place. A phase is taken by value: it ends by saying which one
//! comes next. `local` is the store of this process, which answers at once; the budgets are asked through
//! [`Step::Reserve`], whose answer may come later. Not decided here: anything but the order.

use crate::capacity::Turn;
use crate::denial::Denial;
use crate::gateway::{Dice, Gateway, QueueCall, StoreTrouble};
use crate::headers::{Headers, find};
use crate::journal::Note;
use crate::ledger::{Record, Series};
use crate::limits::{Grant, Report};
use crate::pending::Pending;
use crate::sse::Output;
use crate::store::{Moment, Store, StoreFault};
use std::rc::Rc;
use std::time::Duration;

mod admitting;
mod anybody;
mod batches;
mod body;
mod closed;
mod cost;
mod draft;
mod ending;
mod fitting;
mod head;
mod naming;
mod ordering;
mod pinned;
mod preparing;
mod queueing;
mod reading_limits;
mod reserving;
mod scanning;
mod sent;
mod sharing;
mod spilling;
mod status;
mod step;
mod stored;
mod turns;

use admitting::Admitting;
use body::{Body, Entering};
use closed::{Closed, Interrupted};
use draft::Draft;
use head::{Head, Unidentified};
use queueing::Queueing;
use reading_limits::ReadingLimits;
use reserving::Reserving;
use sent::Sent;

pub use turns::{Connected, Opened};

pub use step::{Finished, Forward, Interruption, Origin, ResponseEdits, Step};

/// Where an exchange is, with what that phase knows.
enum Phase {
    /// Nothing has come yet.
    Head(Head),
    /// Keys are being fetched that tell who the client is, or a token that a backend is to be shown.
    Unidentified(Box<Unidentified>),
    /// The store was asked for what needs no body.
    Entering(Box<Entering>),
    /// The headers are held; the body is being read.
    Body(Box<Body>),
    /// The store was asked.
    Reserving(Box<Reserving>),
    /// There is budget; room at a backend is asked for, or waited for.
    Admitting(Box<Admitting>),
    /// The queue was asked.
    Queueing(Box<Queueing>),
    /// The store was asked where the limits stand.
    ReadingLimits(ReadingLimits),
    /// The request is on its way, or its answer is.
    Sent(Box<Sent>),
    /// Envoy has answered before the request was sent on.
    Interrupted(Interrupted),
    /// Tollgate has answered itself, or it is all over.
    Closed(Closed),
}

/// Which phase comes next, and what is to be done in it.
type Next = (Phase, Step);

/// One request and its answer.
pub struct Exchange {
    phase: Phase,
    draft: Draft,
}

/// Their names, each once.
fn names<'h>(headers: impl Iterator<Item = &'h (String, Vec<u8>)>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in headers {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

impl Exchange {
    /// An exchange of which nothing is known yet.
    #[must_use]
    pub fn new(gateway: Rc<Gateway>) -> Self {
        Self { phase: Phase::Head(Head), draft: Draft::new(gateway) }
    }

    /// Goes on from the phase that it is in; one for which nothing was to come stays as it is.
    fn turn(&mut self, go: impl FnOnce(Phase, &mut Draft) -> Result<Next, Phase>) -> Step {
        match go(std::mem::replace(&mut self.phase, Phase::Head(Head)), &mut self.draft) {
            Ok((phase, step)) => {
                self.phase = phase;
                step
            }
            Err(phase) => {
                self.phase = phase;
                Step::Answer(Denial::OutOfTurn.answer_in(self.draft.api()))
            }
        }
    }

    /// Takes the request's headers. `end` says that no body follows.
    pub fn request_head(&mut self, headers: &Headers, end: bool, moment: Moment<'_>) -> Step {
        self.turn(|phase, draft| match phase {
            Phase::Head(head) => Ok(head.on_headers(headers, end, moment, draft)),
            phase => Err(phase),
        })
    }

    /// Takes the length of the part of the body that is here, and refuses as soon as it is too much.
    pub fn request_body_grows(&mut self, body_bytes: usize) -> Option<Step> {
        let excess = match &self.phase {
            Phase::Unidentified(unidentified) => unidentified.excess(body_bytes, &mut self.draft),
            Phase::Body(body) => body.excess(body_bytes, &mut self.draft),
            _ => None,
        };
        excess.map(|denial| self.turn(|_, draft| Ok(draft.deny(&denial))))
    }

    /// Takes the whole body.
    pub fn request_body(&mut self, body: &[u8], moment: Moment<'_>) -> Step {
        self.turn(|phase, draft| match phase {
            Phase::Body(held) => Ok(held.on_body(body, moment, draft)),
            phase => Err(phase),
        })
    }

    /// Whether the body is to be shown as it goes on, though the request has been decided on.
    #[must_use]
    pub fn scans(&self) -> bool {
        self.draft.scanning.is_some() && matches!(&self.phase, Phase::Sent(sent) if sent.answer.is_none())
    }

    /// Takes the next piece of such a body, before it goes on; answers what is to be done in its place, if it must not. It must
    /// not if it could not be read.
    pub fn request_chunk(&mut self, chunk: Option<&[u8]>, end: bool, moment: Moment<'_>) -> Option<Step> {
        let Phase::Sent(sent) = &self.phase else { return None };
        let place = sent.place();
        let denial = match chunk {
            Some(chunk) => self.draft.scan(place, chunk, end, moment).err()?,
            None => Denial::OutOfTurn,
        };
        Some(self.turn(|phase, draft| match phase {
            Phase::Sent(sent) => Ok(sent.refused(&denial, moment, draft)),
            phase => Err(phase),
        }))
    }

    /// Takes the store's answer to [`Step::Reserve`]. What it grants out of turn is given back by the next
    /// [`Exchange::finish`].
    pub fn reserved(&mut self, grant: Result<Grant, StoreFault>) -> Step {
        self.turn(|phase, draft| match phase {
            Phase::Entering(entering) => Ok(entering.on_grant(grant, draft)),
            Phase::Reserving(reserving) => Ok(reserving.on_grant(grant, draft)),
            phase => {
                draft.stray(grant);
                Err(phase)
            }
        })
    }

    /// Takes the answer to [`Step::Admit`], and after [`Turn::Waits`] the one that ends the waiting.
    pub fn admitted(&mut self, turn: Result<Turn, StoreFault>, moment: Moment<'_>) -> Step {
        self.turn(|phase, draft| match phase {
            Phase::Admitting(admitting) => Ok(admitting.on_turn(turn, moment, draft)),
            phase => Err(phase),
        })
    }

    /// Takes the store's answer to [`Step::ReadLimits`].
    pub fn limits_read(&mut self, report: Result<Report, StoreFault>, now: Duration) -> Step {
        self.turn(|phase, draft| match phase {
            Phase::ReadingLimits(reading) => Ok(reading.on_report(report, now, draft)),
            phase => Err(phase),
        })
    }

    /// What is sent to the queue; `None` if it is not to be asked.
    pub fn errand(&mut self, dice: &Dice, now: Duration) -> Option<QueueCall> {
        match &mut self.phase {
            Phase::Queueing(queueing) => queueing.call(dice, &self.draft, now),
            _ => None,
        }
    }

    /// Takes the queue's answer to [`Step::AskQueue`]; a broker's is empty if it has taken the request.
    pub fn queue_answered(&mut self, reply: Result<&[u8], StoreTrouble>, moment: Moment<'_>) -> Step {
        self.turn(|phase, draft| match phase {
            Phase::Queueing(queueing) => Ok(queueing.on_reply(reply, moment, draft)),
            phase => Err(phase),
        })
    }

    /// Goes on, if what it waits for has come or will not come any more; `None` while it still waits.
    pub fn wake(&mut self, moment: Moment<'_>) -> Option<Step> {
        if !matches!(self.phase, Phase::Unidentified(_)) {
            return None;
        }
        let step = self.turn(|phase, draft| match phase {
            Phase::Unidentified(unidentified) => Ok(unidentified.on_keys(moment, draft)),
            phase => Err(phase),
        });
        (!matches!(step, Step::Wait)).then_some(step)
    }

    /// Refuses, because Envoy is not set up to hold the request until it is decided on.
    pub fn refuse_unheld(&mut self, now: Duration) -> Step {
        if matches!(self.phase, Phase::Head(_)) {
            self.draft.began = now;
        }
        self.turn(|_, draft| Ok(draft.refuse(&Denial::HeadersNotHeld, None, Default::default())))
    }

    /// Takes the head of the answer. `origin` is only asked about errors. `end` says that no body
    /// follows.
    pub fn response_head(
        &mut self,
        headers: &Headers,
        end: bool,
        origin: impl FnOnce() -> Origin,
    ) -> ResponseEdits {
        match std::mem::replace(&mut self.phase, Phase::Head(Head)) {
            Phase::Sent(mut sent) => {
                let edits = sent.on_head(headers, end, origin, &mut self.draft);
                self.phase = Phase::Sent(sent);
                edits
            }
            phase @ (Phase::Closed(_) | Phase::Interrupted(_)) => {
                self.phase = phase;
                ResponseEdits::default()
            }
            phase => {
                let (interrupted, edits) = Interrupted::by_proxy(phase, self.draft.api(), headers, end);
                self.phase = Phase::Interrupted(interrupted);
                edits
            }
        }
    }

    /// Takes the next piece of the answer's body. `now` is only asked when the first text of a stream has come, and at the end
    /// of an answer that is measured.
    pub fn response_chunk(&mut self, chunk: &[u8], end: bool, now: impl Fn() -> Duration) -> Output {
        match &mut self.phase {
            Phase::Sent(sent) => sent.on_chunk(chunk, end, now, &self.draft),
            Phase::Interrupted(interrupted) => interrupted.on_chunk(),
            _ => Output::Same,
        }
    }

    /// Notes how soon the backend spoke, once it has, where the model is ordered by that.
    pub fn note_first_token(&mut self, local: &dyn Store) {
        if let Phase::Sent(sent) = &self.phase {
            self.draft.store_faults += u64::from(sent.flight.note_first_token(local).is_err());
        }
    }

    /// Ends the exchange, whatever became of it. `interruption` is only asked if it did not come to its end.
    pub fn finish(&mut self, moment: Moment<'_>, interruption: impl FnOnce() -> Interruption) -> Finished {
        let (moment, draft) = (moment, &mut self.draft);
        let finished = match std::mem::replace(&mut self.phase, Phase::Closed(Closed::GONE)) {
            Phase::Sent(sent) => sent.finish(moment, interruption, draft),
            Phase::Admitting(admitting) => admitting.finish(moment.now, draft),
            Phase::Queueing(queueing) => queueing.finish(),
            Phase::Interrupted(interrupted) => interrupted.finish(),
            Phase::Closed(closed) => closed.finish(),
            Phase::Head(_)
            | Phase::Unidentified(_)
            | Phase::Entering(_)
            | Phase::Body(_)
            | Phase::Reserving(_)
            | Phase::ReadingLimits(_) => Closed::GONE.finish(),
        };
        draft.complete(finished, moment.now)
    }

    /// Whether the exchange waits for something that no callback brings.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match &self.phase {
            Phase::Unidentified(_) => true,
            Phase::Admitting(admitting) => admitting.waits(),
            _ => false,
        }
    }

    /// Whether the body is what is awaited next.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        matches!(self.phase, Phase::Body(_))
    }

    /// Whether the request's body is none of our concern: it has been decided on, or is passed on unread.
    #[must_use]
    pub fn has_decided(&self) -> bool {
        matches!(self.phase, Phase::Sent(_) | Phase::Interrupted(_) | Phase::Closed(_))
    }

    /// Whether an answer that comes now is to be read: not one of our own.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        !matches!(self.phase, Phase::Closed(_))
    }

    /// Whether all that has come of the answer waits for the rest of it.
    #[must_use]
    pub fn holds_answer(&self) -> bool {
        matches!(&self.phase, Phase::Sent(sent) if sent.holds_answer())
    }

    /// What is to be known of this request if this VM dies: there is a note from the moment that something is reserved
    /// for it until that is settled.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        self.draft.note()
    }

    /// What the operator's log is told of it, once.
    pub fn notice(&mut self) -> Option<String> {
        self.draft.notice.take()
    }

    /// Another VM took this one for dead, and has written down what was reserved as spent: nothing is left to be noted of
    /// it for later.
    pub fn is_taken_over(&mut self) {
        self.draft.is_taken_over = true;
    }

    /// What went wrong with the store, for the metrics.
    pub fn faults(&mut self) -> Option<(Series, u64)> {
        let faults = std::mem::take(&mut self.draft.store_faults);
        (faults > 0).then_some((Series::StoreFaults, faults))
    }

    /// What is written down of a request whose VM died: all that was reserved for it stays charged.
    #[must_use]
    pub fn lost(note: &Note, gateway: &Gateway) -> Record {
        draft::lost(note, gateway)
    }

    /// What is written down of work that nobody has read the end of in time: what was reserved stays charged.
    #[must_use]
    pub fn expired(pending: &Pending, gateway: &Gateway) -> Record {
        stored::expired(pending, gateway)
    }
}

#[cfg(test)]
mod tests;
