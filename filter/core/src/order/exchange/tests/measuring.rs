//! Which answers show how near a backend is, and what do they change?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Where it is kept what whole answers took.
const PACE: &str = "tollgate/pace/gpt-4o";

const REPORT: &str = r#""usage":{"prompt_tokens":9,"completion_tokens":20}"#;

/// A worker of a gateway whose model is ordered so, with the other backend as its equal.
struct Worker {
    gateway: Rc<Gateway>,
    store: MemoryStore,
}

impl Worker {
    fn new(order_by: &str) -> Self {
        let gateway = gateway(|config| {
            config["clients"][0]["limits"] = json!([]);
            config["clients"][0]["endpoints"] = json!(["*"]);
            config["clients"][0].as_object_mut().unwrap().remove("policy");
            config["models"][0]["order_by"] = json!(order_by);
            config["backends"][0] = json!({ "name": "a", "cluster": "ca", "style": "openai" });
        });
        Self { gateway, store: MemoryStore::default() }
    }

    /// A request comes.
    fn sent(&mut self, path: &str, body: &str, now: Duration) -> (Exchange, Forward) {
        let mut exchange = Exchange::new(self.gateway.clone());
        let head = [CHAT[0], (":path", path), CHAT[2]];
        let _ = exchange.request_head(&headers(&head), false, Moment::new(&self.store, now));
        match exchange.request_body(body.as_bytes(), Moment::new(&self.store, now)) {
            Step::Forward(forward) => (exchange, forward),
            Step::Reserve(claim) => {
                let grant = limits::reserve(Moment::new(&self.store, now), claim);
                let Step::Forward(forward) = exchange.reserved(grant) else { panic!("{path}") };
                (exchange, forward)
            }
            step => panic!("{path}: {step:?}"),
        }
    }

    /// A request is answered so by the first backend, a second for each of `seconds` after it came. Answers who that was.
    fn answered(&mut self, path: &str, body: &str, answer: &str, seconds: u64, now: Duration) -> String {
        let (mut exchange, forward) = self.sent(path, body, now);
        let first = forward.flight.candidates()[0].backend.clone();
        let begun = forward.flight.begin(first.cluster.as_bytes(), &Outside::new(&self.store, &|| now));
        drop(begun.unwrap());
        let kind = if answer.starts_with("data:") { "text/event-stream" } else { "application/json" };
        let head = headers(&[(":status", "200"), ("content-type", kind)]);
        let _ = exchange.response_head(&head, false, || Origin::Backend);
        let then = now + Duration::from_secs(seconds);
        let _ = exchange.response_chunk(answer.as_bytes(), true, || then);
        exchange.note_first_token(&self.store);
        // The client may take its time.
        let end = then + Duration::from_secs(1000);
        let _ = exchange.finish(Moment::new(&self.store, end), || Interruption::Client);
        first.name.to_string()
    }

    fn has_learnt(&self) -> bool {
        !self.store.load(PACE).unwrap().value.is_empty()
    }
}

#[test]
fn whole_answers_of_each_kind_are_measured() {
    let chat = format!(r#"{{"choices":[],{REPORT}}}"#);
    let response = format!(
        r#"{{"status":"completed",{}}}"#,
        REPORT.replace("prompt", "input").replace("completion", "output")
    );
    let embedding = r#"{"data":[],"usage":{"prompt_tokens":9,"total_tokens":9}}"#;
    let text = r#"{"model":"gpt-4o","prompt":"hello"}"#;
    let input = r#"{"model":"gpt-4o","input":"hello"}"#;
    let image = r#"{"model":"gpt-4o","prompt":"a cat"}"#;
    for (path, body, answer, is_measured) in [
        ("/v1/chat/completions", PROMPT, &*chat, true),
        ("/v1/completions", text, &chat, true),
        ("/v1/responses", input, &response, true),
        ("/v1/embeddings", input, embedding, true),
        ("/v1/images/generations", image, r#"{"data":[]}"#, false),
        // Its stream shows the first token.
        ("/v1/chat/completions", STREAM, std::str::from_utf8(DELTA).unwrap(), false),
        // It has failed, and it has only begun.
        ("/v1/responses", input, r#"{"status":"failed","error":{"message":"no"}}"#, false),
        ("/v1/responses", input, r#"{"id":"resp_1","status":"queued","background":true}"#, false),
    ] {
        for order_by in ["latency", "time_to_first_token"] {
            let mut worker = Worker::new(order_by);
            let _ = worker.answered(path, body, answer, 1, NOW);
            assert_eq!(worker.has_learnt(), is_measured && order_by == "latency", "{path} {answer}");
        }
    }
}

#[test]
fn a_backend_that_takes_ten_times_as_long_is_left() {
    let mut worker = Worker::new("latency");
    let mut first = |now| {
        let (_, forward) = worker.sent("/v1/chat/completions", PROMPT, now);
        let is_slow = forward.flight.candidates()[0].backend.name.as_ref() == "a";
        let answer = format!(r#"{{"choices":[],{REPORT}}}"#);
        worker.answered("/v1/chat/completions", PROMPT, &answer, if is_slow { 10 } else { 1 }, now)
    };
    // Nothing is known; then one in four goes to see how the other is.
    let at = |number| NOW + Duration::from_nanos(number);
    let until_seen = (0..100).map(|number| first(at(number))).position(|backend| backend == "b");
    assert!(until_seen.is_some_and(|requests| requests > 0), "{until_seen:?}");
    let later = Duration::from_secs(11);
    assert!((0..100).all(|number| first(at(number) + later) == "b"));
}
