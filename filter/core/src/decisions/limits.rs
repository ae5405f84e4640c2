//! Is there budget left for this?
//!
//! A reservation takes what a request may cost before it is sent, the settlement puts back what it did not. What a
//! client has taken stands in one record of the store, and what its group has in another, each changed by
//! compare-and-set. A reservation takes from all limits that have the request in their scope, or from none: within a
//! record at once, and where the second record refuses, the first gets everything back. Nothing is ever overshot by
//! that; a request that comes in between may be refused a moment too early. Pure arithmetic over the [`Store`], with
//! time as an argument. Not decided here: what a request may cost.

use crate::allowance::{Allowance, Measure};
use crate::denial::Denial;
use crate::fleet::Fleet;
use crate::store::{Moment, StoreFault};
use crate::time::nanos;
use std::rc::Rc;
use std::time::Duration;

pub mod alerts;
mod bucket;
mod cells;
mod claim;
mod kept;
pub mod leases;
mod measured;
mod part;
mod record;
mod split;
mod standing;

use claim::Taken;
use leases::Uncovered;
use measured::{Measured, Room};
use record::Record;

pub use claim::{Claim, Reservation, Settlement, Spent};
pub use kept::Kept;
pub use part::Part;
pub use split::{Split, is_of_a_value};
pub use standing::{Inquiry, Level, Report, Standing, State, read};

/// How often what was taken is given back where the store is contended: it must not stay taken.
const GIVE_BACK_TRIES: u32 = 16;

/// Where the records of accounts stand that this process has for itself.
const OWN: &str = "tollgate/limits/";

/// Whose they are that are of one client.
const CLIENT: &str = "client";

/// Whose they are that are of what spills.
const SPILL: &str = "spill";

/// Whose the account of a key is, and the name of that.
fn whose(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(OWN).or_else(|| Fleet::about(key))?.split_once('/')
}

/// Whether a key is of such an account.
fn is_of_spill(key: &str) -> bool {
    whose(key).is_some_and(|(whose, _)| whose == SPILL)
}

/// The client whose own account has this key.
#[must_use]
pub fn client_of_key(key: &str) -> Option<&str> {
    whose(key).filter(|(whose, _)| *whose == CLIENT).map(|(_, name)| name)
}

/// What a client may spend by its own limits, or a group by its: one record of the store.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    key: String,
    limits: Rc<[Measured]>,
    /// The fleet that shares it, if one does.
    fleet: Option<Fleet>,
}

impl Account {
    fn new(whose: &str, name: &str, allowances: Vec<Allowance>) -> Self {
        let limits = Measured::all(allowances).into();
        Self { key: format!("{OWN}{whose}/{name}"), limits, fleet: None }
    }

    /// The account of a client.
    #[must_use]
    pub fn of_client(name: &str, allowances: Vec<Allowance>) -> Self {
        Self::new(CLIENT, name, allowances)
    }

    /// The account that the clients of a group share.
    #[must_use]
    pub fn of_group(name: &str, allowances: Vec<Allowance>) -> Self {
        Self::new("group", name, allowances)
    }

    /// The account of what a model's requests may take at backends of a lower priority.
    #[must_use]
    pub fn of_spill(model: &str, allowances: Vec<Allowance>) -> Self {
        Self::new(SPILL, model, allowances)
    }

    /// The same account, shared by a fleet.
    #[must_use]
    pub fn shared(self, fleet: Fleet) -> Self {
        // What a process has counted alone is not what a fleet has.
        let key = fleet.key(self.key.strip_prefix(OWN).unwrap_or_default());
        Self { key, fleet: Some(fleet), ..self }
    }

    /// Whether a fleet shares it.
    const fn is_shared(&self) -> bool {
        self.fleet.is_some()
    }

    /// What it is called in the fleet's store.
    #[must_use]
    pub fn shared_name(&self) -> Option<&str> {
        Fleet::about(&self.key).filter(|_| self.is_shared())
    }

    /// The key of its record in the store of this process.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    fn read(&self, stored: &[u8]) -> Record {
        let mut record = Record::read(stored);
        if self.is_shared() {
            let leased = record.unshare();
            record.share(leased);
        }
        record
    }

    /// Its limits, each with the id that a store knows it by.
    pub fn limits(&self) -> impl Iterator<Item = (u64, &Rc<Allowance>)> {
        self.limits.iter().map(|limit| (limit.id(), &limit.allowance))
    }
}

/// All limits that a client meets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// In the order in which they are asked, which is the same for all requests.
    accounts: Vec<Rc<Account>>,
    /// Of which each value has an account of its own, until it is known who asks.
    splits: Vec<Rc<Split>>,
}

impl Budget {
    /// The limits of these accounts together: the client's own, and then its group's.
    #[must_use]
    pub fn new(accounts: impl IntoIterator<Item = Rc<Account>>) -> Self {
        let accounts = accounts.into_iter().filter(|account| !account.limits.is_empty()).collect();
        Self { accounts, splits: Vec::new() }
    }

    /// Those of its accounts that a fleet shares.
    pub fn shared(&self) -> impl Iterator<Item = &Rc<Account>> {
        self.accounts.iter().filter(|account| account.is_shared())
    }

    /// Whether there is no limit at all.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.accounts.is_empty() && self.splits.is_empty()
    }
}

/// A store's answer to a [`Claim`].
#[derive(Debug, PartialEq, Eq)]
pub enum Grant {
    /// Taken.
    Granted(Granted),
    /// Not taken; with where the tightest limits stand, and how many values had to be forgotten all the same.
    Refused(Denial, Standing, u64),
}

/// What a claim got.
#[derive(Debug, PartialEq, Eq)]
pub struct Granted {
    /// What was taken.
    pub reservation: Reservation,
    /// Where the tightest limits stand now.
    pub standing: Standing,
    /// The labels of the limits that would have refused it, if they were not only to report that.
    pub shadow_refusals: Vec<Rc<str>>,
    /// How many values had to be forgotten for it that had used something.
    pub forgotten: u64,
}

/// Why a limit refuses, and for how long.
struct Refusal {
    denial: Denial,
    wait: Duration,
}

/// A slot is asked for again after this: nobody knows when one will be free.
const SLOT_BACK_OFF: Duration = Duration::from_secs(1);

impl Refusal {
    /// What a limit without room says.
    fn of(limit: &Measured, entry: &record::Entry, room: Room, needed: u64) -> Option<Self> {
        let allowance = limit.allowance.clone();
        let (denial, wait) = match room {
            Room::Now => return None,
            Room::Never => (Denial::NeverFits { allowance, needed }, Duration::MAX),
            Room::After(wait) => {
                let remaining = limit.remaining(entry);
                let denial = match allowance.measure {
                    Measure::Quota(..) => Denial::QuotaExhausted { allowance, needed, remaining, wait },
                    Measure::Rate(..) | Measure::Concurrent => {
                        Denial::RateExhausted { allowance, needed, remaining, wait }
                    }
                };
                (denial, wait)
            }
            Room::WhenOneEnds => (Denial::TooManyAtOnce { allowance, wait: SLOT_BACK_OFF }, SLOT_BACK_OFF),
        };
        Some(Self { denial, wait })
    }

    /// The one that holds longer; of equals the first.
    fn or_longer(self, other: Self) -> Self {
        if other.wait > self.wait { other } else { self }
    }
}

/// What one account says to a claim.
#[derive(Default)]
struct Verdict {
    refusal: Option<Refusal>,
    standing: Standing,
    shadow_refusals: Vec<Rc<str>>,
    /// Whether the leases of this process do not cover it.
    lacks: bool,
    /// Whether the record is to be written, though it refuses.
    writes: bool,
    /// Whether nobody has called for this account yet.
    enlists: bool,
}

/// Asks every limit of an account that has the request in its scope. `record` is left with what is taken, whatever the
/// verdict.
fn ask(
    (at, account): (usize, &Account),
    record: &mut Record,
    claim: &Claim,
    taken: &mut Vec<Taken>,
    now: u64,
) -> Verdict {
    let mut verdict = Verdict::default();
    for (place, limit) in account.limits.iter().enumerate() {
        if !claim.meets(limit) {
            continue;
        }
        let amount = claim.of(limit.allowance.measure);
        let entry = limit.now(record.find(limit.id(), place), now);
        let room = limit.room(&entry, amount, now);
        if limit.allowance.shadow && room != Room::Now {
            // What it refuses, it would not have been charged for.
            verdict.shadow_refusals.push(limit.allowance.word.clone());
            record.set(entry, place);
            continue;
        }
        if let Some(refusal) = Refusal::of(limit, &entry, room, amount) {
            verdict.refusal = Some(match verdict.refusal.take() {
                Some(first) => first.or_longer(refusal),
                None => refusal,
            });
        }
        let left = limit.take(entry, amount, now);
        taken.push(Taken { account: at, limit: place, amount, window: left.at });
        record.set(left, place);
        verdict.standing.note(limit, &left, now);
    }
    verdict
}

/// What came of a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is decided.
    Decided(Grant),
    /// The fleet's store has to be asked first: then the claim is made again.
    Uncovered(Claim),
}

/// Takes what a claim asks from all limits of its budget that have it in their scope, or from none. What the leases of
/// this process do not cover is refused.
pub fn reserve(moment: Moment<'_>, claim: Claim) -> Result<Grant, StoreFault> {
    match reserve_or(moment, claim, Uncovered::IsRefused)? {
        Outcome::Decided(grant) => Ok(grant),
        Outcome::Uncovered(_) => Err(StoreFault::Unavailable),
    }
}

/// The same; `uncovered` says what becomes of what leases do not cover.
pub fn reserve_or(moment: Moment<'_>, claim: Claim, uncovered: Uncovered) -> Result<Outcome, StoreFault> {
    let time = nanos(moment.now);
    if uncovered == Uncovered::WaitsOn && lacks_still(moment, &claim)? {
        return Ok(Outcome::Uncovered(claim));
    }
    let limits = claim.budget.accounts.iter().map(|account| account.limits.len()).sum();
    let mut taken = Vec::with_capacity(limits);
    let (mut standing, mut shadow_refusals, mut forgotten) = (Standing::default(), Vec::new(), 0);
    for (at, account) in claim.budget.accounts.iter().enumerate() {
        if !account.limits.iter().any(|limit| claim.part.has(&limit.allowance)) {
            continue;
        }
        let before = taken.len();
        let outcome = cells::update_and_tell(moment, &account.key, |stored| {
            taken.truncate(before);
            let mut record = account.read(stored);
            let verdict = if account.is_shared() {
                leases::ask((at, account), &mut record, &claim, &mut taken, time, uncovered)
            } else {
                ask((at, account), &mut record, &claim, &mut taken, time)
            };
            let none = verdict.shadow_refusals.is_empty() && taken.len() == before;
            if !verdict.writes && (verdict.refusal.is_some() || none) {
                return (None, verdict);
            }
            let clock = record.clock(time);
            tidy(&mut record, &account.limits, clock);
            (Some(record.into_bytes()), verdict)
        });
        let enlisted = match &outcome {
            Ok((Verdict { enlists: true, .. }, _)) => leases::enlist(moment.store, account),
            _ => Ok(()),
        };
        let refusal = match enlisted.and(outcome) {
            Ok((
                Verdict {
                    refusal: None, lacks: false, standing: found, shadow_refusals: found_shadows, ..
                },
                lost,
            )) => {
                standing.join(&found);
                shadow_refusals.extend(found_shadows);
                forgotten += lost;
                continue;
            }
            Ok((Verdict { refusal: None, .. }, _)) => Ok(None),
            Ok((Verdict { refusal: Some(refusal), .. }, _)) => Ok(Some(refusal)),
            Err(fault) => Err(fault),
        };
        taken.truncate(before);
        forgotten += give_back(moment, &claim, taken)?;
        let Some(refusal) = refusal? else {
            let others = claim.budget.accounts.iter().enumerate().skip(at + 1);
            for (at, other) in others.filter(|(_, other)| other.is_shared()) {
                let verdict = leases::note(moment, (at, other), &claim, uncovered)?;
                if let Some(refusal) = verdict.refusal {
                    // There is nothing to wait for.
                    return Ok(Outcome::Decided(refuse(moment, &claim, (at, refusal), forgotten)));
                }
            }
            return Ok(Outcome::Uncovered(claim));
        };
        return Ok(Outcome::Decided(refuse(moment, &claim, (at, refusal), forgotten)));
    }
    let reservation = Reservation { budget: claim.budget, tokens: claim.usage.total(), taken };
    Ok(Outcome::Decided(Grant::Granted(Granted { reservation, standing, shadow_refusals, forgotten })))
}

/// Whether a claim that waits for the fleet's store lacks something of any account and is refused by none. So nothing is taken of
/// one account to be given back, each time that somebody looks.
fn lacks_still(moment: Moment<'_>, claim: &Claim) -> Result<bool, StoreFault> {
    let shared = || claim.budget.accounts.iter().enumerate().filter(|(_, account)| account.is_shared());
    // What one account lacks is seen when it is asked.
    if shared().nth(1).is_none() {
        return Ok(false);
    }
    let mut lacks = false;
    for (at, account) in shared() {
        let verdict = leases::note(moment, (at, account), claim, Uncovered::WaitsOn)?;
        if verdict.refusal.is_some() {
            return Ok(false);
        }
        lacks |= verdict.lacks;
    }
    Ok(lacks)
}

/// Drops from an account's record what other configurations left behind and nobody needs any more.
fn tidy(record: &mut Record, own: &[Measured], now: u64) {
    if record.len() > own.len() {
        let is_own = |entry: &record::Entry| own.iter().any(|limit| limit.id() == entry.id);
        let outlives =
            |entry: &record::Entry, is_idle| Measured::outlives_its_configuration(entry, is_idle, now);
        record.tidy(is_own, outlives, now);
    }
}

/// Gives back what earlier accounts gave.
fn give_back(moment: Moment<'_>, claim: &Claim, taken: Vec<Taken>) -> Result<u64, StoreFault> {
    let settlement = Settlement { budget: claim.budget.clone(), taken, spent: Spent::default() };
    give_to_each(moment, &settlement)
}

/// Words a refusal by the account at `at`, once the later ones have said whether they would refuse for longer: what a
/// client is told to wait must be enough for all. The earlier ones had room.
fn refuse(moment: Moment<'_>, claim: &Claim, (at, refusal): (usize, Refusal), forgotten: u64) -> Grant {
    let mut worst = refusal;
    for (at, account) in claim.budget.accounts.iter().enumerate().skip(at + 1) {
        // An account that cannot be read moment.now has nothing to add: it is a refusal already.
        let Ok(stored) = cells::load(moment.store, &account.key) else { continue };
        let mut record = account.read(&stored);
        let verdict = if account.is_shared() {
            let uncovered = Uncovered::Waits;
            leases::ask((at, account), &mut record, claim, &mut Vec::new(), nanos(moment.now), uncovered)
        } else {
            ask((at, account), &mut record, claim, &mut Vec::new(), nanos(moment.now))
        };
        worst = match verdict.refusal {
            Some(other) => worst.or_longer(other),
            None => worst,
        };
    }
    // It is refused all the same: then it is told of by what is used.
    let _ = claim.budget.note_refusal(moment, &worst.denial);
    let (budget, model) = (claim.budget.clone(), claim.model.clone());
    let inquiry = Inquiry { budget, model, operation: claim.operation };
    let report = read(moment, &inquiry).unwrap_or_default();
    Grant::Refused(worst.denial, report.standing, forgotten)
}

/// Corrects a budget by what a request really cost, and returns its slots. Answers how many values had to be forgotten for it.
pub fn settle(moment: Moment<'_>, settlement: &Settlement) -> Result<u64, StoreFault> {
    give_to_each(moment, settlement)
}

/// One account that fails does not keep the others from what is due to them; the first fault is told.
fn give_to_each(moment: Moment<'_>, settlement: &Settlement) -> Result<u64, StoreFault> {
    let mut outcome = Ok(0);
    for at in 0..settlement.budget.accounts.len() {
        let settled = settle_account(moment, settlement, at);
        outcome = outcome.and_then(|sum| Ok(sum + settled?));
    }
    outcome
}

fn settle_account(moment: Moment<'_>, settlement: &Settlement, at: usize) -> Result<u64, StoreFault> {
    let Some(account) = settlement.budget.accounts.get(at) else { return Ok(0) };
    let due = |taken: &&Taken| {
        let limit = account.limits.get(taken.limit).filter(|_| taken.account == at)?;
        let measure = limit.allowance.measure;
        let back = i128::from(taken.amount) - i128::from(settlement.spent.of(measure));
        (back != 0).then_some((limit, back))
    };
    if !settlement.taken.iter().any(|taken| due(&taken).is_some()) {
        return Ok(0);
    }
    let (enlists, forgotten) = again_while_contended(|| {
        cells::update_and_tell(moment, &account.key, |stored| {
            let mut record = account.read(stored);
            let clock = record.clock(nanos(moment.now));
            let mut leased = account.is_shared().then(|| record.unshare());
            for taken in &settlement.taken {
                let Some((limit, back)) = due(&taken) else { continue };
                let entry = match record.find(limit.id(), taken.limit) {
                    // What nothing was taken from may not have been touched yet, nor what another process took from.
                    found if taken.amount == 0 || account.is_shared() => limit.now(found, clock),
                    Some(entry) => entry,
                    // All of it was there again, so there was no room for its record. What was used beyond the reservation is due.
                    None if back < 0 && split::Mark::of_key(&account.key).is_some() => limit.now(None, clock),
                    // It has been dropped with all that was in it.
                    None => continue,
                };
                if let Some(leased) = &mut leased {
                    leased.give(limit, &entry, back, taken.window);
                }
                record.set(limit.give(entry, back, taken.window, clock), taken.limit);
            }
            let enlists = leased.is_some_and(|mut leased| {
                let enlists = leases::touch(&mut leased.head, nanos(moment.now));
                record.share(leased);
                enlists
            });
            (Some(record.into_bytes()), enlists)
        })
    })?;
    if enlists {
        leases::enlist(moment.store, account)?;
    }
    Ok(forgotten)
}

/// Returns the slots of a reservation whose VM died, from what [`Reservation::slots`] said of it.
pub fn return_slots(moment: Moment<'_>, slots: &str) -> Result<(), StoreFault> {
    let read = |slot: &'_ str| {
        let (key, id) = slot.split_once(' ')?;
        Some((key.to_owned(), u64::from_str_radix(id, 16).ok()?))
    };
    let mut outcome = Ok(());
    for (key, id) in slots.split(',').filter_map(read) {
        outcome = outcome.and(again_while_contended(|| {
            cells::update(moment, &key, |stored| {
                let mut record = Record::read(stored);
                let Some(entry) = record.find(id, 0) else { return (None, ()) };
                record.set(measured::return_slot(entry), 0);
                record.return_place(id);
                (Some(record.into_bytes()), ())
            })
        }));
    }
    outcome
}

/// What is owed must arrive, however many others write at the same time.
fn again_while_contended<T>(mut write: impl FnMut() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
    let mut outcome = Err(StoreFault::Contended);
    for _ in 0..GIVE_BACK_TRIES {
        outcome = write();
        if !matches!(outcome, Err(StoreFault::Contended)) {
            break;
        }
    }
    outcome
}

#[cfg(test)]
mod tests;
