//! What does the access log get of a record?

use super::{Record, Source, Try};
use crate::decision::{self, PassedOver};
use crate::finding::{Finding, Would};
use crate::json::JsonWriter;
use crate::time::millis;
use crate::tokens::Usage;
use std::borrow::Cow;

/// How a record is left for the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordForm {
    /// Each field by itself.
    Fields,
    /// As the end of a line.
    Line {
        /// Whether what is JSON stands there as that, and not as a text.
        is_typed: bool,
    },
}

/// The fields whose texts are JSON.
const TYPED: [&str; 4] = ["prompt_tokens", "completion_tokens", "estimated", "details"];

impl Record {
    /// What has a field of its own in the access log, in its order there. `details` is a JSON object, as text.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, Option<Cow<'_, str>>); 8] {
        let served = self.served.as_ref();
        let is_estimated =
            self.source == Source::Estimated || self.turns.is_some_and(|turns| turns.is_estimated);
        let estimated = if is_estimated { "true" } else { "false" };
        let usage = self.usage_told();
        [
            ("client", self.payer().map(|name| (*name.text).into())),
            ("model", self.paid_model().map(|name| (*name.text).into())),
            ("backend", served.map(|served| (*served.backend).into())),
            ("outcome", Some(self.outcome.word().into())),
            ("prompt_tokens", Some(usage.prompt.to_string().into())),
            ("completion_tokens", Some(usage.completion.to_string().into())),
            ("estimated", Some(estimated.into())),
            ("details", Some(self.details().into())),
        ]
    }

    /// Its tokens, with those of its turns.
    fn usage_told(&self) -> Usage {
        self.turns.map_or(self.usage, |turns| self.usage.with(turns.usage))
    }

    /// All fields as the end of a line: the members of a JSON object, with a comma before the first, and no brace. A log that
    /// writes a line as it is cannot quote what a client has sent: of what Envoy refuses early, the id is a client's.
    #[must_use]
    pub fn line(&self, request_id: &str, is_typed: bool) -> Vec<u8> {
        let mut line = JsonWriter::default();
        line.member("request_id");
        line.text(request_id);
        for (name, value) in self.fields() {
            line.member(name);
            match value {
                Some(value) if is_typed && TYPED.contains(&name) => line.json(&value),
                Some(value) => line.text(&value),
                None => line.flag(None),
            }
        }
        line.into_bytes()
    }

    /// What the access log gets besides client, model, backend, tokens and outcome, which have fields of their own there: a
    /// JSON object. What is not known is left out.
    #[must_use]
    pub fn details(&self) -> String {
        let mut details = Details(JsonWriter::default());
        details.0.open(b'{');
        self.tell_always(&mut details);
        self.tell_known(&mut details);
        details.0.close(b'}');
        details.0.into_text()
    }

    fn tell_always(&self, details: &mut Details) {
        let usage = self.usage_told();
        details.text("operation", Some(self.operation));
        details.flag("stream", self.stream);
        details.tries(&self.tries);
        details.count("reserved_tokens", Some(self.reserved));
        details.count("cached_tokens", Some(usage.cached));
        details.count("prompt_audio_tokens", Some(usage.prompt_audio));
        details.count("reasoning_tokens", Some(usage.reasoning));
        details.count("completion_audio_tokens", Some(usage.completion_audio));
        details.count("duration_ms", Some(millis(self.duration)));
    }

    fn tell_known(&self, details: &mut Details) {
        let served = self.served.as_ref();
        details.text("model_asked", self.asked.as_deref());
        details.text("model_answered", self.answered.as_deref());
        details.text("provider_request_id", self.provider_request_id.as_deref());
        details.text("deployment", served.map(|served| &*served.deployment));
        details.text("region", served.and_then(|served| served.region.as_deref()));
        details.count("price_micros", self.turns.map_or(self.price_micros, |turns| turns.price_micros));
        details.text("service_tier", self.service_tier.as_deref());
        if self.served_by_spillover {
            details.flag("served_by_spillover", true);
        }
        details.count("first_token_ms", self.first_token.map(millis));
        // Most answers have none of these.
        let counted = |tokens: u64| Some(tokens).filter(|tokens| *tokens > 0);
        details.count("cache_write_tokens", counted(self.usage_told().cache_write));
        details.count("prompt_image_tokens", counted(self.usage_told().prompt_image));
        details.count("completion_image_tokens", counted(self.usage_told().completion_image));
        details.count("turns", self.turns.map(|turns| turns.count));
        details.count("refused_turns", self.turns.and_then(|turns| counted(turns.refused)));
        details.text("unread", self.unread);
        details.text("priority", self.queued.map(|queued| queued.priority));
        details.count("queued_ms", self.queued.map(|queued| millis(queued.time)));
        details.text("spilled_from", self.spill.as_ref().map(|spill| &*spill.from));
        details.text("spill_reason", self.spill.as_ref().map(|spill| spill.cause.word()));
        details.text("refused_tier", self.refused_tier);
        if !self.findings.is_empty() {
            let found = |wanted: fn(&Finding) -> Option<String>| -> Vec<String> {
                self.findings.iter().filter_map(wanted).collect()
            };
            details.texts("clamped", &found(Finding::clamped));
            details.texts("refused_by", &found(Finding::refused));
            details.texts("would_refuse", &found(|finding| finding.would(Would::Reject)));
            details.texts("would_clamp", &found(|finding| finding.would(Would::Clamp)));
            details.texts("would_default", &found(|finding| finding.would(Would::Default)));
            details.texts("unknown_fields", &found(Finding::unknown));
        }
        details.text("pinned", self.pin.map(|pin| pin.word()));
        details.text("stored", self.stored.map(|stored| stored.word()));
        details.text("group", self.paying_group());
        details.text("read_by", self.read_by().map(|name| &*name.text));
        details.text("job", self.replay.as_ref().map(|replay| &*replay.job));
        details.text("worker", self.replay.as_ref().map(|replay| &*replay.worker.text));
        details.text("limit", self.limit.as_deref());
        details.texts("shadow_refusals", &self.shadow_refusals);
        details.texts("users", &self.users);
        details.texts("candidates", &self.candidates);
        details.passed_over(&self.passed_over);
        if self.is_ordered {
            details.flag("ordered", true);
        }
        if let Some(caller) = &self.refused_caller {
            details.text("caller_address", caller.address.as_deref());
            details.text("key_begins", caller.key_begins.as_deref());
            details.text("unverified_iss", caller.iss.as_deref());
            details.text("unverified_sub", caller.sub.as_deref());
            details.text("unverified_oid", caller.oid.as_deref());
        }
    }
}

/// The members of the object. What is not known, and a list without an element, is left out. Its methods stay calls: thirty
/// copies of each would be read anew for each request.
struct Details(JsonWriter);

impl Details {
    #[inline(never)]
    fn text(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.0.member(name);
            self.0.text(text);
        }
    }

    #[inline(never)]
    fn count(&mut self, name: &'static str, count: Option<u64>) {
        if let Some(count) = count {
            self.0.member(name);
            self.0.count(count);
        }
    }

    fn flag(&mut self, name: &'static str, flag: bool) {
        self.0.member(name);
        self.0.flag(Some(flag));
    }

    fn texts<T: AsRef<str>>(&mut self, name: &'static str, texts: &[T]) {
        if !texts.is_empty() {
            self.0.list(name, texts.iter(), |json, text| json.text(text.as_ref()));
        }
    }

    fn tries(&mut self, tries: &[Try]) {
        self.0.list("tries", tries.iter(), |json, Try { backend, status }| {
            decision::write_attempt(json, backend, *status);
        });
    }

    fn passed_over(&mut self, passed_over: &[PassedOver]) {
        if !passed_over.is_empty() {
            self.0.list("passed_over", passed_over.iter(), |json, passed| passed.write(json));
        }
    }
}
