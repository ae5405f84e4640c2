//! What is passed on of an answer, and what becomes of it on the way?

use super::draft::Draft;
use super::preparing::{Expected, Ready};
use super::{Forward, Headers, Next, Origin, Phase, ResponseEdits, Step, find, names, pinned};
use crate::answer::Answer;
use crate::attempt::{Destination, Flight, Returning};
use crate::capacity::Seat;
use crate::denial::Denial;
use crate::endpoint::Api;
use crate::finding;
use crate::headers::{self, passes_to_clients, passes_with_socket};
use crate::ledger::Outcome;
use crate::limits::{Reservation, Standing};
use crate::pinning::{Quoted, Stamp};
use crate::route::{Choice, Target};
use crate::sse::Output;
use crate::store::Moment;
use crate::tokens::Usage;
use crate::usage::{self, Format, Reader, UsageEvent};
use std::rc::Rc;
use std::time::Duration;

/// What a backend agrees to a socket with.
const SWITCHING: u16 = 101;

/// Azure's word for a full deployment whose requests another one of the same resource has served.
/// <https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/spillover-traffic-management>
const SPILLOVER_FROM: &str = "x-ms-spillover-from-deployment";

/// A request on its way, or its answer.
pub(super) struct Sent {
    pub(super) expected: Expected,
    pub(super) reservation: Option<Reservation>,
    pub(super) standing: Standing,
    pub(super) flight: Rc<Flight>,
    pub(super) answer: Option<Arriving>,
}

/// What was taken for it where it goes first, and what it needs to come back.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) seat: Option<Seat>,
    pub(super) spilled: Option<Reservation>,
    pub(super) returning: Option<Returning>,
}

/// An answer that has begun.
pub(super) struct Arriving {
    pub(super) kind: AnswerKind,
    /// What seals the ids in it, if that is to be done.
    stamp: Option<Box<Stamp>>,
    /// What puts the ids right that an error quotes.
    quoted: Option<Box<Quoted>>,
    pub(super) is_complete: bool,
    /// Whether another deployment of the backend's own served it.
    pub(super) is_spillover: bool,
    pub(super) first_token: Option<Duration>,
}

pub(super) enum AnswerKind {
    /// A backend's, below 400.
    Good(Box<Reader>),
    /// A backend has agreed to a socket: what follows is no answer.
    Switched,
    /// A backend's error.
    Error(Box<Reader>),
    /// One that gets a body of ours.
    Ours { body: Option<Vec<u8>>, outcome: Outcome },
}

impl ResponseEdits {
    /// Puts a refusal in place of an answer, and answers its body; if the answer ends with its head, all of it is sent
    /// in its place.
    pub(super) fn speak(&mut self, denial: &Denial, api: Api, end: bool) -> Option<Vec<u8>> {
        let answer = denial.answer_in(api);
        if end {
            self.instead = Some(answer);
            return None;
        }
        let Answer { headers, body, .. } = answer;
        self.set = headers;
        self.set.push(("content-length", body.len().to_string()));
        Some(body)
    }
}

impl Sent {
    /// Lets a request go to these targets, with what was taken at the first of them.
    pub(super) fn begin(
        ready: Ready,
        choice: Choice,
        reservation: Option<Reservation>,
        standing: Standing,
        taken: Taken,
        draft: &mut Draft,
    ) -> Next {
        let Taken { seat, spilled, returning } = taken;
        draft.room = None;
        // It is not queued any more: its copy of the body is of no use.
        draft.patient = None;
        let spilling = draft.spilling(&ready, &choice, spilled);
        let Ready { destination, strip, patch, content_length, content_type, bodies, expected, .. } = ready;
        let usage = expected.estimate.usage();
        // What is passed on may be a job, of which another backend would make a second one.
        let model = draft.model.as_ref().filter(|_| matches!(destination, Destination::Deployment(_)));
        let start_max = model.and_then(|model| model.start_max(draft.stream));
        let flight = Flight::new(draft.gateway.clone(), destination, bodies, choice, seat, usage);
        // While an attempt is held, the time that it may take would pass.
        let returning = returning.filter(|_| start_max.is_none());
        let flight = Rc::new(flight.with_spilling(spilling).with_returning(returning));
        let sent = Self { expected, reservation, standing, flight: flight.clone(), answer: None };
        let forward = Forward { strip, patch, content_length, content_type, start_max, flight };
        (Phase::Sent(Box::new(sent)), Step::Forward(forward))
    }

    /// Takes the head of the answer.
    pub(super) fn on_head(
        &mut self,
        headers: &Headers,
        end: bool,
        origin: impl FnOnce() -> Origin,
        draft: &mut Draft,
    ) -> ResponseEdits {
        let status = headers::status(headers);
        let (operation, usage_event) = (self.expected.operation, self.flight.usage_event());
        let (kind, coding) = (find(headers, "content-type"), find(headers, "content-encoding"));
        let format = Format::of_answer(kind, coding, operation, draft.stream);
        let mut edits = ResponseEdits::default();
        let is_switched = status == SWITCHING && operation.is_socket();
        let kind = if is_switched {
            AnswerKind::Switched
        } else if status < 400 && !usage::has_answer(status) {
            AnswerKind::Good(Box::new(Reader::of_nothing(format, operation, usage_event)))
        } else if status < 400 {
            AnswerKind::Good(Box::new(Reader::new(format, operation, usage_event)))
        } else if let Some(misfit) = self.flight.misfit() {
            let denial = misfit.denial();
            let kind = AnswerKind::Ours {
                body: edits.speak(&denial, draft.api(), end),
                outcome: Outcome::Denied(denial.code()),
            };
            // What is sent in its place has its own.
            if edits.instead.is_none() {
                edits.set.push((":status", denial.status().to_string()));
            }
            kind
        } else if self.flight.has_ended() || origin() == Origin::Proxy {
            let body = edits.speak(&Denial::Proxy { status }, draft.api(), end);
            AnswerKind::Ours { body, outcome: Outcome::ProxyError }
        } else {
            AnswerKind::Error(Box::new(Reader::of_error(status)))
        };
        let more = &draft.gateway.pass_answer_headers;
        let passes = |name: &str, value: &[u8]| {
            passes_to_clients(name, value, more) || is_switched && passes_with_socket(name)
        };
        edits.remove = names(headers.iter().filter(|(name, value)| !passes(name, value)));
        if !matches!(kind, AnswerKind::Ours { outcome: Outcome::ProxyError, .. }) {
            draft.provider_request_id = headers::provider_request_id(headers);
            let id = draft.provider_request_id.clone();
            edits.set.extend(id.map(|id| (headers::PROVIDER_REQUEST_ID, id)));
        }
        if matches!(kind, AnswerKind::Good(_)) && usage_event == UsageEvent::Hide && format == Format::Events
        {
            edits.remove.push("content-length".to_owned());
        }
        let stamp = match (&kind, &draft.client) {
            (AnswerKind::Good(_), Some(client)) if draft.seals => {
                pinned::stamp(&draft.gateway, client, &self.flight, format, draft.sum.take())
            }
            _ => None,
        };
        let quoted = match &kind {
            AnswerKind::Error(_) => pinned::quoted(draft, format),
            _ => None,
        };
        if stamp.is_some() || quoted.is_some() {
            edits.remove.push("content-length".to_owned());
        }
        edits.set.extend(self.standing.headers());
        edits.set.extend(finding::header_value(&draft.findings).map(|value| (finding::CLAMPED, value)));
        edits.set.extend(draft.decision_header(Some(&self.flight)));
        if status == 429 && matches!(kind, AnswerKind::Error(_)) && self.flight.return_refusal().is_none() {
            edits.set.extend(draft.retry_headers(&self.flight));
        }
        if let Some(answer) = &mut edits.instead {
            answer.headers.append(&mut edits.set);
        }
        let is_spillover = find(headers, SPILLOVER_FROM).is_some();
        self.answer =
            Some(Arriving { kind, is_spillover, stamp, quoted, is_complete: end, first_token: None });
        edits
    }

    /// Takes the next piece of the answer's body.
    pub(super) fn on_chunk(
        &mut self,
        chunk: &[u8],
        end: bool,
        now: impl Fn() -> Duration,
        draft: &Draft,
    ) -> Output {
        let Some(answer) = &mut self.answer else { return Output::Same };
        answer.is_complete = end;
        match &mut answer.kind {
            AnswerKind::Good(reader) => {
                let output = reader.push(chunk, end);
                if answer.first_token.is_none() && reader.has_streamed_text() {
                    let now = now();
                    answer.first_token = Some(now.saturating_sub(draft.began));
                    self.flight.speaks(now);
                }
                if end {
                    self.flight.ends(now);
                }
                match &mut answer.stamp {
                    Some(stamp) => pinned::stamped(stamp, chunk, output, end),
                    None => output,
                }
            }
            AnswerKind::Error(reader) => {
                let output = reader.push(chunk, end);
                answer.quoted.as_mut().map_or(output, |quoted| quoted.push(chunk, end))
            }
            AnswerKind::Switched => Output::Same,
            // The whole body of ours takes the place of the first piece.
            AnswerKind::Ours { body, .. } => Output::Replaced(body.take().unwrap_or_default()),
        }
    }

    /// Where the request is, or goes first.
    pub(super) fn place(&self) -> Option<Rc<Target>> {
        self.flight.last_tried().or_else(|| self.flight.candidates().first().cloned())
    }

    /// Refuses it while its body goes on: nobody gets the end of that.
    pub(super) fn refused(self, denial: &Denial, moment: Moment<'_>, draft: &mut Draft) -> Next {
        draft.store_faults += u64::from(self.flight.land(Some(Usage::default()), moment).is_err());
        draft.refuse(denial, self.reservation, self.standing)
    }

    /// Whether it asks for a connection, and there is no answer yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.expected.operation.is_socket() && self.answer.is_none()
    }

    /// Whether it is a connection by now.
    pub(super) fn has_switched(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| matches!(answer.kind, AnswerKind::Switched))
    }

    /// Whether all that has come of the answer waits for the rest of it.
    pub(super) fn holds_answer(&self) -> bool {
        let quoted = self.answer.as_ref().and_then(|answer| answer.quoted.as_ref());
        quoted.is_some_and(|quoted| quoted.waits())
    }
}
