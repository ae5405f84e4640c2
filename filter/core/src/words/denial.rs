//! Every way Tollgate says no: status, type, code, sentence, metric label.
//!
//! This is the one place that words a refusal: each has one row in `denial/row.rs`. Not decided here: when to refuse.

mod anthropic;
mod retry;
mod row;
mod wording;

use crate::allowance::Allowance;
use crate::answer::{Answer, JSON};
use crate::endpoint::{Api, BodyKind};
use crate::number::Number;
use row::Row;
use serde::Serialize;
use std::rc::Rc;
use std::time::Duration;

/// A refusal, with the facts its sentence needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Method and path are no endpoint of ours.
    UnknownEndpoint,
    /// The connection is to become a socket, whose frames nobody would read.
    UpgradeRefused,
    /// No API key was sent.
    MissingCredential,
    /// A credential header was sent twice, or two that differ.
    AmbiguousCredential,
    /// What an earlier filter, the connection or Envoy says of the client is not what its credential says, or is said twice.
    AmbiguousClient,
    /// The key belongs to no client.
    UnknownCredential,
    /// The key's time is over.
    KeyExpired,
    /// The key's time has not come.
    KeyNotYetValid,
    /// What was sent as a token is none, or is not genuine.
    InvalidToken(Flaw),
    /// The token's time is over.
    TokenExpired,
    /// The token's time has not come.
    TokenNotYetValid,
    /// The token is of nobody who is trusted here.
    UnknownIssuer,
    /// The token is for somebody else.
    WrongAudience,
    /// Who is shown is genuine, and no client.
    NoClient,
    /// The issuer's keys could not be fetched, or a key not be looked up.
    KeysUnavailable,
    /// The client may not use this endpoint.
    EndpointNotAllowed(&'static str),
    /// The body is absent or has no `model` where one is needed.
    MissingField(&'static str),
    /// The client may not use this model, or there is none of this name: the two look alike.
    ModelNotAllowed(String),
    /// The body is longer than the client may send.
    BodyTooLarge {
        /// The most that is allowed.
        bytes_max: usize,
    },
    /// The bodies of the client's requests take all the room that they may.
    HeldBytesExceeded {
        /// How much room there is.
        bytes_max: usize,
        /// After this it is worth another try; nobody knows when one of them is whole.
        wait: Duration,
    },
    /// The `content-type` is not one that the operation takes.
    UnsupportedMedia(BodyKind),
    /// The body is compressed, or says so.
    UnsupportedCoding,
    /// The body is not JSON; where, and what was expected there.
    InvalidJson(String),
    /// The body is JSON, but no object.
    NotAnObject,
    /// The body is no `multipart/form-data`, for this reason.
    InvalidForm(&'static str),
    /// A line of a batch's file is not one that may be asked.
    BatchLine {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it, as a sentence.
        problem: String,
    },
    /// What is wrong with a line of a batch's file, as a sentence.
    Flawed(String),
    /// A batch's file was not counted when it came, or not for this client.
    BatchNotCounted,
    /// A field we act on stands twice, or is written so that readers may differ about it.
    AmbiguousField {
        /// The field, as it should be written.
        field: &'static str,
        /// What is wrong with it.
        problem: Ambiguity,
    },
    /// A field we act on has a value of the wrong kind.
    InvalidField {
        /// The field.
        field: &'static str,
        /// What would have been right, as in `must be …`.
        expected: &'static str,
    },
    /// A member inside of a prompt that tells what its parts are stands twice, or in disguise.
    AmbiguousPart {
        /// Where the prompt stands.
        field: &'static str,
        /// The member, as it should be written.
        name: &'static str,
        /// What is wrong with it.
        problem: Ambiguity,
    },
    /// A value above what the client's policy allows.
    AboveMax {
        /// The field.
        field: &'static str,
        /// The most that is allowed.
        max: Number,
        /// What was asked.
        asked: Number,
    },
    /// A value below what the client's policy allows.
    BelowMin {
        /// The field.
        field: &'static str,
        /// The least that is allowed.
        min: Number,
        /// What was asked.
        asked: Number,
    },
    /// Fewer candidates than choices, which the API does not take.
    BestOfBelowN {
        /// Candidates.
        best_of: u32,
        /// Choices.
        n: u32,
    },
    /// More of something than the client's policy allows.
    TooMany {
        /// Where.
        field: &'static str,
        /// Of what: `messages`.
        what: &'static str,
        /// How many are allowed.
        max: u64,
        /// How many there are.
        found: u64,
    },
    /// A field that the client's policy does not allow.
    Forbidden(&'static str),
    /// A part of a prompt that the client's policy does not allow.
    ForbiddenPart {
        /// Where.
        field: &'static str,
        /// What: `an image`.
        part: &'static str,
    },
    /// A value that is not among those which the client's policy allows.
    NotAllowed {
        /// The field.
        field: &'static str,
        /// What was asked.
        asked: String,
        /// What is allowed.
        allowed: Vec<String>,
    },
    /// Fields that the public reference does not have.
    UnknownFields {
        /// The first of them, short and without odd letters.
        names: Vec<String>,
        /// How many more there are.
        more: u64,
    },
    /// Two fields that exclude each other.
    Exclusive(&'static str, &'static str),
    /// A bucket does not have this much now.
    RateExhausted {
        /// The limit that is spent.
        allowance: Rc<Allowance>,
        /// What this request may cost of it.
        needed: u64,
        /// What is there.
        remaining: u64,
        /// After exactly this long there will be enough.
        wait: Duration,
    },
    /// What a window of the calendar had is used.
    QuotaExhausted {
        /// The limit that is spent.
        allowance: Rc<Allowance>,
        /// What this request may cost of it.
        needed: u64,
        /// What is there.
        remaining: u64,
        /// After exactly this long the next window begins.
        wait: Duration,
    },
    /// The request may cost more than a limit ever holds.
    NeverFits {
        /// The limit that is too small.
        allowance: Rc<Allowance>,
        /// What this request may cost of it.
        needed: u64,
    },
    /// As many requests are under way as a limit allows.
    TooManyAtOnce {
        /// The limit.
        allowance: Rc<Allowance>,
        /// After this it is worth another try; nobody knows when one of them ends.
        wait: Duration,
    },
    /// Every backend that could serve the model has asked for a pause.
    BackendsThrottled {
        /// Until the first of them is back.
        wait: Duration,
    },
    /// What an operator names is no backend of the model, or of none of its own regions.
    UnknownBackend {
        /// What it named.
        asked: String,
        /// What there is.
        known: Vec<String>,
    },
    /// An id that this gateway did not give to this client, or whose backend is gone.
    UnknownId(String),
    /// Ids of what is kept at different backends.
    MixedIds,
    /// What the request refers to is kept at a backend that does not serve this model.
    NotServedThere(String),
    /// No backend of the model speaks the API that the operation is of.
    OtherApi(&'static str),
    /// The model is served in no region that the client may be served from.
    NoRegion,
    /// A field that no backend takes that might serve the request.
    UnknownField {
        /// The field.
        field: &'static str,
        /// Which versions of the API have it.
        versions: String,
    },
    /// An operation that no backend has that might serve the request.
    UnknownOperation {
        /// The operation's path.
        operation: &'static str,
        /// Which versions of the API have it.
        versions: String,
    },
    /// Every backend that was asked says that it does not have the deployment which the configuration names.
    NoDeployment,
    /// The last backend that was asked does not take this gateway's credential.
    BackendCredentialRefused,
    /// There is no token now for any backend that may serve the request.
    CredentialUnavailable,
    /// The backends have no room for it, and it has waited as long as it may.
    NoCapacity {
        /// Until there is, if nobody else comes.
        wait: Duration,
    },
    /// The backends of the first priority have no room, and what may go elsewhere is used up.
    SpillExhausted {
        /// How much of it there is.
        allowance: Rc<Allowance>,
        /// Until one of the two has room.
        wait: Duration,
    },
    /// The client has as many jobs in the queue as it may, or as many bytes.
    QueueFull {
        /// After this it is worth another try; nobody knows when one of them is over.
        wait: Duration,
    },
    /// The store did not take a job, or does not tell of one.
    QueueUnavailable,
    /// The store of the queue is in none of the client's regions.
    QueueNotInRegion,
    /// The key may less than its client, or that stands in the store: a worker asks for a whole client of the configuration.
    QueueNotForKey,
    /// A job that there will be no answer to, for this reason.
    JobFailed(String),
    /// A job that its client did not want any more.
    JobCancelled,
    /// Whoever asks may not ask for the client that it names.
    ActForNotAllowed,
    /// The store that holds the budgets did not answer, and the configuration says to refuse then.
    StoreUnavailable,
    /// Envoy does not hold a request's headers while its body is read, so that no decision on it would count.
    HeadersNotHeld,
    /// An attempt went to a cluster that was not among the candidates.
    Unplanned,
    /// A callback came when none was due: a fault of ours, or of Envoy's.
    OutOfTurn,
    /// Envoy itself answered in place of a backend.
    Proxy {
        /// With this status.
        status: u16,
    },
}

/// What is wrong with a token. Nothing here tells more than the caller knows, or may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is longer than any that is taken.
    TooLong,
    /// It is no JWS in compact form with a JSON object for claims.
    Malformed,
    /// Its algorithm is not one that its issuer signs with.
    Algorithm,
    /// Its header has an extension that must be understood.
    Critical,
    /// It names a key that its issuer does not publish.
    UnknownKey,
    /// Its signature is not its issuer's.
    Signature,
    /// It has no `exp`, or a time that is none.
    Times,
}

/// How a field can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// It stands twice.
    Duplicate,
    /// Its name has escapes or other letter case.
    Disguised,
    /// It comes as a file, which to some readers is a field.
    File,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

/// Every 426 says what would be right, and it is not a socket.
/// <https://www.rfc-editor.org/rfc/rfc9110#section-15.5.22>
const PLAIN_HTTP: [(&str, &str); 2] = [("upgrade", "HTTP/1.1"), ("connection", "upgrade")];

/// A caller's word, short enough to be repeated to it.
#[must_use]
pub fn shown(word: &str) -> String {
    const CHARS_MAX: usize = 100;
    word.chars().take(CHARS_MAX).collect()
}

impl Denial {
    /// An id that cannot be told from one that was made up.
    #[must_use]
    pub fn unknown_id(id: &str) -> Self {
        Self::UnknownId(shown(id))
    }

    /// The limit that refuses.
    #[must_use]
    pub fn limit(&self) -> Option<&Allowance> {
        match self {
            Self::RateExhausted { allowance, .. }
            | Self::QuotaExhausted { allowance, .. }
            | Self::NeverFits { allowance, .. }
            | Self::TooManyAtOnce { allowance, .. }
            | Self::SpillExhausted { allowance, .. } => Some(allowance),
            _ => None,
        }
    }

    /// What it says.
    #[must_use]
    pub fn sentence(&self) -> String {
        self.row().sentence.into_owned()
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.row().status
    }

    /// The `code` of the error, which is also the metrics' and the access log's word for this outcome.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// The whole refusal as a client of OpenAI's API gets it.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.answer_in(Api::OpenAi)
    }

    /// The whole refusal as a client of this API gets it.
    #[must_use]
    pub fn answer_in(&self, api: Api) -> Answer {
        let Row { status, r#type, code, param, retry, challenge, sentence } = self.row();
        let error = Error { message: &sentence, r#type, param, code };
        let body = match api {
            // Writing strings to memory cannot fail; an empty body would still carry the status.
            Api::OpenAi => serde_json::to_vec(&Body { error }).unwrap_or_default(),
            Api::Anthropic => anthropic::body(status, &sentence, Some(code)),
        };
        let mut headers = vec![(JSON.0, JSON.1.to_owned())];
        headers.extend(challenge.map(|challenge| ("www-authenticate", challenge.to_owned())));
        if matches!(self, Self::UpgradeRefused) {
            headers.extend(PLAIN_HTTP.map(|(name, value)| (name, value.to_owned())));
        }
        headers.extend(retry.headers());
        Answer { status, headers, body }
    }

    /// The headers that say when to ask again.
    #[must_use]
    pub fn retry_headers(&self) -> Vec<(&'static str, String)> {
        self.row().retry.headers()
    }
}

pub use anthropic::body as anthropic_body;

#[cfg(test)]
mod tests;
