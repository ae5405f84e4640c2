//! What goes wrong with a store, one by one: each has one outcome.

use anyhow::Result;
use tollgate::calendar::Span;
use tollgate::resp::Reply;
use tollgate_tests::fleet::call::{Answer, Ask, Call, Kind};
use tollgate_tests::fleet::histories::LEASE_MS;
use tollgate_tests::fleet::model::Account;
use tollgate_tests::fleet::script;
use tollgate_tests::harness::Connection;

use super::script::{HOLDERS, RECORD, Store, pairs, redis};

/// In the middle of a month.
const NOON: i64 = 1_795_780_800_000_000;

const SECOND: i64 = 1_000_000;

fn ask(kind: Kind, size: u64) -> Ask {
    let window =
        if let Kind::Window(span) = kind { span.bounds(NOON.unsigned_abs() / 1_000_000).0 } else { 0 };
    Ask { id: 5, kind, size, window, ack: 0, left: 0, give: 0, need: 0, want: 0, shadow: false, used_seen: 0 }
}

fn month(size: u64) -> Ask {
    ask(Kind::Window(Span::Month), size)
}

fn call(holder: &str, seq: u64, rev_seen: i64, ask: Ask) -> Call {
    Call { holder: holder.to_owned(), seq, lease_ms: LEASE_MS, rev_seen, asks: vec![ask] }
}

fn told(store: &mut Store, call: &Call, now: i64) -> (Answer, [i64; 4]) {
    let (answer, _) = store.call(call, now).unwrap();
    let one = answer.limits[0];
    (answer, [one.granted, one.kept, one.used, one.held])
}

#[test]
fn a_repeated_call_is_charged_once_even_after_its_lease() {
    let Some(redis) = redis("a_repeated_call_is_charged_once_even_after_its_lease", &[]) else { return };
    let mut store = Store::new(&redis, &[]).unwrap();
    let first = call("a", 1, 0, Ask { need: 400, ..month(1000) });
    let (answer, numbers) = told(&mut store, &first, NOON);
    assert_eq!(numbers, [550, 0, 0, 550]);
    let report = call("a", 2, answer.rev, Ask { ack: 550, left: 50, ..month(1000) });
    let (answer, numbers) = told(&mut store, &report, NOON + SECOND);
    assert_eq!(numbers, [0, 50, 500, 50]);
    assert_eq!(told(&mut store, &report, NOON + 2 * SECOND).0, answer);
    // Somebody else notices that it is gone, and then it comes back with the call that it had no answer to.
    let other = call("b", 1, 0, month(1000));
    assert_eq!(told(&mut store, &other, NOON + 60 * SECOND).1, [0, 0, 500, 0]);
    let (answer, numbers) = told(&mut store, &report, NOON + 61 * SECOND);
    assert_eq!(numbers, [0, 0, 500, 0]);
    // It goes on with the next one.
    let next = call("a", 3, answer.rev, Ask { left: -20, need: 10, ..month(1000) });
    assert_eq!(told(&mut store, &next, NOON + 62 * SECOND).1, [68, 0, 520, 68]);
}

#[test]
fn a_refund_is_no_more_than_what_is_still_used() {
    let Some(redis) = redis("a_refund_is_no_more_than_what_is_still_used", &[]) else { return };
    let mut store = Store::new(&redis, &[]).unwrap();
    let bucket = ask(Kind::Bucket(1_000_000), 100);
    told(&mut store, &call("a", 1, 0, Ask { need: 100, ..bucket }), NOON);
    // All of it is spent, and half a second later half of that has flowed off.
    let spent = call("a", 2, 0, Ask { ack: 100, left: 0, ..bucket });
    assert_eq!(told(&mut store, &spent, NOON).1, [0, 0, 100, 0]);
    let refund = call("a", 3, 0, Ask { ack: 0, left: 70, ..bucket });
    assert_eq!(told(&mut store, &refund, NOON + SECOND / 2).1, [0, 50, 0, 50]);
}

#[test]
fn what_a_store_forgot_is_told_by_those_who_know() {
    let Some(redis) = redis("what_a_store_forgot_is_told_by_those_who_know", &[]) else { return };
    let mut store = Store::new(&redis, &[]).unwrap();
    // Two holders have reported, one after the other; the second knows of both.
    let (a, _) = told(&mut store, &call("a", 1, 0, Ask { left: -300, ..month(1000) }), NOON);
    let (b, _) = told(&mut store, &call("b", 1, 0, Ask { left: -200, ..month(1000) }), NOON + SECOND);
    assert_eq!((a.limits[0].used, b.limits[0].used), (300, 500));
    redis.ask(&["FLUSHALL"]).unwrap();
    redis.ask(&["SCRIPT", "FLUSH"]).unwrap();
    let mut store = Store::new(&redis, &[]).unwrap();
    // One who knows nothing speaks first, then the one who knows less.
    told(&mut store, &call("c", 1, 0, month(1000)), NOON + 2 * SECOND);
    let report = Ask { left: -10, used_seen: 300, ..month(1000) };
    assert_eq!(told(&mut store, &call("a", 2, a.rev, report), NOON + 3 * SECOND).1, [0, 0, 310, 0]);
    let report = Ask { left: -10, used_seen: 500, ..month(1000) };
    assert_eq!(told(&mut store, &call("b", 2, b.rev, report), NOON + 4 * SECOND).1, [0, 0, 520, 0]);
    // Known is known.
    let report = Ask { used_seen: 500, ..month(1000) };
    assert_eq!(told(&mut store, &call("d", 1, b.rev, report), NOON + 5 * SECOND).1, [0, 0, 520, 0]);
}

#[test]
fn a_loss_is_noticed_though_others_called_as_often_since() {
    let Some(redis) = redis("a_loss_is_noticed_though_others_called_as_often_since", &[]) else { return };
    let report =
        |holder, seq, rev, left, used_seen| call(holder, seq, rev, Ask { left, used_seen, ..month(1000) });
    // A fail-over that is over within a lease, and one after which all others are taken for gone by the first to call.
    for back in [NOON + 2 * SECOND, NOON + 30 * SECOND] {
        let (mut primary, mut store) = (Account::default(), Store::new(&redis, &[]).unwrap());
        let a = primary.call(&report("a", 1, 0, -300, 0), NOON);
        let b = primary.call(&report("b", 1, 0, -20, 0), NOON);
        let replica = primary.clone();
        let a = primary.call(&report("a", 2, a.rev, -100, 300), NOON + SECOND);
        assert_eq!(a.limits[0].used, 420);
        // Another takes over that lacks the last report, and somebody else is the first to call: the revision is as it was.
        store.becomes(&replica).unwrap();
        let (b, numbers) = told(&mut store, &report("b", 2, b.rev, -30, 320), back);
        assert_eq!((b.rev, numbers), (a.rev, [0, 0, 350, 0]));
        // Nothing is granted before all have told.
        let needs = Ask { left: -10, need: 10, used_seen: 420, ..month(1000) };
        let (a, numbers) = told(&mut store, &call("a", 3, a.rev, needs), back);
        assert_eq!(numbers, [0, 0, 430, 0]);
        // Who has lost nothing brings nothing along, and it is told once.
        assert_eq!(told(&mut store, &report("b", 3, b.rev, -5, 350), back).1, [0, 0, 435, 0]);
        assert_eq!(told(&mut store, &report("a", 4, a.rev, 0, 430), back + SECOND).1, [0, 0, 435, 0]);
    }
}

#[test]
fn a_store_that_forgot_gives_nothing_before_all_told() {
    let Some(redis) = redis("a_store_that_forgot_gives_nothing_before_all_told", &[]) else { return };
    let mut store = Store::new(&redis, &[]).unwrap();
    // One holds 500 and more, and another knows of that.
    let (_, numbers) = told(&mut store, &call("a", 1, 0, Ask { need: 500, ..month(1000) }), NOON);
    assert_eq!(numbers, [625, 0, 0, 625]);
    let (b, _) = told(&mut store, &call("b", 1, 0, month(1000)), NOON);
    redis.ask(&["FLUSHALL"]).unwrap();
    let mut store = Store::new(&redis, &[]).unwrap();
    // The other is the first to call. It may ask for as much as is not told, and gets nothing yet.
    let needs = Ask { need: 600, ..month(1000) };
    let (answer, numbers) = told(&mut store, &call("b", 2, b.rev, needs), NOON + SECOND / 4);
    assert_eq!((numbers, answer.limits[0].wait_us), ([0, 0, 0, 0], 0));
    let wants = Ask { want: 10, ..month(1000) };
    assert_eq!(told(&mut store, &call("b", 3, answer.rev, wants), NOON + SECOND / 2).1, [0, 0, 0, 0]);
    // Meanwhile all of what was held is spent, and told on the next tick.
    let report = Ask { ack: 625, left: 0, ..month(1000) };
    assert_eq!(told(&mut store, &call("a", 2, b.rev - 1, report), NOON + SECOND / 2).1, [0, 0, 625, 0]);
    assert_eq!(told(&mut store, &call("b", 4, answer.rev, needs), NOON + SECOND).1, [0, 0, 625, 0]);
    let fits = Ask { need: 375, ..month(1000) };
    assert_eq!(told(&mut store, &call("b", 5, answer.rev, fits), NOON + SECOND).1, [375, 0, 625, 375]);
}

/// Another primary takes over, and its clock is not that of the one before. It has lost nothing.
#[test]
fn a_primary_whose_clock_is_a_little_ahead_gives_nothing_twice() {
    let Some(redis) = redis("a_primary_whose_clock_is_a_little_ahead_gives_nothing_twice", &[]) else {
        return;
    };
    let mut store = Store::new(&redis, &[]).unwrap();
    let (_, numbers) = told(&mut store, &call("a", 1, 0, Ask { need: 500, ..month(1000) }), NOON);
    assert_eq!(numbers, [625, 0, 0, 625]);
    // As much as a lease is longer than a tick.
    let needs = Ask { need: 600, ..month(1000) };
    let ahead = NOON + SECOND * 5 / 2;
    assert_eq!(told(&mut store, &call("b", 1, 0, needs), ahead).1, [0, 0, 0, 625]);
    let report = Ask { ack: 625, left: 0, ..month(1000) };
    assert_eq!(told(&mut store, &call("a", 2, 0, report), ahead).1, [0, 0, 625, 0]);
}

#[test]
fn a_primary_whose_clock_is_far_ahead_takes_all_for_gone() {
    let Some(redis) = redis("a_primary_whose_clock_is_far_ahead_takes_all_for_gone", &[]) else { return };
    let mut store = Store::new(&redis, &[]).unwrap();
    told(&mut store, &call("a", 1, 0, Ask { need: 500, ..month(1000) }), NOON);
    let ahead = NOON + 60 * SECOND;
    let needs = Ask { need: 600, ..month(1000) };
    assert_eq!(told(&mut store, &call("b", 1, 0, needs), ahead).1, [700, 0, 0, 700]);
    // What it has spent by its next call is charged, and it keeps none of the rest: that is all that is too much.
    let report = Ask { ack: 625, left: 225, ..month(1000) };
    assert_eq!(told(&mut store, &call("a", 2, 0, report), ahead + SECOND / 4).1, [0, 0, 400, 700]);
    let more = Ask { need: 1, ..month(1000) };
    assert_eq!(told(&mut store, &call("a", 3, 0, more), ahead + SECOND / 2).1, [0, 0, 400, 700]);
}

#[test]
fn a_primary_whose_clock_is_behind_keeps_nobody_alive() {
    let Some(redis) = redis("a_primary_whose_clock_is_behind_keeps_nobody_alive", &[]) else { return };
    let mut store = Store::new(&redis, &[]).unwrap();
    told(&mut store, &call("dead", 1, 0, Ask { need: 500, ..month(1000) }), NOON);
    let behind = NOON - 60 * SECOND;
    let needs = Ask { need: 600, ..month(1000) };
    assert_eq!(told(&mut store, &call("b", 1, 0, needs), behind).1, [0, 0, 0, 625]);
    // Its lease ends when it would have, counted from the first call that the new one had.
    let later = behind + LEASE_MS as i64 * 1000 + SECOND;
    assert_eq!(told(&mut store, &call("b", 2, 0, needs), later).1, [700, 0, 0, 700]);
    // A bucket earns nothing until its time has come again, and nobody gets it twice.
    let bucket = ask(Kind::Bucket(60 * SECOND as u64), 100);
    redis.ask(&["FLUSHALL"]).unwrap();
    told(&mut store, &call("a", 1, 0, Ask { left: -100, ..bucket }), NOON);
    let needs = Ask { need: 50, ..bucket };
    let (answer, numbers) = told(&mut store, &call("b", 1, 0, needs), NOON - 20 * SECOND);
    assert_eq!((numbers, answer.limits[0].wait_us), ([0, 0, 100, 0], 50 * SECOND));
    // By more than all of its period it begins anew, as by more than a window does that of the calendar.
    assert_eq!(told(&mut store, &call("c", 1, 0, needs), NOON - 61 * SECOND).1, [54, 0, 0, 54]);
    redis.ask(&["FLUSHALL"]).unwrap();
    told(&mut store, &call("a", 1, 0, Ask { left: -100, ..month(1000) }), NOON);
    let weeks = |weeks: i64| NOON - weeks * 7 * 86_400 * SECOND;
    assert_eq!(told(&mut store, &call("b", 1, 0, month(1000)), weeks(4)).1, [0, 0, 100, 0]);
    assert_eq!(told(&mut store, &call("c", 1, 0, month(1000)), weeks(10)).1, [0, 0, 0, 0]);
}

/// Asks the script as it is.
fn evaluate(connection: &mut Connection, call: &Call) -> Result<Reply> {
    let words = ["EVAL", &script()?, "2", RECORD, HOLDERS].map(str::to_owned);
    connection.ask(&words.into_iter().chain(call.words()).collect::<Vec<_>>())
}

fn written(connection: &mut Connection) -> [Vec<(String, String)>; 2] {
    [&["HGETALL", RECORD][..], &["ZRANGE", HOLDERS, "0", "-1", "WITHSCORES"]].map(|words| {
        let mut pairs = pairs(&connection.ask(words).unwrap()).unwrap();
        pairs.sort();
        pairs
    })
}

#[test]
fn a_store_that_refuses_to_write_has_changed_nothing() {
    let Some(redis) = redis("a_store_that_refuses_to_write_has_changed_nothing", &[]) else { return };
    let mut connection = redis.connect().unwrap();
    evaluate(&mut connection, &call("a", 1, 0, Ask { need: 400, ..month(1000) })).unwrap();
    // What is gone has to be dealt with, too.
    connection.ask(&["ZADD", HOLDERS, "1", "a"]).unwrap();
    let before = written(&mut connection);
    let port = redis.address().port().to_string();
    for (words, undo, code) in [
        (vec!["CONFIG", "SET", "maxmemory", "1"], vec!["CONFIG", "SET", "maxmemory", "0"], "OOM"),
        (vec!["REPLICAOF", "127.0.0.1", &port], vec!["REPLICAOF", "NO", "ONE"], "READONLY"),
        (vec!["HSET", RECORD, "v", "3"], vec!["HSET", RECORD, "v", "2"], "VERSION"),
    ] {
        connection.ask(&words).unwrap();
        let reply = evaluate(&mut connection, &call("b", 1, 0, Ask { need: 400, ..month(1000) })).unwrap();
        assert_eq!(reply.error_code(), Some(code), "{reply:?}");
        connection.ask(&undo).unwrap();
        assert_eq!(written(&mut connection), before, "{code}");
    }
}

#[test]
fn what_was_answered_survives_a_kill() {
    let Some(mut redis) = redis("what_was_answered_survives_a_kill", &[]) else { return };
    let mut connection = redis.connect().unwrap();
    let reply = evaluate(&mut connection, &call("a", 1, 0, Ask { need: 400, ..month(1000) })).unwrap();
    assert_eq!(Answer::read(&reply).unwrap().limits[0].held, 550);
    let before = written(&mut connection);
    redis.kill();
    assert!(redis.connect().is_err());
    redis.restart().unwrap();
    let mut connection = redis.connect().unwrap();
    assert_eq!(written(&mut connection), before);
    for key in [RECORD, HOLDERS] {
        let Reply::Integer(left) = connection.ask(&["PTTL", key]).unwrap() else { panic!("no number") };
        let days = left / 86_400_000;
        assert!((39..=40).contains(&days), "{key} is kept for {days} days");
    }
}

#[test]
fn a_store_with_a_password_asks_for_it() {
    let test = "a_store_with_a_password_asks_for_it";
    let Some(redis) = tollgate_tests::harness::Redis::or_skip(test, Some("pass"), &[]) else { return };
    assert_eq!(redis.ask(&["PING"]).unwrap(), Reply::Simple("PONG".to_owned()));
    assert_eq!(redis.url(), format!("redis://:pass@{}", redis.address()));
}
