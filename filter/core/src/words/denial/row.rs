//! What is a client told of each refusal? One row each: status, type, code; the field at fault; when to ask again; the sentence.

use super::retry::Retry;
use super::wording::{brief, capital, counted, limit, long, seconds};
use super::{Ambiguity, Denial};
use crate::allowance::{Allowance, Unit};
use crate::endpoint::BodyKind;
use std::borrow::Cow;
use std::time::Duration;

const BAD_REQUEST: &str = "invalid_request_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const RATE_LIMIT: &str = "rate_limit_error";
const QUOTA: &str = "insufficient_quota";
const SERVER: &str = "server_error";

/// All that the client is told.
pub(super) struct Row<'d> {
    pub(super) status: u16,
    /// OpenAI's `type`.
    pub(super) r#type: &'static str,
    /// OpenAI's `code`, which is also the word of metrics and log.
    pub(super) code: &'static str,
    /// The field that is at fault.
    pub(super) param: Option<&'d str>,
    pub(super) retry: Retry,
    /// How to authenticate, which every 401 tells. <https://www.rfc-editor.org/rfc/rfc6750#section-3>
    pub(super) challenge: Option<&'static str>,
    pub(super) sentence: Cow<'d, str>,
}

/// A refusal that another try does not change.
fn row<'d>(
    status: u16,
    r#type: &'static str,
    code: &'static str,
    sentence: impl Into<Cow<'d, str>>,
) -> Row<'d> {
    let challenge = (status == 401).then_some("Bearer");
    Row { status, r#type, code, param: None, retry: Retry::Never, challenge, sentence: sentence.into() }
}

impl<'d> Row<'d> {
    /// This field is at fault.
    fn at(self, param: &'d str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// It will be admitted after this long.
    fn after(self, wait: Duration) -> Self {
        Self { retry: Retry::After(wait), ..self }
    }

    /// It may be admitted after this long.
    fn perhaps(self, wait: Duration) -> Self {
        Self { retry: Retry::Perhaps(wait), ..self }
    }

    /// Nobody knows when it will be.
    fn open(self) -> Self {
        Self { retry: Retry::Open, ..self }
    }

    /// It is the token that is at fault.
    fn of_token(self) -> Self {
        Self { challenge: Some("Bearer error=\"invalid_token\""), ..self }
    }
}

impl Denial {
    /// A denial without a row does not compile.
    pub(super) fn row(&self) -> Row<'_> {
        match self {
            Self::UnknownEndpoint => {
                row(404, BAD_REQUEST, "unknown_url", "This path and method are not served here.")
            }
            Self::UpgradeRefused => row(
                426,
                BAD_REQUEST,
                "upgrade_not_supported",
                "WebSockets are not served here. Ask the same by HTTP.",
            ),
            Self::MissingCredential => row(
                401,
                AUTHENTICATION,
                "missing_api_key",
                "No API key was sent. Send it as `api-key: KEY` or as `Authorization: Bearer KEY`.",
            ),
            Self::AmbiguousCredential => row(
                401,
                AUTHENTICATION,
                "ambiguous_api_key",
                "More than one API key was sent. Send one.",
            ),
            Self::AmbiguousClient => row(
                401,
                AUTHENTICATION,
                "ambiguous_api_key",
                "The request names more than one client: by its API key or token, by its certificate, or by a header that is \
                 trusted here. Send an API key of the same client, or none.",
            ),
            Self::UnknownCredential => {
                row(401, AUTHENTICATION, "invalid_api_key", "The API key is not known here.")
            }
            Self::KeyExpired => row(401, AUTHENTICATION, "expired_api_key", "The API key has expired."),
            Self::KeyNotYetValid => {
                row(401, AUTHENTICATION, "api_key_not_yet_valid", "The API key is not valid yet.")
            }
            Self::InvalidToken(flaw) => {
                row(401, AUTHENTICATION, "invalid_token", format!("The token {}.", flaw.sentence())).of_token()
            }
            Self::TokenExpired => {
                row(401, AUTHENTICATION, "token_expired", "The token has expired.").of_token()
            }
            Self::TokenNotYetValid => {
                row(401, AUTHENTICATION, "token_not_yet_valid", "The token is not valid yet.").of_token()
            }
            Self::UnknownIssuer => row(
                401,
                AUTHENTICATION,
                "unknown_issuer",
                "The token's `iss` is nobody who is trusted here.",
            )
            .of_token(),
            Self::WrongAudience => {
                row(401, AUTHENTICATION, "wrong_audience", "The token's `aud` is not this gateway.").of_token()
            }
            Self::NoClient => row(
                401,
                AUTHENTICATION,
                "no_client_for_token",
                "The credential is genuine, but it is no client's of this gateway.",
            )
            .of_token(),
            Self::KeysUnavailable => {
                row(503, SERVER, "keys_unavailable", "The gateway cannot check this credential right now.").open()
            }
            Self::EndpointNotAllowed(endpoint) => row(
                403,
                PERMISSION,
                "endpoint_not_allowed",
                format!("This client may not use the endpoint `{endpoint}`."),
            ),
            Self::MissingField(field) => row(
                400,
                BAD_REQUEST,
                "missing_required_parameter",
                format!("The request has no `{field}`."),
            )
            .at(field),
            Self::ModelNotAllowed(model) => row(
                403,
                PERMISSION,
                "model_not_allowed",
                format!("The model `{model}` does not exist, or this client may not use it."),
            )
            .at("model"),
            Self::BodyTooLarge { bytes_max } => row(
                413,
                BAD_REQUEST,
                "request_too_large",
                format!("The request body is longer than {bytes_max} bytes, the most this client may send."),
            ),
            Self::HeldBytesExceeded { bytes_max, wait } => row(
                429,
                RATE_LIMIT,
                "held_bytes_exceeded",
                format!(
                    "This client sends bodies of more than {bytes_max} bytes at the same time, the most that is held for \
                     it. Send fewer at a time."
                ),
            )
            .perhaps(*wait),
            Self::UnsupportedMedia(kind) => row(415, BAD_REQUEST, "unsupported_media_type", media(*kind)),
            Self::UnsupportedCoding => row(
                415,
                BAD_REQUEST,
                "unsupported_content_encoding",
                "The request has a `content-encoding`, and compressed bodies are not taken here. Send the body \
                 uncompressed, without this header.",
            ),
            Self::InvalidJson(problem) => row(
                400,
                BAD_REQUEST,
                "invalid_json",
                format!("The request body is not valid JSON: {problem}."),
            ),
            Self::NotAnObject => {
                row(400, BAD_REQUEST, "invalid_json", "The request body must be a JSON object.")
            }
            Self::InvalidForm(problem) => row(
                400,
                BAD_REQUEST,
                "invalid_form",
                format!("The request body is not valid multipart/form-data: {problem}."),
            ),
            Self::BatchLine { line, problem } => row(
                400,
                BAD_REQUEST,
                "batch_line_refused",
                format!("Line {line} of the batch's file: {problem}"),
            )
            .at("file"),
            Self::Flawed(sentence) => row(400, BAD_REQUEST, "batch_line_refused", sentence),
            Self::BatchNotCounted => row(
                400,
                BAD_REQUEST,
                "batch_file_not_counted",
                "The batch's file was not counted here when it was uploaded. Upload it through this gateway with the purpose \
                 `batch`, and name it by the id in the answer to that.",
            )
            .at("input_file_id"),
            Self::AmbiguousField { field, problem } => {
                let sentence = match problem {
                    Ambiguity::Duplicate => format!("`{field}` stands more than once in the request."),
                    Ambiguity::Disguised => {
                        format!("`{field}` must be written plainly: lower case, without escapes.")
                    }
                    Ambiguity::File => {
                        format!("`{field}` must be a plain field of the form, without a file name.")
                    }
                };
                row(400, BAD_REQUEST, "ambiguous_parameter", sentence).at(field)
            }
            Self::AmbiguousPart { field, name, problem } => {
                let sentence = match problem {
                    Ambiguity::Duplicate => {
                        format!("In `{field}`, `{name}` stands more than once in one object.")
                    }
                    Ambiguity::Disguised | Ambiguity::File => {
                        format!("In `{field}`, `{name}` must be written plainly: lower case, without escapes.")
                    }
                };
                row(400, BAD_REQUEST, "ambiguous_parameter", sentence).at(field)
            }
            Self::InvalidField { field, expected } => {
                row(400, BAD_REQUEST, "invalid_type", format!("`{field}` must be {expected}.")).at(field)
            }
            Self::AboveMax { field, max, asked } => row(
                400,
                BAD_REQUEST,
                "parameter_above_maximum",
                format!("`{field}` is {asked}, but this client's policy allows at most {max}."),
            )
            .at(field),
            Self::TooMany { field, what, max, found } => row(
                400,
                BAD_REQUEST,
                "parameter_above_maximum",
                format!("`{field}` has {found} {what}, but this client's policy allows at most {max}."),
            )
            .at(field),
            Self::BelowMin { field, min, asked } => row(
                400,
                BAD_REQUEST,
                "parameter_below_minimum",
                format!("`{field}` is {asked}, but this client's policy allows at least {min}."),
            )
            .at(field),
            Self::BestOfBelowN { best_of, n } => row(
                400,
                BAD_REQUEST,
                "parameter_below_minimum",
                format!("`best_of` is {best_of}, but must be at least `n`, which is {n}."),
            )
            .at("best_of"),
            Self::Forbidden(field) => row(
                400,
                BAD_REQUEST,
                "parameter_not_allowed",
                format!("`{field}` is not allowed by this client's policy."),
            )
            .at(field),
            Self::ForbiddenPart { field, part } => row(
                400,
                BAD_REQUEST,
                "parameter_not_allowed",
                format!("`{field}` has {part}, which this client's policy does not allow."),
            )
            .at(field),
            Self::NotAllowed { field, asked, allowed } => row(
                400,
                BAD_REQUEST,
                "parameter_value_not_allowed",
                format!("`{field}` is `{asked}`, but this client's policy allows only {}.", quoted(allowed)),
            )
            .at(field),
            Self::UnknownFields { names, more } => {
                let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
                let listed = quoted(names);
                let sentence = format!(
                    "This client's policy allows only known fields, and does not know {listed}{more}."
                );
                let first = names.first().map(String::as_str);
                Row { param: first, ..row(400, BAD_REQUEST, "unknown_parameter", sentence) }
            }
            Self::Exclusive(one, other) => row(
                400,
                BAD_REQUEST,
                "mutually_exclusive_parameters",
                format!("`{one}` and `{other}` cannot both be set."),
            )
            .at(one),
            Self::RateExhausted { allowance, needed, remaining, wait } => {
                row(429, RATE_LIMIT, "rate_limit_exceeded", exhausted(allowance, *needed, *remaining, *wait))
                    .after(*wait)
            }
            Self::QuotaExhausted { allowance, needed, remaining, wait } => {
                row(429, QUOTA, "insufficient_quota", exhausted(allowance, *needed, *remaining, *wait))
                    .after(*wait)
            }
            Self::NeverFits { allowance, needed } => {
                let (unit, cost) = match allowance.measure.unit() {
                    Some(unit @ Unit::Cost) => ("", unit.text(*needed)),
                    Some(unit) => (counted(unit), unit.text(*needed)),
                    None => ("", needed.to_string()),
                };
                let limit = brief(allowance);
                row(
                    429,
                    RATE_LIMIT,
                    "request_exceeds_limit",
                    format!(
                        "The request may cost {cost}{unit}, more than {limit}. Ask for fewer completion tokens or send a \
                         shorter prompt."
                    ),
                )
            }
            Self::TooManyAtOnce { allowance, wait } => row(
                429,
                RATE_LIMIT,
                "concurrency_limit_exceeded",
                format!("{} is reached. Try again when one of them has ended.", capital(allowance)),
            )
            .perhaps(*wait),
            Self::BackendsThrottled { wait } => row(
                429,
                RATE_LIMIT,
                "backends_throttled",
                format!("Every backend for this model is at its limit. Try again in {}.", seconds(*wait)),
            )
            .after(*wait),
            Self::UnknownBackend { asked, known } => row(
                400,
                BAD_REQUEST,
                "backend_not_found",
                format!("`order` has `{asked}`, but the model's backends are {}.", quoted(known)),
            )
            .at("order"),
            Self::UnknownId(id) => {
                row(404, BAD_REQUEST, "id_not_found", format!("Nothing with the id `{id}` is known here."))
            }
            Self::MixedIds => row(
                400,
                BAD_REQUEST,
                "ids_of_different_backends",
                "The ids in this request are of things that are kept in different places: no backend has them all.",
            ),
            Self::NotServedThere(model) => row(
                400,
                BAD_REQUEST,
                "model_not_served_there",
                format!("The model `{model}` is not served where this request has to go."),
            )
            .at("model"),
            Self::OtherApi(operation) => row(
                400,
                BAD_REQUEST,
                "model_not_served_by_api",
                format!("No backend of this model speaks the API of `{operation}`: ask for it by another endpoint."),
            )
            .at("model"),
            Self::NoRegion => row(
                403,
                PERMISSION,
                "region_not_permitted",
                "No backend for this model is in a region that this client may be served from.",
            ),
            Self::UnknownField { field, versions } => row(
                400,
                BAD_REQUEST,
                "unsupported_parameter",
                format!(
                    "`{field}` is taken by no backend that may serve this request: it needs API version {versions}."
                ),
            )
            .at(field),
            Self::UnknownOperation { operation, versions } => row(
                400,
                BAD_REQUEST,
                "unsupported_operation",
                format!(
                    "No backend that may serve this request has `{operation}`: it needs API version {versions}."
                ),
            ),
            Self::NoDeployment => row(
                503,
                SERVER,
                "deployment_not_found",
                "No backend has the deployment that this gateway's configuration names for the model.",
            ),
            Self::BackendCredentialRefused => row(
                503,
                SERVER,
                "backend_credential_refused",
                "The backend does not accept this gateway's own credential. Your key is not at fault.",
            ),
            Self::CredentialUnavailable => row(
                503,
                SERVER,
                "backend_credential_unavailable",
                "The gateway has no token for the backend right now. Your key is not at fault.",
            )
            .open(),
            Self::NoCapacity { wait } => row(
                429,
                RATE_LIMIT,
                "capacity_exceeded",
                format!(
                    "The backends for this model have no room for a request of this client's priority. Try again in {}.",
                    seconds(*wait),
                ),
            )
            .after(*wait),
            Self::SpillExhausted { allowance, wait } => row(
                429,
                RATE_LIMIT,
                "spill_limit_exceeded",
                format!(
                    "The first backends for this model have no room, and {} is reached. Try again in {}.",
                    limit(allowance, allowance.measure.unit().map_or("", counted)),
                    long(*wait),
                ),
            )
            .after(*wait),
            Self::QueueFull { wait } => row(
                429,
                RATE_LIMIT,
                "queue_full",
                "This client has as many requests in the queue as it may. Try again when one of them is answered.",
            )
            .perhaps(*wait),
            Self::QueueUnavailable => row(
                503,
                SERVER,
                "queue_unavailable",
                "The gateway's queue cannot be reached right now.",
            )
            .perhaps(Duration::from_secs(1)),
            Self::QueueNotInRegion => row(
                403,
                PERMISSION,
                "queue_not_in_region",
                "The gateway's queue is in no region that this client may be served from.",
            )
            .at("background"),
            Self::QueueNotForKey => row(
                403,
                PERMISSION,
                "queue_not_for_key",
                "This key may less than its client, or its client came while the gateway runs: what waits in the gateway's queue is asked for a whole client of the configuration.",
            )
            .at("background"),
            Self::JobFailed(why) => row(
                502,
                SERVER,
                "job_failed",
                format!("There is no answer to this request, and there will be none: {why}."),
            ),
            Self::JobCancelled => row(410, BAD_REQUEST, "job_cancelled", "This request was cancelled."),
            Self::ActForNotAllowed => row(
                403,
                PERMISSION,
                "act_for_not_allowed",
                "This client may not ask for the one that `tollgate-act-for` names.",
            ),
            Self::StoreUnavailable => row(
                503,
                SERVER,
                "store_unavailable",
                "The gateway cannot check this client's budget right now.",
            )
            .open(),
            Self::HeadersNotHeld => row(
                503,
                SERVER,
                "headers_not_held",
                "The gateway is not set up to check requests, and takes none.",
            ),
            Self::Unplanned => row(
                503,
                SERVER,
                "backend_not_permitted",
                "The gateway chose no backend for this attempt.",
            ),
            Self::OutOfTurn => {
                row(500, SERVER, "internal_error", "The gateway lost track of this request.")
            }
            Self::Proxy { status: 413 } => row(
                413,
                BAD_REQUEST,
                "request_too_large",
                "The request body is longer than the gateway takes.",
            )
            .open(),
            Self::Proxy { status: 504 } => {
                row(504, SERVER, "backend_timeout", "The backend did not answer in time.").open()
            }
            Self::Proxy { status: 503 } => {
                row(503, SERVER, "backend_unavailable", "No backend for this model could be reached.").open()
            }
            Self::Proxy { status } => {
                let r#type = if *status >= 500 { SERVER } else { BAD_REQUEST };
                row(*status, r#type, "proxy_error", "The gateway could not complete this request.").open()
            }
        }
    }
}

/// What would be the right `content-type`.
fn media(kind: BodyKind) -> String {
    const JSON: &str = "JSON in UTF-8 as `content-type: application/json`";
    const FORM: &str = "a form as `content-type: multipart/form-data` with its boundary";
    let types = match kind {
        BodyKind::Form => FORM.to_owned(),
        BodyKind::JsonOrForm => format!("{JSON}, or {FORM}"),
        BodyKind::Json | BodyKind::Unread => JSON.to_owned(),
    };
    format!("The `content-type` of the request is not taken here. Send {types}.")
}

/// Words, each as it would be written.
fn quoted(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// A limit that is used, and what is left where that is not nothing.
fn exhausted(allowance: &Allowance, needed: u64, remaining: u64, wait: Duration) -> String {
    let left = match allowance.measure.unit() {
        Some(Unit::Requests) | None => String::new(),
        Some(unit) => {
            format!(": the request may cost {}, {} are left", unit.text(needed), unit.text(remaining))
        }
    };
    format!("{} is reached{left}. Try again in {}.", capital(allowance), long(wait))
}
