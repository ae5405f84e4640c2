//! Does what the tool renders serve, as it is?

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tollgate_tests::harness::bootstrap::gateway_from;
use tollgate_tests::harness::tools::{tool, workspace};
use tollgate_tests::harness::{Gateway, Setup, credential_of};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{CHAT, WEB_SHOP, chat, check_record, record_of};

const CHAIN: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

/// What `tollgate` writes of this.
fn rendered(input: &str) -> String {
    let mut child = Command::new(tool().unwrap())
        .args(["render", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// In place of what the harness would run: the example's file, rendered for the backends, the module and the log of this run.
fn render_in_place(envoy: &mut Value) {
    let at = |pointer: &str| envoy.pointer(pointer).unwrap();
    let clusters: serde_json::Map<_, _> = at("/static_resources/clusters")
        .as_array()
        .unwrap()
        .iter()
        .map(|cluster| {
            let socket = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
            let socket = cluster.pointer(socket).unwrap();
            let (address, port) = (&socket["address"], &socket["port_value"]);
            let leads = json!({ "address": address, "host": cluster["name"], "port": port, "tls": false });
            (cluster["name"].as_str().unwrap().to_owned(), leads)
        })
        .collect();
    let config = format!("{CHAIN}/http_filters/0/typed_config/config");
    let part = json!({
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "module": at(&format!("{config}/vm_config/code/local/filename")),
        "clusters": clusters,
    });
    let log = at(&format!("{CHAIN}/access_log/0/typed_config")).clone();
    let own = fs::read_to_string(workspace().join("examples/ptu-first/gateway.yaml")).unwrap();
    let mut whole: Value = serde_yaml_ng::from_str(&rendered(&format!("{own}envoy: {part}\n"))).unwrap();
    *whole.pointer_mut(&format!("{CHAIN}/access_log/0/typed_config")).unwrap() = log;
    *envoy = whole;
}

#[tokio::test]
async fn a_typed_line_has_numbers_and_an_object() {
    let setup = Setup::new().edit(|config| config["record"] = json!("typed-line"));
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    let usage = &answer.json()["usage"];
    let record = record_of(&gateway, &answer).await;
    check_record(
        &record,
        &json!({
            "client": "web-shop", "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"], "estimated": false,
        }),
    );
    assert_eq!(record["details"]["operation"], "chat/completions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendered_file_serves_and_goes_on_to_the_next_backend() {
    let config = gateway_from(&workspace().join("examples/ptu-first/gateway.yaml")).unwrap();
    let full = Settings { faults: [Fault::throttle_ms(60_000).always()].into(), ..Settings::default() };
    let setup = Setup::new().config(config).mock("ptu", full).patch(render_in_place);
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = gateway.post(CHAT, "demo-team", &chat("hello")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "payg", "attempts": 2 }));
    for backend in ["ptu", "payg"] {
        let [asked] = &gateway.mock(backend).received()[..] else { panic!("{backend} was not asked once") };
        assert_eq!(asked.header("api-key"), Some(&*credential_of(backend)));
        assert_eq!(asked.header("host"), Some(backend));
    }
    assert_eq!(gateway.post(CHAT, "demo-stranger", &chat("hello")).await.unwrap().status, 401);
    // Labels come of the names of metrics.
    gateway.wait_for_metric("tollgate_requests", &[("client", "team")], 1.0).await.unwrap();
}
