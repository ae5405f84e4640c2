//! The layers hold: a file uses only modules of its own layer and of those below it. The folders are the layers; the files
//! of the filter, which have no folders, stand in their order on the map.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest.
const LAYERS: [&str; 4] = ["words", "decisions", "assembly", "order"];

/// A module at the top of a layer, with all that is in it.
struct Module {
    layer: usize,
    /// Without their tests: each file's path and source.
    sources: Vec<(PathBuf, String)>,
}

fn crate_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// What of a source is built into the product.
fn product(source: &str) -> String {
    source.split("#[cfg(test)]").next().unwrap().to_owned()
}

/// All sources at or below a path but those of tests.
fn sources(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_dir() {
        return files(path).iter().flat_map(|inner| sources(inner)).collect();
    }
    let is_of_tests = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs");
    if is_of_tests || path.extension().is_none_or(|extension| extension != "rs") {
        return Vec::new();
    }
    vec![(path.to_owned(), product(&fs::read_to_string(path).unwrap()))]
}

fn modules() -> BTreeMap<String, Module> {
    let mut modules = BTreeMap::new();
    for (layer, name) in LAYERS.iter().enumerate() {
        for path in files(&crate_root().join("src").join(name)) {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let module = modules.entry(name).or_insert(Module { layer, sources: Vec::new() });
            assert_eq!(module.layer, layer, "{} is in two layers", path.display());
            module.sources.extend(sources(&path));
        }
    }
    modules
}

/// The modules of its own crate that a source names.
fn used(source: &str) -> Vec<&str> {
    let name = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let named = source.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
        // A list of modules.
        Some(list) => list.split_once("};").unwrap().0.split(", ").map(str::trim).collect(),
        None => vec![rest],
    });
    named.map(|rest| &rest[..name(rest)]).collect()
}

#[test]
fn each_module_uses_only_what_is_below_it() {
    let modules = modules();
    for (name, module) in &modules {
        for (path, source) in &module.sources {
            for used in used(source) {
                let path = path.display();
                let other =
                    modules.get(used).unwrap_or_else(|| panic!("{path} uses {used}, which is no module"));
                assert!(other.layer <= module.layer, "{path} uses {used}, which is above it");
                let is_decision = LAYERS[module.layer] == "decisions" && other.layer == module.layer;
                assert!(!is_decision || used == name, "{path} uses {used}: decisions do not know each other");
            }
        }
    }
}

#[test]
fn every_file_is_in_a_layer() {
    let outside = ["habits.rs", "layers.rs", "lib.rs"].map(str::to_owned).into_iter();
    let expected: Vec<String> =
        LAYERS.iter().flat_map(|layer| [(*layer).to_owned(), format!("{layer}.rs")]).chain(outside).collect();
    for path in files(&crate_root().join("src")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(expected.contains(&name), "{name} is in no layer");
    }
}

/// The line of a layer on the map, with those that continue it.
fn on_the_map<'d>(document: &'d str, layer: &str) -> Vec<&'d str> {
    let begins = format!("  {layer}.rs ");
    let mut lines = document.lines().skip_while(|line| !line.starts_with(&begins));
    let first = lines.next().unwrap_or_else(|| panic!("{layer} is not on the map"));
    let more = lines.take_while(|line| line.starts_with("      "));
    [first].into_iter().chain(more).flat_map(|line| line.split(|c: char| !c.is_alphanumeric())).collect()
}

#[test]
fn the_map_lists_the_modules_of_each_layer() {
    let document = fs::read_to_string(crate_root().join("../../ARCHITECTURE.md")).unwrap();
    for (name, module) in modules() {
        let layer = LAYERS[module.layer];
        assert!(
            on_the_map(&document, layer).contains(&name.as_str()),
            "{name} is not on the map's line of {layer}"
        );
    }
}

/// What the map lists of the filter, from the highest to the lowest.
fn filter_on_the_map(document: &str) -> Vec<&str> {
    let files = document.lines().filter_map(|line| line.strip_prefix("  src/"));
    files.map(|line| line.split_once(".rs").unwrap().0).collect()
}

#[test]
fn a_file_of_the_filter_uses_only_those_below_it_on_the_map() {
    let root = crate_root().join("..");
    let document = fs::read_to_string(root.join("../ARCHITECTURE.md")).unwrap();
    let order = filter_on_the_map(&document);
    for path in files(&root.join("src")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "lib" {
            continue;
        }
        let at = order.iter().position(|other| *other == name);
        let at = at.unwrap_or_else(|| panic!("{name} is not on the map"));
        let source = product(&fs::read_to_string(&path).unwrap());
        for used in used(&source) {
            assert!(order[at + 1..].contains(&used), "{name} uses {used}, which is not below it on the map");
        }
    }
}

/// What the table of a request names, as `Type::function`, `module::function` or `Enum::Variant`.
fn in_the_table(document: &str) -> Vec<(&str, &str)> {
    let table = document.split("## One request").nth(1).unwrap().split("```").nth(1).unwrap();
    let words = table.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    words.filter_map(|word| word.trim_end_matches(':').split_once("::")).collect()
}

#[test]
fn what_the_table_of_a_request_names_is_there() {
    let document = fs::read_to_string(crate_root().join("../../ARCHITECTURE.md")).unwrap();
    let sources: Vec<_> = modules().into_values().flat_map(|module| module.sources).collect();
    let named = in_the_table(&document);
    assert!(named.contains(&("Exchange", "finish")) && named.contains(&("Step", "Wait")), "{named:?}");
    for (owner, name) in named {
        let is_there = sources.iter().any(|(path, source)| {
            let has = |begins: &[&str]| begins.iter().any(|begins| source.contains(begins));
            let owns =
                has(&[&format!("impl {owner} {{"), &format!("impl {owner}<"), &format!("enum {owner} {{")])
                    || path.file_stem().is_some_and(|stem| stem == owner);
            owns && has(&[&format!("fn {name}("), &format!("fn {name}<")])
                || has(&[&format!("enum {owner} {{")])
                    && has(&[&format!("    {name},"), &format!("    {name}("), &format!("    {name} {{")])
        });
        assert!(is_there, "the table names {owner}::{name}, which is not there");
    }
}

#[test]
fn the_decisions_know_no_serde_but_to_read_answers_and_tokens() {
    for (name, module) in modules().iter().filter(|(_, module)| LAYERS[module.layer] == "decisions") {
        for (path, source) in &module.sources {
            let reads = matches!(name.as_str(), "usage" | "identity" | "pinning" | "access");
            assert!(reads || !source.contains("serde"), "{} knows serde", path.display());
        }
    }
}
