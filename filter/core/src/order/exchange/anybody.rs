//! What can be answered before it matters who asks: sockets, and browsers' questions?

use super::draft::Draft;
use super::{Headers, Next};
use crate::answer;
use crate::denial::Denial;
use crate::endpoint::Asked;
use crate::ledger::Outcome;

/// Answers what is the same for everybody, and costs nothing: a path that is none, a socket, OPTIONS.
pub(super) fn answered(asked: &Asked<'_>, headers: &Headers, draft: &Draft) -> Option<Next> {
    let is_upgrade = is_upgrade(headers);
    if !is_upgrade && !asked.is_about_methods() {
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
fn is_upgrade(headers: &Headers) -> bool {
    headers.iter().any(|(name, _)| matches!(name.as_str(), "upgrade" | ":protocol"))
}
