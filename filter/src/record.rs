//! The record of an exchange, for the access log and other filters.
//!
//! As fields, what most will want has a property of its own. As a line, all is one property: what one more costs, to set
//! and to read, is then spared. What only some want is a JSON object as text in fields: Envoy could write a protobuf
//! `Struct` as an object, but takes some 60 µs for it (measured on 1.40), more than all else we do. In a line that is typed it is an
//! object, for Envoy writes our text as it is.

use crate::host;
use tollgate::ledger::Record;

/// Leaves the record as fields, each of which can be read alone.
pub(crate) fn leave_fields(record: &Record) {
    for (name, value) in record.fields() {
        if let Some(value) = value {
            host::set_property(&format!("tollgate.{name}"), value.as_bytes());
        }
    }
}

/// Leaves the record as the end of a line. Where there is no record, a log that has it before its last brace is whole all the
/// same.
pub(crate) fn leave_line(record: &Record, request_id: &str, is_typed: bool) {
    host::set_property("tollgate.record", &record.line(request_id, is_typed));
}
