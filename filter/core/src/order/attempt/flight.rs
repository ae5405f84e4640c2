//! Which request is on its way, and what do its attempts share?

use super::bodies::{Bodies, Whose};
use super::departing::Destination;
use super::misfit::Misfit;
use super::returning::Returning;
use super::spilling::Spilling;
use super::stopwatch::Stopwatch;
use crate::capacity::Seat;
use crate::gateway::Gateway;
use crate::ledger::Try;
use crate::route::{Choice, Fitted, Shares, Target};
use crate::tier::Tier;
use crate::tokens::Usage;
use crate::usage::UsageEvent;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// An attempt that was made.
#[derive(Debug)]
pub(super) struct Trial {
    /// Its place among the candidates.
    pub(super) at: usize,
    pub(super) target: Rc<Target>,
    /// What was answered; `None` if nothing was.
    pub(super) status: Option<u16>,
}

/// A request on its way: what its attempts need to know, and what is known of them afterwards.
#[derive(Debug)]
pub struct Flight {
    pub(super) gateway: Rc<Gateway>,
    pub(super) destination: Destination,
    pub(super) bodies: Bodies,
    pub(super) candidates: Vec<Rc<Target>>,
    /// The one cluster that Envoy is told; `None` if it is told all candidates.
    pub(super) cluster: Option<Rc<str>>,
    pub(super) tries: RefCell<Vec<Trial>>,
    /// What it has taken of a backend's capacity.
    pub(super) seat: RefCell<Option<Seat>>,
    /// What it may use.
    pub(super) usage: Usage,
    /// Whether the first candidate is asked if its pause is over.
    pub(super) probes_first: bool,
    /// The tier of service that it asks for, if that may be refused by itself.
    pub(super) tier: Option<Tier>,
    /// From this place on the candidates are asked for the default tier instead.
    pub(super) default_from: usize,
    /// The tier that one of them has refused: only then they are.
    pub(super) refused: Cell<Option<Tier>>,
    /// Whether it ended before those, for nobody had refused the tier and nobody answered.
    pub(super) has_ended: Cell<bool>,
    /// What the answer to the last attempt says is wrong with the configuration.
    pub(super) misfit: Cell<Option<Misfit>>,
    /// The shortest pause that a backend asked for.
    pub(super) shortest_pause: Cell<Option<Duration>>,
    pub(super) stopwatch: Stopwatch,
    pub(super) spilling: Option<Spilling>,
    /// What it needs to come back to the queue; `None` if it never does.
    pub(super) returning: Option<Returning>,
    /// What bounds the shares of targets; `None` where nothing does.
    pub(super) shares: Option<Rc<Shares>>,
    /// The targets that it was counted for.
    pub(super) counted: RefCell<Vec<u64>>,
}

impl Flight {
    /// A request that may go to these targets.
    #[must_use]
    pub fn new(
        gateway: Rc<Gateway>,
        destination: Destination,
        bodies: Bodies,
        choice: Choice,
        seat: Option<Seat>,
        usage: Usage,
    ) -> Self {
        let (tries, seat) = (RefCell::default(), RefCell::new(seat));
        let Choice { targets, probes_first, tier, again, as_default, refused, watch, shares, .. } = choice;
        let counted = RefCell::new(targets.first().map(|first| first.number()).into_iter().collect());
        let (cluster, mut candidates) = gateway.routing.way(targets);
        let default_from = if as_default { 0 } else { candidates.len() };
        if cluster.is_none() && gateway.routing.fitted == Fitted::EachAttempt {
            candidates.extend(again);
        }
        Self {
            gateway,
            destination,
            bodies,
            candidates,
            cluster,
            tries,
            seat,
            usage,
            probes_first,
            tier,
            default_from,
            refused: Cell::new(refused),
            has_ended: Cell::new(false),
            misfit: Cell::new(None),
            shortest_pause: Cell::new(None),
            stopwatch: Stopwatch::new(watch),
            spilling: None,
            returning: None,
            shares,
            counted,
        }
    }

    /// The one cluster that Envoy is told, where its route reads one: that of the only candidate, or a pool of them all.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Whether Envoy goes to a cluster that is a pool, so that its name does not tell where an attempt is.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.cluster.is_some() && self.candidates.len() > 1
    }

    /// Whether the route leads to its candidates by itself, so that Envoy needs not be told of them.
    #[must_use]
    pub fn follows_route(&self) -> bool {
        self.cluster.is_none() && self.gateway.routing.leads_to(&self.candidates, self.retries())
    }

    /// Where it may go, best first.
    #[must_use]
    pub fn candidates(&self) -> &[Rc<Target>] {
        &self.candidates
    }

    /// The candidate that Envoy has picked by its cluster. Where a cluster stands for several, with a deployment each, it is the
    /// next one in the order after the last that was tried; of attempts beyond the end it is the last one there.
    pub(super) fn candidate(&self, cluster: &[u8]) -> Option<(usize, &Rc<Target>)> {
        let is_there = |(_, target): &(usize, &Rc<Target>)| target.backend.cluster.as_bytes() == cluster;
        let next = self.tries.borrow().last().map_or(0, |last| last.at + 1);
        let mut candidates = self.candidates.iter().enumerate();
        candidates.clone().skip(next).find(is_there).or_else(|| candidates.rfind(is_there))
    }

    /// Whether the candidate at this place is asked for the default tier, in place of the one that the request names.
    #[must_use]
    pub fn is_as_default(&self, at: usize) -> bool {
        at >= self.default_from
    }

    /// The tier that was refused to a request which went on as one for the default tier.
    #[must_use]
    pub fn tier_left(&self) -> Option<Tier> {
        let last = self.tries.borrow().last().map(|last| last.at);
        self.refused.get().filter(|_| last.is_some_and(|at| self.is_as_default(at)))
    }

    /// Whose body is sent to the candidate at this place.
    pub(super) fn body_of(&self, at: usize, target: &Target) -> Whose {
        Whose { target: target.number(), as_default: self.is_as_default(at) }
    }

    /// The target of the last attempt; `None` if none was made.
    #[must_use]
    pub fn last_tried(&self) -> Option<Rc<Target>> {
        self.tries.borrow().last().map(|last| last.target.clone())
    }

    /// Whether the backend of its last attempt is at it, or has answered it well. What was refused is billed to nobody.
    #[must_use]
    pub fn may_be_billed(&self) -> bool {
        self.tries.borrow().last().is_some_and(|last| last.status.is_none_or(|status| status < 400))
    }

    /// Notes that it goes on a connection that is open already.
    pub fn is_connected(&self) {
        let first =
            self.candidates.first().map(|target| Trial { at: 0, target: target.clone(), status: None });
        self.tries.replace(first.into_iter().collect());
    }

    /// Whether the answer to the last attempt has a usage event that only we asked for.
    #[must_use]
    pub fn usage_event(&self) -> UsageEvent {
        let tries = self.tries.borrow();
        self.bodies.usage_event(tries.last().map(|last| self.body_of(last.at, &last.target)))
    }

    /// All attempts, for the record.
    #[must_use]
    pub fn tries(&self) -> Vec<Try> {
        let tries = self.tries.borrow();
        tries.iter().map(|tried| Try { backend: tried.target.word.clone(), status: tried.status }).collect()
    }

    /// What the answer that the client would get says is wrong with the configuration.
    #[must_use]
    pub fn misfit(&self) -> Option<Misfit> {
        self.misfit.get()
    }

    /// The shortest pause that a backend asked for while it was tried.
    #[must_use]
    pub fn shortest_pause(&self) -> Option<Duration> {
        self.shortest_pause.get()
    }
}
