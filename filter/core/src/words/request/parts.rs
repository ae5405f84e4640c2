//! How many messages, images, sounds and files does a prompt hold?
//!
//! Exact, unlike the estimate, which samples long prompts: whoever forbids images forbids the last one of a megabyte too.
//! So it is a pass of its own, from quote to quote, made only where a policy asks. An object counts as an image if its
//! `type` says so or if it has the member that an image stands in, for servers go by one or by the other. Not decided
//! here: how many there may be.

use crate::denial::{Ambiguity, Denial};
use crate::json::{Found, Names};
use memchr::memchr2;
use std::borrow::Cow;

/// How deep messages may be nested where their parts are counted; readers give up at different depths beyond it.
const DEPTH_MAX: usize = 100;

/// The longest way to write a name that we look for, every letter escaped.
const WRITTEN_BYTES_MAX: usize = 6 * 32;

static NAMES: Names<7> =
    Names::new(["type", "content", "output", "image_url", "input_audio", "audio_url", "file"]);

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Messages, or items of Responses' input.
    pub messages: u64,
    /// Images, as an address or as data.
    pub images: u64,
    /// Sound.
    pub audio: u64,
    /// Files.
    pub files: u64,
}

impl Parts {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.images += other.images;
        self.audio += other.audio;
        self.files += other.files;
    }
}

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Audio,
    File,
}

impl Kind {
    /// By the value of its `type`.
    fn of_type(word: &str) -> Option<Self> {
        match word {
            "image" | "image_url" | "input_image" | "image_file" | "computer_screenshot" => Some(Self::Image),
            "input_audio" | "audio_url" => Some(Self::Audio),
            "container_upload" | "document" | "file" | "input_file" => Some(Self::File),
            _ => None,
        }
    }

    /// By the name of a member.
    fn of_name(name: &str) -> Option<Self> {
        match name {
            "image_url" => Some(Self::Image),
            "input_audio" | "audio_url" => Some(Self::Audio),
            "file" => Some(Self::File),
            _ => None,
        }
    }
}

/// An object or an array that is open.
#[derive(Clone, Copy, Default)]
struct Open {
    is_object: bool,
    /// Whether the next string of an object is a name.
    awaits_name: bool,
    /// Whether the next string is the value of `type`.
    awaits_type: bool,
    /// Which names it has had, one bit for each.
    names: u8,
    image: bool,
    audio: bool,
    file: bool,
}

impl Open {
    fn is(&mut self, kind: Kind) {
        match kind {
            Kind::Image => self.image = true,
            Kind::Audio => self.audio = true,
            Kind::File => self.file = true,
        }
    }
}

/// Counts what is in `json`, which has been read as JSON already. `field` is where it stands.
pub(super) fn count(json: &str, field: &'static str) -> Result<Parts, Denial> {
    let mut parts = Parts { messages: 1, ..Parts::default() };
    let mut open: Vec<Open> = Vec::new();
    let (mut commas, mut is_empty) = (0, true);
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        at += 1;
        match first {
            b'"' => {
                is_empty = false;
                let end = string_end(bytes, at);
                if let Some(top) = open.last_mut() {
                    inside(top, json.get(at..end).unwrap_or_default(), field)?;
                }
                at = end + 1;
            }
            b'{' | b'[' => {
                is_empty &= open.is_empty();
                let is_object = *first == b'{';
                if open.len() == DEPTH_MAX {
                    let expected = "nested at most 100 levels deep";
                    return Err(Denial::InvalidField { field, expected });
                }
                if let Some(top) = open.last_mut() {
                    top.awaits_type = false;
                }
                open.push(Open { is_object, awaits_name: is_object, ..Open::default() });
            }
            b'}' | b']' => {
                let closed = open.pop().unwrap_or_default();
                parts.images += u64::from(closed.image);
                parts.audio += u64::from(closed.audio);
                parts.files += u64::from(closed.file);
            }
            b',' => {
                commas += u64::from(open.len() == 1);
                if let Some(top) = open.last_mut() {
                    top.awaits_name = top.is_object;
                    top.awaits_type = false;
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' | b':' => {}
            _ => is_empty = false,
        }
    }
    if json.trim_ascii_start().starts_with('[') {
        parts.messages = if is_empty { 0 } else { commas + 1 };
    }
    Ok(parts)
}

/// Takes a string of an object or an array.
fn inside(top: &mut Open, text: &str, field: &'static str) -> Result<(), Denial> {
    if top.awaits_name {
        top.awaits_name = false;
        let Some(written) = plain(text) else { return Ok(()) };
        match NAMES.find(&written) {
            Found::Plain(at) if matches!(written, Cow::Borrowed(_)) => {
                let bit = 1 << at;
                if top.names & bit != 0 {
                    let (name, problem) = (NAMES.at(at), Ambiguity::Duplicate);
                    return Err(Denial::AmbiguousPart { field, name, problem });
                }
                top.names |= bit;
                top.awaits_type = NAMES.at(at) == "type";
                if let Some(kind) = Kind::of_name(&written) {
                    top.is(kind);
                }
            }
            Found::Plain(at) | Found::Disguised(at) => {
                let (name, problem) = (NAMES.at(at), Ambiguity::Disguised);
                return Err(Denial::AmbiguousPart { field, name, problem });
            }
            Found::Nothing => {}
        }
    } else if top.awaits_type {
        top.awaits_type = false;
        if let Some(kind) = plain(text).and_then(|word| Kind::of_type(&word)) {
            top.is(kind);
        }
    }
    Ok(())
}

/// A string without its escapes; `None` for one that is none of ours, being too long or no text.
fn plain(text: &str) -> Option<Cow<'_, str>> {
    if text.len() > WRITTEN_BYTES_MAX {
        return None;
    }
    if !text.contains('\\') {
        return Some(text.into());
    }
    serde_json::from_str::<String>(&format!("\"{text}\"")).ok().map(Into::into)
}

/// Where the string that begins at `from` has its closing quote.
fn string_end(bytes: &[u8], mut from: usize) -> usize {
    while let Some(offset) = bytes.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        let at = from + offset;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        from = at + 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(json: &str, messages: u64, images: u64, audio: u64, files: u64) {
        assert_eq!(count(json, "messages"), Ok(Parts { messages, images, audio, files }), "{json}");
    }

    #[track_caller]
    fn check_refused(json: &str, expected: &str) {
        let body = count(json, "messages").unwrap_err().answer().body;
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(expected), "{json}\n{body}");
    }

    #[test]
    fn messages_are_the_elements_of_an_array_and_a_string_is_one() {
        check(r#""hi""#, 1, 0, 0, 0);
        check("[]", 0, 0, 0, 0);
        check(" [ ] ", 0, 0, 0, 0);
        check("[[]]", 1, 0, 0, 0);
        check("[1]", 1, 0, 0, 0);
        check(r#"[{"role":"user","content":"a, [b], {c}"},{"role":"user","content":["x","y"]}]"#, 2, 0, 0, 0);
    }

    #[test]
    fn a_part_is_known_by_its_type_or_by_its_member() {
        for (part, kind) in [
            (r#"{"type":"image_url","image_url":{"url":"x"}}"#, 'i'),
            (r#"{"image_url":{"url":"x"},"type" : "image_url"}"#, 'i'),
            (r#"{"image_url":"x"}"#, 'i'),
            (r#"{"type":"input_image","file_id":"x"}"#, 'i'),
            (r#"{"type":"im\u0061ge_url"}"#, 'i'),
            (r#"{"type":"input_audio","input_audio":{"data":"x","format":"wav"}}"#, 'a'),
            (r#"{"type":"file","file":{"file_data":"x"}}"#, 'f'),
            (r#"{"type":"input_file","file_id":"x"}"#, 'f'),
            (r#"{"type":"text","text":"\"type\":\"image_url\" image_url {"}"#, 't'),
            (r#"{"type":"function","function":{"name":"image_url","arguments":"{\"image_url\":1}"}}"#, 't'),
            (r#"{"kind":"image_url"}"#, 't'),
            (r#"{"type":["image_url"]}"#, 't'),
            (r#"{"type":7,"x":"image_url"}"#, 't'),
        ] {
            let count = |wanted: char| u64::from(kind == wanted);
            let json = format!(r#"[{{"role":"user","content":[{part}]}}]"#);
            check(&json, 1, count('i'), count('a'), count('f'));
        }
    }

    #[test]
    fn what_may_be_a_part_to_one_reader_only_is_refused() {
        let twice = "In `messages`, `type` stands more than once in one object.";
        check_refused(r#"[{"content":[{"type":"text","type":"image_url"}]}]"#, twice);
        check_refused(r#"[{"content":"x","content":[]}]"#, "`content` stands more than once");
        let disguised = "In `messages`, `image_url` must be written plainly";
        check_refused(r#"[{"content":[{"im\u0061ge_url":"x"}]}]"#, disguised);
        check_refused(r#"[{"content":[{"Image_URL":"x"}]}]"#, disguised);
        check_refused(r#"[{"content":[{"TYPE":"image_url"}]}]"#, "`type` must be written plainly");
        check_refused(r#"[{"content":[{"f\u0131le":"x"}]}]"#, "`file` must be written plainly");
        let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
        check_refused(&deep, "`messages` must be nested at most 100 levels deep.");
    }

    /// The naive model: a whole parse, and a walk through all of it.
    fn walk(value: &Value, parts: &mut Parts) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, parts)),
            Value::Object(members) => {
                let word = members.get("type").and_then(Value::as_str).unwrap_or_default();
                let mut kinds: Vec<_> = members.keys().filter_map(|name| Kind::of_name(name)).collect();
                kinds.extend(Kind::of_type(word));
                parts.images += u64::from(kinds.contains(&Kind::Image));
                parts.audio += u64::from(kinds.contains(&Kind::Audio));
                parts.files += u64::from(kinds.contains(&Kind::File));
                members.values().for_each(|member| walk(member, parts));
            }
            _ => {}
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let word = "type|content|image_url|input_audio|file|input_file|[a-z\"\\\\{,:é]{0,6}";
        let leaf =
            prop_oneof![word.prop_map(Value::from), any::<i8>().prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(6, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(word, inner, 0..5).prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_count_is_that_of_a_whole_parse(items in prop::collection::vec(value(), 0..4), pretty: bool) {
            let mut expected = Parts { messages: items.len() as u64, ..Parts::default() };
            let whole = Value::from(items);
            walk(&whole, &mut expected);
            let json = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) };
            prop_assert_eq!(count(&json.unwrap(), "input"), Ok(expected));
        }

        #[test]
        fn any_text_can_be_counted(text in r#"([\\"\[\]{}:,a-z0-9 中]|"type":"|"file":){0,60}"#) {
            let _ = count(&text, "input");
        }
    }
}
