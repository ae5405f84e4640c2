//! What goes to a backend of a lower priority: counted, bounded, settled once.

use super::admitting::{COST, Worker, names};
use super::*;
use crate::ledger::{Cause, Spill};
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// What may spill.
const BOUND: u64 = 300;

/// Backend `a` takes 1000 tokens a minute and comes first, `b` takes what comes.
fn spilling(config: &mut Value) {
    config["models"][0]["backends"][1]["priority"] = json!(1);
    config["models"][0]["prices"] = json!({ "prompt": 1, "completion": 1 });
    config["models"][0]["spill"] = json!({ "limits": [{ "tokens": BOUND, "per": "day" }] });
    config["backends"][1].as_object_mut().unwrap().remove("tokens_per_minute");
    config["priorities"] = json!({ "normal": { "headroom_min": 0, "wait_ms": 0 } });
}

fn worker(edit: impl FnOnce(&mut Value)) -> Worker {
    Worker::new(|config| {
        spilling(config);
        edit(config);
    })
}

/// Nothing is known of anybody's capacity.
fn undeclared(config: &mut Value) {
    config["backends"][0].as_object_mut().unwrap().remove("tokens_per_minute");
}

/// What is taken of the bound.
fn used(worker: &Worker) -> u64 {
    let budget = worker.gateway.models[0].spill.budget.clone().unwrap();
    let inquiry = Inquiry { budget, model: None, operation: Operation::ChatCompletions };
    limits::read(Moment::new(&worker.store, NOW), &inquiry).unwrap().states[0].used
}

/// Envoy goes on to this cluster, which answers so.
fn attempt(worker: &Worker, flight: &Rc<Flight>, cluster: &str, status: u16) -> Result<(), Denial> {
    let status = &*status.to_string();
    let wait = (status == "429").then_some(("retry-after-ms", "30000"));
    let head: Vec<_> = [(":status", status)].into_iter().chain(wait).collect();
    let heard = super::attempt(flight, cluster, &head, "", &Outside::new(&worker.store, &|| NOW))?;
    assert_eq!(heard.faults, []);
    Ok(())
}

/// The answer reaches the client, with 29 tokens if it is a good one.
fn answer(worker: &Worker, mut exchange: Exchange, status: &str) -> Record {
    let pairs = [(":status", status), ("content-type", "application/json")];
    let _ = exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    let body: &[u8] = match status {
        "200" => br#"{"usage":{"prompt_tokens":9,"completion_tokens":20}}"#,
        _ => b"{}",
    };
    let _ = exchange.response_chunk(body, true, || NOW);
    worker.end(exchange)
}

fn spill(cause: Cause) -> Option<Spill> {
    Some(Spill { from: "a".into(), to: "b".into(), cause })
}

#[test]
fn what_spills_is_written_down_with_the_reason() {
    // No room.
    let mut full = worker(|config| config["backends"][0]["tokens_per_minute"] = json!(COST));
    let (first, forward) = full.goes();
    attempt(&full, &forward.flight, "ca", 200).unwrap();
    let (second, forward) = full.goes();
    assert_eq!(names(&forward), ["b", "a"]);
    attempt(&full, &forward.flight, "cb", 200).unwrap();
    assert_eq!(answer(&full, first, "200").spill, None);
    let record = answer(&full, second, "200");
    assert_eq!(record.spill, spill(Cause::Capacity));
    let series: Vec<_> = record.additions().iter().map(|(series, _)| series.name()).collect();
    assert!(
        series.contains(&"tollgate_spills;model=gpt-4o;from=a;to=b;reason=capacity".to_owned()),
        "{series:?}"
    );
    let details = record.details();
    assert!(details.contains(r#","spilled_from":"a","spill_reason":"capacity""#), "{details}");

    // A 429, and then its pause; and a failure that is none of its own.
    for (status, cause) in [(429, Cause::Throttled), (500, Cause::Failed)] {
        let mut worker = worker(undeclared);
        let (exchange, forward) = worker.goes();
        attempt(&worker, &forward.flight, "ca", status).unwrap();
        attempt(&worker, &forward.flight, "cb", 200).unwrap();
        assert_eq!(answer(&worker, exchange, "200").spill, spill(cause));
        let (exchange, forward) = worker.goes();
        let next = names(&forward)[0];
        attempt(&worker, &forward.flight, &format!("c{next}"), 200).unwrap();
        let expected = if status == 429 { spill(Cause::Paused) } else { None };
        assert_eq!(answer(&worker, exchange, "200").spill, expected);
    }
    // Whoever never set out has not spilled.
    let mut worker = worker(|config| config["backends"][0]["tokens_per_minute"] = json!(1));
    let (_first, _) = worker.goes();
    let (second, _) = worker.goes();
    assert_eq!(worker.end(second).spill, None);
    assert_eq!(used(&worker), 0);
}

#[test]
fn equals_are_no_spill() {
    let mut worker = worker(|config| {
        undeclared(config);
        config["models"][0]["backends"][1]["priority"] = json!(0);
        config["models"][0].as_object_mut().unwrap().remove("spill");
    });
    let (exchange, forward) = worker.goes();
    attempt(&worker, &forward.flight, "ca", 429).unwrap();
    attempt(&worker, &forward.flight, "cb", 200).unwrap();
    assert_eq!(answer(&worker, exchange, "200").spill, None);
}

#[test]
fn above_its_share_requests_go_elsewhere_while_there_is_room() {
    let mut worker = worker(|config| {
        config["models"][0]["spill"] = json!({ "above": 0.5 });
        config["backends"][1]["tokens_per_minute"] = json!(2 * COST);
    });
    let firsts: Vec<_> = (0..8).map(|_| names(&worker.goes().1)[0].to_owned()).collect();
    // Four are 432 of 1000. Then two fit elsewhere, and after them the rest is taken too.
    assert_eq!(firsts.concat(), "aaaabbaa");
}

#[test]
fn what_may_spill_is_bounded_and_the_refusal_names_the_rule() {
    let mut worker = worker(|config| config["backends"][0]["provisioned"] = json!(false));
    let firsts: Vec<_> = (0..11).map(|_| names(&worker.goes().1)[0].to_owned()).collect();
    assert_eq!(firsts.concat(), "aaaaaaaaabb");
    assert_eq!(used(&worker), 2 * COST);
    let (exchange, step) = worker.ask(0);
    let Step::Answer(refusal) = step else { panic!("{step:?}") };
    let body: Value = serde_json::from_slice(&refusal.body).unwrap();
    let message = "The first backends for this model have no room, and the spill limit of model `gpt-4o` of 300 tokens per \
                   day is reached. Try again in 2 min.";
    assert_eq!((refusal.status, &body["error"]["message"]), (429, &json!(message)));
    assert_eq!(body["error"]["code"], "spill_limit_exceeded");
    // The first backend's room comes before the next day.
    let retry = refusal.headers.iter().find(|(name, _)| *name == "retry-after-ms").unwrap();
    assert_eq!(retry.1, "61000");
    let record = worker.end(exchange);
    assert_eq!(
        (record.outcome.word(), record.limit.as_deref()),
        ("spill_limit_exceeded", Some("spill/tokens/day"))
    );
    assert_eq!((used(&worker), worker.left(0)), (2 * COST, 1000 - 9 * COST));
}

#[test]
fn the_sooner_of_the_next_period_and_a_pause_is_told() {
    for (pause_s, expected) in [(30, "30000"), (90_000, "600000")] {
        let mut worker = worker(|config| {
            undeclared(config);
            config["models"][0]["spill"]["limits"][0]["tokens"] = json!(1);
        });
        let wait = Duration::from_secs(pause_s);
        let first = worker.gateway.models[0].targets[0].clone();
        Cooldowns::note(Moment::new(&worker.store, NOW), &first, Cooldown { wait, from_backend: true })
            .unwrap();
        let (_, step) = worker.ask(0);
        let Step::Answer(refusal) = step else { panic!("{step:?}") };
        let retry = refusal.headers.iter().find(|(name, _)| *name == "retry-after-ms").unwrap();
        assert_eq!(retry.1, expected);
    }
    // Five minutes before midnight the next day comes first.
    let day_ends = NOW.as_secs().next_multiple_of(86_400);
    assert!(day_ends - NOW.as_secs() > 600);
}

#[test]
fn who_may_not_spill_waits_as_if_there_were_no_other_backend() {
    let mut worker = worker(|config| {
        config["models"][0]["spill"]["limits"][0]["tokens"] = json!(COST);
        config["backends"][0]["tokens_per_minute"] = json!(COST);
        config["priorities"]["normal"]["wait_ms"] = json!(5000);
    });
    let (first, _) = worker.goes();
    let (spilled, forward) = worker.goes();
    assert_eq!(names(&forward), ["b", "a"]);
    let (mut third, step) = worker.ask(3);
    assert!(matches!(step, Step::Wait), "{step:?}");
    // Nobody is let in for what another has left of the bound: it waits for the first backend.
    worker.end(spilled);
    assert_eq!(used(&worker), 0);
    assert!(worker.queue.round(&|_| Duration::ZERO, Moment::new(&worker.store, NOW)).is_empty());
    worker.end(first);
    let (id, turn) = worker.queue.round(&|_| Duration::ZERO, Moment::new(&worker.store, NOW)).pop().unwrap();
    assert_eq!(id, 3);
    let Step::Forward(forward) = third.admitted(Ok(turn), Moment::new(&worker.store, NOW)) else { panic!() };
    assert_eq!(names(&forward), ["a"]);
}

#[test]
fn batch_work_that_never_spills_waits_for_the_first_backend() {
    let batch = |config: &mut Value| {
        config["clients"][0]["priority"] = json!("low");
        config["clients"][0]["spill"] = json!("never");
        config["backends"][0]["tokens_per_minute"] = json!(2 * COST);
        config["priorities"] = json!({ "low": { "headroom_min": 0, "wait_ms": 5000 } });
    };
    let mut worker = worker(batch);
    let (first, forward) = worker.goes();
    assert_eq!(names(&forward), ["a"]);
    let (_second, _) = worker.goes();
    let (mut third, step) = worker.ask(3);
    assert!(matches!(step, Step::Wait), "{step:?}");
    worker.end(first);
    let (id, turn) = worker.queue.round(&|_| Duration::ZERO, Moment::new(&worker.store, NOW)).pop().unwrap();
    assert_eq!(id, 3);
    let Step::Forward(forward) = third.admitted(Ok(turn), Moment::new(&worker.store, NOW)) else { panic!() };
    assert_eq!((names(&forward), used(&worker)), (vec!["a"], 0));
}

#[test]
fn waiting_twice_takes_no_longer_than_waiting_once() {
    let mut worker = worker(|config| {
        config["models"][0]["spill"]["limits"][0]["tokens"] = json!(1);
        for backend in [0, 1] {
            config["backends"][backend]["tokens_per_minute"] = json!(COST);
            config["backends"][backend]["provisioned"] = json!(true);
        }
        config["priorities"]["normal"]["wait_ms"] = json!(5000);
    });
    let second = worker.gateway.models[0].targets[1].gauges;
    let (_first, _) = worker.goes();
    let seat = capacity::take(
        Moment::new(&worker.store, NOW),
        second,
        Usage { prompt: COST, ..Usage::default() },
        capacity::Yields::NOTHING,
    )
    .unwrap()
    .unwrap();
    let (mut exchange, step) = worker.ask(2);
    assert!(matches!(step, Step::Wait), "{step:?}");
    // After three seconds there is room at the second, but no more may go there.
    let later = NOW + Duration::from_secs(3);
    capacity::undo(Moment::new(&worker.store, later), &seat).unwrap();
    let (_, turn) = worker.queue.round(&|_| Duration::ZERO, Moment::new(&worker.store, later)).pop().unwrap();
    let Step::Admit(ask) = exchange.admitted(Ok(turn), Moment::new(&worker.store, later)) else { panic!() };
    assert_eq!((ask.places.len(), ask.precedence.wait_max), (1, Duration::from_secs(2)));
    // Its room there is free again.
    assert!(
        capacity::wait(
            Moment::new(&worker.store, later),
            second.tokens.unwrap(),
            COST,
            0,
            capacity::Yields::NOTHING
        )
        .unwrap()
        .is_zero()
    );
    let turn = worker.queue.enter(2, ask, &|_| Duration::ZERO, Moment::new(&worker.store, later));
    assert!(matches!(exchange.admitted(turn, Moment::new(&worker.store, later)), Step::Wait));
    let (_, turn) = worker
        .queue
        .round(&|_| Duration::ZERO, Moment::new(&worker.store, later + Duration::from_secs(2)))
        .pop()
        .unwrap();
    let step = exchange.admitted(Ok(turn), Moment::new(&worker.store, later + Duration::from_secs(2)));
    assert_eq!(refused(step), "429 spill_limit_exceeded");
    let record = worker.end(exchange);
    assert_eq!(record.queued.unwrap().time, Duration::from_secs(5));
}

#[test]
fn fail_over_spills_once_and_gives_back_what_was_not_spent() {
    let third = |config: &mut Value| {
        undeclared(config);
        config["backends"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "name": "c", "cluster": "cc", "style": "openai" }));
        let place = json!({ "backend": "c", "deployment": "e", "priority": 2 });
        config["models"][0]["backends"].as_array_mut().unwrap().push(place);
    };
    // Served by the third.
    let mut served = worker(third);
    let (exchange, forward) = served.goes();
    attempt(&served, &forward.flight, "ca", 500).unwrap();
    assert_eq!(used(&served), 0);
    attempt(&served, &forward.flight, "cb", 500).unwrap();
    assert_eq!(used(&served), COST);
    attempt(&served, &forward.flight, "cc", 200).unwrap();
    assert_eq!(used(&served), COST);
    let record = answer(&served, exchange, "200");
    assert_eq!(record.spill.map(|spill| spill.to), Some("c".into()));
    assert_eq!(used(&served), 29);
    // Served by nobody.
    let (exchange, forward) = served.goes();
    for cluster in ["ca", "cb", "cc"] {
        attempt(&served, &forward.flight, cluster, 500).unwrap();
    }
    answer(&served, exchange, "500");
    assert_eq!(used(&served), 29);
}

#[test]
fn what_goes_back_to_a_first_backend_does_not_count() {
    let mut worker = worker(|config| config["backends"][0]["tokens_per_minute"] = json!(COST));
    let (_first, _) = worker.goes();
    let (exchange, forward) = worker.goes();
    assert_eq!((names(&forward), used(&worker)), (vec!["b", "a"], COST));
    attempt(&worker, &forward.flight, "cb", 429).unwrap();
    attempt(&worker, &forward.flight, "ca", 200).unwrap();
    let record = answer(&worker, exchange, "200");
    assert_eq!((record.spill, used(&worker)), (None, 0));
}

#[test]
fn fail_over_stops_where_no_more_may_spill() {
    let mut worker = worker(|config| {
        undeclared(config);
        config["models"][0]["spill"]["limits"][0]["tokens"] = json!(1);
    });
    let (exchange, forward) = worker.goes();
    attempt(&worker, &forward.flight, "ca", 429).unwrap();
    let denial = attempt(&worker, &forward.flight, "cb", 200).unwrap_err();
    assert_eq!(denial.code(), "spill_limit_exceeded");
    let retry = denial.answer().headers.into_iter().find(|(name, _)| *name == "retry-after-ms").unwrap();
    assert_eq!(retry.1, "30000");
    let record = answer(&worker, exchange, "429");
    assert_eq!(
        (record.outcome.word(), record.limit.as_deref()),
        ("spill_limit_exceeded", Some("spill/tokens/day"))
    );
    assert_eq!((record.usage.total(), record.spill, used(&worker)), (0, None, 0));
}

#[test]
fn failures_make_no_pause_where_no_more_may_spill() {
    let mut worker = worker(|config| {
        undeclared(config);
        config["models"][0]["spill"]["limits"][0]["tokens"] = json!(1);
    });
    for _ in 0..7 {
        // If it paused, whoever comes next would be refused without being tried anywhere.
        let (exchange, forward) = worker.goes();
        assert_eq!(names(&forward), ["a", "b"]);
        attempt(&worker, &forward.flight, "ca", 500).unwrap();
        let denial = attempt(&worker, &forward.flight, "cb", 200).unwrap_err();
        assert_eq!(denial.code(), "spill_limit_exceeded");
        let _ = answer(&worker, exchange, "429");
    }
}

#[test]
fn without_the_store_what_spills_is_as_the_budgets_are() {
    for (word, expected) in [("allow", Ok(())), ("deny", Err(Denial::StoreUnavailable))] {
        let mut worker = worker(|config| {
            undeclared(config);
            config["on_store_failure"] = json!(word);
        });
        let (mut exchange, forward) = worker.goes();
        worker.store.break_with(Some(StoreFault::Unavailable));
        let begun = forward.flight.begin(b"cb", &Outside::new(&worker.store, &|| NOW));
        assert_eq!(begun.map(drop).map_err(|refused| refused.denial), expected);
        worker.store.break_with(None);
        let _ = exchange.finish(Moment::new(&worker.store, NOW), || Interruption::Client);
        assert_eq!(exchange.faults(), Some((Series::StoreFaults, 1)));
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begins,
    /// The request with this number goes on to the next candidate, or ends there.
    Goes(usize, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Begins),
        (any::<usize>(), any::<bool>()).prop_map(|(request, serves)| Event::Goes(request, serves)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// However many requests are under way, and wherever each of them fails or ends: never is more taken than the bound
    /// has, and in the end it is what was spent there.
    #[test]
    fn requests_together_never_spill_more_than_the_bound(events in prop::collection::vec(event(), 1..60)) {
        let mut worker = worker(|config| config["backends"][0]["tokens_per_minute"] = json!(2 * COST));
        let mut flying: Vec<(Exchange, Rc<Flight>, usize)> = Vec::new();
        let mut spent = 0;
        for event in events {
            match event {
                Event::Begins => match worker.ask(0) {
                    (exchange, Step::Forward(forward)) => flying.push((exchange, forward.flight, 0)),
                    (exchange, step) => {
                        assert!(matches!(step, Step::Wait), "{step:?}");
                        worker.queue.leave(0);
                        worker.end(exchange);
                    }
                },
                Event::Goes(request, serves) if !flying.is_empty() => {
                    let (exchange, flight, tried) = flying.swap_remove(request % flying.len());
                    let cluster = flight.candidates()[tried].backend.cluster.clone();
                    let status = if serves { 200 } else { 500 };
                    match attempt(&worker, &flight, &cluster, status) {
                        Ok(()) if serves => {
                            let record = answer(&worker, exchange, "200");
                            spent += if record.spill.is_some() { record.usage.total() } else { 0 };
                        }
                        Ok(()) if tried + 1 < flight.candidates().len() => {
                            flying.push((exchange, flight, tried + 1));
                        }
                        Ok(()) => drop(answer(&worker, exchange, "500")),
                        Err(_) => drop(answer(&worker, exchange, "429")),
                    }
                }
                Event::Goes(..) => {}
            }
            prop_assert!(used(&worker) <= BOUND);
        }
        // Who hangs up may be billed all of it, where the last attempt went.
        for (exchange, ..) in flying {
            let record = worker.end(exchange);
            spent += if record.spill.is_some() { record.usage.total() } else { 0 };
        }
        prop_assert_eq!(used(&worker), spent);
    }
}
