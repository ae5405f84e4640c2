//! Does Tollgate do its work in the gateways of Istio and of Envoy Gateway?
//!
//! No control plane runs here. A fixture has what one makes by itself; the example's patches are applied to it as the control
//! plane applies them ([`istio`], [`json_patch`]); and a real Envoy, of a version that it carries, runs what comes of it. Of that only what
//! belongs to a machine or comes from the control plane while it runs is changed: ports, where the backends listen, who signed
//! their certificates, where the module is, the listener's own certificate.

mod istio;
mod json_patch;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Answer, Gateway, Redis, Setup, credential_of};
use tollgate_tests::mock::{Fault, Mock, Settings};

use crate::doors::{check_sockets, takes_extended_connect};
use crate::envoy_lines::{MANAGER, part};
use crate::requests::{CHAT, chat, check_record, record_of, with};
use crate::terminator::{Authority, Terminator};

/// The oldest Envoy that the examples are for and that can be had, and the newest.
const ENVOYS: [&str; 2] = ["1.36.2", "1.40.0"];

/// The host that clients ask for, and a key of theirs.
const HOST: &str = "openai.example.com";
const TEAM: &str = "demo-team";

/// The backends, in their order, with the variables of their keys.
const BACKENDS: [(&str, &str); 2] = [("ptu", "PTU_KEY"), ("payg", "PAYG_KEY")];

/// What the store asks for.
const REDIS_PASSWORD: &str = "demo-redis";

/// Where the examples mount the module's image.
const MODULE: &str = "/etc/tollgate/module/plugin.wasm";

/// What a control plane has made, in the parts in which Envoy asks for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generated {
    bootstrap: Value,
    listeners: Vec<Value>,
    routes: Vec<Value>,
    clusters: Vec<Value>,
}

impl Generated {
    fn load(fixture: &str) -> Self {
        serde_yaml_ng::from_str(&read(fixture)).unwrap()
    }

    /// One static configuration of it.
    fn whole(self, http_filters: impl Fn(&mut Vec<Value>)) -> Value {
        let Self { bootstrap, mut listeners, routes, clusters } = self;
        for listener in &mut listeners {
            let chains = listener["filter_chains"].as_array_mut().unwrap().iter_mut();
            // A listener of an example's own has its routes with it.
            for chain in chains.filter(|chain| chain["filters"][0]["typed_config"].get("rds").is_some()) {
                // The certificate comes from the control plane.
                chain.as_object_mut().unwrap().remove("filter_chain_match");
                chain.as_object_mut().unwrap().remove("transport_socket").expect("the gateway speaks TLS");
                let manager = part(chain, "/filters/0/typed_config");
                let asked = manager.as_object_mut().unwrap().remove("rds").unwrap();
                let named = routes.iter().find(|routes| routes["name"] == asked["route_config_name"]);
                manager["route_config"] = named.unwrap().clone();
                http_filters(part(manager, "/http_filters").as_array_mut().unwrap());
            }
        }
        let mut whole = bootstrap;
        whole["static_resources"] = json!({ "listeners": listeners, "clusters": clusters });
        whole
    }
}

fn read(file: impl AsRef<Path>) -> String {
    fs::read_to_string(workspace().join(file)).unwrap()
}

fn documents(file: &str) -> Vec<Value> {
    let text = read(file);
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

#[track_caller]
fn of_kind<'d>(documents: &'d [Value], kind: &str, name: &str) -> &'d Value {
    let is_it = |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
    documents.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// Every object that has the member.
fn each<'v>(value: &'v mut Value, member: &str, change: &mut dyn FnMut(&mut Value)) {
    if value.get(member).is_some() {
        change(value);
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|inside| each(inside, member, change)),
        Value::Array(list) => list.iter_mut().for_each(|inside| each(inside, member, change)),
        _ => {}
    }
}

/// Backends that speak TLS, and who has signed their certificates.
struct Stage {
    mocks: Vec<Mock>,
    terminators: Vec<Terminator>,
    dir: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let authority = Authority::new();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("authorities.pem"), authority.pem()).unwrap();
        let mut stage = Self { mocks: Vec::new(), terminators: Vec::new(), dir };
        for (backend, _) in BACKENDS {
            let mock = Mock::start(backend, Settings::default()).await.unwrap();
            let certificate = authority.certificate(&host(backend));
            stage.terminators.push(Terminator::start(mock.addr(), certificate).await);
            stage.mocks.push(mock);
        }
        stage
    }

    /// An Envoy that runs this, with the words added to its command line.
    async fn start(&self, version: &'static str, mut whole: Value, words: &[&str]) -> Gateway {
        let authorities = self.dir.path().join("authorities.pem");
        for ((backend, _), terminator) in BACKENDS.iter().zip(&self.terminators) {
            let clusters = part(&mut whole, "/static_resources/clusters").as_array_mut().unwrap();
            let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == **backend).unwrap();
            let address =
                part(cluster, "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
            assert_eq!(*address, json!({ "address": host(backend), "port_value": 443 }));
            *address = json!({ "address": "127.0.0.1", "port_value": terminator.port() });
            let validation = "/transport_socket/typed_config/common_tls_context/validation_context";
            let trusted = part(cluster, &format!("{validation}/trusted_ca/filename"));
            assert_eq!(*trusted, "/etc/ssl/certs/ca-certificates.crt");
            *trusted = json!(authorities);
        }
        let mut configuration = Value::Null;
        each(&mut whole, "root_id", &mut |filter| {
            if filter["root_id"] == "gateway" {
                configuration = filter["configuration"]["value"].clone();
            }
        });
        let mut setup =
            Setup::new().envoy(version).workers(1).config(configuration).options(words.iter().copied());
        for ((backend, variable), mock) in BACKENDS.iter().zip(&self.mocks) {
            setup = setup.backend(backend, &mock.url()).env(variable, &credential_of(backend));
        }
        setup = setup.env("REDIS_PASSWORD", REDIS_PASSWORD);
        let setup = setup.patch(move |envoy| {
            let find = |path: &str| envoy.pointer(path).unwrap().clone();
            let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
            let log = find(&format!("{manager}/access_log/0/typed_config/path"));
            let code = find(&format!("{manager}/http_filters/0/typed_config/config/vm_config/code"));
            whole["admin"] = find("/admin");
            *part(&mut whole, "/static_resources/listeners/0/address") =
                find("/static_resources/listeners/0/address");
            each(&mut whole, "vm_config", &mut |filter| {
                let place = part(filter, "/vm_config/code");
                assert_eq!(*place, json!({ "local": { "filename": MODULE } }));
                *place = code.clone();
            });
            each(&mut whole, "access_log", &mut |manager| {
                let logs = manager["access_log"].as_array_mut().unwrap();
                for ours in logs.iter_mut().filter(|log| log["name"] == "tollgate") {
                    let file = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
                    ours["typed_config"]["@type"] = json!(file);
                    ours["typed_config"]["path"] = log.clone();
                    part(ours, "/typed_config/log_format/json_format")["told"] =
                        json!("%FILTER_STATE(told:PLAIN)%");
                }
                manager["http_filters"].as_array_mut().unwrap().insert(0, what_a_client_told());
                takes_extended_connect(manager);
            });
            *envoy = whole;
        });
        Gateway::start(setup).await.unwrap()
    }

    /// Where the example has a store, the way there is a socket of this test's, and leads to Redis.
    fn reach_store(&self, whole: &mut Value, redis: Option<&Redis>) {
        let Some(redis) = redis.map(Redis::address) else { return };
        let pipe = json!({ "pipe": { "path": self.dir.path().join("store.sock") } });
        let there = json!({ "socket_address": { "address": redis.ip(), "port_value": redis.port() } });
        let own = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 10001 } });
        let example = json!({ "socket_address": { "address": "redis.example.com", "port_value": 6379 } });
        let mut replaced = 0;
        each(whole, "address", &mut |place| {
            for (from, to) in [(&own, &pipe), (&example, &there)] {
                if place["address"] == *from {
                    place["address"] = to.clone();
                    replaced += 1;
                }
            }
        });
        assert_eq!(replaced, 3, "the listener, the cluster that leads there, and Redis");
    }

    fn asked(&self) -> Vec<usize> {
        self.mocks.iter().map(|mock| mock.received().len()).collect()
    }

    /// Good requests are served, by whom and as it was decided; nothing that a client says changes that.
    async fn serves(&self, gateway: &Gateway) {
        let long = with(chat("who serves this"), json!({ "max_tokens": 4096 }));
        let answer = ask(gateway, HOST, TEAM, &long).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.asked(), [1, 0]);
        let record = record_of(gateway, &answer).await;
        let expected = json!({
            "client": "team", "backend": "ptu", "attempts": 1, "told": "- -", "outcome": "served", "status": 200,
        });
        check_record(&record, &expected);
        assert_eq!(record["prompt_tokens"], answer.json()["usage"]["prompt_tokens"].to_string());

        // The first has no room: the next one answers within the same request, with its own path, host and key.
        self.mocks[0]
            .update(|settings| settings.faults = [Fault::answer(429).header("retry-after", "300")].into());
        let answer = ask(gateway, HOST, TEAM, &long).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.asked(), [2, 1]);
        check_record(&record_of(gateway, &answer).await, &json!({ "backend": "payg", "attempts": 2 }));
        let azure = "/openai/deployments/gpt-4o-ptu/chat/completions?api-version=2024-10-21";
        for ((backend, _), (mock, path)) in
            BACKENDS.iter().zip(self.mocks.iter().zip([azure, "/openai/v1/chat/completions"]))
        {
            for sent in mock.received() {
                assert_eq!((sent.path.as_str(), sent.header("host")), (path, Some(host(backend).as_str())));
                assert_eq!(sent.header("api-key"), Some(credential_of(backend).as_str()));
                for name in
                    SPOOFED.iter().map(|(name, _)| *name).chain(["authorization", "x-envoy-original-host"])
                {
                    assert_eq!(sent.header(name), None, "{backend}: {name}");
                }
                // Headers were held until the policy had decided on the body.
                assert_eq!(sent.json()["max_tokens"], 512);
            }
        }

        // It is remembered, and what a client says of clusters and retries is not heard.
        let answer = ask(gateway, HOST, TEAM, &chat("again")).await;
        assert_eq!((answer.status, self.asked()), (200, vec![2, 2]));
        check_record(&record_of(gateway, &answer).await, &json!({ "backend": "payg", "attempts": 1 }));

        let answer = ask(gateway, HOST, "nobody", &chat("hello")).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (401, json!("invalid_api_key")));
        let answer = ask(gateway, "else.example.com", TEAM, &chat("hello")).await;
        assert_eq!(answer.status, 404, "{}", answer.text());
        let encoded = gateway.http().get(format!("{}/v1%2fmodels", gateway.url())).header("host", HOST);
        assert_eq!(encoded.bearer_auth(TEAM).send().await.unwrap().status(), 400);
        check_sockets(gateway, HOST, TEAM).await;
        assert_eq!(self.asked(), [2, 2]);

        for (backend, status, times) in [("ptu", "200", 1.0), ("ptu", "429", 1.0), ("payg", "200", 2.0)] {
            let labels = [("backend", backend), ("status", status)];
            gateway.wait_for_metric("tollgate_upstream_responses", &labels, times).await.unwrap();
        }
        let labels = [("client", "team"), ("model", "gpt-4o"), ("outcome", "served")];
        gateway.wait_for_metric("tollgate_requests", &labels, 3.0).await.unwrap();
    }
}

/// What a client must not be able to say, and no backend must be told.
const SPOOFED: [(&str, &str); 11] = [
    ("x-tollgate-cluster", "payg"),
    ("x-tollgate-candidates", "CgA="),
    ("x-tollgate-elsewhere", "1"),
    // Envoy itself takes some such headers from clients, and not this one.
    ("x-envoy-probe", "1"),
    ("x-envoy-max-retries", "0"),
    ("x-envoy-retry-on", "gateway-error"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-proto", "ftp"),
    ("x-real-ip", "192.0.2.1"),
    ("x-ms-spillover-deployment", "expensive"),
    ("x-envoy-peer-metadata", "c3Bvb2ZlZA=="),
];

/// A filter that notes what has come in of two of them.
fn what_a_client_told() -> Value {
    let format = json!({ "inline_string": "%REQ(x-envoy-probe)% %REQ(x-tollgate-elsewhere)%" });
    json!({
        "name": "told",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": "told",
                "factory_key": "envoy.string",
                "format_string": { "text_format_source": format },
            }],
        },
    })
}

/// The host of a backend in the examples.
fn host(backend: &str) -> String {
    format!("example-{backend}.openai.azure.com")
}

async fn ask(gateway: &Gateway, host: &str, key: &str, body: &Value) -> Answer {
    let request =
        gateway.http().post(format!("{}{CHAT}", gateway.url())).header("host", host).bearer_auth(key);
    let request = SPOOFED.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::read(request.json(body).send().await.unwrap()).await.unwrap()
}

/// Filters that only Istio's own build of Envoy has. One of them tells backends about the pod, and so does what stands
/// for it here.
fn of_plain_envoy(filters: &mut Vec<Value>) {
    let peers = filters.iter_mut().find(|filter| filter["name"] == "istio.metadata_exchange").unwrap();
    let append = |name: &str| json!({ "append": { "header": { "key": name, "value": "the pod" } } });
    *peers = json!({
        "name": "peer-metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": { "request_mutations": [append("x-envoy-peer-metadata"), append("x-envoy-peer-metadata-id")] },
        },
    });
    filters.retain(|filter| !filter["name"].as_str().unwrap().starts_with("istio."));
}

#[tokio::test]
async fn istios_gateway_serves_by_the_examples_envoyfilter() {
    let deployment = documents("examples/istio/deployment.yaml");
    // What the agent gives Envoy as `--config-yaml` is merged by Envoy.
    let stats =
        of_kind(&deployment, "ConfigMap", "tollgate-bootstrap")["data"]["stats.yaml"].as_str().unwrap();
    let redis = Redis::start_with(Some(REDIS_PASSWORD), &[]).unwrap();
    let examples =
        [("examples/istio/envoyfilter.yaml", None), ("examples/istio/envoyfilter-fleet.yaml", Some(&redis))];
    for (version, (example, redis)) in
        ENVOYS.into_iter().flat_map(|version| examples.map(|one| (version, one)))
    {
        let mut generated = Generated::load("tests/fixtures/mesh/istio.yaml");
        istio::apply(&mut generated, &documents(example));
        let stage = Stage::new().await;
        let mut whole = generated.whole(of_plain_envoy);
        stage.reach_store(&mut whole, redis);
        let gateway = stage.start(version, whole, &["--config-yaml", stats]).await;
        stage.serves(&gateway).await;
    }
}

#[tokio::test]
async fn envoy_gateway_serves_by_the_examples_envoypatchpolicy() {
    let deployment = documents("examples/envoy-gateway/deployment.yaml");
    let proxy = &of_kind(&deployment, "EnvoyProxy", "tollgate")["spec"];
    assert_eq!(proxy["bootstrap"]["type"], "Merge");
    let bootstrap = proxy["bootstrap"]["value"].as_str().unwrap();
    let log = &proxy["telemetry"]["accessLog"]["settings"][0];
    let redis = Redis::start_with(Some(REDIS_PASSWORD), &[]).unwrap();
    let examples = [
        ("examples/envoy-gateway/envoypatchpolicy.yaml", None),
        ("examples/envoy-gateway/envoypatchpolicy-fleet.yaml", Some(&redis)),
    ];
    for (version, (example, redis)) in
        ENVOYS.into_iter().flat_map(|version| examples.map(|one| (version, one)))
    {
        let mut generated = Generated::load("tests/fixtures/mesh/envoy-gateway.yaml");
        // What Envoy Gateway makes of a log's settings.
        part(&mut generated.listeners[0], "/filter_chains/0/filters/0/typed_config")["access_log"] = json!([{
            "name": "tollgate",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": log["sinks"][0]["file"]["path"],
                "log_format": { "json_format": log["format"]["json"] },
            },
        }]);
        json_patch::apply(&mut generated, &documents(example)[0]);
        let stage = Stage::new().await;
        let mut whole = generated.whole(|_| ());
        stage.reach_store(&mut whole, redis);
        let gateway = stage.start(version, whole, &["--config-yaml", bootstrap]).await;
        stage.serves(&gateway).await;
    }
}

/// A container's environment, and what it finds where.
fn check_pod(container: &Value, volumes: &Value) {
    let (env, mounts) = (container["env"].as_array().unwrap(), container["volumeMounts"].as_array().unwrap());
    for (_, variable) in BACKENDS {
        let set = env.iter().find(|set| set["name"] == variable).unwrap();
        assert_eq!(set["valueFrom"]["secretKeyRef"], json!({ "name": "tollgate-keys", "key": variable }));
    }
    let of_store = env.iter().find(|set| set["name"] == "REDIS_PASSWORD").unwrap();
    let optional = json!({ "name": "tollgate-keys", "key": "REDIS_PASSWORD", "optional": true });
    assert_eq!(of_store["valueFrom"]["secretKeyRef"], optional);
    let mount = mounts.iter().find(|mount| MODULE.starts_with(mount["mountPath"].as_str().unwrap())).unwrap();
    assert_eq!(format!("{}/plugin.wasm", mount["mountPath"].as_str().unwrap()), MODULE);
    let volume = volumes.as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    let image = volume["image"]["reference"].as_str().unwrap();
    assert_eq!(image, format!("registry.example.com/tollgate:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn istios_pod_has_what_its_filters_need() {
    let deployment = documents("examples/istio/deployment.yaml");
    let gateway = of_kind(&deployment, "Gateway", "tollgate");
    let parameters = &gateway["spec"]["infrastructure"]["parametersRef"];
    assert_eq!((&parameters["kind"], &parameters["group"]), (&json!("ConfigMap"), &json!("")));
    let map = of_kind(&deployment, "ConfigMap", parameters["name"].as_str().unwrap());
    let patch: Value = serde_yaml_ng::from_str(map["data"]["deployment"].as_str().unwrap()).unwrap();
    let pod = &patch["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "istio-proxy");
    check_pod(container, &pod["volumes"]);
    // The agent reads the file that is mounted from the ConfigMap with the rules of the metrics' names.
    let of_agent = container["env"].as_array().unwrap();
    let file = of_agent.iter().find(|set| set["name"] == "ISTIO_BOOTSTRAP_OVERRIDE").unwrap();
    let (place, name) = file["value"].as_str().unwrap().rsplit_once('/').unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == place).unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    let map = of_kind(&deployment, "ConfigMap", volume["configMap"]["name"].as_str().unwrap());
    let rules: Value = serde_yaml_ng::from_str(map["data"][name].as_str().unwrap()).unwrap();
    check_stats(&rules);

    for filter in documents("examples/istio/envoyfilter.yaml") {
        let labels = &filter["spec"]["workloadSelector"]["labels"];
        assert_eq!(labels["gateway.networking.k8s.io/gateway-name"], gateway["metadata"]["name"]);
        assert_eq!(filter["metadata"]["namespace"], gateway["metadata"]["namespace"]);
    }
    assert_eq!(gateway["spec"]["listeners"][0]["hostname"], HOST);
    assert_eq!(gateway["spec"]["listeners"][0]["port"], 443);
}

#[test]
fn the_monitors_find_the_gateways_pods() {
    let istio = documents("examples/istio/podmonitor.yaml");
    let filter = &documents("examples/istio/envoyfilter.yaml")[0];
    let selected = &istio[0]["spec"]["selector"]["matchLabels"];
    assert_eq!(selected, &filter["spec"]["workloadSelector"]["labels"]);
    assert_eq!(istio[0]["metadata"]["namespace"], filter["metadata"]["namespace"]);
    // Envoy Gateway's pods are elsewhere, and tell whose they are.
    let gateway = documents("examples/envoy-gateway/podmonitor.yaml");
    let deployment = documents("examples/envoy-gateway/deployment.yaml");
    let owner = &of_kind(&deployment, "Gateway", "tollgate")["metadata"];
    let selected = &gateway[0]["spec"]["selector"]["matchLabels"];
    assert_eq!(selected["gateway.envoyproxy.io/owning-gateway-name"], owner["name"]);
    assert_eq!(selected["gateway.envoyproxy.io/owning-gateway-namespace"], owner["namespace"]);
}

/// They are those of `envoy.yaml`.
fn check_stats(bootstrap: &Value) {
    let envoy: Value = serde_yaml_ng::from_str(&read("envoy/envoy.yaml")).unwrap();
    assert_eq!(bootstrap["stats_config"], envoy["stats_config"]);
}

/// What the examples say themselves: what is served, by which backends.
const OF_THE_EXAMPLE: [&str; 6] = [
    "configuration",
    "environment_variables",
    "code",
    "load_assignment",
    "transport_socket",
    "typed_config/clusters",
];

/// Every line of `portable-pools.yaml` that `found` lacks or has otherwise.
fn missing(expected: &Value, found: &Value, path: &str, missed: &mut Vec<String>) {
    match (expected, found) {
        _ if OF_THE_EXAMPLE.iter().any(|part| path.ends_with(part)) => {}
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                missing(value, found.get(name).unwrap_or(&Value::Null), &format!("{path}/{name}"), missed);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (at, (value, found)) in expected.iter().zip(found).enumerate() {
                missing(value, found, &format!("{path}/{at}"), missed);
            }
        }
        _ if expected == found => {}
        _ => missed.push(path.to_owned()),
    }
}

/// What is made by an example has the lines of `portable-pools.yaml`, filter by filter and cluster by cluster, but for these.
#[track_caller]
fn check_lines(whole: &mut Value, different: &[&str]) {
    let mut portable: Value = serde_yaml_ng::from_str(&read("envoy/portable-pools.yaml")).unwrap();
    let mut missed = Vec::new();
    let mut managers = [&mut portable, whole].map(|envoy| part(envoy, MANAGER).clone());
    // By their names: a control plane has filters of its own.
    let [expected, found] = managers.each_mut().map(|manager| {
        let filters = part(manager, "/http_filters").take();
        let filters = filters.as_array().unwrap().iter();
        filters
            .map(|filter| (filter["name"].as_str().unwrap().to_owned(), filter.clone()))
            .collect::<BTreeMap<_, _>>()
    });
    for (name, filter) in &expected {
        missing(filter, found.get(name).unwrap_or(&Value::Null), name, &mut missed);
    }
    let [mut expected, mut found] = managers;
    // A control plane has other hosts and routes besides.
    let routes = [&expected, &found].map(|manager| {
        let hosts = manager["route_config"]["virtual_hosts"].as_array().unwrap().iter();
        let mut routes = hosts.flat_map(|host| host["routes"].as_array().unwrap());
        routes.find(|route| route["route"].get("cluster_header").is_some()).unwrap().clone()
    });
    missing(&routes[0], &routes[1], "route", &mut missed);
    for manager in [&mut expected, &mut found] {
        for own in ["http_filters", "route_config", "access_log", "stat_prefix"] {
            manager.as_object_mut().unwrap().remove(own);
        }
    }
    missing(&expected, &found, "manager", &mut missed);
    let clusters = part(whole, "/static_resources/clusters").clone();
    let named =
        |name: &str| clusters.as_array().unwrap().iter().find(|cluster| cluster["name"] == name).unwrap();
    for (of_portable, ours) in [("ptu", "ptu"), ("payg-a", "payg")] {
        let mut cluster = portable["static_resources"]["clusters"].as_array().unwrap().iter();
        let mut cluster = cluster.find(|cluster| cluster["name"] == of_portable).unwrap().clone();
        cluster["name"] = json!(ours);
        missing(&cluster, named(ours), ours, &mut missed);
    }
    assert_eq!(missed, different);
}

#[test]
fn the_lines_of_istios_example_are_those_of_portable_pools() {
    let mut generated = Generated::load("tests/fixtures/mesh/istio.yaml");
    istio::apply(&mut generated, &documents("examples/istio/envoyfilter.yaml"));
    // Istio's own headers are removed too.
    check_lines(&mut generated.whole(|_| ()), &["route/request_headers_to_remove"]);
}

#[test]
fn envoy_gateways_example_has_the_lines_of_portable_pools() {
    let mut generated = Generated::load("tests/fixtures/mesh/envoy-gateway.yaml");
    json_patch::apply(&mut generated, &documents("examples/envoy-gateway/envoypatchpolicy.yaml")[0]);
    check_lines(&mut generated.whole(|_| ()), &[]);
}

#[test]
fn envoy_gateways_pod_has_what_its_filters_need() {
    let deployment = documents("examples/envoy-gateway/deployment.yaml");
    let gateway = of_kind(&deployment, "Gateway", "tollgate");
    let parameters = &gateway["spec"]["infrastructure"]["parametersRef"];
    assert_eq!(parameters["kind"], "EnvoyProxy");
    let proxy = &of_kind(&deployment, "EnvoyProxy", parameters["name"].as_str().unwrap())["spec"];
    let pod = &proxy["provider"]["kubernetes"]["envoyDeployment"];
    check_pod(&pod["container"], &pod["pod"]["volumes"]);
    let rules: Value = serde_yaml_ng::from_str(proxy["bootstrap"]["value"].as_str().unwrap()).unwrap();
    check_stats(&rules);

    let route = &of_kind(&deployment, "HTTPRoute", "tollgate")["spec"];
    let until = &route["rules"][0]["filters"][0]["extensionRef"];
    let until = of_kind(&deployment, until["kind"].as_str().unwrap(), until["name"].as_str().unwrap());
    assert_eq!(until["spec"]["directResponse"]["statusCode"], 503);
    let policy = &documents("examples/envoy-gateway/envoypatchpolicy.yaml")[0];
    assert_eq!(policy["spec"]["targetRef"]["name"], gateway["metadata"]["name"]);
    assert_eq!(policy["metadata"]["namespace"], gateway["metadata"]["namespace"]);
    assert_eq!(
        (&route["hostnames"][0], &gateway["spec"]["listeners"][0]["hostname"]),
        (&json!(HOST), &json!(HOST))
    );
}
