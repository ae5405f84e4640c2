//! Where do the limits stand? For the headers of every answer, and for who asks for all of it.

use super::leases::Holding;
use super::measured::Measured;
use super::record::{Entry, Record};
use super::{Budget, cells};
use crate::allowance::{Allowance, Unit};
use crate::endpoint::Operation;
use crate::store::{Moment, StoreFault};
use crate::time::nanos;
use std::rc::Rc;
use std::time::Duration;

/// Where one limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its size.
    pub limit: u64,
    /// What is left.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

/// Where the tightest limits on tokens and on requests stand: of those that may refuse and have the request in their
/// scope the ones with the least left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// On tokens, if there is any.
    pub tokens: Option<Level>,
    /// On requests, if there is any.
    pub requests: Option<Level>,
}

impl Standing {
    pub(super) fn note(&mut self, limit: &Measured, entry: &Entry, now: u64) {
        let place = match limit.allowance.measure.unit() {
            Some(Unit::Tokens(_)) => &mut self.tokens,
            Some(Unit::Requests) => &mut self.requests,
            Some(Unit::Cost) | None => return,
        };
        if limit.allowance.shadow {
            return;
        }
        let remaining = limit.remaining(entry);
        if place.is_none_or(|tightest| remaining < tightest.remaining) {
            let reset = limit.reset(entry, now).unwrap_or_default();
            *place = Some(Level { limit: limit.allowance.amount.get(), remaining, reset });
        }
    }

    /// Takes the tighter of each.
    pub fn join(&mut self, other: &Self) {
        let tighter = |one: Option<Level>, other: Option<Level>| match (one, other) {
            (Some(one), Some(other)) if other.remaining < one.remaining => Some(other),
            (one, other) => one.or(other),
        };
        self.tokens = tighter(self.tokens, other.tokens);
        self.requests = tighter(self.requests, other.requests);
    }

    /// As OpenAI's headers tell it, which its SDKs hand on to their users.
    /// <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let names = [
            (
                self.requests,
                [
                    "x-ratelimit-limit-requests",
                    "x-ratelimit-remaining-requests",
                    "x-ratelimit-reset-requests",
                ],
            ),
            (
                self.tokens,
                ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
            ),
        ];
        let mut headers = Vec::with_capacity(6);
        for (level, [limit, remaining, reset]) in names {
            if let Some(level) = level {
                headers.push((limit, level.limit.to_string()));
                headers.push((remaining, level.remaining.to_string()));
                headers.push((reset, written(level.reset)));
            }
        }
        headers
    }
}

/// A time as OpenAI writes it: `120ms`, `6.5s`, `6m0s`, `2h30m0s`. Rounded up to a millisecond.
fn written(time: Duration) -> String {
    let ms = time.as_nanos().div_ceil(1_000_000);
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, seconds, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    let fraction = match ms {
        0 => String::new(),
        _ => format!(".{ms:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// What is asked of the store without taking anything: where a budget stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Which.
    pub budget: Rc<Budget>,
    /// For requests for this model, `None` for those that name none,
    pub model: Option<Rc<str>>,
    /// and this endpoint.
    pub operation: Operation,
}

/// A store's answer to an [`Inquiry`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The tightest limits that have such a request in their scope.
    pub standing: Standing,
    /// All limits, the client's own first, each group in the order of the configuration.
    pub states: Vec<State>,
}

/// Where a limit stands, for a list of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Which.
    pub allowance: Rc<Allowance>,
    /// What is used of it; money in millionths.
    pub used: u64,
    /// What is left.
    pub remaining: u64,
    /// Until all of it is there again; `None` where that does not depend on time.
    pub reset: Option<Duration>,
    /// What this process holds of it, where a fleet shares it.
    pub holding: Option<Holding>,
}

/// Says where a budget stands. Changes nothing.
pub fn read(moment: Moment<'_>, inquiry: &Inquiry) -> Result<Report, StoreFault> {
    let now = nanos(moment.now);
    let mut report = Report::default();
    for account in &inquiry.budget.accounts {
        let mut record = Record::read(&cells::load(moment.store, &account.key)?);
        let time = record.clock(now);
        let leased = account.is_shared().then(|| record.unshare());
        for (place, limit) in account.limits.iter().enumerate() {
            let entry = limit.now(record.find(limit.id(), place), time);
            if limit.allowance.scope.has(inquiry.model.as_deref(), inquiry.operation) {
                report.standing.note(limit, &entry, time);
            }
            report.states.push(State {
                allowance: limit.allowance.clone(),
                used: limit.used(&entry),
                remaining: limit.remaining(&entry),
                reset: limit.reset(&entry, time),
                holding: leased.as_ref().map(|leased| leased.holding(limit, &entry, now)),
            });
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        for (ms, expected) in [
            (0, "0ms"),
            (120, "120ms"),
            (999, "999ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (60_000, "1m0s"),
            (86_001, "1m26.001s"),
            (360_000, "6m0s"),
            (9_000_000, "2h30m0s"),
            (2_592_000_000, "720h0m0s"),
        ] {
            assert_eq!(written(Duration::from_millis(ms)), expected);
        }
        assert_eq!(written(Duration::from_nanos(1)), "1ms");
        assert_eq!(written(Duration::from_nanos(999_000_001)), "1s");
    }
}
