//! The top-level `usage` of a JSON answer, found as it streams by.

use super::wire::WireUsage;
use crate::tokens::Usage;

/// The longest usage object that is read.
const USAGE_BYTES_MAX: usize = 8 * 1024;

/// Finds the top-level `usage` of a JSON object that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct JsonScanner {
    depth: u32,
    text: Text,
    /// The string at depth one that was just read, as far as it could still be the name.
    name: Vec<u8>,
    /// Whether that name's value is what comes next.
    after_name: bool,
    /// The value, once it has begun.
    value: Option<Vec<u8>>,
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

const USAGE: &[u8] = b"usage";

impl JsonScanner {
    /// Answers the usage once its last byte has come.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Option<Usage> {
        let mut found = None;
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let step = match self.text {
                // An escaped byte is skipped whatever it is.
                Text::Escape => Some(0),
                Text::Inside => memchr::memchr2(b'"', b'\\', rest),
                Text::Outside => rest.iter().position(|byte| b"\"{}[]:,".contains(byte)),
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

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(value) = &mut self.value {
            if value.len().saturating_add(bytes.len()) > USAGE_BYTES_MAX {
                self.value = None;
            } else {
                value.extend_from_slice(bytes);
            }
        } else if self.depth == 1 && self.text != Text::Outside && self.name.len() <= USAGE.len() {
            self.name.extend(bytes.iter().take(USAGE.len() + 1));
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
                if self.value.is_some() {
                    self.keep(b"\"");
                }
            }
            (Text::Outside, b'"') => {
                if self.value.is_none() && self.depth == 1 {
                    self.name.clear();
                    self.after_name = false;
                }
                if self.value.is_some() {
                    self.keep(b"\"");
                }
                self.text = Text::Inside;
            }
            (Text::Outside, b':') if self.depth == 1 && self.value.is_none() => {
                self.after_name = self.name == USAGE;
            }
            (Text::Outside, b'{' | b'[') => {
                if self.depth == 1 && std::mem::take(&mut self.after_name) && byte == b'{' {
                    self.value = Some(Vec::new());
                }
                self.depth = self.depth.saturating_add(1);
                if self.value.is_some() {
                    self.keep(&[byte]);
                }
            }
            (Text::Outside, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                if self.value.is_some() {
                    self.keep(&[byte]);
                    if self.depth == 1 {
                        let value = self.value.take()?;
                        return serde_json::from_slice::<WireUsage>(&value).ok()?.usage();
                    }
                }
            }
            (Text::Outside, _) => {
                if byte == b',' && self.depth == 1 {
                    self.after_name = false;
                }
                if self.value.is_some() {
                    self.keep(&[byte]);
                }
            }
            (Text::Inside, _) => self.keep(&[byte]),
        }
        None
    }
}
