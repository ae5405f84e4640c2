//! How much does a backend take, and how does it count?

use crate::allowance::Weights;
use crate::tokens::Usage;
use std::num::NonZeroU32;
use std::time::Duration;

/// A declared capacity of a backend, or of one deployment at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Whose capacity this is; the name of its record.
    pub id: u64,
    /// Where several deployments share it, the name of what is known of the pace of this one.
    pub pace_id: Option<u64>,
    /// What fits in a window.
    pub size: NonZeroU32,
    /// The window over which the backend counts.
    pub window: Duration,
    /// Whether a request is counted by what it asked for only until it is known what it cost, as provisioned throughput
    /// is.
    pub is_provisioned: bool,
    /// What is counted.
    pub unit: Unit,
}

/// What a backend counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Tokens, those of each kind by so much.
    Tokens(Weights),
    /// Requests, whatever they cost.
    Requests,
}

impl Unit {
    /// The word for them.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tokens(_) => "tokens",
            Self::Requests => "requests",
        }
    }
}

impl Gauge {
    /// The most that a request which may use so much takes of it.
    #[must_use]
    pub fn takes_max(self, usage: Usage) -> u64 {
        match self.unit {
            Unit::Tokens(weights) => weights.tokens_max(usage),
            Unit::Requests => 1,
        }
    }

    /// What a request that was sent and used so much has taken of it.
    #[must_use]
    pub fn took(self, usage: Usage) -> u64 {
        match self.unit {
            Unit::Tokens(weights) => weights.tokens(usage),
            Unit::Requests => 1,
        }
    }
}

/// All that was declared for a target: a request needs room in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Its tokens.
    pub tokens: Option<Gauge>,
    /// Its requests.
    pub requests: Option<Gauge>,
}

impl Gauges {
    /// Each of them.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Gauge> {
        [self.tokens, self.requests].into_iter().flatten()
    }

    /// Adds one, in place of another of its unit.
    pub fn insert(&mut self, gauge: Gauge) {
        match gauge.unit {
            Unit::Tokens(_) => self.tokens = Some(gauge),
            Unit::Requests => self.requests = Some(gauge),
        }
    }

    /// Whether nothing was declared.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What a backend says of the room it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomLeft {
    /// For so much.
    Amount(u64),
    /// So many millionths of its capacity are in use.
    Utilization(u32),
}
