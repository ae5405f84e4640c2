//! What does an answer cost, by its own word or by estimate?
//!
//! What a backend reports is charged as far as it can be true: never more than the request could cost, and not nothing
//! where something was produced. Whatever is charged otherwise says that it is an estimate, and why. Not decided here: how
//! it ended.

use super::preparing::Expected;
use crate::endpoint::{Billing, Operation};
use crate::estimate::{Estimate, Sketch};
use crate::ledger::Source;
use crate::request::{CapField, Ceiling, Field, Request};
use crate::tokens::Usage;
use crate::usage::{Reader, Reported};
use memchr::memmem;

/// The longest prompt that is believed where it is more than the body: Gemini's two million tokens are the longest context
/// that is offered by OpenAI's API. <https://ai.google.dev/gemini-api/docs/long-context>
const CONTEXT_TOKENS_MAX: u64 = 2 * 1024 * 1024;

/// The longest answer that is believed where the request has no cap: gpt-5 produces up to 128,000 tokens.
/// <https://platform.openai.com/docs/models/gpt-5>
const COMPLETION_TOKENS_MAX: u64 = 128 * 1024;

/// The most steps that are believed of a run; there is no bound by its documents.
const RUN_STEPS_MAX: u64 = 100;

/// The most requests of a batch. <https://platform.openai.com/docs/guides/batch>
const BATCH_REQUESTS_MAX: u64 = 50_000;

/// What servers add to a prompt of text: instructions of their own, and the frames of messages and tools.
const ADDED_TOKENS: u64 = 4096;

/// The most that is believed of a request's usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

impl Bounds {
    /// Of what may be many requests to a model, of which nothing is known.
    const fn of_many(requests: u64) -> Self {
        Self { prompt: requests * CONTEXT_TOKENS_MAX, completion: requests * COMPLETION_TOKENS_MAX }
    }

    /// Where nothing is known of what was asked: a run asks its model again after each tool.
    pub(super) const OF_RUN: Self = Self::of_many(RUN_STEPS_MAX);

    pub(super) const OF_BATCH: Self = Self::of_many(BATCH_REQUESTS_MAX);

    /// Of work for which this was reserved, and which says that it is this.
    pub(super) fn of_work(reserved: Usage, object: Option<&str>) -> Self {
        match object {
            Some("batch") => Self::OF_BATCH,
            _ if reserved.total() > 0 => Self {
                prompt: CONTEXT_TOKENS_MAX,
                completion: COMPLETION_TOKENS_MAX.max(reserved.completion),
            },
            _ => Self::OF_RUN,
        }
    }

    /// As much of it as can be, and whether that is all.
    fn cut(self, usage: Usage) -> (Usage, bool) {
        let (prompt, completion) = (usage.prompt.min(self.prompt), usage.completion.min(self.completion));
        (Usage { prompt, completion, ..usage }, (prompt, completion) == (usage.prompt, usage.completion))
    }

    /// Of a turn of a connection: whatever cap it has, what is reported may be another's.
    pub(super) fn uncapped(self) -> Self {
        Self { completion: self.completion.max(COMPLETION_TOKENS_MAX), ..self }
    }

    /// Of a request as it goes upstream.
    pub(super) fn of(
        operation: Operation,
        request: &Request<'_>,
        body: &[u8],
        sketch: &Sketch,
        ceiling: Ceiling,
    ) -> Self {
        let is_text = match operation {
            // What was searched or looked up is in no body.
            Operation::ChatCompletions => {
                !request.carries(Field::WebSearchOptions) && memmem::find(body, b"\"data_sources\"").is_none()
            }
            Operation::Completions | Operation::Embeddings => true,
            // What was said before, and what tools found, is in no body.
            _ => false,
        };
        // A token is at least a byte.
        let prompt = if is_text && !sketch.has_items() {
            (body.len() as u64).saturating_add(ADDED_TOKENS)
        } else {
            CONTEXT_TOKENS_MAX
        };
        let is_read = |field: &CapField| field.is_read_by(operation) && request.carries(field.field());
        // Rejected predictions are billed beyond the cap.
        // <https://platform.openai.com/docs/guides/predicted-outputs#limitations>
        let is_capped = CapField::ALL.iter().any(is_read) && !request.carries(Field::Prediction);
        let completion = match operation {
            Operation::Embeddings => 0,
            _ if is_capped => ceiling.tokens(),
            _ => COMPLETION_TOKENS_MAX.saturating_mul(ceiling.candidates.into()),
        };
        Self { prompt, completion }
    }
}

/// The cost of an exchange.
pub(super) struct Cost {
    pub(super) usage: Usage,
    pub(super) source: Source,
    /// Why the usage is not what the answer reports, or not all of that.
    pub(super) unread: Option<&'static str>,
}

impl Cost {
    pub(super) const NOTHING: Self = Self {
        usage: Usage {
            prompt: 0,
            cached: 0,
            cache_write: 0,
            prompt_audio: 0,
            prompt_image: 0,
            completion: 0,
            reasoning: 0,
            completion_audio: 0,
            completion_image: 0,
        },
        source: Source::Reported,
        unread: None,
    };

    /// What work reports that was asked for by another request, for which this was reserved. No tokens at all are no
    /// report.
    pub(super) fn of_work(reported: Reported, reserved: Usage, bounds: Bounds) -> Self {
        if reported.usage.total() == 0 && reserved.total() > 0 {
            return Self::estimated(reserved, Some("zero_usage"));
        }
        Self::of_failed_work(reported, reserved, bounds)
    }

    /// The same of work that failed, which may have used none.
    pub(super) fn of_failed_work(reported: Reported, reserved: Usage, bounds: Bounds) -> Self {
        let Reported { mut usage, is_total_only, is_odd, .. } = reported;
        let mut estimated = None;
        if is_total_only && usage.prompt > 0 && reserved.completion > 0 {
            estimated = Some("total_only");
            let prompt = reserved.prompt.min(usage.prompt);
            (usage.prompt, usage.completion) = (prompt, usage.prompt - prompt);
        } else if usage.prompt == 0 && usage.completion > 0 && reserved.prompt > 0 {
            estimated = Some("zero_usage");
            usage.prompt = reserved.prompt;
        }
        let (mut usage, is_all) = bounds.cut(usage);
        usage.cut_to_whole();
        match estimated.or((!is_all).then_some("usage_too_large")) {
            None => Self { usage, source: Source::Reported, unread: is_odd.then_some("odd_usage") },
            reason => Self::estimated(usage, reason),
        }
    }

    /// At least this was produced.
    pub(super) fn or_more(mut self, estimate: Estimate) -> Self {
        self.usage.completion = self.usage.completion.max(estimate.completion);
        self
    }

    pub(super) fn estimated(usage: Usage, unread: Option<&'static str>) -> Self {
        Self { usage, source: Source::Estimated, unread }
    }
}

impl Expected {
    /// What a prompt costs that an error says nothing of.
    pub(super) fn prompt_cost(&self) -> Cost {
        // A batch that is refused reads no prompt.
        if self.is_counted_batch() {
            return Cost::NOTHING;
        }
        Cost::estimated(Usage { prompt: self.estimate.prompt, ..Usage::default() }, None)
    }

    /// What a good answer costs, or one that never came.
    pub(super) fn cost(&self, reader: Option<&Reader>) -> Cost {
        if reader.is_some_and(Reader::is_nothing) || self.operation.billing() == Billing::Nothing {
            return Cost::NOTHING;
        }
        if let Some((reader, reported)) = reader.and_then(|reader| Some((reader, reader.reported()?))) {
            return self.reported_cost(reader, reported);
        }
        match self.operation.billing() {
            // It may have been made, and nobody knows its id.
            Billing::UsageIfAny if reader.is_none() && self.is_counted_batch() => {
                Cost::estimated(self.estimate.usage(), None)
            }
            Billing::UsageIfAny | Billing::Nothing => Cost::NOTHING,
            Billing::Estimate => self.prompt_cost(),
            Billing::Usage => {
                let completion = self.produced(reader);
                let usage = Usage { prompt: self.estimate.prompt, completion, ..Usage::default() };
                Cost::estimated(usage, reader.map(|reader| reader.unread().unwrap_or("no_usage")))
            }
        }
    }

    /// Tokens that were produced, of which nobody told: of the text that was seen, or all that was reserved.
    fn produced(&self, reader: Option<&Reader>) -> u64 {
        let reserved = self.estimate.completion;
        let Some((reader, bytes)) = reader.and_then(|reader| Some((reader, reader.produced_bytes()?))) else {
            return reserved;
        };
        let seen = self.learnt.produced_tokens(bytes).min(self.bounds.completion);
        // Who thinks unseen does so before it speaks, and nobody can tell how long it was.
        if self.reasons && !reader.has_failed() { seen.max(reserved) } else { seen }
    }

    /// What an answer costs that reports its usage, as far as that can be.
    fn reported_cost(&self, reader: &Reader, reported: Reported) -> Cost {
        let Reported { mut usage, is_total_only, is_unfinished, is_odd } = reported;
        let mut unread = is_odd.then_some("odd_usage");
        let mut source = Source::Reported;
        let mut estimates = |reason| {
            source = Source::Estimated;
            unread = Some(reason);
        };
        if self.operation.billing() != Billing::UsageIfAny {
            if is_total_only && usage.prompt > 0 && self.operation != Operation::Embeddings {
                let prompt = self.estimate.prompt.min(usage.prompt);
                usage.completion = usage.prompt - prompt;
                usage.prompt = prompt;
                estimates("total_only");
            }
            let is_image = matches!(self.operation, Operation::ImageGenerations | Operation::ImageEdits);
            let has_produced = is_image || reader.produced_bytes().is_some_and(|bytes| bytes > 0);
            if is_unfinished {
                usage.completion = self.produced(Some(reader));
                estimates("no_usage");
            // No prompt has no tokens, and no text is none.
            } else if usage.completion == 0 && has_produced {
                usage.completion = self.produced(Some(reader));
                estimates("zero_usage");
            }
            if usage.prompt == 0 && self.estimate.prompt > 0 {
                usage.prompt = self.estimate.prompt;
                estimates("zero_usage");
            }
        }
        let (cut, is_all) = self.bounds.cut(usage);
        usage = cut;
        if !is_all {
            estimates("usage_too_large");
        }
        usage.cut_to_whole();
        Cost { usage, source, unread }
    }
}
