//! What does the store's script do? The same in Rust, where nothing is rounded and what is held is added up each time.
//!
//! Time is an argument. A test compares it with the script in a real Redis; the simulation runs thousands of Envoys on it.

use std::collections::BTreeMap;

use super::call::{Answer, Ask, Call, Kind, Told, id};

const SECOND: i64 = 1_000_000;
const USED_MAX: i128 = 4_000_000_000_000_000;
const SHORT: i64 = SECOND;
const RETELL: i64 = SECOND / 2;
const GONE: i64 = 3600 * SECOND;
const WAIT_MAX: i64 = 1_000_000_000_000_000;
const SWEEP_MAX: usize = 100;

/// A limit, as the store has it.
#[derive(Clone, Copy, Debug)]
struct Limit {
    kind: Kind,
    size: i128,
    /// Units; of a bucket units times its period, so that nothing is rounded.
    spent: i128,
    /// Of a bucket when that was so, in microseconds; of a window its start, in seconds.
    at: i64,
    turn: i64,
    short: i64,
    branch: i64,
    told: i128,
}

impl Limit {
    fn new(ask: &Ask, now: i64) -> Self {
        let at = match ask.kind {
            Kind::Bucket(_) => now,
            Kind::Window(_) => -1,
            Kind::Places => 0,
        };
        let size = ask.size.into();
        Self { kind: ask.kind, size, spent: 0, at, turn: 0, short: 0, branch: 0, told: 0 }
    }

    fn unit(&self) -> i128 {
        if let Kind::Bucket(period) = self.kind { period.into() } else { 1 }
    }

    /// Whole units, rounded up.
    fn used(&self) -> i128 {
        -(-self.spent).div_euclid(self.unit())
    }

    /// What has flowed off beyond whole units.
    fn frac(&self) -> i128 {
        self.used() * self.unit() - self.spent
    }

    fn decay(&mut self, period: i64, now: i64) {
        if self.at > now + period {
            (self.spent, self.at) = (0, now);
        } else if now > self.at {
            self.spent = (self.spent - self.size * i128::from(now - self.at)).max(0);
            self.at = now;
        }
    }

    /// How long until `used` has fallen by so many units.
    fn falling(&self, units: i128, now: i64) -> i64 {
        if units <= 0 {
            return 0;
        }
        let flows = self.spent - (self.used() - units) * self.unit();
        let takes = -(-flows).div_euclid(self.size) + i128::from((self.at - now).max(0));
        i64::try_from(takes).map_or(WAIT_MAX, |takes| takes.min(WAIT_MAX))
    }

    /// Answers when the window ends, in seconds.
    fn turn(&mut self, span: tollgate::calendar::Span, now: i64) -> i64 {
        let bounds = |second: i64| {
            let (start, end) = span.bounds(second.unsigned_abs());
            (start.cast_signed(), end.cast_signed())
        };
        let (mut start, mut ends) = bounds(now / SECOND);
        if self.at == ends {
            (start, ends) = bounds(ends);
        }
        if self.at != start {
            (self.spent, self.at, self.turn, self.short, self.told) = (0, start, self.turn + 1, 0, 0);
        }
        ends
    }
}

/// What a holder holds of a limit.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: u64,
    amount: i128,
    /// The window that it is of; of places, how many of them are idle.
    turn: i64,
}

#[derive(Clone, Debug, Default)]
struct Holder {
    seq: u64,
    held: Vec<Held>,
    answer: Option<Answer>,
    /// The number of its last answer: known of one that is gone, too.
    answered: Option<i64>,
}

/// An account in the store.
#[derive(Clone, Debug, Default)]
pub struct Account {
    revs: Option<Revs>,
    limits: BTreeMap<u64, Limit>,
    holders: BTreeMap<String, Holder>,
    seen: BTreeMap<String, i64>,
}

#[derive(Clone, Copy, Debug)]
struct Revs {
    rev: i64,
    base: i64,
    high: i64,
}

/// What is known of a limit while a call is worked on.
struct Work {
    ask: Ask,
    ends: i64,
    kept: i128,
    in_use: i128,
    others: i128,
    /// Of places.
    idle_elsewhere: i64,
    rest: i128,
    /// Whether nothing is granted, because others still have to tell what they hold.
    retells: bool,
}

impl Work {
    fn fits(&self) -> bool {
        i128::from(self.ask.need) <= self.rest && !self.retells
    }
}

impl Account {
    /// What the script does with a call at this time, in microseconds.
    pub fn call(&mut self, call: &Call, now: i64) -> Answer {
        let lease = i64::try_from(call.lease_ms).expect("a lease is short") * 1000;
        let score = self.seen.get(&call.holder).copied().filter(|score| *score >= 0);
        let is_seen = score.is_some_and(|score| now - score <= lease);
        let own = self.holders.get(&call.holder).cloned();
        let answered = own.as_ref().and_then(|own| own.answered).unwrap_or(call.rev_seen);
        let last = own.as_ref().map_or(0, |own| own.seq);
        let is_repeated = call.seq <= last;
        let mut is_alive = own.is_some() && is_seen;
        let mut asks = call.asks.clone();
        if is_repeated {
            let own = own.unwrap_or_default();
            let held = own.held.iter().take(asks.len()).map(|held| held.id);
            let is_same = held.eq(asks.iter().map(|ask| ask.id));
            if let (true, true, Some(answer)) = (is_alive, is_same, own.answer) {
                self.seen.insert(call.holder.clone(), now);
                return answer;
            }
            is_alive = false;
            for ask in &mut asks {
                (ask.need, ask.want) = (0, 0);
            }
        }
        self.sweep(&call.holder, lease, now);
        let present = self.seen.values().filter(|score| **score >= (now - lease).max(0)).count();
        let present = i64::try_from(present).expect("few") + i64::from(!is_seen);
        let (mut revs, knows) = self.revs(call.rev_seen, answered, now);
        if knows {
            revs.high = revs.high.max(call.rev_seen);
        }
        revs.rev += 1;
        self.revs = Some(revs);
        let own = std::mem::take(&mut self.holders.entry(call.holder.clone()).or_default().held);
        // What this call does not speak of, another configuration of the same process does.
        let is_asked = |held: &Held| asks.iter().any(|ask| ask.id == held.id);
        let (own, mut elsewhere): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|held| !is_alive || is_asked(held));
        self.release(&own);
        elsewhere.reverse();
        self.holders.entry(call.holder.clone()).or_default().held.clone_from(&elsewhere);

        let mut works = Vec::new();
        for ask in asks {
            let branch = knows.then_some(revs.base);
            let retells = revs.high > 0 && (revs.base..revs.base + RETELL).contains(&now);
            works.push(self.charge(ask, Charging { is_alive, is_repeated, branch, retells }, now));
        }
        let told = self.grant(&works, present, now);
        let mut held = Vec::new();
        for (work, told) in works.iter().zip(&told) {
            let limit = self.limits.get_mut(&work.ask.id).expect("it was asked for");
            let idle = told.kept + told.granted;
            if work.ask.kind == Kind::Places {
                limit.turn = work.idle_elsewhere + idle;
            }
            let turn = if work.ask.kind == Kind::Places { idle } else { limit.turn };
            held.push(Held { id: work.ask.id, amount: work.in_use + i128::from(idle), turn });
        }
        held.extend(elsewhere);
        let answer = Answer { rev: revs.rev, now_us: now, holders: present, limits: told };
        let (seq, answered) = (call.seq.max(last), Some(revs.rev));
        let holder = Holder { seq, held, answer: Some(answer.clone()), answered };
        self.holders.insert(call.holder.clone(), holder);
        self.seen.insert(call.holder.clone(), now);
        answer
    }

    /// Holders that are gone give back; those that are long gone are forgotten.
    fn sweep(&mut self, caller: &str, lease: i64, now: i64) {
        let among = |is: &dyn Fn(i64) -> bool| -> Vec<String> {
            let mut found: Vec<_> = self.seen.iter().filter(|(_, score)| is(**score)).collect();
            found.sort_by_key(|(name, score)| (**score, *name));
            found.into_iter().take(SWEEP_MAX).map(|(name, _)| name.clone()).collect()
        };
        let gone = among(&|score| score >= 0 && score < now - lease);
        let forgotten = among(&|score| score < 0 && score > GONE - now);
        let ahead = among(&|score| score > now + lease);
        for name in gone.into_iter().filter(|name| name != caller) {
            self.seen.insert(name.clone(), -now);
            let holder = self.holders.entry(name).or_default();
            holder.answer = None;
            let held = std::mem::take(&mut holder.held);
            self.release(&held);
        }
        for name in forgotten.into_iter().filter(|name| name != caller) {
            self.seen.remove(&name);
            self.holders.remove(&name);
        }
        for name in ahead {
            self.seen.insert(name, now);
        }
    }

    /// The numbers of changes; and whether this one knows of changes that the store forgot. `answered` is the number of the last
    /// answer to it that stands here.
    fn revs(&self, rev_seen: i64, answered: i64, now: i64) -> (Revs, bool) {
        let forgot_own = rev_seen > answered;
        let revs = match self.revs {
            None => Revs { rev: now, base: now, high: 0 },
            Some(Revs { rev, base, .. }) if rev_seen > rev || forgot_own && rev_seen >= base => {
                let base = now.max(rev_seen + 1).max(rev + 1);
                Revs { rev: base, base, high: rev }
            }
            Some(revs) => revs,
        };
        (revs, forgot_own || (rev_seen > revs.high && rev_seen < revs.base))
    }

    /// What all hold of a limit.
    /// What is used of all limits, and what all holders hold of them.
    #[must_use]
    pub fn taken(&self) -> (u64, u64) {
        let used = self.limits.values().map(Limit::used).sum::<i128>();
        let held = self.limits.keys().map(|id| self.held(*id)).sum::<i128>();
        let whole = |units: i128| u64::try_from(units).unwrap_or(0);
        (whole(used), whole(held))
    }

    fn held(&self, id: u64) -> i128 {
        let limit = &self.limits[&id];
        let counts = |held: &&Held| limit.kind == Kind::Places || held.turn == limit.turn;
        let all = self.holders.values().flat_map(|holder| &holder.held);
        all.filter(|held| held.id == id).filter(counts).map(|held| held.amount).sum()
    }

    /// Places that were idle are not any more.
    fn release(&mut self, gone: &[Held]) {
        for held in gone {
            match self.limits.get_mut(&held.id) {
                Some(limit) if limit.kind == Kind::Places => limit.turn -= held.turn,
                _ => {}
            }
        }
    }

    fn charge(&mut self, ask: Ask, how: Charging, now: i64) -> Work {
        let limit = self.limits.entry(ask.id).or_insert_with(|| Limit::new(&ask, now));
        (limit.kind, limit.size) = (ask.kind, ask.size.into());
        let mut kept = if how.is_alive { i128::from(ask.left.max(0)) } else { 0 };
        let mut is_charged = !how.is_repeated;
        let mut ends = 0;
        match ask.kind {
            Kind::Bucket(period) => limit.decay(i64::try_from(period).expect("short"), now),
            Kind::Window(span) => {
                ends = limit.turn(span, now);
                if limit.at.cast_unsigned() != ask.window {
                    (is_charged, kept) = (false, 0);
                } else if let Some(branch) = how.branch {
                    let used_seen = i128::from(ask.used_seen);
                    if limit.branch != branch {
                        limit.spent = limit.spent.max(used_seen);
                        (limit.branch, limit.told) = (branch, used_seen);
                    } else if used_seen > limit.told {
                        limit.spent += used_seen - limit.told;
                        limit.told = used_seen;
                    }
                }
            }
            Kind::Places => {}
        }
        let spent = i128::from(ask.ack) - i128::from(ask.left) - i128::from(ask.give);
        let mut in_use = 0;
        if ask.kind == Kind::Places {
            in_use = spent.max(0);
        } else if is_charged {
            let frac = limit.frac();
            let used = limit.used() + spent;
            limit.spent = (used * limit.unit() - frac).max(0);
            kept = if used <= 0 { (kept + used).max(0) } else { kept };
        }
        limit.spent = limit.spent.min(USED_MAX * limit.unit() - limit.frac());
        if limit.short > now + SHORT {
            limit.short = 0;
        }
        let (size, used) = (limit.size, limit.used());
        let idle_elsewhere = if ask.kind == Kind::Places { limit.turn } else { 0 };
        let others = self.held(ask.id);
        let rest = size - used - others - in_use - kept;
        Work { ask, ends, kept, in_use, others, idle_elsewhere, rest, retells: how.retells }
    }

    /// All needs that count are met, or none is.
    fn grant(&mut self, works: &[Work], present: i64, now: i64) -> Vec<Told> {
        let mut all_fit = true;
        for work in works.iter().filter(|work| work.ask.need > 0 && !work.fits()) {
            self.limits.get_mut(&work.ask.id).expect("it was asked for").short = now + SHORT;
            all_fit &= work.ask.shadow;
        }
        works.iter().map(|work| self.tell(work, all_fit, present, now)).collect()
    }

    fn tell(&self, work: &Work, all_fit: bool, present: i64, now: i64) -> Told {
        let (limit, ask) = (&self.limits[&work.ask.id], &work.ask);
        let need = i128::from(ask.need);
        let (mut granted, mut wait_us) = (0, 0);
        let ends_us = match ask.kind {
            Kind::Window(_) => work.ends * SECOND - now,
            Kind::Bucket(_) if limit.used() > 0 => limit.falling(1, now),
            Kind::Bucket(_) | Kind::Places => 0,
        };
        if ask.need <= 0 || (work.fits() && (ask.shadow || all_fit)) {
            granted = need.max(0);
            let rest = if work.retells { 0 } else { (work.rest - granted).max(0) };
            let (want, ahead) = (i128::from(ask.want), rest / (4 * i128::from(present)));
            if limit.short > now {
                granted += if ask.need > 0 { rest.min(want.max(0)) } else { 0 };
            } else if ask.need > 0 || ask.want > 0 {
                granted += rest.min(want.max(ahead));
            }
        } else {
            let lacking = need - work.rest - work.others;
            wait_us = match ask.kind {
                Kind::Bucket(_) => limit.falling(lacking, now),
                Kind::Window(_) if lacking > 0 => ends_us,
                Kind::Places if need > work.rest + i128::from(work.idle_elsewhere) => SECOND,
                Kind::Window(_) | Kind::Places => 0,
            };
        }
        let whole = |amount: i128| i64::try_from(amount).expect("amounts are small");
        let in_use = work.others - i128::from(work.idle_elsewhere) + work.in_use;
        Told {
            granted: whole(granted),
            kept: whole(work.kept),
            used: whole(if ask.kind == Kind::Places { in_use } else { limit.used() }),
            held: whole(work.others + work.in_use + work.kept + granted),
            wait_us,
            window: if matches!(ask.kind, Kind::Window(_)) { limit.at } else { 0 },
            ends_us,
            recall: limit.short > now,
        }
    }

    /// What an admin does: so much less is used of a limit, in its present window.
    pub fn give(&mut self, id: u64, amount: i64) {
        let (Some(limit), Some(revs)) = (self.limits.get_mut(&id), &mut self.revs) else { return };
        limit.spent = (limit.spent - i128::from(amount) * limit.unit()).max(0);
        revs.rev += 1;
    }

    /// The record and the set of holders, as the script writes them.
    #[must_use]
    pub fn written(&self) -> (BTreeMap<String, String>, BTreeMap<String, i64>) {
        let mut fields = BTreeMap::new();
        let Some(revs) = self.revs else { return (fields, self.seen.clone()) };
        fields.insert("v".to_owned(), "2".to_owned());
        for (name, number) in [("rev", revs.rev), ("base", revs.base), ("high", revs.high)] {
            fields.insert(name.to_owned(), number.to_string());
        }
        for (limit_id, limit) in &self.limits {
            let (kind, span) = limit.kind.words();
            let (used, frac) = (limit.used(), limit.frac());
            let held = self.held(*limit_id);
            let Limit { size, at, turn, short, branch, told, .. } = limit;
            let line =
                format!("{kind} {span} {size} {used} {at} {frac} {held} {turn} {short} {branch} {told}");
            fields.insert(format!("l:{}", id(*limit_id)), line);
        }
        for (name, holder) in &self.holders {
            let mut line = holder.seq.to_string();
            for held in &holder.held {
                line += &format!(" {} {} {}", id(held.id), held.amount, held.turn);
            }
            fields.insert(format!("h:{name}"), line);
            if let Some(answer) = &holder.answer {
                let numbers: Vec<_> = answer.numbers().iter().map(ToString::to_string).collect();
                fields.insert(format!("r:{name}"), numbers.join(" "));
            } else if let Some(answered) = holder.answered {
                fields.insert(format!("r:{name}"), answered.to_string());
            }
        }
        (fields, self.seen.clone())
    }
}

/// How a report is taken.
#[derive(Clone, Copy)]
struct Charging {
    is_alive: bool,
    is_repeated: bool,
    /// Where the store forgot what this one knows: since when it begins anew.
    branch: Option<i64>,
    /// Whether others still have to tell what they hold.
    retells: bool,
}
