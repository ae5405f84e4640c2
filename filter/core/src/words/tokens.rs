//! How many tokens of each kind?

/// Tokens as the backend counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sent, with all that is named below as part of it.
    pub prompt: u64,
    /// Of those, found in the backend's cache.
    pub cached: u64,
    /// Of those, written into the backend's cache.
    pub cache_write: u64,
    /// Of those, audio.
    pub prompt_audio: u64,
    /// Of those, images.
    pub prompt_image: u64,
    /// Produced, with all that is named below as part of it.
    pub completion: u64,
    /// Of those, hidden reasoning.
    pub reasoning: u64,
    /// Of those, audio.
    pub completion_audio: u64,
    /// Of those, images.
    pub completion_image: u64,
}

impl Usage {
    /// Sent and produced.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.saturating_add(other.prompt),
            cached: self.cached.saturating_add(other.cached),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            prompt_audio: self.prompt_audio.saturating_add(other.prompt_audio),
            prompt_image: self.prompt_image.saturating_add(other.prompt_image),
            completion: self.completion.saturating_add(other.completion),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            completion_audio: self.completion_audio.saturating_add(other.completion_audio),
            completion_image: self.completion_image.saturating_add(other.completion_image),
        }
    }

    /// Makes no part more than what it is part of; answers whether one was.
    pub fn cut_to_whole(&mut self) -> bool {
        let before = *self;
        self.cached = self.cached.min(self.prompt);
        self.cache_write = self.cache_write.min(self.prompt - self.cached);
        self.prompt_audio = self.prompt_audio.min(self.prompt);
        self.prompt_image = self.prompt_image.min(self.prompt - self.prompt_audio);
        self.reasoning = self.reasoning.min(self.completion);
        self.completion_audio = self.completion_audio.min(self.completion);
        self.completion_image = self.completion_image.min(self.completion - self.completion_audio);
        *self != before
    }

    /// Each kind under its name, in metrics and logs. What follows `prompt` is part of it, and what follows `completion` of
    /// that.
    #[must_use]
    pub fn kinds(self) -> [(&'static str, u64); 9] {
        [
            ("prompt", self.prompt),
            ("cached", self.cached),
            ("cache_write", self.cache_write),
            ("prompt_audio", self.prompt_audio),
            ("prompt_image", self.prompt_image),
            ("completion", self.completion),
            ("reasoning", self.reasoning),
            ("completion_audio", self.completion_audio),
            ("completion_image", self.completion_image),
        ]
    }
}
