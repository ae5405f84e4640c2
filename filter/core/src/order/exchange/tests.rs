mod admitting;
mod attempts;
mod batches;
mod body;
mod closed;
mod cost;
mod doors;
mod estimating;
mod fitting;
mod forms;
mod head;
mod holding;
mod identity;
mod keyless;
mod measuring;
mod messages;
mod naming;
mod ordering;
mod pinned;
mod portable;
mod prices;
mod queueing;
mod refusals;
mod reserving;
mod returning;
mod sent;
mod sharing;
mod spilling;
mod status;
mod stored;
mod throttling;
mod tiers;
mod users;

use super::*;
use crate::answer::Answer;
use crate::attempt::{Attempt, Begun, Flight, Heard, Outgoing, Refused, Waiting};
use crate::capacity;
use crate::config;
use crate::decision::Why;
use crate::endpoint::Operation;
use crate::finding::{Effect, Finding};
use crate::gateway::BodyRoom;
use crate::ledger::{Outcome, Pin, Source};
use crate::limits::{self, Claim, Inquiry, Part, Standing};
use crate::route::{Cooldown, Cooldowns};
use crate::store::{MemoryStore, Moment, Outside, Store};
use crate::tokens::Usage;
use proptest::prelude::*;
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: Duration = Duration::from_secs(1_795_000_000);

const BUDGET: u64 = 10_000;

fn gateway(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    let mut config = json!({
        "clients": [{
            "name": "web",
            "api_keys": [{ "sha256": "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683" }],
            "models": ["gpt-4o"],
            "policy": "p",
            "limits": [{ "tokens": BUDGET, "per": "minute" }],
        }],
        "policies": [{ "name": "p", "max_tokens": { "max": 100, "over": "clamp" }, "request_bytes_max": 1000 }],
        "models": [
            { "name": "gpt-4o", "backends": [{ "backend": "a", "deployment": "d" }, { "backend": "b", "deployment": "e" }] },
            { "name": "secret", "backends": [{ "backend": "b" }] },
        ],
        "backends": [
            { "name": "a", "cluster": "ca", "style": "azure", "api_version": "2024-10-21",
              "credential": { "header": "api-key", "env": "A" } },
            { "name": "b", "cluster": "cb", "style": "openai" },
        ],
    });
    edit(&mut config);
    Rc::new(config::from_value(config, &|name| Some(format!("secret-{name}"))).unwrap())
}

/// The object with these members as well.
fn with(mut object: Value, more: Value) -> Value {
    let (Some(members), Value::Object(more)) = (object.as_object_mut(), more) else { panic!() };
    members.extend(more);
    object
}

/// One stream, driven as the filter drives it.
struct Run {
    exchange: Exchange,
    store: MemoryStore,
}

/// An attempt at this cluster, by a worker that knows nothing of others.
fn begin<'f>(flight: &'f Rc<Flight>, cluster: &[u8]) -> Result<Begun<'f>, Refused> {
    flight.begin(cluster, &Outside::new(&MemoryStore::default(), &|| NOW))
}

/// Envoy goes to this cluster, which answers so: with a body in one piece, if with any.
fn attempt(
    flight: &Rc<Flight>,
    cluster: &str,
    head: &[(&str, &str)],
    body: &str,
    outside: &Outside<'_>,
) -> Result<Heard, Denial> {
    let begun = flight.begin(cluster.as_bytes(), outside).map_err(|refused| refused.denial)?;
    let mut attempt = begun.attempt;
    let mut heard = attempt.response_head(headers(head), body.is_empty(), outside);
    if !body.is_empty() {
        let read = |bytes: usize| body.as_bytes()[..bytes].to_vec();
        let more = attempt.response_body(&Waiting { bytes: body.len(), end: true, read: &read }, outside);
        let (remove, set) = ([heard.remove, more.remove].concat(), [heard.set, more.set].concat());
        let counts = heard.counts.into_iter().chain(more.counts).collect();
        let faults = [begun.faults, heard.faults, more.faults].concat();
        heard = Heard { remove, set, counts, faults, ..more };
    }
    Ok(heard)
}

/// Envoy goes to this cluster, and all is well.
fn served(flight: &Rc<Flight>, cluster: &str, store: &dyn Store) -> Heard {
    attempt(flight, cluster, &[(":status", "200")], "", &Outside::new(store, &|| NOW)).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

const CHAT: [(&str, &str); 4] = [
    (":method", "POST"),
    (":path", "/v1/chat/completions"),
    ("authorization", "Bearer key"),
    ("content-length", "1"),
];

impl Run {
    fn new() -> Self {
        Self::with(gateway(|_| {}))
    }

    fn with(gateway: Rc<Gateway>) -> Self {
        Self { exchange: Exchange::new(gateway), store: MemoryStore::default() }
    }

    /// Asks the store what is to be asked.
    fn perform(&mut self, step: Step) -> Step {
        match step {
            Step::Reserve(claim) => {
                let grant = limits::reserve(Moment::new(&self.store, NOW), claim);
                let next = self.exchange.reserved(grant);
                self.perform(next)
            }
            Step::ReadLimits(inquiry) => {
                let report = limits::read(Moment::new(&self.store, NOW), &inquiry);
                self.exchange.limits_read(report, NOW)
            }
            step => step,
        }
    }

    fn head(&mut self, pairs: &[(&str, &str)]) -> Step {
        let step = self.exchange.request_head(&headers(pairs), false, Moment::new(&self.store, NOW));
        self.perform(step)
    }

    fn end_of_head(&mut self) -> Step {
        let step = self.exchange.request_head(&headers(&CHAT), true, Moment::new(&self.store, NOW));
        self.perform(step)
    }

    /// Goes through to the step after the reservation.
    fn body(&mut self, body: &str) -> Step {
        let step = self.exchange.request_body(body.as_bytes(), Moment::new(&self.store, NOW));
        self.perform(step)
    }

    fn send(&mut self, body: &str) -> Forward {
        let _ = self.head(&CHAT);
        match self.body(body) {
            Step::Forward(forward) => forward,
            step => panic!("{step:?}"),
        }
    }

    fn answer(&mut self, status: &str, content_type: &str) -> ResponseEdits {
        let pairs = [(":status", status), ("content-type", content_type), ("x-ms-region", "x")];
        self.exchange.response_head(&headers(&pairs), false, || Origin::Backend)
    }

    fn finish(&mut self) -> Record {
        let finished = self
            .exchange
            .finish(Moment::new(&self.store, NOW + Duration::from_secs(1)), || Interruption::Client);
        for settlement in finished.settlements {
            limits::settle(Moment::new(&self.store, NOW), &settlement).unwrap();
        }
        finished.record
    }

    /// What is left of the budget.
    fn left(&self) -> u64 {
        left(&self.store)
    }
}

fn claim_of(gateway: &Gateway, prompt: u64) -> Claim {
    let usage = Usage { prompt, ..Usage::default() };
    let budget = gateway.roster[0].budget.clone();
    let operation = Operation::ChatCompletions;
    Claim { budget, part: Part::All, model: None, operation, usage, cost: 0 }
}

fn left(store: &dyn Store) -> u64 {
    let one = gateway(|_| {}).roster[0].clone();
    let inquiry = Inquiry { budget: one.budget.clone(), model: None, operation: Operation::ChatCompletions };
    limits::read(Moment::new(store, NOW), &inquiry).unwrap().standing.tokens.unwrap().remaining
}

#[track_caller]
fn refused(step: Step) -> String {
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    format!("{} {}", answer.status, body["error"]["code"].as_str().unwrap())
}

const PROMPT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;
const DELTA: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\n";
const COUNTED: &[u8] = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":20}}\n\n";
const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

/// All that a client can be limited in, more than it will need.
fn every_limit(config: &mut Value) {
    config["clients"][0]["group"] = json!("sales");
    config["clients"][0]["limits"] = json!([
        { "tokens": BUDGET, "per": "minute" },
        { "requests": 100, "per": "day" },
        { "cost": 5, "per": "month" },
        { "concurrent": 10 },
    ]);
    config["groups"] = json!([{
        "name": "sales",
        "limits": [{ "tokens": BUDGET, "per": "week" }, { "concurrent": 20 }, { "requests": 1, "per": "hour", "shadow": true }],
    }]);
    config["models"][0]["prices"] = json!({ "prompt": 2, "completion": 8 });
    config["models"][0]["backends"][0]["prices"] = json!({ "prompt": 0, "completion": 1 });
}

/// What the client is told of its limits, in millionths where it is money.
fn used(run: &mut Run, gateway: &Rc<Gateway>) -> Vec<u64> {
    used_by(run, gateway, "key")
}

/// The same for whoever has this key.
fn used_by(run: &mut Run, gateway: &Rc<Gateway>, key: &str) -> Vec<u64> {
    run.exchange = Exchange::new(gateway.clone());
    let step = run.head(&[(":method", "GET"), (":path", "/tollgate/v1/usage"), ("api-key", key)]);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    let micros = |limit: &Value| match limit["used"].as_u64() {
        Some(used) => used,
        None => (limit["used"].as_f64().unwrap() * 1e6).round() as u64,
    };
    list["limits"].as_array().unwrap().iter().map(micros).collect()
}

/// What Envoy may do next to a stream.
#[derive(Clone, Debug)]
enum Call {
    Head(usize),
    Grows(usize),
    Body(usize),
    Reserved,
    Attempt(bool),
    Answer(usize),
    Chunk(usize, bool),
    Finish,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        (0..3usize).prop_map(Call::Head),
        (0..2000usize).prop_map(Call::Grows),
        (0..4usize).prop_map(Call::Body),
        Just(Call::Reserved),
        any::<bool>().prop_map(Call::Attempt),
        (0..4usize).prop_map(Call::Answer),
        (0..4usize, any::<bool>()).prop_map(|(chunk, end)| Call::Chunk(chunk, end)),
        Just(Call::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever order the callbacks come in: once it is finished, what was taken from the budget is what the record
    /// says was used.
    #[test]
    fn settled_exactly_once(calls in prop::collection::vec(call(), 0..12)) {
        let gateway = gateway(|config| {
            every_limit(config);
            // What it would refuse, a shadow does not count: here there is room for what is granted out of turn.
            config["groups"][0]["limits"][2]["requests"] = json!(100);
        });
        let mut run = Run::with(gateway.clone());
        let mut flight = None;
        let (mut tokens, mut micros, mut requests) = (0, 0, 0);
        for call in calls.into_iter().chain([Call::Finish]) {
            match call {
                Call::Head(which) => {
                    let path = ["/v1/chat/completions", "/v1/models", "/v1/x"][which];
                    let _ = run.head(&[CHAT[0], (":path", path), CHAT[2]]);
                }
                Call::Grows(bytes) => drop(run.exchange.request_body_grows(bytes)),
                Call::Body(which) => {
                    let body = [PROMPT, STREAM, "{}", r#"{"model":"gpt-4o","max_tokens":1}"#][which];
                    if let Step::Forward(forward) = run.body(body) {
                        flight = Some(forward.flight);
                    }
                }
                Call::Reserved => {
                    let claim = claim_of(&gateway, 50);
                    let _ = run.exchange.reserved(limits::reserve(Moment::new(&run.store, NOW), claim));
                }
                Call::Attempt(first) => {
                    if let Some(flight) = &flight {
                        let _ = begin(flight, if first { b"ca" } else { b"cb" });
                    }
                }
                Call::Answer(which) => {
                    let status = ["200", "200", "429", "503"][which];
                    let kind = ["application/json", "text/event-stream", "application/json", "text/plain"][which];
                    let pairs = [(":status", status), ("content-type", kind)];
                    let _ = run.exchange.response_head(&headers(&pairs), false, || Origin::Proxy);
                }
                Call::Chunk(which, end) => {
                    let chunk: &[u8] = [DELTA, COUNTED, br#"{"usage":{"prompt_tokens":5}}"#, b"data: {\"us"][which];
                    let _ = run.exchange.response_chunk(chunk, end, || NOW);
                }
                Call::Finish => {
                    let record = run.finish();
                    tokens += record.usage.total();
                    micros += record.price_micros.unwrap_or(0);
                    requests += u64::from(record.served.is_some());
                }
            }
        }
        let shadowed = requests;
        let expected = [tokens, requests, micros, 0, tokens, 0, shadowed];
        prop_assert_eq!(used(&mut run, &gateway), expected);
    }
}
