//! What does a configuration look like, for editors and for whoever reads about it?
//!
//! Told by the types that read it (`wire`), in the words that stand beside their fields. What only makes sense together with other
//! fields is not in it: the parser tells that.

use super::wire;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The JSON Schema of a configuration, draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<wire::Gateway>().to_value();
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), Value::from("Tollgate"));
    }
    tidy(&mut schema);
    schema
}

/// Takes out what says nothing: defaults that are absence, how many bits a number has, where a source's line ended.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            // A property may be named like a word of the schema: then its value is a schema, which has members.
            if members.get("format").is_some_and(Value::is_string) {
                members.remove("format");
            }
            if let Some(Value::String(description)) = members.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            if let Some(default) = members.get_mut("default")
                && !default.as_object().is_some_and(|default| default.contains_key("description"))
            {
                *default = said(default);
                if default.is_null() {
                    members.remove("default");
                }
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// A default without the members that it leaves open.
fn said(default: &Value) -> Value {
    let Value::Object(members) = default else { return default.clone() };
    let members = members.iter().map(|(name, value)| (name.clone(), said(value)));
    let is_said =
        |value: &Value| !value.is_null() && value.as_object().is_none_or(|members| !members.is_empty());
    members.filter(|(_, value)| is_said(value)).collect::<serde_json::Map<_, _>>().into()
}
