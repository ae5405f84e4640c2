//! Does the same filter keep its promises on Envoys that lack a part of what `envoy.yaml` uses?

use std::fs;

use serde_json::{Value, json};
use tollgate_tests::harness::{Answer, Gateway, Setup, credential_of, portable, tools};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, refusal, with};

/// Routes that read one cluster's name.
const POOLS: &str = "envoy/portable-pools.yaml";
/// No role among the upstream filters either.
const ONCE: &str = "envoy/portable-once.yaml";

/// The oldest Envoy that PyPI has, and so the oldest that can be tested; and the first with composite clusters.
const OLDEST: &str = "1.36.2";
const FIRST_WITH_COMPOSITE: &str = "1.37.0";

/// The backends of `gpt-4o`, in their order.
const ORDER: [&str; 3] = ["ptu", "payg-a", "payg-b"];

fn setup(file: &'static str) -> Setup {
    Setup::new().file(file).workers(1).edit(nobody_is_limited).patch(nobody_is_ejected)
}

fn fails_with(fault: Fault) -> Settings {
    Settings { faults: [fault].into(), ..Settings::default() }
}

/// Ejections are Envoy's own judgement, which is not what is asked about here.
fn nobody_is_ejected(envoy: &mut Value) {
    for cluster in clusters(envoy) {
        cluster.as_object_mut().unwrap().remove("outlier_detection");
    }
}

fn clusters(envoy: &mut Value) -> &mut Vec<Value> {
    envoy["static_resources"]["clusters"].as_array_mut().unwrap()
}

fn manager(envoy: &mut Value) -> &mut Value {
    envoy.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config").unwrap()
}

/// The pools become clusters that go by the number of the attempt.
fn composite(envoy: &mut Value) {
    for pool in clusters(envoy).iter_mut().filter(|cluster| cluster.get("cluster_type").is_some()) {
        let members = pool["cluster_type"]["typed_config"]["clusters"].as_array().unwrap();
        let members: Vec<_> = members.iter().map(|name| json!({ "name": name })).collect();
        pool["cluster_type"] = json!({
            "name": "envoy.clusters.composite",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.composite.v3.ClusterConfig",
                "clusters": members,
            },
        });
    }
    let route = &mut manager(envoy)["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    route["retry_policy"].as_object_mut().unwrap().remove("retry_priority").unwrap();
}

/// How often each backend of the order was asked.
fn asked(gateway: &Gateway) -> [usize; 3] {
    ORDER.map(|backend| gateway.mock(backend).received().len())
}

async fn ask(gateway: &Gateway) -> Answer {
    gateway.post(CHAT, WEB_SHOP, &chat("who serves this")).await.unwrap()
}

#[test]
fn the_portable_files_are_what_envoy_yaml_makes_of_them() {
    for (file, text) in portable::files().unwrap() {
        let found = fs::read_to_string(tools::workspace().join(file)).unwrap();
        assert!(found == text, "{file} is not current: run `cargo portable`");
    }
}

async fn each_attempt_is_its_backends_own(setup: Setup) {
    let setup =
        setup.mock("ptu", fails_with(Fault::answer(429))).mock("payg-a", fails_with(Fault::answer(500)));
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(asked(&gateway), [1, 1, 1]);
    let azure = "/openai/deployments/gpt-4o-ptu/chat/completions?api-version=2024-10-21";
    let expected = [
        (azure, Some(credential_of("ptu")), None),
        ("/openai/v1/chat/completions", Some(credential_of("payg-a")), None),
        ("/v1/chat/completions", None, Some(format!("Bearer {}", credential_of("payg-b")))),
    ];
    for (backend, (path, api_key, bearer)) in ORDER.into_iter().zip(&expected) {
        let sent = gateway.mock(backend).received().remove(0);
        assert_eq!((sent.path.as_str(), sent.header("host")), (*path, Some(backend)));
        assert_eq!(sent.header("api-key"), api_key.as_deref(), "{backend}");
        assert_eq!(sent.header("authorization"), bearer.as_deref(), "{backend}");
        assert_eq!(sent.header("x-tollgate-cluster"), None, "{backend}");
        assert_eq!(sent.json(), with(chat("who serves this"), json!({ "max_tokens": 256 })), "{backend}");
    }
    let record = json!({ "backend": "payg-b", "attempts": 3, "status": 200, "outcome": "served" });
    check_record(&record_of(&gateway, &answer).await, &record);
    for (backend, status) in [("ptu", "429"), ("payg-a", "500"), ("payg-b", "200")] {
        let labels = [("backend", backend), ("status", status)];
        gateway.wait_for_metric("tollgate_upstream_responses", &labels, 1.0).await.unwrap();
    }
}

#[tokio::test]
async fn in_a_pool_each_attempt_has_its_own_path_host_and_credential() {
    each_attempt_is_its_backends_own(setup(POOLS)).await;
    each_attempt_is_its_backends_own(setup(POOLS).patch(composite)).await;
}

#[tokio::test]
async fn in_the_oldest_envoys_pool_each_attempt_has_its_own_path() {
    each_attempt_is_its_backends_own(setup(POOLS).envoy(OLDEST)).await;
    each_attempt_is_its_backends_own(setup(POOLS).envoy(FIRST_WITH_COMPOSITE).patch(composite)).await;
}

/// Streams and others, through every failure that another backend may not have.
async fn fails_over(setup: Setup) {
    let gateway = Gateway::start(setup).await.unwrap();
    let faults = [
        Fault::answer(408),
        Fault::answer(429).header("retry-after-ms", "0.001"),
        Fault::answer(500),
        Fault::answer(503),
        Fault::close(),
    ];
    for fault in faults {
        for body in [chat("again"), with(chat("again"), json!({ "stream": true }))] {
            ORDER.iter().for_each(|backend| gateway.mock(backend).forget());
            gateway.mock("ptu").update(|settings| settings.faults = [fault.clone()].into());
            let answer = gateway.post(CHAT, WEB_SHOP, &body).await.unwrap();
            assert_eq!(answer.status, 200, "{fault:?}: {}", answer.text());
            assert_eq!(asked(&gateway), [1, 1, 0], "{fault:?}");
            let record = record_of(&gateway, &answer).await;
            let expected =
                json!({ "attempts": 2, "backend": "payg-a", "estimated": "false", "outcome": "served" });
            check_record(&record, &expected);
            if body.get("stream").is_none() {
                let usage = &answer.json()["usage"];
                for kind in ["prompt_tokens", "completion_tokens"] {
                    assert_eq!(record[kind], usage[kind].to_string());
                }
            } else {
                assert!(
                    answer.text().ends_with("data: [DONE]\n\n") && !answer.text().contains("prompt_tokens")
                );
                assert_ne!(record["completion_tokens"], "0");
            }
            // In between all is well: five failures in a row are a pause.
            assert_eq!(ask(&gateway).await.status, 200);
        }
    }
    // What is the request's own fault goes nowhere else.
    ORDER.iter().for_each(|backend| gateway.mock(backend).forget());
    gateway.mock("ptu").update(|settings| settings.faults = [Fault::answer(400)].into());
    assert_eq!(ask(&gateway).await.status, 400);
    assert_eq!(asked(&gateway), [1, 0, 0]);
}

#[tokio::test]
async fn a_pool_fails_over_as_the_order_does() {
    fails_over(setup(POOLS)).await;
    fails_over(setup(POOLS).patch(composite)).await;
}

#[tokio::test]
async fn a_pool_of_the_oldest_envoys_fails_over_as_the_order_does() {
    fails_over(setup(POOLS).envoy(OLDEST)).await;
    fails_over(setup(POOLS).envoy(FIRST_WITH_COMPOSITE).patch(composite)).await;
}

#[tokio::test]
async fn what_is_fitted_once_fails_over_as_the_order_does() {
    fails_over(setup(ONCE)).await;
    fails_over(setup(ONCE).envoy(OLDEST)).await;
}

/// What refuses this gateway's own credential, surely.
fn refusals() -> [Fault; 2] {
    let disabled = json!({ "error": { "code": "AuthenticationTypeDisabled", "message": "Key based authentication is disabled." } });
    [Fault::answer(401), Fault::answer(403).body(disabled)]
}

/// The oldest Envoy dies of an answer that was held when it goes to the next member.
#[tokio::test]
async fn a_401_in_a_pool_goes_to_the_next_and_no_answer_is_held() {
    let under_200 = || Fault::answer(200).body(json!({ "error": { "message": "x", "code": 429 } }));
    let missing = json!({ "error": { "code": "DeploymentNotFound", "message": "It does not exist." } });
    for make in [|| setup(POOLS), || setup(POOLS).envoy(OLDEST)] {
        let [unauthorized, refused] = refusals();
        for (status, fault) in
            [(200, under_200()), (404, Fault::answer(404).body(missing.clone())), (403, refused)]
        {
            let gateway = Gateway::start(make().mock("ptu", fails_with(fault))).await.unwrap();
            assert_eq!((ask(&gateway).await.status, asked(&gateway)), (status, [1, 0, 0]));
            assert_eq!(ask(&gateway).await.status, 200);
        }
        let gateway = Gateway::start(make().mock("ptu", fails_with(unauthorized))).await.unwrap();
        assert_eq!((ask(&gateway).await.status, asked(&gateway)), (200, [1, 1, 0]));
        // It pauses.
        assert_eq!((ask(&gateway).await.status, asked(&gateway)), (200, [1, 2, 0]));
        let labels = [("backend", "ptu")];
        gateway.wait_for_metric("tollgate_backend_auth_failures", &labels, 1.0).await.unwrap();
    }
}

/// Nobody but the last one is seen, which is the first one for a 403.
#[tokio::test]
async fn a_credential_refused_where_no_attempt_is_seen_is_told_as_503() {
    let message = "The backend does not accept this gateway's own credential. Your key is not at fault.";
    let expected = refusal(message, "server_error", None, "backend_credential_refused");
    for (at, fault) in refusals().into_iter().enumerate() {
        let mut setup = setup(ONCE);
        for backend in ORDER {
            setup = setup.mock(backend, fails_with(fault.clone()));
        }
        let gateway = Gateway::start(setup).await.unwrap();
        let answer = ask(&gateway).await;
        assert_eq!((answer.status, answer.json()), (503, expected.clone()));
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert_eq!(asked(&gateway), [[1, 1, 1], [1, 0, 0]][at]);
        let backend = ["payg-b", "ptu"][at];
        let record =
            json!({ "backend": backend, "outcome": "backend_credential_refused", "prompt_tokens": "0" });
        check_record(&record_of(&gateway, &answer).await, &record);
        let labels = [("backend", backend)];
        gateway.wait_for_metric("tollgate_backend_auth_failures", &labels, 1.0).await.unwrap();
        if backend == "ptu" {
            // It pauses: the other pool is asked.
            gateway.mock("payg-a").update(|settings| settings.faults = [].into());
            assert_eq!((ask(&gateway).await.status, asked(&gateway)), (200, [1, 1, 0]));
        }
    }
}

#[tokio::test]
async fn without_attempts_a_missing_deployment_is_still_answered() {
    let gateway = Gateway::start(setup(ONCE)).await.unwrap();
    let missing = json!({ "error": { "code": "DeploymentNotFound", "message": "It does not exist." } });
    gateway.mock("ptu").update(|settings| settings.faults = [Fault::answer(404).body(missing)].into());
    let answer = ask(&gateway).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("deployment_not_found")));
    for backend in ORDER {
        gateway.mock(backend).update(|settings| settings.faults = [].into());
    }
    let error =
        |code: &str, more: &str| json!({ "error": { "code": code, "message": format!("no {more}") } });
    let long = "x".repeat(100_000);
    for (status, body) in [
        (403, error("content_policy_violation", "")),
        (404, error("model_not_found", &long)),
        (400, error("x", "")),
    ] {
        let fault = Fault::answer(status).body(body.clone());
        gateway.mock("payg-a").update(|settings| settings.faults = [fault].into());
        let answer = ask(&gateway).await;
        assert!((answer.status, answer.json()) == (status, body), "{status} {}", answer.text());
    }
}

async fn passes_over_what_cannot_be_reached(setup: Setup) {
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_record(&record_of(&gateway, &answer).await, &json!({ "attempts": 2, "backend": "payg-a" }));
}

/// `ptu` is at a port where nobody listens.
fn ptu_is_gone(envoy: &mut Value) {
    let ptu = clusters(envoy).iter_mut().find(|cluster| cluster["name"] == "ptu").unwrap();
    let endpoint = &mut ptu["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    endpoint["address"]["socket_address"]["port_value"] = json!(9);
}

#[tokio::test]
async fn a_member_that_cannot_be_reached_is_passed_over() {
    passes_over_what_cannot_be_reached(setup(POOLS).patch(ptu_is_gone)).await;
    passes_over_what_cannot_be_reached(setup(ONCE).patch(ptu_is_gone).envoy(OLDEST)).await;
}

#[tokio::test]
async fn a_pool_with_a_member_that_pauses_is_left_alone() {
    let busy = Fault::answer(429).header("retry-after", "300");
    let gateway = Gateway::start(setup(POOLS).mock("ptu", fails_with(busy.clone()))).await.unwrap();
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(asked(&gateway), [1, 1, 0]);
    // The other pool has those that are left, in their order.
    gateway.mock("payg-a").update(|settings| settings.faults = [busy.clone()].into());
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(asked(&gateway), [1, 2, 1]);
    // And one alone is its own cluster.
    gateway.mock("payg-b").update(|settings| settings.faults = [busy].into());
    assert_eq!(ask(&gateway).await.status, 429);
    assert_eq!(asked(&gateway), [1, 2, 2]);
    let answer = ask(&gateway).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (429, json!("backends_throttled")));
    assert_eq!(asked(&gateway), [1, 2, 2]);
}

/// `ptu` and `payg-a` are in Europe, `payg-b` is not, and `web-shop` must stay there.
fn europe(config: &mut Value) {
    for (backend, region) in [(0, "eu"), (1, "eu"), (2, "us")] {
        config["backends"][backend]["region"] = json!(region);
    }
    config["clients"][0]["regions"] = json!(["eu"]);
}

async fn stays_in_its_regions(file: &'static str) {
    let pools = |config: &mut Value| {
        let pools = config["routing"]["pools"].as_array_mut().unwrap();
        pools.push(json!({ "cluster": "europe", "backends": ["ptu", "payg-a"] }));
    };
    let cluster = |envoy: &mut Value| {
        let clusters = clusters(envoy);
        let mut pool = clusters.iter().find(|cluster| cluster["name"] == "payg").unwrap().clone();
        pool["name"] = json!("europe");
        pool["cluster_type"]["typed_config"]["clusters"] = json!(["ptu", "payg-a"]);
        clusters.push(pool);
    };
    let without = setup(file).edit(europe);
    let with = setup(file).edit(europe).edit(pools).patch(cluster);
    for (setup, expected) in [(without, [4, 0, 0]), (with, [4, 4, 0])] {
        let gateway = Gateway::start(setup).await.unwrap();
        let faults = [
            Fault::answer(500),
            Fault::answer(503),
            Fault::close(),
            Fault::answer(429).header("retry-after-ms", "0.001"),
        ];
        for fault in faults {
            for backend in ["ptu", "payg-a"] {
                gateway.mock(backend).update(|settings| settings.faults = [fault.clone().always()].into());
            }
            // Of each fault one: five failures in a row are a pause.
            assert!([429, 500, 503].contains(&ask(&gateway).await.status), "{fault:?}");
        }
        assert_eq!(asked(&gateway), expected);
    }
}

#[tokio::test]
async fn a_pool_that_leaves_the_clients_regions_is_never_used() {
    stays_in_its_regions(POOLS).await;
    stays_in_its_regions(ONCE).await;
}

#[tokio::test]
async fn a_pools_endpoint_without_a_cluster_name_gets_nothing() {
    let untold = |envoy: &mut Value| {
        for cluster in clusters(envoy).iter_mut().filter(|cluster| cluster.get("load_assignment").is_some()) {
            let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
            endpoint.as_object_mut().unwrap().remove("metadata").unwrap();
        }
    };
    let gateway = Gateway::start(setup(POOLS).patch(untold)).await.unwrap();
    let answer = ask(&gateway).await;
    let message = "The gateway chose no backend for this attempt.";
    assert_eq!(answer.json(), refusal(message, "server_error", None, "backend_not_permitted"));
    assert_eq!(asked(&gateway), [0, 0, 0]);
    let sentence =
        "an endpoint in a pool does not tell its cluster: expected metadata tollgate: { cluster: NAME }";
    assert!(gateway.log_text().unwrap().contains(sentence));
}

async fn is_fitted_once(setup: Setup) {
    let busy = |seconds: &str| fails_with(Fault::answer(429).header("retry-after", seconds));
    let setup = setup
        .env("BACKENDS_KEY", "the-key-of-all")
        .mock("ptu", busy("300"))
        .mock("payg-a", busy("300"))
        .mock("payg-b", busy("300"));
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!((answer.status, asked(&gateway)), (429, [1, 1, 1]));
    for backend in ORDER {
        let sent = gateway.mock(backend).received().remove(0);
        assert_eq!((sent.path.as_str(), sent.header("host")), ("/openai/v1/chat/completions", Some(backend)));
        assert_eq!(sent.header("api-key"), Some("the-key-of-all"));
        for name in ["authorization", "x-tollgate-cluster", "x-tollgate-candidates", "x-envoy-max-retries"] {
            assert_eq!(sent.header(name), None, "{backend}: {name}");
        }
        assert_eq!(sent.json(), with(chat("who serves this"), json!({ "max_tokens": 256 })));
    }
    // Only the last answer was seen: it is what was learnt from, and what is written down.
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "payg-b", "attempts": 3 }));
    let labels = [("backend", "payg-b"), ("status", "429")];
    gateway.wait_for_metric("tollgate_upstream_responses", &labels, 1.0).await.unwrap();
    assert_eq!(gateway.metric("tollgate_upstream_responses", &[]).await.unwrap(), 1.0);
    // No pool is without it: the first one's own cluster.
    let answer = ask(&gateway).await;
    assert_eq!((answer.status, asked(&gateway)), (200, [2, 1, 1]));
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "ptu", "attempts": 1 }));
}

#[tokio::test]
async fn where_no_attempt_is_seen_path_and_credential_are_set_once() {
    is_fitted_once(setup(ONCE)).await;
    is_fitted_once(setup(ONCE).envoy(OLDEST)).await;
}

/// The order of 1.40, without the role among the upstream filters.
#[tokio::test]
async fn the_whole_order_may_be_told_where_no_attempt_is_seen() {
    let pools = portable_value(ONCE);
    let alike = move |config: &mut Value| {
        *config = pools;
        config["routing"].as_object_mut().unwrap().remove("pools");
    };
    let blind = |envoy: &mut Value| {
        let router = manager(envoy)["http_filters"].as_array_mut().unwrap().last_mut().unwrap();
        router["typed_config"].as_object_mut().unwrap().remove("upstream_http_filters").unwrap();
    };
    let setup = setup("envoy/envoy.yaml").edit(alike).edit(nobody_is_limited).patch(blind);
    let busy = Fault::answer(429).header("retry-after", "300");
    let gateway = Gateway::start(setup.mock("ptu", fails_with(busy))).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!((answer.status, asked(&gateway)), (200, [1, 1, 0]));
    check_record(&record_of(&gateway, &answer).await, &json!({ "backend": "payg-a", "attempts": 2 }));
}

/// The gateway's part of a file.
fn portable_value(file: &str) -> Value {
    let mut bootstrap = tollgate_tests::harness::bootstrap::Bootstrap::load_from(file).unwrap();
    bootstrap.gateway_mut().unwrap().clone()
}

#[tokio::test]
async fn without_attempts_an_unanswered_request_puts_nobody_down() {
    let closed = |envoy: &mut Value| {
        for cluster in clusters(envoy).iter_mut().filter(|cluster| cluster.get("load_assignment").is_some()) {
            let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
            endpoint["address"]["socket_address"]["port_value"] = json!(9);
        }
    };
    let gateway = Gateway::start(setup(ONCE).patch(closed)).await.unwrap();
    let answer = ask(&gateway).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (503, json!("backend_unavailable")));
    let record = json!({ "backend": null, "outcome": "proxy_error", "prompt_tokens": "0" });
    check_record(&record_of(&gateway, &answer).await, &record);
}

#[tokio::test]
async fn backends_that_differ_cannot_be_asked_alike() {
    let setup = setup(POOLS).edit(|config| config["routing"]["fitted"] = json!("once"));
    let log = Gateway::expect_start_failure(setup).await.unwrap();
    let sentence = "configuration: routing.pools[0].backends: backends \"ptu\" and \"payg-a\" differ in style: expected \
                    the same at all that one request may go to, where it is fitted once";
    assert!(log.contains(sentence), "{log}");
}

async fn nothing_is_served(setup: Setup) {
    let unheld = |envoy: &mut Value| {
        let filter = &mut manager(envoy)["http_filters"][0]["typed_config"]["config"];
        filter.as_object_mut().unwrap().remove("allow_on_headers_stop_iteration").unwrap();
    };
    let gateway = Gateway::start(setup.patch(unheld)).await.unwrap();
    let message = "The gateway is not set up to check requests, and takes none.";
    let refused = refusal(message, "server_error", None, "headers_not_held");
    // A long body too, and then what has none.
    for text in ["hello".to_owned(), "hello ".repeat(200_000)] {
        let answer = gateway.post(CHAT, WEB_SHOP, &chat(&text)).await.unwrap();
        assert_eq!((answer.status, answer.json()), (503, refused.clone()));
        let record = json!({ "outcome": "headers_not_held", "backend": null, "prompt_tokens": "0" });
        check_record(&record_of(&gateway, &answer).await, &record);
    }
    let models = gateway.http().get(format!("{}/v1/models", gateway.url())).bearer_auth(WEB_SHOP);
    let answer = Answer::read(models.send().await.unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.json()), (503, refused));
    assert_eq!(asked(&gateway), [0, 0, 0]);
    let log = gateway.log_text().unwrap();
    let sentence = "expected allow_on_headers_stop_iteration: true in the config of this filter";
    assert_eq!(log.matches(sentence).count(), 1);
}

#[tokio::test]
async fn an_envoy_that_does_not_hold_headers_serves_nothing() {
    nothing_is_served(setup("envoy/envoy.yaml")).await;
    nothing_is_served(setup(POOLS).envoy(OLDEST)).await;
}

/// Bytes that are late are not bytes that are hidden.
#[tokio::test]
async fn a_body_that_comes_slowly_is_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let gateway = Gateway::start(setup("envoy/envoy.yaml")).await.unwrap();
    let body = chat("slowly").to_string();
    let address = gateway.url().strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {WEB_SHOP}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The tick looks at it while others are being served.
    for piece in body.as_bytes().chunks(20) {
        for _ in 0..5 {
            let models = gateway.http().get(format!("{}/v1/models", gateway.url())).bearer_auth(WEB_SHOP);
            assert_eq!(models.send().await.unwrap().status(), 200);
        }
        stream.write_all(piece).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
