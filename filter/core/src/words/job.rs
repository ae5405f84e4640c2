//! How does a request lie in the queue, where others find it and nobody reads it?
//!
//! A job is a request that waits in the fleet's store for a worker, its answer after that. Its keys share one slot of a cluster,
//! and what changes more than one of them is a script. Not decided here: which requests are queued, and who works them off.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::fmt;

/// Puts a job into the queue.
pub const ENQUEUE: &str = include_str!("job/enqueue.lua");

/// Tells a client of one.
pub const READ: &str = include_str!("job/read.lua");

/// Ends one for a client.
pub const CANCEL: &str = include_str!("job/cancel.lua");

/// How the fields of a job are written.
pub const VERSION: &str = "1";

/// The group of the stream's consumers.
pub const GROUP: &str = "workers";

/// The longest answer that is kept, as it is sealed: more of it could not be read back through Envoy.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The fields of a job.
pub mod field {
    /// How the fields are written: [`super::VERSION`].
    pub const VERSION: &str = "v";
    /// Its own name.
    pub const ID: &str = "id";
    /// Whose it is.
    pub const CLIENT: &str = "client";
    /// How important it is: the word of a priority.
    pub const PRIORITY: &str = "priority";
    /// What its client takes it for: the word of a [`super::Kind`].
    pub const KIND: &str = "kind";
    /// The word of a [`super::State`].
    pub const STATE: &str = "state";
    /// When it was queued, in milliseconds since 1970, as all times.
    pub const AT: &str = "at";
    /// When it is too late to begin.
    pub const UNTIL: &str = "until";
    /// How often it was tried.
    pub const TRIES: &str = "tries";
    /// Its entry of the stream.
    pub const ENTRY: &str = "entry";
    /// What it asks for: the method.
    pub const METHOD: &str = "method";
    /// The path, with its query.
    pub const PATH: &str = "path";
    /// A JSON object of the headers that are sent with it.
    pub const HEADERS: &str = "headers";
    /// What it asks, sealed.
    pub const BODY: &str = "body";
    /// How long that is, as it lies in the store.
    pub const BYTES: &str = "bytes";
    /// The model, as the client wrote it.
    pub const MODEL: &str = "model";
    /// Who works it off.
    pub const WORKER: &str = "worker";
    /// Since when.
    pub const STARTED: &str = "started";
    /// The status of its answer.
    pub const STATUS: &str = "status";
    /// The media type of its answer.
    pub const ANSWER_TYPE: &str = "answer_type";
    /// Its answer, sealed.
    pub const ANSWER: &str = "answer";
    /// When it was over.
    pub const ENDED: &str = "ended";
    /// How long it is told of once it is over, in milliseconds.
    pub const KEEP: &str = "keep";
    /// Why it failed: `expired`, or what its last try met.
    pub const WHY: &str = "why";
}

/// What a client takes a job for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer that it fetches from where the 202 has led it.
    Job,
    /// A response in the background.
    Response,
}

impl Kind {
    /// The word in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Response => "response",
        }
    }

    /// By its word.
    #[must_use]
    pub fn of(word: &[u8]) -> Option<Self> {
        [Self::Job, Self::Response].into_iter().find(|kind| kind.word().as_bytes() == word)
    }
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Queued,
    /// A worker has it.
    Running,
    /// There is an answer, good or bad.
    Done,
    /// There is none, and there will be none.
    Failed,
    /// Its client does not want it any more.
    Cancelled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// The word in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// By its word.
    #[must_use]
    pub fn of(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word().as_bytes() == word)
    }
}

/// How many bytes a job's id is made of.
pub const ID_BYTES: usize = 16;

/// A job's name: random, so that nobody guesses one, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// Of random bytes.
    #[must_use]
    pub fn new(random: &[u8; ID_BYTES]) -> Self {
        Self(crate::digest::hex(random))
    }

    /// As it was written, if it is one.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 2 * ID_BYTES && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// As it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The names of the queue's keys in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What all begin with, the part in braces that tells a cluster's slot included.
    root: String,
}

impl Keys {
    /// Those of a store whose keys begin so.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { root: format!("{prefix}:{{jobs}}") }
    }

    /// The stream: an entry for each job that waits or runs.
    #[must_use]
    pub fn stream(&self) -> String {
        self.root.clone()
    }

    /// The stream of those that were tried too often.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}:dead", self.root)
    }

    /// The hash of one job.
    #[must_use]
    pub fn job(&self, id: &Id) -> String {
        format!("{}:job:{}", self.root, id.text())
    }

    /// The sorted set of a client's jobs that wait or run, by when they were queued.
    #[must_use]
    pub fn of_client(&self, client: &str) -> String {
        format!("{}:of:{client}", self.root)
    }

    /// The hash of how many bytes of each client wait or run.
    #[must_use]
    pub fn bytes(&self) -> String {
        format!("{}:bytes", self.root)
    }

    /// The set of all clients that have had jobs.
    #[must_use]
    pub fn clients(&self) -> String {
        format!("{}:clients", self.root)
    }

    /// The sorted set of what waits with a priority, by when it was queued.
    #[must_use]
    pub fn waiting(&self, priority: &str) -> String {
        format!("{}:waiting:{priority}", self.root)
    }

    /// Those of the scripts about one job of a client, in their order.
    #[must_use]
    pub fn of_scripts(&self, id: &Id, client: &str) -> [String; 8] {
        [
            self.stream(),
            self.job(id),
            self.of_client(client),
            self.bytes(),
            self.clients(),
            self.waiting("high"),
            self.waiting("normal"),
            self.waiting("low"),
        ]
    }
}

/// What of a job is sealed, and what it is sealed together with: whoever changes one of these in the store is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'j> {
    /// What it asks.
    Body {
        /// Whose it is.
        client: &'j str,
        /// The word of its kind.
        kind: &'j str,
        /// What it asks for.
        method: &'j str,
        /// With its query.
        path: &'j str,
        /// A JSON object of headers.
        headers: &'j str,
        /// The model, as the client wrote it.
        model: &'j str,
    },
    /// What was answered.
    Answer {
        /// Whose it is.
        client: &'j str,
        /// The word of its kind.
        kind: &'j str,
    },
}

/// How long a key is.
pub const KEY_BYTES: usize = 32;

/// How long a nonce is: long enough to be random.
pub const NONCE_BYTES: usize = 24;

/// The first byte of what lies open.
const OPEN: u8 = 0;

/// The first byte of what is sealed; the nonce follows.
const SEALED: u8 = 1;

/// What seals and opens bodies.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// As it is written: 32 bytes as base64, or another secret of at least as many characters, whose SHA-256 it is then.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        let hashed = || (text.len() >= KEY_BYTES).then(|| Sha256::digest(text).into());
        bytes.or_else(hashed).map(Self)
    }
}

/// Why something cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It is sealed, and there is no key.
    NoKey,
    /// It was sealed with another key, or is not what it was, or of another job.
    Wrong,
}

/// As it lies in the store: sealed if there is a key. A nonce serves once.
#[must_use]
pub fn seal(key: Option<&Key>, nonce: &[u8; NONCE_BYTES], id: &Id, what: What<'_>, bytes: &[u8]) -> Vec<u8> {
    let sealed = key.and_then(|key| {
        let payload = Payload { msg: bytes, aad: &place(id, what) };
        cipher(key).encrypt(XNonce::from_slice(nonce), payload).ok()
    });
    match (key, sealed) {
        (Some(_), Some(sealed)) => [&[SEALED][..], nonce, &sealed].concat(),
        // Only what is longer than any memory cannot be sealed: nothing is left of it.
        (Some(_), None) => Vec::new(),
        (None, _) => [&[OPEN][..], bytes].concat(),
    }
}

/// As it was before it was sealed.
pub fn open(key: Option<&Key>, id: &Id, what: What<'_>, bytes: &[u8]) -> Result<Vec<u8>, Unopened> {
    let (how, rest) = bytes.split_first().ok_or(Unopened::Wrong)?;
    match (*how, key) {
        // Whoever has a key takes nothing that anybody may have written.
        (OPEN, None) => Ok(rest.to_vec()),
        (SEALED, Some(key)) => {
            let (nonce, msg) = rest.split_at_checked(NONCE_BYTES).ok_or(Unopened::Wrong)?;
            let payload = Payload { msg, aad: &place(id, what) };
            cipher(key).decrypt(XNonce::from_slice(nonce), payload).map_err(|_| Unopened::Wrong)
        }
        (SEALED, None) => Err(Unopened::NoKey),
        _ => Err(Unopened::Wrong),
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&key.0.into())
}

/// Where it belongs: what is moved to another job or client, from a body to an answer, or to where other things are asked for,
/// does not open. Each part follows its length, so that no two places are written alike.
fn place(id: &Id, what: What<'_>) -> Vec<u8> {
    let parts: &[&str] = match what {
        What::Body { client, kind, method, path, headers, model } => {
            &["body", client, kind, method, path, headers, model]
        }
        What::Answer { client, kind } => &["answer", client, kind],
    };
    let mut place = Vec::new();
    for part in [VERSION, id.text()].iter().chain(parts) {
        place.extend((part.len() as u64).to_le_bytes());
        place.extend(part.as_bytes());
    }
    place
}

#[cfg(test)]
mod tests;
