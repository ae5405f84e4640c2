//! Which strings of a prompt's JSON are text, and what do the others cost?
//!
//! Goes from string to string. A member's name says whether its value is text, a word of the protocol, or an image. Not
//! decided here: what text costs.

use super::text::{TOKEN, Walk};
use memchr::{memchr, memmem};

/// A string shorter than this is text, whatever its name.
const DATA_BYTES_MIN: usize = 256;

/// The values of such names are words of the protocol: no longer than this, without spaces, and not part of the prompt.
const LABEL_BYTES_MAX: usize = 64;

/// Data is looked into at so many places, at so many bytes of each.
const LOOKS: usize = 8;
const LOOK_BYTES: usize = 32;

/// What was found in a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Cost of the text, in [`TOKEN`]ths.
    pub(super) text: u64,
    /// Messages, by their roles.
    pub(super) messages: u64,
    /// Images, audio, files: what is not text.
    pub(super) items: u64,
    /// Token ids.
    pub(super) ids: u64,
}

impl Found {
    pub(super) fn add(&mut self, other: Self) {
        self.text = self.text.saturating_add(other.text);
        self.messages = self.messages.saturating_add(other.messages);
        self.items = self.items.saturating_add(other.items);
        self.ids = self.ids.saturating_add(other.ids);
    }

    /// As much more as `whole` is more than `part`.
    pub(super) fn scaled(self, whole: usize, part: usize) -> Self {
        let scale = |count: u64| count.saturating_mul(whole as u64) / (part as u64).max(1);
        Self { text: scale(self.text), messages: scale(self.messages), ..self }
    }
}

/// What a member's value is to the model, by the member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The role, which every message has once.
    Role,
    /// A word of the protocol.
    Label,
    /// An image, as an address or as data.
    Image,
    /// An address: the image's, where it stands in one, else that of a citation, say.
    Url,
    /// Audio, a file, an image that was produced, encrypted reasoning.
    Data,
    /// A name that the protocol needs and the model does not see as such.
    Syntax,
    /// Any other, which is text itself: the name of a function's parameter, for one.
    Other,
}

impl Name {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"role" => Self::Role,
            b"type" | b"id" | b"call_id" | b"tool_call_id" | b"file_id" | b"detail" | b"format"
            | b"status" => Self::Label,
            b"image_url" => Self::Image,
            b"url" => Self::Url,
            b"data" | b"file_data" | b"result" | b"b64_json" | b"encrypted_content" | b"signature" => {
                Self::Data
            }
            b"content"
            | b"text"
            | b"name"
            | b"function"
            | b"tool_calls"
            | b"arguments"
            | b"output"
            | b"input_audio"
            | b"file"
            | b"filename"
            | b"summary"
            | b"parameters"
            | b"properties"
            | b"required"
            | b"description"
            | b"enum"
            | b"json_schema"
            | b"schema"
            | b"items"
            | b"strict"
            | b"additionalProperties" => Self::Syntax,
            _ => Self::Other,
        }
    }

    pub(super) fn is_data(self) -> bool {
        matches!(self, Self::Image | Self::Url | Self::Data)
    }
}

/// Where in the JSON a reader begins.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// Outside of strings.
    Between,
    /// Within one, after this byte.
    Inside(u8),
}

/// Reads string by string.
pub(super) fn strings(json: &[u8], place: Place) -> Found {
    let mut found = Found::default();
    let mut rest = json;
    if let Place::Inside(before) = place {
        let mut walk = Walk::after(before);
        rest = walk.string(rest).unwrap_or_default();
        // Half a name may be among it: what a window cuts is too short to matter.
        found.text += walk.cost;
    }
    let mut name = Name::Other;
    let mut in_image = false;
    while let Some(quote) = memchr(b'"', rest) {
        let (syntax, string) = rest.split_at(quote);
        found.text += numbers(syntax);
        let string = string.get(1..).unwrap_or_default();
        // A name says something of the string that follows at once: not of one in an array or an object.
        if syntax.trim_ascii() != b":" {
            name = Name::Other;
        }
        if name.is_data()
            && let Some(end) = memchr(b'"', string)
            && match name {
                Name::Data => end >= DATA_BYTES_MIN,
                Name::Url => in_image || string.starts_with(b"data:"),
                _ => true,
            }
        {
            let is_clean = looks_like_data(string.get(..end).unwrap_or_default());
            // An address may have anything in it, and be text as well.
            if is_clean || name != Name::Data {
                found.items += 1;
                in_image = false;
            }
            if is_clean {
                rest = string.get(end + 1..).unwrap_or_default();
                continue;
            }
        }
        let mut walk = Walk::new();
        rest = walk.string(string).unwrap_or_default();
        let bytes = string.len().saturating_sub(rest.len() + 1);
        if is_name(rest) {
            name = Name::of(string.get(..bytes).unwrap_or_default());
            match name {
                Name::Role => found.messages += 1,
                Name::Image => in_image = true,
                Name::Other => found.text += walk.cost,
                _ => {}
            }
            continue;
        }
        let is_label = matches!(name, Name::Role | Name::Label) && bytes <= LABEL_BYTES_MAX;
        if !is_label || memchr(b' ', string.get(..bytes).unwrap_or_default()).is_some() {
            found.text += walk.cost;
        }
    }
    found.text += numbers(rest);
    found
}

/// Whether the inside of a string can be data or an address, whatever its name says: neither has spaces, nor writes
/// other letters.
pub(super) fn looks_like_data(inside: &[u8]) -> bool {
    memchr(b' ', inside).is_none()
        && (0..LOOKS).all(|number| {
            let rest = inside.get(inside.len() / LOOKS * number..).unwrap_or_default();
            let look = rest.get(..LOOK_BYTES).unwrap_or(rest);
            look.is_ascii() && memmem::find(look, br"\u").is_none()
        })
}

/// Whether the string that ended before was a member's name.
fn is_name(after: &[u8]) -> bool {
    after.trim_ascii_start().first() == Some(&b':')
}

/// Numbers outside of strings: three digits are a token.
fn numbers(syntax: &[u8]) -> u64 {
    syntax.iter().filter(|byte| byte.is_ascii_digit()).count() as u64 * TOKEN / 3
}
