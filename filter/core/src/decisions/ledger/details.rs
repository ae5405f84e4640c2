//! What does the access log get of a record?

use super::{Record, Try};
use crate::decision::PassedOver;
use crate::finding::{Finding, Would};
use crate::time::millis;
use std::rc::Rc;

/// A value in the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A word.
    Text(String),
    /// A number.
    Count(u64),
    /// Yes or no.
    Flag(bool),
    /// Several words.
    Words(Vec<String>),
    /// All tries, in their order.
    Tries(Vec<Try>),
    /// The backends that were passed over.
    PassedOver(Vec<PassedOver>),
}

impl Record {
    /// What the access log gets besides client, model, backend, tokens and outcome, which have fields of their own there.
    /// What is not known is left out.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, Detail)> {
        let served = self.served.as_ref();
        let text = |text: &str| Detail::Text(text.to_owned());
        let found = |wanted: fn(&Finding) -> Option<String>| {
            let found: Vec<_> = self.findings.iter().filter_map(wanted).collect();
            (!found.is_empty()).then_some(Detail::Words(found))
        };
        let words = |words: &[Rc<str>]| Detail::Words(words.iter().map(ToString::to_string).collect());
        let passed_over = &self.passed_over;
        // Most answers have none of these.
        let counted = |tokens: u64| (tokens > 0).then_some(Detail::Count(tokens));
        let optional = [
            ("model_asked", self.asked.clone().map(Detail::Text)),
            ("model_answered", self.answered.clone().map(Detail::Text)),
            ("provider_request_id", self.provider_request_id.as_deref().map(text)),
            ("deployment", served.map(|served| text(&served.deployment))),
            ("region", served.and_then(|served| served.region.as_deref()).map(text)),
            ("price_micros", self.price_micros.map(Detail::Count)),
            ("service_tier", self.service_tier.as_deref().map(text)),
            ("served_by_spillover", self.served_by_spillover.then_some(Detail::Flag(true))),
            ("first_token_ms", self.first_token.map(|first| Detail::Count(millis(first)))),
            ("cache_write_tokens", counted(self.usage.cache_write)),
            ("prompt_image_tokens", counted(self.usage.prompt_image)),
            ("completion_image_tokens", counted(self.usage.completion_image)),
            ("unread", self.unread.map(text)),
            ("priority", self.queued.map(|queued| text(queued.priority))),
            ("queued_ms", self.queued.map(|queued| Detail::Count(millis(queued.time)))),
            ("spilled_from", self.spill.as_ref().map(|spill| text(&spill.from))),
            ("spill_reason", self.spill.as_ref().map(|spill| text(spill.cause.word()))),
            ("clamped", found(Finding::clamped)),
            ("refused_by", found(Finding::refused)),
            ("would_refuse", found(|finding| finding.would(Would::Reject))),
            ("would_clamp", found(|finding| finding.would(Would::Clamp))),
            ("would_default", found(|finding| finding.would(Would::Default))),
            ("unknown_fields", found(Finding::unknown)),
            ("pinned", self.pin.map(|pin| text(pin.word()))),
            ("stored", self.stored.map(|stored| text(stored.word()))),
            ("read_by", self.read_by().map(|name| text(&name.text))),
            ("limit", self.limit.as_deref().map(text)),
            ("shadow_refusals", (!self.shadow_refusals.is_empty()).then(|| words(&self.shadow_refusals))),
            ("candidates", (!self.candidates.is_empty()).then(|| words(&self.candidates))),
            ("passed_over", (!passed_over.is_empty()).then(|| Detail::PassedOver(passed_over.clone()))),
        ];
        let always = [
            ("operation", text(self.operation)),
            ("stream", Detail::Flag(self.stream)),
            ("tries", Detail::Tries(self.tries.clone())),
            ("reserved_tokens", Detail::Count(self.reserved)),
            ("cached_tokens", Detail::Count(self.usage.cached)),
            ("prompt_audio_tokens", Detail::Count(self.usage.prompt_audio)),
            ("reasoning_tokens", Detail::Count(self.usage.reasoning)),
            ("completion_audio_tokens", Detail::Count(self.usage.completion_audio)),
            ("duration_ms", Detail::Count(millis(self.duration))),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        always.into_iter().chain(optional).collect()
    }
}
