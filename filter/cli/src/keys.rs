//! Which keys were issued, and how does an operator issue and revoke them while the gateway runs?
//!
//! The store has of each key its SHA-256 and whose it is. The key itself is printed once, and stands nowhere.

use crate::arguments::{KeyAct, Keys, NewKey};
use crate::paint::{Look, paint, print, print_json, warn};
use crate::store::Store;
use crate::{End, check, key};
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;
use tollgate::calendar::rfc3339;
use tollgate::config::{KeyEntry, Narrowing};
use tollgate::gateway::{Client, Gateway, key_table};
use tollgate::identity::KeyHash;
use tollgate::identity::issued::{Entry, Issued, Meaning, Said, id};
use tollgate::store::MemoryStore;

/// The longest note, in characters.
const NOTE_MAX: usize = 200;

/// The longest time that old keys go on: ten years.
const HOURS_MAX: u64 = 10 * 366 * 24;

const ROTATE: &str = include_str!("keys/rotate.lua");

/// A key of the store.
struct Stored {
    hash: KeyHash,
    /// As it stands there.
    text: String,
    entry: KeyEntry,
}

/// The same, as it is told.
#[derive(Serialize)]
struct Told<'k> {
    id: String,
    /// Only of one that was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'k str>,
    #[serde(flatten)]
    entry: &'k KeyEntry,
}

impl Stored {
    fn told(&self) -> Told<'_> {
        Told { id: id(&self.hash), key: None, entry: &self.entry }
    }
}

/// Does what an operator wants done.
pub(crate) fn keys(act: &KeyAct) -> Result<End, String> {
    match act {
        KeyAct::List { address, client, json } => {
            let mut store = Store::of(address, None)?;
            list(&store.keys(client.as_deref())?, *json);
            Ok(End::Well)
        }
        // What no Envoy takes any more is revoked all the same.
        KeyAct::Revoke { keys, id, .. } => match opened(keys, None)? {
            Ok(store) => revoke(store, keys, id.as_deref()),
            Err(end) => Ok(end),
        },
        KeyAct::Issue { keys, issue } => {
            let entry = entry(keys, issue)?;
            match opened(keys, Some(&entry))? {
                Ok(store) => issued(store, keys, entry, None),
                Err(end) => Ok(end),
            }
        }
        KeyAct::Rotate { keys, issue, old_for } => {
            if *old_for > HOURS_MAX {
                return Err(format!("--old-for {old_for}: expected at most {HOURS_MAX} hours"));
            }
            let entry = entry(keys, issue)?;
            match opened(keys, Some(&entry))? {
                Ok(store) => issued(store, keys, entry, Some(old_for * 3600)),
                Err(end) => Ok(end),
            }
        }
    }
}

/// The store; if a key is to be entered, once the configuration has been asked whether an Envoy would take it as it is meant.
fn opened(keys: &Keys, entry: Option<&KeyEntry>) -> Result<Result<Store, End>, String> {
    let gateway = match keys.config.as_deref().map(check::one).transpose()? {
        Some(Err(end)) => return Ok(Err(end)),
        Some(Ok(gateway)) => Some(gateway),
        None => None,
    };
    let mut store = Store::of(&keys.address, gateway.as_ref())?;
    if let (Some(gateway), Some(entry)) = (&gateway, entry) {
        serves(gateway, entry, &mut store)?;
    }
    Ok(Ok(store))
}

/// Whether an Envoy with this configuration would take a key as it is meant.
fn serves(gateway: &Gateway, entry: &KeyEntry, store: &mut Store) -> Result<(), String> {
    let Some(issued) = gateway.clients.issued() else {
        return Err("--config: it has no directory.store, so no Envoy looks for keys in the store".to_owned());
    };
    let client = &entry.client;
    let joined = if gateway.configured(client).is_some() { None } else { store.client(client)? };
    if joined.is_none() && gateway.configured(client).is_none() {
        return Err(format!(
            "--client {client:?}: the configuration has no such client, and the store has none"
        ));
    }
    let joined = joined.as_ref().map(|text| (client.as_str(), Some(text.as_bytes())));
    let found = meant(issued, &text(entry)?, joined)?;
    match found.beyond.first() {
        Some(problem) => Err(problem.clone()),
        None => Ok(()),
    }
}

/// What an entry means for a key. What is checked is the same for every key.
fn meant(
    issued: &Issued<Client>,
    entry: &str,
    client: Option<(&str, Option<&[u8]>)>,
) -> Result<Entry<Client>, String> {
    let said = Said { entry: entry.as_bytes(), client };
    match issued.read(&KeyHash::of(b""), said, &MemoryStore::default()) {
        Ok(Meaning::Whole(entry)) => Ok(entry),
        Ok(Meaning::Lacks(client)) => Err(format!("the configuration has no client {client:?}")),
        Err(problem) => Err(problem.text().to_owned()),
    }
}

/// As it stands in the store.
fn text(entry: &KeyEntry) -> Result<String, String> {
    serde_json::to_string(entry).map_err(|error| error.to_string())
}

/// What is to be said of a new key, as far as that can be checked without a configuration.
fn entry(keys: &Keys, issue: &NewKey) -> Result<KeyEntry, String> {
    let note = issue.note.clone().filter(|note| !note.is_empty());
    if note.as_ref().is_some_and(|note| note.chars().count() > NOTE_MAX || note.contains(char::is_control)) {
        return Err(format!("--note: expected at most {NOTE_MAX} characters on one line"));
    }
    let entry = KeyEntry {
        client: keys.client.clone(),
        not_before: issue.not_before.clone(),
        not_after: issue.not_after.clone(),
        issued: None,
        note,
        models: issue.models.clone(),
        limits: issue.limits.iter().map(|text| limit(text)).collect::<Result<_, _>>()?,
        policy: issue.policy.clone(),
        regions: issue.regions.clone(),
        priority: issue.priority.clone(),
    };
    entry.validity().map_err(|fault| format!("--{}: {}", fault.path.replace('_', "-"), fault.problem))?;
    KeyEntry::read(text(&entry)?.as_bytes()).map_err(|fault| fault.to_string())?;
    Ok(entry)
}

fn limit(text: &str) -> Result<Value, String> {
    members(text)
        .map_err(|error| format!("--limit {text:?}: expected such as 'tokens: 50000, per: day': {error}"))
}

/// Members as they stand in a configuration, with or without their braces.
fn members(text: &str) -> Result<Value, serde_yaml_ng::Error> {
    let inner = text.trim();
    let whole = if inner.starts_with('{') { inner.to_owned() } else { format!("{{ {inner} }}") };
    serde_yaml_ng::from_str(&whole)
}

/// What a client may by a key that has these words, and the words.
pub(crate) fn keyed(gateway: &Gateway, client: &str, text: &str) -> Result<(Rc<Client>, Value), String> {
    let mut words = members(text)
        .map_err(|error| format!("--key {text:?}: expected such as 'models: [ gpt-4o ]': {error}"))?;
    words["client"] = client.into();
    let Some(issued) = gateway.clients.issued() else {
        return Err("--key: the configuration has no directory, so there are no issued keys".to_owned());
    };
    let entry = meant(issued, &words.to_string(), None);
    let entry = entry.map_err(|problem| format!("--key: {problem}"))?;
    match entry.beyond.first() {
        Some(problem) => Err(format!("--key: {problem}")),
        None => Ok((entry.known.client, words)),
    }
}

/// What a key may of what its client may, in the words of an entry.
fn words(narrowing: Narrowing<'_>) -> Vec<String> {
    let Narrowing { models, limits, policy, regions, priority } = narrowing;
    let listed = |words: &[String]| words.join(" ");
    let limits = limits.iter().map(|limit| format!("limit {limit}"));
    [("models", models.map(listed)), ("policy", policy.map(str::to_owned)), ("regions", regions.map(listed))]
        .into_iter()
        .chain([("priority", priority.map(str::to_owned))])
        .filter_map(|(word, said)| Some(format!("{word} {}", said?)))
        .chain(limits)
        .collect()
}

/// Makes a key. With `old_for` the client's others end so many seconds from now, if not sooner.
fn issued(mut store: Store, keys: &Keys, entry: KeyEntry, old_for: Option<u64>) -> Result<End, String> {
    let now = store.now()?;
    let entry = KeyEntry { issued: Some(rfc3339(now)), ..entry };
    let key = key::new()?;
    let hash = KeyHash::of(key.as_bytes());
    let mut old = Vec::new();
    if let Some(seconds) = old_for {
        let end = now + seconds;
        for stored in store.keys(Some(&keys.client))? {
            let mut entry = stored.entry.clone();
            // One whose dates nobody can read is good nowhere.
            let Ok(validity) = entry.validity() else { continue };
            if validity.from < Duration::from_secs(end) && Duration::from_secs(end) < validity.until {
                entry.not_after = Some(rfc3339(end));
                old.push((stored, entry));
            }
        }
    }
    if let Some((stored, _)) = old.iter().find(|(stored, _)| stored.entry.narrowing() != entry.narrowing()) {
        let (id, may) = (id(&stored.hash), words(stored.entry.narrowing()));
        let may = if may.is_empty() { "all that its client may".to_owned() } else { may.join(", ") };
        return Err(format!(
            "key {id} of {} may {may}, which the new one would not: expected the same of the new one, or keys issue and revoke, \
             one by one",
            keys.client
        ));
    }
    store.enter(&hash, &entry, &old)?;
    let told = Told { id: id(&hash), key: Some(&key), entry: &entry };
    if keys.json {
        print_json(&told);
    } else {
        print(&format!("{key}\n"));
        let ends = match old.len() {
            0 => String::new(),
            count => format!(
                "; {count} of the client's others end at {}",
                old[0].1.not_after.as_deref().unwrap_or_default()
            ),
        };
        // On standard error, so that the key can be piped to where it is needed.
        let line = format!("key {} of {}, which stands nowhere else{ends}\n", told.id, keys.client);
        io::stderr()
            .write_all(line.as_bytes())
            .map_err(|error| format!("the key cannot be told: {error}"))?;
    }
    Ok(End::Well)
}

fn list(keys: &[Stored], json: bool) {
    if json {
        return print_json(&keys.iter().map(Stored::told).collect::<Vec<_>>());
    }
    let line = |stored: &Stored| {
        let KeyEntry { client, not_before, not_after, issued, note, .. } = &stored.entry;
        let part = |word: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(", {word} {value}")).unwrap_or_default()
        };
        let [issued, from, until] =
            [("issued", issued), ("good from", not_before), ("good until", not_after)]
                .map(|(word, value)| part(word, value));
        let may: String = words(stored.entry.narrowing()).iter().map(|word| format!(", {word}")).collect();
        let note = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        format!("{} of {}{issued}{from}{until}{may}{note}\n", id(&stored.hash), paint(Look::Title, client))
    };
    print(&keys.iter().map(line).collect::<String>());
}

fn revoke(mut store: Store, keys: &Keys, id_begins: Option<&str>) -> Result<End, String> {
    let found = store.keys(Some(&keys.client))?;
    let is_meant = |stored: &&Stored| id_begins.is_none_or(|begin| stored.hash.hex().starts_with(begin));
    let meant: Vec<_> = found.iter().filter(is_meant).collect();
    if let Some(begin) = id_begins
        && (begin.is_empty() || meant.len() != 1)
    {
        let ids: Vec<_> = found.iter().map(|stored| id(&stored.hash)).collect();
        let ids = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Err(format!(
            "--id {begin:?}: {} keys of {} begin so; it has {ids}",
            meant.len(),
            keys.client
        ));
    }
    store.remove(&meant)?;
    let told: Vec<_> = meant.iter().map(|stored| stored.told()).collect();
    if keys.json {
        print_json(&told);
    } else {
        print(
            &told
                .iter()
                .map(|told| format!("{} of {} is revoked\n", told.id, keys.client))
                .collect::<String>(),
        );
    }
    Ok(if told.is_empty() { End::Found } else { End::Well })
}

impl Store {
    /// Its time, in seconds since 1970.
    fn now(&mut self) -> Result<u64, String> {
        Ok(self.now_us()? / 1_000_000)
    }

    /// All keys, or a client's, by client and time.
    fn keys(&mut self, client: Option<&str>) -> Result<Vec<Stored>, String> {
        let table = key_table(&self.prefix);
        let mut keys = Vec::new();
        for (hash, text) in self.record(&table)? {
            // One that nobody can read is no reason to leave others good that are to be revoked.
            let wrong = |problem: String| {
                warn(&format!("{}: {table}: {hash}: {problem}; it is passed over", self.shown));
            };
            let entry = match KeyEntry::read(text.as_bytes()) {
                Ok(entry) => entry,
                Err(fault) => {
                    wrong(fault.to_string());
                    continue;
                }
            };
            let Some(hash) = KeyHash::parse(&hash) else {
                wrong("is no SHA-256".to_owned());
                continue;
            };
            if client.is_none_or(|client| entry.client == client) {
                keys.push(Stored { hash, text, entry });
            }
        }
        keys.sort_by(|one, other| {
            let order = |stored: &Stored| (stored.entry.client.clone(), stored.entry.issued.clone());
            order(one).cmp(&order(other))
        });
        Ok(keys)
    }

    /// Enters a key, and changes others with it: all or nothing.
    fn enter(&mut self, hash: &KeyHash, entry: &KeyEntry, old: &[(Stored, KeyEntry)]) -> Result<(), String> {
        let mut command = redis::cmd("EVAL");
        command.arg(ROTATE).arg(1).arg(key_table(&self.prefix)).arg(hash.hex()).arg(text(entry)?);
        for (stored, entry) in old {
            command.arg(stored.hash.hex()).arg(&stored.text).arg(text(entry)?);
        }
        match self.ask::<u64>(&command)? {
            1 => Ok(()),
            _ => Err("the client's keys were changed meanwhile: nothing was done, try again".to_owned()),
        }
    }

    fn remove(&mut self, keys: &[&Stored]) -> Result<(), String> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("HDEL");
        command.arg(key_table(&self.prefix));
        keys.iter().for_each(|stored| {
            command.arg(stored.hash.hex());
        });
        self.ask::<u64>(&command).map(|_| ())
    }
}
