//! With which keys does an issuer sign?
//!
//! A JSON Web Key Set, read once: what is in it and can check signatures is kept, ready for those who do. A secret never
//! comes from there. <https://www.rfc-editor.org/rfc/rfc7517>, <https://www.rfc-editor.org/rfc/rfc7518#section-6>

use super::claims::Json;
use super::public_key;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyOperations,
    OctetKeyPairParameters, PublicKeyUse, RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use rsa::BigUint;
use serde_json::Value;
use std::fmt;

/// The most keys of one issuer.
pub const KEYS_MAX: usize = 100;

/// The shortest RSA key, in bits. <https://www.rfc-editor.org/rfc/rfc7518#section-3.3>
const RSA_BITS_MIN: usize = 2048;

/// The longest RSA key, in bits: to check a signature takes time with the square of it.
const RSA_BITS_MAX: usize = 4096;

/// The algorithms of key pairs that a token may be signed by: a closed list, without `none`.
pub const OF_PAIRS: [Algorithm; 7] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Those of secrets: whoever can check such a signature can sign too.
pub const OF_SECRETS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// The algorithm of this name, in just these letters. <https://www.iana.org/assignments/jose/jose.xhtml>
#[must_use]
pub fn algorithm(name: &str) -> Option<Algorithm> {
    name.parse().ok().filter(|algorithm| OF_PAIRS.contains(algorithm) || OF_SECRETS.contains(algorithm))
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
    /// How long each coordinate of a point is, and each number of a signature.
    #[must_use]
    pub const fn coordinate_bytes(self) -> usize {
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

    /// The curve of a key, if it is one of a curve.
    #[must_use]
    pub fn of(key: &DecodingKey) -> Option<Self> {
        let point = key.try_get_as_bytes().ok().filter(|_| key.family() == AlgorithmFamily::Ec)?;
        [Self::P256, Self::P384].into_iter().find(|curve| point.len() == 1 + 2 * curve.coordinate_bytes())
    }
}

/// A key that checks signatures.
#[derive(Clone)]
pub struct Key {
    /// Its name, if it has one.
    pub kid: Option<String>,
    /// The only algorithm it is for, if that is said.
    pub algorithm: Option<Algorithm>,
    /// What it is made of.
    pub decoding: DecodingKey,
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
        Self { kid: None, algorithm: None, decoding: DecodingKey::from_secret(secret) }
    }

    /// Reads a JSON Web Key. What `jsonwebtoken` takes is looked at more closely: its strength, and whether it is a key at all.
    pub fn read(jwk: &Json) -> Result<Self, NoKey> {
        let jwk: Jwk = serde_json::from_value(unpadded(jwk)).map_err(|_| {
            NoKey::Broken("a JSON Web Key (RFC 7517), its members of the kinds that they have there")
        })?;
        let Jwk { common, algorithm: parameters } = jwk;
        let is_for_signatures =
            common.public_key_use.is_none_or(|purpose| purpose == PublicKeyUse::Signature)
                && common.key_operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !is_for_signatures {
            return Err(NoKey::Foreign("use sig, and key_ops with verify, or neither"));
        }
        let of_pair = |name| Algorithm::try_from(name).ok().filter(|algorithm| OF_PAIRS.contains(algorithm));
        let algorithm = match common.key_algorithm {
            None => None,
            Some(name) => Some(
                of_pair(name)
                    .ok_or(NoKey::Foreign("alg RS256, RS384, RS512, PS256, ES256, ES384 or EdDSA"))?,
            ),
        };
        let key = Self { kid: common.key_id, algorithm: None, decoding: decoding(&parameters)? };
        if algorithm.is_some_and(|algorithm| !key.fits(algorithm)) {
            return Err(NoKey::Broken("an alg for this kty and crv"));
        }
        Ok(Self { algorithm, ..key })
    }

    /// Whether it may check signatures of this algorithm. The key decides, not the token: a public key taken for the secret
    /// of an HMAC would let everybody sign. <https://www.rfc-editor.org/rfc/rfc8725#section-3.1>
    #[must_use]
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        let curve_fits = || match algorithm {
            Algorithm::ES256 => Curve::of(&self.decoding) == Some(Curve::P256),
            Algorithm::ES384 => Curve::of(&self.decoding) == Some(Curve::P384),
            _ => true,
        };
        self.algorithm.is_none_or(|only| only == algorithm)
            && self.decoding.family() == algorithm.family()
            && curve_fits()
    }
}

/// What matters of a key, for `jsonwebtoken`, which refuses a key for any member of another kind than the standard says, and takes
/// no padding. Some issuers pad, and some write a certificate as they like.
fn unpadded(jwk: &Json) -> Value {
    let text = |name: &&str| Some(((*name).to_owned(), Value::from(jwk.member(name)?.text()?)));
    let unpadded = |name: &&str| {
        let text = jwk.member(name)?.text()?.trim_end_matches('=');
        Some(((*name).to_owned(), Value::from(text)))
    };
    let whole = ["kty", "crv", "use", "alg", "kid", "k"].iter().filter_map(text);
    let numbers = ["n", "e", "x", "y"].iter().filter_map(unpadded);
    let operations = match jwk.member("key_ops") {
        Some(Json::List(operations)) => {
            let operations = operations.iter().filter_map(Json::text).map(Value::from).collect();
            Some(("key_ops".to_owned(), operations))
        }
        _ => None,
    };
    whole.chain(numbers).chain(operations).collect()
}

fn decoding(parameters: &AlgorithmParameters) -> Result<DecodingKey, NoKey> {
    const KIND: NoKey = NoKey::Foreign("kty RSA, EC or OKP (Ed25519)");
    match parameters {
        AlgorithmParameters::RSA(rsa) => of_rsa(rsa),
        AlgorithmParameters::EllipticCurve(ec) => of_curve(ec),
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => of_ed25519(pair),
        // One of a known kind that lacks a part, or has a curve that `jsonwebtoken` does not know.
        AlgorithmParameters::Other(rest) => {
            let text = |name| rest.fields.get(name).and_then(Value::as_str);
            Err(match (text("kty"), text("crv")) {
                (Some("RSA"), _) => WEAK,
                (Some("EC"), Some("P-256" | "P-384")) => LENGTHS,
                (Some("EC"), _) => CURVES,
                (Some("OKP"), Some("Ed25519")) => NO_POINT,
                _ => KIND,
            })
        }
        _ => Err(KIND),
    }
}

const WEAK: NoKey = NoKey::Broken("n of 2048 to 4096 bits and e, both odd, in base64url");
const CURVES: NoKey = NoKey::Foreign("crv P-256 or P-384");
const LENGTHS: NoKey = NoKey::Broken("x and y of the curve's length, in base64url");
const NO_POINT: NoKey = NoKey::Broken("x, a point of Ed25519, in base64url");

fn of_rsa(jwk: &RSAKeyParameters) -> Result<DecodingKey, NoKey> {
    let key = DecodingKey::from_rsa_components(&jwk.n, &jwk.e).map_err(|_| WEAK)?;
    let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else { return Err(WEAK) };
    let is_strong = (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&BigUint::from_bytes_be(n).bits());
    if is_strong && public_key::rsa(n, e).is_some() { Ok(key) } else { Err(WEAK) }
}

fn of_curve(jwk: &EllipticCurveKeyParameters) -> Result<DecodingKey, NoKey> {
    let curve = match jwk.curve {
        EllipticCurve::P256 => Curve::P256,
        EllipticCurve::P384 => Curve::P384,
        _ => return Err(CURVES),
    };
    // In base64 each coordinate has four letters for three bytes.
    let letters = (curve.coordinate_bytes() * 4).div_ceil(3);
    if [&jwk.x, &jwk.y].iter().any(|coordinate| coordinate.len() != letters) {
        return Err(LENGTHS);
    }
    let key = DecodingKey::from_ec_components(&jwk.x, &jwk.y).map_err(|_| LENGTHS)?;
    let point = key.try_get_as_bytes().ok().and_then(|bytes| bytes.get(1..)).unwrap_or_default();
    let (x, y) = point.split_at_checked(curve.coordinate_bytes()).ok_or(LENGTHS)?;
    if curve.has(x, y) { Ok(key) } else { Err(NoKey::Broken("x and y, a point of the curve")) }
}

fn of_ed25519(jwk: &OctetKeyPairParameters) -> Result<DecodingKey, NoKey> {
    let key = DecodingKey::from_ed_components(&jwk.x).map_err(|_| NO_POINT)?;
    let is_point = public_key::ed25519(&key).is_some_and(|key| !key.is_weak());
    if is_point { Ok(key) } else { Err(NO_POINT) }
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
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
    fn a_key_fits_the_algorithms_of_its_kind_and_no_others() {
        use Algorithm::{ES256, ES384, EdDSA, PS256, RS256, RS384, RS512};
        let all = || OF_PAIRS.into_iter().chain(OF_SECRETS);
        let check = |key: &Key, expected: &[Algorithm]| {
            assert_eq!(all().filter(|algorithm| key.fits(*algorithm)).collect::<Vec<_>>(), expected);
        };
        let key = |kid: &str| {
            let jwk = super::super::tokens::public(kid).remove(0).to_string();
            Key::read(&Json::object(jwk.as_bytes()).unwrap()).unwrap()
        };
        check(&key("rsa-1"), &[RS256, RS384, RS512, PS256]);
        check(&key("ec-256"), &[ES256]);
        check(&key("ec-384"), &[ES384]);
        check(&key("ed25519"), &[EdDSA]);
        check(&Key::secret(b"secret"), &OF_SECRETS);
    }

    #[test]
    fn of_a_key_only_what_matters_is_read() {
        for odd in
            [r#","x5c":"MII""#, r#","kid":7"#, r#","key_ops":"verify""#, r#","x5t":null,"a":{"b":[1]}"#]
        {
            check(&rsa_of(256, odd), Ok(()));
        }
    }

    #[test]
    fn a_key_that_an_issuer_pads_is_read() {
        check(&rsa_of(256, "").replace("\",\"e", "==\",\"e"), Ok(()));
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
