//! The usage of a stream of events: searched for, and read only where it is.

use super::scan::{Facts, JsonScanner};
use super::texts::{self, Text, Texts};
use super::{Format, UsageEvent};
use crate::endpoint::{Api, Operation};
use crate::failure::Failure;
use crate::sse::{self, DataLines, Mode, Output, Verdict, Watch};
use memchr::memmem::Finder;

/// So many events are read for what an answer says of itself in its first ones.
const FIRST_EVENTS: u32 = 4;

/// What a stream may be about, besides a response.
const OBJECTS: [&str; 3] = ["chat.completion.chunk", "text_completion", "thread.run"];

/// One stream.
#[derive(Debug)]
pub(super) struct Events {
    stream: sse::Stream,
    search: Search,
}

/// Realtime's sound is a token each 50 ms, and text one for each four bytes or so: base64 of PCM at 24 kHz is 3,200 bytes in that
/// time. <https://platform.openai.com/docs/guides/realtime-costs>
const SOUND_BYTES_PER_TEXT_BYTE: u64 = 800;

/// What is looked for in events, and what was found.
#[derive(Debug)]
struct Search {
    /// Whether sound is produced, too.
    hears: bool,
    names: &'static [texts::Name],
    api: Api,
    usage: Finder<'static>,
    error: Finder<'static>,
    /// What the text of an event stands in.
    delta: Finder<'static>,
    /// How many events were read.
    events: u32,
    /// A long event, as far as it has come.
    long: Option<(DataLines, JsonScanner)>,
    seen: Seen,
}

/// What the events said so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) facts: Facts,
    /// The backend said that it failed.
    pub(super) has_failed: bool,
}

impl Events {
    pub(super) fn new(operation: Operation, usage_event: UsageEvent) -> Self {
        let delta: &[u8] = if operation == Operation::Completions { b"\"text\"" } else { b"\"delta\"" };
        let search = Search {
            hears: operation == Operation::Realtime,
            names: texts::names(operation, Format::Events),
            api: operation.api(),
            usage: Finder::new(b"\"usage\""),
            error: Finder::new(b"error"),
            delta: Finder::new(delta),
            events: 0,
            long: None,
            seen: Seen::default(),
        };
        Self {
            stream: sse::Stream::new(match usage_event {
                UsageEvent::Show => Mode::Watch,
                UsageEvent::Hide => Mode::Edit,
            }),
            search,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8], end: bool) -> Output {
        self.stream.push(chunk, end, &mut self.search)
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.search.seen
    }
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

/// Whether a usage object stands in an event. `"usage":null` stands on every event of a stream that was asked for its
/// usage.
fn has_usage(event: &[u8], name: &Finder<'_>) -> bool {
    let mut from = 0;
    while let Some((at, value)) = value_of(event, name, from) {
        if value.first() == Some(&b'{') {
            return true;
        }
        from = at;
    }
    false
}

/// What kind of text a delta is that is a string: the event says so in front of it.
/// <https://platform.openai.com/docs/api-reference/responses-streaming>
fn kind_of(head: &[u8]) -> Option<Text> {
    const TYPE: &[u8] = b"\"type\"";
    let Some(at) = memchr::memmem::find(head, TYPE) else { return Some(Text::Said) };
    let value = head.get(at + TYPE.len()..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let kind = string(value).unwrap_or_default();
    if memchr::memmem::find(kind, b"audio.delta").is_some() {
        return None;
    }
    let is_thought = memchr::memmem::find(kind, b"reasoning").is_some();
    Some(if is_thought { Text::Thought(0) } else { Text::Said })
}

impl Search {
    /// Measures the text in an event's deltas, one for each choice; `None` if there is none.
    fn measure(&self, event: &[u8]) -> Option<Texts> {
        let (mut texts, mut from, mut is_there) = (Texts::default(), 0, false);
        while let Some((at, value)) = value_of(event, &self.delta, from) {
            is_there = true;
            if let Some(text) = string(value) {
                // What is sound has to be known wherever its kind stands.
                let told = if self.hears { event } else { event.get(..at).unwrap_or_default() };
                match kind_of(told) {
                    Some(kind) => texts.add(kind, text.len() as u64),
                    None if self.hears => {
                        texts.add(Text::Said, text.len() as u64 / SOUND_BYTES_PER_TEXT_BYTE);
                    }
                    None => {}
                }
            } else if value.first() == Some(&b'{') {
                self.measure_within(value, &mut texts);
            }
            from = at;
        }
        is_there.then_some(texts)
    }

    /// Measures what stands under the names of text in an object.
    fn measure_within(&self, object: &[u8], texts: &mut Texts) {
        let (mut at, mut depth) = (0_usize, 0_u32);
        let (mut word, mut named): (&[u8], Option<Text>) = (&[], None);
        while let Some(byte) = object.get(at) {
            match byte {
                b'"' => {
                    let Some(text) = object.get(at..).and_then(string) else { return };
                    match named.take() {
                        Some(kind) => texts.add(kind, text.len() as u64),
                        None => word = text,
                    }
                    at += text.len() + 1;
                }
                b':' => {
                    named = self.names.iter().find(|name| name.0.as_bytes() == word).map(|(_, kind)| *kind);
                }
                b',' => named = None,
                b'{' | b'[' => {
                    depth += 1;
                    named = None;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn scan(data: &[u8], names: &'static [texts::Name], api: Api) -> JsonScanner {
    let mut scanner = JsonScanner::new(names, false, api);
    scanner.push(data);
    scanner
}

impl Watch for Search {
    fn event(&mut self, event: &[u8]) -> Verdict {
        let texts = self.measure(event);
        let is_early = self.events < FIRST_EVENTS;
        self.events = self.events.saturating_add(u32::from(is_early));
        let has_usage = has_usage(event, &self.usage);
        // A text may have the word, too: an error has it as its name, or in quotes.
        let may_fail = self.error.find(event).is_some()
            && (sse::is_error(event) || memchr::memmem::find(event, b"\"error\"").is_some());
        // Events of Responses that have a whole response say what became of it, and its usage as null.
        let is_of_interest = has_usage || may_fail || is_early || texts.is_none();
        if let Some(texts) = texts {
            self.seen.facts.texts.merge(texts);
        }
        if !is_of_interest {
            return Verdict::Pass;
        }
        let has_failed = may_fail && Failure::of_event(event).is_some();
        self.seen.has_failed |= has_failed;
        let Some(data) = sse::data(event).filter(|data| is_object(data)) else { return Verdict::Pass };
        // A text that stands in no delta counts all the same.
        let names = if texts.is_none() { self.names } else { &[] };
        let facts = scan(&data, names, self.api).into_facts();
        let verdict = verdict(event, &facts, has_failed);
        self.seen.take(facts);
        verdict
    }

    fn piece(&mut self, piece: &[u8], ends: bool) {
        let (names, api) = (self.names, self.api);
        // Its first piece is as long as a whole event may be.
        self.seen.has_failed |= self.long.is_none() && sse::is_error(piece);
        let (lines, scanner) =
            self.long.get_or_insert_with(|| (DataLines::default(), JsonScanner::new(names, false, api)));
        lines.push(piece, |data| scanner.push(data));
        if ends && let Some((_, scanner)) = self.long.take() {
            self.seen.take(scanner.into_facts());
        }
    }

    fn passes(&self, beginning: &[u8]) -> bool {
        let Some(data) = sse::data(beginning) else { return false };
        if !is_object(&data) {
            return !data.trim_ascii().is_empty();
        }
        let scanner = scan(&data, &[], self.api);
        let has_failed = Failure::of_event(beginning).is_some();
        scanner.has_ended() && verdict(beginning, scanner.facts(), has_failed) == Verdict::Pass
    }
}

fn is_object(data: &[u8]) -> bool {
    data.trim_ascii_start().first() == Some(&b'{')
}

impl Seen {
    fn take(&mut self, facts: Facts) {
        let Facts { counts, is_unreadable, texts, .. } = facts;
        let seen = &mut self.facts;
        // A step's run says it again, with all its steps.
        if facts.object.as_deref() != Some("thread.run.step") {
            seen.counts.merge(counts);
        }
        seen.is_unreadable |= is_unreadable;
        seen.texts.merge(texts);
        seen.has_choice |= facts.has_choice;
        seen.model = seen.model.take().or(facts.model);
        // What is said later is what became of it.
        seen.service_tier = facts.service_tier.or(seen.service_tier.take());
        let is_whole =
            facts.has_response || facts.object.as_deref().is_some_and(|object| OBJECTS.contains(&object));
        // A stream has other things, too, that have ids and stages: items, steps, a run's thread.
        if is_whole {
            seen.id = facts.id.or(seen.id.take());
            seen.status = facts.status.or(seen.status.take());
            seen.object = facts.object.or(seen.object.take());
        }
    }
}

/// What the client sees of an event, if it did not ask for its usage.
fn verdict(event: &[u8], facts: &Facts, has_failed: bool) -> Verdict {
    match &facts.usage_text {
        None => Verdict::Pass,
        Some(_) if !facts.has_choice && !has_failed => Verdict::Hide,
        Some(usage) => without_usage(event, usage).map_or(Verdict::Pass, Verdict::Replace),
    }
}

/// The event without its `usage` member, whose value is this.
fn without_usage(event: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let value_at = memchr::memmem::rfind(event, value)?;
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
