//! Where does a request go that refers to what a backend keeps, and what does its client call that?

use super::preparing::{Expected, Held, Ready};
use super::{Exchange, Headers, find};
use crate::attempt::{Bodies, Destination, Flight};
use crate::decision::Why;
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::gateway::{Client, Gateway, Model};
use crate::json::{self, Edits, Patch};
use crate::ledger::Pin;
use crate::pinning::{Reading, Stamp};
use crate::request::Request;
use crate::route::Target;
use crate::sse::Output;
use crate::store::Store;
use crate::usage::Format;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

/// An endpoint that has no name here: path and query after the style's prefix.
pub(super) struct Other {
    pub(super) rest: String,
    pub(super) query: String,
}

impl Other {
    /// Whether what is answered is the client's own, as it was once given to the backend.
    fn is_content(&self) -> bool {
        self.rest.ends_with("/content")
    }
}

impl Exchange {
    /// Whether the body of an endpoint without a name is to be read. What is uploaded is not: it may be large, and the
    /// form around it has no ids.
    pub(super) fn reads_body_of_other(&self, headers: &Headers) -> bool {
        let content_type = find(headers, "content-type").unwrap_or_default().to_ascii_lowercase();
        self.gateway.pinning.is_some() && !content_type.trim_ascii_start().starts_with(b"multipart/")
    }

    /// The targets of a model that may serve this body: all, or the one that keeps what it refers to.
    pub(super) fn keepers<'m>(
        &mut self,
        client: &Client,
        operation: Operation,
        model: &'m Model,
        request: &mut Request<'_>,
    ) -> Result<Cow<'m, [Rc<Target>]>, Denial> {
        let gateway = self.gateway.clone();
        let Some(pinned) = gateway.pinning.as_ref().filter(|_| operation == Operation::Responses) else {
            return Ok(Cow::Borrowed(&model.targets));
        };
        self.known.seals = true;
        let mut reading = pinned.pinning.reading(&client.name.text);
        let found = reading.body(request.body());
        for (span, text) in self.followed(&reading, found)? {
            request.splice(span, &text);
        }
        let Some(place) = reading.place() else { return Ok(Cow::Borrowed(&model.targets)) };
        let keeper = model.targets.iter().find(|target| target.backend.name == place);
        let keeper = keeper.ok_or_else(|| Denial::NotServedThere(model.name.text.to_string()))?;
        Ok(Cow::Owned(vec![keeper.clone()]))
    }

    /// Notes what came of reading ids.
    fn followed<T>(&mut self, reading: &Reading<'_>, found: Result<T, Denial>) -> Result<T, Denial> {
        self.known.pin = match &found {
            Err(_) => Some(Pin::Refused),
            Ok(_) if reading.place().is_some() => Some(Pin::Followed),
            Ok(_) => reading.is_foreign().then_some(Pin::Unsealed),
        };
        found
    }

    /// Prepares a request to an endpoint without a name, whose body was read if it is given.
    pub(super) fn prepare_other(
        &mut self,
        client: Rc<Client>,
        other: Other,
        body: Option<&str>,
        local: &dyn Store,
        now: Duration,
    ) -> Result<Ready, Denial> {
        let gateway = self.gateway.clone();
        let (mut targets, mut patch) = (Cow::Borrowed(&*gateway.other), None);
        let (mut path, mut query) = (other.rest.clone(), other.query.clone());
        if let Some(pinned) = &gateway.pinning {
            self.known.seals = !other.is_content();
            let mut reading = pinned.pinning.reading(&client.name.text);
            let found = restored(&mut reading, &other, body);
            (path, query, patch) = self.followed(&reading, found)?;
            if let Some(place) = reading.place() {
                targets = Cow::Owned(pinned.targets.get(&place).cloned().into_iter().collect());
                self.leave_out(&gateway.other, &targets, Why::Pinned);
            }
        }
        Ok(Ready {
            choice: self.choose(&targets, &client, 0, None, local, now),
            client,
            destination: Destination::Other(path, query),
            strip: Vec::new(),
            patch,
            content_length: None,
            bodies: Bodies::default(),
            expected: Expected::nothing(Operation::Other),
        })
    }

    /// The same, with the body that it was held for.
    pub(super) fn prepare_read_other(
        &mut self,
        held: Held,
        body: &[u8],
        local: &dyn Store,
        now: Duration,
    ) -> Result<Ready, Denial> {
        let Held { client, other, content_type, has_content_length, .. } = held;
        let other = other.ok_or(Denial::OutOfTurn)?;
        let text = json_of(body, &content_type)?;
        let ready = self.prepare_other(client, other, text, local, now)?;
        let patched_len = ready.patch.as_ref().map(|patch| patch.patched_len(body.len()));
        Ok(Ready { content_length: patched_len.filter(|_| has_content_length), ..ready })
    }
}

/// Path, query and body as the backend knows them.
fn restored(
    reading: &mut Reading<'_>,
    other: &Other,
    body: Option<&str>,
) -> Result<(String, String, Option<Patch>), Denial> {
    let (path, query) = (reading.path(&other.rest)?, reading.query(&other.query)?);
    let Some(body) = body else { return Ok((path, query, None)) };
    let mut edits = Edits::default();
    for (span, text) in reading.body(body)? {
        edits.splice(span, &text);
    }
    Ok((path, query, edits.patch(body.as_bytes())))
}

/// A body's JSON, if it is said or seems to be some: then it must be, for ids may hide in what readers differ about.
fn json_of<'b>(body: &'b [u8], content_type: &[u8]) -> Result<Option<&'b str>, Denial> {
    let is_said = content_type.to_ascii_lowercase().windows(4).any(|word| word == b"json");
    let seems = body.trim_ascii_start().starts_with(b"{");
    if body.is_empty() || !(is_said || seems) {
        return Ok(None);
    }
    let text = json::text(body).and_then(|text| match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(text),
        Err(error) => Err(json::Fault::Syntax(error.to_string())),
    });
    match text {
        Ok(text) => Ok(Some(text)),
        Err(json::Fault::Syntax(problem)) => Err(Denial::InvalidJson(problem)),
        Err(_) => Err(Denial::NotAnObject),
    }
}

/// What seals the ids of an answer by whoever was asked last.
pub(super) fn stamp(
    gateway: &Gateway,
    client: &Client,
    flight: &Flight,
    format: Format,
) -> Option<Box<Stamp>> {
    let is_events = match format {
        Format::Json => false,
        Format::Events => true,
        Format::Compressed | Format::Opaque => return None,
    };
    let pinned = gateway.pinning.as_ref()?;
    let place = flight.last_tried()?.backend.name.clone();
    Some(Box::new(Stamp::new(pinned.pinning.clone(), client.name.text.clone(), place, is_events)))
}

/// A chunk, after what else was done to it.
pub(super) fn stamped(stamp: &mut Stamp, chunk: &[u8], output: Output, end: bool) -> Output {
    match output {
        Output::Same => stamp.push(chunk, end),
        Output::Replaced(bytes) => match stamp.push(&bytes, end) {
            Output::Same => Output::Replaced(bytes),
            sealed => sealed,
        },
    }
}
