//! The script for pauses and orders, in a real Redis.

use tollgate::route::SCRIPT;
use tollgate_tests::harness::{Connection, Redis};

use super::script::redis;

const KEY: &str = "tollgate:routing";
const HOUR: u64 = 3600;

/// The script, whose time in seconds is told with each call.
struct Store(Connection);

impl Store {
    fn new(redis: &Redis) -> Self {
        Self(redis.connect().unwrap())
    }

    fn call(&mut self, words: &str, now_s: u64) -> Vec<i64> {
        let clock = "redis.call('TIME')";
        assert_eq!(SCRIPT.matches(clock).count(), 1);
        let script = SCRIPT.replace(clock, &format!("{{{now_s}, 0}}"));
        let begin = ["EVAL", &script, "1", KEY].map(str::to_owned);
        let words = begin.into_iter().chain(words.split_whitespace().map(str::to_owned));
        let reply = self.0.ask(&words.collect::<Vec<_>>()).unwrap();
        reply.integers().unwrap_or_else(|| panic!("{reply:?}"))
    }
}

/// An order of model `1 2` for so many seconds, said at this millisecond.
fn order(said_ms: u64, lasts_s: u64, target: u64) -> String {
    format!("o 1 2 {said_ms} {} 1 0 {target}", lasts_s * 1_000_000)
}

#[test]
fn an_order_that_was_said_before_never_comes_back() {
    let Some(redis) = redis("an_order_that_was_said_before_never_comes_back", &[]) else { return };
    let mut store = Store::new(&redis);
    let (us, begin) = (1_000_000, 1000);
    let ends = |at: u64| i64::try_from(at * us).unwrap();
    let now = ends(begin);
    assert_eq!(store.call(&order(5, HOUR, 7), begin), [now, 0, 1, 2, 5, ends(begin + HOUR), 1, 0, 7]);
    // A shorter one takes its place, and is over a minute later.
    let shorter = [1, 2, 6, ends(begin + 60), 1, 0, 8];
    assert_eq!(store.call(&order(6, 60, 8), begin)[2..], shorter);
    // Whoever has not heard of it says the first one again.
    for at in [begin + 30, begin + 61, begin + HOUR - 1] {
        assert_eq!(store.call(&order(5, HOUR, 7), at)[2..], shorter, "{at}");
    }
    // It is forgotten when none that was said before can hold any more.
    let day = begin + 24 * HOUR;
    assert_eq!(store.call("", day - 1)[2..], shorter);
    assert_eq!(store.call("", day), [ends(day), 0]);
}

#[test]
fn pauses_and_orders_are_told_beside_each_other() {
    let Some(redis) = redis("pauses_and_orders_are_told_beside_each_other", &[]) else { return };
    let mut store = Store::new(&redis);
    let told = store.call(&format!("3 4 9000000 {}", order(5, HOUR, 7)), 1000);
    assert_eq!(told, [1_000_000_000, 1, 3, 4, 1_009_000_000, 1, 2, 5, 4_600_000_000, 1, 0, 7]);
    // A pause that is over is gone, whatever else is there; a shorter one changes nothing.
    assert_eq!(store.call("3 4 1000000", 1002)[1..5], [1, 3, 4, 1_009_000_000]);
    assert_eq!(store.call("", 1009)[1..3], [0, 1]);
}
