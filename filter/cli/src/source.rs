//! Where in a file is the gateway's configuration?

use crate::lines::{Lines, Misread};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::rc::Rc;
use tollgate::config::{self, ConfigError};
use tollgate::gateway::Gateway;

/// How deep one text may stand in another, and one file mount another.
const DEPTH_MAX: u32 = 4;

/// A gateway configuration, and where it was found.
pub(crate) struct Found {
    /// The file, with the line where it begins unless it is all there is.
    pub(crate) place: String,
    /// The file alone.
    file: String,
    lines: Rc<Lines>,
    /// The path of it among the lines.
    root: String,
    pub(crate) value: Value,
    /// Why it could not even be read; then there is no value.
    unread: Option<ConfigError>,
    /// The documents around it, in a list; null where it stands alone.
    pub(crate) around: Value,
    /// What stood beside it for `render`, which the filter never sees.
    pub(crate) envoy: Option<Value>,
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
    /// The file and the line of what a path in it leads to.
    pub(crate) fn at(&self, path: &str) -> String {
        let dot = if self.root.is_empty() || path.is_empty() || path.starts_with('[') { "" } else { "." };
        match self.lines.of(&format!("{}{dot}{path}", self.root)) {
            Some(line) => format!("{}:{line}", self.file),
            None => self.place.clone(),
        }
    }

    /// Without the `record` that nobody wrote, for what has another access log.
    pub(crate) fn forget_line(&mut self) {
        if self.lines.of("record").is_none()
            && let Some(members) = self.value.as_object_mut()
        {
            members.remove("record");
        }
    }

    /// What in it Envoy reads otherwise than it looks, by its path in it.
    pub(crate) fn misread(&self) -> impl Iterator<Item = (&str, &Misread)> {
        self.lines.misread.iter().filter_map(|misread| {
            let path = misread.path.strip_prefix(&self.root)?;
            Some((path.strip_prefix('.').unwrap_or(path), misread))
        })
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
    find_in(&text(file)?, file)
}

/// All configurations in the text of a file.
pub(crate) fn find_in(text: &str, file: &str) -> Result<Vec<Found>, String> {
    let mut search = Search { found: Vec::new(), unread: Vec::new() };
    search.file(text, file, 0)?;
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

/// A file as it is read, for what may be long; `-` is standard input.
pub(crate) fn reader(file: &str) -> Result<Box<dyn BufRead>, String> {
    match file {
        "-" => Ok(Box::new(io::stdin().lock())),
        _ => match fs::File::open(file) {
            Ok(file) => Ok(Box::new(io::BufReader::new(file))),
            Err(error) => Err(format!("{file} cannot be read: {error}")),
        },
    }
}

/// The text of a file; `-` is standard input.
pub(crate) fn text(file: &str) -> Result<String, String> {
    String::from_utf8(bytes(file)?).map_err(|error| format!("{file} is not text: {}", error.utf8_error()))
}

/// Where a document stands that is searched.
struct Within<'a> {
    file: &'a str,
    lines: &'a Rc<Lines>,
    /// It, and the other documents beside it.
    around: &'a Value,
}

struct Search {
    found: Vec<Found>,
    /// Why the texts inside of it that are not YAML are none, and files that it mounts.
    unread: Vec<String>,
}

impl Search {
    fn file(&mut self, text: &str, shown: &str, depth: u32) -> Result<(), String> {
        let documents = documents(text).map_err(|problem| format!("{shown} is not YAML: {problem}"))?;
        self.documents(&documents, shown, Lines::read(text, 1), depth);
        for document in &documents {
            self.mounts(document, Path::new(shown), depth);
        }
        Ok(())
    }

    fn documents(&mut self, documents: &[Value], file: &str, lines: Vec<Lines>, depth: u32) {
        let around = Value::Array(documents.to_vec());
        let mut lines = lines.into_iter();
        for document in documents {
            let before = self.found.len();
            let lines = Rc::new(lines.next().unwrap_or_default());
            let within = Within { file, lines: &lines, around: &around };
            self.value(document, &within, "", depth);
            if self.found.len() == before && is_gateway(document) {
                // Alone in a file it needs no line.
                let line = lines.of("").filter(|_| depth > 0 || documents.len() > 1);
                let place = line.map_or(file.to_owned(), |line| format!("{file}:{line}"));
                let (file, root) = (file.to_owned(), String::new());
                let (value, envoy) = apart(document.clone());
                let (unread, around) = (None, Value::Null);
                self.found.push(Found { place, file, lines, root, value, unread, around, envoy });
            }
        }
    }

    /// Looks for Wasm filters of the role that has a configuration, and into texts that may have some.
    fn value(&mut self, value: &Value, within: &Within<'_>, at: &str, depth: u32) {
        match value {
            Value::Object(members) => {
                if let (Some("gateway"), Some(configuration)) =
                    (members.get("root_id").and_then(Value::as_str), members.get("configuration"))
                {
                    let inner = configuration.get("value");
                    let (value, unread) = match inner.unwrap_or(configuration) {
                        Value::String(text) => match json(text) {
                            Ok(value) => (value, None),
                            Err(unread) => (Value::Null, Some(unread)),
                        },
                        value => (value.clone(), None),
                    };
                    let dot = if at.is_empty() { "" } else { "." };
                    let root =
                        format!("{at}{dot}configuration{}", if inner.is_some() { ".value" } else { "" });
                    let (file, lines) = (within.file.to_owned(), Rc::clone(within.lines));
                    let place = lines.of(&root).map_or(file.clone(), |line| format!("{file}:{line}"));
                    let around = within.around.clone();
                    // A text has lines of its own.
                    let inside = match inner.unwrap_or(configuration) {
                        Value::String(text) if unread.is_none() => {
                            lines.inside(&root, text).into_iter().next()
                        }
                        _ => None,
                    };
                    let (lines, root) =
                        inside.map_or((lines, root), |inside| (Rc::new(inside), String::new()));
                    self.found.push(Found { place, file, lines, root, value, unread, around, envoy: None });
                    return;
                }
                for (name, member) in members {
                    let dot = if at.is_empty() { "" } else { "." };
                    self.value(member, within, &format!("{at}{dot}{name}"), depth);
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.value(value, within, &format!("{at}[{index}]"), depth);
                }
            }
            Value::String(text) if depth < DEPTH_MAX && text.contains('\n') => {
                self.text(text, within, at, depth);
            }
            _ => {}
        }
    }

    /// A text inside of a document: a file of a ConfigMap, the `content` of a config of Compose.
    fn text(&mut self, text: &str, within: &Within<'_>, at: &str, depth: u32) {
        let first = within.lines.of(at).unwrap_or(1);
        match documents(text) {
            Ok(documents) => {
                self.documents(&documents, within.file, within.lines.inside(at, text), depth + 1);
            }
            Err(problem) => {
                let place = format!("the text at {}:{first}", within.file);
                self.unread.push(format!("{place} is not YAML: {problem}"));
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
                let shown = path.display().to_string();
                let read = text(&shown).and_then(|text| self.file(&text, &shown, depth + 1));
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

/// A gateway's configuration as `render` gives it to the filter, and the part beside it that is for Envoy.
fn apart(mut document: Value) -> (Value, Option<Value>) {
    let Some(members) = document.as_object_mut() else { return (document, None) };
    let envoy = members.remove("envoy");
    if envoy.is_some() {
        // As the access log of the file that is rendered reads it.
        members.entry("record").or_insert(Value::from("line"));
    }
    (document, envoy)
}

/// Whether it looks like one, so that its faults are told and not that it is none.
fn is_gateway(value: &Value) -> bool {
    ["clients", "models", "backends"].iter().filter(|name| value.get(name).is_some()).count() >= 2
}
