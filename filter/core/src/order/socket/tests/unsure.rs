//! Who the client of a turn is that nobody asked for, where its key has to be looked up first.

use super::*;
use crate::identity::KeyHash;
use crate::identity::issued::Said;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const LATER: Duration = Duration::from_secs(NOW.as_secs() + 60);

fn key() -> String {
    format!("tg-{}", "a".repeat(64))
}

/// The store has this of the key.
fn answer(gateway: &Gateway, entry: Option<Value>, now: Duration) {
    let text = entry.map(|entry| entry.to_string());
    let said = text.as_ref().map(|text| Said { entry: text.as_bytes(), client: None });
    let store = MemoryStore::default();
    let issued = gateway.clients.issued().unwrap();
    issued.answered(KeyHash::of(key().as_bytes()), said, Moment::new(&store, now)).unwrap();
}

/// A conversation by an issued key, in which the backend begins a turn when what is known of the key is old.
fn begun() -> (Rc<Gateway>, Run) {
    let gateway = gateway(|config| {
        config["store"] = json!({ "redis": { "cluster": "store", "path": "/redis" } });
        config["clients"][0]["limits"] = json!([]);
        config["directory"] = json!({ "store": {} });
    });
    answer(&gateway, Some(json!({ "client": "one" })), NOW);
    let bearer = format!("Bearer {}", key());
    let mut handshake = HANDSHAKE;
    handshake[2].1 = &bearer;
    let mut run = Run::by(&gateway, &handshake);
    assert_eq!(run.say(AUDIO), [AUDIO]);
    run.now = LATER;
    assert_eq!(run.hear(CREATED), [CREATED]);
    // The client speaks on meanwhile, and is not heard less.
    assert!(run.socket.waits() && !run.socket.holds());
    assert_eq!(run.say(AUDIO), [AUDIO]);
    assert_eq!(wake(&mut run), [""; 0]);
    assert!(run.socket.waits());
    (gateway, run)
}

fn wake(run: &mut Run) -> Vec<String> {
    let sent = run.with(|socket, session, world| socket.wake(session, world));
    read(Side::Client, &sent)
}

#[test]
fn a_revoked_issued_key_is_met_when_its_answer_comes() {
    let (gateway, mut run) = begun();
    answer(&gateway, None, LATER);
    // Nothing can be sent now.
    assert_eq!(wake(&mut run), [""; 0]);
    assert!(!run.socket.waits());
    assert_eq!(run.say(AUDIO), ["close 1000"]);
    let told = run.hear("{}");
    assert_eq!(error(&told[0]).0, "invalid_api_key");
    assert_eq!(told[1..], ["close 1008"], "{told:?}");
    run.hear(&done("r1", 50, 20));
    assert_eq!(run.records.last().map(|record| record.usage.total()), Some(70));
}

#[test]
fn a_narrowed_issued_key_is_met_when_its_answer_comes() {
    let (gateway, mut run) = begun();
    answer(&gateway, Some(json!({ "client": "one", "models": ["elsewhere"] })), LATER);
    assert_eq!(wake(&mut run), [""; 0]);
    assert_eq!(run.say(AUDIO), ["close 1000"]);
    let told = run.hear("{}");
    assert_eq!(error(&told[0]).0, "model_not_allowed");
    assert_eq!(told[1..], ["close 1008"], "{told:?}");
}

#[test]
fn an_issued_key_that_holds_still_changes_nothing() {
    let (gateway, mut run) = begun();
    answer(&gateway, Some(json!({ "client": "one" })), LATER);
    assert_eq!(wake(&mut run), [""; 0]);
    assert!(!run.socket.waits());
    assert_eq!(run.say(AUDIO), [AUDIO]);
    let end = done("r1", 50, 20);
    assert_eq!(run.hear(&end), [end]);
}

#[test]
fn a_key_that_nobody_can_be_asked_about_ends_no_socket() {
    let (_, mut run) = begun();
    run.now = LATER + Duration::from_secs(60);
    assert_eq!(wake(&mut run), [""; 0]);
    assert!(!run.socket.waits());
    assert_eq!(run.say(AUDIO), [AUDIO]);
}
