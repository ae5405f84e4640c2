//! Anthropic's API: who has it, what goes along, and how it is refused.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MESSAGES: [(&str, &str); 6] = [
    (":method", "POST"),
    (":path", "/v1/messages"),
    ("x-api-key", "key"),
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "context-1m-2025-08-07"),
    ("content-length", "1"),
];

const BODY: &str = r#"{"model":"gpt-4o","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;

/// Backend `b` speaks it, and `c` too.
fn both(config: &mut Value) {
    config["backends"][1]["style"] = json!("anthropic");
    config["backends"][1]["credential"] = json!({ "header": "x-api-key", "env": "B" });
    let other = json!({ "name": "c", "cluster": "cc", "style": "anthropic", "base_path": "/anthropic/v1" });
    config["backends"].as_array_mut().unwrap().push(other);
    let targets = config["models"][0]["backends"].as_array_mut().unwrap();
    targets.push(json!({ "backend": "c", "deployment": "claude" }));
}

fn forward(run: &mut Run, head: &[(&str, &str)], body: &str) -> Forward {
    let step = run.head(head);
    let Step::AwaitBody { strip } = step else { panic!("{step:?}") };
    // What a beta turns on nobody reads here.
    assert!(strip.iter().any(|name| name == "anthropic-beta"));
    assert!(!strip.iter().any(|name| name == "anthropic-version"), "{strip:?}");
    assert!(strip.iter().any(|name| name == "x-api-key"));
    match run.body(body) {
        Step::Forward(forward) => forward,
        step => panic!("{step:?}"),
    }
}

fn body_of(step: Step) -> Value {
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn messages_go_to_backends_that_speak_anthropics_api() {
    let mut run = Run::with(gateway(both));
    let flight = forward(&mut run, &MESSAGES, BODY).flight;
    let names: Vec<_> = flight.candidates().iter().map(|target| target.backend.name.to_string()).collect();
    assert_eq!(names, ["b", "c"]);
    let departure = begin(&flight, b"cb").unwrap().departure;
    assert_eq!(departure.path, "/v1/messages");
    assert!(departure.set.iter().any(|(name, value)| *name == "x-api-key" && *value == "secret-B"));
    let departure = begin(&flight, b"cc").unwrap().departure;
    assert_eq!(departure.path, "/anthropic/v1/messages");
    assert!(begin(&flight, b"ca").is_err());
}

#[test]
fn chat_never_goes_to_a_backend_of_anthropics_api() {
    let mut run = Run::with(gateway(both));
    let flight = run.send(PROMPT).flight;
    let names: Vec<_> = flight.candidates().iter().map(|target| target.backend.name.to_string()).collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn a_model_without_a_backend_of_the_api_says_so() {
    let mut run = Run::with(gateway(|config| {
        both(config);
        config["models"][0]["backends"] = json!([{ "backend": "a", "deployment": "d" }]);
    }));
    let _ = run.head(&MESSAGES);
    let said = body_of(run.body(BODY));
    assert_eq!(said["type"], "error");
    assert_eq!(said["error"]["type"], "invalid_request_error");
    assert_eq!(said["error"]["code"], "model_not_served_by_api");
}

#[test]
fn without_such_a_backend_there_is_no_such_endpoint() {
    let mut run = Run::new();
    let head = [MESSAGES[0], MESSAGES[1], ("authorization", "Bearer key")];
    assert_eq!(refused(run.head(&head)), "404 unknown_url");
}

#[test]
fn a_refusal_has_the_shape_of_the_api_that_is_asked() {
    let mut run = Run::with(gateway(both));
    let head = [MESSAGES[0], MESSAGES[1], ("x-api-key", "other")];
    let said = body_of(run.head(&head));
    assert_eq!(said["type"], "error");
    assert_eq!(said["error"]["type"], "authentication_error");
    // What is wrong in it is told in the same shape.
    let mut run = Run::with(gateway(both));
    let _ = run.head(&MESSAGES);
    let said = body_of(run.body(r#"{"model":"gpt-4o","max_tokens":"9"}"#));
    assert_eq!(said["error"]["type"], "invalid_request_error");
    assert!(said["error"]["message"].as_str().unwrap().starts_with("`max_tokens` must be"));
}

#[test]
fn what_messages_cost_is_settled_by_their_usage() {
    let mut run = Run::with(gateway(both));
    let flight = forward(&mut run, &MESSAGES, BODY).flight;
    let _ = served(&flight, "cb", &run.store);
    let _ = run.answer("200", "application/json");
    let body = br#"{"type":"message","content":[],"usage":{"input_tokens":3,"cache_read_input_tokens":40,"output_tokens":9}}"#;
    let _ = run.exchange.response_chunk(body, true, || NOW);
    let record = run.finish();
    assert_eq!((record.operation, record.source), ("messages", Source::Reported));
    assert_eq!((record.usage.prompt, record.usage.cached, record.usage.completion), (43, 40, 9));
    assert_eq!(run.left(), BUDGET - 52);
}

#[test]
fn counting_tokens_costs_nothing() {
    let mut run = Run::with(gateway(both));
    let mut head = MESSAGES;
    head[1].1 = "/v1/messages/count_tokens";
    let flight = forward(&mut run, &head, BODY).flight;
    assert_eq!(begin(&flight, b"cb").unwrap().departure.path, "/v1/messages/count_tokens");
    let _ = served(&flight, "cb", &run.store);
    let _ = run.answer("200", "application/json");
    let _ = run.exchange.response_chunk(br#"{"input_tokens":14}"#, true, || NOW);
    assert_eq!(run.finish().usage, Usage::default());
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn a_region_in_the_body_is_refused() {
    let mut run = Run::with(gateway(both));
    let _ = run.head(&MESSAGES);
    let body = r#"{"model":"gpt-4o","max_tokens":5,"messages":[],"inference_geo":"us"}"#;
    let said = body_of(run.body(body));
    assert!(said["error"]["message"].as_str().unwrap().contains("`inference_geo`"), "{said}");
}

#[test]
fn a_key_of_anthropics_header_is_read_at_its_api_only() {
    let mut run = Run::with(gateway(both));
    let head = [CHAT[0], CHAT[1], ("x-api-key", "key")];
    assert_eq!(refused(run.head(&head)), "401 missing_api_key");
    // A stray one is none.
    let mut run = Run::with(gateway(both));
    let head = [CHAT[0], CHAT[1], CHAT[2], ("x-api-key", "stray")];
    assert!(matches!(run.head(&head), Step::AwaitBody { .. }));
}

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
const TEXT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"some words were said\"}}\n\n";

/// What is charged for a stream of which so much came.
fn left_after(thinking: &str, events: &[&str]) -> Record {
    let mut run = Run::with(gateway(both));
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":50,"stream":true,{thinking}"messages":[{{"role":"user","content":"hello"}}]}}"#
    );
    let flight = forward(&mut run, &MESSAGES, &body).flight;
    let _ = served(&flight, "cb", &run.store);
    let _ = run.answer("200", "text/event-stream");
    for event in events {
        let _ = run.exchange.response_chunk(event.as_bytes(), false, || NOW);
    }
    run.finish()
}

#[test]
fn a_stream_that_is_left_before_its_end_is_an_estimate() {
    let record = left_after("", &[START]);
    assert_eq!((record.usage.prompt, record.usage.completion), (9, 0));
    assert_eq!(record.source, Source::Estimated);
    let record = left_after("", &[START, TEXT]);
    assert!((1..20).contains(&record.usage.completion), "{:?}", record.usage);
    // Who thinks unseen may have thought as long as it might.
    let record = left_after(r#""thinking":{"type":"adaptive"},"#, &[START]);
    assert_eq!((record.usage.completion, record.source), (50, Source::Estimated));
}

#[test]
fn a_stream_that_fails_before_it_says_anything_costs_nothing() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    assert_eq!(left_after("", &[START, error]).usage, Usage::default());
    assert_eq!(left_after("", &[START, TEXT, error]).usage.prompt, 9);
}

#[test]
fn a_limit_on_counting_pauses_nobody() {
    let mut run = Run::with(gateway(both));
    let mut head = MESSAGES;
    head[1].1 = "/v1/messages/count_tokens";
    let flight = forward(&mut run, &head, BODY).flight;
    let outside = Outside::new(&run.store, &|| NOW);
    let throttled = [(":status", "429"), ("retry-after", "60")];
    let _ = attempt(&flight, "cb", &throttled, "", &outside).unwrap();
    let mut other = Run { exchange: Exchange::new(gateway(both)), store: run.store };
    let flight = forward(&mut other, &MESSAGES, BODY).flight;
    assert_eq!(&*flight.candidates()[0].backend.name, "b");
}

#[test]
fn a_user_of_messages_is_named_by_their_metadata() {
    let gateway = gateway(|config| {
        both(config);
        config["clients"][0]["limits"] = json!([{ "requests": 1, "per": "day", "by": { "field": "user" } }]);
    });
    let mut run = Run::with(gateway.clone());
    let mut ask = |user: &str| {
        run.exchange = Exchange::new(gateway.clone());
        let _ = run.head(&MESSAGES);
        let body = with(serde_json::from_str(BODY).unwrap(), json!({ "metadata": { "user_id": user } }));
        match run.body(&body.to_string()) {
            Step::Forward(forward) => {
                let _ = served(&forward.flight, "cb", &run.store);
                let _ = run.answer("200", "application/json");
                let body = br#"{"usage":{"input_tokens":3,"output_tokens":9}}"#;
                let _ = run.exchange.response_chunk(body, true, || NOW);
                let _ = run.finish();
                "served".to_owned()
            }
            step => refused(step),
        }
    };
    assert_eq!(ask("ann"), "served");
    assert_eq!((ask("ann"), ask("bob")), ("429 insufficient_quota".to_owned(), "served".to_owned()));
}

#[test]
fn no_tier_of_openais_is_asked_for_at_anthropics_api() {
    let mut run = Run::with(gateway(|config| {
        both(config);
        config["models"][0]["tiers"] = json!({ "flex": "default" });
    }));
    let body = with(serde_json::from_str(BODY).unwrap(), json!({ "service_tier": "flex" })).to_string();
    let flight = forward(&mut run, &MESSAGES, &body).flight;
    // Each once, and none once more as the default tier.
    assert_eq!(flight.candidates().len(), 2);
}
