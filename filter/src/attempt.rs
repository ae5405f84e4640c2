//! The backends' side: one context for each attempt, among the router's upstream filters.

use crate::{flights, host, links};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};
use std::rc::Rc;
use tollgate::attempt::{Attempt, Begun, Departure, Flight, Heard, Outgoing, Refused, Waiting};
use tollgate::denial::Denial;
use tollgate::exchange::Origin;
use tollgate::ledger::Series;
use tollgate::store::StoreFault;

/// One attempt; `None` if it went nowhere.
#[derive(Default)]
pub(crate) struct Upstream(Option<Attempt>);

impl Context for Upstream {}

impl HttpContext for Upstream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        links::attempted();
        let Some(flight) = flights::current() else {
            log::error!("an attempt without its request: both filters need the same vm_config");
            host::answer(&Denial::Unplanned.answer());
            return Action::Pause;
        };
        let cluster = cluster(&flight);
        match flight.begin(&cluster, &host::outside()) {
            Ok(Begun { attempt, departure, counts, faults, began_elsewhere }) => {
                fit(departure);
                if began_elsewhere {
                    links::astray(true);
                }
                noted(counts, faults);
                self.0 = Some(attempt);
                Action::Continue
            }
            Err(Refused { denial, counts, faults }) => {
                noted(counts, faults);
                if denial == Denial::Unplanned {
                    let cluster = String::from_utf8_lossy(&cluster);
                    log::error!("Envoy picked cluster {cluster}, which is not among the candidates");
                    if flight.cluster().is_none() {
                        links::astray(false);
                    }
                }
                host::answer(&denial.answer_in(flight.api()));
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, bytes: usize, end: bool) -> Action {
        let Some(attempt) = &mut self.0 else { return Action::Continue };
        let read = |bytes| host::body(BufferType::HttpRequestBody, bytes);
        match attempt.request_body(&Waiting { bytes, end, read: &read }) {
            Outgoing::AsItIs => Action::Continue,
            Outgoing::Waits => Action::Pause,
            Outgoing::Patched(patch) => {
                host::set_body(BufferType::HttpRequestBody, patch.replaced, &patch.bytes);
                Action::Continue
            }
            Outgoing::Denied(denial) => {
                log::error!("an attempt's body is shorter than the one that was decided on");
                host::answer(&denial.answer_in(attempt.api()));
                Action::Pause
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        let Some(attempt) = &mut self.0 else { return Action::Continue };
        let headers = host::headers(MapType::HttpResponseHeaders);
        perform(attempt.response_head(headers, end, &host::outside()))
    }

    fn on_http_response_body(&mut self, bytes: usize, end: bool) -> Action {
        self.0.as_mut().map_or(Action::Continue, |attempt| pass_body(attempt, bytes, end))
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.0.as_mut().map_or(Action::Continue, end_body)
    }
}

/// Sets what one backend is to be asked by.
pub(crate) fn fit(Departure { remove, path, set, content_length }: Departure<'_>) {
    for name in remove {
        host::remove_header(MapType::HttpRequestHeaders, name);
    }
    host::set_header(MapType::HttpRequestHeaders, ":path", &path);
    if let Some((name, value)) = set {
        host::set_header(MapType::HttpRequestHeaders, name, &value);
    }
    // The headers may go before the body is seen: how long it will be is known.
    if let Some(length) = content_length {
        host::set_header(MapType::HttpRequestHeaders, "content-length", &length.to_string());
    }
}

/// The cluster that Envoy has gone to. Of a pool, Envoy tells only the pool's name; what it is made of is told by the
/// metadata of the endpoints.
fn cluster(flight: &Flight) -> Vec<u8> {
    if !flight.is_pooled() {
        return host::property(&["xds", "cluster_name"]).unwrap_or_default();
    }
    let of_endpoint = ["xds", "upstream_host_metadata", "filter_metadata", "tollgate", "cluster"];
    host::property(&of_endpoint).unwrap_or_else(|| {
        log::error!(
            "an endpoint in a pool does not tell its cluster: expected metadata tollgate: {{ cluster: NAME }}"
        );
        Vec::new()
    })
}

/// Reads the answer that the client gets, where nobody saw the attempts; `end` says that no body follows.
pub(crate) fn answered(flight: &Rc<Flight>, origin: Origin, end: bool) -> Option<Attempt> {
    match origin {
        Origin::Backend => {
            let headers = || host::headers(MapType::HttpResponseHeaders);
            let (attempt, heard) = flight.answered(&cluster(flight), headers, end, &host::outside())?;
            let _ = perform(heard);
            Some(attempt)
        }
        Origin::Attempt | Origin::Proxy => {
            flight.unanswered();
            None
        }
    }
}

/// Takes the body of an answer as far as it waits in Envoy.
pub(crate) fn pass_body(attempt: &mut Attempt, bytes: usize, end: bool) -> Action {
    perform(attempt.response_body(&Waiting { bytes, end, read: &answer_body }, &host::outside()))
}

/// Takes the trailers of an answer.
pub(crate) fn end_body(attempt: &mut Attempt) -> Action {
    perform(attempt.response_trailers(&answer_body, &host::outside()))
}

fn answer_body(bytes: usize) -> Vec<u8> {
    host::body(BufferType::HttpResponseBody, bytes)
}

/// The only place where it is carried out what is to be done about an answer.
fn perform(heard: Heard) -> Action {
    for name in heard.remove {
        host::remove_header(MapType::HttpResponseHeaders, &name);
    }
    if let Some(patch) = heard.patch {
        host::set_body(BufferType::HttpResponseBody, patch.replaced, &patch.bytes);
    }
    for (name, value) in heard.set {
        host::set_header(MapType::HttpResponseHeaders, name, &value);
    }
    if let Some(misconfigured) = heard.misconfigured {
        log::error!("{misconfigured}");
    }
    noted(heard.counts, heard.faults);
    if heard.waits { Action::Pause } else { Action::Continue }
}

/// What an attempt teaches is for others: it goes on whether the store takes it or not.
fn noted(counts: Vec<Series>, faults: Vec<StoreFault>) {
    for series in counts {
        host::count(series, 1);
    }
    for fault in faults {
        let _ = host::answered::<()>(Err(fault), "what an attempt teaches could not be noted");
    }
}
