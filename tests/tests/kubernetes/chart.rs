//! Are the files what they are made from, and do their numbers fit each other?

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tollgate_tests::harness::document::blocks;
use tollgate_tests::harness::tools::{self, helm, kubectl};

use crate::{folder, one, resources, stdout, template};

/// Every value that puts something in or changes a shape.
pub const ALL: [&str; 11] = [
    "autoscaling.enabled=true",
    "podMonitor.enabled=true",
    "tlsSecret=openai-example-com",
    "module.volume.persistentVolumeClaim.claimName=tollgate-module",
    "service.type=LoadBalancer",
    "service.annotations.a=b",
    "serviceAccount.annotations.a=b",
    "podAnnotations.a=b",
    "podLabels.azure\\.workload\\.identity/use=yes",
    "nodeSelector.a=b",
    "imagePullSecrets[0].name=registry",
];

/// The options that set them.
pub fn all() -> Vec<&'static str> {
    ALL.iter().flat_map(|value| ["--set", *value]).collect()
}

/// The files that are written, each with what is to be in it.
fn made() -> [(&'static str, String); 2] {
    let mut render = Command::new(tools::tool().unwrap());
    render.args(["render", "gateway.yaml"]).current_dir(folder().join("chart/files"));
    let envoy = stdout(&mut render);
    let mut shown = Vec::new();
    for name in ["deployment", "poddisruptionbudget", "service", "serviceaccount"] {
        shown.extend(["--show-only".to_owned(), format!("templates/{name}.yaml")]);
    }
    let shown: Vec<_> = shown.iter().map(String::as_str).collect();
    let text = template(&shown);
    // kustomize names a ConfigMap by what is in it.
    let (before, rest) = text.split_once("      annotations:\n").unwrap();
    let (annotation, after) = rest.split_once("    spec:\n").unwrap();
    assert_eq!(annotation.lines().count(), 2, "{annotation}");
    let head = "# What `helm template tollgate chart` prints, without what kustomize does itself. Written by `cargo kubernetes`.\n";
    [("chart/files/envoy.yaml", envoy), ("resources.yaml", format!("{head}{before}    spec:\n{after}"))]
}

#[test]
fn the_files_are_what_they_are_made_from() {
    if let Err(why) = helm() {
        return tools::skip("the_files_are_what_they_are_made_from", &why);
    }
    for (name, text) in made() {
        let is = fs::read_to_string(folder().join(name)).unwrap();
        assert!(is == text, "examples/kubernetes/{name} is another one than `cargo kubernetes` writes");
    }
}

/// Not a test: the way to write them.
#[test]
#[ignore = "it writes files: cargo kubernetes"]
fn written() {
    // What the second is made of has the first in it.
    for at in 0..2 {
        let (name, text) = &made()[at];
        fs::write(folder().join(name), text).unwrap();
    }
}

#[test]
fn helm_takes_the_chart_and_refuses_unknown_values() {
    let helm = match helm() {
        Ok(helm) => helm,
        Err(why) => return tools::skip("helm_takes_the_chart_and_refuses_unknown_values", &why),
    };
    for options in [vec![], all()] {
        let mut lint = Command::new(&helm);
        stdout(lint.args(["lint", "--strict", "chart"]).args(options).current_dir(folder()));
    }
    for wrong in ["replica=3", "autoscaling.enable=true", "keysSecret=", "service.type=ClusterIp"] {
        let mut template = Command::new(&helm);
        template.args(["template", "tollgate", "chart", "--set", wrong]).current_dir(folder());
        assert!(!template.output().unwrap().status.success(), "{wrong}");
    }
}

#[test]
fn the_charts_numbers_fit_those_of_envoy() {
    if let Err(why) = helm() {
        return tools::skip("the_charts_numbers_fit_those_of_envoy", &why);
    }
    let resources = resources(&template(&[]));
    let pod = &one(&resources, "Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let map = &one(&resources, "ConfigMap")["data"];
    let envoy: Value = serde_yaml_ng::from_str(map["envoy.yaml"].as_str().unwrap()).unwrap();
    let manager =
        envoy.pointer("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config").unwrap();
    let stream = manager["common_http_protocol_options"]["max_stream_duration"].as_str().unwrap();
    let stream: u64 = stream.strip_suffix('s').unwrap().parse().unwrap();
    let args: Vec<_> =
        container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let after = |name: &str| args[args.iter().position(|word| *word == name).unwrap() + 1];
    let drain = after("--drain-time-s");
    let command = &container["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(*command, json!(["bash", "/etc/tollgate/config/drain.sh", drain]));
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(
        grace > drain.parse::<u64>().unwrap() + stream,
        "{grace} s are too few for {drain} s and {stream} s"
    );
    let heap =
        envoy.pointer("/overload_manager/resource_monitors/0/typed_config/max_heap_size_bytes").unwrap();
    assert_eq!((heap.as_u64(), &container["resources"]["limits"]["memory"]), (Some(2 << 30), &json!("3Gi")));
    assert_eq!(container["resources"]["requests"]["cpu"], after("--concurrency"));
    // Where the parts meet: ports, files, the name of a statistic.
    let listens = &envoy["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"];
    assert_eq!(container["ports"][0]["containerPort"], *listens);
    let beside: Value = serde_yaml_ng::from_str(after("--config-yaml")).unwrap();
    let beside = &beside["static_resources"];
    let metrics = &beside["listeners"][0]["address"]["socket_address"]["port_value"];
    assert_eq!(container["ports"][1]["containerPort"], *metrics);
    let admin = &envoy["admin"]["address"]["socket_address"];
    let leads = beside
        .pointer("/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
    assert_eq!(leads, Some(admin));
    let script = map["drain.sh"].as_str().unwrap();
    let place = format!("/dev/tcp/{}/{}", admin["address"].as_str().unwrap(), admin["port_value"]);
    assert!(script.contains(&place), "{place}");
    assert!(script.contains(&format!("http.{}.", manager["stat_prefix"].as_str().unwrap())));
    for probe in ["startupProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"], json!({ "path": "/ready", "port": "metrics" }));
    }
    // A number that an autoscaler has is nobody else's.
    let scaled = crate::resources(&template(&["--set", "autoscaling.enabled=true"]));
    assert!(one(&scaled, "Deployment")["spec"].get("replicas").is_none());
}

/// The README's overlay, in a folder beside a copy of this one.
#[test]
fn the_readmes_overlay_has_its_own_configuration() {
    let kubectl = match kubectl() {
        Ok(kubectl) => kubectl,
        Err(why) => return tools::skip("the_readmes_overlay_has_its_own_configuration", &why),
    };
    let dir = tempfile::tempdir().unwrap();
    stdout(Command::new("cp").arg("-r").arg(folder()).arg(dir.path()));
    let mine = dir.path().join("mine");
    fs::create_dir(&mine).unwrap();
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let [overlay] = &blocks(&readme, "yaml")[..] else { panic!("not one overlay") };
    fs::write(mine.join("kustomization.yaml"), overlay).unwrap();
    let build = |envoy: &str| {
        fs::write(mine.join("envoy.yaml"), envoy).unwrap();
        resources(&stdout(Command::new(&kubectl).arg("kustomize").arg(&mine)))
    };
    let (first, second) = (build("first: 1\n"), build("second: 2\n"));
    assert_eq!(one(&first, "ConfigMap")["data"]["envoy.yaml"], "first: 1\n");
    assert!(one(&first, "ConfigMap")["data"]["drain.sh"].is_string());
    let volume = |built: &[Value]| {
        one(built, "Deployment")["spec"]["template"]["spec"]["volumes"][0]["configMap"].clone()
    };
    assert_eq!(volume(&first)["name"], one(&first, "ConfigMap")["metadata"]["name"]);
    assert_ne!(volume(&first), volume(&second), "pods go on with the old configuration");
    let module = &one(&first, "Deployment")["spec"]["template"]["spec"]["volumes"][1]["image"]["reference"];
    assert!(overlay.contains(module.as_str().unwrap()), "{module}");
}
