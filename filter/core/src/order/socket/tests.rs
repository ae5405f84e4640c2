use super::*;
use crate::config;
use crate::exchange::Origin;
use crate::ledger::{Outcome, Record, Source};
use crate::limits::{self, Inquiry};
use crate::store::{MemoryStore, Outside};
use serde_json::{Value, json};
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

mod held;
mod opening;
mod responses;
mod sessions;
mod turned;
mod unsure;

const NOW: Duration = Duration::from_secs(1_790_000_000);
const BUDGET: u64 = 10_000;
/// A key's SHA-256: of "key".
const KEY: &str = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
const MASK: [u8; 4] = [1, 2, 3, 4];

fn gateway(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    let mut config = json!({
        "websocket": { "realtime": {} },
        "clients": [{
            "name": "one",
            "api_keys": [{ "sha256": KEY }],
            "models": ["*"],
            "policy": "p",
            "limits": [{ "tokens": BUDGET, "per": "minute" }, { "concurrent": 1 }],
        }],
        "policies": [{ "name": "p", "tools": { "max": 1 } }],
        "models": [
            { "name": "gpt-realtime", "backends": [{ "backend": "a", "deployment": "d@e" }] },
            { "name": "gpt-transcribe", "backends": [{ "backend": "a" }] },
            { "name": "elsewhere", "backends": [{ "backend": "b" }] },
        ],
        "backends": [
            { "name": "a", "cluster": "ca", "style": "openai", "credential": { "header": "authorization", "env": "A" } },
            { "name": "b", "cluster": "cb", "style": "openai" },
        ],
    });
    edit(&mut config);
    Rc::new(config::from_value(config, &|name| Some(format!("secret-{name}"))).unwrap())
}

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

const HANDSHAKE: [(&str, &str); 7] = [
    (":method", "GET"),
    (":path", "/v1/realtime?model=gpt-realtime"),
    ("authorization", "Bearer key"),
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-extensions", "permessage-deflate"),
];

/// A conversation, driven as the filter drives it.
struct Run {
    store: MemoryStore,
    session: Exchange,
    socket: Socket,
    /// The records of the turns that have ended.
    records: Vec<Record>,
    /// Whether the store has to be asked first.
    is_late: bool,
    /// How long those claims have been made that have to be made again.
    sinces: Vec<Option<Duration>>,
    now: Duration,
    path: String,
    strip: Vec<String>,
}

fn asks(gateway: &Rc<Gateway>, store: &MemoryStore, handshake: &[(&str, &str)]) -> (Exchange, Step) {
    let mut session = Exchange::new(gateway.clone());
    let moment = Moment::new(store, NOW);
    let mut step = session.request_head(&headers(handshake), false, moment);
    loop {
        step = match step {
            Step::Reserve(claim) => session.reserved(limits::reserve(moment, claim)),
            Step::ReadLimits(inquiry) => session.limits_read(limits::read(moment, &inquiry), NOW),
            step => return (session, step),
        }
    }
}

impl Run {
    fn new(gateway: &Rc<Gateway>) -> Self {
        Self::by(gateway, &HANDSHAKE)
    }

    fn by(gateway: &Rc<Gateway>, handshake: &[(&str, &str)]) -> Self {
        let store = MemoryStore::default();
        let (mut session, step) = asks(gateway, &store, handshake);
        let Step::Forward(forward) = step else { panic!("{step:?}") };
        let cluster = forward.flight.candidates()[0].backend.cluster.clone();
        let begun = forward.flight.begin(cluster.as_bytes(), &Outside::new(&store, &|| NOW)).unwrap();
        let path = begun.departure.path.clone();
        let head =
            [(":status", "101"), ("upgrade", "websocket"), ("sec-websocket-accept", "x"), ("x-other", "1")];
        let edits = session.response_head(&headers(&head), false, || Origin::Backend);
        assert_eq!(edits.remove, ["x-other"]);
        let socket = Socket::new(gateway.clone(), session.opened().unwrap());
        Self {
            store,
            session,
            socket,
            records: Vec::new(),
            is_late: false,
            sinces: Vec::new(),
            now: NOW,
            path,
            strip: forward.strip,
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Socket, &mut Exchange, &mut World<'_>) -> T) -> T {
        let moment = Moment::new(&self.store, self.now);
        let is_late = self.is_late;
        let (sinces, now) = (&mut self.sinces, self.now);
        let mut reserve = |claim, since: Option<Duration>| match is_late {
            true => {
                sinces.push(since.map(|since| now - since));
                Asked::Later(claim)
            }
            false => Asked::Now(limits::reserve(moment, claim)),
        };
        let acted = act(&mut self.socket, &mut self.session, &mut World { moment, reserve: &mut reserve });
        for finished in self.socket.finished() {
            for settlement in &finished.settlements {
                limits::settle(moment, settlement).unwrap();
            }
            self.records.push(finished.record);
        }
        acted
    }

    /// What the backend gets when the client says this.
    fn say(&mut self, event: &str) -> Vec<String> {
        let frame = frames::written(Kind::Text, event.as_bytes(), Some(MASK));
        read(Side::Client, &self.with(|socket, session, world| socket.client_says(&frame, session, world)))
    }

    /// What the client gets when the backend says this.
    fn hear(&mut self, event: &str) -> Vec<String> {
        let frame = frames::written(Kind::Text, event.as_bytes(), None);
        self.raw(&frame)
    }

    fn raw(&mut self, frame: &[u8]) -> Vec<String> {
        read(Side::Server, &self.with(|socket, session, world| socket.backend_says(frame, session, world)))
    }

    /// The backend's answer to our ping.
    fn pong(&mut self) -> Vec<String> {
        self.raw(&frames::written(Kind::Pong, OUR_PING, None))
    }

    fn left(&self) -> u64 {
        let budget = self.socket.gateway.roster[0].budget.clone();
        let inquiry = Inquiry { budget, model: None, operation: crate::endpoint::Operation::Realtime };
        let report = limits::read(Moment::new(&self.store, NOW), &inquiry).unwrap();
        report.standing.tokens.unwrap().remaining
    }

    fn end(&mut self) -> Record {
        let turns = self.with(|socket, _, world| socket.end(world, || Interruption::Client));
        let moment = Moment::new(&self.store, NOW + Duration::from_secs(9));
        let finished = self.session.finish(moment, || Interruption::Client);
        for settlement in &finished.settlements {
            limits::settle(moment, settlement).unwrap();
        }
        Record { turns: Some(turns), ..finished.record }
    }
}

/// Messages in a word or their text.
fn read(from: Side, bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    Reader::new(from, 1 << 20).push(bytes, &mut messages).unwrap();
    let word = |message: Message| match message.kind {
        Kind::Text => message.text().unwrap().to_owned(),
        Kind::Close => {
            format!("close {}", message.payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code)))
        }
        kind => format!("{kind:?}").to_lowercase(),
    };
    messages.into_iter().map(word).collect()
}

/// The code of an error event, and which event it is about.
fn error(event: &str) -> (String, Option<String>) {
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["type"], "error");
    let id = event["error"]["event_id"].as_str().map(str::to_owned);
    (event["error"]["code"].as_str().unwrap().to_owned(), id)
}

const CREATE: &str = r#"{"type":"response.create","event_id":"e"}"#;
const CREATED: &str = r#"{"type":"response.created","response":{"id":"r1"}}"#;
const AUDIO: &str = r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#;

fn done(id: &str, input: u64, output: u64) -> String {
    json!({ "type": "response.done", "response": { "id": id, "status": "completed", "usage": {
        "total_tokens": input + output, "input_tokens": input, "output_tokens": output,
        "input_token_details": { "text_tokens": 1, "audio_tokens": input - 1, "cached_tokens": 2 },
        "output_token_details": { "text_tokens": 3, "audio_tokens": output - 3 },
    } } })
    .to_string()
}

/// What the next turn of a small cap takes.
fn taken_by_next(run: &mut Run) -> u64 {
    let left = run.left();
    run.say(r#"{"type":"response.create","event_id":"e","response":{"max_output_tokens":16}}"#);
    left - run.left()
}

fn transcribed() -> String {
    json!({
        "type": "conversation.item.input_audio_transcription.completed",
        "transcript": "hello",
        "usage": { "type": "tokens", "total_tokens": 14, "input_tokens": 10, "output_tokens": 4,
            "input_token_details": { "text_tokens": 0, "audio_tokens": 10 } },
    })
    .to_string()
}

#[test]
fn an_event_whose_id_could_not_be_told_again_is_refused() {
    let mut run = Run::new(&gateway(|_| {}));
    for id in ["7".to_owned(), "null".to_owned(), format!("\"{}\"", "x".repeat(257))] {
        let sent = run.say(&format!(r#"{{"type":"response.create","event_id":{id}}}"#));
        assert_eq!(sent, ["ping"], "{id}");
        assert_eq!(error(&run.pong()[0]).0, "invalid_type");
    }
    assert_eq!(run.left(), BUDGET);
}

#[test]
fn the_shapes_of_the_beta_are_refused() {
    let mut run = Run::new(&gateway(|_| {}));
    for event in [
        r#"{"type":"session.update","session":{"type":"transcription"}}"#,
        r#"{"type":"session.update","session":{"type":["realtime"]}}"#,
        r#"{"type":"session.update","session":{"max_response_output_tokens":1}}"#,
        r#"{"type":"response.create","response":{"max_response_output_tokens":1}}"#,
    ] {
        assert_eq!(run.say(event), ["ping"], "{event}");
        assert_eq!(error(&run.pong()[0]).0, "invalid_type");
    }
    assert_eq!(run.say(r#"{"type":"session.update","session":{"type":"realtime"}}"#).len(), 1);
}

#[test]
fn a_revoked_key_is_met_by_a_turn_that_nobody_asked_for() {
    let mut run = Run::new(&gateway(|_| {}));
    assert_eq!(run.say(AUDIO), [AUDIO]);
    let other = gateway(|config| config["clients"][0]["api_keys"][0]["sha256"] = json!("0".repeat(64)));
    run.socket.serve_under(&other);
    let told = run.hear(CREATED);
    assert_eq!(error(&told[1]).0, "invalid_api_key");
    assert_eq!(told[2..], ["close 1008"], "{told:?}");
    assert_eq!(run.say(AUDIO), ["close 1000"]);
    run.hear(&done("r1", 50, 20));
    assert_eq!(run.records.last().map(|record| record.usage.total()), Some(70));
}

#[test]
fn a_begun_turn_that_may_not_be_is_charged_and_ended() {
    let mut run = Run::new(&gateway(|_| {}));
    assert_eq!(run.say(AUDIO), [AUDIO]);
    let other = gateway(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "b" }]);
    });
    run.socket.serve_under(&other);
    let told = run.hear(CREATED);
    assert_eq!((told.len(), &*told[2]), (3, "ping"));
    run.hear(&done("r1", 50, 20));
    assert_eq!(run.left(), BUDGET - 70);
}

#[test]
fn a_transcript_beyond_the_budget_ends_the_socket_if_set() {
    let mut run = Run::new(&gateway(|config| {
        config["websocket"]["realtime"] = json!({ "when_exhausted": "close" });
        config["clients"][0]["limits"] = json!([{ "tokens": 5, "per": "minute" }]);
    }));
    assert_eq!(run.say(AUDIO), [AUDIO]);
    let told = run.hear(&transcribed());
    assert_eq!(told[2..], ["close 1008"], "{told:?}");
    assert_eq!(run.left(), 0);
}

#[test]
fn a_socket_that_is_never_read_is_closed() {
    let mut run = Run::new(&gateway(|_| {}));
    let sent = (0..10_000).find_map(|_| run.say("[]").into_iter().find(|sent| sent != "ping"));
    assert_eq!(sent.as_deref(), Some("close 1000"));
    assert_eq!(run.hear("{}"), ["close 1008"]);
    let mut run = Run::new(&gateway(|config| config["clients"][0]["limits"] = json!([])));
    let sent = (0..100).map(|_| run.say(CREATE)).find(|sent| sent.iter().any(|sent| sent != CREATE));
    assert_eq!(sent.unwrap().last().map(String::as_str), Some("close 1000"));
}

#[test]
fn a_backend_that_begins_more_than_it_ends_is_closed() {
    let closes = |limits: Value, id: &str| {
        let mut run = Run::new(&gateway(|config| config["clients"][0]["limits"] = limits));
        (0..100).position(|at| {
            let began = format!(r#"{{"type":"response.created","response":{{"id":"{at}{id}"}}}}"#);
            run.hear(&began).contains(&"close 1008".to_owned())
        })
    };
    assert_eq!(closes(json!([]), "r"), Some(TURNS_MAX));
    // What it is told to leave waits for the client to say something.
    assert_eq!(closes(json!([{ "tokens": 1, "per": "day" }]), &"r".repeat(300_000)), Some(3));
}

#[test]
fn what_is_found_again_and_again_is_kept_once() {
    let mut run = Run::new(&gateway(|config| {
        config["policies"][0]["max_tokens"] = json!({ "max": 100, "over": "clamp" });
    }));
    for cap in 500..800 {
        run.say(&format!(r#"{{"type":"session.update","session":{{"max_output_tokens":{}}}}}"#, cap / 2));
    }
    assert!(run.end().findings.len() <= 64);
}

#[test]
fn a_turn_is_charged_by_what_it_reports() {
    let mut run = Run::new(&gateway(|config| {
        config["models"][0]["prices"] = json!({ "prompt": 1, "completion": 2 });
    }));
    assert_eq!(run.say(CREATE), [CREATE]);
    assert!(run.left() < BUDGET);
    assert_eq!(run.hear(CREATED), [CREATED]);
    let end = done("r1", 50, 20);
    assert_eq!(run.hear(&end), [end]);
    assert_eq!(run.left(), BUDGET - 70);
    let record = &run.records[0];
    assert_eq!(
        (record.operation, record.outcome, record.source),
        ("realtime", Outcome::Served, Source::Reported)
    );
    let usage = record.usage;
    assert_eq!((usage.prompt, usage.prompt_audio, usage.cached), (50, 49, 2));
    assert_eq!((usage.completion, usage.completion_audio), (20, 17));
    let record = run.end();
    let turns = record.turns.unwrap();
    assert_eq!((turns.count, turns.refused, turns.usage.total(), turns.price_micros), (1, 0, 70, Some(90)));
    assert!(record.details().contains("\"turns\":1"));
    assert_eq!(record.fields()[4].1.as_deref(), Some("50"));
}

#[test]
fn a_turn_that_nobody_asked_for_is_charged() {
    let mut run = Run::new(&gateway(|_| {}));
    assert_eq!(run.say(AUDIO), [AUDIO]);
    run.hear(CREATED);
    assert!(run.left() < BUDGET);
    run.hear(&done("r1", 50, 20));
    assert_eq!(run.left(), BUDGET - 70);
    // Not even its beginning was seen.
    run.hear(&done("r2", 30, 10));
    assert_eq!(run.left(), BUDGET - 110);
    assert_eq!(run.records.len(), 2);
}

#[test]
fn what_is_written_down_is_charged_under_its_model() {
    let mut run = Run::new(&gateway(|_| {}));
    run.say(
        r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"gpt-transcribe"}}}}}"#,
    );
    let heard = json!({
        "type": "conversation.item.input_audio_transcription.completed",
        "transcript": "hello",
        "usage": { "type": "tokens", "total_tokens": 14, "input_tokens": 10, "output_tokens": 4,
            "input_token_details": { "text_tokens": 0, "audio_tokens": 10 } },
    });
    run.hear(&heard.to_string());
    assert_eq!(run.left(), BUDGET - 14);
    let record = &run.records[0];
    assert_eq!(record.model.as_ref().map(|model| &*model.text), Some("gpt-transcribe"));
    assert_eq!(record.usage.prompt_audio, 10);
}

#[test]
fn a_turn_beyond_the_budget_is_refused_and_the_socket_stays() {
    let mut run = Run::new(&gateway(|config| {
        config["clients"][0]["limits"] = json!([{ "tokens": 5, "per": "minute" }]);
    }));
    assert_eq!(run.say(CREATE), ["ping"]);
    let told = run.pong();
    assert_eq!(told.len(), 1, "{told:?}");
    let (code, id) = error(&told[0]);
    assert_eq!((code.as_str(), id.as_deref()), ("request_exceeds_limit", Some("e")));
    assert!(matches!(run.records[0].outcome, Outcome::Denied(_)));
    assert_eq!(run.say(AUDIO), [AUDIO]);
    assert_eq!(run.hear("{}"), ["{}"]);
    assert_eq!(run.end().turns.unwrap().refused, 1);
}

#[test]
fn a_turn_that_was_begun_beyond_the_budget_is_ended() {
    let mut run = Run::new(&gateway(|config| {
        config["clients"][0]["limits"] = json!([{ "tokens": 5, "per": "minute" }]);
    }));
    run.say(AUDIO);
    let told = run.hear(CREATED);
    assert_eq!((told.len(), &*told[0], &*told[2]), (3, CREATED, "ping"));
    assert_eq!(error(&told[1]).0, "request_exceeds_limit");
    let pong = frames::written(Kind::Pong, OUR_PING, Some(MASK));
    let sent = run.with(|socket, session, world| socket.client_says(&pong, session, world));
    assert_eq!(read(Side::Client, &sent), [r#"{"response_id":"r1","type":"response.cancel"}"#]);
    run.hear(&done("r1", 50, 20));
    let record = &run.records[0];
    assert_eq!((record.outcome, record.usage.total()), (Outcome::Served, 70));
    assert_eq!(run.left(), 0);
}

#[test]
fn a_socket_is_closed_when_so_configured() {
    let closing = |config: &mut Value| {
        config["websocket"]["realtime"] = json!({ "when_exhausted": "close" });
        config["clients"][0]["limits"] = json!([{ "tokens": 5, "per": "minute" }]);
    };
    let mut run = Run::new(&gateway(closing));
    assert_eq!(run.say(CREATE), ["close 1000"]);
    let told = run.raw(&frames::close(1000, "", None));
    assert_eq!(told[1..], ["close 1008"], "{told:?}");
    assert_eq!(run.say(AUDIO), [""; 0]);
    let mut run = Run::new(&gateway(closing));
    run.say(AUDIO);
    let told = run.hear(CREATED);
    assert_eq!(told[2..], ["close 1008"], "{told:?}");
    assert_eq!(run.hear("{}"), [""; 0]);
    assert_eq!(run.say(AUDIO), ["close 1000"]);
}

#[test]
fn a_policy_holds_for_sessions_and_turns() {
    let mut run = Run::new(&gateway(|config| {
        config["policies"][0]["max_tokens"] = json!({ "max": 100, "over": "clamp" });
    }));
    // What it writes where nothing is said goes first.
    assert_eq!(run.say(AUDIO).len(), 2);
    assert_eq!(
        run.say(r#"{"type":"session.update","session":{"max_output_tokens":500,"voice":"x"}}"#),
        [r#"{"type":"session.update","session":{"max_output_tokens":100,"voice":"x"}}"#]
    );
    // The session's cap is the turn's, where that has none.
    let sent = run.say(r#"{"type":"response.create","event_id":"e","response":{"metadata":{}}}"#);
    let expected =
        r#"{"type":"response.create","event_id":"e","response":{"max_output_tokens":100,"metadata":{}}}"#;
    assert_eq!(sent, [expected]);
    assert_eq!(run.say(r#"{"type":"session.update","event_id":"s","session":{"tools":[{},{}]}}"#), ["ping"]);
    let told = run.pong();
    assert_eq!(error(&told[0]).1.as_deref(), Some("s"));
    for refused in [
        r#"{"type":"response.create","event_id":"e","response":{"model":"elsewhere"}}"#,
        r#"{"type":"session.update","session":{"max_output_tokens":1,"max_output_tokens":9}}"#,
        r#"{"type":"session.delete"}"#,
        "[]",
    ] {
        assert_eq!(run.say(refused), ["ping"], "{refused}");
        assert_eq!(run.pong().len(), 1, "{refused}");
    }
    let found = run.end().findings;
    assert_eq!(found[0].clamped().as_deref(), Some("max_output_tokens=100"));
}

#[test]
fn a_turn_that_its_backend_refuses_costs_nothing() {
    let mut run = Run::new(&gateway(|_| {}));
    let sent = run.say(r#"{"type":"response.create"}"#);
    assert_eq!(sent, [r#"{"event_id":"tollgate_1","type":"response.create"}"#]);
    run.hear(r#"{"type":"error","error":{"type":"invalid_request_error","event_id":"tollgate_1"}}"#);
    assert_eq!((run.left(), run.records[0].outcome), (BUDGET, Outcome::BackendError));
}

#[test]
fn a_socket_that_breaks_is_charged_by_what_was_seen() {
    let mut run = Run::new(&gateway(|_| {}));
    run.say(CREATE);
    run.hear(CREATED);
    for (kind, delta) in [("text", "x".repeat(400)), ("audio", "A".repeat(32_000))] {
        run.hear(&format!(
            r#"{{"type":"response.output_{kind}.delta","response_id":"r1","delta":"{delta}"}}"#
        ));
    }
    let record = run.end();
    let turns = record.turns.unwrap();
    assert!(turns.is_estimated);
    let seen = turns.usage.completion;
    assert!((90..=160).contains(&seen), "{seen}");
    assert_eq!(run.left(), BUDGET - turns.usage.total());
    assert_eq!(run.records[0].outcome, Outcome::ClientGone);
}

#[test]
fn a_message_waits_while_the_store_is_asked() {
    let mut run = Run::new(&gateway(|_| {}));
    run.is_late = true;
    assert_eq!(run.say(CREATE), [""; 0]);
    assert!(run.socket.waits());
    assert_eq!(run.say(AUDIO), [""; 0]);
    run.is_late = false;
    let sent = run.with(|socket, session, world| socket.wake(session, world));
    assert_eq!(read(Side::Client, &sent), [CREATE, AUDIO]);
    assert!(!run.socket.waits());
    // What waits is held, and no more than a message may be long.
    run.is_late = true;
    assert_eq!(run.say(CREATE), [""; 0]);
    let long = json!({ "type": "input_audio_buffer.append", "audio": "A".repeat(3 << 20) }).to_string();
    assert_eq!(run.say(&long), [""; 0]);
    assert_eq!(run.say(&long), ["close 1000"]);
}

#[test]
fn a_key_that_was_revoked_is_met_at_the_next_turn() {
    let mut run = Run::new(&gateway(|_| {}));
    assert_eq!(run.say(CREATE), [CREATE]);
    let other = gateway(|config| config["clients"][0]["api_keys"][0]["sha256"] = json!("0".repeat(64)));
    run.socket.serve_under(&other);
    assert_eq!(run.say(CREATE), ["close 1000"]);
    let told = run.hear("{}");
    assert_eq!(error(&told[0]).0, "invalid_api_key");
    assert_eq!(told[1..], ["close 1008"], "{told:?}");
}

#[test]
fn frames_that_could_be_read_otherwise_end_the_socket() {
    for (frame, code) in [
        (&b"\x81\x01a"[..], 1002),
        (b"\xc1\x80\0\0\0\0", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x82\x81\0\0\0\0a", 1003),
        (b"\x81\xff\0\0\0\0\x7f\0\0\0\0\0\0\0", 1009),
    ] {
        let mut run = Run::new(&gateway(|_| {}));
        let sent = run.with(|socket, session, world| socket.client_says(frame, session, world));
        assert_eq!(read(Side::Client, &sent), ["close 1000"], "{code}");
        let told = run.raw(&frames::close(1000, "", None));
        assert_eq!(told[0], format!("close {code}"));
    }
    let mut run = Run::new(&gateway(|_| {}));
    assert_eq!(run.raw(b"\x81\x80\0\0\0\0"), ["close 1002"]);
    assert_eq!(run.say(AUDIO), ["close 1000"]);
}

#[test]
fn pings_and_pongs_of_others_go_on() {
    let mut run = Run::new(&gateway(|_| {}));
    let ping = frames::written(Kind::Ping, b"x", None);
    assert_eq!(run.raw(&ping), ["ping"]);
    let pong = frames::written(Kind::Pong, b"x", Some(MASK));
    let sent = run.with(|socket, session, world| socket.client_says(&pong, session, world));
    assert_eq!(read(Side::Client, &sent), ["pong"]);
}
