//! A request whose backend is shown a token waits for the first one, and goes elsewhere without one.

use super::*;
use crate::access::{Access, Next, Stage};
use crate::fetching::Fetch;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MOMENT: Duration = Duration::from_millis(10);
const TOKEN: &[u8] = br#"{"access_token":"t","expires_in":3600}"#;

/// A gateway whose first backend is shown tokens, which does not serve yet.
fn configured(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    gateway(|config| {
        let azure =
            json!({ "scope": "https://ai.azure.com/.default", "managed_identity": { "cluster": "imds" } });
        config["backends"][0]["credential"] = json!({ "azure": azure });
        edit(config);
    })
}

/// The same in service.
fn keyless(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    let gateway = configured(edit);
    gateway.accesses.iter().for_each(Access::enter_service);
    gateway
}

fn fetched(gateway: &Gateway, run: &Run, after: Duration, fetch: Fetch<'_>) {
    let moment = Moment::new(&run.store, NOW + after);
    assert!(gateway.accesses[0].claim(moment).unwrap());
    let Next::Ended(outcome) = gateway.accesses[0].answered(Stage::Token, fetch, moment) else { panic!() };
    outcome.unwrap();
}

fn wake(run: &mut Run, after: Duration) -> Option<Step> {
    run.exchange.wake(Moment::new(&run.store, NOW + after))
}

fn backends(step: Step) -> Vec<String> {
    match step {
        Step::Forward(forward) => {
            forward.flight.candidates().iter().map(|target| target.backend.name.to_string()).collect()
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_request_waits_for_the_first_token_and_then_goes_on() {
    let gateway = keyless(|_| {});
    let mut run = Run::with(gateway.clone());
    assert!(matches!(run.head(&CHAT), Step::Wait));
    assert!(run.exchange.is_waiting() && !run.exchange.awaits_body());
    assert!(wake(&mut run, MOMENT).is_none());
    fetched(&gateway, &run, MOMENT, Fetch::Body(TOKEN));
    assert!(matches!(wake(&mut run, 2 * MOMENT), Some(Step::AwaitBody { .. })));
    let Step::Forward(forward) = run.body(PROMPT) else { panic!("it goes on") };
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    assert_eq!(departure.set, Some(("authorization", "Bearer t".into())));
    // The next one is shown nothing of it.
    let departure = begin(&forward.flight, b"cb").unwrap().departure;
    assert_eq!((departure.set, departure.remove), (None, &["authorization".to_owned()][..]));
}

#[test]
fn a_request_that_has_waited_in_vain_goes_elsewhere() {
    let gateway = keyless(|_| {});
    let mut run = Run::with(gateway);
    assert!(matches!(run.head(&CHAT), Step::Wait));
    assert!(wake(&mut run, crate::access::WAIT - MOMENT).is_none());
    assert!(matches!(wake(&mut run, crate::access::WAIT), Some(Step::AwaitBody { .. })));
    assert_eq!(backends(run.body(PROMPT)), ["b"]);
    let record = run.finish();
    let why: Vec<_> = record.passed_over.iter().map(|passed| (&*passed.backend, passed.why)).collect();
    assert_eq!(why, [("a", Why::Credential)]);
}

#[test]
fn nobody_waits_for_a_token_whose_fetch_has_failed() {
    let gateway = keyless(|_| {});
    let mut run = Run::with(gateway.clone());
    fetched(&gateway, &run, Duration::ZERO, Fetch::Nothing);
    assert!(matches!(run.head(&CHAT), Step::AwaitBody { .. }));
    assert_eq!(backends(run.body(PROMPT)), ["b"]);
}

#[test]
fn without_another_backend_it_is_said_that_there_is_no_token() {
    let gateway = keyless(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "a" }]);
    });
    let mut run = Run::with(gateway.clone());
    fetched(&gateway, &run, Duration::ZERO, Fetch::Refusal);
    assert!(matches!(run.head(&CHAT), Step::AwaitBody { .. }));
    assert_eq!(refused(run.body(PROMPT)), "503 backend_credential_unavailable");
}

#[test]
fn what_needs_no_backend_needs_no_token() {
    let mut run = Run::with(keyless(|_| {}));
    let models = [(":method", "GET"), (":path", "/v1/models"), ("authorization", "Bearer key")];
    assert!(!matches!(
        run.exchange.request_head(&headers(&models), true, Moment::new(&run.store, NOW)),
        Step::Wait
    ));
}

#[test]
fn bodies_that_wait_for_a_token_are_bounded() {
    let gateway = keyless(|_| {});
    let mut run = Run::with(gateway.clone());
    assert!(matches!(run.head(&CHAT), Step::Wait));
    assert!(run.exchange.request_body_grows(crate::gateway::HELD_BYTES_MAX).is_none());
    let mut other = Run::with(gateway);
    assert!(matches!(other.head(&CHAT), Step::Wait));
    let step = other.exchange.request_body_grows(1).unwrap();
    let step = other.perform(step);
    assert_eq!(refused(step), "503 backend_credential_unavailable");
}

#[test]
fn a_configuration_that_only_is_looked_at_lacks_no_token() {
    let gateway = configured(|_| {});
    let mut run = Run::with(gateway);
    assert!(matches!(run.head(&CHAT), Step::AwaitBody { .. }));
    assert_eq!(backends(run.body(PROMPT)), ["a", "b"]);
}

#[test]
fn what_goes_past_a_backend_without_a_token_spills() {
    let gateway = gateway(|config| {
        let azure =
            json!({ "scope": "https://ai.azure.com/.default", "managed_identity": { "cluster": "imds" } });
        config["backends"][0]["credential"] = json!({ "azure": azure });
        config["models"][0]["backends"][1]["priority"] = json!(1);
    });
    let mut run = Run::with(gateway.clone());
    fetched(&gateway, &run, Duration::ZERO, Fetch::Nothing);
    let flight = run.send(PROMPT).flight;
    let _ = served(&flight, "cb", &run.store);
    let _ = run.answer("200", "application/json");
    let spill = run.finish().spill.unwrap();
    assert_eq!((&*spill.from, &*spill.to), ("a", "b"));
}
