//! Where in a file is the gateway's configuration?

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use tollgate::config::{self, ConfigError};
use tollgate::gateway::Gateway;

/// How deep one text may stand in another, and one file mount another.
const DEPTH_MAX: u32 = 4;

/// A gateway configuration, and where it was found.
pub(crate) struct Found {
    /// The file, with the path inside it unless it is all there is.
    pub(crate) place: String,
    pub(crate) value: Value,
    /// Why it could not even be read; then there is no value.
    unread: Option<ConfigError>,
    /// The documents around it, in a list; null where it stands alone.
    pub(crate) around: Value,
}

/// A gateway configuration that has been loaded, or its faults.
pub(crate) struct Loaded {
    pub(crate) gateway: Result<Gateway, Vec<ConfigError>>,
    /// Variables of the environment that it reads and that are not set here.
    pub(crate) unset: Vec<String>,
    /// All that it reads.
    pub(crate) variables: BTreeSet<String>,
}

impl Found {
    fn alone(place: String, value: Value) -> Self {
        Self { place, value, unread: None, around: Value::Null }
    }

    /// Loads it. What a variable holds is not looked at: a stand-in takes its place.
    pub(crate) fn load(&self) -> Loaded {
        // Long enough for any secret that there is.
        const STAND_IN: &str = "stand-in-for-a-secret-that-is-not-needed-to-check-a-configuration";
        let read = std::cell::RefCell::new(BTreeSet::new());
        let env = |name: &str| {
            read.borrow_mut().insert(name.to_owned());
            Some(STAND_IN.to_owned())
        };
        let gateway = match &self.unread {
            Some(unread) => Err(vec![unread.clone()]),
            None => config::from_value(self.value.clone(), &env),
        };
        let variables = read.into_inner();
        let unset = variables.iter().filter(|name| std::env::var_os(name).is_none()).cloned().collect();
        Loaded { gateway, unset, variables }
    }
}

/// All configurations in a file; `-` is standard input.
pub(crate) fn find(file: &str) -> Result<Vec<Found>, String> {
    let mut search = Search { found: Vec::new(), unread: Vec::new() };
    search.file(file, 0)?;
    if search.found.is_empty() {
        let unread: String = search.unread.iter().map(|problem| format!("; {problem}")).collect();
        return Err(format!(
            "{file} has no gateway configuration: expected clients, models and backends, or a Wasm filter with \
             root_id: gateway and a configuration{unread}"
        ));
    }
    Ok(search.found)
}

/// The bytes of a file; `-` is standard input.
pub(crate) fn bytes(file: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => io::stdin().read_to_end(&mut bytes).map(|_| bytes),
        _ => fs::read(file),
    };
    read.map_err(|error| format!("{file} cannot be read: {error}"))
}

/// The text of a file; `-` is standard input.
pub(crate) fn text(file: &str) -> Result<String, String> {
    String::from_utf8(bytes(file)?).map_err(|error| format!("{file} is not text: {}", error.utf8_error()))
}

struct Search {
    found: Vec<Found>,
    /// Why the texts inside of it that are not YAML are none, and files that it mounts.
    unread: Vec<String>,
}

impl Search {
    fn file(&mut self, shown: &str, depth: u32) -> Result<(), String> {
        let documents =
            documents(&text(shown)?).map_err(|problem| format!("{shown} is not YAML: {problem}"))?;
        let around = Value::Array(documents.clone());
        for document in documents {
            let before = self.found.len();
            self.value(&document, &around, shown, "", depth);
            self.mounts(&document, Path::new(shown), depth);
            if self.found.len() == before && is_gateway(&document) {
                self.found.push(Found::alone(shown.to_owned(), document));
            }
        }
        Ok(())
    }

    /// Looks for Wasm filters of the role that has a configuration, and into texts that may have some.
    fn value(&mut self, value: &Value, around: &Value, shown: &str, at: &str, depth: u32) {
        match value {
            Value::Object(members) => {
                if let (Some("gateway"), Some(configuration)) =
                    (members.get("root_id").and_then(Value::as_str), members.get("configuration"))
                {
                    let (value, unread) = match configuration.get("value").unwrap_or(configuration) {
                        Value::String(text) => match json(text) {
                            Ok(value) => (value, None),
                            Err(unread) => (Value::Null, Some(unread)),
                        },
                        value => (value.clone(), None),
                    };
                    let place = format!("{shown} at {at}.configuration");
                    self.found.push(Found { place, value, unread, around: around.clone() });
                    return;
                }
                for (name, member) in members {
                    let dot = if at.is_empty() { "" } else { "." };
                    self.value(member, around, shown, &format!("{at}{dot}{name}"), depth);
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.value(value, around, shown, &format!("{at}[{index}]"), depth);
                }
            }
            Value::String(text) if depth < DEPTH_MAX && text.contains('\n') => {
                self.text(text, shown, at, depth);
            }
            _ => {}
        }
    }

    /// A text inside of a document: a file of a ConfigMap, the `content` of a config of Compose.
    fn text(&mut self, text: &str, shown: &str, at: &str, depth: u32) {
        let place = format!("{shown} at {at}");
        let documents = documents(text).unwrap_or_else(|problem| {
            self.unread.push(format!("{place} is not YAML: {problem}"));
            Vec::new()
        });
        let around = Value::Array(documents.clone());
        for document in documents {
            let before = self.found.len();
            self.value(&document, &around, &place, "", depth + 1);
            if self.found.len() == before && is_gateway(&document) {
                self.found.push(Found::alone(place.clone(), document));
            }
        }
    }

    /// What a Compose file mounts beside it. A file that is not there, or is something else, is none of ours.
    fn mounts(&mut self, document: &Value, file: &Path, depth: u32) {
        if depth >= DEPTH_MAX || document.get("services").is_none() {
            return;
        }
        let mut sources = BTreeSet::new();
        for service in members(&document["services"]) {
            for volume in service["volumes"].as_array().into_iter().flatten() {
                let short = volume.as_str().and_then(|volume| volume.split(':').next());
                sources.extend(short.or_else(|| volume["source"].as_str()));
            }
        }
        sources.extend(members(&document["configs"]).filter_map(|config| config["file"].as_str()));
        for source in sources {
            let is_readable = [".yaml", ".yml", ".json"].iter().any(|end| source.ends_with(end));
            let path = file.parent().unwrap_or(Path::new("")).join(source);
            if is_readable && path.is_file() {
                let read = self.file(&path.display().to_string(), depth + 1);
                self.unread.extend(read.err());
            }
        }
    }
}

fn members(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_object().into_iter().flatten().map(|(_, member)| member)
}

/// The value of a `StringValue`, which Envoy hands over as it is.
fn json(text: &str) -> Result<Value, ConfigError> {
    let problem = |problem| ConfigError { path: "configuration".to_owned(), problem };
    let value =
        serde_json::from_str(text).map_err(|error| problem(format!("a text that is not JSON: {error}")))?;
    documents(text).map_err(|error| problem(error.to_string()))?;
    Ok(value)
}

/// Every document of a text. A name that stands twice is a fault: Envoy takes the last without a word, and what was written first
/// does not hold.
fn documents(text: &str) -> Result<Vec<Value>, serde_yaml_ng::Error> {
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        serde_yaml_ng::Value::deserialize(document)?;
    }
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
    documents.filter(|document| !matches!(document, Ok(Value::Null))).collect()
}

/// Whether it looks like one, so that its faults are told and not that it is none.
fn is_gateway(value: &Value) -> bool {
    ["clients", "models", "backends"].iter().filter(|name| value.get(name).is_some()).count() >= 2
}
