//! At which backend is what a request refers to, and what does a client call it?
//!
//! What a backend keeps (responses, conversations, files, threads, batches) is only there. So the id that a client sees
//! carries the backend, and is made the backend's own again on its way back: any Envoy with the same secret can do that,
//! and none has to remember anything. An id reads `resp_tg_SEALabc…`: its prefix, a mark, twenty characters, its rest.
//!
//! The seal is a keyed hash over the id, the backend and whose it is, and the backend's number hidden by another hash of
//! that: nobody without the secret can make one, change one, or see whether two ids are of one backend. The same id has
//! the same seal always, so clients may compare ids. What is not hidden is the backend's own id.
//!
//! Not decided here: whether the client may be served there.

mod counted;
mod quoted;
mod stamp;

pub use quoted::{Quoted, Spoken};
pub use stamp::Stamp;

use crate::denial::Denial;
use crate::endpoint::is_path_segment;
use crate::ids::{self, Kind, Mark, Scanner};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use memchr::memmem;
use sha2::Sha256;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// The longest id that is sealed.
pub const ID_BYTES_MAX: usize = 256;

/// So much of what only the backend can read is under the seal: it begins with a time and a random number, and the
/// backend itself notices a change of the rest.
const SEALED_BYTES: usize = 64;

/// What tells a sealed id from others.
const MARK: &str = "tg_";

/// The hash is cut to this: who guesses is right once in 2^80 requests.
const TAG_BYTES: usize = 10;

/// A backend's number.
const CODE_BYTES: usize = 5;

const SEAL_BYTES: usize = TAG_BYTES + CODE_BYTES;

/// The same in base64, which is 20 with nothing left over.
const SEAL_CHARS: usize = SEAL_BYTES * 4 / 3;

/// Prefixes of ids that no backend keeps by themselves: a tool call's are the conversation's, stored prompts are made
/// elsewhere, and a chat's answer is not looked at.
const NOT_KEPT: [&str; 4] = ["call_", "chatcmpl-", "cmpl-", "pmpt_"];

/// Prefixes of ids that were surely made by a backend.
const KEPT: [&str; 17] = [
    "asst_",
    "assistant-",
    "batch_",
    "cfile_",
    "cntr_",
    "conv_",
    "fc_",
    "file-",
    "ftjob-",
    "msg_",
    "resp_",
    "rs_",
    "run_",
    "thread_",
    "upload_",
    "vs_",
    "vsfb_",
];

/// Whose the ids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundTo {
    /// Of the client that was told them: another one cannot use them.
    Client,
    /// Of whoever knows them.
    Anyone,
}

/// What becomes of a request with an id that no seal is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// It goes where it would go without.
    Pass,
    /// It is refused.
    Refuse,
}

/// A secret that seals.
pub struct Key {
    tag: Hmac<Sha256>,
    mask: Hmac<Sha256>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// From an operator's secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let derived = |purpose: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
            mac.update(purpose);
            Hmac::<Sha256>::new_from_slice(&mac.finalize().into_bytes()).ok()
        };
        Some(Self { tag: derived(b"tollgate id tag 1")?, mask: derived(b"tollgate id mask 1")? })
    }

    fn tag(&self, kind: Kind, owner: &str, place: &str, text: &[u8]) -> Hmac<Sha256> {
        self.tag_as(if kind == Kind::Id { b"i\0" } else { b"s\0" }, owner, place, text)
    }

    fn tag_as(&self, word: &[u8], owner: &str, place: &str, text: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.tag.clone();
        // Names have no zero byte, so nothing can move from one part into the next.
        mac.update(word);
        mac.update(owner.as_bytes());
        mac.update(b"\0");
        mac.update(place.as_bytes());
        mac.update(b"\0");
        mac.update(text);
        mac
    }

    /// Hides a code, or shows it again.
    fn masked(&self, tag: &[u8], code: Code) -> Code {
        let mut mac = self.mask.clone();
        mac.update(tag);
        let mask = mac.finalize().into_bytes();
        let mut masked = code;
        for (byte, mask) in masked.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        masked
    }
}

type Code = [u8; CODE_BYTES];

/// A backend's number as it stands in a seal.
fn code_of(number: u64) -> Code {
    let [a, b, c, d, e, ..] = number.to_le_bytes();
    [a, b, c, d, e]
}

/// Which ids are of which backend.
#[derive(Debug)]
pub struct Pinning {
    keys: Vec<Key>,
    codes: HashMap<Rc<str>, Code>,
    places: HashMap<Code, Rc<str>>,
    bound_to: BoundTo,
    unsealed: Unsealed,
}

/// What an id is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Opened {
    /// Nobody sealed it.
    Plain,
    /// There is a seal, and it is not good.
    Broken,
    /// It is of this backend, which knows it by the rest: this.
    Of(Rc<str>, String),
}

impl Pinning {
    /// Ids that the first key seals, and all of them open. `backends` are names with numbers that are the same in every
    /// Envoy; the other way, two names that have one number.
    pub fn new(
        keys: Vec<Key>,
        backends: impl Iterator<Item = (Rc<str>, u64)>,
        bound_to: BoundTo,
        unsealed: Unsealed,
    ) -> Result<Self, (Rc<str>, Rc<str>)> {
        let (mut codes, mut places) = (HashMap::new(), HashMap::new());
        for (name, number) in backends {
            let code = code_of(number);
            if let Some(other) = places.insert(code, name.clone()) {
                return Err((other, name));
            }
            codes.insert(name, code);
        }
        Ok(Self { keys, codes, places, bound_to, unsealed })
    }

    fn owner<'c>(&self, client: &'c str) -> &'c str {
        match self.bound_to {
            BoundTo::Client => client,
            BoundTo::Anyone => "",
        }
    }

    /// What the client is to see for a backend's id; `None` if that is the id itself.
    fn seal(&self, kind: Kind, client: &str, place: &str, text: &str) -> Option<String> {
        let (prefix, rest) = text.split_at_checked(prefix_len(kind, text))?;
        let is_plain = match kind {
            Kind::Id => text.len() <= ID_BYTES_MAX && is_path_segment(text) && !NOT_KEPT.contains(&prefix),
            Kind::Copied => false,
            // Whoever writes it again may escape it differently.
            Kind::Sealed => !text.is_empty() && !text.contains('\\'),
        };
        if !is_plain {
            return None;
        }
        let (key, code) = (self.keys.first()?, *self.codes.get(place)?);
        let tag = key.tag(kind, self.owner(client), place, under_seal(kind, text)).finalize().into_bytes();
        let tag = tag.get(..TAG_BYTES)?;
        let seal = URL_SAFE_NO_PAD.encode([tag, &key.masked(tag, code)].concat());
        Some([prefix, MARK, &seal, rest].concat())
    }

    fn open(&self, kind: Kind, client: &str, text: &str) -> Opened {
        let at = prefix_len(kind, text);
        let Some((prefix, rest)) = text.split_at_checked(at) else { return Opened::Plain };
        if let Some(sealed) = rest.strip_prefix(counted::MARK).filter(|_| kind == Kind::Id) {
            return self.of_counted(client, prefix, sealed).map_or(Opened::Broken, |(opened, _)| opened);
        }
        let Some(sealed) = rest.strip_prefix(MARK) else { return Opened::Plain };
        self.of(kind, client, prefix, sealed).unwrap_or(Opened::Broken)
    }

    fn of(&self, kind: Kind, client: &str, prefix: &str, sealed: &str) -> Option<Opened> {
        let (seal, rest) = sealed.split_at_checked(SEAL_CHARS)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok()?;
        let (tag, masked) = seal.split_at_checked(TAG_BYTES)?;
        let masked: Code = masked.try_into().ok()?;
        let text = [prefix, rest].concat();
        self.keys.iter().find_map(|key| {
            let place = self.places.get(&key.masked(tag, masked))?;
            let mac = key.tag(kind, self.owner(client), place, under_seal(kind, &text));
            mac.verify_truncated_left(tag).ok()?;
            Some(Opened::Of(place.clone(), text.clone()))
        })
    }

    /// Begins to read a client's request.
    #[must_use]
    pub fn reading<'p>(&'p self, client: &'p str) -> Reading<'p> {
        Reading {
            pinning: self,
            client,
            unsealed: self.unsealed,
            place: None,
            is_foreign: false,
            spoken: Vec::new(),
        }
    }

    /// Whether a text may have a sealed id.
    #[must_use]
    pub fn may_have_sealed(text: &str) -> bool {
        [MARK, counted::MARK].iter().any(|mark| memmem::find(text.as_bytes(), mark.as_bytes()).is_some())
    }

    /// Whether an id has a seal, good or not: then it leads to a backend, or to a refusal.
    #[must_use]
    pub fn is_sealed(id: &str) -> bool {
        id.get(prefix_len(Kind::Id, id)..).is_some_and(begins_with_mark)
    }
}

fn begins_with_mark(text: &str) -> bool {
    text.starts_with(MARK) || text.starts_with(counted::MARK)
}

/// How much of an id stays in front of the seal, for clients look at it: `resp_`, `file-`, or nothing.
fn prefix_len(kind: Kind, text: &str) -> usize {
    const PREFIX_MAX: usize = 16;
    // What is sealed without a prefix begins with the mark, and must not be taken for one that has it for a prefix.
    if kind == Kind::Sealed || begins_with_mark(text) {
        return 0;
    }
    let letters = text.bytes().take_while(u8::is_ascii_lowercase).count();
    let is_prefix =
        (1..=PREFIX_MAX).contains(&letters) && matches!(text.as_bytes().get(letters), Some(b'_' | b'-'));
    if is_prefix { letters + 1 } else { 0 }
}

fn under_seal(kind: Kind, text: &str) -> &[u8] {
    let whole = text.as_bytes();
    match kind {
        Kind::Id | Kind::Copied => whole,
        Kind::Sealed => whole.get(..SEALED_BYTES).unwrap_or(whole),
    }
}

/// The ids of one request, as far as they have been read.
#[derive(Debug)]
pub struct Reading<'p> {
    pinning: &'p Pinning,
    client: &'p str,
    unsealed: Unsealed,
    place: Option<Rc<str>>,
    is_foreign: bool,
    spoken: Vec<Spoken>,
}

/// A part of a body, and what stands there for the backend.
pub type Restored = (Range<usize>, String);

impl Reading<'_> {
    /// The same of a request for which no id needs a seal.
    #[must_use]
    pub fn of_sealed_only(self) -> Self {
        Self { unsealed: Unsealed::Pass, ..self }
    }

    /// The only backend that has what the request refers to; `None` if it refers to nothing.
    #[must_use]
    pub fn place(&self) -> Option<Rc<str>> {
        self.place.clone()
    }

    /// Whether it has an id that some backend made and nobody sealed.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Its first ids, as the client and the backend call them.
    #[must_use]
    pub fn spoken(self) -> Vec<Spoken> {
        self.spoken
    }

    fn note(&mut self, kind: Kind, sealed: &str, plain: &str) {
        let is_new = || self.spoken.iter().all(|spoken| spoken.plain != plain);
        if kind == Kind::Id && self.spoken.len() < quoted::SPOKEN_MAX && is_new() {
            self.spoken.push(Spoken { plain: plain.to_owned(), sealed: sealed.to_owned() });
        }
    }

    /// What the backend calls it; `None` if that is what stands there.
    fn restore(&mut self, kind: Kind, text: &str) -> Result<Option<String>, Denial> {
        match self.pinning.open(kind, self.client, text) {
            Opened::Of(place, plain) => match &self.place {
                Some(other) if *other != place => Err(Denial::MixedIds),
                _ => {
                    self.place = Some(place);
                    self.note(kind, text, &plain);
                    Ok(Some(plain))
                }
            },
            Opened::Broken => Err(Denial::unknown_id(text)),
            Opened::Plain => {
                let is_kept = kind == Kind::Sealed || KEPT.iter().any(|prefix| text.starts_with(prefix));
                self.is_foreign |= is_kept;
                match self.unsealed {
                    Unsealed::Refuse if is_kept => Err(Denial::unknown_id(text)),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Reads a body; answers what is to be restored in it.
    pub fn body(&mut self, body: &str) -> Result<Vec<Restored>, Denial> {
        let (mut scanner, mut at) = (Scanner::default(), 0);
        let (mut begun, mut found) = (None, Vec::new());
        while let Some(mark) = scanner.next(body.as_bytes(), &mut at) {
            match (mark, begun.take()) {
                (Mark::Begins(kind), _) => begun = Some((kind, at)),
                (Mark::Ends, Some((kind, start))) => {
                    let span = start..at.saturating_sub(1);
                    found.extend(self.string(kind, body, span)?);
                }
                (Mark::Ends, None) => {}
            }
        }
        Ok(found)
    }

    /// Reads a field of a form as the member that it would be in JSON; answers its text for the backend, if that is another.
    pub fn field(&mut self, name: &str, text: &str) -> Result<Option<String>, Denial> {
        let Some(word) = ids::word_of_field(name) else { return Ok(None) };
        let is_json = text.trim_ascii_start().starts_with(['{', '[']);
        let value = if is_json { text.to_owned() } else { serde_json::Value::from(text).to_string() };
        let head = format!("{{\"{word}\":");
        let mut body = [&head, &value, "}"].concat();
        let found = self.body(&body)?;
        if found.is_empty() {
            return Ok(None);
        }
        for (span, text) in found.into_iter().rev() {
            body.replace_range(span, &text);
        }
        let value = body.get(head.len()..body.len().saturating_sub(1)).unwrap_or_default();
        // A string that was one is one still.
        Ok(if is_json { Some(value.to_owned()) } else { serde_json::from_str(value).ok() })
    }

    fn string(&mut self, kind: Kind, body: &str, span: Range<usize>) -> Result<Option<Restored>, Denial> {
        let inside = body.get(span.clone()).unwrap_or_default();
        if kind == Kind::Sealed {
            // Only the seal goes: what follows is not under it but in part, and stays as it was written.
            let seal = span.start..span.start + MARK.len() + SEAL_CHARS;
            return Ok(self.restore(kind, inside)?.map(|_| (seal, String::new())));
        }
        let says = if inside.contains('\\') { ids::plain(inside.as_bytes()) } else { None };
        let says = says.as_deref().unwrap_or(inside);
        if kind == Kind::Copied && !Pinning::is_sealed(says) {
            return Ok(None);
        }
        // All of an id is under its seal, and none was sealed that needs escapes.
        Ok(self.restore(Kind::Id, says)?.map(|restored| (span, restored)))
    }

    /// Reads a path; answers how it reads for the backend.
    pub fn path(&mut self, path: &str) -> Result<String, Denial> {
        let mut segments = Vec::new();
        for segment in path.split('/') {
            segments.push(self.restore(Kind::Id, segment)?.unwrap_or_else(|| segment.to_owned()));
        }
        Ok(segments.join("/"))
    }

    /// The same for a query.
    pub fn query(&mut self, query: &str) -> Result<String, Denial> {
        let mut parameters = Vec::new();
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match self.restore(Kind::Id, &unescaped(value))? {
                Some(restored) => parameters.push(format!("{name}={restored}")),
                None => parameters.push(parameter.to_owned()),
            }
        }
        Ok(parameters.join("&"))
    }
}

/// A value of a query without its percent signs, as far as it may be an id: those are ASCII.
fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                text.push('%');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
