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
use crate::denial::Denial;
use crate::endpoint::{Operation, decoded};
use crate::finding::Finding;
use crate::gateway::{Client, Gateway, WhenExhausted};
use crate::limits::Standing;
use crate::media::{Media, Said};
use crate::request::Request;
use crate::route::{Asker, Choice, Target};
use crate::store::Moment;
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
        draft.operation = Some(Operation::Realtime);
        draft.client = Some(client.clone());
        draft.budget = self.draft.budget.clone();
        draft.values = self.draft.values.clone();
        draft.priority = self.draft.priority;
        let held = Body {
            client,
            operation: Operation::Realtime,
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
            when_exhausted: self.draft.gateway.realtime?,
        })
    }

    /// The model as its client asked for it.
    #[must_use]
    pub fn model_asked(&self) -> Option<&str> {
        self.draft.asked.as_deref()
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
        let asks = self.draft.operation == Some(Operation::Realtime) && self.draft.connected.is_none();
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
    /// Finds where a connection may go: its model stands in the path.
    pub(super) fn prepare_connection(
        &mut self,
        client: Rc<Client>,
        model: Option<&str>,
        headers: &Headers,
        moment: Moment<'_>,
    ) -> Result<Ready, Denial> {
        let operation = Operation::Realtime;
        let name = decoded(model.ok_or(Denial::MissingField("model"))?).into_owned();
        let model = self.gateway.model(&client, &name)?;
        self.asked = Some(name);
        self.model = Some(model.clone());
        let is_left = |name: &str| name.starts_with("sec-websocket-") || OF_THE_HANDSHAKE.contains(&name);
        self.turn_headers = headers.iter().filter(|(name, _)| !is_left(name)).cloned().collect();
        self.turn_headers.extend(
            super::anybody::key_of_protocols(headers)
                .map(|key| ("authorization".to_owned(), [b"Bearer ", key].concat())),
        );
        let able = fitting::able(&model.targets, &model, &client, operation, &Request::read(b"{}")?)?;
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
