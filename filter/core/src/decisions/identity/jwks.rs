//! Which keys of an issuer hold?
//!
//! They are fetched for all workers at once. Not decided here: when.

use super::fetched::{self, Origin};
use super::keys::KeySet;
use crate::store::Store;

pub use super::fetched::{Fetch, Outcome, SPUR_EVERY as UNKNOWN_KEY_EVERY};

/// The longest key set, in bytes.
pub const KEYS_BYTES_MAX: usize = 64 * 1024;

/// The keys of an issuer that are fetched from it.
pub type Fetched = fetched::Fetched<KeySet>;

/// Keys of which nothing is known yet.
#[must_use]
pub fn keys(origin: Origin) -> Fetched {
    let read = |body: &[u8], _: &dyn Store| {
        KeySet::read(body).ok_or_else(|| vec!["there is no key in it that we can use".to_owned()])
    };
    Fetched::new(origin, "jwks", KEYS_BYTES_MAX, Box::new(read))
}

#[cfg(test)]
mod tests;
