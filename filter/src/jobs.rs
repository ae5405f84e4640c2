//! Asks the fleet's store, or a broker, about requests that are answered later.
//!
//! Calls are made in the name of the root context, like all of the store's: a client that hangs up ends none of them. What is
//! answered waits here for the stream that asked. Envoy ends a call with the root context that made it, and tells nobody: so each
//! has a time.

use crate::{fleet, host, waiting};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use tollgate::gateway::{Broker, Dice, Gateway, Patience, QueueCall, StoreTrouble};
use tollgate::ledger::Series;

thread_local! {
    static CALLS: RefCell<Calls> = RefCell::default();
    /// Whether the broker has not taken the last message.
    static FAILS: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Calls {
    /// What streams ask, until the root context comes.
    wanted: Vec<(Asker, Rc<Gateway>, QueueCall)>,
    /// Who asked by which call, and the broker that was.
    under_way: HashMap<u32, (Asker, Option<Rc<Broker>>)>,
    /// What was answered to whom.
    replies: HashMap<u32, Result<Vec<u8>, StoreTrouble>>,
}

/// A stream that waits.
#[derive(Clone, Copy)]
struct Asker {
    stream: u32,
    patience: Patience,
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
pub(crate) fn ask(gateway: &Rc<Gateway>, stream: u32, call: Option<QueueCall>) -> bool {
    match call.filter(|_| fleet::ring()) {
        Some(call) => {
            let timeout = match &call {
                QueueCall::Store(_) => gateway.store.as_ref().map(|store| store.timeout),
                QueueCall::Broker(_) => broker(gateway).map(|broker| broker.timeout),
            };
            let patience = Patience::new(host::now(), timeout.unwrap_or_default());
            let asker = Asker { stream, patience };
            CALLS.with_borrow_mut(|calls| calls.wanted.push((asker, gateway.clone(), call)));
            true
        }
        None => {
            if let Some(broker) = broker(gateway) {
                published(broker, "unsent", "no message could be sent: is there a token to show with it?");
            }
            false
        }
    }
}

fn broker(gateway: &Gateway) -> Option<&Rc<Broker>> {
    gateway.queue.as_ref()?.broker.as_ref()
}

/// Sends what is wanted. The root context has come.
pub(crate) fn call() {
    let wanted = CALLS.with_borrow_mut(|calls| std::mem::take(&mut calls.wanted));
    let mut unsent = Vec::new();
    for (asker, gateway, call) in wanted {
        let stream = asker.stream;
        let broker = broker(&gateway);
        let sent = match (&call, &gateway.store, broker) {
            (QueueCall::Store(request), Some(store), _) => {
                host::post(&store.cluster, &store.path, request, store.timeout).map(|call| (call, None))
            }
            (QueueCall::Broker(message), _, Some(broker)) => {
                host::publish(broker, message).map(|call| (call, Some(broker.clone())))
            }
            _ => None,
        };
        CALLS.with_borrow_mut(|calls| match sent {
            Some((call, broker)) => {
                calls.under_way.insert(call, (asker, broker));
            }
            None => {
                calls.replies.insert(stream, Err(StoreTrouble::Unreached));
                unsent.push(stream);
            }
        });
        if let (QueueCall::Broker(_), Some(broker), true) = (&call, broker, unsent.last() == Some(&stream)) {
            published(broker, "unsent", "Envoy knows no such cluster");
        }
    }
    if !unsent.is_empty() {
        waiting::wake();
    }
    forget(unsent);
}

/// Takes what a call has brought. False if it was none of ours.
pub(crate) fn answered(call: u32, headers: usize, body_bytes: usize) -> bool {
    let under_way = CALLS.with_borrow_mut(|calls| calls.under_way.remove(&call));
    let Some((Asker { stream, .. }, broker)) = under_way else { return false };
    // The SDK's getters do not bear an answer without headers, which is a call that was reset.
    let status = if headers == 0 { None } else { host::fetched_status() };
    let reply = match &broker {
        Some(broker) => of_broker(broker, status),
        None => of_store(status, body_bytes),
    };
    CALLS.with_borrow_mut(|calls| calls.replies.insert(stream, reply));
    waiting::wake();
    // A stream that is gone has taken none.
    drop(self::reply(stream));
    true
}

/// Answers those whose call was lost, as if nobody had answered it: the streams. The tick wakes them.
pub(crate) fn lost() -> Vec<u32> {
    let now = host::now();
    let (unsent, unanswered) = CALLS.with_borrow_mut(|calls| {
        let unsent: Vec<_> = calls.wanted.extract_if(.., |(asker, ..)| asker.patience.is_over(now)).collect();
        let is_over = |_: &u32, (asker, _): &mut (Asker, _)| asker.patience.is_over(now);
        let unanswered: Vec<_> = calls.under_way.extract_if(is_over).map(|(_, call)| call).collect();
        (unsent, unanswered)
    });
    let unsent = unsent.into_iter().map(|(asker, gateway, _)| (asker, broker(&gateway).cloned()));
    let mut streams = Vec::new();
    for (asker, broker) in unsent.chain(unanswered) {
        log::warn!("a call of the queue was lost with the configuration that made it");
        let reply = match &broker {
            Some(broker) => of_broker(broker, None),
            None => of_store(None, 0),
        };
        CALLS.with_borrow_mut(|calls| calls.replies.insert(asker.stream, reply));
        streams.push(asker.stream);
    }
    streams
}

/// Forgets what was answered to streams that have not taken it, for they are gone.
pub(crate) fn forget(streams: Vec<u32>) {
    streams.into_iter().for_each(|stream| drop(reply(stream)));
}

fn of_store(status: Option<u16>, body_bytes: usize) -> Result<Vec<u8>, StoreTrouble> {
    let reply = match status {
        Some(200) => Ok(host::fetched_body(body_bytes)),
        _ => Err(StoreTrouble::Unreached),
    };
    let outcome = reply.as_ref().map_or_else(|trouble| trouble.word(), |_| "ok");
    host::count(Series::StoreCalls { outcome }, 1);
    reply
}

/// Nothing of its answer but whether it has taken the message.
fn of_broker(broker: &Broker, status: Option<u16>) -> Result<Vec<u8>, StoreTrouble> {
    match status {
        Some(status) if broker.has_taken(status) => {
            published(broker, "taken", "");
            Ok(Vec::new())
        }
        Some(status) => {
            published(broker, "refused", &format!("it answers {status}"));
            Err(StoreTrouble::Refused)
        }
        None => {
            published(broker, "unreached", "it does not answer");
            Err(StoreTrouble::Unreached)
        }
    }
}

/// Counts a message, and says when the broker begins to fail and when it is well again.
fn published(broker: &Broker, outcome: &'static str, why: &str) {
    host::count(Series::BrokerMessages { outcome }, 1);
    let is_taken = outcome == "taken";
    if FAILS.replace(!is_taken) == is_taken {
        match is_taken {
            true => log::info!("the queue's broker {} takes messages again", broker.cluster),
            false => log::error!("the queue's broker {} does not take messages: {why}", broker.cluster),
        }
    }
}

/// What was answered to a stream, once.
pub(crate) fn reply(stream: u32) -> Option<Result<Vec<u8>, StoreTrouble>> {
    CALLS.with_borrow_mut(|calls| calls.replies.remove(&stream))
}
