//! How is a public key or a signature written for a library that checks it?
//!
//! For the crates that check in a VM, and in DER for Envoy. <https://www.rfc-editor.org/rfc/rfc5280#section-4.1>

use super::keys::Curve;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use rsa::pkcs8::EncodePublicKey;
use rsa::pkcs8::der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, SequenceOf, UintRef};
use rsa::pkcs8::der::{self, Encode};
use rsa::pkcs8::spki::{AlgorithmIdentifier, SubjectPublicKeyInfo};
use rsa::{BigUint, RsaPublicKey};

/// `id-ecPublicKey`: <https://www.rfc-editor.org/rfc/rfc5480#section-2.1.1>
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// <https://www.rfc-editor.org/rfc/rfc5480#section-2.1.1.1>
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// The RSA key of these numbers, if it is one.
#[must_use]
pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<RsaPublicKey> {
    RsaPublicKey::new(BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent)).ok()
}

/// The Ed25519 key, if it is one.
#[must_use]
pub fn ed25519(key: &DecodingKey) -> Option<ed25519_dalek::VerifyingKey> {
    let bytes = key.try_get_as_bytes().ok().filter(|_| key.family() == AlgorithmFamily::Ed)?;
    ed25519_dalek::VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()
}

/// A key of RSA or of a curve as a `SubjectPublicKeyInfo`.
#[must_use]
pub fn der(key: &DecodingKey) -> Option<Vec<u8>> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            rsa(n, e)?.to_public_key_der().ok().map(der::Document::into_vec)
        }
        DecodingKeyKind::SecretOrDer(point) => {
            let curve = match Curve::of(key)? {
                Curve::P256 => &SECP256R1,
                Curve::P384 => &SECP384R1,
            };
            let algorithm = AlgorithmIdentifier { oid: EC_PUBLIC_KEY, parameters: Some(AnyRef::from(curve)) };
            let subject_public_key = BitStringRef::from_bytes(point).ok()?;
            SubjectPublicKeyInfo { algorithm, subject_public_key }.to_der().ok()
        }
    }
}

/// The DER form of an ECDSA signature, which JWS writes as two numbers of fixed length, one after the other. `None` if they
/// are not of this curve's length, or if one of them is zero: that would fit every message where a verifier forgets to
/// look (CVE-2022-21449).
#[must_use]
pub fn ecdsa_der(algorithm: Algorithm, signature: &[u8]) -> Option<Vec<u8>> {
    let bytes = match algorithm {
        Algorithm::ES256 => Curve::P256.coordinate_bytes(),
        Algorithm::ES384 => Curve::P384.coordinate_bytes(),
        _ => return None,
    };
    if signature.len() != 2 * bytes {
        return None;
    }
    let (r, s) = signature.split_at_checked(bytes)?;
    let mut numbers = SequenceOf::<UintRef<'_>, 2>::new();
    for number in [r, s] {
        if number.iter().all(|byte| *byte == 0) {
            return None;
        }
        numbers.add(UintRef::new(number).ok()?).ok()?;
    }
    numbers.to_der().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(algorithm: Algorithm, signature: &[u8], expected: Option<&[u8]>) {
        assert_eq!(ecdsa_der(algorithm, signature).as_deref(), expected, "{algorithm:?} {signature:?}");
    }

    #[test]
    fn an_ecdsa_signature_is_two_numbers_of_which_none_is_zero() {
        let number = |last: u8, bytes: usize| [vec![0; bytes - 1], vec![last]].concat();
        let both = |r: u8, s: u8, bytes: usize| [number(r, bytes), number(s, bytes)].concat();
        let der = &[0x30, 7, 2, 1, 1, 2, 2, 0, 0x80][..];
        check(Algorithm::ES256, &both(1, 0x80, 32), Some(der));
        check(Algorithm::ES384, &both(1, 0x80, 48), Some(der));
        check(Algorithm::ES256, &both(0, 1, 32), None);
        check(Algorithm::ES256, &both(1, 0, 32), None);
        check(Algorithm::ES256, &both(0, 0, 32), None);
        check(Algorithm::ES256, &both(1, 1, 48), None);
        check(Algorithm::ES384, &both(1, 1, 32), None);
        check(Algorithm::ES256, der, None);
        check(Algorithm::ES256, &[], None);
        check(Algorithm::RS256, &both(1, 1, 32), None);
    }

    /// As OpenSSL writes them: the curve's beginning up to the point, and RSA's up to the modulus.
    #[test]
    fn a_public_key_is_written_as_others_write_it() {
        let start = |key: &DecodingKey, bytes: usize| der(key).map(|der| (der.len(), der[..bytes].to_vec()));
        let ec = |letters: usize| DecodingKey::from_ec_components(&"A".repeat(letters), &"A".repeat(letters));
        let p256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04";
        assert_eq!(start(&ec(43).unwrap(), 27), Some((91, p256.to_vec())));
        let p384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04";
        assert_eq!(start(&ec(64).unwrap(), 24), Some((120, p384.to_vec())));
        let rsa = DecodingKey::from_rsa_raw_components(&[0xff; 256], &[1, 0, 1]);
        let rsa2048: &[u8] = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00\xff";
        assert_eq!(start(&rsa, 34), Some((294, rsa2048.to_vec())));
        assert_eq!(der(&DecodingKey::from_secret(b"secret")), None);
        assert_eq!(der(&ec(42).unwrap()), None);
    }
}
