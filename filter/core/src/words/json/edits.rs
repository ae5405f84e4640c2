//! How is a body changed without writing it anew, and how do two changed ones differ?

use super::{Member, Object};
use crate::sorting;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Changes to a body, gathered while it is read and made in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    splices: Vec<(Range<usize>, String)>,
}

/// The front part of a body as it shall be; what follows stays as it is.
///
/// Envoy can replace the front of a buffer without moving the rest, which for an edit near the start of a long body is
/// nearly free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// How many bytes of the old body are replaced.
    pub replaced: usize,
    /// By these.
    pub bytes: Vec<u8>,
}

impl Patch {
    /// The length of the whole body once patched.
    #[must_use]
    pub fn patched_len(&self, body_len: usize) -> usize {
        body_len.saturating_sub(self.replaced).saturating_add(self.bytes.len())
    }
}

impl Edits {
    /// Puts `json` in place of a member's value, and of what was put there before.
    pub fn replace(&mut self, member: &Member<'_>, json: String) {
        let span = member.span();
        match self.splices.iter_mut().find(|(other, _)| *other == span) {
            Some((_, before)) => *before = json,
            None => self.splices.push((span, json)),
        }
    }

    /// Puts text in place of a span.
    pub fn splice(&mut self, span: Range<usize>, text: &str) {
        self.splices.push((span, text.to_owned()));
    }

    /// Gives a member another name. Neither may need escapes.
    pub fn rename(&mut self, member: &Member<'_>, from: &'static str, to: &'static str) {
        self.splices.push((member.name_start..member.name_start + from.len(), to.to_owned()));
    }

    /// Puts a member at the front of an object. `name` must need no escapes.
    pub fn insert<const N: usize>(&mut self, object: &Object<'_, N>, name: &'static str, json: &str) {
        let at = object.open..object.open;
        let comma =
            if object.is_empty && !self.splices.iter().any(|(span, _)| *span == at) { "" } else { "," };
        // Splices at one place are made in the order of `patch`, the newest first.
        self.splices.push((at, format!("\"{name}\":{json}{comma}")));
    }

    /// The edits as one patch; `None` if there are none.
    #[must_use]
    pub fn patch(mut self, body: &[u8]) -> Option<Patch> {
        // Reversed first, and sorted stably: of several insertions at one place the last one, which alone is sure to
        // be followed by a comma, comes first. All of them come before what stands there.
        self.splices.reverse();
        sorting::sort_by_key(&mut self.splices, |(span, _)| (span.start, span.end));
        let replaced = self.splices.last()?.0.end;
        let added: usize = self.splices.iter().map(|(_, json)| json.len()).sum();
        let mut bytes = Vec::with_capacity(replaced + added);
        let mut done = 0;
        for (span, json) in &self.splices {
            bytes.extend_from_slice(body.get(done..span.start).unwrap_or_default());
            bytes.extend_from_slice(json.as_bytes());
            done = span.end;
        }
        Some(Patch { replaced, bytes })
    }

    /// What turns the body as `self` leaves it into the body as `other` would; nothing if they are the same. Both are of
    /// `body`, and where both change a place they mean the same span of it.
    #[must_use]
    pub fn difference(&self, other: &Self, body: &[u8]) -> Self {
        let (ours, theirs) = (self.by_span(), other.by_span());
        let mut spans: Vec<_> = ours.keys().chain(theirs.keys()).copied().collect();
        sorting::sort(&mut spans);
        spans.dedup();
        let mut difference = Self::default();
        let (mut added, mut removed) = (0, 0);
        for (start, end) in spans {
            // Spans end where a value or a name does, never within a character.
            let original = || String::from_utf8_lossy(body.get(start..end).unwrap_or_default());
            let our = ours.get(&(start, end)).map_or_else(original, Cow::from);
            let their = theirs.get(&(start, end)).map_or_else(original, Cow::from);
            let at = start + added - removed;
            if our != their {
                difference.splices.push((at..at + our.len(), their.into_owned()));
            }
            added += our.len();
            removed += end - start;
        }
        // As `patch` wants them: of two at one place the first one last.
        difference.splices.reverse();
        difference
    }

    /// What stands in place of each span; all that is inserted at one place is one text.
    fn by_span(&self) -> BTreeMap<(usize, usize), String> {
        let mut texts: BTreeMap<_, String> = BTreeMap::new();
        for (span, text) in self.splices.iter().rev() {
            texts.entry((span.start, span.end)).or_default().push_str(text);
        }
        texts
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.splices.is_empty()
    }

    /// How much of the front of a body they need to be made.
    #[must_use]
    pub fn reach(&self) -> usize {
        self.splices.iter().map(|(span, _)| span.end).max().unwrap_or(0)
    }

    /// How long a body is once they are made.
    #[must_use]
    pub fn edited_len(&self, body_len: usize) -> usize {
        let added: usize = self.splices.iter().map(|(_, text)| text.len()).sum();
        let removed: usize = self.splices.iter().map(|(span, _)| span.len()).sum();
        body_len.saturating_add(added).saturating_sub(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn edits(splices: &[(Range<usize>, &str)]) -> Edits {
        let mut edits = Edits::default();
        for (span, text) in splices {
            edits.splice(span.clone(), text);
        }
        edits
    }

    fn made(edits: &Edits, body: &[u8]) -> Vec<u8> {
        let Some(Patch { replaced, mut bytes }) = edits.clone().patch(body) else { return body.to_vec() };
        assert_eq!(replaced, edits.reach());
        bytes.extend_from_slice(&body[replaced..]);
        assert_eq!(bytes.len(), edits.edited_len(body.len()));
        bytes
    }

    #[test]
    fn what_both_change_alike_is_no_difference() {
        let body = br#"{"a":1,"b":22,"c":333}"#;
        let one = edits(&[(5..6, "9"), (11..13, "x")]);
        let other = edits(&[(11..13, "yyy"), (5..6, "9")]);
        assert_eq!(one.difference(&other, body), edits(&[(11..12, "yyy")]));
        assert!(one.difference(&one, body).is_empty());
        // What only one of them changes is undone.
        assert_eq!(one.difference(&Edits::default(), body), edits(&[(11..12, "22"), (5..6, "1")]));
        // Insertions at one place are one text.
        let both = edits(&[(1..1, "\"z\":1,"), (1..1, "\"y\":2,")]);
        assert_eq!(both.difference(&edits(&[(1..1, "\"z\":1,")]), body), edits(&[(1..13, "\"z\":1,")]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The law: to make `other` of what `one` left is to make `other` of the original.
        #[test]
        fn a_difference_leads_from_one_body_to_the_other(
            // Of each place of the body: what either puts there, or at its front.
            places in prop::collection::vec(
                ("[a-zé]{1,4}", prop::option::of("[A-Z]{0,6}"), prop::option::of("[A-Z]{0,6}"), any::<bool>()), 0..8,
            ),
            rest in "[a-z]{0,4}",
        ) {
            let (mut body, mut one, mut other) = (String::new(), Edits::default(), Edits::default());
            for (text, ours, theirs, inserts) in &places {
                let start = body.len();
                body.push_str(text);
                let end = if *inserts { start } else { body.len() };
                for (edits, text) in [(&mut one, ours), (&mut other, theirs)] {
                    if let Some(text) = text {
                        edits.splice(start..end, text);
                    }
                }
            }
            body.push_str(&rest);
            let body = body.as_bytes();
            let left = made(&one, body);
            prop_assert_eq!(made(&one.difference(&other, body), &left), made(&other, body));
        }
    }
}
