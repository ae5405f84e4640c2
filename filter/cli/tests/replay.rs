//! Does a replay tell what a new configuration changes, and no more than a log can tell?

mod common;

use common::{root, run};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Made by Envoy: `the_log_that_is_replayed_is_what_envoy_writes` makes it again.
fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/replay").join(name)
}

fn replay(old: &Path, new: &Path, log: &str) -> (i32, String) {
    replay_by(&[], old, new, log)
}

fn replay_by(options: &[&str], old: &Path, new: &Path, log: &str) -> (i32, String) {
    let files = ["--old", old.to_str().unwrap(), "--new", new.to_str().unwrap(), "-"];
    let (code, printed, complaint) = run(&[&["replay"], options, &files].concat(), log);
    (code, if complaint.is_empty() { printed } else { complaint })
}

fn log() -> String {
    fs::read_to_string(fixture("access.log")).unwrap()
}

const NOT_REPLAYED: &str = "\
Not replayed, because it is not in a log: bodies, so policies and what a backend can do; keys and tokens, so who is let in; limits,
capacity, pauses and failures, so who is refused or spills by them; weights, so whose part grows.
Costs are of the tokens that were charged: where the request was served if its first backend stays the same, else at the new first one.
";

#[test]
fn who_is_refused_or_moved_is_told_with_what_it_costs() {
    // web-shop: 9 and 8 tokens sent and 24 produced, twice: 18 + 192 and 16 + 192 millionths at the new first backend.
    let expected = "\
client      requests     refused    admitted       moved    old cost    new cost  difference
batch              1           1           0           0    0.000045    0.000000   -0.000045
lab                1           0           1           0    0.000000    0.000000   +0.000000
team               3           2           0           0    0.000045    0.000000   -0.000045
web-shop           4           1           0           2    0.000000    0.000418   +0.000418
total              9           4           1           2    0.000090    0.000418   +0.000328

admitted 1 of lab: text-embedding-3-small
moved 1 of web-shop: gpt-4o-2024-08-06: ptu -> payg
moved 1 of web-shop: gpt-4o: ptu -> payg
refused 1 of batch: there is no such client
refused 1 of team: endpoint embeddings is not permitted
refused 1 of team: no backend is in the client's regions
refused 1 of web-shop: model text-embedding-3-small is not permitted
2 of the lines: no record of a request of a known client: not looked at
1 of the lines: say too little to be replayed
1 of the lines: in no cost: there is no price, or it depends on who is drawn or on what was not produced
";
    let found = replay(&fixture("old.yaml"), &fixture("new.yaml"), &log());
    assert_eq!(found, (1, format!("{expected}{NOT_REPLAYED}")));
}

#[test]
fn the_same_configuration_changes_nothing() {
    let (code, printed) = replay(&fixture("old.yaml"), &fixture("old.yaml"), &log());
    let total = "total              9           0           0           0    0.000090    0.000090   +0.000000\n\n2 of";
    assert!(
        code == 0 && printed.contains(total) && !printed.contains("was another one in force"),
        "{printed}"
    );
}

#[test]
fn a_file_that_is_no_log_is_refused_and_an_empty_one_is_not() {
    let other = "GET /v1/models 200\n{\"status\":200}\n";
    let problem = "error: - has no record of a request of a client: expected the JSON lines of envoy.yaml's access log\n";
    assert_eq!(replay(&fixture("old.yaml"), &fixture("new.yaml"), other), (2, problem.to_owned()));
    assert_eq!(replay(&fixture("old.yaml"), &fixture("new.yaml"), "").0, 0);
}

#[test]
fn a_log_that_the_old_configuration_cannot_have_made_is_told() {
    // Refused by it were batch, two of team's, and web-shop's embedding; admitted was what the lab asked.
    let (_, printed) = replay(&fixture("new.yaml"), &fixture("old.yaml"), &log());
    let misfits = "5 of the lines: not as the old configuration would have it: was another one in force?\n";
    assert!(printed.contains(misfits), "{printed}");
}

/// A request of `web` for `m` that `a` has served, with 1000 tokens sent.
fn line(change: Value, details: Value) -> String {
    let mut all = json!({ "operation": "chat/completions", "model_asked": "m" });
    all.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
    let mut line = json!({ "client": "web", "model": "m", "backend": "a", "outcome": "served", "prompt_tokens": "1000",
                           "completion_tokens": "0", "estimated": "false", "details": all.to_string() });
    line.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    format!("{line}\n")
}

/// A configuration where `m` is served by these.
fn served_by(backends: Value) -> tempfile::NamedTempFile {
    let named = |name: &str| json!({ "name": name, "cluster": name, "style": "openai" });
    let config = json!({
        "clients": [{ "name": "web", "anonymous": true, "models": ["*"] }],
        "models": [{ "name": "m", "backends": backends }],
        "backends": [named("a"), named("b"), named("c")],
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), config.to_string()).unwrap();
    file
}

#[track_caller]
fn check(old: Value, new: Value, line: &str, code: i32, told: &[&str], costs: &str) {
    let (old, new) = (served_by(old), served_by(new));
    let (found, printed) = replay(old.path(), new.path(), line);
    let (table, rest) = printed.split_once("\n\n").unwrap();
    assert_eq!((found, rest), (code, format!("{}{NOT_REPLAYED}", told.concat()).as_str()));
    assert_eq!(table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>()[5..].join(" "), costs);
}

#[test]
fn what_goes_where_its_ids_lead_is_not_moved() {
    let at = |name: &str, prompt: f64| json!({ "backend": name, "prices": { "prompt": prompt } });
    let (old, served) = (json!([at("a", 1.0), at("b", 1.0)]), line(json!({}), json!({})));
    let followed = line(json!({}), json!({ "pinned": "followed" }));
    let turned = || json!([at("b", 3.0), at("a", 2.0)]);
    check(old.clone(), turned(), &served, 1, &["moved 1 of web: m: a -> b\n"], "0.001000 0.003000 +0.002000");
    check(old.clone(), turned(), &followed, 0, &[], "0.001000 0.002000 +0.001000");
    let gone = "refused 1 of web: the backend that keeps what it refers to is gone\n";
    check(old, json!([at("b", 3.0)]), &followed, 1, &[gone], "0.001000 0.000000 -0.001000");
}

#[test]
fn a_changed_weight_moves_nobody_and_another_backend_does() {
    let drawn =
        |name: &str, weight: u32| json!({ "backend": name, "weight": weight, "prices": { "prompt": 1 } });
    let dear = json!({ "backend": "c", "weight": 1, "prices": { "prompt": 2 } });
    let old = json!([drawn("a", 1), drawn("b", 9)]);
    let served = line(json!({}), json!({}));
    let costs = "0.001000 0.001000 +0.000000";
    check(old.clone(), json!([drawn("b", 1), drawn("a", 9)]), &served, 0, &[], costs);
    let moved = "moved 1 of web: m: a or b -> b or c\n";
    check(old.clone(), json!([drawn("b", 1), drawn("c", 9)]), &served, 1, &[moved], costs);
    // Who is drawn decides what it costs.
    let unpriced = "1 of the lines: in no cost: there is no price, or it depends on who is drawn or on what was not produced\n";
    check(old, json!([drawn("b", 1), dear]), &served, 1, &[moved, unpriced], "0.000000 0.000000 +0.000000");
}

#[test]
fn what_several_deployments_cost_is_told_apart() {
    let at = |name: &str, prompt: f64| json!({ "backend": "a", "deployment": name, "prices": { "prompt": prompt } });
    let old = || json!([at("stable", 1.0), at("canary", 2.0)]);
    let served = line(json!({}), json!({ "deployment": "canary", "price_micros": 2000 }));
    check(old(), old(), &served, 0, &[], "0.002000 0.002000 +0.000000");
    let moved = "moved 1 of web: m: a/stable -> a/canary\n";
    let turned = json!([at("canary", 3.0), at("stable", 1.0)]);
    check(old(), turned, &served, 1, &[moved], "0.002000 0.003000 +0.001000");
}

#[test]
fn what_is_not_known_is_told() {
    let (free, paid) = (json!([{ "backend": "a" }]), json!([{ "backend": "a", "prices": { "prompt": 1 } }]));
    let unpriced = "1 of the lines: in no cost: there is no price, or it depends on who is drawn or on what was not produced\n";
    let estimated = "1 of the lines: charged by estimate\n";
    let guessed = line(json!({ "estimated": "true" }), json!({}));
    check(free, paid.clone(), &guessed, 0, &[unpriced, estimated], "0.000000 0.000000 +0.000000");
    // The old prices are not those that the log was written by.
    let misfit = "1 of the lines: not as the old configuration would have it: was another one in force?\n";
    let other = line(json!({}), json!({ "price_micros": 999 }));
    check(paid.clone(), paid.clone(), &other, 0, &[misfit], "0.001000 0.001000 +0.000000");
    // It has no such backend.
    let elsewhere = line(json!({ "backend": "c" }), json!({}));
    check(paid.clone(), paid.clone(), &elsewhere, 0, &[unpriced, misfit], "0.000000 0.000000 +0.000000");
    let right = line(json!({}), json!({ "price_micros": 1000 }));
    check(paid.clone(), paid.clone(), &right, 0, &[], "0.001000 0.001000 +0.000000");
    // It was sent nowhere, so it moves nowhere.
    let limited =
        line(json!({ "backend": null, "outcome": "rate_limit_exceeded", "prompt_tokens": "0" }), json!({}));
    check(paid, json!([{ "backend": "b" }]), &limited, 0, &[], "0.000000 0.000000 +0.000000");
}

#[test]
fn what_a_replay_tells_is_json_for_programs() {
    let (code, printed) = replay_by(&["--json"], &fixture("old.yaml"), &fixture("new.yaml"), &log());
    let told: Value = serde_json::from_str(&printed).unwrap();
    let text = replay(&fixture("old.yaml"), &fixture("new.yaml"), &log()).1;
    let requests = |client: &str| told["clients"][client]["requests"].as_u64().unwrap();
    let clients = told["clients"].as_object().unwrap();
    assert!(code == 1 && !clients.is_empty());
    for client in clients.keys() {
        let line = text.lines().find(|line| line.starts_with(&format!("{client} "))).unwrap();
        assert_eq!(line.split_whitespace().nth(1).unwrap(), requests(client).to_string());
    }
    assert!(!told["changes"].as_array().unwrap().is_empty());
}
