//! The ordered candidates, as the route's priority_group specifier reads them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::rc::Rc;
use tollgate::route::Target;

/// The header that `header_to_metadata` turns into metadata for the route.
pub(crate) const HEADER: &str = "x-tollgate-candidates";

/// A base64 `google.protobuf.Value`: a list of `{name: GROUP}`, where a group's name is its cluster's.
pub(crate) fn encode(candidates: &[Rc<Target>]) -> String {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let group = |target: &Rc<Target>| {
        let fields = [("name".to_owned(), text(&target.backend.cluster))].into();
        Value { kind: Some(Kind::StructValue(Struct { fields })) }
    };
    let list = ListValue { values: candidates.iter().map(group).collect() };
    STANDARD.encode(Value { kind: Some(Kind::ListValue(list)) }.encode_to_vec())
}
