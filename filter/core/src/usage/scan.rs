//! The top-level `usage`, `model`, `id` and `status` of a JSON answer, found as it streams by, and how much text it
//! produced.

use super::wire::WireUsage;
use super::{ID_BYTES_MAX, MODEL_BYTES_MAX, USAGE_BYTES_MAX, WORD_BYTES_MAX};
use crate::tokens::Usage;

/// Reads a JSON object that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct JsonScanner {
    /// The names of produced text, wherever they stand.
    texts: &'static [&'static str],
    depth: u32,
    text: Text,
    /// The string that was just read, as far as it could still be a name we look for.
    name: Vec<u8>,
    /// The member whose value comes next.
    next: Option<Member>,
    /// The value that is being read.
    value: Option<(Member, Vec<u8>)>,
    /// The string that is being read is produced text.
    counts: bool,
    produced_bytes: u64,
    model: Option<String>,
    id: Option<String>,
    status: Option<String>,
}

/// Whether we are inside a string.
#[derive(Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// Behind a backslash.
    Escape,
}

/// A member that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Usage,
    Model,
    Id,
    Status,
    /// Its string is not kept, only measured.
    ProducedText,
}

impl Member {
    fn named(name: &[u8], depth: u32, texts: &[&str]) -> Option<Self> {
        match (name, depth) {
            (b"usage", 1) => Some(Self::Usage),
            (b"model", 1) => Some(Self::Model),
            (b"id", 1) => Some(Self::Id),
            (b"status", 1) => Some(Self::Status),
            _ if texts.iter().any(|text| text.as_bytes() == name) => Some(Self::ProducedText),
            _ => None,
        }
    }

    const fn is_string(self) -> bool {
        matches!(self, Self::Model | Self::Id | Self::Status)
    }

    const fn bytes_max(self) -> usize {
        match self {
            Self::Usage => USAGE_BYTES_MAX,
            Self::Model => MODEL_BYTES_MAX,
            Self::Id => ID_BYTES_MAX,
            Self::Status => WORD_BYTES_MAX,
            Self::ProducedText => 0,
        }
    }
}

/// The length of the longest name that is looked for.
const NAME_BYTES: usize = 17;

const fn is_structure(byte: &u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b':' | b',')
}

impl JsonScanner {
    /// A scanner for answers whose text stands under these names.
    pub(super) fn new(texts: &'static [&'static str]) -> Self {
        Self { texts, ..Self::default() }
    }

    /// Answers the usage once its last byte has come.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Usage> {
        let mut found = None;
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let step = match self.text {
                // An escaped byte is skipped whatever it is.
                Text::Escape => Some(0),
                Text::Inside => memchr::memchr2(b'"', b'\\', rest),
                Text::Outside => rest.iter().position(is_structure),
            };
            let skipped = step.unwrap_or(rest.len());
            self.keep(rest.get(..skipped).unwrap_or_default());
            at += skipped;
            if let Some(byte) = chunk.get(at).filter(|_| step.is_some()) {
                found = self.byte(*byte).or(found);
                at += 1;
            }
        }
        found
    }

    /// The model, if it has come.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// What the backend calls it, if that has come.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How far it is, if that has come.
    pub(super) fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Where the string of this member is kept.
    fn string(&mut self, member: Member) -> Option<&mut Option<String>> {
        match member {
            Member::Model => Some(&mut self.model),
            Member::Id => Some(&mut self.id),
            Member::Status => Some(&mut self.status),
            Member::Usage | Member::ProducedText => None,
        }
    }

    /// Bytes of text that was produced, escapes as they stand.
    pub(super) fn produced_bytes(&self) -> u64 {
        self.produced_bytes
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.counts {
            self.produced_bytes = self.produced_bytes.saturating_add(bytes.len() as u64);
        } else if let Some((member, value)) = &mut self.value {
            if value.len().saturating_add(bytes.len()) > member.bytes_max() {
                self.value = None;
            } else {
                value.extend_from_slice(bytes);
            }
        } else if self.text != Text::Outside && self.name.len() <= NAME_BYTES {
            self.name.extend_from_slice(bytes.get(..=NAME_BYTES).unwrap_or(bytes));
        }
    }

    fn byte(&mut self, byte: u8) -> Option<Usage> {
        match (&self.text, byte) {
            (Text::Escape, _) => {
                self.text = Text::Inside;
                self.keep(&[byte]);
            }
            (Text::Inside, b'\\') => {
                self.text = Text::Escape;
                self.keep(b"\\");
            }
            (Text::Inside, b'"') => {
                self.text = Text::Outside;
                if std::mem::take(&mut self.counts) {
                    return None;
                }
                let text = self.value.take_if(|(member, _)| member.is_string());
                if let Some((member, value)) = text {
                    if let Some(place) = self.string(member) {
                        *place = String::from_utf8(value).ok();
                    }
                } else {
                    self.keep_value(byte);
                }
            }
            (Text::Inside, _) => self.keep(&[byte]),
            (Text::Outside, b'"') => {
                self.keep_value(byte);
                if self.value.is_none() {
                    self.name.clear();
                    match self.next.take() {
                        Some(member) if member.is_string() => self.value = Some((member, Vec::new())),
                        Some(Member::ProducedText) => self.counts = true,
                        _ => {}
                    }
                }
                self.text = Text::Inside;
            }
            (Text::Outside, b':') if self.value.is_none() => {
                self.next = Member::named(&self.name, self.depth, self.texts);
            }
            (Text::Outside, b'{' | b'[') => {
                if self.next.take() == Some(Member::Usage) && byte == b'{' {
                    self.value = Some((Member::Usage, Vec::new()));
                }
                self.depth = self.depth.saturating_add(1);
                self.keep_value(byte);
            }
            (Text::Outside, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                self.keep_value(byte);
                if self.depth == 1
                    && let Some((_, value)) = self.value.take()
                {
                    return serde_json::from_slice::<WireUsage>(&value).ok()?.usage();
                }
            }
            (Text::Outside, _) => {
                if byte == b',' {
                    self.next = None;
                }
                self.keep_value(byte);
            }
        }
        None
    }

    fn keep_value(&mut self, byte: u8) {
        if self.value.is_some() {
            self.keep(&[byte]);
        }
    }
}
