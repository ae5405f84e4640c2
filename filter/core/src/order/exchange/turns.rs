//! How does one connection have many requests?
//!
//! The connection is an exchange of its own: it decides who asks and where it goes, and takes a place. Each turn on it is another,
//! from the same headers: so a key that was revoked and a configuration that has changed are met at the next turn. It takes what
//! counts tokens, money and requests, goes where the connection does, and is charged whatever became of it. Not decided here: what
//! begins a turn, and what ends it.

use super::body::Body;
use super::draft::Draft;
use super::preparing::{Expected, Ready};
use super::{Exchange, Headers, Next, Phase, Step, fitting};
use crate::attempt::{Bodies, Destination};
use crate::decision::Why;
use crate::denial::{Denial, shown};
use crate::endpoint::{Operation, decoded};
use crate::finding::Finding;
use crate::gateway::{Client, Gateway, HeldBytes, Model, WhenExhausted};
use crate::limits::Standing;
use crate::media::{Media, Said};
use crate::request::Request;
use crate::route::{Asker, Choice, Target};
use crate::store::Moment;
use std::borrow::Cow;
use std::rc::Rc;

/// What ends with the handshake, or is said anew for each turn.
const OF_THE_HANDSHAKE: [&str; 5] =
    ["connection", "content-length", "content-type", "transfer-encoding", "upgrade"];

/// So much that policies found of a connection is kept: it may last for an hour, and change its session each second.
const FINDINGS_MAX: usize = 64;

/// What a turn goes by, besides its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The backend that the connection is with.
    pub backend: Rc<str>,
    /// The tokens of what was said before, which are part of its prompt.
    pub context_tokens: u64,
    /// Whether it only sets what later turns go by: it costs nothing.
    pub is_setting: bool,
    /// Whether the backend has begun it by itself, or even ended it: it is charged, whatever the limits say.
    pub is_begun: bool,
}

/// A connection that is open.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The headers that each turn has.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The backend that it is with.
    pub backend: Rc<str>,
    /// The longest message that its client may send.
    pub message_bytes_max: usize,
    /// What happens when the client's limits are used up.
    pub when_exhausted: WhenExhausted,
    /// What each turn is.
    pub turns: Operation,
    /// What of it is held is held for this client.
    pub held_bytes: Rc<HeldBytes>,
}

impl Exchange {
    /// A turn of an open connection, for which its client asks.
    #[must_use]
    pub fn of_turn(gateway: Rc<Gateway>, connected: Connected) -> Self {
        let mut exchange = Self::new(gateway);
        exchange.draft.connected = Some(connected);
        exchange
    }

    /// A turn that the backend of this connection has begun by itself, for the connection's client: of the connection's model, or
    /// of this one.
    #[must_use]
    pub fn begun_turn(
        &self,
        connected: Connected,
        model: Option<&str>,
        body: &[u8],
        moment: Moment<'_>,
    ) -> Option<(Self, Step)> {
        let client = self.draft.client.clone()?;
        let mut turn = Self::of_turn(self.draft.gateway.clone(), connected);
        let draft = &mut turn.draft;
        draft.began = moment.now;
        let operation = self.draft.operation.map(Operation::of_turns)?;
        draft.operation = Some(operation);
        draft.client = Some(client.clone());
        draft.budget = self.draft.budget.clone();
        draft.values = self.draft.values.clone();
        draft.priority = self.draft.priority;
        let held = Body {
            client,
            operation,
            deployment: model.map(str::to_owned).or_else(|| self.draft.asked.clone()),
            said: Said { media: Media::Json, content_type: None },
            content_length: None,
            passthrough: None,
        };
        let (phase, step) = held.on_body(body, moment, draft);
        turn.phase = phase;
        Some((turn, step))
    }

    /// The connection, once its backend has agreed to it.
    #[must_use]
    pub fn opened(&self) -> Option<Opened> {
        let Phase::Sent(sent) = &self.phase else { return None };
        let client = self.draft.client.as_ref().filter(|_| sent.has_switched())?;
        Some(Opened {
            headers: self.draft.turn_headers.clone(),
            backend: sent.flight.last_tried()?.backend.name.clone(),
            message_bytes_max: client.request_bytes_max(),
            when_exhausted: self.draft.gateway.socket(self.draft.operation?)?,
            turns: self.draft.operation?.of_turns(),
            held_bytes: client.held_bytes.clone(),
        })
    }

    /// The model as its client asked for it.
    #[must_use]
    pub fn model_asked(&self) -> Option<&str> {
        self.draft.asked.as_deref()
    }

    /// What this client calls the model that its connection's backend calls so, perhaps with the date of its version behind.
    #[must_use]
    pub fn model_at(&self, backend: &str, told: &str) -> Option<String> {
        let client = self.draft.client.as_deref()?;
        let is_meant = |deployment: &str| {
            let version = told.strip_prefix(deployment).map(|rest| (rest.is_empty(), rest.strip_prefix('-')));
            version.is_some_and(|(is_same, version)| {
                let is_date = |byte: u8| byte.is_ascii_digit() || byte == b'-';
                is_same || version.is_some_and(|version| version.bytes().all(is_date))
            })
        };
        let is_there = |model: &&Rc<Model>| {
            model
                .targets
                .iter()
                .any(|target| *target.backend.name == *backend && is_meant(&target.deployment))
        };
        let found = self.draft.gateway.models_for(Some(client)).find(is_there);
        found.map(|model| model.name.text.to_string())
    }

    /// Notes that a turn has gone where its connection is.
    pub fn goes_with_connection(&self) {
        if let Phase::Sent(sent) = &self.phase {
            sent.flight.is_connected();
        }
    }

    /// Whether it asks for a connection, and no backend has answered yet: what its client sends already is no body, not even
    /// while keys, stores or room are waited for.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        let asks = self.draft.operation.is_some_and(Operation::is_socket) && self.draft.connected.is_none();
        asks && match &self.phase {
            Phase::Sent(sent) => sent.is_connecting(),
            Phase::Interrupted(_) | Phase::Closed(_) => false,
            _ => true,
        }
    }

    /// Why a turn that was begun already ought not to go on.
    #[must_use]
    pub fn overdrawn(&self) -> Option<&Denial> {
        self.draft.overdrawn.as_ref()
    }

    /// Adds what policies found of the connection's messages.
    pub fn find(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            if self.draft.findings.len() < FINDINGS_MAX && !self.draft.findings.contains(&finding) {
                self.draft.found([finding]);
            }
        }
    }
}

impl Draft {
    /// Finds where a connection may go.
    pub(super) fn prepare_connection(
        &mut self,
        client: Rc<Client>,
        operation: Operation,
        model: Option<&str>,
        headers: &Headers,
        moment: Moment<'_>,
    ) -> Result<Ready, Denial> {
        let (name, model) = self.model_of_connection(&client, operation, model)?;
        self.asked = Some(name);
        self.model = Some(model.clone());
        let is_left = |name: &str| name.starts_with("sec-websocket-") || OF_THE_HANDSHAKE.contains(&name);
        self.turn_headers = headers.iter().filter(|(name, _)| !is_left(name)).cloned().collect();
        if operation != operation.of_turns() {
            // Each turn is what by HTTP is asked at the same path.
            let method = self.turn_headers.iter_mut().filter(|(name, _)| name == ":method");
            method.for_each(|(_, value)| *value = b"POST".to_vec());
        }
        self.turn_headers.extend(
            super::anybody::key_of_protocols(headers)
                .map(|key| ("authorization".to_owned(), [b"Bearer ", key].concat())),
        );
        let able = able(&model, &client, operation)?;
        self.leave_out(&model.targets, &able, Why::Unsupported);
        let asker = Asker { model: Some(&model.name.text), ..client.asker(model.lot(&client, moment.now)) };
        let choice = self.choose(&able, asker, moment);
        Ok(Ready {
            choice,
            client,
            destination: Destination::Deployment(operation),
            strip: Vec::new(),
            patch: None,
            content_length: None,
            content_type: None,
            bodies: Bodies::default(),
            expected: Expected::nothing(operation),
        })
    }

    /// The model whose backends a connection goes to. Realtime's stands in the path; of Responses each turn names its own, so the
    /// operator says which one counts, or the client's first does.
    fn model_of_connection(
        &self,
        client: &Client,
        operation: Operation,
        named: Option<&str>,
    ) -> Result<(String, Rc<Model>), Denial> {
        if let Some(name) = named {
            let name = decoded(name).into_owned();
            return self.gateway.model(client, &name).map(|model| (name, model));
        }
        let socket =
            self.gateway.responses_socket.as_ref().filter(|_| operation == Operation::ResponsesSocket);
        let socket = socket.ok_or(Denial::MissingField("model"))?;
        let is_able = |model: &&Rc<Model>| able(model, client, operation).is_ok_and(|able| !able.is_empty());
        let model = match &socket.model {
            Some(model) if !client.may_use(model) => {
                return Err(Denial::ModelNotAllowed(shown(&model.name.text)));
            }
            Some(model) => Some(model),
            None => self.gateway.models_for(Some(client)).find(is_able),
        };
        // Where it is not served so, clients ask the same by HTTP.
        model.map(|model| (model.name.text.to_string(), model.clone())).ok_or(Denial::UpgradeRefused)
    }

    /// Where a turn goes: with its connection, or nowhere.
    pub(super) fn choose_connected(
        &self,
        connected: &Connected,
        able: &[Rc<Target>],
        client: &Client,
    ) -> Result<Choice, Denial> {
        let with = able.iter().find(|target| target.backend.name == connected.backend);
        let name = || self.model.as_ref().map(|model| model.name.text.to_string()).unwrap_or_default();
        let target = with.ok_or_else(|| Denial::NotServedThere(name()))?;
        if !target.is_in(client.regions.as_deref()) {
            return Err(Denial::NoRegion);
        }
        Ok(Choice { targets: vec![target.clone()], ..Choice::default() })
    }

    /// Lets what only sets what later turns go by pass, for it costs nothing.
    pub(super) fn pass_setting(&mut self, mut ready: Ready) -> Next {
        match std::mem::replace(&mut ready.choice, Ok(Choice::default())) {
            Ok(choice) => {
                let nothing = super::sent::Taken::default();
                super::sent::Sent::begin(ready, choice, None, Standing::default(), nothing, self)
            }
            Err(denial) => self.deny(&denial),
        }
    }
}

/// The targets of a model that have sockets of this operation.
fn able<'m>(
    model: &'m Model,
    client: &Client,
    operation: Operation,
) -> Result<Cow<'m, [Rc<Target>]>, Denial> {
    let able = fitting::able(&model.targets, model, client, operation, &Request::read(b"{}")?);
    match able {
        // At this, clients ask the same by HTTP.
        Err(Denial::OtherApi(_)) if operation == Operation::ResponsesSocket => Err(Denial::UpgradeRefused),
        able => able,
    }
}

/// What stands in an event beside the fields of the request that it is.
/// <https://platform.openai.com/docs/api-reference/responses/websocket-events>
const ENVELOPE: [&str; 3] = ["generate", "stream_id", "type"];

/// Leaves to the event what is its own, and not of the request in it. What answers one of Responses is always a stream.
pub(super) fn open_envelope(operation: Operation, request: &mut Request<'_>) {
    if operation == Operation::Responses {
        request.ungoverned.retain(|member| !ENVELOPE.contains(&&*member.name));
        request.stream = true;
    }
}

/// Holds a body of Realtime to the model of its path: one that it names has to be the same.
pub(super) fn check_model(draft: &Draft, client: &Client, request: &mut Request<'_>) -> Result<(), Denial> {
    let (Some(named), Some(model)) = (request.model.clone(), &draft.model) else { return Ok(()) };
    let meant = draft.gateway.model(client, &named)?;
    if !Rc::ptr_eq(&meant, model) {
        return Err(Denial::NotServedThere(meant.name.text.to_string()));
    }
    let target = draft
        .connected
        .as_ref()
        .and_then(|connected| model.targets.iter().find(|target| target.backend.name == connected.backend));
    if let Some(target) = target {
        request.set_model(&target.deployment);
    }
    Ok(())
}
