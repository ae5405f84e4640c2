//! What was taken for work that goes on after its exchange has ended: written as bytes, and settled by whoever learns
//! what it came to, perhaps in another VM and under another configuration.
//!
//! Not decided here: where the bytes are kept.

use super::split::Mark;
use super::{Account, Budget, Measure, Reservation, Settlement, Spent, Taken, is_of_spill};
use crate::codec::{Reader, Stored, Writer};
use crate::endpoint::Operation;
use crate::time::nanos;
use std::rc::Rc;
use std::time::Duration;

/// What one limit gave, found again by what it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeptTaken {
    limit_id: u64,
    amount: u64,
    window: u64,
}

/// What one account gave.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeptAccount {
    key: String,
    taken: Vec<KeptTaken>,
}

/// What was taken from accounts and stays taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(Vec<KeptAccount>);

impl Stored for KeptTaken {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { limit_id: from.u64()?, amount: from.u64()?, window: from.u64()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.limit_id);
        to.u64(self.amount);
        to.u64(self.window);
    }
}

impl Stored for KeptAccount {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { key: from.text()?.to_owned(), taken: from.values()? })
    }

    fn write(&self, to: &mut Writer) {
        to.text(&self.key);
        to.values(&self.taken);
    }
}

impl Stored for Kept {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.values().map(Self)
    }

    fn write(&self, to: &mut Writer) {
        to.values(&self.0);
    }
}

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
            match kept.0.iter_mut().find(|kept| kept.key == account.key) {
                Some(kept) => kept.taken.push(entry),
                None => kept.0.push(KeptAccount { key: account.key.clone(), taken: vec![entry] }),
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
    /// Whether nothing was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|account| account.taken.is_empty())
    }

    /// Whether any of it was taken from whoever asks, and not only from what may spill.
    #[must_use]
    pub fn is_of_a_budget(&self) -> bool {
        self.0.iter().any(|account| !account.taken.is_empty() && !is_of_spill(&account.key))
    }

    /// Both together.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Turns it into the debt that the store is to be told. `find` answers the account of a key; what is not configured any
    /// more is owed nothing.
    pub fn settle(&self, find: impl Fn(&str) -> Option<Rc<Account>>, spent: Spent) -> Settlement {
        let (mut accounts, mut taken) = (Vec::new(), Vec::new());
        for KeptAccount { key, taken: entries } in &self.0 {
            let Some(account) = find(key) else { continue };
            for KeptTaken { limit_id, amount, window } in entries {
                if let Some(limit) = account.limits.iter().position(|limit| limit.id() == *limit_id) {
                    taken.push(Taken { account: accounts.len(), limit, amount: *amount, window: *window });
                }
            }
            accounts.push(account);
        }
        Settlement { budget: Rc::new(Budget { accounts, splits: Vec::new() }), taken, spent }
    }
}

impl Budget {
    /// Its account of this key.
    #[must_use]
    pub fn account(&self, key: &str) -> Option<Rc<Account>> {
        let own = self.accounts.iter().find(|account| account.key == key).cloned();
        own.or_else(|| self.account_of_value(key))
    }

    /// Whose values it has, with nothing taken from them: for work that goes on and that nothing was taken for.
    #[must_use]
    pub fn kept_values(&self) -> Kept {
        let values = self.accounts.iter().filter(|account| Mark::of_key(&account.key).is_some());
        Kept(values.map(|account| KeptAccount { key: account.key.clone(), taken: Vec::new() }).collect())
    }

    /// What whoever asked for work meets of it, by what was kept of that.
    #[must_use]
    pub fn of_kept(self: &Rc<Self>, kept: &Kept) -> Rc<Self> {
        self.known(|split| kept.0.iter().find_map(|account| split.account_of_key(&account.key)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::law;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_law_of_stored_values_holds() {
        let taken = |amount| KeptTaken { limit_id: u64::MAX, amount, window: 1_795_000_000_000_000_000 };
        let account = |key: &str, taken| KeptAccount { key: key.into(), taken };
        let two = vec![account("tollgate/limits/client/web", vec![taken(3), taken(0)]), account("", vec![])];
        let kept = |key: &str, taken| Kept(vec![account(key, taken)]);
        let (spill, client) = ("tollgate/fleet/1f2e3d4c/spill/m", "tollgate/limits/client/web");
        let mut both = kept(spill, vec![taken(1)]);
        assert!(!both.is_of_a_budget());
        both.join(kept(client, Vec::new()));
        assert!(!both.is_of_a_budget());
        both.join(kept(client, vec![taken(1)]));
        assert!(both.is_of_a_budget());
        law::holds("kept", &[Kept(two), Kept::default()]);
    }
}
