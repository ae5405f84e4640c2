//! Limits of which each user of a client has his own: does every step of an exchange meet the right one?

use super::*;
use crate::ledger::Stored;
use crate::value::Value as OfUser;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// That of the key `other`.
const OTHER_SHA256: &str = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

/// A short body.
const SHORT: [(&str, &str); 1] = [CHAT[3]];

/// One that does not say how long it is: what the headers tell is asked before it is read.
const LONG: [(&str, &str); 1] = [("transfer-encoding", "chunked")];

/// A client with two keys, each of which has so much; and all of it has more.
fn two_keys(config: &mut Value) {
    let client = &mut config["clients"][0];
    client["api_keys"].as_array_mut().unwrap().push(json!({ "sha256": OTHER_SHA256 }));
    client["endpoints"] = json!(["*", "other"]);
    client["limits"] = json!([
        { "tokens": BUDGET, "per": "minute" },
        { "tokens": 200, "per": "day", "by": "key" },
        { "requests": 2, "per": "day", "by": "key" },
        { "concurrent": 2, "by": "key" },
    ]);
    config["other_endpoints"] = json!(["b"]);
}

/// A client of whose users, as it names them itself, each has so much.
fn who_says_so(config: &mut Value) {
    config["policies"][0]["request_bytes_max"] = json!(100_000);
    config["clients"][0]["endpoints"] = json!(["*", "other"]);
    config["clients"][0]["limits"] = json!([
        { "tokens": 200, "per": "day", "by": { "field": "user" } },
        { "requests": 2, "per": "day", "by": { "field": "user" } },
        { "requests": 3, "per": "day", "by": { "field": "safety_identifier" } },
        { "requests": 9, "per": "day" },
    ]);
    config["other_endpoints"] = json!(["b"]);
}

/// What is told of the limits of who is called so, by the field and in the query.
fn used_of(run: &mut Run, gateway: &Rc<Gateway>, query: &str) -> Vec<u64> {
    run.exchange = Exchange::new(gateway.clone());
    let path = format!("/tollgate/v1/usage?{query}");
    let step = run.head(&[(":method", "GET"), (":path", &path), ("api-key", "key")]);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    list["limits"].as_array().unwrap().iter().map(|limit| limit["used"].as_u64().unwrap()).collect()
}

/// A chat of this user.
fn chat_of(user: &Value) -> String {
    with(serde_json::from_str(PROMPT).unwrap(), json!({ "user": user, "safety_identifier": user }))
        .to_string()
}

#[test]
fn the_body_tells_for_whom_its_client_asks() {
    let (gateway, mut run) = (gateway(who_says_so), Run::with(gateway(who_says_so)));
    let one = r#"{"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    // With a short body and with one whose limits are asked in two parts.
    for (more, all) in [(&SHORT[..], 1), (&LONG[..], 2)] {
        let step = ask(&mut run, &gateway, "key", more, &chat_of(&json!("ann b")));
        let record = serve(&mut run, step, one);
        let hash = OfUser::of("", b"ann b");
        assert_eq!(record.users, [format!("field/user={hash}"), format!("field/safety_identifier={hash}")]);
        assert_eq!(
            used_of(&mut run, &gateway, "user=ann%20b&safety_identifier=ann%20b"),
            [all, 10 * all, all, all]
        );
    }
    let refusal = ask(&mut run, &gateway, "key", &SHORT, &chat_of(&json!("ann b")));
    assert_eq!(refused(refusal), "429 insufficient_quota");
    assert_eq!(run.finish().limit.as_deref(), Some("field/requests/day"));
    // What is no string tells nobody from another.
    for user in [json!(null), json!(7), json!("")] {
        let body = with(serde_json::from_str(PROMPT).unwrap(), json!({ "user": user })).to_string();
        let step = ask(&mut run, &gateway, "key", &SHORT, &body);
        if user == json!("") {
            assert_eq!(refused(step), "429 insufficient_quota");
        } else {
            assert!(serve(&mut run, step, one).users.is_empty());
        }
    }
    assert_eq!(used_of(&mut run, &gateway, "user=&x=ann%20b"), [4, 20, 2, 2]);
}

#[test]
fn what_has_no_body_is_of_nobody_in_particular() {
    let (gateway, mut run) = (gateway(who_says_so), Run::with(gateway(who_says_so)));
    run.exchange = Exchange::new(gateway.clone());
    let head = headers(&[(":method", "GET"), (":path", "/v1/vector_stores"), ("api-key", "key")]);
    let step = run.exchange.request_head(&head, true, Moment::new(&run.store, NOW));
    let step = run.perform(step);
    let _ = serve(&mut run, step, "{}");
    assert_eq!(used_of(&mut run, &gateway, ""), [1, 0, 1, 1]);
    assert_eq!(used_of(&mut run, &gateway, "user=ann"), [1, 0, 0, 1]);
}

#[test]
fn a_filter_tells_for_whom_is_asked_and_no_backend_hears_of_it() {
    let limited = |config: &mut Value| {
        config["clients"][0]["limits"] =
            json!([{ "requests": 1, "per": "day", "by": { "header": "X-User" } }]);
        config["record_users"] = json!("value");
    };
    let (gateway, mut run) = (gateway(limited), Run::with(gateway(limited)));
    for user in ["ann", "bob"] {
        run.exchange = Exchange::new(gateway.clone());
        let Step::AwaitBody { strip } = run.head(&[CHAT[0], CHAT[1], CHAT[2], CHAT[3], ("x-user", user)])
        else {
            panic!("its body is read")
        };
        assert!(strip.contains(&"x-user".to_owned()), "{strip:?}");
        let step = run.body(PROMPT);
        assert_eq!(serve(&mut run, step, USED_120).users, [format!("header/x-user={user}")]);
        let step = ask(&mut run, &gateway, "key", &[("x-user", user)], PROMPT);
        assert_eq!(refused(step), "429 insufficient_quota");
    }
}

/// A chat of this key up to the step after the reservation.
fn ask(run: &mut Run, gateway: &Rc<Gateway>, key: &str, more: &[(&str, &str)], body: &str) -> Step {
    run.exchange = Exchange::new(gateway.clone());
    let head = [&[CHAT[0], CHAT[1], ("api-key", key)], more].concat();
    match run.head(&head) {
        Step::AwaitBody { .. } => run.body(body),
        step => step,
    }
}

/// Serves what was sent on with this usage, and ends it.
fn serve(run: &mut Run, step: Step, answer: &str) -> Record {
    let Step::Forward(forward) = step else { panic!("{step:?}") };
    let cluster = format!("c{}", forward.flight.candidates()[0].backend.name);
    let _ = begin(&forward.flight, cluster.as_bytes()).unwrap();
    let _ = run.answer("200", "application/json");
    let _ = run.exchange.response_chunk(answer.as_bytes(), true, || NOW);
    run.finish()
}

const USED_120: &str = r#"{"usage":{"prompt_tokens":100,"completion_tokens":20}}"#;

#[test]
fn each_key_has_its_own_and_is_told_only_that() {
    let (gateway, mut run) = (gateway(two_keys), Run::with(gateway(two_keys)));
    let step = ask(&mut run, &gateway, "key", &SHORT, PROMPT);
    let _ = serve(&mut run, step, USED_120);
    assert_eq!(used_by(&mut run, &gateway, "key"), [120, 120, 1, 0]);
    assert_eq!(used_by(&mut run, &gateway, "other"), [120, 0, 0, 0]);
    // What it may cost, and what is left of its own.
    let Step::Answer(answer) = ask(&mut run, &gateway, "key", &SHORT, PROMPT) else {
        panic!("it is refused")
    };
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    let sentence = told["error"]["message"].as_str().unwrap();
    assert!(
        sentence.starts_with("This client's limit of 200 tokens per day for each key is reached"),
        "{sentence}"
    );
    let record = run.finish();
    assert_eq!(record.limit.as_deref(), Some("key/tokens/day"));
    let step = ask(&mut run, &gateway, "other", &SHORT, PROMPT);
    let _ = serve(&mut run, step, USED_120);
    assert_eq!(used_by(&mut run, &gateway, "other"), [240, 120, 1, 0]);
    run.exchange = Exchange::new(gateway.clone());
    let usage = [(":method", "GET"), (":path", "/tollgate/v1/usage"), ("api-key", "key")];
    let Step::Answer(answer) = run.head(&usage) else { panic!("it is answered") };
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&told["limits"][0]["by"], &told["limits"][1]["by"]), (&Value::Null, &json!("key")));
}

#[test]
fn at_the_headers_of_a_long_body_its_users_own_limits_are_asked() {
    let (gateway, mut run) = (gateway(two_keys), Run::with(gateway(two_keys)));
    let one = |tokens: u64| format!(r#"{{"usage":{{"prompt_tokens":{tokens}}}}}"#);
    for key in ["key", "other"] {
        for request in 0..2 {
            let step = ask(&mut run, &gateway, key, &LONG, PROMPT);
            let note = run.exchange.note().unwrap();
            assert!(note.slots.starts_with("tollgate/limits/by/"), "{}", note.slots);
            let _ = serve(&mut run, step, &one(1));
            assert_eq!(used_by(&mut run, &gateway, key)[1..], [request + 1, request + 1, 0]);
        }
    }
    for key in ["key", "other"] {
        run.exchange = Exchange::new(gateway.clone());
        let head = [CHAT[0], CHAT[1], ("api-key", key), LONG[0]];
        assert_eq!(refused(run.head(&head)), "429 insufficient_quota", "{key}");
    }
}

#[test]
fn work_that_goes_on_is_paid_by_the_user_who_asked_for_it() {
    let gateway = gateway(|config| {
        two_keys(config);
        config["models"][0]["backends"] = json!([{ "backend": "b", "deployment": "d" }]);
    });
    let mut run = Run::with(gateway.clone());
    let mut exchange = |key: &str, line: &str, body: &str, answer: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        run.exchange = Exchange::new(gateway.clone());
        let head = headers(&[(":method", method), (":path", path), ("api-key", key)]);
        let step = run.exchange.request_head(&head, body.is_empty(), Moment::new(&run.store, NOW));
        let step = match run.perform(step) {
            Step::AwaitBody { .. } => run.body(body),
            step => step,
        };
        let stored = serve(&mut run, step, answer).stored;
        let tokens = |used: Vec<u64>| used[1];
        (stored, tokens(used_by(&mut run, &gateway, "key")), tokens(used_by(&mut run, &gateway, "other")))
    };
    let body = r#"{"model":"gpt-4o","input":"x","background":true,"max_output_tokens":90}"#;
    let queued = r#"{"id":"resp_1","status":"queued","usage":null}"#;
    let (stored, reserved, nothing) = exchange("key", "POST /v1/responses", body, queued);
    assert!(stored == Some(Stored::Pending) && reserved > 90 && nothing == 0);
    // Whoever reads it.
    let done = r#"{"id":"resp_1","status":"completed","usage":{"input_tokens":5,"output_tokens":40}}"#;
    let read = exchange("other", "GET /v1/responses/resp_1", "", done);
    assert_eq!(read, (Some(Stored::Charged), 45, 0));
    // Nothing is taken for a batch, for nobody knows what it will come to.
    let made = r#"{"id":"batch_1","object":"batch","model":"gpt-4o","status":"validating"}"#;
    assert_eq!(exchange("other", "POST /v1/batches", "{}", made), (Some(Stored::Pending), 45, 0));
    let done = r#"{"id":"batch_1","object":"batch","model":"gpt-4o","status":"completed","usage":{"input_tokens":5,"output_tokens":40}}"#;
    assert_eq!(exchange("key", "GET /v1/batches/batch_1", "", done), (Some(Stored::Charged), 45, 45));
}

#[test]
fn work_whose_reservation_failed_is_paid_once_it_has_ended() {
    let gateway = gateway(|config| {
        two_keys(config);
        config["on_store_failure"] = json!("allow");
        config["models"][0]["backends"] = json!([{ "backend": "b", "deployment": "d" }]);
    });
    let mut run = Run::with(gateway.clone());
    let ask = |run: &mut Run, line: &str, body: &str, answer: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        run.exchange = Exchange::new(gateway.clone());
        let head = headers(&[(":method", method), (":path", path), ("api-key", "key")]);
        let step = run.exchange.request_head(&head, body.is_empty(), Moment::new(&run.store, NOW));
        let step = match run.perform(step) {
            Step::AwaitBody { .. } => run.body(body),
            step => step,
        };
        run.store.break_with(None);
        serve(run, step, answer).stored
    };
    let body = r#"{"model":"gpt-4o","input":"x","background":true,"max_output_tokens":90}"#;
    let queued = r#"{"id":"resp_1","status":"queued","usage":null}"#;
    run.store.break_with(Some(StoreFault::Unavailable));
    assert_eq!(ask(&mut run, "POST /v1/responses", body, queued), Some(Stored::Pending));
    assert_eq!(used_by(&mut run, &gateway, "key")[..2], [0, 0]);
    let done = r#"{"id":"resp_1","status":"completed","usage":{"input_tokens":5,"output_tokens":40}}"#;
    assert_eq!(ask(&mut run, "GET /v1/responses/resp_1", "", done), Some(Stored::Charged));
    // By the client, and by the user with this key.
    assert_eq!(used_by(&mut run, &gateway, "key")[..2], [45, 45]);
}
