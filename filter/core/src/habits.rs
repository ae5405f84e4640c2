//! The habits of the sources, which no compiler holds.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest name of a test, in characters: it is a line in a report, and a sentence that is read once.
const NAME_CHARS_MAX: usize = 60;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Rust sources at or below a path of the repository.
fn sources(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        return entries
            .filter(|inner| !inner.ends_with("target"))
            .flat_map(|inner| sources(&inner))
            .collect();
    }
    let is_source = path.extension().is_some_and(|extension| extension == "rs");
    if is_source { vec![(path.to_owned(), fs::read_to_string(path).unwrap())] } else { Vec::new() }
}

/// The names of the tests in a source: of each function below an attribute that makes it one.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    let attributes = ["#[test]\n", "#[tokio::test"];
    let below = attributes.into_iter().flat_map(|attribute| source.split(attribute).skip(1));
    below.filter_map(|below| {
        let name = below.split_once("fn ")?.1;
        name.split_once(|c: char| !c.is_alphanumeric() && c != '_').map(|(name, _)| name)
    })
}

#[test]
fn a_test_has_a_name_of_at_most_60_characters() {
    let sources: Vec<_> = ["filter", "tests"].iter().flat_map(|part| sources(&root().join(part))).collect();
    let named: Vec<_> =
        sources.iter().flat_map(|(path, source)| tests(source).map(move |name| (path, name))).collect();
    assert!(named.len() > 1000, "only {} tests were found", named.len());
    let long: Vec<_> = named.iter().filter(|(_, name)| name.len() > NAME_CHARS_MAX).collect();
    assert!(long.is_empty(), "longer than {NAME_CHARS_MAX}: {long:#?}");
}

/// The codes of the table of refusals.
fn codes(table: &str) -> Vec<&str> {
    let rows = table.split("fn row(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    rows.split("row(").skip(1).filter_map(|row| row.split('"').nth(1)).collect()
}

#[test]
fn each_refusal_is_seen_by_a_test_of_an_exchange() {
    let table = fs::read_to_string(root().join("filter/core/src/words/denial/row.rs")).unwrap();
    let places = [
        "filter/core/src/order/exchange/tests",
        "filter/core/src/order/exchange/tests.rs",
        "tests/tests/e2e",
    ];
    let tests: String =
        places.iter().flat_map(|place| sources(&root().join(place))).map(|(_, source)| source).collect();
    let words: Vec<_> = tests.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let codes = codes(&table);
    assert!(codes.len() > 40, "only {} codes were found", codes.len());
    for code in codes {
        assert!(words.contains(&code), "no test of an exchange has seen {code}");
    }
}

/// What of a source comes before its tests, which stand last.
fn product(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod ").next().unwrap()
}

#[test]
fn the_shipped_module_sorts_in_one_place() {
    let sources: Vec<_> =
        ["filter/core/src", "filter/src"].iter().flat_map(|part| sources(&root().join(part))).collect();
    let is_of_tests =
        |path: &Path| path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let sorting: Vec<_> = sources
        .iter()
        .filter(|(path, source)| !is_of_tests(path) && product(source).contains(".sort"))
        .map(|(path, _)| path.strip_prefix(root()).unwrap())
        .filter(|path| !path.ends_with("layers.rs") && !path.ends_with("habits.rs"))
        .collect();
    assert_eq!(sorting, [Path::new("filter/core/src/words/sorting.rs")]);
}
