//! How may tokens be picked, and what may be told of it?

use super::{Bound, Hearing, Mode, Over, Permission, Quota, Range};
use crate::denial::Denial;
use crate::request::Field;

/// What Responses' `include` says to get the probabilities of tokens.
/// <https://platform.openai.com/docs/api-reference/responses/create#responses-create-include>
const INCLUDE_LOGPROBS: &str = "message.output_text.logprobs";

impl Hearing<'_, '_> {
    /// How tokens are picked, and what is told of it.
    pub(super) fn sampling(&mut self) -> Result<(), Denial> {
        self.range("temperature", self.policy.temperature, Field::Temperature)?;
        self.range("top_p", self.policy.top_p, Field::TopP)?;
        self.permission("echo", self.policy.echo, Field::Echo, "null")?;
        self.permission("seed", self.policy.seed, Field::Seed, "null")?;
        self.logprobs()?;
        match self.policy.logit_bias {
            Quota::Allow => Ok(()),
            quota => {
                let entries = self.request.entries(Field::LogitBias)?;
                self.quota("logit_bias", quota, Field::LogitBias, entries)
            }
        }
    }

    fn range(&mut self, rule: &'static str, range: Option<Range>, field: Field) -> Result<(), Denial> {
        let Some(Range { min, max, over }) = range else { return Ok(()) };
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
        self.permission("logprobs", permission, Field::Logprobs, "null")?;
        self.permission("logprobs", permission, Field::TopLogprobs, "null")?;
        if permission != Permission::Allow {
            let mut included = self.request.words(Field::Include)?;
            let all = included.len();
            included.retain(|word| word != INCLUDE_LOGPROBS);
            match permission {
                _ if included.len() == all => {}
                Permission::Forbid => self.refuse("logprobs", Denial::Forbidden(INCLUDE_LOGPROBS))?,
                _ => {
                    if self.clamps("logprobs", INCLUDE_LOGPROBS, "null") {
                        self.request.set_words(Field::Include, &included);
                    }
                }
            }
        }
        let Some(bound) = self.policy.top_logprobs else { return Ok(()) };
        if permission == Permission::Drop && self.policy.mode == Mode::Enforce {
            return Ok(());
        }
        let bound = Some(Bound { default: None, ..bound });
        let top = self.request.count(Field::TopLogprobs)?;
        self.bound("top_logprobs", bound, Field::TopLogprobs, top)?;
        if self.request.raw(Field::Logprobs).is_some_and(|value| !matches!(value, "true" | "false")) {
            let count = self.request.count(Field::Logprobs)?;
            self.bound("top_logprobs", bound, Field::Logprobs, count)?;
        }
        Ok(())
    }
}
