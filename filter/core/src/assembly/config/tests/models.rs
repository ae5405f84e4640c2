use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn other_endpoints_go_to_named_backends() {
    let mut config = whole();
    config["other_endpoints"] = json!(["b"]);
    assert_eq!(&*load(config).unwrap().other[0].backend.name, "b");
    check(
        "/other_endpoints",
        json!(["x"]),
        &["other_endpoints[0]: no backend is named \"x\": expected one of \"a\", \"b\""],
    );
    check("/other_endpoints", json!(["a", "a"]), &["other_endpoints[1]: \"a\" stands more than once"]);
    check(
        "/other_paths",
        json!(["rerank", "Deployments"]),
        &[
            "other_paths[1]: \"Deployments\" cannot be added: expected the first segment of a path, and none below which \
           deployments or operations under policy are",
        ],
    );
    check("/other_paths", json!(vec!["x"; 33]), &["other_paths: 33 entries: expected at most 32"]);
}

#[test]
fn regions_are_those_of_backends() {
    let mut config = whole();
    config["backends"][0]["region"] = json!("eu");
    config["clients"][0]["regions"] = json!(["eu"]);
    let gateway = load(config.clone()).unwrap();
    let client = known(&gateway);
    let home: Vec<_> =
        gateway.models[0].targets.iter().map(|target| target.is_in(client.regions.as_deref())).collect();
    // One that names no region is in none.
    assert_eq!(home, [true, false]);
    let faults = |regions: Value| {
        config["clients"][0]["regions"] = regions;
        load(config.clone()).unwrap_err()
    };
    let mut faults = faults;
    assert_eq!(
        faults(json!(["eu", "EU"])),
        ["clients[0].regions[1]: no backend is in region \"EU\": expected \"eu\""]
    );
    assert_eq!(
        faults(json!([])),
        ["clients[0].regions: empty: expected at least one region, or no such field for anywhere"]
    );
}

#[test]
fn streams_and_answers_may_have_a_time_to_begin_in() {
    let bounds = |config| {
        let model = load(config).unwrap().models[0].clone();
        [true, false].map(|is_stream| model.start_max(is_stream).map(|most| most.as_millis()))
    };
    assert_eq!(bounds(whole()), [None, None]);
    for (field, expected) in
        [("stream_start_ms_max", [Some(1500), None]), ("answer_start_ms_max", [None, Some(1500)])]
    {
        let mut config = whole();
        config["models"][0][field] = json!(1500);
        assert_eq!(bounds(config), expected);
        let problem = format!("models[0].{field}: 0: expected at least 1");
        check(&format!("/models/0/{field}"), json!(0), &[&problem]);
    }
}

#[test]
fn backends_may_name_the_model_each_in_its_own_way() {
    let mut config = whole();
    config["backends"][0] = json!({ "name": "a", "cluster": "ca", "style": "azure-v1" });
    let gateway = load(config).unwrap();
    let names: Vec<_> = gateway.models[0].targets.iter().map(|target| &*target.deployment).collect();
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_refused_tier_is_asked_again_as_the_default_or_not_at_all() {
    let mut config = whole();
    config["models"][0]["tiers"] = json!({ "flex": "default" });
    assert_eq!(load(config).unwrap().models[0].asks_again, [crate::tier::Tier::Flex]);
    check(
        "/models/0/tiers",
        json!({ "batch": "default" }),
        &["models[0].tiers.batch: unknown field, expected flex or priority"],
    );
    check(
        "/models/0/tiers",
        json!({ "priority": "flex" }),
        &["models[0].tiers.priority: unknown variant \"flex\", expected \"default\""],
    );
}

#[test]
fn a_model_may_have_several_deployments_of_one_backend() {
    let mut config = whole();
    let places = json!([
        { "backend": "a", "deployment": "x", "priority": 1 }, { "backend": "b", "deployment": "d" },
        { "backend": "a" }, { "backend": "a", "deployment": "y", "priority": 1 },
    ]);
    config["models"][0]["backends"] = places;
    let gateway = load(config.clone()).unwrap();
    let words: Vec<_> = gateway.models[0].targets.iter().map(|target| &*target.word).collect();
    // Only who stands there more than once needs more than a backend's name.
    assert_eq!(words, ["b", "a/gpt-4o", "a/x", "a/y"]);
    // The name of the model is a deployment's name too.
    config["models"][0]["backends"][3]["deployment"] = json!("gpt-4o");
    assert_eq!(
        load(config).unwrap_err(),
        [
            "models[0].backends[3].backend: \"a\" stands more than once with deployment \"gpt-4o\": expected another \
             deployment each time"
        ]
    );
}

#[test]
fn a_pool_has_one_version_unless_it_is_a_rollout() {
    let mut config = whole();
    config["models"][0]["backends"][0]["version"] = json!("2024-08-06");
    config["models"][0]["backends"][0]["weight"] = json!(10);
    assert!(load(config.clone()).is_ok());
    config["models"][0]["backends"][1]["version"] = json!("2024-11-20");
    assert_eq!(
        load(config.clone()).unwrap_err(),
        [
            "models[0].backends[1].version: \"2024-11-20\" differs from \"2024-08-06\": expected one version, or rollout: \
             true at the model"
        ]
    );
    config["models"][0]["rollout"] = json!(true);
    config["models"][0]["sticky_by"] = json!("client");
    let gateway = load(config).unwrap();
    let model = &gateway.models[0];
    let weights: Vec<_> = model.targets.iter().map(|target| (target.priority, target.weight)).collect();
    assert_eq!(weights, [(0, None), (1, Some(10))]);
    let client = known(&gateway);
    let lot = |ns| model.lot(&client, std::time::Duration::from_nanos(ns));
    assert_eq!(lot(1), lot(2));
}

#[test]
fn of_one_priority_all_have_weights_or_none_has() {
    let mut config = whole();
    let backends = &mut config["models"][0]["backends"];
    backends[0]["priority"] = json!(1);
    backends[0]["weight"] = json!(10);
    backends[1]["priority"] = json!(1);
    assert_eq!(
        load(config.clone()).unwrap_err(),
        [
            "models[0].backends[1].weight: missing: another backend of priority 1 has one, expected at all of a priority \
             or at none"
        ]
    );
    config["models"][0]["backends"][1]["priority"] = json!(0);
    assert!(load(config.clone()).is_ok());
    config["models"][0]["backends"][1] = with_weight(&config["models"][0]["backends"][1], 0);
    config["models"][0]["backends"][1]["priority"] = json!(1);
    assert!(load(config).is_ok());
}

#[test]
fn a_share_is_of_a_whole_and_somebody_takes_the_rest() {
    let mut config = whole();
    config["models"][0]["backends"][0]["share_max"] = json!("0.05");
    let gateway = load(config.clone()).unwrap();
    let bounds: Vec<_> = gateway.models[0].targets.iter().map(|target| target.share_max).collect();
    assert_eq!(bounds.iter().flatten().collect::<Vec<_>>(), [&50_000]);
    assert!(gateway.models[0].shares.is_some());
    config["models"][0]["backends"][0]["share_max"] = json!(1);
    config["models"][0]["backends"][1]["share_max"] = json!(0);
    assert_eq!(
        load(config).unwrap_err(),
        [
            "models[0].backends[0].share_max: 1: expected a share above 0 and below 1",
            "models[0].backends[1].share_max: 0: expected a share above 0 and below 1",
            "models[0].backends: every backend has a share_max: expected one that takes the rest",
        ]
    );
}

fn with_weight(backend: &Value, weight: u32) -> Value {
    let mut backend = backend.clone();
    backend["weight"] = json!(weight);
    backend
}
