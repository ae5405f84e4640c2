//! How may it be served: as a stream, later, kept, at which tier, with how much thinking?

use super::{Evaluation, Permission, Rule, Streaming};
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::request::Field;

/// How speech says that it comes as events.
/// <https://platform.openai.com/docs/api-reference/audio/createSpeech#audio_createspeech-stream_format>
const EVENTS: &str = "sse";

impl Evaluation<'_, '_> {
    /// How it is served.
    pub(super) fn service(&mut self) -> Result<(), Denial> {
        self.streaming()?;
        self.permission(Rule::Background, self.policy.background, Field::Background, "false")?;
        self.permission(Rule::Store, self.policy.store, Field::Store, "false")?;
        // Responses keeps what it is not told not to.
        if self.policy.store != Permission::Allow
            && self.asked.operation == Operation::Responses
            && self.request.raw(Field::Store).is_none()
        {
            self.clamp(Rule::Store, Field::Store, "false");
        }
        let policy = self.policy;
        self.word(Rule::ServiceTier, policy.service_tier.as_ref(), Field::ServiceTier)?;
        self.effort()
    }

    fn streaming(&mut self) -> Result<(), Denial> {
        let (may, can) = (self.is_applied(Rule::Stream), self.is_applied(Rule::StreamOnly));
        let only = |asked: bool| Denial::NotAllowed {
            field: Field::Stream.name(),
            asked: asked.to_string(),
            allowed: vec![(!asked).to_string()],
        };
        if self.policy.stream == Streaming::Forbid
            && self.asked.operation == Operation::Speech
            && self.request.word(Field::StreamFormat)?.as_deref() == Some(EVENTS)
        {
            let allowed = vec!["audio".to_owned()];
            let field = Field::StreamFormat.name();
            return self
                .refuse(Rule::Stream, Denial::NotAllowed { field, asked: EVENTS.to_owned(), allowed });
        }
        match (self.policy.stream, self.request.stream) {
            (Streaming::Forbid, true) if may => self.refuse(Rule::Stream, only(true)),
            (Streaming::Require, false) if can => self.refuse(Rule::StreamOnly, only(false)),
            (Streaming::Force, false) if can => {
                if self.clamps(Rule::StreamOnly, Field::Stream.name(), "true") {
                    self.request.set_stream(true);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
