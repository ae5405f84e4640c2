use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
    let finished = first.finish(Moment::new(&run.store, NOW), || Interruption::Other);
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
    limits::return_slots(Moment::new(&run.store, NOW), &note.slots).unwrap();
    let used = used(&mut run, &gateway);
    assert_eq!((used[3], used[5]), (0, 0));
    let mut refused = Run::new();
    let _ = refused.head(&CHAT);
    let _ = refused.body(r#"{"model":"gpt-4o","n":101}"#);
    assert_eq!(refused.exchange.note(), None);
}
