//! The body of an answer on its way out: when each piece goes, where the bytes are cut, and where they end.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};

use super::answer::Event;
use super::exchange::Exchange;
use super::gzip::Encoder;
use super::record::Outcome;

/// The mock breaks off: hyper closes the connection on it.
#[derive(Debug)]
pub(super) struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the mock was told to break off here")
    }
}

impl std::error::Error for Aborted {}

/// What happens to a body on its way.
#[derive(Default)]
pub(super) struct Way {
    /// Between two events.
    pub(super) delay: Duration,
    pub(super) cut_bytes: Option<NonZeroUsize>,
    pub(super) gzip: bool,
    /// Wait for a release when so many events are out.
    pub(super) hold_after: Option<usize>,
    /// Break off when so many events are out.
    pub(super) reset_after: Option<usize>,
}

/// The pieces to be written, each by itself.
pub(super) fn pieces(
    exchange: Exchange,
    events: Vec<Event>,
    way: Way,
) -> impl Stream<Item = Result<Bytes, Aborted>> {
    let encoder = way.gzip.then(Encoder::default);
    let flow = Flow {
        exchange,
        events: events.into(),
        events_out: 0,
        way,
        encoder,
        unsent: BytesMut::new(),
        ended: false,
    };
    stream::unfold(flow, |mut flow| async move { flow.next().await.map(|piece| (piece, flow)) })
}

struct Flow {
    exchange: Exchange,
    events: VecDeque<Event>,
    events_out: usize,
    way: Way,
    encoder: Option<Encoder>,
    /// Of the events that are out, what has not been written.
    unsent: BytesMut,
    ended: bool,
}

impl Flow {
    async fn next(&mut self) -> Option<Result<Bytes, Aborted>> {
        if self.ended {
            return None;
        }
        // hyper flushes when a body has nothing for it: the last piece is on the wire before the next is made.
        tokio::task::yield_now().await;
        loop {
            let reset = self.way.reset_after == Some(self.events_out);
            let hold = self.way.hold_after == Some(self.events_out);
            let last = self.events.is_empty();
            if let Some(piece) = self.piece(reset || hold || last) {
                self.exchange.sent(&piece);
                if last && self.unsent.is_empty() && !reset && !hold {
                    // Now, not when hyper comes back: a client that has all of it may ask what it was billed.
                    self.end(Outcome::Complete);
                }
                return Some(Ok(piece));
            }
            if hold {
                self.way.hold_after = None;
                self.exchange.released().await;
                continue;
            }
            if reset {
                self.end(Outcome::Reset);
                return Some(Err(Aborted));
            }
            let Some(event) = self.events.pop_front() else {
                self.end(Outcome::Complete);
                return None;
            };
            if self.events_out > 0 && !self.way.delay.is_zero() {
                tokio::time::sleep(self.way.delay).await;
            }
            self.put(&event);
        }
    }

    /// What is to be written next: as much as a piece holds, or less if there is no waiting for more.
    fn piece(&mut self, flush: bool) -> Option<Bytes> {
        let full = self.way.cut_bytes.map_or(self.unsent.len(), NonZeroUsize::get);
        let length = if flush { full.min(self.unsent.len()) } else { full };
        (length > 0 && length <= self.unsent.len()).then(|| self.unsent.split_to(length).freeze())
    }

    fn put(&mut self, event: &Event) {
        self.events_out += 1;
        self.exchange.produced(event.produced);
        let Some(encoder) = &mut self.encoder else {
            self.unsent.extend_from_slice(&event.bytes);
            return;
        };
        encoder.write(&event.bytes);
        if self.events.is_empty() {
            encoder.finish();
        }
        self.unsent.extend_from_slice(&encoder.take());
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        self.exchange.end(outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use futures_util::StreamExt as _;
    use hyper::HeaderMap;

    use super::*;
    use crate::mock::answer::{Content, answer};
    use crate::mock::exchange::Shared;
    use crate::mock::record::Arrival;
    use crate::mock::settings::Settings;

    /// A client may stop at the last event, and not wait for the end of the body behind it.
    #[tokio::test]
    async fn who_has_the_last_piece_may_ask_for_the_bill() {
        let body = br#"{"model": "m", "prompt": "a", "stream": true, "max_tokens": 1}"#;
        let answer = answer("POST", "/v1/completions", body, &Settings::default()).expect("an answer");
        let Content::Stream(events) = answer.content.clone() else { panic!("no stream") };
        for cut_bytes in [None, NonZeroUsize::new(7)] {
            let shared = Arc::new(Shared::new("", Settings::default()));
            let arrival = Arrival { method: "POST", path: "/", headers: &HeaderMap::new(), body };
            let (mut exchange, _) = Exchange::arrive(&shared, arrival);
            exchange.answering(200, Some(&answer));
            let length: usize = events.iter().map(|event| event.bytes.len()).sum();
            let mut pieces = pin!(pieces(exchange, events.clone(), Way { cut_bytes, ..Way::default() }));
            let mut got = 0;
            while got < length {
                assert_eq!(shared.billed(), []);
                got += pieces.next().await.expect("a piece").expect("unbroken").len();
            }
            assert_eq!(shared.billed().len(), 1);
            assert!(pieces.next().await.is_none());
        }
    }
}
