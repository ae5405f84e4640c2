//! How much do the less important leave to those that come before them?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const WINDOW: Duration = Duration::from_secs(10);

fn requests(size: u32) -> Gauge {
    Gauge { window: WINDOW, unit: Unit::Requests, ..gauge(1, size) }
}

fn at(ms: u64) -> Duration {
    START + Duration::from_millis(ms)
}

/// Whether so many tokens were taken of a hundred in ten seconds, by one who leaves nothing free.
fn takes(store: &MemoryStore, priority: Priority, tokens: u64, ms: u64) -> Result<(), Duration> {
    let gauge = Gauge { window: WINDOW, ..gauge(1, 100) };
    let yields = Yields { priority, headroom_min: 0 };
    take(Moment::new(store, at(ms)), only(gauge), used(tokens), yields).unwrap().map(drop)
}

#[test]
fn whoever_is_alone_may_go_all_at_once() {
    let store = MemoryStore::default();
    assert_eq!(takes(&store, Priority::Low, 90, 0), Ok(()));
    assert_eq!(takes(&store, Priority::Normal, 10, 0), Ok(()));
}

#[test]
fn the_important_find_what_they_have_taken_of_late() {
    let store = MemoryStore::default();
    // In a fifth of the window a tenth of it: half of it in the whole.
    assert_eq!(takes(&store, Priority::High, 10, 0), Ok(()));
    let wait = takes(&store, Priority::Low, 60, 1900).unwrap_err();
    assert!(wait > Duration::ZERO && wait <= WINDOW * 2, "{wait:?}");
    assert!(takes(&store, Priority::Normal, 60, 1900).is_err());
    assert_eq!(takes(&store, Priority::Low, 45, 1900), Ok(()));
    // They may have it all, and need not leave anything to the others.
    assert_eq!(takes(&store, Priority::High, 45, 1900), Ok(()));
    // Of what leaves the window as it came, the next are served.
    let store = MemoryStore::default();
    for second in 0..10 {
        assert_eq!(takes(&store, Priority::Normal, 5, second * 1000), Ok(()));
    }
    assert_eq!(takes(&store, Priority::Low, 45, 9500), Ok(()));
    assert_eq!(takes(&store, Priority::Normal, 5, 10_200), Ok(()));
}

#[test]
fn nobody_leaves_anything_to_who_came_a_window_ago() {
    let store = MemoryStore::default();
    assert_eq!(takes(&store, Priority::Normal, 10, 0), Ok(()));
    // Of one's own priority nobody is more important.
    assert_eq!(takes(&store, Priority::Normal, 10, 0), Ok(()));
    assert!(takes(&store, Priority::Low, 80, 0).is_err());
    assert_eq!(takes(&store, Priority::Low, 100, 10_200), Ok(()));
}

#[test]
fn what_was_given_back_shows_no_pace() {
    let store = MemoryStore::default();
    let only = only(Gauge { window: WINDOW, ..gauge(1, 100) });
    let seat = take(Moment::new(&store, at(0)), only, used(50), Yields::NOTHING).unwrap().unwrap();
    assert!(takes(&store, Priority::Low, 50, 0).is_err());
    undo(Moment::new(&store, at(0)), &seat).unwrap();
    assert_eq!(takes(&store, Priority::Low, 100, 0), Ok(()));
}

/// What became of a client's requests: how many there were, went, and the longest that one waited.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    asked: u32,
    went: u32,
    wait_max: Duration,
}

/// Offers so many requests a second of the first priority and of the last, for a minute, beside a burst of the last before. What is
/// told is what became of those after the first window.
fn offer(high: u64, low: u64, burst: u32) -> [Fate; 2] {
    let (store, mut queue, gauge) = (MemoryStore::default(), Queue::default(), requests(600));
    let (mut fates, mut came) = ([Fate::default(); 2], Vec::<(u64, usize)>::new());
    let mut enter = |queue: &mut Queue, fates: &mut [Fate; 2], who: usize, ms: u64| {
        let priority = [Priority::High, Priority::Low][who];
        let precedence = [
            Precedence { headroom_min: 0, wait_max: Duration::from_secs(5) },
            Precedence { headroom_min: 30_000, wait_max: Duration::from_millis(500) },
        ][who];
        let places = vec![Place {
            lane: Lane::from(1),
            gauges: Gauges { tokens: None, requests: Some(gauge) },
            spare: 0,
        }];
        let ask = Ask { places, client: "a".into(), usage: used(9), priority, precedence };
        let id = u32::try_from(came.len()).unwrap();
        came.push((ms, who));
        let counts = ms >= 10_000;
        fates[who].asked += u32::from(counts);
        if matches!(queue.enter(id, ask, &no_pause, Moment::new(&store, at(ms))).unwrap(), Turn::Goes { .. })
        {
            fates[who].went += u32::from(counts);
        }
        if ms.is_multiple_of(10) {
            for (id, turn) in queue.round(&no_pause, Moment::new(&store, at(ms))) {
                let (since, who) = came[id as usize];
                if matches!(turn, Turn::Goes { .. }) && since >= 10_000 {
                    fates[who].went += 1;
                    fates[who].wait_max = fates[who].wait_max.max(at(ms) - at(since));
                }
            }
        }
    };
    for _ in 0..burst {
        enter(&mut queue, &mut fates, 1, 0);
    }
    for ms in 1..60_000 {
        for (who, per_second) in [(0, high), (1, low)] {
            if ms * per_second / 1000 > (ms - 1) * per_second / 1000 {
                enter(&mut queue, &mut fates, who, ms);
            }
        }
    }
    fates
}

#[test]
fn the_important_hardly_wait_at_twice_the_capacity() {
    for burst in [0, 10, 50] {
        let [high, low] = offer(50, 70, burst);
        assert_eq!(high.went, high.asked, "{burst}: {high:?}");
        assert!(high.wait_max < Duration::from_millis(500), "{burst}: {high:?}");
        // What they leave goes to the others, but for the share that stays free.
        let left = (60.0 * 0.97 - 50.0) / 70.0;
        let share = f64::from(low.went) / f64::from(low.asked);
        assert!((left - 0.03..left + 0.03).contains(&share), "{burst}: {share} of {left}, {low:?}");
    }
}
