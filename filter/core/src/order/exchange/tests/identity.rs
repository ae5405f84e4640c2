//! Who may do what, and how a request waits until it is known whose it is.

use super::*;
use crate::identity::issuer::{Issuer, Proof};
use crate::identity::jwks::{Fetch, Fetched};
use crate::identity::tokens::{self, AUDIENCE, ISSUER, JWKS, Proxy, claims, claims_with, public, token};
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A gateway whose client is known by its key and by tokens whose keys are fetched.
fn fetching() -> Rc<Gateway> {
    let mut config = json!({});
    gateway(|whole| {
        whole["issuers"] = json!([{
            "name": "idp", "issuer": ISSUER, "audiences": [AUDIENCE],
            "jwks": { "cluster": "idp", "host": "idp.example", "path": "/keys", "wait_ms": 3000 },
        }]);
        whole["clients"][0]["jwt"] = json!({ "issuer": "idp", "claims": { "azp": "app" } });
        config = whole.clone();
    });
    let mut gateway = config::from_value(config, &|name| Some(format!("secret-{name}"))).unwrap();
    gateway.clients.trust(Proxy::default());
    Rc::new(gateway)
}

fn fetched(gateway: &Gateway) -> &Fetched {
    let Issuer { proof: Proof::Fetched(fetched), .. } = &gateway.clients.issuers()[0] else {
        panic!("keys are fetched");
    };
    fetched
}

fn with_token(token: &str) -> Vec<(String, Vec<u8>)> {
    let bearer = format!("Bearer {token}");
    headers(&[CHAT[0], CHAT[1], ("authorization", &bearer), CHAT[3]])
}

fn head(run: &mut Run, token: &str) -> Step {
    run.exchange.request_head(&with_token(token), false, Moment::new(&run.store, tokens::NOW))
}

fn wake(run: &mut Run, after: Duration) -> Option<Step> {
    run.exchange.wake(Moment::new(&run.store, tokens::NOW + after))
}

const MOMENT: Duration = Duration::from_millis(10);

#[test]
fn a_request_waits_for_the_first_keys_and_then_goes_on() {
    let gateway = fetching();
    let mut run = Run::with(gateway.clone());
    assert!(matches!(head(&mut run, &token("ed25519", &claims())), Step::Wait));
    assert!(run.exchange.is_waiting() && !run.exchange.has_decided() && !run.exchange.awaits_body());
    assert!(wake(&mut run, MOMENT).is_none());
    assert!(fetched(&gateway).claim(Moment::new(&run.store, tokens::NOW)).unwrap());
    fetched(&gateway)
        .settle(Moment::new(&run.store, tokens::NOW + MOMENT), Fetch::Body(JWKS.as_bytes()), None)
        .unwrap();
    let Some(Step::AwaitBody { strip }) = wake(&mut run, 2 * MOMENT) else { panic!("it goes on") };
    assert_eq!(strip, ["authorization"]);
    assert!(!run.exchange.is_waiting() && run.exchange.awaits_body());
    assert!(wake(&mut run, 3 * MOMENT).is_none());
    assert!(matches!(run.body(PROMPT), Step::Forward(_)));
}

#[test]
fn keys_that_do_not_come_in_time_are_no_fault_of_the_client() {
    let mut run = Run::with(fetching());
    assert!(matches!(head(&mut run, &token("ed25519", &claims())), Step::Wait));
    assert!(wake(&mut run, Duration::from_millis(2999)).is_none());
    let step = wake(&mut run, Duration::from_millis(3000)).unwrap();
    assert_eq!(refused(step), "503 keys_unavailable");
    assert_eq!(run.finish().outcome, Outcome::Denied("keys_unavailable"));
}

#[test]
fn a_client_that_leaves_while_its_keys_are_fetched_is_gone() {
    let mut run = Run::with(fetching());
    assert!(matches!(head(&mut run, &token("ed25519", &claims())), Step::Wait));
    assert_eq!(run.finish().outcome, Outcome::ClientGone);
    assert!(!run.exchange.is_waiting());
    assert!(wake(&mut run, MOMENT).is_none());
}

#[test]
fn bodies_that_wait_for_keys_are_bounded_and_then_their_clients() {
    let gateway = fetching();
    let mut run = Run::with(gateway.clone());
    assert!(matches!(head(&mut run, &token("ed25519", &claims())), Step::Wait));
    let max = crate::gateway::HELD_BYTES_MAX;
    assert!(run.exchange.request_body_grows(max).is_none());
    let mut other = Run::with(gateway.clone());
    assert!(matches!(head(&mut other, &token("ed25519", &claims())), Step::Wait));
    assert_eq!(refused(other.exchange.request_body_grows(1).unwrap()), "503 keys_unavailable");
    let mut third = Run::with(gateway.clone());
    assert!(matches!(head(&mut third, &token("ed25519", &claims())), Step::Wait));
    assert!(fetched(&gateway).claim(Moment::new(&run.store, tokens::NOW)).unwrap());
    fetched(&gateway)
        .settle(Moment::new(&run.store, tokens::NOW + MOMENT), Fetch::Body(JWKS.as_bytes()), None)
        .unwrap();
    assert!(matches!(wake(&mut run, 2 * MOMENT), Some(Step::AwaitBody { .. })));
    // What it took is now its client's.
    assert!(third.exchange.request_body_grows(max).is_none());
}

#[test]
fn an_api_key_does_not_wait_for_the_keys_of_tokens() {
    let mut run = Run::with(fetching());
    assert!(matches!(run.head(&CHAT), Step::AwaitBody { .. }));
}

#[test]
fn a_token_of_a_new_key_waits_for_the_fetch_that_it_makes_for() {
    let gateway = fetching();
    let keys = fetched(&gateway);
    let store = || Run::with(gateway.clone());
    let mut run = store();
    assert!(keys.claim(Moment::new(&run.store, tokens::NOW - MOMENT)).unwrap());
    let old = json!({ "keys": public("rsa-1") }).to_string();
    keys.settle(Moment::new(&run.store, tokens::NOW - MOMENT), Fetch::Body(old.as_bytes()), None).unwrap();
    assert!(matches!(head(&mut run, &token("ed25519", &claims())), Step::Wait));
    assert!(keys.claim(Moment::new(&run.store, tokens::NOW)).unwrap());
    assert!(wake(&mut run, MOMENT).is_none());
    keys.settle(Moment::new(&run.store, tokens::NOW + MOMENT), Fetch::Body(JWKS.as_bytes()), None).unwrap();
    assert!(matches!(wake(&mut run, 2 * MOMENT), Some(Step::AwaitBody { .. })));
    // Of a key that is not there after it either, nothing more is expected for a while.
    let unknown = tokens::signed(
        r#"{"alg":"EdDSA","kid":"unknown"}"#,
        &claims().to_string(),
        "ed25519",
        jsonwebtoken_10::Algorithm::EdDSA,
    );
    let mut next = Run { exchange: Exchange::new(gateway.clone()), store: run.store };
    assert_eq!(refused(head(&mut next, &unknown)), "401 invalid_token");
    assert!(!keys.claim(Moment::new(&next.store, tokens::NOW + MOMENT)).unwrap());
}

#[test]
fn a_remembered_token_ends_with_the_key_that_signed_it() {
    let gateway = fetching();
    let keys = fetched(&gateway);
    let mut run = Run::with(gateway.clone());
    assert!(keys.claim(Moment::new(&run.store, tokens::NOW)).unwrap());
    keys.settle(Moment::new(&run.store, tokens::NOW), Fetch::Body(JWKS.as_bytes()), None).unwrap();
    let token = token("ed25519", &claims());
    assert!(matches!(head(&mut run, &token), Step::AwaitBody { .. }));
    let without = json!({ "keys": public("rsa-1") }).to_string();
    let hour = Duration::from_secs(3600);
    assert!(keys.claim(Moment::new(&run.store, tokens::NOW + hour)).unwrap());
    keys.settle(Moment::new(&run.store, tokens::NOW + hour), Fetch::Body(without.as_bytes()), None).unwrap();
    // It makes for one look whether the key is back, and then is refused.
    let mut again = Run { exchange: Exchange::new(gateway.clone()), store: run.store };
    assert!(matches!(head(&mut again, &token), Step::Wait));
    assert!(keys.claim(Moment::new(&again.store, tokens::NOW)).unwrap());
    keys.settle(Moment::new(&again.store, tokens::NOW), Fetch::Body(without.as_bytes()), None).unwrap();
    assert_eq!(refused(wake(&mut again, MOMENT).unwrap()), "401 invalid_token");
}

#[test]
fn a_401_names_the_scheme_and_what_is_wrong_with_the_token() {
    let gateway = fetching();
    let challenge = |step: Step| {
        let Step::Answer(answer) = step else { panic!("{step:?}") };
        answer.headers.into_iter().find(|(name, _)| *name == "www-authenticate").map(|(_, value)| value)
    };
    let mut run = Run::with(gateway.clone());
    let foreign = token("ed25519", &claims_with(json!({ "iss": "x" })));
    assert_eq!(challenge(head(&mut run, &foreign)).unwrap(), r#"Bearer error="invalid_token""#);
    assert_eq!(challenge(Run::with(gateway).head(&CHAT[..2])).unwrap(), "Bearer");
    let forbidden = Run::with(limited_to(json!(["embeddings"]))).head(&CHAT);
    assert_eq!(challenge(forbidden), None);
}

fn limited_to(endpoints: Value) -> Rc<Gateway> {
    gateway(|config| {
        config["other_endpoints"] = json!(["a"]);
        config["clients"][0]["endpoints"] = endpoints;
    })
}

#[test]
fn an_endpoint_must_be_the_clients_and_other_is_no_default() {
    let ask = |endpoints: Value, path: &str| match Run::with(limited_to(endpoints)).head(&[
        (":method", "POST"),
        (":path", path),
        ("api-key", "key"),
    ]) {
        Step::Answer(answer) => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            format!("{} {}", answer.status, body["error"]["message"].as_str().unwrap())
        }
        _ => "goes on".to_owned(),
    };
    let chat = "403 This client may not use the endpoint `chat/completions`.";
    assert_eq!(ask(json!(["embeddings"]), "/v1/chat/completions"), chat);
    assert_eq!(ask(json!(["embeddings"]), "/v1/embeddings"), "goes on");
    assert_eq!(ask(json!(["*"]), "/v1/chat/completions"), "goes on");
    for none in [Value::Null, json!(["*"])] {
        assert_eq!(ask(none, "/v1/files"), "403 This client may not use the endpoint `other`.");
    }
    assert_eq!(ask(json!(["other"]), "/v1/files"), "goes on");
    assert_eq!(ask(json!(["other"]), "/v1/chat/completions"), chat);
}

#[test]
fn a_client_is_told_of_a_model_of_its_own_and_of_no_other() {
    let ask = |path: &str| {
        let gateway = gateway(|config| {
            config["models"][0]["aliases"] = json!(["gpt-4o-2024"]);
            config["clients"][0]["endpoints"] = json!(["embeddings"]);
        });
        let step = Run::with(gateway).head(&[(":method", "GET"), (":path", path), ("api-key", "key")]);
        let Step::Answer(answer) = step else { panic!("{step:?}") };
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, body)
    };
    let own = json!({ "id": "gpt-4o", "object": "model", "created": 0, "owned_by": "tollgate" });
    for path in ["/v1/models/gpt-4o", "/openai/v1/models/gpt-4o", "/v1/models/gpt-4o-2024"] {
        assert_eq!(ask(path), (200, own.clone()), "{path}");
    }
    for name in ["secret", "gpt-5"] {
        let (status, body) = ask(&format!("/v1/models/{name}"));
        assert_eq!((status, body["error"]["code"].as_str()), (403, Some("model_not_allowed")));
        let message = format!("The model `{name}` does not exist, or this client may not use it.");
        assert_eq!(body["error"]["message"], message);
    }
}

#[test]
fn the_header_by_which_a_client_is_known_goes_no_further() {
    let gateway = gateway(|config| {
        config["clients"][0]["trusted_header"] = json!({ "name": "X-Who", "value": "web" });
    });
    let step = Run::with(gateway).head(&[CHAT[0], CHAT[1], ("x-who", "web"), ("baggage", "?")]);
    let Step::AwaitBody { strip } = step else { panic!("{step:?}") };
    assert_eq!(strip, ["x-who"]);
}

#[test]
fn only_a_refused_caller_is_told_of_in_the_record() {
    let gateway = gateway(|config| {
        config["store"] = json!({ "redis": { "cluster": "redis" } });
        config["directory"] = json!({ "store": {} });
    });
    let key = format!("tg-{}", "0".repeat(64));
    let ask = |key: &str| {
        let mut run = Run::with(gateway.clone());
        let code = refused(run.head(&[CHAT[0], CHAT[1], ("api-key", key)]));
        (code, run.finish().refused_caller.and_then(|caller| caller.key_begins))
    };
    assert_eq!(ask("sk-0123456789abcdef"), ("401 invalid_api_key".to_owned(), Some("sk-0".to_owned())));
    // It may be a client's.
    assert!(gateway.clients.issued().unwrap().failed(&[], NOW));
    assert_eq!(ask(&key), ("503 keys_unavailable".to_owned(), None));
}
