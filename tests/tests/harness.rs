//! Does the harness make of `envoy/envoy.yaml` what it says, and do the things it starts end with it?

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::harness::bootstrap::{Backend, Bootstrap, Upstream, backends, gateway_from};
use tollgate_tests::harness::v8::{self, Compile};
use tollgate_tests::harness::{Gateway, Setup, credential_of, metrics, tools};

fn backend(name: &str, cluster: &str) -> Backend {
    Backend { name: name.to_owned(), cluster: cluster.to_owned(), env: None }
}

fn upstream(port: u16) -> Upstream {
    Upstream { hostname: "there".to_owned(), address: "127.0.0.1".to_owned(), port, tls: None }
}

fn cluster_names(bootstrap: &Bootstrap) -> Vec<&str> {
    let clusters = bootstrap.value()["static_resources"]["clusters"].as_array().unwrap();
    clusters.iter().map(|cluster| cluster["name"].as_str().unwrap()).collect()
}

/// Every value that stands under `key`, at any depth.
fn all<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    let own = value.get(key);
    let children: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    own.into_iter().chain(children.into_iter().flat_map(|child| all(child, key))).collect()
}

#[test]
fn the_backends_of_envoy_yaml_are_read_with_their_keys() {
    let mut bootstrap = Bootstrap::load().unwrap();
    let found = backends(bootstrap.gateway_mut().unwrap());
    let names: Vec<_> = found.iter().map(|backend| (backend.name.as_str(), backend.env.as_deref())).collect();
    assert_eq!(
        names,
        [("ptu", Some("PTU_KEY")), ("payg-a", Some("PAYG_A_KEY")), ("payg-b", Some("PAYG_B_KEY"))]
    );
}

#[test]
fn clusters_and_priority_groups_are_those_of_the_configuration() {
    let mut bootstrap = Bootstrap::load().unwrap();
    let named = [backend("z", "zone-z"), backend("b", "bee"), backend("b-again", "bee")];
    let upstreams = BTreeMap::from([("z".to_owned(), upstream(4711))]);
    bootstrap.connect(&named, &upstreams).unwrap();

    assert_eq!(cluster_names(&bootstrap), ["zone-z", "bee"]);
    let groups = all(bootstrap.value(), "priority_groups");
    let group = |name: &str| json!({ "name": name, "clusters": [ { "cluster_name": name, "weight": 1 } ] });
    assert_eq!(groups, [&json!([group("zone-z"), group("bee")])]);

    // Behind each comes the one that is nowhere.
    let endpoints: Vec<_> = all(bootstrap.value(), "endpoint").into_iter().step_by(2).collect();
    let endpoint = |hostname: &str, port: u16| {
        json!({
            "hostname": hostname,
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
        })
    };
    // Nobody has said where "b" is, so nothing can be there.
    assert_eq!(endpoints, [&endpoint("there", 4711), &endpoint("b", 9)]);
    // What the model says of a cluster counts for all.
    assert_eq!(all(bootstrap.value(), "outlier_detection").len(), 2);
}

#[test]
fn clusters_without_a_backend_stay_but_lead_nowhere() {
    let mut bootstrap = Bootstrap::load().unwrap();
    bootstrap.connect(&[], &BTreeMap::new()).unwrap();
    assert_eq!(cluster_names(&bootstrap), ["ptu", "payg-a", "payg-b"]);
    let addresses = all(&bootstrap.value()["static_resources"]["clusters"], "socket_address");
    let addresses: Vec<_> = addresses.into_iter().step_by(2).collect();
    assert_eq!(addresses, vec![&json!({ "address": "127.0.0.1", "port_value": 9 }); 3]);
}

#[test]
fn both_wasm_filters_keep_the_same_vm() {
    let mut bootstrap = Bootstrap::load().unwrap();
    bootstrap.load_module_from(Path::new("/somewhere/tollgate.wasm"));
    bootstrap.pass_environment(&BTreeSet::from(["ONE".to_owned(), "TWO".to_owned()]));
    let vms = all(bootstrap.value(), "vm_config");
    assert_eq!(vms.len(), 2);
    assert_eq!(vms[0], vms[1]);
    assert_eq!(vms[0]["code"]["local"]["filename"], "/somewhere/tollgate.wasm");
    assert_eq!(vms[0]["environment_variables"]["host_env_keys"], json!(["ONE", "TWO"]));
}

#[test]
fn every_port_is_a_free_one_on_loopback() {
    let mut bootstrap = Bootstrap::load().unwrap();
    bootstrap.listen_on_free_ports().unwrap();
    let free = json!({ "address": "127.0.0.1", "port_value": 0 });
    assert_eq!(bootstrap.value()["admin"]["address"]["socket_address"], free);
    assert_eq!(bootstrap.value()["static_resources"]["listeners"][0]["address"]["socket_address"], free);
}

#[test]
fn the_access_log_moves_to_a_file_and_keeps_its_fields() {
    let mut bootstrap = Bootstrap::load().unwrap();
    let before = all(bootstrap.value(), "log_format")[0].clone();
    bootstrap.log_access_to(Path::new("/somewhere/access.log")).unwrap();
    let logs = all(bootstrap.value(), "access_log");
    assert_eq!(logs[0][0]["typed_config"]["path"], "/somewhere/access.log");
    assert_eq!(logs[0][0]["typed_config"]["log_format"], before);
}

#[test]
fn a_backend_url_is_a_host_and_a_port_and_nothing_else() {
    #[track_caller]
    fn check(url: &str, expected: Result<(&str, &str, u16), &str>) {
        let upstream = Upstream::from_url(url).map_err(|error| error.to_string());
        let found = upstream.as_ref().map(|u| (u.hostname.as_str(), u.address.as_str(), u.port));
        assert_eq!(found.map_err(String::as_str), expected);
    }
    check("http://127.0.0.1:8080", Ok(("127.0.0.1:8080", "127.0.0.1", 8080)));
    check("http://localhost", Ok(("localhost", "localhost", 80)));
    check("http://[::1]:8080/", Ok(("[::1]:8080", "::1", 8080)));
    check(
        "localhost:8080",
        Err(r#""localhost:8080" is not the URL of a backend: expected http://HOST:PORT or https://HOST"#),
    );
    check("nonsense", Err(r#""nonsense" is not a URL: expected for example https://NAME.openai.azure.com"#));
    check(
        "http://h/openai",
        Err(
            r#""http://h/openai" has more than a host and a port: the path and the key of a request are Tollgate's to set"#,
        ),
    );
}

#[test]
fn a_tls_backend_must_prove_its_name() {
    #[track_caller]
    fn check(host: &str, sni: &str, kind: &str) {
        let mut bootstrap = Bootstrap::load().unwrap();
        let there = Upstream { address: host.to_owned(), tls: Some("/ca.pem".to_owned()), ..upstream(443) };
        bootstrap.connect(&[backend("a", "a")], &BTreeMap::from([("a".to_owned(), there)])).unwrap();
        let sockets = all(bootstrap.value(), "transport_socket");
        assert_eq!(sockets.len(), 1);
        let tls = &sockets[0]["typed_config"];
        assert_eq!(tls["sni"], sni);
        assert_eq!(
            tls["common_tls_context"]["validation_context"],
            json!({
                "trusted_ca": { "filename": "/ca.pem" },
                "match_typed_subject_alt_names": [ { "san_type": kind, "matcher": { "exact": host } } ],
            })
        );
    }
    check("x.openai.azure.com", "x.openai.azure.com", "DNS");
    check("127.0.0.1", "", "IP_ADDRESS");
}

#[test]
fn a_whole_envoy_configuration_is_not_taken_for_a_gateways() {
    let file = tools::workspace().join("envoy/envoy.yaml");
    assert_eq!(
        gateway_from(&file).unwrap_err().to_string(),
        format!(
            "{} is a configuration of Envoy: give the part of it under the Wasm filter's `configuration: value:`",
            file.display()
        )
    );
}

#[test]
fn samples_are_read_with_their_labels() {
    let page = "# TYPE tollgate_tokens counter\n\
                tollgate_tokens{client=\"web-shop\",model=\"a\\\"b\\\\c, d=\\n\",kind=\"prompt\"} 12\n\
                tollgate_tokens{client=\"batch\"} 30\n\
                envoy_server_live{} 1\n\
                plain 0.5\n\
                \n\
                no number\n";
    let samples = metrics::parse(page);
    assert_eq!(samples.len(), 4);
    assert_eq!(samples[0].label("model"), "a\"b\\c, d=\n");
    assert_eq!(samples[0].label("kind"), "prompt");
    assert!(samples[0].is("tollgate_tokens", &[("client", "web-shop"), ("kind", "prompt")]));
    assert!(!samples[1].is("tollgate_tokens", &[("client", "web-shop")]));
    assert_eq!((samples[2].name.as_str(), samples[2].value), ("envoy_server_live", 1.0));
    assert_eq!((samples[3].name.as_str(), samples[3].value), ("plain", 0.5));
}

#[tokio::test]
async fn envoy_serves_with_the_filter_in_it_and_ends_with_its_value() {
    let gateway = Gateway::start(Setup::new().workers(1)).await.unwrap();
    let names: Vec<_> = gateway.backends().keys().map(String::as_str).collect();
    assert_eq!(names, ["payg-a", "payg-b", "ptu"]);

    let asked = json!({ "model": "gpt-4o", "messages": [ { "role": "user", "content": "hello" } ] });
    gateway.post("/v1/chat/completions", "demo-web-shop", &asked).await.unwrap();
    let log = gateway.wait_for_log(1).await.unwrap();
    assert!(log[0]["request_id"].is_string(), "{log:?}");
    gateway
        .wait_for_metric(
            "envoy_http_downstream_rq_total",
            &[("envoy_http_conn_manager_prefix", "openai")],
            1.0,
        )
        .await
        .unwrap();

    let url = gateway.url().to_owned();
    drop(gateway);
    assert!(!answers(&url), "Envoy still listens at {url}");
}

#[tokio::test]
async fn what_envoy_says_when_it_refuses_to_start_is_given_back() {
    let no_port =
        |envoy: &mut Value| envoy["admin"]["address"]["socket_address"]["port_value"] = json!("none");
    let log = Gateway::expect_start_failure(Setup::new().patch(no_port)).await.unwrap();
    assert!(log.contains("port_value"), "{log}");
}

#[tokio::test]
async fn an_unknown_backend_is_an_error_that_names_those_there_are() {
    let error = Gateway::start(Setup::new().backend("azure", "http://127.0.0.1:9")).await.err().unwrap();
    assert_eq!(error.to_string(), r#"the configuration has no backend "azure": it has ptu, payg-a, payg-b"#);
}

#[test]
fn a_mocks_key_says_whose_it_is() {
    assert_eq!(credential_of("ptu"), "ptu-key");
}

#[test]
fn the_python_that_is_found_has_the_sdk_that_is_pinned() {
    let pinned = std::fs::read_to_string(tools::workspace().join("tests/python/requirements.txt")).unwrap();
    let version = ["-c", "import openai; print(f'openai=={openai.__version__}')"];
    let output = Command::new(tools::python().unwrap()).args(version).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert!(pinned.lines().any(|line| line == found.trim()), "{found:?} in {pinned:?}");
}

#[test]
fn the_node_that_is_found_has_the_sdk_that_is_pinned() {
    let node = tools::workspace().join("tests/node");
    let read = |file| std::fs::read_to_string(node.join(file)).unwrap();
    let pinned: Value = serde_json::from_str(&read("package.json")).unwrap();
    let output = Command::new(tools::node().unwrap())
        .args(["-p", "require('openai/version').VERSION"])
        .env("NODE_PATH", tools::node_packages().unwrap())
        .output()
        .unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(pinned["dependencies"]["openai"], found.trim());
    // Where a package comes from is its installer's matter.
    assert!(!read("package-lock.json").contains("resolved"));
}

/// The demo as another program would use it.
struct Demo {
    process: Child,
    ready: Value,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_demo"))
            .arg("--json")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { process, ready }
    }

    fn urls(&self) -> Vec<&str> {
        let backends = self.ready["backends"].as_object().unwrap().values();
        [&self.ready["proxy"], &self.ready["admin"]]
            .into_iter()
            .chain(backends)
            .map(|url| url.as_str().unwrap())
            .collect()
    }
}

fn answers(url: &str) -> bool {
    std::net::TcpStream::connect(url.trim_start_matches("http://")).is_ok()
}

#[test]
fn the_demo_leaves_nothing_behind_however_it_ends() {
    #[track_caller]
    fn check(end: impl FnOnce(&mut Child)) {
        let mut demo = Demo::start(&[]);
        assert_eq!(demo.urls().len(), 5);
        assert!(demo.urls().into_iter().all(answers), "{:?}", demo.ready);
        end(&mut demo.process);
        demo.process.wait().unwrap();
        // A killed process cannot wait for what it has started to be gone.
        let deadline = Instant::now() + Duration::from_secs(10);
        while demo.urls().into_iter().any(answers) {
            assert!(Instant::now() < deadline, "still there: {:?}", demo.ready);
            std::thread::yield_now();
        }
    }
    check(|demo| drop(demo.stdin.take()));
    check(|demo| {
        let terminated = Command::new("kill").arg(demo.id().to_string()).status().unwrap();
        assert!(terminated.success());
    });
    check(|demo| demo.kill().unwrap());
}

#[test]
fn the_demo_of_the_queue_works_a_peak_off() {
    if let Err(why) = tools::redis() {
        return tools::skip("the_demo_of_the_queue_works_a_peak_off", &why);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).args(["--queue", "--once"]).output().unwrap();
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said}{errors}");
    for line in ["202 ", "/tollgate/v1/jobs/", "20 requests of ", "20 answers of "] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn the_demo_listens_where_it_is_told_or_says_why_not() {
    // Below those that the kernel gives to whoever asks for any.
    let first = 20_000 + std::process::id() % 8_000;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (first..first + 1_000).filter_map(|port| u16::try_from(port).ok()).find(free).unwrap();
    let port = port.to_string();
    let mut demo = Demo::start(&["--port", &port]);
    assert_eq!(demo.ready["proxy"], format!("http://127.0.0.1:{port}"));
    assert!(demo.urls().into_iter().all(answers), "{:?}", demo.ready);
    let other = Command::new(env!("CARGO_BIN_EXE_demo")).args(["--json", "--port", &port]).output().unwrap();
    let told = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && told.contains(&format!("--port {port} cannot be used")), "{told}");
    drop(demo.process.stdin.take());
    demo.process.wait().unwrap();
}

#[test]
fn the_demo_of_a_fleet_names_its_parts_and_revives_redis() {
    let mut demo = Demo::start(&["--fleet", "3"]);
    let list = |field: &Value| field.as_array().unwrap().clone();
    let of = |url: &Value| url.as_str().unwrap().to_owned();
    let urls: Vec<_> = ["proxies", "admins"]
        .iter()
        .flat_map(|field| list(&demo.ready[*field]))
        .map(|url| of(&url))
        .collect();
    assert_eq!((urls.len(), list(&demo.ready["pids"]["envoys"]).len()), (6, 3));
    assert!(urls.iter().all(|url| answers(url)), "{:?}", demo.ready);
    assert_eq!(demo.ready["backends"].as_object().unwrap().len(), 3);

    let store = of(&demo.ready["store"]);
    let address = store.strip_prefix("redis://:demo-redis@").unwrap();
    assert!(answers(address), "{store}");
    let redis = demo.ready["pids"]["redis"].to_string();
    assert!(Command::new("kill").args(["-9", &redis]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(30);
    // It has another process id then, so the one that answers is a new one.
    while std::path::Path::new("/proc").join(&redis).exists() || !answers(address) {
        assert!(Instant::now() < deadline, "Redis is not started again");
        std::thread::yield_now();
    }
    drop(demo.process.stdin.take());
    demo.process.wait().unwrap();
    assert!(!answers(address) && !urls.iter().any(|url| answers(url)), "{:?}", demo.ready);
}

#[test]
fn the_demo_says_in_one_sentence_what_it_cannot_do() {
    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let demo = Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments).output().unwrap();
        assert_eq!(demo.status.code(), Some(1));
        assert_eq!(String::from_utf8(demo.stderr).unwrap().lines().last(), Some(expected));
        assert_eq!(String::from_utf8(demo.stdout).unwrap(), "");
    }
    check(
        &["--config", "/nowhere.yaml"],
        "error: cannot read /nowhere.yaml: No such file or directory (os error 2)",
    );
    // As `tollgate check` says it, and not in the midst of Envoy's log.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.yaml");
    std::fs::write(&config, "clients: []\nmodels: []\nbackends: []\nstore: { redis: {} }\n").unwrap();
    check(&["--config", config.to_str().unwrap()], "  store.redis: missing field \"cluster\"");
    check(
        &["--backend", "azure=http://127.0.0.1:9"],
        r#"error: the configuration has no backend "azure": it has ptu, payg-a, payg-b"#,
    );
}

/// Without them, nothing fails and everything takes three times as long.
#[test]
fn v8_in_envoy_has_the_flags_by_which_tests_start_sooner() {
    let places = v8::places(Compile::Briefly, &tools::envoy().unwrap()).unwrap();
    assert_eq!(places.flags.len(), Compile::Briefly.flags().len());
}
