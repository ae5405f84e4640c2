//! Of which limits is so much used in their window that somebody wants to be told?
//!
//! One VM looks from time to time, and no request pays for it. What was told stands in one record of the store, so it is told once in a
//! window. A limit without room for a request refuses it before all is used: that is noted as it happens, and counts as all.

use super::measured::Measured;
use super::{Account, Budget, cells};
use crate::allowance::Allowance;
use crate::codec::{self, Reader, Stored, Writer};
use crate::denial::Denial;
use crate::store::{self, Moment, Store, StoreFault};
use crate::time::nanos;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

/// Where it stands what was told.
const KEY: &str = "tollgate/alerts";

/// One limit in one window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Window {
    account: String,
    limit: u64,
    began: u64,
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reached {
    window: Window,
    /// Whether it has refused a request.
    is_refusing: bool,
    /// In percent; 0 if nothing was told.
    told: u8,
}

impl Stored for Reached {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let window = Window { account: from.text()?.to_owned(), limit: from.u64()?, began: from.u64()? };
        Some(Self { window, is_refusing: from.u8()? != 0, told: from.u8()? })
    }

    fn write(&self, to: &mut Writer) {
        to.text(&self.window.account);
        to.u64(self.window.limit);
        to.u64(self.window.began);
        to.u8(u8::from(self.is_refusing));
        to.u8(self.told);
    }
}

/// That a limit has come to what somebody wants to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Whose limit: `client/web-shop`.
    pub account: String,
    /// Which.
    pub allowance: Rc<Allowance>,
    /// What is used of it.
    pub used: u64,
    /// Of how many percent it was to be told.
    pub percent: u8,
}

impl fmt::Display for Alert {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, allowance, used, percent } = self;
        let text = |amount| allowance.measure.unit().map(|unit| unit.text(amount)).unwrap_or_default();
        let (used, size, word) = (text(*used), text(allowance.amount.get()), &allowance.word);
        write!(formatter, "alert of {percent} % for {account}: {used} of {size} used of its limit {word}")
    }
}

impl Account {
    /// The limits that somebody wants to be told of, each in its window, with what is used.
    fn watched(&self, moment: Moment<'_>) -> Result<Vec<(Window, u64, &Measured)>, StoreFault> {
        let record = self.read(&cells::load(moment.store, &self.key)?);
        let now = record.clock(nanos(moment.now));
        let watched = self.limits.iter().enumerate().filter(|(_, limit)| !limit.allowance.alerts.is_empty());
        let found = watched.map(|(place, limit)| {
            let entry = limit.now(record.find(limit.id(), place), now);
            let window = Window { account: self.key.clone(), limit: limit.id(), began: entry.at };
            (window, limit.used(&entry), limit)
        });
        Ok(found.collect())
    }
}

/// What is to be told now of these accounts, and was not told before. Of others, and of windows that are over, nothing is known afterwards.
pub fn look<'a>(
    moment: Moment<'_>,
    accounts: impl Iterator<Item = &'a Rc<Account>>,
) -> Result<Vec<Alert>, StoreFault> {
    let mut watched = Vec::new();
    for account in accounts {
        watched.extend(account.watched(moment)?);
    }
    store::update(moment.store, KEY, |stored| {
        let before: Vec<Reached> = codec::decode_all(stored);
        let known: HashMap<&Window, &Reached> =
            before.iter().map(|reached| (&reached.window, reached)).collect();
        let (mut after, mut alerts) = (Vec::new(), Vec::new());
        for (window, used, limit) in &watched {
            let (is_refusing, told) =
                known.get(window).map_or((false, 0), |known| (known.is_refusing, known.told));
            let is_reached = |percent: &&u8| {
                is_refusing || u128::from(*used) * 100 >= u128::from(limit.amount()) * u128::from(**percent)
            };
            let percent = limit.allowance.alerts.iter().filter(is_reached).max().copied().unwrap_or(0);
            if percent > told {
                let account = window.account.splitn(3, '/').last().unwrap_or_default().to_owned();
                alerts.push(Alert { account, allowance: limit.allowance.clone(), used: *used, percent });
            }
            if is_refusing || told.max(percent) > 0 {
                after.push(Reached { window: window.clone(), is_refusing, told: told.max(percent) });
            }
        }
        ((after != before).then(|| codec::encode_all(&after)), alerts)
    })
}

/// What was told of the limits of each account.
#[derive(Debug, Default)]
pub struct Told(HashMap<String, BTreeMap<u64, u8>>);

/// Reads it.
pub fn told(store: &dyn Store) -> Result<Told, StoreFault> {
    let reached: Vec<Reached> = codec::decode_all(&store.load(KEY)?.value);
    let mut all: HashMap<String, BTreeMap<u64, u8>> = HashMap::new();
    for Reached { window: Window { account, limit, .. }, told, .. } in reached {
        let most = all.entry(account).or_default().entry(limit).or_insert(0);
        *most = told.max(*most);
    }
    Ok(Told(all))
}

impl Budget {
    /// Those of its accounts with limits that somebody wants to be told of.
    pub fn watched(&self) -> impl Iterator<Item = &Rc<Account>> {
        let alerts = |limit: &Measured| !limit.allowance.alerts.is_empty();
        self.accounts.iter().filter(move |account| account.limits.iter().any(alerts))
    }

    /// What was told of its limits in percent, by their labels: of those that share one, the most.
    #[must_use]
    pub fn alerted(&self, told: &Told) -> BTreeMap<Rc<str>, u8> {
        let mut found = BTreeMap::new();
        for account in &self.accounts {
            let of_account = told.0.get(&account.key);
            for limit in account.limits.iter().filter(|limit| !limit.allowance.alerts.is_empty()) {
                let percent = of_account.and_then(|told| told.get(&limit.id())).copied();
                let most = found.entry(limit.allowance.word.clone()).or_insert(0);
                *most = percent.unwrap_or(0).max(*most);
            }
        }
        found
    }

    /// Notes that a limit has refused a request, if somebody wants to be told of it.
    pub(super) fn note_refusal(&self, moment: Moment<'_>, denial: &Denial) -> Result<(), StoreFault> {
        let Denial::QuotaExhausted { allowance, .. } = denial else { return Ok(()) };
        if allowance.alerts.is_empty() {
            return Ok(());
        }
        let has_it = |account: &&Rc<Account>| {
            account.limits.iter().any(|limit| Rc::ptr_eq(&limit.allowance, allowance))
        };
        let Some(account) = self.accounts.iter().find(has_it) else { return Ok(()) };
        let watched = account.watched(moment)?;
        let is_it = |(_, _, limit): &(Window, u64, &Measured)| Rc::ptr_eq(&limit.allowance, allowance);
        let Some((window, ..)) = watched.into_iter().find(is_it) else { return Ok(()) };
        store::update(moment.store, KEY, |stored| {
            let mut reached: Vec<Reached> = codec::decode_all(stored);
            match reached.iter_mut().find(|reached| reached.window == window) {
                Some(known) if known.is_refusing => return (None, ()),
                Some(known) => known.is_refusing = true,
                None => reached.push(Reached { window: window.clone(), is_refusing: true, told: 0 }),
            }
            (Some(codec::encode_all(&reached)), ())
        })
    }
}

#[cfg(test)]
mod tests;
