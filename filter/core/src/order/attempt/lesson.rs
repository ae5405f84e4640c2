//! What does the head of an answer teach, once its status is sure?
//!
//! A backend that fails time after time is left alone for a short while, and then one request goes to see: else every request
//! would wait for its failure first. Envoy's ejection cannot help where a cluster has one address.

use super::flight::Trial;
use super::{Flight, Heard, Leg};
use crate::headers::{self, Headers};
use crate::ledger::Series;
use crate::route::{self, Cooldown, Cooldowns, Target};
use crate::store::{Moment, Outside, StoreFault};
use crate::tier::Tier;

impl Leg {
    /// Learns how much room there is, whether the backend answers at all, and whether it wants to be left alone.
    pub(super) fn learn(&self, status: u16, headers: &Headers, outside: &Outside<'_>, heard: &mut Heard) {
        let (flight, target) = (&self.flight, &self.target);
        if let Some(last) = flight.tries.borrow_mut().last_mut() {
            last.status = Some(status);
        }
        let tier = flight.tier_at(self.at);
        heard.counts.push(Series::UpstreamResponses { backend: target.word.clone(), status });
        let asked_for = route::cooldown(status, |name| headers::text(headers, name), || outside.now());
        heard.noted(self.learn_room(status, asked_for, headers, outside));
        if let Some(pause) = asked_for {
            let pauses = flight.shortest_pause.get().into_iter().chain([pause.wait]);
            flight.shortest_pause.set(pauses.min());
        }
        let made = self.note_answer(status, outside, heard);
        // Of those who only count tokens a limit of its own tells nothing about the others.
        // <https://platform.claude.com/docs/en/api/messages-count-tokens>
        let is_aside = status == 429 && flight.only_counts();
        match asked_for.or(made).filter(|_| !is_aside) {
            Some(pause) => {
                // A tier that is refused has no room; of the others nothing is said.
                let tier = tier.filter(|_| status == 429);
                flight.refused.set(flight.refused.get().or(tier));
                flight.leave_alone(target, tier, pause, outside, heard);
                if tier.is_some() && flight.asks_whether_over(target) {
                    heard.noted(Cooldowns::unclaim(outside.store, target.number()));
                }
            }
            // Its pause is over, and the others may know.
            None if flight.asks_whether_over(target) => {
                heard.noted(Cooldowns::end(outside.store, target.lane(tier)));
            }
            None => {}
        }
        let ends = || {
            flight.ends_before(self.at + 1)
                || flight.ends_unless_back(self.at, status, asked_for, outside.now())
        };
        if status >= 400 && ends() {
            heard.set.push((headers::STAY, "true".to_owned()));
        }
    }

    /// Notes whether an answer speaks for its target. Answers with the pause that its failures make.
    fn note_answer(&self, status: u16, outside: &Outside<'_>, heard: &mut Heard) -> Option<Cooldown> {
        let (flight, target) = (&self.flight, &self.target);
        let failing = &flight.gateway.failing;
        match status {
            500.. => return flight.note_failure(target, outside, heard),
            // What it says is not known yet.
            401 | 403 => {}
            429 => heard.noted(failing.answered(target, outside.store)),
            _ if flight.asks_whether_over(target) => heard.noted(failing.recovered(target, outside.store)),
            _ => heard.noted(failing.answered(target, outside.store)),
        }
        None
    }
}

impl Flight {
    /// Notes that the last attempt was not answered, if it was not, and what that comes to: Envoy goes on without it.
    pub(super) fn learn_miss(&self, outside: &Outside<'_>) -> Heard {
        let mut heard = Heard::default();
        if let Some(Trial { target, status: None, .. }) = self.tries.borrow().last()
            && let Some(pause) = self.note_failure(target, outside, &mut heard)
        {
            self.leave_alone(target, None, pause, outside, &mut heard);
        }
        heard
    }

    /// Takes back the pause that the last attempt may have made by its failure: nobody is behind it after all.
    pub(super) fn take_back_pause(&self, outside: &Outside<'_>) -> Result<(), StoreFault> {
        match self.tries.borrow().last() {
            Some(Trial { target, status, .. }) if status.is_none_or(|status| status >= 500) => {
                Cooldowns::end(outside.store, target)
            }
            _ => Ok(()),
        }
    }

    /// Notes that the last attempt was not answered, if it was not: Envoy has given up, and nobody was asked after it.
    pub(crate) fn note_miss(&self, moment: Moment<'_>) -> Result<(), StoreFault> {
        match self.tries.borrow().last() {
            // It was noted when the next one was not to be asked.
            _ if self.has_ended.get() => Ok(()),
            Some(Trial { target, status: None, .. }) => self.gateway.failing.failed(target, moment).map(drop),
            _ => Ok(()),
        }
    }

    /// Notes that an attempt at a target failed. Answers with the pause that this makes, if it has failed time after time.
    /// Somebody has to tell the client, so whoever comes last makes none, unless it was asked whether its pause is over.
    fn note_failure(&self, target: &Target, outside: &Outside<'_>, heard: &mut Heard) -> Option<Cooldown> {
        let moment = outside.moment();
        let failed = self.gateway.failing.failed(target, moment);
        heard.faults.extend(failed.err());
        let makes_pause = !self.is_last(target) || self.asks_whether_over(target);
        (failed == Ok(true) && makes_pause).then(|| route::failure_pause(moment.now))
    }

    /// Writes that a target, or a tier there, is to be left alone.
    fn leave_alone(
        &self,
        target: &Target,
        tier: Option<Tier>,
        pause: Cooldown,
        outside: &Outside<'_>,
        heard: &mut Heard,
    ) {
        heard.counts.push(Series::Cooldowns { backend: target.word.clone() });
        heard.noted(Cooldowns::note(outside.moment(), target.lane(tier), pause));
    }

    /// Whether nobody is left to be asked after this one.
    pub(super) fn is_last(&self, target: &Target) -> bool {
        self.candidates.last().is_none_or(|last| last.number() == target.number())
    }

    /// Whether this is the first attempt of the request that was sent to see whether a pause is over.
    fn asks_whether_over(&self, target: &Target) -> bool {
        self.probes_first && self.candidates.first().is_some_and(|first| first.number() == target.number())
    }
}
