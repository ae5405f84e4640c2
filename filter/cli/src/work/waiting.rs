//! For which lanes does a job wait at its place?

use std::cell::RefCell;
use std::collections::HashSet;

/// A client and a model.
pub(super) type Lane = (String, String);

/// The lanes of which a job waits.
#[derive(Default)]
pub(super) struct Waiting {
    lanes: RefCell<HashSet<Lane>>,
}

/// The one that waits, for as long as this lives.
pub(super) struct Place<'w> {
    waiting: &'w Waiting,
    lane: Lane,
}

impl Waiting {
    /// Waits for a lane; `None` if another job does.
    pub(super) fn wait(&self, lane: &Lane) -> Option<Place<'_>> {
        let is_first = self.lanes.borrow_mut().insert(lane.clone());
        is_first.then(|| Place { waiting: self, lane: lane.clone() })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.lanes.borrow_mut().remove(&self.lane);
    }
}
