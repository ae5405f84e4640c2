//! Fetches the keys of issuers, and the document with clients, through Envoy's clusters.
//!
//! The tick looks whether a fetch is due; the shared store sees to it that one VM of the process does it, and hands what came to
//! the others.

use crate::host::{self, SharedData};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tollgate::gateway::{Gateway, Patience};
use tollgate::identity::fetched::{Fetch, Fetched, Outcome};
use tollgate::identity::issuer::Proof;
use tollgate::ledger::Series;
use tollgate::store::Moment;

/// What the log says of a store that does not answer.
const UNSHARED: &str = "what was fetched for all workers could not be shared";

/// What is fetched.
#[derive(Clone, Copy)]
enum What {
    /// The keys of the issuer at this place.
    Keys(usize),
    /// The document with clients.
    Document,
}

/// A fetch under way.
struct Call {
    gateway: Rc<Gateway>,
    what: What,
    patience: Patience,
}

thread_local! {
    /// The fetches under way.
    static UNDER_WAY: RefCell<HashMap<u32, Call>> = RefCell::default();
}

/// Takes over what other VMs have fetched, and fetches what is due.
pub(crate) fn tick(gateway: &Rc<Gateway>) {
    // Envoy ends a call with the root context that made it, and tells nobody.
    let now = host::now();
    UNDER_WAY.with_borrow_mut(|calls| calls.retain(|_, call| !call.patience.is_over(now)));
    for (at, issuer) in gateway.clients.issuers().iter().enumerate() {
        if let Proof::Fetched(fetched) = &issuer.proof {
            look(gateway, What::Keys(at), fetched);
        }
    }
    if let Some(documented) = gateway.clients.documented() {
        look(gateway, What::Document, &documented.fetched);
    }
}

fn look<T>(gateway: &Rc<Gateway>, what: What, fetched: &Fetched<T>) {
    host::answered(fetched.load(&SharedData), UNSHARED);
    tell(what, fetched);
    if host::answered(fetched.claim(Moment::new(&SharedData, host::now())), UNSHARED) == Some(true) {
        let etag = host::answered(fetched.etag(&SharedData), UNSHARED).flatten();
        match host::fetch(&fetched.origin, etag.as_deref()) {
            Some(number) => {
                let patience = Patience::new(host::now(), fetched.origin.timeout);
                UNDER_WAY.with_borrow_mut(|calls| {
                    calls.insert(number, Call { gateway: gateway.clone(), what, patience })
                });
            }
            None => settle(gateway, what, fetched, Fetch::Nothing, None),
        }
    }
}

/// Takes what a fetch has brought.
pub(crate) fn answered(call: u32, headers: usize, body_bytes: usize) {
    let Some(Call { gateway, what, .. }) = UNDER_WAY.with_borrow_mut(|calls| calls.remove(&call)) else {
        return;
    };
    match what {
        What::Keys(at) => {
            if let Some(Proof::Fetched(fetched)) =
                gateway.clients.issuers().get(at).map(|issuer| &issuer.proof)
            {
                take(&gateway, what, fetched, headers, body_bytes);
            }
        }
        What::Document => {
            if let Some(documented) = gateway.clients.documented() {
                take(&gateway, what, &documented.fetched, headers, body_bytes);
            }
        }
    }
}

fn take<T>(gateway: &Gateway, what: What, fetched: &Fetched<T>, headers: usize, body_bytes: usize) {
    let mut body = Vec::new();
    let fetch = host::fetched(headers, body_bytes, fetched.bytes_max(), &mut body);
    let etag = host::fetched_etag(headers);
    settle(gateway, what, fetched, fetch, etag.as_deref());
}

fn settle<T>(gateway: &Gateway, what: What, fetched: &Fetched<T>, fetch: Fetch<'_>, etag: Option<&str>) {
    let settled = fetched.settle(Moment::new(&SharedData, host::now()), fetch, etag);
    let Some(outcome) = host::answered(settled, UNSHARED) else { return };
    let word = outcome.word();
    match what {
        What::Keys(at) => {
            let Some(issuer) = gateway.clients.issuers().get(at) else { return };
            host::count(Series::JwksFetches { issuer: issuer.name.clone(), outcome: word }, 1);
            match outcome {
                Outcome::Changed => log::info!("issuer {} has new keys", issuer.name),
                Outcome::Same => {}
                _ => log::warn!(
                    "the keys of issuer {} could not be fetched from cluster {}: {word}; {}",
                    issuer.name,
                    fetched.origin.cluster,
                    if fetched.value().is_some() { "the last ones hold" } else { "there are none yet" },
                ),
            }
        }
        What::Document => {
            host::count(Series::DirectoryFetches { outcome: word }, 1);
            if outcome == Outcome::Changed {
                log::info!("there is a new document with clients");
            }
            tell(what, fetched);
        }
    }
}

/// Tells what is wrong with the document, once for all workers.
fn tell<T>(what: What, fetched: &Fetched<T>) {
    let What::Document = what else { return };
    if let Some(problem) = fetched.take_problem() {
        log::warn!(
            "no new document with clients is taken from cluster {}: {problem}; {}",
            fetched.origin.cluster,
            if fetched.value().is_some() { "the last one holds" } else { "there is none yet" },
        );
    }
}
