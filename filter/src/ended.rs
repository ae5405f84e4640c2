//! Tells a store what is owed to it by a configuration that is no more.
//!
//! A configuration calls its store on its own tick, which ends with it. If the one that comes next has another store, or not all of
//! its clients, those that are still there call in its place, until there is nothing to tell.

use crate::fleet::{self, Accounts};
use crate::host::{self, SharedData};
use crate::spending;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tollgate::gateway::{FleetStore, Gateway};
use tollgate::limits::leases;

/// So long a store that does not answer is tried.
const TOLD_FOR: Duration = Duration::from_secs(60);

thread_local! {
    /// The configurations of this VM with a store, and those that have ended while there was still something to tell.
    static CONFIGURED: RefCell<Vec<Configured>> = const { RefCell::new(Vec::new()) };
}

/// A configuration with a store.
#[derive(Clone)]
struct Configured {
    gateway: Rc<Gateway>,
    accounts: Rc<Accounts>,
    /// When its store answered last, if it has ended; at first, when that was seen.
    heard: Option<Duration>,
}

/// Begins with a configuration.
pub(crate) fn configured(gateway: &Rc<Gateway>, accounts: &Rc<Accounts>) {
    if gateway.store.is_some() {
        let (gateway, accounts) = (gateway.clone(), accounts.clone());
        CONFIGURED.with_borrow_mut(|all| all.push(Configured { gateway, accounts, heard: None }));
    }
}

/// Calls for those that have ended.
pub(crate) fn tick() {
    let all = CONFIGURED.with_borrow(Clone::clone);
    // One is in the list, another in this copy of it, and a root context that is still there has one more.
    let is_running = |one: &Configured| Rc::strong_count(&one.accounts) > 2;
    if all.iter().all(is_running) {
        return;
    }
    let now = host::now();
    let (running, ended): (Vec<_>, Vec<_>) = all.into_iter().partition(is_running);
    let ended = ended.into_iter().filter_map(|one| one.settle(&running, now));
    let all = running.iter().cloned().chain(ended).collect();
    CONFIGURED.set(all);
}

impl Configured {
    /// Tells its store what it has to. `None` once that is nothing any more, or nobody has heard it for too long.
    fn settle(self, running: &[Self], now: Duration) -> Option<Self> {
        let heard = self.heard.unwrap_or(now);
        let mut own = Self { heard: Some(heard), ..self };
        if !own.accounts.are_due(now) {
            return Some(own);
        }
        let store = own.gateway.store.clone()?;
        let others: Vec<_> = running.iter().filter(|other| other.store_of(&store).is_some()).collect();
        let is_anothers = |key: &String| others.iter().any(|other| other.account(key).is_some());
        let keys = host::answered(leases::active(&SharedData, store.fleet()), fleet::UNKEPT)?;
        let left: Vec<_> =
            keys.iter().filter(|key| !is_anothers(key)).filter_map(|key| own.account(key)).collect();
        let keeps_spend =
            |other: &&Self| other.store_of(&store).is_some_and(|store| store.spend_days.is_some());
        let tells_spend = store.spend_days.is_some()
            && !others.iter().any(keeps_spend)
            && host::answered(store.book().is_told(&SharedData), spending::UNKEPT) == Some(false);
        if left.is_empty() && !tells_spend {
            return None;
        }
        if !fleet::fails(&store, now) {
            own.heard = Some(now);
        } else if now.abs_diff(heard) > TOLD_FOR {
            let FleetStore { prefix, cluster, .. } = &*store;
            log::error!(
                "the configuration with the store {prefix} behind cluster {cluster} is gone, and not all that is owed to it \
                 could be told: the rest is told once a configuration with that store is pushed again"
            );
            return None;
        }
        // Whichever VM calls the store on its tick: it need not know these accounts. What one has called for is not due for another.
        fleet::call_for(&own.gateway, left, tells_spend, now);
        Some(own)
    }

    /// Its store, if it is this one.
    fn store_of(&self, store: &FleetStore) -> Option<&FleetStore> {
        self.gateway.store.as_deref().filter(|other| other.fleet() == store.fleet())
    }

    /// Its account of this key.
    fn account(&self, key: &str) -> Option<Rc<tollgate::limits::Account>> {
        self.accounts.find(&self.gateway, key)
    }
}
