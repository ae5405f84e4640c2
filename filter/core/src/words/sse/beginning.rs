//! What does a stream begin with, as far as it has come?

use super::{Framer, data};
use std::borrow::Cow;

/// The beginning of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning<'a> {
    /// Nothing that says anything: comments, empty lines.
    KeepAlive,
    /// An event has begun, and has not ended.
    Unfinished,
    /// The payload of the first event that has one.
    Event(Cow<'a, [u8]>),
}

impl<'a> Beginning<'a> {
    /// Reads all that has come of a stream; `end` says that it is the whole stream.
    #[must_use]
    pub fn of(stream: &'a [u8], end: bool) -> Self {
        let (mut framer, mut cursor, mut start) = (Framer::default(), 0, 0);
        while let Some(boundary) = framer.next(stream, &mut cursor) {
            let event = stream.get(start..boundary).unwrap_or_default();
            if let Some(payload) = data(event) {
                return Self::Event(payload);
            }
            start = boundary;
        }
        let rest = stream.get(start..).unwrap_or_default();
        let mut lines = rest.split(|byte| matches!(byte, b'\n' | b'\r'));
        match data(rest).filter(|_| end) {
            Some(payload) => Self::Event(payload),
            None if lines.all(|line| line.is_empty() || line.starts_with(b":")) => Self::KeepAlive,
            None => Self::Unfinished,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_first_event_with_a_payload_is_the_beginning() {
        let event = |payload: &'static str| Beginning::Event(Cow::Borrowed(payload.as_bytes()));
        for (stream, expected) in [
            ("", Beginning::KeepAlive),
            (": ping", Beginning::KeepAlive),
            (": ping\n\n: ping\r\n\r\n", Beginning::KeepAlive),
            ("\n\n", Beginning::KeepAlive),
            ("dat", Beginning::Unfinished),
            ("data: x", Beginning::Unfinished),
            ("data: x\n", Beginning::Unfinished),
            (": ping\n\nevent: error\n", Beginning::Unfinished),
            ("retry: 10\n\n", Beginning::KeepAlive),
            ("data: x\n\n", event("x")),
            (": ping\n\ndata: x\n\ndata: y\n\n", event("x")),
            ("\u{feff}data:x\r\n\r\n", event("x")),
            ("retry: 10\n\nevent: a\rdata: x\r\r", event("x")),
            ("data\n\n", event("")),
        ] {
            assert_eq!(Beginning::of(stream.as_bytes(), false), expected, "{stream:?}");
        }
        assert_eq!(Beginning::of(b": ping\n\ndata: x", true), event("x"));
        assert_eq!(Beginning::of(b": ping\n", true), Beginning::KeepAlive);
    }

    #[test]
    fn more_bytes_never_take_a_beginning_back() {
        let stream = b": ping\r\n\r\nretry: 1\n\nevent: a\ndata: {\"x\":1}\r\ndata: 2\n\ndata: y\n\n";
        let whole = Beginning::of(stream, true);
        for cut in 0..=stream.len() {
            if let found @ Beginning::Event(_) = Beginning::of(&stream[..cut], false) {
                assert_eq!(found, whole, "{cut}");
            }
        }
    }
}
