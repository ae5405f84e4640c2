//! Keys that are issued while gateways run: the tool against a real Redis.

use std::process::Command;

use serde_json::{Value, json};
use tollgate::identity::{KeyHash, issued};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Redis, tools};

/// How the tool ends, and what it prints and complains of.
fn run(redis: &Redis, words: &[&str]) -> (i32, String, String) {
    let output = Command::new(tools::tool().unwrap())
        .arg("keys")
        .args(words)
        .args(["--store", &redis.url()])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn well(redis: &Redis, words: &[&str]) -> String {
    let (code, printed, complaint) = run(redis, words);
    assert_eq!(code, 0, "{words:?}: {complaint}");
    printed
}

#[track_caller]
fn refused(redis: &Redis, words: &[&str], problem: &str) {
    let (code, printed, complaint) = run(redis, words);
    assert_eq!((code, printed.as_str()), (2, ""), "{words:?}");
    assert!(complaint.contains(problem), "{complaint}\nnot {problem}");
}

fn list(redis: &Redis) -> Value {
    serde_json::from_str(&well(redis, &["list", "--json"])).unwrap()
}

/// A new key, and what it is called.
fn issue(redis: &Redis, words: &[&str]) -> (String, String) {
    let printed = well(redis, &[&["issue"], words].concat());
    let key = printed.trim_end().to_owned();
    assert!(issued::is_meant(key.as_bytes()) && printed == format!("{key}\n"), "{printed}");
    let id = issued::id(&KeyHash::of(key.as_bytes()));
    (key, id)
}

#[test]
fn the_store_has_only_the_hash_of_a_key() {
    let Some(redis) = Redis::or_skip("the_store_has_only_the_hash_of_a_key", None, &[]) else { return };
    let (key, id) =
        issue(&redis, &["--client", "shop", "--note", "the till", "--not-after", "2999-01-01T00:00:00Z"]);
    let told = &list(&redis)[0];
    let expected = json!({
        "id": id, "client": "shop", "note": "the till", "not_after": "2999-01-01T00:00:00Z", "issued": told["issued"],
    });
    assert_eq!(told, &expected);
    let line = format!(
        "{id} of shop, issued {}, good until 2999-01-01T00:00:00Z: the till\n",
        told["issued"].as_str().unwrap()
    );
    assert_eq!(well(&redis, &["list"]), line);
    let Reply::Array(stored) = redis.ask(&["HGETALL", "tollgate:keys"]).unwrap() else { panic!("a hash") };
    assert_eq!(stored[0], Reply::Bulk(KeyHash::of(key.as_bytes()).hex().into_bytes()));
    let Reply::Bulk(entry) = &stored[1] else { panic!("{stored:?}") };
    assert!(stored.len() == 2 && !String::from_utf8_lossy(entry).contains(&key[3..]));
    assert_ne!(issue(&redis, &["--client", "shop"]).0, key);
    // Of another gateway.
    assert_eq!(well(&redis, &["list", "--prefix", "eu"]), "");
}

#[test]
fn a_key_is_revoked_by_its_id_and_all_by_their_client() {
    let Some(redis) = Redis::or_skip("a_key_is_revoked_by_its_id_and_all_by_their_client", None, &[]) else {
        return;
    };
    let ids: Vec<_> = ["shop", "shop", "lab"].map(|name| issue(&redis, &["--client", name]).1).into();
    let of_shop = "0 keys of shop begin so; it has ";
    refused(&redis, &["revoke", "--client", "shop", "--id", &ids[2]], of_shop);
    refused(&redis, &["revoke", "--client", "shop", "--id", ""], "2 keys of shop begin so");
    refused(&redis, &["revoke", "--client", "shop"], "--id <ID>");
    let told = format!("{} of shop is revoked\n", ids[0]);
    assert_eq!(well(&redis, &["revoke", "--client", "shop", "--id", &ids[0][..9]]), told);
    let left = |redis: &Redis| {
        list(redis).as_array().unwrap().iter().map(|key| key["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(left(&redis), [json!(ids[2]), json!(ids[1])]);
    // What nobody can read is told of, and holds nothing up.
    redis.ask(&["HSET", "tollgate:keys", "junk", "x"]).unwrap();
    let (code, _, warned) = run(&redis, &["revoke", "--client", "shop", "--all"]);
    assert!(
        code == 0 && warned.contains("tollgate:keys: junk: ") && warned.contains("it is passed over"),
        "{warned}"
    );
    assert_eq!(left(&redis), [json!(ids[2])]);
    assert_eq!(run(&redis, &["revoke", "--client", "shop", "--all"]).0, 1);
}

#[test]
fn a_rotation_lets_the_old_keys_end_and_no_other_ones() {
    let Some(redis) = Redis::or_skip("a_rotation_lets_the_old_keys_end_and_no_other_ones", None, &[]) else {
        return;
    };
    let (_, old) = issue(&redis, &["--client", "shop"]);
    let (_, ended) = issue(&redis, &["--client", "shop", "--not-after", "2020-01-01T00:00:00Z"]);
    let (_, later) = issue(&redis, &["--client", "shop", "--not-before", "2999-01-01T00:00:00Z"]);
    // As a text it would be before its own second.
    let (_, part) = issue(&redis, &["--client", "shop", "--not-after", "2998-12-31T23:59:59.5Z"]);
    let (_, others) = issue(&redis, &["--client", "lab"]);
    let new: Value =
        serde_json::from_str(&well(&redis, &["rotate", "--client", "shop", "--old-for", "48", "--json"]))
            .unwrap();
    assert!(issued::is_meant(new["key"].as_str().unwrap().as_bytes()));
    let keys = list(&redis);
    let end =
        |id: &str| keys.as_array().unwrap().iter().find(|key| key["id"] == id).unwrap()["not_after"].clone();
    let days = |text: &str| text[..10].replace('-', "").parse::<u64>().unwrap();
    let (issued, ends) = (new["issued"].as_str().unwrap(), end(&old));
    assert!(days(ends.as_str().unwrap()) > days(issued), "{ends} {issued}");
    assert_eq!(ends.as_str().unwrap()[10..], issued[10..]);
    assert_eq!((end(&ended), end(&part)), (json!("2020-01-01T00:00:00Z"), end(&old)));
    for id in [&later, &others, new["id"].as_str().unwrap()] {
        assert_eq!(end(id), Value::Null);
    }
}

#[test]
fn a_key_that_no_envoy_would_take_is_not_issued() {
    let Some(redis) = Redis::or_skip("a_key_that_no_envoy_would_take_is_not_issued", None, &[]) else {
        return;
    };
    let issue = |words: &[&'static str]| [&["issue", "--client", "shop"], words].concat();
    let form = "expected a date and time in UTC such as 2026-11-01T00:00:00Z";
    refused(&redis, &issue(&["--not-after", "tomorrow"]), &format!("--not-after: \"tomorrow\": {form}"));
    let never = ["--not-before", "2027-01-01T00:00:00Z", "--not-after", "2026-01-01T00:00:00Z"];
    refused(&redis, &issue(&never), "--not-after: is not after not_before: the key would never be valid");
    refused(&redis, &issue(&["--note", "two\nlines"]), "--note: expected at most 200 characters on one line");
    refused(
        &redis,
        &["rotate", "--client", "shop", "--old-for", "1000000"],
        "--old-for 1000000: expected at most",
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.json");
    let mut configuration = json!({
        "clients": [ { "name": "lab", "models": ["*"], "api_keys": [ { "sha256": "0".repeat(64) } ] } ],
        "models": [ { "name": "m", "backends": [ { "backend": "b" } ] } ],
        "backends": [ { "name": "b", "cluster": "b", "style": "openai" } ],
        "store": { "redis": { "cluster": "redis", "prefix": "eu" } },
    });
    let file = file.to_str().unwrap();
    let write = |configuration: &Value| std::fs::write(file, configuration.to_string()).unwrap();
    write(&configuration);
    refused(&redis, &["issue", "--client", "lab", "--config", file], "it has no directory");
    configuration["directory"] = json!({ "store": {} });
    write(&configuration);
    refused(
        &redis,
        &["issue", "--client", "shop", "--config", file],
        "the configuration has no such client, and the store has none",
    );
    // One that is gone has keys that can be taken away.
    assert_eq!(run(&redis, &["revoke", "--client", "shop", "--all", "--config", file]).0, 1);
    // The prefix is the configuration's.
    well(&redis, &["issue", "--client", "lab", "--config", file]);
    assert_eq!((list(&redis), well(&redis, &["list", "--prefix", "eu"]).lines().count()), (json!([]), 1));
}

#[test]
fn a_key_that_may_less_than_its_client_says_so() {
    let Some(redis) = Redis::or_skip("a_key_that_may_less_than_its_client_says_so", None, &[]) else {
        return;
    };
    let less = [
        ["--models", "gpt-4o,mini"],
        ["--limit", "tokens: 50000, per: day"],
        ["--limit", "{ concurrent: 2 }"],
        ["--policy", "short"],
        ["--regions", "eu"],
        ["--priority", "low"],
    ];
    let (_, id) = issue(&redis, &[&["--client", "shop"], less.concat().as_slice()].concat());
    let told = &list(&redis)[0];
    let expected = json!({
        "id": id, "client": "shop", "issued": told["issued"], "models": ["gpt-4o", "mini"], "policy": "short",
        "limits": [ { "tokens": 50000, "per": "day" }, { "concurrent": 2 } ], "regions": ["eu"], "priority": "low",
    });
    assert_eq!(told, &expected);
    let line = well(&redis, &["list"]);
    let may = ", models gpt-4o mini, policy short, regions eu, priority low, limit {\"per\":\"day\",\"tokens\":50000}, \
               limit {\"concurrent\":2}\n";
    assert!(line.ends_with(may), "{line}");
    // Whoever has it would get a key by a rotation that may more.
    let problem = format!("key {id} of shop may models gpt-4o mini, policy short");
    refused(&redis, &["rotate", "--client", "shop"], &problem);
    well(&redis, &[&["rotate", "--client", "shop"], less.concat().as_slice()].concat());
    let keys = list(&redis);
    let narrowed = |key: &Value| (key["models"].clone(), key["limits"].clone(), key["not_after"].is_string());
    let [old, new] = [&keys[0], &keys[1]].map(narrowed);
    assert_eq!((&old.0, &old.1, old.2 != new.2), (&new.0, &new.1, true));
}

#[test]
fn a_key_that_would_widen_its_client_is_not_issued() {
    let Some(redis) = Redis::or_skip("a_key_that_would_widen_its_client_is_not_issued", None, &[]) else {
        return;
    };
    let issue = |words: &[&'static str]| [&["issue", "--client", "lab"], words].concat();
    // Even without a configuration.
    refused(&redis, &issue(&["--limit", "tokens: ]"]), "--limit \"tokens: ]\": expected such as");
    refused(&redis, &issue(&["--limit", "tokens: 5"]), "limits[0].per: missing: expected second, minute");
    refused(
        &redis,
        &issue(&["--limit", "tokens: 5, per: day, by: key"]),
        "limits[0].by: a limit of a key is the key's alone: expected no by",
    );
    refused(&redis, &issue(&["--priority", "urgent"]), "priority: unknown variant \"urgent\"");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.json");
    let configuration = json!({
        "clients": [ { "name": "lab", "models": ["m"] } ],
        "models": [
            { "name": "m", "backends": [ { "backend": "b" } ] }, { "name": "n", "backends": [ { "backend": "b" } ] },
        ],
        "backends": [ { "name": "b", "cluster": "b", "style": "openai", "region": "eu" } ],
        "store": { "redis": { "cluster": "redis" } },
        "directory": { "store": {} },
    });
    std::fs::write(&file, configuration.to_string()).unwrap();
    let file = file.to_str().unwrap();
    for (words, problem) in [
        (["--models", "m,n"], "models[1]: \"n\" is no model that its client may call: expected \"m\""),
        (["--regions", "us"], "regions: none that may serve its client: expected \"eu\""),
        (["--priority", "high"], "priority: \"high\" goes before its client, which has \"normal\""),
        (["--policy", "x"], "policy: no policy is named \"x\": expected one, but there is none"),
        (["--limit", "cost: 5, per: day"], "limits[0].cost: model \"m\" has no prices at backend \"b\""),
    ] {
        let words = [&["issue", "--client", "lab", "--config", file], words.as_slice()].concat();
        refused(&redis, &words, problem);
    }
    assert_eq!(list(&redis), json!([]));
    well(&redis, &["issue", "--client", "lab", "--config", file, "--models", "m"]);
}
