mod equals;
mod pace;
mod refused;
mod requests;

use super::*;
use crate::allowance::Weights;
use crate::store::{MemoryStore, Store};
use crate::tier::Lane;
use proptest::prelude::*;
use std::num::NonZeroU32;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const START: Duration = Duration::from_secs(1_795_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const PRECEDENCE: Precedence = Precedence { headroom_min: 0, wait_max: Duration::from_secs(5) };

fn gauge(id: u64, tokens: u32) -> Gauge {
    Gauge {
        id,
        pace_id: None,
        size: NonZeroU32::new(tokens).unwrap(),
        window: MINUTE,
        is_provisioned: false,
        unit: Unit::Tokens(Weights::UNCACHED),
    }
}

/// So much of its tokens, and any number of requests.
fn only(gauge: Gauge) -> Gauges {
    Gauges { tokens: Some(gauge), requests: None }
}

/// Nobody leaves anything to what was sent so.
const LAST: Yields = Yields { priority: Priority::Low, headroom_min: 0 };

fn s(seconds: u64) -> Duration {
    START + Duration::from_secs(seconds)
}

/// Sent and produced, and which of them makes no difference.
fn used(tokens: u64) -> Usage {
    Usage { prompt: tokens / 3, completion: tokens - tokens / 3, ..Usage::default() }
}

fn ask(priority: Priority, tokens: u64) -> Ask {
    let places = vec![Place { lane: Lane::from(1), gauges: only(gauge(1, 100)), spare: 0 }];
    Ask { places, client: "a".into(), usage: used(tokens), priority, precedence: PRECEDENCE }
}

fn no_pause(_: Lane) -> Duration {
    Duration::ZERO
}

/// The numbers of those who went, and of those who left.
fn round(queue: &mut Queue, store: &MemoryStore, now: Duration) -> (Vec<u32>, Vec<u32>) {
    let turns = queue.round(&no_pause, Moment::new(store, now));
    let (goes, leaves): (Vec<_>, Vec<_>) =
        turns.into_iter().partition(|(_, turn)| matches!(turn, Turn::Goes { .. }));
    let ids = |turns: Vec<(u32, Turn)>| turns.into_iter().map(|(id, _)| id).collect();
    (ids(goes), ids(leaves))
}

#[test]
fn a_window_is_filled_and_forgets() {
    let store = MemoryStore::default();
    let taken = |tokens, now| {
        take(Moment::new(&store, now), only(gauge(1, 100)), used(tokens), Yields::NOTHING)
            .unwrap()
            .map(|_| tokens)
    };
    assert_eq!(taken(60, s(0)), Ok(60));
    assert_eq!(taken(40, s(30)), Ok(40));
    // The slot of the first has left the window whole after 61 seconds, that of the second after 91.
    assert_eq!(taken(1, s(30)), Err(Duration::from_secs(31)));
    assert_eq!(taken(61, s(30)), Err(Duration::from_secs(61)));
    assert_eq!(taken(60, s(61)), Ok(60));
    // Whoever asks for more than there ever is gets all there is.
    assert_eq!(taken(1000, s(61)), Err(Duration::from_secs(61)));
    assert_eq!(taken(1000, s(122)), Ok(1000));
}

#[test]
fn models_share_a_capacity_each_by_its_own_weights() {
    let store = MemoryStore::default();
    let weighs = |completion: u64| Gauge {
        unit: Unit::Tokens(Weights { completion: completion * 1_000_000, ..Weights::UNCACHED }),
        ..gauge(1, 100)
    };
    let usage = Usage { prompt: 10, cached: 10, completion: 10, ..Usage::default() };
    let seat = take(Moment::new(&store, s(0)), only(weighs(8)), usage, Yields::NOTHING).unwrap().unwrap();
    assert!(take(Moment::new(&store, s(0)), only(weighs(4)), usage, Yields::NOTHING).unwrap().is_err());
    give_back(Moment::new(&store, s(0)), &seat, usage).unwrap();
    // Ten cached ones take nothing, ten that were produced 80.
    assert!(
        take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(21), Yields::NOTHING).unwrap().is_err()
    );
    let _rest =
        take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(20), Yields::NOTHING).unwrap().unwrap();
    // Those ahead count by their weights too: one slot's 100 tokens leave before 50 and 90 fit.
    let mut queue = Queue::default();
    let long = Precedence { wait_max: Duration::from_secs(90), ..PRECEDENCE };
    let mut enter = |id, completion| {
        let places = vec![Place { lane: Lane::from(1), gauges: only(weighs(completion)), spare: 0 }];
        let ask = Ask { places, usage, precedence: long, ..ask(Priority::Normal, 1) };
        queue.enter(id, ask, &no_pause, Moment::new(&store, s(0))).unwrap()
    };
    assert_eq!((enter(1, 4), enter(2, 8)), (Turn::Waits, Turn::Waits));
    assert_eq!(round(&mut queue, &store, s(61)), (vec![1], vec![]));
    assert_eq!(round(&mut queue, &store, s(62)), (vec![], vec![]));
}

#[test]
fn a_clock_that_was_set_back_holds_a_window_for_a_window() {
    const DAY: u64 = 86_400;
    let store = MemoryStore::default();
    let taken = |tokens, now| {
        take(Moment::new(&store, now), only(gauge(1, 100)), used(tokens), Yields::NOTHING)
            .unwrap()
            .map(|_| tokens)
    };
    assert_eq!(taken(90, s(3 * DAY)), Ok(90));
    assert_eq!(taken(20, s(3 * DAY - 30)), Err(Duration::from_secs(91)));
    assert_eq!(taken(100, s(0)), Ok(100));
    assert_eq!(taken(100, s(61)), Ok(100));
}

#[test]
fn nobody_waits_longer_because_the_clock_was_set_back() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let pause = |_: Lane| MINUTE;
    let place = Place {
        lane: Lane::from(1),
        gauges: only(Gauge { is_provisioned: true, ..gauge(1, 100) }),
        spare: 0,
    };
    let ask = Ask { places: vec![place], ..ask(Priority::Normal, 10) };
    assert_eq!(queue.enter(1, ask, &pause, Moment::new(&store, s(3600))), Ok(Turn::Waits));
    assert_eq!(queue.round(&pause, Moment::new(&store, s(0))), []);
    assert_eq!(queue.round(&pause, Moment::new(&store, s(4))), []);
    assert_eq!(queue.round(&pause, Moment::new(&store, s(5))), [(1, Turn::Leaves { wait: MINUTE })]);
}

#[test]
fn the_less_important_leave_a_share_free() {
    let store = MemoryStore::default();
    let taken = |tokens, headroom_min| {
        take(
            Moment::new(&store, s(0)),
            only(gauge(1, 100)),
            used(tokens),
            Yields { headroom_min, ..Yields::NOTHING },
        )
        .unwrap()
        .is_ok()
    };
    assert!(taken(80, 200_000));
    assert!(!taken(1, 200_000));
    assert!(taken(20, 0));
    assert!(!taken(1, 0));
}

#[test]
fn a_seat_is_given_back_but_for_what_was_used() {
    let store = MemoryStore::default();
    let seat =
        take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(100), Yields::NOTHING).unwrap().unwrap();
    give_back(Moment::new(&store, s(10)), &seat, used(30)).unwrap();
    let seat =
        take(Moment::new(&store, s(10)), only(gauge(1, 100)), used(70), Yields::NOTHING).unwrap().unwrap();
    assert!(
        take(Moment::new(&store, s(10)), only(gauge(1, 100)), used(1), Yields::NOTHING).unwrap().is_err()
    );
    // What has left the window cannot be given back to it.
    let whole =
        take(Moment::new(&store, s(100)), only(gauge(1, 100)), used(100), Yields::NOTHING).unwrap().unwrap();
    give_back(Moment::new(&store, s(100)), &seat, used(0)).unwrap();
    assert!(
        take(Moment::new(&store, s(100)), only(gauge(1, 100)), used(1), Yields::NOTHING).unwrap().is_err()
    );
    drop(whole);
}

#[test]
fn a_backend_that_has_less_room_than_was_reckoned_is_believed() {
    let store = MemoryStore::default();
    let has_room = |tokens, now| {
        take(Moment::new(&store, now), only(gauge(1, 100)), used(tokens), Yields::NOTHING).unwrap().is_ok()
    };
    assert!(has_room(20, s(0)));
    // 80 should be left; others have taken 50 of them.
    learn(Moment::new(&store, s(1)), gauge(1, 100), RoomLeft::Amount(30)).unwrap();
    assert!(!has_room(31, s(1)));
    assert!(has_room(10, s(1)));
    learn(Moment::new(&store, s(2)), gauge(1, 100), RoomLeft::Utilization(950_000)).unwrap();
    assert!(!has_room(6, s(2)));
    // More room than was reckoned is no news, and what was told is forgotten after a window.
    learn(Moment::new(&store, s(3)), gauge(1, 100), RoomLeft::Amount(100)).unwrap();
    assert!(!has_room(71, s(3)));
    assert!(has_room(70, s(3)));
    learn(Moment::new(&store, s(200)), gauge(1, 100), RoomLeft::Amount(0)).unwrap();
    assert!(!has_room(1, s(259)));
    assert!(has_room(100, s(260)));
}

#[test]
fn a_request_goes_to_the_first_place_with_room() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let places = vec![
        Place { lane: Lane::from(1), gauges: only(gauge(1, 100)), spare: 0 },
        Place { lane: Lane::from(2), gauges: only(gauge(2, 100)), spare: 0 },
        Place { lane: Lane::from(3), gauges: Gauges::default(), spare: 0 },
    ];
    let ask = Ask { places, ..ask(Priority::Normal, 60) };
    let mut place = |pause: &dyn Fn(Lane) -> Duration| match queue
        .enter(1, ask.clone(), pause, Moment::new(&store, s(0)))
        .unwrap()
    {
        Turn::Goes { place, seat } => {
            (place, seat.and_then(|seat| seat.gauges().tokens).map(|gauge| gauge.id))
        }
        turn => panic!("{turn:?}"),
    };
    assert_eq!(place(&|lane| if lane == Lane::from(1) { MINUTE } else { Duration::ZERO }), (1, Some(2)));
    assert_eq!(place(&no_pause), (0, Some(1)));
    assert_eq!(place(&no_pause), (2, None));
}

#[test]
fn important_requests_go_first_then_those_that_give_up_soonest() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let full = take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(100), LAST).unwrap().unwrap();
    let mut enter = |id, priority, wait_s| {
        let precedence = Precedence { wait_max: Duration::from_secs(wait_s), ..PRECEDENCE };
        let turn = queue
            .enter(
                id,
                Ask { precedence, ..ask(priority, if priority == Priority::High { 1 } else { 10 }) },
                &no_pause,
                Moment::new(&store, s(0)),
            )
            .unwrap();
        assert_eq!(turn, Turn::Waits, "{id}");
    };
    enter(1, Priority::Low, 70);
    enter(2, Priority::Normal, 80);
    enter(3, Priority::Normal, 70);
    enter(4, Priority::High, 80);
    assert_eq!(round(&mut queue, &store, s(1)), (vec![], vec![]));
    give_back(Moment::new(&store, s(1)), &full, used(70)).unwrap();
    assert_eq!(round(&mut queue, &store, s(1)), (vec![4, 3, 2], vec![]));
    assert!(!queue.is_empty());
    // The last one's time is up before there is room again.
    assert_eq!(round(&mut queue, &store, s(70)), (vec![1], vec![]));
}

#[test]
fn nobody_is_overtaken_by_whoever_comes_later_or_asks_for_less() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let _full =
        take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(95), Yields::NOTHING).unwrap().unwrap();
    let long = Precedence { wait_max: MINUTE * 2, ..PRECEDENCE };
    let mut enter = |id, priority, tokens, now| {
        let ask = Ask { precedence: long, ..ask(priority, tokens) };
        queue.enter(id, ask, &no_pause, Moment::new(&store, now)).unwrap()
    };
    assert_eq!(enter(1, Priority::Normal, 40, s(0)), Turn::Waits);
    assert_eq!(enter(2, Priority::Normal, 1, s(1)), Turn::Waits);
    assert_eq!(enter(3, Priority::Low, 1, s(1)), Turn::Waits);
    assert!(matches!(enter(4, Priority::High, 1, s(1)), Turn::Goes { .. }));
    assert_eq!(round(&mut queue, &store, s(2)), (vec![], vec![]));
    assert_eq!(round(&mut queue, &store, s(61)), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_queue_is_bounded_in_length_and_in_time() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let _full =
        take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(100), Yields::NOTHING).unwrap().unwrap();
    // What cannot come in time is refused at once.
    let enter = |queue: &mut Queue, id, wait_s, now| {
        let precedence = Precedence { wait_max: Duration::from_secs(wait_s), ..PRECEDENCE };
        queue
            .enter(id, Ask { precedence, ..ask(Priority::Low, 60) }, &no_pause, Moment::new(&store, now))
            .unwrap()
    };
    assert_eq!(enter(&mut queue, 1, 5, s(0)), Turn::Leaves { wait: Duration::from_secs(61) });
    queue.set_waiting_max(1);
    assert_eq!(enter(&mut queue, 2, 61, s(0)), Turn::Waits);
    // The one ahead is counted.
    assert_eq!(enter(&mut queue, 3, 100, s(0)), Turn::Leaves { wait: Duration::from_secs(61) });
    let _others = take_anyhow(Moment::new(&store, s(30)), only(gauge(1, 100)), used(100)).unwrap();
    assert_eq!(round(&mut queue, &store, s(60)), (vec![], vec![]));
    assert_eq!(round(&mut queue, &store, s(61)), (vec![], vec![2]));
    // Where something may be given back any time, it waits all the same.
    let provisioned = Gauge { is_provisioned: true, ..gauge(1, 100) };
    let places = vec![Place { lane: Lane::from(1), gauges: only(provisioned), spare: 0 }];
    let hopeful = Ask { places, ..ask(Priority::Low, 60) };
    assert_eq!(queue.enter(5, hopeful, &no_pause, Moment::new(&store, s(61))).unwrap(), Turn::Waits);
    queue.leave(5);
    // Whoever leaves by itself is not called any more.
    assert_eq!(enter(&mut queue, 4, 61, s(61)), Turn::Waits);
    queue.leave(4);
    assert_eq!(round(&mut queue, &store, s(200)), (vec![], vec![]));
}

/// A backend that is full, and provisioned: whoever comes may hope.
fn hopeful(client: &str, priority: Priority) -> Ask {
    let provisioned = Gauge { is_provisioned: true, ..gauge(1, 100) };
    let places = vec![Place { lane: Lane::from(1), gauges: only(provisioned), spare: 0 }];
    Ask { places, client: client.into(), ..ask(priority, 60) }
}

/// Enters a full queue of `waiting_max`, and tells whether it waits and who gave up his place.
struct Full {
    store: MemoryStore,
    queue: Queue,
    next: u32,
}

impl Full {
    fn new(waiting_max: usize) -> Self {
        let (store, mut queue) = (MemoryStore::default(), Queue::default());
        let _full = take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(100), Yields::NOTHING)
            .unwrap()
            .unwrap();
        queue.set_waiting_max(waiting_max);
        Self { store, queue, next: 1 }
    }

    #[track_caller]
    fn check(&mut self, client: &str, priority: Priority, waits: bool, displaced: &[u32]) {
        let moment = Moment::new(&self.store, s(0));
        let turn = self.queue.enter(self.next, hopeful(client, priority), &no_pause, moment).unwrap();
        assert_eq!(turn == Turn::Waits, waits, "{}", self.next);
        assert_eq!(round(&mut self.queue, &self.store, s(0)), (vec![], displaced.to_vec()), "{}", self.next);
        self.next += 1;
    }
}

#[test]
fn the_least_important_give_up_their_places() {
    let mut full = Full::new(2);
    full.check("a", Priority::Low, true, &[]);
    full.check("a", Priority::Low, true, &[]);
    full.check("b", Priority::High, true, &[2]);
    full.check("a", Priority::Low, false, &[]);
    full.check("a", Priority::Normal, true, &[1]);
    full.check("a", Priority::Normal, false, &[]);
    full.check("b", Priority::High, true, &[5]);
    full.check("b", Priority::High, false, &[]);
    full.check("c", Priority::Normal, false, &[]);
}

#[test]
fn no_client_keeps_the_places_of_equals() {
    let mut full = Full::new(4);
    for _ in 0..4 {
        full.check("a", Priority::Low, true, &[]);
    }
    full.check("a", Priority::Low, false, &[]);
    full.check("b", Priority::Low, true, &[4]);
    full.check("b", Priority::Low, true, &[3]);
    full.check("b", Priority::Low, false, &[]);
    full.check("c", Priority::Low, true, &[7]);
    full.check("c", Priority::Low, false, &[]);
}

#[test]
fn whoever_gets_the_place_of_an_equal_stands_where_it_belongs() {
    let mut full = Full::new(3);
    for (id, client, wait_s) in [(1, "a", 70), (2, "a", 80), (3, "b", 300), (4, "c", 200)] {
        let precedence = Precedence { wait_max: Duration::from_secs(wait_s), ..PRECEDENCE };
        let ask = Ask { precedence, ..hopeful(client, Priority::Low) };
        let moment = Moment::new(&full.store, s(0));
        assert_eq!(full.queue.enter(id, ask, &no_pause, moment).unwrap(), Turn::Waits, "{id}");
    }
    assert_eq!(round(&mut full.queue, &full.store, s(0)), (vec![], vec![2]));
    // One after the other, for each takes more than half, whoever must give up soonest first.
    for (now, goes) in [(61, 1), (122, 4), (183, 3)] {
        assert_eq!(round(&mut full.queue, &full.store, s(now)), (vec![goes], vec![]), "{now}");
    }
}

#[test]
fn who_gave_up_its_place_is_told_how_long_it_would_have_waited() {
    let mut full = Full::new(1);
    full.check("a", Priority::Low, true, &[]);
    let moment = Moment::new(&full.store, s(0));
    assert_eq!(full.queue.enter(2, hopeful("b", Priority::High), &no_pause, moment).unwrap(), Turn::Waits);
    // As one that comes now and gets no place.
    let refused = full.queue.enter(3, hopeful("a", Priority::Low), &no_pause, moment).unwrap();
    assert!(matches!(refused, Turn::Leaves { wait } if wait > Duration::ZERO), "{refused:?}");
    assert_eq!(full.queue.round(&no_pause, moment), [(1, refused)]);
}

#[test]
fn who_gave_up_its_place_may_leave_by_itself() {
    let mut full = Full::new(1);
    full.check("a", Priority::Low, true, &[]);
    let moment = Moment::new(&full.store, s(0));
    assert_eq!(full.queue.enter(2, hopeful("b", Priority::High), &no_pause, moment).unwrap(), Turn::Waits);
    full.queue.leave(2);
    assert!(!full.queue.is_empty());
    full.queue.leave(1);
    assert!(full.queue.is_empty());
}

#[test]
fn without_the_store_everybody_goes() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let _full =
        take(Moment::new(&store, s(59)), only(gauge(1, 100)), used(100), Yields::NOTHING).unwrap().unwrap();
    let long = Precedence { wait_max: MINUTE * 2, ..PRECEDENCE };
    let turn = queue.enter(
        1,
        Ask { precedence: long, ..ask(Priority::Low, 60) },
        &no_pause,
        Moment::new(&store, s(59)),
    );
    assert_eq!(turn, Ok(Turn::Waits));
    store.break_with(Some(StoreFault::Unavailable));
    assert_eq!(
        queue.round(&no_pause, Moment::new(&store, s(60))),
        [(1, Turn::Goes { place: 0, seat: None })]
    );
}

#[test]
fn garbage_in_the_store_is_an_empty_window() {
    let store = MemoryStore::default();
    store.put(&key(gauge(1, 100)), b"garbage").unwrap();
    assert!(
        take(Moment::new(&store, s(0)), only(gauge(1, 100)), used(100), Yields::NOTHING).unwrap().is_ok()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The naive model: a backend that remembers every request, and counts what lies less than a window back.
    #[test]
    fn a_backend_that_counts_exactly_never_sees_more_than_fits(
        steps in prop::collection::vec((0..40_000u64, 1..120u64), 1..80),
    ) {
        let (store, gauge) = (MemoryStore::default(), gauge(1, 100));
        let (mut now, mut sent) = (START, Vec::<(Duration, u64)>::new());
        for (passed_ms, tokens) in steps {
            now += Duration::from_millis(passed_ms);
            let tokens = tokens.min(100);
            match take(Moment::new(&store, now), only(gauge), used(tokens), Yields::NOTHING).unwrap() {
                Ok(_) => sent.push((now, tokens)),
                // The promise is kept, if nobody else comes.
                Err(wait) => {
                    let before = store.load(&key(gauge)).unwrap();
                    prop_assert!(take(Moment::new(&store, now + wait), only(gauge), used(tokens), Yields::NOTHING).unwrap().is_ok());
                    store.put(&key(gauge), &before.value).unwrap();
                    let early = now + wait - Duration::from_nanos(1);
                    prop_assert!(take(Moment::new(&store, early), only(gauge), used(tokens), Yields::NOTHING).unwrap().is_err());
                }
            }
            let counted: u64 =
                sent.iter().filter(|(at, _)| now - *at < MINUTE).map(|(_, tokens)| tokens).sum();
            prop_assert!(counted <= 100, "{}", counted);
        }
    }

    /// Whoever enters goes or leaves, once, within its time.
    #[test]
    fn everybody_is_called_once_and_in_time(
        steps in prop::collection::vec((0..3000u64, 0..3usize, 1..60u64, 0..20u64), 1..60),
        waiting_max in 1..10usize,
    ) {
        let (store, mut queue) = (MemoryStore::default(), Queue::default());
        queue.set_waiting_max(waiting_max);
        let (mut now, mut open) = (START, std::collections::HashMap::new());
        for (id, (passed_ms, priority, tokens, wait_s)) in steps.into_iter().enumerate() {
            now += Duration::from_millis(passed_ms);
            for (id, _) in queue.round(&no_pause, Moment::new(&store, now)) {
                prop_assert!(open.remove(&id).is_some());
            }
            prop_assert!(open.values().all(|deadline| *deadline > now));
            prop_assert!(open.len() <= waiting_max);
            let precedence = Precedence { wait_max: Duration::from_secs(wait_s), ..PRECEDENCE };
            let client = ["a", "b", "c"][id % 3].into();
            let ask = Ask { precedence, client, ..ask(Priority::ALL[priority], tokens) };
            if queue.enter(id as u32, ask, &no_pause, Moment::new(&store, now)).unwrap() == Turn::Waits {
                open.insert(id as u32, now + precedence.wait_max);
            }
        }
        for (id, _) in queue.round(&no_pause, Moment::new(&store, now + MINUTE * 2)) {
            prop_assert!(open.remove(&id).is_some());
        }
        prop_assert!(open.is_empty() && queue.is_empty());
    }
}

#[test]
fn a_request_may_be_less_important_than_its_client_never_more() {
    use Priority::*;
    for (client, word, expected) in [
        (High, None, High),
        (High, Some("low"), Low),
        (High, Some("normal"), Normal),
        (Normal, Some("low"), Low),
        (Normal, Some("high"), Normal),
        (Low, Some("high"), Low),
        (Low, Some("normal"), Low),
        (Normal, Some("LOW"), Normal),
        (Normal, Some("urgent"), Normal),
        (Normal, Some(""), Normal),
    ] {
        assert_eq!(client.lowered_to(word.map(str::as_bytes)), expected, "{client:?} {word:?}");
    }
}
