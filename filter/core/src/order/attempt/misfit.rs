//! Does a backend not fit its configuration, by its own word?
//!
//! Then the next one is asked. It is no fault of the client's, who is told of it only if no backend is left.

use super::{Destination, Flight, Heard, Leg};
use crate::denial::Denial;
use crate::failure::Failure;
use crate::ledger::Series;
use crate::route::{Cooldown, Cooldowns, Target};
use crate::store::Outside;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// An answer that has this header makes Envoy's route go on to the next candidate. Only an attempt sets it.
const ELSEWHERE: &str = "x-tollgate-elsewhere";

/// A deployment that is made now can be used some minutes later, and a new key too; a request that asks too early costs
/// an attempt.
const MISFIT_PAUSE: Duration = Duration::from_secs(30);

/// What is wrong with the configuration of a backend.
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

/// A backend that does not fit its configuration, as its operator is told of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Misconfigured {
    target: Rc<Target>,
    misfit: Misfit,
    status: u16,
}

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (backend, deployment, status) = (&self.target.backend.name, &self.target.deployment, self.status);
        match self.misfit {
            Misfit::MissingDeployment => write!(
                f,
                "backend {backend} has no deployment {deployment}: the configuration names one that is not there"
            ),
            Misfit::RefusedCredential => write!(
                f,
                "backend {backend} refuses this gateway's credential with {status}: check its key, its permissions and its network rules"
            ),
        }
    }
}

impl Flight {
    /// Whether the body of an answer with this status is to be read before the answer goes on.
    pub(super) fn may_tell_a_misfit(&self, status: u16) -> bool {
        match status {
            400 | 404 => matches!(self.destination, Destination::Deployment(_)),
            403 => true,
            _ => false,
        }
    }

    fn misfit_of(&self, status: u16, failure: &Failure) -> Option<Misfit> {
        match status {
            401 | 403 if failure.is_about_gateway(status) => Some(Misfit::RefusedCredential),
            400 | 404 if self.may_tell_a_misfit(status) => {
                let is_missing = failure.is_missing_deployment()
                    || status == 404 && failure.speaks_of_missing_deployment();
                is_missing.then_some(Misfit::MissingDeployment)
            }
            _ => None,
        }
    }
}

impl Leg {
    /// Asks the next backend, if an error says that this one does not fit its configuration.
    pub(super) fn leave_misfit(
        &self,
        status: u16,
        failure: &Failure,
        outside: &Outside<'_>,
        heard: &mut Heard,
    ) {
        let (flight, target) = (&self.flight, &self.target);
        let Some(misfit) = flight.misfit_of(status, failure) else { return };
        flight.misfit.set(Some(misfit));
        let series = match misfit {
            Misfit::MissingDeployment => Series::MissingDeployments { backend: target.word.clone() },
            Misfit::RefusedCredential => {
                heard.noted(flight.gateway.failing.failed(target, outside.moment()).map(drop));
                Series::RefusedCredentials { backend: target.backend.name.clone() }
            }
        };
        heard.counts.push(series);
        let is_sure = match misfit {
            Misfit::MissingDeployment => failure.is_missing_deployment(),
            Misfit::RefusedCredential => failure.refuses_credential(status),
        };
        // Somebody has to tell the client, so whoever comes last is asked again.
        if is_sure && !flight.is_last(target) {
            let pause = Cooldown { wait: MISFIT_PAUSE, from_backend: false };
            heard.noted(Cooldowns::note(outside.moment(), target, pause));
        }
        heard.misconfigured = Some(Misconfigured { target: target.clone(), misfit, status });
        heard.set.push((ELSEWHERE, "1".to_owned()));
    }
}
