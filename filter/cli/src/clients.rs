//! Which clients stand in the store, beside the configuration, and how does an operator add and remove them while the gateway runs?
//! Is a document with clients one that Envoys take?
//!
//! An entry is what `clients[]` of the configuration has. It is checked by what Envoys will read it with, before it is written.

use crate::arguments::ClientAct;
use crate::paint::{Look, paint, plain, print, print_json};
use crate::store::Store;
use crate::{End, check};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, Read};
use tollgate::config::check_document;
use tollgate::gateway::{Gateway, client_table};
use tollgate::store::MemoryStore;

/// A client of the store.
struct Stored {
    name: String,
    text: String,
    /// Why no Envoy uses it, as far as the configuration tells.
    problems: Vec<String>,
}

/// Does what an operator wants done.
pub(crate) fn clients(act: &ClientAct) -> Result<End, String> {
    match act {
        ClientAct::Put { address, config, file } => {
            let gateway = match check::one(config)? {
                Ok(gateway) => gateway,
                Err(end) => return Ok(end),
            };
            let entries = entries(file)?;
            let problems: Vec<_> = entries
                .iter()
                .flat_map(|(name, text)| problems(&gateway, name, text))
                .map(|problem| format!("{}: {problem}\n", paint(Look::Bad, "error")))
                .collect();
            if !problems.is_empty() {
                print(&problems.concat());
                return Ok(End::Found);
            }
            Store::of(address, Some(&gateway))?.put(&entries)?;
            print(&entries.keys().map(|name| format!("{name} is put\n")).collect::<String>());
            Ok(End::Well)
        }
        ClientAct::Check { config, file } => {
            let gateway = match config.as_deref().map(check::one).transpose()? {
                Some(Err(end)) => return Ok(end),
                Some(Ok(gateway)) => Some(gateway),
                None => None,
            };
            let document = text(file)?;
            match names(gateway.as_ref(), document.as_bytes())? {
                Ok(count) => {
                    let of = if count == 1 { "1 client".to_owned() } else { format!("{count} clients") };
                    print(&format!("{file}: {}: {of}\n", paint(Look::Good, "ok")));
                    Ok(End::Well)
                }
                Err(faults) => {
                    let line = |fault: &String| format!("{}: {}\n", paint(Look::Bad, "error"), plain(fault));
                    print(&faults.iter().map(line).collect::<String>());
                    Ok(End::Found)
                }
            }
        }
        ClientAct::List { address, config, json } => {
            let gateway = match config.as_deref().map(check::one).transpose()? {
                Some(Err(end)) => return Ok(end),
                Some(Ok(gateway)) => Some(gateway),
                None => None,
            };
            let stored = Store::of(address, gateway.as_ref())?.clients(gateway.as_ref())?;
            list(&stored, *json);
            Ok(if stored.iter().all(|stored| stored.problems.is_empty()) { End::Well } else { End::Found })
        }
        ClientAct::Show { address, name } => {
            let mut store = Store::of(address, None)?;
            match store.client(name)? {
                Some(text) => {
                    print_json(&value(&text));
                    Ok(End::Well)
                }
                None => Err(format!("no client of the store is named {name:?}")),
            }
        }
        ClientAct::Remove { address, name } => {
            let mut store = Store::of(address, None)?;
            let is_gone = store.remove_client(name)?;
            let verb = if is_gone { "is removed" } else { "was not there" };
            print(&format!("{name} {verb}\n"));
            Ok(if is_gone { End::Well } else { End::Found })
        }
    }
}

/// What stands in a file.
fn text(file: &str) -> Result<String, String> {
    let mut text = String::new();
    if file == "-" {
        io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(text)
}

/// How many clients a document has, or what is wrong with it: as Envoys with this configuration see it, if there is one.
fn names(gateway: Option<&Gateway>, document: &[u8]) -> Result<Result<usize, Vec<String>>, String> {
    let Some(gateway) = gateway else {
        return Ok(check_document(document).map(|names| names.len()));
    };
    let documented = gateway
        .clients
        .documented()
        .ok_or("--config: it has no directory.document, so no Envoy fetches a document with clients")?;
    Ok(documented.fetched.read(document, &MemoryStore::default()).map(|roster| roster.clients.len()))
}

/// The clients of a file, by their names, as they will stand in the store.
fn entries(file: &str) -> Result<BTreeMap<String, String>, String> {
    let text = text(file)?;
    let expected =
        || format!("{file}: expected a client as it stands in clients of a configuration, or a list of them");
    let whole: Value = serde_yaml_ng::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    let each = match whole {
        Value::Array(each) => each,
        one => {
            match one.as_object().filter(|members| members.len() == 1).and_then(|one| one.get("clients")) {
                Some(Value::Array(each)) => each.clone(),
                _ => vec![one],
            }
        }
    };
    let mut found = BTreeMap::new();
    for client in each {
        let name = client["name"].as_str().ok_or_else(expected)?.to_owned();
        if found.insert(name.clone(), client.to_string()).is_some() {
            return Err(format!("{file}: {name:?} stands more than once"));
        }
    }
    if found.is_empty() { Err(expected()) } else { Ok(found) }
}

/// Why no Envoy with this configuration uses an entry.
fn problems(gateway: &Gateway, name: &str, text: &str) -> Vec<String> {
    let joined = gateway.joined.as_ref().filter(|_| gateway.clients.issued().is_some());
    let Some(joined) = joined else {
        return vec![format!(
            "{name}: the configuration has no directory.store, so no Envoy looks for clients in the store"
        )];
    };
    if gateway.configured(name).is_some() {
        return vec![format!("{name}: the configuration has a client of this name, and that one holds")];
    }
    match joined.read(name, text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(|fault| format!("{name}: {fault}")).collect(),
    }
}

/// An entry of the store, of which nobody knows who has written it.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn list(clients: &[Stored], json: bool) {
    if json {
        let told = |stored: &Stored| {
            let mut members = Map::new();
            members.insert("name".to_owned(), stored.name.clone().into());
            members.insert("entry".to_owned(), value(&stored.text));
            members.insert("problems".to_owned(), stored.problems.clone().into());
            Value::Object(members)
        };
        return print_json(&clients.iter().map(told).collect::<Vec<_>>());
    }
    let line = |stored: &Stored| {
        let Value::Object(mut members) = value(&stored.text) else {
            return format!("{}\n", paint(Look::Title, &plain(&stored.name)));
        };
        members.remove("name");
        let words: String =
            members.iter().map(|(field, value)| format!(", {} {value}", plain(field))).collect();
        format!("{}{words}\n", paint(Look::Title, &plain(&stored.name)))
    };
    let problem = |problem: &String| format!("  {}: {}\n", paint(Look::Bad, "error"), plain(problem));
    let text = |stored: &Stored| line(stored) + &stored.problems.iter().map(problem).collect::<String>();
    print(&clients.iter().map(text).collect::<String>());
}

impl Store {
    /// All clients, and what a configuration would say of them.
    fn clients(&mut self, gateway: Option<&Gateway>) -> Result<Vec<Stored>, String> {
        let all = self.record(&client_table(&self.prefix))?;
        let stored = all.into_iter().map(|(name, text)| {
            let problems = gateway.map(|gateway| problems(gateway, &name, &text)).unwrap_or_default();
            Stored { name, text, problems }
        });
        Ok(stored.collect())
    }

    /// What stands there of a client.
    pub(crate) fn client(&mut self, name: &str) -> Result<Option<String>, String> {
        self.ask(redis::cmd("HGET").arg(client_table(&self.prefix)).arg(name))
    }

    fn put(&mut self, entries: &BTreeMap<String, String>) -> Result<(), String> {
        let mut command = redis::cmd("HSET");
        command.arg(client_table(&self.prefix));
        for (name, text) in entries {
            command.arg(name).arg(text);
        }
        self.ask::<u64>(&command).map(|_| ())
    }

    fn remove_client(&mut self, name: &str) -> Result<bool, String> {
        self.ask::<u64>(redis::cmd("HDEL").arg(client_table(&self.prefix)).arg(name)).map(|count| count > 0)
    }
}
