//! A request that went, was refused, and comes back to the queue.

use super::admitting::{COST, Worker, names};
use super::*;
use crate::attempt::Back;
use crate::capacity::Turn;
use crate::headers::STAY;
use crate::ledger::{Series, Wait};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// One backend that declares more than it takes; its clients wait for five seconds.
fn alone(config: &mut Value) {
    config["models"][0]["backends"] = json!([{ "backend": "a", "deployment": "d" }]);
    config["backends"][0]["requests_per_minute"] = json!(600);
}

/// What comes of an answer after so many seconds: whether Envoy is stopped.
fn is_stopped(worker: &Worker, forward: &Forward, status: &str, wait_s: &str, after_s: u64) -> bool {
    let now = || NOW + Duration::from_secs(after_s);
    let outside = Outside::new(&worker.store, &now);
    let head = [(":status", status), ("retry-after", wait_s)];
    let heard = attempt(&forward.flight, "ca", &head, "", &outside).unwrap();
    heard.set.iter().any(|(name, _)| *name == STAY)
}

/// It asks the queue again, after so many seconds.
fn comes_back(worker: &mut Worker, forward: &Forward, after_s: u64) -> Turn {
    let now = NOW + Duration::from_secs(after_s);
    let back = forward.flight.comes_back(now).unwrap();
    assert!(matches!(back.series, Some(Series::Queued { result: "returned", .. })));
    asks(worker, back, now)
}

fn asks(worker: &mut Worker, back: Back, now: Duration) -> Turn {
    let cooldowns = Cooldowns::load(&worker.store).unwrap();
    let pause = |lane| cooldowns.remaining(lane, now);
    let moment = Moment::new(&worker.store, now);
    worker.queue.come_back(1, back.ask, back.had_turn, &pause, moment).unwrap()
}

fn turn(worker: &mut Worker, after_s: u64) -> Turn {
    let now = NOW + Duration::from_secs(after_s);
    let cooldowns = Cooldowns::load(&worker.store).unwrap();
    let pause = |lane| cooldowns.remaining(lane, now);
    let mut turns = worker.queue.round(&pause, Moment::new(&worker.store, now));
    turns.pop().unwrap().1
}

#[test]
fn a_request_that_its_last_backend_refuses_comes_back() {
    let mut worker = Worker::new(alone);
    let (mut exchange, forward) = worker.goes();
    assert_eq!((names(&forward), forward.flight.retries()), (vec!["a"], 5));
    assert!(!is_stopped(&worker, &forward, "429", "2", 0));
    assert_eq!(comes_back(&mut worker, &forward, 0), Turn::Waits);
    let goes = turn(&mut worker, 2);
    assert!(matches!(&goes, Turn::Goes { seat: Some(_), .. }), "{goes:?}");
    assert_eq!(forward.flight.take_turn(goes), Ok(()));
    assert!(forward.flight.comes_back(NOW).is_none());
    // Whatever else fails ends it.
    assert!(is_stopped(&worker, &forward, "500", "2", 2));
    let _ = exchange.response_head(&headers(&[(":status", "500")]), true, || Origin::Backend);
    let record = worker.end(exchange);
    assert_eq!(record.tries.iter().map(|tried| tried.status).collect::<Vec<_>>(), [Some(429), Some(500)]);
}

#[test]
fn who_comes_back_has_one_seat() {
    let mut worker = Worker::new(alone);
    let (exchange, forward) = worker.goes();
    let whole = worker.requests_left(0) + 1;
    // A guessed pause shows no pace.
    let outside = Outside::new(&worker.store, &|| NOW);
    let heard = attempt(&forward.flight, "ca", &[(":status", "429")], "", &outside).unwrap();
    assert!(heard.set.is_empty(), "{heard:?}");
    assert_eq!(worker.requests_left(0), whole);
    assert_eq!(comes_back(&mut worker, &forward, 0), Turn::Waits);
    let goes = turn(&mut worker, 4);
    assert_eq!(forward.flight.take_turn(goes), Ok(()));
    let later = || NOW + Duration::from_secs(4);
    let _ = attempt(&forward.flight, "ca", &[(":status", "200")], "", &Outside::new(&worker.store, &later))
        .unwrap();
    assert_eq!(worker.requests_left(0), whole - 1);
    worker.end(exchange);
}

#[test]
fn a_request_comes_back_only_while_its_time_lasts() {
    let mut worker = Worker::new(alone);
    // The pause that is told ends too late.
    for (status, wait_s, after_s) in [("429", "5", 0), ("429", "2", 3), ("503", "1", 0), ("400", "1", 0)] {
        let (exchange, forward) = worker.goes();
        assert!(is_stopped(&worker, &forward, status, wait_s, after_s), "{status} {wait_s} {after_s}");
        assert!(forward.flight.comes_back(NOW).is_none());
        worker.end(exchange);
        worker = Worker::new(alone);
    }
    // And no more than five times.
    let (exchange, forward) = worker.goes();
    for _ in 0..5 {
        assert!(!is_stopped(&worker, &forward, "429", "1", 0));
        let seat = None;
        assert_eq!(forward.flight.take_turn(Turn::Goes { place: 0, seat }), Ok(()));
    }
    assert!(is_stopped(&worker, &forward, "429", "1", 0));
    worker.end(exchange);
}

#[test]
fn who_does_not_wait_or_is_timed_does_not_come_back() {
    let retries = |edit: fn(&mut Value)| {
        let mut worker = Worker::new(|config| {
            alone(config);
            edit(config);
        });
        let (_exchange, forward) = worker.goes();
        forward.flight.retries()
    };
    assert_eq!(retries(|config| config["priorities"] = json!({ "normal": { "wait_ms": 0 } })), 0);
    assert_eq!(retries(|config| config["models"][0]["answer_start_ms_max"] = json!(1000)), 0);
    assert_eq!(retries(|config| config["routing"] = json!({ "fitted": "once", "pools": [] })), 0);
    // Which member of a pool Envoy goes to, it chooses anew.
    assert_eq!(
        retries(|config| {
            config["models"][0]["backends"] =
                json!([{ "backend": "a", "deployment": "d" }, { "backend": "b", "deployment": "d" }]);
            config["backends"][1]["requests_per_minute"] = json!(600);
            config["routing"] = json!({ "pools": [{ "cluster": "pool", "backends": ["a", "b"] }] });
        }),
        1
    );
    // The last one, to which Envoy would go, declares nothing.
    assert_eq!(
        retries(|config| {
            config["models"][0]["backends"] =
                json!([{ "backend": "a", "deployment": "d" }, { "backend": "b" }]);
            config["backends"][1] = json!({ "name": "b", "cluster": "cb", "style": "openai" });
        }),
        1
    );
}

#[test]
fn who_comes_back_in_vain_is_told_that_there_is_no_room() {
    let mut worker = Worker::new(alone);
    let (mut exchange, forward) = worker.goes();
    assert!(!is_stopped(&worker, &forward, "429", "2", 0));
    assert_eq!(comes_back(&mut worker, &forward, 0), Turn::Waits);
    // It pauses longer than was told.
    let pause = Cooldown { wait: Duration::from_secs(9), from_backend: true };
    let lane = forward.flight.candidates()[0].lane(None);
    Cooldowns::note(Moment::new(&worker.store, NOW), lane, pause).unwrap();
    let leaves = turn(&mut worker, 6);
    let Err(denial) = forward.flight.take_turn(leaves) else { panic!() };
    assert_eq!((denial.status(), denial.code()), (429, "capacity_exceeded"));
    let edits = exchange.response_head(&headers(&[(":status", "429")]), true, || Origin::Attempt);
    assert!(edits.set.iter().all(|(name, _)| !name.starts_with("retry-after")), "{edits:?}");
    let record = worker.end(exchange);
    assert_eq!((record.outcome, record.usage), (Outcome::Denied("capacity_exceeded"), Usage::default()));
}

#[test]
fn a_client_that_hangs_up_while_it_is_held_costs_nothing() {
    let limited = |config: &mut Value| {
        alone(config);
        config["clients"][0]["limits"] = json!([{ "tokens": BUDGET, "per": "minute" }]);
    };
    let mut worker = Worker::new(limited);
    let (exchange, forward) = worker.goes();
    assert!(!is_stopped(&worker, &forward, "429", "2", 0));
    assert_eq!(comes_back(&mut worker, &forward, 0), Turn::Waits);
    assert_eq!(left(&worker.store), BUDGET - COST);
    let record = worker.end(exchange);
    assert_eq!(
        (record.outcome, record.usage, record.price_micros),
        (Outcome::ClientGone, Usage::default(), None)
    );
    assert_eq!(left(&worker.store), BUDGET);
    let queued = record.queued.unwrap();
    assert_eq!((queued.priority, queued.wait, queued.time), ("normal", Wait::Left, Duration::ZERO));

    // Nor does one that hangs up before it is asked again.
    let mut worker = Worker::new(limited);
    let (exchange, forward) = worker.goes();
    assert!(!is_stopped(&worker, &forward, "429", "2", 0));
    let record = worker.end(exchange);
    assert_eq!((record.usage, record.queued, left(&worker.store)), (Usage::default(), None, BUDGET));

    // A backend that is at it again, or has answered well, may bill it.
    for status in [None, Some("200")] {
        let mut worker = Worker::new(limited);
        let (exchange, forward) = worker.goes();
        assert!(!is_stopped(&worker, &forward, "429", "2", 0));
        assert_eq!(comes_back(&mut worker, &forward, 0), Turn::Waits);
        let goes = turn(&mut worker, 2);
        assert_eq!(forward.flight.take_turn(goes), Ok(()));
        let outside = Outside::new(&worker.store, &|| NOW);
        match status {
            None => drop(forward.flight.begin(b"ca", &outside).unwrap()),
            Some(status) => {
                drop(attempt(&forward.flight, "ca", &[(":status", status)], "", &outside).unwrap());
            }
        }
        let record = worker.end(exchange);
        assert_eq!((record.usage.total(), record.queued), (COST, None), "{status:?}");
        assert_eq!(left(&worker.store), BUDGET - COST);
    }
}

#[test]
fn who_is_cut_off_while_held_comes_back_once() {
    let mut worker = Worker::new(alone);
    let (_exchange, forward) = worker.goes();
    assert!(!is_stopped(&worker, &forward, "429", "1", 0));
    let first = forward.flight.comes_back(NOW).unwrap();
    assert!(first.had_turn && first.series.is_some());
    assert_eq!(asks(&mut worker, first, NOW), Turn::Waits);
    // Its connection ends, and Envoy asks once more.
    let again = forward.flight.comes_back(NOW).unwrap();
    assert!(!again.had_turn && again.series.is_none());
    assert_eq!(asks(&mut worker, again, NOW), Turn::Waits);
    let goes = turn(&mut worker, 1);
    assert_eq!(forward.flight.take_turn(goes), Ok(()));
    // It went, so the next refusal is another one.
    assert!(!is_stopped(&worker, &forward, "429", "1", 1));
    let next = forward.flight.comes_back(NOW).unwrap();
    assert!(next.had_turn && next.series.is_some());
}

#[test]
fn nobody_comes_back_for_longer_as_the_clock_is_set_back() {
    let mut worker = Worker::new(alone);
    let (exchange, forward) = worker.goes();
    assert!(!is_stopped(&worker, &forward, "429", "2", 0));
    let back = forward.flight.comes_back(NOW - Duration::from_secs(3600)).unwrap();
    assert_eq!(back.ask.precedence.wait_max, Duration::from_secs(5));
    worker.end(exchange);
    // Nor is a longer pause waited for.
    let mut worker = Worker::new(alone);
    let (_exchange, forward) = worker.goes();
    let earlier = || NOW - Duration::from_secs(3600);
    let outside = Outside::new(&worker.store, &earlier);
    let head = [(":status", "429"), ("retry-after", "6")];
    let heard = attempt(&forward.flight, "ca", &head, "", &outside).unwrap();
    assert!(heard.set.iter().any(|(name, _)| *name == STAY), "{heard:?}");
}

#[test]
fn who_has_a_turn_and_may_not_go_gives_its_seat_back() {
    let mut worker = Worker::new(alone);
    let (exchange, forward) = worker.goes();
    let whole = worker.requests_left(0) + 1;
    let outside = Outside::new(&worker.store, &|| NOW);
    let _ = attempt(&forward.flight, "ca", &[(":status", "429")], "", &outside).unwrap();
    assert_eq!(comes_back(&mut worker, &forward, 0), Turn::Waits);
    let goes = turn(&mut worker, 4);
    assert_eq!(forward.flight.take_turn(goes), Ok(()));
    assert_eq!(worker.requests_left(0), whole - 1);
    let later = || NOW + Duration::from_secs(4);
    let refused = forward.flight.begin(b"elsewhere", &Outside::new(&worker.store, &later)).unwrap_err();
    assert_eq!(refused.denial, Denial::Unplanned);
    assert_eq!(worker.requests_left(0), whole);
    worker.end(exchange);
    assert_eq!(worker.requests_left(0), whole);
}

#[test]
fn a_last_backend_that_does_not_answer_is_asked_once() {
    let mut worker = Worker::new(alone);
    let (mut exchange, forward) = worker.goes();
    let outside = Outside::new(&worker.store, &|| NOW);
    let _ = forward.flight.begin(b"ca", &outside).unwrap();
    let refused = forward.flight.begin(b"ca", &outside).unwrap_err();
    assert_eq!(refused.denial, Denial::Proxy { status: 503 });
    let _ = exchange.response_head(&headers(&[(":status", "503")]), true, || Origin::Attempt);
    assert_eq!(worker.end(exchange).outcome, Outcome::ProxyError);
}
