//! How may tokens be picked, and what may be told of it?

use super::{Bound, Evaluation, Mode, Over, Permission, Quota, Range, Rule};
use crate::denial::Denial;
use crate::request::Field;

/// What `include` says to get the probabilities of tokens, of Responses and of transcriptions.
/// <https://platform.openai.com/docs/api-reference/responses/create#responses-create-include>
/// <https://platform.openai.com/docs/api-reference/audio/createTranscription#audio_createtranscription-include>
const INCLUDED_LOGPROBS: [&str; 2] = ["message.output_text.logprobs", "logprobs"];

impl Evaluation<'_, '_> {
    /// How tokens are picked, and what is told of it.
    pub(super) fn sampling(&mut self) -> Result<(), Denial> {
        self.range(Rule::Temperature, self.policy.temperature, Field::Temperature)?;
        self.range(Rule::TopP, self.policy.top_p, Field::TopP)?;
        self.permission(Rule::Echo, self.policy.echo, Field::Echo, "null")?;
        self.permission(Rule::Seed, self.policy.seed, Field::Seed, "null")?;
        self.logprobs()?;
        match self.policy.logit_bias {
            quota if quota != Quota::Allow && self.is_applied(Rule::LogitBias) => {
                let entries = self.request.entries(Field::LogitBias)?;
                self.quota(Rule::LogitBias, quota, Field::LogitBias, entries)
            }
            _ => Ok(()),
        }
    }

    fn range(&mut self, rule: Rule, range: Option<Range>, field: Field) -> Result<(), Denial> {
        let Some(Range { min, max, over }) = range.filter(|_| self.is_applied(rule)) else { return Ok(()) };
        let Some(asked) = self.request.decimal(field)? else { return Ok(()) };
        let (bound, denial) = match (min, max) {
            (Some(min), _) if asked < min => {
                (min, Denial::BelowMin { field: field.name(), min: min.into(), asked: asked.into() })
            }
            (_, Some(max)) if asked > max => {
                (max, Denial::AboveMax { field: field.name(), max: max.into(), asked: asked.into() })
            }
            _ => return Ok(()),
        };
        match over {
            Over::Reject => self.refuse(rule, denial),
            Over::Clamp => {
                self.clamp(rule, field, &bound.to_string());
                Ok(())
            }
        }
    }

    /// Chat has a flag and a number, legacy completions a number under the flag's name, Responses a word in a list.
    fn logprobs(&mut self) -> Result<(), Denial> {
        let permission = self.policy.logprobs;
        self.permission(Rule::Logprobs, permission, Field::Logprobs, "null")?;
        self.permission(Rule::Logprobs, permission, Field::TopLogprobs, "null")?;
        if permission != Permission::Allow && self.is_applied(Rule::Logprobs) {
            let mut included = self.request.words(Field::Include)?;
            let asked = INCLUDED_LOGPROBS.into_iter().find(|asked| included.iter().any(|word| word == asked));
            included.retain(|word| !INCLUDED_LOGPROBS.contains(&&**word));
            match (permission, asked) {
                (_, None) => {}
                (Permission::Forbid, Some(asked)) => self.refuse(Rule::Logprobs, Denial::Forbidden(asked))?,
                (_, Some(asked)) => {
                    if self.clamps(Rule::Logprobs, asked, "null") {
                        self.request.set_words(Field::Include, &included);
                    }
                }
            }
        }
        let Some(bound) = self.policy.top_logprobs.filter(|_| self.is_applied(Rule::TopLogprobs)) else {
            return Ok(());
        };
        if permission == Permission::Drop && self.policy.mode == Mode::Enforce {
            return Ok(());
        }
        let bound = Some(Bound { default: None, ..bound });
        let top = self.request.count(Field::TopLogprobs)?;
        self.bound(Rule::TopLogprobs, bound, Field::TopLogprobs, top)?;
        if self.request.raw(Field::Logprobs).is_some_and(|value| !matches!(value, "true" | "false")) {
            let count = self.request.count(Field::Logprobs)?;
            self.bound(Rule::TopLogprobs, bound, Field::Logprobs, count)?;
        }
        Ok(())
    }
}
