//! One attempt in its order: what waits of its answer, and what becomes of that.

use super::*;
use crate::json::Patch;
use crate::store::Moment;
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

/// A worker's requests one after the other: who is asked first, and answers so.
fn first_is(run: &mut Run, now: Duration, answers: u16) -> String {
    run.exchange = Exchange::new(gateway(|_| {}));
    let _ = run.exchange.request_head(&headers(&CHAT), false, Moment::new(&run.store, now));
    let Step::Reserve(claim) = run.exchange.request_body(PROMPT.as_bytes(), Moment::new(&run.store, now))
    else {
        panic!()
    };
    let grant = limits::reserve(Moment::new(&run.store, now), claim);
    let Step::Forward(forward) = run.exchange.reserved(grant) else { panic!() };
    let first = forward.flight.candidates()[0].clone();
    let clock = || now;
    let outside = Outside::new(&run.store, &clock);
    let head = [(":status", &*answers.to_string())];
    let _ = attempt(&forward.flight, &first.backend.cluster, &head, "", &outside).unwrap();
    let _ = run.finish();
    first.backend.name.to_string()
}

#[test]
fn who_fails_time_after_time_is_asked_by_one_request_in_a_while() {
    let mut run = Run::new();
    let at = |ms| NOW + Duration::from_millis(ms);
    for _ in 0..5 {
        assert_eq!(first_is(&mut run, NOW, 500), "a");
    }
    // None of these waits for the failure first.
    for ms in (0..700).step_by(20) {
        assert_eq!(first_is(&mut run, at(ms), 200), "b", "{ms}");
    }
    // One goes to see, and as it fails the pause begins anew.
    assert_eq!(first_is(&mut run, at(1300), 502), "a");
    assert_eq!(first_is(&mut run, at(1301), 200), "b");
    // It is well again, and its failures are counted anew.
    assert_eq!(first_is(&mut run, at(2600), 200), "a");
    for _ in 0..4 {
        assert_eq!(first_is(&mut run, at(2601), 500), "a");
    }
    assert_eq!(first_is(&mut run, at(2602), 200), "a");
}

#[test]
fn who_fails_and_is_the_last_makes_no_pause() {
    let mut run = Run::new();
    for _ in 0..7 {
        run.exchange = Exchange::new(gateway(|_| {}));
        let flight = run.send(PROMPT).flight;
        assert_eq!(flight.candidates().len(), 2);
        let outside = Outside::new(&run.store, &|| NOW);
        let _ = attempt(&flight, "cb", &[(":status", "500")], "", &outside).unwrap();
        let _ = run.finish();
    }
}

/// A gateway whose client may go to the first backend only.
fn bound_to_a() -> Rc<Gateway> {
    gateway(|config| {
        config["backends"][0]["region"] = json!("eu");
        config["backends"][1]["region"] = json!("us");
        config["clients"][0]["regions"] = json!(["eu"]);
    })
}

#[test]
fn nobody_is_refused_for_failures_where_there_is_no_other() {
    let mut run = Run::new();
    for _ in 0..5 {
        assert_eq!(first_is(&mut run, NOW, 500), "a");
    }
    assert_eq!(first_is(&mut run, NOW, 200), "b");
    // For this client nobody is behind it, and one that goes to see is not enough.
    for at in 0..3 {
        run.exchange = Exchange::new(bound_to_a());
        let flight = run.send(PROMPT).flight;
        assert_eq!(&*flight.candidates()[0].backend.name, "a", "{at}");
        // It was asked whether its pause is over, and said no.
        if at == 0 {
            let outside = Outside::new(&run.store, &|| NOW);
            let _ = attempt(&flight, "ca", &[(":status", "500")], "", &outside).unwrap();
            assert_eq!(first_is(&mut run, NOW, 200), "b");
        }
    }
}

#[test]
fn a_wait_that_is_told_stands_above_failures() {
    let mut run = Run::new();
    for _ in 0..4 {
        assert_eq!(first_is(&mut run, NOW, 500), "a");
    }
    run.exchange = Exchange::new(gateway(|_| {}));
    let flight = run.send(PROMPT).flight;
    let told = [(":status", "503"), ("retry-after", "30")];
    let _ = attempt(&flight, "ca", &told, "", &Outside::new(&run.store, &|| NOW)).unwrap();
    let _ = run.finish();
    // A guess would be over.
    assert_eq!(first_is(&mut run, NOW + Duration::from_secs(3), 200), "b");
    // It asked for it: so it gets it from those, too, who may go nowhere else.
    run.exchange = Exchange::new(bound_to_a());
    let _ = run.head(&CHAT);
    assert_eq!(refused(run.body(PROMPT)), "429 backends_throttled");
}

#[test]
fn who_never_answers_makes_a_pause_as_a_failure_does() {
    let mut run = Run::new();
    let mut pauses = Vec::new();
    for _ in 0..5 {
        run.exchange = Exchange::new(gateway(|_| {}));
        let flight = run.send(PROMPT).flight;
        let outside = Outside::new(&run.store, &|| NOW);
        let _ = flight.begin(b"ca", &outside).unwrap();
        let mut begun = flight.begin(b"cb", &outside).unwrap();
        pauses.push(begun.counts.len());
        let _ = begun.attempt.response_head(headers(&[(":status", "200")]), true, &outside);
        let _ = run.finish();
    }
    assert_eq!(pauses, [0, 0, 0, 0, 1]);
    run.exchange = Exchange::new(gateway(|_| {}));
    let first = run.send(PROMPT).flight.candidates()[0].clone();
    assert_eq!(&*first.backend.name, "b");
}

#[test]
fn an_attempt_asks_the_time_only_where_it_matters() {
    let mut run = Run::new();
    let flight = run.send(PROMPT).flight;
    let never = || panic!("the clock costs a call");
    assert!(flight.begin(b"ca", &Outside::new(&run.store, &never)).is_ok());
}

#[test]
fn each_attempt_has_its_own_path_and_credential() {
    let forward = Run::new().send(PROMPT);
    let departure = begin(&forward.flight, b"ca").unwrap().departure;
    assert_eq!(departure.path, "/openai/deployments/d/chat/completions?api-version=2024-10-21");
    assert_eq!(departure.set, Some(("api-key", "secret-A".into())));
    let departure = begin(&forward.flight, b"cb").unwrap().departure;
    assert_eq!((departure.path.as_str(), departure.set), ("/v1/chat/completions", None));
    assert_eq!(departure.remove, ["api-key"]);
    assert_eq!(&*forward.flight.last_tried().unwrap().backend.name, "b");
    assert_eq!(begin(&forward.flight, b"cc").unwrap_err().denial, Denial::Unplanned);
}

/// `gpt-4o` at three deployments of `a`, and at `b` between the second and the third.
fn deployments() -> Rc<Gateway> {
    gateway(|config| {
        config["models"][0]["backends"] = json!([
            { "backend": "a", "deployment": "x" }, { "backend": "a", "deployment": "y" },
            { "backend": "b", "deployment": "e" }, { "backend": "a", "deployment": "z" },
        ]);
    })
}

/// Where an attempt at this cluster goes.
fn path(flight: &Rc<Flight>, cluster: &[u8]) -> String {
    let path = begin(flight, cluster).unwrap().departure.path;
    path.trim_start_matches("/openai/deployments/").split("/chat").next().unwrap().to_owned()
}

#[test]
fn attempts_at_one_cluster_go_down_its_deployments_in_order() {
    let mut run = Run::with(deployments());
    let flight = run.send(PROMPT).flight;
    let paths = [&b"ca"[..], b"ca", b"cb", b"ca"].map(|cluster| path(&flight, cluster));
    assert_eq!(paths, ["x", "y", "/v1", "z"]);
    let tried: Vec<_> = flight.tries().iter().map(|tried| tried.backend.to_string()).collect();
    assert_eq!(tried, ["a/x", "a/y", "b", "a/z"]);
    // Beyond the end Envoy stays with the last one.
    assert_eq!(path(&flight, b"ca"), "z");
    // Of what Envoy has skipped nothing is asked any more: the order goes on from there.
    let mut run = Run::with(deployments());
    let flight = run.send(PROMPT).flight;
    assert_eq!([&b"cb"[..], b"ca"].map(|cluster| path(&flight, cluster)), ["/v1", "z"]);
}

#[test]
fn a_deployment_that_is_throttled_pauses_alone() {
    let mut run = Run::with(deployments());
    let flight = run.send(PROMPT).flight;
    let outside = Outside::new(&run.store, &|| NOW);
    let throttled = [(":status", "429"), ("retry-after", "5")];
    let heard = attempt(&flight, "ca", &throttled, "", &outside).unwrap();
    assert!(heard.counts.contains(&Series::Cooldowns { backend: "a/x".into() }), "{:?}", heard.counts);
    let _ = attempt(&flight, "ca", &[(":status", "200")], "", &outside).unwrap();
    let record = run.finish();
    let served = record.served.unwrap();
    assert_eq!((&*served.backend, &*served.deployment), ("a", "y"));
    run.exchange = Exchange::new(deployments());
    let flight = run.send(PROMPT).flight;
    let candidates: Vec<_> = flight.candidates().iter().map(|target| target.word.to_string()).collect();
    assert_eq!(candidates, ["a/y", "b", "a/z"]);
    assert_eq!(path(&flight, b"ca"), "y");
}

#[test]
fn a_pausing_backend_is_left_out_and_nothing_stays_reserved() {
    let mut run = Run::new();
    let forward = run.send(PROMPT);
    let targets = forward.flight.candidates().to_vec();
    let pause = Cooldown { wait: Duration::from_secs(5), from_backend: true };
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
fn what_an_attempt_refuses_is_told_as_it_is() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    let pairs = [(":status", "503"), ("content-type", "application/json"), ("content-length", "2")];
    let _ = run.exchange.response_head(&headers(&pairs), false, || Origin::Attempt);
    assert!(matches!(run.exchange.response_chunk(b"{}", true, || NOW), Output::Same));
}

#[test]
fn a_missing_deployment_is_always_answered_with_one_status() {
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
fn a_missing_deployment_in_other_words_goes_elsewhere_unpaused() {
    let other_words = r#"{"error":{"code":"404","message":"Deployment not found"}}"#;
    let azures = r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#;
    for (status, body, goes_on, pauses) in [
        (404, azures, true, true),
        (400, azures, true, true),
        (404, other_words, true, false),
        // A 400 is about what the client wrote, and quotes it.
        (400, other_words, false, false),
        (404, r#"{"error":{"code":"404","message":"Resource not found"}}"#, false, false),
    ] {
        let mut run = Run::new();
        let flight = run.send(PROMPT).flight;
        let first = flight.candidates()[0].clone();
        let outside = Outside::new(&run.store, &|| NOW);
        let head = [(":status", &*status.to_string())];
        let heard = attempt(&flight, &first.backend.cluster, &head, body, &outside).unwrap();
        assert_eq!(set(&heard, "x-tollgate-elsewhere").is_some(), goes_on, "{status} {body}");
        let pause = Cooldowns::load(&run.store).unwrap().remaining(first.number(), NOW);
        assert_eq!(!pause.is_zero(), pauses, "{status} {body}");
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
