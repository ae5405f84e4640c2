//! A request in, the whole answer out: a pure function, which the server calls and a test may call too.

use bytes::Bytes;
use serde::Serialize;

use super::endpoint::{Endpoint, Operation};
use super::fields::Fields;
use super::refusal::Refusal;
use super::settings::Settings;
use super::usage::Usage;
use super::{chat, completions, embeddings, messages, models, responses};

/// The time all answers were made.
pub(super) const CREATED: u64 = 1_700_000_000;
/// An id tells requests apart; this much of a body is enough, and a long one costs no more.
const ID_BYTES_MAX: usize = 1024;

/// A good answer, before anything is done to it on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked for.
    pub operation: Operation,
    /// Of which model or deployment; empty when models are listed.
    pub model: String,
    /// What it uses if it goes all the way.
    pub usage: Usage,
    /// What the limiter takes it to cost, known before the answer is.
    pub cost: u64,
    /// The body.
    pub content: Content,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// `application/json`
    Json(Bytes),
    /// `text/event-stream`
    Stream(Vec<Event>),
    /// `application/json` of what has only begun.
    Begun(Background),
}

/// Work in the background, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Background {
    /// What is answered at once.
    pub queued: Bytes,
    /// What each next reading finds; it stays the last.
    pub ahead: Vec<Bytes>,
    /// The same as a stream.
    pub events: Vec<Event>,
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event as it goes over the wire, with the blank line that ends it.
    pub bytes: Bytes,
    /// What has been produced once this event is out.
    pub produced: Produced,
}

/// How many tokens, counted like the fields of [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// All of them.
    pub completion: u64,
    /// The hidden ones of them.
    pub reasoning: u64,
}

/// The answer to a request with a key that is good, when nothing goes wrong.
///
/// # Errors
/// What the mock says instead.
pub fn answer(
    method: &str,
    path_and_query: &str,
    body: &[u8],
    settings: &Settings,
) -> Result<Answer, Refusal> {
    answer_of("", Endpoint::parse(method, path_and_query)?, body, settings)
}

/// The answer of the mock of this name.
pub(super) fn answer_of(
    name: &str,
    endpoint: Endpoint,
    body: &[u8],
    settings: &Settings,
) -> Result<Answer, Refusal> {
    let generate = match endpoint.operation {
        Operation::Models => return models::answer(&endpoint, settings),
        // What is kept is a server's.
        Operation::Resources => return Err(Refusal::resource_not_found()),
        Operation::Chat => chat::answer,
        Operation::Completions => completions::answer,
        Operation::Embeddings => embeddings::answer,
        Operation::Responses => responses::answer,
        Operation::Messages => messages::answer,
        Operation::CountTokens => messages::count,
    };
    let fields = Fields::parse(body)?;
    let model = match &endpoint.model {
        Some(deployment) => deployment.clone(),
        None => fields
            .text("model")?
            .filter(|model| !model.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| Refusal::invalid(400, "you must provide a model parameter", None, None))?,
    };
    models::check(&model, &endpoint, settings)?;
    generate(&Request { name: name.to_owned(), endpoint, model, fields, id: id(body) }, settings)
}

/// The events of a stream, one element each: what a client gets that talks to the mock directly.
///
/// # Errors
/// What the mock says instead; also a 400 of our own when the request does not ask for a stream.
pub fn stream_events(path_and_query: &str, body: &[u8], settings: &Settings) -> Result<Vec<Bytes>, Refusal> {
    match answer("POST", path_and_query, body, settings)?.content {
        Content::Stream(events) => Ok(events.into_iter().map(|event| event.bytes).collect()),
        Content::Json(_) | Content::Begun(_) => {
            Err(Refusal::invalid(400, "this request does not ask for a stream", Some("stream"), None))
        }
    }
}

/// A request for a model to do something.
pub(super) struct Request {
    /// The mock's name.
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) fields: Fields,
    /// The same for the same body.
    pub(super) id: String,
}

/// A stream as it is written: counts what has been produced.
#[derive(Default)]
pub(super) struct Script {
    events: Vec<Event>,
    produced: Produced,
}

impl Script {
    /// From here on, so much more has been produced.
    pub(super) fn produce(&mut self, tokens: Produced) {
        self.produced.completion += tokens.completion;
        self.produced.reasoning += tokens.reasoning;
    }

    /// `data: {...}`
    pub(super) fn event(&mut self, data: &impl Serialize) {
        self.push(b"data: ".to_vec(), data);
    }

    /// `event: name`, `data: {...}`
    pub(super) fn named_event(&mut self, name: &str, data: &impl Serialize) {
        self.push(format!("event: {name}\ndata: ").into_bytes(), data);
    }

    /// `data: [DONE]`
    pub(super) fn done(mut self) -> Vec<Event> {
        self.events.push(Event { bytes: Bytes::from_static(b"data: [DONE]\n\n"), produced: self.produced });
        self.events
    }

    /// The same with a name, as a run ends.
    pub(super) fn named_done(mut self) -> Vec<Event> {
        let bytes = Bytes::from_static(b"event: done\ndata: [DONE]\n\n");
        self.events.push(Event { bytes, produced: self.produced });
        self.events
    }

    /// Without it.
    pub(super) fn end(self) -> Vec<Event> {
        self.events
    }

    fn push(&mut self, mut bytes: Vec<u8>, data: &impl Serialize) {
        bytes.extend(json(data));
        bytes.extend(b"\n\n");
        self.events.push(Event { bytes: bytes.into(), produced: self.produced });
    }
}

/// JSON of our own structs, whose keys are strings: it cannot fail.
pub(super) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// FNV-1a: the same everywhere and always, which the standard library's hashes do not promise.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn id(body: &[u8]) -> String {
    let start = body.get(..ID_BYTES_MAX).unwrap_or(body);
    format!("{:016x}{:016x}", fingerprint(start), body.len())
}
