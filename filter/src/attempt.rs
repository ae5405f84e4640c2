//! The backends' side: one context for each attempt, among the router's upstream filters.

use crate::reading::{Reader, Reading, known};
use crate::{flights, host};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};
use std::rc::Rc;
use tollgate::attempt::{Departure, Flight};
use tollgate::denial::Denial;
use tollgate::exchange::Origin;
use tollgate::route::Target;

/// One attempt.
#[derive(Default)]
pub(crate) struct Upstream {
    /// Its request, and where it went; `None` if it went nowhere.
    departed: Option<(Rc<Flight>, Rc<Target>)>,
    /// Whether its body is another one than what waits, and has not been changed yet.
    is_to_edit: bool,
    /// Its answer.
    reading: Option<Reading>,
}

impl Context for Upstream {}

impl HttpContext for Upstream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some(flight) = flights::current() else {
            log::error!("an attempt without its request: both filters need the same vm_config");
            host::answer(&Denial::Unplanned.answer());
            return Action::Pause;
        };
        known(flight.note_miss(&host::SharedData, host::now));
        let cluster = cluster(&flight);
        if let Err(denial) = flight.may_spill_to(&cluster, &host::SharedData, host::now) {
            host::answer(&denial.answer());
            return Action::Pause;
        }
        match flight.depart(&cluster) {
            Ok((target, departure)) => {
                self.is_to_edit = departure.edits.is_some();
                fit(departure);
                flight.departs(host::now);
                known(flight.take_seat(&target, &host::SharedData, host::now));
                self.departed = Some((flight.clone(), target));
                Action::Continue
            }
            Err(denial) => {
                let cluster = String::from_utf8_lossy(&cluster);
                log::error!("Envoy picked cluster {cluster}, which is not among the candidates");
                host::answer(&denial.answer());
                Action::Pause
            }
        }
    }

    /// Every attempt is shown the body that waits in Envoy, from its beginning. Comes it in pieces, they wait until the
    /// front that is changed is here.
    fn on_http_request_body(&mut self, bytes: usize, end: bool) -> Action {
        let Some((flight, target)) = self.departed.as_ref().filter(|_| self.is_to_edit) else {
            return Action::Continue;
        };
        let Some(edits) = flight.edits(target) else { return Action::Continue };
        if bytes < edits.reach() && !end {
            return Action::Pause;
        }
        let front = host::body(BufferType::HttpRequestBody, edits.reach());
        match edits.clone().patch(&front) {
            Some(patch) if front.len() == patch.replaced => {
                host::set_body(BufferType::HttpRequestBody, patch.replaced, &patch.bytes);
                self.is_to_edit = false;
                Action::Continue
            }
            _ => {
                log::error!("an attempt's body is shorter than the one that was decided on");
                host::answer(&Denial::OutOfTurn.answer());
                Action::Pause
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        let Some((flight, target)) = self.departed.clone() else { return Action::Continue };
        let reading = self.reading.insert(Reading::of_head(flight, target, Reader::Attempt, end));
        if reading.is_held() { Action::Pause } else { Action::Continue }
    }

    fn on_http_response_body(&mut self, bytes: usize, end: bool) -> Action {
        self.reading.as_mut().map_or(Action::Continue, |reading| reading.body(bytes, end))
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if let Some(reading) = &mut self.reading {
            reading.trailers();
        }
        Action::Continue
    }
}

/// Sets what one backend is to be asked by.
pub(crate) fn fit(Departure { remove, path, set, content_length, .. }: Departure<'_>) {
    for name in remove {
        host::remove_header(MapType::HttpRequestHeaders, name);
    }
    host::set_header(MapType::HttpRequestHeaders, ":path", &path);
    if let Some((name, value)) = set {
        host::set_header(MapType::HttpRequestHeaders, name, value);
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
pub(crate) fn answered(flight: &Rc<Flight>, origin: Origin, end: bool) -> Option<Reading> {
    match origin {
        Origin::Backend => {
            let target = flight.arrive(&cluster(flight))?;
            known(flight.take_seat(&target, &host::SharedData, host::now));
            Some(Reading::of_head(flight.clone(), target, Reader::Listener, end))
        }
        Origin::Attempt | Origin::Proxy => {
            flight.vanish();
            None
        }
    }
}
