//! Which model does a `multipart/form-data` body name, and where?
//!
//! Audio and image uploads name it in a part of their own. Everything else in them is passed on unread. Not decided here:
//! whether the client may.
//!
//! <https://www.rfc-editor.org/rfc/rfc7578>

use crate::denial::{Ambiguity, Denial};
use crate::json::Edits;
use memchr::memmem;
use std::ops::Range;

/// The most parts a form may have.
const PARTS_MAX: usize = 64;

/// A form, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form<'a> {
    /// The model, if a part names it.
    pub model: Option<&'a str>,
    /// The text of the part called `prompt`.
    pub prompt: Option<&'a str>,
    model_at: Range<usize>,
}

impl<'a> Form<'a> {
    /// Reads a body in one pass.
    pub fn read(body: &'a [u8], boundary: &str) -> Result<Self, Denial> {
        let delimiter = format!("--{boundary}");
        let finder = memmem::Finder::new(delimiter.as_bytes());
        let mut starts = finder.find_iter(body).take(PARTS_MAX + 1).peekable();
        let mut form = Self { model: None, prompt: None, model_at: 0..0 };
        let mut parts = 0;
        while let Some(start) = starts.next() {
            let Some(end) = starts.peek().copied() else {
                return if body.get(start + delimiter.len()..).is_some_and(|rest| rest.starts_with(b"--")) {
                    Ok(form)
                } else {
                    Err(Denial::InvalidForm("it does not end with its boundary"))
                };
            };
            parts += 1;
            if parts > PARTS_MAX {
                return Err(Denial::InvalidForm("it has more than 64 parts"));
            }
            form.part(body, start + delimiter.len()..end)?;
        }
        Err(Denial::InvalidForm("it has no part"))
    }

    fn part(&mut self, body: &'a [u8], part: Range<usize>) -> Result<(), Denial> {
        const BLANK: &[u8] = b"\r\n\r\n";
        let bytes = body.get(part.clone()).unwrap_or_default();
        let head = memmem::find(bytes, BLANK).ok_or(Denial::InvalidForm("a part has no header"))?;
        let headers = String::from_utf8_lossy(bytes.get(..head).unwrap_or_default()).to_ascii_lowercase();
        let called =
            |name: &str| headers.contains(&format!("name=\"{name}\"")) && !headers.contains("filename");
        let start = part.start + head + BLANK.len();
        let end = part.end.saturating_sub(2).max(start);
        let text = || std::str::from_utf8(body.get(start..end).unwrap_or_default());
        if called("model") {
            let model = text().map_err(|_| Denial::InvalidField { field: "model", expected: "a string" })?;
            if self.model.replace(model).is_some() {
                return Err(Denial::AmbiguousField { field: "model", problem: Ambiguity::Duplicate });
            }
            self.model_at = start..end;
        } else if called("prompt") {
            self.prompt = text().ok();
        }
        Ok(())
    }

    /// The edit that names the deployment as the backend knows it, if the form names another.
    #[must_use]
    pub fn name_model(&self, name: &str) -> Edits {
        let mut edits = Edits::default();
        if self.model.is_some_and(|model| model != name) {
            edits.splice(self.model_at.clone(), name);
        }
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const BOUNDARY: &str = "xyz";

    fn form(parts: &[(&str, &str)]) -> String {
        let parts: String = parts
            .iter()
            .map(|(head, value)| {
                format!("--xyz\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
            })
            .collect();
        format!("{parts}--xyz--\r\n")
    }

    #[track_caller]
    fn check(body: &str, boundary: &str, expected: Result<Option<&str>, &str>) {
        let found =
            Form::read(body.as_bytes(), boundary).map(|form| form.model).map_err(|denial| denial.code());
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn the_model_is_read_from_its_part() {
        let file =
            ("name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav", "RIFF\r\n\r\nname=\"model\"");
        check(&form(&[file, ("name=\"model\"", "whisper")]), BOUNDARY, Ok(Some("whisper")));
        check(&form(&[file]), BOUNDARY, Ok(None));
        check(
            &form(&[("name=\"model\"", "a"), ("name=\"model\"", "b")]),
            BOUNDARY,
            Err("ambiguous_parameter"),
        );
        check(&form(&[("name=\"model\"; filename=\"x\"", "a")]), BOUNDARY, Ok(None));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        check("", BOUNDARY, Err("invalid_form"));
        check(
            "--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na\r\n",
            BOUNDARY,
            Err("invalid_form"),
        );
        check(&form(&[("name=\"a\"", "1"); 70]), BOUNDARY, Err("invalid_form"));
    }

    #[test]
    fn the_deployment_takes_the_models_place() {
        let body = form(&[("name=\"model\"", "a"), ("name=\"x\"", "1")]);
        let read = Form::read(body.as_bytes(), BOUNDARY).unwrap();
        let patch = read.name_model("deployment").patch(body.as_bytes()).unwrap();
        let after = String::from_utf8(patch.bytes).unwrap() + &body[patch.replaced..];
        assert_eq!(after, form(&[("name=\"model\"", "deployment"), ("name=\"x\"", "1")]));
        assert!(read.name_model("a").is_empty());
    }
}
