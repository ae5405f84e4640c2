//! What does each field of the configuration mean?
//!
//! A table for each object of the schema, and one for each list of words. All of it is said by the schema.

use serde_json::Value;

const HEAD: &str = "\
# The configuration, field by field

Written by `cargo reference` from the types that read the configuration; a test keeps it current. What the parts are for, with
examples: the other documents. Editors complete and check a file of its own by
[envoy/tollgate.schema.json](../envoy/tollgate.schema.json) if it begins with `# yaml-language-server: $schema=` and where that is.

Units stand at the end of names: `_s` seconds, `_ms` milliseconds, `bytes_max` bytes. A field that is not listed is refused, with its path.
Names have 1 to 128 of letters, digits and `. _ - : / @ +`; a list has at most 10000 entries. A field that is `null` is absent.
What holds between fields, `tollgate check` tells.
";

/// The reference.
pub(crate) fn markdown(schema: &Value) -> String {
    let mut reference = Reference { schema, sections: Vec::new() };
    reference.object(schema, "");
    let mut text = HEAD.to_owned();
    text += &format!("\n## The whole\n\n{}", table(schema));
    for Section { name, places } in &reference.sections {
        let node = &schema["$defs"][name];
        let places: Vec<_> = places.iter().map(|place| format!("`{place}`")).collect();
        text += &format!("\n## {name}\n\n{} At {}.\n\n", described(node), places.join(", "));
        text += &if node.get("properties").is_some() { table(node) } else { words(node) };
    }
    text
}

struct Section<'s> {
    name: &'s str,
    /// Where in a configuration it stands.
    places: Vec<String>,
}

struct Reference<'s> {
    schema: &'s Value,
    /// In the order in which a reader meets them.
    sections: Vec<Section<'s>>,
}

impl<'s> Reference<'s> {
    fn object(&mut self, node: &'s Value, place: &str) {
        for (name, field) in fields(node) {
            let dot = if place.is_empty() { "" } else { "." };
            self.node(field, &format!("{place}{dot}{name}"));
        }
        for variant in node["oneOf"].as_array().into_iter().flatten() {
            self.object(variant, place);
        }
    }

    fn node(&mut self, node: &'s Value, place: &str) {
        let node = present(node);
        if let Some(items) = node.get("items") {
            return self.node(items, &format!("{place}[]"));
        }
        if node["additionalProperties"].is_object() {
            return self.node(&node["additionalProperties"], &format!("{place}.NAME"));
        }
        let Some(name) = definition(node) else { return };
        match self.sections.iter_mut().find(|section| section.name == name) {
            Some(section) => section.places.push(place.to_owned()),
            None => self.sections.push(Section { name, places: vec![place.to_owned()] }),
        }
        self.object(&self.schema["$defs"][name], place);
    }
}

/// What has to be there first, then by name.
fn fields(node: &Value) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = node["properties"].as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| (!is_required(node, name), *name));
    fields
}

fn is_required(node: &Value, name: &str) -> bool {
    node["required"].as_array().is_some_and(|required| required.iter().any(|one| one == name))
}

/// What it is, where it may also be null.
fn present(node: &Value) -> &Value {
    let any = node["anyOf"].as_array().into_iter().flatten();
    any.into_iter().find(|one| one["type"] != "null").unwrap_or(node)
}

fn definition(node: &Value) -> Option<&str> {
    node["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn described(node: &Value) -> &str {
    node["description"].as_str().unwrap_or_default()
}

fn table(node: &Value) -> String {
    let mut text = "| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n".to_owned();
    for (name, field) in fields(node) {
        let default = match field.get("default") {
            _ if is_required(node, name) => "required".to_owned(),
            Some(default) if default.as_object().is_some_and(serde_json::Map::is_empty) => String::new(),
            Some(default) => format!("`{default}`"),
            None => String::new(),
        };
        let (kind, bounds) = (kind(field), bounds(field));
        text += &format!("| `{name}` | {kind} | {default} | {bounds} | {} |\n", described(field));
    }
    text
}

fn words(node: &Value) -> String {
    let mut text = "| value | meaning |\n|---|---|\n".to_owned();
    let mut objects = Vec::new();
    for variant in node["oneOf"].as_array().into_iter().flatten() {
        let value = match variant["const"].as_str() {
            Some(word) => format!("`{word}`"),
            None if fields(variant).len() > 1 => {
                objects.push(variant);
                "an object, see below".to_owned()
            }
            None => fields(variant)
                .into_iter()
                .map(|(name, field)| {
                    let value = if field.get("items").is_some() { "[ … ]" } else { "N" };
                    format!("`{{ {name}: {value} }}`, {} {}", kind(field), bounds(field))
                })
                .collect(),
        };
        text += &format!("| {} | {} |\n", value.trim_end(), described(variant));
    }
    for object in objects {
        text += &format!("\n{}", table(object));
    }
    text
}

fn kind(field: &Value) -> String {
    let field = present(field);
    if let Some(name) = definition(field) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let word = match &field["type"] {
        Value::Array(types) => types.iter().find(|one| *one != "null").and_then(Value::as_str),
        one => one.as_str(),
    };
    match word {
        Some("array") => format!("list of {}", kind(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map to {}", kind(&field["additionalProperties"]))
        }
        word => word.unwrap_or("any").to_owned(),
    }
}

fn bounds(field: &Value) -> String {
    let bound = |name: &str| field.get(name).and_then(Value::as_f64).map(|bound| bound.to_string());
    let above = bound("exclusiveMinimum").map(|bound| format!("above {bound}"));
    let from = above.or(bound("minimum")).or(bound("minItems"));
    let below = bound("exclusiveMaximum").map(|bound| format!("below {bound}"));
    let entries = if field.get("minItems").or(field.get("maxItems")).is_some() { " entries" } else { "" };
    match (from, below.or(bound("maximum")).or(bound("maxItems"))) {
        (Some(from), Some(to)) => format!("{from} to {to}{entries}"),
        // Whole numbers begin there, which tells nothing.
        (Some(from), None) if from == "0" => String::new(),
        (Some(from), None) => format!("{from} or more{entries}"),
        (None, Some(to)) => format!("at most {to}{entries}"),
        (None, None) => String::new(),
    }
}
