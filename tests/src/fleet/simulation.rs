//! How does a fleet of any size share budgets? Envoys by the core's own code, the store by its model, time by steps.
//!
//! Beside the fleet one counter for all gets the same requests: what it admits is what could be admitted. It has the same
//! troubles: an Envoy that is cut off cannot ask it, and of an Envoy that dies it never learns what its requests under way
//! cost, so they stay charged as reserved.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use tollgate::allowance::{Allowance, Measure, Scope, Unit, Weights, Whose};
use tollgate::calendar::Span;
use tollgate::endpoint::Operation;
use tollgate::fleet::Fleet as Shared;
use tollgate::limits::leases::{self, Due, Uncovered};
use tollgate::limits::{self, Account, Budget, Claim, Grant, Outcome, Part, Reservation, Spent};
use tollgate::store::{MemoryStore, Moment};
use tollgate::tokens::Usage;

use super::call::Call;
use super::histories::Dice;
use super::model;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many Envoys.
    pub envoys: usize,
    /// How many clients, the first of which asks most.
    pub clients: usize,
    /// Requests of all clients in a second.
    pub rate: u32,
    /// For how long.
    pub seconds: u32,
    /// What all clients' budgets are together, in hundredths of what all ask for.
    pub budget_percent: u64,
    /// An Envoy dies and another comes, so many times.
    pub deaths: u32,
    /// An Envoy and the store do not reach each other for five seconds, so many times.
    pub cuts: u32,
    /// A replica takes over that lacks up to a second of writes, so many times.
    pub fail_overs: u32,
    /// By how much the clocks of Envoys may be ahead or behind.
    pub skew: Duration,
    /// What chance there is in it.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// All requests.
    pub requests: u64,
    /// Those that waited for the store.
    pub waited: u64,
    /// Calls of the store, each about many accounts.
    pub calls: u64,
    /// Those of them that the tick would not have made.
    pub asked: u64,
    /// Tokens that were admitted.
    pub admitted: u64,
    /// Tokens that one counter for all would have admitted.
    pub central: u64,
    /// What clients spent beyond their budgets.
    pub overshoot: u64,
    /// What was reserved by Envoys that died or were cut off, and not told before their leases ended: the bound of that.
    pub untold: u64,
    /// What replicas that took over did not know of: what was reported in vain, and what was held then. The bound of what they grant again.
    pub lost: u64,
    /// What clients spent beyond all of that: must be nothing.
    pub beyond: u64,
}

const STEP: Duration = Duration::from_millis(10);
const TICK_STEPS: u32 = (leases::TICK.as_millis() / STEP.as_millis()) as u32;
/// A call is lost after that: the default of `timeout_ms`.
const TIMEOUT: Duration = Duration::from_millis(250);
/// Who waits for what others return waits three ticks beyond a call, as in the filter.
const PATIENCE: Duration = TIMEOUT.saturating_add(leases::TICK.saturating_mul(3));
const CUT: Duration = Duration::from_secs(5);
/// How old what a replica has may be, in steps: a second.
const REPLICA_STEPS: u32 = 100;
const BEGIN: Duration = Duration::from_secs(1_795_780_800);
const MONTH: Measure = Measure::Quota(Unit::Tokens(Weights::PLAIN), Span::Month);

struct Request {
    client: usize,
    reserves: u64,
    spends: u64,
    lasts: Duration,
}

struct Waiting {
    request: Request,
    since: Duration,
}

struct UnderWay {
    reservation: Reservation,
    spends: u64,
    ends: Duration,
}

struct Letter {
    client: usize,
    number: u64,
    reply: Vec<i64>,
    sent: Duration,
}

/// What an Envoy has taken of a client's leases and the store does not know.
#[derive(Clone, Copy, Default)]
struct Untold {
    /// When the store was called last.
    called: Duration,
    amount: u64,
    /// What of it the call that is under way tells, and its number.
    said: u64,
    number: u64,
}

struct Envoy {
    name: String,
    store: MemoryStore,
    /// By how many nanoseconds its clock is ahead of the store's.
    skew: i64,
    tick: u32,
    waiting: Vec<Waiting>,
    under_way: Vec<UnderWay>,
    /// What the one counter has admitted of its requests.
    central: Vec<UnderWay>,
    letters: Vec<Letter>,
    cut_until: Duration,
    /// By client.
    untold: HashMap<usize, Untold>,
}

impl Envoy {
    fn born(number: usize, plan: &Plan, dice: &mut Dice) -> Self {
        let most = i64::try_from(plan.skew.as_nanos()).unwrap_or(0);
        let skew = dice.below(2 * most + 1) - most;
        let (store, tick) = (MemoryStore::default(), dice.below(TICK_STEPS.into()) as u32);
        let name = format!("{number:016x}");
        let (waiting, under_way, central) = (Vec::new(), Vec::new(), Vec::new());
        let (letters, cut_until, untold) = (Vec::new(), Duration::ZERO, HashMap::new());
        Self { name, store, skew, tick, waiting, under_way, central, letters, cut_until, untold }
    }
}

/// A fleet at work.
pub struct Fleet {
    plan: Plan,
    dice: Dice,
    now: Duration,
    step: u32,
    born: usize,
    envoys: Vec<Envoy>,
    accounts: Vec<Rc<Account>>,
    /// The same, of one counter for all.
    alone: Vec<Rc<Account>>,
    sizes: Vec<u64>,
    stored: Vec<model::Account>,
    /// What the replica has of it.
    replica: Vec<model::Account>,
    /// By client.
    lost: Vec<u64>,
    central: MemoryStore,
    spent: Vec<u64>,
    untold: Vec<u64>,
    shares: Vec<f64>,
    figures: Figures,
}

/// Tokens of a request, in the middle.
const TOKENS: u64 = 1000;

impl Fleet {
    /// Before its first request.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut dice = Dice::new(plan.seed);
        let weights: Vec<f64> = (1..=plan.clients).map(|rank| 1.0 / rank as f64).collect();
        let all: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let mut shares = Vec::new();
        let mut sizes = Vec::new();
        let demand = f64::from(plan.rate) * f64::from(plan.seconds) * TOKENS as f64 * 0.625;
        for weight in &weights {
            sum += weight / all;
            shares.push(sum);
            let size = demand * weight / all * plan.budget_percent as f64 / 100.0;
            sizes.push((size as u64).max(3 * TOKENS));
        }
        let account = |(at, size): (usize, &u64)| {
            let amount = NonZeroU64::new(*size).unwrap_or(NonZeroU64::MIN);
            let allowance = Allowance::new(Whose::Client, MONTH, amount, Scope::default(), false);
            Account::of_client(&format!("c{at}"), vec![allowance])
        };
        let accounts =
            sizes.iter().enumerate().map(|one| Rc::new(account(one).shared(Shared::default()))).collect();
        let alone = sizes.iter().enumerate().map(|one| Rc::new(account(one))).collect();
        let envoys = (0..plan.envoys).map(|number| Envoy::born(number, &plan, &mut dice)).collect();
        Self {
            dice,
            now: BEGIN,
            step: 0,
            born: plan.envoys,
            envoys,
            accounts,
            alone,
            stored: sizes.iter().map(|_| model::Account::default()).collect(),
            replica: sizes.iter().map(|_| model::Account::default()).collect(),
            lost: vec![0; sizes.len()],
            spent: vec![0; sizes.len()],
            untold: vec![0; sizes.len()],
            sizes,
            central: MemoryStore::default(),
            shares,
            figures: Figures::default(),
            plan,
        }
    }

    /// All of it.
    #[must_use]
    pub fn run(mut self) -> Figures {
        let steps = self.plan.seconds * 100;
        for _ in 0..steps {
            self.advance();
        }
        for envoy in &self.envoys {
            for (client, untold) in &envoy.untold {
                if self.now.saturating_sub(untold.called) > leases::LEASE {
                    self.untold[*client] += untold.amount;
                }
            }
        }
        for (((spent, size), untold), lost) in
            self.spent.iter().zip(&self.sizes).zip(&self.untold).zip(&self.lost)
        {
            self.figures.overshoot += spent.saturating_sub(*size);
            self.figures.beyond += spent.saturating_sub(size + untold + lost);
        }
        self.figures.untold = self.untold.iter().sum();
        self.figures.lost = self.lost.iter().sum();
        self.figures
    }

    fn advance(&mut self) {
        self.now += STEP;
        self.step += 1;
        // As many in each second as the plan says, whatever is left of a step.
        let due = |step: u32| u64::from(step) * u64::from(self.plan.rate) / 100;
        for _ in due(self.step - 1)..due(self.step) {
            self.arrive();
        }
        let steps = self.plan.seconds * 100;
        let is_time = |times: u32| {
            let every = (steps / (times + 1)).max(1);
            self.step.is_multiple_of(every) && self.step / every <= times
        };
        let (dies, is_cut) = (is_time(self.plan.deaths), is_time(self.plan.cuts));
        if is_time(self.plan.fail_overs) {
            self.fails_over();
        } else if self.step.is_multiple_of(REPLICA_STEPS) {
            self.replica.clone_from(&self.stored);
        }
        if dies {
            self.one_dies();
        }
        if is_cut {
            let at = self.any_envoy();
            self.envoys[at].cut_until = self.now + CUT;
        }
        for at in 0..self.envoys.len() {
            self.work(at);
        }
    }

    fn arrive(&mut self) {
        let lot = self.dice.below(1 << 30) as f64 / f64::from(1 << 30);
        let client = self.shares.partition_point(|share| *share < lot).min(self.sizes.len() - 1);
        let reserves = TOKENS / 2 + self.dice.below(TOKENS as i64).unsigned_abs();
        let spends = reserves * (25 + self.dice.below(76).unsigned_abs()) / 100;
        let lasts = Duration::from_millis(200 + self.dice.below(1800).unsigned_abs());
        let request = Request { client, reserves, spends, lasts };
        self.figures.requests += 1;
        let at = self.any_envoy();
        if self.now >= self.envoys[at].cut_until {
            let claim = claim(&self.alone[client], reserves);
            if let Ok(Grant::Granted(granted)) = limits::reserve(Moment::new(&self.central, self.now), claim)
            {
                self.figures.central += spends;
                let (reservation, ends) = (granted.reservation, self.now + lasts);
                self.envoys[at].central.push(UnderWay { reservation, spends, ends });
            }
        }
        let since = self.clock(at);
        if let Some(request) = self.reserve(at, request, Uncovered::Waits) {
            self.figures.waited += 1;
            self.envoys[at].waiting.push(Waiting { request, since });
        }
    }

    /// Answers a request that has to wait.
    fn reserve(&mut self, at: usize, request: Request, uncovered: Uncovered) -> Option<Request> {
        let now = self.clock(at);
        let envoy = &mut self.envoys[at];
        let claim = claim(&self.accounts[request.client], request.reserves);
        match limits::reserve_or(Moment::new(&envoy.store, now), claim, uncovered) {
            Ok(Outcome::Decided(Grant::Granted(granted))) => {
                let (client, spends, ends) = (request.client, request.spends, self.now + request.lasts);
                envoy.under_way.push(UnderWay { reservation: granted.reservation, spends, ends });
                self.figures.admitted += spends;
                self.spent[client] += spends;
                envoy.untold.entry(client).or_default().amount += request.reserves;
                None
            }
            Ok(Outcome::Uncovered(_)) => Some(request),
            _ => None,
        }
    }

    /// What an Envoy does in a step.
    fn work(&mut self, at: usize) {
        let now = self.clock(at);
        let envoy = &mut self.envoys[at];
        for one in envoy.under_way.extract_if(.., |one| one.ends <= self.now) {
            settle(&envoy.store, one, now);
        }
        for one in envoy.central.extract_if(.., |one| one.ends <= self.now) {
            settle(&self.central, one, self.now);
        }
        let letters = std::mem::take(&mut envoy.letters);
        for letter in letters {
            let account = &self.accounts[letter.client];
            let _ = leases::answered(&envoy.store, account, letter.number, &letter.reply, (letter.sent, now));
        }
        let is_tick = (self.step + envoy.tick).is_multiple_of(TICK_STEPS);
        for waiting in std::mem::take(&mut self.envoys[at].waiting) {
            let is_patient = now.saturating_sub(waiting.since) < PATIENCE;
            let uncovered = if is_patient { Uncovered::WaitsOn } else { Uncovered::IsRefused };
            if let Some(request) = self.reserve(at, waiting.request, uncovered) {
                self.envoys[at].waiting.push(Waiting { request, since: waiting.since });
            }
        }
        let envoy = &mut self.envoys[at];
        let mut due: BTreeMap<usize, Due> =
            envoy.waiting.iter().map(|waiting| (waiting.request.client, Due::ForRequests)).collect();
        if is_tick {
            for key in leases::active(&envoy.store, Shared::default()).unwrap_or_default() {
                let client = key.rsplit_once("/c").and_then(|(_, client)| client.parse().ok());
                due.extend(client.map(|client| (client, Due::ByTick)));
            }
        }
        let mut is_called = false;
        for (client, due) in due {
            let account = &self.accounts[client];
            let call = leases::call(Moment::new(&envoy.store, now), account, (&envoy.name, due), TIMEOUT)
                .ok()
                .flatten();
            match call {
                Some(call) => {
                    let untold = envoy.untold.entry(client).or_default();
                    if untold.number != call.number {
                        (untold.number, untold.said) = (call.number, untold.amount);
                    }
                    if self.now < envoy.cut_until {
                        // It does not arrive, and is sent again.
                        continue;
                    }
                    if self.now.saturating_sub(untold.called) > leases::LEASE {
                        self.untold[client] += untold.amount;
                    }
                    untold.amount -= std::mem::take(&mut untold.said);
                    untold.called = self.now;
                    let asked = Call::read(&call.arguments).expect("a call is as the script takes it");
                    let micros = i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX);
                    let reply = self.stored[client].call(&asked, micros).numbers();
                    envoy.letters.push(Letter { client, number: call.number, reply, sent: now });
                    is_called = true;
                }
                None if is_tick => {
                    let _ = leases::retire(Moment::new(&envoy.store, now), account);
                }
                None => {}
            }
        }
        self.figures.calls += u64::from(is_called);
        self.figures.asked += u64::from(is_called && !is_tick);
    }

    fn fails_over(&mut self) {
        for ((stored, replica), lost) in self.stored.iter_mut().zip(&self.replica).zip(&mut self.lost) {
            let ((used, held), (known, _)) = (stored.taken(), replica.taken());
            *lost += used.saturating_sub(known) + held;
            stored.clone_from(replica);
        }
    }

    fn one_dies(&mut self) {
        let at = self.any_envoy();
        self.born += 1;
        let born = Envoy::born(self.born, &self.plan, &mut self.dice);
        let dead = std::mem::replace(&mut self.envoys[at], born);
        for (client, untold) in dead.untold {
            self.untold[client] += untold.amount;
        }
    }

    /// What time it is, as an Envoy has it.
    fn clock(&self, at: usize) -> Duration {
        let skew = self.envoys.get(at).map_or(0, |envoy| envoy.skew);
        let by = Duration::from_nanos(skew.unsigned_abs());
        if skew < 0 { self.now.saturating_sub(by) } else { self.now + by }
    }

    fn any_envoy(&mut self) -> usize {
        self.dice.below(self.envoys.len() as i64) as usize
    }
}

fn claim(account: &Rc<Account>, tokens: u64) -> Claim {
    Claim {
        budget: Rc::new(Budget::new([account.clone()])),
        part: Part::All,
        model: None,
        operation: Operation::ChatCompletions,
        usage: Usage { prompt: tokens, ..Usage::default() },
        cost: 0,
    }
}

fn settle(store: &MemoryStore, one: UnderWay, now: Duration) {
    let usage = Usage { prompt: one.spends, ..Usage::default() };
    let spent = Spent { usage, cost: 0, requests: 1 };
    let _ = limits::settle(Moment::new(store, now), &one.reservation.settle(spent));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_ahead_and_behind_by_no_more_than_the_plan_says() {
        let skew = Duration::from_secs(3);
        let (envoys, clients, rate, seconds, budget_percent) = (8, 1, 100, 1, 100);
        let (deaths, cuts, fail_overs, seed) = (0, 0, 0, 1);
        let plan =
            Plan { envoys, clients, rate, seconds, budget_percent, deaths, cuts, fail_overs, skew, seed };
        let fleet = Fleet::new(plan);
        let clocks: Vec<_> = (0..envoys).map(|at| fleet.clock(at)).collect();
        assert!(clocks.iter().all(|clock| clock.abs_diff(fleet.now) <= skew), "{clocks:?}");
        assert!(clocks.iter().any(|clock| *clock > fleet.now), "{clocks:?}");
        assert!(clocks.iter().any(|clock| *clock < fleet.now), "{clocks:?}");
    }
}
