//! What did it come to, however it ended?

use super::cost::Cost;
use super::draft::Draft;
use super::preparing::Expected;
use super::sent::{AnswerKind, Arriving, Sent};
use super::stored::{Bill, Parties, target_of};
use super::{Finished, Interruption};
use crate::endpoint::{Billing, Operation};
use crate::estimate::{Observed, Produced, Subject};
use crate::ledger::{Outcome, Record, Served, Source, Stored};
use crate::limits::{Reservation, Spent};
use crate::prices::{BATCH_TIER, Service};
use crate::store::Moment;
use crate::tier::Tier;
use crate::usage::{BilledError, Reader};

impl From<BilledError> for Outcome {
    fn from(error: BilledError) -> Self {
        match error {
            BilledError::ContentFilter => Self::ContentFilter,
            BilledError::InputTooLong => Self::InputTooLong,
            BilledError::Timeout => Self::BackendTimeout,
        }
    }
}

impl Sent {
    /// Closes the books.
    pub(super) fn finish(
        mut self,
        moment: Moment<'_>,
        interruption: impl FnOnce() -> Interruption,
        draft: &mut Draft,
    ) -> Finished {
        let Moment { store, now } = moment;
        let parties = Parties {
            gateway: &draft.gateway,
            client: draft.client.as_deref(),
            budget: &draft.budget,
            model: draft.model.as_ref(),
            tier_asked: draft.tier_asked.as_deref(),
            is_taken_over: draft.is_taken_over,
        };
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
        let service = Service {
            tier: reader.and_then(Reader::service_tier),
            is_spillover: arrived.as_ref().is_some_and(|answer| answer.is_spillover),
        };
        let bill = match reader {
            Some(reader) => self.bill(reader, is_complete, service, &parties, moment),
            None => Bill::of(Cost::NOTHING),
        };
        let Bill { cost, stored, charge, mut settlements, faults: stored_faults } = bill;
        let (outcome, cost) = match arrived.as_ref().map(|answer| &answer.kind) {
            Some(AnswerKind::Ours { outcome, .. }) => (*outcome, Cost::NOTHING),
            // Whoever ends a conversation, it was one.
            Some(AnswerKind::Switched) => (Outcome::Served, Cost::NOTHING),
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
                // What comes in one piece has been produced, all of it, whatever the client took of that.
                let cost = match cost.source {
                    Source::Estimated
                        if outcome == Outcome::ClientGone
                            && !reader.is_stream()
                            && reader.usage().is_none() =>
                    {
                        cost.or_more(self.expected.estimate)
                    }
                    _ => cost,
                };
                (outcome, cost)
            }
            // The client left before the answer came. A backend that is at it may bill all that it was asked for.
            None if self.flight.may_be_billed() => (broken(), self.expected.cost(None)),
            None => {
                draft.queued = self.flight.left_queue(draft.queued, now).or(draft.queued);
                (broken(), Cost::NOTHING)
            }
        };
        // No backend has refused it in the end: it was not to go to the next one, or had no turn in time.
        let refusal = self.flight.spill_refusal().or_else(|| self.flight.return_refusal());
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
                // What a tool is called with is an object there, which is not measured.
                let produced = produced.filter(|_| {
                    self.expected.operation != Operation::Messages || reader.is_some_and(Reader::is_stream)
                });
                // Hidden reasoning is no text that was seen.
                let completion_tokens = usage.completion.saturating_sub(usage.reasoning);
                let produced = produced.map(|text_bytes| Produced { text_bytes, completion_tokens });
                let observed = Observed { prompt_tokens: usage.prompt, produced };
                let subject = Subject { model: &model.name.text, client: &client.name.text };
                model.lessons.learn(Moment::new(store, now), subject, self.expected.sketch, observed)
            }
            None => Ok(()),
        };
        let measured = match outcome {
            // What goes on after its answer has not been produced yet.
            Outcome::Served if stored != Some(Stored::Pending) && self.expected.teaches() => {
                self.flight.note_answer(usage, store)
            }
            _ => Ok(()),
        };
        let is_known = source == Source::Reported && stored != Some(Stored::Pending) || tried.is_none();
        let took = is_known.then_some(usage);
        let seat = self.flight.land(took, moment);
        // Envoy gave up on the last attempt, if it had not been answered.
        let missed = if outcome == Outcome::ProxyError { self.flight.note_miss(moment) } else { Ok(()) };
        let price_micros = if self.expected.is_counted_batch() {
            // It went where no model is served by itself.
            let at = tried.as_ref().zip(parties.model);
            let at = at.and_then(|(tried, model)| target_of(model, &tried.backend.name, &tried.deployment));
            at.and_then(|target| target.micros(usage, Service { tier: Some(BATCH_TIER), ..service }))
        } else {
            tried.as_ref().and_then(|target| target.micros(usage, service))
        };
        let record = Record {
            answered: reader.and_then(Reader::model).map(str::to_owned),
            served: tried.map(|target| Served {
                backend: target.backend.name.clone(),
                deployment: target.deployment.clone(),
                region: target.backend.region.clone(),
            }),
            candidates: draft.candidates(&self.flight),
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
            refused_tier: self.flight.tier_left().map(Tier::word),
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
        let spill_faults = self.flight.settle_spill(spent, moment);
        settlements.extend(match self.reservation {
            Some(reservation) => Some(reservation.settle(spent)),
            // Nothing was taken for what had been begun already: it is due all the same.
            None => draft.connected.as_ref().filter(|connected| !connected.is_setting).map(|_| {
                let model = draft.model.as_ref().map(|model| &*model.name.text);
                draft.budget.charge(model, self.expected.operation, spent, now)
            }),
        });
        let faults =
            [learnt.is_err(), measured.is_err(), seat.is_err(), missed.is_err()].into_iter().map(u64::from);
        draft.store_faults += faults.sum::<u64>() + spill_faults + stored_faults;
        Finished { settlements, record }
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
            && reader.reported().is_none_or(|reported| reported.is_unfinished || reported.usage.total() == 0)
            && reader.produced_bytes().unwrap_or(0) == 0
    }

    /// Whether its prompt is text, so that the reported tokens teach how it is counted.
    fn teaches(&self) -> bool {
        use Operation::{ChatCompletions, Compact, Completions, Embeddings, Messages, Responses};
        matches!(self.operation, ChatCompletions | Completions | Embeddings | Responses | Compact | Messages)
    }
}
