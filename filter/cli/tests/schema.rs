//! Do the schema and the parser take the same, and is what is written about the fields so?

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tollgate::config::{ConfigError, from_value, schema};
use tollgate::gateway::Gateway;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn every_field() -> Value {
    serde_yaml_ng::from_str(include_str!("schema/every-field.yaml")).unwrap()
}

/// What excludes each other stands in different ones of these: together they have every field.
fn all_configs() -> [Value; 3] {
    let mut of_broker = every_field();
    of_broker["queue"] = serde_yaml_ng::from_str(include_str!("schema/broker.yaml")).unwrap();
    of_broker["directory"] = serde_yaml_ng::from_str(include_str!("schema/document.yaml")).unwrap();
    let mut by_order = every_field();
    by_order["routing"] = json!({ "order": ["ptu", "payg"] });
    [every_field(), of_broker, by_order]
}

/// Each place of these, with the one that it is in.
fn all_places(configs: &[Value]) -> impl Iterator<Item = (&Value, Place)> {
    configs.iter().flat_map(|config| places(config).into_iter().map(move |place| (config, place)))
}

/// What the parser makes of it, where every variable has a long secret.
fn load(config: Value) -> Result<Gateway, Vec<ConfigError>> {
    from_value(config, &|_| Some("s".repeat(64)))
}

fn faults(validator: &jsonschema::Validator, config: &Value) -> Vec<String> {
    validator.iter_errors(config).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// A place in a configuration, and what the schema says of it.
struct Place {
    /// In the configuration, as a JSON pointer.
    pointer: String,
    /// As faults name it.
    path: String,
    /// The definition and the field, as `Client.name`.
    field: String,
    schema: Value,
}

/// Every place of a configuration that the schema says something of.
fn places(config: &Value) -> Vec<Place> {
    let (schema, mut found) = (schema(), Vec::new());
    let whole = Place {
        pointer: String::new(),
        path: String::new(),
        field: "Gateway".into(),
        schema: schema.clone(),
    };
    gather(&schema, config, whole, &mut found);
    found
}

fn gather(root: &Value, value: &Value, mut place: Place, found: &mut Vec<Place>) {
    let told = place.schema.clone();
    let node = node(root, &told, value);
    let name = told.to_string();
    let definition = name.split("#/$defs/").nth(1).and_then(|rest| rest.split('"').next());
    let definition = definition.filter(|_| !place.pointer.is_empty()).unwrap_or(&place.field).to_owned();
    let inside = |key: &str, path: String, field: String, schema: &Value| Place {
        pointer: format!("{}/{key}", place.pointer),
        path,
        field,
        schema: schema.clone(),
    };
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let dot = if place.path.is_empty() { "" } else { "." };
                // The operator's own names, each with an object of ours.
                let of_map = Some(&node["additionalProperties"]).filter(|schema| schema["$ref"].is_string());
                if let Some(schema) = node["properties"].get(name).or(of_map) {
                    let path = format!("{}{dot}{name}", place.path);
                    gather(root, value, inside(name, path, format!("{definition}.{name}"), schema), found);
                }
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                let path = format!("{}[{at}]", place.path);
                gather(root, value, inside(&at.to_string(), path, definition.clone(), &node["items"]), found);
            }
        }
        _ => {}
    }
    // The description's neighbours, such as bounds and defaults, stand beside a reference.
    if let (Value::Object(merged), Value::Object(told)) = (node.clone(), told.clone()) {
        place.schema = merged.into_iter().chain(told).collect::<serde_json::Map<_, _>>().into();
    }
    found.push(place);
}

/// The schema itself: past references, past what may be null, and the variant that the value is of.
fn node<'s>(root: &'s Value, schema: &'s Value, value: &Value) -> &'s Value {
    if let Some(name) = schema["$ref"].as_str() {
        return node(root, root.pointer(name.strip_prefix('#').unwrap()).unwrap(), value);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return node(root, any.iter().find(|one| one["type"] != "null").unwrap(), value);
    }
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    // Each has a name of its own.
    let has_all = |one: &Value| {
        let names = one["required"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).all(|name| value.get(name).is_some())
    };
    let mut objects = variants.filter(|one| one["type"] == "object" && value.is_object());
    objects.find(|one| has_all(one)).unwrap_or(schema)
}

/// Fields whose values are looked at by what they are, not by what they mean: both must refuse the change.
#[track_caller]
fn refused(validator: &jsonschema::Validator, config: &Value, path: &str, what: &str) {
    assert!(!validator.is_valid(config), "the schema takes {what} at {path}");
    let Err(errors) = load(config.clone()) else { panic!("the parser takes {what} at {path}") };
    let is_there = |error: &ConfigError| {
        // A model's prices are told of where they hold, and an object's where it begins.
        let is_of_prices = path.contains("prices") && error.problem.starts_with("expected prices of");
        is_of_prices
            || error.path == "configuration"
            || error.path.starts_with(path)
            || path.starts_with(&error.path)
    };
    assert!(errors.iter().any(is_there), "{what} at {path}: the parser says {errors:?}");
}

#[test]
fn the_schema_and_the_reference_are_current() {
    for (arguments, file) in [
        (&["schema"][..], "envoy/tollgate.schema.json"),
        (&["schema", "--markdown"], "docs/configuration.md"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate")).args(arguments).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            printed == read(file),
            "write {file} anew: cargo run -p tollgate-cli -- {} > {file}",
            arguments.join(" ")
        );
    }
}

#[test]
fn every_field_and_every_word_is_described() {
    fn look(value: &Value, at: &str, missing: &mut Vec<String>) {
        for (name, field) in value["properties"].as_object().into_iter().flatten() {
            // The one member of a variant is described where that stands, as the number of a quota.
            let is_only =
                at.ends_with("/oneOf") && value["properties"].as_object().is_some_and(|all| all.len() == 1);
            if field["description"].as_str().is_none_or(str::is_empty) && !is_only {
                missing.push(format!("{at} {name}"));
            }
        }
        for variant in value["oneOf"].as_array().into_iter().flatten() {
            if variant["description"].is_null() {
                missing.push(format!("{at} {}", variant["const"]));
            }
        }
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| look(member, &format!("{at}/{name}"), missing));
            }
            Value::Array(values) => values.iter().for_each(|value| look(value, at, missing)),
            _ => {}
        }
    }
    let mut missing = Vec::new();
    look(&schema(), "", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_configuration_of_these_tests_has_every_field_and_loads() {
    let (configs, schema) = (all_configs(), schema());
    for config in &configs {
        assert_eq!(load(config.clone()).map(|_| ()), Ok(()));
        assert_eq!(faults(&validator(), config), Vec::<String>::new());
    }
    let there: BTreeSet<_> = all_places(&configs).map(|(_, place)| place.field).collect();
    let whole = ("Gateway".to_owned(), schema.clone());
    let definitions = schema["$defs"].as_object().unwrap().clone().into_iter().chain([whole]);
    for (name, definition) in definitions {
        for field in definition["properties"].as_object().into_iter().flatten().map(|(field, _)| field) {
            assert!(there.contains(&format!("{name}.{field}")), "{name}.{field} is in no file of schema/");
        }
    }
}

#[test]
fn what_is_shown_in_documents_and_examples_is_valid() {
    let mut files = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs"), root().join("envoy"), root().join("examples")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let (validator, mut whole) = (validator(), 0);
    for file in files {
        let extension = file.extension().unwrap().to_str().unwrap();
        if extension == "png" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let texts: Vec<&str> = match extension {
            "md" => text.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect(),
            "yaml" => vec![&text],
            _ => continue,
        };
        for text in texts {
            // An outline with dots for what is left out is no YAML.
            let Ok(document) = serde_yaml_ng::from_str::<Value>(text) else { continue };
            for config in configurations(&document) {
                let mut config = config.clone();
                // What `render` reads has Envoy's part in it, and the filter never sees that.
                config.as_object_mut().unwrap().remove("envoy");
                let is_whole = load(config.clone()).is_ok();
                let faults = faults(&validator, &config);
                // What shows a part only lacks the rest, and nothing else is wrong with it.
                let faults =
                    faults.iter().filter(|fault| is_whole || !fault.contains("is a required property"));
                assert_eq!(faults.count(), 0, "{}: {:?}", file.display(), self::faults(&validator, &config));
                whole += usize::from(is_whole);
            }
        }
    }
    assert!(whole >= 12, "{whole} whole configurations are found");
}

/// Gateway configurations in a document: itself, or those of Wasm filters.
fn configurations(document: &Value) -> Vec<&Value> {
    let known = schema()["properties"].as_object().unwrap().clone();
    let is_one = document.as_object().is_some_and(|members| {
        members.contains_key("models") || members.keys().all(|name| known.contains_key(name))
    });
    if is_one {
        return vec![document];
    }
    if document["root_id"] == "gateway" {
        return document.pointer("/configuration/value").into_iter().collect();
    }
    match document {
        Value::Object(members) => members.values().flat_map(configurations).collect(),
        Value::Array(values) => values.iter().flat_map(configurations).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn an_unknown_neighbour_of_any_field_is_refused_by_both() {
    let (configs, validator) = (all_configs(), validator());
    let mut objects = BTreeSet::new();
    for (config, place) in all_places(&configs) {
        let mut changed = config.clone();
        let value = changed.pointer_mut(&place.pointer).unwrap();
        // Maps and foreign keys have names of their own.
        let extra = &place.schema["additionalProperties"];
        let is_free = extra.is_object() || *extra == true;
        if value.is_object() && !is_free {
            value["unknown_field"] = json!(1);
            refused(&validator, &changed, &place.path, "an unknown field");
            objects.insert(place.field);
        }
    }
    assert!(objects.len() > 30, "{objects:?}");
}

#[test]
fn what_is_missing_or_of_another_kind_is_refused_by_both() {
    let (configs, validator) = (all_configs(), validator());
    let mut seen = BTreeMap::<&str, u32>::new();
    for (config, place) in all_places(&configs).filter(|(_, place)| !place.pointer.is_empty()) {
        let mut changed = config.clone();
        let value = changed.pointer_mut(&place.pointer).unwrap();
        *value = if value.is_number() || value.is_boolean() { json!("word") } else { json!(7) };
        refused(&validator, &changed, &place.path, "another type");
        if place.schema.get("oneOf").is_some() || place.schema.get("enum").is_some() {
            *changed.pointer_mut(&place.pointer).unwrap() = json!("no-such-word");
            refused(&validator, &changed, &place.path, "an unknown word");
            *seen.entry("words").or_default() += 1;
        }
        for name in place.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut changed = config.clone();
            changed.pointer_mut(&place.pointer).unwrap().as_object_mut().unwrap().remove(name);
            refused(&validator, &changed, &place.path, &format!("no {name}"));
            *seen.entry("required").or_default() += 1;
        }
    }
    assert!(seen["words"] > 30 && seen["required"] > 30, "{seen:?}");
}

/// The numbers just outside and just inside a schema's bounds.
fn edges(schema: &Value) -> Vec<(Value, Value)> {
    let is_whole = schema["type"].to_string().contains("integer");
    let number = |number: f64| if is_whole { json!(number as i64) } else { json!(number) };
    let step = if is_whole { 1.0 } else { 0.01 };
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let mut edges = Vec::new();
    edges.extend(
        bound("minimum")
            .map(|bound| (number(if is_whole { bound - 1.0 } else { bound / 2.0 - 1e-7 }), number(bound))),
    );
    edges.extend(bound("maximum").map(|bound| (number(bound + step), number(bound))));
    edges.extend(bound("exclusiveMinimum").map(|bound| (number(bound), number(bound + 1e-3))));
    edges.extend(bound("exclusiveMaximum").map(|bound| (number(bound), number(bound - 1e-3))));
    edges
}

/// What the parser says of numbers that do not go together, which a schema cannot know.
const BETWEEN_FIELDS: [&str; 2] = ["is above max", "its longest `request_bytes_max`"];

#[test]
fn bounds_of_numbers_are_those_of_the_parser() {
    let (configs, validator, mut seen) = (all_configs(), validator(), BTreeSet::new());
    for (config, place) in all_places(&configs) {
        for (outside, inside) in edges(&place.schema) {
            let mut changed = config.clone();
            *changed.pointer_mut(&place.pointer).unwrap() = outside.clone();
            refused(&validator, &changed, &place.path, &outside.to_string());
            *changed.pointer_mut(&place.pointer).unwrap() = inside.clone();
            assert!(validator.is_valid(&changed), "{}: {inside} is within the bounds", place.path);
            // What it does to others is another matter: a default above the maximum, say.
            let errors = load(changed).err().unwrap_or_default();
            let ours = errors
                .iter()
                .filter(|error| error.path == place.path)
                .find(|error| BETWEEN_FIELDS.iter().all(|told| !error.problem.contains(told)));
            assert_eq!(ours, None, "{} with {inside}", place.path);
            seen.insert(place.field.clone());
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}

#[test]
fn bounds_of_lists_are_those_of_the_parser() {
    let (configs, validator, mut seen) = (all_configs(), validator(), BTreeSet::new());
    for (config, place) in all_places(&configs) {
        if let Some(least) = place.schema["minItems"].as_u64() {
            let mut changed = config.clone();
            changed.pointer_mut(&place.pointer).unwrap().as_array_mut().unwrap().truncate(least as usize - 1);
            refused(&validator, &changed, &place.path, "too few entries");
            seen.insert(place.field.clone());
        }
        if let Some(most) = place.schema["maxItems"].as_u64() {
            let mut changed = config.clone();
            let list = changed.pointer_mut(&place.pointer).unwrap().as_array_mut().unwrap();
            let entry = list[0].clone();
            list.resize(most as usize + 1, entry);
            refused(&validator, &changed, &place.path, "too many entries");
            seen.insert(place.field);
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
}

/// All that runs, as far as it can be compared.
fn shown(gateway: &Gateway) -> String {
    let Gateway { roster, models, other, routing, pinning, .. } = gateway;
    let Gateway {
        precedences,
        waiting_max,
        lowering,
        store,
        queue,
        on_store_failure,
        health_open,
        record_form,
        clients,
        ..
    } = gateway;
    let roster: Vec<_> = roster
        .iter()
        .map(|client| {
            let mut policies: Vec<_> = client.policy_by_model.iter().map(|one| format!("{one:?}")).collect();
            policies.sort();
            let tollgate::gateway::Client { name, endpoints, policy, budget, priority, regions, operator, acts_for, .. } = &**client;
            format!("{name:?} {endpoints:?} {policy:?} {budget:?} {priority:?} {regions:?} {operator} {acts_for:?} {policies:?}")
        })
        .collect();
    let pinning = pinning.as_ref().map(|pinned| (pinned.targets.len(), pinned.governs_batches));
    format!(
        "{roster:#?} {models:#?} {other:?} {routing:?} {pinning:?} {precedences:?} {waiting_max} {lowering:?} {store:?} {queue:?} {on_store_failure:?} \
         {health_open} {record_form:?} {:#?} {:?}",
        clients.issuers(),
        (clients.issued(), clients.documented())
    )
}

#[test]
fn a_default_is_what_holds_if_nothing_is_said() {
    let configs = all_configs();
    // These cannot be seen in what is compared; how names become labels has a test of its own.
    let unseen = [
        "Pinning.bound_to",
        "Pinning.unsealed_ids",
        "Gateway.metrics",
        "Client.anonymous",
        "Client.api_keys",
    ];
    let mut seen = BTreeSet::new();
    for (config, place) in all_places(&configs) {
        let Some(default) = place.schema.get("default") else { continue };
        let (parent, name) = place.pointer.rsplit_once('/').unwrap();
        let mut said = config.clone();
        *said.pointer_mut(&place.pointer).unwrap() = default.clone();
        let mut unsaid = config.clone();
        unsaid.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        match (load(said), load(unsaid)) {
            (Ok(said), Ok(unsaid)) => {
                assert!(shown(&said) == shown(&unsaid), "{}: {default} is not what holds", place.path);
                if !unseen.contains(&place.field.as_str()) {
                    seen.insert(place.field);
                }
            }
            (said, unsaid) => assert_eq!(said.err(), unsaid.err(), "{}", place.path),
        }
    }
    assert!(seen.len() > 40, "{seen:?}");
}
