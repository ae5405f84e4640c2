//! What holds for any limits, any requests and any order, against models that are too simple to be wrong.

use super::*;
use crate::journal::{DEAD_AFTER, Journal, Note, Slot};
use crate::store::Moment;
use std::collections::HashMap;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Any way to measure.
fn measure() -> impl Strategy<Value = Measure> {
    prop::sample::select(vec![
        MINUTE,
        SECOND,
        REQUESTS,
        DAY,
        MONTH,
        MONEY,
        Measure::Quota(Unit::Requests, Span::Hour),
        Measure::Quota(Unit::Cost, Span::Week),
        Measure::Concurrent,
    ])
}

/// Limits of which no two count the same.
pub(super) fn limits(most: usize) -> impl Strategy<Value = Vec<(Measure, u64)>> {
    prop::collection::hash_map(measure(), 1..400u64, 0..=most).prop_map(|limits| limits.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_grants_more_than_time_allows(
        size in 1..5000u32, minute in any::<bool>(),
        asks in prop::collection::vec((0..3000u64, 1..200u64, 0..200u64), 1..60),
    ) {
        let (measure, period) = if minute { (MINUTE, Flow::Minute) } else { (SECOND, Flow::Second) };
        let (store, budget) = (MemoryStore::default(), budget(&[(measure, size.into())]));
        let (mut now, mut charged) = (START, 0u128);
        for (step_ms, tokens, real) in asks {
            now += Duration::from_millis(step_ms);
            // Never more than was reserved: what goes beyond that is the estimate's fault.
            let real = real.min(tokens);
            if tokens <= u64::from(size) && let Ok((reservation, _)) = take(&store, &budget, tokens, now) {
                settle(Moment::new(&store, now), &reservation.settle(spent(real))).unwrap();
                charged += u128::from(real);
            }
        }
        let flowed = (now - START).as_nanos() * u128::from(size) / u128::from(period.nanos());
        prop_assert!(charged <= u128::from(size) + flowed, "{charged} of {size} + {flowed}");
    }

    /// A bucket as a list of everything that happened to it, in thousandths: the steps are multiples of a millisecond,
    /// and a token of a bucket of `size` a second is `1000 / size` of them.
    #[test]
    fn a_bucket_does_what_its_history_says(
        size in 1..50u64,
        events in prop::collection::vec((0..900u64, 0..60u64, 0..90u64), 1..40),
    ) {
        let (store, budget) = (MemoryStore::default(), budget(&[(SECOND, size)]));
        let (mut now, mut level) = (0u64, i128::from(size) * 1000);
        let brim = level;
        for (step_ms, tokens, real) in events {
            now += step_ms;
            level = brim.min(level + i128::from(step_ms * size));
            let fits = tokens <= size && level >= i128::from(tokens) * 1000;
            let granted = ask_for(&store, &budget, tokens, ms(now));
            prop_assert_eq!(granted.is_ok(), fits);
            if let Ok(granted) = granted {
                settle(Moment::new(&store, ms(now)), &granted.reservation.settle(spent(real))).unwrap();
                level = brim.min(level - i128::from(real) * 1000);
            }
            let left = u64::try_from(level.div_euclid(1000)).unwrap_or(0);
            let inquiry = Inquiry { budget: budget.clone(), model: None, operation: Operation::Other };
            prop_assert_eq!(read(Moment::new(&store, ms(now)), &inquiry).unwrap().states[0].remaining, left);
        }
    }

    /// What is asked in two parts is granted if the whole is, takes the same, and is given back by one settlement.
    #[test]
    fn two_parts_take_what_the_whole_takes(
        own in limits(4), shared in limits(3), asks in prop::collection::vec((0..200u64, any::<bool>(), any::<bool>()), 1..30),
    ) {
        let budget = member("a", &own, &shared);
        let (whole, parts) = (MemoryStore::default(), MemoryStore::default());
        let mut open = Vec::new();
        for (tokens, has_model, ends) in asks {
            let asked = claim(&budget, tokens);
            let asked = Claim { model: asked.model.clone().filter(|_| has_model), ..asked };
            let granted = match reserve(Moment::new(&whole, START), asked.clone()).unwrap() {
                Grant::Granted(granted) => Some(granted),
                Grant::Refused(..) => None,
            };
            let head = Claim { part: Part::Head, model: None, usage: Usage::default(), cost: 0, ..asked.clone() };
            let body = Claim { part: Part::Body, ..asked };
            let joined = match reserve(Moment::new(&parts, START), head).unwrap() {
                Grant::Refused(..) => None,
                Grant::Granted(head) => match reserve(Moment::new(&parts, START), body).unwrap() {
                    Grant::Granted(mut body) => {
                        body.standing.join(&head.standing);
                        Some((body.reservation.with(Some(head.reservation)), body.standing))
                    }
                    Grant::Refused(..) => {
                        settle(Moment::new(&parts, START), &head.reservation.settle(Spent::default())).unwrap();
                        None
                    }
                },
            };
            prop_assert_eq!(granted.is_some(), joined.is_some());
            if let (Some(granted), Some((joined, standing))) = (granted, joined) {
                prop_assert_eq!(granted.standing, standing);
                prop_assert_eq!(granted.reservation.tokens(), joined.tokens());
                open.push((granted.reservation, joined));
            }
            prop_assert_eq!(used(&whole, &budget, START), used(&parts, &budget, START));
            if ends && let Some((one, other)) = open.pop() {
                settle(Moment::new(&whole, START), &one.settle(spent(tokens))).unwrap();
                settle(Moment::new(&parts, START), &other.settle(spent(tokens))).unwrap();
                prop_assert_eq!(used(&whole, &budget, START), used(&parts, &budget, START));
            }
        }
    }

    /// A window as a table of what was charged to each, by its name in the calendar.
    #[test]
    fn a_window_has_what_was_charged_to_it_and_no_other(
        month in any::<bool>(), size in 1..300u64,
        events in prop::collection::vec((0..900_000u64, 0..100u64, 0..150u64, 0..4usize), 1..60),
    ) {
        let (measure, letters) = if month { (MONTH, "2026-11".len()) } else { (DAY, "2026-11-24".len()) };
        let (store, budget) = (MemoryStore::default(), budget(&[(measure, size)]));
        let name = |now: Duration| crate::calendar::rfc3339(now.as_secs())[..letters].to_owned();
        let mut table: HashMap<String, u64> = HashMap::new();
        let mut open = Vec::new();
        let mut now = START;
        for (step_s, tokens, real, settled) in events {
            now += Duration::from_secs(step_s);
            let charged = table.entry(name(now)).or_default();
            let granted = ask_for(&store, &budget, tokens, now);
            prop_assert_eq!(granted.is_ok(), *charged + tokens <= size, "{} of {}", charged, size);
            if let Ok(granted) = granted {
                *charged += tokens;
                open.push((granted.reservation, name(now), tokens, real));
            }
            // Some of those under way end, perhaps in another window than they began in.
            for _ in 0..settled.min(open.len()) {
                let (reservation, window, tokens, real) = open.remove(0);
                settle(Moment::new(&store, now), &reservation.settle(spent(real))).unwrap();
                let charged = table.get_mut(&window).unwrap();
                *charged = *charged + real - tokens;
            }
            prop_assert_eq!(used(&store, &budget, now), [table[&name(now)]]);
        }
    }

    /// Whatever limits refuse, the client's own or its group's: after the wait they admit, and not before.
    #[test]
    fn the_promised_wait_is_exact(
        own in limits(4), shared in limits(4),
        asks in prop::collection::vec((0..40_000u64, 1..200u64), 1..20),
    ) {
        let store = MemoryStore::default();
        let budget = member("c", &own, &shared);
        let mut now = START;
        for (step_ms, tokens) in asks {
            now += Duration::from_millis(step_ms);
            let before = used(&store, &budget, now);
            match ask_for(&store, &budget, tokens, now) {
                // Nobody is under way for long, so that slots are no obstacle.
                Ok(granted) => {
                    settle(Moment::new(&store, now), &granted.reservation.settle(spent(tokens))).unwrap();
                }
                Err(None) => {}
                Err(Some(wait)) => {
                    prop_assert_eq!(&used(&store, &budget, now), &before);
                    let just_before = now + wait - Duration::from_nanos(1);
                    prop_assert!(ask_for(&store, &budget, tokens, just_before).is_err());
                    let granted = ask_for(&store, &budget, tokens, now + wait);
                    prop_assert!(granted.is_ok(), "{:?} after {:?}", granted, wait);
                    settle(Moment::new(&store, now + wait), &granted.unwrap().reservation.settle(spent(tokens))).unwrap();
                    now += wait;
                }
            }
        }
    }

    /// A refusal leaves every limit as it was; a grant takes from each what it counts.
    #[test]
    fn all_accounts_give_or_none(
        own in limits(5), shared in limits(5), asks in prop::collection::vec(0..250u64, 1..30),
    ) {
        let store = MemoryStore::default();
        let budget = member("c", &own, &shared);
        let measures: Vec<Measure> = own.iter().chain(&shared).map(|(measure, _)| *measure).collect();
        for tokens in asks {
            let mut expected = used(&store, &budget, START);
            if ask_for(&store, &budget, tokens, START).is_ok() {
                for (used, measure) in expected.iter_mut().zip(&measures) {
                    *used += claim(&budget, tokens).of(*measure);
                }
            }
            prop_assert_eq!(used(&store, &budget, START), expected);
        }
    }

    /// What a group's clients take together is never more than it has, and what one leaves another can have.
    #[test]
    fn a_group_is_one_purse(
        size in 1..1000u64, asks in prop::collection::vec((0..3usize, 1..200u64, any::<bool>()), 1..60),
    ) {
        let store = MemoryStore::default();
        let clients = ["c", "d", "e"].map(|name| member(name, &[(MINUTE, 5000)], &[(DAY, size)]));
        let mut together = 0;
        for (who, tokens, returned) in asks {
            let granted = ask_for(&store, &clients[who], tokens, START);
            prop_assert_eq!(granted.is_ok(), together + tokens <= size);
            if let Ok(granted) = granted {
                let real = if returned { 0 } else { tokens };
                settle(Moment::new(&store, START), &granted.reservation.settle(spent(real))).unwrap();
                together += real;
            }
            prop_assert_eq!(used(&store, &clients[who], START)[1], together);
        }
    }

    /// What a settlement gives back is what was not used, whichever limits there are: at the end all that is charged is
    /// what was spent.
    #[test]
    fn what_is_settled_is_what_was_spent(
        own in limits(5), shared in limits(5), asks in prop::collection::vec((0..250u64, 0..250u64), 1..30),
    ) {
        let store = MemoryStore::default();
        let budget = member("c", &own, &shared);
        let measures: Vec<Measure> = own.iter().chain(&shared).map(|(measure, _)| *measure).collect();
        let mut expected = vec![0; measures.len()];
        let mut open = Vec::new();
        for (tokens, real) in asks {
            if let Ok(granted) = ask_for(&store, &budget, tokens, START) {
                open.push((granted.reservation, real));
            }
        }
        for (reservation, real) in open {
            for (expected, measure) in expected.iter_mut().zip(&measures) {
                *expected += spent(real).of(*measure);
            }
            settle(Moment::new(&store, START), &reservation.settle(spent(real))).unwrap();
        }
        prop_assert_eq!(used(&store, &budget, START), expected);
    }

    /// Requests begin and end in VMs that die and are found dead, or are only slow, in any order: there are never more
    /// under way than there are slots, and every slot comes back.
    #[test]
    fn slots_never_leak_and_are_never_returned_twice(
        slots in 1..5u64,
        steps in prop::collection::vec((0..6u8, 0..3usize, 0..6u64, 0..4usize), 1..80),
    ) {
        let store = MemoryStore::default();
        let budget = member("c", &[(Measure::Concurrent, slots)], &[(Measure::Concurrent, 4)]);
        let size = slots.min(4);
        let mut vms: Vec<Vm> = (0..3).map(Vm::new).collect();
        let (mut now, mut next, mut taken) = (START, 3, 0);
        for (step, which, seconds, one) in steps {
            now += Duration::from_secs(seconds);
            match step {
                // A request begins.
                0..=2 => {
                    let granted = ask_for(&store, &budget, 1, now);
                    prop_assert_eq!(granted.is_ok(), taken < size);
                    if let Ok(granted) = granted {
                        vms[which].begin(&store, granted.reservation, now);
                        taken += 1;
                    }
                }
                // One ends.
                3 => taken -= vms[which].end(&store, one, now),
                // A VM dies; another comes.
                4 => {
                    vms[which] = Vm::new(next);
                    next += 1;
                }
                _ => taken -= vms[which].adopt(&store, now),
            }
            prop_assert_eq!(used(&store, &budget, now), [taken, taken]);
        }
        // All that are still under way end, and all that died are found.
        for vm in &mut vms {
            while !vm.open.is_empty() {
                taken -= vm.end(&store, 0, now);
            }
        }
        now += 2 * DEAD_AFTER;
        taken -= Vm::new(next).adopt(&store, now);
        prop_assert_eq!((taken, used(&store, &budget, now)), (0, vec![0, 0]));
    }
}

/// A VM, as the filter has it.
struct Vm {
    journal: Journal,
    open: Vec<(Slot, Reservation)>,
}

impl Vm {
    fn new(number: u64) -> Self {
        Self { journal: Journal::new(number), open: Vec::new() }
    }

    fn begin(&mut self, store: &MemoryStore, reservation: Reservation, now: Duration) {
        let note = Note {
            client: "c".to_owned(),
            model: "m".to_owned(),
            operation: "other".to_owned(),
            slots: reservation.slots(),
            prompt: 1,
            completion: 0,
        };
        let slot = self.journal.enter(Moment::new(store, now), &note).unwrap().unwrap();
        self.open.push((slot, reservation));
    }

    /// Answers how many slots that returned.
    fn end(&mut self, store: &MemoryStore, one: usize, now: Duration) -> u64 {
        if self.open.is_empty() {
            return 0;
        }
        let (slot, reservation) = self.open.remove(one % self.open.len());
        // Whoever took this VM for dead has returned it.
        if !self.journal.leave(Moment::new(store, now), slot).unwrap() {
            return 0;
        }
        settle(Moment::new(store, now), &reservation.settle(spent(1))).unwrap();
        1
    }

    fn adopt(&mut self, store: &MemoryStore, now: Duration) -> u64 {
        self.journal.beat(Moment::new(store, now)).unwrap();
        let notes = self.journal.adopt(Moment::new(store, now)).unwrap();
        for note in &notes {
            return_slots(Moment::new(store, START), &note.slots).unwrap();
        }
        notes.len() as u64
    }
}
