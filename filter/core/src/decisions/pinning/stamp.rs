//! Puts seals on the ids of an answer while it streams by.
//!
//! Nothing is held back but the beginning of a string that is an id, or may become one. Every other byte passes as it
//! came.

use super::{ID_BYTES_MAX, Pinning, SEALED_BYTES};
use crate::batch::Sum;
use crate::ids::{Kind, Lines, Mark, Piece, Scanner};
use crate::sse::Output;
use std::rc::Rc;

/// How many ids are remembered: every event of a stream names the same few.
const SEEN_MAX: usize = 4;

/// One answer, from its beginning.
#[derive(Debug)]
pub struct Stamp {
    pinning: Rc<Pinning>,
    client: Rc<str>,
    place: Rc<str>,
    scanner: Scanner,
    /// Where the JSON stands in events; `None` if the whole answer is one.
    lines: Option<Lines>,
    held: Option<Held>,
    seen: Vec<Seen>,
    /// What the file comes to that it is about.
    sum: Option<Sum>,
}

/// A string that has begun and is not decided on.
#[derive(Debug)]
struct Held {
    kind: Kind,
    text: Vec<u8>,
    /// So much of it came in earlier chunks, and has not gone out.
    earlier: usize,
}

/// An id, and what the client sees for it.
#[derive(Debug)]
struct Seen {
    text: Vec<u8>,
    sealed: String,
}

/// What goes out for a chunk. As long as it is the chunk itself, nothing is copied.
struct Draft<'c> {
    chunk: &'c [u8],
    out: Option<Vec<u8>>,
    /// So much of the chunk is in `out`; 0 as long as that is none.
    done: usize,
}

impl Draft<'_> {
    /// All up to `start` goes out as it came, then this in place of what follows up to `end`.
    fn replace(&mut self, start: usize, end: usize, by: &[u8]) {
        let out = self.out.get_or_insert_default();
        out.extend_from_slice(self.chunk.get(self.done..start).unwrap_or_default());
        out.extend_from_slice(by);
        self.done = end;
    }

    fn finish(mut self) -> Output {
        if self.out.is_some() {
            self.replace(self.chunk.len(), self.chunk.len(), &[]);
        }
        self.out.map_or(Output::Same, Output::Replaced)
    }
}

impl Stamp {
    /// For an answer of `place` to `client`, which is events or one JSON text.
    #[must_use]
    pub fn new(pinning: Rc<Pinning>, client: Rc<str>, place: Rc<str>, is_events: bool) -> Self {
        Self {
            pinning,
            client,
            place,
            scanner: Scanner::default(),
            lines: is_events.then(Lines::default),
            held: None,
            seen: Vec::new(),
            sum: None,
        }
    }

    /// For an answer about a file of which this is known: its id says so.
    #[must_use]
    pub fn with_sum(self, sum: Option<Sum>) -> Self {
        Self { sum, ..self }
    }

    /// Takes the next chunk and answers what the client gets for it.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Output {
        let mut draft = Draft { chunk, out: None, done: 0 };
        let mut at = 0;
        if self.lines.is_none() {
            self.text(chunk, &mut at, &mut draft);
        }
        while let Some(piece) = self.lines.as_mut().and_then(|lines| lines.next(chunk, &mut at)) {
            match piece {
                Piece::Data(line_end) => {
                    self.text(chunk.get(..line_end).unwrap_or_default(), &mut at, &mut draft);
                    at = line_end;
                }
                // A string does not go on in another line.
                Piece::LineEnds => self.let_go(at.saturating_sub(1), &mut draft),
                Piece::EventEnds => self.scanner.reset(),
            }
        }
        if end {
            self.let_go(chunk.len(), &mut draft);
        } else if let Some(held) = self.held.as_mut().filter(|held| held.earlier < held.text.len()) {
            let new = held.text.len().saturating_sub(held.earlier);
            held.earlier = held.text.len();
            draft.replace(chunk.len().saturating_sub(new), chunk.len(), &[]);
        }
        draft.finish()
    }

    /// Goes through JSON up to the end of `bytes`, which are the chunk's first.
    fn text(&mut self, bytes: &[u8], at: &mut usize, draft: &mut Draft<'_>) {
        loop {
            let start = *at;
            let mark = self.scanner.next(bytes, at);
            if let Some(held) = &mut self.held {
                let ended = usize::from(mark == Some(Mark::Ends));
                let inside = bytes.get(start..at.saturating_sub(ended)).unwrap_or_default();
                held.text.extend_from_slice(inside);
                self.decide(at.saturating_sub(ended), mark == Some(Mark::Ends), draft);
            }
            match mark {
                Some(Mark::Begins(Kind::Copied)) => {}
                Some(Mark::Begins(kind)) => self.held = Some(Held { kind, text: Vec::new(), earlier: 0 }),
                Some(Mark::Ends) => {}
                None => return,
            }
        }
    }

    /// Decides on the string that is held, if that can be done; `until` is where it ends by now.
    fn decide(&mut self, until: usize, has_ended: bool, draft: &mut Draft<'_>) {
        let Some(held) = &self.held else { return };
        let limit = match held.kind {
            Kind::Id | Kind::Copied => ID_BYTES_MAX + 1,
            Kind::Sealed => SEALED_BYTES,
        };
        if !has_ended && held.text.len() < limit {
            return;
        }
        let here = held.text.len().saturating_sub(held.earlier);
        if let Some(seen) = self.seen.iter().find(|seen| held.kind == Kind::Id && seen.text == held.text) {
            draft.replace(until.saturating_sub(here), until, seen.sealed.as_bytes());
            self.held = None;
            return;
        }
        let text = std::str::from_utf8(&held.text).ok();
        let sealed = text.and_then(|text| match &self.sum {
            Some(sum) if held.kind == Kind::Id => {
                self.pinning.seal_counted(&self.client, &self.place, text, sum)
            }
            _ => self.pinning.seal(held.kind, &self.client, &self.place, text),
        });
        let Some(sealed) = sealed else { return self.let_go(until, draft) };
        draft.replace(until.saturating_sub(here), until, sealed.as_bytes());
        if let Some(Held { kind: Kind::Id, text, .. }) = self.held.take() {
            self.seen.truncate(SEEN_MAX - 1);
            self.seen.insert(0, Seen { text, sealed });
        }
    }

    /// Lets a string pass as it is.
    fn let_go(&mut self, until: usize, draft: &mut Draft<'_>) {
        if let Some(held) = self.held.take()
            && held.earlier > 0
        {
            let here = held.text.len().saturating_sub(held.earlier);
            draft.replace(until.saturating_sub(here), until, &held.text);
        }
    }
}
