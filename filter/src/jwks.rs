//! Fetches the keys of issuers, through Envoy's clusters.
//!
//! The tick looks whether a fetch is due; the shared store sees to it that one VM of the process does it, and hands the keys
//! to the others.

use crate::host::{self, SharedData};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tollgate::gateway::Gateway;
use tollgate::identity::issuer::{Issuer, Proof};
use tollgate::identity::jwks::{Fetch, Fetched, KEYS_BYTES_MAX, Outcome};
use tollgate::ledger::Series;
use tollgate::store::Moment;

/// What the log says of a store that does not answer.
const UNSHARED: &str = "the keys of an issuer could not be shared";

thread_local! {
    /// The fetches under way: whose keys, at which place among the issuers.
    static UNDER_WAY: RefCell<HashMap<u32, (Rc<Gateway>, usize)>> = RefCell::default();
}

/// Takes over what other VMs have fetched, and fetches what is due.
pub(crate) fn tick(gateway: &Rc<Gateway>) {
    for (at, issuer) in gateway.clients.issuers().iter().enumerate() {
        let Proof::Fetched(fetched) = &issuer.proof else { continue };
        host::answered(fetched.load(&SharedData), UNSHARED);
        if host::answered(fetched.claim(Moment::new(&SharedData, host::now())), UNSHARED) == Some(true) {
            let origin = &fetched.origin;
            match host::fetch(&origin.cluster, &origin.host, &origin.path, origin.timeout) {
                Some(call) => {
                    UNDER_WAY.with_borrow_mut(|calls| calls.insert(call, (gateway.clone(), at)));
                }
                None => settle(issuer, fetched, Fetch::Nothing),
            }
        }
    }
}

/// Takes what a fetch has brought.
pub(crate) fn answered(call: u32, headers: usize, body_bytes: usize) {
    let Some((gateway, at)) = UNDER_WAY.with_borrow_mut(|calls| calls.remove(&call)) else { return };
    let Some(issuer) = gateway.clients.issuers().get(at) else { return };
    let Proof::Fetched(fetched) = &issuer.proof else { return };
    let mut body = Vec::new();
    let fetch = host::fetched(headers, body_bytes, KEYS_BYTES_MAX, &mut body);
    settle(issuer, fetched, fetch);
}

fn settle(issuer: &Issuer, fetched: &Fetched, fetch: Fetch<'_>) {
    let Some(outcome) =
        host::answered(fetched.settle(Moment::new(&SharedData, host::now()), fetch), UNSHARED)
    else {
        return;
    };
    host::count(Series::JwksFetches { issuer: issuer.name.clone(), outcome: outcome.word() }, 1);
    match outcome {
        Outcome::Changed => log::info!("issuer {} has new keys", issuer.name),
        Outcome::Same => {}
        _ => log::warn!(
            "the keys of issuer {} could not be fetched from cluster {}: {}; {}",
            issuer.name,
            fetched.origin.cluster,
            outcome.word(),
            if fetched.keys().is_some() { "the last ones hold" } else { "there are none yet" },
        ),
    }
}
