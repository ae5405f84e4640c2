use super::*;
use crate::denial::Denial;
use crate::endpoint::Style;
use crate::gauge::Gauges;
use crate::route::{Asker, Backend, Cooldown, Cooldowns, Counts, choose, lot};
use crate::store::{MemoryStore, Store};
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);

fn target(name: &str, priority: u32) -> Rc<Target> {
    let backend = Backend {
        name: name.into(),
        cluster: name.into(),
        style: Style::OpenAi,
        base: Style::OpenAi.base().into(),
        region: None,
        credential: None,
        gauges: Gauges::default(),
        counts: Counts::default(),
    };
    let mut target = Target::new(Rc::new(backend), "d".into(), None);
    target.priority = priority;
    Rc::new(target)
}

fn equals(names: &[&str]) -> Vec<Rc<Target>> {
    names.iter().map(|name| target(name, 0)).collect()
}

fn watch(prompt_tokens: u64) -> Watch {
    Nearness::new("m", true).watch(prompt_tokens, true)
}

/// For an answer that comes whole and is not measured.
fn unmeasured(prompt_tokens: u64) -> Watch {
    Nearness::new("m", false).watch(prompt_tokens, false)
}

/// One worker's view: targets and the store.
struct Pool {
    targets: Vec<Rc<Target>>,
    store: MemoryStore,
}

impl Pool {
    fn new(names: &[&str]) -> Self {
        Self { targets: equals(names), store: MemoryStore::default() }
    }

    fn saw(&self, at: usize, ms: u64, now: Duration) {
        let sights = [(self.targets[at].number(), Sight::Took(Duration::from_millis(ms)))];
        watch(0).note(Moment::new(&self.store, now), &sights).unwrap();
    }

    fn order(&self, watch: &Watch, lot: u64, now: Duration) -> String {
        let asker = Asker { lot, watch: Some(watch), ..Asker::default() };
        let choice = choose(&self.targets, asker, Moment::new(&self.store, now), &mut Vec::new()).unwrap();
        choice.targets.iter().map(|target| target.backend.name.to_string()).collect()
    }

    /// How many of so many streams go first to which target.
    fn firsts(&self, streams: u64, now: Duration) -> Vec<(String, u64)> {
        let mut counts: Vec<(String, u64)> = Vec::new();
        for stream in 0..streams {
            let first = self.order(&watch(0), lot(stream), now)[..1].to_owned();
            match counts.iter_mut().find(|(name, _)| *name == first) {
                Some((_, count)) => *count += 1,
                None => counts.push((first, 1)),
            }
        }
        counts.sort();
        counts
    }

    fn known_us(&self, at: usize) -> u32 {
        let record = self.store.load(&watch(0).key).unwrap().value;
        let entries: Vec<Entry> = codec::decode_all(&record);
        let found = entries.iter().find(|entry| entry.target == self.targets[at].number());
        found.map_or(0, |entry| entry.seen[0].us)
    }
}

#[test]
fn the_nearest_comes_first_and_equals_keep_their_order() {
    let pool = Pool::new(&["a", "b", "c", "d"]);
    for (at, ms) in [(0, 300), (1, 105), (2, 100), (3, 120)] {
        pool.saw(at, ms, NOW);
    }
    assert_eq!(pool.firsts(200, NOW), [("b".to_owned(), 200)]);
    assert_eq!(pool.order(&watch(0), 0, NOW), "bcda");
}

#[test]
fn a_prompt_is_compared_with_those_of_its_size() {
    let pool = Pool::new(&["a", "b"]);
    pool.saw(0, 300, NOW);
    pool.saw(1, 100, NOW);
    let order = |tokens| pool.order(&unmeasured(tokens), 0, NOW);
    assert_eq!([order(0), order(1000)], ["ba", "ba"]);
    assert_eq!([order(1001), order(8001), order(u64::MAX)], ["ab", "ab", "ab"]);
    let sizes = [0, 1000, 1001, 8000, 8001, 32_000, 32_001].map(|tokens| watch(tokens).size);
    assert_eq!(sizes, [0, 0, 1, 1, 2, 2, 3]);
}

#[test]
fn some_streams_ask_who_is_not_known() {
    let pool = Pool::new(&["a", "b", "c"]);
    // Nothing is known of anybody: as they stand.
    assert_eq!(pool.firsts(100, NOW), [("a".to_owned(), 100)]);
    pool.saw(0, 100, NOW);
    let counts = pool.firsts(4000, NOW);
    // One in four is 1000, and five standard deviations are 140. `c` waits until `b` is known.
    assert!((860..1140).contains(&counts[1].1) && counts.len() == 2, "{counts:?}");
    // What is no stream shows nothing, and asks nobody.
    assert!((0..100).all(|stream| pool.order(&unmeasured(0), lot(stream), NOW) == "abc"));
}

#[test]
fn who_was_slow_once_is_asked_again_and_judged_anew() {
    let pool = Pool::new(&["a", "b"]);
    pool.saw(0, 10_000, NOW);
    pool.saw(1, 100, NOW);
    let later = NOW + STALE_AFTER - Duration::from_millis(1);
    assert_eq!(pool.firsts(500, later), [("b".to_owned(), 500)]);
    let later = NOW + STALE_AFTER;
    pool.saw(1, 100, later);
    let counts = pool.firsts(4000, later);
    // One in sixteen is 250, and five standard deviations are 77.
    assert!((173..327).contains(&counts[0].1), "{counts:?}");
    // What it shows after an hour is what counts.
    let later = NOW + Duration::from_secs(3600);
    pool.saw(0, 50, later);
    assert!(pool.known_us(0) < 130_000, "{}", pool.known_us(0));
    pool.saw(1, 1000, later);
    assert_eq!(pool.firsts(500, later), [("a".to_owned(), 500)]);
}

#[test]
fn streams_and_whole_answers_are_ordered_by_what_each_showed() {
    let pool = Pool::new(&["a", "b"]);
    let whole = Nearness::new("m", true).watch(0, false);
    // `b` speaks sooner, and takes longer for each token.
    pool.saw(0, 300, NOW);
    pool.saw(1, 100, NOW);
    for (at, ms) in [(0, 10), (1, 40)] {
        let sights = [(pool.targets[at].number(), Sight::Took(Duration::from_millis(ms)))];
        whole.note(Moment::new(&pool.store, NOW), &sights).unwrap();
    }
    assert_eq!(
        [&watch(0), &whole, &unmeasured(0)].map(|watch| pool.order(watch, 0, NOW)),
        ["ba", "ab", "ba"]
    );
    let later = NOW + STALE_AFTER;
    // Whoever is measured asks again who was slow.
    let asked = |watch: &Watch| (0..200).any(|one| pool.order(watch, lot(one), later) == "ba");
    assert!(asked(&whole));
    let is_same = |one| pool.order(&unmeasured(0), lot(one), later) == "ba";
    assert!((0..200).all(is_same));
}

#[test]
fn a_short_answer_is_not_taken_for_a_slow_one() {
    let used = |prompt, completion| Usage { prompt, completion, ..Usage::default() };
    // Of one backend that begins after 400 ms and then makes a token in 12: what it shows differs little.
    let shown = [1, 30, 1000].map(|tokens| {
        let took = Duration::from_millis(400 + 12 * tokens);
        per_token(took, used(100, tokens)).as_micros()
    });
    assert_eq!(shown, [12_484, 12_258, 12_015]);
    // One that is ten times slower shows ten times as much, whatever is asked.
    let slow = per_token(Duration::from_millis(4120), used(100, 1));
    assert_eq!(slow.as_micros(), 124_848);
    // Embeddings produce nothing: a longer text takes longer to read.
    let embeddings = [(40, 10), (60, 900), (80, 4_000)];
    let shown =
        embeddings.map(|(ms, prompt)| per_token(Duration::from_millis(ms), used(prompt, 0)).as_micros());
    assert_eq!(shown, [1250, 1538, 1269]);
    assert_eq!(per_token(Duration::MAX, Usage::default()).as_nanos(), u128::from(u64::MAX));
    assert_eq!(per_token(Duration::from_secs(1), used(0, u64::MAX)), Duration::ZERO);
}

#[test]
fn a_failing_backend_is_not_probed_and_not_taken_for_slow() {
    let pool = Pool::new(&["a", "b"]);
    pool.saw(0, 100, NOW);
    let failed = [
        (pool.targets[1].number(), Sight::Failed),
        (pool.targets[0].number(), Sight::Took(Duration::from_millis(100))),
    ];
    watch(0).note(Moment::new(&pool.store, NOW), &failed).unwrap();
    assert_eq!(pool.firsts(500, NOW), [("a".to_owned(), 500)]);
    // It serves again: that is all that is known of it.
    pool.saw(1, 50, NOW);
    assert_eq!(pool.known_us(1), 50_000);
    assert_eq!(pool.firsts(500, NOW), [("b".to_owned(), 500)]);
    watch(0).note(Moment::new(&pool.store, NOW), &failed[..1]).unwrap();
    assert_eq!(pool.known_us(1), 50_000);
}

#[test]
fn a_clock_that_is_set_back_holds_nobody_for_fresh() {
    let pool = Pool::new(&["a", "b"]);
    pool.saw(0, 10_000, NOW + Duration::from_secs(3600));
    pool.saw(1, 100, NOW);
    assert_eq!(pool.firsts(4000, NOW).len(), 2);
    pool.saw(0, 50, NOW);
    assert_eq!(pool.known_us(0), 50_000);
}

#[test]
fn without_the_store_they_stay_as_they_stand() {
    let pool = Pool::new(&["a", "b"]);
    pool.saw(0, 300, NOW);
    pool.saw(1, 100, NOW);
    pool.store.break_with(Some(StoreFault::Unavailable));
    let asker = Asker { watch: Some(&watch(0)), ..Asker::default() };
    let choice = choose(&pool.targets, asker, Moment::new(&pool.store, NOW), &mut Vec::new()).unwrap();
    assert_eq!((choice.targets, choice.faults), (pool.targets, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Priorities, pauses and regions are decided elsewhere: whatever a record says, all that it changes is the order
    /// within one priority.
    #[test]
    fn nearness_changes_only_the_order_of_equals(
        priorities in prop::collection::vec(0..3u32, 1..8),
        pausing in prop::collection::vec(any::<bool>(), 8),
        seen in prop::collection::vec((0..8usize, 1..5000u64, 0..90_000u64), 0..40),
        garbage in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        tokens in 0..50_000u64,
        lot in any::<u64>(),
    ) {
        let mut targets: Vec<_> =
            priorities.iter().enumerate().map(|(at, priority)| target(&format!("t{at}"), *priority)).collect();
        targets.sort_by_key(|target| target.priority);
        let store = MemoryStore::default();
        let watch = watch(tokens);
        for (at, ms, ago_ms) in seen {
            let Some(target) = targets.get(at) else { continue };
            let sights = [(target.number(), Sight::Took(Duration::from_millis(ms)))];
            watch.note(Moment::new(&store, NOW - Duration::from_millis(ago_ms)), &sights).unwrap();
        }
        if let Some(garbage) = garbage {
            store.put(&watch.key, &garbage).unwrap();
        }
        for (target, _) in targets.iter().zip(pausing).filter(|(_, pausing)| *pausing) {
            Cooldowns::note(Moment::new(&store, NOW), target, Cooldown { wait: Duration::from_secs(9), from_backend: true }).unwrap();
        }
        let plain = choose(&targets, Asker { lot, ..Asker::default() }, Moment::new(&store, NOW), &mut Vec::new());
        let near = choose(&targets, Asker { lot, watch: Some(&watch), ..Asker::default() }, Moment::new(&store, NOW), &mut Vec::new());
        match (plain, near) {
            (Ok(plain), Ok(near)) => {
                let of = |found: &[Rc<Target>]| found.iter().map(|target| target.priority).collect::<Vec<_>>();
                prop_assert_eq!(of(&plain.targets), of(&near.targets));
                let sorted = |found: &[Rc<Target>]| {
                    let mut numbers: Vec<_> = found.iter().map(|target| target.number()).collect();
                    numbers.sort_unstable();
                    numbers
                };
                prop_assert_eq!(sorted(&plain.targets), sorted(&near.targets));
            }
            (Err(plain), Err(near)) => {
                prop_assert_eq!(&plain, &near);
                let is_throttled = matches!(plain, Denial::BackendsThrottled { .. });
                prop_assert!(is_throttled);
            }
            (plain, near) => prop_assert!(false, "{:?} {:?}", plain, near),
        }
    }

    /// What is known lies between the least and the most that was seen, and the record has its bound.
    #[test]
    fn what_is_known_lies_between_what_was_seen(
        seen in prop::collection::vec((0..200u64, 1..100_000u64, 0..100_000u64), 1..300),
    ) {
        let store = MemoryStore::default();
        let (mut now, mut bounds) = (NOW, std::collections::HashMap::<u64, (u64, u64)>::new());
        for (target, us, later_ms) in seen {
            now += Duration::from_millis(later_ms);
            let sights = [(target, Sight::Took(Duration::from_micros(us)))];
            watch(0).note(Moment::new(&store, now), &sights).unwrap();
            let (least, most) = bounds.entry(target).or_insert((us, us));
            (*least, *most) = ((*least).min(us), (*most).max(us));
            let record = store.load(&watch(0).key).unwrap().value;
            prop_assert!(codec::decode_all::<Entry>(&record).len() <= TARGETS_MAX);
            let entries: Vec<Entry> = codec::decode_all(&record);
            let found = entries.iter().find(|entry| entry.target == target).unwrap();
            let known = u64::from(found.seen[0].us);
            prop_assert!((*least..=*most).contains(&known), "{} {:?}", known, (least, most));
        }
    }
}

#[test]
fn the_law_of_stored_values_holds() {
    let seen = [1, 2, Seen::FAILED, 0].map(|us| Seen { us, at_ms: 1_795_000_000_000 });
    codec::law::holds("nearness", &[Entry { target: 7, seen }]);
}
