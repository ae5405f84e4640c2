//! Is this token one that the issuer made, for us, and for now?
//!
//! Not decided here: whose it is.

use super::claims::{Json, Path};
use super::jwks::Fetched;
use super::jwt::Token;
use super::keys::KeySet;
use super::signature;
use crate::denial::{Denial, Flaw};
use crate::store::Moment;
use jsonwebtoken::Algorithm;
use std::rc::Rc;
use std::time::Duration;

/// The most keys that one token is tried with: only one that names no key, or keys without names, need more than one.
const KEYS_TRIED_MAX: usize = 8;

/// An identity provider.
#[derive(Debug)]
pub struct Issuer {
    /// The word in metrics and logs.
    pub name: Rc<str>,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Of these, one must be in `aud`.
    pub audiences: Vec<String>,
    /// The algorithms that its tokens may have.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock and ours may differ.
    pub leeway: Duration,
    /// The claim that names the client.
    pub client_claim: Option<Path>,
    /// How its tokens are verified.
    pub proof: Proof,
}

/// How tokens are verified.
#[derive(Debug)]
pub enum Proof {
    /// With keys from the configuration.
    Keys(KeySet),
    /// With keys that are fetched.
    Fetched(Box<Fetched>),
    /// Envoy's `jwt_authn` has verified them, and left their claims in its metadata under this name.
    Envoy(String),
}

/// Why a token is not taken, or not yet.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is refused.
    Denied(Denial),
    /// Keys that are being fetched may tell.
    Wait(Duration),
}

impl From<Flaw> for Doubt {
    fn from(flaw: Flaw) -> Self {
        Self::Denied(Denial::InvalidToken(flaw))
    }
}

impl Issuer {
    /// Which keys its tokens are verified with now: another number, other keys.
    #[must_use]
    pub fn generation(&self) -> u64 {
        match &self.proof {
            Proof::Fetched(fetched) => fetched.generation(),
            Proof::Keys(_) | Proof::Envoy(_) => 0,
        }
    }

    /// Checks the signature.
    pub fn verify(&self, token: &Token<'_>, moment: Moment<'_>) -> Result<(), Doubt> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(Flaw::Algorithm.into());
        }
        match &self.proof {
            Proof::Keys(keys) => match check(token, keys) {
                Some(is_good) => signed(is_good),
                None => Err(Flaw::UnknownKey.into()),
            },
            Proof::Fetched(fetched) => {
                let known = fetched.value().and_then(|keys| check(token, &keys));
                if let Some(is_good) = known {
                    return signed(is_good);
                }
                // Another VM may have fetched them. A moment.store that does not answer has no more keys than are here.
                let loaded = fetched.load(moment.store).is_ok();
                match fetched.value() {
                    None => Err(Doubt::Wait(fetched.origin.wait)),
                    Some(keys) => match check(token, &keys) {
                        Some(is_good) => signed(is_good),
                        None if loaded && fetched.may_bring_more(moment) == Ok(true) => {
                            Err(Doubt::Wait(fetched.origin.wait))
                        }
                        None => Err(Flaw::UnknownKey.into()),
                    },
                }
            }
            // Only Envoy can say, and then the token itself is not asked.
            Proof::Envoy(_) => Err(Flaw::Signature.into()),
        }
    }

    /// Checks what the token claims of itself; answers until when it is valid, the leeway included.
    pub fn check(&self, claims: &Json, now: Duration) -> Result<Duration, Denial> {
        let flawed = |_| Denial::InvalidToken(Flaw::Times);
        let is_ours = |audience: &str| self.audiences.iter().any(|ours| ours == audience);
        let is_for_us = match claims.member("aud") {
            Some(Json::Text(audience)) => is_ours(audience),
            Some(Json::List(audiences)) => audiences.iter().filter_map(Json::text).any(is_ours),
            _ => false,
        };
        let expiry = claims.time("exp").map_err(flawed)?.ok_or(Denial::InvalidToken(Flaw::Times))?;
        let until = expiry.saturating_add(self.leeway);
        if now >= until {
            return Err(Denial::TokenExpired);
        }
        for name in ["nbf", "iat"] {
            let from = claims.time(name).map_err(flawed)?.unwrap_or_default();
            if now.saturating_add(self.leeway) < from {
                return Err(Denial::TokenNotYetValid);
            }
        }
        if !is_for_us {
            return Err(Denial::WrongAudience);
        }
        Ok(until)
    }
}

/// Whether one of the keys made the signature; `None` if there is no key that could have.
fn check(token: &Token<'_>, keys: &KeySet) -> Option<bool> {
    let mut candidates = keys.of(token.kid.as_deref(), token.algorithm).take(KEYS_TRIED_MAX).peekable();
    candidates.peek()?;
    Some(candidates.any(|key| signature::is_signed_by(token, key)))
}

fn signed(is_good: bool) -> Result<(), Doubt> {
    if is_good { Ok(()) } else { Err(Flaw::Signature.into()) }
}
