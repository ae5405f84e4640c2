//! What do clients notice when a configuration is pushed while they are served?

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate_tests::harness::bootstrap::Bootstrap;
use tollgate_tests::harness::{Answer, Gateway, Setup};
use tollgate_tests::mock::{Fault, Mock, Settings};

use crate::envoy_lines::{MANAGER, part};
use crate::requests::{BATCH, CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_where, with};

const NEWCOMER: &str = "demo-newcomer";
/// How long anything may take that follows from a push.
pub const WITHIN: Duration = Duration::from_secs(30);
/// What answers have before and after the push.
const TOKENS: [u64; 2] = [24, 9];

/// An answer to a request on a connection of its own.
pub async fn ask_anew(gateway: &Gateway, key: &str) -> Answer {
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(key);
    let request = request.header("connection", "close").json(&chat("hello"));
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// A stream that its backend holds after its first events.
pub async fn stream(gateway: &Gateway) -> String {
    let body = with(chat("hello"), json!({ "stream": true }));
    let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
    assert_eq!(answer.status, 200);
    answer.text()
}

fn tokens_of(answer: &Answer) -> u64 {
    answer.json()["usage"]["completion_tokens"].as_u64().unwrap()
}

/// What the document starts Envoy with.
pub fn documented_options() -> impl Iterator<Item = &'static str> {
    let document = include_str!("../../../docs/operations.md");
    let line = document.lines().find(|line| line.starts_with("envoy -c ")).unwrap();
    line.split(' ').skip(3)
}

#[test]
fn envoy_drains_for_as_long_as_a_stream_may_last() {
    let mut whole = Bootstrap::load().unwrap();
    let longest = format!("{MANAGER}/common_http_protocol_options/max_stream_duration");
    let longest = part(whole.value_mut(), &longest).as_str().unwrap().trim_end_matches('s').to_owned();
    let mut options = documented_options().skip_while(|option| *option != "--drain-time-s");
    assert_eq!(options.nth(1), Some(longest.as_str()));
}

/// Another policy, and another client.
fn another_policy(whole: &mut Bootstrap) {
    let gateway = whole.gateway_mut().unwrap();
    gateway["policies"][0]["max_tokens"] = json!({ "default": TOKENS[1], "max": TOKENS[1], "over": "clamp" });
    let hash = hex::encode(Sha256::digest(NEWCOMER));
    let clients = gateway["clients"].as_array_mut().unwrap();
    clients.push(json!({ "name": "newcomer", "api_keys": [{ "sha256": hash }], "models": ["gpt-4o"] }));
}

/// A client with one connection, which it keeps.
fn connected_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build().unwrap()
}

/// How long the answer on this client's connection is.
async fn ask_on(client: &reqwest::Client, gateway: &Gateway) -> u64 {
    let request = client.post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
    let answer = Answer::read(request.json(&chat("hello")).send().await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    tokens_of(&answer)
}

/// One client on one connection, which asks until it is served by the new rule and by then has asked so often.
async fn keeps_asking(gateway: &Gateway, at_least: usize, served: &AtomicUsize) {
    let client = connected_client();
    let start = Instant::now();
    for asked in 0.. {
        let tokens = ask_on(&client, gateway).await;
        served.fetch_add(1, Ordering::SeqCst);
        assert!(TOKENS.contains(&tokens), "{tokens}");
        if tokens == TOKENS[1] && asked >= at_least {
            return;
        }
        assert!(start.elapsed() < WITHIN, "still the old rule");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_under_load_breaks_nothing_and_forgets_nothing() {
    const STREAMS: usize = 8;
    let twice = |config: &mut Value| {
        config["clients"][0]["limits"] = json!([]);
        config["clients"][1]["limits"] = json!([{ "requests": 2, "per": "day" }]);
    };
    let busy = Fault::answer(429).header("retry-after", "300");
    let held = Settings { hold_after_events: Some(3), ..Settings::default() };
    let setup = Setup::new()
        .from_files()
        .options(documented_options())
        .edit(twice)
        .mock("ptu", Settings { faults: [busy].into(), ..Settings::default() })
        .mock("payg-a", held);
    let gateway = Gateway::start(setup).await.unwrap();
    // The first of them is refused by `ptu`, which pauses from then on.
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 200);
    let silent = connected_client();
    let streams = futures_util::future::join_all((0..STREAMS).map(|_| stream(&gateway)));
    let served = AtomicUsize::new(0);
    let load = futures_util::future::join_all((0..4).map(|_| keeps_asking(&gateway, 20, &served)));
    let push = async {
        gateway.mock("payg-a").wait_for_requests(1 + STREAMS).await;
        gateway.mock("payg-a").update(|settings| settings.hold_after_events = None);
        assert_eq!(ask_on(&silent, &gateway).await, TOKENS[0]);
        while served.load(Ordering::SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
        gateway.push(another_policy).unwrap();
        let start = Instant::now();
        while ask_anew(&gateway, NEWCOMER).await.status != 200 {
            assert!(start.elapsed() < WITHIN, "the newcomer is not known");
        }
    };
    let load = async {
        tokio::join!(load, push);
        gateway.mock("payg-a").release();
    };
    let (streams, ()) = tokio::join!(streams, load);
    for stream in &streams {
        assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    }

    // A connection of before is good for one more request.
    ask_on(&silent, &gateway).await;
    assert_eq!(ask_on(&silent, &gateway).await, TOKENS[1]);

    // What was counted and learnt before counts.
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 200);
    let refused = ask_anew(&gateway, BATCH).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (429, json!("insufficient_quota")));
    assert_eq!(gateway.mock("ptu").received().len(), 1);
    let labels = [("client", "web-shop"), ("outcome", "served")];
    let all = (3 + STREAMS + served.load(Ordering::SeqCst)) as f64;
    gateway.wait_for_metric("tollgate_requests", &labels, all).await.unwrap();
    gateway.wait_for_metric("envoy_listener_manager_lds_update_rejected", &[], 0.0).await.unwrap();
}

/// Runs a command of the document that begins so, on the files of this run.
pub fn run_documented(start: &str, gateway: &Gateway) {
    let document = include_str!("../../../docs/operations.md");
    let command = document.lines().map(str::trim).find(|line| line.starts_with(start)).unwrap();
    let folder = gateway.folder();
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    let command = command.replace("/etc/envoy", folder).replace(".yaml", ".json");
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_taken_back_by_one_move() {
    let thrice = |config: &mut Value| {
        nobody_is_limited(config);
        config["clients"][1]["limits"] = json!([{ "requests": 3, "per": "day" }]);
    };
    let setup = Setup::new().from_files().options(documented_options()).edit(thrice);
    let gateway = Gateway::start(setup).await.unwrap();
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 200);
    run_documented("ln -f ", &gateway);
    gateway.push(another_policy).unwrap();
    keeps_asking(&gateway, 0, &AtomicUsize::new(0)).await;
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 200);

    run_documented("mv /etc/envoy/listeners.before", &gateway);
    let start = Instant::now();
    // Each worker takes it by itself.
    while ask_anew(&gateway, NEWCOMER).await.status != 401
        || tokens_of(&ask_anew(&gateway, WEB_SHOP).await) != TOKENS[0]
    {
        assert!(start.elapsed() < WITHIN, "still the pushed rules");
    }
    // What was spent stays spent.
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 200);
    assert_eq!(ask_anew(&gateway, BATCH).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_beyond_the_drain_time_is_broken_off_and_charged() {
    let held = Settings { hold_after_events: Some(6), ..Settings::default() };
    let setup =
        Setup::new().from_files().options(["--drain-time-s", "1"]).edit(nobody_is_limited).mock("ptu", held);
    let gateway = Gateway::start(setup).await.unwrap();
    let body = with(chat("hello"), json!({ "stream": true }));
    let answer = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    gateway.push(another_policy).unwrap();
    assert!(answer.bytes().await.is_err(), "the client takes half an answer for a whole one");
    // Envoy closes the client's connection, and does not say that it was not the client.
    let record = record_where(&gateway, |line| line["status"] == 200).await;
    check_record(
        &record,
        &json!({ "outcome": "client_gone", "estimated": "true", "completion_tokens": "6" }),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_push_changes_nothing_and_the_log_says_where() {
    let gateway = Gateway::start(Setup::new().from_files().edit(nobody_is_limited)).await.unwrap();
    let pushed = |whole: &mut Bootstrap| {
        another_policy(whole);
        whole.gateway_mut().unwrap()["clients"][0]["polcy"] = json!("interactive");
    };
    gateway.push(pushed).unwrap();
    gateway.wait_for_metric("envoy_listener_manager_lds_update_rejected", &[], 1.0).await.unwrap();
    let log = gateway.log_text().unwrap();
    assert!(log.contains("clients[0].polcy: unknown field, expected one of "), "{log}");
    // Over both workers.
    for _ in 0..16 {
        assert_eq!(tokens_of(&ask_anew(&gateway, WEB_SHOP).await), TOKENS[0]);
    }
    assert_eq!(ask_anew(&gateway, NEWCOMER).await.status, 401);

    // What is in order is taken after that.
    let mended = |whole: &mut Bootstrap| {
        whole.gateway_mut().unwrap()["clients"][0].as_object_mut().unwrap().remove("polcy");
    };
    gateway.push(mended).unwrap();
    keeps_asking(&gateway, 0, &AtomicUsize::new(0)).await;
}

/// The key of a backend that comes later is passed to another VM, while the old one ends its requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_backend_is_asked_and_no_request_fails_meanwhile() {
    let spare =
        Mock::start("spare", Settings { require_key: Some("of-spare".to_owned()), ..Settings::default() });
    let spare = spare.await.unwrap();
    let held = Settings { hold_after_events: Some(3), ..Settings::default() };
    let setup =
        Setup::new().from_files().edit(nobody_is_limited).env("SPARE_KEY", "of-spare").mock("ptu", held);
    let gateway = Gateway::start(setup).await.unwrap();
    let streams = futures_util::future::join_all((0..4).map(|_| stream(&gateway)));
    let port = spare.addr().port();
    let push = async {
        gateway.mock("ptu").wait_for_requests(4).await;
        gateway.mock("ptu").update(|settings| settings.hold_after_events = None);
        // The clusters first, or there would be a backend that nobody can reach.
        gateway.push(|whole| cluster_of_spare(whole, port)).unwrap();
        gateway.wait_for_metric("envoy_cluster_manager_active_clusters", &[], 4.0).await.unwrap();
        gateway.push(backend_spare).unwrap();
        spare.wait_for_requests(1).await;
        gateway.mock("ptu").release();
    };
    let ask = async {
        loop {
            assert_eq!(ask_anew(&gateway, WEB_SHOP).await.status, 200);
        }
    };
    let push = async {
        tokio::select! {
            () = ask => {}
            () = push => {}
        }
    };
    let (streams, ()) = tokio::join!(streams, push);
    for stream in &streams {
        assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    }
    assert_eq!(gateway.metric("tollgate_requests", &[("outcome", "lost")]).await.unwrap(), 0.0);
}

fn cluster_of_spare(whole: &mut Bootstrap, port: u16) {
    let clusters = part(whole.value_mut(), "/static_resources/clusters").as_array_mut().unwrap();
    let mut spare = clusters[0].clone();
    spare["name"] = json!("spare");
    spare["load_assignment"]["cluster_name"] = json!("spare");
    let endpoint = part(&mut spare, "/load_assignment/endpoints/0/lb_endpoints/0/endpoint");
    *endpoint = json!({
        "hostname": "spare",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
    });
    clusters.push(spare);
}

/// It comes before the others.
fn backend_spare(whole: &mut Bootstrap) {
    let groups = "route_config/virtual_hosts/0/routes/0/route/inline_cluster_specifier_plugin/extension/typed_config/\
                  priority_groups";
    let groups = part(whole.value_mut(), &format!("{MANAGER}/{groups}")).as_array_mut().unwrap();
    groups.push(json!({ "name": "spare", "clusters": [{ "cluster_name": "spare", "weight": 1 }] }));
    let gateway = whole.gateway_mut().unwrap();
    let key = json!({ "header": "api-key", "env": "SPARE_KEY" });
    let spare = json!({ "name": "spare", "cluster": "spare", "style": "azure-v1", "credential": key });
    gateway["backends"].as_array_mut().unwrap().push(spare);
    for place in gateway["models"][0]["backends"].as_array_mut().unwrap() {
        place["priority"] = json!(place["priority"].as_u64().unwrap() + 1);
    }
    let first = json!({ "backend": "spare", "deployment": "gpt-4o", "priority": 0 });
    gateway["models"][0]["backends"].as_array_mut().unwrap().push(first);
    whole.pass_environment(&["PTU_KEY", "PAYG_A_KEY", "PAYG_B_KEY", "SPARE_KEY"].map(str::to_owned).into());
}
