//! Where does a request go that refers to what a backend keeps, and what does its client call that?

use super::body::Body;
use super::draft::Draft;
use super::preparing::{Expected, Ready};
use super::queueing::queued_response;
use super::stored::Purpose;
use super::{Headers, find};
use crate::attempt::{Bodies, Destination, Flight};
use crate::batch::Sum;
use crate::decision::Why;
use crate::denial::Denial;
use crate::endpoint::{self, Endpoint, Operation, takes_uploads};
use crate::form::Form;
use crate::gateway::{Client, Gateway, Model};
use crate::json::{self, Edits};
use crate::ledger::Pin;
use crate::media::{Media, Said};
use crate::pinning::{Pinning, Quoted, Reading, Stamp};
use crate::request::{self, Request};
use crate::route::Target;
use crate::sse::Output;
use crate::store::Moment;
use crate::usage::Format;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::rc::Rc;

/// An endpoint that has no name here: path and query after the style's prefix.
pub(super) struct Passthrough {
    pub(super) rest: String,
    pub(super) query: String,
    pub(super) purpose: Purpose,
}

/// What its body says, and how it is written.
pub(super) struct PassthroughBody<'b> {
    /// Itself, or the JSON that says the same as a form.
    pub(super) json: &'b str,
    pub(super) form: Option<&'b Form<'b>>,
    bytes: &'b [u8],
}

impl Passthrough {
    /// Whether it is about a response whose id leads to a backend, or to a refusal. Then it is one of the client's own, and
    /// whoever may make them may ask for it.
    pub(super) fn is_of_response(rest: &str) -> bool {
        let id = rest.strip_prefix("responses/").and_then(|rest| rest.split('/').next());
        id.is_some_and(Pinning::is_sealed)
    }

    /// Whether what is answered is the client's own, as it was once given to the backend.
    fn is_content(&self) -> bool {
        self.rest.ends_with("/content")
    }
}

/// Whether the body of an endpoint without a name is to be read: it may name a model, or have ids. What is uploaded is
/// not: it may be large, and the form around it has neither.
pub(super) fn reads_passthrough_body(rest: &str, headers: &Headers) -> bool {
    let content_type = find(headers, "content-type").unwrap_or_default().to_ascii_lowercase();
    !content_type.trim_ascii_start().starts_with(b"multipart/") || !takes_uploads(rest)
}

impl Draft {
    /// The targets of a model that may serve this body: all, or those at the backend that keeps what it refers to.
    pub(super) fn keepers<'m>(
        &mut self,
        client: &Client,
        operation: Operation,
        model: &'m Model,
        request: &mut Request<'_>,
    ) -> Result<Cow<'m, [Rc<Target>]>, Denial> {
        let gateway = self.gateway.clone();
        // What other operations answer is not kept; what they refer to may be, and is if it has a seal.
        let is_kept = operation.is_of_responses();
        let reads = is_kept || Pinning::may_have_sealed(request.body());
        let Some(pinned) = gateway.pinning.as_ref().filter(|_| reads) else {
            return Ok(Cow::Borrowed(&model.targets));
        };
        self.seals = is_kept;
        let reading = pinned.pinning.reading(&client.name.text);
        let mut reading = if is_kept { reading } else { reading.of_sealed_only() };
        let found = reading.body(request.body());
        for (span, text) in self.followed(&reading, found)? {
            request.splice(span, &text);
        }
        let place = reading.place();
        self.spoken = reading.spoken();
        let Some(place) = place else { return Ok(Cow::Borrowed(&model.targets)) };
        let keepers = model.targets.iter().filter(|target| target.backend.name == place);
        let keepers: Vec<_> = keepers.cloned().collect();
        if keepers.is_empty() {
            return Err(Denial::NotServedThere(model.name.text.to_string()));
        }
        Ok(Cow::Owned(keepers))
    }

    /// Notes what came of reading ids.
    fn followed<T>(&mut self, reading: &Reading<'_>, found: Result<T, Denial>) -> Result<T, Denial> {
        self.pin = match &found {
            Err(_) => Some(Pin::Refused),
            Ok(_) if reading.place().is_some() => Some(Pin::Followed),
            Ok(_) => reading.is_foreign().then_some(Pin::Unsealed),
        };
        found
    }

    /// What is permitted must be, for an endpoint with or without a name.
    pub(super) fn check_endpoint(&self, client: &Client, endpoint: &Endpoint<'_>) -> Result<(), Denial> {
        let is_own = self.is_of_kept_response(endpoint);
        client.check_endpoint(match (&self.connected, endpoint.operation) {
            // A turn may be where its connection may.
            (Some(_), operation) => operation.of_connection(),
            _ if is_own => Operation::Responses,
            (None, operation) => operation,
        })
    }

    /// Whether it asks for a response that a backend keeps, or the queue.
    fn is_of_kept_response(&self, endpoint: &Endpoint<'_>) -> bool {
        endpoint.rest.is_some_and(|(rest, _)| {
            self.gateway.pinning.is_some() && Passthrough::is_of_response(rest)
                || self.gateway.tells_of_jobs() && queued_response(rest).is_some()
        })
    }

    /// Whether there is such an endpoint, whoever asks.
    pub(super) fn has_endpoint(&self, endpoint: &Endpoint<'_>) -> bool {
        match endpoint.operation {
            Operation::Other => !self.gateway.other.is_empty() || self.is_of_kept_response(endpoint),
            operation if operation.is_socket() => self.gateway.socket(operation).is_some(),
            Operation::Job => self.gateway.tells_of_jobs(),
            operation => !operation.is_of_anthropic() || self.gateway.speaks_anthropic,
        }
    }

    /// Prepares a request to an endpoint without a name, whose body was read if it is given.
    pub(super) fn prepare_passthrough(
        &mut self,
        client: Rc<Client>,
        passthrough: Passthrough,
        body: Option<PassthroughBody<'_>>,
        moment: Moment<'_>,
    ) -> Result<Ready, Denial> {
        let gateway = self.gateway.clone();
        let (mut targets, mut patch) = (Cow::Borrowed(&*gateway.other), None);
        let (mut path, mut query) = (passthrough.rest.clone(), passthrough.query.clone());
        let (mut changes, mut fields) = (Edits::default(), Vec::new());
        if let Some(pinned) = &gateway.pinning {
            self.seals = !passthrough.is_content();
            let mut reading = pinned.pinning.reading(&client.name.text);
            let found = Restored::read(&mut reading, &passthrough, body.as_ref());
            let restored = self.followed(&reading, found)?;
            (path, query) = (restored.path, restored.query);
            let place = reading.place();
            self.spoken = reading.spoken();
            if let Some(place) = &place {
                targets = Cow::Owned(pinned.targets.get(place).cloned().into_iter().collect());
                self.leave_out(&gateway.other, &targets, Why::Pinned);
            }
            (changes, fields) = (restored.edits, restored.fields);
        }
        let batch = self.batch(&client, &passthrough, body.as_ref())?;
        // As it is written here it goes on, so it must be what the backend calls the model.
        let in_path = endpoint::model_of_path(&passthrough.rest).map(str::to_owned);
        let mut as_written: Vec<String> = in_path.into_iter().collect();
        as_written.extend(request::model_of_query(endpoint::parameters(&passthrough.query))?);
        as_written.extend(batch.as_ref().map(|batch| batch.name.clone()));
        let (mut named, mut in_body) = (Vec::new(), None);
        if let Some(PassthroughBody { json, form, bytes }) = body {
            named = request::models_of(json)?;
            as_written.extend(form.map(|form| form.models(&[])).transpose()?.unwrap_or_default());
            in_body = Some((form, bytes));
        }
        targets = self.holding_to_models(&client, &named, &as_written, targets, &mut |span, text| {
            changes.splice(span, text);
        })?;
        if let Some((form, bytes)) = in_body {
            let edits = match form {
                None => changes,
                Some(form) => {
                    let mut edits = form.edits(changes);
                    fields.iter().for_each(|(at, text)| form.write(&mut edits, *at, text));
                    edits
                }
            };
            patch = edits.patch(bytes);
        }
        Ok(Ready {
            choice: self.choose(&targets, client.asker(0), moment),
            client,
            destination: Destination::Passthrough(path, query),
            strip: Vec::new(),
            patch,
            content_length: None,
            content_type: None,
            bodies: Bodies::default(),
            expected: match batch {
                Some(batch) => batch.expected(),
                None => Expected { purpose: passthrough.purpose, ..Expected::nothing(Operation::Other) },
            },
        })
    }

    /// The same, with the body that it was held for.
    pub(super) fn prepare_read_passthrough(
        &mut self,
        held: Body,
        body: &[u8],
        moment: Moment<'_>,
    ) -> Result<Ready, Denial> {
        let Body { client, passthrough: Some(passthrough), said: Said { media, content_type }, .. } = held
        else {
            return Err(Denial::OutOfTurn);
        };
        let form = match &media {
            Media::Form(boundary) => Some(Form::read(body, boundary)?),
            _ => None,
        };
        let json = match &form {
            Some(form) => Some(form.json()),
            None => json_of(body)?,
        };
        let read = json.map(|json| PassthroughBody { json, form: form.as_ref(), bytes: body });
        let ready = self.prepare_passthrough(client, passthrough, read, moment)?;
        let patched_len = ready.patch.as_ref().map(|patch| patch.patched_len(body.len()));
        let content_length = patched_len.filter(|_| held.content_length.is_some());
        Ok(Ready { content_length, content_type, ..ready })
    }
}

/// Path and query as the backend knows them, and what makes such a body of this one.
struct Restored {
    path: String,
    query: String,
    /// Of JSON.
    edits: Edits,
    /// Of a form: the places of fields, and their texts.
    fields: Vec<(usize, String)>,
}

impl Restored {
    fn read(
        reading: &mut Reading<'_>,
        passthrough: &Passthrough,
        body: Option<&PassthroughBody<'_>>,
    ) -> Result<Self, Denial> {
        let (path, query) = (reading.path(&passthrough.rest)?, reading.query(&passthrough.query)?);
        let (mut edits, mut fields) = (Edits::default(), Vec::new());
        match body {
            Some(PassthroughBody { form: Some(form), .. }) => {
                for (at, (name, text)) in form.fields().enumerate() {
                    fields.extend(reading.field(name, text)?.map(|text| (at, text)));
                }
            }
            Some(PassthroughBody { json, .. }) => {
                for (span, text) in reading.body(json)? {
                    edits.splice(span, &text);
                }
            }
            None => {}
        }
        Ok(Self { path, query, edits, fields })
    }
}

/// A body's JSON, if it has any: ids and models may hide in what readers differ about.
fn json_of(body: &[u8]) -> Result<Option<&str>, Denial> {
    if body.is_empty() {
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

/// What puts the request's ids into its backend's error as the client wrote them.
pub(super) fn quoted(draft: &mut Draft, format: Format) -> Option<Box<Quoted>> {
    let spoken = std::mem::take(&mut draft.spoken);
    Quoted::new(spoken).filter(|_| format == Format::Json).map(Box::new)
}

/// What seals the ids of an answer by whoever was asked last.
pub(super) fn stamp(
    gateway: &Gateway,
    client: &Client,
    flight: &Flight,
    format: Format,
    sum: Option<Sum>,
) -> Option<Box<Stamp>> {
    let is_events = match format {
        Format::Json => false,
        Format::Events => true,
        Format::Text | Format::Compressed | Format::Opaque => return None,
    };
    let pinned = gateway.pinning.as_ref()?;
    let place = flight.last_tried()?.backend.name.clone();
    let stamp = Stamp::new(pinned.pinning.clone(), client.name.text.clone(), place, is_events);
    Some(Box::new(stamp.with_sum(sum)))
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
