//! Asks the fleet's store about requests that are answered later.
//!
//! Calls are made in the name of the root context, like all of the store's: a client that hangs up ends none of them. What is
//! answered waits here for the stream that asked.

use crate::{fleet, host, waiting};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tollgate::gateway::{Dice, Gateway, StoreTrouble};
use tollgate::ledger::Series;

thread_local! {
    static CALLS: RefCell<Calls> = RefCell::default();
}

#[derive(Default)]
struct Calls {
    /// What streams ask, until the root context comes.
    wanted: Vec<(u32, Rc<Gateway>, Vec<u8>)>,
    /// Who asked by which call.
    under_way: HashMap<u32, u32>,
    /// What was answered to whom.
    replies: HashMap<u32, Result<Vec<u8>, StoreTrouble>>,
}

/// Random bytes for a new job.
pub(crate) fn dice() -> Option<Dice> {
    let mut dice = Dice { id: Default::default(), nonce: Default::default() };
    let filled = getrandom::fill(&mut dice.id).and_then(|()| getrandom::fill(&mut dice.nonce));
    if let Err(error) = &filled {
        log::error!("Envoy has no random bytes: {error}");
    }
    filled.ok().map(|()| dice)
}

/// Asks for a stream, as soon as the root context comes. False if that cannot be.
pub(crate) fn ask(gateway: &Rc<Gateway>, stream: u32, request: Vec<u8>) -> bool {
    if !fleet::ring() {
        return false;
    }
    CALLS.with_borrow_mut(|calls| calls.wanted.push((stream, gateway.clone(), request)));
    true
}

/// Sends what is wanted. The root context has come.
pub(crate) fn call() {
    let wanted = CALLS.with_borrow_mut(|calls| std::mem::take(&mut calls.wanted));
    let mut unsent = Vec::new();
    for (stream, gateway, request) in wanted {
        let sent = gateway
            .store
            .as_ref()
            .and_then(|store| host::post(&store.cluster, &store.path, &request, store.timeout));
        CALLS.with_borrow_mut(|calls| match sent {
            Some(call) => {
                calls.under_way.insert(call, stream);
            }
            None => {
                calls.replies.insert(stream, Err(StoreTrouble::Unreached));
                unsent.push(stream);
            }
        });
    }
    if !unsent.is_empty() {
        waiting::wake();
    }
    // Of those that are gone nobody has taken any.
    unsent.into_iter().for_each(|stream| drop(reply(stream)));
}

/// Takes what a call has brought. False if it was none of ours.
pub(crate) fn answered(call: u32, headers: usize, body_bytes: usize) -> bool {
    let Some(stream) = CALLS.with_borrow_mut(|calls| calls.under_way.remove(&call)) else { return false };
    // The SDK's getters do not bear an answer without headers, which is a call that was reset.
    let status = if headers == 0 { None } else { host::fetched_status() };
    let reply = match status {
        Some(200) => Ok(host::fetched_body(body_bytes)),
        _ => Err(StoreTrouble::Unreached),
    };
    let outcome = reply.as_ref().map_or_else(|trouble| trouble.word(), |_| "ok");
    host::count(Series::StoreCalls { outcome }, 1);
    CALLS.with_borrow_mut(|calls| calls.replies.insert(stream, reply));
    waiting::wake();
    // A stream that is gone has taken none.
    drop(self::reply(stream));
    true
}

/// What was answered to a stream, once.
pub(crate) fn reply(stream: u32) -> Option<Result<Vec<u8>, StoreTrouble>> {
    CALLS.with_borrow_mut(|calls| calls.replies.remove(&stream))
}
