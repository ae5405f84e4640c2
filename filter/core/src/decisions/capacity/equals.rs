//! Whose turn is it among those of one priority?
//!
//! Each client has a line of its own. Its next request stands where its client has had so much of the capacity, and each one behind
//! it further by what those before it take: so each client gets as much as any other, however many requests it sends and however large
//! they are. Who comes anew stands where the last one stood that went: nobody saves anything up.

use super::{Priority, WHOLE};
use crate::gauge::Gauges;
use crate::tokens::Usage;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What each client has had while others waited, in millionths of what the backend takes in a window.
#[derive(Debug, Default)]
pub(super) struct Equals {
    had: BTreeMap<(Priority, Rc<str>), u64>,
    /// Where the last one stood that went, of each priority.
    last: [u64; Priority::ALL.len()],
}

/// What a request takes of what was declared, of that of which it takes most.
pub(super) fn part(gauges: Gauges, usage: Usage) -> u64 {
    let parts = gauges.iter().map(|gauge| {
        let part = u128::from(gauge.takes_max(usage)) * u128::from(WHOLE) / u128::from(gauge.size.get());
        u64::try_from(part).unwrap_or(u64::MAX)
    });
    parts.max().unwrap_or_default().max(1)
}

impl Equals {
    /// Where a client's next request stands.
    pub(super) fn next(&self, priority: Priority, client: &Rc<str>) -> u64 {
        let had = self.had.get(&(priority, client.clone())).copied().unwrap_or_default();
        had.max(self.last.get(priority as usize).copied().unwrap_or_default())
    }

    /// A client's next request went.
    pub(super) fn went(&mut self, priority: Priority, client: &Rc<str>, part: u64) {
        let stood = self.next(priority, client);
        self.had.insert((priority, client.clone()), stood.saturating_add(part));
        if let Some(last) = self.last.get_mut(priority as usize) {
            *last = stood.max(*last);
        }
    }

    /// Forgets what makes no difference any more.
    pub(super) fn forget(&mut self) {
        let last = self.last;
        self.had.retain(|(priority, _), had| last.get(*priority as usize).is_some_and(|last| *had > *last));
    }
}
