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

/// Who is sent a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The target's number.
    pub target: u64,
    /// Whether it is asked for the default tier in place of the one that the request names.
    pub as_default: bool,
}

/// A body that is not the one that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct EditedBody {
    /// Whose.
    pub whose: Vec<Whose>,
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
    /// One body for all but those of `edited`. `len` is what its `content-length` says, if it has one.
    #[must_use]
    pub fn new(len: Option<usize>, usage_event: UsageEvent, edited: Vec<EditedBody>) -> Self {
        Self { len, usage_event, edited }
    }

    fn edited(&self, whose: Whose) -> Option<&EditedBody> {
        self.edited.iter().find(|body| body.whose.contains(&whose))
    }

    /// The edits that somebody's body needs; `None` if it is the one that waits.
    #[must_use]
    pub fn edits(&self, whose: Whose) -> Option<&Edits> {
        self.edited(whose).map(|body| &body.edits).filter(|edits| !edits.is_empty())
    }

    /// The `content-length` of an attempt, where it must be said anew: attempts share their headers, so each of them says
    /// it once they differ.
    #[must_use]
    pub fn content_length(&self, whose: Whose) -> Option<usize> {
        let len = self.len.filter(|_| !self.edited.is_empty())?;
        Some(self.edits(whose).map_or(len, |edits| edits.edited_len(len)))
    }

    /// Whether somebody's stream has a usage event that only we asked for. Without anybody, it is that of the body that
    /// waits.
    #[must_use]
    pub fn usage_event(&self, whose: Option<Whose>) -> UsageEvent {
        whose.and_then(|whose| self.edited(whose)).map_or(self.usage_event, |body| body.usage_event)
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
        let [one, two] = [1, 2].map(|target| Whose { target, as_default: false });
        let again = Whose { as_default: true, ..one };
        let body = EditedBody { whose: vec![two, again], edits, usage_event: UsageEvent::Show };
        let bodies = Bodies::new(Some(10), UsageEvent::Hide, vec![body]);
        let lengths = [one, two, again].map(|whose| bodies.content_length(whose));
        assert_eq!(lengths, [Some(10), Some(13), Some(13)]);
        assert_eq!([one, two].map(|whose| bodies.edits(whose).is_some()), [false, true]);
        let events = [None, Some(one), Some(two)].map(|whose| bodies.usage_event(whose));
        assert_eq!(events, [UsageEvent::Hide, UsageEvent::Hide, UsageEvent::Show]);
        // Where all send the same, nobody says it.
        let same = Bodies::new(Some(10), UsageEvent::Show, Vec::new());
        assert_eq!((same.content_length(one), same.edits(one)), (None, None));
    }
}
