//! Does an answer whose status says that all is well begin with an error?
//!
//! Some backends answer 200 and then say that they failed: by the whole answer, or by the first event of a stream. As long
//! as that may be, its head waits, so that the next backend can still be asked: of JSON that begins as an error does until
//! it is whole or longer than an error can be, of a stream until its first event that has a payload. Nothing else waits:
//! an answer that breaks off while its head does is made again by the next backend, and billed twice. Not decided here: how
//! long what only keeps the connection alive (comments, spaces) may wait.

use crate::failure::{FAILURE_BYTES_MAX, Failure};
use crate::sse::Beginning;

/// So much of JSON tells whether it begins as an error does.
const BEGINNING_BYTES: usize = 64;

/// How a whole answer that is an error may begin, behind its brace.
const ERRORS: [&[u8]; 7] = [
    b"\"error\"",
    b"\"message\"",
    b"\"code\"",
    b"\"detail\"",
    b"\"status\"",
    b"\"object\":\"error\"",
    b"\"object\": \"error\"",
];

/// Whether what stands behind the brace may be the beginning of an error.
fn begins_as_error(members: &[u8]) -> bool {
    let members = members.trim_ascii_start();
    ERRORS.iter().any(|error| error.starts_with(members) || members.starts_with(error))
}

/// What has come so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It may still be either.
    Unfinished,
    /// Nothing but what keeps the connection alive.
    KeepAlive,
    /// An answer.
    Answer,
    /// An error, as JSON: it is what a body of this status would be.
    Failure(Failure),
    /// An error, as an event.
    FailureEvent(Failure),
}

impl Opening {
    /// Reads all that has come of a body, or as much of it as an error may have; `end` says that it is the whole body.
    #[must_use]
    pub(super) fn of(body: &[u8], end: bool) -> Self {
        let failure = match body.trim_ascii_start() {
            [] if !end => return Self::KeepAlive,
            [b'{', ..] if end => Failure::of_answer(body).map(Self::Failure),
            [b'{', members @ ..] if body.len() < FAILURE_BYTES_MAX && begins_as_error(members) => {
                return Self::Unfinished;
            }
            // The fields of events are data, event, id and retry; a byte order mark may stand in front.
            [b':' | b'd' | b'e' | b'i' | b'r' | 0xef, ..] => match Beginning::of(body, end) {
                Beginning::Event(event) => Failure::of_event(event).map(Self::FailureEvent),
                Beginning::KeepAlive if !end => return Self::KeepAlive,
                Beginning::Unfinished if !end && body.len() < FAILURE_BYTES_MAX => return Self::Unfinished,
                _ => None,
            },
            _ => None,
        };
        failure.unwrap_or(Self::Answer)
    }

    /// How much of a body is to be read by now, if this much of it is here: of JSON the beginning, until it is whole.
    #[must_use]
    pub(super) fn reach(is_json: bool, bytes: usize, end: bool) -> usize {
        let is_unfinished = is_json && !end && bytes < FAILURE_BYTES_MAX;
        bytes.min(if is_unfinished { BEGINNING_BYTES } else { FAILURE_BYTES_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ERROR: &str = r#"{"error":{"message":"Provider returned error","code":429}}"#;
    const CHUNK: &str = r#"{"object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}"#;

    fn word(body: &str, end: bool) -> (&'static str, u16) {
        match Opening::of(body.as_bytes(), end) {
            Opening::Unfinished => ("unfinished", 0),
            Opening::KeepAlive => ("keep-alive", 0),
            Opening::Answer => ("answer", 0),
            Opening::Failure(failure) => ("failure", failure.status()),
            Opening::FailureEvent(failure) => ("event", failure.status()),
        }
    }

    #[test]
    fn an_opening_is_known_as_soon_as_it_can_be() {
        for (body, end, expected) in [
            (ERROR.to_owned(), false, ("unfinished", 0)),
            (ERROR.to_owned(), true, ("failure", 429)),
            (format!("\n\n{ERROR}"), true, ("failure", 429)),
            (CHUNK.to_owned(), true, ("answer", 0)),
            ("{ \n".to_owned(), false, ("unfinished", 0)),
            ("{\"err".to_owned(), false, ("unfinished", 0)),
            ("{\"object\":\"e".to_owned(), false, ("unfinished", 0)),
            ("{\"object\":\"list\"".to_owned(), false, ("answer", 0)),
            ("{\"id\":\"a\"".to_owned(), false, ("answer", 0)),
            ("\n \n".to_owned(), false, ("keep-alive", 0)),
            ("\n \n".to_owned(), true, ("answer", 0)),
            (String::new(), true, ("answer", 0)),
            (format!("data: {ERROR}\n"), false, ("unfinished", 0)),
            (format!("data: {ERROR}\n"), true, ("event", 429)),
            (format!("data: {ERROR}\n\n"), false, ("event", 429)),
            (format!(": OPENROUTER PROCESSING\n\ndata: {ERROR}\n\n"), false, ("event", 429)),
            (format!("event: error\r\ndata: {ERROR}\r\n\r\n"), false, ("event", 429)),
            ("event: error\ndata: {\"message\":\"x\"}\n\n".to_owned(), false, ("event", 500)),
            ("event: error\ndata: busy\n\n".to_owned(), false, ("event", 500)),
            ("event: error\n\n".to_owned(), false, ("event", 500)),
            ("event: error\ndata: {\"message\":\"x\"}".to_owned(), false, ("unfinished", 0)),
            (": OPENROUTER PROCESSING\n\n".to_owned(), false, ("keep-alive", 0)),
            (": OPENROUTER PROCESSING\n\n".to_owned(), true, ("answer", 0)),
            (format!("data: {CHUNK}\n\ndata: {ERROR}\n\n"), false, ("answer", 0)),
            (format!("data: {CHUNK}\n\n"), false, ("answer", 0)),
            ("data: [DONE]\n\n".to_owned(), false, ("answer", 0)),
            ("\u{1f}\u{8b}compressed".to_owned(), false, ("answer", 0)),
            ("[1]".to_owned(), false, ("answer", 0)),
            // Longer than an error can be.
            (format!("{{\"error\":\"{}", "x".repeat(FAILURE_BYTES_MAX)), false, ("answer", 0)),
            (format!("data: {}", "x".repeat(FAILURE_BYTES_MAX)), false, ("answer", 0)),
        ] {
            let start: String = body.chars().take(80).collect();
            assert_eq!(word(&body, end), expected, "{start:?} {end}");
        }
    }

    #[test]
    fn json_is_read_when_it_is_whole_but_for_its_beginning() {
        for (is_json, bytes, end, reach) in [
            (true, 500, false, BEGINNING_BYTES),
            (true, 500, true, 500),
            (true, 2, false, 2),
            (true, FAILURE_BYTES_MAX, false, FAILURE_BYTES_MAX),
            (true, 100_000, false, FAILURE_BYTES_MAX),
            (false, 500, false, 500),
            (false, 100_000, false, FAILURE_BYTES_MAX),
        ] {
            assert_eq!(Opening::reach(is_json, bytes, end), reach, "{is_json} {bytes} {end}");
        }
    }
}
