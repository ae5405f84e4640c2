//! One try at one backend: what it is sent, and what its answer teaches.
//!
//! All attempts of a request share one set of headers in Envoy, so an attempt first removes every credential there may
//! be and then sets its own, and it sets its path whole. Not decided here: which backend is tried next; Envoy goes down
//! the candidates.

use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::gateway::Gateway;
use crate::ledger::Series;
use crate::route::{self, Target};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// A request on its way: what its attempts need to know, and what is known of them afterwards.
#[derive(Debug)]
pub struct Flight {
    gateway: Rc<Gateway>,
    operation: Operation,
    candidates: Vec<Rc<Target>>,
    tried: RefCell<Option<Rc<Target>>>,
}

/// What is done to the headers of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub struct Departure<'a> {
    /// Removed first.
    pub remove: &'a [String],
    /// The whole path and query.
    pub path: String,
    /// Then set: the backend's credential, unless Envoy adds it.
    pub set: Option<(&'a str, &'a str)>,
}

/// What an answer teaches.
#[derive(Debug, PartialEq, Eq)]
pub struct Lesson {
    /// To be counted.
    pub series: Series,
    /// The backend wants to be left alone for so long.
    pub cooldown: Option<Duration>,
}

impl Flight {
    /// A request that may go to these targets.
    #[must_use]
    pub fn new(gateway: Rc<Gateway>, operation: Operation, candidates: Vec<Rc<Target>>) -> Self {
        Self { gateway, operation, candidates, tried: RefCell::new(None) }
    }

    /// Where it may go, best first.
    #[must_use]
    pub fn candidates(&self) -> &[Rc<Target>] {
        &self.candidates
    }

    /// The target of the last attempt; `None` if none was made.
    #[must_use]
    pub fn last_tried(&self) -> Option<Rc<Target>> {
        self.tried.borrow().clone()
    }

    /// Begins an attempt at the cluster that Envoy picked. One that is not among the candidates gets nothing.
    pub fn depart(&self, cluster: &[u8]) -> Result<(Rc<Target>, Departure<'_>), Denial> {
        let target = self
            .candidates
            .iter()
            .find(|target| target.backend.cluster.as_bytes() == cluster)
            .ok_or(Denial::Unplanned)?;
        self.tried.replace(Some(target.clone()));
        let departure = Departure {
            remove: &self.gateway.credential_headers,
            path: target.backend.style.path(self.operation, &target.deployment),
            set: target
                .backend
                .credential
                .as_ref()
                .map(|credential| (&*credential.header, &*credential.value)),
        };
        Ok((target.clone(), departure))
    }
}

/// Reads the head of an attempt's answer.
#[must_use]
pub fn learn(target: &Target, status: u16, header: impl Fn(&str) -> Option<String>) -> Lesson {
    let backend = target.backend.name.clone();
    Lesson {
        series: Series::UpstreamResponses { backend, status },
        cooldown: route::cooldown(status, header),
    }
}
