//! What has been made here and is only here: things by collection and id. Another mock knows none of them.
//!
//! Ids of what is kept carry the mock's name, so no two mocks make the same one. A response's is its request's: who
//! wants two that are not alike asks for different things. The oldest is forgotten when there are too many.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Background, Event, fingerprint};
use super::refusal::Refusal;

/// How many things are kept.
const THINGS_MAX: usize = 10_000;

/// One thing.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    /// `files`, or `threads/thread_1/messages`.
    pub(super) collection: String,
    pub(super) object: Value,
    /// Of a file, what is in it.
    pub(super) content: Bytes,
    /// What each next reading finds.
    ahead: Vec<Value>,
    /// Of work in the background, its stream.
    pub(super) events: Vec<Event>,
}

impl Thing {
    fn id(&self) -> &str {
        self.object["id"].as_str().unwrap_or_default()
    }

    /// It comes a stage further, if there is one.
    pub(super) fn goes_on(&mut self) {
        if !self.ahead.is_empty() {
            self.object = self.ahead.remove(0);
        }
    }

    /// Whether there is a stage to come.
    pub(super) fn is_under_way(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// It comes to its end at once.
    pub(super) fn ends(&mut self) {
        if let Some(last) = self.ahead.drain(..).next_back() {
            self.object = last;
        }
    }
}

/// All of them, the oldest first.
#[derive(Debug)]
pub(super) struct Kept {
    mark: String,
    made: u64,
    things: Vec<Thing>,
}

impl Kept {
    pub(super) fn new(name: &str) -> Self {
        Self { mark: mark(name), made: 0, things: Vec::new() }
    }

    /// An id that nobody has.
    pub(super) fn new_id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}{:06}", self.mark, self.made)
    }

    /// Keeps it, in place of what has its id there.
    pub(super) fn keep(&mut self, collection: &str, object: Value, content: Bytes) {
        let thing = Thing {
            collection: collection.to_owned(),
            object,
            content,
            ahead: Vec::new(),
            events: Vec::new(),
        };
        self.things.retain(|other| (&other.collection, other.id()) != (&thing.collection, thing.id()));
        if self.things.len() == THINGS_MAX {
            self.things.remove(0);
        }
        self.things.push(thing);
    }

    /// What is kept in this collection is the beginning of this.
    pub(super) fn goes_on(&mut self, collection: &str, begun: &Background) {
        let queued: Value = serde_json::from_slice(&begun.queued).unwrap_or_default();
        if let Ok(thing) = self.find_mut(collection, queued["id"].as_str().unwrap_or_default()) {
            thing.ahead = begun.ahead.iter().filter_map(|body| serde_json::from_slice(body).ok()).collect();
            thing.events = begun.events.clone();
        }
    }

    /// What is kept in this collection as this comes to these, one with each reading.
    pub(super) fn comes_to(&mut self, collection: &str, object: &Value, ahead: Vec<Value>) {
        if let Ok(thing) = self.find_mut(collection, object["id"].as_str().unwrap_or_default()) {
            thing.ahead = ahead;
        }
    }

    pub(super) fn list(&self, collection: &str) -> Vec<Value> {
        let of_it = self.things.iter().filter(|thing| thing.collection == collection);
        of_it.map(|thing| thing.object.clone()).collect()
    }

    pub(super) fn find(&self, collection: &str, id: &str) -> Result<&Thing, Refusal> {
        let is_it = |thing: &&Thing| thing.collection == collection && thing.id() == id;
        self.things.iter().find(is_it).ok_or_else(|| unknown(collection, id))
    }

    pub(super) fn find_mut(&mut self, collection: &str, id: &str) -> Result<&mut Thing, Refusal> {
        let is_it = |thing: &&mut Thing| thing.collection == collection && thing.id() == id;
        self.things.iter_mut().find(is_it).ok_or_else(|| unknown(collection, id))
    }

    /// Deletes it, and all that is in it.
    pub(super) fn delete(&mut self, collection: &str, id: &str) -> Result<(), Refusal> {
        self.find(collection, id)?;
        let within = format!("{collection}/{id}/");
        self.things.retain(|thing| {
            !(thing.collection == collection && thing.id() == id || thing.collection.starts_with(&within))
        });
        Ok(())
    }

    /// Refuses a body that names what is not here.
    pub(super) fn check(&self, body: &Value) -> Result<(), Refusal> {
        match body {
            Value::Array(items) => items.iter().try_for_each(|item| self.check(item)),
            Value::Object(members) => members.iter().try_for_each(|(name, value)| match value {
                // The user's own.
                _ if name == "metadata" => Ok(()),
                Value::String(text) => self.check_named(name, text),
                Value::Array(items) => items.iter().try_for_each(|item| match item {
                    Value::String(text) => self.check_named(name, text),
                    other => self.check(other),
                }),
                Value::Object(object) if name == "conversation" => {
                    self.check_named(name, object.get("id").and_then(Value::as_str).unwrap_or_default())
                }
                other => self.check(other),
            }),
            _ => Ok(()),
        }
    }

    fn check_named(&self, name: &str, text: &str) -> Result<(), Refusal> {
        let collection = match name {
            "assistant_id" => "assistants",
            "conversation" => "conversations",
            "file_id" | "file_ids" | "input_file_id" => "files",
            "previous_response_id" => "responses",
            "thread_id" => "threads",
            "vector_store_ids" => "vector_stores",
            "encrypted_content" if !text.starts_with(&blob_front(&self.mark)) => {
                let message = "The encrypted content could not be verified.";
                return Err(Refusal::invalid(400, message, None, Some("invalid_encrypted_content")));
            }
            _ => return Ok(()),
        };
        match (name, self.find(collection, text)) {
            (_, Ok(_)) => Ok(()),
            ("previous_response_id", Err(_)) => {
                let message = format!("Previous response with id '{text}' not found.");
                Err(Refusal::invalid(404, &message, Some(name), Some("previous_response_not_found")))
            }
            (_, Err(refusal)) => Err(refusal),
        }
    }
}

/// What no other mock's name makes.
fn mark(name: &str) -> String {
    format!("{:016x}", fingerprint(name.as_bytes()))
}

fn blob_front(mark: &str) -> String {
    format!("gAAAAAB{mark}")
}

/// Reasoning that only the mock of this name can read: as long as real ones are at least.
pub(super) fn blob(name: &str, id: &str) -> String {
    format!("{}{}==", blob_front(&mark(name)), id.repeat(8))
}

fn unknown(collection: &str, id: &str) -> Refusal {
    let kind = match collection.rsplit('/').next().unwrap_or_default() {
        "files" => "File",
        "responses" => "Response",
        "conversations" => "Conversation",
        "vector_stores" => "Vector store",
        "assistants" => "Assistant",
        "threads" => "Thread",
        "messages" => "Message",
        "runs" => "Run",
        "batches" => "Batch",
        _ => "Item",
    };
    let message = format!("{kind} with id '{id}' not found.");
    Refusal::invalid(404, &message, Some("id"), Some("not_found"))
}

/// A page that has all.
pub(super) fn page(data: &[Value]) -> Value {
    let id = |object: Option<&Value>| object.map(|object| object["id"].clone());
    json!({
        "object": "list", "data": data, "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false,
    })
}
