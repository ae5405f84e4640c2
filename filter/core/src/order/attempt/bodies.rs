//! Which body does each attempt send?
//!
//! Envoy begins every attempt with the body as it waits. Where all targets take that one, nothing is done; one that takes
//! another gets its edits, made in the attempt itself. Not decided here: what a target takes.

use crate::json::Edits;
use crate::usage::UsageEvent;

/// The bodies of a request's attempts.
#[derive(Debug, PartialEq, Eq)]
pub struct Bodies {
    /// How long the one is that waits; `None` if the request does not tell its length.
    len: Option<usize>,
    usage_event: UsageEvent,
    edited: Vec<EditedBody>,
}

/// A body that is not the one that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct EditedBody {
    /// Whose: the targets' numbers.
    pub targets: Vec<u64>,
    /// What makes it of the one that waits.
    pub edits: Edits,
    /// Whether it asks for a usage event that the client is not to see.
    pub usage_event: UsageEvent,
}

impl Default for Bodies {
    /// None, or one that is the same for all and not read.
    fn default() -> Self {
        Self::new(None, UsageEvent::Show, Vec::new())
    }
}

impl Bodies {
    /// One body for all targets but those of `edited`. `len` is what its `content-length` says, if it has one.
    #[must_use]
    pub fn new(len: Option<usize>, usage_event: UsageEvent, edited: Vec<EditedBody>) -> Self {
        Self { len, usage_event, edited }
    }

    fn edited(&self, target: u64) -> Option<&EditedBody> {
        self.edited.iter().find(|body| body.targets.contains(&target))
    }

    /// The edits that a target's body needs; `None` if it takes the one that waits.
    #[must_use]
    pub fn edits(&self, target: u64) -> Option<&Edits> {
        self.edited(target).map(|body| &body.edits).filter(|edits| !edits.is_empty())
    }

    /// The `content-length` of an attempt, where it must be said anew: attempts share their headers, so each of them says
    /// it once they differ.
    #[must_use]
    pub fn content_length(&self, target: u64) -> Option<usize> {
        let len = self.len.filter(|_| !self.edited.is_empty())?;
        Some(self.edits(target).map_or(len, |edits| edits.edited_len(len)))
    }

    /// Whether a target's stream has a usage event that only we asked for. Without a target, it is that of the body that
    /// waits.
    #[must_use]
    pub fn usage_event(&self, target: Option<u64>) -> UsageEvent {
        target.and_then(|target| self.edited(target)).map_or(self.usage_event, |body| body.usage_event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_attempt_says_its_own_length_once_they_differ() {
        let mut edits = Edits::default();
        edits.splice(2..5, "longer");
        let body = EditedBody { targets: vec![2, 3], edits, usage_event: UsageEvent::Show };
        let bodies = Bodies::new(Some(10), UsageEvent::Hide, vec![body]);
        assert_eq!([1, 2, 3].map(|target| bodies.content_length(target)), [Some(10), Some(13), Some(13)]);
        assert_eq!([1, 2].map(|target| bodies.edits(target).is_some()), [false, true]);
        let events = [None, Some(1), Some(2)].map(|target| bodies.usage_event(target));
        assert_eq!(events, [UsageEvent::Hide, UsageEvent::Hide, UsageEvent::Show]);
        // Where all send the same, nobody says it.
        let same = Bodies::new(Some(10), UsageEvent::Show, Vec::new());
        assert_eq!((same.content_length(1), same.edits(1)), (None, None));
    }
}
