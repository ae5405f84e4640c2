//! How fast do those go whom a backend has refused?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// For so long a backend is asked.
const SECONDS: u64 = 120;

fn at(ms: u64) -> Duration {
    START + Duration::from_millis(ms)
}

/// So many requests in a minute.
fn declared(size: u32) -> Gauges {
    Gauges { tokens: None, requests: Some(Gauge { unit: Unit::Requests, ..gauge(1, size) }) }
}

fn seat(store: &MemoryStore, ms: u64) -> Result<Seat, Duration> {
    take(Moment::new(store, at(ms)), declared(600), used(9), Yields::NOTHING).unwrap()
}

#[test]
fn after_a_told_pause_the_pace_is_that_of_before() {
    let store = MemoryStore::default();
    // It takes three, and then none for a second.
    let seats: Vec<Seat> = (0..12).map(|_| seat(&store, 0).unwrap()).collect();
    for refused in &seats[3..] {
        super::refused(Moment::new(&store, at(10)), refused, at(1000), &|_| true).unwrap();
    }
    let went: Vec<u64> = (1000..3300).step_by(10).filter(|ms| seat(&store, *ms).is_ok()).take(12).collect();
    // Three in a second; after four requests it may be twice as fast, and so on.
    assert_eq!(went, [1000, 1340, 1670, 2000, 2340, 2500, 2670, 2840, 3000, 3090, 3170, 3250]);
}

#[test]
fn a_pace_is_forgotten_by_and_by() {
    let refused_at = |requests: usize| {
        let store = MemoryStore::default();
        let seats: Vec<Seat> = (0..=requests).map(|_| seat(&store, 0).unwrap()).collect();
        super::refused(Moment::new(&store, at(10)), &seats[requests], at(60_000), &|_| true).unwrap();
        store
    };
    let goes = |store: &MemoryStore, ms: u64| (0..600).filter(|_| seat(store, ms).is_ok()).count();
    // With time.
    for (ms, went) in [(60_000, 1), (60_000 + 11 * 60_000, 1), (60_000 + 40 * 60_000, 600)] {
        assert_eq!(goes(&refused_at(100), ms), went, "{ms}");
    }
    // And with what goes.
    let store = refused_at(10);
    let went = (60_000..180_000).step_by(10).filter(|ms| seat(&store, *ms).is_ok()).count();
    assert!((100..200).contains(&went), "{went}");
    assert_eq!(goes(&store, 300_000), 600);
}

#[test]
fn of_a_backend_that_took_nothing_one_is_asked_at_once() {
    let store = MemoryStore::default();
    let first = seat(&store, 0).unwrap();
    super::refused(Moment::new(&store, at(0)), &first, at(2000), &|_| true).unwrap();
    assert!(seat(&store, 2000).is_ok());
    assert_eq!(seat(&store, 2000).unwrap_err(), Duration::from_secs(2));
}

#[test]
fn what_takes_as_much_as_declared_is_not_held_back() {
    let store = MemoryStore::default();
    let seats: Vec<Seat> = (0..600).map(|_| seat(&store, 0).unwrap()).collect();
    undo(Moment::new(&store, at(0)), &seats[599]).unwrap();
    let last = seat(&store, 100).unwrap();
    super::refused(Moment::new(&store, at(100)), &last, at(500), &|_| true).unwrap();
    assert!(seat(&store, 500).is_ok());
}

#[test]
fn of_two_pauses_that_are_told_the_longer_one_holds() {
    for told in [[5000, 2000], [2000, 5000]] {
        let store = MemoryStore::default();
        let first = seat(&store, 0).unwrap();
        for until in told {
            super::refused(Moment::new(&store, at(10)), &first, at(until), &|_| true).unwrap();
        }
        assert_eq!(seat(&store, 2000).unwrap_err(), Duration::from_secs(3), "{told:?}");
    }
}

#[test]
fn one_small_request_after_a_quiet_hour_shows_little() {
    let store = MemoryStore::default();
    let first = seat(&store, 0).unwrap();
    super::refused(Moment::new(&store, at(0)), &first, at(64_000), &|_| true).unwrap();
    // In that time 640 were declared, of which ten are a part.
    assert!(seat(&store, 64_000).is_ok());
    assert_eq!(seat(&store, 64_000).unwrap_err(), Duration::from_millis(6400));
}

#[test]
fn what_takes_nothing_shows_nothing() {
    let store = MemoryStore::default();
    let takes = |tokens, ms| {
        take(Moment::new(&store, at(ms)), only(gauge(1, 100)), used(tokens), Yields::NOTHING).unwrap()
    };
    let nothing = takes(0, 0).unwrap();
    super::refused(Moment::new(&store, at(0)), &nothing, at(1000), &|_| true).unwrap();
    assert!(takes(1, 1000).is_ok() && takes(1, 1000).is_ok());
}

/// What two deployments share, as it is for this one of them.
fn shared(deployment: u64, size: u32) -> Gauges {
    let gauge = Gauge { pace_id: Some(10 + deployment), unit: Unit::Requests, ..gauge(1, size) };
    Gauges { tokens: None, requests: Some(gauge) }
}

#[test]
fn a_refusal_of_one_deployment_holds_back_no_other() {
    let store = MemoryStore::default();
    let seat = |deployment, ms| {
        take(Moment::new(&store, at(ms)), shared(deployment, 6000), used(9), Yields::NOTHING).unwrap()
    };
    let last = seat(1, 100).unwrap();
    assert!(seat(2, 100).is_ok());
    super::refused(Moment::new(&store, at(100)), &last, at(30_000), &|_| true).unwrap();
    assert!(seat(2, 200).is_ok());
    assert!(seat(1, 30_000).is_ok());
    assert!(seat(1, 30_000).is_err());
    assert!(seat(2, 30_000).is_ok());
    // What is given back is so in both records, and none has more room than there is.
    let store = MemoryStore::default();
    let take = |deployment| {
        take(Moment::new(&store, at(100)), shared(deployment, 2), used(9), Yields::NOTHING).unwrap()
    };
    let (first, _second) = (take(1).unwrap(), take(2).unwrap());
    assert!(take(1).is_err() && take(2).is_err());
    undo(Moment::new(&store, at(100)), &first).unwrap();
    assert!(take(2).is_ok());
}

#[test]
fn who_waits_for_one_deployment_keeps_nobody_from_another() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let asks = |deployment: u64, size| Ask {
        places: vec![Place { lane: Lane::from(deployment), gauges: shared(deployment, size), spare: 0 }],
        precedence: Precedence { headroom_min: 0, wait_max: Duration::from_secs(40) },
        ..ask(Priority::Normal, 9)
    };
    // One of them pauses.
    let pause = |lane: Lane| Duration::from_secs(if lane.target == 1 { 30 } else { 0 });
    let moment = Moment::new(&store, at(100));
    assert_eq!(queue.enter(1, asks(1, 3), &pause, moment).unwrap(), Turn::Waits);
    assert!(matches!(queue.enter(2, asks(2, 3), &pause, moment).unwrap(), Turn::Goes { .. }));
    assert_eq!(queue.round(&pause, moment), []);
    assert!(matches!(queue.enter(3, asks(2, 3), &pause, moment).unwrap(), Turn::Goes { .. }));
    // Its pause is over, and it goes by a pace.
    let last = take(moment, shared(1, 3), used(9), Yields::NOTHING).unwrap().unwrap();
    super::refused(moment, &last, at(90_000), &|_| true).unwrap();
    let later = Moment::new(&store, at(62_000));
    queue.leave(1);
    assert_eq!(queue.enter(4, asks(1, 3), &no_pause, later).unwrap(), Turn::Waits);
    assert!(matches!(queue.enter(5, asks(2, 3), &no_pause, later).unwrap(), Turn::Goes { .. }));
    assert_eq!(queue.round(&no_pause, later), []);
    assert!(matches!(queue.enter(6, asks(2, 3), &no_pause, later).unwrap(), Turn::Goes { .. }));
    // Where there is no room for either, it keeps its turn.
    let full = take(later, shared(2, 3), used(9), Yields::NOTHING).unwrap().unwrap();
    let soon = |mut ask: Ask| {
        ask.precedence.wait_max = Duration::from_secs(200);
        ask
    };
    queue.leave(4);
    assert_eq!(queue.enter(7, soon(asks(1, 3)), &no_pause, later).unwrap(), Turn::Waits);
    undo(later, &full).unwrap();
    assert_eq!(queue.enter(8, soon(asks(2, 3)), &no_pause, later).unwrap(), Turn::Waits);
}

#[test]
fn whoever_waited_for_a_pause_goes_before_those_who_come_late() {
    let declared = |paces: bool| if paces { shared(1, 3) } else { only(gauge(1, 9)) };
    for paces in [true, false] {
        let (store, mut queue) = (MemoryStore::default(), Queue::default());
        let asks = |priority| Ask {
            places: vec![Place { lane: Lane::from(1), gauges: declared(paces), spare: 0 }],
            precedence: Precedence { headroom_min: 0, wait_max: Duration::from_secs(40) },
            ..ask(priority, 9)
        };
        let pause = |_: Lane| Duration::from_secs(30);
        let moment = Moment::new(&store, at(100));
        assert_eq!(queue.enter(1, asks(Priority::High), &pause, moment).unwrap(), Turn::Waits);
        // It ends, and nobody has looked yet.
        let moment = Moment::new(&store, at(30_101));
        assert_eq!(queue.enter(2, asks(Priority::Low), &no_pause, moment).unwrap(), Turn::Waits);
        let went: Vec<_> = queue.round(&no_pause, moment).into_iter().map(|(id, _)| id).collect();
        assert_eq!(went.first(), Some(&1), "{paces}");
    }
}

fn seat_of(turn: Turn) -> Option<Seat> {
    match turn {
        Turn::Goes { seat, .. } => seat,
        _ => None,
    }
}

/// What a backend serves and refuses that takes so many requests in its own window, and says when it takes the next; more is declared, over no less
/// time. All wait in a queue that never empties.
fn served_and_refused(takes: usize, window_s: u64, longer_s: u64, excess: u32) -> (u64, u64, u32) {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let (window, declared_s) = (Duration::from_secs(window_s), window_s + longer_s);
    let fits = (takes as u64 * declared_s).div_ceil(window_s) as u32 * excess;
    let unit = Unit::Requests;
    let requests = Gauge { unit, window: Duration::from_secs(declared_s), ..gauge(1, fits) };
    let gauges = Gauges { tokens: None, requests: Some(requests) };
    let precedence = Precedence { headroom_min: 0, wait_max: Duration::from_secs(1000) };
    let (mut served, mut refusals, mut pause_ends) = (Vec::<Duration>::new(), 0_u64, START);
    let (mut next, mut waiting) = (0, 0);
    for ms in (0..SECONDS * 1000).step_by(50) {
        let (now, moment) = (at(ms), Moment::new(&store, at(ms)));
        let pause = |_: Lane| pause_ends.saturating_sub(now);
        let turns = queue.round(&pause, moment);
        waiting -= turns.len();
        let mut arrived: Vec<Seat> = turns.into_iter().filter_map(|(_, turn)| seat_of(turn)).collect();
        while waiting < 30 {
            let places = vec![Place { lane: Lane::from(1), gauges, spare: 0 }];
            let ask =
                Ask { places, client: "a".into(), usage: used(9), priority: Priority::High, precedence };
            next += 1;
            match queue.enter(next, ask, &pause, moment).unwrap() {
                Turn::Waits => waiting += 1,
                turn => arrived.extend(seat_of(turn)),
            }
        }
        for seat in arrived {
            let within = served.iter().filter(|then| now - **then < window);
            if within.clone().count() < takes {
                served.push(now);
                continue;
            }
            let ends = *within.min().unwrap() + window;
            refusals += 1;
            pause_ends = pause_ends.max(ends);
            super::refused(moment, &seat, ends, &|_| true).unwrap();
        }
    }
    (served.len() as u64, refusals, fits)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_backend_refuses_few_of_a_queue_and_serves_all_it_can(
        takes in 1..20usize,
        window_s in 1..30u64,
        longer_s in 0..30u64,
        excess in 2..6u32,
    ) {
        let (served, refusals, fits) = served_and_refused(takes, window_s, longer_s, excess);
        let could = takes as u64 * SECONDS / window_s;
        // All that is declared goes at first, for nothing is known yet.
        prop_assert!(refusals <= u64::from(fits) + served / 4 + 5, "{} of {}", refusals, served);
        prop_assert!(served * 4 + 5 >= could * 3, "{} of {}", served, could);
    }
}
