//! What was taken for work that goes on after its exchange has ended: written as bytes, and settled by whoever learns
//! what it came to, perhaps in another VM and under another configuration.
//!
//! Not decided here: where the bytes are kept.

use super::{Account, Budget, Measure, Reservation, Settlement, Spent, Taken, nanos};
use crate::endpoint::Operation;
use std::rc::Rc;
use std::time::Duration;

/// What one limit gave, found again by what it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeptTaken {
    limit_id: u64,
    amount: u64,
    window: u64,
}

/// What was taken from accounts and stays taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(Vec<(String, Vec<KeptTaken>)>);

impl Reservation {
    /// What stays taken if the work goes on after its exchange: all but a place among those under way at a time.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let mut kept = Kept::default();
        for taken in &self.taken {
            let Some(account) = self.budget.accounts.get(taken.account) else { continue };
            let Some(limit) = account.limits.get(taken.limit) else { continue };
            if limit.allowance.measure == Measure::Concurrent {
                continue;
            }
            let entry = KeptTaken { limit_id: limit.id(), amount: taken.amount, window: taken.window };
            match kept.0.iter_mut().find(|(key, _)| *key == account.key) {
                Some((_, entries)) => entries.push(entry),
                None => kept.0.push((account.key.clone(), vec![entry])),
            }
        }
        kept
    }

    /// Turns it into the debt of its places alone: what is [kept](Self::kept) of it is settled later.
    pub fn give_back_places(self) -> Settlement {
        let Self { budget, mut taken, .. } = self;
        taken.retain(|taken| {
            let account = budget.accounts.get(taken.account);
            let limit = account.and_then(|account| account.limits.get(taken.limit));
            limit.is_some_and(|limit| limit.allowance.measure == Measure::Concurrent)
        });
        Settlement { budget, taken, spent: Spent::default() }
    }
}

impl Kept {
    /// Both together.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// As bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        for (key, entries) in &self.0 {
            bytes.extend_from_slice(&length(key.len()));
            bytes.extend_from_slice(key.as_bytes());
            bytes.extend_from_slice(&length(entries.len()));
            for KeptTaken { limit_id, amount, window } in entries {
                for number in [limit_id, amount, window] {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        bytes
    }

    /// What [`Kept::write`] wrote; `None` for other bytes.
    #[must_use]
    pub fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut accounts = Vec::new();
        while !bytes.is_empty() {
            let key = read_length(&mut bytes)?;
            let (key, rest) = bytes.split_at_checked(key)?;
            bytes = rest;
            let entries = read_length(&mut bytes)?;
            let mut read_entry = || {
                let [limit_id, amount, window] =
                    [read_number(&mut bytes)?, read_number(&mut bytes)?, read_number(&mut bytes)?];
                Some(KeptTaken { limit_id, amount, window })
            };
            let entries = (0..entries).map(|_| read_entry()).collect::<Option<Vec<_>>>()?;
            accounts.push((std::str::from_utf8(key).ok()?.to_owned(), entries));
        }
        Some(Self(accounts))
    }

    /// Turns it into the debt that the store is to be told. `find` answers the account of a key; what is not configured any
    /// more is owed nothing.
    pub fn settle(&self, find: impl Fn(&str) -> Option<Rc<Account>>, spent: Spent) -> Settlement {
        let (mut accounts, mut taken) = (Vec::new(), Vec::new());
        for (key, entries) in &self.0 {
            let Some(account) = find(key) else { continue };
            for KeptTaken { limit_id, amount, window } in entries {
                if let Some(limit) = account.limits.iter().position(|limit| limit.id() == *limit_id) {
                    taken.push(Taken { account: accounts.len(), limit, amount: *amount, window: *window });
                }
            }
            accounts.push(account);
        }
        Settlement { budget: Rc::new(Budget { accounts }), taken, spent }
    }
}

impl Budget {
    /// Its account of this key.
    #[must_use]
    pub fn account(&self, key: &str) -> Option<Rc<Account>> {
        self.accounts.iter().find(|account| account.key == key).cloned()
    }

    /// The debt of work for which nothing was taken: it is due from all limits that have it in their scope, as they stand
    /// now, whether they have room or not.
    pub fn charge(
        self: &Rc<Self>,
        model: Option<&str>,
        operation: Operation,
        spent: Spent,
        now: Duration,
    ) -> Settlement {
        let mut taken = Vec::new();
        for (at, account) in self.accounts.iter().enumerate() {
            for (place, limit) in account.limits.iter().enumerate() {
                if limit.allowance.scope.has(model, operation) {
                    let window = limit.now(None, nanos(now)).at;
                    taken.push(Taken { account: at, limit: place, amount: 0, window });
                }
            }
        }
        Settlement { budget: self.clone(), taken, spent }
    }
}

/// Keys and limits are as many as a configuration has; beyond this nothing is kept of them.
fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

fn read_length(bytes: &mut &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(usize::from(u16::from_le_bytes(*length)))
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}
