//! What is refused before a body is held, and what becomes of what was taken for that.

use super::*;
use crate::gateway::HELD_BYTES_MAX;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const LONG: &str = "65537";
const SHORT: &str = "65536";

/// A client with these limits, whose bodies may be long.
fn limited(limits: Value) -> Rc<Gateway> {
    gateway(|config| {
        config["policies"][0]["request_bytes_max"] = json!(1_000_000);
        config["clients"][0]["limits"] = limits;
    })
}

/// The headers of a request whose body has this length, or does not say.
fn announcing(length: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    let length = length.map(|length| ("content-length", length));
    CHAT[..3].iter().copied().chain(length).collect()
}

/// Another stream of the same worker.
fn next(gateway: &Rc<Gateway>, run: &mut Run) -> Exchange {
    std::mem::replace(&mut run.exchange, Exchange::new(gateway.clone()))
}

fn end(exchange: &mut Exchange, store: &MemoryStore) {
    let finished = exchange.finish(Moment::new(store, NOW), || Interruption::Client);
    for settlement in finished.settlements {
        limits::settle(Moment::new(store, NOW), &settlement).unwrap();
    }
}

/// What is used of each limit of the client and then of its group.
fn used(gateway: &Gateway, store: &MemoryStore) -> Vec<u64> {
    let budget = gateway.roster[0].budget.clone();
    let inquiry = Inquiry { budget, model: None, operation: Operation::ChatCompletions };
    limits::read(Moment::new(store, NOW), &inquiry).unwrap().states.iter().map(|state| state.used).collect()
}

/// Whether a third request is refused from its headers, after two of the same kind.
#[track_caller]
fn third_is_refused(limits: Value, length: Option<&'static str>, expected: Option<&str>) {
    let gateway = limited(limits.clone());
    let mut run = Run::with(gateway.clone());
    let mut before = Vec::new();
    for _ in 0..2 {
        let step = run.head(&announcing(length));
        assert!(matches!(step, Step::AwaitBody { .. }), "{limits} {length:?}");
        before.push(next(&gateway, &mut run));
    }
    let step = run.head(&announcing(length));
    match expected {
        Some(expected) => assert_eq!(refused(step), expected, "{limits} {length:?}"),
        None => assert!(matches!(step, Step::AwaitBody { .. }), "{limits} {length:?}"),
    }
}

#[test]
fn limits_that_need_no_body_are_asked_before_a_long_one() {
    let concurrent = || json!([{ "concurrent": 2 }]);
    let full = Some("429 concurrency_limit_exceeded");
    for long in [Some(LONG), None] {
        third_is_refused(concurrent(), long, full);
        third_is_refused(json!([{ "requests": 2, "per": "minute" }]), long, Some("429 rate_limit_exceeded"));
        third_is_refused(json!([{ "requests": 2, "per": "day" }]), long, Some("429 insufficient_quota"));
        let here = json!([{ "concurrent": 2, "endpoints": ["chat/completions"] }]);
        third_is_refused(here, long, full);
        // It is not for such requests, or only the body tells.
        third_is_refused(json!([{ "concurrent": 2, "endpoints": ["embeddings"] }]), long, None);
        third_is_refused(json!([{ "concurrent": 2, "models": ["gpt-4o"] }]), long, None);
        third_is_refused(json!([{ "tokens": 1, "per": "minute" }]), long, None);
        third_is_refused(json!([{ "concurrent": 2, "shadow": true }]), long, None);
    }
    // To ask twice costs more than such a body holds.
    third_is_refused(concurrent(), Some(SHORT), None);
}

#[test]
fn a_long_body_without_such_limits_costs_no_look_at_the_store() {
    let gateway =
        limited(json!([{ "tokens": 1000, "per": "minute" }, { "concurrent": 1, "models": ["gpt-4o"] }]));
    let mut exchange = Exchange::new(gateway);
    let step =
        exchange.request_head(&headers(&announcing(None)), false, Moment::new(&MemoryStore::default(), NOW));
    assert!(matches!(step, Step::AwaitBody { .. }), "{step:?}");
}

#[test]
fn limits_of_a_short_body_are_all_asked_with_it() {
    let gateway = limited(json!([{ "concurrent": 1 }]));
    let mut run = Run::with(gateway.clone());
    let _ = run.head(&announcing(Some(SHORT)));
    assert!(matches!(run.body(PROMPT), Step::Forward(_)));
    let _first = next(&gateway, &mut run);
    let _ = run.head(&announcing(Some(SHORT)));
    assert_eq!(refused(run.body(PROMPT)), "429 concurrency_limit_exceeded");
}

type Ending = fn(&mut Run);

/// However a request ends, what its headers took comes back once: another one's place stays taken.
#[test]
fn what_the_headers_took_comes_back_once_however_it_ends() {
    let endings: [(&str, Ending, u64); 11] = [
        ("its client leaves before the body is whole", |_| {}, 0),
        (
            "its body is too long",
            |run| {
                let step = run.exchange.request_body_grows(1_000_001).unwrap();
                assert_eq!(refused(run.perform(step)), "413 request_too_large");
            },
            0,
        ),
        ("its body is no JSON", |run| assert_eq!(refused(run.body("{")), "400 invalid_json"), 0),
        (
            "its model is none of the client's",
            |run| assert_eq!(refused(run.body(r#"{"model":"secret"}"#)), "403 model_not_allowed"),
            0,
        ),
        (
            "its tokens never fit",
            |run| {
                let step = run.body(&PROMPT.replace("hello", &"hello ".repeat(2000)));
                assert_eq!(refused(step), "429 request_exceeds_limit");
            },
            0,
        ),
        (
            "the store fails, which is allowed",
            |run| {
                let step = run.exchange.request_body(PROMPT.as_bytes(), Moment::new(&run.store, NOW));
                assert!(matches!(step, Step::Reserve(Claim { part: Part::Body, .. })), "{step:?}");
                let step = run.exchange.reserved(Err(StoreFault::Contended));
                assert!(matches!(step, Step::Forward(_)), "{step:?}");
            },
            0,
        ),
        (
            "Envoy answers while the body comes",
            |run| {
                let edits = run.answer("408", "text/plain");
                assert!(run.exchange.note().is_some() && edits.instead.is_none());
            },
            0,
        ),
        (
            "all backends pause",
            |run| {
                let pause = Cooldown { wait: Duration::from_secs(5), from_backend: true };
                for target in &run.exchange.draft.gateway.models[0].targets {
                    Cooldowns::note(Moment::new(&run.store, NOW), target, pause).unwrap();
                }
                let step = run.body(PROMPT);
                assert!(matches!(step, Step::Answer(_)), "{step:?}");
            },
            0,
        ),
        (
            "it is not asked whether it may",
            |run| {
                let grant = Grant::Refused(Denial::StoreUnavailable, Standing::default(), 0);
                assert!(matches!(run.exchange.reserved(Ok(grant)), Step::Answer(_)));
            },
            0,
        ),
        (
            "its VM is only said to be dead",
            |run| {
                let _ = run.body(PROMPT);
                run.exchange.is_taken_over();
            },
            0,
        ),
        (
            "a backend serves it",
            |run| {
                let Step::Forward(forward) = run.body(PROMPT) else { panic!() };
                let _ = begin(&forward.flight, b"ca").unwrap();
                let _ = run.answer("200", "application/json");
                let _ = run.exchange.response_chunk(br#"{"usage":{"prompt_tokens":1}}"#, true, || NOW);
            },
            1,
        ),
    ];
    for (name, ending, requests) in endings {
        let gateway = limited(json!([
            { "concurrent": 5 }, { "requests": 50, "per": "day" }, { "tokens": 1000, "per": "day" },
        ]));
        let mut run = Run::with(gateway.clone());
        let _ = run.head(&announcing(None));
        let mut other = next(&gateway, &mut run);
        let _ = run.head(&announcing(None));
        assert_eq!(used(&gateway, &run.store), [2, 2, 0], "{name}");
        ending(&mut run);
        run.finish();
        run.finish();
        assert_eq!(used(&gateway, &run.store)[..2], [1, 1 + requests], "{name}");
        end(&mut other, &run.store);
        assert_eq!(used(&gateway, &run.store)[..2], [0, requests], "{name}");
    }
}

#[test]
fn a_group_that_is_full_leaves_its_client_nothing_taken() {
    let gateway = gateway(|config| {
        config["clients"][0]["limits"] = json!([{ "concurrent": 5 }, { "tokens": 100, "per": "day" }]);
        config["clients"][0]["group"] = json!("g");
        config["groups"] = json!([{ "name": "g", "limits": [{ "concurrent": 1 }] }]);
    });
    let mut run = Run::with(gateway.clone());
    let _ = run.head(&announcing(None));
    let _first = next(&gateway, &mut run);
    assert_eq!(refused(run.head(&announcing(None))), "429 concurrency_limit_exceeded");
    assert_eq!(run.exchange.note(), None);
    assert_eq!(used(&gateway, &run.store), [1, 0, 1]);
    let record = run.finish();
    assert_eq!(record.limit.as_deref(), Some("group/concurrent"));
    assert_eq!(used(&gateway, &run.store), [1, 0, 1]);
}

#[test]
fn the_note_has_what_each_part_took() {
    let gateway = limited(json!([
        { "concurrent": 5 }, { "concurrent": 4, "models": ["gpt-4o"] }, { "tokens": 1000, "per": "day" },
    ]));
    let mut run = Run::with(gateway.clone());
    let _ = run.head(&announcing(None));
    let places = |note: &Note| note.slots.split(',').count();
    let note = run.exchange.note().unwrap();
    assert_eq!((places(&note), note.prompt, note.completion), (1, 0, 0));
    let _ = run.body(PROMPT);
    let note = run.exchange.note().unwrap();
    assert!(places(&note) == 2 && note.prompt > 0 && note.completion == 100, "{note:?}");
    limits::return_slots(Moment::new(&run.store, NOW), &note.slots).unwrap();
    assert_eq!(used(&gateway, &run.store)[..2], [0, 0]);
}

#[test]
fn nothing_is_noted_of_headers_that_took_no_place() {
    let mut run = Run::with(limited(json!([{ "requests": 5, "per": "minute" }])));
    let _ = run.head(&announcing(None));
    assert_eq!(run.exchange.note(), None);
}

#[test]
fn an_answer_tells_where_the_limits_of_both_parts_stand() {
    let mut run = Run::with(limited(json!([
        { "requests": 50, "per": "minute" }, { "requests": 40, "per": "minute", "models": ["gpt-4o"] },
        { "tokens": 1000, "per": "minute" }, { "concurrent": 3, "shadow": true },
    ])));
    let _ = run.head(&announcing(None));
    assert!(matches!(run.body(PROMPT), Step::Forward(_)));
    let edits = run.answer("200", "application/json");
    let told =
        |name: &str| edits.set.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
    assert_eq!(told("x-ratelimit-limit-requests"), Some("40"));
    assert_eq!(told("x-ratelimit-remaining-requests"), Some("39"));
    assert_eq!(told("x-ratelimit-limit-tokens"), Some("1000"));
}

#[test]
fn what_limits_would_refuse_is_reported_of_both_parts() {
    let gateway = limited(json!([
        { "concurrent": 1, "shadow": true }, { "requests": 1, "per": "day", "models": ["gpt-4o"], "shadow": true },
    ]));
    let mut run = Run::with(gateway.clone());
    for _ in 0..2 {
        let _ = run.head(&announcing(None));
        assert!(matches!(run.body(PROMPT), Step::Forward(_)));
        if run.exchange.draft.shadow_refusals.is_empty() {
            let first = next(&gateway, &mut run);
            std::mem::forget(first);
        }
    }
    assert_eq!(run.finish().shadow_refusals, ["concurrent".into(), "requests/day".into()]);
    // A request that is refused anyhow is nothing that they would have refused.
    run.exchange = Exchange::new(gateway.clone());
    let _ = run.head(&announcing(None));
    assert_eq!(refused(run.body("{")), "400 invalid_json");
    assert!(run.finish().shadow_refusals.is_empty());
}

#[test]
fn without_a_store_headers_are_let_in_or_refused_as_configured() {
    for (word, goes_on) in [("allow", true), ("deny", false)] {
        let gateway = gateway(|config| {
            config["clients"][0]["limits"] = json!([{ "concurrent": 1 }, { "tokens": 500, "per": "day" }]);
            config["on_store_failure"] = json!(word);
        });
        let mut run = Run::with(gateway.clone());
        let step =
            run.exchange.request_head(&headers(&announcing(None)), false, Moment::new(&run.store, NOW));
        assert!(matches!(step, Step::Reserve(Claim { part: Part::Head, .. })), "{step:?}");
        let step = run.exchange.reserved(Err(StoreFault::Unavailable));
        match goes_on {
            true => {
                assert!(matches!(step, Step::AwaitBody { .. }));
                // Nothing was taken yet, so all is asked with the body.
                let _ = run.body(PROMPT);
                assert_eq!(used(&gateway, &run.store)[0], 1);
                run.finish();
                assert_eq!(used(&gateway, &run.store)[0], 0);
            }
            false => assert_eq!(refused(step), "503 store_unavailable"),
        }
        assert_eq!(run.exchange.faults(), Some((Series::StoreFaults, 1)));
    }
}

/// A client of which little may be held.
fn cramped(bytes: usize) -> Rc<Gateway> {
    gateway(|config| config["clients"][0]["held_bytes_max"] = json!(bytes))
}

const FULL: &str = "429 held_bytes_exceeded";

#[test]
fn a_body_without_room_is_refused_from_its_headers() {
    let gateway = cramped(2000);
    let mut run = Run::with(gateway.clone());
    let mut before = Vec::new();
    for _ in 0..2 {
        assert!(matches!(run.head(&announcing(Some("1000"))), Step::AwaitBody { .. }));
        before.push(next(&gateway, &mut run));
    }
    let Step::Answer(answer) = run.head(&announcing(Some("1"))) else { panic!() };
    assert!(answer.headers.contains(&("retry-after", "1".to_owned())), "{:?}", answer.headers);
    assert_eq!(refused(Step::Answer(answer)), FULL);
    assert_eq!(run.finish().outcome, Outcome::Denied("held_bytes_exceeded"));
    end(&mut before[0], &run.store);
    run.exchange = Exchange::new(gateway.clone());
    assert!(matches!(run.head(&announcing(Some("1000"))), Step::AwaitBody { .. }));
}

#[test]
fn a_body_that_does_not_say_its_length_takes_room_as_it_comes() {
    let gateway = cramped(1500);
    let mut run = Run::with(gateway.clone());
    let _ = run.head(&announcing(None));
    assert!(run.exchange.request_body_grows(900).is_none());
    let mut first = next(&gateway, &mut run);
    let _ = run.head(&announcing(None));
    assert!(run.exchange.request_body_grows(600).is_none());
    let step = run.exchange.request_body_grows(601).unwrap();
    assert_eq!(refused(run.perform(step)), FULL);
    run.finish();
    assert!(first.request_body_grows(1000).is_none());
}

/// It is held until it is sent on, and never longer than its stream is.
#[test]
fn the_room_of_a_body_is_free_again_however_it_ends() {
    let waits = |config: &mut Value| {
        config["clients"][0]["held_bytes_max"] = json!(1000);
        config["backends"][0]["tokens_per_minute"] = json!(150);
        config["models"][0]["backends"] = json!([{ "backend": "a", "deployment": "d" }]);
    };
    let endings: [(&str, Ending, bool); 6] = [
        ("is coming", |_| {}, true),
        ("was refused", |run| assert_eq!(refused(run.body("{")), "400 invalid_json"), true),
        (
            "waits for room at a backend",
            |run| {
                let step = run.body(PROMPT);
                let Step::Admit(_) = step else { panic!("{step:?}") };
                let step = run.exchange.admitted(Ok(capacity::Turn::Waits), Moment::new(&run.store, NOW));
                assert!(matches!(step, Step::Wait));
            },
            true,
        ),
        (
            "was sent on",
            |run| {
                let Step::Admit(_) = run.body(PROMPT) else { panic!() };
                let turn = capacity::Turn::Goes { place: 0, seat: None };
                let step = run.exchange.admitted(Ok(turn), Moment::new(&run.store, NOW));
                assert!(matches!(step, Step::Forward(_)));
            },
            false,
        ),
        ("was answered by Envoy", |run| drop(run.answer("408", "text/plain")), true),
        ("ended", |run| drop(run.finish()), false),
    ];
    for (name, ending, is_held) in endings {
        let gateway = gateway(waits);
        let mut run = Run::with(gateway.clone());
        let _ = run.head(&announcing(Some("1000")));
        ending(&mut run);
        let first = next(&gateway, &mut run);
        let step = run.head(&announcing(Some("1")));
        assert_eq!(matches!(step, Step::AwaitBody { .. }), !is_held, "{name}");
        run.finish();
        // A stream that Envoy forgets without a word.
        drop(first);
        run.exchange = Exchange::new(gateway.clone());
        assert!(matches!(run.head(&announcing(Some("1000"))), Step::AwaitBody { .. }), "{name}");
    }
}

#[test]
fn a_client_has_room_for_64_mib_or_its_longest_body() {
    let bytes = |edit: fn(&mut Value)| {
        let gateway = gateway(edit);
        let mut room = BodyRoom::new(gateway.roster[0].held_bytes.clone());
        [HELD_BYTES_MAX, 100_000_000].map(|bytes| room.grow_to(bytes))
    };
    assert_eq!(bytes(|_| ()), [true, false]);
    assert_eq!(bytes(|config| config["policies"][0]["request_bytes_max"] = json!(100_000_000)), [true, true]);
}
