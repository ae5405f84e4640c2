//! The script for what was spent, in a real Redis.

use std::collections::BTreeMap;

use tollgate::resp::Reply;
use tollgate::spend::{GAP, Row, Spend};
use tollgate::spending::SCRIPT;
use tollgate::tokens::Usage;
use tollgate_tests::harness::{Connection, Redis};

use super::script::redis;

/// So many rows may a day have in these tests.
const ROWS_MAX: &str = "6";

const KEY: &str = "tollgate:spend:2026-11-28";

struct Store(Connection);

impl Store {
    fn new(redis: &Redis) -> Self {
        Self(redis.connect().unwrap())
    }

    /// Says that each of these clients has spent so many tokens.
    fn call(&mut self, holder: &str, seq: u64, rows: &[(&str, u64)]) -> Reply {
        let words =
            ["EVAL", SCRIPT, "1", KEY, holder, &seq.to_string(), "86400000", ROWS_MAX].map(str::to_owned);
        let row = |(client, tokens): &(&str, u64)| {
            let spend = Spend::on(Usage { prompt: *tokens, ..Usage::default() }, Some(2 * tokens));
            let row = Row { client: (*client).to_owned(), model: "a model".to_owned(), ..Row::default() };
            let numbers = spend.numbers().map(|(_, number)| number.to_string());
            [row.field()].into_iter().chain(numbers)
        };
        let words: Vec<_> = words.into_iter().chain(rows.iter().flat_map(row)).collect();
        self.0.ask(&words).unwrap()
    }

    /// Requests, tokens and price of each client.
    fn rows(&mut self) -> BTreeMap<String, [u64; 3]> {
        let Reply::Array(list) = self.0.ask(&["HGETALL", KEY]).unwrap() else { panic!() };
        let text = |reply: &Reply| match reply {
            Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{other:?}"),
        };
        let pairs = list.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1])));
        let rows = pairs.filter_map(|(field, line)| {
            let row = Row::parse(0, field.strip_prefix('r')?.strip_prefix(GAP)?, &line).unwrap();
            Some((row.client, [row.spend.requests, row.spend.usage.prompt, row.spend.price_micros]))
        });
        rows.collect()
    }
}

#[track_caller]
fn check(reply: Reply, expected: &[i64]) {
    assert_eq!(reply.integers().as_deref(), Some(expected), "{reply:?}");
}

#[test]
fn what_was_spent_is_added_once_however_often_it_is_said() {
    let Some(redis) = redis("what_was_spent_is_added_once_however_often_it_is_said", &[]) else { return };
    let mut store = Store::new(&redis);
    check(store.call("a", 7, &[("web", 5), ("lab", 1)]), &[1, 0]);
    for _ in 0..2 {
        check(store.call("a", 7, &[("web", 5), ("lab", 1)]), &[0]);
    }
    // An older one that comes late has been added, too.
    check(store.call("a", 6, &[("web", 5)]), &[0]);
    check(store.call("b", 7, &[("web", 9_007_199_254_740)]), &[1, 0]);
    check(store.call("a", 8, &[("web", 2)]), &[1, 0]);
    let expected = [("lab", [1, 1, 2]), ("web", [3, 9_007_199_254_747, 18_014_398_509_494])];
    assert_eq!(store.rows(), BTreeMap::from(expected.map(|(name, row)| (name.to_owned(), row))));
    let Reply::Integer(left) = store.0.ask(&["PTTL", KEY]).unwrap() else { panic!() };
    assert!((80_000_000..=86_400_000).contains(&left), "{left}");
}

#[test]
fn a_sum_that_would_be_too_large_can_still_be_read() {
    let Some(redis) = redis("a_sum_that_would_be_too_large_can_still_be_read", &[]) else { return };
    let mut store = Store::new(&redis);
    for seq in [1, 2] {
        check(store.call("a", seq, &[("web", u64::MAX / 2)]), &[1, 0]);
    }
    let most = 9_007_199_254_740_991;
    assert_eq!(store.rows(), BTreeMap::from([("web".to_owned(), [2, most, most])]));
}

#[test]
fn a_day_has_no_more_rows_than_it_may() {
    let Some(redis) = redis("a_day_has_no_more_rows_than_it_may", &[]) else { return };
    let mut store = Store::new(&redis);
    let all: Vec<_> = ["1", "2", "3", "4", "5", "6", "7"].map(|name| (name, 1)).into();
    check(store.call("a", 1, &all), &[1, 1]);
    // Who has a row keeps it. The version and the holder take a place, too.
    check(store.call("a", 2, &all), &[1, 1]);
    check(store.call("a", 3, &[("8", 1), ("9", 1)]), &[1, 2]);
    let expected = ["1", "2", "3", "4", "5", "6"].map(|name| (name, [2, 2, 4]));
    let expected = expected.into_iter().chain([("other", [4, 4, 8])]);
    assert_eq!(store.rows(), expected.map(|(name, row)| (name.to_owned(), row)).collect());
}

#[test]
fn a_record_of_another_version_is_left_alone() {
    let Some(redis) = redis("a_record_of_another_version_is_left_alone", &[]) else { return };
    let mut store = Store::new(&redis);
    store.0.ask(&["HSET", KEY, "v", "9"]).unwrap();
    let reply = store.call("a", 1, &[("web", 5)]);
    assert_eq!(reply.error_code(), Some("VERSION"), "{reply:?}");
    assert!(store.rows().is_empty());
}
