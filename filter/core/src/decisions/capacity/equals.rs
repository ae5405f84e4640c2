//! Whose turn is it among those of one priority?
//!
//! Each client has a line of its own at each capacity. Its next request stands where its client has had so much of that capacity, and each
//! one behind it further by what those before it take: so each client gets as much as any other, however many requests it sends and however
//! large they are. Who comes anew stands where the last one stood that went: nobody saves anything up. A request that waits for several
//! capacities stands in each of their lines, everywhere at the place of that line in which it is furthest behind: so it passes nobody anywhere.

use super::queue::Ask;
use super::{Priority, WHOLE};
use crate::gauge::{Gauge, Gauges};
use crate::tokens::Usage;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A client's line of one priority, at the capacity with this number.
type Line = (Priority, u64, Rc<str>);

/// What each client has had while others waited, in millionths of what the backend takes in a window.
#[derive(Debug, Default)]
pub(super) struct Equals {
    had: BTreeMap<Line, u64>,
    /// Where the last one stood that went, of each priority at each capacity.
    last: BTreeMap<(Priority, u64), u64>,
}

/// Those who wait, in their lines.
#[derive(Debug)]
pub(super) struct Lines<'e> {
    equals: &'e Equals,
    /// Where the next one stands.
    ends: BTreeMap<Line, u64>,
}

fn line(ask: &Ask, gauge: Gauge) -> Line {
    (ask.priority, gauge.id, ask.client.clone())
}

/// What a request takes of a capacity.
fn part(gauge: Gauge, usage: Usage) -> u64 {
    let part = u128::from(gauge.takes_max(usage)) * u128::from(WHOLE) / u128::from(gauge.size.get());
    u64::try_from(part).unwrap_or(u64::MAX).max(1)
}

impl Equals {
    /// The lines as they are before anybody stands in them.
    pub(super) fn lines(&self) -> Lines<'_> {
        Lines { equals: self, ends: BTreeMap::new() }
    }

    /// A request went, and took a part of these.
    pub(super) fn went(&mut self, ask: &Ask, took: Gauges) {
        let stood = self.lines().join(ask);
        for gauge in took.iter() {
            self.had.insert(line(ask, gauge), stood.saturating_add(part(gauge, ask.usage)));
            let last = self.last.entry((ask.priority, gauge.id)).or_default();
            *last = stood.max(*last);
        }
    }

    /// A request that went has come back, and has had nothing.
    pub(super) fn came_back(&mut self, ask: &Ask) {
        for gauge in ask.gauges() {
            if let Some(had) = self.had.get_mut(&line(ask, gauge)) {
                *had = had.saturating_sub(part(gauge, ask.usage));
            }
        }
    }

    fn last(&self, priority: Priority, gauge: u64) -> u64 {
        self.last.get(&(priority, gauge)).copied().unwrap_or_default()
    }

    /// Forgets what makes no difference any more.
    pub(super) fn forget(&mut self) {
        let Self { had, last } = self;
        had.retain(|(priority, gauge, _), had| {
            last.get(&(*priority, *gauge)).is_some_and(|last| *had > *last)
        });
    }
}

impl Lines<'_> {
    /// One comes behind those of its client that have come before it; answers where it stands.
    pub(super) fn join(&mut self, ask: &Ask) -> u64 {
        let stands_at = ask.gauges().map(|gauge| self.end(ask, gauge)).max().unwrap_or_default();
        for gauge in ask.gauges() {
            self.ends.insert(line(ask, gauge), stands_at.saturating_add(part(gauge, ask.usage)));
        }
        stands_at
    }

    fn end(&self, ask: &Ask, gauge: Gauge) -> u64 {
        let line = line(ask, gauge);
        let had = || self.equals.had.get(&line).copied().unwrap_or_default();
        self.ends.get(&line).copied().unwrap_or_else(|| had().max(self.equals.last(ask.priority, gauge.id)))
    }
}
