//! Does the tool say of a document with clients what Envoys would?

mod common;

use common::{root, run};
use serde_json::{Value, json};
use std::fs;

fn client(name: &str, digit: &str, model: &str) -> Value {
    json!({ "name": name, "models": [model], "api_keys": [{ "sha256": digit.repeat(64) }] })
}

/// The end, and all that is said, of a check of these clients beside the example with this directory.
fn check(directory: &str, clients: &[Value]) -> (i32, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let example = fs::read_to_string(root().join("examples/ptu-first/gateway.yaml")).unwrap();
    fs::write(file.path(), example + directory).unwrap();
    let path = file.path().to_str().unwrap();
    let document = json!({ "clients": clients }).to_string();
    let (code, printed, told) = run(&["clients", "check", "-", "--config", path], &document);
    (code, printed + &told)
}

const DOCUMENT: &str =
    "directory: { document: { cluster: c, host: clients.internal, path: /clients.json } }\n";

#[test]
fn a_document_is_checked_as_envoys_would_read_it() {
    let blue = client("blue", "5", "gpt-4o");
    assert_eq!(check(DOCUMENT, std::slice::from_ref(&blue)), (0, "-: ok: 1 client\n".to_owned()));
    assert_eq!(check(DOCUMENT, &[]), (0, "-: ok: 0 clients\n".to_owned()));
    let (code, said) = check(DOCUMENT, &[blue.clone(), client("team", "6", "gpt-99")]);
    let expected = [
        "error: clients[1].name: \"team\" is a client of the configuration",
        "error: clients[1].models[0]: no model is named \"gpt-99\": expected one of ",
    ];
    assert!(code == 1 && said.lines().zip(expected).all(|(line, start)| line.starts_with(start)), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    let (code, said) = check("", &[blue]);
    assert!(code == 2 && said.contains("--config: it has no directory.document"), "{said}");
}

#[test]
fn a_document_is_checked_alone_as_far_as_that_goes() {
    let clients = [client("blue", "5", "gpt-99"), client("green", "5", "gpt-4o")];
    let document = json!({ "clients": clients }).to_string();
    let told = "error: clients[1].api_keys[0].sha256: is a key of client \"blue\" already\n";
    assert_eq!(run(&["clients", "check", "-"], &document), (1, told.to_owned(), String::new()));
    let (code, printed, _) = run(&["clients", "check", "-"], "{}");
    assert_eq!((code, printed.as_str()), (1, "error: document: missing field \"clients\"\n"));
}

#[test]
fn the_document_that_is_shown_is_one_that_envoys_take() {
    let page = fs::read_to_string(root().join("docs/directory.md")).unwrap();
    let section = page.split("## Clients in a document").nth(1).unwrap();
    let block =
        |word: &str| section.split(&format!("```{word}\n")).nth(1).unwrap().split("```").next().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), block("yaml")).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, printed, told) = run(&["clients", "check", "-", "--config", path], block("json"));
    assert_eq!((code, printed.as_str()), (0, "-: ok: 1 client\n"), "{told}");
}
