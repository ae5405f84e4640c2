//! Who opens a conversation, and where does it go?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_socket_goes_to_its_model_and_takes_a_place() {
    let gateway = gateway(|_| {});
    let mut run = Run::new(&gateway);
    assert_eq!(run.path, "/v1/realtime?model=d%40e");
    assert_eq!(run.strip, ["authorization", "sec-websocket-extensions"]);
    let (_, step) = asks(&gateway, &run.store, &HANDSHAKE);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    assert_eq!(answer.status, 429);
    let record = run.end();
    assert_eq!((record.operation, record.outcome, record.usage.total()), ("realtime", Outcome::Served, 0));
    let (_, step) = asks(&gateway, &run.store, &HANDSHAKE);
    assert!(matches!(step, Step::Forward(_)), "{step:?}");
}

#[test]
fn a_handshake_takes_no_request_of_its_turns() {
    let mut run = Run::new(&gateway(|config| {
        config["clients"][0]["limits"] = json!([{ "requests": 1, "per": "minute" }, { "concurrent": 1 }]);
    }));
    assert_eq!(run.say(CREATE), [CREATE]);
    assert_eq!(run.say(CREATE), ["ping"]);
    assert_eq!(error(&run.pong()[0]).0, "rate_limit_exceeded");
}

#[test]
fn a_socket_that_nobody_configured_is_refused() {
    let none = gateway(|config| config["websocket"] = json!({}));
    let (_, step) = asks(&none, &MemoryStore::default(), &HANDSHAKE);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    assert_eq!(answer.status, 426);
    let refused = |path: &'static str, more: &[(&'static str, &'static str)]| {
        let mut handshake = vec![(":method", "GET"), (":path", path), ("authorization", "Bearer key")];
        handshake.extend_from_slice(more);
        let (_, step) = asks(&gateway(|_| {}), &MemoryStore::default(), &handshake);
        let Step::Answer(answer) = step else { panic!("{step:?}") };
        answer.status
    };
    let websocket = [("upgrade", "websocket")];
    assert_eq!(refused("/v1/realtime?model=gpt-realtime", &[]), 404);
    assert_eq!(refused("/v1/realtime?model=gpt-realtime", &[("upgrade", "h2c")]), 426);
    assert_eq!(refused("/v1/responses", &websocket), 426);
    assert_eq!(refused("/v1/realtime", &websocket), 400);
    assert_eq!(refused("/v1/realtime?model=none", &websocket), 403);
}

#[test]
fn a_key_among_the_protocols_is_known_and_used_again() {
    let mut handshake = HANDSHAKE.to_vec();
    handshake[2] = ("sec-websocket-protocol", "realtime, openai-insecure-api-key.key");
    let mut run = Run::by(&gateway(|_| {}), &handshake);
    assert_eq!(run.say(CREATE).len(), 1);
    assert_eq!(run.records, []);
    let without = crate::headers::protocols_without_key(&headers(&handshake));
    assert_eq!(without.as_deref(), Some("realtime"));
}

#[test]
fn a_key_on_a_second_line_of_protocols_goes_no_further() {
    let mut handshake = HANDSHAKE.to_vec();
    handshake[2] = ("sec-websocket-protocol", "realtime, openai-beta.realtime-v1");
    handshake.push(("openai-beta", "realtime=v1"));
    handshake.push(("sec-websocket-protocol", "openai-insecure-api-key.key, other"));
    let mut run = Run::by(&gateway(|_| {}), &handshake);
    assert!(run.strip.iter().any(|name| name == "openai-beta"), "{:?}", run.strip);
    assert_eq!(run.say(CREATE).len(), 1);
    let without = crate::headers::protocols_without_key(&headers(&handshake));
    assert_eq!(without.as_deref(), Some("realtime, other"));
}

#[test]
fn a_socket_that_waits_for_the_store_is_connecting() {
    let mut session = Exchange::new(gateway(|_| {}));
    let store = MemoryStore::default();
    let step = session.request_head(&headers(&HANDSHAKE), false, Moment::new(&store, NOW));
    assert!(matches!(step, Step::Reserve(_)), "{step:?}");
    assert!(session.is_connecting() && !session.has_decided());
}

#[test]
fn a_socket_is_closed_if_too_much_came_before_it_was_open() {
    let mut run = Run::new(&gateway(|_| {}));
    run.socket.came_too_early();
    assert_eq!(run.say(AUDIO), ["close 1000"]);
    assert_eq!(run.hear("{}"), ["close 1009"]);
}
