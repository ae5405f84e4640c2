//! Where in a JSON text do the ids stand of what a backend keeps, however the text is cut?
//!
//! One pass over the bytes, in constant memory: a string is such an id if it stands under one of the names that OpenAI's
//! API has for them ([`meaning`]). What a user puts into `metadata`, schemas and the like is left alone, whatever it is
//! called there. Events are searched in their `data` lines. Not decided here: what an id says.

use memchr::memchr2;

/// What a string under a governed name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An id of something that is kept.
    Id,
    /// What only the backend can read that wrote it: reasoning that the client keeps for it.
    Sealed,
    /// A name that a client may have made of an id that it was told. It is opened if it has a seal, and never sealed:
    /// models make up such names, and a tool's answer may go to any backend.
    Copied,
}

/// What a member's name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A string of this kind, or a list of them.
    Governed(Kind),
    /// The user's own: nothing in it is ours.
    Foreign,
    /// Anything.
    Plain,
}

/// What the name of a form's field says: the innermost word in its brackets that is no number. `None` if it is the user's
/// own.
#[must_use]
pub fn word_of_field(name: &str) -> Option<&str> {
    let is_index = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let mut innermost = "";
    for word in name.split(['[', ']']).filter(|word| !is_index(word)) {
        if meaning(word.as_bytes()) == Meaning::Foreign {
            return None;
        }
        innermost = word;
    }
    Some(innermost)
}

/// The longest name that is compared, with escapes for all its letters.
const WORD_BYTES_MAX: usize = 160;

/// The names of the API. Case does not matter: some servers read names so.
fn meaning(name: &[u8]) -> Meaning {
    let mut lower = [0; 24];
    let Some(word) = lower.get_mut(..name.len()) else { return Meaning::Plain };
    word.copy_from_slice(name);
    word.make_ascii_lowercase();
    match &*word {
        b"id"
        | b"approval_request_id"
        | b"assistant_id"
        | b"batch_id"
        | b"container"
        | b"container_id"
        | b"conversation"
        | b"conversation_id"
        | b"error_file_id"
        | b"eval_id"
        | b"file_id"
        | b"file_ids"
        | b"fine_tuning_job_id"
        | b"first_id"
        | b"input_file_id"
        | b"item_id"
        | b"last_id"
        | b"message_id"
        | b"output_file_id"
        | b"part_ids"
        | b"previous_item_id"
        | b"previous_response_id"
        | b"remixed_from_video_id"
        | b"response_id"
        | b"result_files"
        | b"run_id"
        | b"skill_id"
        | b"step_id"
        | b"thread_id"
        | b"training_file"
        | b"upload_id"
        | b"validation_file"
        | b"vector_store_id"
        | b"vector_store_ids"
        | b"video_id" => Meaning::Governed(Kind::Id),
        b"call_id" | b"tool_call_id" => Meaning::Governed(Kind::Copied),
        b"encrypted_content" => Meaning::Governed(Kind::Sealed),
        b"attributes" | b"input_schema" | b"metadata" | b"parameters" | b"schema" => Meaning::Foreign,
        _ => Meaning::Plain,
    }
}

/// What a scanner comes upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A string of this kind begins: what follows is in it.
    Begins(Kind),
    /// It has ended, with the quote that was passed last.
    Ends,
}

/// What kind of a string comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A name, or an element of a list that is not ours.
    Word,
    /// The value of a name.
    Value(Meaning),
    /// An element of a list that is ours.
    Element(Kind),
}

/// Where the scanner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Between,
    /// In a string that may be a name.
    Word,
    /// In a string that says nothing here.
    Text,
    /// In a string that is ours.
    Governed,
}

/// Goes through one JSON text. One that is none is gone through all the same, to no purpose and no harm.
#[derive(Debug)]
pub struct Scanner {
    place: Place,
    next: Next,
    /// The byte before was a backslash that escapes this one.
    is_escaped: bool,
    /// The last string, as it stands in the text, if it may be a name.
    word: Vec<u8>,
    /// How deep in something of the user's own; 0 is outside.
    foreign: u32,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { place: Place::Between, next: Next::Word, is_escaped: false, word: Vec::new(), foreign: 0 }
    }
}

impl Scanner {
    /// Begins anew.
    pub fn reset(&mut self) {
        let word = std::mem::take(&mut self.word);
        *self = Self { word, ..Self::default() };
        self.word.clear();
    }

    /// Goes on from `at` to the next mark in these bytes, or to their end.
    pub fn next(&mut self, bytes: &[u8], at: &mut usize) -> Option<Mark> {
        while let Some(byte) = bytes.get(*at) {
            if self.place == Place::Between {
                *at += 1;
                if let Some(kind) = self.between(*byte) {
                    return Some(Mark::Begins(kind));
                }
                continue;
            }
            if !self.string(bytes, at) {
                return None;
            }
            *at += 1;
            if std::mem::replace(&mut self.place, Place::Between) == Place::Governed {
                return Some(Mark::Ends);
            }
        }
        None
    }

    /// Passes a string's bytes; whether its closing quote is what comes next.
    fn string(&mut self, bytes: &[u8], at: &mut usize) -> bool {
        loop {
            let rest = bytes.get(*at..).unwrap_or_default();
            if self.is_escaped && !rest.is_empty() {
                self.is_escaped = false;
                self.gather(rest.get(..1).unwrap_or_default());
                *at += 1;
                continue;
            }
            let length = memchr2(b'"', b'\\', rest);
            self.gather(rest.get(..length.unwrap_or(rest.len())).unwrap_or_default());
            *at += length.unwrap_or(rest.len());
            match length.and_then(|length| rest.get(length)) {
                Some(b'"') => return true,
                Some(_) => {
                    self.gather(b"\\");
                    self.is_escaped = true;
                    *at += 1;
                }
                None => return false,
            }
        }
    }

    fn gather(&mut self, bytes: &[u8]) {
        // One byte more than is compared: a longer one is no name of ours.
        let room = (WORD_BYTES_MAX + 1).saturating_sub(self.word.len());
        if self.place == Place::Word {
            self.word.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    /// Takes a byte outside of strings; answers what kind of a string begins with it, if it is ours.
    fn between(&mut self, byte: u8) -> Option<Kind> {
        match byte {
            b'"' => return self.open(),
            b':' => {
                let meaning = if self.foreign > 0 { Meaning::Plain } else { self.named() };
                self.next = Next::Value(meaning);
            }
            b'{' | b'[' => {
                self.foreign = match self.next {
                    Next::Value(Meaning::Foreign) => 1,
                    _ if self.foreign > 0 => self.foreign.saturating_add(1),
                    _ => 0,
                };
                self.next = match self.next {
                    Next::Value(Meaning::Governed(kind)) if byte == b'[' => Next::Element(kind),
                    _ => Next::Word,
                };
            }
            b'}' | b']' => {
                self.foreign = self.foreign.saturating_sub(1);
                self.next = Next::Word;
            }
            b',' if !matches!(self.next, Next::Element(_)) => self.next = Next::Word,
            _ => {}
        }
        None
    }

    fn open(&mut self) -> Option<Kind> {
        let governed = match self.next {
            Next::Value(Meaning::Governed(kind)) | Next::Element(kind) => Some(kind),
            Next::Value(_) | Next::Word => None,
        };
        self.place = match self.next {
            _ if governed.is_some() => Place::Governed,
            Next::Word if self.foreign == 0 => Place::Word,
            _ => Place::Text,
        };
        self.word.clear();
        governed
    }

    /// What the last string means as a name.
    fn named(&self) -> Meaning {
        if self.word.len() > WORD_BYTES_MAX {
            return Meaning::Plain;
        }
        if !self.word.contains(&b'\\') {
            return meaning(&self.word);
        }
        plain(&self.word).map_or(Meaning::Plain, |word| meaning(word.as_bytes()))
    }
}

/// What a string says whose inside stands so in a JSON text.
#[must_use]
pub fn plain(inside: &[u8]) -> Option<String> {
    serde_json::from_slice(&[b"\"", inside, b"\""].concat()).ok()
}

/// Finds the data of events, cut anywhere.
///
/// <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>
#[derive(Debug, Default)]
pub struct Lines {
    line: Line,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So much of its beginning is that of a `data` line's.
    Begins(usize),
    Data,
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Begins(0)
    }
}

/// A piece of a chunk of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Up to here it is data.
    Data(usize),
    /// A line of data has ended with the byte before.
    LineEnds,
    /// An event has ended.
    EventEnds,
}

const DATA: &[u8] = b"data:";

impl Lines {
    /// Goes on from `at` to what is next to be looked at. Of data, `at` is left at its beginning.
    pub fn next(&mut self, chunk: &[u8], at: &mut usize) -> Option<Piece> {
        while let Some(byte) = chunk.get(*at) {
            if self.line == Line::Data && !matches!(byte, b'\n' | b'\r') {
                let rest = chunk.get(*at..).unwrap_or_default();
                let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                return Some(Piece::Data(*at + length));
            }
            *at += 1;
            let is_lf_of_crlf = std::mem::take(&mut self.after_cr) && *byte == b'\n';
            match byte {
                b'\n' if is_lf_of_crlf => {}
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    match std::mem::take(&mut self.line) {
                        Line::Begins(0) => return Some(Piece::EventEnds),
                        Line::Data => return Some(Piece::LineEnds),
                        Line::Begins(_) | Line::Other => {}
                    }
                }
                _ => {
                    self.line = match self.line {
                        Line::Begins(at) if DATA.get(at) == Some(byte) && at + 1 == DATA.len() => Line::Data,
                        Line::Begins(at) if DATA.get(at) == Some(byte) => Line::Begins(at + 1),
                        _ => Line::Other,
                    };
                }
            }
        }
        None
    }
}
