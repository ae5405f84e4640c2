//! How long may the prompt be, what may it hold, and what may the model call and answer in?

use super::{Evaluation, Policy, Quota, Rule};
use crate::denial::Denial;
use crate::request::{Inner, Parts};

impl Evaluation<'_, '_> {
    /// How long the prompt is, and what it holds.
    pub(super) fn prompt(&mut self) -> Result<(), Denial> {
        let Policy { prompt, image_parts, audio_parts, file_parts, .. } = self.policy;
        let at = self.request.longest_part().name();
        let bytes: usize = self.request.prompt.iter().map(|part| part.len()).sum();
        self.at_most(Rule::PromptBytes, prompt.bytes_max, at, "bytes of prompt", bytes as u64)?;
        let tokens = self.asked.prompt_tokens;
        self.at_most(Rule::PromptTokens, prompt.tokens_max, at, "tokens of prompt by estimate", tokens)?;
        let quotas = [image_parts, audio_parts, file_parts];
        // The messages are counted where their parts are.
        if !self.is_applied(Rule::ImageParts)
            || prompt.messages_max.is_none() && quotas.iter().all(|quota| **quota == Quota::Allow)
        {
            return Ok(());
        }
        let Parts { messages, images, audio, files } = self.request.parts()?;
        self.at_most(Rule::PromptMessages, prompt.messages_max, at, "messages", messages)?;
        self.parts(Rule::ImageParts, *image_parts, at, ["an image", "images"], images)?;
        self.parts(Rule::AudioParts, *audio_parts, at, ["audio", "audio parts"], audio)?;
        self.parts(Rule::FileParts, *file_parts, at, ["a file", "files"], files)
    }

    fn parts(
        &mut self,
        rule: Rule,
        quota: Quota,
        field: &'static str,
        [part, what]: [&'static str; 2],
        found: u64,
    ) -> Result<(), Denial> {
        match quota {
            Quota::Forbid if found > 0 => self.refuse(rule, Denial::ForbiddenPart { field, part }),
            Quota::Max(max) => self.at_most(rule, Some(max.into()), field, what, found),
            _ => Ok(()),
        }
    }

    /// What the model may call, and in which form it may have to answer.
    pub(super) fn tools_and_format(&mut self) -> Result<(), Denial> {
        self.tools()?;
        let policy = self.policy;
        let Some(allowed) = policy.response_format.as_ref().filter(|_| self.is_applied(Rule::ResponseFormat))
        else {
            return Ok(());
        };
        let inners: &[Inner] = match self.asked.operation {
            operation if operation.is_of_responses() => &[Inner::TextFormatType, Inner::ResponseFormatType],
            operation if operation.is_of_anthropic() => {
                &[Inner::OutputConfigFormatType, Inner::ResponseFormatType]
            }
            _ => &[Inner::ResponseFormatType],
        };
        for inner in inners {
            if let Some(word) = self.request.inner(*inner)? {
                self.among(Rule::ResponseFormat, inner.path(), &word, allowed)?;
            }
        }
        Ok(())
    }
}
