//! Is a backend without a key shown a token, its own and a good one, whatever becomes of who issues it?

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::harness::bootstrap::Bootstrap;
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::azure::{APPLICATION, Azure, SCOPE, SECRET, TENANT, WORKLOAD};
use crate::requests::{
    CHAT, EMBEDDING, EMBEDDINGS, GPT_4O, WEB_SHOP, chat, check_record, details, nobody_is_limited, record_of,
};

const MACHINE: &str = "managed_identity";

fn machine() -> Value {
    json!({ "scope": SCOPE, MACHINE: { "cluster": "imds" } })
}

fn workload() -> Value {
    json!({ "scope": SCOPE, "workload_identity": {
        "cluster": "entra", "token_cluster": "federated-token", "tenant": TENANT, "client_id": WORKLOAD,
    } })
}

fn application() -> Value {
    json!({ "scope": SCOPE, "client_secret": {
        "cluster": "entra", "tenant": TENANT, "client_id": APPLICATION, "env": "APPLICATION_SECRET",
    } })
}

/// A gateway whose backend `ptu` is shown tokens, with what `examples/keyless` adds to Envoy: its clusters lead to the
/// stand-in.
fn setup(azure: &Azure, access: Value) -> Setup {
    let addr = azure.addr();
    let example = Bootstrap::load_from("examples/keyless/envoy.yaml").unwrap().value().clone();
    let setup = Setup::new().edit(nobody_is_limited).env("APPLICATION_SECRET", SECRET);
    let setup = setup.edit(move |config| config["backends"][0]["credential"] = json!({ "azure": access }));
    setup.patch(move |envoy| {
        for cluster in example["static_resources"]["clusters"].as_array().unwrap() {
            let mut cluster = cluster.clone();
            let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
            if let Some(place) = cluster.pointer_mut(endpoint) {
                *place = json!({ "address": addr.ip().to_string(), "port_value": addr.port() });
                cluster["type"] = json!("STATIC");
                if cluster["name"] == "entra" {
                    cluster.as_object_mut().unwrap().remove("transport_socket");
                }
            }
            envoy["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
        }
    })
}

async fn ask(gateway: &Gateway) -> Answer {
    gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap()
}

/// What the backend was shown, by all requests.
fn shown(gateway: &Gateway, backend: &str) -> Vec<String> {
    let received = gateway.mock(backend).received();
    received.iter().map(|request| request.header("authorization").unwrap_or_default().to_owned()).collect()
}

async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_machines_token_is_fetched_once_while_requests_wait() {
    let azure = Azure::start().await;
    azure.hold(true);
    let gateway = Gateway::start(setup(&azure, machine()).workers(2)).await.unwrap();
    let asked = join_all((0..20).map(|_| ask(&gateway)));
    let release = async {
        azure.wait_for(1).await;
        azure.hold(false);
    };
    let (answers, ()) = tokio::join!(asked, release);
    for answer in answers {
        assert_eq!(answer.status, 200, "{} {:?}", answer.text(), azure.refused());
        check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "ptu", "attempts": 1 }));
    }
    assert_eq!(azure.issued(), ["token-1-machine"]);
    assert_eq!(shown(&gateway, "ptu"), ["Bearer token-1-machine"; 20]);
    assert!(gateway.mock("ptu").received().iter().all(|request| request.header("api-key").is_none()));
    let renewed = [("backend", "ptu"), ("outcome", "renewed")];
    gateway.wait_for_metric("tollgate_token_fetches", &renewed, 1.0).await.unwrap();
}

#[tokio::test]
async fn each_backend_gets_its_own_token_and_no_log_has_one() {
    let azure = Azure::start().await;
    let setup = setup(&azure, machine()).edit(|config| {
        config["backends"][1]["credential"] = json!({ "azure": application() });
    });
    let gateway = Gateway::start(setup).await.unwrap();
    // The first backend is busy: both are asked by the same request.
    gateway
        .mock("ptu")
        .update(|settings| settings.faults = [tollgate_tests::mock::Fault::answer(503).always()].into());
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{} {:?}", answer.text(), azure.refused());
    let mut issued = azure.issued();
    issued.sort_by_key(|token| token.contains("application"));
    let [of_machine, of_application] = &issued[..] else { panic!("{issued:?}") };
    assert!(of_machine.ends_with("-machine") && of_application.ends_with("-application"));
    assert_eq!(shown(&gateway, "ptu"), [format!("Bearer {of_machine}")]);
    assert_eq!(shown(&gateway, "payg-a"), [format!("Bearer {of_application}")]);
    record_of(&gateway, &answer).await;
    let logs = format!("{} {:?}", gateway.log_text().unwrap(), gateway.access_log().unwrap());
    for secret in ["-machine", "-application", SECRET] {
        assert!(!logs.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn without_a_token_the_next_backend_answers_or_a_503_says_so() {
    let azure = Azure::start().await;
    azure.fail(500);
    let setup = setup(&azure, machine()).edit(|config| {
        let models = config["models"].as_array_mut().unwrap();
        let embedding = models.iter_mut().find(|model| model["name"] == EMBEDDING).unwrap();
        embedding["backends"] = json!([{ "backend": "ptu" }]);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = record_of(&gateway, &answer).await;
    check_record(&record, &json!({ "backend": "payg-a", "model": GPT_4O, "attempts": 1 }));
    assert_eq!(details(&record)["passed_over"], json!([{ "backend": "ptu", "why": "credential" }]));
    let embedding = json!({ "model": EMBEDDING, "input": "hello" });
    let answer = gateway.post(EMBEDDINGS, WEB_SHOP, &embedding).await.unwrap();
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (503, Some("backend_credential_unavailable"))
    );
    assert_eq!(gateway.mock("ptu").received(), []);
    let refused = [("backend", "ptu"), ("outcome", "refused")];
    assert!(gateway.metric("tollgate_token_fetches", &refused).await.unwrap() >= 1.0);
    let sentence = "no new token for backend ptu could be fetched from cluster imds: refused";
    assert!(gateway.log_text().unwrap().contains(sentence));
    azure.fail(200);
    wait_until("there is a token", async || {
        gateway.post(EMBEDDINGS, WEB_SHOP, &embedding).await.unwrap().status == 200
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_is_silent_holds_nobody_for_long() {
    let azure = Azure::start().await;
    azure.hold(true);
    let gateway = Gateway::start(setup(&azure, machine()).workers(1)).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "payg-a" }));
    assert_eq!(gateway.mock("ptu").received(), []);
}

#[tokio::test]
async fn a_token_is_used_until_its_end_while_its_issuer_is_down() {
    let azure = Azure::start().await;
    azure.life(8);
    let gateway = Gateway::start(setup(&azure, machine())).await.unwrap();
    assert_eq!(ask(&gateway).await.status, 200);
    azure.fail(503);
    let before = azure.asked();
    azure.wait_for(before + 1).await;
    let asked_while_down = gateway.mock("ptu").received().len();
    wait_until("the token has ended", async || {
        let answer = ask(&gateway).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        record_of(&gateway, &answer).await["backend"] == "payg-a"
    })
    .await;
    let shown = shown(&gateway, "ptu");
    assert!(shown.len() > asked_while_down, "it was used while the issuer was down");
    assert!(shown.iter().all(|shown| shown == "Bearer token-1-machine"), "{shown:?}");
    azure.fail(200);
    wait_until("there is another", async || {
        record_of(&gateway, &ask(&gateway).await).await["backend"] == "ptu"
    })
    .await;
}

/// Writes the token as Kubernetes does: what the name leads to changes at once.
fn write_token(folder: &Path, version: &str, token: &str) {
    fs::create_dir(folder.join(version)).unwrap();
    fs::write(folder.join(version).join("azure-identity-token"), token).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

fn federated(azure: &Azure, folder: &TempDir, is_watched: bool) -> Setup {
    let folder = folder.path().to_str().unwrap().to_owned();
    write_token(Path::new(&folder), "..1", "a.first.token");
    symlink("..data/azure-identity-token", Path::new(&folder).join("azure-identity-token")).unwrap();
    azure.trust("a.first.token");
    azure.life(2);
    let example = Bootstrap::load_from("examples/keyless/envoy.yaml").unwrap().value().clone();
    setup(azure, workload()).patch(move |envoy| {
        let mut listener = example["static_resources"]["listeners"][0].clone();
        let body = "/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0/direct_response/body";
        let body = listener.pointer_mut(body).unwrap();
        body["filename"] = json!(format!("{folder}/azure-identity-token"));
        body["watched_directory"]["path"] = json!(folder);
        if !is_watched {
            body.as_object_mut().unwrap().remove("watched_directory");
        }
        let socket = json!(format!("{folder}/federated-token.sock"));
        listener["address"]["pipe"]["path"] = socket.clone();
        let clusters = envoy["static_resources"]["clusters"].as_array_mut().unwrap();
        let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == "federated-token").unwrap();
        let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path";
        *cluster.pointer_mut(address).unwrap() = socket;
        envoy["static_resources"]["listeners"].as_array_mut().unwrap().push(listener);
    })
}

#[tokio::test]
async fn a_token_of_kubernetes_is_exchanged_and_read_anew() {
    let (azure, folder) = (Azure::start().await, TempDir::new().unwrap());
    let gateway = Gateway::start(federated(&azure, &folder, true)).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{} {:?}", answer.text(), azure.refused());
    assert_eq!(shown(&gateway, "ptu"), ["Bearer token-1-workload"]);
    write_token(folder.path(), "..2", "a.second.token");
    azure.trust("a.second.token");
    let issued = azure.issued().len();
    wait_until("the second one is exchanged", async || azure.issued().len() >= issued + 2).await;
    wait_until("its token is shown", async || {
        ask(&gateway).await;
        let last = shown(&gateway, "ptu").pop().unwrap();
        last != "Bearer token-1-workload" && last.ends_with("-workload")
    })
    .await;
}

#[tokio::test]
async fn without_watched_directory_a_token_of_kubernetes_grows_old() {
    let (azure, folder) = (Azure::start().await, TempDir::new().unwrap());
    let gateway = Gateway::start(federated(&azure, &folder, false)).await.unwrap();
    assert_eq!(ask(&gateway).await.status, 200);
    write_token(folder.path(), "..2", "a.second.token");
    azure.trust("a.second.token");
    let issued = azure.issued().len();
    let refused = azure.refused().len();
    wait_until("the first one is refused", async || azure.refused().len() >= refused + 2).await;
    assert!(azure.refused().last().unwrap().contains("a.first.token"), "{:?}", azure.refused());
    assert!(azure.issued().len() <= issued + 1);
}
