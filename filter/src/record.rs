//! The record of an exchange, as properties that the access log and other filters read.
//!
//! What most will want has a property of its own. The rest is one property, a JSON object as text: Envoy could write a
//! protobuf `Struct` as an object, but takes some 60 µs for it (measured on 1.40), more than all else we do.

use crate::host;
use serde::{Serialize, Serializer};
use tollgate::decision::PassedOver;
use tollgate::ledger::{Detail, Record, Source, Try};

const DETAILS: &str = "tollgate.details";

/// Leaves the record for the access log.
pub(crate) fn write_down(record: &Record) {
    let names = [
        ("tollgate.client", record.payer().map(|name| &name.text)),
        ("tollgate.model", record.paid_model().map(|name| &name.text)),
        ("tollgate.backend", record.served.as_ref().map(|served| &served.backend)),
    ];
    for (property, name) in names {
        if let Some(name) = name {
            host::set_property(property, name.as_bytes());
        }
    }
    host::set_property("tollgate.outcome", record.outcome.word().as_bytes());
    host::set_property("tollgate.prompt_tokens", record.usage.prompt.to_string().as_bytes());
    host::set_property("tollgate.completion_tokens", record.usage.completion.to_string().as_bytes());
    let estimated = if record.source == Source::Estimated { "true" } else { "false" };
    host::set_property("tollgate.estimated", estimated.as_bytes());
    // Writing names, numbers and words to memory cannot fail.
    let details = serde_json::to_vec(&Details(&record.details())).unwrap_or_default();
    host::set_property(DETAILS, &details);
}

struct Details<'r>(&'r [(&'static str, Detail)]);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, detail)| (name, Value(detail))))
    }
}

struct Value<'r>(&'r Detail);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Detail::Text(text) => serializer.serialize_str(text),
            Detail::Count(count) => serializer.serialize_u64(*count),
            Detail::Flag(flag) => serializer.serialize_bool(*flag),
            Detail::Words(words) => serializer.collect_seq(words),
            Detail::Tries(tries) => serializer.collect_seq(tries.iter().map(Attempt::of)),
            Detail::PassedOver(passed_over) => {
                serializer.collect_seq(passed_over.iter().map(PassedOver::written))
            }
        }
    }
}

#[derive(Serialize)]
struct Attempt<'r> {
    backend: &'r str,
    status: Option<u16>,
}

impl<'r> Attempt<'r> {
    fn of(attempt: &'r Try) -> Self {
        Self { backend: &attempt.backend, status: attempt.status }
    }
}
