//! What clients may ask for.

use super::{Build, Policies, REQUEST_BYTES_CEILING, wire};
use crate::number::Decimal;
use crate::policy::{
    Bound, Effort, Efforts, Mode, Over, Permission, Policy, PromptBounds, Quota, REQUEST_BYTES_MAX, Range,
    Streaming,
};
use std::collections::HashMap;
use std::rc::Rc;

impl Build<'_> {
    pub(super) fn policies(&mut self, wire: Vec<wire::Policy>) -> Policies {
        let mut policies = HashMap::new();
        for (at, policy) in wire.into_iter().enumerate() {
            let path = format!("policies[{at}]");
            let name = policy.name.clone();
            self.name(format!("{path}.name"), &name);
            let built = Rc::new(self.policy(&path, policy));
            if policies.insert(name.clone(), built).is_some() {
                self.fault(format!("{path}.name"), format!("{name:?} stands more than once"));
            }
        }
        policies
    }

    fn policy(&mut self, path: &str, wire: wire::Policy) -> Policy {
        let at = |field: &str| format!("{path}.{field}");
        let request_bytes_max = wire.request_bytes_max.unwrap_or(REQUEST_BYTES_MAX);
        if !(1..=REQUEST_BYTES_CEILING).contains(&request_bytes_max) {
            let problem = format!("{request_bytes_max}: expected 1 to {REQUEST_BYTES_CEILING}");
            self.fault(at("request_bytes_max"), problem);
        }
        let top_logprobs =
            wire.top_logprobs.map(|cap| wire::Bound { default: None, max: Some(cap.max), over: cap.over });
        Policy {
            mode: match wire.mode {
                wire::Mode::Enforce => Mode::Enforce,
                wire::Mode::Audit => Mode::Audit,
            },
            // A bound without a default would be no bound for those who leave the field out.
            max_tokens: self
                .bound(&at("max_tokens"), wire.max_tokens)
                .map(|bound| Bound { default: bound.default.or(bound.max), ..bound }),
            best_of: self.bound(&at("best_of"), wire.best_of),
            n: self.bound(&at("n"), wire.n),
            temperature: self.range(&at("temperature"), wire.temperature),
            top_p: self.range(&at("top_p"), wire.top_p),
            logprobs: permission(wire.logprobs),
            top_logprobs: self.bound(&at("top_logprobs"), top_logprobs),
            echo: permission(wire.echo),
            logit_bias: self.quota(&at("logit_bias"), wire.logit_bias),
            seed: permission(wire.seed),
            tools: self.quota(&at("tools"), wire.tools),
            response_format: wire.response_format.map(|formats| {
                let words: Vec<_> = formats.into_iter().map(format_word).collect();
                self.some(&at("response_format"), &words);
                words
            }),
            image_parts: self.quota(&at("image_parts"), wire.image_parts),
            audio_parts: self.quota(&at("audio_parts"), wire.audio_parts),
            file_parts: self.quota(&at("file_parts"), wire.file_parts),
            stream: match wire.stream {
                wire::Streaming::Allow => Streaming::Allow,
                wire::Streaming::Forbid => Streaming::Forbid,
                wire::Streaming::Require => Streaming::Require,
                wire::Streaming::Force => Streaming::Force,
            },
            store: permission(wire.store),
            background: permission(wire.background),
            service_tier: wire.service_tier.inspect(|tiers| self.some(&at("service_tier"), tiers)),
            reasoning_effort: wire.reasoning_effort.map(|wire| self.efforts(&at("reasoning_effort"), wire)),
            prompt: self.prompt(&at("prompt"), &wire.prompt),
            request_bytes_max,
        }
    }

    /// A list that allows nothing would be a ban in disguise.
    fn some<T>(&mut self, path: &str, list: &[T]) {
        if list.is_empty() {
            self.fault(path.to_owned(), "empty: expected at least one that is allowed");
        }
    }

    fn bound(&mut self, path: &str, wire: Option<wire::Bound>) -> Option<Bound> {
        let wire = wire?;
        for (field, value) in [("default", wire.default), ("max", wire.max)] {
            if value == Some(0) {
                self.fault(format!("{path}.{field}"), "0: expected at least 1");
            }
        }
        if let (Some(default), Some(max)) = (wire.default, wire.max)
            && default > max
        {
            self.fault(format!("{path}.default"), format!("{default} is above max, which is {max}"));
        }
        Some(Bound { default: wire.default, max: wire.max, over: over(wire.over) })
    }

    fn range(&mut self, path: &str, wire: Option<wire::Range>) -> Option<Range> {
        let wire = wire?;
        // JSON has no others, but a protobuf Struct does.
        let (min, max) = (wire.min.and_then(Decimal::new), wire.max.and_then(Decimal::new));
        match (min, max) {
            (None, None) => self.fault(path.to_owned(), "expected min or max, a finite number"),
            (Some(min), Some(max)) if min > max => {
                self.fault(format!("{path}.min"), format!("{min} is above max, which is {max}"));
            }
            _ => {}
        }
        Some(Range { min, max, over: over(wire.over) })
    }

    fn quota(&mut self, path: &str, wire: wire::Quota) -> Quota {
        match wire {
            wire::Quota::Allow => Quota::Allow,
            wire::Quota::Forbid => Quota::Forbid,
            wire::Quota::Max(max) => {
                if max == 0 {
                    self.fault(format!("{path}.max"), "0: expected at least 1, or \"forbid\" in its place");
                }
                Quota::Max(max)
            }
        }
    }

    fn efforts(&mut self, path: &str, wire: wire::Efforts) -> Efforts {
        let allowed: Vec<_> = wire.allowed.into_iter().map(effort).collect();
        self.some(&format!("{path}.allowed"), &allowed);
        let default = wire.default.map(effort);
        if let Some(default) = default.filter(|default| !allowed.contains(default)) {
            self.fault(format!("{path}.default"), format!("{:?} is not among allowed", default.word()));
        }
        Efforts { allowed, over: over(wire.over), default }
    }

    fn prompt(&mut self, path: &str, wire: &wire::Prompt) -> PromptBounds {
        let &wire::Prompt { bytes_max, messages_max, tokens_max } = wire;
        let bounds = [("bytes_max", bytes_max), ("messages_max", messages_max), ("tokens_max", tokens_max)];
        for (field, value) in bounds {
            if value == Some(0) {
                self.fault(format!("{path}.{field}"), "0: expected at least 1");
            }
        }
        PromptBounds { bytes_max, messages_max, tokens_max }
    }
}

fn over(wire: wire::Over) -> Over {
    match wire {
        wire::Over::Clamp => Over::Clamp,
        wire::Over::Reject => Over::Reject,
    }
}

fn permission(wire: wire::Permission) -> Permission {
    match wire {
        wire::Permission::Allow => Permission::Allow,
        wire::Permission::Forbid => Permission::Forbid,
        wire::Permission::Drop => Permission::Drop,
    }
}

fn format_word(wire: wire::Format) -> String {
    match wire {
        wire::Format::Text => "text",
        wire::Format::JsonObject => "json_object",
        wire::Format::JsonSchema => "json_schema",
    }
    .to_owned()
}

fn effort(wire: wire::Effort) -> Effort {
    match wire {
        wire::Effort::None => Effort::None,
        wire::Effort::Minimal => Effort::Minimal,
        wire::Effort::Low => Effort::Low,
        wire::Effort::Medium => Effort::Medium,
        wire::Effort::High => Effort::High,
        wire::Effort::XHigh => Effort::XHigh,
    }
}
