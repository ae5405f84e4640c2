//! Which tokens have been verified already?
//!
//! By the SHA-256 of the token, for as long as it is valid and the keys are those it was verified with.

use crate::value::Values;
use std::time::Duration;

/// The most tokens that are remembered.
pub(super) const VERIFIED_MAX: usize = 10_000;

/// What is known of a token.
#[derive(Clone, Debug)]
pub(super) struct Verified<C> {
    /// Whose it is.
    pub(super) client: C,
    /// Which issuer's.
    pub(super) issuer: usize,
    /// The generation of the issuer's keys.
    pub(super) generation: u64,
    /// From then on it is not valid.
    pub(super) until: Duration,
    /// What it tells of who asks.
    pub(super) values: Values,
}
