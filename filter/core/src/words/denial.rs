//! Every way Tollgate says no: status, type, code, sentence, metric label.
//!
//! This is the one place that words a refusal. Not decided here: when to refuse.

use crate::allowance::{Allowance, Unit, Weights, Whose};
use crate::answer::{Answer, JSON};
use crate::endpoint::BodyKind;
use crate::number::Number;
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
    /// The issuer's keys could not be fetched.
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
    /// An id that this gateway did not give to this client, or whose backend is gone.
    UnknownId(String),
    /// Ids of what is kept at different backends.
    MixedIds,
    /// What the request refers to is kept at a backend that does not serve this model.
    NotServedThere(String),
    /// The model is served in no region that the client may be served from.
    NoRegion,
    /// A field that no backend takes that might serve the request.
    UnknownField {
        /// The field.
        field: &'static str,
        /// The first version of the API that has it.
        since: &'static str,
    },
    /// An operation that no backend has that might serve the request.
    UnknownOperation {
        /// The operation's path.
        operation: &'static str,
        /// The first version of the API that has it.
        since: &'static str,
    },
    /// Every backend that was asked says that it does not have the deployment which the configuration names.
    NoDeployment,
    /// The last backend that was asked does not take this gateway's credential.
    BackendCredentialRefused,
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

/// What a client can do about a refusal.
enum Retry {
    /// The same request will be refused again.
    Never,
    /// It will be admitted after this long.
    After(Duration),
    /// It may be admitted after this long.
    Perhaps(Duration),
    /// Nobody knows: the client's own back-off decides.
    Open,
}

/// Every 426 says what would be right, and it is not a socket.
/// <https://www.rfc-editor.org/rfc/rfc9110#section-15.5.22>
const PLAIN_HTTP: [(&str, &str); 2] = [("upgrade", "HTTP/1.1"), ("connection", "upgrade")];

const BAD_REQUEST: &str = "invalid_request_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const RATE_LIMIT: &str = "rate_limit_error";
const QUOTA: &str = "insufficient_quota";
const SERVER: &str = "server_error";

/// A caller's word, short enough to be repeated to it.
#[must_use]
pub fn shown(word: &str) -> String {
    const CHARS_MAX: usize = 100;
    word.chars().take(CHARS_MAX).collect()
}

impl Denial {
    /// Status, OpenAI `type`, OpenAI `code`. A denial without a row does not compile.
    const fn row(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::UnknownEndpoint => (404, BAD_REQUEST, "unknown_url"),
            Self::UpgradeRefused => (426, BAD_REQUEST, "upgrade_not_supported"),
            Self::MissingCredential => (401, AUTHENTICATION, "missing_api_key"),
            Self::AmbiguousCredential => (401, AUTHENTICATION, "ambiguous_api_key"),
            Self::UnknownCredential => (401, AUTHENTICATION, "invalid_api_key"),
            Self::KeyExpired => (401, AUTHENTICATION, "expired_api_key"),
            Self::KeyNotYetValid => (401, AUTHENTICATION, "api_key_not_yet_valid"),
            Self::InvalidToken(_) => (401, AUTHENTICATION, "invalid_token"),
            Self::TokenExpired => (401, AUTHENTICATION, "token_expired"),
            Self::TokenNotYetValid => (401, AUTHENTICATION, "token_not_yet_valid"),
            Self::UnknownIssuer => (401, AUTHENTICATION, "unknown_issuer"),
            Self::WrongAudience => (401, AUTHENTICATION, "wrong_audience"),
            Self::NoClient => (401, AUTHENTICATION, "no_client_for_token"),
            Self::KeysUnavailable => (503, SERVER, "keys_unavailable"),
            Self::EndpointNotAllowed(_) => (403, PERMISSION, "endpoint_not_allowed"),
            Self::MissingField(_) => (400, BAD_REQUEST, "missing_required_parameter"),
            Self::ModelNotAllowed(_) => (403, PERMISSION, "model_not_allowed"),
            Self::BodyTooLarge { .. } => (413, BAD_REQUEST, "request_too_large"),
            Self::HeldBytesExceeded { .. } => (429, RATE_LIMIT, "held_bytes_exceeded"),
            Self::UnsupportedMedia(_) => (415, BAD_REQUEST, "unsupported_media_type"),
            Self::UnsupportedCoding => (415, BAD_REQUEST, "unsupported_content_encoding"),
            Self::InvalidJson(_) | Self::NotAnObject => (400, BAD_REQUEST, "invalid_json"),
            Self::InvalidForm(_) => (400, BAD_REQUEST, "invalid_form"),
            Self::AmbiguousField { .. } | Self::AmbiguousPart { .. } => {
                (400, BAD_REQUEST, "ambiguous_parameter")
            }
            Self::InvalidField { .. } => (400, BAD_REQUEST, "invalid_type"),
            Self::AboveMax { .. } | Self::TooMany { .. } => (400, BAD_REQUEST, "parameter_above_maximum"),
            Self::BelowMin { .. } | Self::BestOfBelowN { .. } => {
                (400, BAD_REQUEST, "parameter_below_minimum")
            }
            Self::Forbidden(_) | Self::ForbiddenPart { .. } => (400, BAD_REQUEST, "parameter_not_allowed"),
            Self::UnknownFields { .. } => (400, BAD_REQUEST, "unknown_parameter"),
            Self::NotAllowed { .. } => (400, BAD_REQUEST, "parameter_value_not_allowed"),
            Self::Exclusive(..) => (400, BAD_REQUEST, "mutually_exclusive_parameters"),
            Self::RateExhausted { .. } => (429, RATE_LIMIT, "rate_limit_exceeded"),
            Self::QuotaExhausted { .. } => (429, QUOTA, "insufficient_quota"),
            Self::TooManyAtOnce { .. } => (429, RATE_LIMIT, "concurrency_limit_exceeded"),
            Self::NeverFits { .. } => (429, RATE_LIMIT, "request_exceeds_limit"),
            Self::BackendsThrottled { .. } => (429, RATE_LIMIT, "backends_throttled"),
            Self::UnknownId(_) => (404, BAD_REQUEST, "id_not_found"),
            Self::MixedIds => (400, BAD_REQUEST, "ids_of_different_backends"),
            Self::NotServedThere(_) => (400, BAD_REQUEST, "model_not_served_there"),
            Self::NoRegion => (403, PERMISSION, "region_not_permitted"),
            Self::UnknownField { .. } => (400, BAD_REQUEST, "unsupported_parameter"),
            Self::UnknownOperation { .. } => (400, BAD_REQUEST, "unsupported_operation"),
            Self::NoDeployment => (503, SERVER, "deployment_not_found"),
            Self::BackendCredentialRefused => (503, SERVER, "backend_credential_refused"),
            Self::NoCapacity { .. } => (429, RATE_LIMIT, "capacity_exceeded"),
            Self::SpillExhausted { .. } => (429, RATE_LIMIT, "spill_limit_exceeded"),
            Self::StoreUnavailable => (503, SERVER, "store_unavailable"),
            Self::HeadersNotHeld => (503, SERVER, "headers_not_held"),
            Self::Unplanned => (503, SERVER, "backend_not_permitted"),
            Self::OutOfTurn => (500, SERVER, "internal_error"),
            Self::Proxy { status: 413 } => (413, BAD_REQUEST, "request_too_large"),
            Self::Proxy { status: 504 } => (504, SERVER, "backend_timeout"),
            Self::Proxy { status: 503 } => (503, SERVER, "backend_unavailable"),
            Self::Proxy { status } if *status >= 500 => (*status, SERVER, "proxy_error"),
            Self::Proxy { status } => (*status, BAD_REQUEST, "proxy_error"),
        }
    }

    /// An id that cannot be told from one that was made up.
    #[must_use]
    pub fn unknown_id(id: &str) -> Self {
        const CHARS_MAX: usize = 100;
        Self::UnknownId(id.chars().take(CHARS_MAX).collect())
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

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.row().0
    }

    /// The `code` of the error, which is also the metrics' and the access log's word for this outcome.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.row().2
    }

    /// The field that is at fault.
    fn param(&self) -> Option<&str> {
        match self {
            Self::MissingField(field)
            | Self::AmbiguousField { field, .. }
            | Self::InvalidField { field, .. }
            | Self::AmbiguousPart { field, .. }
            | Self::AboveMax { field, .. }
            | Self::BelowMin { field, .. }
            | Self::TooMany { field, .. }
            | Self::Forbidden(field)
            | Self::ForbiddenPart { field, .. }
            | Self::UnknownField { field, .. }
            | Self::NotAllowed { field, .. }
            | Self::Exclusive(field, _) => Some(field),
            Self::UnknownFields { names, .. } => names.first().map(String::as_str),
            Self::BestOfBelowN { .. } => Some("best_of"),
            Self::ModelNotAllowed(_) | Self::NotServedThere(_) => Some("model"),
            _ => None,
        }
    }

    /// How to authenticate, which every 401 tells. <https://www.rfc-editor.org/rfc/rfc6750#section-3>
    const fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::InvalidToken(_)
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::UnknownIssuer
            | Self::WrongAudience
            | Self::NoClient => Some("Bearer error=\"invalid_token\""),
            _ if self.row().0 == 401 => Some("Bearer"),
            _ => None,
        }
    }

    const fn retry(&self) -> Retry {
        match self {
            Self::RateExhausted { wait, .. }
            | Self::QuotaExhausted { wait, .. }
            | Self::BackendsThrottled { wait }
            | Self::NoCapacity { wait }
            | Self::SpillExhausted { wait, .. } => Retry::After(*wait),
            Self::TooManyAtOnce { wait, .. } | Self::HeldBytesExceeded { wait, .. } => Retry::Perhaps(*wait),
            Self::StoreUnavailable | Self::KeysUnavailable | Self::Proxy { .. } => Retry::Open,
            _ => Retry::Never,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::UnknownEndpoint => "This path and method are not served here.".to_owned(),
            Self::UpgradeRefused => "WebSockets are not served here. Ask the same by HTTP.".to_owned(),
            Self::MissingCredential => {
                "No API key was sent. Send it as `api-key: KEY` or as `Authorization: Bearer KEY`.".to_owned()
            }
            Self::AmbiguousCredential => "More than one API key was sent. Send one.".to_owned(),
            Self::UnknownCredential => "The API key is not known here.".to_owned(),
            Self::KeyExpired => "The API key has expired.".to_owned(),
            Self::KeyNotYetValid => "The API key is not valid yet.".to_owned(),
            Self::InvalidToken(flaw) => format!("The token {}.", flaw.sentence()),
            Self::TokenExpired => "The token has expired.".to_owned(),
            Self::TokenNotYetValid => "The token is not valid yet.".to_owned(),
            Self::UnknownIssuer => "The token's `iss` is nobody who is trusted here.".to_owned(),
            Self::WrongAudience => "The token's `aud` is not this gateway.".to_owned(),
            Self::NoClient => "The credential is genuine, but it is no client's of this gateway.".to_owned(),
            Self::KeysUnavailable => "The gateway cannot check this token right now.".to_owned(),
            Self::EndpointNotAllowed(endpoint) => {
                format!("This client may not use the endpoint `{endpoint}`.")
            }
            Self::MissingField(field) => format!("The request has no `{field}`."),
            Self::ModelNotAllowed(model) => {
                format!("The model `{model}` does not exist, or this client may not use it.")
            }
            Self::BodyTooLarge { bytes_max } => {
                format!("The request body is longer than {bytes_max} bytes, the most this client may send.")
            }
            Self::HeldBytesExceeded { bytes_max, .. } => format!(
                "This client sends bodies of more than {bytes_max} bytes at the same time, the most that is held for it. \
                 Send fewer at a time."
            ),
            Self::UnsupportedMedia(kind) => {
                const JSON: &str = "JSON in UTF-8 as `content-type: application/json`";
                const FORM: &str = "a form as `content-type: multipart/form-data` with its boundary";
                let types = match kind {
                    BodyKind::Form => FORM.to_owned(),
                    BodyKind::JsonOrForm => format!("{JSON}, or {FORM}"),
                    BodyKind::Json | BodyKind::Unread => JSON.to_owned(),
                };
                format!("The `content-type` of the request is not taken here. Send {types}.")
            }
            Self::UnsupportedCoding => {
                "The request has a `content-encoding`, and compressed bodies are not taken here. Send the body \
                 uncompressed, without this header."
                    .to_owned()
            }
            Self::InvalidJson(problem) => format!("The request body is not valid JSON: {problem}."),
            Self::NotAnObject => "The request body must be a JSON object.".to_owned(),
            Self::InvalidForm(problem) => {
                format!("The request body is not valid multipart/form-data: {problem}.")
            }
            Self::AmbiguousField { field, problem: Ambiguity::Duplicate } => {
                format!("`{field}` stands more than once in the request.")
            }
            Self::AmbiguousField { field, problem: Ambiguity::Disguised } => {
                format!("`{field}` must be written plainly: lower case, without escapes.")
            }
            Self::AmbiguousField { field, problem: Ambiguity::File } => {
                format!("`{field}` must be a plain field of the form, without a file name.")
            }
            Self::InvalidField { field, expected } => format!("`{field}` must be {expected}."),
            Self::AmbiguousPart { field, name, problem: Ambiguity::Duplicate } => {
                format!("In `{field}`, `{name}` stands more than once in one object.")
            }
            Self::AmbiguousPart { field, name, problem: Ambiguity::Disguised | Ambiguity::File } => {
                format!("In `{field}`, `{name}` must be written plainly: lower case, without escapes.")
            }
            Self::AboveMax { field, max, asked } => {
                format!("`{field}` is {asked}, but this client's policy allows at most {max}.")
            }
            Self::BelowMin { field, min, asked } => {
                format!("`{field}` is {asked}, but this client's policy allows at least {min}.")
            }
            Self::BestOfBelowN { best_of, n } => {
                format!("`best_of` is {best_of}, but must be at least `n`, which is {n}.")
            }
            Self::TooMany { field, what, max, found } => {
                format!("`{field}` has {found} {what}, but this client's policy allows at most {max}.")
            }
            Self::Forbidden(field) => format!("`{field}` is not allowed by this client's policy."),
            Self::ForbiddenPart { field, part } => {
                format!("`{field}` has {part}, which this client's policy does not allow.")
            }
            Self::NotAllowed { field, asked, allowed } => {
                let allowed: Vec<_> = allowed.iter().map(|word| format!("`{word}`")).collect();
                format!(
                    "`{field}` is `{asked}`, but this client's policy allows only {}.",
                    allowed.join(", ")
                )
            }
            Self::UnknownFields { names, more } => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
                format!(
                    "This client's policy allows only known fields, and does not know {}{more}.",
                    names.join(", ")
                )
            }
            Self::Exclusive(one, other) => format!("`{one}` and `{other}` cannot both be set."),
            Self::RateExhausted { allowance, needed, remaining, wait }
            | Self::QuotaExhausted { allowance, needed, remaining, wait } => {
                let unit = allowance.measure.unit();
                let left = match unit {
                    Some(Unit::Requests) | None => String::new(),
                    Some(unit) => format!(
                        ": the request may cost {}, {} are left",
                        unit.text(*needed),
                        unit.text(*remaining)
                    ),
                };
                format!("{} is reached{left}. Try again in {}.", capital(allowance), long(*wait))
            }
            Self::NeverFits { allowance, needed } => {
                let (unit, cost) = match allowance.measure.unit() {
                    Some(unit @ Unit::Cost) => ("", unit.text(*needed)),
                    Some(unit) => (counted(unit), unit.text(*needed)),
                    None => ("", needed.to_string()),
                };
                let limit = brief(allowance);
                format!(
                    "The request may cost {cost}{unit}, more than {limit}. Ask for fewer completion tokens or send a \
                     shorter prompt."
                )
            }
            Self::TooManyAtOnce { allowance, .. } => {
                format!("{} is reached. Try again when one of them has ended.", capital(allowance))
            }
            Self::BackendsThrottled { wait } => {
                format!("Every backend for this model is at its limit. Try again in {}.", seconds(*wait))
            }
            Self::UnknownField { field, since } => format!(
                "`{field}` is taken by no backend that may serve this request: it needs API version {since} or later."
            ),
            Self::UnknownOperation { operation, since } => format!(
                "No backend that may serve this request has `{operation}`: it needs API version {since} or later."
            ),
            Self::NoDeployment => {
                "No backend has the deployment that this gateway's configuration names for the model."
                    .to_owned()
            }
            Self::BackendCredentialRefused => {
                "The backend does not accept this gateway's own credential. Your key is not at fault.".to_owned()
            }
            Self::UnknownId(id) => format!("Nothing with the id `{id}` is known here."),
            Self::MixedIds => {
                "The ids in this request are of things that are kept in different places: no backend has them all."
                    .to_owned()
            }
            Self::NotServedThere(model) => {
                format!("The model `{model}` is not served where this request has to go.")
            }
            Self::NoRegion => {
                "No backend for this model is in a region that this client may be served from.".to_owned()
            }
            Self::NoCapacity { wait } => format!(
                "The backends for this model have no room for a request of this client's priority. Try again in {}.",
                seconds(*wait),
            ),
            Self::SpillExhausted { allowance, wait } => format!(
                "The first backends for this model have no room, and {} is reached. Try again in {}.",
                limit(allowance, allowance.measure.unit().map_or("", counted)),
                long(*wait),
            ),
            Self::StoreUnavailable => "The gateway cannot check this client's budget right now.".to_owned(),
            Self::HeadersNotHeld => "The gateway is not set up to check requests, and takes none.".to_owned(),
            Self::Unplanned => "The gateway chose no backend for this attempt.".to_owned(),
            Self::OutOfTurn => "The gateway lost track of this request.".to_owned(),
            Self::Proxy { status: 413 } => "The request body is longer than the gateway takes.".to_owned(),
            Self::Proxy { status: 504 } => "The backend did not answer in time.".to_owned(),
            Self::Proxy { status: 503 } => "No backend for this model could be reached.".to_owned(),
            Self::Proxy { .. } => "The gateway could not complete this request.".to_owned(),
        }
    }

    /// The whole refusal as the client gets it.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let (status, r#type, code) = self.row();
        let message = self.sentence();
        let error = Error { message: &message, r#type, param: self.param(), code };
        // Writing strings to memory cannot fail; an empty body would still carry the status.
        let body = serde_json::to_vec(&Body { error }).unwrap_or_default();
        let mut headers = vec![(JSON.0, JSON.1.to_owned())];
        headers.extend(self.challenge().map(|challenge| ("www-authenticate", challenge.to_owned())));
        if matches!(self, Self::UpgradeRefused) {
            headers.extend(PLAIN_HTTP.map(|(name, value)| (name, value.to_owned())));
        }
        headers.extend(self.again());
        Answer { status, headers, body }
    }

    /// The headers that say when to ask again.
    #[must_use]
    pub fn again(&self) -> Vec<(&'static str, String)> {
        // OpenAI's SDKs read this before they look at the status.
        let never = ("x-should-retry", "false".to_owned());
        match self.retry() {
            Retry::Never => vec![never],
            Retry::After(wait) if wait > WAIT_MAX => retry_after(wait).into_iter().chain([never]).collect(),
            Retry::After(wait) => retry_after(wait).into(),
            Retry::Perhaps(wait) => retry_after(wait).into_iter().take(1).collect(),
            Retry::Open => Vec::new(),
        }
    }
}

/// No program should keep its user waiting for longer: OpenAI's SDKs read no `retry-after` above it, and would ask at
/// once.
const WAIT_MAX: Duration = Duration::from_secs(60);
impl Flaw {
    const fn sentence(self) -> &'static str {
        match self {
            Self::TooLong => "is too long",
            Self::Malformed => "is not a JSON Web Token in its compact form",
            Self::Algorithm => "has an algorithm that its issuer does not sign with",
            Self::Critical => "has a critical extension, and none is understood here",
            Self::UnknownKey => "names a key that its issuer does not publish",
            Self::Signature => "does not have its issuer's signature",
            Self::Times => "needs an `exp`, and times that are numbers",
        }
    }
}

/// `retry-after-ms` is exact; `retry-after` has whole seconds only. Both are rounded up: waiting them is enough.
fn retry_after(wait: Duration) -> [(&'static str, String); 2] {
    let wait_ms = wait.as_nanos().div_ceil(1_000_000);
    [("retry-after", wait_ms.div_ceil(1000).to_string()), ("retry-after-ms", wait_ms.to_string())]
}

/// A limit in a sentence: whose it is, how much of what, in which time, for what.
fn limit(allowance: &Allowance, unit: &str) -> String {
    let owner = match &allowance.whose {
        Whose::Client => "this client's limit".to_owned(),
        Whose::Group(name) => format!("the limit of group `{name}`"),
        Whose::Spill(model) => format!("the spill limit of model `{model}`"),
    };
    let size = match allowance.measure.unit() {
        Some(unit) => unit.text(allowance.amount.get()),
        None => allowance.amount.to_string(),
    };
    let per = allowance.measure.per().map(|per| format!(" per {per}")).unwrap_or_default();
    let models = allowance.scope.models.as_ref().map(|names| format!(" for {}", names.join(", ")));
    let endpoints = allowance.scope.endpoints.as_ref().map(|endpoints| {
        let words: Vec<_> = endpoints.iter().map(|endpoint| endpoint.word()).collect();
        format!(" at {}", words.join(", "))
    });
    format!("{owner} of {size}{unit}{per}{}{}", models.unwrap_or_default(), endpoints.unwrap_or_default())
}

/// A limit at the beginning of a sentence.
fn capital(allowance: &Allowance) -> String {
    let text = limit(allowance, allowance.measure.unit().map_or(" concurrent requests", counted));
    match text.strip_prefix('t') {
        Some(rest) => format!("T{rest}"),
        None => text,
    }
}

/// A limit after its unit has been named.
fn brief(allowance: &Allowance) -> String {
    limit(allowance, "")
}

/// The unit after a number; of money there is none, for the currency is not known.
fn counted(unit: Unit) -> &'static str {
    match unit {
        Unit::Tokens(Weights::PLAIN) => " tokens",
        Unit::Tokens(_) => " weighted tokens",
        Unit::Requests => " requests",
        Unit::Cost => " in money",
    }
}

/// A wait, which may be one of days.
fn long(wait: Duration) -> String {
    let minutes = wait.as_nanos().div_ceil(60_000_000_000);
    let hours = minutes.div_ceil(60);
    match minutes {
        _ if wait <= WAIT_MAX => seconds(wait),
        0..60 => format!("{minutes} min"),
        60..1440 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

fn seconds(wait: Duration) -> String {
    let tenths = wait.as_nanos().div_ceil(100_000_000);
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowance::{Flow, Measure, Scope};
    use crate::calendar::Span;
    use crate::endpoint::Operation;
    use std::num::NonZeroU64;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(denial: &Denial, status: u16, headers: &[(&str, &str)], body: &str) {
        let answer = denial.answer();
        assert_eq!(answer.status, status);
        let found: Vec<_> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(found, headers);
        assert_eq!(String::from_utf8(answer.body).unwrap(), body);
    }

    #[test]
    fn a_refusal_names_the_field_and_the_bound() {
        check(
            &Denial::AboveMax { field: "best_of", max: Number::Count(1), asked: Number::Count(20) },
            400,
            &[JSON, ("x-should-retry", "false")],
            r#"{"error":{"message":"`best_of` is 20, but this client's policy allows at most 1.","type":"invalid_request_error","param":"best_of","code":"parameter_above_maximum"}}"#,
        );
    }

    #[test]
    fn what_the_caller_wrote_is_escaped() {
        check(
            &Denial::ModelNotAllowed("a\"b\n".to_owned()),
            403,
            &[JSON, ("x-should-retry", "false")],
            r#"{"error":{"message":"The model `a\"b\n` does not exist, or this client may not use it.","type":"permission_error","param":"model","code":"model_not_allowed"}}"#,
        );
    }

    const TOKENS: Unit = Unit::Tokens(Weights::PLAIN);

    fn allowance(measure: Measure, amount: u64) -> Rc<Allowance> {
        let amount = NonZeroU64::new(amount).unwrap();
        Rc::new(Allowance::new(Whose::Client, measure, amount, Scope::default(), false))
    }

    #[track_caller]
    fn check_limit(denial: &Denial, code: &str, headers: &[(&str, &str)], sentence: &str) {
        let answer = denial.answer();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let found: Vec<_> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!((answer.status, body["error"]["code"].as_str().unwrap()), (429, code));
        assert_eq!(body["error"]["message"], sentence);
        assert_eq!(found[1..], *headers);
    }

    #[test]
    fn every_refusal_by_a_limit_says_which_it_was_and_what_to_do() {
        let exhausted = |allowance: Rc<Allowance>, needed, remaining, seconds| {
            let wait = Duration::from_secs(seconds);
            match allowance.measure {
                Measure::Quota(..) => Denial::QuotaExhausted { allowance, needed, remaining, wait },
                _ => Denial::RateExhausted { allowance, needed, remaining, wait },
            }
        };
        let soon = [("retry-after", "5"), ("retry-after-ms", "5000")];
        check_limit(
            &exhausted(allowance(Measure::Rate(TOKENS, Flow::Minute), 600), 20, 10, 5),
            "rate_limit_exceeded",
            &soon,
            "This client's limit of 600 tokens per minute is reached: the request may cost 20, 10 are left. Try again \
             in 5.0 s.",
        );
        check_limit(
            &exhausted(allowance(Measure::Rate(Unit::Requests, Flow::Second), 6), 1, 0, 5),
            "rate_limit_exceeded",
            &soon,
            "This client's limit of 6 requests per second is reached. Try again in 5.0 s.",
        );
        let scope = Scope {
            models: Some(vec!["gpt-4o".into(), "o3".into()]),
            endpoints: Some(vec![Operation::ChatCompletions]),
        };
        let (amount, group) = (NonZeroU64::new(50_000_000).unwrap(), Whose::Group("sales".into()));
        let month = Measure::Quota(Unit::Cost, Span::Month);
        let shared = Rc::new(Allowance::new(group, month, amount, scope, false));
        check_limit(
            &exhausted(shared, 1_250_000, 200, 200_000),
            "insufficient_quota",
            &[("retry-after", "200000"), ("retry-after-ms", "200000000"), ("x-should-retry", "false")],
            "The limit of group `sales` of 50.00 in money per month for gpt-4o, o3 at chat/completions is reached: the \
             request may cost 1.25, 0.0002 are left. Try again in 2 d 8 h.",
        );
        check_limit(
            &exhausted(allowance(Measure::Quota(TOKENS, Span::Hour), 9), 5, 4, 60),
            "insufficient_quota",
            &[("retry-after", "60"), ("retry-after-ms", "60000")],
            "This client's limit of 9 tokens per hour is reached: the request may cost 5, 4 are left. Try again in \
             60.0 s.",
        );
        let wait = Duration::from_secs(1);
        check_limit(
            &Denial::HeldBytesExceeded { bytes_max: 100, wait },
            "held_bytes_exceeded",
            &[("retry-after", "1")],
            "This client sends bodies of more than 100 bytes at the same time, the most that is held for it. Send fewer at \
             a time.",
        );
        check_limit(
            &Denial::TooManyAtOnce { allowance: allowance(Measure::Concurrent, 40), wait },
            "concurrency_limit_exceeded",
            &[("retry-after", "1")],
            "This client's limit of 40 concurrent requests is reached. Try again when one of them has ended.",
        );
        let weighted = Unit::Tokens(Weights { cached: 0, ..Weights::PLAIN });
        check_limit(
            &Denial::NeverFits {
                allowance: allowance(Measure::Rate(weighted, Flow::Minute), 10),
                needed: 11,
            },
            "request_exceeds_limit",
            &[("x-should-retry", "false")],
            "The request may cost 11 weighted tokens, more than this client's limit of 10 per minute. Ask for fewer \
             completion tokens or send a shorter prompt.",
        );
        check_limit(
            &Denial::NeverFits {
                allowance: allowance(Measure::Quota(Unit::Cost, Span::Day), 10),
                needed: 1_000_011,
            },
            "request_exceeds_limit",
            &[("x-should-retry", "false")],
            "The request may cost 1.000011, more than this client's limit of 0.00001 per day. Ask for fewer \
             completion tokens or send a shorter prompt.",
        );
    }

    #[test]
    fn a_wait_is_told_in_what_people_count_it_in() {
        for (seconds, expected) in
            [(60, "60.0 s"), (61, "2 min"), (3600, "1 h 0 min"), (86_399, "1 d 0 h"), (90_001, "1 d 2 h")]
        {
            assert_eq!(long(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_wait_is_rounded_up_never_down() {
        check(
            &Denial::BackendsThrottled { wait: Duration::from_nanos(1_000_000_001) },
            429,
            &[JSON, ("retry-after", "2"), ("retry-after-ms", "1001")],
            r#"{"error":{"message":"Every backend for this model is at its limit. Try again in 1.1 s.","type":"rate_limit_error","param":null,"code":"backends_throttled"}}"#,
        );
    }

    #[test]
    fn a_request_that_can_never_fit_is_not_to_be_retried() {
        let denial =
            Denial::NeverFits { allowance: allowance(Measure::Rate(TOKENS, Flow::Minute), 10), needed: 11 };
        let answer = denial.answer();
        assert_eq!(answer.status, 429);
        assert!(answer.headers.contains(&("x-should-retry", "false".to_owned())));
        assert!(answer.headers.iter().all(|(name, _)| *name != "retry-after"));
    }
}
