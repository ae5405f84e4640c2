//! What does an event of Realtime mean?
//!
//! Of a client's events those are listed that go on; the others are refused. A backend's all go on, and those are read that tell of
//! a turn. <https://platform.openai.com/docs/api-reference/realtime-client-events>
//! <https://platform.openai.com/docs/api-reference/realtime-server-events>

use crate::answer::Answer;
use crate::denial::{Denial, shown};
use crate::frames::{self, Kind, Message};
use crate::json::{self, Names, Patch};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::ops::Range;

static NAMES: Names<4> = Names::new(["type", "event_id", "session", "response"]);

static SHAPE: Names<2> = Names::new(["type", "max_response_output_tokens"]);

static CAP: Names<1> = Names::new(["max_output_tokens"]);

/// What a client may send.
const CLIENT: [(&str, Role); 11] = [
    ("session.update", Role::Sets),
    ("response.create", Role::Asks),
    ("response.cancel", Role::Passes),
    ("input_audio_buffer.append", Role::Passes),
    ("input_audio_buffer.commit", Role::Passes),
    ("input_audio_buffer.clear", Role::Passes),
    ("output_audio_buffer.clear", Role::Passes),
    ("conversation.item.create", Role::Passes),
    ("conversation.item.delete", Role::Passes),
    ("conversation.item.retrieve", Role::Passes),
    ("conversation.item.truncate", Role::Passes),
];

/// The longest id that is told again.
const ID_BYTES_MAX: usize = 256;

/// So many bytes of base64 are a token of what is heard: 100 ms of PCM at 24 kHz.
/// <https://platform.openai.com/docs/guides/realtime-costs>
const SOUND_BYTES_PER_TOKEN: u64 = 6400;

/// About so many bytes of text are a token.
const TEXT_BYTES_PER_TOKEN: u64 = 4;

/// What becomes of a client's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It goes on as it is.
    Passes,
    /// It sets what later turns go by.
    Sets,
    /// It asks for a turn.
    Asks,
}

/// A client's event.
#[derive(Debug)]
pub(super) struct Event {
    role: Role,
    id: Option<String>,
    frames: Vec<u8>,
    /// The whole of it.
    text: String,
    /// Where the object stands that a policy holds for.
    place: Option<Range<usize>>,
    /// Just behind the brace.
    open: usize,
    /// That object.
    object: String,
    /// Whether it has been changed.
    is_changed: bool,
    /// Whether it is the client's own.
    is_of_client: bool,
    is_sound: bool,
    /// Whether it has a name of its own.
    has_id: bool,
}

/// What a session's object says that matters later.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) cap: Option<u64>,
    /// The model that writes down what is heard.
    pub(super) transcriber: Option<String>,
}

impl Event {
    /// An update of the session with nothing in it: what the policy makes of that holds for all.
    pub(super) fn first() -> Self {
        let text = r#"{"type":"session.update","session":{"type":"realtime"}}"#.to_owned();
        let place = text.len() - r#"{"type":"realtime"}}"#.len()..text.len() - 1;
        Self {
            role: Role::Sets,
            id: None,
            frames: Vec::new(),
            object: text.get(place.clone()).unwrap_or_default().to_owned(),
            text,
            place: Some(place),
            open: 1,
            is_changed: false,
            is_of_client: false,
            is_sound: false,
            has_id: false,
        }
    }

    /// One all of which a policy is to hold, and that is not to be named.
    pub(super) fn whole(role: Role, id: Option<String>, text: String, frames: Vec<u8>) -> Self {
        Self {
            role,
            id,
            frames,
            object: text.clone(),
            place: Some(0..text.len()),
            text,
            open: 0,
            is_changed: false,
            is_of_client: true,
            is_sound: false,
            has_id: true,
        }
    }

    /// Reads a client's message; or why it does not go on, with what the client calls it.
    pub(super) fn read(message: Message) -> Result<Self, (Option<String>, Denial)> {
        let text = message.text().unwrap_or_default().to_owned();
        let found = json::find(&text, &text, &NAMES).map_err(|fault| (None, Denial::from(fault)))?;
        let open = found.open;
        let [kind, id, session, response] = found.members;
        let word = |member: Option<json::Member<'_>>| {
            member.and_then(|member| serde_json::from_str::<String>(member.value).ok())
        };
        let has_id = id.is_some();
        let id = word(id).filter(|id| id.len() <= ID_BYTES_MAX);
        if has_id && id.is_none() {
            // Its refusal by the backend could not be told from another's.
            let expected = "a string of at most 256 bytes";
            return Err((None, Denial::InvalidField { field: "event_id", expected }));
        }
        let Some(kind) = word(kind) else { return Err((id, Denial::MissingField("type"))) };
        let Some((_, role)) = CLIENT.iter().find(|(known, _)| *known == kind) else {
            let allowed = CLIENT.iter().map(|(known, _)| (*known).to_owned()).collect();
            return Err((id, Denial::NotAllowed { field: "type", asked: shown(&kind), allowed }));
        };
        let member = match role {
            Role::Passes => None,
            Role::Sets => Some(session.ok_or_else(|| (id.clone(), Denial::MissingField("session")))?),
            Role::Asks => response,
        };
        let place = member.as_ref().map(json::Member::span);
        let object = member.map_or("{}", |member| member.value).to_owned();
        if *role != Role::Passes {
            check_shape(*role, &object).map_err(|denial| (id.clone(), denial))?;
        }
        let is_sound = kind == "input_audio_buffer.append";
        let (frames, is_changed, is_of_client) = (message.frames, false, true);
        Ok(Self {
            role: *role,
            id,
            frames,
            text,
            place,
            open,
            object,
            is_changed,
            is_of_client,
            is_sound,
            has_id,
        })
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// What a policy is to hold.
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    /// About how many tokens it adds to what the model is given.
    pub(super) fn context_tokens(&self) -> u64 {
        let bytes = self.text.len() as u64;
        if self.is_sound { bytes / SOUND_BYTES_PER_TOKEN } else { bytes / TEXT_BYTES_PER_TOKEN }
    }

    /// Writes the session's cap where it has none of its own.
    pub(super) fn cap_by(&mut self, cap: Option<u64>) {
        let Some(cap) = cap else { return };
        let Ok(found) = json::find(&self.object, &self.object, &CAP) else { return };
        let part = |range: Range<usize>| self.object.get(range).unwrap_or_default();
        let (open, end, [own]) = (found.open, self.object.len(), found.members);
        let object = match own {
            Some(own) if own.value != "null" => return,
            // It stands there once: a second one would be refused.
            Some(own) => {
                let own = own.span();
                [part(0..own.start), &cap.to_string(), part(own.end..end)].concat()
            }
            None => {
                let comma = if part(open..end).trim_ascii_start().starts_with('}') { "" } else { "," };
                [part(0..open), "\"max_output_tokens\":", &cap.to_string(), comma, part(open..end)].concat()
            }
        };
        self.object = object;
        self.is_changed = true;
    }

    /// Changes the object.
    pub(super) fn patch(&mut self, patch: Option<Patch>) {
        if let Some(Patch { replaced, bytes }) = patch {
            let rest = self.object.as_bytes().get(replaced..).unwrap_or_default();
            self.object = String::from_utf8([&bytes, rest].concat()).unwrap_or_default();
            self.is_changed = true;
        }
    }

    /// What the event is called: as its client does, or so.
    pub(super) fn named(&mut self, name: &str) -> String {
        if self.has_id {
            return self.id.clone().unwrap_or_default();
        }
        self.id = Some(name.to_owned());
        self.is_changed = true;
        name.to_owned()
    }

    /// What the session's object said as the client wrote it.
    pub(super) fn said_by_client(&self) -> Option<Settings> {
        settings(self.place.clone().and_then(|place| self.text.get(place))?)
    }

    /// What the session's object says.
    pub(super) fn said(&self) -> Option<Settings> {
        settings(&self.object)
    }

    pub(super) const fn is_of_client(&self) -> bool {
        self.is_of_client
    }

    /// Whether there is something to be sent: of ours, only if the policy has made something of it.
    pub(super) const fn is_to_send(&self) -> bool {
        self.is_of_client || self.is_changed
    }

    /// As it goes to the backend.
    pub(super) fn written(&self, mask: [u8; 4]) -> Vec<u8> {
        if !self.is_changed {
            return self.frames.clone();
        }
        let part = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        let id = match &self.id {
            Some(id) if !self.has_id => format!("\"event_id\":{},", Value::from(id.as_str())),
            _ => String::new(),
        };
        let (front, end) = (part(0..self.open), self.text.len());
        let text = match &self.place {
            Some(place) => {
                [front, &id, part(self.open..place.start), &self.object, part(place.end..end)].concat()
            }
            None if self.object == "{}" => [front, &id, part(self.open..end)].concat(),
            None => [front, &id, "\"response\":", &self.object, ",", part(self.open..end)].concat(),
        };
        frames::written(Kind::Text, text.as_bytes(), Some(mask))
    }
}

/// Refuses the shapes of the beta and of other sessions, whose caps and models nobody reads here.
fn check_shape(role: Role, object: &str) -> Result<(), Denial> {
    let [kind, beta_cap] = json::find(object, object, &SHAPE).map_err(Denial::from)?.members;
    if beta_cap.is_some() {
        let expected = "called `max_output_tokens`";
        return Err(Denial::InvalidField { field: "max_response_output_tokens", expected });
    }
    let is_other = kind
        .is_some_and(|kind| serde_json::from_str::<String>(kind.value).ok().as_deref() != Some("realtime"));
    if role == Role::Sets && is_other {
        return Err(Denial::InvalidField { field: "session.type", expected: "`realtime`" });
    }
    Ok(())
}

#[derive(Deserialize)]
struct Session<'s> {
    #[serde(borrow)]
    max_output_tokens: Option<&'s RawValue>,
    audio: Option<Value>,
    input_audio_transcription: Option<Value>,
}

fn settings(object: &str) -> Option<Settings> {
    let session: Session<'_> = serde_json::from_str(object).ok()?;
    let at = |value: &Value| value.get("model").and_then(Value::as_str).map(str::to_owned);
    let nested = session.audio.as_ref().and_then(|audio| audio.pointer("/input/transcription"));
    Some(Settings {
        cap: session.max_output_tokens.and_then(|cap| cap.get().parse().ok()),
        transcriber: nested.or(session.input_audio_transcription.as_ref()).and_then(at),
    })
}

/// An object that has this cap.
pub(super) fn capped(cap: Option<u64>) -> String {
    cap.map_or_else(|| "{}".to_owned(), |cap| format!("{{\"max_output_tokens\":{cap}}}"))
}

/// The event that ends a turn.
pub(super) fn cancel(response: &str) -> String {
    json!({ "type": "response.cancel", "response_id": response }).to_string()
}

/// The event that tells a client what it would have been answered.
pub(super) fn error(number: u64, id: Option<&str>, answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mut error = body.get("error").cloned().unwrap_or_default();
    if let Some(error) = error.as_object_mut() {
        error.insert("event_id".to_owned(), id.into());
    }
    json!({ "type": "error", "event_id": format!("event_tollgate_{number}"), "error": error }).to_string()
}

/// What a backend says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A turn began.
    Began { response: String },
    /// A part of it.
    GoesOn { response: String },
    /// It ended.
    Ended { response: String },
    /// The session is set so.
    Set(Settings),
    /// What the client said was written down, and cost something.
    Heard,
    /// A client's event was refused.
    Failed { event: String },
    /// Nothing of a turn.
    Nothing,
}

#[derive(Deserialize)]
struct Server<'s> {
    #[serde(borrow)]
    r#type: Option<Cow<'s, str>>,
    response_id: Option<Cow<'s, str>>,
    response: Option<Response<'s>>,
    error: Option<Refused<'s>>,
    session: Option<&'s RawValue>,
    usage: Option<&'s RawValue>,
}

#[derive(Deserialize)]
struct Response<'s> {
    #[serde(borrow)]
    id: Option<Cow<'s, str>>,
}

#[derive(Deserialize)]
struct Refused<'s> {
    #[serde(borrow)]
    event_id: Option<Cow<'s, str>>,
}

/// Reads what a backend says.
pub(super) fn heard(text: &str) -> Said {
    let Ok(event) = serde_json::from_str::<Server<'_>>(text) else { return Said::Nothing };
    let response = event.response.and_then(|response| response.id).unwrap_or_default().into_owned();
    match event.r#type.as_deref().unwrap_or_default() {
        "response.created" => Said::Began { response },
        "response.done" => Said::Ended { response },
        "session.created" | "session.updated" => {
            event.session.and_then(|session| settings(session.get())).map_or(Said::Nothing, Said::Set)
        }
        "error" => {
            let event = event.error.and_then(|error| error.event_id);
            event.map_or(Said::Nothing, |event| Said::Failed { event: event.into_owned() })
        }
        "conversation.item.input_audio_transcription.completed" if event.usage.is_some() => Said::Heard,
        kind if kind.ends_with(".delta") => match event.response_id {
            Some(response) => Said::GoesOn { response: response.into_owned() },
            None => Said::Nothing,
        },
        _ => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn event(text: &str) -> Result<Event, (Option<String>, Denial)> {
        let frames = frames::written(Kind::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        Event::read(Message { kind: Kind::Text, payload: text.into(), frames, mask: Some([1, 2, 3, 4]) })
    }

    fn sent(event: &Event) -> String {
        let mut messages = Vec::new();
        let mut reader = frames::Reader::new(frames::Side::Client, 10_000);
        reader.push(&event.written([9, 8, 7, 6]), &mut messages).unwrap();
        messages[0].text().unwrap().to_owned()
    }

    #[test]
    fn an_event_that_is_not_listed_is_refused() {
        for text in [
            r#"{"type":"session.delete"}"#,
            r#"{"type":"response.Create"}"#,
            r#"{"event_id":"e"}"#,
            r#"{"type":"session.update","event_id":"e"}"#,
            r#"{"type":"response.cancel","type":"response.create"}"#,
            r#"{"Type":"response.create","type":"response.cancel"}"#,
            "[]",
            "{",
        ] {
            assert!(event(text).is_err(), "{text}");
        }
        let (id, _) = event(r#"{"type":"other","event_id":"e"}"#).unwrap_err();
        assert_eq!(id.as_deref(), Some("e"));
    }

    #[test]
    fn an_event_that_is_not_changed_goes_on_as_it_came() {
        let same = event(r#"{ "type": "response.create", "event_id":"e" }"#).unwrap();
        assert_eq!(same.written([0; 4]), same.frames());
    }

    #[test]
    fn a_changed_event_keeps_all_else() {
        let mut asks = event(r#"{"type":"response.create","response":{"tools":[]},"x":1}"#).unwrap();
        asks.cap_by(Some(50));
        assert_eq!(asks.named("t_1"), "t_1");
        assert_eq!(
            sent(&asks),
            r#"{"event_id":"t_1","type":"response.create","response":{"max_output_tokens":50,"tools":[]},"x":1}"#
        );
        let mut bare = event(r#"{"type":"response.create","event_id":"e"}"#).unwrap();
        bare.cap_by(Some(7));
        assert_eq!(bare.named("t_2"), "e");
        let expected = r#"{"response":{"max_output_tokens":7},"type":"response.create","event_id":"e"}"#;
        assert_eq!(sent(&bare), expected);
        let mut own =
            event(r#"{"type":"response.create","event_id":"e","response":{"max_output_tokens":9}}"#).unwrap();
        own.cap_by(Some(7));
        assert_eq!(own.object(), r#"{"max_output_tokens":9}"#);
    }

    #[test]
    fn the_first_event_is_sent_if_the_policy_changes_it() {
        let mut first = Event::first();
        assert_eq!((first.object(), first.is_to_send()), (r#"{"type":"realtime"}"#, false));
        let bytes = br#"{"max_output_tokens":9,"type":"realtime"}"#.to_vec();
        first.patch(Some(Patch { replaced: first.object().len(), bytes }));
        let expected = r#"{"type":"session.update","session":{"max_output_tokens":9,"type":"realtime"}}"#;
        assert!(first.is_to_send());
        assert_eq!(sent(&first), expected);
    }

    #[test]
    fn what_a_backend_says_of_a_turn_is_heard() {
        let response = || "r".to_owned();
        for (text, expected) in [
            (r#"{"type":"response.created","response":{"id":"r"}}"#, Said::Began { response: response() }),
            (
                r#"{"type":"response.output_audio.delta","response_id":"r","delta":"AAAA"}"#,
                Said::GoesOn { response: response() },
            ),
            (
                r#"{"type":"response.done","response":{"id":"r","usage":{}}}"#,
                Said::Ended { response: response() },
            ),
            (
                r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"type":"tokens"}}"#,
                Said::Heard,
            ),
            (r#"{"type":"conversation.item.input_audio_transcription.completed"}"#, Said::Nothing),
            (r#"{"type":"error","error":{"event_id":"e"}}"#, Said::Failed { event: "e".to_owned() }),
            (r#"{"type":"error","error":{"event_id":null}}"#, Said::Nothing),
            (r#"{"type":"session.created"}"#, Said::Nothing),
            ("{", Said::Nothing),
        ] {
            assert_eq!(heard(text), expected, "{text}");
        }
    }
}
