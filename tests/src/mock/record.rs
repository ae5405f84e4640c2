//! What the mock has received and what it has billed, for tests to ask. The oldest is forgotten first.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::endpoint::Operation;
use super::usage::Usage;

/// How many requests are remembered.
pub const RECORDS_MAX: usize = 10_000;
/// How many bytes of bodies, of requests and answers together, are remembered.
pub const RECORDED_BYTES_MAX: usize = 64 << 20;

/// A request that arrived, with its body, and what has been sent in return once that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which request it was since the mock started, from 0.
    pub serial: u64,
    /// `POST`
    pub method: String,
    /// Path and query, as they came.
    pub path: String,
    /// All headers, names in lower case; a value that is not UTF-8 is shown with replacement characters.
    pub headers: Vec<(String, String)>,
    /// The body, if [`super::Settings::record`].
    pub body: Bytes,
    /// The status sent, once the answer has ended; None also if the connection was closed without one.
    pub status: Option<u16>,
    /// The answer's body as it was sent, less the transfer encoding, if [`super::Settings::record`].
    pub response: Bytes,
}

/// What a request was billed. Refused ones were not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Billed {
    /// The request's [`Received::serial`].
    pub serial: u64,
    /// What was asked for.
    pub operation: Operation,
    /// Of which model or deployment.
    pub model: String,
    /// The tokens; of an answer that broke off, those that had been produced.
    pub usage: Usage,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was sent.
    Complete,
    /// The client went away first.
    Abandoned,
    /// The mock broke it off: [`super::Effect::Reset`].
    Reset,
}

impl Received {
    /// The first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Serialize for Received {
    /// Bodies are text if they can be, or base64 under another name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Received", 7)?;
        record.serialize_field("serial", &self.serial)?;
        record.serialize_field("method", &self.method)?;
        record.serialize_field("path", &self.path)?;
        record.serialize_field("headers", &self.headers)?;
        match std::str::from_utf8(&self.body) {
            Ok(text) => record.serialize_field("body", text)?,
            Err(_) => record.serialize_field("body_base64", &STANDARD.encode(&self.body))?,
        }
        record.serialize_field("status", &self.status)?;
        match std::str::from_utf8(&self.response) {
            Ok(text) => record.serialize_field("response", text)?,
            Err(_) => record.serialize_field("response_base64", &STANDARD.encode(&self.response))?,
        }
        record.end()
    }
}

/// The records, bounded.
#[derive(Debug, Default)]
pub(super) struct Records {
    next_serial: u64,
    received: VecDeque<Received>,
    billed: VecDeque<Billed>,
    bytes: usize,
}

/// A request's parts as hyper has them.
pub(super) struct Arrival<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl Records {
    /// Returns the serial.
    pub(super) fn arrive(&mut self, arrival: &Arrival<'_>) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        // Copied, all of it: what hyper has are views of a buffer for the whole connection, which they would keep.
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let received = Received {
            serial,
            method: arrival.method.to_owned(),
            path: arrival.path.to_owned(),
            headers: arrival.headers.iter().map(header).collect(),
            body: Bytes::copy_from_slice(arrival.body),
            status: None,
            response: Bytes::new(),
        };
        self.bytes += received.body.len();
        self.received.push_back(received);
        self.trim();
        serial
    }

    /// An answer has ended, if the request is still remembered.
    pub(super) fn end(&mut self, serial: u64, status: Option<u16>, response: Bytes) {
        // Serials are consecutive.
        let oldest = self.received.front().map_or(serial, |record| record.serial);
        let at = serial.checked_sub(oldest).and_then(|at| usize::try_from(at).ok());
        let Some(record) = at.and_then(|at| self.received.get_mut(at)) else { return };
        record.status = status;
        self.bytes += response.len();
        record.response = response;
        self.trim();
    }

    pub(super) fn bill(&mut self, bill: Billed) {
        if self.billed.len() == RECORDS_MAX {
            self.billed.pop_front();
        }
        self.billed.push_back(bill);
    }

    pub(super) fn forget(&mut self) {
        *self = Self { next_serial: self.next_serial, ..Self::default() };
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.iter().cloned().collect()
    }

    pub(super) fn billed(&self) -> Vec<Billed> {
        self.billed.iter().cloned().collect()
    }

    fn trim(&mut self) {
        while (self.received.len() > RECORDS_MAX || self.bytes > RECORDED_BYTES_MAX)
            && let Some(oldest) = self.received.pop_front()
        {
            self.bytes -= oldest.body.len() + oldest.response.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(records: &mut Records, body: &[u8]) -> u64 {
        records.arrive(&Arrival { method: "POST", path: "/", headers: &HeaderMap::new(), body })
    }

    #[track_caller]
    fn check(records: &Records, serials: &[u64]) {
        assert_eq!(records.received().iter().map(|record| record.serial).collect::<Vec<_>>(), serials);
        let bytes: usize =
            records.received().iter().map(|record| record.body.len() + record.response.len()).sum();
        assert_eq!(records.bytes, bytes);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let mut records = Records::default();
        let half = vec![0; RECORDED_BYTES_MAX / 2];
        for _ in 0..2 {
            arrive(&mut records, &half);
        }
        check(&records, &[0, 1]);
        arrive(&mut records, b"1");
        check(&records, &[1, 2]);
        records.end(2, Some(200), half.into());
        check(&records, &[2]);
        // An answer to a request that is not remembered is not either.
        records.end(1, Some(200), Bytes::from_static(b"1"));
        check(&records, &[2]);
    }

    #[test]
    fn what_ends_after_it_was_forgotten_stays_forgotten() {
        let mut records = Records::default();
        arrive(&mut records, b"1");
        records.forget();
        records.end(0, Some(200), Bytes::from_static(b"1"));
        check(&records, &[]);
        assert_eq!(arrive(&mut records, b"2"), 1);
        records.end(0, Some(200), Bytes::from_static(b"1"));
        check(&records, &[1]);
        assert_eq!(records.received()[0].status, None);
    }
}
