//! What is known of a request, whatever phase it is in, for its answers and for the record.

use super::closed::Closed;
use super::queueing::Patient;
use super::reading_limits::ReadingLimits;
use super::scanning::Scanning;
use super::turns::Connected;
use super::{Finished, Next, Phase, Step};
use crate::answer::Answer;
use crate::attempt::Flight;
use crate::batch::Sum;
use crate::caller::Caller;
use crate::capacity::Priority;
use crate::decision::{self, PassedOver, Why};
use crate::denial::Denial;
use crate::endpoint::{Api, Operation};
use crate::finding::Finding;
use crate::gateway::{BodyRoom, Client, Gateway, Model};
use crate::journal::Note;
use crate::ledger::{AtQueue, Name, Outcome, Pin, Queued, Record, Replay, Source};
use crate::limits::{Budget, Grant, Granted, Inquiry, Reservation, Settlement, Spent, Standing};
use crate::pinning::Spoken;
use crate::store::StoreFault;
use crate::tokens::Usage;
use crate::value::{By, UserField, Values};
use std::rc::Rc;
use std::time::Duration;

/// As far as it got.
pub(super) struct Draft {
    pub(super) gateway: Rc<Gateway>,
    pub(super) began: Duration,
    pub(super) operation: Option<Operation>,
    pub(super) client: Option<Rc<Client>>,
    /// Whether tokens of backends are waited for.
    pub(super) is_patient: bool,
    /// The request, if its client lets it be answered later.
    pub(super) patient: Option<Box<Patient>>,
    /// Why it is refused by what its head tells, if it is not queued.
    pub(super) refused_entry: Option<(Denial, Standing)>,
    /// Which job it is, and whose worker asks.
    pub(super) replay: Option<Box<Replay>>,
    /// Who asks in vain, if it is no client.
    pub(super) refused_caller: Option<Box<Caller>>,
    /// The client's limits, and of those that are split the ones of whoever asks.
    pub(super) budget: Rc<Budget>,
    /// What is known of who asks.
    pub(super) values: Values,
    pub(super) model: Option<Rc<Model>>,
    /// The model in the client's own word.
    pub(super) asked: Option<String>,
    pub(super) stream: bool,
    /// The tier of service that it names, where prices depend on it.
    pub(super) tier_asked: Option<String>,
    /// How important it is: as its client, or less by its own word.
    pub(super) priority: Priority,
    /// How it waited for room at a backend, if it did.
    pub(super) queued: Option<Queued>,
    /// What came of what the queue was asked.
    pub(super) at_queue: Option<AtQueue>,
    /// What came of the ids in it, if it had any.
    pub(super) pin: Option<Pin>,
    /// Whether the ids in its answer are to be sealed.
    pub(super) seals: bool,
    /// What is scanned of its body as that goes by.
    pub(super) scanning: Option<Box<Scanning>>,
    /// What the file comes to that it has brought.
    pub(super) sum: Option<Sum>,
    /// Its own ids, for an error that quotes them.
    pub(super) spoken: Vec<Spoken>,
    /// What its policy found.
    pub(super) findings: Vec<Finding>,
    /// The label of the limit that refused it.
    pub(super) limit: Option<Rc<str>>,
    /// The labels of the limits that would have.
    pub(super) shadow_refusals: Vec<Rc<str>>,
    /// What was reserved for it, while it is.
    pub(super) reserved: Option<Reserved>,
    /// The backends that were passed over.
    pub(super) passed_over: Vec<PassedOver>,
    /// Whether they are asked in an operator's order.
    pub(super) is_ordered: bool,
    /// Whether its client may know why, and has asked.
    pub(super) explains: bool,
    /// What the operator's log is told.
    pub(super) notice: Option<String>,
    /// The name of its answer at the provider.
    pub(super) provider_request_id: Option<String>,
    /// Whether another VM has written it down.
    pub(super) is_taken_over: bool,
    /// The room that its body takes, until it is sent on.
    pub(super) room: Option<BodyRoom>,
    /// What was granted before the body was read, until it joins what is granted for that.
    pub(super) entered: Option<Granted>,
    /// Of a turn, what connection it is of.
    pub(super) connected: Option<Connected>,
    /// Of a turn that was begun already, why it ought not to have been.
    pub(super) overdrawn: Option<Denial>,
    /// Of a connection, the headers of its turns.
    pub(super) turn_headers: Vec<(String, Vec<u8>)>,
    /// What was granted when nobody waited for it any more.
    strays: Vec<Reservation>,
    /// How many values had to be forgotten for what was granted.
    pub(super) forgotten: u64,
    pub(super) store_faults: u64,
}

/// What a note needs besides the rest.
#[derive(Clone)]
pub(super) struct Reserved {
    pub(super) usage: Usage,
    pub(super) slots: String,
}

/// What was reserved for a request that cost nothing.
pub(super) fn untouched(reservation: Option<Reservation>) -> Vec<Settlement> {
    reservation.map(|reservation| reservation.settle(Spent::default())).into_iter().collect()
}

impl Draft {
    pub(super) fn new(gateway: Rc<Gateway>) -> Self {
        Self {
            gateway,
            began: Duration::ZERO,
            operation: None,
            client: None,
            is_patient: true,
            patient: None,
            refused_entry: None,
            replay: None,
            refused_caller: None,
            budget: Rc::default(),
            values: Values::default(),
            model: None,
            asked: None,
            stream: false,
            tier_asked: None,
            priority: Priority::default(),
            queued: None,
            at_queue: None,
            pin: None,
            seals: false,
            scanning: None,
            sum: None,
            spoken: Vec::new(),
            findings: Vec::new(),
            limit: None,
            shadow_refusals: Vec::new(),
            reserved: None,
            passed_over: Vec::new(),
            is_ordered: false,
            explains: false,
            notice: None,
            provider_request_id: None,
            is_taken_over: false,
            room: None,
            entered: None,
            connected: None,
            overdrawn: None,
            turn_headers: Vec::new(),
            strays: Vec::new(),
            forgotten: 0,
            store_faults: 0,
        }
    }

    /// Whose API its client speaks, as far as that is known.
    pub(super) fn api(&self) -> Api {
        self.operation.map(Operation::api).unwrap_or_default()
    }

    /// Refuses, once it is known where the client's limits stand.
    pub(super) fn deny(&self, denial: &Denial) -> Next {
        self.answer(Some(denial.answer_in(self.api())), Outcome::Denied(denial.code()))
    }

    /// Answers in the backend's place, with where the client's limits stand; with no answer, with the list of them.
    pub(super) fn answer(&self, answer: Option<Answer>, outcome: Outcome) -> Next {
        // A turn has no headers to tell it in.
        let client = self.client.as_ref().filter(|_| self.connected.is_none());
        let limited = client.filter(|_| answer.is_none() || !self.budget.is_unlimited());
        let (Some(_), Some(operation)) = (limited, self.operation) else {
            // Only the list of limits has no answer yet, and it has a client.
            let answer = answer.unwrap_or_else(|| Denial::OutOfTurn.answer());
            return (Phase::Closed(Closed { reservation: None, outcome }), Step::Answer(answer));
        };
        let model = self.model.as_ref().map(|model| model.name.text.clone());
        let inquiry = Inquiry { budget: self.budget.clone(), model, operation };
        (Phase::ReadingLimits(ReadingLimits { answer, outcome }), Step::ReadLimits(inquiry))
    }

    /// Refuses when it is known already where the limits stand.
    pub(super) fn refuse(
        &self,
        denial: &Denial,
        reservation: Option<Reservation>,
        standing: Standing,
    ) -> Next {
        let closed = Closed { reservation, outcome: Outcome::Denied(denial.code()) };
        let mut answer = denial.answer_in(self.api());
        answer.headers.extend(standing.headers());
        answer.headers.extend(self.decision_header(None));
        (Phase::Closed(closed), Step::Answer(answer))
    }

    /// Keeps what was granted out of turn, to give it back at the end.
    pub(super) fn stray(&mut self, grant: Result<Grant, StoreFault>) {
        match grant {
            Ok(Grant::Granted(Granted { reservation, forgotten, .. })) => {
                self.forgotten += forgotten;
                self.strays.push(reservation);
            }
            Ok(Grant::Refused(_, _, forgotten)) => self.forgotten += forgotten,
            Err(_) => {}
        }
    }

    /// What was granted with the body, if anything was, together with what was granted before.
    pub(super) fn join(&mut self, granted: Option<Granted>) -> (Option<Reservation>, Standing) {
        let (mut all, mut tightest) = (None, Standing::default());
        for Granted { reservation, standing, shadow_refusals, forgotten } in
            self.entered.take().into_iter().chain(granted)
        {
            self.shadow_refusals.extend(shadow_refusals);
            self.forgotten += forgotten;
            tightest.join(&standing);
            all = Some(reservation.with(all));
        }
        (all, tightest)
    }

    /// Notes for which of its users the client says that it asks.
    pub(super) fn note_user(&mut self, field: UserField, text: Option<&str>) {
        self.values.note(By::Field(field), "", text.unwrap_or_default().as_bytes());
    }

    /// What another VM needs to write it down.
    pub(super) fn note(&self) -> Option<Note> {
        let Reserved { usage, slots } = self.reserved.clone()?;
        let text = |name: Option<&Name>| name.map(|name| name.text.to_string()).unwrap_or_default();
        Some(Note {
            client: text(self.client.as_ref().map(|client| &client.name)),
            model: text(self.model.as_ref().map(|model| &model.name)),
            operation: self.operation.map(Operation::word).unwrap_or_default().to_owned(),
            slots,
            prompt: usage.prompt,
            completion: usage.completion,
        })
    }

    /// The header that tells of the decision, for a client that may know and has asked. Nothing is written for others.
    pub(super) fn decision_header(&self, flight: Option<&Flight>) -> Option<(&'static str, String)> {
        if !self.explains {
            return None;
        }
        let candidates = flight.map(Flight::candidates).unwrap_or_default();
        let tries = flight.map(Flight::tries).unwrap_or_default();
        let value = decision::header_value(
            candidates.iter().map(|target| &*target.word),
            &self.passed_over,
            self.is_ordered,
            tries.iter().map(|attempt| (&*attempt.backend, attempt.status)),
        );
        Some((decision::HEADER, value))
    }

    /// When to ask again, for whoever gets the refusal of the last of several backends: that one tells its own pause only. One
    /// that stands alone is passed on as it is.
    pub(super) fn retry_headers(&self, flight: &Flight) -> Vec<(&'static str, String)> {
        let tries = flight.tries();
        let paused = self.passed_over.iter().filter_map(|passed| match passed.why {
            // What one that was tried after all has said since is what counts.
            Why::Pausing(wait) if tries.iter().all(|tried| tried.backend != passed.backend) => Some(wait),
            _ => None,
        });
        let before = paused.min();
        let is_alone = before.is_none() && flight.candidates().len() == 1;
        let wait = before.into_iter().chain(flight.shortest_pause()).min().filter(|_| !is_alone);
        wait.map(|wait| Denial::BackendsThrottled { wait }.retry_headers()).unwrap_or_default()
    }

    /// The order, for the record. Where nobody was passed over and no operator has said another it follows from the configuration and is not written.
    pub(super) fn candidates(&self, flight: &Flight) -> Vec<Rc<str>> {
        if self.passed_over.is_empty() && !self.is_ordered {
            return Vec::new();
        }
        flight.candidates().iter().map(|target| target.word.clone()).collect()
    }

    /// Adds what is known to the end of the last phase; nothing is known afterwards.
    pub(super) fn complete(&mut self, mut finished: Finished, now: Duration) -> Finished {
        let as_text = self.gateway.record_users_as_text;
        let users = self.client.as_ref().map(|client| client.budget.said(&self.values, as_text));
        let new = Self::new(self.gateway.clone());
        let new = Self { began: self.began, store_faults: self.store_faults, ..new };
        let draft = std::mem::replace(self, new);
        let entered = draft.entered.as_ref().map_or(0, |entered| entered.forgotten);
        let given = draft.strays.into_iter().chain(draft.entered.map(|entered| entered.reservation));
        finished.settlements.extend(given.map(|stray| stray.settle(Spent::default())));
        let record = finished.record;
        finished.record = Record {
            operation: draft.operation.map_or(record.operation, Operation::word),
            client: draft.client.as_ref().map(|client| client.name.clone()),
            group: draft.client.and_then(|client| client.group.clone()),
            refused_caller: draft.refused_caller,
            replay: draft.replay,
            model: draft.model.map(|model| model.name.clone()),
            asked: draft.asked,
            stream: draft.stream,
            queued: draft.queued,
            at_queue: draft.at_queue,
            pin: draft.pin,
            findings: draft.findings,
            limit: draft.limit.or(record.limit),
            passed_over: draft.passed_over,
            is_ordered: draft.is_ordered,
            provider_request_id: draft.provider_request_id,
            shadow_refusals: draft.shadow_refusals,
            forgotten: draft.forgotten + entered,
            users: users.unwrap_or_default(),
            duration: now.saturating_sub(draft.began),
            ..record
        };
        finished
    }
}

/// What is written down of a request whose VM died: all that was reserved for it stays charged.
pub(super) fn lost(note: &Note, gateway: &Gateway) -> Record {
    let client = gateway.client(&note.client);
    let model = gateway.by_name.get(&*note.model).map(|model| model.name.clone());
    // What is not configured any more keeps the name that it had.
    let name = |text: &str| (!text.is_empty()).then(|| Name::new(text));
    Record {
        operation: Operation::of_word(&note.operation).map_or("none", Operation::word),
        client: (!note.client.is_empty()).then(|| gateway.name_of(&note.client)),
        group: client.and_then(|client| client.group.clone()),
        model: model.or_else(|| name(&note.model)),
        usage: Usage { prompt: note.prompt, completion: note.completion, ..Usage::default() },
        source: Source::Estimated,
        reserved: note.prompt.saturating_add(note.completion),
        ..Record::new(Outcome::Lost)
    }
}
