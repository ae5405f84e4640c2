//! The backends' side: one context for each attempt, among the router's upstream filters.

use crate::waiting::{self, Waiter};
use crate::{flights, host, links};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use tollgate::attempt::{Attempt, Begun, Departure, Flight, Heard, Outgoing, Refused, Waiting};
use tollgate::capacity::Turn;
use tollgate::denial::Denial;
use tollgate::exchange::Origin;
use tollgate::headers;
use tollgate::ledger::Series;
use tollgate::store::StoreFault;

/// The context of one attempt.
pub(crate) struct Upstream {
    id: u32,
    state: State,
}

/// What becomes of an attempt.
enum State {
    /// It went nowhere.
    Nowhere,
    /// It is held until it is its turn, and has gone then.
    Held(Rc<RefCell<Held>>),
    /// It has gone at once.
    Gone(Attempt),
}

/// An attempt of a request that has come back to the queue. The request's own id is that of its place there, and who ends with the
/// request leaves it.
struct Held {
    id: u32,
    request: u32,
    flight: Rc<Flight>,
    cluster: Vec<u8>,
    /// So much of its body waits, and whether that is all.
    body: (usize, bool),
    waits: bool,
    attempt: Option<Attempt>,
}

impl Upstream {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, state: State::Nowhere }
    }

    /// Acts on what has gone; `None` if nothing has.
    fn act<T>(&mut self, act: impl FnOnce(&mut Attempt) -> T) -> Option<T> {
        match &mut self.state {
            State::Nowhere => None,
            State::Held(held) => held.borrow_mut().attempt.as_mut().map(act),
            State::Gone(attempt) => Some(act(attempt)),
        }
    }
}

/// Begins an attempt at a cluster; `None` if it was answered in its backend's place.
fn begin(flight: &Rc<Flight>, cluster: &[u8]) -> Option<Attempt> {
    match flight.begin(cluster, &host::outside()) {
        Ok(Begun { attempt, departure, counts, faults, began_elsewhere }) => {
            fit(departure);
            if began_elsewhere {
                links::astray(flight, true);
            }
            noted(counts, faults);
            Some(attempt)
        }
        Err(Refused { denial, counts, faults }) => {
            noted(counts, faults);
            if denial == Denial::Unplanned {
                let cluster = String::from_utf8_lossy(cluster);
                log::error!("Envoy picked cluster {cluster}, which is not among the candidates");
                if flight.cluster().is_none() {
                    links::astray(flight, false);
                }
            }
            refuse(flight, &denial);
            None
        }
    }
}

/// Answers in a backend's place.
fn refuse(flight: &Flight, denial: &Denial) {
    let mut answer = denial.answer_in(flight.api());
    if flight.ends_with_refusal() {
        answer.headers.push((headers::STAY, "true".to_owned()));
    }
    host::answer(&answer);
}

/// Changes a body for its backend, as far as it waits.
fn send_body(attempt: &mut Attempt, bytes: usize, end: bool) -> Action {
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

impl Held {
    /// Goes, or is refused; what is done is done in the name of its context.
    fn go(&mut self, turn: Turn) -> Action {
        self.waits = false;
        if let Err(denial) = self.flight.take_turn(turn) {
            refuse(&self.flight, &denial);
            return Action::Pause;
        }
        self.attempt = begin(&self.flight, &self.cluster);
        let (bytes, end) = self.body;
        match &mut self.attempt {
            // Its head only: the body comes by itself.
            Some(_) if bytes == 0 => Action::Continue,
            Some(attempt) => send_body(attempt, bytes, end),
            None => Action::Pause,
        }
    }
}

impl Waiter for Held {
    fn is_waiting(&self) -> bool {
        self.waits
    }

    fn take_turn(&mut self, turn: Turn) {
        if host::act_for(self.id) && self.go(turn) == Action::Continue {
            host::resume_request();
        }
    }
}

impl Drop for Upstream {
    /// One that Envoy gives up while it is held takes no turn, which would be lost with its seat: the next one asks again.
    fn drop(&mut self) {
        // While it goes it is borrowed, and waits no more.
        if let State::Held(held) = &self.state
            && let Some(request) = held.try_borrow().ok().filter(|held| held.waits).map(|held| held.request)
        {
            let waiter: Weak<RefCell<dyn Waiter>> = Rc::<RefCell<Held>>::downgrade(held);
            waiting::withdraw(request, &waiter);
        }
    }
}

impl Context for Upstream {}

impl HttpContext for Upstream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some((request, flight)) = flights::current() else {
            log::error!("an attempt without its request: both filters need the same vm_config");
            host::answer(&Denial::Unplanned.answer());
            return Action::Pause;
        };
        links::attempted();
        let cluster = cluster(&flight);
        if flight.may_come_back() {
            let now = host::now();
            if let Some(back) = flight.comes_back(now) {
                back.series.clone().into_iter().for_each(|series| host::count(series, 1));
                let turn = waiting::come_back(request, back, now);
                let held = Held {
                    id: self.id,
                    request,
                    flight,
                    cluster,
                    body: (0, false),
                    waits: true,
                    attempt: None,
                };
                let held = Rc::new(RefCell::new(held));
                self.state = State::Held(held.clone());
                return match turn {
                    Ok(Turn::Waits) => {
                        let waiter = Rc::downgrade(&held);
                        // The tick is that of the listener's filter, which looks after all who wait.
                        host::act_for(request);
                        waiting::enter(request, waiter);
                        host::act_for(self.id);
                        Action::Pause
                    }
                    Ok(turn) => held.borrow_mut().go(turn),
                    // Nobody can say whether there is room. The backend will.
                    Err(_) => held.borrow_mut().go(Turn::Goes { place: 0, seat: None }),
                };
            }
        }
        match begin(&flight, &cluster) {
            Some(attempt) => {
                self.state = State::Gone(attempt);
                Action::Continue
            }
            None => Action::Pause,
        }
    }

    fn on_http_request_body(&mut self, bytes: usize, end: bool) -> Action {
        if let State::Held(held) = &self.state {
            let mut held = held.borrow_mut();
            if held.waits {
                // What goes on here would take the head with it.
                held.body = (bytes, end);
                return Action::Pause;
            }
        }
        self.act(|attempt| send_body(attempt, bytes, end)).unwrap_or(Action::Continue)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if let State::Held(held) = &self.state {
            let mut held = held.borrow_mut();
            if held.waits {
                // They too would take all before them along.
                held.body.1 = true;
                return Action::Pause;
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        let head = |attempt: &mut Attempt| {
            let headers = host::headers(MapType::HttpResponseHeaders);
            perform(attempt.response_head(headers, end, &host::outside()))
        };
        self.act(head).unwrap_or(Action::Continue)
    }

    fn on_http_response_body(&mut self, bytes: usize, end: bool) -> Action {
        self.act(|attempt| pass_body(attempt, bytes, end)).unwrap_or(Action::Continue)
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.act(end_body).unwrap_or(Action::Continue)
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
