//! What does the file of a batch ask for, line by line, and what does it come to?
//!
//! A line is a request of its own: `{"custom_id", "method", "url", "body"}`. All lines of a file are for one model and one
//! endpoint, as the API wants it. What two readers of lines may cut or read differently is refused. Not decided here: whether
//! the client may ask for it, and what it is estimated to cost.
//!
//! <https://platform.openai.com/docs/api-reference/batch/request-input>,
//! <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch>

use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::json::{self, Names, Object, Ungoverned};
use memchr::{memchr, memmem};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The longest line. It is held until it is whole.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The most lines of a file. <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch#batch-limits>
pub const LINES_MAX: u32 = 100_000;

/// What a batch may ask for.
const BATCHED: [Operation; 4] =
    [Operation::ChatCompletions, Operation::Completions, Operation::Embeddings, Operation::Responses];

/// What a name is told by in a sum.
pub type NameMark = [u8; 5];

/// The mark of the name that a file has for its model.
#[must_use]
pub fn name_mark(name: &str) -> NameMark {
    let mut mark = [0; 5];
    for (byte, from) in mark.iter_mut().zip(Sha256::digest(name)) {
        *byte = from;
    }
    mark
}

/// What all lines of a file come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many there are.
    pub lines: u32,
    /// What all of them ask for: one of those that a batch may.
    pub operation: Operation,
    /// How they call their model.
    pub name: NameMark,
    /// Tokens of all prompts, by estimate.
    pub prompt: u64,
    /// Tokens that may be produced.
    pub completion: u64,
}

impl Sum {
    /// How long it is as bytes.
    pub const BYTES: usize = 21;

    /// More tokens than this are this.
    const TOKENS_MAX: u64 = (1 << 48) - 1;

    /// Of no line yet.
    #[must_use]
    pub fn new(operation: Operation, name: NameMark) -> Self {
        Self { lines: 0, operation, name, prompt: 0, completion: 0 }
    }

    /// With one line more.
    #[must_use]
    pub fn with(self, prompt: u64, completion: u64) -> Self {
        let plus = |sum: u64, more: u64| sum.saturating_add(more).min(Self::TOKENS_MAX);
        Self {
            lines: self.lines.saturating_add(1),
            prompt: plus(self.prompt, prompt),
            completion: plus(self.completion, completion),
            ..self
        }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let operation = BATCHED.iter().position(|operation| *operation == self.operation);
        let operation = operation.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
        // No more than a hundred thousand lines are counted.
        let [l0, l1, l2, _] = self.lines.to_le_bytes();
        let [p0, p1, p2, p3, p4, p5, ..] = self.prompt.to_le_bytes();
        let [c0, c1, c2, c3, c4, c5, ..] = self.completion.to_le_bytes();
        let [n0, n1, n2, n3, n4] = self.name;
        [l0, l1, l2, operation, p0, p1, p2, p3, p4, p5, c0, c1, c2, c3, c4, c5, n0, n1, n2, n3, n4]
    }

    /// Of such bytes.
    #[must_use]
    pub fn of_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [l0, l1, l2, operation, p0, p1, p2, p3, p4, p5, c0, c1, c2, c3, c4, c5, n0, n1, n2, n3, n4] =
            bytes;
        Some(Self {
            lines: u32::from_le_bytes([l0, l1, l2, 0]),
            operation: *BATCHED.get(usize::from(operation))?,
            name: [n0, n1, n2, n3, n4],
            prompt: u64::from_le_bytes([p0, p1, p2, p3, p4, p5, 0, 0]),
            completion: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, 0, 0]),
        })
    }
}

/// What takes a line: its number, from 1, and its bytes without their end.
pub type TakeLine<'t> = &'t mut dyn FnMut(u64, &[u8]) -> Result<(), Denial>;

/// Cuts a file into its lines, however it comes.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of the line that is not whole.
    begun: Vec<u8>,
    /// How many were.
    ended: u64,
}

impl Lines {
    /// Takes more of the file.
    pub fn push(&mut self, chunk: &[u8], take: TakeLine<'_>) -> Result<(), Denial> {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            self.grow_by(line)?;
            let begun = std::mem::take(&mut self.begun);
            self.line(&begun, take)?;
            rest = after.get(1..).unwrap_or_default();
        }
        self.grow_by(rest)
    }

    /// Takes the end of the file.
    pub fn end(&mut self, take: TakeLine<'_>) -> Result<(), Denial> {
        let begun = std::mem::take(&mut self.begun);
        self.line(&begun, take)
    }

    /// How much is held of a line that is not whole.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.begun.len()
    }

    fn grow_by(&mut self, bytes: &[u8]) -> Result<(), Denial> {
        if self.begun.len().saturating_add(bytes.len()) > LINE_BYTES_MAX {
            let problem = format!("It has more than {LINE_BYTES_MAX} bytes.");
            return Err(Denial::BatchLine { line: self.ended.saturating_add(1), problem });
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8], take: TakeLine<'_>) -> Result<(), Denial> {
        self.ended = self.ended.saturating_add(1);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // The last one is empty where all end with a break.
        if line.is_empty() { Ok(()) } else { take(self.ended, line) }
    }
}

/// A line, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'l> {
    /// What it asks for.
    pub operation: Operation,
    /// The body of its request, as it is written.
    pub body: &'l str,
}

static LINE: Names<4> = Names::new(["url", "body", "method", "custom_id"]);

/// What some reader takes for the end of a line, though JSON lets it stand in a string.
/// <https://docs.python.org/3/library/stdtypes.html#str.splitlines>
const BREAKS: [&str; 3] = ["\u{85}", "\u{2028}", "\u{2029}"];

impl<'l> Line<'l> {
    /// Reads a line. The other way, what is wrong with it.
    pub fn read(line: &'l [u8]) -> Result<Self, String> {
        let sentence = |fault: json::Fault| Denial::from(fault).sentence();
        let text = json::text(line).map_err(sentence)?;
        let breaks = |sign: &&str| memmem::find(line, sign.as_bytes()).is_some();
        if memchr(b'\r', line).is_some() || BREAKS.iter().any(breaks) {
            return Err(
                "It has a sign which some readers take for the end of a line: write it as `\\u…`.".to_owned()
            );
        }
        let (object, others) = json::find_all(text, text, &LINE).map_err(sentence)?;
        if !others.is_empty() {
            return Err("It may have no member but `custom_id`, `method`, `url` and `body`.".to_owned());
        }
        let [url, body, method, custom_id] = &object.members;
        let word =
            |member: &Option<json::Member<'l>>| member.as_ref().and_then(|member| string(member.value));
        if word(custom_id).is_none_or(|id| id.is_empty()) {
            return Err("It needs a `custom_id` which is a string.".to_owned());
        }
        if word(method).as_deref() != Some("POST") {
            return Err("Its `method` must be `POST`.".to_owned());
        }
        let operation = word(url).and_then(|url| operation_of(&url));
        let operation = operation.ok_or_else(|| format!("Its `url` must be {}.", urls()))?;
        let body = body.as_ref().map(|body| body.value).filter(|body| body.starts_with('{'));
        let body = body.ok_or_else(|| "It needs a `body` which is an object.".to_owned())?;
        Ok(Self { operation, body })
    }
}

fn string(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
}

/// What a path of OpenAI's or of Azure's asks for, if a batch may.
fn operation_of(url: &str) -> Option<Operation> {
    let path = url.strip_prefix("/v1").unwrap_or(url).strip_prefix('/')?;
    BATCHED.into_iter().find(|operation| operation.path() == path)
}

fn urls() -> String {
    let urls: Vec<_> = BATCHED.iter().map(|operation| format!("`/v1/{}`", operation.path())).collect();
    urls.join(" or ")
}

/// What a request for a batch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The id of its file, as it is written.
    pub file: String,
    /// What its lines ask for.
    pub operation: Operation,
}

static ORDER: Names<5> =
    Names::new(["endpoint", "metadata", "input_file_id", "completion_window", "output_expires_after"]);

impl Order {
    /// Reads the body. What is not known here may be another way to name the input: it is refused.
    pub fn read(body: &str) -> Result<Self, Denial> {
        let (object, others): (Object<'_, 5>, Vec<Ungoverned<'_>>) = json::find_all(body, body, &ORDER)?;
        if let [other, rest @ ..] = &*others {
            let names = vec![crate::denial::shown(&other.name)];
            return Err(Denial::UnknownFields { names, more: rest.len() as u64 });
        }
        let [endpoint, _, file, _, _] = &object.members;
        let file = file.as_ref().ok_or(Denial::MissingField("input_file_id"))?;
        let file = string(file.value)
            .ok_or(Denial::InvalidField { field: "input_file_id", expected: "a string" })?;
        let endpoint = endpoint.as_ref().ok_or(Denial::MissingField("endpoint"))?;
        let operation = string(endpoint.value).and_then(|url| operation_of(&url)).ok_or(
            Denial::InvalidField {
                field: "endpoint",
                expected: "one of `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/responses`",
            },
        )?;
        Ok(Self { file: file.into_owned(), operation })
    }
}

#[cfg(test)]
mod tests;
