//! One turn of a conversation that goes on at its backend.

use crate::exchange::{Exchange, Origin};
use crate::sse::Output;
use crate::store::Moment;

/// What each event of a stream begins with here.
const DATA: &str = "data: ";

/// One turn.
pub(super) struct Turn {
    pub(super) exchange: Exchange,
    /// What the event that asked for it is called; of Responses, the lane that it is in.
    pub(super) event: String,
    /// What the backend calls it, once it says so; of Responses, nothing but that it has begun.
    pub(super) response: Option<String>,
}

impl Turn {
    /// One that the client has asked for.
    pub(super) fn asked(exchange: Exchange, event: String) -> Self {
        Self::new(exchange, event, None)
    }

    /// One that the backend has begun.
    pub(super) fn begun(exchange: Exchange, response: Option<String>) -> Self {
        Self::new(exchange, String::new(), response)
    }

    fn new(mut exchange: Exchange, event: String, response: Option<String>) -> Self {
        exchange.goes_with_connection();
        let head = [(":status", "200"), ("content-type", "text/event-stream")];
        answer(&mut exchange, &head, false);
        Self { exchange, event, response }
    }

    /// Takes an event of it, as one of a stream, and answers what the client gets in its place, if that is something else.
    pub(super) fn push(&mut self, event: &str, end: bool, moment: Moment<'_>) -> Option<String> {
        // Between the parts of a JSON text a line may end, but not within an event of a stream.
        let event = event.trim().replace(['\r', '\n'], " ");
        let chunk = [DATA, &event, "\n\n"].concat();
        match self.exchange.response_chunk(chunk.as_bytes(), end, || moment.now) {
            Output::Same => None,
            Output::Replaced(bytes) => {
                let text = String::from_utf8(bytes).unwrap_or_default();
                Some(text.strip_prefix(DATA).unwrap_or_default().trim().to_owned())
            }
        }
    }

    /// The backend refuses it, and says nothing of it that is read.
    pub(super) fn fail(&mut self) {
        answer(&mut self.exchange, &[(":status", "400")], true);
    }

    /// The backend refuses it, and says why. Answers what the client gets in its place, if that is something else.
    pub(super) fn refuse(&mut self, status: u16, event: &str, moment: Moment<'_>) -> Option<String> {
        let head = [(":status", &*status.to_string()), ("content-type", "application/json")];
        answer(&mut self.exchange, &head, false);
        match self.exchange.response_chunk(event.as_bytes(), true, || moment.now) {
            Output::Same => None,
            Output::Replaced(bytes) => Some(String::from_utf8(bytes).unwrap_or_default()),
        }
    }
}

fn answer(exchange: &mut Exchange, head: &[(&str, &str)], end: bool) {
    let head: Vec<_> =
        head.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let _ = exchange.response_head(&head, end, || Origin::Backend);
}
