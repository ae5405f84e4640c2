//! What does a document with clients mean?
//!
//! What `clients` of a configuration means: it is read and checked by the same code, with the same faults at the same paths, and it
//! is taken whole or not at all. Its clients are known by `api_keys` alone, and none of them, and none of their keys, stands in
//! the configuration too.

use super::super::clients::wire::Client as WireClient;
use super::super::issuers::Place;
use super::super::{Build, ConfigError, Range, reading, shape};
use super::joining::Joining;
use super::wire;
use crate::gateway::{Client, Joined};
use crate::identity::documented::{Documented, Roster};
use crate::identity::fetched::Fetched;
use crate::identity::{KeyHash, Validity};
use crate::store::Store;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

/// The longest document, in bytes: each worker reads it in one go, in which it serves nobody.
const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The longest time that an old document may go on, in seconds: a year.
const STALE_S_MAX: u64 = 31_536_000;

/// The most faults that are told. One word that is wrong may be in each of thousands of clients.
const FAULTS_MAX: usize = 50;

/// The path of all of it.
const WHOLE: &str = "document";

/// By what a client of the document is known.
const OF_DOCUMENT: &str = "a client of the document has api_keys";

/// Reads documents.
pub(super) struct Reader {
    /// The clients of the configuration.
    pub(super) clients: HashSet<Rc<str>>,
    /// The keys of the configuration, and whose they are.
    pub(super) keys: HashMap<KeyHash, Rc<str>>,
    pub(super) joining: Rc<Joining>,
    pub(super) joined: Rc<Joined>,
}

/// A client of a document.
struct Entry {
    wire: WireClient,
    /// As it stands there.
    text: String,
    keys: Vec<(KeyHash, Validity)>,
}

impl Build<'_> {
    pub(super) fn documented(&mut self, wire: &wire::Document, reader: Reader) -> Documented<Client> {
        let at = "directory.document";
        let wire::Document { cluster, host, path, refresh_s, timeout_ms, wait_ms, stale_s } = wire;
        let origin =
            self.fetched_from(at, &Place { cluster, host, path }, (*refresh_s, 10), *timeout_ms, *wait_ms);
        let stale = Range { default: STALE_S_MAX, min: 10, max: STALE_S_MAX };
        let stale_s = stale_s.map(|stale_s| self.within(&format!("{at}.stale_s"), Some(stale_s), &stale));
        let stale = stale_s.map(|stale_s| origin.refresh + Duration::from_secs(stale_s));
        let read = move |bytes: &[u8], store: &dyn Store| reader.read(bytes, store).map_err(told);
        let fetched = Fetched::new(origin, "clients", DOCUMENT_BYTES_MAX, Box::new(read));
        Documented { fetched, stale }
    }

    /// The clients of a document, as far as that can be told from itself and from what the configuration has already.
    fn clients_of(
        &mut self,
        bytes: &[u8],
        clients: &HashSet<Rc<str>>,
        keys: &HashMap<KeyHash, Rc<str>>,
    ) -> Vec<Entry> {
        let read = || {
            if bytes.len() > DOCUMENT_BYTES_MAX {
                let problem = format!("{} bytes: expected at most {DOCUMENT_BYTES_MAX}", bytes.len());
                return Err(ConfigError { path: WHOLE.to_owned(), problem });
            }
            let value: Value = serde_json::from_slice(bytes)
                .map_err(|error| ConfigError { path: WHOLE.to_owned(), problem: error.to_string() })?;
            let wire: wire::Clients = reading::read(&value).map_err(|fault| shape(fault, WHOLE))?;
            let texts: Vec<_> = value
                .get("clients")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect();
            Ok((wire.clients, texts))
        };
        let (wire, texts) = match read() {
            Ok(read) => read,
            Err(fault) => {
                self.errors.push(fault);
                return Vec::new();
            }
        };
        self.entries("clients", wire.len());
        let mut names = HashSet::new();
        let mut taken: HashMap<KeyHash, Rc<str>> = HashMap::new();
        let mut entries = Vec::new();
        for (at, (wire, text)) in wire.into_iter().zip(texts).enumerate() {
            let path = format!("clients[{at}]");
            let name = self.name(format!("{path}.name"), &wire.name);
            if clients.contains(&name) {
                self.fault(format!("{path}.name"), format!("{name:?} is a client of the configuration"));
            }
            if !names.insert(name.clone()) {
                self.fault(format!("{path}.name"), format!("{name:?} stands more than once"));
            }
            if wire.api_keys.is_empty() {
                let problem = "nobody is this client: expected at least one of api_keys";
                self.fault(path.clone(), problem);
            }
            self.is_known_by_keys_alone(&path, &wire, OF_DOCUMENT);
            let mut found = Vec::new();
            for (at, key) in wire.api_keys.iter().enumerate() {
                let path = format!("{path}.api_keys[{at}]");
                let Some((hash, validity)) = self.key_of_client(&path, key) else { continue };
                let other = keys.get(&hash).cloned().or_else(|| taken.insert(hash, name.clone()));
                if let Some(other) = other {
                    self.fault(format!("{path}.sha256"), format!("is a key of client {other:?} already"));
                }
                found.push((hash, validity));
            }
            entries.push(Entry { wire, text, keys: found });
        }
        entries
    }
}

impl Reader {
    fn read(&self, bytes: &[u8], store: &dyn Store) -> Result<Roster<Client>, Vec<ConfigError>> {
        let mut build = Build { fleet: self.joining.fleet, ..Build::bare() };
        let entries = build.clients_of(bytes, &self.clients, &self.keys);
        let mut read = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            if build.errors.len() >= FAULTS_MAX {
                break;
            }
            // A client whose entry is the same is the same.
            let client = match self.joined.recall(&entry.wire.name, entry.text.as_bytes()) {
                Some(Ok(client)) => Ok(client),
                _ => {
                    let name = self.joined.unlabelled(&entry.wire.name);
                    Err(self.joining.client(&mut build, &format!("clients[{at}]"), name, &entry.wire))
                }
            };
            read.push((entry, client));
        }
        if !build.errors.is_empty() {
            if build.errors.len() >= FAULTS_MAX {
                build.errors.truncate(FAULTS_MAX);
                build.fault(
                    WHOLE.to_owned(),
                    format!("may have more faults: these are the first {FAULTS_MAX}"),
                );
            }
            return Err(build.errors);
        }
        // Nothing of a document with a fault has come so far.
        self.joined.label_all(read.iter().map(|(entry, _)| &*entry.wire.name), store);
        let mut roster = Roster { clients: Vec::new(), by_key: HashMap::new() };
        for (entry, client) in read {
            let client =
                client.unwrap_or_else(|client| self.joined.enter(client, entry.text.as_bytes(), store));
            let keys = entry.keys.into_iter().map(|(hash, validity)| (hash, (validity, client.clone())));
            roster.by_key.extend(keys);
            roster.clients.push(client);
        }
        Ok(roster)
    }
}

/// Checks all of a document that can be without a configuration; answers the names of its clients.
pub fn check(bytes: &[u8]) -> Result<Vec<String>, Vec<String>> {
    let mut build = Build::bare();
    let entries = build.clients_of(bytes, &HashSet::new(), &HashMap::new());
    let names = entries.into_iter().map(|entry| entry.wire.name).collect();
    if build.errors.is_empty() { Ok(names) } else { Err(told(build.errors)) }
}

fn told(faults: Vec<ConfigError>) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}
