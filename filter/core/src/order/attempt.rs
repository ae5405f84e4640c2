//! One try at one backend: what it is sent, and what its answer teaches.
//!
//! All attempts of a request share one set of headers in Envoy, so an attempt first removes every credential there may
//! be and then sets its own, and it sets its path whole. Not decided here: which backend is tried next; Envoy goes down
//! the candidates.

mod bodies;
mod first_token;
mod opening;
mod spilling;

pub use bodies::{Bodies, Other};
pub use opening::Opening;
pub use spilling::{Spilling, refusal};

use crate::capacity::{self, Seat, Told};
use crate::denial::Denial;
use crate::endpoint::{Billing, Operation};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::json::Edits;
use crate::ledger::{Series, Try};
use crate::route::{self, Choice, Cooldown, Fitted, Target};
use crate::store::{Store, StoreFault};
use crate::tokens::Usage;
use crate::usage::{self, Format, UsageEvent};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use first_token::Stopwatch;

/// A request on its way: what its attempts need to know, and what is known of them afterwards.
#[derive(Debug)]
pub struct Flight {
    gateway: Rc<Gateway>,
    destination: Destination,
    bodies: Bodies,
    candidates: Vec<Rc<Target>>,
    /// The one cluster that Envoy is told; `None` if it is told all candidates.
    cluster: Option<Rc<str>>,
    tries: RefCell<Vec<(Rc<Target>, Option<u16>)>>,
    /// What it has taken of a backend's capacity.
    seat: RefCell<Option<Seat>>,
    /// What it may use.
    usage: Usage,
    /// Whether the first candidate is asked if its pause is over.
    asks: bool,
    /// What the answer to the last attempt says is wrong with the configuration.
    misfit: Cell<Option<Misfit>>,
    /// The shortest pause that a backend asked for.
    shortest_pause: Cell<Option<Duration>>,
    stopwatch: Stopwatch,
    spilling: Option<Spilling>,
}

/// What is asked of whichever backend it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An operation on the target's deployment.
    Deployment(Operation),
    /// A path and query below the style's prefix, passed on as they are.
    Other(String, String),
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
    /// The length of its body, where attempts differ in it.
    pub content_length: Option<usize>,
    /// What makes its body of the one that waits; `None` if it is that one.
    pub edits: Option<&'a Edits>,
}

/// What an answer teaches.
#[derive(Debug, PartialEq, Eq)]
pub struct Lesson {
    /// To be counted.
    pub series: Series,
    /// The backend wants to be left alone for so long.
    pub cooldown: Option<Cooldown>,
    /// Its pause is over, and the others may know.
    pub ends_pause: bool,
}

/// What is wrong with the configuration of a backend, by its own word. It is no fault of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It does not have the deployment that the configuration names.
    MissingDeployment,
    /// It does not take our credential, or does not let us in.
    RefusedCredential,
}

impl Misfit {
    /// What the client is told, if no backend is left.
    #[must_use]
    pub const fn denial(self) -> Denial {
        match self {
            Self::MissingDeployment => Denial::NoDeployment,
            Self::RefusedCredential => Denial::BackendCredentialRefused,
        }
    }
}

/// A backend that does not fit its configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Misconfigured {
    /// How.
    pub misfit: Misfit,
    /// To be counted.
    pub series: Series,
    /// How long it is left alone, if there is another.
    pub pause: Option<Cooldown>,
}

/// A deployment that is made now can be used some minutes later, and a new key too; a request that asks too early costs
/// an attempt.
const MISFIT_PAUSE: Duration = Duration::from_secs(30);

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
        let Choice { targets, asks, watch, .. } = choice;
        let (cluster, candidates) = gateway.routing.way(targets);
        Self {
            gateway,
            destination,
            bodies,
            candidates,
            cluster,
            tries,
            seat,
            usage,
            asks,
            misfit: Cell::new(None),
            shortest_pause: Cell::new(None),
            stopwatch: Stopwatch::new(watch),
            spilling: None,
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

    /// Where it may go, best first.
    #[must_use]
    pub fn candidates(&self) -> &[Rc<Target>] {
        &self.candidates
    }

    /// The target of the last attempt; `None` if none was made.
    #[must_use]
    pub fn last_tried(&self) -> Option<Rc<Target>> {
        self.tries.borrow().last().map(|(target, _)| target.clone())
    }

    /// Whether the answer to the last attempt has a usage event that only we asked for.
    #[must_use]
    pub fn usage_event(&self) -> UsageEvent {
        self.bodies.usage_event(self.last_tried().map(|target| target.number()))
    }

    /// All attempts, for the record.
    #[must_use]
    pub fn tries(&self) -> Vec<Try> {
        let tries = self.tries.borrow();
        tries
            .iter()
            .map(|(target, status)| Try { backend: target.backend.name.clone(), status: *status })
            .collect()
    }

    /// Begins an attempt at the cluster that Envoy picked. One that is not among the candidates gets nothing.
    pub fn depart(&self, cluster: &[u8]) -> Result<(Rc<Target>, Departure<'_>), Denial> {
        let target = self.candidate(cluster).ok_or(Denial::Unplanned)?;
        // The client's own credentials were taken out before: the first attempt meets none, each later one its
        // predecessor's, which Envoy may have added.
        let remove: &[String] =
            if self.tries.borrow().is_empty() { &[] } else { &self.gateway.credential_headers };
        self.tries.borrow_mut().push((target.clone(), None));
        self.misfit.set(None);
        Ok((target.clone(), self.departure(target, remove)))
    }

    /// Begins all attempts, where none of them is seen; `None` where each is.
    pub fn depart_once(&self) -> Option<Departure<'_>> {
        let first = self.candidates.first().filter(|_| self.gateway.routing.fitted == Fitted::Once)?;
        // Until the answer tells who was asked.
        self.tries.replace(vec![(first.clone(), None)]);
        Some(self.departure(first, &self.gateway.credential_headers))
    }

    /// An answer came of attempts that nobody saw, from this cluster.
    pub fn arrive(&self, cluster: &[u8]) -> Option<Rc<Target>> {
        let target = self.candidate(cluster)?;
        self.tries.replace(vec![(target.clone(), None)]);
        Some(target.clone())
    }

    /// No backend answered to attempts that nobody saw.
    pub fn vanish(&self) {
        self.tries.take();
    }

    fn candidate(&self, cluster: &[u8]) -> Option<&Rc<Target>> {
        self.candidates.iter().find(|target| target.backend.cluster.as_bytes() == cluster)
    }

    fn departure<'a>(&'a self, target: &'a Target, remove: &'a [String]) -> Departure<'a> {
        let style = &target.backend.style;
        Departure {
            remove,
            path: match &self.destination {
                Destination::Deployment(operation) => style.path(*operation, &target.deployment),
                Destination::Other(rest, query) => style.other_path(rest, query),
            },
            set: target
                .backend
                .credential
                .as_ref()
                .map(|credential| (&*credential.header, &*credential.value)),
            content_length: self.bodies.content_length(target.number()),
            edits: self.edits(target),
        }
    }

    /// What makes a target's body of the one that waits; `None` if it is that one.
    #[must_use]
    pub fn edits(&self, target: &Target) -> Option<&Edits> {
        self.bodies.edits(target.number())
    }

    /// Takes its tokens at the target that it goes to now, if it has not yet, and gives back those it took elsewhere.
    /// `now` is only asked where a capacity was declared.
    pub fn take_seat(
        &self,
        target: &Target,
        local: &dyn Store,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), StoreFault> {
        let mut seat = self.seat.borrow_mut();
        if seat.as_ref().map(Seat::gauge) == target.gauge {
            return Ok(());
        }
        let now = now();
        let left = seat.take();
        if let Some(gauge) = target.gauge {
            *seat = Some(capacity::take_anyhow(local, gauge, self.usage, now)?);
        }
        left.map_or(Ok(()), |left| capacity::give_back(local, &left, Usage::default(), now))
    }

    /// The most that it takes of a target's capacity, where that was declared.
    #[must_use]
    pub fn takes_of(&self, target: &Target) -> Option<u64> {
        target.gauge.map(|gauge| gauge.weights.tokens_max(self.usage))
    }

    /// Learns from an answer's head how much room there is at the backend. Whoever was throttled took none.
    pub fn learn_room(
        &self,
        target: &Target,
        status: u16,
        header: impl Fn(&str) -> Option<String>,
        local: &dyn Store,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), StoreFault> {
        let Some(gauge) = target.gauge else { return Ok(()) };
        if status == 429 {
            return match self.seat.take() {
                Some(seat) => capacity::give_back(local, &seat, Usage::default(), now()),
                None => Ok(()),
            };
        }
        match route::room(header) {
            Some(route::Room::Remaining(tokens)) => {
                capacity::learn(local, gauge, Told::Remaining(tokens), now())
            }
            Some(route::Room::Utilization(share)) => {
                capacity::learn(local, gauge, Told::Utilization(share), now())
            }
            None => Ok(()),
        }
    }

    /// Whether the body of an answer with this status is to be read before the answer goes on.
    #[must_use]
    pub fn is_to_be_read(&self, status: u16) -> bool {
        match status {
            400 | 404 => matches!(self.destination, Destination::Deployment(_)),
            403 => true,
            _ => false,
        }
    }

    /// Whether the beginning of an answer with this status and format is to be read before its head goes on: it may be an
    /// error all the same, and there is another backend. What is kept at a backend tells its errors as an answer does.
    #[must_use]
    pub fn may_open_with_error(&self, status: u16, format: Format) -> bool {
        let is_billed = match self.destination {
            Destination::Deployment(operation) => operation.billing() != Billing::UsageIfAny,
            Destination::Other(..) => false,
        };
        let is_read = matches!(format, Format::Json | Format::Events | Format::Text);
        self.candidates.len() > 1 && status < 300 && usage::has_answer(status) && is_billed && is_read
    }

    /// What an error says is wrong with the configuration, and what is to be done about it.
    pub fn misfit_of(
        &self,
        target: &Target,
        status: u16,
        failure: &Failure,
        local: &dyn Store,
        now: impl FnOnce() -> Duration,
    ) -> Option<(Misconfigured, Result<(), StoreFault>)> {
        let misfit = match status {
            401 | 403 if failure.is_about_gateway(status) => Misfit::RefusedCredential,
            400 | 404 if self.is_to_be_read(status) && failure.is_missing_deployment() => {
                Misfit::MissingDeployment
            }
            _ => return None,
        };
        self.misfit.set(Some(misfit));
        let backend = target.backend.name.clone();
        let (series, noted) = match misfit {
            Misfit::MissingDeployment => (Series::MissingDeployments { backend }, Ok(())),
            Misfit::RefusedCredential => {
                (Series::RefusedCredentials { backend }, self.gateway.failing.failed(target, local, now()))
            }
        };
        // Somebody has to tell the client, so whoever comes last is asked again.
        let is_last = self.candidates.last().is_none_or(|last| **last == *target);
        let is_sure = misfit == Misfit::MissingDeployment || failure.refuses_credential(status);
        let pause = (!is_last && is_sure).then_some(Cooldown { wait: MISFIT_PAUSE, is_told: false });
        Some((Misconfigured { misfit, series, pause }, noted))
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

    /// Gives back what it took and did not use, where the backend does. `took` is `None` if nobody knows.
    pub fn land(&self, took: Option<Usage>, local: &dyn Store, now: Duration) -> Result<(), StoreFault> {
        let Some(seat) = self.seat.take() else { return Ok(()) };
        let was_sent = !self.tries.borrow().is_empty();
        match took {
            Some(took) if seat.gauge().is_provisioned || !was_sent => {
                capacity::give_back(local, &seat, took, now)
            }
            _ => Ok(()),
        }
    }

    /// Notes that the last attempt was not answered, if it was not: it is called when Envoy goes on without it.
    pub fn note_miss(&self, local: &dyn Store, now: impl FnOnce() -> Duration) -> Result<(), StoreFault> {
        match self.tries.borrow().last() {
            Some((target, None)) => self.gateway.failing.failed(target, local, now()),
            _ => Ok(()),
        }
    }

    /// Notes whether an answer speaks for its target. `now` is only asked if it speaks against it.
    pub fn note_answer(
        &self,
        target: &Target,
        status: u16,
        local: &dyn Store,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), StoreFault> {
        if status >= 500 {
            self.gateway.failing.failed(target, local, now())
        } else if matches!(status, 401 | 403) {
            // What it says is not known yet.
            Ok(())
        } else {
            self.gateway.failing.answered(target, local)
        }
    }

    /// Reads the head of the answer to the last attempt.
    #[must_use]
    pub fn learn(
        &self,
        target: &Target,
        status: u16,
        header: impl Fn(&str) -> Option<String>,
        now: Duration,
    ) -> Lesson {
        if let Some((_, answered)) = self.tries.borrow_mut().last_mut() {
            *answered = Some(status);
        }
        let backend = target.backend.name.clone();
        let is_first = self.candidates.first().is_some_and(|first| **first == *target);
        // The clock's last digits are as good as dice.
        let jitter = u64::from(now.subsec_nanos());
        let cooldown = route::cooldown(status, header, now, jitter);
        let pauses = self.shortest_pause.get().into_iter().chain(cooldown.map(|cooldown| cooldown.wait));
        self.shortest_pause.set(pauses.min());
        Lesson {
            series: Series::UpstreamResponses { backend, status },
            cooldown,
            ends_pause: self.asks && cooldown.is_none() && is_first,
        }
    }
}
