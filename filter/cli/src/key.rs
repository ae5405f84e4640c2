//! How is an API key made?

use tollgate::digest::hex;
use tollgate::identity::issued::KEY_PREFIX;

/// A key that nobody can guess: 256 bits. What it begins with tells people and scanners of secrets what it is.
pub(crate) fn new() -> Result<String, String> {
    let mut bytes = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| "this machine gives no random numbers".to_owned())?;
    Ok(format!("{KEY_PREFIX}{}", hex(&bytes)))
}
