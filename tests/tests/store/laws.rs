//! What holds whatever happens, as long as holders tell what they spend: laws of the script's model.

use std::collections::BTreeMap;

use tollgate_tests::fleet::call::{Call, Kind, Told};
use tollgate_tests::fleet::histories::{Dice, Holder, LEASE_MS, Rule, moment, rules};
use tollgate_tests::fleet::model::Account;

const SECOND: i64 = 1_000_000;
const LEASE: i64 = LEASE_MS.cast_signed() * 1000;

/// What may happen.
#[derive(Clone, Copy, PartialEq)]
enum World {
    /// Answers are lost and calls are repeated, but nobody is silent for as long as a lease.
    Whole,
    /// Holders are silent for long, and die.
    Torn,
}

/// One who spends what it holds and tells it.
struct Honest {
    holder: Holder,
    is_dead: bool,
    /// When the store was told last.
    told: i64,
    /// Whether the store has noticed that it is gone.
    is_gone: bool,
    /// What it has spent, and what of that the store was told; by limit and window.
    spent: BTreeMap<(u64, i64), i64>,
    charged: BTreeMap<(u64, i64), i64>,
}

impl Honest {
    fn new(name: String) -> Self {
        let (spent, charged) = (BTreeMap::new(), BTreeMap::new());
        Self { holder: Holder::new(name), is_dead: false, told: i64::MIN / 2, is_gone: false, spent, charged }
    }

    fn unreported(&self, key: (u64, i64)) -> i64 {
        self.spent.get(&key).unwrap_or(&0) - self.charged.get(&key).unwrap_or(&0)
    }
}

struct Fleet {
    world: World,
    dice: Dice,
    rules: Vec<Rule>,
    account: Account,
    all: Vec<Honest>,
    now: i64,
    /// What was spent; what the store was told; what was unreported when its holder was found to be gone.
    spent: BTreeMap<(u64, i64), i64>,
    charged: BTreeMap<(u64, i64), i64>,
    slack: BTreeMap<(u64, i64), i64>,
    /// One bucket for all, that is told at once: units times microseconds, and when.
    central: BTreeMap<u64, (i128, i64)>,
}

fn window(rule: &Rule, now: i64) -> i64 {
    match rule.kind {
        Kind::Window(span) => span.bounds(now.unsigned_abs() / 1_000_000).0.cast_signed(),
        _ => 0,
    }
}

impl Fleet {
    fn new(seed: u64, world: World) -> Self {
        let mut dice = Dice::new(seed);
        let (mut rules, now) = (rules(&mut dice), moment(&mut dice));
        for rule in &mut rules {
            rule.shadow = false;
        }
        let all = (0..2 + dice.below(4)).map(|at| Honest::new(format!("holder{at}"))).collect();
        let (account, central) = (Account::default(), BTreeMap::new());
        let (spent, charged, slack) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { world, dice, rules, account, all, now, spent, charged, slack, central }
    }

    fn step(&mut self) {
        let pause = match (self.world, self.dice.below(30)) {
            (World::Torn, 0) => self.dice.amount(4000 * SECOND),
            (World::Torn, 1) => LEASE + self.dice.below(3),
            _ => self.dice.amount(SECOND / 4),
        };
        self.now += pause;
        let at = usize::try_from(self.dice.below(self.all.len() as i64)).unwrap();
        for rule in self.rules.clone() {
            self.spend(at, &rule);
        }
        let hears = !self.dice.one_of(6);
        if !self.dice.one_of(4) {
            self.call(at, hears);
        }
        if self.world == World::Torn && self.dice.one_of(40) && !self.all[at].is_dead {
            self.all[at].is_dead = true;
            let born = Honest::new(format!("holder{}", self.all.len()));
            self.all.push(born);
        }
        if self.world == World::Whole {
            for at in 0..self.all.len() {
                if self.now - self.all[at].told > LEASE / 2 {
                    self.call(at, true);
                }
            }
        }
    }

    /// Only of a lease that lives, and of the window that is.
    fn spend(&mut self, at: usize, rule: &Rule) {
        let one = &mut self.all[at];
        let local = one.holder.local(rule.id);
        let key = (rule.id, window(rule, self.now));
        if one.is_dead || !one.holder.is_live(self.now) || local.window != key.1 {
            return;
        }
        let used = one.spent.get(&key).copied().unwrap_or(0).min(local.ack - local.left);
        let amount = match self.dice.below(4) {
            // A bucket's refund is the store's to judge.
            0 if !matches!(rule.kind, Kind::Bucket(_)) => -self.dice.amount(used.max(0)),
            1 => local.left.max(0),
            _ => self.dice.amount(local.left.max(0)),
        };
        one.holder.spend(rule.id, amount);
        *one.spent.entry(key).or_default() += amount;
        let spent = self.spent.entry(key).or_default();
        *spent += amount;
        if self.world == World::Torn && rule.kind == Kind::Places {
            return;
        }
        if let Kind::Bucket(period) = rule.kind {
            let (level, when) = self.central.entry(rule.id).or_insert((0, self.now));
            let flows = i128::from(rule.size) * i128::from(self.now - *when);
            *level = (*level - flows).max(0) + i128::from(amount) * i128::from(period);
            *when = self.now;
            let brim = i128::from(rule.size) * i128::from(period);
            assert!(self.world == World::Torn || *level <= brim, "{rule:?} gave {level} of {brim}");
        } else {
            let most = rule.size + self.slack.get(&key).unwrap_or(&0);
            assert!(*spent <= most, "{rule:?} in window {}: {spent} of {most}", key.1);
        }
    }

    /// A call that the store gets; its answer may be lost.
    fn call(&mut self, at: usize, hears: bool) {
        if self.all[at].is_dead {
            return;
        }
        self.note_gone();
        let one = &mut self.all[at];
        let call = one.holder.call(&self.rules, &mut self.dice, self.now);
        let answer = self.account.call(&call, self.now);
        let rules: Vec<_> = asked(&self.rules, &call).collect();
        (one.told, one.is_gone) = (self.now, false);
        let is_first = one.holder.delivered();
        if is_first {
            for (rule, ask) in rules.iter().zip(&call.asks) {
                let key = (rule.id, ask.window.cast_signed());
                let is_present = key.1 == window(rule, self.now);
                if rule.kind != Kind::Places && is_present {
                    let spent = ask.ack - ask.left - ask.give;
                    *one.charged.entry(key).or_default() += spent;
                    *self.charged.entry(key).or_default() += spent;
                }
            }
        }
        for (rule, told) in rules.iter().zip(&answer.limits) {
            if matches!(rule.kind, Kind::Window(_)) && is_first {
                let charged = self.charged.get(&(rule.id, told.window)).copied().unwrap_or(0);
                assert_eq!(told.used, charged, "{rule:?}");
            }
        }
        if hears {
            one.holder.take(&answer);
        }
    }

    /// What was spent and not told by those whose lease has ended: the error that has a bound.
    fn note_gone(&mut self) {
        for one in self.all.iter_mut().filter(|one| !one.is_gone && self.now - one.told > LEASE) {
            one.is_gone = true;
            for rule in &self.rules {
                let key = (rule.id, window(rule, self.now));
                *self.slack.entry(key).or_default() += one.unreported(key).max(0);
            }
        }
    }

    /// All return what they hold, and the dead are found to be dead.
    fn end(&mut self) -> Vec<(Rule, Told)> {
        self.now += LEASE / 2;
        for at in 0..self.all.len() {
            self.call(at, true);
        }
        // Whoever comes after the last lease's end finds nothing held.
        self.now += LEASE + 1;
        let mut last = Honest::new("last".to_owned());
        let mut call = last.holder.call(&self.rules, &mut self.dice, self.now);
        for ask in &mut call.asks {
            (ask.need, ask.want) = (0, 0);
        }
        let told = self.account.call(&call, self.now).limits;
        asked(&self.rules, &call).zip(told).collect()
    }
}

/// The limits that a call speaks of.
fn asked(rules: &[Rule], call: &Call) -> impl Iterator<Item = Rule> {
    call.asks.iter().filter_map(|ask| rules.iter().find(|rule| rule.id == ask.id).copied())
}

fn run(world: World, seeds: u64) {
    for seed in 0..seeds {
        let mut fleet = Fleet::new(seed, world);
        for _ in 0..400 {
            fleet.step();
        }
        for (rule, told) in fleet.end() {
            let charged = fleet.charged.get(&(rule.id, told.window)).copied().unwrap_or(0);
            assert_eq!(told.held, 0, "seed {seed}: {rule:?}");
            match rule.kind {
                Kind::Window(_) => assert_eq!(told.used, charged, "seed {seed}: {rule:?}"),
                Kind::Bucket(period) if period < LEASE.unsigned_abs() => {
                    assert_eq!(told.used, 0, "seed {seed}: {rule:?}")
                }
                Kind::Bucket(_) | Kind::Places => {}
            }
        }
    }
}

#[test]
fn nobody_spends_more_than_there_is() {
    run(World::Whole, 300);
}

#[test]
fn the_silent_and_the_dead_cost_no_more_than_they_did_not_tell() {
    run(World::Torn, 300);
}
