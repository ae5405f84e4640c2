//! An answer as it comes from a backend: what it teaches, and what is made of it before anybody else sees it.
//!
//! Where attempts are seen each answer is read among the upstream filters, before Envoy decides whether to ask the next
//! backend; where they are not, the last one is read in the listener's chain.
//!
//! Observed on Envoy 1.40: while headers are held (`Pause`), body callbacks come with all that has come, and what
//! is set of the headers by then, `:status` among it, is what the router decides by. It retries as if the backend had
//! answered so, with all that it counts: outlier detection too. A stream that is reset while its head is held is a reset
//! before the answer. `per_try_timeout` runs until the head goes on.
//!
//! Envoy 1.36.2 dies (`Segmentation fault`) if it goes to the next backend by an answer whose head was held among the
//! upstream filters. Only a route that reads the whole order is surely of an Envoy that does not: in a pool no attempt
//! holds one.

use crate::host;
use proxy_wasm::types::{Action, BufferType, MapType};
use std::rc::Rc;
use tollgate::attempt::{Flight, Misconfigured, Misfit, Opening};
use tollgate::failure::{FAILURE_BYTES_MAX, Failure};
use tollgate::headers::steers_proxy;
use tollgate::ledger::Series;
use tollgate::route::{Cooldowns, Target};
use tollgate::store::StoreFault;
use tollgate::usage::Format;

/// An answer that has this header makes Envoy's route go on to the next candidate. Only an attempt sets it.
const ELSEWHERE: &str = "x-tollgate-elsewhere";

/// Who reads an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Its attempt: Envoy may still ask the next backend.
    Attempt,
    /// The listener's filter: the client gets it.
    Listener,
}

/// An answer, as far as it has come.
pub(crate) struct Reading {
    flight: Rc<Flight>,
    target: Rc<Target>,
    status: u16,
    held: Held,
}

/// What waits in Envoy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// An error, until it tells whether the backend fits its configuration.
    Error,
    /// An answer, until its beginning tells that it is one.
    Opening {
        is_json: bool,
    },
    /// All that still comes of an answer that was replaced.
    Rest,
}

impl Reading {
    /// Takes the head; `end` says that no body follows.
    pub(crate) fn of_head(flight: Rc<Flight>, target: Rc<Target>, reader: Reader, end: bool) -> Self {
        let headers = host::headers(MapType::HttpResponseHeaders);
        for (name, _) in headers.iter().filter(|(name, _)| steers_proxy(name)) {
            host::remove_header(MapType::HttpResponseHeaders, name);
        }
        let find =
            |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice());
        let status = find(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let status = status.unwrap_or_default();
        let format = Format::of(find("content-type"), find("content-encoding"));
        let held = if end || reader == Reader::Attempt && flight.is_pooled() {
            Held::Nothing
        } else if flight.may_open_with_error(status, format) {
            Held::Opening { is_json: format == Format::Json }
        } else if flight.is_to_be_read(status) {
            Held::Error
        } else {
            Held::Nothing
        };
        let reading = Self { flight, target, status, held };
        if !matches!(held, Held::Opening { .. }) {
            reading.learn();
        }
        // A 401 says it all, and so does an error without a body.
        if status == 401 || end {
            reading.leave_misfit(&Failure::default());
        }
        reading
    }

    /// Whether its head waits.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.held, Held::Error | Held::Opening { .. })
    }

    /// Takes the body as far as it waits in Envoy: while the head waits, from its beginning.
    pub(crate) fn body(&mut self, bytes: usize, end: bool) -> Action {
        match self.held {
            Held::Nothing => {}
            Held::Rest => host::set_body(BufferType::HttpResponseBody, bytes, &[]),
            Held::Error if bytes > FAILURE_BYTES_MAX => {
                // Of a longer one nothing is known but its status.
                self.held = Held::Nothing;
                self.leave_misfit(&Failure::default());
            }
            Held::Error if end => {
                let failure = Failure::of_error(&host::body(BufferType::HttpResponseBody, bytes));
                self.held = Held::Nothing;
                self.leave_misfit(&failure.unwrap_or_default());
            }
            Held::Error => {}
            Held::Opening { is_json } => {
                let reach = Opening::reach(is_json, bytes, end);
                if reach > 0 || end {
                    self.open(&host::body(BufferType::HttpResponseBody, reach), bytes, end);
                }
            }
        }
        if self.is_held() { Action::Pause } else { Action::Continue }
    }

    /// Trailers end an answer that has them; what is held of its body is whole by then.
    pub(crate) fn trailers(&mut self) {
        if self.is_held() {
            let bytes = host::body(BufferType::HttpResponseBody, FAILURE_BYTES_MAX).len();
            let _ = self.body(bytes, true);
        }
    }

    /// Lets an answer go on as soon as its beginning says what it is.
    fn open(&mut self, body: &[u8], bytes: usize, end: bool) {
        let failure = match Opening::of(body, end) {
            Opening::Unfinished => return,
            Opening::KeepAlive | Opening::Answer => {
                self.held = Held::Nothing;
                self.learn();
                return;
            }
            Opening::Failure(failure) => {
                self.held = Held::Nothing;
                failure
            }
            Opening::FailureEvent(failure) => {
                let body = failure.body();
                host::set_body(BufferType::HttpResponseBody, bytes, &body);
                host::set_header(MapType::HttpResponseHeaders, "content-type", "application/json");
                host::set_header(MapType::HttpResponseHeaders, "content-length", &body.len().to_string());
                self.held = if end { Held::Nothing } else { Held::Rest };
                failure
            }
        };
        self.status = failure.status();
        host::set_header(MapType::HttpResponseHeaders, ":status", &self.status.to_string());
        self.learn();
        self.leave_misfit(&failure);
    }

    /// If the backend does not fit its configuration, that is counted, logged, and the next one asked.
    fn leave_misfit(&self, failure: &Failure) {
        let (target, status) = (&self.target, self.status);
        let found = self.flight.misfit_of(target, status, failure, &host::SharedData, host::now);
        let Some((Misconfigured { misfit, series, pause }, noted)) = found else { return };
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
        host::set_header(MapType::HttpResponseHeaders, ELSEWHERE, "1");
    }

    /// Learns from the head, once its status is sure.
    fn learn(&self) {
        let (flight, target, status) = (&self.flight, &self.target, self.status);
        let header = |name: &str| {
            host::header(MapType::HttpResponseHeaders, name).and_then(|value| String::from_utf8(value).ok())
        };
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
    }
}

/// What an attempt teaches is for others: it goes on whether the store takes it or not.
pub(crate) fn known(noted: Result<(), StoreFault>) {
    host::answered(noted, "what an attempt teaches could not be noted");
}
