//! What does a stream begin with, as far as it has come?

use super::{Framer, data, is_error};

/// The beginning of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning<'a> {
    /// Nothing that says anything: comments, empty lines.
    KeepAlive,
    /// An event has begun, and has not ended.
    Unfinished,
    /// The first event that has a payload, or is named an error.
    Event(&'a [u8]),
}

impl<'a> Beginning<'a> {
    /// Reads all that has come of a stream; `end` says that it is the whole stream.
    #[must_use]
    pub fn of(stream: &'a [u8], end: bool) -> Self {
        let (mut framer, mut cursor, mut start) = (Framer::default(), 0, 0);
        while let Some(boundary) = framer.next(stream, &mut cursor) {
            let event = stream.get(start..boundary).unwrap_or_default();
            if says_something(event) {
                return Self::Event(event);
            }
            start = boundary;
        }
        let rest = stream.get(start..).unwrap_or_default();
        let mut lines = rest.split(|byte| matches!(byte, b'\n' | b'\r'));
        match end && says_something(rest) {
            true => Self::Event(rest),
            false if lines.all(|line| line.is_empty() || line.starts_with(b":")) => Self::KeepAlive,
            false => Self::Unfinished,
        }
    }
}

fn says_something(event: &[u8]) -> bool {
    data(event).is_some() || is_error(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_first_event_with_a_payload_is_the_beginning() {
        let event = |event: &'static str| Beginning::Event(event.as_bytes());
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
            ("data: x\n\n", event("data: x\n\n")),
            (": ping\n\ndata: x\n\ndata: y\n\n", event("data: x\n\n")),
            ("\u{feff}data:x\r\n\r\n", event("\u{feff}data:x\r\n\r\n")),
            ("retry: 10\n\nevent: a\rdata: x\r\r", event("event: a\rdata: x\r\r")),
            ("data\n\n", event("data\n\n")),
            ("event: a\n\nevent: error\n\n", event("event: error\n\n")),
        ] {
            assert_eq!(Beginning::of(stream.as_bytes(), false), expected, "{stream:?}");
        }
        assert_eq!(Beginning::of(b": ping\n\ndata: x", true), event("data: x"));
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
