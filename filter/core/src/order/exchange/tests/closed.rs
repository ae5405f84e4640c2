use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn the_record_says_how_it_went() {
    let mut run = Run::with(gateway(|config| {
        config["models"][0]["aliases"] = json!(["alias"]);
        config["models"][0]["prices"] = json!({ "prompt": 2, "completion": 10 });
        config["backends"][1]["region"] = json!("eu");
    }));
    let forward = run.send(&STREAM.replace("gpt-4o", "alias"));
    let outside = Outside::new(&run.store, &|| NOW);
    let _ = attempt(&forward.flight, "ca", &[(":status", "429")], "", &outside).unwrap();
    let _ = served(&forward.flight, "cb", &run.store);
    let _ = run.answer("200", "text/event-stream");
    let later = || NOW + Duration::from_millis(250);
    let _ = run.exchange.response_chunk(
        b"data: {\"model\":\"m\",\"delta\":{\"content\":\"\"}}\n\n",
        false,
        || NOW,
    );
    let _ = run.exchange.response_chunk(DELTA, false, later);
    let _ = run.exchange.response_chunk(COUNTED, true, || NOW);
    let record = run.finish();
    let tries: Vec<_> = record.tries.iter().map(|one| (&*one.backend, one.status)).collect();
    assert_eq!(tries, [("a", Some(429)), ("b", Some(200))]);
    let served = record.served.unwrap();
    assert_eq!((&*served.backend, &*served.deployment, served.region.as_deref()), ("b", "e", Some("eu")));
    assert_eq!((record.asked.as_deref(), record.answered.as_deref()), (Some("alias"), Some("m")));
    assert_eq!(record.model.map(|name| name.text), Some("gpt-4o".into()));
    // 9 prompt tokens at 2, 20 produced at 10 a million.
    assert_eq!(record.price_micros, Some(218));
    assert_eq!(
        (record.first_token, record.duration),
        (Some(Duration::from_millis(250)), Duration::from_secs(1))
    );
    assert!(record.stream && record.reserved > 0 && record.estimated_prompt.is_some());
}

#[test]
fn a_request_whose_vm_died_is_charged_all_that_it_reserved() {
    let mut run = Run::new();
    let _ = run.send(PROMPT);
    let record = Exchange::lost(&run.exchange.note().unwrap(), &run.exchange.draft.gateway);
    assert_eq!(record.reserved, BUDGET - run.left());
    assert_eq!((record.usage.total(), record.source), (record.reserved, Source::Estimated));
    let series = record.additions().first().map(|(series, _)| series.name()).unwrap();
    assert_eq!(series, "tollgate_requests;client=web;model=gpt-4o;operation=chat/completions;outcome=lost");
}

#[test]
fn a_lost_request_has_its_clients_own_name_and_group() {
    let mut run = Run::with(gateway(|config| {
        config["metrics"] = json!({ "clients_max": 1 });
        config["groups"] = json!([{ "name": "sales", "limits": [] }]);
        config["clients"][0]["group"] = json!("sales");
        let first = json!({ "name": "a-first", "api_keys": [{ "sha256": "0".repeat(64) }], "models": ["*"] });
        config["clients"].as_array_mut().unwrap().insert(0, first);
    }));
    let _ = run.send(PROMPT);
    let note = run.exchange.note().unwrap();
    let record = Exchange::lost(&note, &run.exchange.draft.gateway);
    let name = record.client.unwrap();
    assert_eq!((&*name.text, &*name.label, record.group.as_deref()), ("web", "other", Some("sales")));
}
