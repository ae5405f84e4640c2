//! Which pauses and orders does this process tell the others of a fleet, and which does it take from them?
//!
//! All orders of operators. Of pauses those that a backend has asked for. What was guessed, each finds out by itself: were it told, all would ask again at the same
//! moment, and one that is refused would begin it anew for all.

use super::{Cooldowns, Order, Pause};
use crate::store::{Moment, StoreFault};
use crate::time::nanos;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What the store runs for them.
pub const SCRIPT: &str = include_str!("../pauses.lua");

/// Begins what is said of an order.
const OF_ORDER: &str = "o";

/// What the others know of, as far as this VM has told them or heard from them.
#[derive(Debug, Default)]
pub struct Shared {
    /// Pauses: until when, by our clock, in nanoseconds.
    known: BTreeMap<u64, u64>,
    /// Orders of models: when they were said, in milliseconds.
    orders: BTreeMap<u64, u64>,
}

/// A reply of the script, from its front: each number is taken once.
struct Numbers<'r>(std::slice::Iter<'r, i64>);

impl Numbers<'_> {
    fn one(&mut self) -> Option<u64> {
        u64::try_from(*self.0.next()?).ok()
    }

    /// One that was too long for the script.
    fn halves(&mut self) -> Option<u64> {
        let (high, low) = (self.one()?, self.one()?);
        Some(high << 32 | low & u64::from(u32::MAX))
    }
}

/// The same for the script.
fn halves(number: u64) -> String {
    format!("{} {}", number >> 32, number & u64::from(u32::MAX))
}

impl Shared {
    /// What the script is told: the pauses and orders that the others do not know yet, in words.
    pub fn say(&mut self, moment: Moment<'_>) -> Result<String, StoreFault> {
        let now = nanos(moment.now);
        let mut said = String::new();
        self.known.retain(|_, until| *until > now);
        let Cooldowns { pauses, orders } = Cooldowns::load(moment.store)?;
        let kept = |model: &u64| orders.iter().any(|order| order.model == *model);
        self.orders.retain(|model, _| kept(model));
        for pause in pauses {
            let Pause { target, until, asking_until } = pause;
            let known = self.known.get(&target).copied().unwrap_or(0);
            if pause.is_over(now) || asking_until.is_some() || until <= known {
                continue;
            }
            let wait_us = until.saturating_sub(now).div_ceil(1000);
            let between = if said.is_empty() { "" } else { " " };
            // Into a string nothing fails.
            let _ = write!(said, "{between}{} {wait_us}", halves(target));
            self.known.insert(target, until);
        }
        for order in orders.iter().filter(|order| !order.is_forgotten(moment.now)) {
            let Order { model, said_ms, until, targets } = order;
            if self.orders.get(model).is_some_and(|known| known >= said_ms) {
                continue;
            }
            let wait_us = until.saturating_sub(now).div_ceil(1000);
            let between = if said.is_empty() { "" } else { " " };
            let (model_halves, count) = (halves(*model), targets.len());
            let _ = write!(said, "{between}{OF_ORDER} {model_halves} {said_ms} {wait_us} {count}");
            for target in targets {
                let _ = write!(said, " {}", halves(*target));
            }
            self.orders.insert(*model, *said_ms);
        }
        Ok(said)
    }

    /// Nobody knows whether what was said has arrived.
    pub fn failed(&mut self) {
        self.known.clear();
        self.orders.clear();
    }

    /// Takes what others have told. `sent` is when they were asked for: reckoned from then none ends later here than
    /// there, so that none grows on its way. False if that is no reply of the script.
    pub fn hear(&mut self, moment: Moment<'_>, sent: Duration, reply: &[i64]) -> Result<bool, StoreFault> {
        let Some(Told { pauses, orders }) = read(sent, reply) else { return Ok(false) };
        for (target, until) in pauses {
            if until <= self.known.get(&target).copied().unwrap_or(0) {
                continue;
            }
            let noted = Pause { target, until, asking_until: None };
            let until = Cooldowns::note_pause(moment, noted)?;
            self.known.insert(target, until);
        }
        for order in orders {
            if self.orders.get(&order.model).is_some_and(|known| *known >= order.said_ms) {
                continue;
            }
            Cooldowns::hear_order(moment, &order)?;
            self.orders.insert(order.model, order.said_ms);
        }
        Ok(true)
    }
}

/// What a reply tells.
struct Told {
    /// The targets that pause, and until when.
    pauses: Vec<(u64, u64)>,
    orders: Vec<Order>,
}

/// Reads a reply; `None` if it is none of the script.
fn read(sent: Duration, reply: &[i64]) -> Option<Told> {
    let mut numbers = Numbers(reply.iter());
    let (store_now, count) = (numbers.one()?, numbers.one()?);
    let ours =
        |until_us: u64| nanos(sent).saturating_add(until_us.saturating_sub(store_now).saturating_mul(1000));
    let (mut pauses, mut orders) = (Vec::new(), Vec::new());
    for _ in 0..count {
        pauses.push((numbers.halves()?, ours(numbers.one()?)));
    }
    while !numbers.0.as_slice().is_empty() {
        let (model, said_ms, until) = (numbers.halves()?, numbers.one()?, ours(numbers.one()?));
        let mut targets = Vec::new();
        for _ in 0..numbers.one()? {
            targets.push(numbers.halves()?);
        }
        orders.push(Order { model, said_ms, until, targets });
    }
    Some(Told { pauses, orders })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{ORDER_MAX, State, number_of};
    use crate::store::MemoryStore;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_795_000_000);
    const TARGET: u64 = 0x1234_5678_9abc_def0;
    const HALVES: [i64; 2] = [0x1234_5678, 0x9abc_def0];

    /// A process of the fleet.
    #[derive(Default)]
    struct Process {
        store: MemoryStore,
        shared: Shared,
    }

    impl Process {
        fn pauses(&self, seconds: u64, from_backend: bool) {
            let until = nanos(NOW + Duration::from_secs(seconds));
            let pause = Pause { target: TARGET, until, asking_until: (!from_backend).then_some(0) };
            Cooldowns::note_pause(Moment::new(&self.store, NOW), pause).unwrap();
        }

        fn says(&mut self, now: Duration) -> String {
            self.shared.say(Moment::new(&self.store, now)).unwrap()
        }

        /// The reply comes 300 ms after it was asked for.
        fn hears(&mut self, sent: Duration, reply: &[i64]) -> bool {
            let moment = Moment::new(&self.store, sent + Duration::from_millis(300));
            self.shared.hear(moment, sent, reply).unwrap()
        }

        fn state(&self, now: Duration) -> State {
            Cooldowns::load(&self.store).unwrap().state(TARGET, now)
        }
    }

    /// The store's clock is another one; so many microseconds of the pause are left.
    fn reply(left_us: i64) -> Vec<i64> {
        vec![5_000_000, 1, HALVES[0], HALVES[1], 5_000_000 + left_us]
    }

    #[test]
    fn a_pause_is_told_once_and_a_longer_one_again() {
        let mut process = Process::default();
        assert_eq!(process.says(NOW), "");
        process.pauses(3, true);
        assert_eq!(process.says(NOW), format!("{} {} 3000000", HALVES[0], HALVES[1]));
        assert_eq!(process.says(NOW), "");
        process.pauses(5, true);
        let later = NOW + Duration::from_secs(1);
        assert_eq!(process.says(later), format!("{} {} 4000000", HALVES[0], HALVES[1]));
        process.shared.failed();
        assert_eq!(process.says(later), format!("{} {} 4000000", HALVES[0], HALVES[1]));
    }

    #[test]
    fn a_pause_that_is_over_or_was_guessed_is_not_told() {
        let mut process = Process::default();
        process.pauses(3, false);
        assert_eq!(process.says(NOW), "");
        let mut process = Process::default();
        process.pauses(3, true);
        assert_eq!(process.says(NOW + Duration::from_secs(3)), "");
        // Noted before the clock was set back: nobody is to wait for that.
        assert_eq!(process.says(NOW - Duration::from_secs(3600)), "");
    }

    #[test]
    fn a_pause_that_was_heard_holds_and_is_not_told_back() {
        let mut process = Process::default();
        assert!(process.hears(NOW, &reply(2_000_000)));
        assert_eq!(process.state(NOW), State::Pausing(Duration::from_secs(2)));
        assert_eq!(process.says(NOW), "");
    }

    #[test]
    fn what_comes_back_makes_a_pause_no_longer() {
        let mut process = Process::default();
        process.pauses(3, true);
        process.says(NOW);
        assert!(process.hears(NOW, &reply(3_000_000)));
        process.shared.failed();
        assert!(process.hears(NOW, &reply(3_000_000)));
        assert_eq!(process.state(NOW), State::Pausing(Duration::from_secs(3)));
    }

    #[test]
    fn what_is_no_reply_changes_nothing() {
        let mut process = Process::default();
        let [high, low] = HALVES;
        for reply in [
            &[][..],
            &[5],
            &[-1, 0],
            &[5, 1],
            &[5, 1, 1, 1, -9],
            &[5, 0, high],
            &[5, 0, high, low, 7, 9_000_000, 1, high],
            &[5, 0, high, low, 7, 9_000_000],
        ] {
            assert!(!process.hears(NOW, reply), "{reply:?}");
        }
        assert!(process.hears(NOW, &[5, 0]));
        assert_eq!(process.state(NOW), State::Open);
        assert_eq!(Cooldowns::load(&process.store).unwrap(), Cooldowns::default());
    }

    /// One process says an order, or ends it; `TARGET` is what it names.
    fn order(process: &Process, targets: &[u64], seconds: u64, now: Duration) {
        let until = nanos(now + Duration::from_secs(seconds));
        let order = Order { model: number_of(&["m"]), said_ms: 0, until, targets: targets.to_vec() };
        Cooldowns::change(&process.store, |known| (true, known.say(order.clone(), now))).unwrap();
    }

    /// What the script answers to an order that was said so, at a clock that shows another time.
    fn answered(said: &str) -> Vec<i64> {
        let words: Vec<&str> = said.strip_prefix("o ").unwrap().split(' ').collect();
        let mut numbers: Vec<i64> = words.iter().map(|word| word.parse().unwrap()).collect();
        numbers[3] += 5_000_000;
        [vec![5_000_000, 0], numbers].concat()
    }

    #[test]
    fn an_order_is_told_once_and_the_later_one_holds() {
        let (mut one, mut other) = (Process::default(), Process::default());
        order(&one, &[TARGET], 60, NOW);
        let said = one.says(NOW);
        let model = halves(number_of(&["m"]));
        let now_ms = NOW.as_millis();
        assert_eq!(said, format!("o {model} {now_ms} 60000000 1 {} {}", HALVES[0], HALVES[1]));
        assert_eq!(one.says(NOW), "");
        assert!(other.hears(NOW, &answered(&said)));
        let held = |process: &Process, now| {
            let known = Cooldowns::load(&process.store).unwrap();
            known.order("m", now).map(|order| (order.targets.clone(), order.remaining(now)))
        };
        assert_eq!(held(&other, NOW), Some((vec![TARGET], Duration::from_secs(60))));
        // It is not told back.
        assert_eq!(other.says(NOW), "");
        // It is ended there, where the clock is a second behind: that is what holds for both, and stays so.
        let behind = NOW - Duration::from_secs(1);
        assert!(Cooldowns::end_order(Moment::new(&other.store, behind), "m").unwrap());
        let ended = other.says(behind);
        assert_eq!(ended, format!("o {model} {} 61000000 0", now_ms + 1));
        assert!(one.hears(NOW, &answered(&ended)));
        // Also where a worker has just begun to tell, and knows of nothing that was told before.
        one.shared.failed();
        assert!(one.hears(NOW, &answered(&said)));
        assert_eq!((held(&one, NOW), held(&other, behind)), (None, None));
        one.shared.failed();
        assert_eq!(one.says(NOW), format!("o {model} {} 61000000 0", now_ms + 1));
        // It is told on when it would be over, and forgotten when no other that was said before it can hold.
        one.shared.failed();
        assert_eq!(one.says(NOW + Duration::from_secs(61)), format!("o {model} {} 0 0", now_ms + 1));
        one.shared.failed();
        assert_eq!(one.says(NOW + ORDER_MAX + Duration::from_millis(1)), "");
    }

    #[test]
    fn a_shorter_order_never_brings_an_older_one_back() {
        let (mut one, mut other) = (Process::default(), Process::default());
        order(&one, &[TARGET], 3600, NOW);
        let long = one.says(NOW);
        assert!(other.hears(NOW, &answered(&long)));
        let later = NOW + Duration::from_secs(10);
        order(&one, &[TARGET, 7], 60, later);
        let short = one.says(later);
        // It is over, and the other has heard of the first one only: a second call tells it, and none tells the first.
        let over = NOW + Duration::from_secs(100);
        let held = |process: &Process| Cooldowns::load(&process.store).unwrap().order("m", over).is_some();
        assert!(held(&other) && !held(&one));
        one.shared.failed();
        assert!(one.hears(over, &answered(&long)));
        assert!(!held(&one));
        // What it tells meanwhile is of the later one.
        let said = one.says(over);
        let model = halves(number_of(&["m"]));
        assert!(said.starts_with(&format!("o {model} {} 0 2 ", later.as_millis())), "{said} {short}");
        assert!(other.hears(over, &answered(&said)));
        assert!(!held(&other));
        other.shared.failed();
        assert!(other.hears(over, &answered(&long)));
        assert!(!held(&other));
    }
}
