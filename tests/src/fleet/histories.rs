//! What may happen to holders and their store: histories from a seed.

use std::collections::BTreeMap;

use super::call::{Answer, Ask, Call, Kind};
use tollgate::calendar::Span;
use tollgate::digest::{MIX_STEP, mix};

/// How long a lease lasts, in milliseconds.
pub const LEASE_MS: u64 = 3000;

const SECOND: i64 = 1_000_000;

/// Numbers that look like chance and are the same for the same seed: SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Those of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(MIX_STEP);
        number
    }

    /// From 0 up to `bound` and not that; 0 if the bound is.
    pub fn below(&mut self, bound: i64) -> i64 {
        if bound <= 0 { 0 } else { (self.any() % bound.unsigned_abs()).cast_signed() }
    }

    /// Whether it is one of so many.
    pub fn one_of(&mut self, many: i64) -> bool {
        self.below(many) == 0
    }

    /// From 0 up to `most`, the small ones as likely as the large ones.
    pub fn amount(&mut self, most: i64) -> i64 {
        let bits = 64 - most.max(1).leading_zeros();
        let shift = self.below(bits.into());
        self.below((most >> shift).saturating_add(1))
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len().cast_signed() as i64)).unwrap_or(0)]
    }
}

/// What a holder knows of one limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local {
    /// What the store holds for it, by the last answer; of places, those that are in use and idle ones.
    pub ack: i64,
    /// What is left.
    pub left: i64,
    /// The window that this is of.
    pub window: i64,
    /// What was used, by the last answer.
    pub used_seen: i64,
    /// What `left` was when the call under way was made.
    at_call: i64,
    /// Whether what is idle shall be returned.
    is_recalled: bool,
}

/// One limit of the account.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its id.
    pub id: u64,
    /// How it is measured.
    pub kind: Kind,
    /// How much there is.
    pub size: i64,
    /// Whether it only reports.
    pub shadow: bool,
}

/// A call that is not answered yet.
#[derive(Clone, Debug)]
struct UnderWay {
    call: Call,
    /// When it was sent last.
    sent: i64,
    is_delivered: bool,
}

/// An Envoy that holds leases.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its name in the store.
    pub name: String,
    seq: u64,
    rev_seen: i64,
    /// When the call was sent that its leases are of.
    live_since: Option<i64>,
    locals: BTreeMap<u64, Local>,
    under_way: Option<UnderWay>,
}

/// The rules of an account, of all kinds and sizes.
#[must_use]
pub fn rules(dice: &mut Dice) -> Vec<Rule> {
    let spans = [Span::Hour, Span::Day, Span::Week, Span::Month];
    let mut rules = Vec::new();
    for at in 0..1 + dice.below(4).unsigned_abs() {
        let kind = match dice.below(5) {
            0 => Kind::Bucket(1_000_000),
            1 => Kind::Bucket(60_000_000),
            2 => Kind::Places,
            _ => Kind::Window(dice.pick(&spans)),
        };
        let most =
            if kind == Kind::Places { 50 } else { dice.pick(&[3, 100, 10_000, 1_000_000_000_000_000]) };
        rules.push(Rule { id: 0xa0 + at, kind, size: 1 + dice.amount(most - 1), shadow: dice.one_of(6) });
    }
    rules
}

impl Holder {
    /// One that holds nothing.
    #[must_use]
    pub fn new(name: String) -> Self {
        let locals = BTreeMap::new();
        Self { name, seq: 0, rev_seen: 0, live_since: None, locals, under_way: None }
    }

    /// Whether it may spend what it holds.
    #[must_use]
    pub fn is_live(&self, now: i64) -> bool {
        self.live_since.is_some_and(|since| now - since < LEASE_MS.cast_signed() * 1000)
    }

    /// What it knows of a limit.
    #[must_use]
    pub fn local(&self, id: u64) -> Local {
        self.locals.get(&id).copied().unwrap_or_default()
    }

    /// Spends so much of what is left, or more than that; below zero, it gets back what it had spent.
    pub fn spend(&mut self, id: u64, amount: i64) {
        self.locals.entry(id).or_default().left -= amount;
    }

    /// Makes the next call, if none is under way, and sends it.
    pub fn call(&mut self, rules: &[Rule], dice: &mut Dice, now: i64) -> Call {
        if let Some(under_way) = &mut self.under_way {
            under_way.sent = now;
            return under_way.call.clone();
        }
        self.seq += 1;
        // Now and then another configuration of the process calls, which does not have all limits.
        let lacks = if rules.len() > 1 && dice.one_of(4) { Some(dice.pick(rules).id) } else { None };
        let has = rules.iter().filter(|rule| Some(rule.id) != lacks);
        let asks = has.map(|rule| self.ask(rule, dice)).collect();
        let (holder, seq, rev_seen) = (self.name.clone(), self.seq, self.rev_seen);
        let call = Call { holder, seq, lease_ms: LEASE_MS, rev_seen, asks };
        self.under_way = Some(UnderWay { call: call.clone(), sent: now, is_delivered: false });
        call
    }

    fn ask(&mut self, rule: &Rule, dice: &mut Dice) -> Ask {
        let local = self.locals.entry(rule.id).or_default();
        let idle = local.left.max(0);
        let give = match dice.below(4) {
            _ if local.is_recalled => idle,
            0 => dice.amount(idle),
            _ => 0,
        };
        local.left -= give;
        let need = if dice.one_of(2) { dice.amount((rule.size - local.left.max(0)).max(0)) } else { 0 };
        let want = if dice.one_of(2) { dice.amount(rule.size) } else { 0 };
        local.at_call = local.left;
        Ask {
            id: rule.id,
            kind: rule.kind,
            size: rule.size.unsigned_abs(),
            window: local.window.unsigned_abs(),
            ack: local.ack,
            left: local.left,
            give,
            need,
            want,
            shadow: rule.shadow,
            used_seen: local.used_seen,
        }
    }

    /// Notes that the store has the call under way; answers whether for the first time.
    pub fn delivered(&mut self) -> bool {
        self.under_way.as_mut().is_some_and(|under_way| !std::mem::replace(&mut under_way.is_delivered, true))
    }

    /// Takes the answer to the call under way.
    pub fn take(&mut self, answer: &Answer) {
        let Some(UnderWay { call, sent, .. }) = self.under_way.take() else { return };
        self.rev_seen = answer.rev;
        let was_live = self.is_live(answer.now_us);
        for (_, local) in self.locals.iter_mut().filter(|(id, _)| call.asks.iter().all(|ask| ask.id != **id))
        {
            // Unless the lease is over, the store holds for this one what the call does not speak of.
            let idle = if was_live { 0 } else { local.left.max(0) };
            (local.ack, local.left) = (local.ack - idle, local.left - idle);
        }
        self.live_since = Some(sent);
        for (ask, told) in call.asks.iter().zip(&answer.limits) {
            let local = self.locals.entry(ask.id).or_default();
            let since = if told.window == local.window { local.at_call - local.left } else { 0 };
            let in_use = if ask.kind == Kind::Places { (ask.ack - ask.left - ask.give).max(0) } else { 0 };
            let holds = told.kept + told.granted;
            (local.ack, local.left) = (holds + in_use, holds - since);
            (local.window, local.used_seen, local.is_recalled) = (told.window, told.used, told.recall);
        }
    }
}

/// A moment in these years, often just before a window ends.
#[must_use]
pub fn moment(dice: &mut Dice) -> i64 {
    // From 2026 to 2101, through leap years and a year without one that others would have.
    let any = 1_767_225_600 + dice.below(75 * 365 * 86_400);
    let span = dice.pick(&[Span::Hour, Span::Day, Span::Week, Span::Month]);
    let (_, end) = span.bounds(any.unsigned_abs());
    end.cast_signed() * SECOND - 1 - dice.amount(20 * SECOND)
}

/// How much later it is at the next step.
pub fn pause(dice: &mut Dice) -> i64 {
    match dice.below(40) {
        0 => dice.amount(3 * SECOND) + 3 * SECOND,
        1 => dice.amount(4000 * SECOND),
        2 => dice.amount(40 * 86_400 * SECOND),
        3 => -dice.amount(2 * SECOND),
        4 => -dice.amount(90_000 * SECOND),
        5 => 3 * SECOND + dice.below(3) - 1,
        6 => 0,
        _ => dice.amount(SECOND),
    }
}
