//! What does this process hold of a budget that a fleet shares, and what does it ask the fleet's store for?
//!
//! A lease is an amount that the store has taken out of what is left of a limit for this process, and that it has not spent
//! yet: nothing can be spent twice by it. A request that leases cover asks nobody. What one lacks is noted, and a call asks
//! for it, together with what all others lack by then. A call says what is left of each lease, so it reports what was
//! spent, returned and owed at once; it has a number, and the store carries out no number twice, so it can be sent again
//! until its reply is here. The records that this keeps are those of the process, for all its workers. Not decided here:
//! what the store does (`leases/account.lua`), and how it is reached.

use super::measured::{Measured, Room};
use super::record::{Entry, Leased, Record};
use super::{Account, Claim, Refusal, Taken, Verdict, cells};
use crate::allowance::{Flow, Measure};
use crate::codec::{Reader, Stored, Writer};
use crate::store::{Moment, StoreFault};
use crate::time::nanos;
use std::time::Duration;

mod call;
mod health;

pub use call::{Call, Due, Heard, SCRIPT, active, answered, call, failed, listen, retire};
pub use health::{Health, TERM, leader, process};

/// How long the store keeps a lease for a process that does not call.
pub const LEASE: Duration = Duration::from_secs(3);

/// How often a process calls for all its accounts.
pub const TICK: Duration = Duration::from_millis(250);

/// A process counts a lease as over so much sooner than the store does.
const MARGIN: Duration = Duration::from_millis(250);

/// The store forgets a record that nobody calls for in so long.
const FORGOTTEN: Duration = Duration::from_secs(40 * 24 * 60 * 60);

/// What the store has told counts for so long, unless it tells anew.
const FRESH: Duration = TICK.saturating_mul(2);

/// What is said to whoever is refused because the store could not be asked.
const BACK_OFF: Duration = Duration::from_secs(1);

/// What is done about a request that no lease covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncovered {
    /// It waits for a call.
    Waits,
    /// It still does.
    WaitsOn,
    /// It is refused; the next call asks for what it lacks.
    IsRefused,
    /// The store does not answer: this process spends its part of what was left, and owes it. So many Envoys there are at
    /// least, however few of them held something of the account when the store last told.
    Shares {
        /// By the configuration.
        envoys: u64,
    },
    /// The store does not answer: it is served, and this process owes what it spends.
    IsServed,
}

/// What this process holds of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// All of it, as the store last told; of places, those in use too. Nothing once the lease is over.
    pub leased: u64,
    /// What of it is not spent.
    pub idle: u64,
    /// What it has spent beyond it, and the store does not know of.
    pub owed: u64,
}

/// What this process knows of an account in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of the last call.
    number: u64,
    /// When it was sent; 0 if none is under way. Times are those of this process, in nanoseconds.
    called: u64,
    /// What it said, until its reply is here: whatever was lost, it is said again.
    said: Vec<u8>,
    /// From when to when the leases can be spent.
    since: u64,
    until: u64,
    /// By how much the store's clock is ahead of this process's, in nanoseconds.
    ahead: i64,
    /// Of the store's record, as it was last seen.
    revision: u64,
    /// How many processes hold something of it.
    holders: u64,
    /// When a request last took from it or gave back to it.
    touched: u64,
    /// Before then what is lacking is not asked for out of turn: the others have been asked to return what they hold.
    patient_until: u64,
    /// Whether the call under way has failed before.
    has_failed: bool,
    /// Before then nothing is asked for: the store has just come back, and the others have not said yet what they owe.
    quiet_until: u64,
    /// Whether the tick calls for it.
    is_active: bool,
}

/// What this process holds of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    /// What the limit counts.
    id: u64,
    /// Of a window of the calendar: when it began.
    window: u64,
    /// What is left; below zero what is owed.
    left: i64,
    /// What the store holds for this process, by its last reply.
    held: i64,
    /// What the call under way gives back, and what was left then.
    giving: i64,
    sent: i64,
    /// The most that the call under way asks for a request that waits, 0 for none; and what it asks for all those who wait.
    asking: u64,
    asking_all: u64,
    /// Likewise of the next call, and what all those who wait ask for together.
    lacking: u64,
    wanted: u64,
    /// What was taken since the last call, and what usually is between two.
    spent: u64,
    pace: u64,
    /// What all processes have used and hold, as the store last told.
    told_used: u64,
    told_held: u64,
    /// Whether others lack what is idle here.
    is_recalled: bool,
    /// Of what a bucket owes while the store does not answer: when it last flowed off.
    flowed_at: u64,
}

impl Stored for Head {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            number: from.u64()?,
            called: from.u64()?,
            said: from.bytes()?.to_vec(),
            since: from.u64()?,
            until: from.u64()?,
            ahead: from.i64()?,
            revision: from.u64()?,
            holders: from.u64()?,
            touched: from.u64()?,
            patient_until: from.u64()?,
            has_failed: from.u8()? != 0,
            quiet_until: from.u64()?,
            is_active: from.u8()? != 0,
        })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.number);
        to.u64(self.called);
        to.bytes(&self.said);
        to.u64(self.since);
        to.u64(self.until);
        to.i64(self.ahead);
        to.u64(self.revision);
        to.u64(self.holders);
        to.u64(self.touched);
        to.u64(self.patient_until);
        to.u8(u8::from(self.has_failed));
        to.u64(self.quiet_until);
        to.u8(u8::from(self.is_active));
    }
}

impl Stored for Lease {
    const VERSION: u8 = 2;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            id: from.u64()?,
            window: from.u64()?,
            left: from.i64()?,
            held: from.i64()?,
            giving: from.i64()?,
            sent: from.i64()?,
            asking: from.u64()?,
            asking_all: from.u64()?,
            lacking: from.u64()?,
            wanted: from.u64()?,
            spent: from.u64()?,
            pace: from.u64()?,
            told_used: from.u64()?,
            told_held: from.u64()?,
            is_recalled: from.u8()? != 0,
            flowed_at: from.u64()?,
        })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.id);
        to.u64(self.window);
        for amount in [self.left, self.held, self.giving, self.sent] {
            to.i64(amount);
        }
        for amount in [self.asking, self.asking_all, self.lacking, self.wanted, self.spent, self.pace] {
            to.u64(amount);
        }
        to.u64(self.told_used);
        to.u64(self.told_held);
        to.u8(u8::from(self.is_recalled));
        to.u64(self.flowed_at);
    }
}

impl Head {
    /// The store's clock.
    pub(super) fn clock(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.ahead)
    }

    /// Whether the leases can be spent. A clock that was set back ends them.
    fn is_live(&self, now: u64) -> bool {
        (self.since..self.until).contains(&now)
    }

    /// Whether what the store has told last can be relied on.
    fn is_fresh(&self, now: u64) -> bool {
        (self.since..self.since.saturating_add(nanos(FRESH))).contains(&now)
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

fn unsigned(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or(0)
}

impl Leased {
    /// The lease of a limit in the window that its entry is of. Of another window nothing is left.
    pub(super) fn find(&self, limit: &Measured, entry: &Entry) -> Lease {
        let window = if let Measure::Quota(..) = limit.allowance.measure { entry.at } else { 0 };
        let new = Lease { id: limit.id(), window, ..Lease::default() };
        match self.leases.iter().find(|lease| lease.id == limit.id()) {
            Some(lease) if lease.window == window => *lease,
            // What is wanted now is wanted of this window.
            Some(Lease { lacking, wanted, spent, pace, .. }) => {
                Lease { lacking: *lacking, wanted: *wanted, spent: *spent, pace: *pace, ..new }
            }
            None => new,
        }
    }

    /// Takes what comes back of a reservation; of a window that is over nothing does. `window` is the one that it was taken
    /// from.
    pub(super) fn give(&mut self, limit: &Measured, entry: &Entry, back: i128, window: u64) {
        let mut lease = self.find(limit, entry);
        match limit.allowance.measure {
            Measure::Concurrent => lease.give(1),
            Measure::Quota(..) if entry.at != window => return,
            Measure::Quota(..) | Measure::Rate(..) => lease.give(back),
        }
        self.set(lease);
    }

    /// What is held of a limit.
    pub(super) fn holding(&self, limit: &Measured, entry: &Entry, now: u64) -> Holding {
        let lease = self.find(limit, entry);
        let owed = unsigned(lease.left.saturating_neg());
        if !self.head.is_live(now) {
            return Holding { owed, ..Holding::default() };
        }
        Holding { leased: unsigned(lease.held), idle: unsigned(lease.left), owed }
    }

    pub(super) fn return_place(&mut self, id: u64) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.id == id) {
            lease.give(1);
        }
    }

    pub(super) fn set(&mut self, lease: Lease) {
        match self.leases.iter_mut().find(|other| other.id == lease.id) {
            Some(found) => *found = lease,
            None => self.leases.push(lease),
        }
    }
}

impl Lease {
    /// Whether it has so much to spend. What costs nothing needs no lease.
    fn covers(&self, amount: u64, head: &Head, now: u64) -> bool {
        amount == 0 || head.is_live(now) && self.left >= signed(amount)
    }

    fn take(&mut self, amount: u64) {
        self.left = self.left.saturating_sub_unsigned(amount);
        self.spent = self.spent.saturating_add(amount);
    }

    /// What comes back of a reservation; below zero what it cost beyond that.
    fn give(&mut self, back: i128) {
        let back = i64::try_from(back).unwrap_or(if back < 0 { i64::MIN } else { i64::MAX });
        self.left = self.left.saturating_add(back);
        // What is given back was not spent, or only seemed to be.
        self.spent = self.spent.saturating_sub(unsigned(back));
    }

    /// Notes what a request lacks. What it has noted before may be asked for already.
    fn note(&mut self, amount: u64, is_new: bool) {
        if !is_new && amount <= self.lacking.max(self.asking) {
            return;
        }
        self.lacking = self.lacking.max(amount);
        // Who waits on is counted already.
        self.wanted = if is_new { self.wanted.saturating_add(amount) } else { self.wanted.max(amount) };
    }

    /// Places in use, of a limit on requests under way.
    fn in_use(&self) -> u64 {
        unsigned(self.held.saturating_sub(self.left).saturating_sub(self.giving))
    }

    /// While the store does not answer, what a bucket owes flows off as what it has would flow in.
    fn flow(&mut self, limit: &Measured, holders: u64, now: u64) {
        let Measure::Rate(_, per) = limit.allowance.measure else { return };
        let elapsed = match now.checked_sub(self.flowed_at) {
            Some(elapsed) if self.flowed_at > 0 && self.left < 0 => elapsed,
            _ => {
                self.flowed_at = now;
                return;
            }
        };
        let flowed = flowed(part(limit, holders), per, elapsed);
        if flowed > 0 {
            self.left = self.left.saturating_add_unsigned(flowed).min(0);
            self.flowed_at = now;
        }
    }

    /// Whether this process's part of a limit has so much, while the store does not answer.
    fn part_has(&self, limit: &Measured, amount: u64, holders: u64) -> bool {
        let owed = signed(amount).saturating_sub(self.left);
        match limit.allowance.measure {
            Measure::Concurrent => self.in_use() < part(limit, holders),
            Measure::Rate(..) => owed <= signed(part(limit, holders)),
            Measure::Quota(..) => {
                let rest = limit.amount().saturating_sub(self.told_used).saturating_sub(self.told_held);
                owed <= signed(rest / holders.max(1))
            }
        }
    }
}

/// A process's part of a limit; of places at least one, for nobody could be served without.
fn part(limit: &Measured, holders: u64) -> u64 {
    match limit.allowance.measure {
        Measure::Concurrent => limit.amount().div_ceil(holders.max(1)),
        _ => limit.amount() / holders.max(1),
    }
}

fn flowed(size: u64, per: Flow, elapsed: u64) -> u64 {
    let flowed = u128::from(size) * u128::from(elapsed) / u128::from(per.nanos());
    u64::try_from(flowed).unwrap_or(u64::MAX)
}

/// What one limit says to a claim.
enum Word {
    Takes,
    /// It would refuse, and only reports that.
    Reports,
    Refuses(Refusal),
    /// It cannot wait: it is refused, or reported, and the next call asks for it.
    Misses(Option<Refusal>),
    Lacks,
}

/// Asks every limit of an account that has the request in its scope, as the leases of this process stand. Nothing is taken
/// unless all have it.
pub(super) fn ask(
    (at, account): (usize, &Account),
    record: &mut Record,
    claim: &Claim,
    taken: &mut Vec<Taken>,
    now: u64,
    uncovered: Uncovered,
) -> Verdict {
    let time = record.clock(now);
    let mut leased = record.unshare();
    let mut verdict = Verdict::default();
    let mut words = Vec::with_capacity(account.limits.len());
    for (place, limit) in account.limits.iter().enumerate().filter(|(_, limit)| claim.meets(limit)) {
        let amount = claim.of(limit.allowance.measure);
        let entry = limit.now(record.find(limit.id(), place), time);
        let mut lease = leased.find(limit, &entry);
        let known = leased.head.is_fresh(now).then(|| limit.room(&entry, amount, time));
        let room = known.unwrap_or(Room::Now);
        let word = answer(&mut lease, (limit, room), &entry, amount, &leased.head, (now, uncovered));
        words.push((place, limit, entry, lease, amount, word));
    }
    let lacks = words.iter().any(|(.., word)| matches!(word, Word::Lacks));
    let refuses = words.iter().any(|(.., word)| matches!(word, Word::Refuses(_) | Word::Misses(Some(_))));
    verdict.lacks = lacks && !refuses;
    let is_new = uncovered != Uncovered::WaitsOn;
    for (place, limit, entry, mut lease, amount, word) in words {
        let refusal = match word {
            Word::Takes if lacks || refuses => continue,
            // Nobody waits for it.
            Word::Lacks if refuses => continue,
            Word::Takes => {
                lease.take(amount);
                let entry = limit.take(entry, amount, time);
                taken.push(Taken { account: at, limit: place, amount, window: entry.at });
                record.set(entry, place);
                verdict.standing.note(limit, &entry, time);
                None
            }
            Word::Lacks => {
                lease.note(amount, is_new);
                None
            }
            Word::Reports => {
                verdict.shadow_refusals.push(limit.allowance.word.clone());
                None
            }
            Word::Refuses(refusal) => Some(refusal),
            Word::Misses(refusal) => {
                // Nobody waits for it: one of those who miss it is enough to be asked for.
                lease.note(amount, false);
                if refusal.is_none() {
                    verdict.shadow_refusals.push(limit.allowance.word.clone());
                }
                refusal
            }
        };
        if let Some(refusal) = refusal {
            verdict.refusal = Some(match verdict.refusal.take() {
                Some(first) => first.or_longer(refusal),
                None => refusal,
            });
        }
        verdict.writes |= leased.find(limit, &entry) != lease;
        leased.set(lease);
    }
    if verdict.writes {
        verdict.enlists = touch(&mut leased.head, now);
    }
    record.share(leased);
    verdict
}

/// What a limit says. `room` is what the fleet has, by what the store told last: what is not there though all others returned
/// what they hold is refused without asking.
fn answer(
    lease: &mut Lease,
    (limit, room): (&Measured, Room),
    entry: &Entry,
    amount: u64,
    head: &Head,
    (now, uncovered): (u64, Uncovered),
) -> Word {
    let refusal = |room| Refusal::of(limit, entry, room, amount);
    let refuses = |room| match refusal(room) {
        Some(_) if limit.allowance.shadow => Word::Reports,
        Some(refusal) => Word::Refuses(refusal),
        None => Word::Takes,
    };
    if limit.never_has(amount) {
        return refuses(Room::Never);
    }
    // What reserves nothing is charged afterwards all the same.
    if lease.covers(amount, head, now) && (amount > 0 || room == Room::Now) {
        return Word::Takes;
    }
    match uncovered {
        Uncovered::IsServed => {
            lease.flow(limit, 1, now);
            Word::Takes
        }
        _ if room != Room::Now => refuses(room),
        Uncovered::Waits | Uncovered::WaitsOn => Word::Lacks,
        Uncovered::IsRefused => {
            Word::Misses(refusal(limit.room_after(TICK)).filter(|_| !limit.allowance.shadow))
        }
        Uncovered::Shares { envoys } => {
            let holders = head.holders.max(envoys);
            lease.flow(limit, holders, now);
            if lease.part_has(limit, amount, holders) {
                Word::Takes
            } else {
                refuses(limit.room_after(BACK_OFF))
            }
        }
    }
}

/// Notes that somebody takes from an account or gives back to it. True if nobody calls for it yet.
pub(super) fn touch(head: &mut Head, now: u64) -> bool {
    if now.abs_diff(head.touched) > nanos(FORGOTTEN) {
        // What the store has forgotten by then is not lost.
        head.revision = 0;
    }
    head.touched = now;
    !std::mem::replace(&mut head.is_active, true)
}

/// Notes what a request lacks of an account besides what it lacks of an earlier one, so that one call asks for both. Nothing
/// is taken.
pub(super) fn note(
    moment: Moment<'_>,
    (at, account): (usize, &Account),
    claim: &Claim,
    uncovered: Uncovered,
) -> Result<Verdict, StoreFault> {
    let verdict = cells::update(moment, &account.key, |stored| {
        let mut record = account.read(stored);
        let verdict = ask((at, account), &mut record, claim, &mut Vec::new(), nanos(moment.now), uncovered);
        // What it has is not taken yet.
        let changed = (verdict.lacks && verdict.writes).then(|| record.into_bytes());
        (changed, verdict)
    })?;
    if verdict.lacks && verdict.enlists {
        call::enlist(moment.store, account)?;
    }
    Ok(verdict)
}

pub(super) use call::enlist;

#[cfg(test)]
mod tests;
