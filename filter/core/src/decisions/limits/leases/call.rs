//! What is a call to the fleet's store about one account, and what does its reply change here?

use super::{Head, LEASE, Lease, MARGIN, TICK, signed, unsigned};
use crate::allowance::{Flow, Measure};
use crate::codec::{self, Reader, Stored, Writer};
use crate::fleet::Fleet;
use crate::limits::Account;
use crate::limits::measured::Measured;
use crate::limits::record::Leased;
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::nanos;
use std::fmt::Write as _;
use std::time::Duration;

/// What the store runs for each account.
pub const SCRIPT: &str = include_str!("account.lua");

/// What nobody has used for so long is given back.
const IDLE: Duration = Duration::from_secs(10);

/// A lease that has less than so many times what is spent between two calls is filled up ahead of need.
const LOW: u64 = 2;

/// So long nothing is asked of a store that has just come back.
const QUIET: Duration = TICK.saturating_mul(2);

/// To so many times.
const AHEAD: u64 = 4;

/// The numbers of a reply before those of its limits, and of each limit.
const HEAD_NUMBERS: usize = 3;
const LIMIT_NUMBERS: usize = 8;

/// The words of a call before those of its limits, and of each limit.
const CALL_WORDS: usize = 4;
const LIMIT_WORDS: usize = 12;

/// The keys of the accounts that the tick calls for.
const ACTIVE: &str = "leases/active";

/// Why a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Requests wait for it.
    ForRequests,
    /// It is time to.
    ByTick,
}

/// A call about one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// What the script is told, with a space between two arguments.
    pub arguments: String,
}

/// An account for which the tick calls.
#[derive(Debug, PartialEq, Eq)]
struct Active(String);

impl Stored for Active {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self(from.text()?.to_owned()))
    }

    fn write(&self, to: &mut Writer) {
        to.text(&self.0);
    }
}

/// The keys of the accounts of a fleet that the tick calls for.
pub fn active(store: &dyn Store, fleet: Fleet) -> Result<Vec<String>, StoreFault> {
    let loaded = store.load(&fleet.key(ACTIVE))?;
    Ok(codec::decode_all::<Active>(&loaded.value).into_iter().map(|active| active.0).collect())
}

/// Adds an account to those that the tick calls for.
pub(in super::super) fn enlist(store: &dyn Store, account: &Account) -> Result<(), StoreFault> {
    let Some(fleet) = account.fleet else { return Ok(()) };
    store::update(store, &fleet.key(ACTIVE), |stored| {
        let mut active = codec::decode_all::<Active>(stored);
        if active.iter().any(|active| active.0 == account.key) {
            return (None, ());
        }
        active.push(Active(account.key.clone()));
        (Some(codec::encode_all(&active)), ())
    })
}

/// Has the tick call for an account for a while, so that what is told of it soon is the fleet's, though nobody spends of it here.
pub fn listen(moment: Moment<'_>, account: &Account) -> Result<(), StoreFault> {
    let enlists = store::update(moment.store, &account.key, |stored| {
        let mut record = account.read(stored);
        let mut leased = record.unshare();
        let enlists = super::touch(&mut leased.head, nanos(moment.now));
        record.share(leased);
        (Some(record.into_bytes()), enlists)
    })?;
    if enlists { enlist(moment.store, account) } else { Ok(()) }
}

/// Takes an account that holds nothing out of those that the tick calls for. First out of the list: whoever takes from it
/// meanwhile finds it active, and that is seen here.
pub fn retire(moment: Moment<'_>, account: &Account) -> Result<(), StoreFault> {
    let (now, key) = (nanos(moment.now), account.key.as_str());
    let Some(fleet) = account.fleet else { return Ok(()) };
    store::update(moment.store, &fleet.key(ACTIVE), |stored| {
        let mut active = codec::decode_all::<Active>(stored);
        active.retain(|active| active.0 != key);
        (Some(codec::encode_all(&active)), ())
    })?;
    let is_needed = store::update(moment.store, key, |stored| {
        let mut record = crate::limits::record::Record::read(stored);
        let mut leased = record.unshare();
        if !leased.is_done(now) {
            return (None, true);
        }
        leased.head.is_active = false;
        record.share(leased);
        (Some(record.into_bytes()), false)
    })?;
    if is_needed { enlist(moment.store, account) } else { Ok(()) }
}

/// Begins a call, if there is something to say and none is under way. `holder` is the name of this process; a call that
/// was sent longer than `timeout` ago has failed.
pub fn call(
    moment: Moment<'_>,
    account: &Account,
    (holder, due): (&str, Due),
    timeout: Duration,
) -> Result<Option<Call>, StoreFault> {
    let (now, timeout) = (nanos(moment.now), nanos(timeout));
    store::update(moment.store, &account.key, |stored| {
        let mut record = account.read(stored);
        let time = record.clock(now);
        let mut leased = record.unshare();
        let head = &leased.head;
        if head.called > 0 && now.abs_diff(head.called) < timeout {
            return (None, None);
        }
        if head.said.is_empty() {
            let lacks = leased.leases.iter().any(|lease| lease.lacking > 0);
            let is_due = match due {
                Due::ForRequests => lacks && now >= head.patient_until.max(head.quiet_until),
                Due::ByTick => lacks || !leased.is_done(now),
            };
            if !is_due {
                return (None, None);
            }
            // Who has lost his record, or found one of another version of the module, begins above all that was said before:
            // what stands in the moment.store under this holder's name would be answered as it was then. Only a clock that was
            // set back meanwhile would say it again.
            let number = if head.number == 0 { now / 1000 } else { head.number + 1 };
            let mut said = format!("{holder} {number} {} {}", LEASE.as_millis(), head.revision);
            let (is_live, is_idle, asks) = (head.is_live(now), is_idle(head, now), now >= head.quiet_until);
            for (place, limit) in account.limits.iter().enumerate() {
                let entry = limit.now(record.find(limit.id(), place), time);
                let mut lease = leased.find(limit, &entry);
                lease.say(limit, (is_live, is_idle, asks), &mut said);
                leased.set(lease);
            }
            leased.head.number = number;
            leased.head.said = said.into_bytes();
        } else {
            leased.head.has_failed = true;
        }
        leased.head.called = now;
        let (number, arguments) =
            (leased.head.number, String::from_utf8_lossy(&leased.head.said).into_owned());
        record.share(leased);
        (Some(record.into_bytes()), Some(Call { number, arguments }))
    })
}

fn is_idle(head: &Head, now: u64) -> bool {
    now.abs_diff(head.touched) > nanos(IDLE)
}

/// Says that a call has failed, or that nobody knows: it is said again.
pub fn failed(store: &dyn Store, account: &Account, number: u64) -> Result<(), StoreFault> {
    store::update(store, &account.key, |stored| {
        let mut record = account.read(stored);
        let mut leased = record.unshare();
        if leased.head.number != number || leased.head.called == 0 {
            return (None, ());
        }
        leased.head.called = 0;
        leased.head.has_failed = true;
        record.share(leased);
        (Some(record.into_bytes()), ())
    })
}

/// What a reply says besides what is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// How many limits it recalls that were not recalled before.
    pub recalls: u64,
    /// Whether the store has lost what it had told: it was emptied, or failed over to one that lacks the last writes. Of all
    /// processes, the first one to call hears it.
    pub has_lost: bool,
}

/// Takes the reply to a call that was sent at `sent`. `None` if it is no reply to what was said, and changes nothing.
pub fn answered(
    store: &dyn Store,
    account: &Account,
    number: u64,
    reply: &[i64],
    (sent, now): (Duration, Duration),
) -> Result<Option<Heard>, StoreFault> {
    let (sent, now) = (nanos(sent), nanos(now));
    let Some((head_numbers, limits)) = reply.split_at_checked(HEAD_NUMBERS) else { return Ok(None) };
    let &[revision, store_us, holders] = head_numbers else { return Ok(None) };
    let heard = store::update(store, &account.key, |stored| {
        let mut record = account.read(stored);
        let mut leased = record.unshare();
        if leased.head.number != number || leased.head.said.is_empty() {
            // Another worker has it already.
            return (None, Some((false, Heard::default())));
        }
        let said = ids_of(&leased.head.said);
        if limits.len() != said.len() * LIMIT_NUMBERS {
            return (None, None);
        }
        let store_time = unsigned(store_us).saturating_mul(1000);
        let head = &mut leased.head;
        let was_live = head.is_live(now);
        // A record that begins with this call, of which something is known already.
        let has_lost = head.revision > 0 && revision == store_us.saturating_add(1);
        (head.called, head.said) = (0, Vec::new());
        (head.revision, head.holders) = (unsigned(revision), unsigned(holders));
        (head.since, head.until) = (sent, sent.saturating_add(nanos(LEASE - MARGIN)));
        if std::mem::take(&mut head.has_failed) {
            // What it brings goes back: it was asked for before anybody said what was spent meanwhile.
            // Nor is it known how the fleet stands now: the answer may be that of the first time.
            (head.since, head.until) = (0, 0);
            head.quiet_until = now.saturating_add(nanos(QUIET));
        }
        head.ahead = signed(store_time).saturating_sub(signed(now));
        let mut recalls = 0;
        // Another configuration may have said it: what this one does not have ends with its lease.
        for (id, numbers) in said.iter().zip(limits.chunks(LIMIT_NUMBERS)) {
            let place = account.limits.iter().position(|limit| limit.id() == *id);
            let found = place.and_then(|place| Some((place, account.limits.get(place)?)));
            let (Some((place, limit)), Some(reply)) = (found, LimitReply::read(numbers)) else { continue };
            let mut entry = limit.now(record.find(limit.id(), place), store_time);
            if let Measure::Quota(..) = limit.allowance.measure {
                entry.at = reply.window;
            }
            let mut lease = leased.find(limit, &entry);
            recalls += u64::from(reply.is_recalled && !lease.is_recalled);
            lease.hear(limit, &reply);
            if reply.is_recalled && lease.asked_in_vain(&reply) {
                leased.head.patient_until = now.saturating_add(nanos(TICK));
            }
            let since = lease.sent_since(&reply);
            let used = reply.used.saturating_add(since);
            record.set(limit.entry_of_store(used, reply.next, (reply.window, store_time)), place);
            lease.end();
            leased.set(lease);
        }
        // What another configuration of this process holds went back with the lease that was over.
        for lease in leased.leases.iter_mut().filter(|lease| !was_live && !said.contains(&lease.id)) {
            lease.lapse();
        }
        // It was called for, so it is active, unless a reply came after it was retired.
        let enlists = !leased.is_done(now) && !leased.head.is_active;
        leased.head.is_active |= enlists;
        record.share(leased);
        (Some(record.into_bytes()), Some((enlists, Heard { recalls, has_lost })))
    })?;
    if heard.is_some_and(|(enlists, _)| enlists) {
        enlist(store, account)?;
    }
    Ok(heard.map(|(_, heard)| heard))
}

/// The limits that a call speaks of.
fn ids_of(said: &[u8]) -> Vec<u64> {
    let words = std::str::from_utf8(said).unwrap_or_default().split(' ');
    let ids = words.skip(CALL_WORDS).step_by(LIMIT_WORDS);
    ids.filter_map(|id| u64::from_str_radix(id, 16).ok()).collect()
}

/// What a reply says of one limit.
struct LimitReply {
    granted: i64,
    kept: i64,
    used: i64,
    held: i64,
    wait: u64,
    /// In nanoseconds.
    window: u64,
    /// Of a bucket: how long until one unit less is used, in nanoseconds.
    next: u64,
    is_recalled: bool,
}

impl LimitReply {
    fn read(numbers: &[i64]) -> Option<Self> {
        let &[granted, kept, used, held, wait_us, window_s, ends_us, recall] = numbers else { return None };
        Some(Self {
            granted,
            kept,
            used,
            held,
            wait: unsigned(wait_us).saturating_mul(1000),
            window: unsigned(window_s).saturating_mul(1_000_000_000),
            next: unsigned(ends_us).saturating_mul(1000),
            is_recalled: recall != 0,
        })
    }
}

impl Leased {
    /// Whether this process holds nothing, owes nothing and wants nothing. For a while it still listens to how the others
    /// stand, for when the store does not answer.
    fn is_done(&self, now: u64) -> bool {
        let is_done = |lease: &Lease| lease.left == 0 && lease.held == 0 && lease.lacking == 0;
        is_idle(&self.head, now) && self.head.said.is_empty() && self.leases.iter().all(is_done)
    }
}

impl Lease {
    /// Says how it stands and what is wanted, and keeps what was said until the reply.
    fn say(&mut self, limit: &Measured, (is_live, is_idle, asks): (bool, bool, bool), said: &mut String) {
        self.pace = self.spent.max(self.pace / 2);
        // Who lacks something too returns all of it, and asks for the whole: of two that keep a part none would ever have enough.
        let kept = if is_idle || !is_live || self.is_recalled && self.lacking > 0 {
            0
        } else if self.is_recalled {
            self.pace
        } else {
            u64::MAX
        };
        self.giving = self.left.saturating_sub(signed(kept)).max(0);
        self.left -= self.giving;
        self.sent = self.left;
        let need = match self.lacking {
            lacking if lacking == 0 || !asks => 0,
            // What is owed is reported, and not needed again.
            lacking => lacking.saturating_sub(unsigned(self.left)),
        };
        // Nobody keeps anything ahead of need while others lack it.
        let ahead = if self.is_recalled { 0 } else { self.pace.saturating_mul(AHEAD) };
        let want = if need > 0 {
            self.wanted.saturating_sub(self.lacking).saturating_add(ahead)
        } else if asks && is_live && !is_idle && self.left < signed(self.pace.saturating_mul(LOW)) {
            ahead
        } else {
            0
        };
        (self.asking, self.asking_all) = if need > 0 { (self.lacking, self.wanted) } else { (0, 0) };
        self.spent = 0;
        if asks {
            (self.lacking, self.wanted) = (0, 0);
        }
        let (kind, span) = match limit.allowance.measure {
            Measure::Concurrent => ('s', "0"),
            Measure::Rate(_, Flow::Second) => ('b', "1000000"),
            Measure::Rate(_, Flow::Minute) => ('b', "60000000"),
            Measure::Quota(_, span) => ('w', span.word()),
        };
        let (size, window) = (limit.amount(), self.window / 1_000_000_000);
        let (id, shadow) = (limit.id(), u8::from(limit.allowance.shadow));
        // More than all of it is not to be had.
        let want = want.min(size);
        let Self { held, left, giving, told_used, .. } = self;
        // Into a string nothing fails.
        let _ = write!(
            said,
            " {id:016x} {kind} {size} {span} {window} {held} {left} {giving} {need} {want} {shadow} {told_used}"
        );
    }

    /// Takes what the reply grants. What was taken and given back since the call is kept.
    fn hear(&mut self, limit: &Measured, reply: &LimitReply) {
        let in_use = match limit.allowance.measure {
            Measure::Concurrent => self.held.saturating_sub(self.sent).saturating_sub(self.giving).max(0),
            Measure::Rate(..) | Measure::Quota(..) => 0,
        };
        let new = reply.kept.saturating_add(reply.granted);
        self.left = new.saturating_add(self.left.saturating_sub(self.sent));
        self.held = in_use.saturating_add(new);
        (self.told_used, self.told_held) = (unsigned(reply.used), unsigned(reply.held));
        self.is_recalled = reply.is_recalled;
        self.flowed_at = 0;
        // The others who wait are still to be asked for, unless they are refused.
        let still = if reply.wait > 0 { 0 } else { self.asking_all.saturating_sub(unsigned(reply.granted)) };
        self.wanted = self.wanted.saturating_add(still);
    }

    /// Whether others are asked to return what they hold, for a request that waits here.
    fn asked_in_vain(&self, reply: &LimitReply) -> bool {
        self.asking > 0 && reply.granted == 0 && reply.wait == 0
    }

    /// What was spent since the call, once its reply has been taken.
    fn sent_since(&self, reply: &LimitReply) -> i64 {
        reply.kept.saturating_add(reply.granted).saturating_sub(self.left)
    }

    /// What was not spent is the store's again.
    fn lapse(&mut self) {
        let idle = self.left.max(0);
        (self.left, self.held) = (self.left.saturating_sub(idle), self.held.saturating_sub(idle));
    }

    fn end(&mut self) {
        (self.giving, self.sent) = (0, 0);
        (self.asking, self.asking_all) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::law;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_law_of_stored_values_holds() {
        let active = |key: &str| Active(key.to_owned());
        law::holds("lease_active", &[active("tollgate/shared/client/web"), active("")]);
    }
}
