//! The listener's side: Envoy's callbacks become calls of the [`Exchange`], and its steps become host calls.

use crate::fleet::Reserved;
use crate::holding::Holding;
use crate::sockets::Conversation;
use crate::waiting::Waiter;
use crate::{attempt, candidates, fleet, flights, host, jobs, journal, links, record, spending, waiting};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tollgate::attempt::{Attempt, Flight};
use tollgate::capacity::Turn;
use tollgate::endpoint;
use tollgate::exchange::{Exchange, Finished, Forward, Interruption, Origin, Step};
use tollgate::failure::FAILURE_BYTES_MAX;
use tollgate::gateway::{Gateway, StoreTrouble};
use tollgate::headers;
use tollgate::journal::Slot;
use tollgate::ledger::RecordForm;
use tollgate::limits::{self, Claim, Settlement};
use tollgate::sse::Output;
use tollgate::store::Moment;

/// How often Envoy may go on to the next candidate. The router reads this, and takes it out.
const MAX_RETRIES: &str = "x-envoy-max-retries";

/// How long each attempt may take until its answer's head is there; likewise.
const TRY_TIMEOUT: &str = "x-envoy-upstream-rq-per-try-timeout-ms";

/// The cluster to go to, where the route reads one name by `cluster_header`.
const CLUSTER: &str = "x-tollgate-cluster";

/// The bit of `response.flags` for a client that hung up: `DC` in the access log. Its place is that of
/// `CoreResponseFlag::DownstreamConnectionTermination` in Envoy's `stream_info.h`, observed on 1.40.
const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;

/// By this an answer that Envoy has made one of gRPC's is known.
const GRPC_STATUS: &str = "grpc-status";

/// So much of what a client sends before its connection is open is kept.
const EARLY_BYTES_MAX: usize = 64 * 1024;

/// What a broken request gets, by Envoy or by us.
const BAD_REQUEST: u16 = 400;

/// What a 400 is until Envoy has decided about its connection.
const UNPROCESSABLE: u16 = 422;

/// One stream of a client, as Envoy calls it.
///
/// The stream itself is shared with [`waiting`], from where the tick goes on with it.
pub(crate) struct Downstream(Rc<RefCell<Stream>>);

impl Downstream {
    pub(crate) fn new(id: u32, gateway: Rc<Gateway>, holding: Rc<Holding>) -> Self {
        let exchange = Exchange::new(gateway.clone());
        let (body, slot, flight_without_attempts, reply) = (Body::default(), None, None, Reply::Plain);
        Self(Rc::new(RefCell::new(Stream {
            id,
            gateway,
            exchange,
            asking: None,
            is_asking_queue: false,
            body,
            head: Vec::new(),
            request_id: String::new(),
            strip: Vec::new(),
            slot,
            holding,
            received_before_body: None,
            flight_without_attempts,
            answer_without_attempt: None,
            reply,
            held: 0,
            early: Vec::new(),
            early_is_too_much: false,
            conversation: None,
        })))
    }

    /// Decides on the request as far as it has come.
    fn act(&self, act: impl FnOnce(&mut Stream) -> Action) -> Action {
        let mut stream = self.0.borrow_mut();
        let action = act(&mut stream);
        if stream.is_waiting() {
            let waiter = Rc::downgrade(&self.0);
            waiting::enter(stream.id, waiter);
        }
        action
    }
}

/// One stream of a client.
struct Stream {
    id: u32,
    gateway: Rc<Gateway>,
    exchange: Exchange,
    /// What it asks of the fleet's store, and since when.
    asking: Option<(Claim, Duration)>,
    /// Whether it has asked the queue.
    is_asking_queue: bool,
    body: Body,
    /// The head of the request while its body is awaited, and the headers of it that must go no further: all changes are made
    /// at once, when it goes on.
    head: Vec<(String, Vec<u8>)>,
    strip: Vec<String>,
    /// What Envoy calls the request, for the log.
    request_id: String,
    /// Its note in the journal, while something is reserved for it.
    slot: Option<Slot>,
    holding: Rc<Holding>,
    /// How much had been received when it began to wait for a body, if none may ever be shown.
    received_before_body: Option<u64>,
    /// Its flight, if nobody sees the attempts.
    flight_without_attempts: Option<Rc<Flight>>,
    /// Its answer, then.
    answer_without_attempt: Option<Attempt>,
    /// How much of an answer waits in Envoy until it is whole.
    held: usize,
    reply: Reply,
    /// What the client has sent before its connection was open.
    early: Vec<u8>,
    /// Whether it was more than is kept: then the conversation is closed.
    early_is_too_much: bool,
    /// What goes on there, once it is.
    conversation: Option<Box<Conversation>>,
}

/// What Envoy makes of an answer of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// What it is.
    Plain,
    /// A status of gRPC under 200, without a body: the request calls itself gRPC.
    /// <https://github.com/envoyproxy/envoy/blob/v1.40.0/source/common/http/utility.cc> (`prepareLocalReply`)
    /// Envoy looks at the headers before the filter does, so another `content-type` comes too late: the status can be set
    /// right, and a body cannot be added.
    Grpc,
    /// The same, of an answer with this status.
    Converted(u16),
    /// Under another status, because Envoy takes every 400 of HTTP/1 for a broken message, after which the connection cannot
    /// be used: here the message was whole.
    /// <https://github.com/envoyproxy/envoy/blob/v1.40.0/source/common/http/conn_manager_impl.cc> (`sendLocalReply`)
    Disguised,
}

/// How much of the request's body is here; Envoy counts it up while the headers are held.
#[derive(Clone, Copy, Default)]
struct Body {
    bytes: usize,
    is_whole: bool,
}

impl Stream {
    /// The only place where a request's steps are carried out. `now` is when the callback came.
    fn perform(&mut self, mut step: Step, now: Duration) -> Action {
        loop {
            step = match step {
                Step::AwaitBody { strip } => {
                    self.head.retain(|(name, _)| !strip.contains(name));
                    self.strip = strip;
                    // It may have come while the stream waited.
                    match self.read_body(|| now) {
                        Some(step) => step,
                        None => {
                            self.received_before_body = self.holding.received();
                            return Action::Pause;
                        }
                    }
                }
                Step::Wait => return Action::Pause,
                Step::Reserve(claim) => {
                    let since = self.asking.take().map(|(_, since)| since);
                    let grant = match fleet::reserve(&self.gateway, claim, since, now) {
                        Reserved::Now(grant) => grant,
                        Reserved::Later(claim) => {
                            self.asking = Some((claim, since.unwrap_or(now)));
                            return Action::Pause;
                        }
                    };
                    let next = self.exchange.reserved(grant);
                    match (self.exchange.note(), &self.slot) {
                        (Some(note), Some(slot)) => journal::renew(slot, &note),
                        (Some(note), None) => self.slot = journal::enter(&note, now),
                        (None, _) => {}
                    }
                    next
                }
                Step::ReadLimits(inquiry) => {
                    let moment = Moment::new(&host::SharedData, now);
                    fleet::listen(&inquiry.budget, moment);
                    self.exchange.limits_read(limits::read(moment, &inquiry), now)
                }
                Step::Admit(ask) => {
                    let turn = waiting::admit(self.id, ask, now);
                    self.exchange.admitted(turn, Moment::new(&host::SharedData, now))
                }
                Step::AskQueue => {
                    let errand = jobs::dice().and_then(|dice| self.exchange.errand(&dice, now));
                    if jobs::ask(&self.gateway, self.id, errand) {
                        self.is_asking_queue = true;
                        return Action::Pause;
                    }
                    let moment = Moment::new(&host::SharedData, now);
                    self.exchange.queue_answered(Err(StoreTrouble::Unreached), moment)
                }
                Step::Forward(forward) => match self.scan_what_waited(now) {
                    Some(refused) => refused,
                    None => {
                        self.forward(forward);
                        return Action::Continue;
                    }
                },
                Step::Answer(mut answer) => {
                    if self.reply == Reply::Grpc {
                        self.reply = Reply::Converted(answer.status);
                    } else if answer.status == BAD_REQUEST && self.body.is_whole {
                        self.reply = Reply::Disguised;
                        answer.status = UNPROCESSABLE;
                    }
                    host::answer(&answer);
                    return Action::Pause;
                }
            };
        }
    }

    fn forward(&mut self, forward: Forward) {
        let Forward { strip, patch, content_length, content_type, start_max, flight } = forward;
        let mut remove = std::mem::take(&mut self.strip);
        remove.extend(strip);
        if let Some(patch) = patch {
            host::set_body(BufferType::HttpRequestBody, patch.replaced, &patch.bytes);
        }
        let (targets, retries) = (flight.candidates(), flight.retries());
        let set = [
            content_length.map(|length| ("content-length", length.to_string())),
            content_type.map(|content_type| ("content-type", content_type)),
            match flight.cluster() {
                Some(cluster) => Some((CLUSTER, cluster.to_owned())),
                None if flight.follows_route() => None,
                None => Some((candidates::HEADER, candidates::encode(targets))),
            },
            Some((MAX_RETRIES, retries.to_string())),
            start_max.map(|start_max| (TRY_TIMEOUT, start_max.as_millis().to_string())),
        ];
        let set: Vec<_> = set.into_iter().flatten().collect();
        let head = std::mem::take(&mut self.head);
        host::edit_headers(MapType::HttpRequestHeaders, &head, &remove, &set);
        if let Some(departure) = flight.begin_once() {
            attempt::fit(departure);
            self.flight_without_attempts = Some(flight.clone());
        }
        flights::enter(self.id, flight);
    }

    fn request_head(&mut self, end: bool) -> Action {
        let now = host::now();
        self.body.is_whole = end;
        let mut headers = host::headers(MapType::HttpRequestHeaders);
        self.request_id = headers::text(&headers, "x-request-id").unwrap_or_default().to_owned();
        // Before anything is decided: logs and traces have the path of what is refused too.
        let path = headers::find(&headers, ":path").and_then(endpoint::without_credentials);
        if let Some(path) = &path {
            host::set_header(MapType::HttpRequestHeaders, ":path", path);
        }
        // Here too.
        let protocols = headers::protocols_without_key(&headers);
        if let Some(protocols) = &protocols {
            // They may stand on many lines, of which Envoy would set the first.
            host::remove_header(MapType::HttpRequestHeaders, headers::PROTOCOLS);
            host::set_header(MapType::HttpRequestHeaders, headers::PROTOCOLS, protocols);
        }
        if self.holding.is_missing() {
            let step = self.exchange.refuse_unheld(now);
            return self.perform(step, now);
        }
        #[cfg(feature = "trap")]
        if headers.iter().any(|(name, _)| name == "x-trap") {
            std::process::abort();
        }
        if headers
            .iter()
            .any(|(name, value)| name == "content-type" && value.starts_with(b"application/grpc"))
        {
            self.reply = Reply::Grpc;
        }
        let step = self.exchange.request_head(&headers, end, Moment::new(&host::SharedData, now));
        // A key may stand in the path: it is read above, and goes no further.
        if let Some(path) = path {
            headers
                .iter_mut()
                .filter(|(name, _)| name == ":path")
                .for_each(|(_, value)| *value = path.clone().into_bytes());
        }
        if let Some(protocols) = protocols {
            headers.retain(|(name, _)| name != headers::PROTOCOLS);
            headers.push((headers::PROTOCOLS.to_owned(), protocols.into_bytes()));
        }
        self.head = headers;
        self.perform(step, now)
    }

    /// Takes what there is of the request's body, and decides once it is whole.
    fn request_body(&mut self, body: Body) -> Action {
        if let Some(conversation) = &mut self.conversation {
            let early = std::mem::take(&mut self.early);
            if std::mem::take(&mut self.early_is_too_much) {
                conversation.came_too_early();
            }
            let action = conversation.client_says(&early, body.bytes, &mut self.exchange);
            self.settle_turns();
            return action;
        }
        if self.exchange.is_connecting() {
            // Nothing reaches a backend that has not been read: what Envoy held, it would send on with the head.
            self.early_is_too_much |= self.early.len().saturating_add(body.bytes) > EARLY_BYTES_MAX;
            if !self.early_is_too_much {
                self.early.extend(host::body(BufferType::HttpRequestBody, body.bytes));
            }
            host::set_body(BufferType::HttpRequestBody, body.bytes, &[]);
            return if self.exchange.has_decided() { Action::Continue } else { Action::Pause };
        }
        if self.exchange.scans() {
            let now = host::now();
            self.body = body;
            let step = self.scan(now);
            return step.map_or(Action::Continue, |step| self.perform(step, now));
        }
        // A body that is not read goes on as it comes.
        if self.exchange.has_decided() {
            return Action::Continue;
        }
        if self.received_before_body.take().is_some() {
            self.holding.prove();
        }
        self.body = body;
        let mut now = None;
        match self.read_body(|| *now.insert(host::now())) {
            Some(step) => self.perform(step, now.unwrap_or_else(host::now)),
            None => Action::Pause,
        }
    }

    /// Shows what has come of a body that goes on as it comes; answers what is to be done instead, if it must not.
    fn scan(&mut self, now: Duration) -> Option<Step> {
        // Trailers that end a body come with none of it.
        let bytes = std::mem::take(&mut self.body.bytes);
        let chunk = if bytes > 0 { host::body(BufferType::HttpRequestBody, bytes) } else { Vec::new() };
        let chunk = (chunk.len() == bytes).then_some(&*chunk);
        self.exchange.request_chunk(chunk, self.body.is_whole, Moment::new(&host::SharedData, now))
    }

    /// The same of what came while the request was not decided on: it goes on with the head, and nobody is called for it.
    fn scan_what_waited(&mut self, now: Duration) -> Option<Step> {
        let waited = self.body.bytes > 0 || self.body.is_whole;
        if waited && self.exchange.scans() { self.scan(now) } else { None }
    }

    /// `now` is only asked once the body is whole.
    fn read_body(&mut self, now: impl FnOnce() -> Duration) -> Option<Step> {
        let refused = self.exchange.request_body_grows(self.body.bytes);
        if refused.is_some() || !self.body.is_whole || !self.exchange.awaits_body() {
            return refused;
        }
        let body = host::body(BufferType::HttpRequestBody, self.body.bytes);
        Some(self.exchange.request_body(&body, Moment::new(&host::SharedData, now())))
    }

    fn response_head(&mut self, end: bool) -> Action {
        if !self.exchange.awaits_answer() {
            let status = match self.reply {
                Reply::Plain | Reply::Grpc => return Action::Continue,
                // Not all that begins like gRPC's type is gRPC for Envoy: what it has left as it was is whole.
                Reply::Converted(_) if host::header(MapType::HttpResponseHeaders, GRPC_STATUS).is_none() => {
                    return Action::Continue;
                }
                Reply::Converted(status) => status,
                Reply::Disguised => BAD_REQUEST,
            };
            if let Reply::Converted(_) = self.reply {
                for name in [GRPC_STATUS, "grpc-message", "content-type"] {
                    host::remove_header(MapType::HttpResponseHeaders, name);
                }
            }
            host::set_header(MapType::HttpResponseHeaders, ":status", &status.to_string());
            return Action::Continue;
        }
        if let Some(flight) = &self.flight_without_attempts {
            self.answer_without_attempt = attempt::answered(flight, origin(), end);
            if self.answer_without_attempt.as_ref().is_some_and(Attempt::waits) {
                return Action::Pause;
            }
        }
        self.pass_head(end)
    }

    /// Lets the head of an answer go on, when nothing more of it is to be read first.
    fn pass_head(&mut self, end: bool) -> Action {
        let headers = host::headers(MapType::HttpResponseHeaders);
        let edits = self.exchange.response_head(&headers, end, origin);
        if let Some(answer) = edits.instead {
            host::answer(&answer);
            return Action::Pause;
        }
        host::edit_headers(MapType::HttpResponseHeaders, &headers, &edits.remove, &edits.set);
        self.conversation = Conversation::opened(&self.gateway, &self.exchange).map(Box::new);
        Action::Continue
    }

    /// Closes the books of the turns that have ended.
    fn settle_turns(&mut self) {
        let Some(conversation) = &mut self.conversation else { return };
        for Finished { settlements, mut record } in conversation.finished() {
            let now = host::now();
            record.forgotten += settle(settlements, now);
            spending::add(&self.gateway, &record, now);
            record.additions().into_iter().for_each(|(series, amount)| host::count(series, amount));
        }
    }

    fn response_chunk(&mut self, mut bytes: usize, end: bool) -> Action {
        if let Some(conversation) = &mut self.conversation {
            conversation.backend_says(bytes, &self.exchange);
            self.settle_turns();
            return Action::Continue;
        }
        if !self.exchange.awaits_answer() {
            return Action::Continue;
        }
        if let Some(answer) = &mut self.answer_without_attempt {
            let waited = answer.waits();
            if attempt::pass_body(answer, bytes, end) == Action::Pause {
                return Action::Pause;
            }
            if waited {
                let _ = self.pass_head(false);
            }
        }
        // The end of an answer often comes with nothing.
        let mut chunk =
            if bytes == self.held { Vec::new() } else { host::body(BufferType::HttpResponseBody, bytes) };
        if self.answer_without_attempt.is_some() && bytes != self.held {
            // It may have been replaced.
            bytes = chunk.len();
        }
        chunk.drain(..self.held.min(chunk.len()));
        let output = self.exchange.response_chunk(&chunk, end, host::now);
        self.exchange.note_first_token(&host::SharedData);
        if self.exchange.holds_answer() {
            // Only a body that waits in Envoy can still be changed when trailers end it.
            self.held = bytes;
            return Action::Pause;
        }
        self.held = 0;
        if let Output::Replaced(replacement) = output {
            host::set_body(BufferType::HttpResponseBody, bytes, &replacement);
        }
        Action::Continue
    }

    /// Trailers end an answer that has them.
    fn response_trailers(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        let mut body = Vec::new();
        if let Some(answer) = self.answer_without_attempt.as_mut().filter(|answer| answer.waits()) {
            let _ = attempt::end_body(answer);
            let _ = self.pass_head(false);
            body = host::body(BufferType::HttpResponseBody, FAILURE_BYTES_MAX);
            held = body.len();
        }
        let output = self.exchange.response_chunk(&body, true, host::now);
        if let Output::Replaced(replacement) = output
            && held > 0
        {
            host::set_body(BufferType::HttpResponseBody, held, &replacement);
        }
    }

    fn finish(&mut self) {
        flights::leave(self.id);
        waiting::leave(self.id);
        let now = host::now();
        // Whoever took this VM for dead has counted it.
        let is_ours = self.slot.take().is_none_or(|slot| journal::leave(slot, now));
        if !is_ours {
            self.exchange.is_taken_over();
        }
        if let Some(notice) = self.exchange.notice() {
            log::info!("{notice}");
        }
        let turns = self.conversation.as_mut().map(|conversation| conversation.end(interruption));
        self.settle_turns();
        let mut finished = self.exchange.finish(Moment::new(&host::SharedData, now), interruption);
        finished.record.turns = turns;
        links::look_at(&finished.record, origin);
        match self.gateway.record_form {
            RecordForm::Line { is_typed } => record::leave_line(&finished.record, &self.request_id, is_typed),
            RecordForm::Fields => record::leave_fields(&finished.record),
        }
        if !is_ours {
            return;
        }
        finished.record.forgotten += settle(finished.settlements, now);
        spending::add(&self.gateway, &finished.record, now);
        for (series, amount) in finished.record.additions().into_iter().chain(self.exchange.faults()) {
            host::count(series, amount);
        }
    }

    /// Makes a claim again that waits for the fleet's store.
    fn ask_again(&mut self, claim: Claim, since: Duration) {
        self.asking = Some((claim.clone(), since));
        self.go_on(Step::Reserve(claim), host::now());
    }

    fn go_on(&mut self, step: Step, now: Duration) {
        if self.perform(step, now) == Action::Continue {
            host::resume_request();
        }
    }
}

impl Waiter for Stream {
    fn is_waiting(&self) -> bool {
        let is_held = self.conversation.as_ref().is_some_and(|conversation| conversation.waits());
        is_held
            || self.exchange.is_waiting()
            || self.received_before_body.is_some()
            || self.asking.is_some()
            || self.is_asking_queue
    }

    fn wake(&mut self) {
        if let Some(conversation) = &mut self.conversation {
            let goes_on = conversation.waits() && conversation.wake(&mut self.exchange);
            self.settle_turns();
            if goes_on {
                host::resume_request();
            }
            return;
        }
        if self.is_asking_queue {
            if let Some(reply) = jobs::reply(self.id) {
                self.is_asking_queue = false;
                let (now, reply) = (host::now(), reply.as_deref().map_err(|trouble| *trouble));
                let step = self.exchange.queue_answered(reply, Moment::new(&host::SharedData, now));
                self.go_on(step, now);
            }
            return;
        }
        if let Some((claim, since)) = self.asking.take() {
            return self.ask_again(claim, since);
        }
        let now = host::now();
        if self.received_before_body.is_some_and(|before| self.holding.disproves(before)) {
            self.received_before_body = None;
            let step = self.exchange.refuse_unheld(now);
            self.go_on(step, now);
        } else if let Some(step) = self.exchange.wake(Moment::new(&host::SharedData, now)) {
            self.go_on(step, now);
        }
    }

    fn take_turn(&mut self, turn: Turn) {
        let now = host::now();
        let step = self.exchange.admitted(Ok(turn), Moment::new(&host::SharedData, now));
        self.go_on(step, now);
    }
}

impl Context for Downstream {}

impl HttpContext for Downstream {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        self.act(|stream| stream.request_head(end))
    }

    fn on_http_request_body(&mut self, bytes: usize, is_whole: bool) -> Action {
        self.act(|stream| stream.request_body(Body { bytes, is_whole }))
    }

    /// Where there are trailers, they end the body. None of them is known, so none goes on.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        host::remove_all(MapType::HttpRequestTrailers);
        self.act(|stream| stream.request_body(Body { is_whole: true, ..stream.body }))
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        self.0.borrow_mut().response_head(end)
    }

    fn on_http_response_body(&mut self, bytes: usize, end: bool) -> Action {
        self.0.borrow_mut().response_chunk(bytes, end)
    }

    /// Trailers end an answer that has them. Its body is out by then, but for what waits. None of them is known, so none goes on.
    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        host::remove_all(MapType::HttpResponseTrailers);
        self.0.borrow_mut().response_trailers();
        Action::Continue
    }

    /// Called once for every stream, however it ended.
    fn on_log(&mut self) {
        self.0.borrow_mut().finish();
    }
}

/// Tells the budgets what was spent; answers how many values had to be forgotten for it.
fn settle(settlements: Vec<Settlement>, now: Duration) -> u64 {
    let settled = settlements.iter().map(|settlement| {
        let settled = limits::settle(Moment::new(&host::SharedData, now), settlement);
        host::answered(settled, "a budget could not be settled").unwrap_or(0)
    });
    settled.sum()
}

/// Who gave the answer at hand. Envoy has a word for each answer of its own, and filters of wasm give none.
fn origin() -> Origin {
    match host::property(&["response", "code_details"]).as_deref() {
        Some(b"via_upstream") => Origin::Backend,
        None | Some(b"") => Origin::Attempt,
        _ => Origin::Proxy,
    }
}

/// Who broke this stream off.
fn interruption() -> Interruption {
    let flags = host::property(&["response", "flags"])
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes);
    match flags {
        Some(flags) if flags & DOWNSTREAM_CONNECTION_TERMINATION != 0 => Interruption::Client,
        _ => Interruption::Other,
    }
}
