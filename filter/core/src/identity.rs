//! Which client is this?
//!
//! By API key, known here only as a SHA-256. Not decided here: what the client may do.

use crate::denial::Denial;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

/// The SHA-256 of an API key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a key as a client sent it.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// The clients by their keys; `C` is what is known of one.
#[derive(Debug)]
pub struct Directory<C> {
    by_key: HashMap<KeyHash, Rc<C>>,
}

impl<C> Default for Directory<C> {
    fn default() -> Self {
        Self { by_key: HashMap::new() }
    }
}

impl<C> Directory<C> {
    /// Enters a key; answers whom it belonged to before, which is a fault in the configuration.
    pub fn enter(&mut self, key: KeyHash, client: Rc<C>) -> Option<Rc<C>> {
        self.by_key.insert(key, client)
    }

    /// The client whose credential stands in these headers.
    pub fn identify<'h>(&self, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Result<Rc<C>, Denial> {
        let key = credential(headers)?;
        self.by_key.get(&KeyHash::of(key)).cloned().ok_or(Denial::UnknownCredential)
    }
}

/// The one key in `api-key` or `Authorization: Bearer`. Sent in both it must be the same.
fn credential<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Result<&'h [u8], Denial> {
    let (mut api_key, mut bearer) = (None, None);
    for (name, value) in headers {
        let slot = match name {
            "api-key" => &mut api_key,
            "authorization" => &mut bearer,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(Denial::AmbiguousCredential);
        }
    }
    let bearer = bearer.map(|value| strip_bearer(value).ok_or(Denial::MissingCredential)).transpose()?;
    match (api_key, bearer) {
        (Some(one), Some(other)) if one != other => Err(Denial::AmbiguousCredential),
        (Some(key), _) | (None, Some(key)) if !key.is_empty() => Ok(key),
        _ => Err(Denial::MissingCredential),
    }
}

/// The scheme's name is case-insensitive. <https://www.rfc-editor.org/rfc/rfc9110#section-11.1>
fn strip_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Result<&str, Denial>) {
        let mut directory = Directory::default();
        assert_eq!(directory.enter(KeyHash::of(b"key"), Rc::new("client")), None);
        let found = directory.identify(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        assert_eq!(found.map(|client| *client), expected, "{headers:?}");
    }

    #[test]
    fn a_key_is_taken_from_either_header() {
        check(&[("api-key", "key")], Ok("client"));
        check(&[("authorization", "Bearer key")], Ok("client"));
        check(&[("authorization", "bearer  key ")], Ok("client"));
        check(&[("authorization", "Bearer key"), ("api-key", "key")], Ok("client"));
    }

    #[test]
    fn anything_else_is_refused() {
        check(&[], Err(Denial::MissingCredential));
        check(&[("api-key", "")], Err(Denial::MissingCredential));
        check(&[("authorization", "Basic key")], Err(Denial::MissingCredential));
        check(&[("authorization", "Bearer")], Err(Denial::MissingCredential));
        check(&[("api-key", "other")], Err(Denial::UnknownCredential));
        check(&[("api-key", "key"), ("api-key", "key")], Err(Denial::AmbiguousCredential));
        check(&[("authorization", "Bearer other"), ("api-key", "key")], Err(Denial::AmbiguousCredential));
    }

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        let hex = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
        assert!(KeyHash::parse(hex) == Some(KeyHash::of(b"key")));
        assert!(KeyHash::parse(&hex.to_uppercase()) == Some(KeyHash::of(b"key")));
        for wrong in [&hex[1..], "", &hex.replace('2', "g"), &hex.replace("2c", "+c")] {
            assert!(KeyHash::parse(wrong).is_none(), "{wrong}");
        }
    }
}
