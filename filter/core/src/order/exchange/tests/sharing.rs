//! What a backend gets of a model's requests at the most: as the first one, and as one that is gone on to.

use super::admitting::{Worker, names};
use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Backend `a` gets a tenth of the requests at the most, `b` takes the rest.
fn bounded(config: &mut Value) {
    for backend in [0, 1] {
        config["backends"][backend].as_object_mut().unwrap().remove("tokens_per_minute");
        config["backends"][backend].as_object_mut().unwrap().remove("provisioned");
    }
    config["models"][0]["backends"][0]["share_max"] = json!(0.1);
}

fn worker() -> Worker {
    Worker::new(bounded)
}

fn answered(worker: &Worker, flight: &Rc<Flight>, cluster: &str, status: &str) -> Result<(), Denial> {
    let heard =
        super::attempt(flight, cluster, &[(":status", status)], "", &Outside::new(&worker.store, &|| NOW))?;
    assert_eq!(heard.faults, []);
    Ok(())
}

#[test]
fn a_backend_that_has_had_its_share_is_left_out() {
    let mut worker = worker();
    let firsts: Vec<_> = (0..25).map(|_| names(&worker.goes().1).join("")).collect();
    // Five are saved up at first; then every tenth goes there.
    let expected: Vec<_> =
        (1..=25).map(|at| if at <= 5 || at == 11 || at == 21 { "ab" } else { "b" }).collect();
    assert_eq!(firsts, expected);
    let (exchange, _) = worker.goes();
    let record = worker.end(exchange);
    let passed: Vec<_> = record.passed_over.iter().map(|one| (&*one.backend, one.why.word())).collect();
    assert_eq!(passed, [("a", "share")]);
}

/// The first attempt was counted with the request; Envoy may begin another at the same backend.
#[test]
fn a_request_is_counted_once_at_a_backend_that_it_asks_twice() {
    let mut worker = worker();
    for at in 1..=6 {
        let (exchange, forward) = worker.goes();
        assert_eq!(names(&forward)[0] == "a", at <= 5, "{at}");
        for _ in 0..2 {
            answered(&worker, &forward.flight, if at <= 5 { "ca" } else { "cb" }, "200").unwrap();
        }
        worker.end(exchange);
    }
    // Nor does one that goes on there, of six which all learnt that there is a share left.
    let mut worker = Worker::new(|config| {
        bounded(config);
        config["models"][0]["backends"][0]["priority"] = json!(1);
        config["clients"][0].as_object_mut().unwrap().remove("regions");
    });
    let together: Vec<_> = (0..6).map(|_| worker.goes()).collect();
    for (at, (exchange, forward)) in together.into_iter().enumerate() {
        answered(&worker, &forward.flight, "cb", "500").unwrap();
        for _ in 0..2 {
            assert_eq!(answered(&worker, &forward.flight, "ca", "200").is_ok(), at < 5, "{at}");
        }
        worker.end(exchange);
    }
}

#[test]
fn while_others_pause_a_bounded_backend_gets_its_share_only() {
    let mut worker = worker();
    let pause = Cooldown { wait: Duration::from_secs(30), from_backend: true };
    let rest = worker.gateway.models[0].targets[1].clone();
    Cooldowns::note(Moment::new(&worker.store, NOW), &rest, pause).unwrap();
    for at in 1..=25 {
        match worker.ask(0).1 {
            Step::Forward(forward) => {
                assert!(at <= 5 || at == 11 || at == 21, "{at}");
                assert_eq!(names(&forward), ["a"]);
            }
            Step::Answer(refusal) => {
                assert_eq!((refusal.status, code(&refusal)), (429, json!("backends_throttled")));
            }
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn fail_over_goes_to_a_bounded_backend_within_its_share() {
    let mut worker = Worker::new(|config| {
        bounded(config);
        config["models"][0]["backends"][0]["priority"] = json!(1);
        let third = json!({ "name": "c", "cluster": "cc", "style": "openai", "region": "eu" });
        config["backends"].as_array_mut().unwrap().push(third);
        config["clients"][0].as_object_mut().unwrap().remove("regions");
        let backends = config["models"][0]["backends"].as_array_mut().unwrap();
        backends.push(json!({ "backend": "c", "priority": 2 }));
    });
    // Behind all others: the last attempt is the only one that may be refused.
    let together: Vec<_> = (0..6).map(|_| worker.goes()).collect();
    for (at, (exchange, forward)) in together.into_iter().enumerate() {
        assert_eq!(names(&forward), ["b", "c", "a"]);
        answered(&worker, &forward.flight, "cb", "500").unwrap();
        answered(&worker, &forward.flight, "cc", "429").unwrap();
        let went = answered(&worker, &forward.flight, "ca", "200");
        assert_eq!(went.is_ok(), at < 5, "{went:?}");
        worker.end(exchange);
        Cooldowns::end(&worker.store, &worker.gateway.models[0].targets[0]).unwrap();
        Cooldowns::end(&worker.store, &worker.gateway.models[0].targets[2]).unwrap();
    }
    // It is known to have no share left: whoever answers last tells the client.
    assert_eq!(names(&worker.goes().1), ["b", "c"]);
}

#[test]
fn who_comes_too_late_for_a_share_goes_elsewhere_for_nothing() {
    let mut worker = Worker::new(|config| {
        bounded(config);
        config["backends"][0]["tokens_per_minute"] = json!(10_000);
    });
    // Another worker takes the last one after this one was told that there is one.
    let targets = worker.gateway.models[0].targets.clone();
    let shares = worker.gateway.models[0].shares.clone().unwrap();
    for _ in 0..4 {
        let _ = worker.goes();
    }
    let before = capacity_of(&worker);
    let mut exchange = Exchange::new(worker.gateway.clone());
    let moment = Moment::new(&worker.store, NOW);
    let _ = exchange.request_head(&headers(&CHAT), false, moment);
    let Step::Reserve(claim) = exchange.request_body(PROMPT.as_bytes(), moment) else { panic!() };
    let Step::Admit(ask) = exchange.reserved(limits::reserve(moment, claim)) else { panic!() };
    assert!(shares.send(&targets[0], &worker.store).unwrap().is_some());
    let turn = worker.queue.enter(0, ask, &|_| Duration::ZERO, moment);
    let Step::Admit(ask) = exchange.admitted(turn, moment) else { panic!() };
    let turn = worker.queue.enter(0, ask, &|_| Duration::ZERO, moment);
    let Step::Forward(forward) = exchange.admitted(turn, moment) else { panic!() };
    assert_eq!(names(&forward), ["b"]);
    assert_eq!(capacity_of(&worker), before);
}

fn code(refusal: &Answer) -> Value {
    serde_json::from_slice::<Value>(&refusal.body).unwrap()["error"]["code"].take()
}

fn capacity_of(worker: &Worker) -> Duration {
    let gauge = worker.gateway.models[0].targets[0].gauges.tokens.unwrap();
    capacity::wait(Moment::new(&worker.store, NOW), gauge, 10_000, 0, capacity::Yields::NOTHING).unwrap()
}
