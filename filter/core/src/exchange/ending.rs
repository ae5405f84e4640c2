//! What did it come to, however it ended?

use super::cost::Cost;
use super::preparing::Expected;
use super::stored::{Bill, Parties};
use super::{Finished, Interruption, Known};
use crate::attempt::Flight;
use crate::decision::Why;
use crate::denial::Denial;
use crate::endpoint::{Billing, Operation};
use crate::estimate::{Observed, Produced, Subject};
use crate::ledger::{Outcome, Record, Served, Source, Stored};
use crate::limits::{Reservation, Spent, Standing};
use crate::pinning::{Quoted, Stamp};
use crate::prices::Service;
use crate::store::Store;
use crate::usage::{BilledError, Reader};
use std::rc::Rc;
use std::time::Duration;

/// A request on its way, or its answer.
pub(super) struct Sent {
    pub(super) expected: Expected,
    pub(super) reservation: Option<Reservation>,
    pub(super) standing: Standing,
    pub(super) flight: Rc<Flight>,
    pub(super) answer: Option<Arriving>,
}

/// An answer that has begun.
pub(super) struct Arriving {
    pub(super) kind: AnswerKind,
    /// What seals the ids in it, if that is to be done.
    pub(super) stamp: Option<Box<Stamp>>,
    /// What puts the ids right that an error quotes.
    pub(super) quoted: Option<Box<Quoted>>,
    pub(super) is_complete: bool,
    /// Whether another deployment of the backend's own served it.
    pub(super) is_spillover: bool,
    pub(super) first_token: Option<Duration>,
}

pub(super) enum AnswerKind {
    /// A backend's, below 400.
    Good(Box<Reader>),
    /// A backend's error.
    Error(Box<Reader>),
    /// One that gets a body of ours, in OpenAI's shape.
    Ours { body: Option<Vec<u8>>, outcome: Outcome },
}

impl From<BilledError> for Outcome {
    fn from(error: BilledError) -> Self {
        match error {
            BilledError::ContentFilter => Self::ContentFilter,
            BilledError::InputTooLong => Self::InputTooLong,
            BilledError::Timeout => Self::BackendTimeout,
        }
    }
}

impl Known {
    /// When to ask again, for whoever gets the refusal of the last of several backends: that one tells its own pause only. One
    /// that stands alone is passed on as it is.
    pub(super) fn again(&self, flight: &Flight) -> Vec<(&'static str, String)> {
        let tries = flight.tries();
        let paused = self.passed_over.iter().filter_map(|passed| match passed.why {
            // What one that was tried after all has said since is what counts.
            Why::Pausing(wait) if tries.iter().all(|tried| tried.backend != passed.backend) => Some(wait),
            _ => None,
        });
        let before = paused.min();
        let is_alone = before.is_none() && flight.candidates().len() == 1;
        let wait = before.into_iter().chain(flight.shortest_pause()).min().filter(|_| !is_alone);
        wait.map(|wait| Denial::BackendsThrottled { wait }.again()).unwrap_or_default()
    }
}

impl Sent {
    /// Closes the books; the second value is how often the store failed.
    pub(super) fn finish(
        mut self,
        parties: &Parties<'_>,
        local: &dyn Store,
        now: Duration,
        interruption: impl FnOnce() -> Interruption,
    ) -> (Finished, u64) {
        let broken = || match interruption() {
            Interruption::Client => Outcome::ClientGone,
            Interruption::Other => Outcome::Broken,
        };
        let tried = self.flight.last_tried();
        // Of a stream that broke off, the last event may have come but for its empty line.
        if let Some(Arriving { kind: AnswerKind::Good(reader), is_complete: false, .. }) = &mut self.answer {
            let _ = reader.push(&[], true);
        }
        let reserved = self.reservation.as_ref().map_or(0, Reservation::tokens);
        let arrived = self.answer.take();
        let reader = arrived.as_ref().and_then(|answer| match &answer.kind {
            AnswerKind::Good(reader) => Some(&**reader),
            _ => None,
        });
        let is_complete = arrived.as_ref().is_some_and(|answer| answer.is_complete);
        let bill = match reader {
            Some(reader) => self.bill(reader, is_complete, parties, local, now),
            None => Bill::of(Cost::NOTHING),
        };
        let Bill { cost, stored, charge, mut settlements, faults: stored_faults } = bill;
        let (outcome, cost) = match arrived.as_ref().map(|answer| &answer.kind) {
            Some(AnswerKind::Ours { outcome, .. }) => (*outcome, Cost::NOTHING),
            Some(AnswerKind::Error(reader)) => match reader.billed_error() {
                Some(error) => (error.into(), self.expected.prompt_cost()),
                None => (Outcome::BackendError, Cost::NOTHING),
            },
            Some(AnswerKind::Good(reader)) if self.expected.fails_with_nothing(reader) => {
                (Outcome::BackendError, Cost::NOTHING)
            }
            Some(AnswerKind::Good(reader)) => {
                let outcome = match is_complete {
                    true if self.expected.fails(reader) => Outcome::Broken,
                    true => Outcome::Served,
                    false => broken(),
                };
                (outcome, cost)
            }
            // The client left before the answer came. A backend that was asked may bill all that it was asked for.
            None if tried.is_some() => (broken(), self.expected.cost(None)),
            None => (broken(), Cost::NOTHING),
        };
        // No backend has refused it: it was not to go to the next one.
        let refusal = self.flight.spill_refusal();
        let (outcome, cost) = match &refusal {
            Some(denial) => (Outcome::Denied(denial.code()), Cost::NOTHING),
            None => (outcome, cost),
        };
        let Cost { usage, source, unread } = cost;
        let reported = (source == Source::Reported && outcome == Outcome::Served && usage.prompt > 0)
            .then_some(parties.model)
            .flatten()
            .filter(|_| self.expected.teaches());
        let learnt = match reported.zip(parties.client) {
            Some((model, client)) => {
                let produced = reader.and_then(Reader::plain_bytes).filter(|bytes| *bytes > 0);
                // A whole response tells what it thought under the same names.
                let produced = produced
                    .filter(|_| self.expected.operation != Operation::Responses || usage.reasoning == 0);
                // Hidden reasoning is no text that was seen.
                let completion_tokens = usage.completion.saturating_sub(usage.reasoning);
                let produced = produced.map(|text_bytes| Produced { text_bytes, completion_tokens });
                let observed = Observed { prompt_tokens: usage.prompt, produced };
                let subject = Subject { model: &model.name.text, client: &client.name.text };
                model.lessons.learn(local, subject, self.expected.sketch, observed, now)
            }
            None => Ok(()),
        };
        let is_known = source == Source::Reported && stored != Some(Stored::Pending) || tried.is_none();
        let took = is_known.then_some(usage);
        let seat = self.flight.land(took, local, now);
        // Envoy gave up on the last attempt, if it had not been answered.
        let missed =
            if outcome == Outcome::ProxyError { self.flight.note_miss(local, || now) } else { Ok(()) };
        let service = Service {
            tier: reader.and_then(Reader::service_tier),
            is_spillover: arrived.as_ref().is_some_and(|answer| answer.is_spillover),
        };
        let price_micros = tried.as_ref().and_then(|target| target.micros(usage, service));
        let record = Record {
            answered: reader.and_then(Reader::model).map(str::to_owned),
            served: tried.map(|target| Served {
                backend: target.backend.name.clone(),
                deployment: target.deployment.clone(),
                region: target.backend.region.clone(),
            }),
            tries: self.flight.tries(),
            usage,
            source,
            unread,
            reserved,
            estimated_prompt: reported.map(|_| self.expected.estimate.prompt),
            price_micros: match &charge {
                Some(charge) => charge.price_micros,
                None => price_micros,
            },
            service_tier: service.tier.map(str::to_owned),
            served_by_spillover: service.is_spillover,
            first_token: arrived.as_ref().and_then(|answer| answer.first_token),
            spill: self.flight.spill(),
            limit: refusal.and_then(|denial| Some(denial.limit()?.word.clone())),
            stored,
            charge,
            ..Record::new(outcome)
        };
        let requests = u64::from(record.served.is_some());
        let spent = match record.charge {
            // It asked, and another request is what is paid for.
            Some(_) => Spent { requests, ..Spent::default() },
            None => Spent { usage, cost: record.price_micros.unwrap_or(0), requests },
        };
        let spill_faults = self.flight.settle_spill(spent, local, now);
        settlements.extend(self.reservation.map(|reservation| reservation.settle(spent)));
        let faults =
            [learnt.is_err(), seat.is_err(), missed.is_err()].into_iter().map(u64::from).sum::<u64>();
        (Finished { settlements, record }, faults + spill_faults + stored_faults)
    }
}

impl Expected {
    /// Whether the backend says that it failed. What is kept tells what became of it as an answer does.
    fn fails(&self, reader: &Reader) -> bool {
        self.operation.billing() != Billing::UsageIfAny && reader.has_failed()
    }

    /// The same, before anything was produced.
    fn fails_with_nothing(&self, reader: &Reader) -> bool {
        self.fails(reader)
            && reader.usage().is_none_or(|usage| usage.total() == 0)
            && reader.produced_bytes().unwrap_or(0) == 0
    }

    /// Whether its prompt is text, so that the reported tokens teach how it is counted.
    fn teaches(&self) -> bool {
        use Operation::{ChatCompletions, Compact, Completions, Embeddings, Responses};
        matches!(self.operation, ChatCompletions | Completions | Embeddings | Responses | Compact)
    }
}
