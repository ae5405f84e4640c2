//! What is told of the backends and of decisions, and to whom?

use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// `web` is an operator's client and stays in the EU, where `a` is.
fn operators(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    gateway(|config| {
        config["clients"][0]["operator"] = json!(true);
        config["clients"][0]["regions"] = json!(["eu"]);
        config["clients"][0]["limits"] = json!([]);
        config["backends"][0]["region"] = json!("eu");
        edit(config);
    })
}

fn ask(run: &mut Run, path: &str, more: &[(&str, &str)]) -> (u16, Value) {
    let pairs = [&[(":method", "GET"), (":path", path)], more].concat();
    let step = run.head(&pairs);
    let Step::Answer(answer) = step else { panic!("{step:?}") };
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

const KEY: (&str, &str) = ("api-key", "key");
const ASKS: (&str, &str) = ("tollgate-explain", "true");

fn pause(run: &Run, target: usize, ms: u64) {
    let gateway = gateway(|_| {});
    let wait = Duration::from_millis(ms);
    let pause = Cooldown { wait, from_backend: true };
    Cooldowns::note(Moment::new(&run.store, NOW), &gateway.models[0].targets[target], pause).unwrap();
}

/// The header of an answer of ours, or of a backend's.
fn told<'h>(headers: impl IntoIterator<Item = &'h (&'static str, String)>) -> Option<Value> {
    let found = headers.into_iter().find(|(name, _)| *name == "x-tollgate-decision");
    found.map(|(_, value)| serde_json::from_str(value).unwrap())
}

#[test]
fn a_decision_is_told_only_to_an_operators_client_that_asks() {
    for (operator, asks, is_shown) in [
        (true, Some("true"), true),
        (true, None, false),
        (true, Some("1"), false),
        (false, Some("true"), false),
    ] {
        let mut run = Run::with(operators(|config| config["clients"][0]["operator"] = json!(operator)));
        let asks = asks.map(|value| ("tollgate-explain", value));
        let _ = run.head(&CHAT.into_iter().chain(asks).collect::<Vec<_>>());
        let Step::Forward(Forward { flight, .. }) = run.body(PROMPT) else { panic!() };
        let _ = served(&flight, "ca", &run.store);
        let decision = json!({
            "candidates": ["a"],
            "passed_over": [{ "backend": "b", "why": "region" }],
            "attempts": [{ "backend": "a", "status": 200 }],
        });
        assert_eq!(told(&run.answer("200", "application/json").set), is_shown.then_some(decision));
        // The record has it for all.
        let record = run.finish();
        assert_eq!(record.candidates, ["a".into()]);
        assert_eq!(record.passed_over.len(), 1);
    }
}

#[test]
fn a_refusal_for_want_of_a_backend_tells_whom_it_passed_over() {
    let mut run = Run::with(operators(|_| {}));
    pause(&run, 0, 1500);
    let _ = run.head(&CHAT.into_iter().chain([ASKS]).collect::<Vec<_>>());
    let Step::Answer(answer) = run.body(PROMPT) else { panic!() };
    let decision = json!({
        "candidates": [],
        "passed_over": [
            { "backend": "b", "why": "region" },
            { "backend": "a", "why": "cooldown", "wait_ms": 1500 },
        ],
        "attempts": [],
    });
    assert_eq!((answer.status, told(&answer.headers)), (429, Some(decision)));
    assert_eq!(run.finish().passed_over.len(), 2);
}

#[test]
fn where_nobody_is_passed_over_the_record_says_nothing_of_it() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    let record = run.finish();
    assert_eq!((record.candidates, record.passed_over), (vec![], vec![]));
}

#[test]
fn a_backend_without_room_is_passed_over_for_its_capacity() {
    let mut run = Run::with(operators(|config| {
        config["clients"][0].as_object_mut().unwrap().remove("regions");
        config["backends"][0]["tokens_per_minute"] = json!(10);
    }));
    let _ = run.head(&CHAT);
    let Step::Admit(ask) = run.body(PROMPT) else { panic!() };
    assert_eq!(ask.places.len(), 2);
    let Step::Forward(_) = run
        .exchange
        .admitted(Ok(capacity::Turn::Goes { place: 1, seat: None }), Moment::new(&run.store, NOW))
    else {
        panic!()
    };
    let record = run.finish();
    assert_eq!(record.candidates, ["b".into(), "a".into()]);
    let passed: Vec<_> = record.passed_over.iter().map(|one| (&*one.backend, one.why.word())).collect();
    assert_eq!(passed, [("a", "capacity")]);
}

#[test]
fn health_is_told_by_what_the_caller_may_know() {
    let anywhere = |config: &mut Value| {
        config["clients"][0].as_object_mut().unwrap().remove("regions");
    };
    let with = |path: &str, key: Option<(&str, &str)>, edit: &dyn Fn(&mut Value)| {
        let mut run = Run::with(operators(|config| {
            anywhere(config);
            edit(config);
        }));
        pause(&run, 0, 1500);
        let more: Vec<_> = key.into_iter().collect();
        ask(&mut run, path, &more)
    };
    let health = "/tollgate/health";
    let throttled =
        json!({ "status": "throttled", "throttled_until": "2026-11-18T11:06:42Z", "wait_ms": 1500 });
    let a = super::with(json!({ "backend": "a", "deployment": "d", "region": "eu" }), throttled.clone());
    let b = json!({ "backend": "b", "deployment": "e", "status": "healthy" });
    let pool = json!({ "model": "gpt-4o", "status": "healthy", "backends": [a, b] });
    let whole = json!({ "object": "health", "status": "healthy", "models": [pool] });
    assert_eq!(with(health, Some(KEY), &|_| {}), (200, whole.clone()));
    assert_eq!(with("/tollgate/health?model=gpt-4%6F", Some(KEY), &|_| {}), (200, whole));
    // Others are told no backends,
    let plain = |config: &mut Value| config["clients"][0]["operator"] = json!(false);
    let pool = json!({ "model": "gpt-4o", "status": "healthy" });
    let named = json!({ "object": "health", "status": "healthy", "models": [pool] });
    assert_eq!(with(health, Some(KEY), &plain), (200, named));
    // in their own regions,
    let at_home = |config: &mut Value| {
        plain(config);
        config["clients"][0]["regions"] = json!(["eu"]);
    };
    let pool = super::with(json!({ "model": "gpt-4o" }), throttled.clone());
    let waiting = super::with(json!({ "object": "health", "models": [pool] }), throttled);
    assert_eq!(with(health, Some(KEY), &at_home), (503, waiting));
    // and whoever shows nothing is told no names, and only where that is wanted.
    let open = |config: &mut Value| config["health"] = json!("open");
    let bare = json!({ "object": "health", "status": "healthy" });
    assert_eq!(with(health, None, &open), (200, bare.clone()));
    assert_eq!(with("/tollgate/health?model=gpt-4o", None, &open), (200, bare));
    assert_eq!(with(health, None, &|_| {}).0, 401);
    assert_eq!(with(health, Some(("api-key", "other")), &open).0, 401);
    // A model that is not the client's, or is nowhere it may be served.
    assert_eq!(with("/tollgate/health?model=secret", Some(KEY), &plain).0, 403);
    assert_eq!(with("/tollgate/health?model=nothing", None, &open).0, 403);
    let abroad = |config: &mut Value| {
        at_home(config);
        config["clients"][0]["models"] = json!(["*"]);
    };
    let (status, refusal) = with("/tollgate/health?model=secret", Some(KEY), &abroad);
    assert_eq!((status, &refusal["error"]["code"]), (403, &json!("region_not_permitted")));
}

#[test]
fn a_backend_that_fails_again_and_again_is_down_till_it_answers() {
    let gateway = operators(|_| {});
    let mut run = Run::with(gateway.clone());
    let state = |run: &mut Run| {
        run.exchange = Exchange::new(gateway.clone());
        let (status, health) = ask(run, "/tollgate/health?model=gpt-4o", &[KEY]);
        (status, health["status"].as_str().unwrap().to_owned())
    };
    let attempt = |run: &mut Run, status: Option<u16>| {
        run.exchange = Exchange::new(gateway.clone());
        let Forward { flight, .. } = run.send(PROMPT);
        match status {
            Some(status) => {
                let outside = Outside::new(&run.store, &|| NOW);
                let _ = super::attempt(&flight, "ca", &[(":status", &status.to_string())], "{}", &outside);
                let _ = run.answer(&status.to_string(), "application/json");
            }
            // Envoy answers in its place.
            None => {
                let _ = begin(&flight, b"ca").unwrap();
                let pairs = [(":status", "503"), ("content-type", "text/plain")];
                let _ = run.exchange.response_head(&headers(&pairs), false, || Origin::Proxy);
            }
        }
        let _ = run.finish();
    };
    attempt(&mut run, Some(500));
    attempt(&mut run, None);
    assert_eq!(state(&mut run), (200, "healthy".to_owned()));
    attempt(&mut run, Some(502));
    assert_eq!(state(&mut run), (503, "down".to_owned()));
    attempt(&mut run, Some(400));
    assert_eq!(state(&mut run), (200, "healthy".to_owned()));
}

#[test]
fn a_backend_that_refuses_our_credential_is_down() {
    let gateway = operators(|_| {});
    let refused = r#"{"error":{"code":"AuthenticationTypeDisabled","message":"no"}}"#;
    for (status, body, is_down) in [
        (401, "", true),
        (403, refused, true),
        (403, "<html>blocked</html>", true),
        (403, r#"{"error":{"code":"content_filter","message":"no"}}"#, false),
    ] {
        let mut run = Run::with(gateway.clone());
        let attempt = |run: &mut Run, status: u16, body: &str| {
            run.exchange = Exchange::new(gateway.clone());
            let Forward { flight, .. } = run.send(PROMPT);
            let outside = Outside::new(&run.store, &|| NOW);
            let heard = super::attempt(&flight, "ca", &[(":status", &status.to_string())], body, &outside);
            assert_eq!(heard.unwrap().faults, []);
            let _ = run.answer(&status.to_string(), "application/json");
            let _ = run.finish();
            run.exchange = Exchange::new(gateway.clone());
            let (status, health) = ask(run, "/tollgate/health?model=gpt-4o", &[KEY]);
            (status, health["models"][0]["backends"][0]["status"].as_str().unwrap().to_owned())
        };
        let well = (200, "healthy".to_owned());
        assert_eq!(attempt(&mut run, status, body), well);
        assert_eq!(attempt(&mut run, status, body), well);
        let expected = if is_down { (503, "down".to_owned()) } else { well.clone() };
        assert_eq!(attempt(&mut run, status, body), expected, "{status} {body}");
        assert_eq!(attempt(&mut run, 200, ""), well, "{status} {body}");
    }
}

#[test]
fn an_unanswered_attempt_counts_against_its_backend() {
    let gateway = gateway(|_| {});
    let store = MemoryStore::default();
    for _ in 0..3 {
        let mut run = Run::with(gateway.clone());
        let Forward { flight, .. } = run.send(PROMPT);
        let first = flight.begin(b"ca", &Outside::new(&store, &|| panic!("nothing was tried yet"))).unwrap();
        assert_eq!(first.faults, []);
        let _ = served(&flight, "cb", &store);
        let _ = flight.begin(b"cb", &Outside::new(&store, &|| panic!("it was answered"))).unwrap();
    }
    let failures = crate::route::Failures::load(Moment::new(&store, NOW)).unwrap();
    let down = |target: usize| failures.is_down(gateway.models[0].targets[target].number());
    assert_eq!([down(0), down(1)], [true, false]);
}

#[test]
fn which_configuration_runs_is_told_to_operators_only() {
    let mut gateway = operators(|_| {});
    let store = MemoryStore::default();
    let once = Rc::get_mut(&mut gateway).unwrap();
    once.enter_service(Moment::new(&store, NOW - Duration::from_secs(90))).unwrap();
    let sha256 = once.sha256.clone();
    // Another worker loads the same one later.
    once.enter_service(Moment::new(&store, NOW)).unwrap();
    let (status, answer) = ask(&mut Run::with(gateway), "/tollgate/config", &[KEY]);
    let expected = json!({
        "object": "config", "sha256": sha256, "since": "2026-11-18T11:05:10Z", "age_s": 90,
        "version": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!((status, answer), (200, expected));
    // Another configuration begins anew.
    let mut other = self::gateway(|_| {});
    let changed = Rc::get_mut(&mut other).unwrap();
    changed.enter_service(Moment::new(&store, NOW)).unwrap();
    assert!(changed.since == NOW && changed.sha256 != sha256);
    assert_eq!(ask(&mut Run::with(other), "/tollgate/config", &[KEY]).0, 403);
}
