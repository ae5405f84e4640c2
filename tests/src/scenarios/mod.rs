//! Does Tollgate pass the scenarios of the gateway toolkit that Microsoft publishes for API Management?
//!
//! Names, load shapes and what is to be seen are those that [the toolkit's documents](https://github.com/Azure-Samples/apim-genai-gateway-toolkit)
//! state; docs/scenarios.md has them, and what came of it. Here they run through a real Envoy, with mocks behind it that limit
//! as the toolkit's simulator does. Time runs faster: whatever lasts is divided by [`Pace::scale`], so that as many requests
//! fall into a window as in the toolkit. All times here are the toolkit's, unless a name says `real`.

mod balancing;
mod cycles;
mod latency;
mod load;
mod picture;
mod report;
mod spikes;
mod usage;

use std::num::NonZeroU64;
use std::time::Duration;

use anyhow::Result;

pub use report::{Mark, Outcome};

/// One of the toolkit's scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Two equal backends.
    RoundRobinSimple,
    /// Two backends, of which one is to get more.
    RoundRobinWeighted,
    /// A spike is more than the first backend takes.
    Spikes,
    /// The faster of two backends, in the order that a scheduled task measures.
    Latency,
    /// Two priorities of chats, where requests are scarce.
    ChatCycle,
    /// Two priorities of embeddings, where tokens are scarce.
    EmbeddingsCycle,
    /// What each of three clients has used.
    Usage,
}

/// How fast a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many seconds of the toolkit's go by in one.
    pub scale: u32,
    /// Its stages are so much shorter besides, and tokens are counted over a second: to see that it works.
    pub shortened: u32,
}

/// Where the toolkit says what a scenario is, under its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// What is to be seen.
    pub document: &'static str,
    /// The load.
    pub load: &'static str,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RoundRobinSimple,
        Self::RoundRobinWeighted,
        Self::Spikes,
        Self::Latency,
        Self::ChatCycle,
        Self::EmbeddingsCycle,
        Self::Usage,
    ];

    /// The toolkit's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobinSimple => "round-robin-simple",
            Self::RoundRobinWeighted => "round-robin-weighted",
            Self::Spikes => "manage-spikes-with-payg",
            Self::Latency => "latency-routing",
            Self::ChatCycle => "prioritization-chat-cycle",
            Self::EmbeddingsCycle => "prioritization-embeddings-cycle",
            Self::Usage => "usage-tracking",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// Where it is from.
    #[must_use]
    pub fn source(self) -> Source {
        let (document, load) = match self {
            Self::RoundRobinSimple => ("capabilities/load-balancing/README.md", "scenario_round_robin.py"),
            Self::RoundRobinWeighted => {
                ("capabilities/load-balancing/README.md", "scenario_round_robin_weighted.py")
            }
            Self::Spikes => {
                ("capabilities/manage-spikes-with-payg/README.md", "scenario_manage_spikes_with_payg.py")
            }
            Self::Latency => ("capabilities/latency-routing/README.md", "scenario_latency_routing.py"),
            Self::ChatCycle => (
                "capabilities/prioritization/prioritization-token-calculating-chat-cycle.md",
                "scenario_prioritization.py",
            ),
            Self::EmbeddingsCycle => (
                "capabilities/prioritization/prioritization-token-calculating-embeddings-cycle.md",
                "scenario_prioritization.py",
            ),
            Self::Usage => ("capabilities/usage-tracking/README.md", "scenario_usage_tracking.py"),
        };
        Source { document, load }
    }

    /// How it is run in some seconds, by CI. Where nothing is counted over a window, only time is shorter.
    #[must_use]
    pub fn quick(self) -> Pace {
        match self {
            Self::RoundRobinSimple | Self::RoundRobinWeighted | Self::Usage => {
                Pace { scale: 60, shortened: 1 }
            }
            Self::Latency => Pace { scale: 30, shortened: 1 },
            Self::Spikes => Pace { scale: 5, shortened: 8 },
            Self::ChatCycle | Self::EmbeddingsCycle => Pace { scale: 10, shortened: 6 },
        }
    }

    /// Runs it, with an Envoy of its own.
    ///
    /// # Errors
    /// Envoy does not start, or a request gets no answer.
    pub async fn run(self, pace: Pace) -> Result<Outcome> {
        match self {
            Self::RoundRobinSimple => balancing::run(self, pace, [1, 1]).await,
            Self::RoundRobinWeighted => balancing::run(self, pace, [2, 3]).await,
            Self::Spikes => spikes::run(self, pace).await,
            Self::Latency => latency::run(self, pace).await,
            Self::ChatCycle => cycles::chats(self, pace).await,
            Self::EmbeddingsCycle => cycles::embeddings(self, pace).await,
            Self::Usage => usage::run(self, pace).await,
        }
    }
}

impl Pace {
    /// Whether it only shows that the scenario works.
    fn is_quick(self) -> bool {
        self.shortened > 1
    }

    /// How long that takes.
    fn real(self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / f64::from(self.scale))
    }

    /// What is a time of a stage, in these stages.
    fn of_stage(self, seconds: f64) -> f64 {
        seconds / f64::from(self.shortened)
    }

    /// The time that has gone by when so much has.
    fn shown(self, real: Duration) -> f64 {
        real.as_secs_f64() * f64::from(self.scale)
    }

    /// What a mock waits, in whole milliseconds.
    fn latency_ms(self, milliseconds: u64) -> u64 {
        milliseconds.div_ceil(u64::from(self.scale))
    }

    /// A rate of so many a minute, which is so many more in a real one.
    fn per_minute(self, count: u32) -> u32 {
        count.saturating_mul(self.scale)
    }

    /// Over how many real seconds tokens are counted: a minute, or as little as can be.
    fn tokens_window_s(self) -> u32 {
        if self.is_quick() { 1 } else { (60 / self.scale).max(1) }
    }

    /// Over how many real seconds requests are counted: ten.
    fn requests_window_s(self) -> u32 {
        (10 / self.scale).max(1)
    }
}

/// So many seconds, as a mock has them.
fn window_ms(seconds: u32) -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add((u64::from(seconds) * 1000).saturating_sub(1))
}
