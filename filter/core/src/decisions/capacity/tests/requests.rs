//! A backend that counts requests, alone or beside tokens.

use super::*;
use crate::store::{Loaded, Swap, Version};
use std::rc::Rc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const TEN_SECONDS: Duration = Duration::from_secs(10);

fn ms(ms: u64) -> Duration {
    START + Duration::from_millis(ms)
}

/// So many requests in ten seconds.
fn requests(size: u32) -> Gauge {
    let size = NonZeroU32::new(size).unwrap();
    Gauge { id: 2, pace_id: None, size, window: TEN_SECONDS, is_provisioned: false, unit: Unit::Requests }
}

fn both(of_tokens: u32, of_requests: u32) -> Gauges {
    Gauges { tokens: Some(gauge(1, of_tokens)), requests: Some(requests(of_requests)) }
}

fn prompt(tokens: u64) -> Usage {
    Usage { prompt: tokens, ..Usage::default() }
}

/// What has been taken of each.
fn taken(store: &MemoryStore, gauges: Gauges, now: Duration) -> Vec<u64> {
    let used = |gauge: Gauge| {
        let record = store.load(&key(gauge)).unwrap().value;
        Window::read(&record, gauge.window, now).used()
    };
    gauges.iter().map(used).collect()
}

#[test]
fn a_request_needs_room_in_all_that_was_declared() {
    let (store, gauges) = (MemoryStore::default(), both(100, 3));
    let take = |amount, now| {
        let taken = take(Moment::new(&store, now), gauges, prompt(amount), Yields::NOTHING).unwrap();
        taken.map(|seat| assert_eq!(seat.gauges(), gauges))
    };
    assert_eq!((take(10, ms(0)), take(10, ms(0))), (Ok(()), Ok(())));
    // It has requests left, and no tokens; of those it takes none for nothing.
    assert!(take(90, ms(0)).is_err());
    assert_eq!(taken(&store, gauges, ms(0)), [20, 2]);
    assert_eq!(take(10, ms(0)), Ok(()));
    // And the other way round: the slot has left the ten seconds whole a sixtieth of them later.
    let slot = TEN_SECONDS / 60;
    let wait = take(10, ms(0)).unwrap_err();
    assert!(wait > TEN_SECONDS && wait <= TEN_SECONDS + slot, "{wait:?}");
    assert_eq!(taken(&store, gauges, ms(0)), [30, 3]);
    assert_eq!(take(10, START + wait), Ok(()));
    // Tokens count for the minute.
    assert!(take(61, START + wait).is_err());
}

#[test]
fn a_request_that_was_sent_stays_one() {
    let (store, gauges) = (MemoryStore::default(), both(100, 3));
    let moment = Moment::new(&store, START);
    let seat = take(moment, gauges, prompt(60), Yields::NOTHING).unwrap().unwrap();
    give_back(moment, &seat, prompt(20)).unwrap();
    assert_eq!(taken(&store, gauges, START), [20, 1]);
    let seat = take(moment, gauges, prompt(60), Yields::NOTHING).unwrap().unwrap();
    undo(moment, &seat).unwrap();
    assert_eq!(taken(&store, gauges, START), [20, 1]);
    let seat = take_anyhow(moment, gauges, prompt(500)).unwrap();
    assert_eq!(taken(&store, gauges, START), [520, 2]);
    undo(moment, &seat).unwrap();
    assert_eq!(taken(&store, gauges, START), [20, 1]);
}

#[test]
fn the_less_important_leave_requests_free() {
    let (store, only) = (MemoryStore::default(), Gauges { requests: Some(requests(10)), tokens: None });
    let takes = |headroom_min| {
        take(Moment::new(&store, START), only, prompt(1), Yields { headroom_min, ..Yields::NOTHING })
            .unwrap()
            .is_ok()
    };
    assert!((0..8).all(|_| takes(200_000)));
    assert!(!takes(200_000));
    assert!(takes(0) && takes(0) && !takes(0));
}

#[test]
fn requests_that_others_make_are_believed() {
    let (store, gauge) = (MemoryStore::default(), requests(10));
    let only = Gauges { requests: Some(gauge), tokens: None };
    let takes = || take(Moment::new(&store, START), only, prompt(1), Yields::NOTHING).unwrap().is_ok();
    assert!(takes());
    learn(Moment::new(&store, START), gauge, RoomLeft::Amount(2)).unwrap();
    assert!(takes() && takes() && !takes());
    // For a second: the backend may count them over no more than that.
    let later = |ms_later| take(Moment::new(&store, ms(ms_later)), only, prompt(1), Yields::NOTHING).unwrap();
    assert_eq!(later(0).unwrap_err(), Duration::from_secs(1));
    assert!(later(990).is_err());
    assert!(later(1010).is_ok());
}

/// A request for one of these places that waits for so long.
fn asks(gauges: Gauges, wait_max: Duration) -> Ask {
    let places = vec![Place { lane: Lane::from(1), gauges, spare: 0 }];
    let precedence = Precedence { headroom_min: 0, wait_max };
    Ask { places, client: "a".into(), usage: prompt(60), priority: Priority::High, precedence }
}

#[test]
fn those_who_wait_are_counted_as_requests() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let mut enter = |id, wait_s, now| {
        let ask = asks(both(1000, 2), Duration::from_secs(wait_s));
        queue.enter(id, ask, &no_pause, Moment::new(&store, now)).unwrap()
    };
    assert!(matches!(enter(1, 20, ms(0)), Turn::Goes { .. }));
    assert!(matches!(enter(2, 20, ms(5000)), Turn::Goes { .. }));
    assert_eq!(enter(3, 6, ms(5000)), Turn::Waits);
    // There will be room in time for one, and one is ahead.
    let refused = enter(4, 7, ms(5000));
    assert!(matches!(refused, Turn::Leaves { wait } if wait > TEN_SECONDS), "{refused:?}");
    assert_eq!(enter(5, 20, ms(5000)), Turn::Waits);
    assert_eq!(round(&mut queue, &store, ms(10_000)), (vec![], vec![]));
    // As many as leave.
    assert_eq!(round(&mut queue, &store, ms(10_200)), (vec![3], vec![]));
    assert_eq!(round(&mut queue, &store, ms(15_200)), (vec![5], vec![]));
}

#[test]
fn nobody_passes_who_waits_for_the_same_requests() {
    let (store, mut queue) = (MemoryStore::default(), Queue::default());
    let mut enter = |id, tokens| {
        let gauges = Gauges { tokens: Some(gauge(tokens, 100)), requests: Some(requests(9)) };
        queue.enter(id, asks(gauges, MINUTE * 2), &no_pause, Moment::new(&store, START)).unwrap()
    };
    assert!(matches!(enter(1, 1), Turn::Goes { .. }));
    assert_eq!(enter(2, 1), Turn::Waits);
    // It has tokens of its own.
    assert_eq!(enter(3, 3), Turn::Waits);
}

/// A store in which something happens when a record of a key is written.
struct Disturbed<F> {
    store: MemoryStore,
    on_swap: F,
}

impl<F: Fn(&MemoryStore, &str) -> Result<(), StoreFault>> Store for Disturbed<F> {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        self.store.load(key)
    }

    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        (self.on_swap)(&self.store, key)?;
        self.store.swap(key, value, version)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        self.store.put(key, value)
    }

    fn glance(&self, key: &str, now: Duration) -> Result<Rc<[u8]>, StoreFault> {
        self.store.glance(key, now)
    }
}

#[test]
fn what_somebody_else_was_faster_to_take_is_put_back() {
    let gauges = both(100, 1);
    let of_requests = Gauges { tokens: None, ..gauges };
    // The last request, while the tokens are taken.
    let on_swap = |store: &MemoryStore, key: &str| {
        let is_first = taken(store, of_requests, START) == [0] && key != super::key(requests(1));
        if is_first {
            take_anyhow(Moment::new(store, START), of_requests, prompt(1)).map(drop)
        } else {
            Ok(())
        }
    };
    let store = Disturbed { store: MemoryStore::default(), on_swap };
    assert!(take(Moment::new(&store, START), gauges, prompt(60), Yields::NOTHING).unwrap().is_err());
    assert_eq!(taken(&store.store, gauges, START), [0, 1]);
}

#[test]
fn nothing_is_taken_where_the_store_fails_half_way() {
    let gauges = both(100, 1);
    let on_swap = |_: &MemoryStore, key: &str| {
        if key == super::key(requests(1)) { Err(StoreFault::Unavailable) } else { Ok(()) }
    };
    let store = Disturbed { store: MemoryStore::default(), on_swap };
    assert_eq!(
        take(Moment::new(&store, START), gauges, prompt(60), Yields::NOTHING),
        Err(StoreFault::Unavailable)
    );
    assert_eq!(taken(&store.store, gauges, START), [0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The naive model: a backend that remembers every request, and counts tokens a minute back and requests ten seconds.
    #[test]
    fn a_backend_that_counts_both_never_sees_more_than_fits(
        steps in prop::collection::vec((0..4_000u64, 1..60u64), 1..120),
    ) {
        let (store, gauges) = (MemoryStore::default(), both(100, 4));
        let (mut now, mut sent) = (START, Vec::<(Duration, u64)>::new());
        for (passed_ms, amount) in steps {
            now += Duration::from_millis(passed_ms);
            match take(Moment::new(&store, now), gauges, prompt(amount), Yields::NOTHING).unwrap() {
                Ok(_) => sent.push((now, amount)),
                // The promise is kept, if nobody else comes.
                Err(wait) => {
                    let soon = |wait| {
                        let moment = Moment::new(&store, now + wait);
                        gauges.iter().all(|gauge| {
                            super::wait(moment, gauge, gauge.takes_max(prompt(amount)), 0, Yields::NOTHING).unwrap().is_zero()
                        })
                    };
                    prop_assert!(soon(wait) && !soon(wait - Duration::from_nanos(1)));
                }
            }
            let within = |window| sent.iter().filter(move |(at, _)| now - *at < window);
            prop_assert!(within(MINUTE).map(|(_, amount)| amount).sum::<u64>() <= 100);
            prop_assert!(within(TEN_SECONDS).count() <= 4);
        }
    }
}
