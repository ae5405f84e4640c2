//! What clients may ask for.

mod tools;
pub(super) mod wire;

use super::{Build, Policies, REQUEST_BYTES_CEILING};
use crate::number::Decimal;
use crate::policy::{
    Bound, EFFORTS, Levels, Mode, Over, Permission, Policy, PromptBounds, QUALITIES, Quota,
    REQUEST_BYTES_MAX, Range, SIZES, Streaming, Unknown, VERBOSITIES, is_host,
};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The most words of an order.
const LEVELS_MAX: usize = 32;

/// The most fields that may be allowed beside those of the reference: each is looked for among a body's members.
const ALLOWED_FIELDS_MAX: usize = 64;

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
        let tools = self.tools(&at("tools"), wire.tools);
        let (data_sources, data_source_types) = match wire.data_sources {
            wire::DataSources::Allow => (Permission::Allow, None),
            wire::DataSources::Forbid => (Permission::Forbid, None),
            wire::DataSources::Drop => (Permission::Drop, None),
            wire::DataSources::Types(types) => {
                self.some(&at("data_sources.types"), &types);
                (Permission::Allow, Some(types))
            }
        };
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
            tools: tools.0,
            tool_types: tools.1.types,
            mcp_hosts: tools.1.mcp_hosts,
            mcp_connectors: tools.1.mcp_connectors,
            data_sources,
            data_source_types,
            max_tool_calls: self.bound(&at("max_tool_calls"), wire.max_tool_calls),
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
            reasoning_effort: wire
                .reasoning_effort
                .map(|wire| self.levels(&at("reasoning_effort"), wire, &EFFORTS)),
            reasoning_mode: wire.reasoning_mode.inspect(|modes| self.some(&at("reasoning_mode"), modes)),
            verbosity: wire.verbosity.map(|wire| self.levels(&at("verbosity"), wire, &VERBOSITIES)),
            context_management: permission(wire.context_management),
            safety_identifier: permission(wire.safety_identifier),
            prompt_cache_key: permission(wire.prompt_cache_key),
            prompt_cache_retention: wire
                .prompt_cache_retention
                .inspect(|times| self.some(&at("prompt_cache_retention"), times)),
            prompt_cache_options: permission(wire.prompt_cache_options),
            size: wire.size.map(|wire| self.levels(&at("size"), wire, &SIZES)),
            quality: wire.quality.map(|wire| self.levels(&at("quality"), wire, &QUALITIES)),
            allowed_fields: self.allowed_fields(&at("allowed_fields"), wire.allowed_fields),
            unknown_fields: match wire.unknown_fields {
                wire::Unknown::Pass => Unknown::Pass,
                wire::Unknown::Refuse => Unknown::Refuse,
                wire::Unknown::Audit => Unknown::Audit,
            },
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

    fn allowed_fields(&mut self, path: &str, fields: Vec<String>) -> Vec<String> {
        if fields.len() > ALLOWED_FIELDS_MAX {
            let problem = format!("{} of them: expected at most {ALLOWED_FIELDS_MAX}", fields.len());
            self.fault(path.to_owned(), problem);
        }
        let mut seen = HashSet::new();
        for (at, field) in fields.iter().enumerate() {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if field.is_empty() || field.len() > 64 || !field.bytes().all(is_plain) {
                let problem = format!("{field:?}: expected 1 to 64 letters, digits, - _ and .");
                self.fault(format!("{path}[{at}]"), problem);
            } else if !seen.insert(field) {
                self.fault(format!("{path}[{at}]"), format!("{field:?} stands more than once"));
            }
        }
        fields
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

    /// How many tools there may be, and what else is said of them, checked.
    fn tools(&mut self, path: &str, wire: tools::Tools) -> (Quota, tools::Rules) {
        let none = tools::Rules { max: None, types: None, mcp_hosts: None, mcp_connectors: None };
        let rules = match wire {
            tools::Tools::Allow => return (Quota::Allow, none),
            tools::Tools::Forbid => return (Quota::Forbid, none),
            tools::Tools::Rules(rules) => rules,
        };
        let lists = [
            ("types", &rules.types),
            ("mcp_hosts", &rules.mcp_hosts),
            ("mcp_connectors", &rules.mcp_connectors),
        ];
        if rules.max.is_none() && lists.iter().all(|(_, list)| list.is_none()) {
            self.fault(path.to_owned(), "expected max, types, mcp_hosts or mcp_connectors");
        }
        for (field, list) in lists {
            if let Some(list) = list {
                self.some(&format!("{path}.{field}"), list);
            }
        }
        for (at, host) in rules.mcp_hosts.iter().flatten().enumerate() {
            let name = host.strip_prefix("*.").unwrap_or(host);
            if !is_host(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                let problem = format!(
                    "{host:?}: expected a host's name in lower case, as mcp.example.com or *.example.com"
                );
                self.fault(format!("{path}.mcp_hosts[{at}]"), problem);
            }
        }
        let quota = rules.max.map_or(Quota::Allow, |max| self.quota(path, wire::Quota::Max(max)));
        (quota, rules)
    }

    /// `order`: if the configuration does not say.
    fn levels(&mut self, path: &str, wire: wire::Levels, order: &[&str]) -> Levels {
        let order = wire.order.unwrap_or_else(|| order.iter().map(|word| (*word).to_owned()).collect());
        if !(1..=LEVELS_MAX).contains(&order.len()) {
            self.fault(format!("{path}.order"), format!("expected 1 to {LEVELS_MAX} words"));
        }
        let mut seen = HashSet::new();
        for (at, word) in order.iter().enumerate() {
            // They are written into bodies as they are.
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if word.is_empty() || word.len() > 32 || !word.bytes().all(is_plain) {
                let problem = format!("{word:?}: expected 1 to 32 letters, digits, - _ and .");
                self.fault(format!("{path}.order[{at}]"), problem);
            } else if !seen.insert(word) {
                self.fault(format!("{path}.order[{at}]"), format!("{word:?} stands more than once"));
            }
        }
        let allowed = wire.allowed.unwrap_or_else(|| order.clone());
        if !order.is_empty() {
            self.some(&format!("{path}.allowed"), &allowed);
        }
        for (at, word) in allowed.iter().enumerate() {
            if !order.contains(word) {
                let order: Vec<_> = order.iter().map(|word| format!("{word:?}")).collect();
                let problem = format!("{word:?} is not in order: expected one of {}", order.join(", "));
                self.fault(format!("{path}.allowed[{at}]"), problem);
            }
        }
        if let Some(default) = wire.default.as_ref().filter(|default| !allowed.contains(default)) {
            self.fault(format!("{path}.default"), format!("{default:?} is not among allowed"));
        }
        Levels { order, allowed, over: over(wire.over), default: wire.default }
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
