//! What is in the module? A bill of materials, as [CycloneDX] 1.5 has it.
//!
//! Its packages are those that cargo has compiled for the module's own target, by its own word: what only helps to compile,
//! procedural macros and build scripts, is not in it.
//!
//! [CycloneDX]: https://cyclonedx.org/docs/1.5/json/

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{VERSION, sha256};
use crate::harness::tools::{Build, Source};

/// The bill, as JSON.
pub(super) fn of_materials(source: &Source, module: &Build, wasm: &[u8]) -> Result<Vec<u8>> {
    let (metadata, lock, compiler) = (source.metadata()?, source.lock_file()?, source.compiler()?);
    let is_in = |id: &Value| id.as_str().is_some_and(|id| module.packages.contains(id));
    let mut components = Vec::new();
    let mut names = Map::new();
    for package in list(&metadata["packages"]).filter(|package| is_in(&package["id"])) {
        let (name, version) = (text(&package["name"])?, text(&package["version"])?);
        let reference = format!("pkg:cargo/{name}@{version}");
        names.insert(text(&package["id"])?.to_owned(), json!(reference));
        let mut component = json!({
            "type": "library",
            "bom-ref": reference,
            "name": name,
            "version": version,
            "purl": reference,
        });
        if let Some(license) = package["license"].as_str() {
            // An older spelling that crates.io still takes.
            component["licenses"] = json!([ { "expression": license.replace('/', " OR ") } ]);
        }
        if let Some(sum) = checksum(&lock, name, version) {
            component["hashes"] = json!([ { "alg": "SHA-256", "content": sum } ]);
        }
        components.push(component);
    }
    // Linked into every Rust program, and in no lock file.
    components.push(json!({
        "type": "library",
        "bom-ref": "rust-std",
        "name": "rust-std",
        "version": compiler,
        "licenses": [ { "expression": "MIT OR Apache-2.0" } ],
    }));
    components.sort_by_key(|component| component["bom-ref"].to_string());

    let mut dependencies = Vec::new();
    for node in list(&metadata["resolve"]["nodes"]).filter(|node| is_in(&node["id"])) {
        let mut needs: Vec<_> =
            list(&node["dependencies"]).filter_map(|id| names.get(id.as_str()?)).cloned().collect();
        needs.sort_by_key(Value::to_string);
        dependencies.push(json!({ "ref": names.get(text(&node["id"])?), "dependsOn": needs }));
    }
    dependencies.sort_by_key(|dependency| dependency["ref"].to_string());

    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "tollgate.wasm",
                "name": "tollgate.wasm",
                "version": VERSION,
                "licenses": [ { "expression": "Apache-2.0" } ],
                "hashes": [ { "alg": "SHA-256", "content": sha256(wasm) } ],
            },
            "tools": { "components": [ { "type": "application", "name": "rustc", "version": compiler } ] },
        },
        "components": components,
        "dependencies": dependencies,
    });
    let mut bytes = serde_json::to_vec_pretty(&bill)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("cargo metadata has another shape than expected")
}

/// A package's, in the lock file; those of the workspace have none.
fn checksum<'a>(lock: &'a str, name: &str, version: &str) -> Option<&'a str> {
    let head = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let entry = lock.split("[[package]]\n").find(|entry| entry.starts_with(&head))?;
    entry.split_once("checksum = \"")?.1.split('"').next()
}
