//! What is a part of a form called, and is it a file?
//!
//! Parts have the headers that clients send, and no others. `Content-Disposition` is `form-data`, then `name`, then
//! `filename` if it is a file, then `filename*` if that has an ASCII `filename` for its shadow, as .NET writes it. Readers
//! differ about all else: escapes, order, other parameters, what is a file.

use crate::denial::Denial;
use crate::media::{self, MediaType, Parameter};

/// The head of a part, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) is_file: bool,
    /// How long it says that it is, if it does.
    pub(super) length: Option<&'a str>,
}

/// What a part is to its readers.
const DISPOSITION: &str = "content-disposition";
const TYPE: &str = "content-type";
const CODING: &str = "content-transfer-encoding";
const LENGTH: &str = "content-length";

impl<'a> Head<'a> {
    /// Reads the lines before a part's blank line. `content` is what follows, if that has come: who has it later looks at
    /// the length then, and reads the head of a field again.
    pub(super) fn read(head: &'a [u8], content: Option<&[u8]>) -> Result<Self, Denial> {
        let text =
            std::str::from_utf8(head).map_err(|_| Denial::InvalidForm("a part's header is not UTF-8"))?;
        let mut lines = [None; 4];
        for line in text.split("\r\n") {
            if line.bytes().any(|byte| byte.is_ascii_control()) {
                return Err(Denial::InvalidForm("a part's header has a control character"));
            }
            let known = line.split_once(':').and_then(|(name, value)| {
                let at = [DISPOSITION, TYPE, CODING, LENGTH]
                    .iter()
                    .position(|known| known.eq_ignore_ascii_case(name))?;
                Some((lines.get_mut(at)?, value.trim_matches(' ')))
            });
            let Some((slot, value)) = known else {
                return Err(Denial::InvalidForm(
                    "a part may have no header but Content-Disposition, Content-Type, \
                     Content-Transfer-Encoding and Content-Length, each on one line",
                ));
            };
            if slot.replace(value).is_some() {
                return Err(Denial::InvalidForm("a part has a header twice"));
            }
        }
        let [disposition, content_type, coding, length] = lines;
        let head = disposition
            .and_then(Self::of_disposition)
            .filter(|head| is_plain_name(head.name))
            .ok_or(Denial::InvalidForm(
                "a part's Content-Disposition must be `form-data; name=\"…\"`, of a file then `; filename=\"…\"`, \
                 without escapes, and the name plain ASCII",
            ))?;
        if head.is_file || content.is_some() {
            head.check_type(content_type, content.unwrap_or_default())?;
        }
        if coding.is_some_and(|coding| {
            !["7bit", "8bit", "binary"].iter().any(|known| known.eq_ignore_ascii_case(coding))
        }) {
            return Err(Denial::InvalidForm(
                "a part's Content-Transfer-Encoding must be binary, 8bit or 7bit",
            ));
        }
        let head = Self { length, ..head };
        content.map_or(Ok(()), |content| head.check_length(content.len()))?;
        Ok(head)
    }

    /// Refuses what is not as long as it says.
    pub(super) fn check_length(self, bytes: usize) -> Result<(), Denial> {
        match self.length {
            Some(length) if length != bytes.to_string() => {
                Err(Denial::InvalidForm("a part's Content-Length is not its length"))
            }
            _ => Ok(()),
        }
    }

    fn of_disposition(value: &'a str) -> Option<Self> {
        let parameters = media::parameters(value.strip_prefix("form-data")?)?;
        let (first, rest) = parameters.split_first()?;
        let is_file = match rest {
            [] => false,
            [file] => is_filename(file),
            [file, extended] => is_filename(file) && is_extended_filename(extended),
            _ => return None,
        };
        let head = Self { name: first.value, is_file, length: None };
        (first.name == "name" && (is_file || rest.is_empty())).then_some(head)
    }

    /// Of a field the type may only say that it is text; a reader would make other text of it, or a file.
    fn check_type(self, content_type: Option<&str>, content: &[u8]) -> Result<(), Denial> {
        let Some(content_type) = content_type else { return Ok(()) };
        if self.is_file {
            // Some readers look for parts within.
            let nests = content_type.to_ascii_lowercase().starts_with("multipart/");
            return if nests { Err(Denial::InvalidForm("a part has parts itself")) } else { Ok(()) };
        }
        let is_charset = |Parameter { name, value }: &Parameter<'_>| {
            // Java's clients say these of ASCII.
            let as_ascii: &[&str] = if content.is_ascii() { &["us-ascii", "iso-8859-1"] } else { &[] };
            let charsets = ["utf-8"].iter().chain(as_ascii);
            name.eq_ignore_ascii_case("charset")
                && charsets.into_iter().any(|known| known.eq_ignore_ascii_case(value))
        };
        MediaType::read(content_type)
            .filter(|media| matches!(media.essence.as_str(), "text/plain" | "application/json"))
            .filter(|media| media.parameters.len() <= 1 && media.parameters.iter().all(is_charset))
            .map(|_| ())
            .ok_or(Denial::InvalidForm(
                "the Content-Type of a field that is no file must be text/plain in UTF-8",
            ))
    }
}

/// An empty one makes a file for some readers only. What has `;` and `=` in it would be parameters to a reader that does
/// not know quotes.
fn is_filename(Parameter { name, value }: &Parameter<'_>) -> bool {
    *name == "filename" && !value.is_empty() && !(value.contains(';') && value.contains('='))
}

/// <https://www.rfc-editor.org/rfc/rfc8187#section-3.2>, as .NET writes it beside the other one.
fn is_extended_filename(Parameter { name, value }: &Parameter<'_>) -> bool {
    let Some((charset, encoded)) = value.split_at_checked(7) else { return false };
    // Whatever stands behind a `%` is read as two digits, or not at all.
    let codes_are_whole = encoded
        .split('%')
        .skip(1)
        .all(|code| code.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    *name == "filename*"
        && charset.eq_ignore_ascii_case("utf-8''")
        && !encoded.is_empty()
        && encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~%".contains(&byte))
        && codes_are_whole
}

/// Letters, digits, `_` and `-`, beginning with a letter, and then perhaps brackets: `timestamp_granularities[]`. A name
/// that begins otherwise may be an order to its reader: `_charset_`, `_method`.
fn is_plain_name(name: &str) -> bool {
    let is_plain =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let (base, mut brackets) = name.split_at(name.find('[').unwrap_or(name.len()));
    while let Some(rest) = brackets.strip_prefix('[') {
        match rest.split_once(']') {
            Some((word, rest)) if is_plain(word) => brackets = rest,
            _ => return false,
        }
    }
    brackets.is_empty() && base.starts_with(|first: char| first.is_ascii_alphabetic()) && is_plain(base)
}
