//! The backends' side: one context for each attempt, among the router's upstream filters.

use crate::{flights, host};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};
use std::rc::Rc;
use tollgate::attempt::{Departure, Flight, Misconfigured, Misfit};
use tollgate::denial::Denial;
use tollgate::exchange::Origin;
use tollgate::failure::FAILURE_BYTES_MAX;
use tollgate::ledger::Series;
use tollgate::route::{Cooldowns, Target};
use tollgate::store::StoreFault;

/// One attempt.
#[derive(Default)]
pub(crate) struct Upstream {
    /// Its request, and where it went; `None` if it went nowhere.
    departed: Option<(Rc<Flight>, Rc<Target>)>,
    /// Whether its body is another one than what waits, and has not been changed yet.
    is_to_edit: bool,
    /// Whether its answer waits until its body has been read.
    is_held: bool,
    /// The status of its answer.
    status: u16,
}

/// An answer that has this header makes Envoy's route go on to the next candidate. Only an attempt sets it.
const ELSEWHERE: &str = "x-tollgate-elsewhere";

/// The router does not retry an answer that has it, whoever sent it.
/// <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-ratelimited>
const RATE_LIMITED: &str = "x-envoy-ratelimited";

impl Upstream {
    /// Lets an answer go on: to the client, or, if the backend does not fit its configuration, elsewhere.
    fn release(&mut self, body: &[u8]) {
        self.is_held = false;
        let Some((flight, target)) = &self.departed else { return };
        if is_misfit(flight, target, self.status, body) {
            host::set_header(MapType::HttpResponseHeaders, ELSEWHERE, "1");
        }
    }
}

/// Whether an answer says that the backend does not fit its configuration: then it is counted, logged, and left alone.
fn is_misfit(flight: &Flight, target: &Target, status: u16, body: &[u8]) -> bool {
    let found = flight.misfit_of(target, status, body, &host::SharedData, host::now);
    let Some((Misconfigured { misfit, series, pause }, noted)) = found else { return false };
    known(noted);
    let (backend, deployment) = (&target.backend.name, &target.deployment);
    match misfit {
        Misfit::MissingDeployment => log::error!(
            "backend {backend} has no deployment {deployment}: the configuration names one that is not there"
        ),
        Misfit::RefusedCredential => log::error!(
            "backend {backend} refuses this gateway's credential with {status}: check its key, its permissions and its network rules"
        ),
    }
    host::count(series, 1);
    if let Some(pause) = pause {
        known(Cooldowns::note(&host::SharedData, target, pause, host::now()));
    }
    true
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
        let Some((flight, target)) = &self.departed else { return Action::Continue };
        let status = learn(flight, target);
        host::remove_header(MapType::HttpResponseHeaders, ELSEWHERE);
        if status >= 400 {
            // By this a backend would forbid Envoy to ask the next one.
            host::remove_header(MapType::HttpResponseHeaders, RATE_LIMITED);
        }
        self.is_held = !end && flight.is_to_be_read(status);
        self.status = status;
        // A 401 says it all, and so does an error without a body.
        if status == 401 || end {
            self.release(&[]);
        }
        if self.is_held { Action::Pause } else { Action::Continue }
    }

    fn on_http_response_body(&mut self, bytes: usize, end: bool) -> Action {
        if !self.is_held {
            return Action::Continue;
        }
        if bytes > FAILURE_BYTES_MAX {
            self.is_held = false;
        } else if end {
            self.release(&host::body(BufferType::HttpResponseBody, bytes));
        }
        if self.is_held { Action::Pause } else { Action::Continue }
    }

    /// Trailers end an answer that has them; what is held of its body is whole by then.
    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if self.is_held {
            self.release(&host::body(BufferType::HttpResponseBody, FAILURE_BYTES_MAX));
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

/// Learns from the answer that the client gets, where nobody saw the attempts.
pub(crate) fn answered(flight: &Flight, origin: Origin) {
    match origin {
        Origin::Backend => {
            if let Some(target) = flight.arrive(&cluster(flight)) {
                known(flight.take_seat(&target, &host::SharedData, host::now));
                let status = learn(flight, &target);
                if status == 401 {
                    is_misfit(flight, &target, status, &[]);
                }
            }
        }
        Origin::Proxy => flight.vanish(),
    }
}

/// Learns from the head of an answer, and tells its status.
fn learn(flight: &Flight, target: &Target) -> u16 {
    let header = |name: &str| {
        host::header(MapType::HttpResponseHeaders, name).and_then(|value| String::from_utf8(value).ok())
    };
    let status = header(":status").and_then(|status| status.parse().ok()).unwrap_or_default();
    let lesson = flight.learn(target, status, header, host::now());
    known(flight.learn_room(target, status, header, &host::SharedData, host::now));
    known(flight.note_answer(target, status, &host::SharedData, host::now));
    host::count(lesson.series, 1);
    if let Some(pause) = lesson.cooldown {
        let backend = target.backend.name.clone();
        host::count(Series::Cooldowns { backend }, 1);
        known(Cooldowns::note(&host::SharedData, target, pause, host::now()));
    }
    if lesson.ends_pause {
        known(Cooldowns::end(&host::SharedData, target));
    }
    status
}

/// What an attempt teaches is for others: it goes on whether the store takes it or not.
fn known(noted: Result<(), StoreFault>) {
    host::answered(noted, "what an attempt teaches could not be noted");
}
