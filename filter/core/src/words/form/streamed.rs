//! What does a form say of which nobody holds the whole, however it is cut?
//!
//! The grammar is that of [`super::Form`], in memory that does not grow with the file: a file's bytes are handed on as they
//! come, less what may yet be a delimiter. Not decided here: what the parts mean.

use super::head::Head;
use super::{HEAD_BYTES_MAX, PARTS_MAX};
use crate::denial::Denial;
use memchr::memmem;

/// The longest field that is no file.
const FIELD_BYTES_MAX: usize = 4096;

const BREAK: &[u8] = b"\r\n";
const BLANK: &[u8] = b"\r\n\r\n";

/// A piece of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'p> {
    /// A field that is no file.
    Field {
        /// As it is written.
        name: &'p str,
        /// Its value.
        text: &'p str,
    },
    /// A file begins.
    FileBegins {
        /// The field that it is.
        name: &'p str,
    },
    /// More of it.
    File(&'p [u8]),
    /// It ends.
    FileEnds,
}

/// What takes a piece.
pub(super) type TakePiece<'t> = &'t mut dyn FnMut(Piece<'_>) -> Result<(), Denial>;

/// A form, from its beginning.
#[derive(Debug)]
pub struct Streamed {
    delimiter: Vec<u8>,
    /// What has come and is not used up.
    held: Vec<u8>,
    place: Place,
    parts: usize,
}

#[derive(Debug)]
enum Place {
    /// Its first delimiter comes.
    Begins,
    /// Behind a delimiter.
    Delimited,
    /// In a part's head.
    Head,
    /// In a field, with its head.
    Field(Vec<u8>),
    /// In a file, with its head, and so much has been handed on.
    File(Vec<u8>, usize),
    /// Behind its last delimiter.
    Ended,
}

/// What is found of the delimiter that ends a part.
enum Found {
    /// So much is the part's for sure.
    NotYet(usize),
    /// So much is, and after this it goes on.
    At(usize, usize),
}

impl Streamed {
    /// A form of which nothing has come.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("--{boundary}").into_bytes(),
            held: Vec::new(),
            place: Place::Begins,
            parts: 0,
        }
    }

    /// How much of it is held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes more of it. `end` says that this is the last.
    pub fn push(&mut self, chunk: &[u8], end: bool, take: TakePiece<'_>) -> Result<(), Denial> {
        self.held.extend_from_slice(chunk);
        while self.go_on(take)? {}
        let may_go_on = match (&self.place, end) {
            (Place::Ended, true) => matches!(&*self.held, b"" | BREAK),
            (Place::Ended, false) => BREAK.starts_with(&self.held),
            (_, end) => !end,
        };
        match may_go_on {
            true => Ok(()),
            false => Err(Denial::InvalidForm("it does not end with its boundary and `--`")),
        }
    }

    /// Whether its last delimiter has come.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.place, Place::Ended)
    }

    /// Goes one step on; whether there may be another.
    fn go_on(&mut self, take: TakePiece<'_>) -> Result<bool, Denial> {
        match std::mem::replace(&mut self.place, Place::Ended) {
            Place::Begins => {
                let begun = self.held.get(..self.delimiter.len()).unwrap_or(&self.held);
                if !self.delimiter.starts_with(begun) {
                    return Err(Denial::InvalidForm("it does not begin with its boundary"));
                }
                if begun.len() < self.delimiter.len() {
                    self.place = Place::Begins;
                    return Ok(false);
                }
                self.use_up(self.delimiter.len());
                self.place = Place::Delimited;
                Ok(true)
            }
            Place::Delimited => {
                let Some(two) = self.held.get(..BREAK.len()) else {
                    self.place = Place::Delimited;
                    return Ok(false);
                };
                self.place = match two {
                    BREAK if self.parts < PARTS_MAX => Place::Head,
                    BREAK => return Err(Denial::InvalidForm("it has more than 64 parts")),
                    b"--" if self.parts > 0 => Place::Ended,
                    b"--" => return Err(Denial::InvalidForm("it has no part")),
                    _ => {
                        return Err(Denial::InvalidForm(
                            "a boundary must stand alone on its line, and the last one end it",
                        ));
                    }
                };
                self.use_up(BREAK.len());
                self.parts += 1;
                Ok(true)
            }
            Place::Head => self.head(take),
            Place::Field(head) => match self.delimiter_after(0)? {
                Found::NotYet(_)
                    if self.held.len() > FIELD_BYTES_MAX + self.delimiter.len() + BREAK.len() =>
                {
                    Err(Denial::InvalidForm(FIELD_TOO_LONG))
                }
                Found::NotYet(_) => {
                    self.place = Place::Field(head);
                    Ok(false)
                }
                Found::At(length, _) if length > FIELD_BYTES_MAX => Err(Denial::InvalidForm(FIELD_TOO_LONG)),
                Found::At(length, next) => {
                    let content = self.held.get(..length).unwrap_or_default();
                    let Head { name, .. } = Head::read(&head, Some(content))?;
                    let text = std::str::from_utf8(content)
                        .map_err(|_| Denial::InvalidForm("a field that is no file is not UTF-8"))?;
                    take(Piece::Field { name, text })?;
                    self.use_up(next);
                    self.place = Place::Delimited;
                    Ok(true)
                }
            },
            Place::File(head, before) => {
                let found = self.delimiter_after(before)?;
                let (Found::NotYet(length) | Found::At(length, _)) = found;
                let content = self.held.get(..length).unwrap_or_default();
                if !content.is_empty() {
                    take(Piece::File(content))?;
                }
                let before = before.saturating_add(length);
                match found {
                    Found::NotYet(length) => {
                        self.use_up(length);
                        self.place = Place::File(head, before);
                        Ok(false)
                    }
                    Found::At(_, next) => {
                        Head::read(&head, None)?.check_length(before)?;
                        take(Piece::FileEnds)?;
                        self.use_up(next);
                        self.place = Place::Delimited;
                        Ok(true)
                    }
                }
            }
            Place::Ended => Ok(false),
        }
    }

    fn head(&mut self, take: TakePiece<'_>) -> Result<bool, Denial> {
        let within = self.held.get(..HEAD_BYTES_MAX).unwrap_or(&self.held);
        let Some(length) = memmem::find(within, BLANK) else {
            if self.held.len() >= HEAD_BYTES_MAX {
                return Err(Denial::InvalidForm("a part has no headers, or more than 4096 bytes of them"));
            }
            self.place = Place::Head;
            return Ok(false);
        };
        let head = self.held.get(..length).unwrap_or_default().to_vec();
        let Head { name, is_file, .. } = Head::read(&head, None)?;
        self.place = if is_file {
            take(Piece::FileBegins { name })?;
            Place::File(head, 0)
        } else {
            Place::Field(head)
        };
        self.use_up(length + BLANK.len());
        Ok(true)
    }

    /// Looks for the delimiter that ends the part whose content is held, of which so much came before.
    fn delimiter_after(&self, before: usize) -> Result<Found, Denial> {
        for at in memmem::find_iter(&self.held, &self.delimiter) {
            match self.held.get(..at).unwrap_or_default() {
                [content @ .., b'\r', b'\n'] => {
                    return Ok(Found::At(content.len(), at + self.delimiter.len()));
                }
                [] if before == 0 => {
                    return Err(Denial::InvalidForm(
                        "a part has no headers, or no line of its own for its boundary",
                    ));
                }
                [.., b'\r' | b'\n'] => return Err(Denial::InvalidForm("a boundary has no CRLF before it")),
                _ => {}
            }
        }
        // What may be the beginning of a delimiter stays, with the break before it.
        let tail = self.delimiter.len() + BREAK.len() - 1;
        Ok(Found::NotYet(self.held.len().saturating_sub(tail)))
    }

    fn use_up(&mut self, bytes: usize) {
        self.held.drain(..bytes.min(self.held.len()));
    }
}

const FIELD_TOO_LONG: &str = "a field of a form with a file has more than 4096 bytes";

#[cfg(test)]
mod tests;
