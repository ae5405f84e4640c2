//! The listener's side: Envoy's callbacks become calls of the [`Exchange`], and its steps become host calls.

use crate::{candidates, flights, host, journal, record};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};
use std::rc::Rc;
use tollgate::exchange::{Exchange, Forward, Interruption, Origin, Step};
use tollgate::gateway::Gateway;
use tollgate::journal::Slot;
use tollgate::ledger::Series;
use tollgate::limits;
use tollgate::sse::Output;

/// How often Envoy may go on to the next candidate. The router reads this, and takes it out.
const MAX_RETRIES: &str = "x-envoy-max-retries";

/// The bit of `response.flags` for a client that hung up: `DC` in the access log. Its place is that of
/// `CoreResponseFlag::DownstreamConnectionTermination` in Envoy's `stream_info.h`, observed on 1.40.
const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;

/// One stream of a client.
pub(crate) struct Downstream {
    id: u32,
    exchange: Exchange,
    /// How much of the request's body is here; Envoy counts it up while the headers are held.
    body_bytes: usize,
    /// Its note in the journal, while it is under way.
    slot: Option<Slot>,
}

impl Downstream {
    pub(crate) fn new(id: u32, gateway: Rc<Gateway>) -> Self {
        Self { id, exchange: Exchange::new(gateway), body_bytes: 0, slot: None }
    }

    /// The only place where a request's steps are carried out.
    fn perform(&mut self, mut step: Step) -> Action {
        loop {
            step = match step {
                Step::AwaitBody { strip } => {
                    for name in strip {
                        host::remove_header(MapType::HttpRequestHeaders, &name);
                    }
                    return Action::Pause;
                }
                Step::Reserve(claim) => {
                    self.exchange.reserved(limits::reserve(&host::SharedData, claim, host::now()))
                }
                Step::Forward(forward) => {
                    self.forward(forward);
                    return Action::Continue;
                }
                Step::Answer(answer) => {
                    host::answer(&answer);
                    return Action::Pause;
                }
            };
        }
    }

    fn forward(&mut self, forward: Forward) {
        let Forward { strip, patch, content_length, flight, note } = forward;
        for name in strip {
            host::remove_header(MapType::HttpRequestHeaders, &name);
        }
        if let Some(patch) = patch {
            host::set_body(BufferType::HttpRequestBody, patch.replaced, &patch.bytes);
        }
        if let Some(length) = content_length {
            host::set_header(MapType::HttpRequestHeaders, "content-length", &length.to_string());
        }
        let targets = flight.candidates();
        host::set_header(MapType::HttpRequestHeaders, candidates::HEADER, &candidates::encode(targets));
        let retries = targets.len().saturating_sub(1);
        host::set_header(MapType::HttpRequestHeaders, MAX_RETRIES, &retries.to_string());
        flights::enter(self.id, flight);
        self.slot = journal::enter(&note);
    }

    fn request_body(&mut self, end: bool) -> Action {
        let refused = self.exchange.request_body_grows(self.body_bytes);
        let step = match refused {
            Some(step) => step,
            None if end => {
                let body = host::body(BufferType::HttpRequestBody, self.body_bytes);
                self.exchange.request_body(&body, &host::SharedData, host::now())
            }
            None => return Action::Pause,
        };
        self.perform(step)
    }
}

impl Context for Downstream {}

impl HttpContext for Downstream {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        let headers = host::headers(MapType::HttpRequestHeaders);
        #[cfg(feature = "trap")]
        if headers.iter().any(|(name, _)| name == "x-trap") {
            std::process::abort();
        }
        let step = self.exchange.request_head(&headers, end, &host::SharedData, host::now());
        self.perform(step)
    }

    fn on_http_request_body(&mut self, body_bytes: usize, end: bool) -> Action {
        // A body that is not read goes on as it comes.
        if self.exchange.has_decided() {
            return Action::Continue;
        }
        self.body_bytes = body_bytes;
        self.request_body(end)
    }

    /// Where there are trailers, they end the body.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if self.exchange.has_decided() {
            return Action::Continue;
        }
        self.request_body(true)
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        if !self.exchange.awaits_answer() {
            return Action::Continue;
        }
        let headers = host::headers(MapType::HttpResponseHeaders);
        let edits = self.exchange.response_head(&headers, end, origin);
        for name in &edits.remove {
            host::remove_header(MapType::HttpResponseHeaders, name);
        }
        for (name, value) in &edits.set {
            host::set_header(MapType::HttpResponseHeaders, name, value);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, chunk_bytes: usize, end: bool) -> Action {
        if self.exchange.awaits_answer() {
            let chunk = host::body(BufferType::HttpResponseBody, chunk_bytes);
            if let Output::Replaced(bytes) = self.exchange.response_chunk(&chunk, end, host::now) {
                host::set_body(BufferType::HttpResponseBody, chunk_bytes, &bytes);
            }
        }
        Action::Continue
    }

    /// Trailers end an answer that has them; its body is out by then.
    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        let _ = self.exchange.response_chunk(&[], true, host::now);
        Action::Continue
    }

    /// Called once for every stream, however it ended.
    fn on_log(&mut self) {
        flights::leave(self.id);
        let now = host::now();
        let finished = self.exchange.finish(&host::SharedData, now, interruption);
        record::write_down(&finished.record);
        // Whoever took this VM for dead has counted it.
        if !self.slot.take().is_none_or(journal::leave) {
            return;
        }
        if let Some(settlement) = finished.settlement
            && let Err(fault) = limits::settle(&host::SharedData, &settlement, now)
        {
            log::error!("a budget could not be settled: {fault:?}");
            host::count(Series::StoreFaults, 1);
        }
        for (series, amount) in finished.record.additions().into_iter().chain(self.exchange.faults()) {
            host::count(series, amount);
        }
    }
}

/// Whether the answer at hand is a backend's.
fn origin() -> Origin {
    match host::property(&["response", "code_details"]).as_deref() {
        Some(b"via_upstream") => Origin::Backend,
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
