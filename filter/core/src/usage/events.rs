//! The usage of a stream of events: searched for, and parsed only where it is.

use super::progress::Progress;
use super::wire::{Place, WireEvent};
use super::{Format, UsageEvent, text_names};
use crate::endpoint::Operation;
use crate::sse::{self, Mode, Output, Verdict};
use crate::tokens::Usage;
use memchr::memmem::Finder;

/// One stream.
#[derive(Debug)]
pub(super) struct Events {
    stream: sse::Stream,
    usage: Finder<'static>,
    model_name: Finder<'static>,
    deltas: Vec<Finder<'static>>,
    seen: Seen,
    /// Of what goes on when its stream is left.
    progress: Option<Progress>,
}

/// What the events said so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) usage: Option<Usage>,
    pub(super) model: Option<String>,
    /// Bytes of text that was produced, escapes as they stand.
    pub(super) produced_bytes: u64,
}

impl Events {
    pub(super) fn new(operation: Operation, usage_event: UsageEvent) -> Self {
        Self {
            stream: sse::Stream::new(match usage_event {
                UsageEvent::Show => Mode::Watch,
                UsageEvent::Hide => Mode::Edit,
            }),
            usage: Finder::new(b"\"usage\""),
            model_name: Finder::new(b"\"model\""),
            deltas: quoted(text_names(operation, Format::Events))
                .map(|name| Finder::new(&name).into_owned())
                .collect(),
            seen: Seen::default(),
            progress: matches!(operation, Operation::Responses | Operation::Other).then(Progress::default),
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8], end: bool) -> Output {
        let Self { stream, usage, model_name, deltas, seen, progress } = self;
        stream.push(chunk, end, |event| {
            for delta in deltas.iter() {
                seen.produced_bytes = seen.produced_bytes.saturating_add(delta_bytes(event, delta));
            }
            if seen.model.is_none() {
                seen.model = model(event, model_name);
            }
            if let Some(progress) = progress {
                progress.read(event, usage.find(event).is_some());
            }
            let Some((found, verdict)) = usage_of(event, usage) else { return Verdict::Pass };
            seen.usage = Some(found);
            verdict
        })
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What it is about, and how far that is.
    pub(super) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Events that were too long to be looked at.
    pub(super) fn unread(&self) -> u32 {
        self.stream.unread()
    }
}

/// Names as they stand in JSON.
fn quoted(names: &'static [&'static str]) -> impl Iterator<Item = Vec<u8>> {
    names.iter().map(|name| format!("\"{name}\"").into_bytes())
}

/// What follows a member's name and colon.
fn value_of<'a>(event: &'a [u8], name: &Finder<'_>, from: usize) -> Option<(usize, &'a [u8])> {
    let at = from + name.find(event.get(from..)?)? + name.needle().len();
    let rest = event.get(at..)?.trim_ascii_start();
    Some((at, rest.strip_prefix(b":").map_or(&b""[..], <[u8]>::trim_ascii_start)))
}

/// The string at the start of a value, escapes as they stand.
fn string(value: &[u8]) -> Option<&[u8]> {
    let text = value.strip_prefix(b"\"")?;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return text.get(..at);
        }
        at += 2;
    }
    None
}

/// The length of the strings under this name: one for each choice in the event.
fn delta_bytes(event: &[u8], name: &Finder<'_>) -> u64 {
    let (mut bytes, mut from) = (0, 0);
    while let Some((at, value)) = value_of(event, name, from) {
        bytes += string(value).map_or(0, |text| text.len() as u64);
        from = at;
    }
    bytes
}

/// The model, where it is named: Azure's first event names none.
fn model(event: &[u8], name: &Finder<'_>) -> Option<String> {
    let text = string(value_of(event, name, 0)?.1)?;
    (!text.is_empty() && text.len() <= super::MODEL_BYTES_MAX)
        .then(|| String::from_utf8_lossy(text).into_owned())
}

fn usage_of(event: &[u8], name: &Finder<'_>) -> Option<(Usage, Verdict)> {
    let mut from = 0;
    // `"usage":null` stands on every event of a stream that was asked for its usage.
    while let Some((at, value)) = value_of(event, name, from) {
        if value.first() == Some(&b'{') {
            let data = sse::data(event)?;
            let parsed: WireEvent<'_> = serde_json::from_slice(&data).ok()?;
            let (usage, place) = parsed.usage()?;
            let verdict = match place {
                Place::Alone => Verdict::Hide,
                Place::WithChoices(text) => {
                    without_usage(event, text).map_or(Verdict::Pass, Verdict::Replace)
                }
                Place::Elsewhere => Verdict::Pass,
            };
            return Some((usage, verdict));
        }
        from = at;
    }
    None
}

/// The event without its `usage` member, whose value is this text.
fn without_usage(event: &[u8], value: &str) -> Option<Vec<u8>> {
    let value_at = memchr::memmem::rfind(event, value.as_bytes())?;
    let end = value_at + value.len();
    let head = event.get(..value_at)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let head = head.strip_suffix(b"\"usage\"")?.trim_ascii_end();
    let rest = event.get(end..)?;
    // One comma goes with it: the one before, or, if it stood first, the one after.
    let (head, rest) = match head.strip_suffix(b",") {
        Some(head) => (head, rest),
        None => (head, rest.trim_ascii_start().strip_prefix(b",").unwrap_or(rest)),
    };
    Some([head, rest].concat())
}
