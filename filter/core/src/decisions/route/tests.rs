use super::*;
use crate::allowance::Weights;
use crate::gauge::{Gauge, Unit};
use crate::store::{Loaded, MemoryStore, Store, StoreFault, Swap, Version};
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

pub(super) fn targets(names: &[&str]) -> Vec<Rc<Target>> {
    let target = |name: &&str| {
        let backend = Backend {
            name: (*name).into(),
            cluster: (*name).into(),
            style: Style::OpenAi,
            base: Style::OpenAi.base().into(),
            region: None,
            credential: None,
            gauges: Gauges::default(),
            counts: Counts::default(),
        };
        Rc::new(Target::new(Rc::new(backend), "d".into(), None))
    };
    names.iter().map(target).collect()
}

/// Who is chosen; who is passed over has tests of its own.
fn choose(
    targets: &[Rc<Target>],
    asker: Asker<'_>,
    store: &dyn Store,
    now: Duration,
) -> Result<Choice, Denial> {
    super::choose(targets, asker, Moment::new(store, now), &mut Vec::new())
}

fn order(targets: &[Rc<Target>], store: &dyn Store, now: Duration) -> Result<Vec<String>, Denial> {
    let choice = choose(targets, Asker::default(), store, now)?;
    Ok(choice.targets.iter().map(|target| target.backend.name.to_string()).collect())
}

fn asked_for(ms: u64) -> Cooldown {
    Cooldown { wait: Duration::from_millis(ms), from_backend: true }
}

fn guessed(ms: u64) -> Cooldown {
    Cooldown { from_backend: false, ..asked_for(ms) }
}

const NOW: Duration = Duration::from_secs(1_795_000_000);

/// A worker that has seen the pauses some milliseconds ago.
struct Late<'s> {
    store: &'s MemoryStore,
    seen: Rc<[u8]>,
}

impl Store for Late<'_> {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        self.store.load(key)
    }

    fn glance(&self, _: &str, _: Duration) -> Result<Rc<[u8]>, StoreFault> {
        Ok(self.seen.clone())
    }

    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        self.store.swap(key, value, version)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        self.store.put(key, value)
    }
}

fn late(store: &MemoryStore) -> Late<'_> {
    Late { store, seen: store.load("tollgate/cooldowns").unwrap().value.into() }
}

#[test]
fn a_pause_that_another_worker_has_ended_refuses_nobody() {
    let (store, targets) = (MemoryStore::default(), targets(&["a"]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], guessed(1000)).unwrap();
    let late = late(&store);
    Cooldowns::end(&store, &targets[0]).unwrap();
    assert_eq!(order(&targets, &late, NOW).unwrap(), ["a"]);
}

#[test]
fn who_comes_after_another_workers_question_is_told_a_wait() {
    let (store, targets) = (MemoryStore::default(), targets(&["a"]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], guessed(1000)).unwrap();
    let (late, over) = (late(&store), NOW + Duration::from_secs(1));
    assert!(Cooldowns::claim(Moment::new(&store, over), &targets[0]).unwrap());
    let refused = Denial::BackendsThrottled { wait: Duration::from_secs(2) };
    assert_eq!(order(&targets, &late, over), Err(refused));
}

#[test]
fn a_target_is_left_out_until_its_pause_has_ended() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    let order = |ms| order(&targets, &store, NOW + Duration::from_millis(ms)).unwrap();
    assert_eq!(order(0), ["a", "b"]);
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(1500)).unwrap();
    assert_eq!(order(1499), ["b"]);
    assert_eq!(order(1500), ["a", "b"]);
}

#[test]
fn when_all_pause_the_shortest_wait_is_told() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(3000)).unwrap();
    Cooldowns::note(Moment::new(&store, NOW), &targets[1], asked_for(2000)).unwrap();
    let order = order(&targets, &store, NOW + Duration::from_secs(1));
    assert_eq!(order, Err(Denial::BackendsThrottled { wait: Duration::from_secs(1) }));
}

#[test]
fn the_longest_pause_stands_and_ended_ones_are_forgotten() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(3000)).unwrap();
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(1000)).unwrap();
    let loaded = Cooldowns::load(&store).unwrap();
    assert_eq!(loaded.remaining(targets[0].id, NOW), Duration::from_secs(3));
    Cooldowns::note(Moment::new(&store, NOW + Duration::from_secs(5)), &targets[1], asked_for(9000)).unwrap();
    let only = MemoryStore::default();
    Cooldowns::note(Moment::new(&only, NOW + Duration::from_secs(5)), &targets[1], asked_for(9000)).unwrap();
    assert_eq!(Cooldowns::load(&store), Cooldowns::load(&only));
}

#[test]
fn no_pause_is_longer_because_the_clock_was_set_back() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    let order = |now| order(&targets, &store, now).unwrap();
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    Cooldowns::note(Moment::new(&store, NOW + hour), &targets[0], asked_for(600_000)).unwrap();
    assert_eq!(order(NOW + hour), ["b"]);
    assert_eq!(order(NOW), ["a", "b"]);
    // The next one stands, though it ends before.
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(1000)).unwrap();
    assert_eq!(order(NOW), ["b"]);
    // Nor does anybody wait for one who asked in another time.
    Cooldowns::note(Moment::new(&store, NOW), &targets[1], guessed(1000)).unwrap();
    let later = NOW + Duration::from_secs(50);
    assert!(Cooldowns::claim(Moment::new(&store, later), &targets[1]).unwrap());
    assert!(!Cooldowns::claim(Moment::new(&store, later), &targets[1]).unwrap());
    assert!(Cooldowns::claim(Moment::new(&store, NOW + Duration::from_secs(10)), &targets[1]).unwrap());
    assert_eq!(order(NOW + 3 * day), ["a", "b"]);
}

#[test]
fn after_a_guessed_pause_one_request_goes_to_see() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], guessed(1000)).unwrap();
    let choose = |ms| {
        let choice = choose(&targets, Asker::default(), &store, NOW + Duration::from_millis(ms)).unwrap();
        let names: Vec<_> = choice.targets.iter().map(|target| target.backend.name.to_string()).collect();
        (names.concat(), choice.probes_first)
    };
    assert_eq!(choose(999), ("b".to_owned(), false));
    assert_eq!(choose(1000), ("ab".to_owned(), true));
    assert_eq!(choose(1001), ("b".to_owned(), false));
    // No answer came: another one asks.
    assert_eq!(choose(3000), ("ab".to_owned(), true));
    assert_eq!(choose(3001), ("b".to_owned(), false));
    // It came.
    Cooldowns::end(&store, &targets[0]).unwrap();
    assert_eq!(choose(3001), ("ab".to_owned(), false));
    // Behind another one it is only for fail-over, and asks nothing.
    Cooldowns::note(Moment::new(&store, NOW), &targets[1], guessed(1000)).unwrap();
    assert_eq!(choose(1000), ("ab".to_owned(), false));
    // What nobody has asked about for long is forgotten.
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], guessed(1000)).unwrap();
    assert_eq!(choose(61_000), ("ab".to_owned(), false));
}

#[test]
fn when_all_pause_and_that_was_a_guess_one_goes_to_see() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(500)).unwrap();
    Cooldowns::note(Moment::new(&store, NOW), &targets[1], guessed(1000)).unwrap();
    assert_eq!(order(&targets, &store, NOW), Ok(vec!["b".to_owned()]));
    let wait = Duration::from_millis(499);
    let now = NOW + Duration::from_millis(1);
    assert_eq!(order(&targets, &store, now), Err(Denial::BackendsThrottled { wait }));
}

#[test]
fn without_the_store_every_target_is_tried() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(500)).unwrap();
    store.break_with(Some(crate::store::StoreFault::Unavailable));
    let preferred = Some(targets[0].clone());
    assert_eq!(
        choose(&targets, Asker::default(), &store, NOW),
        Ok(Choice { targets, faults: 1, preferred, ..Choice::default() })
    );
}

#[test]
fn a_pause_may_be_waited_for_where_the_capacity_was_declared() {
    let store = MemoryStore::default();
    let gauge = Gauge {
        id: 1,
        pace_id: None,
        size: std::num::NonZeroU32::MIN,
        window: Duration::from_secs(60),
        is_provisioned: false,
        unit: Unit::Tokens(Weights::UNCACHED),
    };
    let mut targets = targets(&["a", "b"]);
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(3000)).unwrap();
    let order = |targets: &[Rc<Target>]| order(targets, &store, NOW).unwrap();
    Rc::get_mut(&mut targets[1]).unwrap().gauges.tokens = Some(gauge);
    assert_eq!(order(&targets), ["b"]);
    Rc::get_mut(&mut targets[0]).unwrap().gauges.tokens = Some(gauge);
    assert_eq!(order(&targets), ["b", "a"]);
    assert_eq!(order(&targets[..1]), ["a"]);
}

#[test]
fn a_backend_that_is_passed_over_is_recorded_with_the_reason() {
    let store = MemoryStore::default();
    let mut targets = targets(&["a", "b", "c", "abroad"]);
    for target in &mut targets[..3] {
        let backend = Rc::get_mut(&mut Rc::get_mut(target).unwrap().backend).unwrap();
        backend.region = Some("eu".into());
    }
    let home: [Rc<str>; 1] = ["eu".into()];
    let passed = |targets: &[Rc<Target>], ms| {
        let asker = Asker { regions: Some(&home), ..Asker::default() };
        let mut passed_over = Vec::new();
        let chosen = super::choose(
            targets,
            asker,
            Moment::new(&store, NOW + Duration::from_millis(ms)),
            &mut passed_over,
        );
        let passed = |one: &PassedOver| format!("{} {} {:?}", one.backend, one.why.word(), one.why.wait_ms());
        let chosen = chosen.map_or(0, |choice| choice.targets.len());
        (chosen, passed_over.iter().map(passed).collect::<Vec<_>>())
    };
    let region = "abroad region None";
    assert_eq!(passed(&targets[..3], 0), (3, vec![]));
    assert_eq!(passed(&targets, 0), (3, vec![region.to_owned()]));
    assert_eq!(passed(&targets[3..], 0), (0, vec![region.to_owned()]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(1500)).unwrap();
    assert_eq!(passed(&targets[..3], 1), (2, vec!["a cooldown Some(1499)".to_owned()]));
    // Whose pause is over stands behind the open ones, and is not passed over.
    Cooldowns::note(Moment::new(&store, NOW), &targets[2], guessed(0)).unwrap();
    assert_eq!(passed(&targets[..3], 1), (2, vec!["a cooldown Some(1499)".to_owned()]));
    // All pause: nobody is chosen, and it is told of all.
    Cooldowns::note(Moment::new(&store, NOW), &targets[1], asked_for(900)).unwrap();
    Cooldowns::note(Moment::new(&store, NOW), &targets[2], guessed(800)).unwrap();
    let two =
        |at: u64| [("a", 1500), ("b", 900)].map(|(name, ms)| format!("{name} cooldown Some({})", ms - at));
    // But whoever is sent to see is not passed over.
    assert_eq!(passed(&targets, 1), (1, [vec![region.to_owned()], two(1).to_vec()].concat()));
    let asked = "c cooldown Some(1999)".to_owned();
    assert_eq!(passed(&targets, 2), (0, [vec![region.to_owned()], two(2).to_vec(), vec![asked]].concat()));
}

fn weighted(weights: &[Option<u32>]) -> Vec<Rc<Target>> {
    let names: Vec<_> = (0..weights.len()).map(|at| format!("t{at}")).collect();
    let mut targets = targets(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (target, weight) in targets.iter_mut().zip(weights) {
        Rc::get_mut(target).unwrap().weight = *weight;
    }
    targets
}

/// How often each target comes first in so many requests.
fn firsts(targets: &[Rc<Target>], requests: u64) -> Vec<u64> {
    let store = MemoryStore::default();
    let mut counts = vec![0; targets.len()];
    for request in 0..requests {
        let asker = Asker { lot: lot(request), ..Asker::default() };
        let choice = choose(targets, asker, &store, NOW).unwrap();
        assert_eq!(choice.targets.len(), targets.len());
        counts[targets.iter().position(|target| *target == choice.targets[0]).unwrap()] += 1;
    }
    counts
}

#[test]
fn each_target_gets_its_share_of_the_requests() {
    let counts = firsts(&weighted(&[Some(90), Some(10), Some(0)]), 10_000);
    // Three standard deviations are 90.
    assert!((8910..=9090).contains(&counts[0]), "{counts:?}");
    assert_eq!((counts[0] + counts[1], counts[2]), (10_000, 0));
    assert_eq!(firsts(&weighted(&[None, None]), 100), [100, 0]);
}

#[test]
fn a_changed_weight_moves_only_those_whose_share_it_is() {
    let (before, after) = (weighted(&[Some(90), Some(10)]), weighted(&[Some(80), Some(20)]));
    let store = MemoryStore::default();
    let first = |targets: &[Rc<Target>], lot| {
        choose(targets, Asker { lot, ..Asker::default() }, &store, NOW).unwrap().targets[0].number()
    };
    let (mut moved, mut back) = (0, 0);
    for client in 0..1000 {
        let (old, new) = (first(&before, lot(client)), first(&after, lot(client)));
        moved += u32::from(old != new);
        back += u32::from(old == before[1].number() && new != old);
    }
    assert!((50..150).contains(&moved), "{moved}");
    assert_eq!(back, 0);
}

#[test]
fn a_priority_comes_before_every_weight() {
    let mut targets = weighted(&[Some(1), Some(1_000_000)]);
    Rc::get_mut(&mut targets[1]).unwrap().priority = 1;
    assert_eq!(firsts(&targets, 1000), [1000, 0]);
}

#[test]
fn who_never_spills_is_served_by_the_first_priority_or_nobody() {
    let (store, mut targets) = (MemoryStore::default(), targets(&["a", "b", "c"]));
    Rc::get_mut(&mut targets[2]).unwrap().priority = 1;
    let asker = Asker { stays: true, ..Asker::default() };
    let names = |choice: Result<Choice, Denial>| -> Result<Vec<String>, Denial> {
        choice.map(|choice| choice.targets.iter().map(|target| target.backend.name.to_string()).collect())
    };
    let all = |now| names(choose(&targets, asker, &store, now));
    assert_eq!(all(NOW), Ok(vec!["a".to_owned(), "b".to_owned()]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[0], asked_for(3000)).unwrap();
    assert_eq!(all(NOW), Ok(vec!["b".to_owned()]));
    Cooldowns::note(Moment::new(&store, NOW), &targets[1], asked_for(2000)).unwrap();
    assert_eq!(all(NOW), Err(Denial::BackendsThrottled { wait: Duration::from_secs(2) }));
    // The first that it may use: nothing else serves what only this one can.
    assert_eq!(names(choose(&targets[2..], asker, &store, NOW)), Ok(vec!["c".to_owned()]));
    let mut passed_over = Vec::new();
    let _ = super::choose(&targets, asker, Moment::new(&store, NOW), &mut passed_over);
    assert_eq!(passed_over.first(), Some(&targets[2].passed_over(Why::Spill)));
}

#[test]
fn a_model_that_is_served_in_no_region_of_the_client_is_refused() {
    let store = MemoryStore::default();
    let regions = ["eu".into()];
    let asker = Asker { regions: Some(&regions), ..Asker::default() };
    assert_eq!(choose(&targets(&["a"]), asker, &store, NOW), Err(Denial::NoRegion));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever pauses, is asked about, has a queue or a weight: no target of another region, and no request that
    /// is refused for ever where there is one.
    #[test]
    fn nothing_brings_a_target_of_another_region_back(
        places in prop::collection::vec(
            (0..3usize, 0..3u32, prop::option::of(0..5u32), any::<bool>(), 0..4u64), 1..6,
        ),
        regions in prop::collection::vec(0..3usize, 0..3),
        lot in any::<u64>(),
        ms in 0..4000u64,
        is_broken in any::<bool>(),
    ) {
        const REGIONS: [&str; 3] = ["eu", "us", "asia"];
        let store = MemoryStore::default();
        let mut all = Vec::new();
        for (at, (region, priority, weight, has_gauge, pause)) in places.into_iter().enumerate() {
            let mut target = Rc::try_unwrap(targets(&[&format!("t{at}")]).remove(0)).unwrap();
            let mut backend = Rc::try_unwrap(target.backend).unwrap();
            backend.region = Some(REGIONS[region].into());
            target.backend = Rc::new(backend);
            (target.priority, target.weight) = (priority, weight);
            target.gauges.tokens = has_gauge.then_some(Gauge {
                id: at as u64,
                pace_id: None,
                size: std::num::NonZeroU32::MIN,
                window: Duration::from_secs(60),
                is_provisioned: false,
        unit: Unit::Tokens(Weights::UNCACHED),
            });
            match pause {
                1 => Cooldowns::note(Moment::new(&store, NOW), &target, asked_for(2000)).unwrap(),
                2 => Cooldowns::note(Moment::new(&store, NOW), &target, guessed(1000)).unwrap(),
                _ => {}
            }
            all.push(Rc::new(target));
        }
        store.break_with(is_broken.then_some(crate::store::StoreFault::Unavailable));
        let regions: Vec<Rc<str>> = regions.into_iter().map(|at| REGIONS[at].into()).collect();
        let asker = Asker { regions: Some(&regions), lot, ..Asker::default() };
        let is_home = |target: &Rc<Target>| regions.contains(target.backend.region.as_ref().unwrap());
        match choose(&all, asker, &store, NOW + Duration::from_millis(ms)) {
            Ok(choice) => prop_assert!(!choice.targets.is_empty() && choice.targets.iter().all(is_home)),
            Err(Denial::NoRegion) => prop_assert!(!all.iter().any(is_home)),
            Err(Denial::BackendsThrottled { wait }) => {
                prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(2));
            }
            Err(denial) => prop_assert!(false, "{:?}", denial),
        }
    }
}

#[test]
fn a_tier_that_is_refused_pauses_alone() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
    let moment = |ms| Moment::new(&store, NOW + Duration::from_millis(ms));
    let order = |tier, ms| {
        let choice = super::choose(&targets, Asker { tier, ..Asker::default() }, moment(ms), &mut Vec::new());
        choice.map(|choice| {
            let names: Vec<_> = choice.targets.iter().map(|target| target.backend.name.to_string()).collect();
            (names.join(""), choice.probes_first)
        })
    };
    let goes = |names: &str, probes_first| Ok((names.to_owned(), probes_first));
    let flex = Some(Tier::Flex);
    Cooldowns::note(moment(0), targets[0].lane(flex), asked_for(3000)).unwrap();
    assert_eq!(order(flex, 0), goes("b", false));
    assert_eq!([order(None, 0), order(Some(Tier::Priority), 0)], [goes("ab", false), goes("ab", false)]);
    // What pauses whole pauses for every tier, and for as long as the longer of both.
    Cooldowns::note(moment(0), &targets[1], asked_for(5000)).unwrap();
    assert_eq!(order(Some(Tier::Priority), 0), goes("a", false));
    let wait = Duration::from_millis(3000);
    assert_eq!(order(flex, 0), Err(Denial::BackendsThrottled { wait }));
    Cooldowns::note(moment(0), &targets[0], asked_for(4000)).unwrap();
    let wait = Duration::from_millis(4000);
    assert_eq!(order(flex, 0), Err(Denial::BackendsThrottled { wait }));
    assert_eq!(order(flex, 4000), goes("a", false));
}

#[test]
fn whoever_sees_that_a_tier_is_well_has_seen_its_target_too() {
    let (store, targets) = (MemoryStore::default(), targets(&["a"]));
    let moment = |ms| Moment::new(&store, NOW + Duration::from_millis(ms));
    let flex = targets[0].lane(Some(Tier::Flex));
    let states = |ms| {
        let known = Cooldowns::load(&store).unwrap();
        [known.state(&targets[0], moment(ms).now), known.state(flex, moment(ms).now)]
    };
    Cooldowns::note(moment(0), &targets[0], guessed(1000)).unwrap();
    Cooldowns::note(moment(0), flex, guessed(500)).unwrap();
    assert_eq!(states(500), [State::Claimable(Duration::from_millis(500)); 2]);
    // Both are asked by one request, and nobody else asks meanwhile.
    assert!(Cooldowns::claim(moment(1000), flex).unwrap());
    assert!(!Cooldowns::claim(moment(1000), &targets[0]).unwrap());
    assert!(!Cooldowns::claim(moment(1000), flex).unwrap());
    // Who has not asked for the tier knows nothing of it.
    Cooldowns::end(&store, &targets[0]).unwrap();
    assert_eq!(states(1000), [State::Open, State::Pausing(Duration::from_secs(2))]);
    Cooldowns::note(moment(1000), &targets[0], guessed(500)).unwrap();
    Cooldowns::end(&store, flex).unwrap();
    assert_eq!(states(1000), [State::Open; 2]);
}

/// Whom a request for flex is sent to, first in its tier and then as the default, and whether it begins as that.
fn flexible(targets: &[Rc<Target>], asker: Asker<'_>, store: &dyn Store) -> Choice {
    let asker = Asker { tier: Some(Tier::Flex), asks_again: true, ..asker };
    choose(targets, asker, store, NOW).unwrap()
}

fn calls(choice: &Choice) -> String {
    let call = |(target, as_default): (&Rc<Target>, bool)| {
        format!("{}{}", target.backend.name, if as_default { "!" } else { "" })
    };
    choice.calls().map(call).collect()
}

#[test]
fn a_refused_tier_is_asked_again_of_whoever_may_be_asked() {
    let (store, targets) = (MemoryStore::default(), targets(&["a", "b", "c"]));
    let note = |lane: Lane| Cooldowns::note(Moment::new(&store, NOW), lane, asked_for(3000)).unwrap();
    let choice = |store: &dyn Store| flexible(&targets, Asker::default(), store);
    assert_eq!((calls(&choice(&store)).as_str(), choice(&store).refused), ("abca!b!c!", None));
    // What pauses whole is not asked again either.
    note(targets[1].lane(None));
    assert_eq!((calls(&choice(&store)).as_str(), choice(&store).refused), ("aca!c!", None));
    note(targets[0].lane(Some(Tier::Flex)));
    assert_eq!((calls(&choice(&store)).as_str(), choice(&store).refused), ("ca!c!", Some(Tier::Flex)));
    note(targets[2].lane(Some(Tier::Flex)));
    let last = choice(&store);
    assert_eq!((calls(&last).as_str(), last.tier, last.refused), ("a!c!", None, Some(Tier::Flex)));
    // And nobody is, where that is not wanted.
    let asker = Asker { tier: Some(Tier::Flex), ..Asker::default() };
    let wait = Duration::from_millis(3000);
    assert_eq!(choose(&targets, asker, &store, NOW), Err(Denial::BackendsThrottled { wait }));
}

#[test]
fn what_is_asked_again_is_held_to_the_same_bounds() {
    let (store, mut targets) = (MemoryStore::default(), targets(&["a", "b"]));
    let canary = Rc::get_mut(&mut targets[1]).unwrap();
    (canary.share_max, canary.priority) = (Some(PARTS / 10), 1);
    let shares = Shares::of("m", &targets).unwrap();
    let asker = Asker { shares: Some(&shares), ..Asker::default() };
    let mut choice = flexible(&targets, asker, &store);
    assert_eq!(calls(&choice), "aba!b!");
    // It has a share left, and is counted once.
    let open = shares.send(&targets[0], &store).unwrap().unwrap();
    choice.put_bounded_last(&open, Fitted::EachAttempt);
    assert_eq!(calls(&choice), "aba!b!");
    choice.put_bounded_last(&Open::default(), Fitted::EachAttempt);
    assert_eq!(calls(&choice), "aa!");
    // The bound on spilling has nothing left.
    let mut choice = flexible(&targets, Asker::default(), &store);
    assert_eq!(choice.keep_preferred(), [targets[1].clone()]);
    assert_eq!(calls(&choice), "aa!");
}

#[test]
fn a_pause_of_a_tier_is_not_waited_for_where_it_is_asked_again() {
    let (store, mut targets) = (MemoryStore::default(), targets(&["a", "b"]));
    let gauge = Gauge {
        id: 1,
        pace_id: None,
        size: 1.try_into().unwrap(),
        window: Duration::from_secs(60),
        is_provisioned: false,
        unit: Unit::Requests,
    };
    Rc::get_mut(&mut targets[0]).unwrap().gauges.requests = Some(gauge);
    let flex = targets[0].lane(Some(Tier::Flex));
    Cooldowns::note(Moment::new(&store, NOW), flex, asked_for(3000)).unwrap();
    assert_eq!(calls(&flexible(&targets, Asker::default(), &store)), "ba!b!");
    let asker = Asker { tier: Some(Tier::Flex), ..Asker::default() };
    assert_eq!(calls(&choose(&targets, asker, &store, NOW).unwrap()), "ba");
}
