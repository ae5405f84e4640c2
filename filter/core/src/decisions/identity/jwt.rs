//! What does a token say of itself, before anything of it is believed?
//!
//! The compact form of a JWS, as `jsonwebtoken` reads it, behind checks of what it does not refuse. Keys that a token brings
//! along (`jwk`, `jku`, `x5c`, `x5u`) are not used. Not decided here: whether its signature is good.
//! <https://www.rfc-editor.org/rfc/rfc7515#section-3.1>, <https://www.rfc-editor.org/rfc/rfc8725>

use super::claims::Json;
use super::keys;
use crate::denial::Flaw;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, dangerous};

/// The longest token. Envoy takes 60 KiB of headers; the longest tokens that identity providers make are a tenth of it.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token, taken apart. All of it is the caller's word.
pub struct Token<'t> {
    /// By which its signature is said to be made.
    pub algorithm: Algorithm,
    /// Which key made it, if that is said.
    pub kid: Option<String>,
    /// What it claims.
    pub claims: Json,
    /// What was signed.
    pub signed: &'t [u8],
    /// By this, in base64url.
    pub signature: &'t str,
}

/// Whether a credential is meant to be a token: three parts in the letters of base64url, whatever they say.
#[must_use]
pub fn is_meant(credential: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=.".contains(byte);
    credential.iter().filter(|byte| **byte == b'.').count() == 2 && credential.iter().all(letter)
}

/// What a credential claims if it is a token of whatever kind, signed or not. Nothing is to be decided by it.
#[must_use]
pub fn unverified_claims(credential: &[u8]) -> Option<Json> {
    if credential.len() > TOKEN_BYTES_MAX || !is_meant(credential) {
        return None;
    }
    let claims = credential.split(|byte| *byte == b'.').nth(1)?;
    Json::object(&URL_SAFE_NO_PAD.decode(claims).ok()?)
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    pub fn parse(bytes: &'t [u8]) -> Result<Self, Flaw> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(Flaw::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Flaw::Malformed)?;
        let mut parts = text.split('.');
        let (Some(header), Some(_), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Flaw::Malformed);
        };
        check_header(&Json::object(&decode(header)?).ok_or(Flaw::Malformed)?)?;
        let token = dangerous::insecure_decode::<Json>(bytes).map_err(|_| Flaw::Malformed)?;
        if !matches!(token.claims, Json::Object(_)) {
            return Err(Flaw::Malformed);
        }
        if decode(signature)?.is_empty() {
            return Err(Flaw::Signature);
        }
        let signed = bytes.get(..bytes.len() - signature.len() - 1).unwrap_or_default();
        Ok(Self {
            algorithm: token.header.alg,
            kid: token.header.kid,
            claims: token.claims,
            signed,
            signature,
        })
    }
}

/// What a header must not say, and `jsonwebtoken` lets it.
fn check_header(header: &Json) -> Result<(), Flaw> {
    header.member("alg").and_then(Json::text).and_then(keys::algorithm).ok_or(Flaw::Algorithm)?;
    // What a header says is critical must be understood, and nothing here is.
    // https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
    if header.member("crit").is_some() {
        return Err(Flaw::Critical);
    }
    // An unencoded payload or an encrypted one is another thing than what is read here.
    let is_other = ["b64", "enc", "zip"].into_iter().any(|name| header.member(name).is_some());
    let is_named = header.member("kid").is_none_or(|kid| kid.text().is_some());
    if is_other || !is_named { Err(Flaw::Malformed) } else { Ok(()) }
}

/// The canonical form only: no padding, and no bits that stand for nothing, or one token had many spellings.
fn decode(part: &str) -> Result<Vec<u8>, Flaw> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed)
}
