//! What did the answer say it cost?
//!
//! Reads `usage` out of an answer as it streams by, in constant memory: from a JSON body at the top level, from a stream
//! in the events that have it. Events are searched, not parsed; only those that have a usage object are. Not decided here:
//! who pays.

mod counts;
mod events;
mod scan;
mod texts;

pub use counts::Reported;

use crate::endpoint::Operation;
use crate::failure::{FAILURE_BYTES_MAX, Failure};
use crate::prices::BATCH_TIER;
use crate::sse::Output;
use crate::tokens::Usage;
use events::Events;
use scan::{Facts, JsonScanner};

/// The longest usage object that is read.
const USAGE_BYTES_MAX: usize = 8 * 1024;

/// The longest word that is read: a model's name, a status.
const WORD_BYTES_MAX: usize = 256;

/// The longest id that is read. Some gateways write into it where it is from, and what it was.
const ID_BYTES_MAX: usize = 4 * 1024;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Server-sent events.
    Events,
    /// Text of some kind, or its type is not told: the first byte tells whether it is JSON.
    Text,
    /// Compressed, though it was not asked to be.
    Compressed,
    /// Something else: audio, a file, a page.
    Opaque,
}

impl Format {
    /// Reads `content-type` and `content-encoding`.
    #[must_use]
    pub fn of(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Self {
        let coding = content_encoding.unwrap_or_default().trim_ascii();
        if !(coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")) {
            return Self::Compressed;
        }
        let essence = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
        match essence.trim_ascii().to_ascii_lowercase().as_slice() {
            b"application/json" | b"text/json" => Self::Json,
            kind if kind.ends_with(b"+json") => Self::Json,
            b"text/event-stream" => Self::Events,
            // Subtitles are text, under either name. <https://www.iana.org/assignments/media-types/text/vtt>
            b""
            | b"application/octet-stream"
            | b"application/x-subrip"
            | b"text/plain"
            | b"text/srt"
            | b"text/vtt" => Self::Text,
            _ => Self::Opaque,
        }
    }

    /// The same of an answer to an operation: one without a type is taken for the stream that was asked for, unless it may be
    /// plain text.
    #[must_use]
    pub fn of_answer(
        content_type: Option<&[u8]>,
        content_encoding: Option<&[u8]>,
        operation: Operation,
        is_stream: bool,
    ) -> Self {
        let is_untyped = content_type.is_none_or(|kind| kind.trim_ascii().is_empty());
        match Self::of(content_type, content_encoding) {
            Self::Text if is_untyped && is_stream && !is_text(operation) => Self::Events,
            format => format,
        }
    }
}

/// Whether the client is to see the usage event of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageEvent {
    /// It asked for it, or none was asked for.
    Show,
    /// We asked for it.
    Hide,
}

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    operation: Operation,
    kind: Kind,
    /// Its status says that there is no answer.
    comes_unannounced: bool,
}

#[derive(Debug)]
enum Kind {
    Json(Box<Json>),
    Events(Box<Events>),
    /// No byte has come that tells what it is; this is what its headers say, which are not always right.
    Untold(Format, UsageEvent),
    /// Plain text, of so many bytes.
    Text(u64),
    /// An error that may be billed, as far as it has come.
    Error {
        status: u16,
        body: Vec<u8>,
    },
    /// An error that is not billed.
    Nothing,
    Unread(Format),
}

/// A JSON answer.
#[derive(Debug)]
struct Json {
    scanner: JsonScanner,
    /// All of it, as long as it may be an error.
    body: Vec<u8>,
    is_long: bool,
}

impl Json {
    fn new(operation: Operation) -> Self {
        // Besides the text, a transcription may tell each of its segments.
        let texts_at_top = is_text(operation);
        let scanner = JsonScanner::new(texts::names(operation, Format::Json), texts_at_top, operation.api());
        Self { scanner, body: Vec::new(), is_long: false }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.scanner.push(chunk);
        self.is_long |= self.body.len().saturating_add(chunk.len()) > FAILURE_BYTES_MAX;
        if self.is_long {
            self.body = Vec::new();
        } else {
            self.body.extend_from_slice(chunk);
        }
    }
}

/// The first byte of a byte order mark.
const MARK: u8 = 0xef;

/// What comes after spaces, and after a byte order mark where that is no part of an event.
fn telling(chunk: &[u8], format: Format) -> &[u8] {
    let says_nothing = |byte: &u8| {
        byte.is_ascii_whitespace() || format != Format::Events && matches!(*byte, MARK | 0xbb | 0xbf)
    };
    let at = chunk.iter().position(|byte| !says_nothing(byte)).unwrap_or(chunk.len());
    chunk.get(at..).unwrap_or_default()
}

/// Whether answers to it may be plain text.
const fn is_text(operation: Operation) -> bool {
    matches!(operation, Operation::Transcriptions | Operation::Translations)
}

/// Whether a status comes with an answer. The others below 400 have no body, or a redirection's.
/// <https://www.rfc-editor.org/rfc/rfc9110#name-status-codes>
#[must_use]
pub const fn has_answer(status: u16) -> bool {
    matches!(status, 200..=203 | 206..=299)
}

impl Reader {
    /// For a good answer to `operation`.
    #[must_use]
    pub fn new(format: Format, operation: Operation, usage_event: UsageEvent) -> Self {
        let kind = match format {
            Format::Json | Format::Events | Format::Text => Kind::Untold(format, usage_event),
            Format::Compressed | Format::Opaque => Kind::Unread(format),
        };
        Self { operation, kind, comes_unannounced: false }
    }

    /// For what has a status without an answer. One that comes all the same is read as any other.
    #[must_use]
    pub fn of_nothing(format: Format, operation: Operation, usage_event: UsageEvent) -> Self {
        Self { comes_unannounced: true, ..Self::new(format, operation, usage_event) }
    }

    /// For an error.
    #[must_use]
    pub const fn of_error(status: u16) -> Self {
        let kind = match status {
            400 | 408 => Kind::Error { status, body: Vec::new() },
            _ => Kind::Nothing,
        };
        Self { operation: Operation::Other, kind, comes_unannounced: false }
    }

    /// Takes the next chunk and answers what the client gets for it.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Output {
        let mut chunk = chunk;
        if let Kind::Untold(format, usage_event) = self.kind {
            let telling = telling(chunk, format);
            self.kind = self.told_by(telling, format, usage_event);
            // Of events, what is in front belongs to the first one.
            chunk = if format == Format::Events { chunk } else { telling };
        }
        match &mut self.kind {
            Kind::Unread(_) | Kind::Nothing | Kind::Untold(..) => {}
            Kind::Text(bytes) => *bytes = bytes.saturating_add(chunk.len() as u64),
            Kind::Json(json) => json.push(chunk),
            Kind::Error { body, .. } => {
                let room = FAILURE_BYTES_MAX.saturating_sub(body.len()).min(chunk.len());
                body.extend_from_slice(chunk.get(..room).unwrap_or_default());
            }
            Kind::Events(events) => return events.push(chunk, end),
        }
        Output::Same
    }

    /// What an answer is, by its first byte that tells it. What is written otherwise than its headers say would cost nothing
    /// if it were read as they say.
    fn told_by(&self, telling: &[u8], format: Format, usage_event: UsageEvent) -> Kind {
        match (telling.first(), format) {
            (None, _) => Kind::Untold(format, usage_event),
            (Some(b'{'), _) => Kind::Json(Box::new(Json::new(self.operation))),
            (Some(byte), Format::Events) if *byte == MARK || byte.is_ascii_graphic() && *byte != b'[' => {
                Kind::Events(Box::new(Events::new(self.operation, usage_event)))
            }
            _ if is_text(self.operation) => Kind::Text(0),
            // Its events pass as they are: the headers have gone.
            (Some(b':' | b'd' | b'e'), _) => {
                Kind::Events(Box::new(Events::new(self.operation, UsageEvent::Show)))
            }
            _ => Kind::Unread(Format::Text),
        }
    }

    fn facts(&self) -> Option<&Facts> {
        match &self.kind {
            Kind::Json(json) => Some(json.scanner.facts()),
            Kind::Events(events) => Some(&events.seen().facts),
            _ => None,
        }
    }

    /// What the answer said so far of its tokens.
    #[must_use]
    pub fn reported(&self) -> Option<Reported> {
        self.facts()?.counts.reported()
    }

    /// The tokens alone.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        Some(self.reported()?.usage)
    }

    /// The model that answered, by its own word.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.facts()?.model.as_deref()
    }

    /// The tier that served it, by the backend's word: of a stream the last that was told. A batch is one itself.
    #[must_use]
    pub fn service_tier(&self) -> Option<&str> {
        let facts = self.facts()?;
        match facts.object.as_deref() {
            Some("batch") => Some(BATCH_TIER),
            _ => facts.service_tier.as_deref(),
        }
    }

    /// How far it is, by its own word: `queued`, `completed`. Of a stream, as it was last said.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.facts()?.status.as_deref()
    }

    /// What the backend calls the answer: of a stream the chat, the response or the run that it is about, once it says so.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.facts()?.id.as_deref()
    }

    /// What it says itself to be: `response`, `batch`, `chat.completion`.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.facts()?.object.as_deref()
    }

    /// Of a batch, how many of its requests came to an answer, if it says so.
    #[must_use]
    pub fn answered_requests(&self) -> Option<u64> {
        self.facts()?.answered_requests
    }

    /// Whether the backend says that it failed, though the status says that all is well: by its whole answer, or by an
    /// event.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        match &self.kind {
            Kind::Json(json) => {
                let facts = json.scanner.facts();
                let may_fail = facts.has_error || facts.object.as_deref() == Some("error");
                may_fail && Failure::of_answer(&json.body).is_some()
            }
            Kind::Events(events) => events.seen().has_failed,
            _ => false,
        }
    }

    /// Whether nothing was sent that could be billed: the status has no answer, and there is none.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let says_nothing = || {
            self.facts().is_none_or(|facts| facts.texts.bytes() == 0)
                && self.usage().is_none_or(|usage| usage.total() == 0)
        };
        matches!(self.kind, Kind::Nothing) || self.comes_unannounced && says_nothing()
    }

    /// Whether it comes as events.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Events(_))
    }

    /// Whether a stream has produced any text yet.
    #[must_use]
    pub fn has_streamed_text(&self) -> bool {
        matches!(&self.kind, Kind::Events(events) if events.seen().facts.texts.bytes() > 0)
    }

    /// Bytes of text that were produced so far, escapes as they stand. `None` if they cannot be told.
    #[must_use]
    pub fn produced_bytes(&self) -> Option<u64> {
        match &self.kind {
            Kind::Text(bytes) => Some(*bytes),
            // An answer of spaces only.
            Kind::Untold(..) => self.is_measured().then_some(0),
            _ => self.facts().filter(|_| self.is_measured()).map(|facts| facts.texts.bytes()),
        }
    }

    /// The same, if all of it is text that its reported tokens are of: none was thought aloud.
    #[must_use]
    pub fn plain_bytes(&self) -> Option<u64> {
        self.facts().filter(|_| self.is_measured())?.texts.plain_bytes()
    }

    /// Whether what the operation produces is text; images are not.
    fn is_measured(&self) -> bool {
        !texts::names(self.operation, Format::Json).is_empty()
    }

    /// Why the usage could not be read, as a word for the metrics.
    #[must_use]
    pub fn unread(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Unread(Format::Compressed) => Some("compressed"),
            Kind::Unread(_) => Some("not_json"),
            _ => self.facts().filter(|facts| facts.is_unreadable).map(|_| "unreadable_usage"),
        }
    }

    /// Whether this error may be billed, and why.
    #[must_use]
    pub fn billed_error(&self) -> Option<BilledError> {
        let Kind::Error { status, body } = &self.kind else { return None };
        if *status == 408 {
            return Some(BilledError::Timeout);
        }
        let failure = Failure::of_error(body)?;
        if failure.is_content_filter() {
            Some(BilledError::ContentFilter)
        } else {
            failure.is_input_too_long().then_some(BilledError::InputTooLong)
        }
    }
}

/// An error that Azure bills though it says nothing of tokens: the prompt has been read.
/// <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/manage-costs>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BilledError {
    /// 400: the prompt was refused.
    ContentFilter,
    /// 400: the input is longer than the model's context.
    InputTooLong,
    /// 408: the backend ran out of its time.
    Timeout,
}

#[cfg(test)]
mod tests;
