//! How much may be produced, and under which name is it said?

use super::{
    Asked, Bound, COMPLETION_TOKENS_ASSUMED, Evaluation, LEGACY_COMPLETION_TOKENS, Rule, unread_ceiling,
};
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::request::{BUDGET_TOKENS_MIN, CapField, Ceiling, Field, THINKING_BUDGET};

impl Evaluation<'_, '_> {
    /// How much may be produced.
    pub(super) fn ceiling(&mut self) -> Result<Ceiling, Denial> {
        let operation = self.asked.operation;
        // Anthropic's API has no choices, and refuses what it does not have.
        let without_default = |bound: Bound| Bound { default: None, ..bound };
        let n = if operation.is_of_anthropic() { self.policy.n.map(without_default) } else { self.policy.n };
        let mut n = self.bound(Rule::N, n, Field::N, self.request.n)?.unwrap_or(1);
        if !CapField::ALL.iter().any(|field| field.is_read_by(operation)) {
            return Ok(Ceiling { candidates: n.max(1), ..unread_ceiling(operation) });
        }
        let cap = self.cap()?;
        self.thinking(cap)?;
        let best_of = self.request.best_of;
        if let (Some(best_of), Some(n)) = (best_of, self.request.n)
            && best_of < n
        {
            return Err(Denial::BestOfBelowN { best_of, n });
        }
        let best_of = if operation == Operation::Completions || best_of.is_some() {
            self.bound(Rule::BestOf, self.policy.best_of, Field::BestOf, best_of)?
        } else {
            None
        };
        // The one may have been lowered more than the other.
        if let Some(best_of) = best_of.filter(|best_of| (1..n).contains(best_of))
            && self.clamp(Rule::N, Field::N, &best_of.to_string())
        {
            n = best_of;
        }
        let (assumed, prompts) = match operation {
            Operation::Completions => (LEGACY_COMPLETION_TOKENS, self.request.prompts()?),
            _ => (COMPLETION_TOKENS_ASSUMED, 1),
        };
        Ok(Ceiling {
            completion_tokens: cap.unwrap_or(assumed),
            candidates: n.max(best_of.unwrap_or(1)).max(1).saturating_mul(prompts),
        })
    }

    /// What is thought is part of what is produced, and must be less: a cap that was lowered lowers it too.
    fn thinking(&mut self, cap: Option<u32>) -> Result<(), Denial> {
        let (Some(cap), true) = (cap, self.asked.operation == Operation::Messages) else { return Ok(()) };
        let is_lowered = self.request.cap(CapField::MaxTokens).is_none_or(|asked| asked > cap);
        let Some(budget) = self.request.thinking_budget()?.filter(|_| is_lowered) else { return Ok(()) };
        let max = cap.saturating_sub(1);
        if budget.tokens <= max {
            return Ok(());
        }
        if max < BUDGET_TOKENS_MIN {
            let (max, asked) = (max.into(), budget.tokens.into());
            return self.refuse(Rule::MaxTokens, Denial::AboveMax { field: THINKING_BUDGET, max, asked });
        }
        if self.clamps(Rule::MaxTokens, THINKING_BUDGET, &max.to_string()) {
            self.request.set_thinking_budget(&budget, max);
        }
        Ok(())
    }

    /// The cap that goes upstream, under the name that the client gave it.
    fn cap(&mut self) -> Result<Option<u32>, Denial> {
        let Asked { operation, family, .. } = *self.asked;
        let given = CapField::ALL.into_iter().filter(|field| field.is_read_by(operation));
        if given.filter(|field| self.request.cap(*field).is_some()).count() > 1 {
            return Err(Denial::Exclusive(CapField::MaxTokens.name(), CapField::MaxCompletionTokens.name()));
        }
        // Every name is held to the bound, for a server might read any of them; what is produced is decided by those that
        // the operation documents.
        let mut read = None;
        for field in CapField::ALL {
            let asked = self.request.cap(field);
            if asked.is_some() {
                let bounded = self.bound(Rule::MaxTokens, self.policy.max_tokens, field.field(), asked)?;
                if field.is_read_by(operation) {
                    read = bounded;
                }
            }
        }
        match read {
            Some(cap) => Ok(Some(cap)),
            None => {
                let field = family.cap_field(operation).field();
                self.bound(Rule::MaxTokens, self.policy.max_tokens, field, None)
            }
        }
    }
}
