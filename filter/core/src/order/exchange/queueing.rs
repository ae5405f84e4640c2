//! May a request be answered later, what is its client told until then, and for whom does a worker ask?

use super::closed::Closed;
use super::draft::Draft;
use super::preparing::Ready;
use super::reserving::Reserving;
use super::stored::Purpose;
use super::{Finished, Headers, Next, Phase, Step, find};
use crate::answer::Answer;
use crate::capacity::Priority;
use crate::denial::{Denial, shown};
use crate::endpoint::{Operation, decoded, without_credentials};
use crate::gateway::{Client, Dice, Enqueued, JobQueue, NewJob, QueueCall, StoreTrouble, Told, Wish};
use crate::headers::{REPLAYED, passes_to_backends};
use crate::job::{Id, Kind, State};
use crate::json::JsonWriter;
use crate::ledger::{AtQueue, Outcome, Replay};
use crate::limits::Reservation;
use crate::request::{Field, Request};
use crate::store::Moment;
use std::rc::Rc;
use std::time::Duration;

mod telling;

/// By this header a worker says for which client it asks.
const ACT_FOR: &str = "tollgate-act-for";

/// And by this one, which of its jobs it is.
const JOB: &str = "tollgate-job";

/// What the name of a response begins with that is made in the queue. The rest is its job's.
const RESPONSE: &str = "resp_job_";

/// How soon it is worth to ask a full queue again, at the soonest and at the latest.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A request that its client lets be answered later.
pub(super) struct Patient {
    kind: Kind,
    method: String,
    path: String,
    headers: String,
    body: Vec<u8>,
}

impl Patient {
    /// As it is put into the queue.
    fn job<'j>(&'j self, client: &'j str, body: &'j [u8], draft: &'j Draft) -> NewJob<'j> {
        NewJob {
            client,
            priority: draft.priority,
            kind: self.kind,
            method: &self.method,
            path: &self.path,
            headers: &self.headers,
            model: draft.asked.as_deref().unwrap_or_default(),
            body,
        }
    }

    /// Puts it into the queue. What was reserved for it is given back.
    pub(super) fn enqueue(self, reservation: Option<Reservation>) -> Next {
        let queueing = Queueing { errand: Errand::Take(Box::new(self), None), reservation };
        (Phase::Queueing(Box::new(queueing)), Step::AskQueue)
    }
}

/// The queue was asked.
pub(super) struct Queueing {
    errand: Errand,
    reservation: Option<Reservation>,
}

/// What it is asked.
enum Errand {
    /// To take a request; its name, once it has one.
    Take(Box<Patient>, Option<Id>),
    /// About a job.
    About(Id, Kind, Wish),
}

impl Draft {
    /// The client that is meant: a worker's requests are those of whom it asks for.
    pub(super) fn acted_for(
        &mut self,
        client: Rc<Client>,
        operation: Operation,
        headers: &Headers,
    ) -> Result<Rc<Client>, Denial> {
        let Some(name) = find(headers, ACT_FOR).filter(|_| self.gateway.queue.is_some()) else {
            return Ok(client);
        };
        let name = String::from_utf8_lossy(name);
        let found = self.gateway.roster.iter().find(|other| *other.name.text == *name);
        let may_ask = Kind::made_of(operation).is_some() && client.acts_for.covers(&name);
        let found = found.filter(|_| may_ask).ok_or(Denial::ActForNotAllowed)?.clone();
        let job = find(headers, JOB).map(String::from_utf8_lossy).unwrap_or_default();
        self.replay = Some(Box::new(Replay { job: shown(&job), worker: client.name.clone() }));
        Ok(found)
    }

    /// What it is worth to be asked by a worker: nobody waits for it.
    pub(super) fn lower_replay(&mut self) {
        if self.replay.is_some() {
            self.priority = self.priority.max(Priority::Low);
        }
    }

    /// Notes what is needed of a request that may be answered later.
    pub(super) fn note_patience(&mut self, client: &Rc<Client>, operation: Operation, headers: &Headers) {
        let gateway = self.gateway.clone();
        let Some(queue) = gateway.queue.as_ref().filter(|_| self.replay.is_none()) else { return };
        let is_asked = |kind: &Kind| match kind {
            Kind::Job => is_patient(headers),
            Kind::Response => queue.makes_responses,
        };
        let Some(kind) = Kind::made_of(operation).filter(is_asked) else { return };
        // A preference may be passed over, a region may not be left, and a key may no more than its entry says.
        let may_lie = queue.is_in(client.regions.as_deref()) && gateway.is_whole(client);
        if self.priority < queue.least || kind == Kind::Job && !may_lie {
            return;
        }
        let text =
            |name: &str| find(headers, name).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let path = text(":path");
        let mut kept = JsonWriter::default();
        kept.open(b'{');
        for name in REPLAYED {
            if !passes_to_backends(name, &gateway.pass_headers) {
                continue;
            }
            // Several of a name mean what one with all of them does.
            let values = headers.iter().filter(|(other, _)| other == name);
            let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
            if !values.is_empty() {
                kept.member(name);
                kept.text(&values.join(", "));
            }
        }
        kept.close(b'}');
        self.patient = Some(Box::new(Patient {
            kind,
            method: text(":method"),
            path: without_credentials(path.as_bytes()).unwrap_or(path),
            headers: kept.into_text(),
            body: Vec::new(),
        }));
    }

    /// Goes on with a request that is understood: for its budget, or into the queue.
    pub(super) fn queue_or_reserve(&mut self, ready: Ready, body: &[u8]) -> Next {
        let gateway = self.gateway.clone();
        let (Some(mut patient), Some(queue)) = (self.patient.take(), &gateway.queue) else {
            return Reserving::begin(ready, self);
        };
        let refused = self.refused_entry.take();
        // A preference may be passed over.
        let may_lie = queue.has_room_for(&patient.job(&ready.client.name.text, body, self));
        let is_queued = match patient.kind {
            Kind::Job => may_lie && (queue.is_always || refused.is_some()),
            Kind::Response => ready.expected.purpose == Purpose::Background,
        };
        if !is_queued {
            if let Some((denial, standing)) = refused {
                self.limit = denial.limit().map(|limit| limit.word.clone());
                return self.refuse(&denial, None, standing);
            }
            if may_lie && patient.kind == Kind::Job {
                patient.body = body.to_vec();
                self.patient = Some(patient);
            }
            return Reserving::begin(ready, self);
        }
        let asked = match patient.kind {
            Kind::Job => Ok(body.to_vec()),
            Kind::Response => self.asked_in_background(&ready, queue, body),
        };
        patient.body = match asked {
            Ok(asked) => asked,
            Err(denial) => return self.deny(&denial),
        };
        if let Some(denial) = self.refused_for_good(&ready, queue) {
            self.limit = denial.limit().map(|limit| limit.word.clone());
            return self.deny(&denial);
        }
        patient.enqueue(None)
    }

    /// Whether a request that is refused by what its head tells may be queued all the same, once its body is there.
    pub(super) fn may_be_queued(&self, denial: &Denial) -> bool {
        let (Some(patient), Some(queue)) = (&self.patient, &self.gateway.queue) else { return false };
        // Of a response only the body tells whether it is one in the background, and those always are.
        let is_always = queue.is_always || patient.kind == Kind::Response;
        queue.outlasts(denial) || is_always && !matches!(denial, Denial::NeverFits { .. })
    }

    /// What a worker is to ask for a response in the background, if that may be made in the queue.
    fn asked_in_background(&self, ready: &Ready, queue: &JobQueue, body: &[u8]) -> Result<Vec<u8>, Denial> {
        if self.stream {
            return Err(Denial::Exclusive("background", "stream"));
        }
        if !queue.is_in(ready.client.regions.as_deref()) {
            return Err(Denial::QueueNotInRegion);
        }
        if !self.gateway.is_whole(&ready.client) {
            return Err(Denial::QueueNotForKey);
        }
        in_foreground(body)
    }

    /// Why it would be refused whenever it is worked off, if it would.
    fn refused_for_good(&mut self, ready: &Ready, queue: &JobQueue) -> Option<Denial> {
        let nowhere = ready.choice.as_ref().err().filter(|denial| !queue.outlasts(denial)).cloned();
        nowhere.or_else(|| Reserving::excess(ready, self))
    }

    /// Does what a client wants of a job.
    pub(super) fn about_job(&self, id: &str, method: &[u8]) -> Next {
        let wish = if method == b"DELETE" { Wish::End } else { Wish::Read };
        match Id::read(&decoded(id)) {
            Some(id) => about(id, Kind::Job, wish),
            None => self.deny(&Denial::unknown_id(id)),
        }
    }

    /// The same of a response that is made in the queue; `None` if it is no path of one.
    pub(super) fn about_response(&self, rest: &str, method: &[u8]) -> Option<Next> {
        let (id, act) = queued_response(rest).filter(|_| self.gateway.tells_of_jobs())?;
        let wish = match (method, act) {
            (b"GET" | b"HEAD", "") => Wish::Read,
            (b"DELETE", "") => Wish::Delete,
            (b"POST", "cancel") => Wish::Cancel,
            _ => return Some(self.deny(&Denial::UnknownEndpoint)),
        };
        Some(match Id::read(id) {
            Some(id) => about(id, Kind::Response, wish),
            None => self.deny(&Denial::unknown_id(&[RESPONSE, id].concat())),
        })
    }
}

/// The rest of the name of a response that is made in the queue, and what is to be done with it.
pub(super) fn queued_response(rest: &str) -> Option<(&str, &str)> {
    let id = rest.strip_prefix("responses/")?.strip_prefix(RESPONSE)?;
    Some(id.split_once('/').unwrap_or((id, "")))
}

fn about(id: Id, kind: Kind, wish: Wish) -> Next {
    let queueing = Queueing { errand: Errand::About(id, kind, wish), reservation: None };
    (Phase::Queueing(Box::new(queueing)), Step::AskQueue)
}

impl Kind {
    /// What such a request is as a job, if it can be one.
    fn made_of(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Responses => Some(Self::Response),
            Operation::ChatCompletions | Operation::Completions | Operation::Embeddings => Some(Self::Job),
            _ => None,
        }
    }
}

/// Whether the client has said that an answer may come later. <https://www.rfc-editor.org/rfc/rfc7240#section-4.1>
fn is_patient(headers: &Headers) -> bool {
    let said = headers.iter().filter(|(name, _)| name == "prefer");
    said.flat_map(|(_, value)| preferences(value)).any(|preference| {
        let word = preference.split(|byte| *byte == b';').next().unwrap_or_default();
        let mut parts = word.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"respond-async"));
        // An empty value is none.
        is_it && parts.next().is_none_or(|value| matches!(value, b"" | b"\"\""))
    })
}

/// The preferences of a header's value: a comma within quotes parts none.
fn preferences(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value.split(move |byte| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            b'\\' => is_escaped = is_quoted && !was_escaped,
            b'"' if !was_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        *byte == b',' && !is_quoted
    })
}

/// The body of a response as a worker asks for it, who waits for the answer.
fn in_foreground(body: &[u8]) -> Result<Vec<u8>, Denial> {
    let mut request = Request::read(body)?;
    request.set(Field::Background, "false".to_owned());
    Ok(match request.patch() {
        Some(patch) => [&patch.bytes, body.get(patch.replaced..).unwrap_or_default()].concat(),
        None => body.to_vec(),
    })
}

impl Queueing {
    /// What is sent to the queue; `None` if it cannot be asked now.
    pub(super) fn call(&mut self, dice: &Dice, draft: &Draft, now: Duration) -> Option<QueueCall> {
        let queue = draft.gateway.queue.as_ref()?;
        let client = &draft.client.as_ref()?.name.text;
        Some(match &mut self.errand {
            Errand::Take(patient, name) => {
                let job = patient.job(client, &patient.body, draft);
                let id = name.insert(Id::new(&dice.id));
                match &queue.broker {
                    Some(broker) => {
                        QueueCall::Broker(broker.message(queue.key.as_ref(), id, dice, &job, now)?)
                    }
                    None => {
                        let store = draft.gateway.store.as_ref()?;
                        QueueCall::Store(store.enqueue_request(queue, id, dice, &job))
                    }
                }
            }
            Errand::About(id, kind, wish) => {
                let store = draft.gateway.store.as_ref()?;
                QueueCall::Store(store.job_request(queue, id, client, *kind, *wish))
            }
        })
    }

    /// Takes what the store has answered, or that the broker has taken it.
    pub(super) fn on_reply(
        self,
        reply: Result<&[u8], StoreTrouble>,
        moment: Moment<'_>,
        draft: &mut Draft,
    ) -> Next {
        let Self { errand, reservation } = self;
        let (answer, outcome) = match errand.answered(reply, moment, draft) {
            Ok(told) => told,
            Err(denial) => {
                draft.at_queue = match denial {
                    Denial::QueueFull { .. } => Some(AtQueue::Full),
                    Denial::QueueUnavailable => Some(AtQueue::Unavailable),
                    _ => None,
                };
                (denial.answer_in(draft.api()), Outcome::Denied(denial.code()))
            }
        };
        (Phase::Closed(Closed { reservation, outcome }), Step::Answer(answer))
    }

    /// Its client does not wait for what the queue says.
    pub(super) fn finish(self) -> Finished {
        Closed { reservation: self.reservation, outcome: Outcome::ClientGone }.finish()
    }

    /// What has been reserved for it.
    pub(super) fn into_reservation(self) -> Option<Reservation> {
        self.reservation
    }
}

impl Errand {
    fn answered(
        self,
        reply: Result<&[u8], StoreTrouble>,
        moment: Moment<'_>,
        draft: &mut Draft,
    ) -> Result<(Answer, Outcome), Denial> {
        let gateway = draft.gateway.clone();
        let reply = reply.map_err(|_| Denial::QueueUnavailable)?;
        if let (Self::Take(_, id), false) = (&self, gateway.tells_of_jobs()) {
            let id = id.as_ref().ok_or(Denial::OutOfTurn)?;
            draft.at_queue = Some(AtQueue::Queued);
            return Ok((telling::published(id), Outcome::Queued));
        }
        let store = gateway.store.as_ref().ok_or(Denial::QueueUnavailable)?;
        match self {
            Self::Take(patient, id) => {
                let id = id.ok_or(Denial::OutOfTurn)?;
                match store.enqueue_reply(reply).map_err(|_| Denial::QueueUnavailable)? {
                    // Nobody knows: the oldest is over then, if none is before.
                    Enqueued::Full { wait } => {
                        Err(Denial::QueueFull { wait: wait.clamp(WAIT_MIN, WAIT_MAX) })
                    }
                    Enqueued::Waits { before } => {
                        let asked = draft.asked.as_deref().unwrap_or_default();
                        let answer = match patient.kind {
                            Kind::Job => telling::taken(&id, before),
                            Kind::Response => {
                                telling::response(&id, asked, State::Queued, moment.now.as_secs(), None)
                            }
                        };
                        draft.at_queue = Some(AtQueue::Queued);
                        Ok((answer, Outcome::Queued))
                    }
                }
            }
            Self::About(id, kind, wish) => {
                let told = store.told_reply(reply).map_err(|_| Denial::QueueUnavailable)?;
                let unknown = || match kind {
                    Kind::Job => Denial::unknown_id(id.text()),
                    Kind::Response => Denial::unknown_id(&[RESPONSE, id.text()].concat()),
                };
                let told = told.filter(|told| told.kind == kind).ok_or_else(unknown)?;
                let is_ended = wish != Wish::Read && matches!(told.state, State::Queued | State::Running);
                draft.at_queue = is_ended.then_some(AtQueue::Cancelled);
                let answer = match kind {
                    Kind::Job => telling::of_job(&id, told, wish, draft)?,
                    Kind::Response => telling::of_response(&id, told, wish, draft),
                };
                Ok((answer, Outcome::Answered))
            }
        }
    }
}

/// The answer of a job, opened.
fn opened(id: &Id, told: &Told, draft: &Draft) -> Option<Vec<u8>> {
    draft.gateway.queue.as_ref()?.opened(id, &draft.client.as_ref()?.name.text, told)
}
