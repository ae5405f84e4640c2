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
    /// What an earlier filter says in the header of this name.
    Header(Rc<str>),
    /// What the client itself says in the body.
    Field(UserField),
}

/// Where a client says in the body for which of its users it asks.
/// <https://platform.openai.com/docs/api-reference/chat/create#chat-create-safety_identifier>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserField {
    /// The older one.
    User,
    /// The one that OpenAI has in its place.
    SafetyIdentifier,
}

impl UserField {
    /// As it stands in a body.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::SafetyIdentifier => "safety_identifier",
        }
    }
}

impl By {
    /// The word in labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Claim(_) => "claim",
            Self::Header(_) => "header",
            Self::Field(_) => "field",
        }
    }

    /// Which of them, where there are several.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Key => None,
            Self::Claim(name) | Self::Header(name) => Some(name),
            Self::Field(field) => Some(field.name()),
        }
    }

    /// Whether only the body tells it.
    #[must_use]
    pub const fn is_in_body(&self) -> bool {
        matches!(self, Self::Field(_))
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

/// The most bytes of a value that are kept as it was said.
const TEXT_BYTES_MAX: usize = 128;

/// One of them, and how it was said, cut to what a log should have of it; nothing of what is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    by: By,
    value: Value,
    text: Option<Rc<str>>,
}

/// What is known of who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<Known>);

impl Values {
    /// Notes one that is a secret.
    pub fn note_secret(&mut self, by: By, hash: &[u8; 32]) {
        self.0.push(Known { by, value: Value::of_hash(hash), text: None });
    }

    /// Notes what `whose` calls so; nothing if it says nothing.
    pub fn note(&mut self, by: By, whose: &str, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let cut = String::from_utf8_lossy(text.get(..TEXT_BYTES_MAX).unwrap_or(text));
        self.0.push(Known { by, value: Value::of(whose, text), text: Some(cut.into()) });
    }

    /// How it was said, or else its hash; `None` if it is not known.
    #[must_use]
    pub fn said(&self, by: &By, as_text: bool) -> Option<String> {
        let known = self.0.iter().find(|known| known.by == *by)?;
        let text = known.text.as_ref().filter(|_| as_text);
        Some(text.map_or_else(|| known.value.to_string(), |text| text.to_string()))
    }

    /// Notes all of these.
    pub fn note_all(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// The one that is meant, or that of those who have none.
    #[must_use]
    pub fn of(&self, by: &By) -> Value {
        self.0.iter().find(|known| known.by == *by).map_or(Value::NONE, |known| known.value)
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
        values.note(claim.clone(), "one", b"ann");
        assert_eq!((values.of(&claim), values.of(&key)), (Value::of("one", b"ann"), Value::NONE));
        assert_eq!(values.of(&By::Claim("oid".into())), Value::NONE);
    }

    #[test]
    fn a_value_is_said_as_its_hash_or_cut_and_a_secret_never() {
        let (sub, oid) = (By::Claim("sub".into()), By::Claim("oid".into()));
        let mut values = Values::default();
        values.note(sub.clone(), "", b"");
        assert_eq!(values.said(&sub, true), None);
        values.note_secret(By::Key, &[7; 32]);
        values.note(sub.clone(), "issuer", b"ann");
        // Cut in the middle of a letter.
        let long = "\u{fc}".repeat(100);
        values.note(oid.clone(), "issuer", format!("x{long}").as_bytes());
        assert_eq!(values.said(&By::Key, true), Some("07".repeat(16)));
        assert_eq!(values.said(&sub, true).as_deref(), Some("ann"));
        assert_eq!(values.said(&sub, false), Some(Value::of("issuer", b"ann").to_string()));
        assert_eq!(values.said(&oid, true).unwrap().chars().count(), 1 + 63 + 1);
    }
}
