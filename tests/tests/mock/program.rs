//! The binary.

use std::process::{Output, Stdio};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn it_says_where_it_listens_and_stops_when_told() {
    let mut mock = Command::new(env!("CARGO_BIN_EXE_mock"))
        .args(["--listen", "127.0.0.1:0", "--name", "payg", "--tpm", "7", "--key", "k", "--latency-ms", "1"])
        .args(["--chunk-delay-ms", "2", "--completion-tokens", "3", "--rpm", "9", "--no-record"])
        .args(["--settings", r#"{"tpm": 1, "cached_tokens": 4}"#])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(mock.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("readable").expect("a line");
    let url = line.strip_prefix("mock payg listening on ").expect("the line");
    let settings: serde_json::Value =
        reqwest::get(format!("{url}/_mock/settings")).await.expect("an answer").json().await.expect("JSON");
    let expected = json!({
        "tpm": 7, "rpm": 9, "cached_tokens": 4, "require_key": "k", "latency_ms": 1, "chunk_delay_ms": 2,
        "completion_tokens": 3, "record": false,
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(settings[name], *value, "{name}");
    }
    let address = url.strip_prefix("http://").expect("a URL").to_owned();
    assert_eq!(probe(&address).await, (Some(0), String::new()));
    let id = mock.id().expect("running").to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
    assert_eq!(mock.wait().await.expect("an end").code(), Some(0));
    assert_eq!(lines.next_line().await.expect("readable"), None);
    let (code, said) = probe(&address).await;
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&format!("mock: --probe {address}: ")), "{said}");
}

async fn probe(address: &str) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mock"));
    let Output { status, stderr, .. } =
        program.args(["--probe", address]).output().await.expect("the program");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[tokio::test]
async fn it_says_what_is_wrong_with_its_options() {
    let table = [
        (["--settings", r#"{"tpm": "x"}"#], "mock: --settings: invalid type: string \"x\", expected u32\n"),
        (["--listen", "nowhere"], "mock: --listen nowhere: invalid socket address\n"),
    ];
    for (arguments, expected) in table {
        let Output { status, stdout, stderr } =
            Command::new(env!("CARGO_BIN_EXE_mock")).args(arguments).output().await.expect("the program");
        assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&stderr), expected, "{arguments:?}");
    }
}
