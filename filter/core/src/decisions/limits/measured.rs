//! One limit and its state: how do a bucket, a window of the calendar and slots each take, give and tell?

use super::bucket::{Bucket, Size};
use super::record::Entry;
use crate::allowance::{Allowance, Flow, Measure, Unit};
use crate::calendar::Span;
use crate::digest::{FNV1A_OF_NOTHING, fnv1a};
use std::rc::Rc;
use std::time::Duration;

/// Whether so much is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Now.
    Now,
    /// After exactly this time, if nothing is taken meanwhile.
    After(Duration),
    /// When a request ends that is under way.
    WhenOneEnds,
    /// Never.
    Never,
}

/// A limit, with what its entry is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) allowance: Rc<Allowance>,
    id: u64,
    /// Whether it is a value's, whose record may be forgotten.
    is_of_value: bool,
}

const NANOS: u64 = 1_000_000_000;

/// The lowest bits of an id say what its entry is a state of.
const KIND: u64 = 0x0f;

/// The bit of a limit that only reports, beside another that counts the same.
const SHADOW: u64 = 0x80;

const fn kind(measure: Measure) -> u64 {
    match measure {
        Measure::Concurrent => 0,
        Measure::Rate(_, Flow::Second) => 1,
        Measure::Rate(_, Flow::Minute) => 2,
        Measure::Quota(_, Span::Hour) => 3,
        Measure::Quota(_, Span::Day) => 4,
        Measure::Quota(_, Span::Week) => 5,
        Measure::Quota(_, Span::Month) => 6,
    }
}

const fn span_of(id: u64) -> Option<Span> {
    match id & KIND {
        3 => Some(Span::Hour),
        4 => Some(Span::Day),
        5 => Some(Span::Week),
        6 => Some(Span::Month),
        _ => None,
    }
}

/// When the window began that a moment lies in, and when it ends; in nanoseconds.
fn window(span: Span, now: u64) -> (u64, u64) {
    let (start, end) = span.bounds(now / NANOS);
    (start.saturating_mul(NANOS), end.saturating_mul(NANOS))
}

impl Measured {
    /// The limits of an account, each with an id that no other has.
    pub(super) fn all(allowances: Vec<Allowance>) -> Vec<Self> {
        let twins: Vec<bool> = allowances
            .iter()
            .map(|one| one.shadow && allowances.iter().any(|other| !other.shadow && other.counts_as(one)))
            .collect();
        let ids = twins.into_iter().map(|twin| if twin { SHADOW } else { 0 });
        let measured = |(allowance, shadow)| Self {
            id: identity(&allowance) | shadow,
            allowance: Rc::new(allowance),
            is_of_value: false,
        };
        allowances.into_iter().zip(ids).map(measured).collect()
    }

    /// The same for values.
    pub(super) fn all_of_values(allowances: Vec<Allowance>) -> Vec<Self> {
        let all = Self::all(allowances).into_iter();
        all.map(|limit| Self { is_of_value: true, ..limit }).collect()
    }

    /// What its entry is found by: what it counts, but not how much of it is allowed. So a limit that is changed keeps
    /// what is spent.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn amount(&self) -> u64 {
        self.allowance.amount.get()
    }

    fn size(&self, per: Flow) -> Size {
        Size { amount: self.amount(), per }
    }

    /// The state now: what was found, and what time has done to it; or that of a limit which nobody has touched.
    pub(super) fn now(&self, found: Option<Entry>, now: u64) -> Entry {
        let (level, at) = match (self.allowance.measure, found) {
            (Measure::Concurrent, None) => (0, now),
            (Measure::Concurrent, Some(entry)) => (entry.level, entry.at),
            (Measure::Rate(_, per), found) => {
                let size = self.size(per);
                let bucket = match found {
                    Some(entry) => Bucket { credit: entry.level, at: entry.at }.refill(size, now),
                    None => Bucket::full(size, now),
                };
                (bucket.credit, bucket.at)
            }
            (Measure::Quota(_, span), found) => {
                let (start, end) = window(span, now);
                match found {
                    // A clock that was set back does not open the last window again. What is of a later one than the next
                    // would count until that comes.
                    Some(entry) if (start..=end).contains(&window(span, entry.at).0) => {
                        (entry.level, entry.at)
                    }
                    // One that was forgotten and is there anew in the same window has another beginning.
                    _ if self.is_of_value => (0, now),
                    _ => (0, start),
                }
            }
        };
        Entry { id: self.id, level, at }
    }

    /// Whether `amount` is to be had of a state that is of `now`.
    pub(super) fn room(&self, entry: &Entry, amount: u64, now: u64) -> Room {
        match self.allowance.measure {
            Measure::Concurrent if entry.level < i128::from(self.amount()) => Room::Now,
            Measure::Concurrent => Room::WhenOneEnds,
            _ if self.never_has(amount) => Room::Never,
            Measure::Rate(_, per) => {
                match (Bucket { credit: entry.level, at: entry.at }).wait(self.size(per), amount, now) {
                    Duration::ZERO => Room::Now,
                    wait => Room::After(wait),
                }
            }
            Measure::Quota(_, span) => {
                if entry.level.saturating_add(amount.into()) <= i128::from(self.amount()) {
                    Room::Now
                } else {
                    Room::After(until_the_end(span, entry, now))
                }
            }
        }
    }

    /// Whether it never has so much.
    pub(super) fn never_has(&self, amount: u64) -> bool {
        self.allowance.measure != Measure::Concurrent && amount > self.amount()
    }

    /// What a limit says that has no room for so long, by who knows it.
    pub(super) fn room_after(&self, wait: Duration) -> Room {
        if self.allowance.measure == Measure::Concurrent { Room::WhenOneEnds } else { Room::After(wait) }
    }

    /// The state of a fleet's limit, as its store tells it: what is used, and of a bucket how long until one unit less is.
    pub(super) fn entry_of_store(&self, used: i64, next: u64, (window, now): (u64, u64)) -> Entry {
        let (level, at) = match self.allowance.measure {
            Measure::Concurrent => (used.into(), now),
            Measure::Quota(..) => (used.into(), window),
            Measure::Rate(_, per) => {
                let size = self.size(per);
                let empty = Bucket { credit: 0, at: now };
                let whole = empty.take(size, i128::from(used) - i128::from(self.amount()));
                (whole.credit.saturating_add(size.flowed(next)), now)
            }
        };
        Entry { id: self.id, level, at }
    }

    /// The state with `amount` taken from it.
    pub(super) fn take(&self, entry: Entry, amount: u64, now: u64) -> Entry {
        match self.allowance.measure {
            Measure::Concurrent => Entry { level: entry.level.saturating_add(1), at: now, ..entry },
            Measure::Quota(..) => Entry { level: entry.level.saturating_add(amount.into()), ..entry },
            Measure::Rate(_, per) => {
                let bucket = Bucket { credit: entry.level, at: entry.at }.take(self.size(per), amount.into());
                Entry { level: bucket.credit, ..entry }
            }
        }
    }

    /// The state with `back` given back to it, or taken where that is below zero. `taken_at` is the `at` that the entry
    /// had when it was taken from: a window that is over gets nothing, and what was forgotten since gets nothing back.
    pub(super) fn give(&self, entry: Entry, back: i128, taken_at: u64, now: u64) -> Entry {
        match self.allowance.measure {
            Measure::Concurrent => return_slot(entry),
            Measure::Quota(..) if back > 0 && entry.at != taken_at => entry,
            Measure::Quota(_, span) if window(span, entry.at) != window(span, taken_at) => entry,
            Measure::Quota(..) => Entry { level: entry.level.saturating_sub(back).max(0), ..entry },
            Measure::Rate(_, per) => {
                let size = self.size(per);
                let bucket = Bucket { credit: entry.level, at: entry.at }.refill(size, now);
                // Filled beyond the brim it loses the rest at once.
                let bucket = bucket.take(size, -back).refill(size, now);
                Entry { level: bucket.credit, at: bucket.at, ..entry }
            }
        }
    }

    /// What is left.
    pub(super) fn remaining(&self, entry: &Entry) -> u64 {
        match self.allowance.measure {
            Measure::Rate(_, per) => Bucket { credit: entry.level, at: entry.at }.remaining(self.size(per)),
            _ => u64::try_from(i128::from(self.amount()).saturating_sub(entry.level)).unwrap_or(0),
        }
    }

    /// What is used.
    pub(super) fn used(&self, entry: &Entry) -> u64 {
        match self.allowance.measure {
            Measure::Rate(_, per) => Bucket { credit: entry.level, at: entry.at }.used(self.size(per)),
            _ => u64::try_from(entry.level).unwrap_or(0),
        }
    }

    /// Until all of it is there again; `None` where that does not depend on time.
    pub(super) fn reset(&self, entry: &Entry, now: u64) -> Option<Duration> {
        match self.allowance.measure {
            Measure::Concurrent => None,
            Measure::Quota(_, span) => Some(until_the_end(span, entry, now)),
            Measure::Rate(_, per) => {
                let bucket = Bucket { credit: entry.level, at: entry.at };
                Some(bucket.wait(self.size(per), self.amount(), now))
            }
        }
    }

    /// Whether an entry is still needed that no limit of this configuration has.
    pub(super) fn outlives_its_configuration(entry: &Entry, is_idle: bool, now: u64) -> bool {
        match (span_of(entry.id), entry.id & KIND) {
            (Some(span), _) => window(span, entry.at) == window(span, now),
            (None, 0) => entry.level > 0,
            (None, _) => !is_idle,
        }
    }
}

/// Gives one slot back; nothing where none is taken.
pub(super) fn return_slot(entry: Entry) -> Entry {
    Entry { level: entry.level.saturating_sub(1).max(0), ..entry }
}

/// Whether all of its limit is there again, however large that is.
pub(super) fn is_unused(entry: &Entry, now: u64) -> bool {
    let rests = |flow: Flow| entry.level >= 0 && now.saturating_sub(entry.at) >= flow.nanos();
    match (span_of(entry.id), entry.id & KIND) {
        (Some(span), _) => entry.level == 0 || window(span, entry.at) != window(span, now),
        (None, 0) => entry.level == 0,
        (None, 1) => rests(Flow::Second),
        (None, _) => rests(Flow::Minute),
    }
}

fn until_the_end(span: Span, entry: &Entry, now: u64) -> Duration {
    Duration::from_nanos(window(span, entry.at).1.saturating_sub(now))
}

fn identity(allowance: &Allowance) -> u64 {
    let mut hash = fnv1a(FNV1A_OF_NOTHING, allowance.measure.unit_word().as_bytes());
    if let Some(Unit::Tokens(weights)) = allowance.measure.unit() {
        for weight in [weights.prompt, weights.cached, weights.completion] {
            hash = fnv1a(hash, &weight.to_le_bytes());
        }
    }
    // No name has these bytes, so no two scopes read the same.
    for model in allowance.scope.models.iter().flatten() {
        hash = fnv1a(fnv1a(hash, &[1]), model.as_bytes());
    }
    for endpoint in allowance.scope.endpoints.iter().flatten() {
        hash = fnv1a(fnv1a(hash, &[2]), endpoint.word().as_bytes());
    }
    hash << 8 | kind(allowance.measure)
}
