//! What is reserved for a prompt, wherever it stands, and whose answers teach that.

use super::*;
use crate::estimate::{self, Observed, Subject};
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const OTHER_KEY: &str = "d2a04d71301a8915217dd5faf81d12cffd6cd958a5b2b6b9b9cd4b1c0b3b1d4a";

fn long_text() -> String {
    "The quick brown fox jumps over the lazy dog. ".repeat(200)
}

/// Two clients of one policy, which takes prompts of so many tokens.
fn neighbours(tokens_max: u64) -> Rc<Gateway> {
    gateway(|config| {
        let mut other = config["clients"][0].clone();
        other["name"] = json!("odd");
        other["api_keys"] = json!([{ "sha256": OTHER_KEY }]);
        config["clients"].as_array_mut().unwrap().push(other);
        config["policies"][0]["prompt"] = json!({ "tokens_max": tokens_max });
        config["policies"][0]["request_bytes_max"] = json!(100_000);
        config["clients"][0]["limits"] = json!([{ "tokens": 5000, "per": "minute" }]);
    })
}

#[test]
fn text_is_reserved_for_and_bounded_wherever_it_stands() {
    let text = long_text();
    let cases = [
        (
            "response_format",
            json!({ "type": "json_schema", "json_schema": { "schema": { "description": text } } }),
        ),
        (
            "response_format",
            json!({ "type": "json_schema", "json_schema": { "schema": { "enum": [text] } } }),
        ),
        ("text", json!({ "format": { "type": "json_schema", "schema": { "title": text } } })),
        ("prediction", json!({ "type": "content", "content": text })),
        ("data_sources", json!([{ "type": "azure_search", "parameters": { "role_information": text } }])),
        ("documents", json!([{ "data": text }])),
        ("stop", json!([text])),
        ("tools", json!([{ "type": "function", "function": { "parameters": { "default": text } } }])),
        ("tools", json!([{ "type": "custom", "custom": { "format": { "definition": text } } }])),
        ("functions", json!([{ "description": text }])),
        ("instructions", json!(text)),
        ("suffix", json!(text)),
        ("web_search_options", json!({ "user_location": { "city": text } })),
        ("tool_choice", json!({ "function": { "name": text } })),
        ("chat_template", json!(text)),
        ("x", json!({ "y": { "id": text } })),
    ];
    for (name, value) in cases {
        let mut body: Value = serde_json::from_str(PROMPT).unwrap();
        body[name] = value;
        let claim = |gateway: Rc<Gateway>| {
            let mut run = Run::with(gateway);
            let _ = run.head(&CHAT);
            run.exchange.request_body(body.to_string().as_bytes(), Moment::new(&run.store, NOW))
        };
        let Step::Reserve(claim_found) = claim(neighbours(100_000)) else { panic!("{name}") };
        assert!((1900..2300).contains(&claim_found.usage.prompt), "{name}: {}", claim_found.usage.prompt);
        let Step::ReadLimits(_) = claim(neighbours(1900)) else { panic!("{name}") };
    }
}

/// What an answer to `client` costs by the backend's word, so many times.
fn teach(gateway: &Rc<Gateway>, store: &MemoryStore, client: &str, prompt_tokens: u64) {
    let model = gateway.by_name["gpt-4o"].clone();
    let subject = Subject { model: "gpt-4o", client: &Rc::from(client) };
    let sketch = estimate::sketch([&*json!([{ "role": "user", "content": long_text() }]).to_string()]);
    for _ in 0..200 {
        let observed = Observed { prompt_tokens, produced: None };
        model.lessons.learn(Moment::new(store, NOW), subject, sketch, observed).unwrap();
    }
}

fn long_prompt() -> String {
    json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": long_text() }] }).to_string()
}

#[test]
fn odd_answers_to_one_client_do_not_refuse_its_neighbour() {
    for tokens_max in [2200, 100_000] {
        let gateway = neighbours(tokens_max);
        let mut run = Run::with(gateway.clone());
        teach(&gateway, &run.store, "odd", 50_000);
        let _ = run.head(&CHAT);
        let Step::Reserve(claim) =
            run.exchange.request_body(long_prompt().as_bytes(), Moment::new(&run.store, NOW))
        else {
            panic!()
        };
        assert!((1900..2200).contains(&claim.usage.prompt), "{}", claim.usage.prompt);
    }
}

#[test]
fn what_was_learnt_reserves_more_and_refuses_nobody() {
    let gateway = neighbours(2200);
    let mut run = Run::with(gateway.clone());
    teach(&gateway, &run.store, "web", 50_000);
    let _ = run.head(&CHAT);
    // The policy goes by the table, the reservation by the answers.
    let step = run.exchange.request_body(long_prompt().as_bytes(), Moment::new(&run.store, NOW));
    let Step::Reserve(claim) = step else { panic!("{step:?}") };
    assert!(claim.usage.prompt > 7000, "{}", claim.usage.prompt);
    // A limit that could never have so much is asked for what is sure.
    let grant = limits::reserve(Moment::new(&run.store, NOW), claim);
    assert!(matches!(grant, Ok(Grant::Refused(Denial::NeverFits { .. }, ..))), "{grant:?}");
    let Step::Reserve(claim) = run.exchange.reserved(grant) else { panic!() };
    assert!((1900..2200).contains(&claim.usage.prompt), "{}", claim.usage.prompt);
    assert!(matches!(run.perform(Step::Reserve(claim)), Step::Forward(_)));
    // And what was learnt to be less lets more through.
    let mut run = Run::with(neighbours(1900));
    teach(&run.exchange.draft.gateway, &run.store, "web", 1000);
    let _ = run.head(&CHAT);
    let step = run.exchange.request_body(long_prompt().as_bytes(), Moment::new(&run.store, NOW));
    assert!(matches!(step, Step::Reserve(_)), "{step:?}");
}
