//! What does a `multipart/form-data` body say, and how is it edited without writing it anew?
//!
//! Audio and images come in forms. A form's fields are shown as the JSON object that says the same, so that whatever reads
//! and edits a request does so once for both; [`Form::edits`] brings the edits back into the form. What is uploaded passes
//! unread. The grammar is the one that clients write, and nothing beside it: readers of forms are lenient, each in its own
//! way. Not decided here: whether the client may.
//!
//! <https://www.rfc-editor.org/rfc/rfc7578>

mod head;
mod streamed;

use crate::denial::{Ambiguity, Denial};
use crate::json::{Edits, Found};
use crate::request::{self, Field};
use head::Head;
use memchr::memmem;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;

pub use streamed::{Piece, Streamed};

/// The most parts a form may have.
const PARTS_MAX: usize = 64;

/// The longest head of a part: names of files are long in the two spellings that .NET sends.
const HEAD_BYTES_MAX: usize = 4096;

/// The longest field that is no file: busboy cuts off what is longer, Starlette refuses it.
/// <https://github.com/mscdex/busboy#exports>, <https://www.starlette.io/requests/#request-files>
const FIELD_BYTES_MAX: usize = 1024 * 1024;

/// Fields whose text is a number, or yes or no, where it can be.
const LITERALS: [Field; 14] = [
    Field::Stream,
    Field::N,
    Field::BestOf,
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::MaxOutputTokens,
    Field::Temperature,
    Field::TopP,
    Field::Logprobs,
    Field::TopLogprobs,
    Field::Echo,
    Field::Seed,
    Field::Store,
    Field::Background,
];

/// A form, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form<'a> {
    boundary: &'a str,
    parts: Vec<Part<'a>>,
    json: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part<'a> {
    /// As it is written.
    written: &'a str,
    /// Without brackets: what the JSON member is called.
    name: &'a str,
    /// Its value; of a file nothing.
    text: &'a str,
    /// Whether it may stand again: its name has brackets.
    is_list: bool,
    /// From its delimiter to the next one.
    span: Range<usize>,
}

impl<'a> Form<'a> {
    /// Reads a body in one pass. The boundary is as the `content-type` says it, without quotes.
    pub fn read(body: &'a [u8], boundary: &'a str) -> Result<Self, Denial> {
        let delimiter = format!("--{boundary}");
        let starts = delimiters(body, delimiter.as_bytes())?;
        let mut parts = Vec::with_capacity(starts.len());
        for (start, end) in starts.iter().zip(starts.iter().skip(1)) {
            let part = Part::read(body, *start..*end, start + delimiter.len())?;
            part.check(&parts)?;
            parts.push(part);
        }
        let end = starts.last().and_then(|last| body.get(last + delimiter.len()..));
        if !matches!(end, Some(b"--" | b"--\r\n")) {
            return Err(Denial::InvalidForm("it does not end with its boundary and `--`"));
        }
        if parts.is_empty() {
            return Err(Denial::InvalidForm("it has no part"));
        }
        let json = json(&parts);
        Ok(Self { boundary, parts, json })
    }

    /// Its fields as a JSON object: what may stand more than once is an array of strings, a file is an empty string.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The models that it names besides its own. `allowed` are fields that may name any.
    pub fn models(&self, allowed: &[String]) -> Result<Vec<String>, Denial> {
        let mut models = Vec::new();
        for part in self.parts.iter().filter(|part| allowed.iter().all(|name| name != part.name)) {
            models.extend(request::models_of_field(part.written, part.text)?);
        }
        Ok(models)
    }

    /// Its fields that are no files: what each is called, as it is written, and its text.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.parts.iter().map(|part| (part.written, part.text))
    }

    /// Writes a text in place of that of the field at this place among [`Self::fields`].
    pub fn write(&self, edits: &mut Edits, at: usize, text: &str) {
        if let Some(part) = self.parts.get(at) {
            edits.splice(part.span.clone(), &self.part(part.written, text));
        }
    }

    /// Whether these edits of its JSON leave nothing of it. A form without a part is none, to some readers.
    #[must_use]
    pub fn is_emptied_by(&self, of_json: Edits) -> bool {
        let says_nothing =
            |edited: Vec<u8>| members(&edited).values().all(|value| matches!(value.get(), "null" | "[]"));
        self.edited(of_json).is_some_and(says_nothing)
    }

    /// Its JSON after these edits; `None` if they change nothing.
    fn edited(&self, of_json: Edits) -> Option<Vec<u8>> {
        let patch = of_json.patch(self.json.as_bytes())?;
        let mut edited = patch.bytes;
        edited.extend_from_slice(self.json.as_bytes().get(patch.replaced..).unwrap_or_default());
        Some(edited)
    }

    /// Makes of the form what these edits make of its JSON. A list may have other elements, or fewer of its own.
    #[must_use]
    pub fn edits(&self, of_json: Edits) -> Edits {
        let Some(edited) = self.edited(of_json) else { return Edits::default() };
        let (before, after) = (members(self.json.as_bytes()), members(&edited));
        let (mut edits, mut added) = (Edits::default(), String::new());
        for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
            let value = after.get(name).map_or("null", |value| value.get());
            if before.get(name).is_some_and(|before| before.get() == value) {
                continue;
            }
            let list = serde_json::from_str::<Vec<String>>(value).ok();
            let text = serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned());
            let mut is_new = value != "null" && list.is_none();
            let parts = || self.parts.iter().filter(|part| part.name == name);
            if let Some(words) = list.as_ref().filter(|words| words.len() == parts().count()) {
                for (part, word) in parts().zip(words).filter(|(part, word)| part.text != **word) {
                    edits.splice(part.span.clone(), &self.part(part.written, word));
                }
                continue;
            }
            for part in parts() {
                let stays = match &list {
                    Some(words) => words.iter().any(|word| word == part.text),
                    None => is_new,
                };
                if !stays {
                    edits.splice(part.span.clone(), "");
                } else if list.is_none() {
                    // Anew, for its head may tell the old value's length.
                    edits.splice(part.span.clone(), &self.part(name, &text));
                    is_new = false;
                }
            }
            if is_new {
                added.push_str(&self.part(name, &text));
            }
        }
        if !added.is_empty() {
            edits.splice(0..0, &added);
        }
        edits
    }

    fn part(&self, name: &str, text: &str) -> String {
        format!("--{}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n", self.boundary)
    }
}

impl<'a> Part<'a> {
    /// Reads the part of this span, whose delimiter ends at `start`.
    fn read(body: &'a [u8], span: Range<usize>, start: usize) -> Result<Self, Denial> {
        const BREAK: &[u8] = b"\r\n";
        const BLANK: &[u8] = b"\r\n\r\n";
        // The break before the next delimiter belongs to that.
        let bytes = body.get(start..span.end.saturating_sub(BREAK.len())).unwrap_or_default();
        let head = bytes
            .strip_prefix(BREAK)
            .ok_or(Denial::InvalidForm("a boundary must stand alone on its line, and the last one end it"))?;
        let head_bytes = memmem::find(head.get(..HEAD_BYTES_MAX.min(head.len())).unwrap_or_default(), BLANK)
            .ok_or(Denial::InvalidForm("a part has no headers, or more than 4096 bytes of them"))?;
        let content = head.get(head_bytes + BLANK.len()..).unwrap_or_default();
        let Head { name, is_file, .. } =
            Head::read(head.get(..head_bytes).unwrap_or_default(), Some(content))?;
        if !is_file && content.len() > FIELD_BYTES_MAX {
            return Err(Denial::InvalidForm("a field that is no file has more than 1048576 bytes"));
        }
        let text = if is_file { Ok("") } else { std::str::from_utf8(content) };
        let text = text.map_err(|_| Denial::InvalidForm("a field that is no file is not UTF-8"))?;
        let base = name.split('[').next().unwrap_or_default();
        let part = Self { written: name, name: base, text, is_list: base != name, span };
        match Field::find(base) {
            Found::Nothing => Ok(part),
            Found::Plain(at) | Found::Disguised(at) => part.governed(at, name, is_file),
        }
    }

    /// The same, of a name that is governed, or that some reader takes for one.
    fn governed(self, at: usize, name: &str, is_file: bool) -> Result<Self, Denial> {
        let Some(field) = Field::ALL.get(at) else { return Ok(self) };
        let ambiguous = |problem| Err(Denial::AmbiguousField { field: field.name(), problem });
        if is_file {
            return ambiguous(Ambiguity::File);
        }
        // SDKs write a list with brackets. <https://github.com/openai/openai-python/blob/main/src/openai/_qs.py>
        let is_list = *field == Field::Include && matches!(name, "include" | "include[]");
        if is_list || name == field.name() {
            return Ok(Self { is_list, ..self });
        }
        ambiguous(Ambiguity::Disguised)
    }

    /// Refuses a governed field that stands again.
    fn check(&self, before: &[Self]) -> Result<(), Denial> {
        let Found::Plain(at) = Field::find(self.name) else { return Ok(()) };
        let Some(field) = Field::ALL.get(at).filter(|_| !self.is_list) else { return Ok(()) };
        if before.iter().any(|other| other.name == self.name) {
            return Err(Denial::AmbiguousField { field: field.name(), problem: Ambiguity::Duplicate });
        }
        Ok(())
    }

    fn is_literal(&self) -> bool {
        let Found::Plain(at) = Field::find(self.name) else { return false };
        Field::ALL.get(at).is_some_and(|field| LITERALS.contains(field))
            && self.text.starts_with(|first: char| first.is_ascii_digit() || "-tf".contains(first))
            && !self.text.ends_with(|last: char| last.is_ascii_whitespace())
            && serde_json::from_str::<&RawValue>(self.text).is_ok()
    }
}

/// Where the delimiters begin: at the beginning of a line, the first one at that of the body.
fn delimiters(body: &[u8], delimiter: &[u8]) -> Result<Vec<usize>, Denial> {
    let mut starts = Vec::new();
    for at in memmem::find_iter(body, delimiter) {
        match body.get(..at).unwrap_or_default() {
            [] | [.., b'\r', b'\n'] => starts.push(at),
            // Werkzeug takes these for line ends too.
            [.., b'\r' | b'\n'] => return Err(Denial::InvalidForm("a boundary has no CRLF before it")),
            _ => {}
        }
        if starts.len() > PARTS_MAX + 1 {
            return Err(Denial::InvalidForm("it has more than 64 parts"));
        }
    }
    if starts.first() != Some(&0) {
        return Err(Denial::InvalidForm("it does not begin with its boundary"));
    }
    Ok(starts)
}

/// The object that says the same.
fn json(parts: &[Part<'_>]) -> String {
    let mut names: Vec<&str> = Vec::with_capacity(parts.len());
    let mut json = String::from("{");
    for part in parts {
        if names.contains(&part.name) {
            continue;
        }
        if !names.is_empty() {
            json.push(',');
        }
        names.push(part.name);
        let mut all = parts.iter().filter(|other| other.name == part.name).map(|other| other.text);
        let value = if part.is_list || all.clone().nth(1).is_some() {
            let words: Vec<_> = all.map(string).collect();
            format!("[{}]", words.join(","))
        } else {
            let text = all.next().unwrap_or_default();
            if part.is_literal() { text.to_owned() } else { string(text) }
        };
        // A name is plain and needs no escapes.
        json.push_str(&format!("\"{}\":{value}", part.name));
    }
    json.push('}');
    json
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn members(json: &[u8]) -> BTreeMap<String, &RawValue> {
    serde_json::from_slice(json).unwrap_or_default()
}

#[cfg(test)]
mod tests;
