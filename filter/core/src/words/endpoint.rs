//! Which operation is this path, of OpenAI's API or Anthropic's, and how is it written for a backend?
//!
//! All URL styles are accepted from clients; each backend speaks one. Not decided here: whether the client may.

mod query;
mod resources;

pub use query::{api_keys, ends_here, parameters, values, without, without_credentials};
pub use resources::{may_be_added, model_of_path, takes_uploads};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;

/// What an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `chat/completions`
    ChatCompletions,
    /// `completions`, the older one with `prompt` and `best_of`
    Completions,
    /// `embeddings`
    Embeddings,
    /// `responses`
    Responses,
    /// `responses/compact`: a long conversation made short
    Compact,
    /// `responses/input_tokens`: how long a prompt is
    InputTokens,
    /// `images/generations`
    ImageGenerations,
    /// `images/edits`
    ImageEdits,
    /// `audio/transcriptions`
    Transcriptions,
    /// `audio/translations`
    Translations,
    /// `audio/speech`
    Speech,
    /// `realtime`: a conversation by a WebSocket
    Realtime,
    /// `responses` by a WebSocket: each turn is one of [`Self::Responses`]
    ResponsesSocket,
    /// Anthropic's `messages`
    Messages,
    /// Anthropic's `messages/count_tokens`: how long a prompt is
    CountTokens,
    /// `models`: which models may be called
    Models,
    /// What a backend keeps, and jobs that work on it: files, batches, threads
    Other,
    /// `/tollgate/v1/usage`: where the client's limits stand
    Limits,
    /// `/tollgate/health`: whether there are backends that can be asked
    Health,
    /// `/tollgate/config`: which configuration runs
    Config,
    /// `/tollgate/v1/order`: in which order an operator has backends asked
    Order,
    /// `/tollgate/v1/jobs/{id}`: a request that is answered later
    Job,
}

/// Whose API an operation is of: what errors look like, and which backends have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's.
    #[default]
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// One JSON object.
    Json,
    /// `multipart/form-data`.
    Form,
    /// One or the other.
    JsonOrForm,
    /// It is not read, if there is one.
    Unread,
}

/// Who says what an answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// The answer's usage.
    Usage,
    /// Nobody, though it costs something.
    Estimate,
    /// The answer's usage, if it has one; else it costs nothing.
    UsageIfAny,
    /// It costs nothing, whatever the answer says.
    Nothing,
}

impl Operation {
    /// Those that have a name: all but [`Self::Other`].
    pub const NAMED: [Self; 16] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Compact,
        Self::InputTokens,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::Transcriptions,
        Self::Translations,
        Self::Speech,
        Self::Realtime,
        Self::ResponsesSocket,
        Self::Messages,
        Self::CountTokens,
        Self::Models,
    ];

    /// Those that are Tollgate's own.
    pub const OWN: [Self; 5] = [Self::Limits, Self::Health, Self::Config, Self::Order, Self::Job];

    /// The path after the style's prefix; of [`Self::Other`] and those of Tollgate's own, nothing.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses | Self::ResponsesSocket => "responses",
            Self::Compact => "responses/compact",
            Self::InputTokens => "responses/input_tokens",
            Self::ImageGenerations => "images/generations",
            Self::ImageEdits => "images/edits",
            Self::Transcriptions => "audio/transcriptions",
            Self::Translations => "audio/translations",
            Self::Speech => "audio/speech",
            Self::Realtime => "realtime",
            Self::Messages => "messages",
            Self::CountTokens => "messages/count_tokens",
            Self::Models => "models",
            Self::Other | Self::Limits | Self::Health | Self::Config | Self::Order | Self::Job => "",
        }
    }

    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Limits => "usage",
            Self::Health => "health",
            Self::Config => "config",
            Self::Order => "order",
            Self::Job => "job",
            Self::ResponsesSocket => "responses/websocket",
            _ => self.path(),
        }
    }

    /// The operation of this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::NAMED
            .into_iter()
            .chain([Self::Other])
            .chain(Self::OWN)
            .find(|operation| operation.word() == word)
    }

    /// Whether its requests go to a backend.
    #[must_use]
    pub const fn reaches_backends(self) -> bool {
        !matches!(self, Self::Models | Self::Limits | Self::Health | Self::Config | Self::Order | Self::Job)
    }

    /// All whose requests do.
    pub fn reaching_backends() -> impl Iterator<Item = Self> {
        Self::NAMED.into_iter().chain([Self::Other]).filter(|operation| operation.reaches_backends())
    }

    /// Whether it is one of Responses' API: the same prompt, the same ids.
    #[must_use]
    pub const fn is_of_responses(self) -> bool {
        matches!(self, Self::Responses | Self::Compact | Self::InputTokens)
    }

    /// Whether it opens a WebSocket: it has no body, and each turn is an operation of its own.
    #[must_use]
    pub const fn is_socket(self) -> bool {
        matches!(self, Self::Realtime | Self::ResponsesSocket)
    }

    /// What each of its turns is, if it opens a WebSocket.
    #[must_use]
    pub const fn of_turns(self) -> Self {
        match self {
            Self::ResponsesSocket => Self::Responses,
            other => other,
        }
    }

    /// What opens the WebSocket of which it is a turn.
    #[must_use]
    pub const fn of_connection(self) -> Self {
        match self {
            Self::Responses => Self::ResponsesSocket,
            other => other,
        }
    }

    /// Whose API it is of.
    #[must_use]
    pub const fn api(self) -> Api {
        match self {
            Self::Messages | Self::CountTokens => Api::Anthropic,
            _ => Api::OpenAi,
        }
    }

    /// Whether that is Anthropic's.
    #[must_use]
    pub const fn is_of_anthropic(self) -> bool {
        matches!(self.api(), Api::Anthropic)
    }

    /// A HEAD is a GET whose answer has no body. <https://www.rfc-editor.org/rfc/rfc9110#section-9.1>
    fn takes(self, method: &str) -> bool {
        match self {
            Self::Models | Self::Limits | Self::Health | Self::Config => matches!(method, "GET" | "HEAD"),
            Self::Order => matches!(method, "GET" | "HEAD" | "POST" | "DELETE"),
            Self::Job => matches!(method, "GET" | "HEAD" | "DELETE"),
            Self::Other => false,
            // As which a socket is asked for. <https://www.rfc-editor.org/rfc/rfc6455#section-4.1>
            Self::Realtime | Self::ResponsesSocket => method == "GET",
            _ => method == "POST",
        }
    }

    /// How its body is written.
    #[must_use]
    pub const fn body(self) -> BodyKind {
        match self {
            Self::Transcriptions | Self::Translations => BodyKind::Form,
            // <https://platform.openai.com/docs/api-reference/images/createEdit>
            Self::ImageEdits | Self::Other => BodyKind::JsonOrForm,
            Self::Models | Self::Limits | Self::Health | Self::Config | Self::Job => BodyKind::Unread,
            _ => BodyKind::Json,
        }
    }

    /// Who says what it costs.
    #[must_use]
    pub const fn billing(self) -> Billing {
        match self {
            Self::Speech => Billing::Estimate,
            Self::InputTokens | Self::CountTokens => Billing::Nothing,
            Self::Models
            | Self::Other
            | Self::Limits
            | Self::Health
            | Self::Config
            | Self::Order
            | Self::Job => Billing::UsageIfAny,
            _ => Billing::Usage,
        }
    }

    /// Whether an answer as a stream carries its usage only when `stream_options` asks for it.
    #[must_use]
    pub const fn takes_stream_options(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }
}

/// A request's method and path, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// What is asked.
    pub operation: Operation,
    /// The model, where the path names it; the body's `model` is then ignored, as Azure does. Of [`Operation::Models`],
    /// [`Operation::Health`] and [`Operation::Order`], the one that is asked about; of [`Operation::Job`], its name. As it is written: not [`decoded`].
    pub deployment: Option<&'a str>,
    /// Of [`Operation::Other`], the path after the style's prefix, and the query.
    pub rest: Option<(&'a str, &'a str)>,
}

/// The methods that any endpoint has.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// What is written otherwise in a query.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What no backend is asked.
const OWN_PREFIX: &str = "/tollgate/";

/// Method, path and query as a client sends them, with one way to write each path.
#[derive(Clone, Debug)]
pub struct Asked<'h> {
    method: &'h str,
    path: Cow<'h, str>,
    query: &'h str,
}

impl<'h> Asked<'h> {
    /// Reads `:method` and `:path`. A slash too many, in the middle or at the end, says nothing: clients' base addresses
    /// end with one. `None` for what is no text.
    #[must_use]
    pub fn read(method: &'h [u8], path: &'h [u8]) -> Option<Self> {
        let (method, path) = (std::str::from_utf8(method).ok()?, std::str::from_utf8(path).ok()?);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut path = Cow::Borrowed(path);
        if path.contains("//") || path.len() > 1 && path.ends_with('/') {
            // Where a deployment's name is missing, what follows is none.
            if path.contains("/deployments//") {
                return None;
            }
            let segments = path.split('/').filter(|segment| !segment.is_empty());
            path = Cow::Owned(segments.flat_map(|segment| ["/", segment]).collect());
        }
        Some(Self { method, path, query })
    }

    /// The query, as it came.
    #[must_use]
    pub fn query(&self) -> &'h str {
        self.query
    }

    /// The endpoint; `None` for what is none. `added` are first segments of [`Operation::Other`] besides those known here.
    #[must_use]
    pub fn endpoint(&self, added: &[String]) -> Option<Endpoint<'_>> {
        self.endpoint_by(self.method, added)
    }

    /// Its path as an endpoint, by each method that makes one of it.
    pub fn by_any_method<'a>(
        &'a self,
        added: &'a [String],
    ) -> impl Iterator<Item = (&'static str, Endpoint<'a>)> {
        METHODS.into_iter().filter_map(|method| Some((method, self.endpoint_by(method, added)?)))
    }

    /// Whether it asks which methods there are, as browsers do before they ask from another origin.
    #[must_use]
    pub fn is_about_methods(&self) -> bool {
        self.method == "OPTIONS"
    }

    /// Whether it is where a socket is asked for, in OpenAI's API or Azure's.
    #[must_use]
    pub fn is_realtime(&self) -> bool {
        self.below_prefix().is_some_and(|(_, rest)| rest == "realtime" || rest.starts_with("realtime/"))
    }

    /// The path after the prefix, if it may be one of Anthropic's API: as itself has it, and as Azure does.
    /// <https://platform.claude.com/docs/en/api/messages>, <https://learn.microsoft.com/azure/ai-foundry/foundry-models/how-to/use-foundry-models-claude>
    fn below_anthropic(&self) -> Option<&str> {
        self.path.strip_prefix("/v1/").or_else(|| self.path.strip_prefix("/anthropic/v1/"))
    }

    /// The deployment, if the path names one, and the path after the style's prefix.
    fn below_prefix(&self) -> Option<(Option<&str>, &str)> {
        if let Some(rest) = self.path.strip_prefix("/v1/") {
            return Some((None, rest));
        }
        let azure = self.path.strip_prefix("/openai/")?;
        if let Some(rest) = azure.strip_prefix("v1/") {
            Some((None, rest))
        } else if let Some(rest) = azure.strip_prefix("deployments/") {
            let (deployment, rest) = rest.split_once('/')?;
            (!deployment.is_empty()).then_some((Some(deployment), rest))
        } else {
            Some((None, azure))
        }
    }

    fn endpoint_by(&self, method: &str, added: &[String]) -> Option<Endpoint<'_>> {
        if self.path.starts_with(OWN_PREFIX) {
            return self.own(method);
        }
        if let Some(rest) = self.below_anthropic() {
            let mut operations = Operation::NAMED.into_iter().filter(|operation| operation.is_of_anthropic());
            let found = operations.find(|operation| operation.path() == rest && operation.takes(method));
            if let Some(operation) = found {
                return Some(Endpoint { operation, deployment: None, rest: None });
            }
        }
        let (deployment, rest) = self.below_prefix()?;
        let named = |operation| Some(Endpoint { operation, deployment, rest: None });
        if let (true, None, Some(model)) =
            (Operation::Models.takes(method), deployment, rest.strip_prefix("models/"))
        {
            return Some(Endpoint { operation: Operation::Models, deployment: Some(model), rest: None });
        }
        let operation = Operation::NAMED
            .into_iter()
            .filter(|operation| !operation.is_of_anthropic())
            .find(|operation| operation.path() == rest && operation.takes(method));
        match (operation, deployment) {
            (Some(Operation::Models | Operation::Realtime | Operation::ResponsesSocket), Some(_)) => None,
            (Some(operation), None) if operation.is_socket() => {
                Some(Endpoint { operation, deployment: self.model_of_query(), rest: None })
            }
            (Some(operation), _) => named(operation),
            (None, None) if resources::is_other(method, rest, added) => Some(Endpoint {
                operation: Operation::Other,
                deployment: None,
                rest: Some((rest, self.query)),
            }),
            (None, _) => None,
        }
    }

    /// The model of a socket, which has no body: OpenAI's word, and Azure's older one.
    fn model_of_query(&self) -> Option<&str> {
        let named = |name: &str| self.query.split('&').find_map(|part| part.strip_prefix(name));
        named("model=").or_else(|| named("deployment=")).filter(|model| !model.is_empty())
    }

    /// What is Tollgate's own. Of a load balancer's question the answer may be enough without its body.
    fn own(&self, method: &str) -> Option<Endpoint<'_>> {
        if let Some(id) = self.path.strip_prefix("/tollgate/v1/jobs/") {
            let endpoint = Endpoint { operation: Operation::Job, deployment: Some(id), rest: None };
            return Operation::Job.takes(method).then_some(endpoint);
        }
        let operation = match &*self.path {
            "/tollgate/v1/usage" => Operation::Limits,
            "/tollgate/health" => Operation::Health,
            "/tollgate/config" => Operation::Config,
            "/tollgate/v1/order" => Operation::Order,
            _ => return None,
        };
        let model = self.query.split('&').find_map(|part| part.strip_prefix("model="));
        let deployment = model.filter(|_| matches!(operation, Operation::Health | Operation::Order));
        operation.takes(method).then_some(Endpoint { operation, deployment, rest: None })
    }
}

/// An Azure `api-version`: a date, perhaps a preview.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiVersion {
    text: String,
}

impl ApiVersion {
    /// Takes `YYYY-MM-DD` or `YYYY-MM-DD-preview`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let date = text.strip_suffix("-preview").unwrap_or(text);
        let shape = date.len() == 10
            && date.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        shape.then(|| Self { text: text.to_owned() })
    }

    /// As it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is no version proper.
    #[must_use]
    pub fn is_preview(&self) -> bool {
        self.text.ends_with("-preview")
    }
}

impl fmt::Debug for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How a backend wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    /// `/openai/deployments/{deployment}/{operation}?api-version=…`
    Azure(ApiVersion),
    /// `/openai/v1/{operation}`, the model in the body
    AzureV1,
    /// `/v1/{operation}`, the model in the body
    OpenAi,
    /// `/v1/messages`, Anthropic's API
    Anthropic,
}

impl Style {
    /// What its paths begin with, where nothing else is said.
    #[must_use]
    pub const fn base(&self) -> &'static str {
        match self {
            Self::Azure(_) => "/openai",
            Self::AzureV1 => "/openai/v1",
            Self::OpenAi | Self::Anthropic => "/v1",
        }
    }

    /// The whole path and query below `base` for an operation on a deployment.
    #[must_use]
    pub fn path(&self, base: &str, operation: Operation, deployment: &str) -> String {
        let path = operation.path();
        let in_query = || utf8_percent_encode(deployment, IN_QUERY);
        match (self, operation) {
            (Self::Azure(version), Operation::Realtime) => {
                format!("{base}/{path}?api-version={version:?}&deployment={}", in_query())
            }
            (_, Operation::Realtime) => format!("{base}/{path}?model={}", in_query()),
            (Self::Azure(version), _) if operation.is_of_responses() => {
                format!("{base}/{path}?api-version={version:?}")
            }
            (Self::Azure(version), _) => {
                format!("{base}/deployments/{deployment}/{path}?api-version={version:?}")
            }
            (Self::AzureV1 | Self::OpenAi | Self::Anthropic, _) => format!("{base}/{path}"),
        }
    }

    /// The same for an endpoint that is passed on unread: its path and query below `base`.
    #[must_use]
    pub fn other_path(&self, base: &str, rest: &str, query: &str) -> String {
        let mut parameters: Vec<&str> =
            query.split('&').filter(|part| !part.is_empty() && !ends_here(part)).collect();
        let version = match self {
            Self::Azure(version) => Some(format!("api-version={version:?}")),
            Self::AzureV1 | Self::OpenAi | Self::Anthropic => None,
        };
        if let Some(version) = &version {
            parameters.insert(0, version);
        }
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{base}/{rest}{mark}{}", parameters.join("&"))
    }

    /// Whose API it speaks.
    #[must_use]
    pub const fn api(&self) -> Api {
        match self {
            Self::Anthropic => Api::Anthropic,
            Self::Azure(_) | Self::AzureV1 | Self::OpenAi => Api::OpenAi,
        }
    }

    /// Whether its API has such an operation, in some version. Azure's dated paths have no socket of Responses.
    /// <https://learn.microsoft.com/en-us/azure/foundry/openai/how-to/websockets>
    #[must_use]
    pub fn has(&self, operation: Operation) -> bool {
        let is_dated = matches!(self, Self::Azure(_));
        self.api() == operation.api() && !(is_dated && operation == Operation::ResponsesSocket)
    }

    /// Whether the body's `model` says which deployment is meant.
    #[must_use]
    pub fn names_model_in_body(&self, operation: Operation) -> bool {
        !operation.is_socket() && (!matches!(self, Self::Azure(_)) || operation.is_of_responses())
    }
}

/// A part of a path or query, with its `%41`. What is no such thing stays as it is: it is no model's name then.
#[must_use]
pub fn decoded(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8().unwrap_or(Cow::Borrowed(part))
}

/// Whether a name can stand in a path as it is.
#[must_use]
pub fn is_path_segment(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests;
