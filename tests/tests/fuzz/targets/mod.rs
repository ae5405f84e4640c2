//! What holds of any bytes? Each target is a function that panics where its law is broken: libFuzzer's programs in `fuzz/`
//! call them, and the test beside this folder.

#[path = "../../differential/bodies.rs"]
#[allow(dead_code)]
mod bodies;
#[path = "../../../../filter/core/src/words/codec/every_kind.rs"]
mod every_kind;
#[path = "../../differential/forward.rs"]
mod forward;
#[path = "../../differential/policies.rs"]
mod policies;
#[path = "../../differential/view.rs"]
#[allow(dead_code)]
mod view;

use every_kind::EveryKind;
use serde_json::Value;
use tollgate::codec::{self, Reader, Stored, Writer};
use tollgate::config::from_json;
use tollgate::endpoint::Operation;
use tollgate::frames::{self, Kind, Side};
use tollgate::identity::claims::Json;
use tollgate::identity::jwt::{self, Token};
use tollgate::identity::keys::KeySet;
use tollgate::journal::Note;
use tollgate::resp;
use tollgate::sse;
use tollgate::usage::{self, Format, UsageEvent};

/// A law.
pub type Target = fn(&[u8]);

/// All of them, by their names.
pub const ALL: [(&str, Target); 7] = [
    ("body", body),
    ("sse", sse),
    ("codec", codec),
    ("resp", resp),
    ("frames", frames),
    ("token", token),
    ("config", config),
];

/// Eight bytes that choose a policy and what is asked, and a request's body: in what goes on, serde_json sees what the policy
/// saw, and that keeps the policy.
pub fn body(data: &[u8]) {
    let Some((seed, body)) = data.split_first_chunk() else { return };
    let mut dice = bodies::Dice::new(u64::from_le_bytes(*seed), 0);
    let held = forward::held_to(&mut dice, |_| body.to_vec());
    let Some(forwarded) = held.unwrap_or_else(|problem| panic!("{problem}")) else { return };
    if let Ok(seen) = serde_json::from_slice::<Value>(&forwarded.bytes)
        && let Some(problem) = forwarded.disagreement(&view::View::of(&seen))
    {
        panic!("{problem}: {}", forwarded.bytes.escape_ascii());
    }
}

/// What a stream of events came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    client_gets: Vec<u8>,
    facts: String,
}

/// A byte that says how long pieces are and what for, and a stream of events: however it is cut, the client gets the same and
/// the same is charged.
pub fn sse(data: &[u8]) {
    let Some((kind, stream)) = data.split_first() else { return };
    let operation = [Operation::ChatCompletions, Operation::Responses, Operation::Completions]
        [usize::from(kind >> 6) % 3];
    let usage_event = if kind & 32 == 0 { UsageEvent::Show } else { UsageEvent::Hide };
    let read = |bytes_each: usize| {
        let mut reader = usage::Reader::new(Format::Events, operation, usage_event);
        let mut client_gets = Vec::new();
        let mut push = |piece: &[u8], ends| match reader.push(piece, ends) {
            sse::Output::Same => client_gets.extend_from_slice(piece),
            sse::Output::Replaced(bytes) => client_gets.extend_from_slice(&bytes),
        };
        stream.chunks(bytes_each).for_each(|piece| push(piece, false));
        push(b"", true);
        let facts = format!(
            "{:?}",
            (
                reader.reported(),
                reader.usage(),
                reader.model(),
                reader.service_tier(),
                reader.status(),
                reader.id(),
                reader.has_failed(),
                reader.is_nothing(),
                reader.produced_bytes(),
            )
        );
        Outcome { client_gets, facts }
    };
    let whole = read(stream.len().max(1));
    assert_eq!(read(1 + usize::from(kind & 31)), whole, "cut otherwise");
    if usage_event == UsageEvent::Show {
        assert_eq!(whole.client_gets, stream, "nothing was to be hidden");
    }
}

/// A stored record: what is read of it, written again, is its beginning, and what is cut off is not there.
pub fn codec(data: &[u8]) {
    fn holds<T: Stored>(data: &[u8]) {
        let values = codec::decode_all::<T>(data);
        let again = codec::encode_all(&values);
        assert!(values.is_empty() || data.starts_with(&again), "written otherwise than read");
        assert_eq!(codec::decode::<T>(data).is_some(), !values.is_empty());
        if let Some((_, cut)) = again.split_last() {
            assert_eq!(codec::decode_all::<T>(cut).len(), values.len().saturating_sub(1), "cut off");
        }
    }
    holds::<EveryKind>(data);
    holds::<Note>(data);
}

/// What a store has answered: replies that are whole, and none of what is cut.
pub fn resp(data: &[u8]) {
    let Some(replies) = resp::replies(data) else { return };
    assert!(replies.len() <= resp::REPLIES_MAX);
    for reply in &replies {
        let _ = (reply.error_code(), reply.integers());
    }
    let twice = [data, data].concat();
    if twice.len() <= resp::REPLY_BYTES_MAX
        && let Some(read) = resp::replies(&twice)
    {
        assert_eq!(read, [&replies[..], &replies[..]].concat(), "one after the other");
    }
    if let Some((_, cut)) = data.split_last() {
        assert!(resp::replies(cut).is_none_or(|fewer| fewer.len() < replies.len()), "what is cut is whole");
    }
}

/// A byte that says who sends and how long pieces are, and bytes of a socket: however they are cut the same messages are read, and
/// those go on as the bytes that came.
pub fn frames(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let from = if kind & 128 == 0 { Side::Client } else { Side::Server };
    let read = |bytes_each: usize| {
        let (mut reader, mut messages) = (frames::Reader::new(from, 1 << 16), Vec::new());
        let outcome = bytes.chunks(bytes_each).try_for_each(|piece| reader.push(piece, &mut messages));
        (messages, outcome, reader.waiting_bytes())
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(read(1 + usize::from(kind & 31)), whole, "cut otherwise");
    let (messages, outcome, waiting) = whole;
    let passed: usize = messages.iter().map(|message| message.frames.len()).sum();
    let has_closed = messages.iter().any(|message| message.kind == Kind::Close);
    assert!(outcome.is_err() || has_closed || passed + waiting == bytes.len(), "bytes are lost");
    for message in messages {
        let written = frames::written(message.kind, &message.payload, message.mask);
        let (mut reader, mut read) = (frames::Reader::new(from, 1 << 16), Vec::new());
        assert_eq!(reader.push(&written, &mut read), Ok(()));
        assert_eq!((read[0].kind, &read[0].payload), (message.kind, &message.payload), "written otherwise");
    }
}

/// A token, the object in it, or a key set: no two readers see two things.
pub fn token(data: &[u8]) {
    if let Ok(token) = Token::parse(data) {
        assert!(jwt::is_meant(data), "read, though it does not look like one");
        assert!(data.starts_with(token.signed));
        assert!(matches!(token.claims, Json::Object(_)));
        for name in ["exp", "nbf", "iat"] {
            let _ = token.claims.time(name);
        }
    }
    let _ = KeySet::read(data);
    if let Some(ours) = Json::object(data) {
        let theirs: Value = serde_json::from_slice(data).expect("we read what serde_json refuses");
        assert!(is_the_same(&ours, &theirs), "{ours:?} is {theirs}");
    }
}

fn is_the_same(ours: &Json, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Json::Null, Value::Null) => true,
        (Json::Flag(ours), Value::Bool(theirs)) => ours == theirs,
        (Json::Number(ours), Value::Number(theirs)) => theirs.as_f64() == Some(*ours),
        (Json::Text(ours), Value::String(theirs)) => ours == theirs,
        (Json::List(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| is_the_same(ours, theirs))
        }
        (Json::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(name, ours)| theirs.get(name).is_some_and(|theirs| is_the_same(ours, theirs)))
        }
        _ => false,
    }
}

/// A configuration: it is taken, or every fault has a place and a sentence.
pub fn config(data: &[u8]) {
    let env = |name: &str| Some(format!("{name}-value"));
    if let Err(faults) = from_json(data, &env) {
        assert!(!faults.is_empty(), "refused, and nobody knows why");
        for fault in &faults {
            assert!(!fault.path.is_empty() && !fault.problem.is_empty(), "{fault:?}");
        }
    }
}
