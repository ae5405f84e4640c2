//! Room at the backends: who goes where, who waits, what is given back.

use super::*;
use crate::capacity::{Priority, Queue, Turn};
use crate::gauge::Gauge;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Backend `a` is provisioned and takes 1000 tokens a minute, `b` takes 500 and counts what was asked for.
fn declared(config: &mut Value) {
    config["backends"][0]["tokens_per_minute"] = json!(1000);
    config["backends"][0]["provisioned"] = json!(true);
    config["backends"][1]["tokens_per_minute"] = json!(500);
}

/// A prompt that costs 108 tokens at the most.
pub(super) const COST: u64 = 108;

/// One worker.
pub(super) struct Worker {
    pub(super) gateway: Rc<Gateway>,
    pub(super) store: MemoryStore,
    pub(super) queue: Queue,
}

impl Worker {
    pub(super) fn new(edit: impl FnOnce(&mut Value)) -> Self {
        let gateway = gateway(|config| {
            declared(config);
            config["clients"][0]["limits"] = json!([]);
            edit(config);
        });
        Self { gateway, store: MemoryStore::default(), queue: Queue::default() }
    }

    /// An exchange up to the answer whether there is room.
    pub(super) fn ask(&mut self, id: u32) -> (Exchange, Step) {
        let mut exchange = Exchange::new(self.gateway.clone());
        let _ = exchange.request_head(&headers(&CHAT), false, Moment::new(&self.store, NOW));
        let Step::Reserve(claim) = exchange.request_body(PROMPT.as_bytes(), Moment::new(&self.store, NOW))
        else {
            panic!()
        };
        let grant = limits::reserve(Moment::new(&self.store, NOW), claim);
        let mut step = exchange.reserved(grant);
        while let Step::Admit(ask) = step {
            let cooldowns = Cooldowns::load(&self.store).unwrap();
            let pause = |target| cooldowns.remaining(target, NOW);
            let turn = self.queue.enter(id, ask, &pause, Moment::new(&self.store, NOW));
            step = exchange.admitted(turn, Moment::new(&self.store, NOW));
        }
        (exchange, step)
    }

    pub(super) fn goes(&mut self) -> (Exchange, Forward) {
        match self.ask(0) {
            (exchange, Step::Forward(forward)) => (exchange, forward),
            (_, step) => panic!("{step:?}"),
        }
    }

    /// The tokens that a backend has left.
    pub(super) fn left(&self, backend: usize) -> u64 {
        self.left_of(self.gateway.models[0].targets[backend].gauges.tokens.unwrap())
    }

    pub(super) fn requests_left(&self, backend: usize) -> u64 {
        self.left_of(self.gateway.models[0].targets[backend].gauges.requests.unwrap())
    }

    /// Found by taking it.
    fn left_of(&self, gauge: Gauge) -> u64 {
        let has = |amount: &u64| {
            capacity::wait(Moment::new(&self.store, NOW), gauge, *amount, 0, capacity::Yields::NOTHING)
                .unwrap()
                .is_zero()
        };
        (0..=u64::from(gauge.size.get())).rev().find(has).unwrap()
    }

    pub(super) fn end(&self, mut exchange: Exchange) -> Record {
        let finished = exchange.finish(Moment::new(&self.store, NOW), || Interruption::Client);
        for settlement in finished.settlements {
            limits::settle(Moment::new(&self.store, NOW), &settlement).unwrap();
        }
        finished.record
    }
}

pub(super) fn names(forward: &Forward) -> Vec<&str> {
    forward.flight.candidates().iter().map(|target| &*target.backend.name).collect()
}

#[test]
fn a_request_goes_first_where_there_is_room() {
    let mut worker = Worker::new(|_| {});
    // Normal requests leave a twentieth free: eight fit at the first, four at the second.
    let firsts: Vec<_> = (0..12).map(|_| names(&worker.goes().1)[0].to_owned()).collect();
    assert_eq!(firsts, [["a"; 8].as_slice(), &["b"; 4]].concat());
    assert_eq!((worker.left(0), worker.left(1)), (1000 - 8 * COST, 500 - 4 * COST));
    // The others are still to be tried, behind.
    let mut worker = Worker::new(|config| config["backends"][0]["tokens_per_minute"] = json!(1));
    let (_first, _) = worker.goes();
    assert_eq!(names(&worker.goes().1), ["b", "a"]);
}

#[test]
fn a_body_that_is_fitted_once_goes_to_no_other_deployment() {
    let mut worker = Worker::new(|config| {
        config["routing"] = json!({ "fitted": "once", "pools": [] });
        config["backends"][1] = json!({ "name": "b", "cluster": "cb", "style": "openai" });
        config["models"][0]["backends"] = json!([
            { "backend": "b", "deployment": "x", "requests_per_minute": 60 },
            { "backend": "b", "deployment": "a-longer-name" },
        ]);
        config["backends"][1]["requests_window_s"] = json!(1);
        config["clients"][0]["priority"] = json!("high");
    });
    let (_exchange, forward) = worker.goes();
    assert_eq!(&*forward.flight.candidates()[0].deployment, "x");
    // There is no more room at the one whose name the body has: it does not go out with the other's length.
    let (_, step) = worker.ask(1);
    assert!(!matches!(step, Step::Forward(_)), "{step:?}");
}

#[test]
fn a_request_that_lowers_itself_leaves_more_room() {
    let worker = Worker::new(|config| config["clients"][0]["priority"] = json!("high"));
    for (word, priority, headroom_min) in
        [("low", Priority::Low, 200_000), ("normal", Priority::Normal, 50_000), ("urgent", Priority::High, 0)]
    {
        let mut exchange = Exchange::new(worker.gateway.clone());
        let pairs = [&CHAT[..], &[("x-priority", word)]].concat();
        let step = exchange.request_head(&headers(&pairs), false, Moment::new(&worker.store, NOW));
        let Step::AwaitBody { strip } = step else { panic!("{step:?}") };
        assert!(strip.contains(&"x-priority".to_owned()));
        let step = exchange.request_body(PROMPT.as_bytes(), Moment::new(&worker.store, NOW));
        let Step::Reserve(claim) = step else { panic!("{step:?}") };
        let Step::Admit(ask) = exchange.reserved(limits::reserve(Moment::new(&worker.store, NOW), claim))
        else {
            panic!()
        };
        assert_eq!((ask.priority, ask.precedence.headroom_min), (priority, headroom_min), "{word}");
    }
}

#[test]
fn a_configured_header_or_parameter_lowers_a_request() {
    let worker = Worker::new(|config| {
        config["clients"][0]["priority"] = json!("normal");
        config["pass_headers"] = json!(["x-importance"]);
        config["priorities"] = json!({ "header": "X-Importance", "query": "importance" });
    });
    for (query, (name, word), priority) in [
        ("", ("x-importance", "low"), Priority::Low),
        ("", ("x-importance", "high"), Priority::Normal),
        ("", ("x-priority", "low"), Priority::Normal),
        ("?importance=low", ("x-importance", "high"), Priority::Low),
        ("?importance=high", ("x-importance", "normal"), Priority::Normal),
        ("?a=b&importance=normal&importance=low", ("accept", "x"), Priority::Low),
    ] {
        let mut exchange = Exchange::new(worker.gateway.clone());
        let path = format!("/v1/chat/completions{query}");
        let mut pairs = [&CHAT[..], &[(name, word)]].concat();
        pairs[1].1 = &path;
        let step = exchange.request_head(&headers(&pairs), false, Moment::new(&worker.store, NOW));
        let Step::AwaitBody { strip } = step else { panic!("{step:?}") };
        assert_eq!(strip.contains(&name.to_owned()), name != "accept", "{name}");
        let step = exchange.request_body(PROMPT.as_bytes(), Moment::new(&worker.store, NOW));
        let Step::Reserve(claim) = step else { panic!("{step:?}") };
        let Step::Admit(ask) = exchange.reserved(limits::reserve(Moment::new(&worker.store, NOW), claim))
        else {
            panic!()
        };
        assert_eq!(ask.priority, priority, "{query} {name}: {word}");
    }
}

#[test]
fn a_request_that_lowers_itself_leaves_what_its_client_does() {
    let worker =
        Worker::new(|config| config["priorities"] = json!({ "low": { "headroom_min": 0, "wait_ms": 5000 } }));
    let mut exchange = Exchange::new(worker.gateway.clone());
    let pairs = [&CHAT[..], &[("x-priority", "low")]].concat();
    let _ = exchange.request_head(&headers(&pairs), false, Moment::new(&worker.store, NOW));
    let step = exchange.request_body(PROMPT.as_bytes(), Moment::new(&worker.store, NOW));
    let Step::Reserve(claim) = step else { panic!("{step:?}") };
    let Step::Admit(ask) = exchange.reserved(limits::reserve(Moment::new(&worker.store, NOW), claim)) else {
        panic!()
    };
    assert_eq!((ask.priority, ask.precedence.headroom_min), (Priority::Low, 50_000));
}

#[test]
fn unused_capacity_comes_back_where_the_backend_gives_it_back() {
    let mut worker = Worker::new(|_| {});
    let (mut exchange, forward) = worker.goes();
    let _ = begin(&forward.flight, b"ca").unwrap();
    let pairs = [(":status", "200"), ("content-type", "application/json")];
    let _ = exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    let usage = br#"{"usage":{"prompt_tokens":9,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":4}}}"#;
    let _ = exchange.response_chunk(usage, true, || NOW);
    worker.end(exchange);
    assert_eq!(worker.left(0), 1000 - 25);

    // Never sent: all of it, wherever.
    let (exchange, _) = worker.goes();
    worker.end(exchange);
    assert_eq!(worker.left(0), 1000 - 25);
}

#[test]
fn tokens_take_of_a_capacity_what_they_weigh_there() {
    let mut worker = Worker::new(|config| {
        config["models"][0]["backends"][0]["weights"] = json!({ "completion": 4 });
        config["models"][0]["backends"][1]["weights"] = json!({ "prompt": 2, "cached": 3, "completion": 0 });
    });
    // 8 are sent, 100 may be produced.
    let (mut exchange, forward) = worker.goes();
    assert_eq!(worker.left(0), 1000 - 408);
    let _ = begin(&forward.flight, b"ca").unwrap();
    let pairs = [(":status", "200"), ("content-type", "application/json")];
    let _ = exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    let usage = br#"{"usage":{"prompt_tokens":9,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":4}}}"#;
    let _ = exchange.response_chunk(usage, true, || NOW);
    worker.end(exchange);
    assert_eq!(worker.left(0), 1000 - 85);

    // At another place they weigh what they do there, and the cache may have all of the prompt.
    let (_first, forward) = worker.goes();
    let second = worker.gateway.models[0].targets[1].clone();
    let takes: Vec<u64> = forward.flight.takes_of(&second).map(|(_, amount)| amount).collect();
    assert_eq!(takes, [24]);
    let _ = forward.flight.begin(b"cb", &Outside::new(&worker.store, &|| NOW)).unwrap();
    assert_eq!((worker.left(0), worker.left(1)), (1000 - 85, 500 - 24));
}

#[test]
fn whoever_goes_elsewhere_takes_the_room_there() {
    let mut worker = Worker::new(|_| {});
    let (exchange, forward) = worker.goes();
    let flight = &forward.flight;
    let outside = Outside::new(&worker.store, &|| NOW);
    let mut first = flight.begin(b"ca", &outside).unwrap().attempt;
    assert_eq!(worker.left(0), 1000 - COST);
    // Throttled, it took nothing.
    let _ = first.response_head(headers(&[(":status", "429")]), true, &outside);
    assert_eq!(worker.left(0), 1000);
    let _ = flight.begin(b"cb", &outside).unwrap();
    assert_eq!((worker.left(0), worker.left(1)), (1000, 500 - COST));
    // This one counts what was asked for.
    worker.end(exchange);
    assert_eq!(worker.left(1), 500 - COST);
}

#[test]
fn a_backend_that_counts_the_cap_alone_takes_that() {
    let mut worker = Worker::new(|config| config["backends"][0]["counts"] = json!("cap"));
    let (mut exchange, forward) = worker.goes();
    assert_eq!(worker.left(0), 1000 - 100);
    let _ = begin(&forward.flight, b"ca").unwrap();
    let pairs = [(":status", "200"), ("content-type", "application/json")];
    let _ = exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    let usage = br#"{"usage":{"prompt_tokens":9,"completion_tokens":20}}"#;
    let _ = exchange.response_chunk(usage, true, || NOW);
    worker.end(exchange);
    assert_eq!(worker.left(0), 1000 - 20);
}

#[test]
fn a_request_that_reached_a_backend_counts_there() {
    let mut worker = Worker::new(|config| {
        config["backends"][0]["requests_per_minute"] = json!(10);
        config["backends"][1]["requests_per_minute"] = json!(10);
    });
    let (exchange, forward) = worker.goes();
    let flight = &forward.flight;
    let outside = Outside::new(&worker.store, &|| NOW);
    let mut first = flight.begin(b"ca", &outside).unwrap().attempt;
    assert_eq!((worker.left(0), worker.requests_left(0)), (1000 - COST, 9));
    // It failed, and was one all the same; it used no token.
    let _ = first.response_head(headers(&[(":status", "503")]), true, &outside);
    let mut second = flight.begin(b"cb", &outside).unwrap().attempt;
    assert_eq!((worker.left(0), worker.requests_left(0)), (1000, 9));
    assert_eq!((worker.left(1), worker.requests_left(1)), (500 - COST, 9));
    // Throttled, it was none.
    let _ = second.response_head(headers(&[(":status", "429")]), true, &outside);
    assert_eq!((worker.left(1), worker.requests_left(1)), (500, 10));
    worker.end(exchange);
    // One that is never sent is none either.
    let (exchange, _) = worker.goes();
    assert_eq!(worker.requests_left(0), 8);
    worker.end(exchange);
    assert_eq!((worker.left(0), worker.requests_left(0)), (1000, 9));
}

#[test]
fn an_attempt_that_was_left_keeps_its_tokens() {
    let mut worker = Worker::new(|_| {});
    let (_exchange, forward) = worker.goes();
    let outside = Outside::new(&worker.store, &|| NOW);
    let _left = forward.flight.begin(b"ca", &outside).unwrap();
    let _ = forward.flight.begin(b"cb", &outside).unwrap();
    assert_eq!((worker.left(0), worker.left(1)), (1000 - COST, 500 - COST));
}

#[test]
fn two_attempts_at_one_backend_are_two_requests() {
    let mut worker = Worker::new(|config| {
        config["backends"][0]["requests_per_minute"] = json!(10);
        config["models"][0]["backends"] =
            json!([{ "backend": "a", "deployment": "d" }, { "backend": "a", "deployment": "e" }]);
    });
    let (_exchange, forward) = worker.goes();
    let outside = Outside::new(&worker.store, &|| NOW);
    let mut first = forward.flight.begin(b"ca", &outside).unwrap().attempt;
    let _ = first.response_head(headers(&[(":status", "503")]), true, &outside);
    let _ = forward.flight.begin(b"ca", &outside).unwrap();
    assert_eq!((worker.left(0), worker.requests_left(0)), (1000 - COST, 8));
}

#[test]
fn an_answer_tells_how_many_requests_others_have_left() {
    let mut worker = Worker::new(|config| config["backends"][0]["requests_per_minute"] = json!(10));
    let (_, forward) = worker.goes();
    let head = [(":status", "200"), ("x-ratelimit-remaining-requests", "3")];
    let outside = Outside::new(&worker.store, &|| NOW);
    let _ = attempt(&forward.flight, "ca", &head, "", &outside).unwrap();
    assert_eq!((worker.left(0), worker.requests_left(0)), (1000 - COST, 3));
}

#[test]
fn a_refusal_shows_the_pace_of_what_it_lacks() {
    for (left, is_held) in [
        ([("x-ratelimit-remaining-tokens", "900"), ("x-ratelimit-remaining-requests", "0")], [false, true]),
        ([("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-remaining-requests", "9")], [true, false]),
        ([("x-ms-region", "x"), ("x-request-id", "x")], [true, true]),
    ] {
        let mut worker = Worker::new(|config| config["backends"][0]["requests_per_minute"] = json!(10));
        let (_, forward) = worker.goes();
        let head = [&[(":status", "429"), ("retry-after", "2")], &left[..]].concat();
        let outside = Outside::new(&worker.store, &|| NOW);
        let _ = attempt(&forward.flight, "ca", &head, "", &outside).unwrap();
        let gauges = worker.gateway.models[0].targets[0].gauges;
        let after = Moment::new(&worker.store, NOW + Duration::from_secs(2));
        let usage = Usage { prompt: COST, ..Usage::default() };
        let _first = capacity::take_anyhow(after, gauges, usage).unwrap();
        let waits = |gauge: Gauge| {
            let amount = gauge.takes_max(usage);
            !capacity::wait(after, gauge, amount, 0, capacity::Yields::NOTHING).unwrap().is_zero()
        };
        assert_eq!(gauges.iter().map(waits).collect::<Vec<_>>(), is_held, "{left:?}");
    }
}

#[test]
fn an_answer_tells_how_much_room_others_have_left() {
    let mut worker = Worker::new(|_| {});
    let (_, forward) = worker.goes();
    let head = [(":status", "200"), ("x-ratelimit-remaining-tokens", "300")];
    let outside = Outside::new(&worker.store, &|| NOW);
    let _ = attempt(&forward.flight, "ca", &head, "", &outside).unwrap();
    assert_eq!(worker.left(0), 300);
}

#[test]
fn a_request_without_room_waits_goes_and_is_recorded_as_queued() {
    let mut worker = Worker::new(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "a", "deployment": "d" }]);
        config["priorities"] = json!({ "normal": { "headroom_min": 0, "wait_ms": 60_000 } });
        config["backends"][0]["window_s"] = json!(10);
        config["backends"][0]["tokens_per_minute"] = json!(120 * 6);
    });
    let (first, _) = worker.goes();
    let (mut second, step) = worker.ask(2);
    assert!(matches!(step, Step::Wait), "{step:?}");
    assert!(second.is_waiting());
    assert!(!second.has_decided());
    worker.end(first);
    let later = NOW + Duration::from_millis(250);
    let mut turns = worker.queue.round(&|_| Duration::ZERO, Moment::new(&worker.store, later));
    let (id, turn) = turns.pop().unwrap();
    assert_eq!(id, 2);
    let Step::Forward(forward) = second.admitted(Ok(turn), Moment::new(&worker.store, later)) else {
        panic!()
    };
    assert!(!second.is_waiting());
    assert_eq!(names(&forward), ["a"]);
    let record = second.finish(Moment::new(&worker.store, later), || Interruption::Client).record;
    let queued = record.queued.unwrap();
    assert_eq!((queued.priority, queued.time), ("normal", Duration::from_millis(250)));
    let series: Vec<_> = record.additions().iter().map(|(series, _)| series.name()).collect();
    assert!(
        series.contains(&"tollgate_queued_requests;priority=normal;result=went".to_owned()),
        "{series:?}"
    );
}

#[test]
fn whoever_leaves_the_queue_or_is_refused_costs_nothing() {
    // The window forgets after ten seconds and a little.
    let full = |wait_ms: u64| {
        let mut worker = Worker::new(|config| {
            config["models"][0]["backends"] = json!([{ "backend": "a", "deployment": "d" }]);
            config["backends"][0]["tokens_per_minute"] = json!(COST * 6);
            config["backends"][0]["window_s"] = json!(10);
            config["backends"][0]["provisioned"] = json!(false);
            config["priorities"] = json!({ "high": { "wait_ms": wait_ms } });
            config["clients"][0]["priority"] = json!("high");
            config["clients"][0]["limits"] = json!([{ "tokens": BUDGET, "per": "minute" }]);
        });
        let first = worker.goes();
        let before = left(&worker.store);
        (worker, first, before)
    };
    let (mut worker, _first, before) = full(10_000);
    let (exchange, step) = worker.ask(2);
    assert_eq!(refused(step), "429 capacity_exceeded");
    assert_eq!(worker.end(exchange).queued, None);
    assert_eq!(left(&worker.store), before);

    let (mut worker, _first, before) = full(11_000);
    let (exchange, step) = worker.ask(3);
    assert!(matches!(step, Step::Wait));
    assert_eq!(left(&worker.store), before - COST);
    let record = worker.end(exchange);
    assert_eq!(
        (record.outcome, record.queued.unwrap().wait),
        (Outcome::ClientGone, crate::ledger::Wait::Left)
    );
    assert_eq!(left(&worker.store), before);
}

#[test]
fn whoever_envoy_answers_while_it_waits_costs_nothing_either() {
    let mut worker = Worker::new(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "a", "deployment": "d" }]);
        config["backends"][0]["tokens_per_minute"] = json!(COST * 6);
        config["backends"][0]["window_s"] = json!(10);
        config["backends"][0]["provisioned"] = json!(false);
        config["priorities"] = json!({ "high": { "wait_ms": 11_000 } });
        config["clients"][0]["priority"] = json!("high");
        config["clients"][0]["limits"] = json!([{ "tokens": BUDGET, "per": "minute" }, { "concurrent": 2 }]);
    });
    let _first = worker.goes();
    let before = left(&worker.store);
    let (mut waits, step) = worker.ask(2);
    assert!(matches!(step, Step::Wait), "{step:?}");
    assert_eq!(left(&worker.store), before - COST);
    let pairs = [(":status", "408"), ("content-type", "text/plain")];
    let _ = waits.response_head(&headers(&pairs), false, || Origin::Proxy);
    let record = worker.end(waits);
    assert_eq!((record.outcome, left(&worker.store)), (Outcome::ProxyError, before));
}

#[test]
fn without_the_store_there_is_room() {
    let mut worker = Worker::new(|_| {});
    let mut exchange = Exchange::new(worker.gateway.clone());
    let _ = exchange.request_head(&headers(&CHAT), false, Moment::new(&worker.store, NOW));
    let Step::Reserve(claim) = exchange.request_body(PROMPT.as_bytes(), Moment::new(&worker.store, NOW))
    else {
        panic!()
    };
    let Step::Admit(ask) = exchange.reserved(limits::reserve(Moment::new(&worker.store, NOW), claim)) else {
        panic!()
    };
    worker.store.break_with(Some(StoreFault::Unavailable));
    let turn = worker.queue.enter(1, ask, &|_| Duration::ZERO, Moment::new(&worker.store, NOW));
    assert!(matches!(exchange.admitted(turn, Moment::new(&worker.store, NOW)), Step::Forward(_)));
    assert_eq!(exchange.faults(), Some((Series::StoreFaults, 1)));
}

#[test]
fn a_turn_that_nobody_waits_for_is_a_fault_of_ours() {
    let mut run = Run::new();
    assert_eq!(
        refused(run.exchange.admitted(Ok(Turn::Waits), Moment::new(&run.store, NOW))),
        "500 internal_error"
    );
}

#[test]
fn what_is_granted_out_of_turn_is_given_back() {
    let mut run = Run::new();
    let reserve = |run: &mut Run| {
        let grant = limits::reserve(Moment::new(&run.store, NOW), claim_of(&gateway(|_| {}), 500));
        assert_eq!(refused(run.exchange.reserved(grant)), "500 internal_error");
    };
    reserve(&mut run);
    let _ = run.send(PROMPT);
    reserve(&mut run);
    let _ = run.finish();
    // The client has left before the store answered.
    reserve(&mut run);
    let _ = run.finish();
    // The one that was sent was never tried, and costs nothing either.
    assert_eq!(run.left(), BUDGET);
}
