//! What does this request ask for, in the fields we govern?
//!
//! Reads them and can edit them; everything else in a body is passed on unread. Not decided here: whether it may.

use crate::denial::{Ambiguity, Denial};
use crate::endpoint::Operation;
use crate::json::{self, Edits, Fault, Member, Object, Patch};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The governed fields, in one order for all operations.
static FIELDS: [&str; 13] = [
    "model",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "messages",
    "prompt",
    "input",
    "instructions",
    "tools",
];

static STREAM_OPTIONS_FIELDS: [&str; 1] = ["include_usage"];

/// The three names of the limit on what a request may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapField {
    /// Chat on older models, and legacy completions.
    MaxTokens,
    /// Chat on reasoning models; counts the hidden reasoning too.
    MaxCompletionTokens,
    /// Responses.
    MaxOutputTokens,
}

impl CapField {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MaxTokens, Self::MaxCompletionTokens, Self::MaxOutputTokens];

    /// As it stands in a body.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
        }
    }

    /// Whether an operation documents this name.
    #[must_use]
    pub fn is_read_by(self, operation: Operation) -> bool {
        match self {
            Self::MaxTokens => matches!(operation, Operation::ChatCompletions | Operation::Completions),
            Self::MaxCompletionTokens => operation == Operation::ChatCompletions,
            Self::MaxOutputTokens => operation == Operation::Responses,
        }
    }
}

/// Which field a chat model reads its cap from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `max_tokens`: gpt-3.5, gpt-4, and most servers that speak the same API.
    Gpt4,
    /// `max_completion_tokens`: gpt-5.
    Gpt5,
    /// `max_completion_tokens`: o1, o3, o4-mini.
    OSeries,
}

impl Family {
    /// The name under which a default is written.
    #[must_use]
    pub fn cap_field(self, operation: Operation) -> CapField {
        match (operation, self) {
            (Operation::Responses, _) => CapField::MaxOutputTokens,
            (Operation::ChatCompletions, Self::Gpt5 | Self::OSeries) => CapField::MaxCompletionTokens,
            _ => CapField::MaxTokens,
        }
    }
}

/// The most a request may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// For each candidate.
    pub completion_tokens: u32,
    /// How many are generated and billed.
    pub candidates: u32,
}

impl Ceiling {
    /// All candidates together.
    #[must_use]
    pub fn tokens(self) -> u64 {
        u64::from(self.completion_tokens) * u64::from(self.candidates)
    }
}

/// A governed whole number; `None` where it is absent or null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count<'a> {
    /// The field.
    pub field: &'static str,
    /// What it says.
    pub value: Option<u32>,
    member: Option<Member<'a>>,
}

/// A request body, read.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    body: &'a str,
    object: Object<'a, 13>,
    edits: Edits,
    /// The model as the body names it, with where.
    pub model: Option<Cow<'a, str>>,
    model_member: Option<Member<'a>>,
    /// Whether the answer is to come as a stream.
    pub stream: bool,
    stream_options: Option<StreamOptions<'a>>,
    /// Choices asked for.
    pub n: Count<'a>,
    /// Candidates generated to choose from; all of them are billed.
    pub best_of: Count<'a>,
    caps: [Count<'a>; 3],
    /// The members that make up the prompt, as they stand in the body.
    pub prompt: [Option<&'a str>; 5],
}

#[derive(Clone, Debug)]
enum StreamOptions<'a> {
    Null(Member<'a>),
    Object(Object<'a, 1>),
}

impl<'a> Request<'a> {
    /// Reads a body in one pass.
    pub fn read(body: &'a [u8]) -> Result<Self, Denial> {
        let body = json::text(body).map_err(denial)?;
        let object = json::find(body, body, &FIELDS).map_err(denial)?;
        let [
            model,
            stream,
            options,
            n,
            best_of,
            max,
            max_completion,
            max_output,
            messages,
            prompt,
            input,
            instructions,
            tools,
        ] = object.members.clone();
        let text = |member: Option<Member<'a>>| member.map(|member| member.value);
        Ok(Self {
            body,
            edits: Edits::default(),
            model: model.as_ref().map(string).transpose()?,
            model_member: model,
            stream: stream.as_ref().map(boolean).transpose()?.unwrap_or(false),
            stream_options: options.map(|member| stream_options(body, member)).transpose()?,
            n: count("n", n)?,
            best_of: count("best_of", best_of)?,
            caps: [
                count(CapField::MaxTokens.name(), max)?,
                count(CapField::MaxCompletionTokens.name(), max_completion)?,
                count(CapField::MaxOutputTokens.name(), max_output)?,
            ],
            prompt: [text(messages), text(prompt), text(input), text(instructions), text(tools)],
            object,
        })
    }

    /// One of the three limits on what may be produced.
    #[must_use]
    pub fn cap(&self, field: CapField) -> &Count<'a> {
        let [max, max_completion, max_output] = &self.caps;
        match field {
            CapField::MaxTokens => max,
            CapField::MaxCompletionTokens => max_completion,
            CapField::MaxOutputTokens => max_output,
        }
    }

    /// How many prompts a legacy completion has: each is completed on its own.
    pub fn prompts(&self) -> Result<u32, Denial> {
        let [_, Some(prompt), ..] = self.prompt else { return Ok(1) };
        if !prompt.starts_with('[') {
            return Ok(1);
        }
        let items: Vec<&RawValue> = serde_json::from_str(prompt)
            .map_err(|_| Denial::InvalidField { field: "prompt", expected: "a string or an array" })?;
        // An array of numbers is one prompt of tokens.
        let is_tokens =
            items.first().is_none_or(|item| item.get().starts_with(|first: char| first.is_ascii_digit()));
        Ok(if is_tokens { 1 } else { u32::try_from(items.len()).unwrap_or(u32::MAX) })
    }

    /// Writes a governed number, in place or anew.
    pub fn set_count(&mut self, count: &Count<'a>, value: u32) {
        match &count.member {
            Some(member) => self.edits.replace(member, value.to_string()),
            None => self.edits.insert(&self.object, count.field, &value.to_string()),
        }
    }

    /// Names the deployment as the backend knows it. `name` must need no escapes in JSON.
    pub fn set_model(&mut self, name: &str) {
        if self.model.as_deref() == Some(name) {
            return;
        }
        let json = format!("\"{name}\"");
        match &self.model_member {
            Some(member) => self.edits.replace(member, json),
            None => self.edits.insert(&self.object, "model", &json),
        }
    }

    /// Makes sure that a stream reports its usage. Answers whether that is ours: true means that the client did not ask
    /// and must not see it.
    pub fn ask_for_usage(&mut self) -> bool {
        match &self.stream_options {
            None => self.edits.insert(&self.object, "stream_options", r#"{"include_usage":true}"#),
            Some(StreamOptions::Null(member)) => {
                self.edits.replace(member, r#"{"include_usage":true}"#.to_owned());
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

    /// All edits as one patch of the body.
    #[must_use]
    pub fn patch(self) -> Option<Patch> {
        self.edits.patch(self.body)
    }
}

fn denial(fault: Fault) -> Denial {
    match fault {
        Fault::Syntax(problem) => Denial::InvalidJson(problem),
        Fault::NotAnObject => Denial::NotAnObject,
        Fault::Duplicate(field) => Denial::AmbiguousField { field, problem: Ambiguity::Duplicate },
        Fault::Disguised(field) => Denial::AmbiguousField { field, problem: Ambiguity::Disguised },
    }
}

fn string<'a>(member: &Member<'a>) -> Result<Cow<'a, str>, Denial> {
    if let Ok(plain) = serde_json::from_str::<&'a str>(member.value) {
        return Ok(Cow::Borrowed(plain));
    }
    serde_json::from_str::<String>(member.value)
        .map(Cow::Owned)
        .map_err(|_| Denial::InvalidField { field: "model", expected: "a string" })
}

fn boolean(member: &Member<'_>) -> Result<bool, Denial> {
    match member.value {
        "true" => Ok(true),
        "false" | "null" => Ok(false),
        _ => Err(Denial::InvalidField { field: "stream", expected: "true or false" }),
    }
}

/// Only plain digits are a count. `"9"`, `9.0`, `9e0` and `-9` are refused: readers differ about them.
fn count<'a>(field: &'static str, member: Option<Member<'a>>) -> Result<Count<'a>, Denial> {
    let value = match member.as_ref().map(|member| member.value) {
        None | Some("null") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(
            digits
                .parse()
                .map_err(|_| Denial::InvalidField { field, expected: "a whole number up to 4294967295" })?,
        ),
        Some(_) => {
            return Err(Denial::InvalidField { field, expected: "a whole number, written with digits only" });
        }
    };
    Ok(Count { field, value, member })
}

fn stream_options<'a>(body: &'a str, member: Member<'a>) -> Result<StreamOptions<'a>, Denial> {
    if member.value == "null" {
        return Ok(StreamOptions::Null(member));
    }
    let object = json::find(body, member.value, &STREAM_OPTIONS_FIELDS).map_err(|fault| match fault {
        Fault::NotAnObject => Denial::InvalidField { field: "stream_options", expected: "an object" },
        fault => denial(fault),
    })?;
    if let [Some(include_usage)] = &object.members
        && !matches!(include_usage.value, "true" | "false" | "null")
    {
        return Err(Denial::InvalidField {
            field: "stream_options.include_usage",
            expected: "true or false",
        });
    }
    Ok(StreamOptions::Object(object))
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
    fn the_deployment_is_named_once() {
        assert_eq!(patched(r#"{"model":"a"}"#, |r| r.set_model("b")), r#"{"model":"b"}"#);
        assert_eq!(patched(r#"{"model":"a"}"#, |r| r.set_model("a")), r#"{"model":"a"}"#);
        assert_eq!(patched(r#"{"x":1}"#, |r| r.set_model("b")), r#"{"model":"b","x":1}"#);
    }
}
