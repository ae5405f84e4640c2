//! Can clients change while Envoy runs, by a file of the filter's own, with the listener untouched?

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_tests::harness::bootstrap::Bootstrap;
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::envoy_lines::{MANAGER, part};
use crate::requests::{CHAT, WEB_SHOP, chat};

const NEWCOMER: &str = "demo-newcomer";

/// How long anything may take that follows from a move.
const WITHIN: Duration = Duration::from_secs(30);

/// Where the documents have the filter's file.
const FOLDER: &str = "/etc/envoy/tollgate";

fn example(file: &str) -> Value {
    Bootstrap::load_from(&format!("examples/ecds/{file}")).unwrap().value().clone()
}

/// Writes the file of a filter beside its place.
fn write(folder: &Path, filter: &Value) {
    let mut file = example("filter.yaml");
    file["resources"][0]["typed_config"] = filter.clone();
    fs::write(folder.join("filter.new.yaml"), file.to_string()).unwrap();
}

/// Moves it there by the document's command.
fn take_effect(folder: &Path) {
    let document = include_str!("../../../docs/operations.md");
    let command = document.lines().find(|line| line.starts_with(&format!("mv {FOLDER}/"))).unwrap();
    let command = command.replace(FOLDER, folder.to_str().unwrap());
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
}

/// Takes the filter out of the listener, and leaves where it stands as the example does.
fn take_out(envoy: &mut Value, folder: &Path) {
    let filter = part(envoy, &format!("{MANAGER}/http_filters/0"));
    write(folder, &filter["typed_config"]);
    take_effect(folder);
    let text = example("listener.yaml").to_string().replace(FOLDER, folder.to_str().unwrap());
    let mut example: Value = serde_json::from_str(&text).unwrap();
    *filter = example["http_filters"][0].take();
    envoy["node"] = example["node"].take();
}

/// The filter with its configuration changed.
fn changed(folder: &Path, change: impl FnOnce(&mut Value)) -> Value {
    let text = fs::read_to_string(folder.join("filter.yaml")).unwrap();
    let mut filter: Value = serde_json::from_str(&text).unwrap();
    let mut filter = filter["resources"][0]["typed_config"].take();
    change(&mut filter["config"]["configuration"]["value"]);
    filter
}

/// With a client that nobody knew.
fn with_newcomer(config: &mut Value) {
    let hash = hex::encode(Sha256::digest(NEWCOMER));
    let newcomer = json!({ "name": "newcomer", "api_keys": [{ "sha256": hash }], "models": ["gpt-4o"] });
    config["clients"].as_array_mut().unwrap().push(newcomer);
}

async fn status(client: &reqwest::Client, gateway: &Gateway, key: &str) -> u16 {
    let request = client.post(format!("{}{CHAT}", gateway.url())).bearer_auth(key).json(&chat("hello"));
    let answer = Answer::read(request.send().await.unwrap()).await.unwrap();
    if answer.status == 200 {
        // A change of the listener would end the connection, as a refusal before the body does.
        assert_eq!(answer.header("connection"), "");
    }
    answer.status
}

async fn counted(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(name, &[]).await.unwrap()
}

#[test]
fn the_file_of_the_filter_has_what_the_listener_had() {
    let without_configuration = |filter: &mut Value| {
        let mut filter = filter["typed_config"].take();
        filter["config"].as_object_mut().unwrap().remove("configuration");
        filter["config"]["vm_config"]["environment_variables"] = Value::Null;
        filter
    };
    let mut whole = Bootstrap::load().unwrap();
    let in_listener = part(whole.value_mut(), &format!("{MANAGER}/http_filters/0"));
    assert_eq!(in_listener["name"], example("listener.yaml")["http_filters"][0]["name"]);
    assert_eq!(in_listener["name"], example("filter.yaml")["resources"][0]["name"]);
    let of_file = without_configuration(&mut example("filter.yaml")["resources"][0]);
    assert_eq!(of_file, without_configuration(in_listener));
}

#[tokio::test]
async fn a_client_is_added_by_one_move_and_no_listener_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (place, of_envoy) = (folder.path().to_owned(), folder.path().to_owned());
    let twice = |config: &mut Value| {
        config["clients"][0]["limits"] = json!([{ "requests": 3, "per": "month" }]);
    };
    let setup = Setup::new().edit(twice).patch(move |envoy| take_out(envoy, &of_envoy));
    let gateway = Gateway::start(setup).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build().unwrap();
    assert_eq!(status(&client, &gateway, WEB_SHOP).await, 200);
    assert_eq!(status(&client, &gateway, NEWCOMER).await, 401);

    write(&place, &changed(&place, with_newcomer));
    take_effect(&place);
    let start = Instant::now();
    while status(&client, &gateway, NEWCOMER).await != 200 {
        assert!(start.elapsed() < WITHIN, "the newcomer is not known");
    }
    for untouched in ["listener_added", "listener_modified", "listener_in_place_updated"] {
        let name = format!("envoy_listener_manager_{untouched}");
        let at_start = if untouched == "listener_added" { 1.0 } else { 0.0 };
        assert_eq!(counted(&gateway, &name).await, at_start, "{name}");
    }

    // What was spent before is spent.
    for _ in 0..2 {
        assert_eq!(status(&client, &gateway, WEB_SHOP).await, 200);
    }
    assert_eq!(status(&client, &gateway, WEB_SHOP).await, 429);

    // A faulty one is refused whole, and told.
    write(&place, &changed(&place, |config| config["clients"][0]["models"] = json!(["no-such-model"])));
    take_effect(&place);
    let refused = "envoy_extension_config_discovery_http_filter_tollgate_config_fail";
    gateway.wait_for_metric(refused, &[], 1.0).await.unwrap();
    assert_eq!(status(&client, &gateway, NEWCOMER).await, 200);
    assert!(
        gateway.log_text().unwrap().contains("clients[0].models[0]: no model is named \"no-such-model\"")
    );
}
