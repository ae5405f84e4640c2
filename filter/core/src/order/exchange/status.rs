//! How are the backends, and which configuration runs?

use super::Next;
use super::draft::Draft;
use super::ordering::ordered;
use crate::answer;
use crate::denial::Denial;
use crate::endpoint::decoded;
use crate::gateway::{Client, Model};
use crate::health::{self, Condition, Member, Pool};
use crate::ledger::Outcome;
use crate::route::{Cooldowns, Failures, State, Target};
use crate::store::Moment;
use std::rc::Rc;
use std::time::Duration;

/// What speaks against backends.
struct Complaints {
    cooldowns: Cooldowns,
    failures: Failures,
    now: Duration,
}

impl Complaints {
    fn condition(&self, target: &Target) -> Condition {
        // What fails pauses too, and is no better for it.
        if self.failures.is_down(target.number()) || target.backend.lacks_credential(self.now) {
            return Condition::Down;
        }
        match self.cooldowns.state(target.number(), self.now) {
            State::Pausing(wait) | State::Claimable(wait) if wait > Duration::ZERO => {
                Condition::Throttled(wait)
            }
            _ => Condition::Healthy,
        }
    }

    /// How a model's backends are, as far as they may serve the client; `None` if none may.
    fn pool<'m>(&self, model: &'m Model, client: Option<&Client>) -> Option<Pool<'m>> {
        let regions = client.and_then(|client| client.regions.as_deref());
        let permitted: Vec<_> = model.targets.iter().filter(|target| target.is_in(regions)).collect();
        if permitted.is_empty() {
            return None;
        }
        let condition = Condition::of_all(permitted.iter().map(|target| self.condition(target)));
        let member = |target: &&'m Rc<Target>| Member {
            backend: &target.backend.name,
            deployment: &target.deployment,
            region: target.backend.region.as_deref(),
            condition: self.condition(target),
        };
        let operator = client.filter(|client| client.operator);
        let backends = operator.map(|_| permitted.iter().map(member).collect());
        let order = self.cooldowns.order(&model.name.text, self.now);
        let order = operator.zip(order).map(|(client, order)| ordered(model, client, order, self.now));
        Some(Pool { model: &model.name.text, condition, order, backends })
    }
}

impl Draft {
    /// How the backends are: those of one model, or of all that the client may use. Whoever has shown nothing is told no
    /// names, where it is told anything at all.
    pub(super) fn health(
        &mut self,
        client: Option<&Client>,
        model: Option<&str>,
        moment: Moment<'_>,
    ) -> Next {
        let Moment { store, now } = moment;
        let (cooldowns, failures) = (Cooldowns::load(store), Failures::load(moment));
        self.store_faults += u64::from(cooldowns.is_err()) + u64::from(failures.is_err());
        // Without the store, nothing speaks against any.
        let (cooldowns, failures) = (cooldowns.unwrap_or_default(), failures.unwrap_or_default());
        let complaints = Complaints { cooldowns, failures, now };
        let gateway = self.gateway.clone();
        let models = match model {
            Some(name) => match gateway.model_for(client, &decoded(name)) {
                Ok(model) => vec![model],
                Err(denial) => return self.deny(&denial),
            },
            None => gateway.models_for(client).cloned().collect(),
        };
        let pools: Vec<_> = models.iter().filter_map(|model| complaints.pool(model, client)).collect();
        if pools.is_empty() && model.is_some() {
            return self.deny(&Denial::NoRegion);
        }
        self.answer(Some(health::answer(pools, client.is_some(), now)), Outcome::Answered)
    }

    /// Which configuration runs.
    pub(super) fn configuration(&self, client: &Client, now: Duration) -> Next {
        if !client.operator {
            return self.deny(&Denial::EndpointNotAllowed("config"));
        }
        let answer = answer::configuration(&self.gateway.sha256, self.gateway.since, now);
        self.answer(Some(answer), Outcome::Answered)
    }
}
