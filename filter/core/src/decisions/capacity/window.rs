//! What was sent to a backend within its window.
//!
//! The window is counted in slots. What was sent is forgotten when its whole slot has left the window, never before: the
//! backend, which counts exactly, has forgotten it by then.

use super::Priority;
use crate::codec::{self, Reader, Stored, Writer};
use crate::time::nanos;
use std::time::Duration;

/// The parts of a window. Finer ones would forget sooner and cost more.
const SLOTS: u64 = 60;

/// Over at least so many of them goes what shows a pace.
const PACE_SLOTS: u64 = 10;

/// The least pace is one of so many parts of what was declared.
const LEAST_PART: u128 = 64;

/// So many requests, or windows, a backend is asked at one pace before it is asked at a faster one.
const AT_A_PACE: u64 = 4;

/// So late a worker may look who is due: what was missed by that goes with the next.
const LATE: Duration = Duration::from_millis(50);

/// So many times as fast as declared is as good as at once.
const AT_ONCE: u128 = 4;

/// One more than a window has, for the slot that has not left it whole.
const KEPT: usize = SLOTS as usize + 1;

/// What was sent within a window, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    slot: Duration,
    now: Duration,
    sent: Sent,
}

/// What was sent, slot by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    /// The number of the newest slot since the epoch; that of slot `n` is at `n % KEPT`.
    newest: u64,
    /// By priority.
    amounts: [[u32; KEPT]; Priority::ALL.len()],
    /// What the backend took before it refused.
    shown: Shown,
    /// As the backend told.
    others: Others,
    /// As the fleet's store told.
    fleet: Others,
}

/// The pace at which a backend took what was sent before it asked for a pause. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    amount: u64,
    /// From the first of it until the pause ends; 0 where it never refused.
    time: u64,
    /// When the pause ends, since the epoch.
    until: u64,
    /// What was sent since then.
    sent_since: u64,
    /// When the next one goes at that pace, since the epoch.
    due: u64,
}

/// What others have sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Others {
    amount: u64,
    /// When that was told, in nanoseconds since the epoch.
    at: u64,
}

impl Stored for Sent {
    const VERSION: u8 = 4;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let newest = from.u64()?;
        let [others, fleet] = [Others::read(from)?, Others::read(from)?];
        let shown = Shown::read(from)?;
        let mut amounts = [[0; KEPT]; 3];
        for amount in amounts.as_flattened_mut() {
            *amount = from.u32()?;
        }
        Some(Self { newest, amounts, shown, others, fleet })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.newest);
        for told in [self.others, self.fleet] {
            to.u64(told.amount);
            to.u64(told.at);
        }
        let Shown { amount, time, until, sent_since, due } = self.shown;
        for number in [amount, time, until, sent_since, due] {
            to.u64(number);
        }
        for amount in self.amounts.as_flattened() {
            to.u32(*amount);
        }
    }
}

impl Shown {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let [amount, time, until] = [from.u64()?, from.u64()?, from.u64()?];
        Some(Self { amount, time, until, sent_since: from.u64()?, due: from.u64()? })
    }
}

impl Others {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { amount: from.u64()?, at: from.u64()? })
    }
}

impl Window {
    /// The window as it is now. A record of another shape is an empty one.
    pub(super) fn read(record: &[u8], window: Duration, now: Duration) -> Self {
        let slot = (window / SLOTS as u32).max(Duration::from_nanos(1));
        let newest = nanos(now) / nanos(slot);
        let [others, fleet] = [Others::default(); 2];
        let nothing = Sent { newest, amounts: [[0; KEPT]; 3], shown: Shown::default(), others, fleet };
        // A clock that was set back forgets nothing, unless by more than a window: it would not for all that time.
        let is_of_now = |sent: &Sent| sent.newest <= newest.saturating_add(KEPT as u64);
        let sent = codec::decode(record).filter(is_of_now).unwrap_or(nothing);
        let mut read = Self { slot, now, sent };
        let from = read.sent.newest.max(newest.saturating_sub(KEPT as u64));
        for slot in from..newest {
            for priority in Priority::ALL {
                if let Some(amount) = read.at(priority, slot + 1) {
                    *amount = 0;
                }
            }
        }
        read.sent.newest = read.sent.newest.max(newest);
        for told in [&mut read.sent.others, &mut read.sent.fleet] {
            if nanos(now).saturating_sub(told.at) >= nanos(window) {
                *told = Others::default();
            }
        }
        read
    }

    pub(super) fn write(&self) -> Vec<u8> {
        codec::encode(&self.sent)
    }

    fn at(&mut self, priority: Priority, slot: u64) -> Option<&mut u32> {
        self.sent.amounts.get_mut(priority as usize)?.get_mut((slot % KEPT as u64) as usize)
    }

    /// By us and by others.
    pub(super) fn used_by_all(&self) -> u64 {
        self.used().saturating_add(self.used_by_others())
    }

    /// The backend counts the fleet's among the others': they are not added up.
    fn used_by_others(&self) -> u64 {
        self.sent.others.amount.max(self.sent.fleet.amount)
    }

    /// By us.
    pub(super) fn used(&self) -> u64 {
        self.sent.amounts.as_flattened().iter().map(|amount| u64::from(*amount)).sum()
    }

    pub(super) fn add(&mut self, priority: Priority, amount: u64) {
        if self.is_paced(self.now) {
            let (due, now) = (self.sent.shown.due, nanos(self.now));
            let time = self.time_of(amount, self.pace(amount));
            self.sent.shown.due = due.max(now.saturating_sub(nanos(LATE).min(time))).saturating_add(time);
            self.sent.shown.sent_since = self.sent.shown.sent_since.saturating_add(amount);
        }
        if let Some(slot) = self.at(priority, self.sent.newest) {
            *slot = slot.saturating_add(u32::try_from(amount).unwrap_or(u32::MAX));
        }
    }

    /// Whether what was sent then went after a refusal, and its pause.
    fn is_paced(&self, then: Duration) -> bool {
        self.sent.shown.time > 0 && nanos(then) >= self.sent.shown.until
    }

    /// Takes an amount out of the slot that it was added to, if it is still there.
    pub(super) fn take_out(&mut self, priority: Priority, amount: u64, added: Duration) {
        if self.is_paced(added) {
            let time = self.time_of(amount, self.pace(amount));
            self.sent.shown.due = self.sent.shown.due.saturating_sub(time);
        }
        let slot = nanos(added) / nanos(self.slot);
        if slot <= self.sent.newest
            && self.sent.newest - slot < KEPT as u64
            && let Some(slot) = self.at(priority, slot)
        {
            *slot = slot.saturating_sub(u32::try_from(amount).unwrap_or(u32::MAX));
        }
    }

    /// Takes note of what others use, for so long; answers whether that is news.
    pub(super) fn others_use(&mut self, amount: u64, lasts: Duration) -> bool {
        let is_news = amount > 0 || self.sent.others.amount > 0;
        // It is told for a window, from when it was.
        let window = self.slot * SLOTS as u32;
        self.sent.others = Others { amount, at: nanos((self.now + lasts).saturating_sub(window)) };
        is_news
    }

    /// Takes note of what the fleet's other processes use, as their store told at that time; answers whether that is news.
    pub(super) fn fleet_uses(&mut self, amount: u64, at: Duration) -> bool {
        let is_news = amount > 0 || self.sent.fleet.amount > 0;
        self.sent.fleet = Others { amount, at: nanos(at) };
        is_news
    }

    /// Until `amount` more fits into `room`, if nobody else comes.
    pub(super) fn wait(&self, amount: u64, room: u64) -> Duration {
        let wait = self.wait_beside(self.used_by_others(), amount, room);
        let Others { amount: told, at } = self.sent.others;
        if wait.is_zero() || told <= self.sent.fleet.amount {
            return wait;
        }
        // What the backend told of them is believed for so long.
        let forgotten = Duration::from_nanos(at.saturating_add(self.window())).saturating_sub(self.now);
        wait.min(self.wait_beside(self.sent.fleet.amount, amount, room).max(forgotten))
    }

    /// The same, if others use so much.
    fn wait_beside(&self, others: u64, amount: u64, room: u64) -> Duration {
        let over = self.used().saturating_add(others).saturating_add(amount).saturating_sub(room);
        if over == 0 {
            return Duration::ZERO;
        }
        // Others are taken to leave when nothing of ours is left: sooner than they do,
        // but nobody can say when.
        let mut ours = 0_u64;
        for ((slot, amount), slots) in self.slots().zip(1_u64..) {
            ours = ours.saturating_add(amount);
            if ours.saturating_add(self.left_by_fleet(slots)) >= over {
                return self.leaves(slot);
            }
        }
        self.leaves(self.sent.newest)
    }

    /// Takes note that the backend, of which `size` was declared, refuses what takes `amount`, and asks for a pause until then. One small
    /// request after a quiet hour shows little: the pace is no less than a part of what was declared.
    pub(super) fn refused(&mut self, amount: u64, until: Duration, size: u64) {
        let first = self.slots().find(|(_, amount)| *amount > 0);
        let since = first.map_or(nanos(self.now), |(slot, _)| slot.saturating_mul(nanos(self.slot)));
        let until = match self.sent.shown.until {
            // Of two that were asked for, the longer one holds.
            known if known > nanos(self.now) => nanos(until).max(known),
            _ => nanos(until),
        };
        let time = until.saturating_sub(since);
        let least = u128::from(size) * u128::from(time) / u128::from(self.window().max(1)) / LEAST_PART;
        let amount = self.used().max(amount).max(u64::try_from(least).unwrap_or(u64::MAX));
        // What takes nothing shows nothing.
        if amount == 0 {
            return;
        }
        self.sent.shown = Shown { amount, time, until, sent_since: 0, due: until };
    }

    /// Until `amount` more goes no faster than the backend has shown that it takes, if `ahead` goes before it. The first after the
    /// pause goes at once, each other one when those before it have been paid for by time.
    pub(super) fn wait_for_pace(&self, amount: u64, ahead: u64, size: u64) -> Duration {
        let Shown { time, due, .. } = self.sent.shown;
        let pace = self.pace(amount);
        // So fast even what is declared for a window goes almost at once.
        let at_once = u128::from(size).saturating_mul(time.into()).saturating_mul(AT_ONCE);
        if pace.saturating_mul(self.window().into()) >= at_once {
            return Duration::ZERO;
        }
        let now = nanos(self.now);
        let due = if ahead > 0 { due.max(now).saturating_add(self.time_of(ahead, pace)) } else { due };
        Duration::from_nanos(due.saturating_sub(now))
    }

    /// How much goes in the time that was shown. It is twice as much each time that as much as was shown has gone, and four
    /// requests, without being refused; or when four windows have passed.
    fn pace(&self, amount: u64) -> u128 {
        let shown = &self.sent.shown;
        let step = shown.amount.max(amount.saturating_mul(AT_A_PACE)).max(1);
        let passed = nanos(self.now).saturating_sub(shown.until) / self.window().saturating_mul(AT_A_PACE);
        let doubled = u32::try_from((shown.sent_since / step).max(passed)).unwrap_or(u32::MAX);
        // Sixty times two is more than any number here.
        u128::from(shown.amount) << doubled.min(60)
    }

    /// In which time so much goes at this pace.
    fn time_of(&self, amount: u64, pace: u128) -> u64 {
        let time = u128::from(amount) * u128::from(self.sent.shown.time) / pace.max(1);
        // One that is larger than all that was shown holds back nobody for longer than a window.
        u64::try_from(time).unwrap_or(u64::MAX).min(self.sent.shown.time.max(self.window()))
    }

    fn window(&self) -> u64 {
        nanos(self.slot).saturating_mul(SLOTS)
    }

    /// Until `amount` more of this priority leaves as much as those that are more important will need, if they go on as they have in
    /// this window. What is left to them at each time is what is free and what has left the window by then: of `size` in all.
    pub(super) fn wait_behind(&self, priority: Priority, amount: u64, size: u64) -> Duration {
        let important = || self.sent.amounts.iter().take(priority as usize);
        let of_slot = |slot: u64| important().map(|of| u64::from(amount_at(of, slot))).sum::<u64>();
        let Some((first, _)) = self.slots().find(|(slot, _)| of_slot(*slot) > 0) else {
            return Duration::ZERO;
        };
        let sent: u64 = self.slots().map(|(slot, _)| of_slot(slot)).sum();
        // Who has just come has shown no pace yet.
        let slots = (self.sent.newest - first + 1).max(PACE_SLOTS);
        let free = size.saturating_sub(self.used_by_all()).saturating_sub(amount);
        let (mut left, mut lacking) = (0_u64, 0);
        for ((_, amount), ahead) in self.slots().zip(1_u64..) {
            left = left.saturating_add(amount);
            let left = left.saturating_add(self.left_by_fleet(ahead));
            let needed = sent.saturating_mul(ahead) / slots;
            lacking = needed.saturating_sub(free.saturating_add(left)).max(lacking);
        }
        // What lacks now is there when so much more of what was sent has left.
        if lacking == 0 {
            Duration::ZERO
        } else {
            self.wait(amount.saturating_add(lacking), size).max(self.slot)
        }
    }

    /// What was sent in each slot, the oldest first.
    fn slots(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let oldest = self.sent.newest.saturating_sub(SLOTS);
        let amount = |slot| self.sent.amounts.iter().map(|of| u64::from(amount_at(of, slot))).sum();
        (oldest..=self.sent.newest).map(move |slot| (slot, amount(slot)))
    }

    /// What the fleet's others have sent of what leaves with so many slots: they are taken to have come evenly.
    fn left_by_fleet(&self, slots: u64) -> u64 {
        self.sent.fleet.amount.saturating_mul(slots) / KEPT as u64
    }

    /// Until a slot begins.
    fn begins(&self, slot: u64) -> Duration {
        let at = u128::from(slot) * self.slot.as_nanos();
        Duration::from_nanos(u64::try_from(at).unwrap_or(u64::MAX)).saturating_sub(self.now)
    }

    /// Until a slot has left the window whole.
    fn leaves(&self, slot: u64) -> Duration {
        self.begins(slot + KEPT as u64)
    }
}

fn amount_at(amounts: &[u32; KEPT], slot: u64) -> u32 {
    amounts.get((slot % KEPT as u64) as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_law_of_stored_values_holds() {
        let mut amounts = [[0; KEPT]; 3];
        amounts[2][3] = u32::MAX;
        codec::law::holds(
            "window",
            &[Sent {
                newest: 1_795_000_000,
                amounts,
                shown: Shown {
                    amount: 3,
                    time: 1_000_000_000,
                    until: 1_795_000_000_000_000_000,
                    sent_since: 7,
                    due: 9,
                },
                others: Others { amount: 9, at: 1_795_000_000_000_000_000 },
                fleet: Others { amount: 8, at: 1_795_000_000_000_000_000 },
            }],
        );
    }
}
