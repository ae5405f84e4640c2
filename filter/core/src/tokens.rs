//! How many tokens of each kind?

/// Tokens as the backend counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sent, cached ones among them.
    pub prompt: u64,
    /// Of those, found in the backend's cache.
    pub cached: u64,
    /// Produced, hidden reasoning among them.
    pub completion: u64,
    /// Of those, hidden reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Sent and produced.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}
