//! Does Kubernetes get what it takes, by Helm and by kustomize, and does such a pod serve and end as it should?
//!
//! Helm and kustomize are the real ones. There is no cluster: whether Kubernetes takes a resource is read from its own schemas, with
//! no word in it that they do not know.

mod chart;
mod pod;
mod schemas;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tollgate_tests::harness::tools::{helm, workspace};

/// The folder of it all.
fn folder() -> PathBuf {
    workspace().join("examples/kubernetes")
}

/// What a command prints, if it succeeds.
#[track_caller]
fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What Helm makes of the chart with these options.
#[track_caller]
fn template(options: &[&str]) -> String {
    stdout(
        Command::new(helm().unwrap())
            .args(["template", "tollgate", "chart"])
            .args(options)
            .current_dir(folder()),
    )
}

/// The resources in a text.
fn resources(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let documents = documents.map(|document| serde::Deserialize::deserialize(document).unwrap());
    documents.filter(|resource: &Value| !resource.is_null()).collect()
}

/// The one of this kind.
#[track_caller]
fn one<'a>(resources: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = resources.iter().filter(|resource| resource["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}
