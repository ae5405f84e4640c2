//! One request and its answer: the decisions in their order.
//!
//! The order stands here and nowhere else. Each method takes what has come and answers what is to be done; whoever calls
//! does it, in one place. `local` is the store of this process, which answers at once; the budgets are asked through
//! [`Step::Reserve`], whose answer may come later. Not decided here: anything but the order.

use crate::answer::{self, Answer};
use crate::attempt::Flight;
use crate::capacity::{Ask, Seat};
use crate::decision::{EXPLAIN, PassedOver};
use crate::denial::Denial;
use crate::endpoint::{Asked, Operation, decoded};
use crate::estimate::Estimate;
use crate::finding::{self, Finding};
use crate::gateway::{BodyRoom, Client, Gateway, Model, OnStoreFailure};
use crate::headers::{self, passes_to_backends, passes_to_clients};
use crate::identity::Identity;
use crate::journal::Note;
use crate::json::Patch;
use crate::ledger::{Name, Outcome, Pin, Queued, Record, Series, Source};
use crate::limits::{Claim, Grant, Granted, Inquiry, Part, Report, Reservation, Settlement, Spent, Standing};
use crate::media::{self, CONTENT_ENCODING, Media};
use crate::pending::Pending;
use crate::pinning::Spoken;
use crate::route::Choice;
use crate::sse::Output;
use crate::store::{Store, StoreFault};
use crate::tokens::Usage;
use crate::usage::{self, Format, Reader, UsageEvent};
use std::rc::Rc;
use std::time::Duration;

mod admitting;
mod cost;
mod ending;
mod entering;
mod explaining;
mod fitting;
mod holding;
mod pinned;
mod preparing;
mod spilling;
mod status;
mod stored;

use admitting::Admitting;
use ending::{AnswerKind, Arriving, Sent};
use holding::Entering;
use pinned::Other;
use preparing::{Expected, Held, Ready};
use stored::{Parties, Purpose};

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
    /// Ask the store, and bring its answer to [`Exchange::reserved`]. Then note what [`Exchange::note`] says. Asked once, or
    /// for a long body twice: before it is read, and after.
    Reserve(Claim),
    /// Ask for room at a backend, and bring the answer to [`Exchange::admitted`].
    Admit(Ask),
    /// Ask the store where the limits stand, and bring its answer to [`Exchange::looked`].
    Look(Inquiry),
    /// Let the request go.
    Forward(Forward),
    /// Answer in the backend's place.
    Answer(Answer),
    /// Hold everything, until its turn comes or [`Exchange::wake`] has something to do.
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

/// Azure's word for a full deployment whose requests another one of the same resource has served.
/// <https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/spillover-traffic-management>
const SPILLOVER_FROM: &str = "x-ms-spillover-from-deployment";

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

/// What is known of a request, for the record, as far as it got.
#[derive(Clone, Default)]
struct Known {
    operation: Option<Operation>,
    client: Option<Rc<Client>>,
    model: Option<Rc<Model>>,
    /// The model in the client's own word.
    asked: Option<String>,
    stream: bool,
    /// The tier of service that it names, where prices depend on it.
    tier_asked: Option<String>,
    /// How it waited for room at a backend, if it did.
    queued: Option<Queued>,
    /// What came of the ids in it, if it had any.
    pin: Option<Pin>,
    /// Whether the ids in its answer are to be sealed.
    seals: bool,
    /// Its own ids, for an error that quotes them.
    spoken: Vec<Spoken>,
    /// What its policy found.
    findings: Vec<Finding>,
    /// The label of the limit that refused it.
    limit: Option<Rc<str>>,
    /// The labels of the limits that would have.
    shadow_refusals: Vec<Rc<str>>,
    /// What was reserved for it, while it is.
    reserved: Option<Reserved>,
    /// The backends that were passed over.
    passed_over: Vec<PassedOver>,
    /// Whether its client may know why, and has asked.
    explains: bool,
    /// The name of its answer at the provider.
    provider_request_id: Option<String>,
    /// Whether another VM has written it down.
    is_taken_over: bool,
}

/// What a note needs besides the rest.
#[derive(Clone)]
struct Reserved {
    usage: Usage,
    slots: String,
}

/// Where an exchange is, with what that phase knows.
enum Phase {
    /// Nothing has come yet.
    Head,
    /// Keys are being fetched that tell who the client is.
    Unidentified(Box<Unidentified>),
    /// The store was asked for what needs no body.
    Entering(Box<Entering>),
    /// The headers are held; the body is being read.
    Body(Held),
    /// The store was asked.
    Reserving(Box<Ready>),
    /// There is budget; room at a backend is asked for, or waited for.
    Admitting(Box<Admitting>),
    /// The store was asked where the limits stand, for this answer; for the list of them if there is none yet.
    Looking { answer: Option<Answer>, outcome: Outcome },
    /// The request is on its way, or its answer is.
    Sent(Box<Sent>),
    /// Envoy has answered before the request was sent on; its answer gets this body.
    Interrupted { body: Option<Vec<u8>>, reservation: Option<Reservation> },
    /// Tollgate has answered itself, or it is all over.
    Closed { reservation: Option<Reservation>, outcome: Outcome },
}

/// A request of which it is not known yet whose it is.
struct Unidentified {
    headers: Vec<(String, Vec<u8>)>,
    end: bool,
    until: Duration,
}

/// One request and its answer.
pub struct Exchange {
    gateway: Rc<Gateway>,
    phase: Phase,
    known: Known,
    began: Duration,
    store_faults: u64,
    /// The room that its body takes, until it is sent on.
    room: Option<BodyRoom>,
    /// What was granted before the body was read, until it joins what is granted for that.
    entered: Option<Granted>,
    /// What was granted when nobody waited for it any more.
    strays: Vec<Reservation>,
}

impl ResponseEdits {
    /// Puts a refusal in place of an answer, and answers its body; if the answer ends with its head, all of it is sent
    /// in its place.
    fn speak(&mut self, denial: &Denial, end: bool) -> Option<Vec<u8>> {
        let answer = denial.answer();
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

/// What was reserved for a request that cost nothing.
fn untouched(reservation: Option<Reservation>) -> Vec<Settlement> {
    reservation.map(|reservation| reservation.settle(Spent::default())).into_iter().collect()
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

fn find<'h>(headers: &'h Headers, name: &str) -> Option<&'h [u8]> {
    headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice())
}

impl Exchange {
    /// An exchange of which nothing is known yet.
    #[must_use]
    pub fn new(gateway: Rc<Gateway>) -> Self {
        Self {
            gateway,
            phase: Phase::Head,
            known: Known::default(),
            began: Duration::ZERO,
            store_faults: 0,
            room: None,
            entered: None,
            strays: Vec::new(),
        }
    }

    /// Takes the request's headers. `end` says that no body follows.
    pub fn request_head(&mut self, headers: &Headers, end: bool, local: &dyn Store, now: Duration) -> Step {
        if !matches!(self.phase, Phase::Head) {
            return Step::Answer(Denial::OutOfTurn.answer());
        }
        self.began = now;
        match self.head(headers, end, local, now) {
            Ok(step) => step,
            Err(wait) => {
                let until = now.saturating_add(wait);
                self.phase =
                    Phase::Unidentified(Box::new(Unidentified { headers: headers.to_vec(), end, until }));
                Step::Wait
            }
        }
    }

    /// Decides on the head; answers how long to wait, if it cannot be decided yet.
    fn head(
        &mut self,
        headers: &Headers,
        end: bool,
        local: &dyn Store,
        now: Duration,
    ) -> Result<Step, Duration> {
        let (method, path) = (find(headers, ":method"), find(headers, ":path"));
        let asked = Asked::read(method.unwrap_or_default(), path.unwrap_or_default());
        let Some(asked) = asked else { return Ok(self.deny(Denial::UnknownEndpoint)) };
        if let Some(step) = self.enter(&asked, headers) {
            return Ok(step);
        }
        let gateway = self.gateway.clone();
        let endpoint = asked.endpoint(&gateway.other_paths).filter(|endpoint| self.knows(endpoint));
        let Some(endpoint) = endpoint else { return Ok(self.deny(Denial::UnknownEndpoint)) };
        let operation = endpoint.operation;
        self.known.operation = Some(operation);
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let client = match self.gateway.clients.identify(pairs, local, now) {
            Ok(Identity::Client(client)) => client,
            Ok(Identity::Unknown(wait)) => return Err(wait),
            Err(Denial::MissingCredential) if operation == Operation::Health && self.gateway.health_open => {
                return Ok(self.health(None, endpoint.deployment, local, now));
            }
            Err(denial) => return Ok(self.deny(denial)),
        };
        self.known.explains = client.operator && find(headers, EXPLAIN) == Some(b"true");
        self.known.client = Some(client.clone());
        if let Err(denial) = self.check_endpoint(&client, &endpoint) {
            return Ok(self.deny(denial));
        }
        let clients = &self.gateway.clients;
        let pass = |name: &str| passes_to_backends(name, &self.gateway.pass_headers) && !clients.trusts(name);
        let strip = names(headers.iter().filter(|(name, _)| !pass(name)));
        Ok(match (operation, endpoint.rest) {
            (Operation::Models, _) => {
                let answer = match endpoint.deployment {
                    Some(name) => {
                        let model = self.gateway.model(&client, &decoded(name));
                        model.map(|model| answer::model(&model.name.text))
                    }
                    None => {
                        let models = self.gateway.models.iter().filter(|model| client.may_use(model));
                        Ok(answer::models(models.map(|model| &*model.name.text)))
                    }
                };
                match answer {
                    Ok(answer) => self.answer(Some(answer), Outcome::Answered),
                    Err(denial) => self.deny(denial),
                }
            }
            (Operation::Limits, _) => self.answer(None, Outcome::Answered),
            (Operation::Health, _) => self.health(Some(&client), endpoint.deployment, local, now),
            (Operation::Config, _) => self.configuration(&client, now),
            (_, Some((rest, query))) => {
                let purpose = Purpose::of(method.unwrap_or_default(), rest);
                let other = Other { rest: rest.to_owned(), query: query.to_owned(), purpose };
                if !end && Self::reads_body_of_other(headers) {
                    let held =
                        media::check_coding(headers).and_then(|()| Held::new(client, &endpoint, headers));
                    return Ok(self.hold(held.map(|held| Held { other: Some(other), ..held }), strip));
                }
                match self.prepare_other(client, other, None, local, now) {
                    Ok(ready) => self.reserve(Ready { strip, ..ready }),
                    Err(denial) => self.deny(denial),
                }
            }
            _ if end => self.deny(Denial::MissingField("body")),
            _ => {
                let coding = find(headers, CONTENT_ENCODING).map(|_| CONTENT_ENCODING.to_owned());
                let strip = strip.into_iter().chain(coding).collect();
                self.hold(Held::new(client, &endpoint, headers), strip)
            }
        })
    }

    /// Takes the whole body.
    pub fn request_body(&mut self, body: &[u8], local: &dyn Store, now: Duration) -> Step {
        let held = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Body(held) => held,
            phase => {
                self.phase = phase;
                return Step::Answer(Denial::OutOfTurn.answer());
            }
        };
        let prepared = match held.said.media {
            Media::Unread(_) => self.prepare_read_other(held, body, local, now),
            Media::Json | Media::Form(_) => self.prepare_read(held, body, local, now),
        };
        match prepared {
            Ok(ready) => self.reserve(ready),
            Err(denial) => self.deny(denial),
        }
    }

    fn reserve(&mut self, ready: Ready) -> Step {
        let (operation, usage) = (ready.expected.operation, ready.expected.usage_max());
        let asked = self.known.tier_asked.as_deref();
        let claim = Claim {
            budget: ready.client.budget.clone(),
            part: if self.entered.is_some() { Part::Body } else { Part::All },
            model: self.known.model.as_ref().map(|model| model.name.text.clone()),
            operation,
            usage,
            // Wherever it goes in the end.
            cost: self.known.model.as_ref().map_or(0, |model| model.cost_max(usage, asked)),
        };
        self.phase = Phase::Reserving(Box::new(ready));
        Step::Reserve(claim)
    }

    /// Takes the store's answer to [`Step::Reserve`]. What it grants out of turn is given back by the next
    /// [`Exchange::finish`].
    pub fn reserved(&mut self, grant: Result<Grant, StoreFault>) -> Step {
        let ready = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Reserving(ready) => ready,
            Phase::Entering(entering) => return self.entered(*entering, grant),
            phase => {
                self.phase = phase;
                if let Ok(Grant::Granted(Granted { reservation, .. })) = grant {
                    self.strays.push(reservation);
                }
                return Step::Answer(Denial::OutOfTurn.answer());
            }
        };
        self.store_faults += u64::from(grant.is_err());
        let (reservation, standing) = match grant {
            Ok(Grant::Granted(granted)) => self.join(Some(granted)),
            // For good, and by what was learnt: it is asked again by what is sure.
            Ok(Grant::Refused(Denial::NeverFits { .. }, _))
                if ready.expected.sure() != ready.expected.estimate =>
            {
                let expected = Expected { estimate: ready.expected.sure(), ..ready.expected };
                return self.reserve(Ready { expected, ..*ready });
            }
            Ok(Grant::Refused(denial, standing)) => {
                self.known.limit = denial.limit().map(|limit| limit.word.clone());
                return self.refuse(&denial, None, standing);
            }
            Err(_) if self.gateway.on_store_failure == OnStoreFailure::Deny => {
                return self.refuse(&Denial::StoreUnavailable, None, Standing::default());
            }
            Err(_) => self.join(None),
        };
        let Estimate { prompt, completion } = ready.expected.estimate;
        self.known.reserved = Some(Reserved {
            usage: Usage { prompt, completion, ..Usage::default() },
            slots: reservation.as_ref().map(Reservation::slots).unwrap_or_default(),
        });
        self.admit(*ready, reservation, standing)
    }

    /// Lets it go to these targets, holding a seat at the first of them if its capacity was declared.
    fn forward(
        &mut self,
        ready: Ready,
        choice: Choice,
        reservation: Option<Reservation>,
        standing: Standing,
        seat: Option<Seat>,
        spilled: Option<Reservation>,
    ) -> Step {
        self.room = None;
        let spilling = self.spilling(&ready, &choice, spilled);
        let Ready { destination, strip, patch, content_length, content_type, bodies, expected, .. } = ready;
        let usage = expected.estimate.usage();
        let flight = Flight::new(self.gateway.clone(), destination, bodies, choice, seat, usage);
        let flight = Rc::new(flight.with_spilling(spilling));
        self.phase = Phase::Sent(Box::new(Sent {
            expected,
            reservation,
            standing,
            flight: flight.clone(),
            answer: None,
        }));
        // An answer that is no stream begins when it is finished: cut off, it would be produced again, and billed twice.
        let start_max =
            self.known.model.as_ref().filter(|_| self.known.stream).and_then(|model| model.stream_start_max);
        Step::Forward(Forward { strip, patch, content_length, content_type, start_max, flight })
    }

    /// What is to be known of this request if this VM dies: there is a note from the moment that something is reserved
    /// for it until that is settled.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        let Known { client, model, operation, reserved, .. } = &self.known;
        let Reserved { usage, slots } = reserved.clone()?;
        let label = |name: Option<&Name>| name.map(|name| name.label.to_string()).unwrap_or_default();
        Some(Note {
            client: label(client.as_ref().map(|client| &client.name)),
            model: label(model.as_ref().map(|model| &model.name)),
            operation: operation.map(Operation::word).unwrap_or_default().to_owned(),
            slots,
            prompt: usage.prompt,
            completion: usage.completion,
        })
    }

    /// Takes the store's answer to [`Step::Look`].
    pub fn looked(&mut self, report: Result<Report, StoreFault>, now: Duration) -> Step {
        let phase = std::mem::replace(&mut self.phase, Phase::Head);
        let Phase::Looking { answer, outcome } = phase else {
            self.phase = phase;
            return Step::Answer(Denial::OutOfTurn.answer());
        };
        self.store_faults += u64::from(report.is_err());
        let (mut answer, outcome) = match (answer, &report, &self.known.client) {
            (Some(answer), ..) => (answer, outcome),
            (None, Ok(report), Some(client)) => {
                let states = report.states.iter().map(|state| answer::Standing {
                    allowance: &state.allowance,
                    used: state.used,
                    remaining: state.remaining,
                    reset: state.reset,
                });
                (answer::limits(&client.name.text, states, now), outcome)
            }
            (None, ..) => {
                let denial = Denial::StoreUnavailable;
                (denial.answer(), Outcome::Denied(denial.code()))
            }
        };
        answer.headers.extend(report.unwrap_or_default().standing.headers());
        self.phase = Phase::Closed { reservation: None, outcome };
        Step::Answer(answer)
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

    /// Goes on, if what it waits for has come or will not come any more; `None` while it still waits.
    pub fn wake(&mut self, local: &dyn Store, now: Duration) -> Option<Step> {
        let waiting = match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Unidentified(waiting) => waiting,
            phase => {
                self.phase = phase;
                return None;
            }
        };
        match self.head(&waiting.headers, waiting.end, local, now) {
            Ok(step) => Some(step),
            Err(_) if now < waiting.until => {
                self.phase = Phase::Unidentified(waiting);
                None
            }
            Err(_) => Some(self.deny(Denial::KeysUnavailable)),
        }
    }

    /// Whether the body is what is awaited next.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        matches!(self.phase, Phase::Body(_))
    }

    /// Takes the head of the answer. `origin` is only asked about errors that are not JSON. `end` says that no body
    /// follows.
    pub fn response_head(
        &mut self,
        headers: &Headers,
        end: bool,
        origin: impl FnOnce() -> Origin,
    ) -> ResponseEdits {
        let status = find(headers, ":status")
            .and_then(|status| std::str::from_utf8(status).ok())
            .and_then(|status| status.parse::<u16>().ok())
            .unwrap_or_default();
        let format = Format::of(find(headers, "content-type"), find(headers, "content-encoding"));
        let mut edits = ResponseEdits::default();
        let sent = match &mut self.phase {
            Phase::Sent(sent) => sent,
            Phase::Closed { .. } | Phase::Interrupted { .. } => return edits,
            Phase::Head
            | Phase::Unidentified(_)
            | Phase::Entering(_)
            | Phase::Body(_)
            | Phase::Reserving(_)
            | Phase::Looking { .. }
            | Phase::Admitting(_) => {
                let reservation = match std::mem::replace(&mut self.phase, Phase::Head) {
                    Phase::Admitting(admitting) => admitting.into_reservation(),
                    _ => None,
                };
                self.phase =
                    Phase::Interrupted { body: edits.speak(&Denial::Proxy { status }, end), reservation };
                return edits;
            }
        };
        let (operation, usage_event) = (sent.expected.operation, sent.flight.usage_event());
        let kind = if status < 400 && !usage::has_answer(status) {
            AnswerKind::Good(Box::new(Reader::of_nothing()))
        } else if status < 400 {
            AnswerKind::Good(Box::new(Reader::new(format, operation, usage_event)))
        } else if let Some(misfit) = sent.flight.misfit() {
            let denial = misfit.denial();
            let kind =
                AnswerKind::Ours { body: edits.speak(&denial, end), outcome: Outcome::Denied(denial.code()) };
            // What is sent in its place has its own.
            if edits.instead.is_none() {
                edits.set.push((":status", denial.status().to_string()));
            }
            kind
        } else if format != Format::Json && origin() == Origin::Proxy {
            let body = edits.speak(&Denial::Proxy { status }, end);
            AnswerKind::Ours { body, outcome: Outcome::ProxyError }
        } else {
            AnswerKind::Error(Box::new(Reader::of_error(status)))
        };
        let more = &self.gateway.pass_answer_headers;
        edits.remove = names(headers.iter().filter(|(name, value)| !passes_to_clients(name, value, more)));
        if !matches!(kind, AnswerKind::Ours { outcome: Outcome::ProxyError, .. }) {
            self.known.provider_request_id = headers::provider_request_id(headers);
            let id = self.known.provider_request_id.clone();
            edits.set.extend(id.map(|id| (headers::PROVIDER_REQUEST_ID, id)));
        }
        if matches!(kind, AnswerKind::Good(_)) && usage_event == UsageEvent::Hide && format == Format::Events
        {
            edits.remove.push("content-length".to_owned());
        }
        let stamp = match (&kind, &self.known.client) {
            (AnswerKind::Good(_), Some(client)) if self.known.seals => {
                pinned::stamp(&self.gateway, client, &sent.flight, format)
            }
            _ => None,
        };
        let quoted = match &kind {
            AnswerKind::Error(_) => pinned::quoted(&mut self.known, format),
            _ => None,
        };
        if stamp.is_some() || quoted.is_some() {
            edits.remove.push("content-length".to_owned());
        }
        edits.set.extend(sent.standing.headers());
        edits.set.extend(finding::told(&self.known.findings).map(|told| (finding::CLAMPED, told)));
        edits.set.extend(self.known.told(Some(&sent.flight)));
        if status == 429 && matches!(kind, AnswerKind::Error(_)) {
            edits.set.extend(self.known.again(&sent.flight));
        }
        if let Some(answer) = &mut edits.instead {
            answer.headers.append(&mut edits.set);
        }
        let is_spillover = find(headers, SPILLOVER_FROM).is_some();
        sent.answer =
            Some(Arriving { kind, is_spillover, stamp, quoted, is_complete: end, first_token: None });
        edits
    }

    /// Takes the next piece of the answer's body. `now` is only asked when the first text of a stream has come.
    pub fn response_chunk(&mut self, chunk: &[u8], end: bool, now: impl FnOnce() -> Duration) -> Output {
        let sent = match &mut self.phase {
            Phase::Sent(sent) => sent,
            // The whole body of ours takes the place of the first piece.
            Phase::Interrupted { body, .. } => return Output::Replaced(body.take().unwrap_or_default()),
            _ => return Output::Same,
        };
        let Some(answer) = &mut sent.answer else { return Output::Same };
        answer.is_complete = end;
        match &mut answer.kind {
            AnswerKind::Good(reader) => {
                let output = reader.push(chunk, end);
                if answer.first_token.is_none() && reader.has_streamed_text() {
                    let now = now();
                    answer.first_token = Some(now.saturating_sub(self.began));
                    sent.flight.speaks(now);
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
            AnswerKind::Ours { body, .. } => Output::Replaced(body.take().unwrap_or_default()),
        }
    }

    /// Whether all that has come of the answer waits for the rest of it.
    #[must_use]
    pub fn holds_answer(&self) -> bool {
        let Phase::Sent(sent) = &self.phase else { return false };
        let quoted = sent.answer.as_ref().and_then(|answer| answer.quoted.as_ref());
        quoted.is_some_and(|quoted| quoted.waits())
    }

    /// Notes how soon the backend spoke, once it has, where the model is ordered by that.
    pub fn note_first_token(&mut self, local: &dyn Store) {
        if let Phase::Sent(sent) = &self.phase {
            self.store_faults += u64::from(sent.flight.note_first_token(local).is_err());
        }
    }

    /// Whether an answer that comes now is to be read: not one of our own.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        !matches!(self.phase, Phase::Closed { .. })
    }

    /// Whether the request's body is none of our concern: it has been decided on, or is passed on unread.
    #[must_use]
    pub fn has_decided(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Head
                | Phase::Unidentified(_)
                | Phase::Entering(_)
                | Phase::Body(_)
                | Phase::Reserving(_)
                | Phase::Looking { .. }
                | Phase::Admitting(_)
        )
    }

    /// Another VM took this one for dead, and has written down what was reserved as spent: nothing is left to be noted of
    /// it for later.
    pub fn is_taken_over(&mut self) {
        self.known.is_taken_over = true;
    }

    /// Ends the exchange, whatever became of it. `interruption` is only asked if it did not come to its end.
    pub fn finish(
        &mut self,
        local: &dyn Store,
        now: Duration,
        interruption: impl FnOnce() -> Interruption,
    ) -> Finished {
        let closed = Phase::Closed { reservation: None, outcome: Outcome::ClientGone };
        let mut known = std::mem::take(&mut self.known);
        let mut candidates = Vec::new();
        let mut finished = match std::mem::replace(&mut self.phase, closed) {
            Phase::Head
            | Phase::Unidentified(_)
            | Phase::Entering(_)
            | Phase::Body(_)
            | Phase::Reserving(_)
            | Phase::Looking { .. } => {
                Finished { settlements: Vec::new(), record: Record::new(Outcome::ClientGone) }
            }
            Phase::Admitting(admitting) => {
                let (reservation, queued) = admitting.given_up(now);
                known.queued = queued;
                Finished { settlements: untouched(reservation), record: Record::new(Outcome::ClientGone) }
            }
            Phase::Interrupted { reservation, .. } => {
                Finished { settlements: untouched(reservation), record: Record::new(Outcome::ProxyError) }
            }
            Phase::Closed { reservation, outcome } => {
                let reserved = reservation.as_ref().map_or(0, Reservation::tokens);
                Finished {
                    settlements: untouched(reservation),
                    record: Record { reserved, ..Record::new(outcome) },
                }
            }
            Phase::Sent(sent) => {
                candidates = known.candidates(&sent.flight);
                let parties = Parties {
                    gateway: &self.gateway,
                    client: known.client.as_deref(),
                    model: known.model.as_ref(),
                    is_taken_over: known.is_taken_over,
                };
                let (finished, faults) = sent.finish(&parties, local, now, interruption);
                self.store_faults += faults;
                finished
            }
        };
        self.room = None;
        self.strays.extend(self.entered.take().map(|entered| entered.reservation));
        finished.settlements.extend(self.strays.drain(..).map(|stray| stray.settle(Spent::default())));
        let record = &mut finished.record;
        if let Some(operation) = known.operation {
            record.operation = operation.word();
        }
        record.client = known.client.map(|client| client.name.clone());
        record.model = known.model.map(|model| model.name.clone());
        record.asked = known.asked;
        record.stream = known.stream;
        record.queued = known.queued;
        record.pin = known.pin;
        record.findings = known.findings;
        record.limit = known.limit.or(record.limit.take());
        record.candidates = candidates;
        record.passed_over = known.passed_over;
        record.provider_request_id = known.provider_request_id;
        record.shadow_refusals = known.shadow_refusals;
        record.duration = now.saturating_sub(self.began);
        finished
    }

    /// What went wrong with the store, for the metrics.
    pub fn faults(&mut self) -> Option<(Series, u64)> {
        let faults = std::mem::take(&mut self.store_faults);
        (faults > 0).then_some((Series::StoreFaults, faults))
    }

    /// What is written down of a request whose VM died: all that was reserved for it stays charged.
    #[must_use]
    pub fn lost(note: &Note) -> Record {
        let name = |label: &str| (!label.is_empty()).then(|| Name::new(label));
        Record {
            operation: Operation::of_word(&note.operation).map_or("none", Operation::word),
            client: name(&note.client),
            model: name(&note.model),
            usage: Usage { prompt: note.prompt, completion: note.completion, ..Usage::default() },
            source: Source::Estimated,
            reserved: note.prompt.saturating_add(note.completion),
            ..Record::new(Outcome::Lost)
        }
    }

    /// What is written down of work that nobody has read the end of in time: what was reserved stays charged.
    #[must_use]
    pub fn expired(pending: &Pending, gateway: &Gateway) -> Record {
        stored::expired(pending, gateway)
    }

    /// Refuses, because Envoy is not set up to hold the request until it is decided on.
    pub fn refuse_unheld(&mut self, now: Duration) -> Step {
        if matches!(self.phase, Phase::Head) {
            self.began = now;
        }
        let denial = Denial::HeadersNotHeld;
        self.refuse(&denial, None, Standing::default())
    }

    fn deny(&mut self, denial: Denial) -> Step {
        self.answer(Some(denial.answer()), Outcome::Denied(denial.code()))
    }

    /// Answers in the backend's place, with where the client's limits stand.
    fn answer(&mut self, answer: Option<Answer>, outcome: Outcome) -> Step {
        let Known { client, model, operation, .. } = &self.known;
        let limited = client.as_ref().filter(|client| answer.is_none() || !client.budget.is_unlimited());
        let (Some(client), Some(operation)) = (limited, *operation) else {
            self.phase = Phase::Closed { reservation: None, outcome };
            // Only the list of limits has no answer yet, and it has a client.
            return Step::Answer(answer.unwrap_or_else(|| Denial::OutOfTurn.answer()));
        };
        let model = model.as_ref().map(|model| model.name.text.clone());
        let inquiry = Inquiry { budget: client.budget.clone(), model, operation };
        self.phase = Phase::Looking { answer, outcome };
        Step::Look(inquiry)
    }

    /// Refuses when it is known already where the limits stand.
    fn refuse(&mut self, denial: &Denial, reservation: Option<Reservation>, standing: Standing) -> Step {
        self.phase = Phase::Closed { reservation, outcome: Outcome::Denied(denial.code()) };
        let mut answer = denial.answer();
        answer.headers.extend(standing.headers());
        answer.headers.extend(self.known.told(None));
        Step::Answer(answer)
    }
}

#[cfg(test)]
mod tests;
