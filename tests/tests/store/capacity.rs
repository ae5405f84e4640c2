//! The script for the use of capacity, in a real Redis.

use std::collections::BTreeMap;

use tollgate::capacity::shared::SCRIPT;
use tollgate::resp::Reply;
use tollgate_tests::harness::{Connection, Redis};

use super::script::redis;

const KEYS: [&str; 2] = ["tollgate:{capacity}", "tollgate:{capacity}:holders"];

/// The script, whose time is told with each call.
struct Store(Connection);

impl Store {
    fn new(redis: &Redis) -> Self {
        Self(redis.connect().unwrap())
    }

    /// What the others use, of each capacity; the names of capacities are numbers, and their windows 60 s.
    fn call(&mut self, holder: &str, used: &[(u32, u32)], now_ms: u64) -> Vec<i64> {
        let clock = "redis.call('TIME')";
        assert_eq!(SCRIPT.matches(clock).count(), 1);
        let time = format!("{{{}, {}}}", now_ms / 1000, now_ms % 1000 * 1000);
        let words = ["EVAL", &SCRIPT.replace(clock, &time), "2", KEYS[0], KEYS[1], holder].map(str::to_owned);
        let gauges = used.iter().flat_map(|(gauge, used)| {
            [gauge.to_string(), "5".to_owned(), used.to_string(), "60000".to_owned()]
        });
        let reply = self.0.ask(&words.into_iter().chain(gauges).collect::<Vec<_>>()).unwrap();
        reply.integers().unwrap_or_else(|| panic!("{reply:?}"))
    }

    fn entries(&mut self) -> [i64; 2] {
        [["HLEN", KEYS[0]], ["ZCARD", KEYS[1]]].map(|words| match self.0.ask(&words).unwrap() {
            Reply::Integer(count) => count,
            other => panic!("{other:?}"),
        })
    }
}

#[test]
fn each_hears_what_the_others_use_of_a_capacity() {
    let Some(redis) = redis("each_hears_what_the_others_use_of_a_capacity", &[]) else { return };
    let mut store = Store::new(&redis);
    assert_eq!(store.call("a", &[(1, 40), (2, 0)], 1000), [0, 0]);
    assert_eq!(store.call("b", &[(1, 5), (2, 7)], 1000), [40, 0]);
    // What is said again counts once, and what is given back is free.
    for _ in 0..2 {
        assert_eq!(store.call("a", &[(1, 30), (2, 0)], 1250), [5, 7]);
    }
    assert_eq!(store.call("b", &[(1, 5), (2, 7)], 1250), [30, 0]);
    for holder in ["a", "b"] {
        store.call(holder, &[(1, 0), (2, 0)], 1500);
    }
    assert_eq!(store.entries(), [0, 0]);
}

#[test]
fn what_a_dead_envoy_used_counts_for_one_window_more() {
    let Some(redis) = redis("what_a_dead_envoy_used_counts_for_one_window_more", &[]) else { return };
    let mut store = Store::new(&redis);
    store.call("dead", &[(1, 40), (2, 9)], 100_000);
    assert_eq!(store.call("a", &[(1, 1), (2, 1)], 159_999), [40, 9]);
    assert_eq!(store.call("a", &[(1, 1), (2, 1)], 160_000), [0, 0]);
    assert_eq!(store.entries(), [4, 2]);
    // What was noted before the clock was set back does not count for longer.
    assert_eq!(store.call("b", &[(1, 0)], 90_000), [0]);
    assert_eq!(store.entries(), [0, 0]);
}

#[test]
fn a_capacity_in_use_is_forgotten_when_nobody_calls() {
    let Some(redis) = redis("a_capacity_in_use_is_forgotten_when_nobody_calls", &[]) else { return };
    let mut store = Store::new(&redis);
    store.call("a", &[(1, 40)], 1000);
    for key in KEYS {
        let Reply::Integer(left) = store.0.ask(&["PTTL", key]).unwrap() else { panic!("no number") };
        assert!((60_000..=120_000).contains(&left), "{key} is kept for {left} ms");
    }
}

#[test]
fn a_refused_write_leaves_the_use_of_capacity_as_it_was() {
    let Some(redis) = redis("a_refused_write_leaves_the_use_of_capacity_as_it_was", &[]) else { return };
    let mut store = Store::new(&redis);
    store.call("a", &[(1, 40)], 1000);
    store.call("b", &[(1, 5)], 1000);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    for amount in ["0", "9"] {
        let words = ["EVAL", SCRIPT, "2", KEYS[0], KEYS[1], "b", "1", "5", amount, "60000"];
        assert_eq!(store.0.ask(&words).unwrap().error_code(), Some("OOM"), "{amount}");
    }
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(store.call("c", &[(1, 0)], 2000), [45]);
}

#[test]
fn the_use_of_capacity_is_the_sum_of_what_the_living_say() {
    let Some(redis) = redis("the_use_of_capacity_is_the_sum_of_what_the_living_say", &[]) else { return };
    let mut store = Store::new(&redis);
    // By holder and capacity: what it said, and until when that counts.
    let mut model: BTreeMap<(u32, u32), (u32, u64)> = BTreeMap::new();
    let (mut now, mut dice) = (1_000_000_u64, 7_u32);
    let mut throw = |sides: u32| {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (dice >> 8) % sides
    };
    for step in 0..400 {
        now += u64::from(throw(20_000));
        let holder = throw(5);
        let said = [1, 2, 3].map(|gauge| (gauge, throw(3) * throw(50)));
        for (gauge, used) in said {
            model.insert((holder, gauge), (used, now + 60_000));
        }
        model.retain(|_, (used, until)| *used > 0 && *until > now);
        let of_others = |gauge: u32| {
            let others = model.iter().filter(|((other, of), _)| *other != holder && *of == gauge);
            others.map(|(_, (used, _))| i64::from(*used)).sum::<i64>()
        };
        let expected = [1, 2, 3].map(of_others);
        assert_eq!(store.call(&holder.to_string(), &said, now), expected, "step {step}");
    }
}
