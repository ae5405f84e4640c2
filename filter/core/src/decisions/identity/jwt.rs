//! What does a token say of itself, before anything of it is believed?
//!
//! The compact form of a JWS, read once and strictly. Keys that a token brings along (`jwk`, `jku`, `x5c`, `x5u`) are not
//! looked at. Not decided here: whether its signature is good.
//! <https://www.rfc-editor.org/rfc/rfc7515#section-3.1>, <https://www.rfc-editor.org/rfc/rfc8725>

use super::claims::Json;
use super::keys::Algorithm;
use crate::denial::Flaw;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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
    /// By this.
    pub signature: Vec<u8>,
}

/// Whether a credential is meant to be a token: three parts in the letters of base64url, whatever they say.
#[must_use]
pub fn is_meant(credential: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=.".contains(byte);
    credential.iter().filter(|byte| **byte == b'.').count() == 2 && credential.iter().all(letter)
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    pub fn parse(bytes: &'t [u8]) -> Result<Self, Flaw> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(Flaw::TooLong);
        }
        let mut dots = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(Flaw::Malformed);
        };
        let part = |range| bytes.get(range).ok_or(Flaw::Malformed);
        let header = object(part(0..first)?)?;
        let algorithm = match header.member("alg") {
            Some(Json::Text(name)) => Algorithm::named(name).ok_or(Flaw::Algorithm)?,
            _ => return Err(Flaw::Algorithm),
        };
        // What a header says is critical must be understood, and nothing here is.
        // https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11
        if header.member("crit").is_some() {
            return Err(Flaw::Critical);
        }
        // An unencoded payload or an encrypted one is another thing than what is read here.
        if header.member("b64").is_some() || header.member("enc").is_some() || header.member("zip").is_some()
        {
            return Err(Flaw::Malformed);
        }
        let kid = match header.member("kid") {
            None => None,
            Some(Json::Text(kid)) => Some(kid.clone()),
            Some(_) => return Err(Flaw::Malformed),
        };
        let claims = object(part(first + 1..second)?)?;
        let signature = decode(part(second + 1..bytes.len())?)?;
        if signature.is_empty() {
            return Err(Flaw::Signature);
        }
        Ok(Self { algorithm, kid, claims, signed: part(0..second)?, signature })
    }
}

/// The canonical form only: no padding, and no bits that stand for nothing, or one token had many spellings.
fn decode(part: &[u8]) -> Result<Vec<u8>, Flaw> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed)
}

fn object(part: &[u8]) -> Result<Json, Flaw> {
    Json::object(&decode(part)?).ok_or(Flaw::Malformed)
}
