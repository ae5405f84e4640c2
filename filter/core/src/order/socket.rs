//! One conversation by a WebSocket: what goes on of what each side says, and what does it cost?
//!
//! Each turn is an exchange of its own, decided as any request is. What a client sends waits until the turn that it asks for is
//! decided; what a backend sends goes on at once, and is read beside that. A word of ours to the other side rides on its answer to
//! a ping: only in a callback of a side's own can something be sent to the other. Not decided here: what a turn may cost, nor what
//! the events mean, which is `events`' and `responses`'.

mod events;
mod hearing;
mod responses;
mod turn;

use crate::answer::Answer;
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::exchange::{Connected, Exchange, Finished, Interruption, Opened, Step};
use crate::frames::{self, Breach, Kind, Message, Reader, Side};
use crate::gateway::{BodyRoom, Gateway, WhenExhausted};
use crate::ledger::Turns;
use crate::limits::{Claim, Grant};
use crate::store::{Moment, StoreFault};
use events::{Event, Role};
use hearing::Unsure;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use turn::Turn;

/// The longest message of a backend: a session with all its tools, or a second of sound.
const BACKEND_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// So many turns of Responses a backend has at once: of one more it says in no lane that it refuses it.
/// <https://developers.openai.com/api/docs/guides/websocket-mode>
const RESPONSES_MAX: usize = 16;

/// Of so many models that write down it is known what their client calls them.
const TRANSCRIBERS_MAX: usize = 16;

/// So many turns may be open at once: a backend has one at a time, and a few that are asked for before it ends.
const TURNS_MAX: usize = 64;

/// So much of what we say to a side may wait until we hear from it.
const UNSAID_BYTES_MAX: usize = 1024 * 1024;

/// So many messages of a client may wait to be looked at.
const UNREAD_MAX: usize = 4096;

/// What our pings say, so that their answers go no further.
const OUR_PING: &[u8] = b"tollgate";

/// A close frame's code for whoever may not go on. <https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1>
const POLICY: u16 = 1008;
const ENDED: &str = "the gateway's limits are used up, or the key may not do this any more";
/// For what there is no room now.
const TRY_LATER: u16 = 1013;
/// For what is no text.
const UNSUPPORTED: u16 = 1003;

/// A store's answer to a claim.
pub enum Asked {
    /// It is decided.
    Now(Result<Grant, StoreFault>),
    /// Somebody has to be asked first: the claim is made again.
    Later(Claim),
}

/// What a callback meets.
pub struct World<'w> {
    /// The store of this process, and the time.
    pub moment: Moment<'w>,
    /// Makes a claim, which was first made then if it is made again.
    pub reserve: &'w mut dyn FnMut(Claim, Option<Duration>) -> Asked,
}

/// A client's message whose turn is being decided.
struct Asking {
    exchange: Exchange,
    event: Event,
    /// The claim that is to be made again.
    claim: Option<Claim>,
    /// When it was first made.
    since: Option<Duration>,
}

/// A refusal that waits for the turns before it in its lane: an error in the middle of them would be taken for theirs.
struct Refusal {
    lane: String,
    /// So many turns are before it.
    behind: usize,
    event: String,
}

/// One conversation.
pub struct Socket {
    gateway: Rc<Gateway>,
    opened: Opened,
    client: Reader,
    backend: Reader,
    /// What the client has sent and nobody has looked at.
    unread: VecDeque<Message>,
    /// What they take.
    unread_bytes: usize,
    /// Room for what is held of both sides.
    room: BodyRoom,
    asking: Option<Asking>,
    /// Whose client is asked about.
    unsure: Option<Unsure>,
    /// The turns whose end has not come, in the order in which they began.
    turns: Vec<Turn>,
    /// What goes to each side with its next bytes.
    to_backend: Vec<u8>,
    to_client: Vec<u8>,
    /// The mask of what is written to the backend: the client's own last one.
    mask: [u8; 4],
    /// Whether the policy's defaults have been sent.
    has_begun: bool,
    /// What later turns go by.
    cap: Option<u64>,
    transcriber: Option<String>,
    /// Whether the backend has named a lane.
    has_lanes: bool,
    /// What the client calls models that write down, and what it is at the backend.
    transcribers: VecDeque<(String, String)>,
    /// Whether the backend has told what its session goes by.
    is_told: bool,
    context_tokens: u64,
    /// Refusals that the client is not told yet.
    refusals: VecDeque<Refusal>,
    /// How many events of ours there were.
    events: u64,
    /// We have closed it: nothing goes on any more.
    is_ended: bool,
    finished: Vec<Finished>,
    totals: Turns,
}

impl Socket {
    /// A conversation on an open connection.
    #[must_use]
    pub fn new(gateway: Rc<Gateway>, opened: Opened) -> Self {
        Self {
            gateway,
            client: Reader::new(Side::Client, opened.message_bytes_max),
            backend: Reader::new(Side::Server, BACKEND_MESSAGE_BYTES_MAX),
            room: BodyRoom::new(opened.held_bytes.clone()),
            opened,
            unread: VecDeque::new(),
            unread_bytes: 0,
            asking: None,
            unsure: None,
            turns: Vec::new(),
            to_backend: Vec::new(),
            to_client: Vec::new(),
            mask: [0; 4],
            has_begun: false,
            cap: None,
            transcriber: None,
            has_lanes: false,
            transcribers: VecDeque::new(),
            is_told: false,
            context_tokens: 0,
            refusals: VecDeque::new(),
            events: 0,
            is_ended: false,
            finished: Vec::new(),
            totals: Turns::default(),
        }
    }

    /// Whether something is waited for that no callback brings.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.holds() || self.unsure.is_some()
    }

    /// Whether a message of the client's waits for it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.asking.is_some()
    }

    /// The turns that have ended since this was last asked.
    pub fn finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Under which configuration the next turns are decided.
    pub fn serve_under(&mut self, gateway: &Rc<Gateway>) {
        self.gateway = gateway.clone();
    }

    /// Closes it, because its client has sent more before it was open than is kept.
    pub fn came_too_early(&mut self) {
        self.break_off(Breach::TooLong);
    }

    /// Takes what the client sends, and answers what goes to the backend.
    pub fn client_says(&mut self, bytes: &[u8], session: &mut Exchange, world: &mut World<'_>) -> Vec<u8> {
        if self.is_ended {
            return std::mem::take(&mut self.to_backend);
        }
        let mut messages = Vec::new();
        let read = self.client.push(bytes, &mut messages);
        self.mask = messages.iter().rev().find_map(|message| message.mask).unwrap_or(self.mask);
        self.unread_bytes =
            messages.iter().map(Message::bytes).fold(self.unread_bytes, usize::saturating_add);
        self.unread.extend(messages);
        self.go_on(session, world);
        // Each is there as it came, and as it is read.
        let is_too_much =
            self.unread_bytes / 2 > self.opened.message_bytes_max || self.unread.len() > UNREAD_MAX;
        let breach = read.err().or(is_too_much.then_some(Breach::TooLong));
        if let Some(breach) = breach.filter(|_| !self.is_ended) {
            self.break_off(breach);
        }
        let open = self.turns.len().saturating_add(self.refusals.len());
        let is_too_much = open > TURNS_MAX || self.to_client.len() > UNSAID_BYTES_MAX;
        if is_too_much && !self.is_ended {
            // Whole frames of ours: none of them is missed.
            self.to_client.clear();
            self.close(POLICY, "too much is asked at once");
        }
        self.make_room();
        std::mem::take(&mut self.to_backend)
    }

    /// Goes on with what waits, if it has come, and answers what goes to the backend. Where no message waits, nothing can be sent
    /// now: what is to be said goes with the next bytes.
    pub fn wake(&mut self, session: &mut Exchange, world: &mut World<'_>) -> Vec<u8> {
        self.make_sure(world.moment);
        let Some(mut asking) = self.asking.take() else { return Vec::new() };
        if self.is_ended {
            let finished = asking.exchange.finish(world.moment, || Interruption::Client);
            self.note(finished);
            return std::mem::take(&mut self.to_backend);
        }
        let step = match asking.claim.take() {
            Some(claim) => Some(Step::Reserve(claim)),
            None => asking.exchange.wake(world.moment),
        };
        match step {
            Some(step) => self.decide(asking, step, session, world),
            None => self.asking = Some(asking),
        }
        self.go_on(session, world);
        self.make_room();
        std::mem::take(&mut self.to_backend)
    }

    /// Takes what the backend sends, and answers what goes to the client.
    pub fn backend_says(&mut self, bytes: &[u8], session: &Exchange, world: &mut World<'_>) -> Vec<u8> {
        let mut messages = Vec::new();
        let read = self.backend.push(bytes, &mut messages);
        for message in messages {
            let is_ours = message.kind == Kind::Pong && message.payload == OUR_PING;
            let is_response = self.opened.turns == Operation::Responses;
            let text = message.text();
            let told = text.filter(|_| is_response).and_then(|text| self.hear_response(text, session, world));
            if !is_ours && !self.is_ended {
                match told {
                    Some(told) if told.is_empty() => {}
                    Some(told) => self.to_client.extend(frames::written(Kind::Text, told.as_bytes(), None)),
                    None => self.to_client.extend_from_slice(&message.frames),
                }
                self.tell_refused();
            }
            if let Some(text) = text.filter(|_| !is_response) {
                self.hear(text, session, world);
            }
        }
        if let Err(breach) = read
            && !self.is_ended
        {
            self.break_off(breach);
        }
        let is_too_much = self.turns.len() > TURNS_MAX || self.to_backend.len() > UNSAID_BYTES_MAX;
        if is_too_much && !self.is_ended {
            self.to_backend.clear();
            self.close(POLICY, "too much is begun at once");
        }
        self.make_room();
        std::mem::take(&mut self.to_client)
    }

    /// Ends it, whoever broke it off: what has been seen of each turn is charged.
    pub fn end(&mut self, world: &mut World<'_>, interruption: impl Fn() -> Interruption) -> Turns {
        for turn in std::mem::take(&mut self.turns) {
            self.close_turn(turn, world.moment, &interruption);
        }
        if let Some(mut asking) = self.asking.take() {
            let finished = asking.exchange.finish(world.moment, &interruption);
            self.note(finished);
        }
        self.unsure = None;
        std::mem::take(&mut self.totals)
    }

    /// Goes on with the client's messages until one has to wait.
    fn go_on(&mut self, session: &mut Exchange, world: &mut World<'_>) {
        while self.asking.is_none()
            && let Some(message) = self.unread.pop_front()
        {
            self.unread_bytes = self.unread_bytes.saturating_sub(message.bytes());
            self.take(message, session, world);
        }
    }

    /// Takes room for what is held now, or closes it.
    fn make_room(&mut self) {
        let parts = [self.unread_bytes, self.client.waiting_bytes(), self.backend.waiting_bytes()];
        let fits = self.room.change_to(parts.into_iter().fold(0, usize::saturating_add));
        if !fits && !self.is_ended {
            self.close(TRY_LATER, "too much is held of this client");
            self.make_room();
        }
    }

    fn take(&mut self, message: Message, session: &mut Exchange, world: &mut World<'_>) {
        match message.kind {
            Kind::Pong if message.payload == OUR_PING => return,
            _ if self.is_ended => return,
            Kind::Close | Kind::Ping | Kind::Pong => {
                return self.to_backend.extend_from_slice(&message.frames);
            }
            Kind::Binary => return self.close(UNSUPPORTED, "only text is read here"),
            _ => {}
        }
        let is_response = self.opened.turns == Operation::Responses;
        if !is_response && !std::mem::replace(&mut self.has_begun, true) {
            // What the policy sets where nothing is said holds for turns that nobody asks for, too.
            self.unread_bytes = self.unread_bytes.saturating_add(message.bytes());
            self.unread.push_front(message);
            return self.ask(Event::first(), session, world);
        }
        let read = if is_response { responses::read(message) } else { Event::read(message) };
        match read {
            Ok(event) if event.role() == Role::Passes => {
                self.context_tokens = self.context_tokens.saturating_add(event.context_tokens());
                self.to_backend.extend_from_slice(event.frames());
            }
            Ok(event) if is_response && self.turns.len() >= RESPONSES_MAX => {
                let expected = "one of at most 16 at once";
                let denial = Denial::InvalidField { field: "response.create", expected };
                self.refuse(event.id(), &denial.answer());
            }
            Ok(event) => self.ask(event, session, world),
            Err((id, denial)) => self.refuse(id.as_deref(), &denial.answer()),
        }
    }

    fn connected(&self, is_setting: bool, is_begun: bool) -> Connected {
        let (backend, context_tokens) = (self.opened.backend.clone(), self.context_tokens);
        Connected { backend, context_tokens, is_setting, is_begun }
    }

    /// Has it decided whether a message may go on.
    fn ask(&mut self, mut event: Event, session: &mut Exchange, world: &mut World<'_>) {
        let is_setting = event.role() == Role::Sets;
        // Where an update of the client's leaves it out, it stays what it is: a policy's default is not to be put over it.
        if !is_setting || event.is_of_client() {
            event.cap_by(self.cap);
        }
        let mut exchange = Exchange::of_turn(self.gateway.clone(), self.connected(is_setting, false));
        let step = exchange.request_head(&self.head(), false, world.moment);
        self.decide(Asking { exchange, event, claim: None, since: None }, step, session, world);
    }

    /// Carries the steps of a message's turn out, until it has to wait or is decided.
    fn decide(&mut self, mut asking: Asking, step: Step, session: &mut Exchange, world: &mut World<'_>) {
        let exchange = &mut asking.exchange;
        let mut next = step;
        loop {
            next = match next {
                Step::AwaitBody { .. } => {
                    if let Some(refused) = exchange.request_body_grows(asking.event.object().len()) {
                        next = refused;
                        continue;
                    }
                    exchange.request_body(asking.event.object().as_bytes(), world.moment)
                }
                Step::Reserve(claim) => match (world.reserve)(claim, asking.since) {
                    Asked::Now(grant) => {
                        asking.since = None;
                        exchange.reserved(grant)
                    }
                    Asked::Later(claim) => {
                        asking.claim = Some(claim);
                        asking.since.get_or_insert(world.moment.now);
                        self.asking = Some(asking);
                        return;
                    }
                },
                Step::Wait => {
                    self.asking = Some(asking);
                    return;
                }
                Step::Forward(forward) => {
                    asking.event.patch(forward.patch);
                    return self.allow(asking, session, world.moment);
                }
                Step::Answer(answer) => {
                    let finished = exchange.finish(world.moment, || Interruption::Other);
                    self.note(finished);
                    return self.refuse(asking.event.id(), &answer);
                }
                // Neither is asked of a turn.
                Step::Admit(_) | Step::ReadLimits(_) | Step::AskQueue => {
                    Step::Answer(Denial::OutOfTurn.answer())
                }
            };
        }
    }

    /// Lets a message go on that may.
    fn allow(&mut self, asking: Asking, session: &mut Exchange, moment: Moment<'_>) {
        let Asking { mut exchange, mut event, .. } = asking;
        if event.role() == Role::Sets {
            if let Some(said) = event.said() {
                self.cap = said.cap.or(self.cap);
                let by_client = event.said_by_client().and_then(|said| said.transcriber);
                self.note_transcriber(by_client, said.transcriber);
            }
            session.find(exchange.finish(moment, || Interruption::Other).record.findings);
        } else {
            self.events += 1;
            let id = event.named(&format!("tollgate_{}", self.events));
            self.turns.push(Turn::asked(exchange, id));
        }
        if event.is_to_send() {
            self.to_backend.extend(event.written(self.mask));
        }
    }

    /// Notes the model that a session's update names, as its client calls it and as its backend does.
    fn note_transcriber(&mut self, by_client: Option<String>, sent: Option<String>) {
        let (Some(by_client), Some(sent)) = (by_client, sent) else { return };
        if !self.is_told {
            self.transcriber = Some(by_client.clone());
        }
        self.transcribers.retain(|(_, known)| *known != sent);
        self.transcribers.push_back((by_client, sent));
        if self.transcribers.len() > TRANSCRIBERS_MAX {
            self.transcribers.pop_front();
        }
    }

    /// Takes the backend's word for what its session goes by: an update that it refused sets nothing.
    fn is_set(&mut self, said: events::Settings) {
        self.is_told = true;
        self.cap = said.cap;
        let name = |told: String| {
            let known = self.transcribers.iter().find(|(_, sent)| *sent == told);
            known.map_or(told.clone(), |(by_client, _)| by_client.clone())
        };
        self.transcriber = said.transcriber.map(name);
    }

    /// Tells the client that its message does not go on. The backend is asked for a sign of life, whose place that takes.
    fn refuse(&mut self, id: Option<&str>, answer: &Answer) {
        let lane = id.unwrap_or_default();
        let is_response = self.opened.turns == Operation::Responses;
        let behind = self.turns.iter().filter(|turn| is_response && turn.event == lane).count();
        if behind > 0 && !self.ends(answer.status) {
            let (lane, event) = (lane.to_owned(), responses::error(id, answer));
            return self.refusals.push_back(Refusal { lane, behind, event });
        }
        self.tell(id, answer);
        if self.ends(answer.status) {
            return self.close(POLICY, ENDED);
        }
        self.to_backend.extend(frames::written(Kind::Ping, OUR_PING, Some(self.mask)));
    }

    /// Whether a refusal with this status is the end of the conversation.
    fn ends(&self, status: u16) -> bool {
        status == 401 || status == 429 && self.opened.when_exhausted == WhenExhausted::Close
    }

    fn tell(&mut self, id: Option<&str>, answer: &Answer) {
        self.events += 1;
        let event = match self.opened.turns {
            Operation::Responses => responses::error(id, answer),
            _ => events::error(self.events, id, answer),
        };
        self.to_client.extend(frames::written(Kind::Text, event.as_bytes(), None));
    }

    /// Closes both sides.
    fn close(&mut self, code: u16, reason: &str) {
        self.is_ended = true;
        // Nothing more of the client is read.
        self.client = Reader::new(Side::Client, 0);
        self.unread = VecDeque::new();
        self.unread_bytes = 0;
        self.to_client.extend(frames::close(code, reason, None));
        self.to_backend.extend(frames::close(1000, "", Some(self.mask)));
    }

    fn break_off(&mut self, breach: Breach) {
        self.close(breach.code(), breach.reason());
    }
}

#[cfg(test)]
mod tests;
