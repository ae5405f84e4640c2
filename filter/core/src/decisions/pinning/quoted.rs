//! What does a backend's error say of the ids that its client sent?
//!
//! An error quotes ids in a sentence, where no name tells them. But they are those of the request: so these are put back
//! as the client wrote them. An error is short, and is held until it is whole.

use super::ID_BYTES_MAX;
use crate::sse::Output;
use memchr::memmem;

/// How many ids of a request are remembered for that.
pub(super) const SPOKEN_MAX: usize = 16;

/// A longer error passes as it is.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// An id as it is called on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// By the backend.
    pub plain: String,
    /// By the client.
    pub sealed: String,
}

/// One error, from its beginning.
#[derive(Debug)]
pub struct Quoted {
    spoken: Vec<Spoken>,
    held: Vec<u8>,
    /// It was too long, and passes.
    has_passed: bool,
}

impl Quoted {
    /// For the answer to a request with these ids; `None` if there are none.
    #[must_use]
    pub fn new(spoken: Vec<Spoken>) -> Option<Self> {
        (!spoken.is_empty()).then(|| Self { spoken, held: Vec::new(), has_passed: false })
    }

    /// Takes the next chunk and answers what the client gets for it.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Output {
        if self.has_passed {
            return Output::Same;
        }
        self.held.extend_from_slice(chunk);
        self.has_passed = end || self.held.len() > ERROR_BYTES_MAX;
        if !self.has_passed {
            return Output::Replaced(Vec::new());
        }
        let error = std::mem::take(&mut self.held);
        Output::Replaced(if error.len() > ERROR_BYTES_MAX { error } else { self.sealed(&error) })
    }

    /// Whether it waits for the rest of the error.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.has_passed
    }

    fn sealed(&self, error: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(error.len() + ID_BYTES_MAX);
        let (mut rest, mut before) = (error, None);
        while let Some((at, spoken)) = self.first(rest, before) {
            let (front, behind) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            sealed.extend_from_slice(front);
            sealed.extend_from_slice(spoken.sealed.as_bytes());
            rest = behind.get(spoken.plain.len()..).unwrap_or_default();
            before = spoken.plain.bytes().next_back();
        }
        sealed.extend_from_slice(rest);
        sealed
    }

    /// The first id that stands there by itself, and not as a part of another word.
    fn first(&self, text: &[u8], before: Option<u8>) -> Option<(usize, &Spoken)> {
        let of_one = |spoken: &'_ Spoken| {
            memmem::find_iter(text, spoken.plain.as_bytes()).find(|at| {
                let left = at.checked_sub(1).and_then(|left| text.get(left).copied());
                let left = if *at == 0 { before } else { left };
                let right = text.get(at + spoken.plain.len()).copied();
                !left.is_some_and(is_of_id) && !right.is_some_and(is_of_id)
            })
        };
        self.spoken.iter().filter_map(|spoken| Some((of_one(spoken)?, spoken))).min_by_key(|(at, _)| *at)
    }
}

/// A full stop ends a sentence more often than it is part of an id.
fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn quoted() -> Quoted {
        let spoken =
            |plain: &str, sealed: &str| Spoken { plain: plain.to_owned(), sealed: sealed.to_owned() };
        Quoted::new(vec![spoken("resp_1", "resp_tg_A1"), spoken("msg_2", "msg_tg_B2")]).unwrap()
    }

    #[track_caller]
    fn check(error: &str, expected: &str) {
        for cut in 0..=error.len() {
            let (mut quoted, mut told) = (quoted(), Vec::new());
            let (front, behind) = error.as_bytes().split_at(cut);
            for (chunk, end) in [(front, false), (behind, true)] {
                match quoted.push(chunk, end) {
                    Output::Same => told.extend_from_slice(chunk),
                    Output::Replaced(bytes) => told.extend(bytes),
                }
            }
            assert_eq!(String::from_utf8(told).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_error_quotes_ids_as_the_client_wrote_them() {
        check("'resp_1' not found.", "'resp_tg_A1' not found.");
        check("msg_2, resp_1, msg_2.", "msg_tg_B2, resp_tg_A1, msg_tg_B2.");
        check("resp_1/msg_2", "resp_tg_A1/msg_tg_B2");
        // Parts of other words are none.
        check("resp_12 xresp_1 resp_1_ resp_1resp_1", "resp_12 xresp_1 resp_1_ resp_1resp_1");
        check("nothing", "nothing");
        check("", "");
        assert!(Quoted::new(Vec::new()).is_none());
    }

    #[test]
    fn what_is_too_long_for_an_error_passes() {
        let long = format!("resp_1{}", " ".repeat(ERROR_BYTES_MAX));
        let mut quoted = quoted();
        assert_eq!(quoted.push(long.as_bytes(), false), Output::Replaced(long.into_bytes()));
        assert_eq!(quoted.push(b"resp_1", true), Output::Same);
    }
}
