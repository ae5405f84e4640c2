//! Is this the signature of that?
//!
//! The question has one interface, [`Verify`], and where the answer comes from depends on the algorithm. Envoy's own
//! cryptography is many times faster than any in a VM, and adds nothing to the module, but it does PKCS#1 and ECDSA only; the
//! rest is done [`here`]. `docs/identity.md` has the numbers.

use super::keys::{Algorithm, Key, Material};
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384, Sha512};

/// Checks signatures.
pub trait Verify {
    /// Whether `signature` was made with the key's secret half over `message`. The key fits the algorithm.
    fn verify(&self, algorithm: Algorithm, key: &Key, message: &[u8], signature: &[u8]) -> bool;
}

/// Of the signatures that a VM checks for itself: PS256, EdDSA, HS256, HS384, HS512. `None` for the others.
#[must_use]
pub fn here(algorithm: Algorithm, key: &Key, message: &[u8], signature: &[u8]) -> Option<bool> {
    let is_good = match (algorithm, &key.material) {
        (Algorithm::Ps256, Material::Rsa { public, .. }) => pss(public, message, signature),
        (Algorithm::EdDsa, Material::Ed25519(key)) => ed25519_dalek::Signature::from_slice(signature)
            // The strict check takes no key and no signature of small order, with which one signature fits many messages.
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        (Algorithm::Hs256, Material::Secret(secret)) => hmac::<Hmac<Sha256>>(secret, message, signature),
        (Algorithm::Hs384, Material::Secret(secret)) => hmac::<Hmac<Sha384>>(secret, message, signature),
        (Algorithm::Hs512, Material::Secret(secret)) => hmac::<Hmac<Sha512>>(secret, message, signature),
        (Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Es256 | Algorithm::Es384, _) => {
            return None;
        }
        _ => false,
    };
    Some(is_good)
}

fn pss(key: &rsa::RsaPublicKey, message: &[u8], signature: &[u8]) -> bool {
    use sha2::Digest;
    // The salt is as long as the hash. https://www.rfc-editor.org/rfc/rfc7518#section-3.5
    key.verify(rsa::Pss::new_with_salt::<Sha256>(32), &Sha256::digest(message), signature).is_ok()
}

/// Compared in constant time.
fn hmac<M: Mac + hmac::digest::KeyInit>(secret: &[u8], message: &[u8], signature: &[u8]) -> bool {
    <M as Mac>::new_from_slice(secret)
        .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())
}

/// The DER form of an ECDSA signature, which JWS writes as two numbers of fixed length, one after the other. `None` if they
/// are not of this curve's length, or if one of them is zero: that would fit every message where a verifier forgets to
/// look (CVE-2022-21449).
#[must_use]
pub fn ecdsa_der(algorithm: Algorithm, signature: &[u8]) -> Option<Vec<u8>> {
    let bytes = match algorithm {
        Algorithm::Es256 => 32,
        Algorithm::Es384 => 48,
        _ => return None,
    };
    if signature.len() != 2 * bytes {
        return None;
    }
    let (r, s) = signature.split_at_checked(bytes)?;
    if [r, s].iter().any(|number| number.iter().all(|byte| *byte == 0)) {
        return None;
    }
    Some(super::der::sequence(&[super::der::integer(r), super::der::integer(s)]))
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
        check(Algorithm::Es256, &both(1, 0x80, 32), Some(der));
        check(Algorithm::Es384, &both(1, 0x80, 48), Some(der));
        check(Algorithm::Es256, &both(0, 1, 32), None);
        check(Algorithm::Es256, &both(1, 0, 32), None);
        check(Algorithm::Es256, &both(0, 0, 32), None);
        check(Algorithm::Es256, &both(1, 1, 48), None);
        check(Algorithm::Es384, &both(1, 1, 32), None);
        check(Algorithm::Es256, der, None);
        check(Algorithm::Es256, &[], None);
        check(Algorithm::Rs256, &both(1, 1, 32), None);
    }
}
