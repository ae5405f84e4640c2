use super::*;
use crate::answer::Answer;
use crate::attempt::{Attempt, Begun, Flight, Heard, Outgoing, Refused, Waiting};
use crate::capacity;
use crate::config;
use crate::decision::Why;
use crate::endpoint::Operation;
use crate::finding::{Effect, Finding};
use crate::gateway::BodyRoom;
use crate::ledger::{Detail, Outcome, Pin, Source};
use crate::limits::{self, Claim, Inquiry, Part, Standing};
use crate::route::{Cooldown, Cooldowns};
use crate::store::{MemoryStore, Outside, Store};
use crate::tokens::Usage;
use proptest::prelude::*;
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

mod admitting;
mod attempts;
mod cost;
mod doors;
mod estimating;
mod fitting;
mod forms;
mod holding;
mod pinned;
mod portable;
mod prices;
mod spilling;
mod status;
mod stored;
mod throttling;

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
                let grant = limits::reserve(&self.store, claim, NOW);
                let next = self.exchange.reserved(grant);
                self.perform(next)
            }
            Step::Look(inquiry) => {
                let report = limits::look(&self.store, &inquiry, NOW);
                self.exchange.looked(report, NOW)
            }
            step => step,
        }
    }

    fn head(&mut self, pairs: &[(&str, &str)]) -> Step {
        let step = self.exchange.request_head(&headers(pairs), false, &self.store, NOW);
        self.perform(step)
    }

    fn end_of_head(&mut self) -> Step {
        let step = self.exchange.request_head(&headers(&CHAT), true, &self.store, NOW);
        self.perform(step)
    }

    /// Goes through to the step after the reservation.
    fn body(&mut self, body: &str) -> Step {
        let step = self.exchange.request_body(body.as_bytes(), &self.store, NOW);
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
        let finished =
            self.exchange.finish(&self.store, NOW + Duration::from_secs(1), || Interruption::Client);
        for settlement in finished.settlements {
            limits::settle(&self.store, &settlement, NOW).unwrap();
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
    limits::look(store, &inquiry, NOW).unwrap().standing.tokens.unwrap().remaining
}

#[track_caller]
fn refused(step: Step) -> String {
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    format!("{} {}", answer.status, body["error"]["code"].as_str().unwrap())
}

const PROMPT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;

#[test]
fn the_head_is_decided_before_the_body_is_read() {
    let with = |pairs: &[(&str, &str)]| refused(Run::new().head(pairs));
    assert_eq!(with(&[(":method", "POST"), (":path", "/v1/nothing")]), "404 unknown_url");
    assert_eq!(with(&CHAT[..2]), "401 missing_api_key");
    assert_eq!(with(&[CHAT[0], CHAT[1], ("api-key", "other")]), "401 invalid_api_key");
    let no_body = Run::new().end_of_head();
    assert_eq!(refused(no_body), "400 missing_required_parameter");
}

#[test]
fn a_client_sees_the_models_it_may_use() {
    let step = Run::new().head(&[(":method", "GET"), (":path", "/v1/models"), ("api-key", "key")]);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["data"][0]["id"], "gpt-4o");
}

#[test]
fn credentials_and_internal_headers_are_stripped_at_once() {
    let mut pairs = CHAT.to_vec();
    pairs.extend([("x-tollgate-candidates", "x"), ("accept-encoding", "gzip"), ("x-request-id", "1")]);
    let Step::AwaitBody { strip } = Run::new().head(&pairs) else { panic!() };
    assert_eq!(strip, ["authorization", "x-tollgate-candidates", "accept-encoding"]);
}

#[test]
fn a_header_passes_only_if_it_is_known_or_configured() {
    let mut run = Run::with(gateway(|config| {
        config["pass_headers"] = json!(["x-corp-*"]);
        config["pass_answer_headers"] = json!(["x-ms-region"]);
    }));
    let mut pairs = CHAT.to_vec();
    pairs.extend([("x-corp-team", "a"), ("x-real-ip", "b"), ("x-real-ip", "c")]);
    let Step::AwaitBody { strip } = run.head(&pairs) else { panic!() };
    assert_eq!(strip, ["authorization", "x-real-ip"]);
    let Step::Forward(_) = run.body(PROMPT) else { panic!() };
    assert_eq!(run.answer("200", "application/json").remove, Vec::<String>::new());
}

#[test]
fn the_providers_name_of_an_answer_is_told_and_written_down() {
    for (status, origin, told) in
        [("200", Origin::Backend, true), ("400", Origin::Backend, true), ("503", Origin::Proxy, false)]
    {
        let mut run = Run::new();
        let _ = run.send(PROMPT);
        let pairs = [(":status", status), ("apim-request-id", "a-1"), ("x-request-id", "req_1")];
        let edits = run.exchange.response_head(&headers(&pairs), false, || origin);
        assert_eq!(edits.remove, ["apim-request-id", "x-request-id"]);
        let id = edits.set.iter().find(|(name, _)| *name == "x-tollgate-provider-request-id");
        let expected = told.then_some("req_1");
        assert_eq!(id.map(|(_, id)| id.as_str()), expected, "{status}");
        assert_eq!(run.finish().provider_request_id.as_deref(), expected, "{status}");
    }
}

#[test]
fn the_body_is_decided_before_anything_is_sent() {
    let with = |body: &str| {
        let mut run = Run::new();
        let _ = run.head(&CHAT);
        let code = refused(run.body(body));
        assert_eq!(run.finish().usage, Usage::default());
        assert_eq!(run.left(), BUDGET);
        code
    };
    assert_eq!(with("{"), "400 invalid_json");
    assert_eq!(with("{}"), "400 missing_required_parameter");
    assert_eq!(with(r#"{"model":"secret"}"#), "403 model_not_allowed");
    assert_eq!(with(r#"{"model":"no such"}"#), "403 model_not_allowed");
    assert_eq!(with(r#"{"model":"gpt-4o","n":101}"#), "429 request_exceeds_limit");
}

#[test]
fn a_body_is_refused_as_soon_as_it_is_too_long() {
    let mut run = Run::new();
    let _ = run.head(&CHAT);
    assert!(run.exchange.request_body_grows(1000).is_none());
    let step = run.exchange.request_body_grows(1001).unwrap();
    assert_eq!(refused(run.perform(step)), "413 request_too_large");
}

#[test]
fn the_path_names_the_model_in_azures_style() {
    let mut run = Run::new();
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let _ = run.head(&[CHAT[0], (":path", path), CHAT[2]]);
    let step = run.body(r#"{"model":"secret","max_tokens":5}"#);
    let Step::Forward(forward) = step else { panic!("{step:?}") };
    // A backend of another style reads the model from the body.
    let patch = forward.patch.unwrap();
    assert_eq!(String::from_utf8(patch.bytes).unwrap(), r#"{"model":"e""#);
    assert_eq!(forward.content_length, None);
}

#[test]
fn a_client_is_told_what_its_policy_changed() {
    let mut run = Run::new();
    let forward = run.send(r#"{"model":"gpt-4o","max_tokens":101}"#);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert_eq!(patch, r#"{"model":"e","max_tokens":100"#);
    let edits = run.answer("200", "application/json");
    assert!(edits.set.contains(&("x-tollgate-clamped", "max_tokens=100".to_owned())), "{edits:?}");
    let findings = run.finish().findings;
    assert_eq!(findings.iter().filter_map(Finding::clamped).collect::<Vec<_>>(), ["max_tokens=100"]);
    let mut run = Run::new();
    let _ = run.send(r#"{"model":"gpt-4o","max_tokens":100}"#);
    assert!(run.answer("200", "application/json").set.iter().all(|(name, _)| *name != "x-tollgate-clamped"));
}

#[test]
fn a_refusal_is_the_rules_that_made_it_and_nothing_was_changed_then() {
    let forbids = |config: &mut Value| config["policies"][0]["seed"] = json!("forbid");
    for (body, code, by) in [
        // Its cap would have been lowered, had it gone.
        (r#"{"model":"gpt-4o","max_tokens":101,"seed":1}"#, "400 parameter_not_allowed", Some("seed")),
        (r#"{"model":"gpt-4o","max_tokens":"x"}"#, "400 invalid_type", None),
    ] {
        let mut run = Run::with(gateway(forbids));
        let _ = run.head(&CHAT);
        assert_eq!(refused(run.body(body)), code);
        let expected: Vec<_> = by.map(|rule| Finding { rule, effect: Effect::Refused }).into_iter().collect();
        assert_eq!(run.finish().findings, expected, "{body}");
    }
}

#[test]
fn names_of_unknown_fields_are_written_down() {
    let with = |word: &str| {
        let word = word.to_owned();
        Run::with(gateway(move |config| config["policies"][0]["unknown_fields"] = json!(word)))
    };
    let unknown = |mut run: Run| {
        let details = run.finish().details();
        details.into_iter().find(|(name, _)| *name == "unknown_fields").map(|(_, names)| names)
    };
    let body = r#"{"model":"gpt-4o","top_k":1}"#;
    let names = Some(Detail::Words(vec!["top_k".to_owned()]));
    let mut run = with("refuse");
    let _ = run.head(&CHAT);
    assert_eq!(refused(run.body(body)), "400 unknown_parameter");
    assert_eq!(unknown(run), names);
    let mut run = with("audit");
    run.send(body);
    assert_eq!(unknown(run), names);
    let mut run = with("pass");
    run.send(body);
    assert_eq!(unknown(run), None);
}

#[test]
fn an_audit_sends_what_the_client_wrote_and_reserves_for_it() {
    let mut run = Run::with(gateway(|config| {
        config["policies"][0]["mode"] = json!("audit");
        config["policies"][0]["seed"] = json!("forbid");
    }));
    let forward = run.send(r#"{"model":"gpt-4o","max_tokens":300,"seed":1}"#);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert_eq!(patch, r#"{"model":"e""#);
    assert_eq!(run.left(), BUDGET - 300);
    let edits = run.answer("200", "application/json");
    assert!(edits.set.iter().all(|(name, _)| *name != "x-tollgate-clamped"));
    let record = run.finish();
    let details: Vec<_> = record.details().into_iter().map(|(name, _)| name).collect();
    assert!(details.contains(&"would_refuse") && details.contains(&"would_clamp"), "{details:?}");
}

#[test]
fn a_body_announced_too_long_is_refused_from_the_headers() {
    for (length, is_refused) in [("1000", false), ("1001", true), ("18446744073709551615", true)] {
        let step = Run::new().head(&[CHAT[0], CHAT[1], CHAT[2], ("content-length", length)]);
        match is_refused {
            true => assert_eq!(refused(step), "413 request_too_large", "{length}"),
            false => assert!(matches!(step, Step::AwaitBody { .. }), "{length}"),
        }
    }
}

#[test]
fn a_forced_stream_is_asked_for_its_usage_like_any_other() {
    let mut run = Run::with(gateway(|config| config["policies"][0]["stream"] = json!("force")));
    let forward = run.send(PROMPT);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert!(patch.contains(r#""stream":true"#) && patch.contains("include_usage"), "{patch}");
    let _ = run.answer("200", "text/event-stream");
    assert!(run.finish().stream);
}

#[test]
fn a_models_policy_takes_the_clients_place() {
    let models = |config: &mut Value| {
        let policy =
            json!({ "name": "q", "max_tokens": { "max": 7, "over": "clamp" }, "request_bytes_max": 60 });
        config["policies"].as_array_mut().unwrap().push(policy);
        config["clients"][0]["policy_by_model"] = json!({ "gpt-4o": "q" });
    };
    let mut run = Run::with(gateway(models));
    let forward = run.send(r#"{"model":"gpt-4o"}"#);
    assert!(String::from_utf8(forward.patch.unwrap().bytes).unwrap().contains(r#""max_tokens":7"#));
    let mut run = Run::with(gateway(models));
    let _ = run.head(&CHAT);
    // Before the model is known, the client's longest bound holds.
    assert!(run.exchange.request_body_grows(1000).is_none());
    assert_eq!(refused(run.body(PROMPT)), "413 request_too_large");
}

#[test]
fn each_attempt_has_its_own_path_and_credential() {
    let forward = Run::new().send(PROMPT);
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    assert_eq!(departure.path, "/openai/deployments/d/chat/completions?api-version=2024-10-21");
    assert_eq!(departure.set, Some(("api-key", "secret-A")));
    let departure = begin(&forward.flight, b"cb").unwrap().departure;
    assert_eq!((departure.path.as_str(), departure.set), ("/v1/chat/completions", None));
    assert_eq!(departure.remove, ["api-key"]);
    assert_eq!(&*forward.flight.last_tried().unwrap().backend.name, "b");
    assert_eq!(begin(&forward.flight, b"cc").unwrap_err().denial, Denial::Unplanned);
}

#[test]
fn a_pausing_backend_is_left_out_and_when_all_pause_nothing_stays_reserved() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let targets = forward.flight.candidates().to_vec();
    let pause = Cooldown { wait: Duration::from_secs(5), is_told: true };
    Cooldowns::note(Moment::new(&run.store, NOW), &targets[0], pause).unwrap();
    run.exchange = Exchange::new(gateway(|_| {}));
    assert_eq!(run.send(PROMPT).flight.candidates(), &targets[1..]);
    Cooldowns::note(Moment::new(&run.store, NOW), &targets[1], pause).unwrap();
    let before = run.left();
    run.exchange = Exchange::new(gateway(|_| {}));
    let _ = run.head(&CHAT);
    assert_eq!(refused(run.body(PROMPT)), "429 backends_throttled");
    assert!(run.left() < before);
    assert_eq!(run.finish().outcome, Outcome::Denied("backends_throttled"));
    assert_eq!(run.left(), before);
}

#[test]
fn a_broken_store_does_what_the_configuration_says() {
    let with = |on_store_failure: &str| {
        let mut run = Run::with(gateway(|config| config["on_store_failure"] = json!(on_store_failure)));
        run.store.break_with(Some(StoreFault::Unavailable));
        let _ = run.head(&CHAT);
        let step = run.body(PROMPT);
        assert_eq!(run.exchange.faults(), Some((Series::StoreFaults, 3)));
        step
    };
    assert!(matches!(with("allow"), Step::Forward(_)));
    assert_eq!(refused(with("deny")), "503 store_unavailable");
}

#[test]
fn the_client_is_charged_what_the_answer_says() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    // The prompt is sketched at 8 tokens, the cap is 100.
    assert_eq!(run.left(), BUDGET - 108);
    let edits = run.answer("200", "application/json");
    assert_eq!(edits.remove, ["x-ms-region"]);
    assert_eq!(
        edits.set[..2],
        [
            ("x-ratelimit-limit-tokens", BUDGET.to_string()),
            ("x-ratelimit-remaining-tokens", (BUDGET - 108).to_string()),
        ]
    );
    let _ = run.exchange.response_chunk(br#"{"usage":{"prompt_tokens":9,"completion"#, false, || NOW);
    let _ = run.exchange.response_chunk(br#"_tokens":20}}"#, true, || NOW);
    let record = run.finish();
    assert_eq!((record.outcome, record.source), (Outcome::Served, Source::Reported));
    assert_eq!((record.usage.prompt, record.usage.completion), (9, 20));
    assert_eq!(run.left(), BUDGET - 29);
}

#[test]
fn an_error_costs_nothing() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let _ = begin(&forward.flight, b"ca").unwrap();
    let _ = run.answer("429", "application/json");
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.served.map(|served| served.backend.to_string())),
        (Outcome::BackendError, Some("a".to_owned()))
    );
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn envoys_own_error_gets_openais_shape() {
    // JSON it is by `local_reply_config`.
    for content_type in ["text/plain", "application/json"] {
        let mut run = Run::new();
        let _ = run.send(PROMPT);
        let pairs = [(":status", "503"), ("content-type", content_type), ("content-length", "19")];
        let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Proxy);
        let Output::Replaced(body) = run.exchange.response_chunk(b"no healthy upstream", true, || NOW) else {
            panic!("{content_type}")
        };
        assert!(edits.set.contains(&("content-length", body.len().to_string())));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "backend_unavailable");
        assert_eq!(run.finish().outcome, Outcome::ProxyError);
        assert_eq!(run.left(), BUDGET);
    }
}

#[test]
fn what_an_attempt_refuses_is_told_as_it_is() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    let pairs = [(":status", "503"), ("content-type", "application/json"), ("content-length", "2")];
    let _ = run.exchange.response_head(&headers(&pairs), false, || Origin::Attempt);
    assert!(matches!(run.exchange.response_chunk(b"{}", true, || NOW), Output::Same));
}

#[test]
fn envoys_own_error_that_is_only_a_head_is_answered_anew() {
    for is_sent in [true, false] {
        let mut run = Run::new();
        if is_sent {
            let _ = run.send(PROMPT);
        } else {
            let _ = run.head(&CHAT);
        }
        let edits = run.exchange.response_head(&headers(&[(":status", "503")]), true, || Origin::Proxy);
        // A length without a body would keep the client waiting.
        assert_eq!(edits.set, []);
        let answer = edits.instead.unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["error"]["code"]), (503, &json!("backend_unavailable")));
        let tells_budget = answer.headers.iter().any(|(name, _)| *name == "x-ratelimit-remaining-tokens");
        assert_eq!(tells_budget, is_sent);
        assert_eq!(run.finish().outcome, Outcome::ProxyError);
        assert_eq!(run.left(), BUDGET);
    }
}

#[test]
fn a_missing_deployment_is_told_with_one_status_however_its_answer_ends() {
    for end in [true, false] {
        let mut run = Run::new();
        let flight = run.send(PROMPT).flight;
        let outside = Outside::new(&run.store, &|| NOW);
        let missing = r#"{"error":{"code":"DeploymentNotFound"}}"#;
        let _ = attempt(&flight, "cb", &[(":status", "404")], missing, &outside).unwrap();
        let pairs = [(":status", "404"), ("content-type", "application/json")];
        let edits = run.exchange.response_head(&headers(&pairs), end, || Origin::Backend);
        let statuses: Vec<_> = edits.set.iter().filter(|(name, _)| *name == ":status").collect();
        match edits.instead {
            Some(answer) => {
                // The status is the answer's own, and its head must not say it a second time.
                assert_eq!((answer.status, statuses.len()), (503, 0));
                assert!(answer.headers.iter().all(|(name, _)| !name.starts_with(':')), "{answer:?}");
                assert!(answer.headers.iter().any(|(name, _)| *name == "x-ratelimit-remaining-tokens"));
            }
            None => assert_eq!((end, statuses), (false, vec![&(":status", "503".to_owned())])),
        }
        assert_eq!(run.finish().outcome, Outcome::Denied("deployment_not_found"));
        assert_eq!(run.left(), BUDGET);
    }
}

#[test]
fn only_a_credential_surely_refused_makes_a_pause() {
    for (status, body, pauses) in [
        (401, "", true),
        (403, r#"{"error":{"code":"AuthenticationTypeDisabled","message":"no"}}"#, true),
        (403, "<html>blocked</html>", false),
    ] {
        let mut run = Run::new();
        let flight = run.send(PROMPT).flight;
        let first = flight.candidates()[0].clone();
        assert!(flight.candidates().len() > 1);
        let outside = Outside::new(&run.store, &|| NOW);
        let head = [(":status", &*status.to_string())];
        let heard = attempt(&flight, &first.backend.cluster, &head, body, &outside).unwrap();
        assert!(heard.misconfigured.is_some(), "{status} {body}");
        let pause = Cooldowns::load(&run.store).unwrap().remaining(first.number(), NOW);
        assert_eq!(!pause.is_zero(), pauses, "{status} {body}");
    }
}

#[test]
fn a_refused_credential_is_no_fault_of_the_clients() {
    for (status, body, refused) in [
        (401, "", true),
        (401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key."}}"#, true),
        (
            403,
            r#"{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}"#,
            true,
        ),
        (403, r#"{"error":{"code":403,"message":"Your input was flagged"}}"#, false),
        (403, "", true),
        (403, "<html>blocked</html>", true),
        (403, r#"{"error":{"code":403,"message":"no","metadata":{"reasons":["violence"]}}}"#, false),
        (403, r#"{"error":{"code":"content_filter","message":"no"}}"#, false),
    ] {
        let mut run = Run::new();
        let flight = run.send(PROMPT).flight;
        let outside = Outside::new(&run.store, &|| NOW);
        let heard = attempt(&flight, "cb", &[(":status", &status.to_string())], body, &outside).unwrap();
        let counted = heard.counts.contains(&Series::RefusedCredentials { backend: "b".into() });
        let goes_on = heard.set.contains(&("x-tollgate-elsewhere", "1".to_owned()));
        assert_eq!((counted, goes_on), (refused, refused), "{status} {body}");
        let edits = run.answer(&status.to_string(), "application/json");
        let told = edits.set.iter().any(|(name, value)| *name == ":status" && value == "503");
        assert_eq!(told, refused, "{status} {body}");
        let outcome =
            if refused { Outcome::Denied("backend_credential_refused") } else { Outcome::BackendError };
        assert_eq!(run.finish().outcome, outcome);
        assert_eq!(run.left(), BUDGET);
    }
}

#[test]
fn what_is_granted_out_of_turn_is_given_back() {
    let mut run = Run::new();
    let reserve = |run: &mut Run| {
        let grant = limits::reserve(&run.store, claim_of(&gateway(|_| {}), 500), NOW);
        assert_eq!(refused(run.exchange.reserved(grant)), "500 internal_error");
    };
    reserve(&mut run);
    let _ = run.send(PROMPT);
    reserve(&mut run);
    let _ = run.finish();
    // The client has left before the store answered.
    reserve(&mut run);
    let _ = run.finish();
    // The one that was sent was never tried, and costs nothing either.
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn who_is_throttled_everywhere_is_told_the_shortest_wait() {
    let throttled = |paused: Option<u64>, tried: &[(&str, &str)]| {
        let mut run = Run::new();
        if let Some(ms) = paused {
            let target = gateway(|_| {}).models[0].targets[0].clone();
            let pause = Cooldown { wait: Duration::from_millis(ms), is_told: true };
            Cooldowns::note(Moment::new(&run.store, NOW), &target, pause).unwrap();
        }
        let flight = run.send(PROMPT).flight;
        let mut last = "";
        for (cluster, wait) in tried {
            let head = [(":status", if *wait == "500" { "500" } else { "429" }), ("retry-after", *wait)];
            let _ = attempt(&flight, cluster, &head, "", &Outside::new(&run.store, &|| NOW)).unwrap();
            last = wait;
        }
        let status = if last == "500" { "500" } else { "429" };
        let pairs = [(":status", status), ("content-type", "application/json"), ("retry-after", last)];
        let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Backend);
        let told = |name: &str| {
            let found = edits.set.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.clone())
        };
        (told("retry-after"), told("retry-after-ms"))
    };
    let told = |seconds: &str, ms: &str| (Some(seconds.to_owned()), Some(ms.to_owned()));
    assert_eq!(throttled(None, &[("ca", "5"), ("cb", "40")]), told("5", "5000"));
    assert_eq!(throttled(None, &[("ca", "40"), ("cb", "5")]), told("5", "5000"));
    assert_eq!(throttled(Some(2500), &[("cb", "40")]), told("3", "2500"));
    assert_eq!(throttled(Some(50_000), &[("cb", "40")]), told("40", "40000"));
    // One that failed may be asked again at any time.
    assert_eq!(throttled(None, &[("ca", "40"), ("cb", "500")]), (None, None));
}

#[test]
fn what_a_backend_said_before_it_was_tried_after_all_does_not_count() {
    let mut run = Run::new();
    let flight = run.send(PROMPT).flight;
    // As where its capacity was declared: it stays at the end of the order.
    let passed_over = flight.candidates()[0].passed_over(Why::Pausing(Duration::from_secs(1)));
    run.exchange.draft.passed_over.push(passed_over);
    let head = [(":status", "429"), ("retry-after", "40")];
    let _ = attempt(&flight, "ca", &head, "", &Outside::new(&run.store, &|| NOW)).unwrap();
    let pairs = [(":status", "429"), ("content-type", "application/json")];
    let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    assert!(edits.set.contains(&("retry-after", "40".to_owned())), "{edits:?}");
}

#[test]
fn a_model_is_found_however_its_name_is_written_in_the_path() {
    let colon: fn(&mut Value) = |config| {
        config["models"][0]["name"] = json!("ft:gpt-4o");
        config["clients"][0]["models"] = json!(["ft:gpt-4o"]);
    };
    for name in ["ft:gpt-4o", "ft%3Agpt-4o", "ft%3agpt%2D4o"] {
        let mut run = Run::with(gateway(colon));
        let path = format!("/openai/deployments/{name}/chat/completions");
        let _ = run.head(&[CHAT[0], (":path", &path), CHAT[2]]);
        assert!(matches!(run.body(PROMPT), Step::Forward(_)), "{name}");
        assert_eq!(run.finish().asked.as_deref(), Some("ft:gpt-4o"));
        let path = format!("/v1/models/{name}");
        let step = Run::with(gateway(colon)).head(&[(":method", "GET"), (":path", &path), CHAT[2]]);
        assert!(matches!(step, Step::Answer(Answer { status: 200, .. })), "{name}: {step:?}");
    }
    for name in ["ft%253Agpt-4o", "ft%3", "%ff", "ft%00"] {
        let path = format!("/v1/models/{name}");
        let step = Run::with(gateway(colon)).head(&[(":method", "GET"), (":path", &path), CHAT[2]]);
        assert!(matches!(step, Step::Answer(Answer { status: 403, .. })), "{name}: {step:?}");
    }
}

#[test]
fn envoys_own_error_before_the_request_is_sent_gets_it_too() {
    let mut run = Run::new();
    let _ = run.head(&CHAT);
    let pairs = [(":status", "413"), ("content-type", "text/plain")];
    let edits = run.exchange.response_head(&headers(&pairs), false, || Origin::Proxy);
    assert!(edits.set.contains(&("content-type", "application/json".to_owned())));
    let Output::Replaced(body) = run.exchange.response_chunk(b"Payload Too Large", true, || NOW) else {
        panic!()
    };
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "request_too_large");
    assert_eq!(run.finish().outcome, Outcome::ProxyError);
}

#[test]
fn an_answer_of_our_own_is_not_touched() {
    let mut run = Run::new();
    let _ = run.head(&CHAT[..2]);
    assert!(!run.exchange.awaits_answer());
    assert_eq!(run.answer("401", "text/plain"), ResponseEdits::default());
    assert_eq!(run.exchange.response_chunk(b"{}", true, || NOW), Output::Same);
}

const DELTA: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\n";
const COUNTED: &[u8] = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":20}}\n\n";
const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;

#[test]
fn a_stream_is_asked_for_its_usage_and_the_client_does_not_see_it() {
    let mut run = Run::new();
    let forward = run.send(STREAM);
    let patch = String::from_utf8(forward.patch.unwrap().bytes).unwrap();
    assert!(
        patch.starts_with(r#"{"stream_options":{"include_usage":true},"max_tokens":100,"model":"e""#),
        "{patch}"
    );
    let edits = run.answer("200", "text/event-stream");
    assert!(edits.remove.contains(&"content-length".to_owned()));
    assert_eq!(run.exchange.response_chunk(DELTA, false, || NOW), Output::Same);
    assert_eq!(run.exchange.response_chunk(COUNTED, false, || NOW), Output::Replaced(Vec::new()));
    assert_eq!(run.exchange.response_chunk(b"data: [DONE]\n\n", true, || NOW), Output::Same);
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.source, record.usage.total()),
        (Outcome::Served, Source::Reported, 29)
    );
}

#[test]
fn an_older_api_version_is_not_asked_for_usage() {
    let mut run = Run::with(gateway(|config| config["backends"][0]["api_version"] = json!("2024-06-01")));
    let forward = run.send(STREAM);
    assert!(!String::from_utf8(forward.patch.unwrap().bytes).unwrap().contains("stream_options"));
}

#[test]
fn a_client_that_hangs_up_pays_for_what_was_produced() {
    let mut run = Run::new();
    let _ = run.send(STREAM);
    let _ = run.answer("200", "text/event-stream");
    let _ = run.exchange.response_chunk(&DELTA.repeat(5), false, || NOW);
    let record = run.finish();
    assert_eq!((record.outcome, record.source), (Outcome::ClientGone, Source::Estimated));
    assert_eq!((record.usage.prompt, record.usage.completion), (8, 10));
    assert_eq!(run.left(), BUDGET - 18);
}

#[test]
fn a_client_that_leaves_before_the_answer_pays_if_a_backend_was_asked() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let _ = begin(&forward.flight, b"ca").unwrap();
    assert_eq!(run.finish().usage.total(), 108);
    assert_eq!(run.left(), BUDGET - 108);
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    assert_eq!(run.finish().usage.total(), 0);
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn a_compressed_answer_is_charged_in_full_by_estimate() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    let pairs = [(":status", "200"), ("content-type", "application/json"), ("content-encoding", "gzip")];
    let _ = run.exchange.response_head(&headers(&pairs), false, || Origin::Backend);
    assert_eq!(run.exchange.response_chunk(b"\x1f\x8b", true, || NOW), Output::Same);
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.source, record.usage.total()),
        (Outcome::Served, Source::Estimated, 108)
    );
}

#[test]
fn a_prompt_that_the_content_filter_refused_is_charged_by_estimate() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let _ = begin(&forward.flight, b"ca").unwrap();
    let _ = run.answer("400", "application/json");
    let _ = run.exchange.response_chunk(br#"{"error":{"code":"content_filter"}}"#, true, || NOW);
    let record = run.finish();
    assert_eq!((record.outcome, record.source), (Outcome::ContentFilter, Source::Estimated));
    assert_eq!(record.usage, Usage { prompt: record.usage.prompt, ..Usage::default() });
    assert!(record.usage.prompt > 0);
    assert_eq!(run.left(), BUDGET - record.usage.prompt);
}

#[test]
fn the_record_says_how_it_went() {
    let mut run = Run::with(gateway(|config| {
        config["models"][0]["aliases"] = json!(["alias"]);
        config["models"][0]["prices"] = json!({ "prompt": 2, "completion": 10 });
        config["backends"][1]["region"] = json!("eu");
    }));
    let forward = run.send(&STREAM.replace("gpt-4o", "alias"));
    let outside = Outside::new(&run.store, &|| NOW);
    let _ = attempt(&forward.flight, "ca", &[(":status", "429")], "", &outside).unwrap();
    let _ = served(&forward.flight, "cb", &run.store);
    let _ = run.answer("200", "text/event-stream");
    let later = || NOW + Duration::from_millis(250);
    let _ = run.exchange.response_chunk(
        b"data: {\"model\":\"m\",\"delta\":{\"content\":\"\"}}\n\n",
        false,
        || NOW,
    );
    let _ = run.exchange.response_chunk(DELTA, false, later);
    let _ = run.exchange.response_chunk(COUNTED, true, || NOW);
    let record = run.finish();
    let tries: Vec<_> = record.tries.iter().map(|one| (&*one.backend, one.status)).collect();
    assert_eq!(tries, [("a", Some(429)), ("b", Some(200))]);
    let served = record.served.unwrap();
    assert_eq!((&*served.backend, &*served.deployment, served.region.as_deref()), ("b", "e", Some("eu")));
    assert_eq!((record.asked.as_deref(), record.answered.as_deref()), (Some("alias"), Some("m")));
    assert_eq!(record.model.map(|name| name.text), Some("gpt-4o".into()));
    // 9 prompt tokens at 2, 20 produced at 10 a million.
    assert_eq!(record.price_micros, Some(218));
    assert_eq!(
        (record.first_token, record.duration),
        (Some(Duration::from_millis(250)), Duration::from_secs(1))
    );
    assert!(record.stream && record.reserved > 0 && record.estimated_prompt.is_some());
}

#[test]
fn other_endpoints_pass_unread_to_the_configured_backends_or_are_refused() {
    let files = [(":method", "GET"), (":path", "/v1/files?limit=1"), ("api-key", "key"), ("cookie", "x")];
    assert_eq!(refused(Run::new().head(&files)), "404 unknown_url");
    let mut run = Run::with(gateway(|config| {
        config["other_endpoints"] = json!(["a"]);
        config["clients"][0]["endpoints"] = json!(["other"]);
    }));
    let Step::Reserve(claim) = run.exchange.request_head(&headers(&files), true, &run.store, NOW) else {
        panic!()
    };
    assert_eq!(claim.usage, Usage::default());
    let grant = limits::reserve(&run.store, claim, NOW);
    let Step::Forward(forward) = run.exchange.reserved(grant) else { panic!() };
    assert_eq!(forward.strip, ["api-key", "cookie"]);
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    assert_eq!(departure.path, "/openai/files?api-version=2024-10-21&limit=1");
    let _ = run.answer("200", "application/json");
    let _ = run.exchange.response_chunk(b"{\"data\":[]}", true, || NOW);
    let record = run.finish();
    assert_eq!(
        (record.operation, record.outcome, record.source),
        ("other", Outcome::Served, Source::Reported)
    );
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn a_body_that_says_to_be_something_else_is_refused_unread() {
    for (path, headers, expected) in [
        ("/v1/chat/completions", [("content-type", "text/plain"), CHAT[3]], "415 unsupported_media_type"),
        (
            "/v1/audio/transcriptions",
            [("content-type", "application/json"), CHAT[3]],
            "415 unsupported_media_type",
        ),
        ("/v1/audio/transcriptions", [("content-type", "multipart/form-data"), CHAT[3]], "400 invalid_form"),
        ("/v1/responses", [("content-encoding", "zstd"), CHAT[3]], "415 unsupported_content_encoding"),
    ] {
        let mut run = Run::new();
        let step = run.head(&[&[CHAT[0], (":path", path), CHAT[2]][..], &headers].concat());
        assert_eq!(refused(step), expected, "{path} {headers:?}");
    }
}

#[test]
fn one_content_type_of_ours_goes_on() {
    let body = r#"{"model":"gpt-4o"}"#;
    for (said, sent) in [
        (&[("content-type", "application/json")][..], None),
        (&[("content-type", "application/json; charset=utf-8")], Some("application/json")),
        (&[], Some("application/json")),
    ] {
        let mut run = Run::new();
        let _ = run.head(&[&CHAT, said].concat());
        let Step::Forward(forward) = run.body(body) else { panic!() };
        assert_eq!(forward.content_type.as_deref(), sent);
    }
    let mut run = Run::new();
    let step = run.head(&[&CHAT[..], &[("content-encoding", "identity")]].concat());
    assert!(matches!(step, Step::AwaitBody { strip } if strip.contains(&"content-encoding".to_owned())));
}

#[test]
fn an_image_whose_answer_says_nothing_of_tokens_is_charged_what_was_reserved() {
    let mut run = Run::new();
    let _ = run.head(&[CHAT[0], (":path", "/v1/images/generations"), CHAT[2]]);
    let Step::Forward(_) = run.body(r#"{"model":"gpt-4o","prompt":"a crab","n":2,"quality":"medium"}"#)
    else {
        panic!()
    };
    let reserved = BUDGET - run.left();
    let _ = run.answer("200", "application/json");
    let _ = run.exchange.response_chunk(br#"{"data":[{"b64_json":"AAAA"}]}"#, true, || NOW);
    let record = run.finish();
    assert_eq!((record.source, record.usage.total()), (Source::Estimated, reserved));
    assert_eq!(record.usage.completion, 2 * 1756);
}

#[test]
fn speech_reports_nothing_and_is_charged_for_its_input() {
    let mut run = Run::new();
    let _ = run.head(&[CHAT[0], (":path", "/v1/audio/speech"), CHAT[2]]);
    let Step::Forward(_) = run.body(r#"{"model":"gpt-4o","input":"Say it aloud."}"#) else { panic!() };
    let _ = run.answer("200", "audio/mpeg");
    let _ = run.exchange.response_chunk(b"\xff\xfb", true, || NOW);
    let record = run.finish();
    assert_eq!(
        (record.outcome, record.source, record.usage.completion),
        (Outcome::Served, Source::Estimated, 0)
    );
    assert!(record.usage.prompt > 0);
}

#[test]
fn a_request_whose_vm_died_is_written_down_with_all_that_was_reserved() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    let record = Exchange::lost(&run.exchange.note().unwrap());
    assert_eq!(record.reserved, BUDGET - run.left());
    assert_eq!((record.usage.total(), record.source), (record.reserved, Source::Estimated));
    let series = record.additions().first().map(|(series, _)| series.name()).unwrap();
    assert_eq!(series, "tollgate_requests;client=web;model=gpt-4o;operation=chat/completions;outcome=lost");
}

#[test]
fn what_an_answer_reports_is_learnt_for_the_next_estimate() {
    let mut run = Run::new();
    let prompt = PROMPT.replace("hello", &"word ".repeat(100));
    let mut reserve = || {
        run.exchange = Exchange::new(gateway(|_| {}));
        let before = run.left();
        let _ = run.send(&prompt);
        let reserved = before - run.left();
        let _ = run.answer("200", "application/json");
        let usage = br#"{"usage":{"prompt_tokens":160,"completion_tokens":0}}"#;
        let _ = run.exchange.response_chunk(usage, true, || NOW);
        let _ = run.finish();
        // The cap is 100 of it.
        reserved - 100
    };
    let cold = reserve();
    assert!(cold.abs_diff(160) > 40, "{cold}");
    for _ in 0..20 {
        reserve();
    }
    let learnt = reserve();
    assert!(learnt.abs_diff(160) <= 3, "{learnt}");
}

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
    run.exchange = Exchange::new(gateway.clone());
    let step = run.head(&[(":method", "GET"), (":path", "/tollgate/v1/usage"), ("api-key", "key")]);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    let micros = |limit: &Value| match limit["used"].as_u64() {
        Some(used) => used,
        None => (limit["used"].as_f64().unwrap() * 1e6).round() as u64,
    };
    list["limits"].as_array().unwrap().iter().map(micros).collect()
}

#[test]
fn a_client_is_told_of_its_own_limits_and_its_groups() {
    let gateway = gateway(every_limit);
    let mut run = Run::with(gateway.clone());
    let _ = run.send(PROMPT);
    // 8 tokens sent, 100 produced, at 2 and 8 for a million where it is dearest.
    assert_eq!(used(&mut run, &gateway), [108, 1, 816, 1, 108, 1, 1]);
    let record = run.finish();
    assert_eq!((record.operation, record.outcome), ("usage", Outcome::Answered));

    run.exchange = Exchange::new(gateway.clone());
    let nobody = run.head(&[(":method", "GET"), (":path", "/tollgate/v1/usage")]);
    assert_eq!(refused(nobody), "401 missing_api_key");
    run.store.break_with(Some(StoreFault::Unavailable));
    run.exchange = Exchange::new(gateway);
    let step = run.head(&[(":method", "GET"), (":path", "/tollgate/v1/usage"), ("api-key", "key")]);
    assert_eq!(refused(step), "503 store_unavailable");
}

#[test]
fn every_answer_to_a_known_client_tells_where_its_limits_stand() {
    let names = |step: Step| match step {
        Step::Answer(answer) => {
            let names = answer.headers.into_iter().map(|(name, _)| name);
            names.filter(|name| name.starts_with("x-ratelimit-remaining")).collect::<Vec<_>>()
        }
        step => panic!("{step:?}"),
    };
    let both = ["x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"];
    let mut run = Run::with(gateway(every_limit));
    let list = [(":method", "GET"), (":path", "/v1/models"), ("api-key", "key")];
    assert_eq!(names(run.head(&list)), both);
    run.exchange = Exchange::new(gateway(every_limit));
    let _ = run.head(&CHAT);
    assert_eq!(names(run.body(r#"{"model":"secret"}"#)), both);
    run.exchange = Exchange::new(gateway(every_limit));
    let _ = run.head(&CHAT);
    assert_eq!(names(run.body(r#"{"model":"gpt-4o","n":101}"#)), both);
    // Who is not known has no limits, and a store that does not answer is no reason not to.
    run.exchange = Exchange::new(gateway(every_limit));
    assert_eq!(names(run.head(&CHAT[..2])), [""; 0]);
    run.store.break_with(Some(StoreFault::Unavailable));
    run.exchange = Exchange::new(gateway(every_limit));
    assert_eq!(names(run.head(&list)), [""; 0]);
    assert_eq!(run.exchange.faults(), Some((Series::StoreFaults, 1)));
}

#[test]
fn a_refusal_is_written_down_with_the_limit_that_did_it() {
    let mut run = Run::new();
    let _ = run.head(&CHAT);
    assert_eq!(refused(run.body(r#"{"model":"gpt-4o","n":101}"#)), "429 request_exceeds_limit");
    assert_eq!(run.finish().limit.as_deref(), Some("tokens/minute"));
    let gateway = gateway(every_limit);
    let mut run = Run::with(gateway.clone());
    let _ = run.send(PROMPT);
    // While the first is under way, the second is one too many for the limit that only reports.
    let mut first = std::mem::replace(&mut run.exchange, Exchange::new(gateway));
    let _ = run.send(PROMPT);
    assert_eq!(run.finish().shadow_refusals, ["group/requests/hour".into()]);
    let finished = first.finish(&run.store, NOW, || Interruption::Other);
    assert_eq!((finished.record.shadow_refusals, finished.record.limit), (vec![], None));
}

#[test]
fn there_is_a_note_while_something_is_reserved() {
    let gateway = gateway(every_limit);
    let mut run = Run::with(gateway.clone());
    let _ = run.head(&CHAT);
    assert_eq!(run.exchange.note(), None);
    let _ = run.body(PROMPT);
    let note = run.exchange.note().unwrap();
    assert_eq!(
        (note.client.as_str(), note.model.as_str(), note.prompt, note.completion),
        ("web", "gpt-4o", 8, 100)
    );
    let _ = run.finish();
    assert_eq!(run.exchange.note(), None);
    // Its slots are found by what it says.
    run.exchange = Exchange::new(gateway.clone());
    let _ = run.send(PROMPT);
    let note = run.exchange.note().unwrap();
    limits::return_slots(&run.store, &note.slots).unwrap();
    let used = used(&mut run, &gateway);
    assert_eq!((used[3], used[5]), (0, 0));
    let mut refused = Run::new();
    let _ = refused.head(&CHAT);
    let _ = refused.body(r#"{"model":"gpt-4o","n":101}"#);
    assert_eq!(refused.exchange.note(), None);
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
                    let _ = run.exchange.reserved(limits::reserve(&run.store, claim, NOW));
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

mod identity;
mod naming;
