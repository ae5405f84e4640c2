//! In which order did an operator say that a model's targets are asked, and until when?
//!
//! The orders stand in the record of the pauses, which routing reads anyway: none costs a request nothing. An order changes who
//! is asked before whom, also across priorities, and nothing else: whoever may not serve a request, pauses, has no room or
//! has had its share is passed over as without it. Not decided here: who may say so.

use super::{Cooldowns, Target, number_of};
use crate::codec::{Reader, Stored, Writer};
use crate::sorting;
use crate::store::{Moment, StoreFault};
use crate::time::{millis, nanos};
use std::rc::Rc;
use std::time::Duration;

/// An order holds no longer than this: one that was forgotten is gone the next day. For so long it is kept as well, for until then
/// an Envoy that has not heard of it may bring along one that was said before.
pub const ORDER_MAX: Duration = Duration::from_secs(24 * 3600);

/// What an operator said about a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub(super) model: u64,
    /// When it was said, in milliseconds since the epoch: of two that a fleet knows the later one holds.
    pub(super) said_ms: u64,
    /// In nanoseconds since the epoch.
    pub(super) until: u64,
    /// None: another was ended.
    pub(super) targets: Vec<u64>,
}

impl Stored for Order {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (model, said_ms, until, count) = (from.u64()?, from.u64()?, from.u64()?, from.u32()?);
        let mut targets = Vec::new();
        for _ in 0..count {
            targets.push(from.u64()?);
        }
        Some(Self { model, said_ms, until, targets })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.model);
        to.u64(self.said_ms);
        to.u64(self.until);
        to.u32(u32::try_from(self.targets.len()).unwrap_or(u32::MAX));
        for target in &self.targets {
            to.u64(*target);
        }
    }
}

impl Order {
    /// No other that was said before can hold any more. One that ends later than any may was said before the clock was set back.
    pub(super) fn is_forgotten(&self, now: Duration) -> bool {
        let kept_until = Duration::from_millis(self.said_ms).saturating_add(ORDER_MAX);
        kept_until <= now || self.until > nanos(now.saturating_add(ORDER_MAX))
    }

    /// It holds no more.
    fn is_over(&self, now: Duration) -> bool {
        self.until <= nanos(now) || self.until > nanos(now.saturating_add(ORDER_MAX))
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self { model: 1, said_ms: 2, until: 1_795_000_000_000_000_000, targets: vec![7, 8] }
    }

    /// How long it still holds.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Duration {
        Duration::from_nanos(self.until.saturating_sub(nanos(now)))
    }

    /// Those of a model's targets that it names, as it says; one that the configuration has no more is none.
    pub fn named<'t>(&self, targets: &'t [Rc<Target>]) -> impl Iterator<Item = &'t Rc<Target>> {
        self.targets.iter().filter_map(|number| targets.iter().find(|target| target.id == *number))
    }

    /// Puts those first that it names; the others stay as they are, behind them.
    pub(super) fn arrange(&self, targets: &mut [Rc<Target>]) {
        let place = |target: &Rc<Target>| self.targets.iter().position(|number| *number == target.id);
        sorting::sort_by_key(targets, |target| place(target).unwrap_or(usize::MAX));
    }
}

impl Cooldowns {
    /// What holds for a model.
    #[must_use]
    pub fn order(&self, model: &str, now: Duration) -> Option<&Order> {
        if self.orders.is_empty() {
            return None;
        }
        let model = number_of(&[model]);
        let holds = |order: &&Order| order.model == model && !order.targets.is_empty() && !order.is_over(now);
        self.orders.iter().find(holds)
    }

    /// From now on a model's targets are asked in this order, for so long; what was said of it before is forgotten.
    pub fn set_order<'t>(
        moment: Moment<'_>,
        model: &str,
        targets: impl Iterator<Item = &'t Rc<Target>>,
        lasts: Duration,
    ) -> Result<(), StoreFault> {
        let until = nanos(moment.now.saturating_add(lasts.min(ORDER_MAX)));
        let targets = targets.map(|target| target.id).collect();
        let order = Order { model: number_of(&[model]), said_ms: 0, until, targets };
        Self::change(moment.store, |known| {
            known.say(order.clone(), moment.now);
            (true, ())
        })
    }

    /// Takes an order in the place of what is known of its model. It is the later one, whatever the others' clocks say.
    pub(super) fn say(&mut self, order: Order, now: Duration) {
        let before = self.orders.iter().find(|other| other.model == order.model);
        let said_ms = millis(now).max(before.map_or(0, |before| before.said_ms.saturating_add(1)));
        self.take(Order { said_ms, ..order }, now);
    }

    /// Takes an order as it was said.
    fn take(&mut self, order: Order, now: Duration) {
        self.orders.retain(|other| !other.is_forgotten(now) && other.model != order.model);
        self.orders.push(order);
    }

    /// Takes an order that was said to another Envoy, unless a later one is known: also one that is over by now.
    pub(super) fn hear_order(moment: Moment<'_>, heard: &Order) -> Result<(), StoreFault> {
        Self::change(moment.store, |known| {
            let is_known =
                known.orders.iter().any(|other| other.model == heard.model && other.said_ms >= heard.said_ms);
            if !is_known {
                known.take(heard.clone(), moment.now);
            }
            (!is_known, ())
        })
    }

    /// A model's targets are asked as they would be. False if they were. For the others of a fleet it is kept that the order
    /// was ended.
    pub fn end_order(moment: Moment<'_>, model: &str) -> Result<bool, StoreFault> {
        Self::change(moment.store, |known| {
            let Some(order) = known.order(model, moment.now).cloned() else { return (false, false) };
            known.say(Order { targets: Vec::new(), ..order }, moment.now);
            (true, true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Denial;
    use crate::endpoint::Style;
    use crate::gauge::Gauges;
    use crate::route::{Asker, Backend, Cooldown, Counts, Nearness, Sight, choose};
    use crate::store::MemoryStore;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_795_000_000);

    /// Of two regions.
    fn target(at: usize, priority: u32) -> Rc<Target> {
        let name = format!("t{at}");
        let backend = Backend {
            name: name.as_str().into(),
            cluster: name.into(),
            style: Style::OpenAi,
            base: Style::OpenAi.base().into(),
            region: Some(if at.is_multiple_of(2) { "eu".into() } else { "us".into() }),
            credential: None,
            gauges: Gauges::default(),
            counts: Counts::default(),
        };
        let mut target = Target::new(Rc::new(backend), "d".into(), None);
        target.priority = priority;
        Rc::new(target)
    }

    fn set(store: &MemoryStore, model: &str, targets: &[Rc<Target>], lasts: Duration, now: Duration) {
        Cooldowns::set_order(Moment::new(store, now), model, targets.iter(), lasts).unwrap();
    }

    fn names(store: &MemoryStore, targets: &[Rc<Target>], asker: Asker<'_>, now: Duration) -> String {
        let choice = choose(targets, asker, Moment::new(store, now), &mut Vec::new()).unwrap();
        let names: Vec<_> = choice.targets.iter().map(|target| &*target.backend.name).collect();
        format!("{}{}", names.join(" "), if choice.is_ordered { " by order" } else { "" })
    }

    #[test]
    fn an_order_holds_for_its_model_until_it_ends() {
        let targets = [target(0, 0), target(1, 0), target(2, 1)];
        let store = MemoryStore::default();
        let asker = |model| Asker { model: Some(model), ..Asker::default() };
        let order = [targets[2].clone(), targets[1].clone()];
        set(&store, "m", &order, Duration::from_secs(60), NOW);
        let later = NOW + Duration::from_secs(60);
        let before = later - Duration::from_nanos(1);
        for now in [NOW, before] {
            assert_eq!(names(&store, &targets, asker("m"), now), "t2 t1 t0 by order");
        }
        for (asker, now) in [(asker("m"), later), (asker("n"), NOW), (Asker::default(), NOW)] {
            assert_eq!(names(&store, &targets, asker, now), "t0 t1 t2");
        }
        // Said before the clock was set back by two days.
        assert_eq!(names(&store, &targets, asker("m"), NOW - ORDER_MAX * 2), "t0 t1 t2");
        // Another takes its place, no longer than any may hold, and it can be ended.
        set(&store, "n", &order, Duration::from_secs(60), NOW);
        set(&store, "m", &order[1..], Duration::MAX, NOW);
        let known = Cooldowns::load(&store).unwrap();
        assert_eq!((known.orders.len(), known.order("m", NOW).unwrap().remaining(NOW)), (2, ORDER_MAX));
        assert_eq!(names(&store, &targets, asker("m"), NOW), "t1 t0 t2 by order");
        let end = || Cooldowns::end_order(Moment::new(&store, NOW), "m").unwrap();
        assert_eq!((end(), end()), (true, false));
        assert_eq!(names(&store, &targets, asker("m"), NOW), "t0 t1 t2");
        assert_eq!(names(&store, &targets, asker("n"), NOW), "t2 t1 t0 by order");
    }

    #[test]
    fn an_order_comes_before_weights_and_nearness() {
        let mut targets = [target(0, 0), target(1, 0), target(2, 0)];
        let store = MemoryStore::default();
        let watch = Nearness::new("m", true).watch(0, true);
        let sights: Vec<_> = [(0, 30), (1, 10), (2, 20)]
            .map(|(at, ms): (usize, u64)| (targets[at].id, Sight::Took(Duration::from_millis(ms))))
            .into();
        watch.note(Moment::new(&store, NOW), &sights).unwrap();
        let asker = Asker { model: Some("m"), ..Asker::default() };
        let near = Asker { watch: Some(&watch), ..asker };
        assert_eq!(names(&store, &targets, near, NOW), "t1 t2 t0");
        set(&store, "m", &[targets[2].clone()], Duration::from_secs(60), NOW);
        // Those that it does not name are in the order of nearness, behind it.
        assert_eq!(names(&store, &targets, near, NOW), "t2 t1 t0 by order");
        for target in &mut targets {
            Rc::get_mut(target).unwrap().weight = Some(1);
        }
        for lot in 0..50 {
            let asker = Asker { lot, ..asker };
            assert!(names(&store, &targets, asker, NOW).starts_with("t2 "), "{lot}");
        }
    }

    #[test]
    fn pauses_and_orders_leave_each_other_alone() {
        let targets = [target(0, 0), target(1, 0)];
        let store = MemoryStore::default();
        let moment = Moment::new(&store, NOW);
        let pause = |at: usize, from_backend| {
            let pause = Cooldown { wait: Duration::from_secs(9), from_backend };
            Cooldowns::note(moment, &targets[at], pause).unwrap();
        };
        pause(0, false);
        set(&store, "m", &[targets[1].clone()], Duration::from_secs(60), NOW);
        pause(1, true);
        assert!(!Cooldowns::claim(Moment::new(&store, NOW), &targets[1]).unwrap());
        assert!(Cooldowns::claim(Moment::new(&store, NOW + Duration::from_secs(9)), &targets[0]).unwrap());
        Cooldowns::end(&store, &targets[0]).unwrap();
        let known = Cooldowns::load(&store).unwrap();
        assert_eq!(known.remaining(targets[1].id, NOW), Duration::from_secs(9));
        assert!(known.order("m", NOW).is_some());
        assert!(Cooldowns::end_order(moment, "m").unwrap());
        assert_eq!(Cooldowns::load(&store).unwrap().remaining(targets[1].id, NOW), Duration::from_secs(9));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever an operator says: the same targets serve, or none does, as without it.
        #[test]
        fn an_order_changes_only_who_is_asked_first(
            priorities in prop::collection::vec(0..3u32, 1..8),
            pausing in prop::collection::vec(any::<bool>(), 8),
            order in prop::collection::vec(0..9usize, 0..9),
            is_european: bool,
            stays: bool,
        ) {
            let mut targets: Vec<_> =
                priorities.iter().enumerate().map(|(at, priority)| target(at, *priority)).collect();
            targets.sort_by_key(|target| target.priority);
            let store = MemoryStore::default();
            for (target, _) in targets.iter().zip(pausing).filter(|(_, pausing)| *pausing) {
                let pause = Cooldown { wait: Duration::from_secs(9), from_backend: true };
                Cooldowns::note(Moment::new(&store, NOW), target, pause).unwrap();
            }
            let regions = ["eu".into()];
            let asker = Asker { regions: is_european.then_some(&regions[..]), stays, ..Asker::default() };
            let ask = |asker| choose(&targets, asker, Moment::new(&store, NOW), &mut Vec::new());
            let plain = ask(asker);
            // Of what it names some may be nowhere.
            let order: Vec<_> = order.into_iter().map(|at| target(at, 0)).collect();
            set(&store, "m", &order, Duration::from_secs(60), NOW);
            let ordered = ask(Asker { model: Some("m"), ..asker });
            match (plain, ordered) {
                (Ok(plain), Ok(ordered)) => {
                    let sorted = |found: &[Rc<Target>]| {
                        let mut numbers: Vec<_> = found.iter().map(|target| target.id).collect();
                        numbers.sort_unstable();
                        numbers
                    };
                    prop_assert_eq!(sorted(&plain.targets), sorted(&ordered.targets));
                    let place = |target: &Rc<Target>| {
                        order.iter().position(|other| other.id == target.id).unwrap_or(usize::MAX)
                    };
                    prop_assert!(ordered.targets.is_sorted_by_key(place));
                }
                (Err(plain), Err(ordered)) => {
                    prop_assert_eq!(&plain, &ordered);
                    let is_told = matches!(plain, Denial::BackendsThrottled { .. } | Denial::NoRegion);
                    prop_assert!(is_told);
                }
                (plain, ordered) => prop_assert!(false, "{:?} {:?}", plain, ordered),
            }
        }
    }
}
