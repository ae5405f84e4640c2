//! What is taken out of the head of an answer, and does it wait until something of the body is known?
//!
//! Observed on Envoy 1.40: while a head is held, the body comes with all that has come so far, and what is set of the
//! headers by then, `:status` among it, is what the router decides by. It retries as if the backend had answered so, with
//! all that it counts: outlier detection too. A stream that is reset while its head is held is a reset before the answer.
//! `per_try_timeout` runs until the head goes on.
//!
//! Envoy 1.36.2 dies (`Segmentation fault`) if it goes to the next backend by an answer whose head was held among the
//! upstream filters. Only a route that reads the whole order is surely of an Envoy that does not: in a pool no attempt
//! holds one.

use super::failed::Failed;
use super::flight::Trial;
use super::unproven::Unproven;
use super::{Destination, Flight, Heard, Leg, Phase, Place};
use crate::endpoint::Billing;
use crate::failure::Failure;
use crate::headers::{self, Headers, find, steers_proxy};
use crate::store::Outside;
use crate::usage::{self, Format};
use std::rc::Rc;

impl Leg {
    /// Takes the head of its answer.
    pub(super) fn on_head(
        &self,
        headers: Vec<(String, Vec<u8>)>,
        end: bool,
        outside: &Outside<'_>,
        heard: &mut Heard,
    ) -> Phase {
        let flight = &self.flight;
        heard.remove.extend(headers.iter().map(|(name, _)| name).filter(|name| steers_proxy(name)).cloned());
        heard.set.extend(self.references(&headers));
        let status = headers::status(&headers);
        let format = Format::of(find(&headers, "content-type"), find(&headers, "content-encoding"));
        let goes_on = end || self.place == Place::Upstream && flight.is_pooled();
        if !goes_on && flight.may_open_with_error(status, format) {
            return Phase::Unproven(Box::new(Unproven { status, headers, is_json: format == Format::Json }));
        }
        self.learn(status, &headers, outside, heard);
        // A 401 says it all, and so does an error without a body.
        if status == 401 || end {
            self.leave_misfit(status, &Failure::default(), outside, heard);
        }
        if !goes_on && flight.may_tell_a_misfit(status) {
            Phase::Failed(Failed { status })
        } else {
            Phase::Passing
        }
    }
}

impl Leg {
    /// What leads below the backend's own base path, as the gateway's clients may ask for it.
    fn references(&self, headers: &Headers) -> Vec<(&'static str, String)> {
        let backend = &self.target.backend;
        if *backend.base == *backend.style.base() {
            return Vec::new();
        }
        let known = |name: &'static str| {
            let rest = headers::text(headers, name)?.strip_prefix(&*backend.base)?;
            rest.starts_with('/').then(|| (name, format!("{}{rest}", backend.style.base())))
        };
        headers::REFERENCES.into_iter().filter_map(known).collect()
    }
}

impl Flight {
    /// Takes the head of an answer to attempts that nobody saw, from this cluster; `None` if it is no candidate's.
    pub fn answered(
        self: &Rc<Self>,
        cluster: &[u8],
        headers: impl FnOnce() -> Vec<(String, Vec<u8>)>,
        end: bool,
        outside: &Outside<'_>,
    ) -> Option<(super::Attempt, Heard)> {
        let (at, target) = self.candidate(cluster)?;
        self.tries.replace(vec![Trial { at, target: target.clone(), status: None }]);
        let mut heard = Heard::default();
        heard.noted(self.take_seat(target, outside));
        let leg = Leg { flight: self.clone(), at, target: target.clone(), place: Place::Listener };
        let phase = leg.on_head(headers(), end, outside, &mut heard);
        heard.waits = phase.waits();
        Some((super::Attempt { leg, is_to_edit: false, phase }, heard))
    }

    /// No backend answered to attempts that nobody saw.
    pub fn unanswered(&self) {
        self.tries.take();
    }

    /// Whether the beginning of an answer with this status and format is to be read before its head goes on: it may be an
    /// error all the same, and there is another backend. What is kept at a backend tells its errors as an answer does.
    fn may_open_with_error(&self, status: u16, format: Format) -> bool {
        let is_billed = match self.destination {
            Destination::Deployment(operation) => operation.billing() != Billing::UsageIfAny,
            Destination::Passthrough(..) => false,
        };
        let is_read = matches!(format, Format::Json | Format::Events | Format::Text);
        self.candidates.len() > 1 && status < 300 && usage::has_answer(status) && is_billed && is_read
    }
}
