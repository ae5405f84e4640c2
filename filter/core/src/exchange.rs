//! One request and its answer: the decisions in their order.
//!
//! The order stands here and nowhere else. Each method takes what has come and answers what is to be done; whoever calls
//! does it, in one place. Not decided here: anything but the order.

use crate::answer::{self, Answer};
use crate::attempt::Flight;
use crate::denial::Denial;
use crate::endpoint::{self, Operation};
use crate::estimate::{self, Estimate};
use crate::gateway::{Client, Gateway, Model, OnStoreFailure};
use crate::headers::{ends_here, reveals_backend};
use crate::json::Patch;
use crate::ledger::{Outcome, Record, Series, Source};
use crate::limits::{Claim, Grant, Reservation, Settlement, Standing};
use crate::policy;
use crate::request::Request;
use crate::route::{self, Cooldowns};
use crate::sse::Output;
use crate::store::StoreFault;
use crate::tokens::Usage;
use crate::usage::{Format, Reader, UsageEvent};
use std::rc::Rc;
use std::time::Duration;

/// Headers as they came, names in lower case.
pub type Headers = [(String, Vec<u8>)];

/// What is to be done next.
#[must_use]
#[derive(Debug)]
pub enum Step {
    /// Hold the headers, without these, and read the whole body.
    AwaitBody {
        /// Headers that must go no further.
        strip: Vec<String>,
    },
    /// Ask the store, and bring its answer to [`Exchange::reserved`].
    Reserve(Claim),
    /// Let the request go.
    Forward(Forward),
    /// Answer in the backend's place.
    Answer(Answer),
}

/// A request that may go.
#[derive(Debug)]
pub struct Forward {
    /// How its body is changed.
    pub patch: Option<Patch>,
    /// The new `content-length`, if there was one and the body is changed.
    pub content_length: Option<usize>,
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
}

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A backend.
    Backend,
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
    /// What the store is to be told; `None` if nothing was reserved.
    pub settlement: Option<Settlement>,
    /// What is written down.
    pub record: Record,
}

/// Where an exchange is, with what that phase knows.
enum Phase {
    /// Nothing has come yet.
    Head,
    /// The headers are held; the body is being read.
    Body(Caller),
    /// The store was asked.
    Reserving(Ready),
    /// The request is on its way, or its answer is.
    Sent(Box<Sent>),
    /// Tollgate has answered itself.
    Closed {
        client: Option<Rc<Client>>,
        model: Option<Rc<Model>>,
        reservation: Option<Reservation>,
        outcome: Outcome,
    },
}

struct Caller {
    client: Rc<Client>,
    operation: Operation,
    /// The model, where the path names it.
    deployment: Option<String>,
    has_content_length: bool,
}

struct Ready {
    client: Rc<Client>,
    model: Rc<Model>,
    operation: Operation,
    estimate: Estimate,
    usage_event: UsageEvent,
    patch: Option<Patch>,
    content_length: Option<usize>,
}

struct Sent {
    client: Rc<Client>,
    model: Rc<Model>,
    operation: Operation,
    estimate: Estimate,
    usage_event: UsageEvent,
    reservation: Option<Reservation>,
    standing: Option<Standing>,
    flight: Rc<Flight>,
    answer: Option<Arriving>,
}

/// An answer that has begun.
struct Arriving {
    kind: AnswerKind,
    is_complete: bool,
}

enum AnswerKind {
    /// A backend's, below 400.
    Good(Box<Reader>),
    /// A backend's error.
    Error,
    /// Envoy's own, which gets a body in OpenAI's shape.
    Proxy { body: Option<Vec<u8>> },
}

/// One request and its answer.
pub struct Exchange {
    gateway: Rc<Gateway>,
    phase: Phase,
    store_faults: u64,
}

impl Exchange {
    /// An exchange of which nothing is known yet.
    #[must_use]
    pub fn new(gateway: Rc<Gateway>) -> Self {
        Self { gateway, phase: Phase::Head, store_faults: 0 }
    }

    /// Takes the request's headers. `end` says that no body follows.
    pub fn request_head(&mut self, headers: &Headers, end: bool) -> Step {
        if !matches!(self.phase, Phase::Head) {
            return Step::Answer(Denial::OutOfTurn.answer());
        }
        let header =
            |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice());
        let endpoint =
            endpoint::recognise(header(":method").unwrap_or_default(), header(":path").unwrap_or_default());
        let Some(endpoint) = endpoint else { return self.deny(Denial::UnknownEndpoint, None, None) };
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let client = match self.gateway.clients.identify(pairs) {
            Ok(client) => client,
            Err(denial) => return self.deny(denial, None, None),
        };
        if endpoint.operation == Operation::Models {
            let models = self.gateway.models.iter().filter(|model| client.may_use(model));
            let answer = answer::models(models.map(|model| &*model.name));
            self.phase = Phase::Closed {
                client: Some(client),
                model: None,
                reservation: None,
                outcome: Outcome::Answered,
            };
            return Step::Answer(answer);
        }
        if end {
            return self.deny(Denial::MissingField("body"), Some(client), None);
        }
        let strip = headers.iter().map(|(name, _)| name).filter(|name| ends_here(name)).cloned().collect();
        self.phase = Phase::Body(Caller {
            client,
            operation: endpoint.operation,
            deployment: endpoint.deployment.map(str::to_owned),
            has_content_length: header("content-length").is_some(),
        });
        Step::AwaitBody { strip }
    }

    /// Takes the length of the part of the body that is here, and refuses as soon as it is too much.
    pub fn request_body_grows(&mut self, body_bytes: usize) -> Option<Step> {
        let Phase::Body(caller) = &self.phase else { return None };
        let bytes_max = caller.client.policy.request_bytes_max;
        if body_bytes <= bytes_max {
            return None;
        }
        let client = caller.client.clone();
        Some(self.deny(Denial::BodyTooLarge { bytes_max }, Some(client), None))
    }

    /// Takes the whole body.
    pub fn request_body(&mut self, body: &[u8]) -> Step {
        let caller = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Body(caller) => caller,
            phase => {
                self.phase = phase;
                return Step::Answer(Denial::OutOfTurn.answer());
            }
        };
        let client = caller.client.clone();
        let mut model = None;
        match self.prepare(caller, body, &mut model) {
            Ok(ready) => {
                let claim = Claim { budget: ready.client.budget.clone(), tokens: ready.estimate.total() };
                self.phase = Phase::Reserving(ready);
                Step::Reserve(claim)
            }
            Err(denial) => self.deny(denial, Some(client), model),
        }
    }

    /// Reads the body and holds it to the policy.
    fn prepare(&self, caller: Caller, body: &[u8], model: &mut Option<Rc<Model>>) -> Result<Ready, Denial> {
        let Caller { client, operation, deployment, has_content_length } = caller;
        let mut request = Request::read(body)?;
        let name = deployment.as_deref().or(request.model.as_deref()).ok_or(Denial::MissingField("model"))?;
        let model = &*model.insert(self.gateway.model(&client, name)?);
        let ceiling = policy::apply(&client.policy, operation, model.family, &mut request)?;
        let estimate = estimate::estimate(&request.prompt, ceiling);
        if let Some(name) = model.name_in_body(operation) {
            request.set_model(name);
        }
        let asks = request.stream && operation.takes_stream_options() && model.takes_stream_options();
        let usage_event = if asks && request.ask_for_usage() { UsageEvent::Hide } else { UsageEvent::Show };
        let patch = request.patch();
        let content_length =
            patch.as_ref().filter(|_| has_content_length).map(|patch| patch.patched_len(body.len()));
        Ok(Ready { model: model.clone(), client, operation, estimate, usage_event, patch, content_length })
    }

    /// Takes the store's answer to [`Step::Reserve`], and the pauses that backends have asked for.
    pub fn reserved(
        &mut self,
        grant: Result<Grant, StoreFault>,
        cooldowns: Result<Cooldowns, StoreFault>,
        now: Duration,
    ) -> Step {
        let ready = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Reserving(ready) => ready,
            phase => {
                self.phase = phase;
                return Step::Answer(Denial::OutOfTurn.answer());
            }
        };
        let Ready { client, model, operation, estimate, usage_event, patch, content_length } = ready;
        self.store_faults += u64::from(grant.is_err()) + u64::from(cooldowns.is_err());
        let (reservation, standing) = match grant {
            Ok(Grant::Granted(reservation, standing)) => (Some(reservation), standing),
            Ok(Grant::Refused(denial)) => return self.deny(denial, Some(client), Some(model)),
            Err(_) if self.gateway.on_store_failure == OnStoreFailure::Deny => {
                return self.deny(Denial::StoreUnavailable, Some(client), Some(model));
            }
            Err(_) => (None, None),
        };
        // Without the pauses every target is tried in its turn: a throttled one costs an attempt, not the request.
        let cooldowns = cooldowns.unwrap_or_default();
        let candidates = match route::candidates(&model.targets, &cooldowns, now) {
            Ok(candidates) => candidates,
            Err(denial) => {
                let step = self.deny(denial, Some(client), Some(model));
                if let Phase::Closed { reservation: owed, .. } = &mut self.phase {
                    *owed = reservation;
                }
                return step;
            }
        };
        let flight = Rc::new(Flight::new(self.gateway.clone(), operation, candidates));
        self.phase = Phase::Sent(Box::new(Sent {
            client,
            model,
            operation,
            estimate,
            usage_event,
            reservation,
            standing,
            flight: flight.clone(),
            answer: None,
        }));
        Step::Forward(Forward { patch, content_length, flight })
    }

    /// Takes the head of the answer. `origin` is only asked about errors that are not JSON. `end` says that no body
    /// follows.
    pub fn response_head(
        &mut self,
        headers: &Headers,
        end: bool,
        origin: impl FnOnce() -> Origin,
    ) -> ResponseEdits {
        let Phase::Sent(sent) = &mut self.phase else { return ResponseEdits::default() };
        let header =
            |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice());
        let status = header(":status")
            .and_then(|status| std::str::from_utf8(status).ok())
            .and_then(|status| status.parse::<u16>().ok())
            .unwrap_or_default();
        let format = Format::of(header("content-type"), header("content-encoding"));
        let mut edits = ResponseEdits::default();
        let kind = if status < 400 {
            AnswerKind::Good(Box::new(Reader::new(format, sent.operation, sent.usage_event)))
        } else if format != Format::Json && origin() == Origin::Proxy {
            let Answer { headers, body, .. } = Denial::Proxy { status }.answer();
            edits.set = headers;
            edits.set.push(("content-length", body.len().to_string()));
            AnswerKind::Proxy { body: Some(body) }
        } else {
            AnswerKind::Error
        };
        edits.remove =
            headers.iter().map(|(name, _)| name).filter(|name| reveals_backend(name)).cloned().collect();
        if matches!(kind, AnswerKind::Good(_))
            && sent.usage_event == UsageEvent::Hide
            && format == Format::Events
        {
            edits.remove.push("content-length".to_owned());
        }
        edits.set.extend(sent.standing.iter().flat_map(Standing::headers));
        sent.answer = Some(Arriving { kind, is_complete: end });
        edits
    }

    /// Takes the next piece of the answer's body.
    pub fn response_chunk(&mut self, chunk: &[u8], end: bool) -> Output {
        let Phase::Sent(sent) = &mut self.phase else { return Output::Same };
        let Some(answer) = &mut sent.answer else { return Output::Same };
        answer.is_complete = end;
        match &mut answer.kind {
            AnswerKind::Good(reader) => reader.push(chunk, end),
            AnswerKind::Error => Output::Same,
            // The whole body of ours takes the place of the first piece.
            AnswerKind::Proxy { body } => Output::Replaced(body.take().unwrap_or_default()),
        }
    }

    /// Whether an answer that comes now is to be read: not one of our own.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        matches!(self.phase, Phase::Sent(_))
    }

    /// Ends the exchange, whatever became of it. `interruption` is only asked if it did not come to its end.
    pub fn finish(&mut self, interruption: impl FnOnce() -> Interruption) -> Finished {
        let ended = std::mem::replace(
            &mut self.phase,
            Phase::Closed { client: None, model: None, reservation: None, outcome: Outcome::ClientGone },
        );
        let nothing = |client: Option<Rc<Client>>, model: Option<Rc<Model>>, outcome| Record {
            client: client.map(|client| client.name.clone()),
            model: model.map(|model| model.name.clone()),
            backend: None,
            outcome,
            usage: Usage::default(),
            source: Source::Reported,
        };
        match ended {
            Phase::Head => Finished { settlement: None, record: nothing(None, None, Outcome::ClientGone) },
            Phase::Body(Caller { client, .. }) => {
                Finished { settlement: None, record: nothing(Some(client), None, Outcome::ClientGone) }
            }
            Phase::Reserving(Ready { client, model, .. }) => {
                Finished { settlement: None, record: nothing(Some(client), Some(model), Outcome::ClientGone) }
            }
            Phase::Closed { client, model, reservation, outcome } => Finished {
                settlement: reservation.map(|reservation| reservation.settle(0)),
                record: nothing(client, model, outcome),
            },
            Phase::Sent(sent) => sent.finish(interruption),
        }
    }

    /// What went wrong with the store, for the metrics.
    pub fn faults(&mut self) -> Option<(Series, u64)> {
        let faults = std::mem::take(&mut self.store_faults);
        (faults > 0).then_some((Series::StoreFaults, faults))
    }

    fn deny(&mut self, denial: Denial, client: Option<Rc<Client>>, model: Option<Rc<Model>>) -> Step {
        let outcome = Outcome::Denied(denial.code());
        self.phase = Phase::Closed { client, model, reservation: None, outcome };
        Step::Answer(denial.answer())
    }
}

impl Sent {
    fn finish(self, interruption: impl FnOnce() -> Interruption) -> Finished {
        let tried = self.flight.last_tried();
        let is_complete = self.answer.as_ref().is_some_and(|answer| answer.is_complete);
        let broken = || match interruption() {
            Interruption::Client => Outcome::ClientGone,
            Interruption::Other => Outcome::Broken,
        };
        let (outcome, usage, source) = match self.answer.as_ref().map(|answer| &answer.kind) {
            Some(AnswerKind::Proxy { .. }) => (Outcome::ProxyError, Usage::default(), Source::Reported),
            Some(AnswerKind::Error) => (Outcome::BackendError, Usage::default(), Source::Reported),
            Some(AnswerKind::Good(reader)) => {
                let (usage, source) = match reader.usage() {
                    Some(usage) => (usage, Source::Reported),
                    None => (self.estimated(reader.produced_bytes()), Source::Estimated),
                };
                (if is_complete { Outcome::Served } else { broken() }, usage, source)
            }
            // The client left before the answer came. A backend that was asked may bill all that it was asked for.
            None if tried.is_some() => (broken(), self.estimated(None), Source::Estimated),
            None => (broken(), Usage::default(), Source::Reported),
        };
        Finished {
            settlement: self.reservation.map(|reservation| reservation.settle(usage.total())),
            record: Record {
                client: Some(self.client.name.clone()),
                model: Some(self.model.name.clone()),
                backend: tried.map(|target| target.backend.name.clone()),
                outcome,
                usage,
                source,
            },
        }
    }

    /// What is charged when nobody said: the text that was seen, or all that was reserved.
    fn estimated(&self, produced_bytes: Option<u64>) -> Usage {
        let completion = match produced_bytes {
            Some(bytes) => estimate::text_tokens(bytes).min(self.estimate.completion),
            None => self.estimate.completion,
        };
        Usage { prompt: self.estimate.prompt, completion, ..Usage::default() }
    }
}

#[cfg(test)]
mod tests;
