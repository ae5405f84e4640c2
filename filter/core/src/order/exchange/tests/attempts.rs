//! One attempt in its order: what waits of its answer, and what becomes of that.

use super::*;
use crate::json::Patch;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const JSON: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/json")];
const EVENTS: [(&str, &str); 2] = [(":status", "200"), ("content-type", "text/event-stream")];

/// An answer of backend `a`, which is the first of two.
struct Answering {
    store: MemoryStore,
    attempt: Attempt,
    /// What of its body is here.
    body: Vec<u8>,
}

impl Answering {
    fn of(gateway: Rc<Gateway>) -> Self {
        let mut run = Run::with(gateway);
        let flight = run.send(PROMPT).flight;
        let attempt = begin(&flight, b"ca").unwrap().attempt;
        Self { store: run.store, attempt, body: Vec::new() }
    }

    fn new() -> Self {
        Self::of(gateway(|_| {}))
    }

    fn head(&mut self, pairs: &[(&str, &str)], end: bool) -> Heard {
        self.attempt.response_head(headers(pairs), end, &Outside::new(&self.store, &|| NOW))
    }

    /// A piece comes, and if the head waits it is shown with all that came before.
    fn piece(&mut self, piece: &str, end: bool) -> Heard {
        if !self.attempt.waits() {
            self.body.clear();
        }
        self.body.extend(piece.as_bytes());
        let body = &self.body;
        let read = |bytes: usize| body.iter().take(bytes).copied().collect();
        let waiting = Waiting { bytes: body.len(), end, read: &read };
        self.attempt.response_body(&waiting, &Outside::new(&self.store, &|| NOW))
    }

    fn trailers(&mut self) -> Heard {
        let body = &self.body;
        let read = |bytes: usize| body.iter().take(bytes).copied().collect();
        self.attempt.response_trailers(&read, &Outside::new(&self.store, &|| NOW))
    }
}

/// The status that is counted, once.
fn counted(heard: &Heard) -> Option<u16> {
    let status = |series: &Series| match series {
        Series::UpstreamResponses { status, .. } => Some(*status),
        _ => None,
    };
    let mut counted = heard.counts.iter().filter_map(status);
    let first = counted.next();
    assert_eq!(counted.next(), None);
    first
}

fn set<'h>(heard: &'h Heard, name: &str) -> Option<&'h str> {
    heard.set.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
}

const ERROR: &str = r#"{"error":{"message":"slow down","code":429}}"#;

#[test]
fn a_head_waits_until_its_status_is_sure_and_then_teaches_once() {
    let mut answer = Answering::new();
    let head = answer.head(&JSON, false);
    assert_eq!((head.waits, counted(&head)), (true, None));
    let (first, rest) = ERROR.split_at(20);
    let heard = answer.piece(first, false);
    assert_eq!((heard.waits, counted(&heard)), (true, None));
    let heard = answer.piece(rest, true);
    assert_eq!((heard.waits, counted(&heard), set(&heard, ":status")), (false, Some(429), Some("429")));
    assert_eq!(heard.patch, None);
    assert!(heard.counts.contains(&Series::Cooldowns { backend: "a".into() }));

    let mut answer = Answering::new();
    let _ = answer.head(&JSON, false);
    let heard = answer.piece(r#"{"id":"chatcmpl-1","choices":["#, false);
    assert_eq!((heard.waits, counted(&heard), heard.set), (false, Some(200), vec![]));
    let heard = answer.piece("]}", true);
    assert_eq!(heard, Heard::default());
}

#[test]
fn an_error_event_is_replaced_by_a_whole_error() {
    let mut answer = Answering::new();
    let _ = answer.head(&EVENTS, false);
    let event = format!("data: {ERROR}\n\n");
    let heard = answer.piece(&event, false);
    let patch = heard.patch.clone().unwrap();
    assert_eq!(patch.replaced, event.len());
    assert_eq!(set(&heard, "content-length"), Some(&*patch.bytes.len().to_string()));
    assert_eq!(
        (set(&heard, ":status"), set(&heard, "content-type")),
        (Some("429"), Some("application/json"))
    );
    let heard = answer.piece("data: [DONE]\n\n", true);
    let gone = Patch { replaced: 14, bytes: Vec::new() };
    assert_eq!((heard.waits, heard.patch), (false, Some(gone)));
}

#[test]
fn trailers_end_what_waits_of_an_answer() {
    let missing = r#"{"error":{"code":"DeploymentNotFound"}}"#;
    for (head, body, expected) in [
        (&JSON[..], ERROR, (Some(429), None)),
        (&EVENTS, &*format!("data: {ERROR}"), (Some(429), None)),
        (&[(":status", "404")], missing, (Some(404), Some("1"))),
    ] {
        let mut answer = Answering::new();
        let first = answer.head(head, false);
        assert!(first.waits);
        assert!(answer.piece(body, false).waits, "{body}");
        let heard = answer.trailers();
        let counted = counted(&first).or(counted(&heard));
        assert_eq!((counted, set(&heard, "x-tollgate-elsewhere")), expected, "{body}");
        assert!(!heard.waits);
        assert_eq!(answer.trailers(), Heard::default());
    }
}

#[test]
fn an_error_waits_only_where_its_body_says_more() {
    for (status, waits, goes_on) in [
        ("400", true, false),
        ("401", false, true),
        ("403", true, true),
        ("404", true, false),
        ("422", false, false),
        ("429", false, false),
        ("500", false, false),
    ] {
        let mut answer = Answering::new();
        let mut heard = answer.head(&[(":status", status)], false);
        assert_eq!((heard.waits, counted(&heard)), (waits, status.parse().ok()), "{status}");
        if waits {
            // Longer than what is read of an error.
            heard = answer.piece(&"x".repeat(crate::failure::FAILURE_BYTES_MAX + 1), false);
        }
        assert_eq!(
            (heard.waits, set(&heard, "x-tollgate-elsewhere").is_some()),
            (false, goes_on),
            "{status}"
        );
    }
}

#[test]
fn no_backend_says_what_steers_the_proxy() {
    let mut answer = Answering::new();
    let said = [("x-tollgate-elsewhere", "1"), ("x-envoy-ratelimited", "true"), ("grpc-status", "0")];
    let heard = answer.head(&[&JSON[..], &said].concat(), true);
    assert_eq!(heard.remove, said.map(|(name, _)| name));
    assert_eq!(heard.set, []);
}

#[test]
fn the_head_of_an_attempt_in_a_pool_never_waits() {
    let mut answer = Answering::of(gateway(|config| {
        config["routing"] = json!({ "pools": [{ "cluster": "pool", "backends": ["a", "b"] }] });
    }));
    let heard = answer.head(&JSON, false);
    assert_eq!((heard.waits, counted(&heard)), (false, Some(200)));
    let heard = answer.head(&[(":status", "404")], false);
    assert_eq!((heard.waits, counted(&heard)), (false, Some(404)));
}

#[test]
fn a_store_that_fails_stops_no_attempt_and_is_told() {
    let mut answer = Answering::new();
    answer.store.break_with(Some(StoreFault::Unavailable));
    let heard = answer.head(&[(":status", "503"), ("retry-after", "5")], true);
    // The failure, and the pause.
    assert_eq!((counted(&heard), heard.faults), (Some(503), vec![StoreFault::Unavailable; 2]));
}

#[test]
fn an_attempt_asks_the_time_only_where_it_matters() {
    let mut run = Run::new();
    let flight = run.send(PROMPT).flight;
    let never = || panic!("the clock costs a call");
    assert!(flight.begin(b"ca", &Outside::new(&run.store, &never)).is_ok());
}
