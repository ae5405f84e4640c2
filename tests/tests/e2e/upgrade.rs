//! Does another version of the module take over, and is Tollgate taken out, by the commands of the document?

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tollgate_tests::harness::tools;
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::Settings;

use crate::requests::{BATCH, nobody_is_limited};
use crate::updates::{WITHIN, ask_anew, documented_options, run_documented, stream};

const MOVE: &str = "mv /etc/envoy/listeners.new.yaml";

/// Which of the two modules the listeners that take connections have.
async fn loads(gateway: &Gateway, module: &str) -> bool {
    let dump = gateway.admin("/config_dump?resource=dynamic_listeners").await.unwrap();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let listeners = dump["configs"].as_array().unwrap();
    let active: String = listeners.iter().map(|listener| listener["active_state"].to_string()).collect();
    active.contains(module)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_module_takes_over_and_what_was_spent_is_spent() {
    let thrice = |config: &mut Value| {
        nobody_is_limited(config);
        config["clients"][1]["limits"] = json!([{ "requests": 3, "per": "day" }]);
    };
    let setup = Setup::new().from_files().options(documented_options()).edit(thrice);
    let gateway = Gateway::start(setup).await.unwrap();
    let folder = gateway.folder();
    let mut module = fs::read(tools::wasm().unwrap()).unwrap();
    fs::write(folder.join("tollgate-0.1.0.wasm"), &module).unwrap();
    // A section that is no code: to Envoy it is another module.
    module.extend(b"\0\x06\x05newer");
    fs::write(folder.join("tollgate-0.2.0.wasm"), &module).unwrap();
    let wait_for = async |module: &str| {
        let start = Instant::now();
        while !loads(&gateway, module).await {
            assert!(start.elapsed() < WITHIN, "{module} is not loaded");
        }
    };
    gateway.push(|whole| whole.load_module_from(&folder.join("tollgate-0.1.0.wasm"))).unwrap();
    wait_for("tollgate-0.1.0.wasm").await;
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 200);

    for command in ["sed ", "ln -f ", MOVE] {
        run_documented(command, &gateway);
    }
    wait_for("tollgate-0.2.0.wasm").await;
    assert!(!loads(&gateway, "tollgate-0.1.0.wasm").await, "one filter has the old one");
    for status in [200, 200, 429] {
        assert_eq!(ask_anew(&gateway, BATCH).await.status, status);
    }

    // And back.
    run_documented("mv /etc/envoy/listeners.before", &gateway);
    wait_for("tollgate-0.1.0.wasm").await;
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_taken_out_and_streams_end_whole() {
    let held = Settings { hold_after_events: Some(3), ..Settings::default() };
    let setup =
        Setup::new().from_files().options(documented_options()).edit(nobody_is_limited).mock("ptu", held);
    let gateway = Gateway::start(setup).await.unwrap();
    let address = gateway.url().trim_start_matches("http://");
    let removal = async {
        gateway.mock("ptu").wait_for_requests(1).await;
        assert!(TcpStream::connect(address).await.is_ok());
        for command in ["printf ", MOVE] {
            run_documented(command, &gateway);
        }
        let start = Instant::now();
        while TcpStream::connect(address).await.is_ok() {
            assert!(start.elapsed() < WITHIN, "it still listens");
            tokio::task::yield_now().await;
        }
        gateway.mock("ptu").release();
    };
    let (stream, ()) = tokio::join!(stream(&gateway), removal);
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
}
