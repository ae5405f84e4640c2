//! Where does one server-sent event end, when the network cuts anywhere?
//!
//! Passes a stream on chunk by chunk, shows every complete event once, and can leave one out. At most one partial event
//! is kept, up to [`EVENT_BYTES_MAX`]. Not decided here: what an event says.
//!
//! Framing follows the HTML standard: lines end with LF, CR LF or CR; an empty line ends an event.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

use memchr::memchr2;

/// The longest event that is looked at. A longer one (a base64 image) passes untouched, unread.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// What is to become of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed on as it came.
    Pass,
    /// The client does not see it.
    Hide,
    /// The client sees this in its place.
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
    /// Bytes of an unfinished event wait until its end has come.
    Edit,
}

/// A stream of events, cut anywhere.
#[derive(Debug)]
pub struct Stream {
    mode: Mode,
    framer: Framer,
    /// The bytes of the event that is not complete yet.
    partial: Vec<u8>,
    /// The current event is beyond the limit: its bytes pass, and it is not shown.
    oversize: bool,
    /// Events that were beyond the limit.
    unread: u32,
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
        Self { mode, framer: Framer::default(), partial: Vec::new(), oversize: false, unread: 0, lf: None }
    }

    /// How many events were too long to be looked at.
    #[must_use]
    pub fn unread(&self) -> u32 {
        self.unread
    }

    /// Takes the next chunk; `on_event` sees each event that is complete with it, its empty line included. At the end of
    /// the stream, what is left counts as an event.
    pub fn push(&mut self, chunk: &[u8], end: bool, mut on_event: impl FnMut(&[u8]) -> Verdict) -> Output {
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
            let lot =
                self.finish_event(piece, chunk.get(..start).unwrap_or_default(), &mut output, &mut on_event);
            self.lf = Some(lot).filter(|_| self.framer.after_cr);
            start = boundary;
        }
        let before = chunk.get(..start).unwrap_or_default();
        let tail = chunk.get(start..).unwrap_or_default();
        if end {
            if !(tail.is_empty() && self.partial.is_empty()) {
                self.finish_event(tail, before, &mut output, &mut on_event);
            }
        } else if !tail.is_empty() {
            self.keep(tail, before, &mut output);
        }
        output.finish()
    }

    fn finish_event(
        &mut self,
        piece: &[u8],
        before: &[u8],
        output: &mut Draft,
        on_event: &mut impl FnMut(&[u8]) -> Verdict,
    ) -> Lot {
        if std::mem::take(&mut self.oversize) {
            output.pass(piece);
            return Lot::Passed;
        }
        let verdict = if self.partial.is_empty() {
            on_event(piece)
        } else {
            self.partial.extend_from_slice(piece);
            on_event(&self.partial)
        };
        // What was kept goes out with a draft that began as a copy; otherwise the piece stands in the chunk.
        let event: &[u8] = if self.partial.is_empty() { piece } else { &self.partial };
        let lot = match verdict {
            Verdict::Pass => {
                output.pass(event);
                Lot::Passed
            }
            Verdict::Hide => {
                output.hold(before);
                Lot::Hidden
            }
            Verdict::Replace(event) => {
                output.hold(before);
                output.pass(&event);
                Lot::Passed
            }
        };
        self.partial.clear();
        lot
    }

    fn keep(&mut self, tail: &[u8], before: &[u8], output: &mut Draft) {
        if self.oversize {
            output.pass(tail);
        } else if self.partial.len().saturating_add(tail.len()) > EVENT_BYTES_MAX {
            self.oversize = true;
            self.unread = self.unread.saturating_add(1);
            output.pass(&self.partial);
            output.pass(tail);
            self.partial = Vec::new();
        } else {
            output.hold(before);
            self.partial.extend_from_slice(tail);
        }
    }
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

/// The payload of an event: its `data` lines. Borrowed where there is one, which is nearly always.
#[must_use]
pub fn data(event: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    use std::borrow::Cow;
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    let mut found: Option<Cow<'_, [u8]>> = None;
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let Some(value) = line.strip_prefix(b"data") else { continue };
        let value = match value.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if value.is_empty() => value,
            None => continue,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Runs chunks through a stream that hides events containing "HIDE"; answers the events and what went out.
    fn run(mode: Mode, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut stream = Stream::new(mode);
        let (mut events, mut out) = (Vec::new(), Vec::new());
        let mut on_event = |event: &[u8]| {
            events.push(event.to_vec());
            if memchr::memmem::find(event, b"HIDE").is_some() { Verdict::Hide } else { Verdict::Pass }
        };
        for chunk in chunks.iter().map(|chunk| (*chunk, false)).chain([(&b""[..], true)]) {
            match stream.push(chunk.0, chunk.1, &mut on_event) {
                Output::Same => out.extend_from_slice(chunk.0),
                Output::Replaced(bytes) => out.extend_from_slice(&bytes),
            }
        }
        (events, out)
    }

    #[track_caller]
    fn check(input: &str, events: &[&str], out: &str) {
        for cut in 0..=input.len() {
            let (head, tail) = input.as_bytes().split_at(cut);
            let (found, passed) = run(Mode::Edit, &[head, tail]);
            let found: Vec<_> = found.into_iter().map(|event| String::from_utf8(event).unwrap()).collect();
            // A cut between CR and LF leaves the LF to the next event, which it does not change.
            if !input.contains("\r\n\r\n") {
                assert_eq!(found, events, "cut at {cut}");
            }
            assert_eq!(String::from_utf8(passed).unwrap().replace('\r', ""), out, "cut at {cut}");
        }
    }

    #[test]
    fn events_end_at_an_empty_line_of_any_kind() {
        check("data: a\n\ndata: b\n\n", &["data: a\n\n", "data: b\n\n"], "data: a\n\ndata: b\n\n");
        check("data: a\r\n\r\ndata: b\r\n\r\n", &[], "data: a\n\ndata: b\n\n");
        check(": c\ndata: é\n\n\n", &[": c\ndata: é\n\n", "\n"], ": c\ndata: é\n\n\n");
        check("data: a\n\ndata: b", &["data: a\n\n", "data: b"], "data: a\n\ndata: b");
    }

    #[test]
    fn a_hidden_event_goes_and_nothing_else_does() {
        check(
            "data: a\n\ndata: HIDE\n\ndata: b\n\n",
            &["data: a\n\n", "data: HIDE\n\n", "data: b\n\n"],
            "data: a\n\ndata: b\n\n",
        );
        check("data: HIDE\n\n", &["data: HIDE\n\n"], "");
        check("data: HIDE", &["data: HIDE"], "");
    }

    #[test]
    fn whole_events_are_not_copied() {
        let mut stream = Stream::new(Mode::Edit);
        assert_eq!(stream.push(b"data: a\n\ndata: b\n\n", false, |_| Verdict::Pass), Output::Same);
        assert_eq!(stream.push(b"data: c", false, |_| Verdict::Pass), Output::Replaced(Vec::new()));
        assert_eq!(stream.push(b"\n\n", false, |_| Verdict::Pass), Output::Replaced(b"data: c\n\n".to_vec()));
    }

    #[test]
    fn an_event_beyond_the_limit_passes_unread() {
        let long = vec![b'x'; EVENT_BYTES_MAX];
        let chunks: [&[u8]; 4] = [b"data: ", &long, b"HIDE\n\ndata: a\n\n", b"data: HIDE\n\n"];
        let (events, out) = run(Mode::Edit, &chunks);
        assert_eq!(events, [&b"data: a\n\n"[..], b"data: HIDE\n\n"]);
        assert_eq!(out, [&b"data: "[..], &long, b"HIDE\n\ndata: a\n\n"].concat());
    }

    #[test]
    fn data_lines_are_joined() {
        let joined = |event: &'static str| {
            data(event.as_bytes()).map(|data| String::from_utf8(data.into_owned()).unwrap())
        };
        assert_eq!(joined("data: a\n\n").as_deref(), Some("a"));
        assert_eq!(joined("event: x\r\ndata:a\r\ndata:  b\r\n\r\n").as_deref(), Some("a\n b"));
        assert_eq!(joined("\u{feff}data: a\n\n").as_deref(), Some("a"));
        assert_eq!(joined("database: a\n\n"), None);
        assert_eq!(joined(": data: a\n\n"), None);
    }

    fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut places: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        places.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for place in places.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[from..place]);
            from = place;
        }
        chunks
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cuts_do_not_matter(lines in "(data: [aé]{0,3}|: c|HIDE|)(\n|\n\n|\r\n){1,2}", repeat in 1..6usize,
                              cuts in prop::collection::vec(any::<usize>(), 0..12)) {
            let input = lines.repeat(repeat);
            let whole = run(Mode::Edit, &[input.as_bytes()]);
            let pieces = run(Mode::Edit, &cut(input.as_bytes(), &cuts));
            prop_assert_eq!(pieces.1, whole.1);
            // Where CR and LF are cut apart the LF counts to the event after: compare the events without.
            let plain = |events: Vec<Vec<u8>>| {
                events.concat().into_iter().filter(|byte| *byte != b'\n').collect::<Vec<_>>()
            };
            prop_assert_eq!(plain(pieces.0), plain(whole.0));
        }

        #[test]
        fn a_watched_stream_is_never_changed(input in prop::collection::vec(any::<u8>(), 0..64),
                                             cuts in prop::collection::vec(any::<usize>(), 0..6)) {
            let (events, out) = run(Mode::Watch, &cut(&input, &cuts));
            prop_assert_eq!(&out, &input);
            // An LF that was cut from its CR is in no event.
            let plain = |bytes: Vec<u8>| bytes.into_iter().filter(|byte| *byte != b'\n').collect::<Vec<_>>();
            prop_assert_eq!(plain(events.concat()), plain(input));
        }
    }
}
