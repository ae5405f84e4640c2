//! What the documents say is so: their commands run, their outputs come, the names they give exist.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tollgate_tests::harness::bootstrap::Bootstrap;
use tollgate_tests::harness::console;
use tollgate_tests::harness::document::blocks;
use tollgate_tests::harness::tools::{self, workspace};
use tollgate_tests::harness::v8::{self, Compile};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};
use tollgate_tests::scenarios::Scenario;

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(workspace().join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_requests_get_the_answers_it_shows() {
    let full = Settings { faults: [Fault::throttle_ms(10_000)].into(), ..Settings::default() };
    let gateway = Gateway::start(Setup::new().mock("ptu", full)).await.unwrap();
    let readme = read("README.md");
    console::run(&readme, &gateway, &["ptu"], &[]).await;
    for block in blocks(&readme, "json") {
        let shown: Value = serde_json::from_str(&block).unwrap();
        let shown = shown.as_object().unwrap();
        let holds = |line: &Value| shown.iter().all(|(field, value)| line[field] == *value);
        gateway.wait_for_log_where(|lines| lines.iter().any(holds)).await.unwrap();
    }
}

fn fragment(path: &str) -> Value {
    serde_yaml_ng::from_str(&read(path).replace("RESOURCE", "example")).unwrap()
}

#[test]
fn envoy_takes_the_cluster_of_the_azure_example() {
    let mut bootstrap = Bootstrap::load().unwrap();
    let clusters = bootstrap.value_mut()["static_resources"]["clusters"].as_array_mut().unwrap();
    for cluster in fragment("examples/azure-tls/clusters.yaml")["clusters"].as_array().unwrap() {
        let place = clusters.iter_mut().find(|other| other["name"] == cluster["name"]);
        *place.expect("it replaces a cluster of envoy.yaml") = cluster.clone();
    }
    validate(bootstrap);
}

#[test]
fn envoy_takes_the_cluster_of_the_entra_example() {
    let mut bootstrap = Bootstrap::load().unwrap();
    let clusters = bootstrap.value_mut()["static_resources"]["clusters"].as_array_mut().unwrap();
    clusters
        .extend(fragment("examples/entra-id/clusters.yaml")["clusters"].as_array().unwrap().iter().cloned());
    validate(bootstrap);
}

#[test]
fn envoy_takes_the_access_log_of_the_opentelemetry_example() {
    let mut bootstrap = Bootstrap::load().unwrap();
    let clusters = bootstrap.value_mut()["static_resources"]["clusters"].as_array_mut().unwrap();
    clusters
        .extend(fragment("examples/otel-logs/clusters.yaml")["clusters"].as_array().unwrap().iter().cloned());
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = bootstrap.value_mut().pointer_mut(manager).unwrap();
    manager["access_log"] = fragment("examples/otel-logs/access_log.yaml")["access_log"].clone();
    validate(bootstrap);
}

#[track_caller]
fn validate(mut bootstrap: Bootstrap) {
    bootstrap.load_module_from(&tools::wasm().unwrap());
    validate_text(".json", &bootstrap.value().to_string());
}

#[track_caller]
fn validate_text(suffix: &str, text: &str) {
    let file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    let keys = ["PTU_KEY", "PAYG_KEY", "PAYG_A_KEY", "PAYG_B_KEY", "BACKENDS_KEY", "REDIS_PASSWORD"]
        .map(|name| (name, "key"));
    let envoy = tools::envoy().unwrap();
    let places = v8::places(Compile::Briefly, &envoy);
    let mut command = Command::new(&envoy);
    command.args(["--mode", "validate", "-c"]).arg(file.path()).envs(keys);
    // 32 bytes.
    command.env("QUEUE_KEY", format!("{}=", "A".repeat(43)));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    v8::set(Compile::Briefly, places, child.id(), &envoy).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The harness hands Envoy JSON, in which numbers are numbers; who reads the file itself is Envoy's YAML reader.
#[test]
fn envoy_takes_its_files_as_they_are() {
    let module = tools::wasm().unwrap();
    for name in ["envoy.yaml", "fleet.yaml", "queue.yaml", "portable-once.yaml", "portable-pools.yaml"] {
        let text = read(Path::new("envoy").join(name));
        let placed = text.replace("/etc/envoy/tollgate.wasm", module.to_str().unwrap());
        assert_ne!(placed, text);
        validate_text(".yaml", &placed);
    }
}

#[test]
fn envoy_takes_what_the_tool_renders_as_it_is() {
    let module = tools::wasm().unwrap();
    let certified = rcgen::generate_simple_self_signed(["gateway.example.com".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, file] =
        ["tls.crt", "tls.key", "gateway.yaml"].map(|name| folder.path().join(name));
    fs::write(&certificate, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let part = json!({
        "module": module,
        "tls": { "certificate": certificate, "key": key },
        "store": { "address": "redis.example.com", "tls": true },
        "clusters": { "payg": { "address": "one.openai.azure.com" }, "entra": { "address": "10.0.0.9" } },
    });
    let store = "store: { redis: { cluster: tollgate-store, password_env: REDIS_PASSWORD } }";
    let own = read("examples/entra-id/gateway.yaml");
    fs::write(&file, format!("{own}{store}\nenvoy: {part}\n")).unwrap();
    let output = Command::new(tools::tool().unwrap()).arg("render").arg(&file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    validate_text(".yaml", &text);
}

#[test]
fn the_readmes_configuration_loads_and_its_faults_read_as_shown() {
    let readme = read("README.md");
    let config: Value = serde_yaml_ng::from_str(&blocks(&readme, "yaml")[0]).unwrap();
    let load = |config: Value| match tollgate::config::from_value(config, &|_| Some("key".to_owned())) {
        Ok(_) => String::new(),
        Err(errors) => format!("tollgate: configuration: {}", errors[0]),
    };
    assert_eq!(load(config.clone()), "");
    let mut unknown_field = config.clone();
    unknown_field["clients"][0]["limits"][0]["token"] = 1.into();
    let mut unknown_backend = config;
    unknown_backend["models"][0]["backends"][1]["backend"] = "azure".into();
    let shown = blocks(&readme, "text")[0].lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!([load(unknown_field), load(unknown_backend)], shown[..]);
}

#[test]
fn the_policy_document_loads_and_its_tables_are_whole() {
    let document = read("docs/policy.md");
    let config: Value = serde_yaml_ng::from_str(&blocks(&document, "yaml")[0]).unwrap();
    let every_rule = config["policies"][0].as_object().unwrap();
    tollgate::config::from_value(config.clone(), &|_| None).unwrap();
    let source = read("filter/core/src/assembly/config/policies/wire.rs");
    let rules = source.split("struct Policy {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let rules = rules.split("pub(in crate::config) ").skip(1).map(|rest| rest.split(':').next().unwrap());
    for rule in rules {
        assert!(every_rule.contains_key(rule), "{rule} is not in the example");
        assert!(rule == "name" || document.contains(&format!("`{rule}")), "{rule} is not explained");
    }
}

#[test]
fn the_configuration_in_the_reference_of_limits_loads() {
    let reference = read("docs/limits.md");
    let config: Value = serde_yaml_ng::from_str(&blocks(&reference, "yaml")[0]).unwrap();
    assert_eq!(tollgate::config::from_value(config, &|_| None).map(|_| ()), Ok(()));
    for word in words(&reference, "tollgate_") {
        assert!(read("filter/core/src/decisions/ledger/series.rs").contains(word), "{word} is no metric");
    }
}

#[test]
fn the_configuration_of_the_routing_document_loads() {
    let config = serde_yaml_ng::from_str(&blocks(&read("docs/routing.md"), "yaml")[0]).unwrap();
    assert_eq!(tollgate::config::from_value(config, &|_| None).map(|_| ()), Ok(()));
}

#[test]
fn the_configuration_of_the_explain_document_loads() {
    let config = serde_yaml_ng::from_str(&blocks(&read("docs/explain.md"), "yaml")[0]).unwrap();
    assert_eq!(tollgate::config::from_value(config, &|_| None).map(|_| ()), Ok(()));
}

#[test]
fn the_configurations_of_nearness_and_of_spilling_load() {
    for document in ["docs/routing.md", "docs/priority.md"] {
        let config = serde_yaml_ng::from_str(&blocks(&read(document), "yaml")[1]).unwrap();
        assert_eq!(tollgate::config::from_value(config, &|_| None).map(|_| ()), Ok(()), "{document}");
    }
}

#[test]
fn the_portable_document_loads_and_its_fault_reads_as_shown() {
    let document = read("docs/portable.md");
    let mut config: Value = serde_yaml_ng::from_str(&blocks(&document, "yaml")[0]).unwrap();
    assert_eq!(tollgate::config::from_value(config.clone(), &|_| None).map(|_| ()), Ok(()));
    config["routing"]["fitted"] = json!("once");
    let errors = tollgate::config::from_value(config, &|_| None).unwrap_err();
    assert_eq!(format!("tollgate: configuration: {}", errors[0]), blocks(&document, "text")[0]);
}

#[test]
fn the_configuration_of_the_fleet_document_loads() {
    let config = serde_yaml_ng::from_str(&blocks(&read("docs/fleet.md"), "yaml")[0]).unwrap();
    let gateway = tollgate::config::from_value(config, &|_| Some("a password".to_owned())).unwrap();
    assert_eq!(gateway.store.unwrap().cluster, "tollgate-store");
}

/// It shows only what is about capacity; the rest of a configuration is added.
#[test]
fn the_configuration_of_the_priority_document_loads() {
    let mut config: Value = serde_yaml_ng::from_str(&blocks(&read("docs/priority.md"), "yaml")[0]).unwrap();
    config["clients"][0]["api_keys"] = json!([{ "sha256": "0".repeat(64) }]);
    config["clients"][0]["models"] = json!(["*"]);
    for name in ["ptu", "payg"] {
        let backends = config["backends"].as_array_mut().unwrap();
        if !backends.iter().any(|backend| backend["name"] == name) {
            backends.push(json!({ "name": name }));
        }
    }
    for backend in config["backends"].as_array_mut().unwrap() {
        backend["cluster"] = backend["name"].clone();
        backend["style"] = json!("openai");
    }
    // Style openai reads the model from the body, where it has one name.
    for place in config["models"][0]["backends"].as_array_mut().unwrap() {
        place["deployment"] = json!("gpt-4o");
    }
    let defaults = config.as_object_mut().unwrap().remove("priorities").unwrap();
    let shown = tollgate::config::from_value(
        {
            let mut config = config.clone();
            config["priorities"] = defaults;
            config
        },
        &|_| None,
    );
    let left_out = tollgate::config::from_value(config, &|_| None).unwrap();
    let shown = shown.unwrap();
    assert_eq!((shown.precedences, shown.waiting_max), (left_out.precedences, left_out.waiting_max));
}

#[test]
fn the_configuration_of_the_state_document_loads() {
    let mut config: Value = serde_yaml_ng::from_str(&blocks(&read("docs/routing.md"), "yaml")[0]).unwrap();
    let document = read("docs/state.md");
    let shown: Value = serde_yaml_ng::from_str(&blocks(&document, "yaml")[0]).unwrap();
    config["pinning"] = shown["pinning"].clone();
    let gateway = tollgate::config::from_value(config, &|_| Some("x".repeat(32)));
    assert!(gateway.unwrap().pinning.is_some());
    for word in words(&document, "tollgate_") {
        assert!(read("filter/core/src/decisions/ledger/series.rs").contains(word), "{word} is no metric");
    }
}

#[test]
fn the_configuration_of_clients_and_issuers_loads() {
    let config = serde_yaml_ng::from_str(&blocks(&read("docs/identity.md"), "yaml")[0]).unwrap();
    if let Err(errors) = tollgate::config::from_value(config, &|_| None) {
        panic!("{errors:?}");
    }
}

/// The words in backticks, and in code, that begin like this.
fn words<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found: Vec<_> = text
        .split(|c| !is_part(c))
        .filter(|word| word.starts_with(start) && word.len() > start.len())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn the_readme_has_every_metric_and_every_code() {
    let readme = read("README.md");
    let source = read("filter/core/src/decisions/ledger/series.rs");
    let product = source.split("#[cfg(test)]").next().unwrap();
    let known = words(product, "tollgate_");
    let shown: Vec<_> = words(&readme, "tollgate_");
    assert_eq!(known, shown);
    let dotted = product
        .split('"')
        .filter(|text| text.starts_with("gen_ai."))
        .map(|text| text.split(';').next().unwrap());
    for name in dotted.map(|name| name.replace('.', "_")) {
        assert!(readme.contains(&format!("`{name}`")), "{name} is not in the README");
    }

    let source = read("filter/core/src/words/denial/row.rs");
    let table = source.split("fn row(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let codes: Vec<_> = table.split("row(").skip(1).filter_map(|row| row.split('"').nth(1)).collect();
    assert!(codes.len() > 40);
    for code in codes {
        assert!(readme.contains(&format!("`{code}`")), "{code} is not in the README");
    }
}

/// What cargo does without an alias of ours, by itself or by a tool that the document says how to install.
const CARGOS_OWN: [&str; 7] = ["bench", "build", "deny", "fuzz", "install", "mutants", "test"];

/// All documents, from the root of the workspace.
fn documents() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(workspace()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found: Vec<_> =
        ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "fuzz/README.md"]
            .map(str::to_owned)
            .into();
    for folder in ["docs", "examples", "filter"] {
        walk(&workspace().join(folder), &mut found);
    }
    found
}

#[test]
fn every_cargo_command_in_the_documents_exists() {
    let aliases = read(".cargo/config.toml");
    for document in documents().into_iter().chain(["docker-compose.yml".to_owned()]) {
        let text = read(&document);
        for command in text.split("cargo ").skip(1) {
            let command = command.strip_prefix("+nightly ").unwrap_or(command);
            let name = command.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
            let known = CARGOS_OWN.contains(&name) || aliases.contains(&format!("\n{name} = "));
            assert!(known, "{document}: cargo {name}");
        }
    }
}

#[test]
fn every_link_and_every_named_test_is_there() {
    let mut sources = String::new();
    for folder in ["filter", "tests"] {
        gather(&workspace().join(folder), &mut sources);
    }
    for document in documents() {
        let text = read(&document);
        let folder = workspace().join(&document).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let is_there = target.starts_with("http")
                || match target.split_once('#') {
                    Some(("", anchor)) => has_heading(&text, anchor),
                    Some((file, anchor)) => {
                        fs::read_to_string(folder.join(file)).is_ok_and(|other| has_heading(&other, anchor))
                    }
                    None => folder.join(target).exists(),
                };
            assert!(is_there, "{document}: {target}");
        }
        for test in text.split("test `").skip(1).map(|rest| rest.split('`').next().unwrap()) {
            assert!(sources.contains(&format!("fn {test}(")), "{document}: no test is named {test}");
        }
    }
}

#[test]
fn the_scenarios_document_has_each_of_them_and_its_sources() {
    let text = read("docs/scenarios.md");
    for scenario in Scenario::ALL {
        let name = scenario.name();
        let source = scenario.source();
        let load = format!("`end_to_end_tests/{}`", source.load);
        let picture = format!("](pictures/scenario-{name}.svg)");
        for said in [&format!("| [`{name}`]("), &format!("`{}`", source.document), &load, &picture] {
            assert!(text.contains(said.as_str()), "{said}");
        }
    }
}

/// Whether a document has the heading that a link names: in lower case, with dashes for spaces, without other signs.
fn has_heading(text: &str, anchor: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|sign| sign.is_alphanumeric() || "-_".contains(*sign)).eq(anchor.chars())
    })
}

fn gather(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            gather(&entry, sources);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(entry).unwrap());
        }
    }
}
