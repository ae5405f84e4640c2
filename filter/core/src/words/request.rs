//! What does this request ask for, in the fields we govern?
//!
//! Reads them and can edit them; everything else in a body is passed on unread. A governed name that stands twice or in
//! disguise is refused whoever asks; whether a value is of the right kind is asked of what costs depend on, and else only
//! by who reads it. Not decided here: whether it may.

mod fields;
mod models;
mod offers;
mod parts;
mod prompt;
mod thinking;

pub use fields::{CapField, CapNames, Ceiling, Family, Field, Inner};
pub use models::{Named, may_name_models, model_of_query, models_of, models_of_field};
pub use offers::{Effort, MCP, Offer, Tool};
pub use parts::Parts;
pub use thinking::{BUDGET as THINKING_BUDGET, BUDGET_TOKENS_MIN};

use crate::denial::{Ambiguity, Denial};
use crate::endpoint::Operation;
use crate::json::{self, Edits, Fault, Member, Names, Object, Patch, Ungoverned};
use crate::number::Decimal;
use fields::FIELDS;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

static INCLUDE_USAGE: Names<1> = Names::new(["include_usage"]);

/// A request body, read.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    body: &'a str,
    object: Object<'a, { Field::COUNT }>,
    edits: Edits,
    /// The fields that were written, one bit for each.
    written: u64,
    /// The model as the body names it.
    pub model: Option<Cow<'a, str>>,
    /// Whether the answer is to come as a stream.
    pub stream: bool,
    stream_options: Option<StreamOptions<'a>>,
    /// Choices asked for; `None` where it is absent or null.
    pub n: Option<u32>,
    /// Candidates generated to choose from; all of them are billed.
    pub best_of: Option<u32>,
    caps: [Option<u32>; 3],
    /// The members that are not governed, in their order.
    pub ungoverned: Vec<Ungoverned<'a>>,
    /// The values of the members that may be billed as prompt, as they stand in the body.
    pub prompt: Vec<&'a str>,
}

#[derive(Clone, Debug)]
enum StreamOptions<'a> {
    Null,
    Object(Object<'a, 1>),
}

/// A member of a governed object.
enum Within<'a> {
    /// There is no object, or it is null.
    NoObject,
    /// The object has no such member, or it is null.
    Absent(Object<'a, 1>),
    /// It is there.
    There(Member<'a>),
}

impl<'a> Request<'a> {
    /// Reads a body in one pass.
    pub fn read(body: &'a [u8]) -> Result<Self, Denial> {
        let body = json::text(body).map_err(Denial::from)?;
        let (object, ungoverned) = json::find_all(body, body, &FIELDS).map_err(Denial::from)?;
        let mut request = Self {
            object,
            body,
            edits: Edits::default(),
            written: 0,
            model: None,
            stream: false,
            stream_options: None,
            n: None,
            best_of: None,
            caps: [None; 3],
            ungoverned,
            prompt: Vec::new(),
        };
        request.model =
            request.raw(Field::Model).map(|name| string(name, Field::Model.name())).transpose()?;
        request.stream = request.flag(Field::Stream)?.unwrap_or(false);
        request.stream_options = request.stream_options()?;
        request.n = request.count(Field::N)?;
        request.best_of = request.count(Field::BestOf)?;
        request.caps = [
            request.count(Field::MaxTokens)?,
            request.count(Field::MaxCompletionTokens)?,
            request.count(Field::MaxOutputTokens)?,
        ];
        let governed = Field::ALL.iter().filter_map(|field| Some((field.name(), request.raw(*field)?)));
        let ungoverned = request.ungoverned.iter().map(|member| (&*member.name, member.value));
        let prompt = governed.chain(ungoverned).filter(|(name, value)| prompt::may_be(name, value));
        request.prompt = prompt.map(|(_, value)| value).collect();
        Ok(request)
    }

    fn member(&self, field: Field) -> Option<&Member<'a>> {
        self.object.members.get(field as usize)?.as_ref()
    }

    /// What a field says, as it stands in the body; `None` where it is absent or null.
    #[must_use]
    pub fn raw(&self, field: Field) -> Option<&'a str> {
        self.member(field).map(|member| member.value).filter(|value| *value != "null")
    }

    /// The names of all members, those that are governed first, without escapes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let governed = Field::ALL.iter().filter(|field| self.member(**field).is_some());
        governed.map(|field| field.name()).chain(self.ungoverned.iter().map(|member| &*member.name))
    }

    /// Whether the body that goes on has a field, be it the client's or ours. A client's null is none.
    #[must_use]
    pub fn carries(&self, field: Field) -> bool {
        self.raw(field).is_some() || self.written & (1 << field as u64) != 0
    }

    /// One of the three limits on what may be produced.
    #[must_use]
    pub fn cap(&self, field: CapField) -> Option<u32> {
        let [max, max_completion, max_output] = self.caps;
        match field {
            CapField::MaxTokens => max,
            CapField::MaxCompletionTokens => max_completion,
            CapField::MaxOutputTokens => max_output,
        }
    }

    /// A whole number. Only plain digits are one: `"9"`, `9.0`, `9e0` and `-9` are refused, for readers differ about them.
    pub fn count(&self, field: Field) -> Result<Option<u32>, Denial> {
        let Some(digits) = self.raw(field) else { return Ok(None) };
        let wrong = |expected| Denial::InvalidField { field: field.name(), expected };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong("a whole number, written with digits only"));
        }
        digits.parse().map(Some).map_err(|_| wrong("a whole number up to 4294967295"))
    }

    /// A number that may have a fraction and an exponent.
    pub fn decimal(&self, field: Field) -> Result<Option<Decimal>, Denial> {
        let Some(value) = self.raw(field) else { return Ok(None) };
        let wrong =
            Denial::InvalidField { field: field.name(), expected: "a number that a 64-bit float holds" };
        Decimal::read(value).map(Some).ok_or(wrong)
    }

    /// Yes or no.
    pub fn flag(&self, field: Field) -> Result<Option<bool>, Denial> {
        match self.raw(field) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Denial::InvalidField { field: field.name(), expected: "true or false" }),
        }
    }

    /// A string, without its escapes.
    pub fn word(&self, field: Field) -> Result<Option<Cow<'a, str>>, Denial> {
        self.raw(field).map(|value| string(value, field.name())).transpose()
    }

    /// The string of a member that is not governed, without its escapes; of several the last, as most readers have it.
    #[must_use]
    pub fn other_word(&self, name: &str) -> Option<Cow<'a, str>> {
        let member = self.ungoverned.iter().rev().find(|member| member.name == name)?;
        string(member.value, "").ok()
    }

    /// How many elements an array has, or members an object.
    pub fn entries(&self, field: Field) -> Result<u64, Denial> {
        let Some(value) = self.raw(field) else { return Ok(0) };
        let entries = match value.as_bytes().first() {
            Some(b'[') => serde_json::from_str::<Vec<IgnoredAny>>(value).map(|array| array.len()).ok(),
            Some(b'{') => serde_json::from_str::<BTreeMap<Cow<'_, str>, IgnoredAny>>(value)
                .map(|object| object.len())
                .ok(),
            _ => None,
        };
        let wrong = Denial::InvalidField { field: field.name(), expected: "an array or an object" };
        entries.map(|entries| entries as u64).ok_or(wrong)
    }

    /// The strings of an array.
    pub fn words(&self, field: Field) -> Result<Vec<String>, Denial> {
        let Some(value) = self.raw(field) else { return Ok(Vec::new()) };
        let wrong = Denial::InvalidField { field: field.name(), expected: "an array of strings" };
        serde_json::from_str(value).map_err(|_| wrong)
    }

    /// A string inside of a governed object.
    pub fn inner(&self, inner: Inner) -> Result<Option<Cow<'a, str>>, Denial> {
        match self.within(inner)? {
            Within::There(member) => string(member.value, inner.path()).map(Some),
            Within::Absent(_) if inner.is_required() => Err(Denial::MissingField(inner.path())),
            Within::Absent(_) | Within::NoObject => Ok(None),
        }
    }

    fn within(&self, inner: Inner) -> Result<Within<'a>, Denial> {
        let path = inner.path();
        let mut object = self.raw(inner.field());
        let mut found = Within::NoObject;
        for (names, at) in inner.steps() {
            let Some(text) = object else { return Ok(Within::NoObject) };
            let inside = json::find(self.body, text, names).map_err(|fault| match fault {
                Fault::NotAnObject => Denial::InvalidField { field: at, expected: "an object" },
                Fault::Syntax(problem) => Denial::InvalidJson(problem),
                Fault::Duplicate(_) => Denial::AmbiguousField { field: path, problem: Ambiguity::Duplicate },
                Fault::Disguised(_) => Denial::AmbiguousField { field: path, problem: Ambiguity::Disguised },
            })?;
            found = match &inside.members {
                [Some(member)] if member.value != "null" => {
                    object = Some(member.value);
                    Within::There(member.clone())
                }
                _ => {
                    object = None;
                    Within::Absent(inside)
                }
            };
        }
        Ok(found)
    }

    /// The governed member that most of the prompt stands in.
    #[must_use]
    pub fn longest_part(&self) -> Field {
        let parts = Field::ALL.iter().filter_map(|field| Some((*field, self.raw(*field)?)));
        let parts = parts.filter(|(field, value)| prompt::may_be(field.name(), value));
        parts.max_by_key(|(_, value)| value.len()).map_or(Field::Messages, |(field, _)| field)
    }

    /// What messages and input hold.
    pub fn parts(&self) -> Result<Parts, Denial> {
        let mut parts = Parts::default();
        for field in [Field::Messages, Field::Input] {
            if let Some(value) = self.raw(field) {
                parts.add(parts::count(value, field.name())?);
            }
        }
        Ok(parts)
    }

    /// How many prompts a legacy completion has: each is completed on its own.
    pub fn prompts(&self) -> Result<u32, Denial> {
        let Some(prompt) = self.raw(Field::Prompt).filter(|prompt| prompt.starts_with('[')) else {
            return Ok(1);
        };
        let items: Vec<&RawValue> = serde_json::from_str(prompt)
            .map_err(|_| Denial::InvalidField { field: "prompt", expected: "a string or an array" })?;
        // An array of numbers is one prompt of tokens.
        let is_tokens =
            items.first().is_none_or(|item| item.get().starts_with(|first: char| first.is_ascii_digit()));
        Ok(if is_tokens { 1 } else { u32::try_from(items.len()).unwrap_or(u32::MAX) })
    }

    /// Writes a field, in place or anew. `json` is a whole JSON value.
    pub fn set(&mut self, field: Field, json: String) {
        self.written |= 1 << field as u64;
        match self.object.members.get(field as usize) {
            Some(Some(member)) => self.edits.replace(member, json),
            _ => self.edits.insert(&self.object, field.name(), &json),
        }
    }

    /// Writes an array of strings.
    pub fn set_words(&mut self, field: Field, words: &[String]) {
        // Writing strings to memory cannot fail.
        self.set(field, serde_json::to_string(words).unwrap_or_default());
    }

    /// Writes a string inside of a governed object, which is made if there is none. `word` must need no escapes.
    pub fn set_inner(&mut self, inner: Inner, word: &str) -> Result<(), Denial> {
        let (name, json) = (inner.name(), format!("\"{word}\""));
        match self.within(inner)? {
            Within::There(member) => self.edits.replace(&member, json),
            Within::Absent(object) => match &object.members {
                [Some(null)] => self.edits.replace(null, json),
                [None] => self.edits.insert(&object, name, &json),
            },
            Within::NoObject => self.set(inner.field(), format!("{{\"{name}\":{json}}}")),
        }
        Ok(())
    }

    /// Gives the client's cap a name that is taken, if its own is not. `value` is what it says by now.
    pub fn name_cap(&mut self, operation: Operation, names: CapNames, value: u32) {
        let mut read = CapField::ALL.into_iter().filter(|field| field.is_read_by(operation));
        if let Some(given) = read.find(|field| self.cap(*field).is_some())
            && let Some(taken) = names.other_than(given, operation)
        {
            self.rename_cap(given, taken, value);
        }
    }

    fn rename_cap(&mut self, from: CapField, to: CapField, value: u32) {
        let Some(member) = self.member(from.field()).cloned() else { return };
        match self.member(to.field()).cloned() {
            None => self.edits.rename(&member, from.name(), to.name()),
            // It stands there as null: the two change their values.
            Some(other) => {
                self.edits.replace(&other, value.to_string());
                self.edits.replace(&member, "null".to_owned());
            }
        }
    }

    /// Names the deployment as the backend knows it. `name` must need no escapes in JSON.
    pub fn set_model(&mut self, name: &str) {
        if self.model.as_deref() != Some(name) {
            self.set(Field::Model, format!("\"{name}\""));
        }
    }

    /// Makes the answer come as a stream, or not.
    pub fn set_stream(&mut self, stream: bool) {
        self.stream = stream;
        self.set(Field::Stream, stream.to_string());
    }

    /// Makes sure that a stream reports its usage. Answers whether that is ours: true means that the client did not ask
    /// and must not see it.
    pub fn ask_for_usage(&mut self) -> bool {
        match &self.stream_options {
            None | Some(StreamOptions::Null) => {
                self.set(Field::StreamOptions, r#"{"include_usage":true}"#.to_owned());
            }
            Some(StreamOptions::Object(options)) => match &options.members {
                [Some(member)] if member.value == "true" => return false,
                [Some(member)] => self.edits.replace(member, "true".to_owned()),
                [None] => self.edits.insert(options, "include_usage", "true"),
            },
        }
        true
    }

    /// Whether the client itself asked for the usage of a stream.
    #[must_use]
    pub fn asks_for_usage(&self) -> bool {
        matches!(
            &self.stream_options,
            Some(StreamOptions::Object(Object { members: [Some(member)], .. })) if member.value == "true"
        )
    }

    fn stream_options(&self) -> Result<Option<StreamOptions<'a>>, Denial> {
        let Some(member) = self.member(Field::StreamOptions) else { return Ok(None) };
        if member.value == "null" {
            return Ok(Some(StreamOptions::Null));
        }
        let object = json::find(self.body, member.value, &INCLUDE_USAGE).map_err(|fault| match fault {
            Fault::NotAnObject => Denial::InvalidField { field: "stream_options", expected: "an object" },
            fault => fault.into(),
        })?;
        if let [Some(include_usage)] = &object.members
            && !matches!(include_usage.value, "true" | "false" | "null")
        {
            return Err(Denial::InvalidField {
                field: "stream_options.include_usage",
                expected: "true or false",
            });
        }
        Ok(Some(StreamOptions::Object(object)))
    }

    /// Puts text in place of a part of the body that is no field of ours, or a part of one.
    pub fn splice(&mut self, span: Range<usize>, text: &str) {
        self.edits.splice(span, text);
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> &'a str {
        self.body
    }

    /// All edits as one patch of the body.
    #[must_use]
    pub fn patch(self) -> Option<Patch> {
        self.edits.patch(self.body.as_bytes())
    }

    /// All edits.
    #[must_use]
    pub fn edits(self) -> Edits {
        self.edits
    }
}

/// A member that is not null.
fn there<'m, 'a>(member: &'m Option<Member<'a>>) -> Option<&'m Member<'a>> {
    member.as_ref().filter(|member| member.value != "null")
}

impl From<Fault> for Denial {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax(problem) => Self::InvalidJson(problem),
            Fault::NotAnObject => Self::NotAnObject,
            Fault::Duplicate(field) => Self::AmbiguousField { field, problem: Ambiguity::Duplicate },
            Fault::Disguised(field) => Self::AmbiguousField { field, problem: Ambiguity::Disguised },
        }
    }
}

fn string<'a>(json: &'a str, field: &'static str) -> Result<Cow<'a, str>, Denial> {
    if let Ok(plain) = serde_json::from_str::<&'a str>(json) {
        return Ok(Cow::Borrowed(plain));
    }
    serde_json::from_str::<String>(json)
        .map(Cow::Owned)
        .map_err(|_| Denial::InvalidField { field, expected: "a string" })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn refusal(body: &str) -> String {
        match Request::read(body.as_bytes()) {
            Ok(_) => "read".to_owned(),
            Err(denial) => String::from_utf8(denial.answer().body).unwrap(),
        }
    }

    #[track_caller]
    fn check(body: &str, expected: &str) {
        let found = refusal(body);
        assert!(found.contains(expected), "{body}\n{found}\n{expected}");
    }

    #[test]
    fn a_count_is_digits_and_nothing_else() {
        let kind = "`max_tokens` must be a whole number, written with digits only.";
        for value in [r#""9999""#, "1e9", "-1", "4096.0", "true", "[1]", "{}"] {
            check(&format!(r#"{{"max_tokens":{value}}}"#), kind);
        }
        check(r#"{"best_of":4294967296}"#, "`best_of` must be a whole number up to 4294967295.");
        check(r#"{"n":4294967295}"#, "read");
        check(r#"{"n":null}"#, "read");
    }

    #[test]
    fn the_other_governed_fields_have_their_kinds() {
        check(r#"{"model":7}"#, "`model` must be a string.");
        check(r#"{"stream":"true"}"#, "`stream` must be true or false.");
        check(r#"{"stream_options":[]}"#, "`stream_options` must be an object.");
        check(
            r#"{"stream_options":{"include_usage":"yes"}}"#,
            "`stream_options.include_usage` must be true or false.",
        );
        check(r#"{"stream_options":{"include_usage":true,"include_usage":true}}"#, "stands more than once");
        check(r#"{"model":"a","model":"b"}"#, "`model` stands more than once in the request.");
        check(
            r#"{"m\u0061x_tokens":1}"#,
            "`max_tokens` must be written plainly: lower case, without escapes.",
        );
    }

    /// LangChain's, where the path names the deployment.
    #[test]
    fn a_model_that_is_null_is_not_named() {
        let request = Request::read(br#"{"model":null}"#).unwrap();
        assert_eq!((request.model.as_deref(), request.carries(Field::Model)), (None, false));
    }

    #[test]
    fn an_escaped_model_name_is_read_as_what_it_means() {
        let body = br#"{"model":"gpt\u002d4o"}"#;
        assert_eq!(Request::read(body).unwrap().model.as_deref(), Some("gpt-4o"));
    }

    fn patched(body: &str, edit: impl FnOnce(&mut Request<'_>)) -> String {
        let mut request = Request::read(body.as_bytes()).unwrap();
        edit(&mut request);
        let Some(patch) = request.patch() else { return body.to_owned() };
        let mut bytes = patch.bytes;
        bytes.extend_from_slice(&body.as_bytes()[patch.replaced..]);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn usage_is_asked_for_whatever_the_client_wrote() {
        let asked = |body: &str| {
            let mut ours = false;
            let body = patched(body, |request| ours = request.ask_for_usage());
            (body, ours)
        };
        let cases = [
            (r#"{"a":1}"#, r#"{"stream_options":{"include_usage":true},"a":1}"#, true),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#, true),
            (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#, true),
            (r#"{"stream_options":{"x":1}}"#, r#"{"stream_options":{"include_usage":true,"x":1}}"#, true),
            (
                r#"{"stream_options":{"include_usage":false}}"#,
                r#"{"stream_options":{"include_usage":true}}"#,
                true,
            ),
            (
                r#"{"stream_options":{"include_usage":true}}"#,
                r#"{"stream_options":{"include_usage":true}}"#,
                false,
            ),
        ];
        for (body, expected, ours) in cases {
            assert_eq!(asked(body), (expected.to_owned(), ours), "{body}");
            let after = Request::read(expected.as_bytes()).unwrap();
            assert!(after.asks_for_usage());
        }
    }

    #[test]
    fn a_cap_goes_under_a_name_that_is_taken() {
        use CapNames::{Either, MaxCompletionTokens, MaxTokens};
        let chat = Operation::ChatCompletions;
        let named = |names, body: &str| patched(body, |request| request.name_cap(chat, names, 9));
        let (old, new) = (r#"{"a":1, "max_tokens" : 9}"#, r#"{"a":1, "max_completion_tokens" : 9}"#);
        for (names, body, expected) in [
            (Either, old, old),
            (Either, new, new),
            (MaxTokens, old, old),
            (MaxTokens, new, old),
            (MaxCompletionTokens, old, new),
            (MaxCompletionTokens, new, new),
            // A null in the other's place must not become a second one.
            (
                MaxCompletionTokens,
                r#"{"max_completion_tokens":null,"max_tokens":9}"#,
                r#"{"max_completion_tokens":9,"max_tokens":null}"#,
            ),
            (MaxCompletionTokens, r#"{"max_tokens":null}"#, r#"{"max_tokens":null}"#),
        ] {
            assert_eq!(named(names, body), expected, "{names:?} {body}");
        }
        // What a policy has lowered stays so.
        let after = patched(r#"{"max_completion_tokens":null,"max_tokens":900}"#, |request| {
            request.set(Field::MaxTokens, "9".to_owned());
            request.name_cap(chat, MaxCompletionTokens, 9);
        });
        assert_eq!(after, r#"{"max_completion_tokens":9,"max_tokens":null}"#);
        // Only chat has two names.
        let legacy = |request: &mut Request<'_>| {
            request.name_cap(Operation::Completions, MaxCompletionTokens, 9);
        };
        assert_eq!(patched(old, legacy), old);
    }

    #[test]
    fn an_edited_body_has_the_clients_words_and_the_edits() {
        let mut request = Request::read(br#"{"store":true,"metadata":null}"#).unwrap();
        request.set(Field::ReasoningEffort, "\"low\"".to_owned());
        let carried: Vec<_> = Field::ALL.iter().filter(|field| request.carries(**field)).collect();
        assert_eq!(carried, [&Field::Store, &Field::ReasoningEffort]);
    }

    #[test]
    fn the_deployment_is_named_once() {
        assert_eq!(patched(r#"{"model":"a"}"#, |r| r.set_model("b")), r#"{"model":"b"}"#);
        assert_eq!(patched(r#"{"model":"a"}"#, |r| r.set_model("a")), r#"{"model":"a"}"#);
        assert_eq!(patched(r#"{"x":1}"#, |r| r.set_model("b")), r#"{"model":"b","x":1}"#);
        assert_eq!(patched(r#"{"model":null}"#, |r| r.set_model("b")), r#"{"model":"b"}"#);
    }
}
