//! How does an Envoy that runs get another configuration? From files that are moved to where the old ones are.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bootstrap::Bootstrap;
use super::envoy::RunDir;

/// What the example shows of it.
const EXAMPLE: &str = "examples/file-xds/bootstrap.yaml";

/// The files, each with the type of what is in it.
const FILES: [(&str, &str, &str); 2] = [
    ("listeners", "lds_config", "type.googleapis.com/envoy.config.listener.v3.Listener"),
    ("clusters", "cds_config", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
];

/// Takes listeners and clusters out into files of the run; what is left says where they are.
pub(super) fn take_out(whole: &Bootstrap, dir: &RunDir) -> Result<Value> {
    put_in_place(whole, dir)?;
    let mut rest = whole.value().clone();
    let rest_of = rest.as_object_mut().context("envoy.yaml is no object")?;
    rest_of.remove("static_resources");
    let example = Bootstrap::load_from(EXAMPLE)?;
    for (name, value) in example.value().as_object().context("the example is no object")? {
        rest_of.insert(name.clone(), value.clone());
    }
    for (name, config, _) in FILES {
        rest["dynamic_resources"][config]["path_config_source"]["path"] =
            json!(dir.file(&format!("{name}.json")));
    }
    Ok(rest)
}

/// Writes each file whole beside its place and moves it there, if there is anything new in it.
pub(super) fn put_in_place(whole: &Bootstrap, dir: &RunDir) -> Result<()> {
    for (name, _, kind) in FILES {
        let mut resources = whole.value()["static_resources"][name].clone();
        for resource in resources.as_array_mut().into_iter().flatten() {
            resource["@type"] = json!(kind);
        }
        let text = serde_json::to_vec_pretty(&json!({ "resources": resources }))?;
        let place = dir.file(&format!("{name}.json"));
        if fs::read(&place).is_ok_and(|there| there == text) {
            continue;
        }
        let beside = dir.file(&format!("{name}.new"));
        fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
        fs::rename(&beside, &place).with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(())
}
