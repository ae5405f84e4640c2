//! Does the tool write whole files of Envoy, and first configurations?

mod common;

use common::{root, run};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

/// What is rendered; it is well, says `check`.
#[track_caller]
fn rendered(input: &str) -> String {
    rendered_for("envoy", input)
}

#[track_caller]
fn rendered_for(form: &str, input: &str) -> String {
    let (code, text, told) = run(&["render", "--form", form, "-"], input);
    assert_eq!((code, told.as_str()), (0, ""), "{text}");
    let (code, judged, _) = run(&["check", "-"], &text);
    assert_eq!(code, 0, "{judged}");
    text
}

#[track_caller]
fn check_refused(input: &str, expected: &str) {
    check_refused_for("envoy", input, expected);
}

#[track_caller]
fn check_refused_for(form: &str, input: &str, expected: &str) {
    let (_, text, told) = run(&["render", "--form", form, "-"], input);
    assert!(format!("{text}{told}").contains(expected), "{text}{told}");
}

/// The lines of the gateway's configuration in a shipped file.
fn gateway_of(file: &str) -> String {
    let text = read(file);
    let (_, rest) = text.split_once("google.protobuf.Struct\n").unwrap();
    let mut lines = rest.lines();
    let above = lines.next().unwrap();
    assert_eq!(above.trim_start(), "value:");
    let indent = above.len() - "value:".len() + 2;
    let of_it = lines.take_while(|line| line.starts_with(&" ".repeat(indent)));
    of_it.map(|line| format!("{}\n", &line[indent..])).collect()
}

const SHIPPED: &str = "\
envoy:
  clusters:
    ptu: { address: ptu, port: 8080, tls: false }
    payg-a: { address: payg-a, port: 8080, tls: false }
    payg-b: { address: payg-b, port: 8080, tls: false }
";

#[test]
fn the_shipped_files_configuration_renders_to_the_shipped_file() {
    let text = rendered(&format!("{}{SHIPPED}", gateway_of("envoy/envoy.yaml")));
    assert_eq!(yaml(&text), yaml(&read("envoy/envoy.yaml")));
    // With every comment but those of the file about itself.
    let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
    assert_eq!(comments(&text), comments(&read("envoy/envoy.yaml")) - 2);
    assert!(text.contains("# demo-web-shop"), "{text}");
}

#[test]
fn a_store_has_its_listener_and_its_clusters() {
    let text =
        rendered(&format!("{}{SHIPPED}  store: {{ address: redis }}\n", gateway_of("envoy/fleet.yaml")));
    assert_eq!(yaml(&text), yaml(&read("envoy/fleet.yaml")));
    let with_tls =
        SHIPPED.replace("envoy:", "envoy:\n  store: { address: redis.example.com, tls: true, port: 6380 }");
    let whole = yaml(&rendered(&format!("{with_tls}{}", gateway_of("envoy/fleet.yaml"))));
    let clusters = whole["static_resources"]["clusters"].as_array().unwrap();
    let redis = clusters.iter().find(|cluster| cluster["name"] == "redis").unwrap();
    assert_eq!(redis["transport_socket"]["typed_config"]["sni"], "redis.example.com");
    assert_eq!(
        redis.pointer(ADDRESS).unwrap(),
        &json!({ "address": "redis.example.com", "port_value": 6380 })
    );
    let without = SHIPPED.replace("envoy:", "envoy:\n  module: /tollgate.wasm");
    check_refused(
        &format!("{without}{}", gateway_of("envoy/fleet.yaml")),
        "envoy.store: expected an address: of Redis",
    );
}

#[test]
fn pools_render_to_the_shipped_portable_files() {
    for (file, own) in [("envoy/portable-pools.yaml", 2), ("envoy/portable-once.yaml", 3)] {
        let text = rendered(&format!("{}{SHIPPED}", gateway_of(file)));
        assert_eq!(yaml(&text), yaml(&read(file)), "{file}");
        // With every comment but those of the file about itself.
        let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        assert_eq!(comments(&text), comments(&read(file)) - 3 + own + 1, "{file}");
    }
    // Beside a store, its listener and its clusters are those of the other file.
    let store = "store: { redis: { cluster: tollgate-store } }\n";
    let own = format!("{}{store}{SHIPPED}", gateway_of("envoy/portable-pools.yaml"));
    let whole = yaml(&rendered(&format!("{own}  store: {{ address: redis }}\n")));
    let named = |whole: &Value, kind: &str| -> Vec<Value> {
        whole["static_resources"][kind].as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    assert_eq!(
        named(&whole, "clusters"),
        ["ptu", "payg-a", "payg-b", "all", "payg", "tollgate-store", "redis"]
    );
    let fleet = yaml(&read("envoy/fleet.yaml"));
    assert_eq!(whole["static_resources"]["listeners"][1], fleet["static_resources"]["listeners"][1]);
}

/// The part for Envoy by which the examples of control planes are rendered.
const MESH: &str = "\
envoy:
  clusters:
    ptu: { address: example-ptu.openai.azure.com }
    payg: { address: example-payg.openai.azure.com }
";
const ISTIO: (&str, &str, &str) =
    ("istio", "examples/istio/envoyfilter", "  gateway: { host: openai.example.com }\n");
const ENVOY_GATEWAY: (&str, &str, &str) = ("envoy-gateway", "examples/envoy-gateway/envoypatchpolicy", "");

#[test]
fn a_control_planes_example_renders_to_itself() {
    for (form, example, part) in [ISTIO, ENVOY_GATEWAY] {
        for (kind, store) in [("", ""), ("-fleet", "  store: { address: redis.example.com }\n")] {
            let file = format!("{example}{kind}.yaml");
            let own = format!("{}{MESH}{part}{store}", gateway_of(&file));
            let text = rendered_for(form, &own);
            assert_eq!(yaml(&text), yaml(&read(&file)), "{file}");
            // With what it says of each patch.
            let comments = read(&file);
            let comments = comments.lines().skip_while(|line| !line.starts_with("api"));
            for comment in comments.take_while(|line| !line.contains("With TLS, the name")) {
                assert!(text.contains(comment), "{file}: {comment}");
            }
            assert_eq!(text, rendered_for(form, &own));
        }
    }
}

#[test]
fn a_control_planes_gateway_is_the_one_that_is_said() {
    let of = |part: &str| {
        let own = gateway_of("examples/istio/envoyfilter.yaml");
        format!("{own}{}  module: /opt/tollgate.wasm\n{part}", MESH.replace("example-ptu", "one"))
    };
    let text =
        rendered_for("istio", &of("  gateway: { name: ai, namespace: edge, port: 8443, host: \"*\" }\n"));
    for lost in ["portNumber: 443", "name: tollgate,", "openai.example.com", "example-ptu", "/etc/tollgate"] {
        assert!(!text.contains(lost), "{lost}: {text}");
    }
    let whole = yaml(&text);
    assert_eq!(whole["metadata"], json!({ "name": "ai", "namespace": "edge" }));
    let selected = &whole["spec"]["workloadSelector"]["labels"];
    assert_eq!(selected, &json!({ "gateway.networking.k8s.io/gateway-name": "ai" }));

    let parts = "name: ai, namespace: edge, port: 8443, listener: tls";
    for (rest, listener) in [("", "tcp-8443"), (", names_listener_by_port: false", "edge/ai/tls")] {
        let whole = yaml(&rendered_for("envoy-gateway", &of(&format!("  gateway: {{ {parts}{rest} }}\n"))));
        let target = json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "ai" });
        assert_eq!(whole["spec"]["targetRef"], target);
        for patch in whole["spec"]["jsonPatches"].as_array().unwrap() {
            let expected = match patch["type"].as_str().unwrap().rsplit('.').next().unwrap() {
                "Listener" => listener,
                "RouteConfiguration" => "edge/ai/tls",
                _ => continue,
            };
            assert_eq!(patch["name"], expected);
        }
    }
}

#[test]
fn what_does_not_fit_a_form_is_told() {
    let pools = "routing: { pools: [ { cluster: all, backends: [ ptu, payg ] } ] }\n";
    let host = "  gateway: { host: a.example.com }\n";
    for (form, part, own, expected) in [
        ("envoy", host, pools, "envoy.gateway: expected none: it is of the forms istio and envoy-gateway\n"),
        ("istio", "", pools, "envoy.gateway.host: expected the host that clients ask for, or \"*\"\n"),
        (
            "istio",
            host,
            "",
            "routing.pools: expected pools, for the Envoys of this form read the name of one cluster: for example { cluster: all, backends: [ ptu, payg ] }\n",
        ),
        (
            "istio",
            "  gateway: { host: a.b, listener: https }\n",
            pools,
            "envoy.gateway.listener: expected none",
        ),
        ("istio", "  gateway: { host: a.b, nam: https }\n", pools, "envoy.gateway: unknown field `nam`"),
        (
            "istio",
            "  gateway: { host: a.b, name: \"a b\" }\n",
            pools,
            "envoy.gateway.name: \"a b\" is no name",
        ),
        ("envoy-gateway", host, pools, "envoy.gateway.host: expected none: the HTTPRoute has it\n"),
        ("envoy-gateway", "  listen: 0.0.0.0:1\n", pools, "envoy.listen: expected none"),
        (
            "envoy-gateway",
            "",
            &format!("{pools}record: line\n"),
            "record: expected none: the access log of this form reads the fields of the record\n",
        ),
        ("envoy", "", "routing: { fitted: once }\n", "routing.fitted: expected pools beside it"),
        (
            "envoy-gateway",
            "",
            &pools.replace("{ pools", "{ fitted: once, pools"),
            "routing.fitted: expected each_attempt",
        ),
    ] {
        let azure = AZURE.replace("10.0.0.9, authorities: /etc/own.pem", "two.openai.azure.com");
        let own = read("examples/ptu-first/gateway.yaml") + own;
        // One version, one name and one key, for what is written once.
        let own = own.replace("azure, api_version: \"2024-10-21\"", "azure-v1");
        let own =
            own.replace("deployment: gpt-4o-ptu, ", "deployment: gpt-4o, ").replace("PTU_KEY", "PAYG_KEY");
        check_refused_for(form, &format!("{own}{azure}{part}"), expected);
    }
}

const ADDRESS: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
const FIRST: &str = "/static_resources/clusters/0";

fn ptu_first(part: &str) -> String {
    format!("{}{part}", read("examples/ptu-first/gateway.yaml"))
}

const AZURE: &str = "envoy:\n  clusters:\n    ptu: { address: one.openai.azure.com }\n    payg: { address: 10.0.0.9, authorities: /etc/own.pem }\n";

#[test]
fn a_backend_of_azure_gets_the_examples_cluster() {
    let text = rendered(&ptu_first(AZURE));
    let whole = yaml(&text);
    let mut expected =
        yaml(&read("examples/azure-tls/clusters.yaml").replace("RESOURCE", "one"))["clusters"][0].clone();
    expected["connect_timeout"] = json!("2s");
    assert_eq!(whole.pointer(FIRST).unwrap(), &expected);
    // An address has no name to say, and has to be in the certificate.
    let tls = &whole["static_resources"]["clusters"][1]["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], Value::Null);
    assert_eq!(
        tls["common_tls_context"]["validation_context"],
        json!({
            "trusted_ca": { "filename": "/etc/own.pem" },
            "match_typed_subject_alt_names": [ { "san_type": "IP_ADDRESS", "matcher": { "exact": "10.0.0.9" } } ],
        })
    );
    assert_eq!(text, rendered(&ptu_first(AZURE)));
}

/// `check`, which `rendered` asks, compares them.
#[test]
fn the_routes_groups_begin_with_the_order_that_is_said() {
    let said =
        gateway_of("envoy/envoy.yaml").replace("order: [ ptu, payg-a, payg-b ]", "order: [ payg-b, ptu ]");
    let text = rendered(&format!("{SHIPPED}{said}"));
    let groups =
        ["payg-b", "ptu", "payg-a"].map(|name| text.find(&format!("- {{ name: {name}, clusters:")).unwrap());
    assert!(groups.is_sorted(), "{groups:?}");
}

#[test]
fn the_operators_lines_stay_as_they_are_and_json_is_taken_too() {
    let own = ptu_first(&AZURE.replace("envoy:", "# Where they are.\nenvoy:"));
    let text = rendered(&own);
    assert!(
        text.contains("\n                    # One team, one model: provisioned capacity first"),
        "{text}"
    );
    assert!(!text.contains("Where they are."), "{text}");
    assert!(text.contains(
        "\n                    # As the access log above reads it.\n                    record: line\n"
    ));
    let mut expected = yaml(&read("examples/ptu-first/gateway.yaml"));
    expected["record"] = json!("line");
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let gateway = format!("{manager}/http_filters/0/typed_config/config/configuration/value");
    for input in [own.clone(), yaml(&own).to_string(), format!("---\n{own}")] {
        let whole = yaml(&rendered(&input));
        assert_eq!(whole.pointer(&gateway).unwrap(), &expected, "{input}");
    }
}

#[test]
fn every_example_renders_with_its_addresses() {
    let mut rendered_ones = 0;
    for folder in fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = fs::read_to_string(folder.join("gateway.yaml")) else { continue };
        let clusters: serde_json::Map<_, _> = yaml(&text)["backends"]
            .as_array()
            .unwrap()
            .iter()
            .map(|backend| {
                (backend["cluster"].as_str().unwrap().to_owned(), json!({ "address": "one.example.com" }))
            })
            .collect();
        rendered(&format!("{text}\nenvoy: {}\n", json!({ "clusters": clusters })));
        rendered_ones += 1;
    }
    assert!(rendered_ones > 5);
}

#[test]
fn the_keys_of_an_issuer_come_from_where_it_says() {
    let text = format!(
        "{}envoy: {{ clusters: {{ payg: {{ address: one.openai.azure.com }} }} }}\n",
        read("examples/entra-id/gateway.yaml")
    );
    let whole = yaml(&rendered(&text));
    let expected = yaml(&read("examples/entra-id/clusters.yaml"))["clusters"][0].clone();
    assert_eq!(whole["static_resources"]["clusters"][1], expected);
}

#[test]
fn the_listener_is_where_and_what_is_said() {
    let text = ptu_first(&format!(
        "{AZURE}  listen: 127.0.0.1:8443\n  admin: \"[::1]:9000\"\n  module: /opt/a module.wasm\n  tls: {{ certificate: /etc/tls.crt, key: /etc/tls.key }}\n"
    ));
    let whole = yaml(&rendered(&text));
    let at = |pointer: &str| whole.pointer(pointer).unwrap();
    assert_eq!(at("/admin/address/socket_address"), &json!({ "address": "::1", "port_value": 9000 }));
    let listener = "/static_resources/listeners/0";
    let expected = json!({ "address": "127.0.0.1", "port_value": 8443 });
    assert_eq!(at(&format!("{listener}/address/socket_address")), &expected);
    let chain = format!("{listener}/filter_chains/0");
    let certificate = json!([ {
        "certificate_chain": { "filename": "/etc/tls.crt" }, "private_key": { "filename": "/etc/tls.key" },
    } ]);
    let context = format!("{chain}/transport_socket/typed_config/common_tls_context/tls_certificates");
    assert_eq!(at(&context), &certificate);
    let code = "filters/0/typed_config/http_filters/0/typed_config/config/vm_config/code/local/filename";
    assert_eq!(at(&format!("{chain}/{code}")), "/opt/a module.wasm");
}

#[test]
fn what_is_wrong_with_envoys_part_is_told_with_what_is_expected() {
    for (part, expected) in [
        ("", "- has no envoy: expected it beside clients, models and backends"),
        (
            "envoy: {}",
            "-:14: envoy.clusters.ptu: expected an address: for a backend of Azure the host name of its resource, NAME.openai.azure.com\n",
        ),
        (&AZURE.replace("payg:", "pay:"), "envoy.clusters.payg: expected an address"),
        (
            &format!("{AZURE}    other: {{ address: a.example.com }}"),
            "envoy.clusters.other: no backend and no issuer has the cluster \"other\": expected one of \"ptu\", \"payg\"\n",
        ),
        (
            &format!("{AZURE}  lisen: 0.0.0.0:1"),
            "envoy.lisen: unknown field, expected one of listen, admin, module, tls, clusters, store, gateway: did you mean listen?\n",
        ),
        (
            &format!("{AZURE}  listen: localhost:1"),
            "envoy.listen: expected IP:PORT, for example 0.0.0.0:10000\n",
        ),
        (
            &format!("{AZURE}  store: {{ address: redis }}"),
            "envoy.store: expected none: the configuration has no store\n",
        ),
        (
            &AZURE.replace("one.openai", "https://one.openai"),
            "is no host: expected a name or an address of IPv4 alone",
        ),
        (&format!("{AZURE}clientz: []"), "clientz: unknown field"),
    ] {
        check_refused(&ptu_first(part), expected);
        if !part.is_empty() {
            // Before it is rendered, too.
            let (code, text, _) = run(&["check", "-"], &ptu_first(part));
            assert!(code == 1 && text.contains(expected), "{text}");
        }
    }
}

#[test]
fn a_first_configuration_is_well_and_renders() {
    let words = "new --azure contoso-fr --region francecentral --openai --azure contoso-sc --ptu --region swedencentral --client team";
    let (code, text, told) = run(&words.split(' ').collect::<Vec<_>>(), "");
    assert_eq!(code, 0, "{told}");
    let value = yaml(&text);
    let order: Vec<_> = value["models"][0]["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| backend["backend"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["contoso-sc", "contoso-fr", "openai"]);
    let [ptu, payg, openai] = &value["backends"].as_array().unwrap()[..] else { panic!("{text}") };
    assert_eq!((&ptu["region"], &ptu["provisioned"]), (&json!("swedencentral"), &json!(true)));
    assert_eq!((&payg["region"], &payg["provisioned"]), (&json!("francecentral"), &Value::Null));
    assert_eq!(openai["credential"], json!({ "header": "authorization", "env": "OPENAI_KEY" }));
    // The key that was told is the client's, and another each time.
    let key = told.trim_end().strip_prefix("the key of team, which stands nowhere else: ").unwrap();
    let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(value["clients"][0]["api_keys"], json!([ { "sha256": hash } ]));
    assert!(!text.contains(key));
    assert_ne!(run(&words.split(' ').collect::<Vec<_>>(), "").2, told);
    let judged = run(&["check", "-"], &text);
    assert!(judged.0 == 0 && judged.1.contains(": ok: 1 client, 1 model"), "{}", judged.1);
    let whole = yaml(&rendered(&text));
    let address = json!({ "address": "contoso-sc.openai.azure.com", "port_value": 443 });
    assert_eq!(whole.pointer(&format!("{FIRST}{ADDRESS}")).unwrap(), &address);
}

#[test]
fn a_first_configuration_without_sense_is_refused() {
    for (words, expected) in [
        ("new --client a", "no backend is given: expected --azure NAME or --openai"),
        ("new --openai", "--client <NAME>"),
        ("new --ptu --azure a --client a", "--ptu is of no resource: expected it behind --azure NAME"),
        ("new --openai --region a --client a", "--region is of no resource: expected it behind --azure NAME"),
        ("new --azure a --azure a --client a", "the backend a stands twice"),
        (
            "new --azure https://a --client a",
            "--azure \"https://a\": expected letters, digits and -, _ or . alone",
        ),
    ] {
        let (code, text, told) = run(&words.split(' ').collect::<Vec<_>>(), "");
        assert!(code == 2 && text.is_empty() && told.contains(expected), "{words}: {told}");
    }
}
