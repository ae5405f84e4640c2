//! Where may this request go, and in which order?
//!
//! The targets of a model that are in the client's regions, by priority and weight, less those that asked for a pause.
//! The regions come first: nothing that is decided later brings a target back. Not decided here: what happens at a
//! target; Envoy connects, balances and retries.

mod answer;
mod cooldown;
mod failing;
mod nearness;
mod order;
mod ordered;
mod pools;
mod share;

pub use answer::{cooldown, failure_pause, room};
pub use cooldown::{
    COOLDOWN_DEFAULT, COOLDOWN_MAX, Cooldown, Cooldowns, SCRIPT, Shared as SharedPauses, State,
};
pub use failing::{Failing, Failures};
pub use nearness::{Measure, Nearness, Sight, Watch, per_token};
pub use ordered::{ORDER_MAX, Order};
pub use pools::{Fitted, Pool, Routing};
pub use share::{Open, PARTS, Shares};

use crate::allowance::Weights;
use crate::credential::CredentialValue;
use crate::decision::{PassedOver, Why};
use crate::denial::Denial;
use crate::digest::{FNV1A_OF_NOTHING, fnv1a, mix};
use crate::endpoint::{Operation, Style};
use crate::gauge::Gauges;
use crate::prices::{Prices, Service};
use crate::store::{Moment, StoreFault};
use crate::tier::{Lane, Tier};
use crate::tokens::Usage;
use std::rc::Rc;
use std::time::Duration;

/// A backend: one Envoy cluster, and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What the operator calls it; the word in logs and metrics.
    pub name: Rc<str>,
    /// What Envoy calls it.
    pub cluster: Rc<str>,
    /// How it wants to be asked.
    pub style: Style,
    /// What its paths begin with.
    pub base: Rc<str>,
    /// Where it is, in the operator's word.
    pub region: Option<Rc<str>>,
    /// The header that lets us in; `None` where Envoy adds it.
    pub credential: Option<Credential>,
    /// How much all its deployments take together, as far as anybody said.
    pub gauges: Gauges,
    /// How that is counted, and what a deployment of its own takes.
    pub counts: Counts,
}

impl Backend {
    /// The whole path and query for an operation on a deployment.
    #[must_use]
    pub fn path(&self, operation: Operation, deployment: &str) -> String {
        self.style.path(&self.base, operation, deployment)
    }

    /// The same for an endpoint that is passed on unread.
    #[must_use]
    pub fn other_path(&self, rest: &str, query: &str) -> String {
        self.style.other_path(&self.base, rest, query)
    }

    /// Whether it is to be shown what there is not now.
    #[must_use]
    pub fn lacks_credential(&self, now: Duration) -> bool {
        self.credential.as_ref().is_some_and(|credential| credential.value.is_lacking(now))
    }
}

/// How a backend counts what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Its tokens, over so long.
    pub window: Duration,
    /// Its requests, over so long.
    pub requests_window: Duration,
    /// Whether what was asked for and not used is given back.
    pub is_provisioned: bool,
    /// A token of each kind, by so much, where a model has no weights of its own.
    pub weights: Weights,
}

impl Default for Counts {
    /// Over a minute, and nothing is given back.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { window: minute, requests_window: minute, is_provisioned: false, weights: Weights::UNCACHED }
    }
}

/// A header with a secret in it, which does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `api-key` or `authorization`, in lower case.
    pub header: String,
    /// The whole value.
    pub value: CredentialValue,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({}: …)", self.header)
    }
}

/// A model at a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub backend: Rc<Backend>,
    /// What it is called there.
    pub deployment: Rc<str>,
    /// Its word in records and metrics: the backend's name, and with its deployment where the model has several there.
    pub word: Rc<str>,
    /// What it costs there, if anybody said.
    pub prices: Option<Prices>,
    /// What it costs where the backend has served it from another deployment of its own, if that differs.
    pub spillover_prices: Option<Prices>,
    /// How much it takes, as far as anybody said.
    pub gauges: Gauges,
    /// The lowest is tried first.
    pub priority: u32,
    /// Its part of the requests among those of the same priority; `None` where they have an order.
    pub weight: Option<u32>,
    /// The most of the model's requests that go there, in [parts](PARTS) of each; `None` is all.
    pub share_max: Option<u32>,
    id: u64,
}

impl Target {
    /// A deployment at a backend.
    #[must_use]
    pub fn new(backend: Rc<Backend>, deployment: Rc<str>, prices: Option<Prices>) -> Self {
        let id = number_of(&[&backend.name, &deployment]);
        Self {
            gauges: backend.gauges,
            word: backend.name.clone(),
            backend,
            deployment,
            prices,
            spillover_prices: None,
            priority: 0,
            weight: None,
            share_max: None,
            id,
        }
    }

    /// A backend as what is passed on knows it. It goes to no deployment, so it takes nothing of what was declared.
    #[must_use]
    pub fn of_no_deployment(backend: Rc<Backend>) -> Self {
        Self { gauges: Gauges::default(), ..Self::new(backend, "".into(), None) }
    }

    /// Whether it may serve a client that is only to be served in these regions; `None` is anywhere.
    #[must_use]
    pub fn is_in(&self, regions: Option<&[Rc<str>]>) -> bool {
        regions
            .is_none_or(|regions| self.backend.region.as_ref().is_some_and(|region| regions.contains(region)))
    }

    /// The price of a usage there, in millionths of the currency; `None` if nobody said.
    #[must_use]
    pub fn micros(&self, usage: Usage, service: Service<'_>) -> Option<u64> {
        let spillover = self.spillover_prices.as_ref().filter(|_| service.is_spillover);
        spillover.or(self.prices.as_ref()).map(|prices| prices.micros(usage, service.tier))
    }

    /// The most that so many tokens can cost there, in millionths.
    #[must_use]
    pub fn micros_max(&self, usage: Usage, asked: Option<&str>) -> u64 {
        let both = [&self.prices, &self.spillover_prices];
        both.into_iter().flatten().map(|prices| prices.micros_max(usage, asked)).max().unwrap_or(0)
    }

    /// Whether its price depends on the tier that a request asks for.
    #[must_use]
    pub fn has_tiers(&self) -> bool {
        let both = [&self.prices, &self.spillover_prices];
        both.into_iter().flatten().any(|prices| !prices.tiers.is_empty())
    }

    /// That it was not the next one to be asked, for the record.
    #[must_use]
    pub fn passed_over(&self, why: Why) -> PassedOver {
        PassedOver { backend: self.word.clone(), why }
    }

    /// The number by which it is known in records that all share.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.id
    }

    /// What is asked of it by a request for this tier.
    #[must_use]
    pub fn lane(&self, tier: Option<Tier>) -> Lane {
        Lane { target: self.id, tier }
    }
}

impl From<&Target> for Lane {
    fn from(target: &Target) -> Self {
        target.lane(None)
    }
}

impl From<&Rc<Target>> for Lane {
    fn from(target: &Rc<Target>) -> Self {
        target.lane(None)
    }
}

/// A number that is as good as dice, from one that is not.
#[must_use]
pub fn lot(number: u64) -> u64 {
    mix(number)
}

/// A number for these names, for a record that outlives a configuration; of some hundred no two share one by chance.
#[must_use]
pub fn number_of(names: &[&str]) -> u64 {
    fnv1a(FNV1A_OF_NOTHING, names.join("\0").as_bytes())
}

/// Who asks, as far as it decides where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// The only regions that may serve it; `None` is anywhere.
    pub regions: Option<&'a [Rc<str>]>,
    /// Whether it is served by targets of the first priority only.
    pub stays: bool,
    /// The tier of service that it asks for, if that may be refused by itself.
    pub tier: Option<Tier>,
    /// Whether it is asked again as the default tier where that one is refused.
    pub asks_again: bool,
    /// The number that decides between weights: one for each request, or always the same for one client.
    pub lot: u64,
    /// What orders those of one priority by how soon they answer; `None` where they are not.
    pub watch: Option<&'a Watch>,
    /// What bounds the shares of targets; `None` where nothing does.
    pub shares: Option<&'a Rc<Shares>>,
    /// The model, for which an operator may have said an order; `None` where there is none.
    pub model: Option<&'a str>,
}

/// Where a request goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The targets to try, best first.
    pub targets: Vec<Rc<Target>>,
    /// The first of them is asked whether its pause is over: the others wait for its answer.
    pub probes_first: bool,
    /// How often the store failed. Without it, every target is taken to be open: a throttled one costs an attempt, not
    /// the request.
    pub faults: u64,
    /// Where the request would go, were every target open.
    pub preferred: Option<Rc<Target>>,
    /// The tier that they are asked for, if it may be refused by itself.
    pub tier: Option<Tier>,
    /// The targets to ask for the default tier when all of these have been tried and one has refused the tier.
    pub again: Vec<Rc<Target>>,
    /// Whether the targets are asked for the default tier, for all that there are pause for the one that the request names.
    pub as_default: bool,
    /// The tier that a target pauses for, while it may be asked for the default one.
    pub refused: Option<Tier>,
    /// What its answer is measured for; `None` where nobody wants to know.
    pub watch: Option<Watch>,
    /// What bounds the shares of targets; `None` where nothing does.
    pub shares: Option<Rc<Shares>>,
    /// Whether the order is an operator's.
    pub is_ordered: bool,
}

impl Choice {
    /// Puts the targets with a bound behind all others, but for the first; those that are not `open` are left out, and all of them
    /// where no attempt is seen, for nobody could count that it goes there.
    pub fn put_bounded_last(&mut self, open: &Open, fitted: Fitted) {
        let Some(shares) = &self.shares else { return };
        let mut is_first = true;
        let bounded = |target: &mut Rc<Target>| !std::mem::take(&mut is_first) && shares.bound(target);
        let mut bounded: Vec<_> = self.targets.extract_if(.., bounded).collect();
        bounded.retain(|target| open.has(target) && fitted == Fitted::EachAttempt);
        self.targets.append(&mut bounded);
        // What it was counted for once it is counted for, however often it is asked.
        self.again.retain(|target| !shares.bound(target) || is_among(&self.targets, target));
    }

    /// Leaves out the targets of a lower priority than where the request would go, were every target open. Answers with those
    /// that were among the first to be tried.
    pub fn keep_preferred(&mut self) -> Vec<Rc<Target>> {
        let targets = std::mem::take(&mut self.targets);
        let (elsewhere, kept) = targets.into_iter().partition(|target| self.is_spill(target));
        self.targets = kept;
        let again = std::mem::take(&mut self.again);
        self.again = again.into_iter().filter(|target| !self.is_spill(target)).collect();
        elsewhere
    }

    /// The targets in the order in which they are tried, each with whether it is asked for the default tier in place of the one
    /// that the request names.
    pub fn calls(&self) -> impl Iterator<Item = (&Rc<Target>, bool)> {
        let first = self.targets.iter().map(|target| (target, self.as_default));
        first.chain(self.again.iter().map(|target| (target, true)))
    }

    /// Whether a target is of a lower priority than where the request would go, were every target open.
    #[must_use]
    pub fn is_spill(&self, target: &Target) -> bool {
        self.preferred.as_ref().is_some_and(|preferred| target.priority > preferred.priority)
    }
}

fn is_among(targets: &[Rc<Target>], target: &Target) -> bool {
    targets.iter().any(|other| other.id == target.id)
}

/// The targets to try, best first, or as an operator said; those that pause are behind the others if their capacity was declared, and left out
/// if not. When none is left, the refusal carries the shortest wait. Whoever is not there for the asking is added to
/// `passed_over`, whatever comes of it.
pub fn choose(
    targets: &[Rc<Target>],
    asker: Asker<'_>,
    moment: Moment<'_>,
    passed_over: &mut Vec<PassedOver>,
) -> Result<Choice, Denial> {
    let abroad = targets.iter().filter(|target| !target.is_in(asker.regions));
    passed_over.extend(abroad.map(|target| target.passed_over(Why::Region)));
    let mut permitted = order::order(targets, asker.regions, asker.lot);
    if permitted.is_empty() {
        return Err(Denial::NoRegion);
    }
    if asker.stays {
        let first = permitted.iter().map(|target| target.priority).min();
        let lower = permitted.extract_if(.., |target| Some(target.priority) != first);
        passed_over.extend(lower.map(|target| target.passed_over(Why::Spill)));
    }
    let now = moment.now;
    let mut loaded = Cooldowns::glance(moment);
    let order = loaded.as_ref().ok().zip(asker.model).and_then(|(known, model)| known.order(model, now));
    let order = order.cloned();
    let arrange =
        |permitted: &mut Vec<Rc<Target>>| order.as_ref().map(|order| order.arrange(permitted)).is_some();
    let is_ordered = arrange(&mut permitted);
    let preferred = permitted.first().cloned();
    let locked = permitted.extract_if(.., |target| target.backend.lacks_credential(now));
    passed_over.extend(locked.map(|target| target.passed_over(Why::Credential)));
    if permitted.is_empty() {
        return Err(Denial::CredentialUnavailable);
    }
    let open = asker.shares.map(|shares| Ok::<_, StoreFault>((shares, shares.open(moment.store)?)));
    let open = open.transpose();
    let has_no_share = |target: &Rc<Target>| {
        let known = open.as_ref().ok().and_then(Option::as_ref);
        known.is_some_and(|(shares, open)| shares.bound(target) && !open.has(target))
    };
    let beyond = permitted.extract_if(.., |target| has_no_share(target));
    passed_over.extend(beyond.map(|target| target.passed_over(Why::Share)));
    let arranged = asker.watch.map_or(Ok(()), |watch| watch.arrange(&mut permitted, asker.lot, moment));
    // Those that the order names come first all the same.
    arrange(&mut permitted);
    // Who asks first, and who is refused, is not decided by what may be old.
    let is_first_open = |known: &Cooldowns| {
        permitted.first().is_some_and(|first| known.state(first.lane(asker.tier), now) == State::Open)
    };
    if loaded.as_ref().is_ok_and(|known| !is_first_open(known)) {
        loaded = Cooldowns::load(moment.store);
    }
    let mut faults = u64::from(open.is_err()) + u64::from(arranged.is_err()) + u64::from(loaded.is_err());
    let cooldowns = loaded.unwrap_or_default();
    let state = |target: &Rc<Target>| cooldowns.state(target.lane(asker.tier), now);
    let remaining = |target: &Rc<Target>| cooldowns.remaining(target.lane(asker.tier), now);
    let mut claim = |target: &Rc<Target>| {
        Cooldowns::claim(moment, target.lane(asker.tier)).unwrap_or_else(|_| {
            faults += 1;
            true
        })
    };
    let (mut ready, mut pausing, mut probes_first) = (Vec::new(), Vec::new(), false);
    for target in &permitted {
        match state(target) {
            State::Open => ready.push(target.clone()),
            // Its pause is over, but that was a guess. If it would come first, one request goes to see.
            State::Claimable(Duration::ZERO) if !ready.is_empty() => ready.push(target.clone()),
            State::Claimable(Duration::ZERO) if claim(target) => {
                probes_first = true;
                ready.push(target.clone());
            }
            State::Claimable(_) | State::Pausing(_) => pausing.push(target.clone()),
        }
    }
    let may_be_asked =
        |target: &&Rc<Target>| is_among(&ready, target) || cooldowns.state(*target, now) == State::Open;
    let mut again = Vec::new();
    if asker.asks_again && asker.tier.is_some() {
        again.extend(permitted.iter().filter(may_be_asked).cloned());
    }
    let refused = asker.tier.filter(|_| again.iter().any(|target| !is_among(&ready, target)));
    let as_default = ready.is_empty() && !again.is_empty();
    if as_default {
        ready = std::mem::take(&mut again);
    }
    // Where there is a queue for its capacity, a pause may be waited for.
    if ready.iter().chain(&pausing).any(|target| !target.gauges.is_empty()) {
        let is_asked = |target: &Target| is_among(&ready, target) || is_among(&again, target);
        let waits = pausing.iter().filter(|target| !target.gauges.is_empty() && !is_asked(target));
        let waits: Vec<_> = waits.cloned().collect();
        ready.extend(waits);
    }
    if ready.is_empty() {
        // All pause. If that was a guess, one request goes to see all the same: else nobody would know.
        let guessed = pausing.iter().filter(|target| matches!(state(target), State::Claimable(_)));
        let soonest = guessed.min_by_key(|target| remaining(target));
        if let Some(target) = soonest
            && claim(target)
        {
            probes_first = true;
            ready.push(target.clone());
        }
    }
    if ready.is_empty() {
        // Nobody is refused because requests of others have failed: whoever made the pause had somebody behind it, and here
        // there is nobody.
        let failures = Failures::load(moment).unwrap_or_else(|_| {
            faults += 1;
            Failures::default()
        });
        let only_fails = |target: &Rc<Target>| {
            let lane = target.lane(asker.tier);
            let refuses_tier = cooldowns.state(lane.number(), now) != State::Open && asker.tier.is_some();
            cooldowns.is_guessed(target.id) && failures.is_steady(target.id) && !refuses_tier
        };
        (ready, pausing) = pausing.into_iter().partition(only_fails);
    }
    let is_sent_to_see =
        |target: &Rc<Target>| probes_first && ready.first().is_some_and(|first| first.id == target.id);
    let passed = pausing.iter().filter(|target| !is_sent_to_see(target));
    passed_over.extend(passed.map(|target| target.passed_over(Why::Pausing(remaining(target)))));
    if ready.is_empty() {
        let wait = pausing.iter().map(remaining).min();
        return Err(Denial::BackendsThrottled { wait: wait.unwrap_or(COOLDOWN_DEFAULT) });
    }
    let (watch, shares) = (asker.watch.cloned(), asker.shares.cloned());
    Ok(Choice {
        targets: ready,
        probes_first,
        faults,
        preferred,
        tier: asker.tier.filter(|_| !as_default),
        again,
        as_default,
        refused,
        watch,
        shares,
        is_ordered,
    })
}

#[cfg(test)]
mod tests;
