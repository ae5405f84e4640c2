//! Where in a YAML text does a block begin and end?
//!
//! What a block is follows from how far its lines are indented. Texts and not values are changed, for comments are part of what
//! is written. The tests' harness writes the other shipped files with the same code.

use std::fmt;
use std::ops::Range;

/// What a text was expected to have.
#[derive(Debug)]
pub(super) struct Missing(pub(super) String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the template has no line that begins with {:?}", self.0)
    }
}

impl std::error::Error for Missing {}

/// Where the line begins on which `key` comes first, and how far it is indented.
pub(super) fn place(text: &str, key: &str) -> Result<(usize, usize), Missing> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if text[at + indent..].starts_with(key) {
            return Ok((at, indent));
        }
        at += line.len();
    }
    Err(Missing(key.to_owned()))
}

/// The bytes of the first block that begins with `key`.
pub(super) fn extent(text: &str, key: &str) -> Result<Range<usize>, Missing> {
    let (start, indent) = place(text, key)?;
    let first = text[start..].split_inclusive('\n').next().unwrap_or_default();
    let is_item = first.trim_start().starts_with("- ");
    let mut end = start + first.len();
    for line in text[end..].split_inclusive('\n') {
        let deeper = line.len() - line.trim_start_matches(' ').len();
        let continues =
            deeper > indent || (deeper == indent && !is_item && line.trim_start().starts_with("- "));
        if !continues || line.trim().is_empty() {
            break;
        }
        end += line.len();
    }
    Ok(start..end)
}

/// The replacement takes the place of the first block that begins with `key`.
pub(super) fn replace(text: &str, key: &str, replacement: &str) -> Result<String, Missing> {
    let (Range { start, end }, (_, indent)) = (extent(text, key)?, place(text, key)?);
    Ok(format!("{}{}{}", &text[..start], indented(replacement, indent), &text[end..]))
}

/// Each line so much further to the right.
pub(super) fn indented(block: &str, indent: usize) -> String {
    let indent_of = |line: &str| if line.is_empty() { 0 } else { indent };
    block.lines().map(|line| format!("{:1$}{line}\n", "", indent_of(line))).collect()
}
