//! What may an operator say about the order of backends, and what comes of it?

use super::*;
use crate::store::Moment;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const PATH: &str = "/tollgate/v1/order";

/// `web` is an operator's client; `c` is of another region than the others, and of a lower priority.
fn operators(edit: impl FnOnce(&mut Value)) -> Rc<Gateway> {
    gateway(|config| {
        config["clients"][0]["operator"] = json!(true);
        config["clients"][0]["limits"] = json!([]);
        let c = json!({ "name": "c", "cluster": "cc", "style": "openai", "region": "us" });
        config["backends"].as_array_mut().unwrap().push(c);
        config["models"][0]["backends"][1]["priority"] = json!(1);
        let place = json!({ "backend": "c", "priority": 2 });
        config["models"][0]["backends"].as_array_mut().unwrap().push(place);
        for backend in 0..2 {
            config["backends"][backend]["region"] = json!("eu");
        }
        edit(config);
    })
}

/// An Envoy with these operators, and what it keeps.
struct Envoy {
    gateway: Rc<Gateway>,
    store: MemoryStore,
}

impl Envoy {
    fn new(edit: impl FnOnce(&mut Value)) -> Self {
        Self { gateway: operators(edit), store: MemoryStore::default() }
    }

    /// Asks; answers with the status, the body and what the log is told.
    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        now: Duration,
    ) -> (u16, Value, Option<String>) {
        let mut exchange = Exchange::new(self.gateway.clone());
        let moment = Moment::new(&self.store, now);
        let head = headers(&[(":method", method), (":path", path), ("api-key", "key")]);
        let mut step = exchange.request_head(&head, body.is_none(), moment);
        if let (Step::AwaitBody { .. }, Some(body)) = (&step, body) {
            step = exchange.request_body(body.as_bytes(), moment);
        }
        if let Step::ReadLimits(inquiry) = step {
            step = exchange.limits_read(limits::read(moment, &inquiry), now);
        }
        let Step::Answer(answer) = step else { panic!("{step:?}") };
        (answer.status, serde_json::from_slice(&answer.body).unwrap(), exchange.notice())
    }

    fn set(&self, body: &Value, now: Duration) -> (u16, Value, Option<String>) {
        self.ask("POST", PATH, Some(&body.to_string()), now)
    }

    /// Where a chat goes, and its record.
    fn goes(&self, now: Duration) -> (String, Record) {
        let mut run = Run::with(self.gateway.clone());
        let _ = run.exchange.request_head(&headers(&CHAT), false, Moment::new(&self.store, now));
        let step = run.exchange.request_body(PROMPT.as_bytes(), Moment::new(&self.store, now));
        let Step::Forward(forward) = run.perform(step) else { panic!() };
        let names: Vec<_> = forward.flight.candidates().iter().map(|target| &*target.backend.name).collect();
        (names.join(" "), run.finish())
    }
}

fn order(names: &[&str], for_s: u64) -> Value {
    json!({ "model": "gpt-4o", "order": names, "for_s": for_s })
}

#[test]
fn an_operators_order_holds_until_it_ends_and_is_told() {
    let envoy = Envoy::new(|_| {});
    let set = json!({
        "object": "order", "model": "gpt-4o", "order": ["c", "b"], "ends_at": "2026-11-18T11:16:40Z", "ends_in_s": 600,
    });
    let (status, answer, notice) = envoy.set(&order(&["c", "b"], 600), NOW);
    assert_eq!((status, &answer), (200, &set));
    assert_eq!(notice.as_deref(), Some("web orders gpt-4o for 600 s: c, b"));
    let (candidates, record) = envoy.goes(NOW);
    assert_eq!((candidates.as_str(), record.is_ordered), ("c b a", true));
    assert_eq!(record.candidates, ["c".into(), "b".into(), "a".into()]);
    // Who asks is told that it holds.
    let (_, list, _) = envoy.ask("GET", PATH, None, NOW);
    assert_eq!(list, json!({ "object": "list", "data": [set] }));
    let of_model = |model: &str| envoy.ask("GET", &format!("{PATH}?model={model}"), None, NOW);
    assert_eq!(of_model("gpt-4o").1["data"][0]["order"], json!(["c", "b"]));
    assert_eq!(of_model("other").0, 403);
    let (_, health, _) = envoy.ask("GET", "/tollgate/health?model=gpt-4o", None, NOW);
    let told = [&health["models"][0]["order"], &health["models"][0]["order_ends_at"]];
    assert_eq!(told, [&json!(["c", "b"]), &set["ends_at"]]);
    // It ends by its time, or when that is said.
    let later = NOW + Duration::from_secs(600);
    let (candidates, record) = envoy.goes(later);
    assert_eq!((candidates.as_str(), record.is_ordered, record.candidates.len()), ("a b c", false, 0));
    let end = || envoy.ask("DELETE", &format!("{PATH}?model=gpt-4o"), None, NOW);
    let gone = |deleted| json!({ "object": "order", "model": "gpt-4o", "deleted": deleted });
    assert_eq!(end(), (200, gone(true), Some("web ends the order of gpt-4o".to_owned())));
    assert_eq!(envoy.goes(NOW).0, "a b c");
    assert_eq!(end(), (200, gone(false), None));
    assert_eq!(envoy.ask("GET", PATH, None, NOW).1["data"], json!([]));
}

#[test]
fn an_order_that_cannot_be_is_refused_and_changes_nothing() {
    let envoy = Envoy::new(|config| config["clients"][0]["regions"] = json!(["eu"]));
    let with = |name: &str, value: Value| {
        let mut body = order(&["b"], 600);
        body[name] = value;
        body
    };
    let without = |name: &str| {
        let mut body = order(&["b"], 600);
        body.as_object_mut().unwrap().remove(name);
        body
    };
    for (body, field, code, sentence) in [
        (without("model"), "model", "missing_required_parameter", "The request has no `model`."),
        (without("order"), "order", "missing_required_parameter", "The request has no `order`."),
        (without("for_s"), "for_s", "missing_required_parameter", "The request has no `for_s`."),
        (with("model", json!(1)), "model", "invalid_type", "`model` must be the name of a model."),
        (
            with("order", json!("b")),
            "order",
            "invalid_type",
            "`order` must be a list of names of backends, at least one and each once.",
        ),
        (
            with("order", json!(["b", "a", "b"])),
            "order",
            "invalid_type",
            "`order` must be a list of names of backends, at least one and each once.",
        ),
        (
            with("order", json!([])),
            "order",
            "invalid_type",
            "`order` must be a list of names of backends, at least one and each once.",
        ),
        // One that it may not know of is none.
        (
            with("order", json!(["b", "c"])),
            "order",
            "backend_not_found",
            "`order` has `c`, but the model's backends are `a`, `b`.",
        ),
        (
            with("for_s", json!(0)),
            "for_s",
            "invalid_type",
            "`for_s` must be a whole number of seconds from 1 to 86400.",
        ),
        (
            with("for_s", json!(86_401)),
            "for_s",
            "invalid_type",
            "`for_s` must be a whole number of seconds from 1 to 86400.",
        ),
        (
            with("for_s", json!(1.5)),
            "for_s",
            "invalid_type",
            "`for_s` must be a whole number of seconds from 1 to 86400.",
        ),
    ] {
        let (status, answer, notice) = envoy.set(&body, NOW);
        let error = &answer["error"];
        let told = [&error["param"], &error["code"], &error["message"]];
        assert_eq!((status, told), (400, [&json!(field), &json!(code), &json!(sentence)]), "{body}");
        assert_eq!(notice, None);
    }
    assert_eq!(envoy.set(&with("model", json!("other")), NOW).0, 403);
    let twice = r#"{"model":"gpt-4o","order":["b"],"for_s":1,"for_s":2}"#;
    let refused = |body| envoy.ask("POST", PATH, body, NOW).1["error"]["code"].clone();
    assert_eq!(refused(Some(twice)), "ambiguous_parameter");
    assert_eq!(refused(Some("[]")), "invalid_json");
    assert_eq!(refused(None), "missing_required_parameter");
    assert_eq!(envoy.ask("DELETE", PATH, None, NOW).1["error"]["param"], "model");
    assert_eq!(envoy.ask("GET", PATH, None, NOW).1["data"], json!([]));
    assert_eq!(envoy.goes(NOW).0, "a b");
}

#[test]
fn an_order_names_deployments_of_one_backend_as_the_record_does() {
    let envoy = Envoy::new(|config| {
        let place = json!({ "backend": "b", "deployment": "canary", "priority": 3 });
        config["models"][0]["backends"].as_array_mut().unwrap().push(place);
    });
    let (status, answer, _) = envoy.set(&order(&["b/canary", "b/e"], 600), NOW);
    assert_eq!((status, &answer["order"]), (200, &json!(["b/canary", "b/e"])));
    let order_of = |answer: &Value| answer["data"][0]["order"].clone();
    assert_eq!(order_of(&envoy.ask("GET", PATH, None, NOW).1), json!(["b/canary", "b/e"]));
    assert_eq!(envoy.goes(NOW).1.candidates, ["b/canary".into(), "b/e".into(), "a".into(), "c".into()]);
    assert_eq!(envoy.set(&order(&["b"], 600), NOW).1["error"]["code"], "backend_not_found");
}

#[test]
fn nobody_but_an_operator_sees_or_says_an_order() {
    let envoy = Envoy::new(|config| config["clients"][0]["operator"] = json!(false));
    let body = order(&["b"], 600).to_string();
    for (method, body) in [("GET", None), ("DELETE", None), ("POST", Some(&*body))] {
        let (status, answer, _) = envoy.ask(method, &format!("{PATH}?model=gpt-4o"), body, NOW);
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("endpoint_not_allowed")), "{method}");
    }
    let (_, health, _) = envoy.ask("GET", "/tollgate/health", None, NOW);
    assert!(!health.to_string().contains("order"));
    assert_eq!(envoy.goes(NOW).0, "a b c");
}

#[test]
fn what_goes_to_the_first_of_an_order_spills_nothing() {
    let envoy = Envoy::new(|config| {
        config["models"][0]["spill"] = json!({ "limits": [{ "tokens": 1, "per": "day" }] });
    });
    let _ = envoy.set(&order(&["c"], 600), NOW);
    let mut run = Run::with(envoy.gateway.clone());
    let _ = run.exchange.request_head(&headers(&CHAT), false, Moment::new(&envoy.store, NOW));
    let step = run.exchange.request_body(PROMPT.as_bytes(), Moment::new(&envoy.store, NOW));
    // The bound, which it does not fit into, is not asked.
    let Step::Forward(forward) = run.perform(step) else { panic!() };
    let _ = served(&forward.flight, "cc", &envoy.store);
    let record = run.finish();
    assert_eq!((record.spill, record.served.map(|served| served.backend)), (None, Some("c".into())));
}

#[test]
fn an_order_brings_no_backend_back() {
    // Who stays in a region, and with the first priority, stays there.
    for (field, value, expected) in
        [("regions", json!(["eu"]), "b a"), ("regions", json!(["us"]), "c"), ("spill", json!("never"), "a")]
    {
        let envoy = Envoy::new(|config| config["clients"][0][field] = value.clone());
        let targets = envoy.gateway.models[0].targets.iter().rev();
        let moment = Moment::new(&envoy.store, NOW);
        Cooldowns::set_order(moment, "gpt-4o", targets, Duration::from_secs(60)).unwrap();
        assert_eq!(envoy.goes(NOW).0, expected, "{field} {value}");
    }
    // Whoever pauses is left out, and the next of the order is asked.
    let envoy = Envoy::new(|_| {});
    let _ = envoy.set(&order(&["c", "b"], 600), NOW);
    let pause = Cooldown { wait: Duration::from_secs(9), from_backend: true };
    Cooldowns::note(Moment::new(&envoy.store, NOW), &envoy.gateway.models[0].targets[2], pause).unwrap();
    assert_eq!(envoy.goes(NOW).0, "b a");
}

#[test]
fn an_order_without_the_store_is_told_as_unavailable() {
    let envoy = Envoy::new(|_| {});
    envoy.store.break_with(Some(crate::store::StoreFault::Unavailable));
    for (method, body) in [("GET", None), ("DELETE", None), ("POST", Some(order(&["b"], 600).to_string()))] {
        let path = format!("{PATH}?model=gpt-4o");
        let (status, answer, _) = envoy.ask(method, &path, body.as_deref(), NOW);
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("store_unavailable")), "{method}");
    }
}
