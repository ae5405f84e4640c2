//! One turn of a conversation that goes on at its backend.

use crate::exchange::{Exchange, Origin};
use crate::store::Moment;

/// One turn.
pub(super) struct Turn {
    pub(super) exchange: Exchange,
    /// What the event that asked for it is called.
    pub(super) event: String,
    /// What the backend calls it, once it says so.
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

    /// Takes an event of it, as one of a stream.
    pub(super) fn push(&mut self, event: &str, end: bool, moment: Moment<'_>) {
        let chunk = ["data: ", event.trim(), "\n\n"].concat();
        let _ = self.exchange.response_chunk(chunk.as_bytes(), end, || moment.now);
    }

    /// The backend refuses it.
    pub(super) fn fail(&mut self) {
        answer(&mut self.exchange, &[(":status", "400")], true);
    }
}

fn answer(exchange: &mut Exchange, head: &[(&str, &str)], end: bool) {
    let head: Vec<_> =
        head.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let _ = exchange.response_head(&head, end, || Origin::Backend);
}
