//! Is the log that the tool's tests replay one that Envoy writes?

use crate::requests::{
    BATCH, CHAT, COMPLETIONS, EMBEDDING, EMBEDDINGS, GPT_4O, INSTRUCT, WEB_SHOP, chat, with,
};
use serde_json::{Value, json};
use std::fs;
use tollgate_tests::harness::bootstrap::gateway_from;
use tollgate_tests::harness::tools::{target_dir, workspace};
use tollgate_tests::harness::{Gateway, Setup};

const TEAM: &str = "demo-team";
const LAB: &str = "demo-lab";

/// A line without what is different each time.
fn steady(line: &Value) -> Value {
    let mut line = line.clone();
    let mut details: Value = serde_json::from_str(line["details"].as_str().unwrap()).unwrap();
    for (object, fields) in [
        (&mut line, &["start_time", "request_id", "duration_ms", "details"][..]),
        (&mut details, &["duration_ms", "first_token_ms", "reserved_tokens"]),
    ] {
        for field in fields {
            object.as_object_mut().unwrap().remove(*field);
        }
    }
    line["details"] = details;
    line
}

#[tokio::test]
async fn the_log_that_is_replayed_is_what_envoy_writes() {
    let folder = workspace().join("tests/fixtures/replay");
    let config = gateway_from(&folder.join("old.yaml")).unwrap();
    let gateway = Gateway::start(Setup::new().workers(1).config(config)).await.unwrap();
    let instruct = json!({ "model": INSTRUCT, "prompt": "hello hello", "max_tokens": 20 });
    let embedding = json!({ "model": EMBEDDING, "input": "hello hello hello" });
    let alias = with(chat("hello"), json!({ "model": "gpt-4o-2024-08-06" }));
    let requests = [
        (CHAT, WEB_SHOP, chat("hello hello")),
        (CHAT, WEB_SHOP, alias),
        (EMBEDDINGS, WEB_SHOP, embedding.clone()),
        // Not permitted to it.
        (COMPLETIONS, WEB_SHOP, instruct.clone()),
        (COMPLETIONS, BATCH, instruct.clone()),
        (CHAT, TEAM, with(chat("hello"), json!({ "model": GPT_4O, "stream": true }))),
        (COMPLETIONS, TEAM, instruct),
        (EMBEDDINGS, TEAM, embedding.clone()),
        // In none of its regions.
        (EMBEDDINGS, LAB, embedding),
        // Nobody.
        (CHAT, "demo-stranger", chat("hello")),
    ];
    for (at, (path, key, body)) in requests.iter().enumerate() {
        gateway.post(path, key, body).await.unwrap();
        // A line is written when its request has ended: one after the other, in this order.
        gateway.wait_for_log(at + 1).await.unwrap();
    }
    let written = gateway.access_log().unwrap();
    let lines: String = written.iter().map(|line| format!("{line}\n")).collect();
    fs::write(target_dir().join("replay.log"), lines).unwrap();
    let committed = fs::read_to_string(folder.join("access.log")).unwrap();
    // What is no record is of Envoy's own log, which may stand between.
    let committed: Vec<Value> =
        committed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let steady = |lines: &[Value]| -> Vec<Value> { lines.iter().map(self::steady).collect() };
    assert_eq!(steady(&written), steady(&committed), "Envoy writes target/replay.log");
}
