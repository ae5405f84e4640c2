//! How may it be served: as a stream, later, kept, at which tier, with how much thinking?

use super::{Effort, Efforts, Hearing, Over, Permission, Rule, Streaming, shown};
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::request::{Field, Inner};

impl Hearing<'_, '_> {
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
        if let Some(allowed) = policy.service_tier.as_ref().filter(|_| self.holds(Rule::ServiceTier))
            && let Some(tier) = self.request.word(Field::ServiceTier)?
        {
            self.among(Rule::ServiceTier, Field::ServiceTier.name(), &tier, allowed)?;
        }
        self.effort()
    }

    fn streaming(&mut self) -> Result<(), Denial> {
        let (may, can) = (self.holds(Rule::Stream), self.holds(Rule::StreamOnly));
        let only = |asked: bool| Denial::NotAllowed {
            field: Field::Stream.name(),
            asked: asked.to_string(),
            allowed: vec![(!asked).to_string()],
        };
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

    /// Chat and Responses say it in different places; a server might read either.
    fn effort(&mut self) -> Result<(), Denial> {
        let policy = self.policy;
        let Some(efforts) = policy.reasoning_effort.as_ref().filter(|_| self.holds(Rule::ReasoningEffort))
        else {
            return Ok(());
        };
        let chat = self.request.word(Field::ReasoningEffort)?;
        let responses = self.request.inner(Inner::ReasoningEffort)?;
        let is_absent = chat.is_none() && responses.is_none();
        if let Some(word) = chat
            && let Some(to) = self.effort_at(efforts, Field::ReasoningEffort.name(), &word)?
        {
            self.request.set(Field::ReasoningEffort, format!("\"{}\"", to.word()));
        }
        if let Some(word) = responses
            && let Some(to) = self.effort_at(efforts, Inner::ReasoningEffort.path(), &word)?
        {
            self.request.set_inner(Inner::ReasoningEffort, to.word())?;
        }
        // A model that does not reason would refuse the field.
        let Some(default) = efforts.default.filter(|_| is_absent && self.asked.family.reasons()) else {
            return Ok(());
        };
        let operation = self.asked.operation;
        if !matches!(operation, Operation::ChatCompletions | Operation::Responses)
            || !self.defaults(Rule::ReasoningEffort)
        {
            return Ok(());
        }
        if operation == Operation::Responses {
            return self.request.set_inner(Inner::ReasoningEffort, default.word());
        }
        self.request.set(Field::ReasoningEffort, format!("\"{}\"", default.word()));
        Ok(())
    }

    /// What an effort is to be changed to, if it is.
    fn effort_at(
        &mut self,
        efforts: &Efforts,
        field: &'static str,
        word: &str,
    ) -> Result<Option<Effort>, Denial> {
        let asked = Effort::of(word);
        if asked.is_some_and(|asked| efforts.allowed.contains(&asked)) {
            return Ok(None);
        }
        // A word that is not known is neither more nor less than another.
        let nearest = asked.and_then(|asked| efforts.nearest(asked)).filter(|_| efforts.over == Over::Clamp);
        match nearest {
            Some(to) => Ok(self.clamps(Rule::ReasoningEffort, field, to.word()).then_some(to)),
            None => {
                let allowed = efforts.allowed.iter().map(|effort| effort.word().to_owned()).collect();
                self.refuse(
                    Rule::ReasoningEffort,
                    Denial::NotAllowed { field, asked: shown(word), allowed },
                )?;
                Ok(None)
            }
        }
    }
}
