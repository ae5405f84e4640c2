//! Looks up keys that were issued since the configuration was written, and clients that came since, in the fleet's store.
//!
//! The tick asks for all that requests of this worker wait for, and for those in use that are to be looked up again, in one
//! call at a time. Whose a key is, the first answer tells; if that client stands in the store too, the next call asks for both.

use crate::host::{self, SharedData};
use crate::waiting;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tollgate::gateway::{Gateway, KeyReply, StoreTrouble};
use tollgate::identity::issued::{Outcome, Problem, Said, Wanted, id};
use tollgate::ledger::Series;
use tollgate::store::Moment;

thread_local! {
    static UNDER_WAY: RefCell<Vec<LookUp>> = const { RefCell::new(Vec::new()) };
}

/// A call under way.
struct LookUp {
    call: u32,
    gateway: Rc<Gateway>,
    keys: Vec<Wanted>,
    sent: Duration,
}

/// Looks up what is due, if no call is under way.
pub(crate) fn tick(gateway: &Rc<Gateway>) {
    let (Some(issued), Some(store)) = (gateway.clients.issued(), &gateway.store) else { return };
    count("limited", issued.take_refused());
    if UNDER_WAY.with_borrow(|calls| calls.iter().any(|call| Rc::ptr_eq(&call.gateway, gateway))) {
        return;
    }
    let now = host::now();
    let keys = issued.due(now);
    if keys.is_empty() {
        return;
    }
    match host::post(&store.cluster, &store.path, &store.key_request(&keys), store.timeout) {
        Some(call) => {
            let look_up = LookUp { call, gateway: gateway.clone(), keys, sent: now };
            UNDER_WAY.with_borrow_mut(|calls| calls.push(look_up));
        }
        None => fail(gateway, &keys, StoreTrouble::Unreached, now),
    }
}

/// Takes what a call has brought. False if it was none of ours.
pub(crate) fn answered(call: u32, headers: usize, body_bytes: usize) -> bool {
    let look_up = UNDER_WAY.with_borrow_mut(|calls| {
        let at = calls.iter().position(|look_up| look_up.call == call)?;
        Some(calls.swap_remove(at))
    });
    let Some(LookUp { gateway, keys, sent, .. }) = look_up else { return false };
    let (Some(issued), Some(store)) = (gateway.clients.issued(), &gateway.store) else { return true };
    // The SDK's getters do not bear an answer without headers, which is a call that was reset.
    let status = if headers == 0 { None } else { host::fetched_status() };
    let entries = match status {
        Some(200) => store.key_replies(&host::fetched_body(body_bytes), &keys),
        _ => Err(StoreTrouble::Unreached),
    };
    match entries {
        Ok(entries) => {
            let asked = Moment::new(&SharedData, sent);
            for (Wanted { key, client }, KeyReply { entry, client: text }) in keys.iter().zip(&entries) {
                let client = client.as_deref().map(|name| (name, text.as_deref()));
                let said = entry.as_deref().map(|entry| Said { entry, client });
                let Some(outcome) = issued.answered(*key, said, asked) else { continue };
                match &outcome {
                    Outcome::Unusable(Problem::OfKey(problem)) => {
                        log::warn!("what the fleet's store has of key {} cannot be used: {problem}", id(key));
                    }
                    Outcome::Unusable(Problem::OfClient(problem, true)) => {
                        log::warn!("what the fleet's store has of client {problem}: its keys get 401");
                    }
                    _ => {}
                }
                count(outcome.word(), 1);
            }
        }
        Err(trouble) => fail(&gateway, &keys, trouble, host::now()),
    }
    // Clients of the store whose names their keys have told. Before streams are looked at, in whose names nothing can be fetched.
    tick(&gateway);
    waiting::wake();
    true
}

fn fail(gateway: &Gateway, keys: &[Wanted], trouble: StoreTrouble, now: Duration) {
    let Some(issued) = gateway.clients.issued() else { return };
    count(trouble.word(), keys.len() as u64);
    if issued.failed(keys, now) {
        let (word, advice) = (trouble.word(), trouble.advice());
        log::error!("keys cannot be looked up in the fleet's store ({word}): {advice}");
    }
}

fn count(outcome: &'static str, keys: u64) {
    if keys > 0 {
        host::count(Series::KeyLookups { outcome }, keys);
    }
}
