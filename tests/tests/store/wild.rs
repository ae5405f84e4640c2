//! Whatever happens to holders, clocks and the store: the script in Redis does what its model does.

use tollgate::calendar::Span;
use tollgate_tests::fleet::call::{Ask, Call, Kind};
use tollgate_tests::fleet::histories::{Dice, Holder, LEASE_MS, Rule, moment, pause, rules};
use tollgate_tests::fleet::model::Account;
use tollgate_tests::harness::Redis;

use super::script::{Change, Store, redis};

const SECOND: i64 = 1_000_000;

/// A history that goes on.
struct History {
    dice: Dice,
    store: Store,
    model: Account,
    /// What another Redis knows, which may take over.
    replica: Account,
    rules: Vec<Rule>,
    holders: Vec<Holder>,
    born: u32,
    now: i64,
}

impl History {
    fn new(seed: u64, redis: &Redis, changes: &[Change]) -> Self {
        let mut dice = Dice::new(seed);
        let mut store = Store::new(redis, changes).unwrap();
        store.becomes(&Account::default()).unwrap();
        let (rules, now) = (rules(&mut dice), moment(&mut dice));
        let (model, replica) = (Account::default(), Account::default());
        let mut history = Self { dice, store, model, replica, rules, holders: Vec::new(), born: 0, now };
        for _ in 0..1 + history.dice.below(5) {
            let holder = history.newborn();
            history.holders.push(holder);
        }
        history
    }

    fn newborn(&mut self) -> Holder {
        self.born += 1;
        Holder::new(format!("{:08x}{}", self.dice.any() >> 32, self.born))
    }

    /// Something happens; what is found that must not be.
    fn step(&mut self) -> Result<(), String> {
        self.now = (self.now + pause(&mut self.dice)).max(SECOND);
        let at = usize::try_from(self.dice.below(self.holders.len() as i64)).unwrap();
        match self.dice.below(60) {
            0 => self.holders[at] = self.newborn(),
            1 => self.replica = self.model.clone(),
            2 => {
                self.model = self.replica.clone();
                self.store.becomes(&self.model).unwrap();
            }
            3 => {
                self.model = Account::default();
                self.store.becomes(&self.model).unwrap();
            }
            4 => {
                let rule = usize::try_from(self.dice.below(self.rules.len() as i64)).unwrap();
                let size = self.rules[rule].size;
                self.rules[rule].size =
                    1 + self.dice.amount(size.saturating_mul(2).min(1_000_000_000_000_000) - 1);
            }
            _ => {}
        }
        self.spend(at);
        self.call(at)
    }

    fn spend(&mut self, at: usize) {
        for rule in self.rules.clone() {
            let local = self.holders[at].local(rule.id);
            let held = local.ack - local.left;
            let amount = match self.dice.below(12) {
                0 if rule.kind != Kind::Places => self.dice.amount(rule.size),
                1 | 2 => -self.dice.amount(held.max(0)),
                3 if rule.kind != Kind::Places => -self.dice.amount(rule.size),
                4 => local.left.max(0),
                _ => self.dice.amount(local.left.max(0)),
            };
            self.holders[at].spend(rule.id, amount);
        }
    }

    fn call(&mut self, at: usize) -> Result<(), String> {
        let mut rules = self.rules.clone();
        if self.dice.one_of(15) {
            rules.retain(|_| self.dice.one_of(2));
        }
        let mut call = self.holders[at].call(&rules, &mut self.dice, self.now);
        if self.dice.one_of(25) && !call.asks.is_empty() {
            self.lie(&mut call);
        }
        if self.dice.one_of(20) {
            // It never arrives.
            return Ok(());
        }
        self.holders[at].delivered();
        let expected = self.model.call(&call, self.now);
        let (found, written) = self.store.call(&call, self.now).map_err(|error| format!("{error:#}"))?;
        if found != expected {
            return Err(format!("{call:?} at {}\nis answered\n{found:?}, and not\n{expected:?}", self.now));
        }
        if written != self.model.written() {
            let expected = self.model.written();
            return Err(format!("{call:?} at {}\nleaves\n{written:#?}, and not\n{expected:#?}", self.now));
        }
        for (told, ask) in found.limits.iter().zip(&call.asks) {
            let is_negative =
                [told.granted, told.kept, told.used, told.held, told.wait_us].iter().any(|n| *n < 0);
            // Places that are in use are held.
            let used = if ask.kind == Kind::Places { 0 } else { told.used };
            let is_beyond = told.granted > 0 && used + told.held > ask.size.cast_signed();
            if is_negative || (is_beyond && found.now_us == self.now) {
                return Err(format!("{call:?}\nis answered\n{found:?}"));
            }
        }
        let needs = found.limits.iter().zip(&call.asks).filter(|(_, ask)| ask.need > 0 && !ask.shadow);
        let met: Vec<_> = needs.map(|(told, ask)| told.granted >= ask.need).collect();
        if met.contains(&true) && met.contains(&false) {
            return Err(format!("{call:?}\nis met in part by\n{found:?}"));
        }
        if !self.dice.one_of(8) {
            self.holders[at].take(&found);
        }
        Ok(())
    }

    /// A call that no honest holder makes, or one of before.
    fn lie(&mut self, call: &mut Call) {
        let many = i64::try_from(call.asks.len()).unwrap();
        let ask = &mut call.asks[usize::try_from(self.dice.below(many)).unwrap()];
        match self.dice.below(6) {
            0 => ask.ack = self.dice.amount(1_000_000_000_000_000),
            1 => ask.left = self.dice.amount(1_000_000_000_000_000),
            2 => ask.used_seen = self.dice.amount(1_000_000_000_000_000),
            3 => ask.window = 0,
            4 => call.rev_seen += self.dice.amount(10) - 5,
            _ => call.seq = call.seq.saturating_sub(self.dice.below(3).unsigned_abs()),
        }
    }
}

/// The first thing in some histories that is not as it must be.
fn found(redis: &Redis, changes: &[Change], seeds: std::ops::Range<u64>, steps: u32) -> Option<String> {
    for seed in seeds {
        let mut history = History::new(seed, redis, changes);
        for step in 0..steps {
            if let Err(problem) = history.step() {
                return Some(format!("seed {seed}, step {step}: {problem}"));
            }
        }
    }
    None
}

/// These histories need no log of changes.
const IN_MEMORY: [&str; 2] = ["--appendonly", "no"];

#[test]
fn the_script_does_what_its_model_does() {
    let Some(redis) = redis("the_script_does_what_its_model_does", &IN_MEMORY) else { return };
    if let Some(problem) = found(&redis, &[], 0..40, 250) {
        panic!("{problem}");
    }
}

/// Each of these breaks a promise, and some history shows it.
#[test]
fn each_promise_of_the_script_would_be_missed() {
    let Some(redis) = redis("each_promise_of_the_script_would_be_missed", &IN_MEMORY) else { return };
    let changes: [(&str, Change); 25] = [
        ("a repeated call is charged again", ("local repeated = seq <= last", "local repeated = false")),
        (
            "a holder that is gone is charged again",
            ("local last = tonumber(own[1] or 0)", "local last = #own > 1 and tonumber(own[1]) or 0"),
        ),
        ("a holder that is gone keeps its leases", ("sweep('0', '(' .. text(now - lease))", "{}")),
        ("a holder that comes back late keeps its lease", ("and now - score <= lease", "")),
        ("what is granted is not taken", ("local idle = ask.kept + granted", "local idle = ask.kept")),
        ("what another configuration holds is let go", ("if not asked[own[at]] then", "if false then")),
        ("nobody is asked to give back", ("ask.limit.short = now + SHORT", "")),
        ("nobody is told to give back", ("l.short > now and 1 or 0", "0")),
        ("more is granted while others shall give back", ("rest > 0 and l.short > now", "false")),
        ("what is of a window that is over is charged", ("if ask.window ~= l.at then", "if false then")),
        ("what was held in another window counts", ("l.turn + 1", "l.turn")),
        ("one limit gives though another does not", ("all_fit = all_fit and ask.shadow", "")),
        ("a shadow limit refuses", ("(ask.shadow or all_fit)", "all_fit")),
        (
            "fractions are lost",
            ("return whole * time + units, parts - units * span", "return whole * time + units, 0"),
        ),
        ("a debt is forgiven", ("if spans >= l.used / l.size then", "if spans >= 1 then")),
        ("a clock that was set back holds a bucket", ("if time < -span then", "if false then")),
        ("a clock that was set back opens a window again", ("if l.at == ends then", "if false then")),
        ("what a store forgot is lost", ("if knows then high = max(high, rev_seen) end", "knows = false")),
        ("a loss that others have made up for goes unnoticed", ("rev_seen > answered", "false")),
        ("what others hold is granted before they tell", ("now - base < RETELL", "false")),
        ("what flowed off comes back twice", ("ask.kept = max(0, ask.kept + l.used)", "")),
        ("what is idle elsewhere is refused", ("ask.need <= ask.rest + l.turn and 0", "ask.fits and 0")),
        ("what is idle stays so without its holder", ("l.turn - entry[at + 2]", "l.turn")),
        (
            "nobody tells when a bucket's next unit is free",
            ("ends = falling(l, tonumber(ask.span), 1)", "ends = 0"),
        ),
        ("large numbers lose digits", ("string.format('%.0f', number)", "tostring(number)")),
    ];
    for (broken, change) in changes {
        let problem = found(&redis, &[change], 0..40, 250);
        assert!(problem.is_some(), "not noticed: {broken}");
    }
}

#[test]
fn windows_end_as_the_calendar_says() {
    let Some(redis) = redis("windows_end_as_the_calendar_says", &IN_MEMORY) else { return };
    let mut store = Store::new(&redis, &[]).unwrap();
    let mut model = Account::default();
    let ask = |(id, span)| Ask {
        id,
        kind: Kind::Window(span),
        size: 10,
        window: 0,
        ack: 0,
        left: 0,
        give: 0,
        need: 1,
        want: 0,
        shadow: false,
        used_seen: 0,
    };
    let spans = [Span::Hour, Span::Day, Span::Week, Span::Month];
    let asks: Vec<_> = (3..).zip(spans).map(ask).collect();
    // Each month's end from 2026 to 2111: four leap years in five, and 2100.
    let (mut second, mut seq) = (1_767_225_600, 0);
    while second < 4_450_000_000 {
        let (_, end) = Span::Month.bounds(second);
        for now in [end.cast_signed() * SECOND - 1, end.cast_signed() * SECOND] {
            seq += 1;
            let call = Call { holder: "a".into(), seq, lease_ms: LEASE_MS, rev_seen: 0, asks: asks.clone() };
            let (answer, written) = store.call(&call, now).unwrap();
            assert_eq!(answer, model.call(&call, now));
            assert_eq!(written, model.written());
            for (span, told) in spans.iter().zip(&answer.limits) {
                let (start, end) = span.bounds(now.unsigned_abs() / 1_000_000);
                assert_eq!(
                    (told.window.unsigned_abs(), told.granted > 0),
                    (start, true),
                    "{span:?} at {now}"
                );
                assert_eq!(told.ends_us, end.cast_signed() * SECOND - now, "{span:?} at {now}");
            }
        }
        second = end;
    }
}
