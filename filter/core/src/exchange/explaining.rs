//! What may its client know of how it was decided where the request goes?

use super::Known;
use crate::attempt::Flight;
use crate::decision;
use std::rc::Rc;

impl Known {
    /// The header that tells of the decision, for a client that may know and has asked. Nothing is written for others.
    pub(super) fn told(&self, flight: Option<&Flight>) -> Option<(&'static str, String)> {
        if !self.explains {
            return None;
        }
        let candidates = flight.map(Flight::candidates).unwrap_or_default();
        let tries = flight.map(Flight::tries).unwrap_or_default();
        let told = decision::told(
            candidates.iter().map(|target| &*target.backend.name),
            &self.passed_over,
            tries.iter().map(|attempt| (&*attempt.backend, attempt.status)),
        );
        Some((decision::HEADER, told))
    }

    /// The order, for the record. Where nobody was passed over it follows from the configuration and is not written.
    pub(super) fn candidates(&self, flight: &Flight) -> Vec<Rc<str>> {
        if self.passed_over.is_empty() {
            return Vec::new();
        }
        flight.candidates().iter().map(|target| target.backend.name.clone()).collect()
    }
}
