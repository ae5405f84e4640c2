//! The record of an exchange, for the access log and other filters.
//!
//! As fields, what most will want has a property of its own. As a line, all is one property: what one more costs, to set
//! and to read, is then spared. What only some want is a JSON object as text in both: Envoy could write a protobuf
//! `Struct` as an object, but takes some 60 µs for it (measured on 1.40), more than all else we do.

use crate::host;
use serde::{Serialize, Serializer};
use tollgate::decision::PassedOver;
use tollgate::ledger::{Detail, Record, Source, Try};

/// Leaves the record as fields, each of which can be read alone.
pub(crate) fn leave_fields(record: &Record) {
    let fields = Fields::of(record);
    let texts = [
        ("tollgate.client", fields.client),
        ("tollgate.model", fields.model),
        ("tollgate.backend", fields.backend),
        ("tollgate.outcome", Some(fields.outcome)),
        ("tollgate.prompt_tokens", Some(&*fields.prompt_tokens)),
        ("tollgate.completion_tokens", Some(&*fields.completion_tokens)),
        ("tollgate.estimated", Some(fields.estimated)),
        ("tollgate.details", Some(&*fields.details)),
    ];
    for (property, text) in texts {
        if let Some(text) = text {
            host::set_property(property, text.as_bytes());
        }
    }
}

/// Leaves the record as the end of a line: the members of a JSON object, with a comma before the first, and no brace. Where
/// there is no record, a log that has it before its last brace is whole all the same.
pub(crate) fn leave_line(record: &Record, request_id: &str) {
    let mut line = written(&Fields { request_id: Some(request_id), ..Fields::of(record) }).into_bytes();
    if let Some(brace) = line.first_mut() {
        *brace = b',';
    }
    line.pop();
    host::set_property("tollgate.record", &line);
}

/// The fields as the log has them, in its order.
#[derive(Serialize)]
struct Fields<'r> {
    /// A log that writes a line as it is cannot quote what a client has sent: of what Envoy refuses early, the id is a client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'r str>,
    client: Option<&'r str>,
    model: Option<&'r str>,
    backend: Option<&'r str>,
    outcome: &'r str,
    prompt_tokens: String,
    completion_tokens: String,
    estimated: &'static str,
    details: String,
}

impl<'r> Fields<'r> {
    fn of(record: &'r Record) -> Self {
        Self {
            request_id: None,
            client: record.payer().map(|name| &*name.text),
            model: record.paid_model().map(|name| &*name.text),
            backend: record.served.as_ref().map(|served| &*served.backend),
            outcome: record.outcome.word(),
            prompt_tokens: record.usage.prompt.to_string(),
            completion_tokens: record.usage.completion.to_string(),
            estimated: if record.source == Source::Estimated { "true" } else { "false" },
            details: written(&Details(&record.details())),
        }
    }
}

/// Writing names, numbers and words to memory cannot fail.
fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
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
