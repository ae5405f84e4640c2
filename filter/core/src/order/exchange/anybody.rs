//! What can be answered before it matters who asks: sockets, and browsers' questions?

use super::draft::Draft;
use super::{Headers, Next, find};
use crate::answer;
use crate::denial::Denial;
use crate::endpoint::Asked;
use crate::headers::{KEY_PROTOCOL, protocols};
use crate::ledger::Outcome;

/// Answers what is the same for everybody, and costs nothing: a path that is none, a socket, OPTIONS.
pub(super) fn answered(asked: &Asked<'_>, headers: &Headers, draft: &Draft) -> Option<Next> {
    let is_upgrade = is_upgrade(headers);
    if !is_upgrade && !asked.is_about_methods() || is_upgrade && draft.serves_socket(asked, headers) {
        return None;
    }
    let known = asked.by_any_method(&draft.gateway.other_paths);
    let known = known.filter(|(_, endpoint)| draft.has_endpoint(endpoint));
    let mut methods: Vec<_> = known.map(|(method, _)| method).collect();
    Some(match is_upgrade {
        true if !methods.is_empty() || asked.is_realtime() => draft.deny(&Denial::UpgradeRefused),
        false if !methods.is_empty() => {
            methods.push("OPTIONS");
            draft.answer(Some(answer::methods(&methods)), Outcome::Answered)
        }
        _ => draft.deny(&Denial::UnknownEndpoint),
    })
}

/// Whether the connection is to become something else. Envoy leaves `upgrade` only where it is meant, and writes HTTP/2's
/// extended CONNECT so.
pub(super) fn is_upgrade(headers: &Headers) -> bool {
    headers.iter().any(|(name, _)| matches!(name.as_str(), "upgrade" | ":protocol"))
}

/// A key among the protocols that a socket is asked with, for a browser can send it nowhere else.
/// <https://platform.openai.com/docs/guides/realtime-websocket>
pub(super) fn key_of_protocols(headers: &Headers) -> Option<&[u8]> {
    protocols(headers).find_map(|protocol| protocol.strip_prefix(KEY_PROTOCOL.as_bytes()))
}

impl Draft {
    /// Whether a socket is served here.
    fn serves_socket(&self, asked: &Asked<'_>, headers: &Headers) -> bool {
        let endpoint = asked.endpoint(&self.gateway.other_paths);
        let is_websocket = find(headers, "upgrade").is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
        is_websocket
            && endpoint.is_some_and(|endpoint| endpoint.operation.is_socket() && self.has_endpoint(&endpoint))
    }
}
