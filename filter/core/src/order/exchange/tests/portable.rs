//! Where Envoy is told one cluster, and where nobody sees the attempts.

use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn pooled(fitted: &'static str) -> Rc<Gateway> {
    gateway(move |config| {
        config["routing"] =
            json!({ "fitted": fitted, "pools": [{ "cluster": "pool", "backends": ["a", "b"] }] });
        config["models"][0]["backends"] = json!([{ "backend": "a" }, { "backend": "b" }, { "backend": "c" }]);
        let backend = |name: &str| {
            json!({ "name": name, "cluster": format!("c{name}"), "style": "openai",
                    "credential": { "header": "api-key", "env": "A" } })
        };
        config["backends"] = ["a", "b", "c"].map(backend).into();
    })
}

const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

fn names(forward: &Forward) -> Vec<&str> {
    forward.flight.candidates().iter().map(|target| &*target.backend.name).collect()
}

#[test]
fn a_pool_stands_for_its_members_though_one_of_them_pauses() {
    let mut run = Run::with(pooled("each_attempt"));
    let forward = run.send(BODY);
    assert_eq!((forward.flight.cluster(), names(&forward)), (Some("pool"), vec!["a", "b"]));
    assert!(forward.flight.is_pooled() && forward.flight.begin_once().is_none());
    // Nobody but those is let through, whatever Envoy picks.
    assert_eq!(begin(&forward.flight, b"cc").unwrap_err().denial, Denial::Unplanned);
    assert_eq!(begin(&forward.flight, b"pool").unwrap_err().denial, Denial::Unplanned);

    let pause = Cooldown { wait: Duration::from_secs(9), from_backend: true };
    let member = forward.flight.candidates()[1].clone();
    let mut run = Run::with(pooled("each_attempt"));
    Cooldowns::note(Moment::new(&run.store, NOW), &member, pause).unwrap();
    let forward = run.send(BODY);
    assert_eq!((forward.flight.cluster(), names(&forward)), (Some("ca"), vec!["a"]));
    assert!(!forward.flight.is_pooled());
}

/// By this the filter sees that the route does not read the order.
#[test]
fn a_first_attempt_elsewhere_than_the_order_leads_is_seen() {
    let mut run = Run::with(gateway(|_| ()));
    let forward = run.send(BODY);
    assert!(begin(&forward.flight, b"cb").unwrap().began_elsewhere);
    let mut run = Run::with(gateway(|_| ()));
    let forward = run.send(BODY);
    assert!(!begin(&forward.flight, b"ca").unwrap().began_elsewhere);
    // A later one is there by the order.
    assert!(!begin(&forward.flight, b"cb").unwrap().began_elsewhere);
    // In a pool the order is Envoy's.
    let mut run = Run::with(pooled("each_attempt"));
    let forward = run.send(BODY);
    assert!(!begin(&forward.flight, b"cb").unwrap().began_elsewhere);
}

#[test]
fn a_pool_that_leaves_the_clients_regions_is_not_a_candidate() {
    let stays = gateway(|config| {
        config["clients"][0]["regions"] = json!(["eu"]);
        config["backends"][0]["region"] = json!("eu");
        config["backends"][1]["region"] = json!("us");
        config["routing"] = json!({ "pools": [{ "cluster": "pool", "backends": ["a", "b"] }] });
    });
    let mut run = Run::with(stays);
    let forward = run.send(BODY);
    assert_eq!((forward.flight.cluster(), names(&forward)), (Some("ca"), vec!["a"]));
}

#[test]
fn what_is_fitted_once_is_put_down_to_whoever_answered() {
    let mut run = Run::with(pooled("once"));
    let forward = run.send(BODY);
    let flight = &forward.flight;
    let departure = flight.begin_once().unwrap();
    assert_eq!(
        (departure.path.as_str(), departure.set),
        ("/v1/chat/completions", Some(("api-key", "secret-A".into())))
    );
    assert_eq!(departure.remove, ["api-key"]);
    assert_eq!(&*flight.last_tried().unwrap().backend.name, "a");
    let outside = Outside::new(&run.store, &|| NOW);
    let head = || headers(&[(":status", "429"), ("retry-after", "7")]);
    assert!(flight.answered(b"cc", || panic!("it is nobody's"), true, &outside).is_none());
    let (_, heard) = flight.answered(b"cb", head, true, &outside).unwrap();
    assert!(heard.counts.contains(&Series::Cooldowns { backend: "b".into() }), "{:?}", heard.counts);
    let answered = flight.last_tried().unwrap();
    let pause = Cooldowns::load(&run.store).unwrap().remaining(answered.number(), NOW);
    assert_eq!(pause, Duration::from_secs(7));
    let tries: Vec<_> =
        flight.tries().into_iter().map(|tried| (tried.backend.to_string(), tried.status)).collect();
    assert_eq!(tries, [("b".to_owned(), Some(429))]);
    flight.unanswered();
    assert!(flight.last_tried().is_none());
}

#[test]
fn a_request_that_is_not_held_is_refused() {
    let mut run = Run::new();
    let Step::AwaitBody { .. } = run.head(&CHAT) else { panic!() };
    let Step::Answer(answer) = run.exchange.refuse_unheld(NOW) else { panic!() };
    assert_eq!(answer.status, 503);
    assert_eq!(run.finish().outcome, Outcome::Denied("headers_not_held"));
}
