//! Work that goes on at a backend after its exchange: when is it charged, and to whom?

use super::*;
use crate::ledger::Stored;
use crate::pending::{BUCKETS, RESERVED_MAX, UNRESERVED_MAX, overdue};
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const OTHER_SHA256: &str = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

fn two_clients(config: &mut Value) {
    every_limit(config);
    config["clients"][0]["endpoints"] = json!(["*", "other"]);
    config["other_endpoints"] = json!(["b"]);
    config["models"][0]["backends"] = json!([{ "backend": "b", "deployment": "d" }]);
    config["models"][0]["prices"] = json!({ "prompt": 1000, "completion": 1000 });
    config["clients"][0]["limits"][2]["cost"] = json!(500);
    let mut other = config["clients"][0].clone();
    other["name"] = json!("other");
    other["api_keys"][0]["sha256"] = json!(OTHER_SHA256);
    config["clients"].as_array_mut().unwrap().push(other);
}

/// A gateway, and what its workers know together.
struct Shop {
    gateway: Rc<Gateway>,
    store: MemoryStore,
}

const MAKE: &str = "POST /v1/responses";
const READ: &str = "GET /v1/responses/resp_1";
const BODY: &str = r#"{"model":"gpt-4o","input":"x","background":true,"max_output_tokens":90}"#;
const STREAMED: &str =
    r#"{"model":"gpt-4o","input":"x","stream":true,"background":true,"max_output_tokens":90}"#;
const QUEUED: &str = r#"{"id":"resp_1","status":"queued","usage":null}"#;
const DONE: &str = r#"{"id":"resp_1","status":"completed","usage":{"input_tokens":5,"output_tokens":40}}"#;
const CREATED: &str = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"queued\",\"background\":true,\"usage\":null}}\n\n";
const TEXT: &str = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\n\n";
const COMPLETED: &str = "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"background\":true,\"usage\":{\"input_tokens\":5,\"output_tokens\":40}}}\n\n";

impl Shop {
    fn new() -> Self {
        Self { gateway: gateway(two_clients), store: MemoryStore::default() }
    }

    /// One exchange of a client, up to the end of its answer; without an end the client leaves before.
    fn ask(&self, key: &str, line: &str, answer: &str, end: bool) -> Record {
        self.finish(self.begin(key, line, answer, end), NOW)
    }

    fn begin(&self, key: &str, line: &str, answer: &str, end: bool) -> Exchange {
        self.begin_with(key, line, answer, end, &[])
    }

    fn begin_with(&self, key: &str, line: &str, answer: &str, end: bool, more: &[(&str, &str)]) -> Exchange {
        let (method, path) = line.split_once(' ').unwrap();
        let head = headers(&[(":method", method), (":path", path), ("api-key", key)]);
        let mut exchange = Exchange::new(self.gateway.clone());
        let body = if answer.starts_with("data") { STREAMED } else { BODY };
        let is_foreground = answer.contains(r#""background":false"#);
        let body = if is_foreground { body.replace("true,\"max", "false,\"max") } else { body.to_owned() };
        // Runs and batches name no model before they are made.
        let body = if path.starts_with("/v1/responses") { body } else { "{}".to_owned() };
        let mut step = exchange.request_head(&head, method != "POST", Moment::new(&self.store, NOW));
        let forward = loop {
            step = match step {
                Step::AwaitBody { .. } => {
                    exchange.request_body(body.as_bytes(), Moment::new(&self.store, NOW))
                }
                Step::Reserve(claim) => {
                    exchange.reserved(limits::reserve(Moment::new(&self.store, NOW), claim))
                }
                Step::Forward(forward) => break forward,
                step => panic!("{step:?}"),
            };
        };
        let _ = begin(&forward.flight, b"cb").unwrap();
        let kind = if answer.starts_with("data") { "text/event-stream" } else { "application/json" };
        let pairs: Vec<_> =
            [(":status", "200"), ("content-type", kind)].iter().chain(more).copied().collect();
        let _ = exchange.response_head(&headers(&pairs), false, || Origin::Backend);
        let _ = exchange.response_chunk(answer.as_bytes(), end, || NOW);
        exchange
    }

    fn finish(&self, mut exchange: Exchange, now: Duration) -> Record {
        let finished = exchange.finish(Moment::new(&self.store, now), || Interruption::Client);
        for settlement in finished.settlements {
            limits::settle(Moment::new(&self.store, now), &settlement).unwrap();
        }
        finished.record
    }

    /// Used of: tokens, requests, money in millionths, places; and of the group: tokens, places.
    fn used(&self, at: usize) -> [u64; 6] {
        let budget = self.gateway.roster[at].budget.clone();
        let inquiry = Inquiry { budget, model: None, operation: Operation::Responses };
        let states = limits::read(Moment::new(&self.store, NOW), &inquiry).unwrap().states;
        [0, 1, 2, 3, 4, 5].map(|at| states[at].used)
    }

    fn expired(&self, now: Duration) -> Vec<Record> {
        let pending = (0..BUCKETS).flat_map(|bucket| overdue(Moment::new(&self.store, now), bucket).unwrap());
        pending.map(|pending| Exchange::expired(&pending, &self.gateway)).collect()
    }
}

fn tokens(record: &Record) -> u64 {
    record.usage.total()
}

fn counted(record: &Record) -> Vec<(String, u64)> {
    record.additions().iter().map(|(series, amount)| (series.name(), *amount)).collect()
}

/// What the prompt of `BODY` is estimated to be, and its bound on what is produced.
fn reserved(shop: &Shop) -> u64 {
    shop.used(0)[0]
}

#[test]
fn what_is_queued_keeps_its_reservation_but_no_place() {
    let shop = Shop::new();
    let record = shop.ask("key", MAKE, QUEUED, true);
    assert_eq!((tokens(&record), record.stored, record.unread), (0, Some(Stored::Pending), None));
    assert_eq!(record.outcome, Outcome::Served);
    let held = record.reserved;
    assert!(held > 90);
    assert_eq!(shop.used(0), [held, 1, 1000 * held, 0, held, 0]);
    let series = counted(&record);
    assert!(series.contains(&("tollgate_stored_work;client=web;result=pending".to_owned(), 1)), "{series:?}");
    assert!(!series.iter().any(|(name, _)| name.contains("tokens")), "{series:?}");
}

#[test]
fn the_first_to_read_the_end_charges_whoever_made_it() {
    let shop = Shop::new();
    let _ = shop.ask("key", MAKE, QUEUED, true);
    let before = shop.used(0);
    for status in ["queued", "in_progress"] {
        let read = shop.ask("other", READ, &QUEUED.replace("queued", status), true);
        assert_eq!((tokens(&read), read.stored), (0, None));
    }
    assert_eq!(shop.used(0)[..4], before[..4]);
    let read = shop.ask("other", READ, DONE, true);
    assert_eq!((tokens(&read), read.stored, read.price_micros), (45, Some(Stored::Charged), Some(45_000)));
    assert_eq!((&*read.payer().unwrap().text, &*read.paid_model().unwrap().text), ("web", "gpt-4o"));
    assert_eq!(shop.used(0), [45, 1, 45_000, 0, 45, 0]);
    assert_eq!(shop.used(1), [0, 3, 0, 0, 45, 0]);
    let series = counted(&read);
    let asked = "tollgate_requests;client=other;model=none;operation=other;outcome=served".to_owned();
    assert_eq!(series[0], (asked, 1));
    for (name, amount) in [
        ("tollgate_tokens;client=web;model=gpt-4o;kind=completion", 40),
        ("tollgate_price_micros;client=web;model=gpt-4o", 45_000),
        ("tollgate_stored_work;client=web;result=charged", 1),
    ] {
        assert!(series.contains(&(name.to_owned(), amount)), "{series:?}");
    }
    for key in ["key", "other"] {
        let again = shop.ask(key, READ, DONE, true);
        assert_eq!((tokens(&again), again.stored, again.charge), (0, None, None));
    }
    assert_eq!(shop.used(0), [45, 2, 45_000, 0, 45, 0]);
}

#[test]
fn how_work_ended_decides_what_is_charged() {
    let cases = [
        (
            READ,
            r#"{"id":"resp_1","status":"incomplete","usage":{"input_tokens":5,"output_tokens":90}}"#,
            Some(95),
        ),
        (READ, r#"{"id":"resp_1","status":"failed","error":{},"usage":null}"#, Some(0)),
        (READ, r#"{"id":"resp_1","status":"failed","usage":{"input_tokens":5,"output_tokens":1}}"#, Some(6)),
        // A backend may go on with what it was told to cancel, and says nothing of what it used.
        ("POST /v1/responses/resp_1/cancel", r#"{"id":"resp_1","status":"cancelled","usage":null}"#, None),
        (
            "POST /v1/responses/resp_1/cancel",
            r#"{"id":"resp_1","status":"cancelled","usage":{"input_tokens":5,"output_tokens":2}}"#,
            Some(7),
        ),
        ("DELETE /v1/responses/resp_1", r#"{"id":"resp_1","object":"response","deleted":true}"#, None),
        ("GET /v1/responses/resp_1?stream=true&starting_after=3", COMPLETED, Some(45)),
    ];
    for (line, answer, expected) in cases {
        let shop = Shop::new();
        let _ = shop.ask("key", MAKE, QUEUED, true);
        let held = reserved(&shop);
        let record = shop.ask("key", line, answer, true);
        assert_eq!(tokens(&record), expected.unwrap_or(held), "{answer}");
        assert_eq!(record.stored, Some(Stored::Charged), "{answer}");
        let source = if expected.is_some() { Source::Reported } else { Source::Estimated };
        assert_eq!(record.source, source, "{answer}");
        let used = expected.unwrap_or(held);
        assert_eq!(shop.used(0), [used, 2, 1000 * used, 0, used, 0], "{answer}");
        assert!(shop.expired(NOW + UNRESERVED_MAX).is_empty());
    }
}

#[test]
fn an_answer_that_does_not_tell_the_end_charges_nothing() {
    let unused = r#"{"id":"resp_2","status":"completed","usage":{"input_tokens":5,"output_tokens":40}}"#;
    let cases = [
        (READ, unused, true),
        (READ, r#"{"id":"resp_1","status":"some_new_word","usage":{"input_tokens":5}}"#, true),
        (READ, r#"{"id":"resp_1","status":"completed","output":["#, false),
        ("GET /v1/responses/resp_1?stream=true", CREATED, false),
        (
            "GET /v1/responses/resp_1/input_items",
            r#"{"object":"list","data":[{"id":"resp_1","status":"completed"}]}"#,
            true,
        ),
        ("POST /v1/responses/resp_1/cancel", r#"{"id":"resp_1","status":"in_progress","usage":null}"#, true),
        ("POST /v1/chat/completions/c_1", r#"{"id":"c_1","usage":{"prompt_tokens":5}}"#, true),
        ("GET /v1/chat/completions/c_1", r#"{"id":"c_1","usage":{"prompt_tokens":5}}"#, true),
        (
            "GET /v1/batches/batch_1",
            r#"{"id":"batch_1","status":"completed","usage":{"input_tokens":5}}"#,
            true,
        ),
    ];
    for (line, answer, end) in cases {
        let shop = Shop::new();
        let _ = shop.ask("key", MAKE, QUEUED, true);
        let held = reserved(&shop);
        let record = shop.ask("key", line, answer, end);
        assert_eq!((tokens(&record), record.stored), (0, None), "{line} {answer}");
        assert_eq!(shop.used(0)[0], held, "{line} {answer}");
        assert_eq!(tokens(&shop.ask("key", READ, DONE, true)), 45, "{line} {answer}");
    }
}

#[test]
fn a_stream_in_the_background_goes_on_without_its_client() {
    let shop = Shop::new();
    let whole = [CREATED, TEXT, COMPLETED].concat();
    let record = shop.ask("key", MAKE, &whole, true);
    assert_eq!((tokens(&record), record.stored), (45, None));
    let record = shop.ask("key", MAKE, &[CREATED, TEXT].concat(), false);
    assert_eq!((tokens(&record), record.stored), (0, Some(Stored::Pending)));
    assert_eq!(record.outcome, Outcome::ClientGone);
    assert_eq!(shop.used(0)[0], 45 + record.reserved);
    assert_eq!(tokens(&shop.ask("key", READ, DONE, true)), 45);
    assert_eq!(shop.used(0)[0], 90);
    // One that is not made in the background ends with its stream.
    let foreground = CREATED.replace("true", "false");
    let record = shop.ask("key", MAKE, &[&foreground, TEXT].concat(), false);
    assert_eq!((record.stored, record.source), (None, Source::Estimated));
    assert!(tokens(&record) > 0);
}

#[test]
fn a_run_is_charged_once_by_its_own_model() {
    let run = |status: &str, usage: &str| {
        format!(r#"{{"id":"run_1","object":"thread.run","model":"d","status":"{status}","usage":{usage}}}"#)
    };
    let used = r#"{"prompt_tokens":7,"completion_tokens":3}"#;
    let paths = [
        ("POST /v1/threads/t_1/runs", "GET /v1/threads/t_1/runs/run_1"),
        ("POST /v1/threads/runs", "POST /v1/threads/t_1/runs/run_1/submit_tool_outputs"),
    ];
    for (make, read) in paths {
        let shop = Shop::new();
        let made = shop.ask("key", make, &run("queued", "null"), true);
        assert_eq!((tokens(&made), made.stored), (0, Some(Stored::Pending)));
        for status in ["requires_action", "cancelling"] {
            assert_eq!(tokens(&shop.ask("key", read, &run(status, "null"), true)), 0);
        }
        let ended = shop.ask("other", read, &run("completed", used), true);
        assert_eq!((tokens(&ended), ended.price_micros), (10, Some(10_000)));
        assert_eq!(&*ended.paid_model().unwrap().text, "gpt-4o");
        assert_eq!(tokens(&shop.ask("key", read, &run("completed", used), true)), 0);
        let found = shop.used(0);
        assert_eq!((found[0], found[2], found[4]), (10, 10_000, 10));
    }
    // As a stream it is done when that ends; a step says what its run says again.
    let event = |run: String| format!("data: {run}\n\n");
    let step =
        event(run("completed", used).replace("thread.run", "thread.run.step").replace("run_1", "step_1"));
    let begun = [event(run("queued", "null")), step].concat();
    let whole = [begun.clone(), event(run("completed", used))].concat();
    let shop = Shop::new();
    let streamed = shop.ask("key", paths[0].0, &whole, true);
    assert_eq!((tokens(&streamed), streamed.stored, streamed.price_micros), (10, None, Some(10_000)));
    assert_eq!(&*streamed.paid_model().unwrap().text, "gpt-4o");
    let left = shop.ask("key", paths[0].0, &begun, false);
    assert_eq!((tokens(&left), left.stored), (0, Some(Stored::Pending)));
    assert_eq!(tokens(&shop.ask("key", paths[0].1, &run("completed", used), true)), 10);
}

#[test]
fn what_nobody_reads_stays_charged_by_its_reservation() {
    let shop = Shop::new();
    let _ = shop.ask("key", MAKE, QUEUED, true);
    let batch = r#"{"id":"batch_1","object":"batch","status":"validating"}"#;
    assert_eq!(shop.ask("key", "POST /v1/batches", batch, true).stored, Some(Stored::Pending));
    let held = reserved(&shop);
    assert!(shop.expired(NOW + RESERVED_MAX - Duration::from_secs(1)).is_empty());
    let [record] = &shop.expired(NOW + RESERVED_MAX)[..] else { panic!() };
    let charges: Vec<_> = record.charges().iter().map(|(series, amount)| (series.name(), *amount)).collect();
    for (name, amount) in [
        ("tollgate_estimated_tokens;client=web;model=gpt-4o", held),
        ("tollgate_price_micros;client=web;model=gpt-4o", 1000 * held),
        ("tollgate_stored_work;client=web;result=expired", 1),
    ] {
        assert!(charges.contains(&(name.to_owned(), amount)), "{charges:?}");
    }
    assert!(!charges.iter().any(|(name, _)| name.contains("requests")), "{charges:?}");
    assert_eq!(shop.used(0)[0], held);
    assert_eq!(tokens(&shop.ask("key", READ, DONE, true)), 0);
    assert_eq!(shop.expired(NOW + UNRESERVED_MAX).len(), 1);
}

#[test]
fn a_batch_has_the_price_of_its_tier() {
    let priced = |tiers: Value| {
        let gateway = gateway(|config| {
            two_clients(config);
            config["models"][0]["prices"]["tiers"] = tiers;
        });
        let shop = Shop { gateway, store: MemoryStore::default() };
        let object = |status: &str, more: &str| {
            format!(r#"{{"id":"batch_1","object":"batch","model":"gpt-4o","status":"{status}"{more}}}"#)
        };
        let _ = shop.ask("key", "POST /v1/batches", &object("validating", ""), true);
        let used = r#","usage":{"input_tokens":5,"output_tokens":40}"#;
        let record = shop.ask("key", "GET /v1/batches/batch_1", &object("completed", used), true);
        assert_eq!((tokens(&record), shop.used(0)[2]), (45, record.price_micros.unwrap()));
        (record.price_micros, record.service_tier)
    };
    let batch = Some("batch".to_owned());
    assert_eq!(
        priced(json!({ "batch": { "prompt": 500, "completion": 250 } })),
        (Some(12_500), batch.clone())
    );
    assert_eq!(priced(json!({ "flex": { "prompt": 500 } })), (Some(45_000), batch));
}

#[test]
fn what_cannot_be_noted_is_charged_by_its_reservation() {
    let shop = Shop::new();
    let _ = shop.ask("key", MAKE, QUEUED, true);
    let held = reserved(&shop);
    // An id that is pending already.
    let record = shop.ask("key", MAKE, QUEUED, true);
    assert_eq!(
        (tokens(&record), record.stored, record.source),
        (held, Some(Stored::Full), Source::Estimated)
    );
    assert_eq!(shop.used(0), [2 * held, 2, 2000 * held, 0, 2 * held, 0]);
}

#[test]
fn what_a_dead_vm_is_taken_for_is_not_noted_as_well() {
    let shop = Shop::new();
    let mut exchange = shop.begin("key", MAKE, QUEUED, true);
    exchange.is_taken_over();
    let record = exchange.finish(Moment::new(&shop.store, NOW), || Interruption::Client).record;
    assert_eq!(record.stored, None);
    let _ = shop.ask("key", MAKE, QUEUED, true);
    let mut reader = shop.begin("key", READ, DONE, true);
    reader.is_taken_over();
    assert_eq!(tokens(&reader.finish(Moment::new(&shop.store, NOW), || Interruption::Client).record), 0);
    assert_eq!(tokens(&shop.ask("key", READ, DONE, true)), 45);
}

#[test]
fn a_window_that_is_over_owes_and_is_owed_nothing() {
    let shop = Shop::new();
    let _ = shop.ask("key", MAKE, QUEUED, true);
    let reader = shop.begin("key", READ, DONE, true);
    let later = NOW + Duration::from_secs(40 * 24 * 3600);
    assert_eq!(tokens(&shop.finish(reader, later)), 45);
    let budget = shop.gateway.roster[0].budget.clone();
    let inquiry = Inquiry { budget, model: None, operation: Operation::Responses };
    let states = limits::read(Moment::new(&shop.store, later), &inquiry).unwrap().states;
    assert_eq!([2, 4].map(|at: usize| states[at].used), [0, 0]);
}

#[test]
fn work_without_an_id_to_find_it_by_is_charged_at_once() {
    let long = |bytes: usize| QUEUED.replace("resp_1", &"r".repeat(bytes));
    let cases = [
        (QUEUED.replace(r#""id":"resp_1","#, ""), true),
        (long(4097), true),
        // Whoever hangs up before the first event tells an id has made the work all the same.
        ("data: {\"type\":\"keepalive\"}\n\n".to_owned(), false),
        ("data: ".to_owned(), false),
        (CREATED.replace("\"id\":\"resp_1\",", ""), false),
    ];
    for (answer, end) in cases {
        let shop = Shop::new();
        let record = shop.ask("key", MAKE, &answer, end);
        assert_eq!((tokens(&record), record.stored), (record.reserved, Some(Stored::Full)), "{answer}");
        assert_eq!((record.source, record.price_micros), (Source::Estimated, Some(1000 * record.reserved)));
        assert_eq!(shop.used(0)[0], record.reserved, "{answer}");
    }
    let shop = Shop::new();
    assert_eq!(shop.ask("key", MAKE, &long(4096), true).stored, Some(Stored::Pending));
    assert_eq!(tokens(&shop.ask("key", READ, &DONE.replace("resp_1", &"r".repeat(4096)), true)), 45);
    // What ended at once, or never began, is no such work.
    let failed = "data: {\"type\":\"error\",\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
    for (answer, expected) in [(DONE, 45), (COMPLETED, 45), (failed, 0)] {
        let record = Shop::new().ask("key", MAKE, answer, true);
        assert_eq!((tokens(&record), record.stored), (expected, None), "{answer}");
    }
}

#[test]
fn no_tokens_at_all_are_no_report() {
    let zeros = r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#;
    let done = |usage: &str| DONE.replace(r#"{"input_tokens":5,"output_tokens":40}"#, usage);
    let failed = format!(r#"{{"id":"resp_1","status":"failed","usage":{zeros}}}"#);
    for (answer, expected) in [
        (done(zeros), (None, Source::Estimated, Some("zero_usage"))),
        (
            done(r#"{"input_tokens":0,"output_tokens":40}"#),
            (Some((0, 40)), Source::Estimated, Some("zero_usage")),
        ),
        (done(r#"{"total_tokens":60}"#), (Some((0, 0)), Source::Estimated, Some("total_only"))),
        (done(r#"{"input_tokens":5,"output_tokens":0}"#), (Some((5, 0)), Source::Reported, None)),
        (
            done(r#"{"input_tokens":-5,"output_tokens":"4"}"#),
            (Some((0, 4)), Source::Estimated, Some("zero_usage")),
        ),
        (failed, (Some((0, 0)), Source::Reported, None)),
    ] {
        let shop = Shop::new();
        // Some tell zeros from the beginning.
        let made = shop.ask("key", MAKE, &QUEUED.replace("null", zeros), true);
        assert_eq!(made.stored, Some(Stored::Pending));
        let held = reserved(&shop);
        let record = shop.ask("key", READ, &answer, true);
        let (used, source, unread) = expected;
        let prompt = held - 90;
        let expected = match used {
            None => held,
            Some((0, 0)) if unread.is_some() => 60,
            Some((0, completion)) if unread.is_some() => prompt + completion,
            Some((prompt, completion)) => prompt + completion,
        };
        assert_eq!((tokens(&record), record.source, record.unread), (expected, source, unread), "{answer}");
        assert_eq!(shop.used(0)[0], expected, "{answer}");
    }
}

#[test]
fn nothing_is_believed_of_work_beyond_what_fits_in_it() {
    const CALL: u64 = 2 * 1024 * 1024 + 128 * 1024;
    let usage = r#"{"input_tokens":1e13,"output_tokens":1e13}"#;
    let work = |object: &str, status: &str, usage: &str| {
        format!(r#"{{"id":"x_1","object":"{object}","status":"{status}","usage":{usage}}}"#)
    };
    for (make, read, object, expected) in [
        ("POST /v1/batches", "GET /v1/batches/x_1", "batch", 50_000 * CALL),
        ("POST /v1/threads/t_1/runs", "GET /v1/threads/t_1/runs/x_1", "thread.run", 100 * CALL),
        (MAKE, "GET /v1/responses/x_1", "response", CALL),
    ] {
        let shop = Shop::new();
        let _ = shop.ask("key", make, &work(object, "in_progress", "null"), true);
        let record = shop.ask("key", read, &work(object, "completed", usage), true);
        assert_eq!((record.source, record.unread), (Source::Estimated, Some("usage_too_large")), "{object}");
        assert_eq!(tokens(&record), expected, "{object}");
    }
    let shop = Shop::new();
    let record = shop.ask("key", "POST /v1/threads/t_1/runs", &work("thread.run", "completed", usage), true);
    assert_eq!((record.unread, tokens(&record)), (Some("usage_too_large"), 100 * CALL));
}

#[test]
fn a_run_is_due_from_the_limits_of_its_model_too() {
    let gateway = gateway(|config| {
        two_clients(config);
        let limits = config["clients"][0]["limits"].as_array_mut().unwrap();
        limits.push(
            json!({ "tokens": 1000, "per": "day", "models": ["gpt-4o"], "weights": { "completion": 3 } }),
        );
    });
    let run = |status: &str, usage: &str| {
        format!(r#"{{"id":"run_1","object":"thread.run","model":"d","status":"{status}","usage":{usage}}}"#)
    };
    let used = r#"{"prompt_tokens":7,"completion_tokens":3}"#;
    for is_at_once in [true, false] {
        let shop = Shop { gateway: gateway.clone(), store: MemoryStore::default() };
        let make = "POST /v1/threads/t_1/runs";
        if is_at_once {
            let _ = shop.ask("key", make, &run("completed", used), true);
        } else {
            let _ = shop.ask("key", make, &run("queued", "null"), true);
            let _ = shop.ask("other", "GET /v1/threads/t_1/runs/run_1", &run("completed", used), true);
        }
        let budget = shop.gateway.roster[0].budget.clone();
        let inquiry = Inquiry { budget, model: None, operation: Operation::Responses };
        let states = limits::read(Moment::new(&shop.store, NOW), &inquiry).unwrap().states;
        let found: Vec<_> = states.iter().take(5).map(|state| state.used).collect();
        assert_eq!(found, [10, 1, 10_000, 0, 16], "{is_at_once}");
    }
}

#[test]
fn stored_work_costs_what_its_tier_and_who_does_it_cost() {
    let gateway = gateway(|config| {
        two_clients(config);
        let prices = json!({ "prompt": 1000, "completion": 1000, "tiers": { "priority": { "prompt": 3000, "completion": 3000 } } });
        config["models"][0]["backends"][0]["prices"] = prices;
        config["models"][0]["backends"][0]["spillover_prices"] =
            json!({ "prompt": 7000, "completion": 7000 });
    });
    let make = |more: &[(&str, &str)]| {
        let shop = Shop { gateway: gateway.clone(), store: MemoryStore::default() };
        let record = shop.finish(shop.begin_with("key", MAKE, QUEUED, true, more), NOW);
        assert_eq!((record.stored, record.price_micros), (Some(Stored::Pending), Some(0)));
        (shop, record.reserved)
    };
    let spillover = [("x-ms-spillover-from-deployment", "d")];
    for (more, tier, micros) in [
        (&[][..], "", 45_000),
        (&[], r#","service_tier":"priority""#, 135_000),
        (&spillover[..], "", 315_000),
        (&spillover, r#","service_tier":"priority""#, 315_000),
    ] {
        let (shop, _) = make(more);
        let record =
            shop.ask("other", READ, &DONE.replace(r#","usage""#, &format!(r#"{tier},"usage""#)), true);
        assert_eq!((record.price_micros, shop.used(0)[2]), (Some(micros), micros), "{tier}");
    }
    // Unread, it costs what was reserved: the dearest that could have come.
    let (shop, held) = make(&[]);
    assert_eq!(shop.used(0)[2], 7000 * held);
    let [record] = &shop.expired(NOW + RESERVED_MAX)[..] else { panic!() };
    assert_eq!(record.price_micros, Some(7000 * held));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever reads what in whichever order: what was taken from the budget is what the records say was used, and what is
    /// reserved for what goes on.
    #[test]
    fn stored_work_is_charged_exactly_once(steps in prop::collection::vec((0..7usize, 0..3usize, any::<bool>()), 0..24)) {
        let shop = Shop::new();
        let (mut sum, mut micros, mut pending) = (0, 0, std::collections::HashMap::new());
        for (step, id, end) in steps {
            let name = format!("resp_{id}");
            let named = |text: &str| text.replace("resp_1", &name);
            let (line, answer) = [
                (MAKE, QUEUED),
                (MAKE, CREATED),
                (READ, QUEUED),
                (READ, DONE),
                (READ, COMPLETED),
                ("POST /v1/responses/resp_1/cancel", r#"{"id":"resp_1","status":"cancelled","usage":null}"#),
                ("DELETE /v1/responses/resp_1", r#"{"id":"resp_1","deleted":true}"#),
            ][step];
            let exchange = shop.begin(if end { "key" } else { "other" }, &named(line), &named(answer), end);
            let record = shop.finish(exchange, NOW);
            sum += tokens(&record);
            micros += record.price_micros.unwrap_or(0);
            match record.stored {
                Some(Stored::Pending) => prop_assert_eq!(pending.insert(name, record.reserved), None),
                Some(Stored::Charged) => prop_assert!(pending.remove(&name).is_some()),
                _ => {}
            }
        }
        let held: u64 = pending.values().sum();
        let used = [0, 1].map(|at| shop.used(at));
        prop_assert_eq!(used[0][4], sum + held);
        prop_assert_eq!(used[0][2] + used[1][2], micros + 1000 * held);
        prop_assert_eq!([used[0][3], used[1][3], used[0][5]], [0; 3]);
        let expired = shop.expired(NOW + RESERVED_MAX);
        prop_assert_eq!(expired.iter().map(tokens).sum::<u64>(), held);
    }
}
