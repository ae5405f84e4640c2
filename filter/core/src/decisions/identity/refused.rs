//! What is told of a caller that is refused, by what it shows?
//!
//! Not decided here: whether any of it is true, and why it is refused.

use super::claims::Json;
use super::{Directory, KeySource, X_API_KEY, jwt, strip_bearer};
use crate::caller::{Caller, bounded_claim, key_hint};
use crate::endpoint::{Api, api_keys};

impl<C> Directory<C> {
    /// What is told of whoever showed this and is refused. Of several credentials the first one is told.
    pub fn caller<'h>(
        &self,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        query: &'h str,
        api: Api,
    ) -> Caller {
        let caller = Caller { address: self.proxy.address(), ..Caller::default() };
        let shown = headers.filter_map(|(name, value)| match name {
            "authorization" => strip_bearer(value),
            "api-key" => Some(value),
            X_API_KEY if api == Api::Anthropic => Some(value),
            _ => self.reads_keys_from(name).then_some(value),
        });
        if let Some(secret) = shown.into_iter().find(|secret| !secret.is_empty()) {
            return told(secret, caller);
        }
        let in_query = api_keys(query).find(|_| self.key_sources.contains(&KeySource::Query));
        in_query.map_or(caller.clone(), |key| told(key.as_bytes(), caller))
    }
}

/// Of a token, what it claims; of all else, its beginning.
fn told(secret: &[u8], caller: Caller) -> Caller {
    let Some(claims) = jwt::unverified_claims(secret) else {
        return Caller { key_begins: Some(key_hint(secret)), ..caller };
    };
    let claim = |name| claims.member(name).and_then(Json::text).map(bounded_claim);
    Caller { iss: claim("iss"), sub: claim("sub"), oid: claim("oid"), ..caller }
}
