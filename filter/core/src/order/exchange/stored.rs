//! Does what was asked for go on when its answer ends, and who pays for it once it has ended?
//!
//! A response in the background, a run and a batch are charged once: to whoever made them, by the first answer that says
//! how they ended, whoever reads that. To read, follow, change, cancel or delete them costs nothing itself. Not decided
//! here: where they are noted meanwhile.

use super::batches;
use super::cost::{Bounds, Cost};
use super::sent::Sent;
use crate::codec;
use crate::endpoint::Operation;
use crate::finding::{Effect, Finding};
use crate::gateway::{Client, Gateway, Model};
use crate::ledger::{Charge, Name, Outcome, Record, Source, Stored};
use crate::limits::{Budget, Kept, Reservation, Settlement, Spent};
use crate::pending::{self, Mark, Noted, Pending};
use crate::prices::Service;
use crate::request::{Field, Request};
use crate::route::Target;
use crate::store::Moment;
use crate::tokens::Usage;
use crate::usage::Reader;
use std::rc::Rc;
use std::time::Duration;

/// What a request is to the work that a backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It makes it, and it may go on after the answer.
    Make,
    /// It makes it in the background: it goes on after the answer, unless that tells how it ended.
    Background,
    /// It is done with its answer, whatever that says.
    Answer,
    /// It is about work that was made before, and its answer is that work, as the backend tells it.
    Read,
    /// It has that deleted, and nobody will read any more how it ended.
    Delete,
    /// It costs nothing, and its answer says nothing of any work: a client may have written it himself.
    Nothing,
}

impl Purpose {
    /// What a request under policy is for, as it goes on: a stream's end is the end of a response, unless that is made in
    /// the background.
    pub(super) fn of_request(request: &Request<'_>, findings: &[Finding]) -> Self {
        let is_dropped = |finding: &Finding| {
            finding.rule == Field::Background.name() && matches!(finding.effect, Effect::Clamped(_))
        };
        let is_background =
            request.raw(Field::Background) == Some("true") && !findings.iter().any(is_dropped);
        match (is_background, request.stream) {
            (true, _) => Self::Background,
            (false, true) => Self::Answer,
            (false, false) => Self::Make,
        }
    }

    /// What an endpoint without a name is for.
    pub(super) fn of(method: &[u8], path: &str) -> Self {
        let segments: Vec<&str> = path.split('/').collect();
        match (method, segments.as_slice()) {
            (b"DELETE", ["responses", _]) => Self::Delete,
            (b"GET" | b"HEAD", ["responses" | "batches", _])
            | (b"POST", ["responses" | "batches", _, "cancel"])
            | (b"GET" | b"HEAD" | b"POST", ["threads", _, "runs", _])
            | (b"POST", ["threads", _, "runs", _, "cancel" | "submit_tool_outputs"]) => Self::Read,
            // It counts, or changes what is kept of a chat that is over.
            (b"POST", ["responses", "input_tokens"] | ["chat", "completions", _]) => Self::Nothing,
            (b"POST", ["threads", "runs"] | ["threads", _, "runs"] | [batches::PATH]) => Self::Make,
            (b"POST", _) => Self::Answer,
            _ => Self::Nothing,
        }
    }
}

/// How far work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    GoesOn,
    Ended,
    /// It ended in an error, which costs nothing unless it says otherwise.
    Failed,
}

impl Stage {
    /// The words of responses, runs and batches: <https://platform.openai.com/docs/api-reference/responses/object>,
    /// <https://platform.openai.com/docs/api-reference/runs/object>,
    /// <https://platform.openai.com/docs/api-reference/batch/object>.
    fn of(status: &str) -> Option<Self> {
        match status {
            "queued" | "in_progress" | "requires_action" | "cancelling" | "validating" | "finalizing" => {
                Some(Self::GoesOn)
            }
            "completed" | "incomplete" | "cancelled" | "expired" => Some(Self::Ended),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Whose exchange it is, and under which configuration.
pub(super) struct Parties<'p> {
    pub(super) gateway: &'p Gateway,
    pub(super) client: Option<&'p Client>,
    /// What it meets of the client's limits.
    pub(super) budget: &'p Rc<Budget>,
    pub(super) model: Option<&'p Rc<Model>>,
    /// The tier of service that the request names.
    pub(super) tier_asked: Option<&'p str>,
    /// Whether another VM has written this exchange down already.
    pub(super) is_taken_over: bool,
}

/// What an answer to a request for work, or about it, comes to.
pub(super) struct Bill {
    pub(super) cost: Cost,
    pub(super) stored: Option<Stored>,
    /// Who is charged for what was made before, if that is what it comes to.
    pub(super) charge: Option<Charge>,
    /// What the store is to be told besides what becomes of the reservation, if there still is one.
    pub(super) settlements: Vec<Settlement>,
    /// How often the store failed.
    pub(super) faults: u64,
}

impl Bill {
    pub(super) fn of(cost: Cost) -> Self {
        Self { cost, stored: None, charge: None, settlements: Vec::new(), faults: 0 }
    }
}

impl Sent {
    /// What a good answer comes to.
    pub(super) fn bill(
        &mut self,
        reader: &Reader,
        is_complete: bool,
        service: Service<'_>,
        parties: &Parties<'_>,
        moment: Moment<'_>,
    ) -> Bill {
        let stage = reader.status().and_then(Stage::of);
        let backend = self.flight.last_tried().map(|target| target.backend.name.clone());
        let id = reader.id().filter(|_| !parties.is_taken_over);
        let mark = backend.zip(id).map(|(backend, id)| Mark::new(&backend, id));
        if let Purpose::Make | Purpose::Background | Purpose::Answer = self.expected.purpose {
            return if self.goes_on(reader, stage) && !parties.is_taken_over {
                self.defer(mark, reader, service, parties, moment)
            } else {
                self.done(reader, stage, service, parties, moment.now)
            };
        }
        let has_ended = match (self.expected.purpose, stage) {
            (Purpose::Delete, _) => is_complete,
            (Purpose::Read, Some(Stage::Ended | Stage::Failed)) => is_complete || reader.usage().is_some(),
            _ => false,
        };
        let taken = match mark.filter(|_| has_ended) {
            Some(mark) => pending::take(moment.store, &mark),
            None => Ok(None),
        };
        match taken {
            Ok(Some(pending)) => charged(&pending, reader, stage, parties.gateway, moment.now),
            Ok(None) => Bill::of(Cost::NOTHING),
            Err(_) => Bill { faults: 1, ..Bill::of(Cost::NOTHING) },
        }
    }

    /// Whether what was made goes on after the answer, and what that says of its tokens is not all.
    fn goes_on(&self, reader: &Reader, stage: Option<Stage>) -> bool {
        let may = match self.expected.purpose {
            Purpose::Make => stage == Some(Stage::GoesOn),
            // Whoever hangs up before its first event has made it all the same.
            Purpose::Background => {
                matches!(stage, None | Some(Stage::GoesOn)) && !reader.is_nothing() && !reader.has_failed()
            }
            _ => false,
        };
        may && reader.usage().is_none_or(|usage| usage.total() == 0)
    }

    /// What it comes to now that it is done. Of an endpoint without a name, the answer says for which model it was.
    fn done(
        &self,
        reader: &Reader,
        stage: Option<Stage>,
        service: Service<'_>,
        parties: &Parties<'_>,
        now: Duration,
    ) -> Bill {
        let cost = if self.expected.is_counted_batch() {
            cost_of_ended(reader, stage, self.expected.estimate.usage())
        } else {
            self.expected.cost(Some(reader))
        };
        let (Some(client), Some(target)) = (parties.client, self.flight.last_tried()) else {
            return Bill::of(cost);
        };
        if self.expected.operation != Operation::Other || cost.usage.total() == 0 {
            return Bill::of(cost);
        }
        let model = self.model(reader, parties);
        let served =
            model.as_ref().and_then(|model| target_of(model, &target.backend.name, &target.deployment));
        let price_micros = served.and_then(|target| target.micros(cost.usage, service));
        let spent = Spent { usage: cost.usage, cost: price_micros.unwrap_or(0), requests: 0 };
        let name = model.as_ref().map(|model| model.name.clone());
        let scope = name.as_ref().map(|name| &*name.text);
        let settlements = vec![parties.budget.charge(scope, Operation::Other, spent, now)];
        let charge =
            Charge { client: client.name.clone(), group: client.group.clone(), model: name, price_micros };
        Bill { charge: Some(charge), settlements, ..Bill::of(cost) }
    }

    /// The model that was asked for, or that the answer names.
    fn model(&self, reader: &Reader, parties: &Parties<'_>) -> Option<Rc<Model>> {
        let called =
            || parties.gateway.model_called(&self.flight.last_tried()?.backend.name, reader.model()?);
        parties.model.cloned().or_else(called)
    }

    /// Notes that work goes on. What was taken for it stays taken. Where it cannot be noted, it is charged by that.
    fn defer(
        &mut self,
        mark: Option<Mark>,
        reader: &Reader,
        service: Service<'_>,
        parties: &Parties<'_>,
        moment: Moment<'_>,
    ) -> Bill {
        let usage = self.expected.estimate.usage();
        // For what has no estimate no tokens were taken, and the request itself is not given back.
        let reservation = self.reservation.as_ref().filter(|_| usage.total() > 0);
        let mut kept = reservation.map(Reservation::kept).unwrap_or_default();
        if kept.is_empty() {
            // Nor was anything where the store did not answer: all of it is due from whoever asks now.
            kept = parties.budget.kept_values();
        }
        if usage.total() > 0 {
            kept.join(self.flight.kept_spill());
        }
        let target = self.flight.last_tried();
        let target = target.as_deref();
        let model = self.model(reader, parties);
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let pending = Pending {
            client: text(parties.client.map(|client| &*client.name.text)),
            model: text(model.as_ref().map(|model| &*model.name.text)),
            operation: self.expected.operation.word().to_owned(),
            backend: text(target.map(|target| &*target.backend.name)),
            deployment: text(target.map(|target| &*target.deployment)),
            prompt: usage.prompt,
            completion: usage.completion,
            cost: model.map_or(0, |model| model.cost_max(self.expected.usage_max(), parties.tier_asked)),
            is_spillover: service.is_spillover,
            reserved: codec::encode(&kept),
        };
        // What has no id would not be found again.
        let noted = mark.map_or(Ok(Noted::Full), |mark| pending.note(moment, &mark));
        if noted != Ok(Noted::Pending) {
            let cost = Cost::estimated(usage, None);
            let faults = u64::from(noted.is_err());
            return Bill { stored: Some(Stored::Full), faults, ..Bill::of(cost) };
        }
        let places = self.reservation.take().map(Reservation::give_back_places);
        let settlements = places.into_iter().chain(self.flight.keep_spill()).collect();
        Bill { stored: Some(Stored::Pending), settlements, ..Bill::of(Cost::NOTHING) }
    }
}

/// What work comes to that somebody else may have made, now that it has ended. Where nobody says what it used, it is
/// charged by what was reserved for it: a backend may go on with what it was told to cancel.
fn charged(
    pending: &Pending,
    reader: &Reader,
    stage: Option<Stage>,
    gateway: &Gateway,
    now: Duration,
) -> Bill {
    let model = gateway.by_name.get(&*pending.model).cloned();
    let model = model.or_else(|| gateway.model_called(&pending.backend, reader.model()?));
    let reserved = Usage { prompt: pending.prompt, completion: pending.completion, ..Usage::default() };
    let cost = cost_of_ended(reader, stage, reserved);
    let target = model.as_ref().and_then(|model| target_of(model, &pending.backend, &pending.deployment));
    let service = Service { tier: reader.service_tier(), is_spillover: pending.is_spillover };
    let price = target.and_then(|target| target.micros(cost.usage, service));
    let spent = Spent { usage: cost.usage, cost: price.unwrap_or(0), requests: 0 };
    let kept: Kept = codec::decode(&pending.reserved).unwrap_or_default();
    let due = client_of(pending, gateway).map(|client| client.budget.of_kept(&kept));
    // Of whom nothing was taken. Due from the limits of its model, too, which nobody may have known when it was asked for.
    let due = due.filter(|_| !kept.is_of_a_budget()).map(|budget| {
        let model = model.as_ref().map(|model| &*model.name.text);
        let operation = Operation::of_word(&pending.operation).unwrap_or(Operation::Other);
        budget.charge(model, operation, spent, now)
    });
    let taken = kept.settle(|key| gateway.account(key), Spent { requests: 1, ..spent });
    let settlements = due.into_iter().chain((!kept.is_empty()).then_some(taken)).collect();
    let charge = Charge {
        client: client_name(pending, gateway),
        group: group_of(pending, gateway),
        model: model.as_ref().map(|model| model.name.clone()),
        price_micros: price,
    };
    Bill { stored: Some(Stored::Charged), charge: Some(charge), settlements, ..Bill::of(cost) }
}

/// What work costs that has ended, for which this was reserved.
fn cost_of_ended(reader: &Reader, stage: Option<Stage>, reserved: Usage) -> Cost {
    let bounds = Bounds::of_work(reserved, reader.object());
    // None of its requests came to an answer: what a backend says of that is not one that goes on.
    let is_nothing =
        reader.answered_requests() == Some(0) && matches!(stage, Some(Stage::Ended | Stage::Failed));
    // Some of its requests came to one, and nobody says what that used.
    let is_untold = reader.answered_requests().is_some_and(|requests| requests > 0)
        && reader.usage().is_none_or(|usage| usage.total() == 0);
    match (reader.reported(), stage) {
        _ if is_untold => Cost::estimated(reserved, Some("no_usage")),
        (Some(reported), _) if is_nothing && reported.usage.total() == 0 => Cost::NOTHING,
        (None, _) if is_nothing => Cost::NOTHING,
        (Some(reported), Some(Stage::Failed)) => Cost::of_failed_work(reported, reserved, bounds),
        (Some(reported), _) => Cost::of_work(reported, reserved, bounds),
        (None, Some(Stage::Failed)) => Cost::NOTHING,
        (None, _) => Cost::estimated(reserved, Some("no_usage")),
    }
}

fn client_of(pending: &Pending, gateway: &Gateway) -> Option<Rc<Client>> {
    gateway.client(&pending.client)
}

/// A client that is not configured any more keeps the name that it had.
fn client_name(pending: &Pending, gateway: &Gateway) -> Name {
    gateway.name_of(&pending.client)
}

fn group_of(pending: &Pending, gateway: &Gateway) -> Option<Rc<str>> {
    client_of(pending, gateway)?.group.clone()
}

/// Where a backend serves a model: under this name, or else under any.
pub(super) fn target_of<'m>(model: &'m Model, backend: &str, deployment: &str) -> Option<&'m Rc<Target>> {
    let at = || model.targets.iter().filter(|target| *target.backend.name == *backend);
    at().find(|target| *target.deployment == *deployment).or_else(|| at().next())
}

/// What is written down of work whose time is over: all that was reserved for it stays charged.
pub(super) fn expired(pending: &Pending, gateway: &Gateway) -> Record {
    let model = gateway.by_name.get(&*pending.model);
    Record {
        operation: Operation::of_word(&pending.operation).map_or("none", Operation::word),
        client: Some(client_name(pending, gateway)),
        group: group_of(pending, gateway),
        model: model.map(|model| model.name.clone()),
        usage: Usage { prompt: pending.prompt, completion: pending.completion, ..Usage::default() },
        source: Source::Estimated,
        reserved: pending.prompt.saturating_add(pending.completion),
        price_micros: (pending.cost > 0).then_some(pending.cost),
        stored: Some(Stored::Expired),
        ..Record::new(Outcome::Served)
    }
}
