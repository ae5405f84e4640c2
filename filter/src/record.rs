//! The record of an exchange, as properties that the access log and other filters read.
//!
//! What most will want has a property of its own, as text. The rest is one property that holds a protobuf `Struct`, which
//! a JSON access log writes as an object: `%FILTER_STATE(wasm.tollgate.details:TYPED)%`.

use crate::host;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use proxy_wasm::hostcalls;
use tollgate::ledger::{Detail, Record, Source, Try};

const DETAILS: &str = "tollgate.details";

/// Tells Envoy, once for each VM, what kind of value the details are.
pub(crate) fn declare() {
    let arguments = Declaration {
        name: DETAILS.to_owned(),
        readonly: false,
        kind: Declaration::PROTOBUF,
        schema: "type.googleapis.com/google.protobuf.Struct".to_owned(),
        span: Declaration::REQUEST,
    };
    if let Err(status) =
        hostcalls::call_foreign_function("declare_property", Some(&arguments.encode_to_vec()))
    {
        // It has been declared already, or this Envoy cannot: then it is logged as text.
        log::debug!("{DETAILS} was not declared: {status:?}");
    }
}

/// `envoy.source.extensions.common.wasm.DeclarePropertyArguments`
#[derive(Clone, PartialEq, Message)]
struct Declaration {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    readonly: bool,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(string, tag = "4")]
    schema: String,
    #[prost(int32, tag = "5")]
    span: i32,
}

impl Declaration {
    const PROTOBUF: i32 = 3;
    const REQUEST: i32 = 1;
}

/// Leaves the record for the access log.
pub(crate) fn write_down(record: &Record) {
    let names = [
        ("tollgate.client", record.client.as_ref().map(|name| &name.text)),
        ("tollgate.model", record.model.as_ref().map(|name| &name.text)),
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
    let details = record.details().into_iter().map(|(name, detail)| (name.to_owned(), value(detail)));
    host::set_property(DETAILS, &Struct { fields: details.collect() }.encode_to_vec());
}

fn value(detail: Detail) -> Value {
    let kind = match detail {
        Detail::Text(text) => Kind::StringValue(text),
        Detail::Count(count) => Kind::NumberValue(count as f64),
        Detail::Flag(flag) => Kind::BoolValue(flag),
        Detail::Tries(tries) => {
            Kind::ListValue(ListValue { values: tries.into_iter().map(attempt).collect() })
        }
    };
    Value { kind: Some(kind) }
}

fn attempt(attempt: Try) -> Value {
    let backend = ("backend".to_owned(), value(Detail::Text(attempt.backend.to_string())));
    let status = attempt.status.map(|status| ("status".to_owned(), value(Detail::Count(status.into()))));
    let fields = [Some(backend), status].into_iter().flatten().collect();
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}
