//! What does the head of an answer teach, once its status is sure?

use super::{Heard, Leg};
use crate::headers::{self, Headers};
use crate::ledger::Series;
use crate::route::{self, Cooldowns};
use crate::store::{Outside, StoreFault};

impl Leg {
    /// Learns how much room there is, whether the backend answers at all, and whether it wants to be left alone.
    pub(super) fn learn(&self, status: u16, headers: &Headers, outside: &Outside<'_>, heard: &mut Heard) {
        let (flight, target) = (&self.flight, &self.target);
        if let Some((_, answered)) = flight.tries.borrow_mut().last_mut() {
            *answered = Some(status);
        }
        let backend = target.backend.name.clone();
        heard.counts.push(Series::UpstreamResponses { backend: backend.clone(), status });
        heard.noted(self.learn_room(status, headers, outside));
        heard.noted(self.note_answer(status, outside));
        match route::cooldown(status, |name| headers::text(headers, name), || outside.now()) {
            Some(pause) => {
                let pauses = flight.shortest_pause.get().into_iter().chain([pause.wait]);
                flight.shortest_pause.set(pauses.min());
                heard.counts.push(Series::Cooldowns { backend });
                heard.noted(Cooldowns::note(outside.moment(), target, pause));
            }
            // Its pause is over, and the others may know.
            None if flight.probes_first && flight.candidates.first() == Some(target) => {
                heard.noted(Cooldowns::end(outside.store, target));
            }
            None => {}
        }
    }

    /// Notes whether an answer speaks for its target.
    fn note_answer(&self, status: u16, outside: &Outside<'_>) -> Result<(), StoreFault> {
        let failing = &self.flight.gateway.failing;
        if status >= 500 {
            failing.failed(&self.target, outside.moment())
        } else if matches!(status, 401 | 403) {
            // What it says is not known yet.
            Ok(())
        } else {
            failing.answered(&self.target, outside.store)
        }
    }
}
