//! Clients that come while gateways run: the tool against a real Redis.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Redis, tools};

/// The tool, and a configuration.
struct Desk {
    redis: Redis,
    folder: tempfile::TempDir,
}

impl Desk {
    fn or_skip(test: &str) -> Option<Self> {
        let redis = Redis::or_skip(test, None, &[])?;
        let desk = Self { redis, folder: tempfile::tempdir().unwrap() };
        desk.configure(json!({ "store": {} }));
        Some(desk)
    }

    fn configure(&self, directory: Value) {
        let configuration = json!({
            "clients": [ { "name": "lab", "models": ["*"], "api_keys": [ { "sha256": "0".repeat(64) } ] } ],
            "models": [ { "name": "m", "backends": [ { "backend": "b" } ] } ],
            "backends": [ { "name": "b", "cluster": "b", "style": "openai" } ],
            "store": { "redis": { "cluster": "redis" } },
            "directory": directory,
        });
        self.write("gateway.json", &configuration.to_string());
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).unwrap();
    }

    /// How the tool ends, and what it prints and complains of.
    fn run(&self, words: &str, input: &str) -> (i32, String, String) {
        self.write("input", input);
        let input = std::fs::File::open(self.folder.path().join("input")).unwrap();
        let output = Command::new(tools::tool().unwrap())
            .args(words.split_whitespace())
            .args(["--store", &self.redis.url()])
            .current_dir(self.folder.path())
            .stdin(Stdio::from(input))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn check(&self, words: &str, input: &str, (code, printed): (i32, &str)) {
        let found = self.run(words, input);
        assert_eq!((found.0, found.1.as_str()), (code, printed), "{words}: {}", found.2);
    }

    fn list(&self) -> Value {
        serde_json::from_str(&self.run("clients list --json", "").1).unwrap()
    }
}

#[test]
fn a_client_is_put_listed_shown_and_removed() {
    let Some(desk) = Desk::or_skip("a_client_is_put_listed_shown_and_removed") else { return };
    let put = "clients put --config gateway.json";
    desk.write("team.yaml", "name: team\nmodels: [ m ]\nlimits: [ { tokens: 5, per: day } ]\n");
    desk.check(&format!("{put} team.yaml"), "", (0, "team is put\n"));
    let others = "clients: [ { name: a, models: [ '*' ] }, { name: b, models: [ '*' ] } ]";
    desk.check(&format!("{put} -"), others, (0, "a is put\nb is put\n"));
    desk.check(&format!("{put} -"), r#"[{"name":"b","models":["m"]}]"#, (0, "b is put\n"));
    let lines = "a, models [\"*\"]\nb, models [\"m\"]\nteam, limits [{\"per\":\"day\",\"tokens\":5}], models [\"m\"]\n";
    desk.check("clients list", "", (0, lines));
    assert_eq!(
        desk.list()[1],
        json!({ "name": "b", "entry": { "name": "b", "models": ["m"] }, "problems": [] })
    );
    let shown: Value = serde_json::from_str(&desk.run("clients show team", "").1).unwrap();
    assert_eq!(
        shown,
        json!({ "name": "team", "models": ["m"], "limits": [ { "tokens": 5, "per": "day" } ] })
    );
    // A key for it is checked against it.
    let issue = "keys issue --config gateway.json --client";
    assert_eq!(desk.run(&format!("{issue} team"), "").0, 0);
    let (code, _, complaint) = desk.run(&format!("{issue} team --models x"), "");
    assert!(code == 2 && complaint.contains("none that its client may call: expected \"m\""), "{complaint}");
    desk.check("clients remove team", "", (0, "team is removed\n"));
    desk.check("clients remove team", "", (1, "team was not there\n"));
    assert_eq!(desk.run("clients show team", "").0, 2);
    let (code, _, complaint) = desk.run(&format!("{issue} team"), "");
    assert!(code == 2 && complaint.contains("no such client, and the store has none"), "{complaint}");
}

#[test]
fn what_no_envoy_would_use_is_not_put() {
    let Some(desk) = Desk::or_skip("what_no_envoy_would_use_is_not_put") else { return };
    let put = "clients put --config gateway.json -";
    for (input, problem) in [
        (
            "{ name: team, models: [ x ] }",
            "team: client.models[0]: no model is named \"x\": expected one of \"*\", \"m\"",
        ),
        (
            "{ name: team, models: [ m ], group: g }",
            "team: client.group: no group is named \"g\": expected one, but there is none",
        ),
        ("{ name: 'a b', models: [ m ] }", "a b: client.name: \"a b\" is no name"),
        (
            "{ name: lab, models: [ m ] }",
            "lab: the configuration has a client of this name, and that one holds",
        ),
        (
            "[ { name: ok, models: [ m ] }, { name: team, models: [ m ], anonymous: true } ]",
            "team: client.anonymous: a client of the store has issued keys: expected none",
        ),
    ] {
        let (code, printed, _) = desk.run(put, input);
        assert!(code == 1 && printed.starts_with(&format!("error: {problem}")), "{printed}\nnot {problem}");
    }
    for (input, problem) in [
        ("7", "-: expected a client as it stands in clients of a configuration, or a list of them"),
        ("[]", "-: expected a client"),
        ("[ { name: a }, { name: a } ]", "-: \"a\" stands more than once"),
    ] {
        let (code, printed, complaint) = desk.run(put, input);
        assert!(code == 2 && printed.is_empty() && complaint.contains(problem), "{complaint}\nnot {problem}");
    }
    assert_eq!(desk.list(), json!([]));
    desk.configure(Value::Null);
    let (code, printed, _) = desk.run(put, "{ name: team, models: [ m ] }");
    assert!(code == 1 && printed.contains("no directory.store, so no Envoy looks for clients"), "{printed}");
}

#[test]
fn a_list_tells_which_clients_a_configuration_does_not_use() {
    let Some(desk) = Desk::or_skip("a_list_tells_which_clients_a_configuration_does_not_use") else { return };
    let enter = |name: &str, text: &str| {
        let reply = desk.redis.ask(&["HSET", "tollgate:clients", name, text]).unwrap();
        assert!(matches!(reply, Reply::Integer(1)), "{reply:?}");
    };
    enter("good", r#"{"name":"good","models":["*"]}"#);
    desk.check("clients list --config gateway.json", "", (0, "good, models [\"*\"]\n"));
    enter("broken", "{");
    enter("lab", r#"{"name":"lab","models":["m"]}"#);
    enter("old", r#"{"name":"old","models":["gone"]}"#);
    let lines = "broken\n  error: broken: client: EOF while parsing an object at line 1 column 1\n\
                 good, models [\"*\"]\n\
                 lab, models [\"m\"]\n  error: lab: the configuration has a client of this name, and that one holds\n\
                 old, models [\"gone\"]\n  error: old: client.models[0]: no model is named \"gone\": expected one of \"*\", \"m\"\n";
    desk.check("clients list --config gateway.json", "", (1, lines));
}
