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
    /// As the backend told.
    others: Others,
    /// As the fleet's store told.
    fleet: Others,
}

/// What others have sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Others {
    amount: u64,
    /// When that was told, in nanoseconds since the epoch.
    at: u64,
}

impl Stored for Sent {
    const VERSION: u8 = 3;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let newest = from.u64()?;
        let [others, fleet] = [Others::read(from)?, Others::read(from)?];
        let mut amounts = [[0; KEPT]; 3];
        for amount in amounts.as_flattened_mut() {
            *amount = from.u32()?;
        }
        Some(Self { newest, amounts, others, fleet })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.newest);
        for told in [self.others, self.fleet] {
            to.u64(told.amount);
            to.u64(told.at);
        }
        for amount in self.amounts.as_flattened() {
            to.u32(*amount);
        }
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
        let nothing = Sent { newest, amounts: [[0; KEPT]; 3], others, fleet };
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
        if let Some(slot) = self.at(priority, self.sent.newest) {
            *slot = slot.saturating_add(u32::try_from(amount).unwrap_or(u32::MAX));
        }
    }

    /// Takes an amount out of the slot that it was added to, if it is still there.
    pub(super) fn take_out(&mut self, priority: Priority, amount: u64, added: Duration) {
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
        let over = self.used_by_all().saturating_add(amount).saturating_sub(room);
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
                others: Others { amount: 9, at: 1_795_000_000_000_000_000 },
                fleet: Others { amount: 8, at: 1_795_000_000_000_000_000 },
            }],
        );
    }
}
