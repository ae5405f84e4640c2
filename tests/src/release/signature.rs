//! How is a release signed? As `cosign sign-blob --key` does it: ECDSA over P-256 and SHA-256, in base64.

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// The signature of `bytes` by a key in PEM.
///
/// # Errors
/// It is no private key of P-256 in PKCS #8.
pub(super) fn of(bytes: &[u8], pem: &str) -> Result<String> {
    let expected = "expected a private key of P-256 in PKCS #8, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes it";
    let inside = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).context(expected)?.0;
    let inside: String = inside.split_whitespace().collect();
    let key = STANDARD.decode(inside).context(expected)?;
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key, &random)
        .map_err(|why| anyhow!("{why}: {expected}"))?;
    let signature = key.sign(&random, bytes).map_err(|_| anyhow!("the key does not sign"))?;
    Ok(STANDARD.encode(signature) + "\n")
}
