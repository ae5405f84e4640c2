//! Fetches the tokens of backends that have no key, through Envoy's clusters.
//!
//! The tick looks whether a fetch is due; the shared store sees to it that one VM of the process does it, and hands the token
//! to the others. Nothing of a token, of a secret or of an answer is logged.

use crate::host::{self, SharedData};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tollgate::access::{Access, Next, Outcome, Question, Stage, TIMEOUT, TOKEN_BYTES_MAX};
use tollgate::fetching::Fetch;
use tollgate::gateway::Gateway;
use tollgate::ledger::Series;
use tollgate::store::{Moment, StoreFault};

/// What the log says of a store that does not answer.
const UNSHARED: &str = "the token of a backend could not be shared";

/// A call: of which gateway, for which of its accesses, and what is asked.
type Call = (Rc<Gateway>, usize, Stage);

thread_local! {
    /// The calls under way.
    static UNDER_WAY: RefCell<HashMap<u32, Call>> = RefCell::default();
}

/// Takes over what other VMs have fetched, and fetches what is due.
pub(crate) fn tick(gateway: &Rc<Gateway>) {
    for (at, access) in gateway.accesses.iter().enumerate() {
        let moment = Moment::new(&SharedData, host::now());
        host::answered(access.load(moment), UNSHARED);
        if host::answered(access.claim(moment), UNSHARED) == Some(true) {
            let (stage, question) = access.first();
            ask(gateway, at, stage, &question);
        }
    }
}

fn ask(gateway: &Rc<Gateway>, at: usize, stage: Stage, question: &Question<'_>) {
    match host::ask(question, TIMEOUT) {
        Some(call) => {
            UNDER_WAY.with_borrow_mut(|calls| calls.insert(call, (gateway.clone(), at, stage)));
        }
        None => take(gateway, at, stage, Fetch::Nothing),
    }
}

/// Takes what a call has brought. False if it was none of ours.
pub(crate) fn answered(call: u32, headers: usize, body_bytes: usize) -> bool {
    let Some((gateway, at, stage)) = UNDER_WAY.with_borrow_mut(|calls| calls.remove(&call)) else {
        return false;
    };
    let mut body = Vec::new();
    take(&gateway, at, stage, host::fetched(headers, body_bytes, TOKEN_BYTES_MAX, &mut body));
    true
}

fn take(gateway: &Rc<Gateway>, at: usize, stage: Stage, fetch: Fetch<'_>) {
    let Some(access) = gateway.accesses.get(at) else { return };
    match access.answered(stage, fetch, Moment::new(&SharedData, host::now())) {
        Next::Ask(question) => ask(gateway, at, Stage::Token, &question),
        Next::Ended(outcome) => settled(access, outcome),
    }
}

fn settled(access: &Access, outcome: Result<Outcome, StoreFault>) {
    let Some(outcome) = host::answered(outcome, UNSHARED) else { return };
    host::count(Series::TokenFetches { backend: access.backend.clone(), outcome: outcome.word() }, 1);
    if outcome != Outcome::Renewed {
        log::warn!(
            "no new token for backend {} could be fetched from cluster {}: {}; the last one holds until its end",
            access.backend,
            access.cluster,
            outcome.word(),
        );
    }
}
