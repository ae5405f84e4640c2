//! Calls the fleet's store, through Envoy's clusters, and lets those go on who waited for it.
//!
//! A request that its leases do not cover waits for one call, with all others of this worker that lack the same. The tick
//! makes one VM of the process call for all accounts that hold something.
//!
//! All calls are made in the name of the root context. Envoy ends a call of a stream with that stream, and others wait for its
//! reply. A message to a queue of this VM's own brings the root context, as soon as the stream's callback is over.

use crate::host::{self, SharedData};
use crate::{journal, spending, waiting};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::time::Duration;
use tollgate::capacity::shared as capacity;
use tollgate::gateway::{Beside, FleetStore, Gateway, OnStoreFailure, Replies, StoreTrouble};
use tollgate::gauge::Gauge;
use tollgate::leader::leads;
use tollgate::ledger::Series;
use tollgate::limits::leases::{self, Call, Due, Health, TERM, TICK, Uncovered};
use tollgate::limits::{self, Account, Budget, Claim, Grant, Outcome};
use tollgate::route::SharedPauses;
use tollgate::store::{Moment, StoreFault};

/// What the log says where the memory of this process does not answer.
pub(crate) const UNKEPT: &str = "the leases of the fleet's budgets could not be kept";

/// The same of its pauses.
const UNPAUSED: &str = "the pauses of backends could not be shared";

/// The same of the use of their capacity.
const UNSHARED: &str = "the use of backends' capacity could not be shared";

/// How much longer than one call a request waits, for others to return what they hold.
const RECALL: Duration = TICK.saturating_mul(3);

thread_local! {
    static UNDER_WAY: RefCell<HashMap<u32, Batch>> = RefCell::default();
    /// The accounts that requests lack something of, until the root context comes.
    static WANTED: RefCell<Vec<(Rc<Gateway>, Rc<Account>)>> = RefCell::default();
    /// This VM's queue.
    static QUEUE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A call, about several accounts.
struct Batch {
    gateway: Rc<Gateway>,
    calls: Vec<(Rc<Account>, Call)>,
    /// What it says beside them, and who did, on a tick.
    beside: Beside,
    teller: Option<Teller>,
    sent: Duration,
    /// Whether it brings the scripts along.
    loads: bool,
}

/// Who tells the others of backends.
#[derive(Clone, Default)]
struct Teller {
    /// The pauses that the others know of.
    pauses: Rc<RefCell<SharedPauses>>,
    /// The capacities that are declared.
    gauges: Rc<[Gauge]>,
}

/// What became of a claim.
pub(crate) enum Reserved {
    /// It is decided.
    Now(Result<Grant, StoreFault>),
    /// The store has to answer first.
    Later(Claim),
}

/// What a configuration's tick calls for.
#[derive(Default)]
pub(crate) struct Accounts {
    by_key: HashMap<String, Rc<Account>>,
    last_tick: Cell<Duration>,
    teller: Teller,
}

/// Begins with a configuration.
pub(crate) fn configured(gateway: &Gateway) -> Accounts {
    // A broker is called likewise.
    if gateway.store.is_some() || gateway.queue.is_some() {
        QUEUE.set(host::queue(&format!("tollgate/fleet/{:x}", journal::vm())));
    }
    if gateway.store.is_some() {
        waiting::set_tick(TICK);
    }
    let teller = Teller { gauges: gateway.gauges().into(), ..Teller::default() };
    Accounts { by_key: gateway.shared_accounts(), teller, ..Accounts::default() }
}

/// Has what is told of a budget be the fleet's within two ticks, though nobody spends of it here.
pub(crate) fn listen(budget: &Budget, moment: Moment<'_>) {
    for account in budget.shared() {
        host::answered(leases::listen(moment, account), UNKEPT);
    }
}

/// Makes a claim. `since` is when the request began to wait for the store, if it does.
pub(crate) fn reserve(
    gateway: &Rc<Gateway>,
    claim: Claim,
    since: Option<Duration>,
    now: Duration,
) -> Reserved {
    let Some(store) = &gateway.store else {
        return Reserved::Now(limits::reserve(Moment::new(&SharedData, now), claim));
    };
    let is_patient = since.is_none_or(|since| now.saturating_sub(since) < store.timeout + RECALL);
    let uncovered = match since {
        None => Uncovered::Waits,
        Some(_) if is_patient => Uncovered::WaitsOn,
        Some(_) => Uncovered::IsRefused,
    };
    match limits::reserve_or(Moment::new(&SharedData, now), claim, uncovered) {
        Ok(Outcome::Decided(grant)) => Reserved::Now(Ok(grant)),
        Ok(Outcome::Uncovered(claim)) => {
            let budget = claim.budget.clone();
            if !fails(store, now) && ask(gateway, budget.shared()) {
                if since.is_none() {
                    host::count(Series::StoreWaits, 1);
                }
                return Reserved::Later(claim);
            }
            without_the_store(gateway, store, claim, now)
        }
        Err(fault) => Reserved::Now(Err(fault)),
    }
}

/// Decides on a claim while the store does not answer.
fn without_the_store(gateway: &Gateway, store: &FleetStore, claim: Claim, now: Duration) -> Reserved {
    let (uncovered, outcome) = match gateway.on_store_failure {
        OnStoreFailure::Share => (Uncovered::Shares { envoys: store.envoys }, "shared"),
        OnStoreFailure::Allow => (Uncovered::IsServed, "allowed"),
        OnStoreFailure::Deny => {
            host::count(Series::StoreUncovered { outcome: "denied" }, 1);
            return Reserved::Now(Err(StoreFault::Unavailable));
        }
    };
    host::count(Series::StoreUncovered { outcome }, 1);
    Reserved::Now(match limits::reserve_or(Moment::new(&SharedData, now), claim, uncovered) {
        Ok(Outcome::Decided(grant)) => Ok(grant),
        Ok(Outcome::Uncovered(_)) => Err(StoreFault::Unavailable),
        Err(fault) => Err(fault),
    })
}

/// Whether the store is known not to answer.
pub(crate) fn fails(store: &FleetStore, now: Duration) -> bool {
    host::answered(Health::load(Moment::new(&SharedData, now), store.fleet()), UNKEPT) == Some(Health::Fails)
}

/// Asks for what these accounts lack, as soon as the root context comes. False if that cannot be.
fn ask<'a>(gateway: &Rc<Gateway>, accounts: impl Iterator<Item = &'a Rc<Account>>) -> bool {
    let Some(queue) = QUEUE.get() else { return false };
    let is_called = WANTED.with_borrow_mut(|wanted| {
        let is_called = !wanted.is_empty();
        for account in accounts {
            if wanted.iter().all(|(_, other)| !Rc::ptr_eq(other, account)) {
                wanted.push((gateway.clone(), account.clone()));
            }
        }
        is_called
    });
    is_called || host::enqueue(queue)
}

/// Brings the root context, as soon as the stream's callback is over. False if that cannot be.
pub(crate) fn ring() -> bool {
    QUEUE.get().is_some_and(host::enqueue)
}

/// Asks for what requests lack. The root context has come.
pub(crate) fn call() {
    if let Some(queue) = QUEUE.get() {
        host::empty_queue(queue);
    }
    let mut wanted = WANTED.take();
    let now = host::now();
    let mut all_sent = true;
    while let Some((gateway, _)) = wanted.first().cloned() {
        let (same, others): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(other, _)| Rc::ptr_eq(other, &gateway));
        wanted = others;
        let Some(store) = &gateway.store else { continue };
        let calls = begun(same.into_iter().map(|(_, account)| account), Due::ForRequests, store, now);
        // Nothing to say is a call that is under way.
        let beside = Beside::default();
        let batch = Batch { gateway: gateway.clone(), calls, beside, teller: None, sent: now, loads: false };
        all_sent &= batch.calls.is_empty() || send(store, batch);
    }
    if !all_sent {
        waiting::wake();
    }
}

fn begun(
    accounts: impl Iterator<Item = Rc<Account>>,
    due: Due,
    store: &FleetStore,
    now: Duration,
) -> Vec<(Rc<Account>, Call)> {
    let Some(holder) = process().map(|process| store.holder(&process)) else { return Vec::new() };
    let begin = |account: Rc<Account>| {
        let call = leases::call(Moment::new(&SharedData, now), &account, (&holder, due), store.timeout * 2);
        host::answered(call, UNKEPT).flatten().map(|call| (account, call))
    };
    accounts.filter_map(begin).collect()
}

fn send(store: &FleetStore, batch: Batch) -> bool {
    let calls = batch.calls.iter().map(|(account, call)| (&**account, call));
    let body = store.request(calls, &batch.beside, batch.loads);
    match host::post(&store.cluster, &store.path, &body, store.timeout) {
        Some(call) => {
            UNDER_WAY.with_borrow_mut(|batches| batches.insert(call, batch));
            true
        }
        None => {
            let now = batch.sent;
            fail(batch, StoreTrouble::Unreached, now);
            false
        }
    }
}

/// The name of this process among the others of the fleet.
fn process() -> Option<String> {
    let new = format!("{:016x}", RandomState::new().build_hasher().finish());
    host::answered(leases::process(&SharedData, &new), UNKEPT)
}

/// Takes what a call has brought. False if it was none of ours.
pub(crate) fn answered(call: u32, headers: usize, body_bytes: usize) -> bool {
    let Some(batch) = UNDER_WAY.with_borrow_mut(|batches| batches.remove(&call)) else { return false };
    let gateway = batch.gateway.clone();
    let Some(store) = &gateway.store else { return true };
    let now = host::now();
    // The SDK's getters do not bear an answer without headers, which is a call that was reset.
    let status = if headers == 0 { None } else { host::fetched_status() };
    let replies = match status {
        Some(200) => {
            let body = host::fetched_body(body_bytes);
            store.replies(&body, batch.calls.len(), &batch.beside, batch.loads)
        }
        _ => Err(StoreTrouble::Unreached),
    };
    match replies {
        Ok(replies) => {
            host::count(Series::StoreCalls { outcome: "ok" }, 1);
            let ms = u64::try_from(now.saturating_sub(batch.sent).as_millis()).unwrap_or(u64::MAX);
            host::count(Series::StoreTime, ms);
            let (mut recalls, mut losses) = (0, 0);
            for ((account, call), reply) in batch.calls.iter().zip(&replies.calls) {
                let times = (batch.sent, now);
                let taken = leases::answered(&SharedData, account, call.number, reply, times);
                match host::answered(taken, UNKEPT) {
                    Some(Some(heard)) => {
                        recalls += heard.recalls;
                        losses += u64::from(heard.has_lost);
                    }
                    Some(None) => {
                        log::error!("the fleet's store answers what was not asked, about {}", account.key());
                    }
                    None => {}
                }
            }
            if recalls > 0 {
                host::count(Series::StoreRecalls, recalls);
            }
            if losses > 0 {
                host::count(Series::StoreLosses, losses);
                log::error!(
                    "the fleet's store has lost what it had told, about {losses} of those who have limits"
                );
            }
            if let Some(teller) = &batch.teller {
                teller.hear(batch.sent, now, &replies);
            }
            if let Some(said) = &batch.beside.spend {
                spending::answered(said, replies.spend.as_deref().unwrap_or_default());
            }
            if is_new(Health::Answers, store, now) {
                log::info!("the fleet's store answers again");
            }
        }
        Err(StoreTrouble::NoScript) if !batch.loads => {
            send(store, Batch { loads: true, ..batch });
        }
        Err(trouble) => fail(batch, trouble, now),
    }
    waiting::wake();
    true
}

/// Notes whether the store answers. True if that is news.
fn is_new(health: Health, store: &FleetStore, now: Duration) -> bool {
    host::answered(health.note(Moment::new(&SharedData, now), store.fleet()), UNKEPT) == Some(true)
}

fn fail(batch: Batch, trouble: StoreTrouble, now: Duration) {
    host::count(Series::StoreCalls { outcome: trouble.word() }, 1);
    for (account, call) in &batch.calls {
        host::answered(leases::failed(&SharedData, account, call.number), UNKEPT);
    }
    if let Some(teller) = &batch.teller {
        teller.pauses.borrow_mut().failed();
    }
    if let Some(said) = &batch.beside.spend {
        host::answered(said.failed(&SharedData), spending::UNKEPT);
    }
    let store = batch.gateway.store.as_ref();
    if store.is_some_and(|store| is_new(Health::Fails, store, now)) {
        log::error!("the fleet's store cannot be used ({}): {}", trouble.word(), trouble.advice());
    }
}

/// Calls for all accounts, if it is time to and no other VM does.
pub(crate) fn tick(gateway: &Rc<Gateway>, accounts: &Accounts) {
    let Some(store) = &gateway.store else { return };
    let now = host::now();
    if !accounts.are_due(now) {
        return;
    }
    let leads = is_ours(store, now);
    if !leads && gateway.joined.is_none() {
        return;
    }
    let Some(keys) = host::answered(leases::active(&SharedData, store.fleet()), UNKEPT) else { return };
    // Those of another configuration are called for by its own tick; those of clients of the store by each VM that has heard of them,
    // for the one that leads may not have.
    let configured = |key: &String| if leads { accounts.by_key.get(key).cloned() } else { None };
    let account = |key: &String| configured(key).or_else(|| gateway.joined_account(key));
    let calls = called_for(keys.iter().filter_map(account).collect(), store, now);
    if !leads {
        if !calls.is_empty() {
            let beside = Beside::default();
            let batch =
                Batch { gateway: gateway.clone(), calls, beside, teller: None, sent: now, loads: false };
            send(store, batch);
        }
        return;
    }
    let (mut beside, is_news) = accounts.teller.say(now);
    beside.spend = spend(store, now);
    // Who serves nobody needs to hear of nothing.
    if !calls.is_empty() || is_news || beside.spend.is_some() {
        let teller = Some(accounts.teller.clone());
        send(store, Batch { gateway: gateway.clone(), calls, beside, teller, sent: now, loads: false });
    }
}

impl Accounts {
    /// The account of this key, if it is one of theirs.
    pub(crate) fn find(&self, gateway: &Gateway, key: &str) -> Option<Rc<Account>> {
        self.by_key.get(key).cloned().or_else(|| gateway.joined_account(key))
    }

    /// Whether their tick has come. One that is a little early is due all the same.
    pub(crate) fn are_due(&self, now: Duration) -> bool {
        let are_due = now.abs_diff(self.last_tick.get()) >= TICK * 3 / 4;
        if are_due {
            self.last_tick.set(now);
        }
        are_due
    }
}

/// Whether this VM of the process calls that store on the tick.
fn is_ours(store: &FleetStore, now: Duration) -> bool {
    let leader = leases::leader(store.fleet());
    host::answered(leads(Moment::new(&SharedData, now), &leader, journal::vm(), TERM), UNKEPT) == Some(true)
}

/// The calls that are due for these accounts. What holds nothing any more is not called for again.
fn called_for(active: Vec<Rc<Account>>, store: &FleetStore, now: Duration) -> Vec<(Rc<Account>, Call)> {
    let calls = begun(active.iter().cloned(), Due::ByTick, store, now);
    let is_called = |account: &Rc<Account>| calls.iter().any(|(other, _)| Rc::ptr_eq(other, account));
    for account in active.iter().filter(|account| !is_called(account)) {
        host::answered(leases::retire(Moment::new(&SharedData, now), account), UNKEPT);
    }
    calls
}

/// What the store is told of what was spent, if it keeps that.
fn spend(store: &FleetStore, now: Duration) -> Option<tollgate::spending::Call> {
    let (days, moment) = (store.spend_days?, Moment::new(&SharedData, now));
    let said = store.book().say(moment, &store.holder(&process()?), store.timeout * 2, days);
    host::answered(said, spending::UNKEPT).flatten()
}

/// Calls for these accounts of a configuration that has no tick of its own any more, and tells what was spent, if nobody else does.
pub(crate) fn call_for(gateway: &Rc<Gateway>, active: Vec<Rc<Account>>, tells_spend: bool, now: Duration) {
    let Some(store) = &gateway.store else { return };
    let calls = called_for(active, store, now);
    let spend = if tells_spend { spend(store, now) } else { None };
    if !calls.is_empty() || spend.is_some() {
        let beside = Beside { spend, ..Beside::default() };
        send(store, Batch { gateway: gateway.clone(), calls, beside, teller: None, sent: now, loads: false });
    }
}

impl Teller {
    /// What the others are told, and whether that alone is worth a call.
    fn say(&self, now: Duration) -> (Beside, bool) {
        let moment = Moment::new(&SharedData, now);
        let pauses = host::answered(self.pauses.borrow_mut().say(moment), UNPAUSED).unwrap_or_default();
        let process = if self.gauges.is_empty() { None } else { process() };
        let said =
            process.and_then(|name| host::answered(capacity::say(moment, &name, &self.gauges), UNSHARED));
        let is_news = !pauses.is_empty() || said.as_ref().is_some_and(|said| said.is_in_use);
        let capacity = said.map(|said| said.words);
        (Beside { pauses: Some(pauses), capacity, spend: None }, is_news)
    }

    /// Takes what the others have told.
    fn hear(&self, sent: Duration, now: Duration, replies: &Replies) {
        let (mut pauses, moment) = (self.pauses.borrow_mut(), Moment::new(&SharedData, now));
        let heard = pauses.hear(moment, sent, replies.pauses.as_deref().unwrap_or_default());
        if host::answered(heard, UNPAUSED) != Some(true) {
            host::count(Series::StoreCalls { outcome: "no_pauses" }, 1);
            pauses.failed();
        }
        if self.gauges.is_empty() {
            return;
        }
        let reply = replies.capacity.as_deref().unwrap_or_default();
        let heard = capacity::hear(moment, sent, &self.gauges, reply);
        if host::answered(heard, UNSHARED) != Some(true) {
            host::count(Series::StoreCalls { outcome: "no_capacity" }, 1);
        }
    }
}
