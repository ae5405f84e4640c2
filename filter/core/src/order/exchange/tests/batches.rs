//! Files of batches, and batches, where these are governed.

use super::*;
use crate::batch::LINE_BYTES_MAX;
use crate::ledger::Stored;
use crate::pending::{BUCKETS, RESERVED_MAX, UNRESERVED_MAX, overdue};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn governed(config: &mut Value) {
    every_limit(config);
    config["pinning"] = json!({ "secret_envs": ["A_SECRET_THAT_HAS_THIRTY_TWO_BYTES"], "batches": "govern" });
    config["clients"][0]["endpoints"] = json!(["*", "other"]);
    config["clients"][0]["models"] = json!(["gpt-4o", "gpt-4o-mini"]);
    config["other_endpoints"] = json!(["b"]);
    config["models"][0]["backends"] = json!([{ "backend": "b" }]);
    config["models"][0]["prices"] = json!({ "prompt": 1000, "completion": 1000, "tiers": { "batch": { "prompt": 500, "completion": 500 } } });
    let mut mini = config["models"][0].clone();
    mini["name"] = json!("gpt-4o-mini");
    config["models"].as_array_mut().unwrap().push(mini);
    config["policies"][0] = json!({
        "name": "p", "max_tokens": { "max": 100, "over": "reject" }, "temperature": { "max": 1, "over": "clamp" },
        "request_bytes_max": 500_000,
    });
}

/// A gateway, and what its workers know together.
struct Shop {
    gateway: Rc<Gateway>,
    run: Run,
}

fn line(id: u32, body: &Value) -> String {
    json!({ "custom_id": id.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": body })
        .to_string()
}

fn chat(more: Value) -> Value {
    with(
        json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 50 }),
        more,
    )
}

fn good_line(id: u32) -> String {
    line(id, &chat(json!({})))
}

fn good_file() -> String {
    format!("{}\n{}\n", good_line(1), good_line(2))
}

fn form(parts: &[(&str, &str)]) -> String {
    let parts = parts.iter().map(|(name, text)| {
        let filename = if *name == "file" { "; filename=\"in.jsonl\"" } else { "" };
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{text}\r\n")
    });
    parts.collect::<String>() + "--xyz--\r\n"
}

const FILE: &str = r#"{"id":"file-1","object":"file","purpose":"batch","status":"processed"}"#;
const BATCH: &str = r#"{"id":"batch_1","object":"batch","input_file_id":"file-1","status":"validating"}"#;

/// What becomes of an upload.
#[derive(Debug, PartialEq)]
enum Uploaded {
    /// It was let through, and answered so.
    As(String),
    /// It was refused, with this message, and so many of its bytes had gone on before.
    Refused(String, usize),
}

impl Shop {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(edit: impl FnOnce(&mut Value)) -> Self {
        let gateway = gateway(|config| {
            governed(config);
            edit(config);
        });
        Self { run: Run::with(gateway.clone()), gateway }
    }

    fn moment(&self) -> Moment<'_> {
        Moment::new(&self.run.store, NOW)
    }

    /// The answer to the request, as the client gets it, and its record.
    fn answered(&mut self, flight: &Rc<Flight>, answer: &str) -> (String, Record) {
        let _ = begin(flight, b"cb").unwrap();
        let _ = self.run.answer("200", "application/json");
        let output = self.run.exchange.response_chunk(answer.as_bytes(), true, || NOW);
        let seen = match output {
            Output::Same => answer.to_owned(),
            Output::Replaced(bytes) => String::from_utf8(bytes).unwrap(),
        };
        (seen, self.run.finish())
    }

    /// An upload of which only the head has come.
    fn begin_upload(&mut self, content_type: &str) -> Forward {
        self.run.exchange = Exchange::new(self.gateway.clone());
        let head =
            [(":method", "POST"), (":path", "/v1/files"), ("api-key", "key"), ("content-type", content_type)];
        match self.run.head(&head) {
            Step::Forward(forward) => forward,
            step => panic!("{step:?}"),
        }
    }

    fn upload_in(&mut self, body: &[u8], lengths: &[usize]) -> Uploaded {
        let forward = self.begin_upload("multipart/form-data; boundary=xyz");
        let (mut rest, mut lengths, mut gone) = (body, lengths.iter(), 0);
        while self.run.exchange.scans() {
            let length = lengths.next().map_or(rest.len(), |length| (*length).min(rest.len()));
            let (chunk, after) = rest.split_at(length);
            rest = after;
            let moment = Moment::new(&self.run.store, NOW);
            if let Some(step) = self.run.exchange.request_chunk(Some(chunk), rest.is_empty(), moment) {
                let Step::Answer(answer) = step else { panic!("{step:?}") };
                assert_eq!(answer.status, 400);
                let answer: Value = serde_json::from_slice(&answer.body).unwrap();
                let record = self.run.finish();
                assert!(matches!(record.outcome, Outcome::Denied(_)) && record.served.is_none());
                let _ = self.used();
                return Uploaded::Refused(answer["error"]["message"].as_str().unwrap().to_owned(), gone);
            }
            gone += length;
        }
        let (seen, _) = self.answered(&forward.flight, FILE);
        let seen: Value = serde_json::from_str(&seen).unwrap();
        Uploaded::As(seen["id"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    fn upload(&mut self, file: &str) -> String {
        match self.upload_in(form(&[("purpose", "batch"), ("file", file)]).as_bytes(), &[]) {
            Uploaded::As(id) => id,
            refused => panic!("{refused:?}"),
        }
    }

    /// Refused, wherever in the form the purpose stands.
    #[track_caller]
    fn refuses(&mut self, file: &str, expected: &str) {
        for fields in [[("purpose", "batch"), ("file", file)], [("file", file), ("purpose", "batch")]] {
            match self.upload_in(form(&fields).as_bytes(), &[]) {
                Uploaded::Refused(message, 0) => assert!(message.contains(expected), "{file}\n{message}"),
                other => panic!("{file}\n{other:?}"),
            }
        }
    }

    /// Asks about batches; the other way, the refusal.
    fn ask(&mut self, line: &str, body: &str, answer: &str) -> Result<Record, String> {
        let (method, path) = line.split_once(' ').unwrap();
        self.run.exchange = Exchange::new(self.gateway.clone());
        let head =
            headers(&[(":method", method), (":path", path), ("api-key", "key"), ("content-length", "1")]);
        let step = self.run.exchange.request_head(&head, body.is_empty(), Moment::new(&self.run.store, NOW));
        let step = match self.run.perform(step) {
            Step::AwaitBody { .. } => self.run.body(body),
            step => step,
        };
        match step {
            Step::Forward(forward) => Ok(self.answered(&forward.flight, answer).1),
            step => {
                let refused = refused(step);
                let _ = self.run.finish();
                Err(refused)
            }
        }
    }

    fn make(&mut self, file: &str) -> Result<Record, String> {
        self.ask("POST /v1/batches", &order(file, "/v1/chat/completions"), BATCH)
    }

    fn read(&mut self, status: &str, more: &str) -> Record {
        let batch = format!(r#"{{"id":"batch_1","object":"batch","status":"{status}"{more}}}"#);
        let id = self.sealed_batch();
        self.ask(&format!("GET /v1/batches/{id}"), "", &batch).unwrap()
    }

    fn sealed_batch(&self) -> String {
        use crate::pinning::Stamp;
        let pinning = self.gateway.pinning.as_ref().unwrap().pinning.clone();
        let mut stamp = Stamp::new(pinning, "web".into(), "b".into(), false);
        let Output::Replaced(seen) = stamp.push(br#"{"id":"batch_1"}"#, true) else { panic!() };
        serde_json::from_slice::<Value>(&seen).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Used of: tokens, requests, money in millionths, places.
    fn used(&mut self) -> [u64; 4] {
        let budget = self.gateway.roster[0].budget.clone();
        let inquiry = Inquiry { budget, model: None, operation: Operation::Other };
        let states = limits::read(self.moment(), &inquiry).unwrap().states;
        [0, 1, 2, 3].map(|at| states[at].used)
    }
}

fn order(file: &str, endpoint: &str) -> String {
    json!({ "input_file_id": file, "endpoint": endpoint, "completion_window": "24h" }).to_string()
}

const USED: &str = r#","usage":{"input_tokens":5,"output_tokens":40}"#;

#[test]
fn a_batch_reserves_what_its_lines_may_cost_and_settles_once() {
    let mut shop = Shop::new();
    let file = shop.upload(&good_file());
    assert!(file.starts_with("file-tgb_") && file.ends_with('1'), "{file}");
    let [_, uploads, ..] = shop.used();
    let record = shop.make(&file).unwrap();
    let held = record.reserved;
    assert_eq!((record.stored, record.usage.total()), (Some(Stored::Pending), 0));
    // Two answers of fifty tokens, and what the two prompts are.
    assert!(held > 100 && held < 150, "{held}");
    // What is reserved has the default price, which is the dearest that may come.
    assert_eq!(shop.used(), [held, uploads + 1, 1000 * held, 0]);
    assert_eq!(shop.read("in_progress", "").stored, None);
    let record = shop.read("completed", USED);
    assert_eq!(
        (record.stored, record.usage.total(), record.price_micros),
        (Some(Stored::Charged), 45, Some(22_500))
    );
    assert_eq!(record.charge.unwrap().model.unwrap().text, "gpt-4o".into());
    let requests = uploads + 3;
    assert_eq!(shop.used(), [45, requests, 22_500, 0]);
    let again = shop.read("completed", USED);
    assert_eq!((again.stored, again.usage.total()), (None, 0));
    assert_eq!(shop.used(), [45, requests + 1, 22_500, 0]);
}

#[test]
fn a_batch_that_was_cancelled_gives_back() {
    for (status, more, used) in [
        ("cancelled", r#","request_counts":{"total":2,"completed":0,"failed":0}"#, Some(0)),
        (
            "expired",
            r#","request_counts":{"total":2,"completed":0,"failed":2},"usage":{"input_tokens":0,"output_tokens":0}"#,
            Some(0),
        ),
        (
            "cancelled",
            r#","request_counts":{"total":2,"completed":1,"failed":0},"usage":{"input_tokens":5,"output_tokens":40}"#,
            Some(45),
        ),
        ("failed", r#","errors":{"data":[]}"#, Some(0)),
        // Nobody says what those used that came to an answer, nor how many did.
        ("cancelled", r#","request_counts":{"total":2,"completed":1,"failed":0}"#, None),
        ("failed", r#","request_counts":{"total":2,"completed":1,"failed":1}"#, None),
        (
            "failed",
            r#","request_counts":{"total":2,"completed":1,"failed":1},"usage":{"input_tokens":0,"output_tokens":0}"#,
            None,
        ),
        ("cancelled", "", None),
    ] {
        let mut shop = Shop::new();
        let file = shop.upload(&good_file());
        let held = shop.make(&file).unwrap().reserved;
        assert_eq!(shop.read("cancelling", more).stored, None);
        let record = shop.read(status, more);
        assert_eq!(record.stored, Some(Stored::Charged));
        assert_eq!(
            (record.usage.total(), shop.used()[0]),
            (used.unwrap_or(held), used.unwrap_or(held)),
            "{status}{more}"
        );
        assert_eq!(shop.used()[2], record.price_micros.unwrap());
    }
}

#[test]
fn only_the_batch_itself_says_how_it_ended() {
    let mut shop = Shop::new();
    let file = shop.upload(&good_file());
    let held = shop.make(&file).unwrap().reserved;
    // A client may have written what these answer.
    let forged = r#"{"id":"batch_1","object":"batch","status":"cancelled","request_counts":{"total":2,"completed":0}}"#;
    let batch = shop.sealed_batch();
    for line in [
        format!("GET /v1/files/{file}/content"),
        format!("GET /v1/files/{file}"),
        format!("DELETE /v1/files/{file}"),
        "GET /v1/batches".to_owned(),
        format!("GET /v1/batches/{batch}/content"),
    ] {
        if let Ok(record) = shop.ask(&line, "", forged) {
            assert_eq!((record.stored, record.usage.total()), (None, 0), "{line}");
        }
        assert_eq!(shop.used()[0], held, "{line}");
    }
    assert!(shop.ask(&format!("GET /v1/files/{file}/content"), "", forged).is_ok());
    assert_eq!(shop.read("completed", USED).stored, Some(Stored::Charged));
    assert_eq!(shop.used()[0], 45);
}

#[test]
fn a_backend_that_answers_early_has_counted_all() {
    let mut shop = Shop::new();
    let body = form(&[("purpose", "batch"), ("file", &good_file())]);
    let seen = |shop: &mut Shop, body: &[u8]| {
        let forward = shop.begin_upload("multipart/form-data; boundary=xyz");
        let moment = Moment::new(&shop.run.store, NOW);
        assert!(shop.run.exchange.request_chunk(Some(body), false, moment).is_none());
        shop.answered(&forward.flight, FILE).0
    };
    assert!(seen(&mut shop, body.as_bytes()).contains("file-tgb_"));
    // What is not all yet is not counted.
    assert!(seen(&mut shop, &body.as_bytes()[..body.len() - 6]).contains("file-tg_"));
}

#[test]
fn what_could_not_be_read_does_not_go_on() {
    let mut shop = Shop::new();
    let _ = shop.begin_upload("multipart/form-data; boundary=xyz");
    let step = shop.run.exchange.request_chunk(None, false, Moment::new(&shop.run.store, NOW)).unwrap();
    assert_eq!(refused(step), "500 internal_error");
}

#[test]
fn a_forms_type_is_written_plainly_for_the_backend() {
    let mut shop = Shop::new();
    let forward = shop.begin_upload("multipart/form-data; charset=utf-8; boundary=xyz");
    assert_eq!(forward.content_type.as_deref(), Some("multipart/form-data; boundary=\"xyz\""));
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let limit = |tokens: u64| {
        move |config: &mut Value| {
            config["clients"][0]["limits"] = json!([{ "tokens": tokens, "per": "day" }]);
            config["groups"][0]["limits"] = json!([{ "tokens": BUDGET, "per": "week" }]);
        }
    };
    let mut small = Shop::with(limit(100));
    let file = small.upload(&good_file());
    assert_eq!(small.make(&file).unwrap_err(), "429 request_exceeds_limit");
    let mut shop = Shop::with(limit(200));
    let file = shop.upload(&good_file());
    let held = shop.make(&file).unwrap().reserved;
    assert_eq!(shop.make(&file).unwrap_err(), "429 insufficient_quota");
    let budget = shop.gateway.roster[0].budget.clone();
    let inquiry = Inquiry { budget, model: None, operation: Operation::Other };
    assert_eq!(limits::read(shop.moment(), &inquiry).unwrap().states[0].used, held);
}

#[test]
fn a_file_that_was_not_counted_makes_no_batch() {
    let mut shop = Shop::new();
    let file = shop.upload(&good_file());
    // Of the same file as a list of files has it, and of another purpose.
    let body = form(&[("purpose", "user_data"), ("file", &good_file())]);
    let Uploaded::As(other) = shop.upload_in(body.as_bytes(), &[]) else { panic!() };
    assert!(other.starts_with("file-tg_"), "{other}");
    assert_eq!(shop.make(&other).unwrap_err(), "400 batch_file_not_counted");
    let changed = file.replacen("tgb_", "tgb_A", 1);
    for unknown in [&*changed, &format!("{file}0"), "file-1"] {
        assert_eq!(shop.make(unknown).unwrap_err(), "404 id_not_found", "{unknown}");
    }
    // All of the sum is under the seal.
    for at in file.len() - 29..file.len() - 1 {
        let mut changed = file.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(shop.make(&changed).unwrap_err(), "404 id_not_found", "{changed}");
    }
    let responses = order(&file, "/v1/responses");
    assert_eq!(shop.ask("POST /v1/batches", &responses, BATCH).unwrap_err(), "400 invalid_type");
    assert_eq!(shop.ask("POST /v1/batches", "", BATCH).unwrap_err(), "400 missing_required_parameter");
    // It is a file like others for all else.
    assert!(shop.ask(&format!("GET /v1/files/{file}"), "", FILE).is_ok());
    assert!(shop.make(&file).is_ok());
}

#[test]
fn a_line_against_the_rules_refuses_the_file_with_its_number() {
    let mut shop = Shop::new();
    let second = |line: &str| format!("{}\n{line}\n{}\n", good_line(1), good_line(3));
    for (line, expected) in [
        (line(2, &chat(json!({ "max_tokens": 101 }))), "`max_tokens` is 101"),
        (line(2, &chat(json!({ "temperature": 2 }))), "temperature=1"),
        (line(2, &chat(json!({ "model": "secret" }))), "secret"),
        (line(2, &chat(json!({ "model": "gpt-4o-mini" }))), "same `model`"),
        (line(2, &json!({ "messages": [] })), "no `model`"),
        (good_line(2).replace("/v1/chat/completions", "/v1/responses"), "same `url`"),
        (good_line(2).replace("POST", "GET"), "method"),
        (line(2, &chat(json!({ "messages": "x".repeat(500_000) }))), "500000"),
        (good_line(2).replace("\"max_tokens\":50", "\"max_tokens\":50,\"max_tokens\":60"), "more than once"),
        ("{".to_owned(), "not valid JSON"),
    ] {
        shop.refuses(&second(&line), "Line 2 of the batch's file: ");
        shop.refuses(&second(&line), expected);
    }
    shop.refuses(&second(&"x".repeat(LINE_BYTES_MAX + 1)), "Line 2 of the batch's file: It has more than");
    shop.refuses("", "Line 1 of the batch's file: There is no request");
    shop.refuses("\n\n", "There is no request");
    assert_eq!(shop.used()[0], 0);
}

#[test]
fn a_line_that_a_policy_would_complete_is_refused() {
    let mut shop = Shop::with(|config| config["policies"][0]["max_tokens"]["default"] = json!(80));
    let mut body = chat(json!({}));
    body.as_object_mut().unwrap().remove("max_tokens");
    shop.refuses(
        &format!("{}\n", line(1, &body)),
        "Line 1 of the batch's file: This client's policy would change it",
    );
    let _ = shop.upload(&good_file());
}

#[test]
fn a_policy_that_audits_counts_and_lets_pass() {
    let mut shop = Shop::with(|config| config["policies"][0]["mode"] = json!("audit"));
    let file = shop.upload(&format!("{}\n", line(1, &chat(json!({ "max_tokens": 101, "temperature": 2 })))));
    assert!(shop.make(&file).unwrap().reserved > 101);
}

#[test]
fn a_line_with_an_id_of_this_gateway_is_refused() {
    let mut shop = Shop::new();
    let id = shop.sealed_batch().replacen("batch_", "resp_", 1);
    let sealed = {
        let pinning = shop.gateway.pinning.as_ref().unwrap().pinning.clone();
        let mut stamp = crate::pinning::Stamp::new(pinning, "web".into(), "b".into(), false);
        let Output::Replaced(seen) = stamp.push(br#"{"id":"resp_1"}"#, true) else { panic!() };
        serde_json::from_slice::<Value>(&seen).unwrap()["id"].as_str().unwrap().to_owned()
    };
    for (id, expected) in [(sealed, "has sealed"), (id, "No"), ("resp_1".to_owned(), "resp_1")] {
        let body =
            json!({ "model": "gpt-4o", "input": "x", "max_output_tokens": 9, "previous_response_id": id });
        let line = line(1, &body).replace("/v1/chat/completions", "/v1/responses");
        shop.refuses(&line, expected);
    }
}

#[test]
fn what_a_form_says_twice_is_refused() {
    let mut shop = Shop::new();
    let file = good_file();
    for fields in [
        vec![("purpose", "batch"), ("purpose", "batch"), ("file", &*file)],
        vec![("purpose", "user_data"), ("Purpose", "batch"), ("file", &file)],
        vec![("purpose", "batch"), ("file", &file), ("file", &file)],
        vec![("purpose", "batch"), ("File", "x"), ("file", &file)],
        vec![("purpose", "batch")],
    ] {
        let found = shop.upload_in(form(&fields).as_bytes(), &[]);
        assert!(matches!(found, Uploaded::Refused(..)), "{fields:?} {found:?}");
    }
}

#[test]
fn files_for_other_purposes_pass_whatever_is_in_them() {
    let mut shop = Shop::new();
    for file in ["%PDF\u{1}", "", "{}\n", &"x".repeat(LINE_BYTES_MAX + 9)] {
        for fields in [[("purpose", "user_data"), ("file", file)], [("file", file), ("purpose", "user_data")]]
        {
            let found = shop.upload_in(form(&fields).as_bytes(), &[]);
            assert!(matches!(&found, Uploaded::As(id) if id.starts_with("file-tg_")), "{found:?}");
        }
    }
}

#[test]
fn a_client_holds_no_more_of_lines_than_it_has_room_for() {
    let mut shop = Shop::with(|config| config["clients"][0]["held_bytes_max"] = json!(500_000));
    let body = form(&[("purpose", "batch"), ("file", &"x".repeat(600_000))]);
    self::refused_by_room(&mut shop, body.as_bytes());
    assert_eq!(shop.gateway.roster[0].held_bytes_now(), 0);
    let _ = shop.upload(&good_file());
    assert_eq!(shop.gateway.roster[0].held_bytes_now(), 0);
}

fn refused_by_room(shop: &mut Shop, body: &[u8]) {
    shop.run.exchange = Exchange::new(shop.gateway.clone());
    let head = [
        (":method", "POST"),
        (":path", "/v1/files"),
        ("api-key", "key"),
        ("content-type", "multipart/form-data; boundary=xyz"),
    ];
    let step = shop.run.head(&head);
    assert!(matches!(step, Step::Forward(_)));
    let moment = Moment::new(&shop.run.store, NOW);
    let (front, _) = body.split_at(body.len() - 50);
    let step = shop.run.exchange.request_chunk(Some(front), false, moment).unwrap();
    assert_eq!(refused(step), "429 held_bytes_exceeded");
    let _ = shop.run.finish();
}

#[test]
fn a_batch_that_nobody_reads_stays_charged_after_seven_days() {
    let mut shop = Shop::new();
    let file = shop.upload(&good_file());
    let held = shop.make(&file).unwrap().reserved;
    let expired = |shop: &Shop, now: Duration| -> Vec<Record> {
        let of = |bucket| overdue(Moment::new(&shop.run.store, now), bucket).unwrap();
        (0..BUCKETS).flat_map(of).map(|pending| Exchange::expired(&pending, &shop.gateway)).collect()
    };
    let noted = NOW + Duration::from_secs(1);
    assert!(expired(&shop, noted + RESERVED_MAX).is_empty());
    let [record] = &expired(&shop, noted + UNRESERVED_MAX)[..] else { panic!() };
    assert_eq!(record.usage.total(), held);
    assert_eq!(shop.used()[0], held);
}

#[test]
fn by_default_files_and_batches_pass_as_before() {
    let mut shop = Shop::with(|config| {
        config["pinning"].as_object_mut().unwrap().remove("batches");
    });
    let body = form(&[("purpose", "batch"), ("file", "no line at all")]);
    let Uploaded::As(file) = shop.upload_in(body.as_bytes(), &[]) else { panic!() };
    assert!(file.starts_with("file-tg_"), "{file}");
    let record = shop.make(&file).unwrap();
    assert_eq!((record.reserved, record.stored), (0, Some(Stored::Pending)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn cuts_of_an_upload_do_not_matter(
        is_first: bool, bad in prop::option::of(0..3usize), lengths in prop::collection::vec(0..60usize, 0..40),
    ) {
        let mut lines = [good_line(1), good_line(2), good_line(3)];
        if let Some(at) = bad {
            lines[at] = line(9, &chat(json!({ "max_tokens": 101 })));
        }
        let file = lines.join("\n");
        let fields = [("purpose", "batch"), ("file", &*file)];
        let fields = if is_first { fields } else { [fields[1], fields[0]] };
        let body = form(&fields);
        let mut shop = Shop::new();
        let found = shop.upload_in(body.as_bytes(), &lengths);
        let expected = shop.upload_in(body.as_bytes(), &[]);
        match (&found, &expected) {
            (Uploaded::Refused(one, gone), Uploaded::Refused(other, 0)) => {
                prop_assert_eq!(one, other);
                prop_assert!(*gone < body.len());
            }
            _ => prop_assert_eq!(found, expected),
        }
    }
}
