//! Does a bill add up what an access log says, and nothing else?

mod common;

use common::{root, run};
use serde_json::{Value, json};
use std::fs;

/// Made by Envoy: `the_log_that_is_replayed_is_what_envoy_writes` makes it again.
fn log() -> String {
    fs::read_to_string(root().join("tests/fixtures/replay/access.log")).unwrap()
}

#[track_caller]
fn check(options: &[&str], log: &str, expected: &str) {
    let found = run(&[&["bill"], options, &["-"]].concat(), log);
    assert_eq!(found, (0, expected.to_owned(), String::new()));
}

/// A request of `web` for `m` on the 28th that cost 20 millionths.
fn line(change: &Value, details: &Value) -> String {
    let mut all = json!({ "operation": "chat/completions", "price_micros": 20 });
    all.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
    let mut line = json!({ "start_time": "2026-11-28T23:59:59.999Z", "client": "web", "model": "m", "backend": "a",
                           "outcome": "served", "prompt_tokens": "10", "completion_tokens": "5", "estimated": "false",
                           "details": all.to_string() });
    line.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    format!("{line}\n")
}

#[test]
fn a_bill_adds_up_what_the_log_says() {
    let expected = "\
client    model                   requests  prompt  completion     price
batch     gpt-35-turbo-instruct          1       3          20  0.000045
team      gpt-35-turbo-instruct          1       3          20  0.000045
team      gpt-4o                         1       8          24  0.000000
team      text-embedding-3-small         1       5           0  0.000000
web-shop  gpt-4o                         2      17          48  0.000000
web-shop  text-embedding-3-small         1       5           0  0.000000
total                                    7      41         112  0.000090

2 of the lines: no record of a request of a known client: not looked at
2 of the requests: sent to no backend, so they cost nothing
";
    check(&[], &log(), expected);
}

#[test]
fn a_typed_log_has_the_same_bill() {
    let typed = |line: &str| {
        let Ok(mut line) = serde_json::from_str::<Value>(line) else { return format!("{line}\n") };
        for name in ["prompt_tokens", "completion_tokens", "estimated", "details"] {
            if let Some(text) = line[name].as_str() {
                line[name] = serde_json::from_str(text).unwrap_or(Value::Null);
            }
        }
        format!("{line}\n")
    };
    let typed: String = log().lines().map(typed).collect();
    assert!(typed.contains("\"prompt_tokens\":8"), "{typed}");
    let (_, of_text, _) = run(&["bill", "-"], &log());
    check(&[], &typed, &of_text);
    let line = line(&json!({ "estimated": true }), &json!({}));
    let (_, printed, _) = run(&["bill", "-"], &line);
    assert!(printed.contains("estimate"), "{printed}");
}

#[test]
fn a_bill_is_by_any_words_in_any_sequence() {
    let log = [
        line(&json!({}), &json!({ "service_tier": "flex" })),
        line(
            &json!({ "start_time": "2026-12-01T00:00:00.000Z", "backend": "b" }),
            &json!({ "cached_tokens": 4 }),
        ),
        line(&json!({ "estimated": "true" }), &json!({})),
        line(&json!({ "client": "x,\"y\"" }), &json!({ "price_micros": null })),
    ]
    .concat();
    let expected = "\
month    tier  backend  requests  prompt  cached  completion     price  estimated tokens  estimated price  unpriced requests
2026-11  -     a               2      20       0          10  0.000020                15         0.000020                  1
2026-11  flex  a               1      10       0           5  0.000020                 0         0.000000                  0
2026-12  -     b               1      10       4           5  0.000020                 0         0.000000                  0
total                          4      40       4          20  0.000060                15         0.000020                  1
";
    check(&["--by", "month,tier,backend"], &log, expected);
    let names = "requests,prompt_tokens,cached_tokens,cache_write_tokens,prompt_audio_tokens,prompt_image_tokens,completion_tokens,\
                 reasoning_tokens,completion_audio_tokens,completion_image_tokens,price_micros,estimated_tokens,\
                 estimated_price_micros,unpriced_requests";
    let rows = "2026-11-28,web,2,20,0,0,0,0,10,0,0,0,40,15,20,0\n2026-11-28,\"x,\"\"y\"\"\",1,10,0,0,0,0,5,0,0,0,0,0,0,1\n\
                2026-12-01,web,1,10,4,0,0,0,5,0,0,0,20,0,0,0\n";
    check(&["--by", "day,client", "--csv"], &log, &format!("day,client,{names}\n{rows}"));
}

#[test]
fn a_bill_by_group_is_by_the_one_that_the_log_names() {
    let log = [
        line(&json!({}), &json!({ "group": "sales" })),
        line(&json!({ "client": "shop" }), &json!({ "group": "sales" })),
        line(&json!({}), &json!({})),
    ];
    let expected = "\
group  requests  prompt  completion     price
-             1      10           5  0.000020
sales         2      20          10  0.000040
total         3      30          15  0.000060
";
    check(&["--by", "group"], &log.concat(), expected);
}

#[test]
fn a_bill_is_of_the_days_that_are_asked_for() {
    let on = |day: &str| line(&json!({ "start_time": format!("{day}T00:00:00.000Z") }), &json!({}));
    let log = ["2026-10-31", "2026-11-01", "2026-11-30", "2026-12-01"].map(on).concat();
    let requests = |options: &[&str]| {
        let (code, printed, _) = run(&[&["bill", "--json"], options, &["-"]].concat(), &log);
        assert_eq!(code, 0);
        serde_json::from_str::<Value>(&printed).unwrap()["total"]["requests"].as_u64().unwrap()
    };
    assert_eq!(requests(&[]), 4);
    assert_eq!(requests(&["--from", "2026-11-01"]), 3);
    assert_eq!(requests(&["--to", "2026-11-30"]), 3);
    assert_eq!(requests(&["--from", "2026-11-01", "--to", "2026-11-30"]), 2);
    for (options, problem) in [
        (&["--from", "2026-02-30"][..], "expected a day as 2026-11-28"),
        (
            &["--from", "2026-11-30", "--to", "2026-11-01"],
            "--to 2026-11-01: expected no day before --from 2026-11-30",
        ),
    ] {
        let (code, _, complaint) = run(&[&["bill"], options, &["-"]].concat(), &log);
        assert!(code == 2 && complaint.contains(problem), "{complaint}");
    }
}

#[test]
fn a_bill_is_json_for_programs() {
    let log = line(
        &json!({ "backend": null, "prompt_tokens": "0", "completion_tokens": "0" }),
        &json!({ "price_micros": null }),
    ) + &line(&json!({ "start_time": null }), &json!({}))
        + &line(&json!({}), &json!({}));
    let (_, printed, _) = run(&["bill", "--json", "--by", "tier", "-"], &log);
    let told: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(told["groups"][0]["tier"], Value::Null);
    assert_eq!((&told["total"]["requests"], &told["total"]["price_micros"]), (&json!(1), &json!(20)));
    assert_eq!(told["notes"], json!({ "undated_lines": 1, "unread_lines": 0, "requests_to_nobody": 1 }));
    // A spreadsheet has no place for it.
    let (_, _, warned) = run(&["bill", "--csv", "-"], &log);
    assert!(warned.starts_with("warning: 1 of the lines: without start_time"), "{warned}");
}

#[test]
fn several_logs_are_one_bill_and_each_has_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(&path, text).unwrap();
        path
    };
    let (one, two) = (file("one", &line(&json!({}), &json!({}))), file("two", &line(&json!({}), &json!({}))));
    let (code, printed, _) = run(&["bill", "--by", "client", &one, &two], "");
    assert!(code == 0 && printed.contains("\nweb            2      20"), "{printed}");
    let other = file("other", "GET /v1/models 200\n");
    let problem = format!(
        "error: {other} has no record of a request of a client: expected the JSON lines of envoy.yaml's access log\n"
    );
    assert_eq!(run(&["bill", &one, &other], ""), (2, String::new(), problem));
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    assert_eq!(run(&["bill", &missing], "").0, 2);
}
