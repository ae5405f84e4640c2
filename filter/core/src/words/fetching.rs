//! When is something fetched that all workers share, and by which of them?
//!
//! Of all VMs that ask, one is told to fetch; what came of it stands in the shared store. Not decided here: what is fetched,
//! and how long it is good.

use crate::codec::{Reader, Stored, Writer};
use crate::time::millis;
use std::time::Duration;

/// After a failure the next fetch comes after this, then after twice as long, and so on.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);

/// But no later than this.
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(60);

/// A fetch that has not ended so long after its timeout was that of a VM that died. A time that is so far ahead is none.
const SLACK: Duration = Duration::from_secs(1);

/// What a fetch brought.
#[derive(Clone, Copy, Debug)]
pub enum Fetch<'b> {
    /// Nothing.
    Nothing,
    /// An answer that is not 200.
    Refusal,
    /// A body that was not read, for its length.
    TooLong,
    /// That it is what was fetched before.
    Unchanged,
    /// This body.
    Body(&'b [u8]),
}

/// What all VMs know, in milliseconds since the epoch; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetching {
    /// Of what was fetched; 0 before the first.
    pub generation: u64,
    /// When the last fetch began.
    pub began: u64,
    /// When the last good one ended.
    pub succeeded: u64,
    /// When the last bad one ended.
    pub failed: u64,
    /// How many have failed since the last good one.
    pub failures: u64,
    /// When the last one out of turn began.
    pub spurred: u64,
}

impl Stored for Fetching {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            generation: from.u64()?,
            began: from.u64()?,
            succeeded: from.u64()?,
            failed: from.u64()?,
            failures: from.u64()?,
            spurred: from.u64()?,
        })
    }

    fn write(&self, to: &mut Writer) {
        for number in [self.generation, self.began, self.succeeded, self.failed, self.failures, self.spurred]
        {
            to.u64(number);
        }
    }
}

impl Fetching {
    /// Without the times that have not come: the clock was put back since, and might take a year to come there again.
    #[must_use]
    pub fn as_of(self, now: u64) -> Self {
        let past = |time: u64| if time > now + ms(SLACK) { 0 } else { time };
        Self {
            began: past(self.began),
            succeeded: past(self.succeeded),
            failed: past(self.failed),
            spurred: past(self.spurred),
            ..self
        }
    }

    /// Whether somebody fetches, who may take so long.
    #[must_use]
    pub fn is_under_way(&self, timeout: Duration, now: u64) -> bool {
        self.began > self.succeeded.max(self.failed) && now < self.began + ms(timeout + SLACK)
    }

    /// Whether a fetch is due in its turn, where what was fetched is good for so long.
    #[must_use]
    pub fn is_due(&self, refresh: Duration, now: u64) -> bool {
        if self.failures > 0 {
            let doublings = u32::try_from(self.failures - 1).unwrap_or(u32::MAX).min(16);
            let retry = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LAST).min(refresh);
            return now >= self.failed + ms(retry);
        }
        // A fetch whose VM died leaves `began` behind and nothing else.
        self.succeeded == 0 || now >= self.succeeded + ms(refresh)
    }

    /// After a good fetch; of the same as before, if nothing is new.
    #[must_use]
    pub fn succeed(self, is_new: bool, now: u64) -> Self {
        let generation = self.generation + u64::from(is_new || self.generation == 0);
        Self { generation, succeeded: now, failures: 0, ..self }
    }

    /// After a bad one.
    #[must_use]
    pub fn fail(self, now: u64) -> Self {
        Self { failed: now, failures: self.failures.saturating_add(1), ..self }
    }
}

/// A time in milliseconds.
#[must_use]
pub fn ms(duration: Duration) -> u64 {
    // Half of the range, so that the sum of two is one too; the year 292 million.
    millis(duration).min(u64::MAX / 4)
}
