//! What is seen in the governed fields of a body: by us, by serde_json, by Python's json. All three say it alike.

use serde_json::{Map, Value, json};
use tollgate::denial::Denial;
use tollgate::request::{Effort, Field, Inner, Request};

const COUNTS: [Field; 7] = [
    Field::N,
    Field::BestOf,
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::MaxOutputTokens,
    Field::TopLogprobs,
    Field::MaxToolCalls,
];
const DECIMALS: [Field; 2] = [Field::Temperature, Field::TopP];
const FLAGS: [Field; 1] = [Field::Stream];
/// Of these it matters whether they are asked for at all.
const ON: [Field; 11] = [
    Field::Echo,
    Field::Seed,
    Field::Logprobs,
    Field::Store,
    Field::Background,
    Field::WebSearchOptions,
    Field::DataSources,
    Field::ContextManagement,
    Field::SafetyIdentifier,
    Field::PromptCacheKey,
    Field::PromptCacheOptions,
];
const WORDS: [Field; 5] =
    [Field::Model, Field::ServiceTier, Field::ReasoningEffort, Field::PromptCacheRetention, Field::Verbosity];
const ENTRIES: [Field; 3] = [Field::Tools, Field::Functions, Field::LogitBias];
const INNER: [Inner; 5] = [
    Inner::ResponseFormatType,
    Inner::TextFormatType,
    Inner::ReasoningEffort,
    Inner::ReasoningMode,
    Inner::TextVerbosity,
];

const LOGPROBS: &str = "message.output_text.logprobs";

/// A value of a kind that the field does not have.
const ODD: &str = "odd";
/// What we refused to make anything of, and so did not act on.
const UNREAD: &str = "unread";

/// The fields by their kinds, for the reader in Python.
pub fn kinds() -> Value {
    let names = |fields: &[Field]| fields.iter().map(|field| field.name()).collect::<Vec<_>>();
    json!({
        "all": names(Field::ALL),
        "counts": names(&COUNTS),
        "decimals": names(&DECIMALS),
        "flags": names(&FLAGS),
        "on": names(&ON),
        "words": names(&WORDS),
        "entries": names(&ENTRIES),
        "inner": INNER.map(Inner::path),
    })
}

/// What one reader sees.
#[derive(Clone, Debug, PartialEq)]
pub struct View(Map<String, Value>);

impl View {
    pub fn of_request(request: &Request<'_>) -> Self {
        fn seen<T>(read: Result<T, Denial>, shown: impl FnOnce(T) -> Value) -> Value {
            read.map_or_else(|_| json!(UNREAD), shown)
        }
        let word = |word: Option<std::borrow::Cow<'_, str>>| json!(word.map(|word| hex::encode(&*word)));
        let mut view = Map::new();
        view.insert("disguised".to_owned(), Value::Null);
        let mut put =
            |kind: &str, field: Field, value| view.insert(format!("{kind} {}", field.name()), value);
        for field in COUNTS {
            put("counts", field, seen(request.count(field), |count| json!(count)));
        }
        for field in DECIMALS {
            let bits = |decimal: tollgate::number::Decimal| (decimal.value() + 0.0).to_bits().to_string();
            put("decimals", field, seen(request.decimal(field), |decimal| json!(decimal.map(bits))));
        }
        for field in FLAGS {
            put("flags", field, seen(request.flag(field), |flag| json!(flag.unwrap_or(false))));
        }
        for field in ON {
            put("on", field, json!(request.raw(field).is_some_and(|value| value != "false")));
        }
        for field in WORDS {
            put("words", field, seen(request.word(field), word));
        }
        for field in ENTRIES {
            put("entries", field, seen(request.entries(field), |entries| json!(entries)));
        }
        for inner in INNER {
            view.insert(inner.path().to_owned(), seen(request.inner(inner), word));
        }
        view.insert("include_usage".to_owned(), json!(request.asks_for_usage()));
        let has = |words: Vec<String>| json!(words.iter().any(|word| word == LOGPROBS));
        view.insert("include".to_owned(), seen(request.words(Field::Include), has));
        let parts =
            seen(request.parts(), |parts| json!([parts.messages, parts.images, parts.audio, parts.files]));
        view.insert("parts".to_owned(), parts);
        let mut tools = Vec::new();
        let hex = |word: Option<&str>| json!(word.map(hex::encode));
        let read = request.tools(&mut |tool| {
            let connector = tool.connector.as_ref().map(|(_, id)| id.as_ref());
            tools.push(json!([hex(tool.kind.as_deref()), hex(tool.server_url.as_deref()), hex(connector)]));
        });
        view.insert("tools".to_owned(), seen(read, |_| json!(tools)));
        let mut types = Vec::new();
        let read = request.types(Field::DataSources, &mut |kind| types.push(hex(kind.as_deref())));
        view.insert("types".to_owned(), seen(read, |()| json!(types)));
        let efforts = |efforts: Vec<Effort<'_>>| {
            json!(efforts.iter().map(|effort| hex(Some(&effort.word))).collect::<Vec<_>>())
        };
        view.insert("efforts".to_owned(), seen(request.efforts(), efforts));
        Self(view)
    }

    pub fn of(body: &Value) -> Self {
        let Some(object) = body.as_object() else {
            return Self([("kind".to_owned(), json!(ODD))].into_iter().collect());
        };
        let get = |field: Field| object.get(field.name()).unwrap_or(&Value::Null);
        let mut view = Map::new();
        view.insert("disguised".to_owned(), json!(disguised(object).map(hex::encode)));
        let mut put =
            |kind: &str, field: Field, value| view.insert(format!("{kind} {}", field.name()), value);
        for field in COUNTS {
            put(
                "counts",
                field,
                or_odd(get(field), |value| {
                    value.as_u64().filter(|count| u32::try_from(*count).is_ok()).map(|count| json!(count))
                }),
            );
        }
        for field in DECIMALS {
            put(
                "decimals",
                field,
                or_odd(get(field), |value| {
                    value.as_f64().map(|decimal| json!((decimal + 0.0).to_bits().to_string()))
                }),
            );
        }
        for field in FLAGS {
            put("flags", field, flag(get(field)));
        }
        for field in ON {
            put("on", field, json!(!matches!(get(field), Value::Null | Value::Bool(false))));
        }
        for field in WORDS {
            put("words", field, word(get(field)));
        }
        for field in ENTRIES {
            put(
                "entries",
                field,
                match get(field) {
                    Value::Null => json!(0),
                    Value::Array(array) => json!(array.len()),
                    Value::Object(object) => json!(object.len()),
                    _ => json!(ODD),
                },
            );
        }
        for inner in INNER {
            view.insert(inner.path().to_owned(), within(body, inner.path()).map_or(json!(ODD), word));
        }
        let include_usage = within(body, "stream_options.include_usage").map_or(json!(ODD), flag);
        view.insert("include_usage".to_owned(), include_usage);
        let include = match get(Field::Include) {
            Value::Null => json!(false),
            Value::Array(words) if words.iter().all(Value::is_string) => {
                json!(words.contains(&json!(LOGPROBS)))
            }
            _ => json!(ODD),
        };
        view.insert("include".to_owned(), include);
        let mut parts = [0; 4];
        for prompt in [get(Field::Messages), get(Field::Input)] {
            parts[0] += match prompt {
                Value::Null => 0,
                Value::Array(items) => items.len(),
                _ => 1,
            };
            count_parts(prompt, &mut parts);
        }
        view.insert("parts".to_owned(), json!(parts));
        let mut tools = Vec::new();
        offered(get(Field::Tools), &mut tools);
        let items = || get(Field::Input).as_array().into_iter().flatten();
        for item in items().filter(|item| item["type"] != "mcp_list_tools") {
            offered(&item["tools"], &mut tools);
        }
        view.insert("tools".to_owned(), json!(tools));
        let entries = get(Field::DataSources).as_array().into_iter().flatten();
        view.insert("types".to_owned(), json!(entries.map(|entry| word(&entry["type"])).collect::<Vec<_>>()));
        let efforts = items().map(|item| word(&item["reasoning"]["effort"])).filter(|word| !word.is_null());
        view.insert("efforts".to_owned(), json!(efforts.collect::<Vec<_>>()));
        Self(view)
    }

    /// What the reader in Python has written; `None` if it refused the body.
    pub fn of_line(line: &str) -> Option<Self> {
        match serde_json::from_str(line).unwrap() {
            Value::Null => None,
            Value::Object(view) => Some(Self(view)),
            other => panic!("{other}"),
        }
    }

    pub fn count(&self, name: &str) -> Option<u64> {
        self.0[&format!("counts {name}")].as_u64()
    }

    /// The field that this view, which is ours, has otherwise than a reader.
    pub fn differs_from(&self, reader: &Self) -> Option<String> {
        if self.0.len() != reader.0.len() {
            return Some(format!("{:?}", reader.0));
        }
        self.0.iter().find_map(|(name, ours)| {
            let theirs = &reader.0[name];
            let agree = ours == theirs
                || *ours == json!(UNREAD)
                || match name.as_str() {
                    "parts" => not_less(ours, theirs),
                    name if name.starts_with("decimals") => nearly(ours, theirs),
                    _ => false,
                };
            (!agree).then(|| format!("{name} is {theirs}, we saw {ours}"))
        })
    }
}

/// A part that stands in a member which stands twice is counted twice by us, and once by readers that take the last.
fn not_less(ours: &Value, theirs: &Value) -> bool {
    let (Some(ours), Some(theirs)) = (ours.as_array(), theirs.as_array()) else { return false };
    ours[0] == theirs[0] && ours.iter().zip(theirs).all(|(ours, theirs)| ours.as_u64() >= theirs.as_u64())
}

/// serde_json rounds a float's last bit otherwise, unless it is built to be exact.
fn nearly(ours: &Value, theirs: &Value) -> bool {
    let bits = |value: &Value| value.as_str().and_then(|bits| bits.parse::<u64>().ok());
    bits(ours).zip(bits(theirs)).is_some_and(|(ours, theirs)| ours.abs_diff(theirs) <= 1)
}

fn or_odd(value: &Value, read: impl FnOnce(&Value) -> Option<Value>) -> Value {
    if value.is_null() { Value::Null } else { read(value).unwrap_or(json!(ODD)) }
}

fn flag(value: &Value) -> Value {
    match value {
        Value::Null => json!(false),
        Value::Bool(flag) => json!(flag),
        _ => json!(ODD),
    }
}

fn word(value: &Value) -> Value {
    or_odd(value, |value| value.as_str().map(|word| json!(hex::encode(word))))
}

/// `None` where what should be an object is none.
fn within<'v>(body: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(body, |value, name| match value {
        Value::Null => Some(&Value::Null),
        Value::Object(object) => Some(object.get(name).unwrap_or(&Value::Null)),
        _ => None,
    })
}

fn disguised(object: &Map<String, Value>) -> Option<&String> {
    let is_ours = |name: &str| Field::ALL.iter().any(|field| field.name() == name);
    object.keys().find(|name| {
        !is_ours(name) && (is_ours(&name.to_lowercase()) || is_ours(&name.to_uppercase().to_lowercase()))
    })
}

/// The tools of an array, each before those that stand in it. What is none has no type.
fn offered(tools: &Value, found: &mut Vec<Value>) {
    match tools {
        Value::Null => {}
        Value::Array(tools) => {
            for tool in tools {
                let connector = if tool["connector_id"].is_null() { "tunnel_id" } else { "connector_id" };
                found.push(json!([word(&tool["type"]), word(&tool["server_url"]), word(&tool[connector])]));
                offered(&tool["tools"], found);
            }
        }
        _ => found.push(json!([null, null, null])),
    }
}

fn count_parts(value: &Value, parts: &mut [usize; 4]) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| count_parts(item, parts)),
        Value::Object(members) => {
            let kind = members.get("type").and_then(Value::as_str).unwrap_or_default();
            let has = |name: &str| members.contains_key(name);
            let image = matches!(kind, "image_url" | "input_image" | "image_file" | "computer_screenshot");
            parts[1] += usize::from(image || has("image_url"));
            parts[2] += usize::from(
                matches!(kind, "input_audio" | "audio_url") || has("input_audio") || has("audio_url"),
            );
            parts[3] += usize::from(matches!(kind, "file" | "input_file") || has("file"));
            members.values().for_each(|member| count_parts(member, parts));
        }
        _ => {}
    }
}
