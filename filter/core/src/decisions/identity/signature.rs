//! Is this the signature of that?
//!
//! `jsonwebtoken` asks a [`CryptoProvider`]. Envoy's own cryptography is many times faster than any in a VM, and adds nothing to
//! the module, but it does PKCS#1 and ECDSA only; the rest is done [`here`]. `docs/identity.md` has the numbers. Who has more
//! than what is here installs a provider of its own before the first token comes.

use super::jwt::Token;
use super::keys::Key;
use super::public_key;
use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use sha2::{Sha256, Sha384, Sha512};

/// Whether the last is a signature of the one before it, made with the key's secret half. The key's family is the algorithm's.
pub type Check = fn(Algorithm, &DecodingKey, &[u8], &[u8]) -> bool;

/// Whether the key made the token's signature.
#[must_use]
pub fn is_signed_by(token: &Token<'_>, key: &Key) -> bool {
    // Whoever was first stays.
    let _ = DEFAULT.install_default();
    jsonwebtoken::crypto::verify(token.signature, token.signed, &key.decoding, token.algorithm)
        .unwrap_or(false)
}

#[cfg(not(test))]
static DEFAULT: CryptoProvider = provider(|algorithm, key| {
    verifier(algorithm, key, |algorithm, key, message, signature| {
        here(algorithm, key, message, signature) == Some(true)
    })
});
#[cfg(test)]
use super::tokens::ORACLE as DEFAULT;

/// A provider that verifies, and neither signs nor makes keys.
#[must_use]
pub const fn provider(
    verifier_factory: fn(&Algorithm, &DecodingKey) -> Result<Box<dyn JwtVerifier>>,
) -> CryptoProvider {
    CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory,
        key_utils: KeyUtils {
            rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
            rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
            ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
            ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
            compute_digest: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        },
    }
}

/// The verifier of a provider: a key of another family than the algorithm's is none.
pub fn verifier(algorithm: &Algorithm, key: &DecodingKey, check: Check) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Verification { algorithm: *algorithm, key: key.clone(), check }))
}

struct Verification {
    algorithm: Algorithm,
    key: DecodingKey,
    check: Check,
}

impl Verifier<Vec<u8>> for Verification {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let is_good = (self.check)(self.algorithm, &self.key, message, signature);
        is_good.then_some(()).ok_or_else(signature::Error::new)
    }
}

impl JwtVerifier for Verification {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Of the signatures that a VM checks for itself: PS256, EdDSA, HS256, HS384, HS512. `None` for the others.
#[must_use]
pub fn here(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signature: &[u8]) -> Option<bool> {
    if key.family() != algorithm.family() {
        return Some(false);
    }
    let is_good = match (algorithm, key.kind()) {
        (Algorithm::PS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            public_key::rsa(n, e).is_some_and(|key| pss(&key, message, signature))
        }
        (Algorithm::EdDSA, _) => ed25519_dalek::Signature::from_slice(signature)
            // The strict check takes no key and no signature of small order, with which one signature fits many messages.
            .is_ok_and(|signature| {
                public_key::ed25519(key).is_some_and(|key| key.verify_strict(message, &signature).is_ok())
            }),
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
            hmac::<Hmac<Sha256>>(secret, message, signature)
        }
        (Algorithm::HS384, DecodingKeyKind::SecretOrDer(secret)) => {
            hmac::<Hmac<Sha384>>(secret, message, signature)
        }
        (Algorithm::HS512, DecodingKeyKind::SecretOrDer(secret)) => {
            hmac::<Hmac<Sha512>>(secret, message, signature)
        }
        (Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::ES256 | Algorithm::ES384, _) => {
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

#[cfg(all(test, not(target_arch = "wasm32")))]
mod vectors;
