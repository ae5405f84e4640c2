//! What is written down of a caller that is refused?
//!
//! Enough to find it by, and nothing that lets anybody in. What its token says is not verified.

/// The most bytes of a key that are told.
const KEY_HINT_BYTES_MAX: usize = 8;

/// Of a key no more than one byte in so many is told.
const KEY_HINT_PART: usize = 4;

/// The most bytes of what a token says that are told of each claim.
const CLAIM_BYTES_MAX: usize = 128;

/// A caller that is no client, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The address that it asks from.
    pub address: Option<String>,
    /// The beginning of its key.
    pub key_begins: Option<String>,
    /// Who made its token, by the token's own word.
    pub iss: Option<String>,
    /// For whom, by the token's own word.
    pub sub: Option<String>,
    /// The same by Entra's number, which all applications of a tenant see alike.
    pub oid: Option<String>,
}

/// The beginning of a key: at most a quarter of it, and never more than eight bytes.
#[must_use]
pub fn key_hint(key: &[u8]) -> String {
    let told = KEY_HINT_BYTES_MAX.min(key.len() / KEY_HINT_PART);
    String::from_utf8_lossy(key.get(..told).unwrap_or_default()).into_owned()
}

/// As much of a claim as is told.
#[must_use]
pub fn bounded_claim(text: &str) -> String {
    let mut end = text.len().min(CLAIM_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_hint_is_never_more_than_a_quarter_of_the_key() {
        for (key, hint) in [
            ("sk-proj-0123456789abcdef0123456789abcdef", "sk-proj-"),
            ("0123456789abcdef", "0123"),
            ("password", "pa"),
            ("abc", ""),
            ("", ""),
        ] {
            assert_eq!(key_hint(key.as_bytes()), hint, "{key}");
        }
        assert_eq!(key_hint(&[0xff; 32]), "\u{fffd}".repeat(8));
    }

    #[test]
    fn a_claim_is_cut_between_two_characters() {
        assert_eq!(bounded_claim("https://issuer.example"), "https://issuer.example");
        assert_eq!(bounded_claim(&"x".repeat(1000)), "x".repeat(128));
        assert_eq!(bounded_claim(&format!("x{}", "é".repeat(100))), format!("x{}", "é".repeat(63)));
    }
}
