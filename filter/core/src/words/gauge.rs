//! How much does a backend take, and how does it count?

use crate::allowance::Weights;
use std::num::NonZeroU32;
use std::time::Duration;

/// The declared capacity of a backend, or of one deployment at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Whose capacity this is; the name of its record.
    pub id: u64,
    /// The tokens that fit in a window.
    pub tokens: NonZeroU32,
    /// The window over which the backend counts.
    pub window: Duration,
    /// Whether a request is counted by what it asked for only until it is known what it cost, as provisioned throughput
    /// is.
    pub is_provisioned: bool,
    /// What a token of each kind takes of it.
    pub weights: Weights,
}

/// What a backend says of the room it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomLeft {
    /// So many tokens are left.
    Tokens(u64),
    /// So many millionths of its capacity are in use.
    Utilization(u32),
}
