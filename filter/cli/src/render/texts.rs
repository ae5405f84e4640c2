//! What is found in the texts of templates, and put there?

use super::blocks::{Missing, extent, indented, place};
use serde_json::Value;

pub(super) fn find(text: &str, what: &str) -> Result<usize, Missing> {
    text.find(what).ok_or_else(|| Missing(what.to_owned()))
}

/// From the first of the one to the first of the other after it.
pub(super) fn cut<'t>(text: &'t str, from: &str, to: &str) -> Result<&'t str, Missing> {
    let text = &text[find(text, from)?..];
    Ok(&text[..find(text, to)?])
}

/// The one in place of the first of the other.
pub(super) fn swap(text: &str, what: &str, by: &str) -> Result<String, Missing> {
    find(text, what).map(|_| text.replacen(what, by, 1))
}

/// The first block that begins with `key`, with its lines as far to the left as they can be.
pub(super) fn block(text: &str, key: &str) -> Result<String, Missing> {
    let (_, indent) = place(text, key)?;
    Ok(outdented(&text[extent(text, key)?], indent))
}

/// What stands below `key`, with its lines as far to the left as they can be.
pub(super) fn below(text: &str, key: &str) -> Result<String, Missing> {
    let block = block(text, key)?;
    let (_, below) = block.split_once('\n').unwrap_or_default();
    Ok(outdented(below, below.len() - below.trim_start_matches(' ').len()))
}

/// The item of a list that begins with `key`, as what stands alone.
pub(super) fn alone(text: &str, key: &str) -> Result<String, Missing> {
    let item = block(text, key)?;
    Ok(outdented(&swap(&item, "- ", "  ")?, 2))
}

/// As an item of the list of clusters.
pub(super) fn as_item(text: &str) -> String {
    indented(text, 4).replacen("    ", "  - ", 1)
}

fn outdented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}\n", line.get(by..).unwrap_or_default())).collect()
}

/// A text as YAML has it: with quotes unless nobody could read it otherwise.
pub(super) fn scalar(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let is_address = text.parse::<std::net::Ipv4Addr>().is_ok();
    let means_more = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_safe = text.bytes().all(is_plain) && !means_more.contains(&&*text.to_ascii_lowercase());
    if is_address || (is_word && is_safe) { text.to_owned() } else { Value::from(text).to_string() }
}
