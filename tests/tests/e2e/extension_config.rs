//! Can clients change while Envoy runs, by a file of the filter's own, with the listener untouched?

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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
pub fn write(folder: &Path, filter: &Value) {
    let mut file = example("filter.yaml");
    file["resources"][0]["typed_config"] = filter.clone();
    fs::write(folder.join("filter.new.yaml"), file.to_string()).unwrap();
}

/// Moves it there by the document's command.
pub fn take_effect(folder: &Path) {
    let document = include_str!("../../../docs/operations.md");
    let command = document.lines().find(|line| line.starts_with(&format!("mv {FOLDER}/"))).unwrap();
    let command = command.replace(FOLDER, folder.to_str().unwrap());
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
}

/// Takes the filter out of the listener, and leaves where it stands as the example does.
pub fn take_out(envoy: &mut Value, folder: &Path) {
    let filter = part(envoy, &format!("{MANAGER}/http_filters/0"));
    write(folder, &filter["typed_config"]);
    take_effect(folder);
    let text = example("listener.yaml").to_string().replace(FOLDER, folder.to_str().unwrap());
    let mut example: Value = serde_json::from_str(&text).unwrap();
    *filter = example["http_filters"][0].take();
    envoy["node"] = example["node"].take();
}

/// The filter with its configuration changed.
pub fn changed(folder: &Path, change: impl FnOnce(&mut Value)) -> Value {
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

/// Lets a configuration that knows one client more take effect.
async fn move_one_with(gateway: &Gateway, place: &Path, key: &str) {
    let add = |config: &mut Value| {
        let newcomer = json!({
            "name": key, "api_keys": [{ "sha256": hex::encode(Sha256::digest(key)) }], "models": ["gpt-4o"],
        });
        config["clients"].as_array_mut().unwrap().push(newcomer);
    };
    write(place, &changed(place, add));
    take_effect(place);
    let start = Instant::now();
    while status(gateway.http(), gateway, key).await != 200 {
        assert!(start.elapsed() < WITHIN, "{key} is not known");
    }
}

/// A call is made in the name of the newest configuration, and ends with it: the stream is of an older one, and stays.
#[tokio::test]
async fn a_queue_call_that_ends_with_its_configuration_is_a_503() {
    let folder = tempfile::tempdir().unwrap();
    let (place, of_envoy) = (folder.path().to_owned(), folder.path().to_owned());
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = broker.local_addr().unwrap();
    let queue = |config: &mut Value| {
        // Longer than a move takes at any load.
        let broker = json!({ "cluster": "broker", "path": "/messages", "timeout_ms": 30_000 });
        config["queue"] = json!({ "for": "normal", "when": "always", "broker": broker });
    };
    let setup = Setup::new().workers(1).edit(queue).patch(move |envoy| {
        take_out(envoy, &of_envoy);
        let address =
            json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
        let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
        let assignment = json!({ "cluster_name": "broker", "endpoints": endpoints });
        let cluster = json!({ "name": "broker", "type": "STATIC", "load_assignment": assignment });
        envoy["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let mut client = TcpStream::connect(gateway.url().strip_prefix("http://").unwrap()).await.unwrap();
    let body = chat("hello").to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\napi-key: {WEB_SHOP}\r\nprefer: respond-async\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    // The one worker has read the head once it answers what came later.
    assert_eq!(status(gateway.http(), &gateway, WEB_SHOP).await, 200);
    move_one_with(&gateway, &place, "second").await;
    client.write_all(body.as_bytes()).await.unwrap();
    let (mut call, _) = tokio::time::timeout(WITHIN, broker.accept()).await.expect("nothing calls").unwrap();
    call.read_u8().await.unwrap();
    move_one_with(&gateway, &place, "third").await;

    let mut answer = String::new();
    let read = tokio::time::timeout(WITHIN * 3, client.read_to_string(&mut answer)).await;
    read.expect("the client waits for ever").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("queue_unavailable"), "{answer}");
    // One that was too slow would be a 504, which is `refused`.
    gateway.wait_for_metric("tollgate_broker_messages", &[("outcome", "unreached")], 1.0).await.unwrap();
}
