//! Does the Envoy around do its part? What a request shows of that is counted, and told once by each VM.
//!
//! `tollgate check` says the same beforehand, of a file that it is given. Nothing is asked of Envoy here while all goes well.

use crate::{candidates, host};
use proxy_wasm::types::MapType;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use tollgate::attempt::Flight;
use tollgate::exchange::Origin;
use tollgate::ledger::{Outcome, Record, Series};

/// What is missing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    /// What brings the order to the route.
    Candidates,
    /// What makes the route read it before the first attempt.
    ClearRoute,
    /// The groups that the configuration says the route has.
    Order,
    /// Who sees each attempt.
    Attempt,
}

impl Link {
    const fn word(self) -> &'static str {
        match self {
            Self::Candidates => "candidates",
            Self::ClearRoute => "clear_route",
            Self::Order => "order",
            Self::Attempt => "attempt",
        }
    }

    fn sentence(self) -> String {
        let header = candidates::HEADER;
        match self {
            Self::Candidates => format!(
                "{header} came to an attempt, so the route does not know the order of backends: expected a header_to_metadata \
                 filter with remove: true for it behind Tollgate"
            ),
            Self::ClearRoute => format!(
                "a first attempt went where the route led before the order was known: expected a set_filter_state filter with \
                 clear_route_cache: true behind the one for {header}"
            ),
            Self::Order => "an attempt went where routing.order does not lead: expected the route's priority_groups to begin with its \
                            backends, in this order"
                .to_owned(),
            Self::Attempt => "a backend answered and no attempt was seen, so it got no path of its own and no credential: expected \
                              the filter with root_id: attempt among the router's upstream_http_filters, or routing.fitted: once"
                .to_owned(),
        }
    }
}

thread_local! {
    /// Those that the log has.
    static TOLD: RefCell<BTreeSet<Link>> = RefCell::default();
    static SEES_ATTEMPTS: Cell<bool> = const { Cell::new(false) };
}

fn miss(link: Link) {
    host::count(Series::MissingLinks { kind: link.word() }, 1);
    if TOLD.with_borrow_mut(|told| told.insert(link)) {
        log::error!("{}", link.sentence());
    }
}

/// An attempt was seen.
pub(crate) fn attempted() {
    SEES_ATTEMPTS.set(true);
}

/// An attempt is not where the order leads: at no candidate, or the first one that is seen not at the first candidate.
pub(crate) fn astray(flight: &Flight, is_candidate: bool) {
    if flight.follows_route() {
        if !is_candidate || attempts() == Some(1) {
            miss(Link::Order);
        }
    } else if host::header(MapType::HttpRequestHeaders, candidates::HEADER).is_some() {
        miss(Link::Candidates);
    } else if !is_candidate || attempts() == Some(1) {
        // A candidate without an address is passed over, and no attempt at it is seen: then this is a later one.
        miss(Link::ClearRoute);
    }
}

/// How many attempts Envoy has made of this request, with this one.
fn attempts() -> Option<u64> {
    let count = host::property(&["upstream", "request_attempt_count"])?;
    count.try_into().ok().map(u64::from_le_bytes)
}

/// Looks whether somebody saw the attempts of a request that a backend has answered.
pub(crate) fn look_at(record: &Record, origin: impl FnOnce() -> Origin) {
    let is_answered = matches!(record.outcome, Outcome::Served | Outcome::BackendError);
    let is_unseen = is_answered && record.tries.is_empty() && !SEES_ATTEMPTS.get();
    // What an attempt answers of which this VM knows nothing is no backend's.
    if is_unseen && origin() == Origin::Backend {
        miss(Link::Attempt);
    }
}
