//! What does a long text hold, judged by a part of it?
//!
//! Reads windows, evenly spaced, and scales up what they hold: a megabyte costs no more than ten kilobytes.

use super::strings::{Found, Place, strings};
use memchr::{memchr, memchr2, memrchr};

/// Windows into a text, and their size.
const WINDOWS_MAX: usize = 128;
const WINDOW_BYTES: usize = 64;

/// A shorter text gives fewer windows: one for so many bytes.
const BYTES_PER_WINDOW: usize = 64;

/// `\u4e2d`.
const ESCAPE_BYTES_MAX: usize = 6;

/// Evenly spaced, with where they begin.
pub(super) fn windows(json: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let count = (json.len() / BYTES_PER_WINDOW).clamp(2, WINDOWS_MAX);
    (0..count).map(move |number| {
        let at = json.len() / count * number;
        let rest = json.get(at..).unwrap_or_default();
        (at, rest.get(..WINDOW_BYTES).unwrap_or(rest))
    })
}

/// Reads windows, and takes the rest for more of the same. Only the first, which has the syntax that comes once, stands
/// for itself.
pub(super) fn sample(json: &[u8]) -> Found {
    if json.len() <= 2 * WINDOW_BYTES {
        return strings(json, Place::Between);
    }
    let (mut first, mut others, mut read_bytes) = (Found::default(), Found::default(), 0);
    for (at, window) in windows(json) {
        if at == 0 {
            first = strings(window, Place::Between);
            continue;
        }
        let (place, begin) = begin_inside(json, at);
        let window = whole_escapes(json.get(begin..at + window.len()).unwrap_or_default());
        others.add(strings(window, place));
        read_bytes += window.len();
    }
    first.add(others.scaled(json.len() - WINDOW_BYTES, read_bytes));
    first
}

/// A window without the escape that it cuts off: what is not read must not count as read.
fn whole_escapes(window: &[u8]) -> &[u8] {
    let last = window.len().saturating_sub(ESCAPE_BYTES_MAX - 1);
    match window.get(last..).and_then(|end| memrchr(b'\\', end)) {
        Some(at) if matches!(window.get(last + at + 1), None | Some(b'u')) => {
            window.get(..last + at).unwrap_or(window)
        }
        _ => window,
    }
}

/// Finds out what is there at `at`, and where the next whole character begins if an escape was cut.
fn begin_inside(json: &[u8], at: usize) -> (Place, usize) {
    let byte = |at: usize| json.get(at).copied().unwrap_or_default();
    let near = json.get(at..at + ESCAPE_BYTES_MAX).unwrap_or_default();
    let begin = match byte(at.saturating_sub(1)) {
        b'\\' if byte(at) == b'u' => at + ESCAPE_BYTES_MAX - 1,
        b'\\' => at + 1,
        _ => at + memchr(b'\\', near).unwrap_or(0),
    };
    let before = json.get(begin.saturating_sub(ESCAPE_BYTES_MAX)..begin).unwrap_or_default();
    // The last of a character's bytes, for what is seldom ASCII.
    let before = if before.starts_with(b"\\u") { 0x80 } else { byte(begin.saturating_sub(1)) };
    let window = json.get(begin..).unwrap_or_default();
    let window = window.get(..WINDOW_BYTES).unwrap_or(window);
    let mut from = 0;
    while let Some(stop) = window.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        from += stop;
        if window.get(from) == Some(&b'"') {
            // A quote that closes a string is followed by syntax, one that opens a string by text.
            let next = window.get(from + 1..).unwrap_or_default().trim_ascii_start().first();
            let closes = matches!(next, None | Some(b',' | b':' | b'}' | b']'));
            return (if closes { Place::Inside(before) } else { Place::Between }, begin);
        }
        from += 2;
    }
    (Place::Inside(before), begin)
}
