//! Where does one server-sent event end, when the network cuts anywhere?
//!
//! Passes a stream on chunk by chunk, shows every complete event once, and can leave one out. At most one partial event
//! is kept, up to [`EVENT_BYTES_MAX`]; a longer one is shown in pieces. What is bound to pass is not held back: comments,
//! and an event whose line says all that it can say. Not decided here: what an event says.
//!
//! Framing follows the HTML standard: lines end with LF, CR LF or CR; an empty line ends an event.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

use memchr::memchr2;

mod beginning;

pub use beginning::Beginning;

/// The longest event that is looked at as a whole, and may be left out. A longer one (a base64 image) passes piece by piece.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// What is to become of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed on as it came.
    Pass,
    /// The client does not see it, but for the comments in front of it.
    Hide,
    /// The client sees this in its place. It begins with the same comments.
    Replace(Vec<u8>),
}

/// What is to become of a chunk.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is passed on as it came.
    Same,
    /// These bytes take its place.
    Replaced(Vec<u8>),
}

/// Whether events can be left out of this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass at once; verdicts have no effect.
    Watch,
    /// Bytes of an unfinished event wait until its lot is known.
    Edit,
}

/// Who is shown the events of a stream.
pub trait Watch {
    /// Takes an event, its empty line included, and decides on it.
    fn event(&mut self, event: &[u8]) -> Verdict;

    /// Takes a piece of an event that is longer than [`EVENT_BYTES_MAX`]; `ends` with its last.
    fn piece(&mut self, piece: &[u8], ends: bool);

    /// Whether an event that so begins will pass, whatever follows. It is asked at the end of a line.
    fn passes(&self, beginning: &[u8]) -> bool;
}

/// A stream of events, cut anywhere.
#[derive(Debug)]
pub struct Stream {
    mode: Mode,
    framer: Framer,
    /// The bytes of the event that is not complete yet.
    partial: Vec<u8>,
    /// So many of them have been passed on.
    released: usize,
    /// All of the current event passes, as it comes.
    passes: bool,
    /// The current event is beyond the limit: it is shown in pieces.
    is_long: bool,
    /// The last chunk ended with the CR of an event's end: an LF that comes now belongs to that event, and shares its lot.
    lf: Option<Lot>,
}

/// What became of the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lot {
    Passed,
    Hidden,
}

impl Stream {
    /// A stream from its beginning.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            framer: Framer::default(),
            partial: Vec::new(),
            released: 0,
            passes: false,
            is_long: false,
            lf: None,
        }
    }

    /// Takes the next chunk; `watch` sees each event that is complete with it. At the end of the stream, what is left
    /// counts as an event.
    pub fn push(&mut self, chunk: &[u8], end: bool, watch: &mut impl Watch) -> Output {
        let lf = chunk.first().and_then(|first| self.lf.take().filter(|_| *first == b'\n'));
        let mut output = Draft::new(self.mode, lf == Some(Lot::Hidden) || !self.partial.is_empty());
        let mut start = 0;
        if lf.is_some() {
            start = 1;
            self.framer.after_cr = false;
        }
        let mut cursor = start;
        while let Some(boundary) = self.framer.next(chunk, &mut cursor) {
            let piece = chunk.get(start..boundary).unwrap_or_default();
            let lot = self.finish_event(piece, chunk.get(..start).unwrap_or_default(), &mut output, watch);
            self.lf = Some(lot).filter(|_| self.framer.after_cr && boundary == chunk.len());
            start = boundary;
        }
        let before = chunk.get(..start).unwrap_or_default();
        let tail = chunk.get(start..).unwrap_or_default();
        if end {
            if self.is_long || !(tail.is_empty() && self.partial.is_empty()) {
                self.finish_event(tail, before, &mut output, watch);
            }
        } else if !tail.is_empty() {
            self.keep(tail, before, &mut output, watch);
        }
        output.finish()
    }

    fn finish_event(
        &mut self,
        piece: &[u8],
        before: &[u8],
        output: &mut Draft,
        watch: &mut impl Watch,
    ) -> Lot {
        if self.is_long || self.partial.len().saturating_add(piece.len()) > EVENT_BYTES_MAX {
            self.show_long(piece, true, output, watch);
            self.released = 0;
            (self.is_long, self.passes) = (false, false);
            return Lot::Passed;
        }
        let is_whole = self.partial.is_empty();
        let verdict = if is_whole {
            watch.event(piece)
        } else {
            self.partial.extend_from_slice(piece);
            watch.event(&self.partial)
        };
        // What was kept goes out with a draft that began as a copy; otherwise the piece stands in the chunk.
        let event: &[u8] = if is_whole { piece } else { &self.partial };
        let released = std::mem::take(&mut self.released);
        let rest = |bytes: &[u8]| bytes.get(released..).unwrap_or_default().to_vec();
        let lot = match verdict {
            _ if std::mem::take(&mut self.passes) => {
                output.pass(event.get(released..).unwrap_or_default());
                Lot::Passed
            }
            Verdict::Pass => {
                output.pass(event.get(released..).unwrap_or_default());
                Lot::Passed
            }
            Verdict::Hide => {
                output.hold(before);
                output.pass(event.get(released..comments(event)).unwrap_or_default());
                Lot::Hidden
            }
            Verdict::Replace(event) => {
                output.hold(before);
                output.pass(&rest(&event));
                Lot::Passed
            }
        };
        self.partial.clear();
        lot
    }

    /// Shows a piece of a long event, and what was kept of it, and passes it on.
    fn show_long(&mut self, piece: &[u8], ends: bool, output: &mut Draft, watch: &mut impl Watch) {
        let kept = std::mem::take(&mut self.partial);
        if !kept.is_empty() {
            watch.piece(&kept, false);
            output.pass(kept.get(self.released..).unwrap_or_default());
        }
        watch.piece(piece, ends);
        output.pass(piece);
    }

    fn keep(&mut self, tail: &[u8], before: &[u8], output: &mut Draft, watch: &mut impl Watch) {
        if self.is_long || self.partial.len().saturating_add(tail.len()) > EVENT_BYTES_MAX {
            self.show_long(tail, false, output, watch);
            self.is_long = true;
            return;
        }
        self.partial.extend_from_slice(tail);
        if self.mode == Mode::Watch {
            return;
        }
        self.passes =
            self.passes || matches!(self.partial.last(), Some(b'\n' | b'\r')) && watch.passes(&self.partial);
        let free = if self.passes { self.partial.len() } else { comments(&self.partial) };
        // If all of the tail goes, the chunk may still be passed on as it is.
        if free < self.partial.len() {
            output.hold(before);
        }
        output.pass(self.partial.get(self.released..free).unwrap_or_default());
        self.released = self.released.max(free);
    }
}

/// The length of the comments that an event begins with, the last perhaps not complete. They are no part of what it says.
fn comments(event: &[u8]) -> usize {
    let mut at = 0;
    while event.get(at) == Some(&b':') {
        let line = event.get(at..).unwrap_or_default();
        let Some(end) = memchr2(b'\n', b'\r', line) else { return event.len() };
        at += end + 1;
        if line.get(end) == Some(&b'\r') && line.get(end + 1) == Some(&b'\n') {
            at += 1;
        }
    }
    at
}

/// What goes out for a chunk: nothing is copied as long as it is the chunk itself.
struct Draft {
    mode: Mode,
    replaced: Option<Vec<u8>>,
}

impl Draft {
    fn new(mode: Mode, differs_from_the_start: bool) -> Self {
        let replaced = (mode == Mode::Edit && differs_from_the_start).then(Vec::new);
        Self { mode, replaced }
    }

    fn pass(&mut self, bytes: &[u8]) {
        if let Some(replaced) = &mut self.replaced {
            replaced.extend_from_slice(bytes);
        }
    }

    /// Bytes of the chunk do not go out now: from here on it is a copy, beginning with what did go out `before`.
    fn hold(&mut self, before: &[u8]) {
        if self.mode == Mode::Edit && self.replaced.is_none() {
            self.replaced = Some(before.to_vec());
        }
    }

    fn finish(self) -> Output {
        self.replaced.map_or(Output::Same, Output::Replaced)
    }
}

/// Finds the ends of events.
#[derive(Debug)]
struct Framer {
    /// Nothing but a line end came since the last line end.
    line_is_empty: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
}

impl Default for Framer {
    fn default() -> Self {
        Self { line_is_empty: true, after_cr: false }
    }
}

impl Framer {
    /// The next event end in `chunk`, from `cursor` on, as the place just behind it.
    fn next(&mut self, chunk: &[u8], cursor: &mut usize) -> Option<usize> {
        loop {
            let rest = chunk.get(*cursor..).unwrap_or_default();
            let Some(at) = memchr2(b'\n', b'\r', rest) else {
                if !rest.is_empty() {
                    self.line_is_empty = false;
                    self.after_cr = false;
                }
                *cursor = chunk.len();
                return None;
            };
            let byte = rest.get(at).copied().unwrap_or_default();
            *cursor += at + 1;
            if at > 0 {
                self.line_is_empty = false;
                self.after_cr = false;
            }
            if byte == b'\n' && std::mem::take(&mut self.after_cr) {
                continue;
            }
            self.after_cr = byte == b'\r';
            if !self.line_is_empty {
                self.line_is_empty = true;
                continue;
            }
            if self.after_cr && chunk.get(*cursor) == Some(&b'\n') {
                *cursor += 1;
                self.after_cr = false;
            }
            return Some(*cursor);
        }
    }
}

/// What a field of an event says, line by line.
fn values<'a>(event: &'a [u8], field: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    event.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(move |line| {
        let value = line.strip_prefix(field)?;
        match value.strip_prefix(b":") {
            Some(value) => Some(value.strip_prefix(b" ").unwrap_or(value)),
            None => Some(value).filter(|value| value.is_empty()),
        }
    })
}

/// Whether an event is named `error`. What it then has is an error, whatever it looks like.
#[must_use]
pub fn is_error(event: &[u8]) -> bool {
    values(event, b"event").last() == Some(b"error")
}

/// The payload of an event: its `data` lines. Borrowed where there is one, which is nearly always.
#[must_use]
pub fn data(event: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    use std::borrow::Cow;
    let mut found: Option<Cow<'_, [u8]>> = None;
    for value in values(event, b"data") {
        found = Some(match found {
            None => Cow::Borrowed(value),
            Some(earlier) => {
                let mut joined = earlier.into_owned();
                joined.push(b'\n');
                joined.extend_from_slice(value);
                Cow::Owned(joined)
            }
        });
    }
    found
}

/// Finds the payload of an event that comes in pieces: the same as [`data`] of the whole.
#[derive(Debug, Default)]
pub struct DataLines {
    line: Line,
    /// There was a data line before.
    is_further: bool,
}

/// What a line is, as far as it is known.
#[derive(Debug, Default)]
enum Line {
    /// So many bytes of `data:` have come.
    #[default]
    Begins,
    Named(usize),
    /// The byte behind the colon comes next: one space there is no part of the payload.
    Colon,
    Payload,
    Other,
}

impl DataLines {
    /// Takes a piece; `found` gets what it has of the payload.
    pub fn push(&mut self, piece: &[u8], mut found: impl FnMut(&[u8])) {
        const NAME: &[u8] = b"data:";
        let mut rest = piece;
        while let Some((byte, behind)) = rest.split_first() {
            match self.line {
                Line::Payload | Line::Other => {
                    let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    let (line, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                    if matches!(self.line, Line::Payload) {
                        found(line);
                    }
                    if !behind.is_empty() {
                        self.line = Line::Begins;
                    }
                    rest = behind.get(1..).unwrap_or_default();
                    continue;
                }
                Line::Colon => {
                    self.line = Line::Payload;
                    if std::mem::replace(&mut self.is_further, true) {
                        found(b"\n");
                    }
                    rest = if *byte == b' ' { behind } else { rest };
                    continue;
                }
                Line::Begins | Line::Named(_) if matches!(byte, b'\n' | b'\r') => self.line = Line::Begins,
                // A byte order mark may stand in front of a stream's first line.
                Line::Begins if matches!(byte, 0xef | 0xbb | 0xbf) => {}
                Line::Begins => self.line = if *byte == b'd' { Line::Named(1) } else { Line::Other },
                Line::Named(length) if NAME.get(length) == Some(byte) => {
                    self.line = if length + 1 == NAME.len() { Line::Colon } else { Line::Named(length + 1) };
                }
                Line::Named(_) => self.line = Line::Other,
            }
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests;
