//! Which operation does a request line name, and in which dialect? Knows nothing of bodies.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::refusal::Refusal;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST chat/completions`
    Chat,
    /// `POST completions`
    Completions,
    /// `POST embeddings`
    Embeddings,
    /// `POST responses`
    Responses,
    /// Anthropic's `POST messages`
    Messages,
    /// Anthropic's `POST messages/count_tokens`
    CountTokens,
    /// `GET models` and `GET models/{model}`
    Models,
    /// What is kept: files, threads, responses that were made, and the like
    Resources,
}

/// Whose manners the answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `/v1/...`
    OpenAi,
    /// `/openai/...`
    Azure,
    /// `/v1/messages`, `/anthropic/...`
    Anthropic,
}

/// A dated `api-version`; its `-preview` makes no difference here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiVersion {
    date: String,
}

/// What a request line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) operation: Operation,
    pub(super) dialect: Dialect,
    /// The model or deployment named by the path.
    pub(super) model: Option<String>,
    /// None where the dialect has no dated versions: everything new is understood.
    pub(super) api_version: Option<ApiVersion>,
    /// Of [`Operation::Resources`], the path less its prefix.
    pub(super) segments: Vec<String>,
}

/// Where things are kept.
const KEPT: [&str; 6] = ["assistants", "batches", "conversations", "files", "threads", "vector_stores"];

impl Dialect {
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("/openai/") {
            Self::Azure
        } else if path.starts_with("/anthropic/") || path.starts_with("/v1/messages") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }
}

impl ApiVersion {
    /// Is it older than this `YYYY-MM-DD`?
    pub(super) fn before(&self, date: &str) -> bool {
        self.date.as_str() < date
    }

    fn parse(version: &str) -> Option<Self> {
        let date = version.strip_suffix("-preview").unwrap_or(version);
        let shaped = date.len() == 10
            && date.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        shaped.then(|| Self { date: date.to_owned() })
    }
}

impl Endpoint {
    pub(super) fn parse(method: &str, path_and_query: &str) -> Result<Self, Refusal> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let dialect = Dialect::of(path);
        let segments: Vec<Cow<'_, str>> = path
            .strip_prefix('/')
            .unwrap_or(path)
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy())
            .collect();
        let segments: Vec<&str> = segments.iter().map(Cow::as_ref).collect();

        let not_found = || match dialect {
            Dialect::Azure => Refusal::resource_not_found(),
            Dialect::OpenAi | Dialect::Anthropic => {
                Refusal::invalid(404, &format!("Invalid URL ({method} {path})"), None, None)
            }
        };
        let dated = || ApiVersion::parse(query_value(query, "api-version")?);
        let (rest, model, api_version) = match segments.as_slice() {
            ["v1", rest @ ..] | ["openai", "v1", rest @ ..] => (rest, None, None),
            ["anthropic", "v1", rest @ ..] if rest.first() == Some(&"messages") => (rest, None, None),
            // A project of Azure's Foundry, OpenRouter, Gemini.
            ["api", "projects", _, "openai", "v1", rest @ ..]
            | ["api", "v1", rest @ ..]
            | ["v1beta", "openai", rest @ ..] => (rest, None, None),
            ["openai", "deployments", deployment, rest @ ..]
                if !matches!(rest, ["responses" | "models", ..]) =>
            {
                (rest, Some((*deployment).to_owned()), Some(dated().ok_or_else(not_found)?))
            }
            ["openai", rest @ ..] if matches!(rest, ["responses" | "models", ..]) || is_kept(rest) => {
                (rest, None, Some(dated().ok_or_else(not_found)?))
            }
            _ => return Err(not_found()),
        };
        let (operation, expected_method) = match rest {
            ["chat", "completions"] => (Operation::Chat, "POST"),
            ["completions"] => (Operation::Completions, "POST"),
            ["embeddings"] => (Operation::Embeddings, "POST"),
            ["responses"] => (Operation::Responses, "POST"),
            ["messages"] => (Operation::Messages, "POST"),
            ["messages", "count_tokens"] => (Operation::CountTokens, "POST"),
            ["models"] | ["models", _] => (Operation::Models, "GET"),
            rest if is_kept(rest) => (Operation::Resources, method),
            _ => return Err(not_found()),
        };
        if method != expected_method {
            return Err(match dialect {
                Dialect::Azure => Refusal::resource_not_found(),
                Dialect::OpenAi | Dialect::Anthropic => Refusal::invalid(
                    405,
                    &format!("Not allowed to {method} on {path}."),
                    None,
                    Some("method_not_supported"),
                ),
            });
        }
        if operation == Operation::Responses && api_version.as_ref().is_some_and(|v| v.before("2025-03-01")) {
            return Err(Refusal::azure(
                400,
                "BadRequest",
                "Azure OpenAI Responses API is enabled only for api-version 2025-03-01-preview and later",
            ));
        }
        let model = match rest {
            ["models", model] => Some((*model).to_owned()),
            _ => model,
        };
        let of_kept = rest.iter().filter(|_| operation == Operation::Resources);
        let segments = of_kept.map(|segment| (*segment).to_owned()).collect();
        Ok(Self { operation, dialect, model, api_version, segments })
    }

    /// `stream_options`, `max_completion_tokens` and their generation came with 2024-09-01-preview.
    pub(super) fn predates_stream_options(&self) -> bool {
        self.api_version.as_ref().is_some_and(|version| version.before("2024-09-01"))
    }
}

fn is_kept(rest: &[&str]) -> bool {
    matches!(rest, ["responses", _, ..]) || rest.first().is_some_and(|first| KEPT.contains(first))
}

pub(super) fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}
