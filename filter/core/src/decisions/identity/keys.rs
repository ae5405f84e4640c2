//! With which keys does an issuer sign?
//!
//! A JSON Web Key Set, read once: what is in it and can check signatures is kept, ready for those who do. A secret never
//! comes from there. <https://www.rfc-editor.org/rfc/rfc7517>, <https://www.rfc-editor.org/rfc/rfc7518#section-6>

use super::claims::Json;
use super::der;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::BigUint;
use std::fmt;

/// The most keys of one issuer.
pub const KEYS_MAX: usize = 100;

/// The shortest RSA key, in bits. <https://www.rfc-editor.org/rfc/rfc7518#section-3.3>
const RSA_BITS_MIN: usize = 2048;

/// The longest RSA key, in bits: to check a signature takes time with the square of it.
const RSA_BITS_MAX: usize = 4096;

/// A signature's algorithm: a closed list, without `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA, PKCS#1 v1.5
    Rs256,
    /// The same with SHA-384
    Rs384,
    /// The same with SHA-512
    Rs512,
    /// RSA, PSS
    Ps256,
    /// ECDSA on P-256
    Es256,
    /// ECDSA on P-384
    Es384,
    /// Ed25519
    EdDsa,
    /// HMAC with SHA-256: whoever can check it can sign too
    Hs256,
    /// The same with SHA-384
    Hs384,
    /// The same with SHA-512
    Hs512,
}

impl Algorithm {
    /// Those of key pairs.
    pub const OF_PAIRS: [Self; 7] =
        [Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// Those of secrets.
    pub const OF_SECRETS: [Self; 3] = [Self::Hs256, Self::Hs384, Self::Hs512];

    /// Its name in JWS. <https://www.iana.org/assignments/jose/jose.xhtml>
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// The algorithm of this name, in just these letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::OF_PAIRS.into_iter().chain(Self::OF_SECRETS).find(|algorithm| algorithm.name() == name)
    }
}

/// A curve of ECDSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1
    P256,
    /// secp384r1
    P384,
}

impl Curve {
    const fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// The prime of its field, and `b` of its equation `y² = x³ - 3x + b`.
    /// <https://www.secg.org/sec2-v2.pdf>, 2.4.2 and 2.5.1
    const fn numbers(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::P256 => (
                b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
                b"5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
            ),
            Self::P384 => (
                b"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
                b"b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
            ),
        }
    }

    /// Whether it has this point. The point at infinity, which is no key, has no coordinates.
    fn has(self, x: &[u8], y: &[u8]) -> bool {
        let (prime, b) = self.numbers();
        let number = |hex| BigUint::parse_bytes(hex, 16).unwrap_or_default();
        let (prime, b) = (number(prime), number(b));
        let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
        let three_less = &prime - BigUint::from(3_u8);
        x < prime && y < prime && (&y * &y) % &prime == (&x * &x * &x + three_less * &x + b) % &prime
    }

    /// Its object identifier, as DER.
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
        }
    }
}

/// What a key is made of.
#[derive(Clone)]
pub enum Material {
    /// Of an RSA pair.
    Rsa {
        /// For a check in the VM.
        public: Box<rsa::RsaPublicKey>,
        /// The same as a DER `SubjectPublicKeyInfo`.
        der: Vec<u8>,
    },
    /// Of a pair on a curve.
    Ec {
        /// Which.
        curve: Curve,
        /// A DER `SubjectPublicKeyInfo`.
        der: Vec<u8>,
    },
    /// Of an Ed25519 pair.
    Ed25519(ed25519_dalek::VerifyingKey),
    /// A secret that the issuer shares with us.
    Secret(Vec<u8>),
}

/// A key that checks signatures.
#[derive(Clone)]
pub struct Key {
    /// Its name, if it has one.
    pub kid: Option<String>,
    /// The only algorithm it is for, if that is said.
    pub algorithm: Option<Algorithm>,
    /// What it is made of.
    pub material: Material,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Why something is no key for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// It is a key, of another kind or for another use.
    Foreign(&'static str),
    /// It is broken, or too weak.
    Broken(&'static str),
}

impl NoKey {
    /// What would have been right.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Foreign(expected) | Self::Broken(expected) => expected,
        }
    }
}

impl Key {
    /// The key that a secret is.
    #[must_use]
    pub fn secret(secret: &[u8]) -> Self {
        Self { kid: None, algorithm: None, material: Material::Secret(secret.to_vec()) }
    }

    /// Reads a JSON Web Key.
    pub fn read(jwk: &Json) -> Result<Self, NoKey> {
        let text = |name| jwk.member(name).and_then(Json::text);
        let is_for_signatures = text("use").is_none_or(|purpose| purpose == "sig")
            && match jwk.member("key_ops") {
                Some(Json::List(operations)) => operations.iter().any(|one| one.text() == Some("verify")),
                _ => true,
            };
        if !is_for_signatures {
            return Err(NoKey::Foreign("use sig, and key_ops with verify, or neither"));
        }
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(
                Algorithm::named(name)
                    .filter(|algorithm| Algorithm::OF_PAIRS.contains(algorithm))
                    .ok_or(NoKey::Foreign("alg RS256, RS384, RS512, PS256, ES256, ES384 or EdDSA"))?,
            ),
        };
        let material = match text("kty") {
            Some("RSA") => rsa(jwk)?,
            Some("EC") => ec(jwk)?,
            Some("OKP") if text("crv") == Some("Ed25519") => ed25519(jwk)?,
            _ => return Err(NoKey::Foreign("kty RSA, EC or OKP (Ed25519)")),
        };
        let key = Self { kid: text("kid").map(str::to_owned), algorithm: None, material };
        if algorithm.is_some_and(|algorithm| !key.fits(algorithm)) {
            return Err(NoKey::Broken("an alg for this kty and crv"));
        }
        Ok(Self { algorithm, ..key })
    }

    /// Whether it may check signatures of this algorithm. The key decides, not the token: a public key taken for the secret
    /// of an HMAC would let everybody sign. <https://www.rfc-editor.org/rfc/rfc8725#section-3.1>
    #[must_use]
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Rs256, Rs384, Rs512};
        self.algorithm.is_none_or(|only| only == algorithm)
            && match &self.material {
                Material::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256),
                Material::Ec { curve: Curve::P256, .. } => algorithm == Es256,
                Material::Ec { curve: Curve::P384, .. } => algorithm == Es384,
                Material::Ed25519(_) => algorithm == EdDsa,
                Material::Secret(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
            }
    }
}

fn decoded(jwk: &Json, name: &str) -> Option<Vec<u8>> {
    let text = jwk.member(name).and_then(Json::text)?;
    // Some issuers pad.
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn rsa(jwk: &Json) -> Result<Material, NoKey> {
    const BROKEN: NoKey = NoKey::Broken("n of 2048 to 4096 bits and e, both odd, in base64url");
    let (Some(modulus), Some(exponent)) = (decoded(jwk, "n"), decoded(jwk, "e")) else { return Err(BROKEN) };
    let number = BigUint::from_bytes_be;
    let modulus_number = number(&modulus);
    let is_odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte % 2 == 1);
    let is_sound = is_odd(&modulus) && is_odd(&exponent);
    if !is_sound || !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&modulus_number.bits()) {
        return Err(BROKEN);
    }
    let public = rsa::RsaPublicKey::new(modulus_number, number(&exponent)).map_err(|_| BROKEN)?;
    Ok(Material::Rsa { public: Box::new(public), der: der::rsa_public_key(&modulus, &exponent) })
}

fn ec(jwk: &Json) -> Result<Material, NoKey> {
    let curve = match jwk.member("crv").and_then(Json::text) {
        Some("P-256") => Curve::P256,
        Some("P-384") => Curve::P384,
        _ => return Err(NoKey::Foreign("crv P-256 or P-384")),
    };
    let whole = |bytes: &Vec<u8>| bytes.len() == curve.coordinate_bytes();
    match (decoded(jwk, "x").filter(whole), decoded(jwk, "y").filter(whole)) {
        (Some(x), Some(y)) if !curve.has(&x, &y) => Err(NoKey::Broken("x and y, a point of the curve")),
        (Some(x), Some(y)) => Ok(Material::Ec { curve, der: der::ec_public_key(curve.oid(), &x, &y) }),
        _ => Err(NoKey::Broken("x and y of the curve's length, in base64url")),
    }
}

fn ed25519(jwk: &Json) -> Result<Material, NoKey> {
    decoded(jwk, "x")
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok())
        .filter(|key| !key.is_weak())
        .map(Material::Ed25519)
        .ok_or(NoKey::Broken("x, a point of Ed25519, in base64url"))
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// A set of these.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }

    /// Reads a key set. What is no key for us is left out, for issuers publish keys of many kinds; `None` if nothing is left.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let set = Json::object(bytes)?;
        let Some(Json::List(keys)) = set.member("keys") else { return None };
        let keys: Vec<_> = keys.iter().take(KEYS_MAX).filter_map(|key| Key::read(key).ok()).collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// The keys that a signature may have been made with. A key without a name may be any.
    pub fn of<'k>(&'k self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &'k Key> {
        self.keys.iter().filter(move |key| {
            key.fits(algorithm)
                && match (&key.kid, kid) {
                    (Some(name), Some(kid)) => name == kid,
                    _ => true,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(jwk: &str, expected: Result<(), NoKey>) {
        assert_eq!(Key::read(&Json::object(jwk.as_bytes()).unwrap()).map(|_| ()), expected, "{jwk}");
    }

    fn rsa_of(modulus_bytes: usize, more: &str) -> String {
        let modulus = URL_SAFE_NO_PAD.encode(vec![0xff; modulus_bytes]);
        format!(r#"{{"kty":"RSA","n":"{modulus}","e":"AQAB"{more}}}"#)
    }

    #[test]
    fn a_key_is_for_us_if_it_is_public_strong_and_for_signatures() {
        let weak = NoKey::Broken("n of 2048 to 4096 bits and e, both odd, in base64url");
        let purpose = NoKey::Foreign("use sig, and key_ops with verify, or neither");
        let kind = NoKey::Foreign("kty RSA, EC or OKP (Ed25519)");
        check(&rsa_of(256, ""), Ok(()));
        check(&rsa_of(512, r#","use":"sig","alg":"PS256","x5c":["…"]"#), Ok(()));
        check(&rsa_of(255, ""), Err(weak));
        check(&rsa_of(513, ""), Err(weak));
        check(&rsa_of(256, r#","use":"enc""#), Err(purpose));
        check(&rsa_of(256, r#","key_ops":["encrypt"]"#), Err(purpose));
        check(&rsa_of(256, r#","alg":"ES256""#), Err(NoKey::Broken("an alg for this kty and crv")));
        let algorithm = NoKey::Foreign("alg RS256, RS384, RS512, PS256, ES256, ES384 or EdDSA");
        check(&rsa_of(256, r#","alg":"RSA-OAEP""#), Err(algorithm));
        check(&rsa_of(256, r#","alg":"HS256""#), Err(algorithm));
        check(r#"{"kty":"oct","k":"AAAA"}"#, Err(kind));
        check(r#"{"kty":"OKP","crv":"X25519","x":"AAAA"}"#, Err(kind));
        check(r#"{"kty":"EC","crv":"secp256k1"}"#, Err(NoKey::Foreign("crv P-256 or P-384")));
        let lengths = NoKey::Broken("x and y of the curve's length, in base64url");
        check(r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#, Err(lengths));
        check(
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#,
            Err(NoKey::Broken("x, a point of Ed25519, in base64url")),
        );
    }

    #[test]
    fn a_key_that_is_none_of_its_kind_is_broken() {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let weak = NoKey::Broken("n of 2048 to 4096 bits and e, both odd, in base64url");
        check(&rsa_of(256, "").replace("AQAB", "AQAA"), Err(weak));
        check(&rsa_of(256, "").replace("AQAB", "AQ"), Err(weak));
        let even = part(&[&[0xff; 255][..], &[0xfe]].concat());
        check(&format!(r#"{{"kty":"RSA","n":"{even}","e":"AQAB"}}"#), Err(weak));
        // The points that the standard counts from: <https://www.secg.org/sec2-v2.pdf>
        let points = [
            (
                "P-256",
                "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
                "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
            ),
            (
                "P-384",
                "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
                "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
            ),
        ];
        for (curve, x, y) in points {
            let [x, y] = [x, y].map(|hex| BigUint::parse_bytes(hex.as_bytes(), 16).unwrap().to_bytes_be());
            let key = |x: &[u8], y: &[u8]| {
                format!(r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}"}}"#, part(x), part(y))
            };
            let stray = Err(NoKey::Broken("x and y, a point of the curve"));
            check(&key(&x, &y), Ok(()));
            check(&key(&y, &x), stray);
            check(&key(&vec![0; x.len()], &vec![0; x.len()]), stray);
            check(&key(&vec![0xff; x.len()], &y), stray);
        }
        let small = part(&[0; 32]);
        check(
            &format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{small}"}}"#),
            Err(NoKey::Broken("x, a point of Ed25519, in base64url")),
        );
    }

    #[test]
    fn what_is_no_key_for_us_is_left_out_of_a_set() {
        let set =
            |keys: &str| KeySet::read(format!("{{\"keys\":[{keys}]}}").as_bytes()).map(|set| set.keys.len());
        let good = rsa_of(256, "");
        assert_eq!(set(&good), Some(1));
        assert_eq!(set(&format!(r#"{{"kty":"oct"}},7,{good},{{"kty":"EC","kid":1}}"#)), Some(1));
        assert_eq!(set(r#"{"kty":"oct"}"#), None);
        assert_eq!(set(""), None);
        assert_eq!(KeySet::read(b"{}").map(|_| ()), None);
        assert_eq!(KeySet::read(b"<html>").map(|_| ()), None);
        assert_eq!(set(&vec![good; KEYS_MAX + 1].join(",")), Some(KEYS_MAX));
    }
}
