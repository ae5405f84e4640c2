//! Sockets, as the operator writes them.

use serde::Deserialize;

/// Which APIs are served by WebSocket.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct WebSocket {
    /// Conversations at `/v1/realtime`. Absent: who asks for one gets 426.
    pub(in super::super) realtime: Option<Realtime>,
    /// Responses at `/v1/responses`, many on one connection. Absent: who asks for one gets 426.
    pub(in super::super) responses: Option<Responses>,
}

/// Responses by WebSocket.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Responses {
    /// The model whose backends a connection goes to, unless its query names one (`?model=`). Absent: the first of `models` that the client
    /// may use and that is served so.
    pub(in super::super) model: Option<String>,
    /// What happens when the client's limits are used up.
    #[serde(default)]
    pub(in super::super) when_exhausted: WhenExhausted,
}

/// Conversations at `/v1/realtime`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Realtime {
    /// What happens when the client's limits are used up.
    #[serde(default)]
    pub(in super::super) when_exhausted: WhenExhausted,
}

/// What happens when the client's limits are used up.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) enum WhenExhausted {
    /// The turn is refused, or ended if the backend has begun it, and the client gets an `error` event: the connection stays.
    #[default]
    Refuse,
    /// The connection is closed, with code 1008.
    Close,
}
