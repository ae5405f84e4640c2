//! What tells the users of one client apart, and which of them asks?
//!
//! A value is known by its hash alone: it is as long as its user makes it, and may be a name. Not decided here: what is
//! limited by it.

use crate::digest::hex;
use sha2::{Digest, Sha256};
use std::fmt;
use std::rc::Rc;

/// What tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The API key.
    Key,
    /// The claim of this path in the token.
    Claim(Rc<str>),
}

impl By {
    /// The word in labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Claim(_) => "claim",
        }
    }

    /// Which of them, where there are several.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Key => None,
            Self::Claim(name) => Some(name),
        }
    }
}

/// One of them: half of a SHA-256, so nobody finds two that have the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value([u8; Self::BYTES]);

impl Value {
    /// How long it is.
    pub const BYTES: usize = 16;

    /// That of all requests that have none.
    pub const NONE: Self = Self([0; Self::BYTES]);

    /// What `whose` calls so: two issuers may call two users the same.
    #[must_use]
    pub fn of(whose: &str, text: &[u8]) -> Self {
        Self::of_hash(
            &Sha256::new().chain_update(whose).chain_update([0]).chain_update(text).finalize().into(),
        )
    }

    /// That of which this is the SHA-256.
    #[must_use]
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        hash.first_chunk().map_or(Self::NONE, |half| Self(*half))
    }

    /// Reads its digits.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let is_whole = digits.len() == 2 * Self::BYTES && !digits.starts_with('+');
        let number = u128::from_str_radix(digits, 16).ok().filter(|_| is_whole)?;
        Some(Self(number.to_be_bytes()))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; Self::BYTES] {
        self.0
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({self})")
    }
}

/// What is known of who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<(By, Value)>);

impl Values {
    /// Notes one of them.
    pub fn note(&mut self, by: By, value: Value) {
        self.0.push((by, value));
    }

    /// Notes all of these.
    pub fn note_all(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// The one that is meant, or that of those who have none.
    #[must_use]
    pub fn of(&self, by: &By) -> Value {
        self.0.iter().find(|(other, _)| other == by).map_or(Value::NONE, |(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_value_comes_back_from_its_digits() {
        for value in [Value::of("issuer", b"ann"), Value::NONE] {
            assert_eq!(Value::parse(&value.to_string()), Some(value));
        }
        for digits in ["", "7", "+0000000000000000000000000000007", &"0".repeat(33)] {
            assert_eq!(Value::parse(digits), None, "{digits}");
        }
    }

    #[test]
    fn whose_a_value_is_makes_a_difference() {
        assert_ne!(Value::of("one", b"ann"), Value::of("other", b"ann"));
        assert_ne!(Value::of("one", b"ann"), Value::of("one", b"bob"));
        let mut values = Values::default();
        let (key, claim) = (By::Key, By::Claim("sub".into()));
        values.note(claim.clone(), Value::of("one", b"ann"));
        assert_eq!((values.of(&claim), values.of(&key)), (Value::of("one", b"ann"), Value::NONE));
        assert_eq!(values.of(&By::Claim("oid".into())), Value::NONE);
    }
}
