//! What is published, and to whom is it told?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn publishing(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    queueing(|config| {
        config.as_object_mut().unwrap().remove("store");
        let broker = json!({ "cluster": "hub", "path": "/q/messages", "region": "eu" });
        config["queue"] = json!({ "for": "normal", "when": "always", "broker": broker });
        edit(config);
    })
}

#[test]
fn a_request_that_may_wait_is_published_and_told_of_nowhere() {
    let mut run = Run::with(publishing(|_| {}));
    assert!(matches!(ask(&mut run, &[PATIENT], PROMPT), Step::AskQueue));
    let Some(QueueCall::Broker(message)) = run.exchange.errand(&DICE, NOW) else { panic!() };
    let told: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!((&told["id"], &told["client"], &told["body"]), (&json!(ID), &json!("web"), &json!(PROMPT)));
    let answer = whole(run.exchange.queue_answered(Ok(b""), Moment::new(&run.store, NOW)));
    assert_eq!(
        (answer.status, object(&answer)),
        (202, json!({ "id": ID, "object": "job", "state": "queued" }))
    );
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["content-type", "cache-control", "preference-applied"]);
    assert_eq!((run.finish().outcome, run.left()), (Outcome::Queued, BUDGET));
    // What it does not take, what never goes there, and what is asked of it in vain.
    let mut run = Run::with(publishing(|_| {}));
    assert!(matches!(ask(&mut run, &[PATIENT], PROMPT), Step::AskQueue));
    let step = run.exchange.queue_answered(Err(StoreTrouble::Refused), Moment::new(&run.store, NOW));
    assert_eq!(refused(step), "503 queue_unavailable");
    let never = r#"{"model":"secret","messages":[]}"#;
    assert_eq!(refused(ask(&mut Run::with(publishing(|_| {})), &[PATIENT], never)), "403 model_not_allowed");
    let mut run = Run::with(publishing(|_| {}));
    let path = format!("/tollgate/v1/jobs/{ID}");
    assert_eq!(refused(run.head(&[(":method", "GET"), (":path", &path), CHAT[2]])), "404 unknown_url");
}

#[test]
fn what_is_too_long_for_a_broker_is_as_if_not_asked_for() {
    let short = |config: &mut Value| config["queue"]["broker"]["bytes_max"] = json!(100);
    let mut run = Run::with(publishing(short));
    assert!(matches!(ask(&mut run, &[PATIENT], PROMPT), Step::Forward(_)));
    let gateway = publishing(|config| {
        short(config);
        config["queue"]["when"] = json!("full");
        config["clients"][0]["limits"] = json!([{ "requests": 1, "per": "minute" }]);
    });
    let mut run = Run::with(gateway.clone());
    assert!(matches!(ask(&mut run, &[PATIENT], PROMPT), Step::Forward(_)));
    run.exchange = Exchange::new(gateway);
    assert_eq!(refused(ask(&mut run, &[PATIENT], PROMPT)), "429 rate_limit_exceeded");
}
