//! What does an event of Responses over a WebSocket mean?
//!
//! A client's event is the body of a request with its type beside it, so a policy holds all of it, and what it changes is changed in
//! place. Turns in one lane follow each other; each event of a backend is of the turn that goes on in its lane.
//! <https://developers.openai.com/api/docs/guides/websocket-mode>
//! <https://platform.openai.com/docs/api-reference/responses/websocket-events>

use super::events::{Event, Role};
use crate::answer::Answer;
use crate::denial::{Denial, shown};
use crate::frames::Message;
use crate::json::{self, Names};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;

static NAMES: Names<3> = Names::new(["type", "stream_id", "background"]);

/// What asks for a response.
const CREATE: &str = "response.create";

/// The longest name of a lane.
const LANE_BYTES_MAX: usize = 256;

/// Headers of a refusal that its event has, too: when to ask again.
const TOLD_HEADERS: [&str; 2] = ["retry-after", "retry-after-ms"];

/// Reads a client's message; or why it does not go on, with its lane.
pub(super) fn read(message: Message) -> Result<Event, (Option<String>, Denial)> {
    let text = message.text().unwrap_or_default().to_owned();
    let [kind, lane, background] =
        json::find(&text, &text, &NAMES).map_err(|fault| (None, Denial::from(fault)))?.members;
    let word = |member: json::Member<'_>| serde_json::from_str::<String>(member.value).ok();
    let lane = match lane {
        Some(member) => {
            // The backend would refuse another in no lane at all, as if that were of a turn without one.
            let is_lane = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            let lane = word(member)
                .filter(|lane| (1..=LANE_BYTES_MAX).contains(&lane.len()) && lane.bytes().all(is_lane));
            let expected = "1 to 256 of letters, digits and _ - .";
            Some(lane.ok_or((None, Denial::InvalidField { field: "stream_id", expected }))?)
        }
        None => None,
    };
    let Some(kind) = kind.and_then(word) else { return Err((lane, Denial::MissingField("type"))) };
    if kind != CREATE {
        let (asked, allowed) = (shown(&kind), vec![CREATE.to_owned()]);
        return Err((lane, Denial::NotAllowed { field: "type", asked, allowed }));
    }
    if background.is_some_and(|member| !matches!(member.value, "false" | "null")) {
        // It would be work that no turn ends.
        return Err((lane, Denial::InvalidField { field: "background", expected: "false by WebSocket" }));
    }
    Ok(Event::whole(Role::Asks, lane, text, message.frames))
}

/// The event that tells a client what it would have been answered.
pub(super) fn error(lane: Option<&str>, answer: &Answer) -> String {
    let mut event: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let Some(event) = event.as_object_mut() {
        event.insert("type".to_owned(), "error".into());
        event.insert("status".to_owned(), answer.status.into());
        event.extend(lane.map(|lane| ("stream_id".to_owned(), lane.into())));
        let told = answer.headers.iter().filter(|(name, _)| TOLD_HEADERS.contains(name));
        let told: Vec<_> = told.map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        if !told.is_empty() {
            event.insert("headers".to_owned(), Value::Object(told.into_iter().collect()));
        }
    }
    event.to_string()
}

/// What a backend says, and in which lane; that of those without a name is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) lane: String,
    pub(super) kind: Kind,
    /// The model whose response it is, as the backend calls it.
    pub(super) model: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of a turn.
    GoesOn,
    /// The end of one, with its usage.
    Ended,
    /// A turn was refused, or broke off.
    Failed { status: u16 },
    /// Nothing of a turn.
    Other,
}

#[derive(Deserialize)]
struct Server<'s> {
    #[serde(borrow)]
    r#type: Option<Cow<'s, str>>,
    #[serde(borrow)]
    stream_id: Option<Cow<'s, str>>,
    #[serde(alias = "status_code")]
    status: Option<Value>,
    #[serde(borrow)]
    response: Option<&'s RawValue>,
}

#[derive(Deserialize)]
struct Response<'s> {
    #[serde(borrow)]
    model: Option<Cow<'s, str>>,
}

/// Reads what a backend says.
pub(super) fn heard(text: &str) -> Said {
    let event = serde_json::from_str::<Server<'_>>(text).ok();
    let (kind, lane, status, response) =
        event.map(|event| (event.r#type, event.stream_id, event.status, event.response)).unwrap_or_default();
    let kind = match kind.as_deref().unwrap_or_default() {
        "response.completed" | "response.incomplete" | "response.failed" => Kind::Ended,
        "error" => {
            let status =
                status.as_ref().and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
            Kind::Failed { status: status.filter(|status| (400..600).contains(status)).unwrap_or(400) }
        }
        kind if kind.starts_with("response.") => Kind::GoesOn,
        _ => Kind::Other,
    };
    let response = response.filter(|_| kind == Kind::Ended);
    let response = response.and_then(|response| serde_json::from_str::<Response<'_>>(response.get()).ok());
    let model = response.and_then(|response| response.model).map(Cow::into_owned);
    Said { lane: lane.unwrap_or_default().into_owned(), kind, model }
}
