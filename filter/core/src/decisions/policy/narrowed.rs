//! What is left if two policies hold?
//!
//! What a key may ask for is what its client may, and what the key's own policy lets it. Whatever one of the two refuses, both
//! do: so nothing that is added widens.

use super::rules::{
    Bound, Levels, Mode, Over, Permission, Policy, PromptBounds, Quota, Range, Streaming, Unknown,
};
use super::tools;
use crate::request::may_name_models;
use crate::sorting;
use std::rc::Rc;

/// What nothing is left of.
type Nothing = &'static str;

impl Policy {
    /// A policy that refuses what either refuses; or the first rule of which nothing is left. This one's own defaults hold
    /// where `other` has none. `other` must be one that acts; where this one only looks on, it is as if it were not there.
    pub fn narrowed_by(&self, other: &Self) -> Result<Self, Nothing> {
        let request_bytes_max = self.request_bytes_max.min(other.request_bytes_max);
        if self.mode == Mode::Audit {
            return Ok(Self { request_bytes_max, ..other.clone() });
        }
        let (mcp_hosts, mcp_connectors) = places(self, other);
        let Self {
            mode,
            max_tokens,
            best_of,
            n,
            temperature,
            top_p,
            logprobs,
            top_logprobs,
            echo,
            logit_bias,
            seed,
            tools,
            tool_types,
            mcp_hosts: _,
            mcp_connectors: _,
            data_sources,
            data_source_types,
            max_tool_calls,
            response_format,
            image_parts,
            audio_parts,
            file_parts,
            stream,
            store,
            background,
            service_tier,
            reasoning_effort,
            reasoning_mode,
            verbosity,
            context_management,
            safety_identifier,
            prompt_cache_key,
            prompt_cache_retention,
            prompt_cache_options,
            size,
            quality,
            unknown_fields,
            allowed_fields,
            prompt,
            request_bytes_max: _,
        } = self;
        Ok(Self {
            mode: *mode,
            max_tokens: bound(*max_tokens, other.max_tokens),
            best_of: bound(*best_of, other.best_of),
            n: bound(*n, other.n),
            temperature: range(*temperature, other.temperature).ok_or("temperature")?,
            top_p: range(*top_p, other.top_p).ok_or("top_p")?,
            logprobs: permission(*logprobs, other.logprobs),
            top_logprobs: bound(*top_logprobs, other.top_logprobs),
            echo: permission(*echo, other.echo),
            logit_bias: quota(*logit_bias, other.logit_bias),
            seed: permission(*seed, other.seed),
            tools: quota(*tools, other.tools),
            tool_types: words(tool_types, &other.tool_types).ok_or("tools.types")?,
            mcp_hosts,
            mcp_connectors,
            data_sources: permission(*data_sources, other.data_sources),
            data_source_types: words(data_source_types, &other.data_source_types)
                .ok_or("data_sources.types")?,
            max_tool_calls: bound(*max_tool_calls, other.max_tool_calls),
            response_format: words(response_format, &other.response_format).ok_or("response_format")?,
            image_parts: quota(*image_parts, other.image_parts),
            audio_parts: quota(*audio_parts, other.audio_parts),
            file_parts: quota(*file_parts, other.file_parts),
            stream: streaming(*stream, other.stream).ok_or("stream")?,
            store: permission(*store, other.store),
            background: permission(*background, other.background),
            service_tier: words(service_tier, &other.service_tier).ok_or("service_tier")?,
            reasoning_effort: levels(reasoning_effort, &other.reasoning_effort).ok_or("reasoning_effort")?,
            reasoning_mode: words(reasoning_mode, &other.reasoning_mode).ok_or("reasoning_mode")?,
            verbosity: levels(verbosity, &other.verbosity).ok_or("verbosity")?,
            context_management: permission(*context_management, other.context_management),
            safety_identifier: permission(*safety_identifier, other.safety_identifier),
            prompt_cache_key: permission(*prompt_cache_key, other.prompt_cache_key),
            prompt_cache_retention: words(prompt_cache_retention, &other.prompt_cache_retention)
                .ok_or("prompt_cache_retention")?,
            prompt_cache_options: permission(*prompt_cache_options, other.prompt_cache_options),
            size: levels(size, &other.size).ok_or("size")?,
            quality: levels(quality, &other.quality).ok_or("quality")?,
            unknown_fields: unknown(*unknown_fields, other.unknown_fields),
            // What may name any model must be allowed to by both; of other fields a policy that lets all pass, and names none, says nothing.
            allowed_fields: match other.unknown_fields {
                Unknown::Pass if other.allowed_fields.is_empty() => {
                    allowed_fields.iter().filter(|name| !may_name_models(name)).cloned().collect()
                }
                _ => common(allowed_fields, &other.allowed_fields),
            },
            prompt: shorter(*prompt, other.prompt),
            request_bytes_max,
        })
    }
}

impl Policy {
    /// Whether a field may name any model.
    #[must_use]
    pub fn lets_name_models(&self) -> bool {
        self.allowed_fields.iter().any(|name| may_name_models(name))
    }

    /// The same, but for the fields that may name any model: they are looked into as all others are.
    #[must_use]
    pub fn naming_no_models(self: Rc<Self>) -> Rc<Self> {
        if !self.lets_name_models() {
            return self;
        }
        let allowed_fields =
            self.allowed_fields.iter().filter(|name| !may_name_models(name)).cloned().collect();
        Rc::new(Self { allowed_fields, ..(*self).clone() })
    }
}

/// The lesser of two, where there are two.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn over(one: Over, other: Over) -> Over {
    if one == Over::Reject || other == Over::Reject { Over::Reject } else { Over::Clamp }
}

fn bound(one: Option<Bound>, other: Option<Bound>) -> Option<Bound> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let max = least(one.max, other.max);
    let default = other.default.or(one.default).map(|default| least(Some(default), max).unwrap_or(default));
    Some(Bound { default, max, over: over(one.over, other.over) })
}

fn range(one: Option<Range>, other: Option<Range>) -> Option<Option<Range>> {
    let (Some(one), Some(other)) = (one, other) else { return Some(one.or(other)) };
    let min = match (one.min, other.min) {
        (Some(one), Some(other)) => Some(if one < other { other } else { one }),
        (one, other) => one.or(other),
    };
    let max = match (one.max, other.max) {
        (Some(one), Some(other)) => Some(if one > other { other } else { one }),
        (one, other) => one.or(other),
    };
    let is_empty = matches!((min, max), (Some(min), Some(max)) if min > max);
    (!is_empty).then_some(Some(Range { min, max, over: over(one.over, other.over) }))
}

fn permission(one: Permission, other: Permission) -> Permission {
    match (one, other) {
        (Permission::Forbid, _) | (_, Permission::Forbid) => Permission::Forbid,
        (Permission::Drop, _) | (_, Permission::Drop) => Permission::Drop,
        (Permission::Allow, Permission::Allow) => Permission::Allow,
    }
}

fn quota(one: Quota, other: Quota) -> Quota {
    match (one, other) {
        (Quota::Forbid, _) | (_, Quota::Forbid) => Quota::Forbid,
        (Quota::Max(one), Quota::Max(other)) => Quota::Max(one.min(other)),
        (Quota::Allow, other) => other,
        (one, Quota::Allow) => one,
    }
}

fn streaming(one: Streaming, other: Streaming) -> Option<Streaming> {
    match (one, other) {
        (Streaming::Allow, other) => Some(other),
        (one, Streaming::Allow) => Some(one),
        (Streaming::Forbid, Streaming::Forbid) => Some(Streaming::Forbid),
        (Streaming::Forbid, _) | (_, Streaming::Forbid) => None,
        (Streaming::Force, Streaming::Force) => Some(Streaming::Force),
        (Streaming::Require, _) | (_, Streaming::Require) => Some(Streaming::Require),
    }
}

fn unknown(one: Unknown, other: Unknown) -> Unknown {
    match (one, other) {
        (Unknown::Refuse, _) | (_, Unknown::Refuse) => Unknown::Refuse,
        (Unknown::Audit, _) | (_, Unknown::Audit) => Unknown::Audit,
        (Unknown::Pass, Unknown::Pass) => Unknown::Pass,
    }
}

fn common(one: &[String], other: &[String]) -> Vec<String> {
    one.iter().filter(|word| other.contains(word)).cloned().collect()
}

fn words(one: &Option<Vec<String>>, other: &Option<Vec<String>>) -> Option<Option<Vec<String>>> {
    let (Some(one), Some(other)) = (one, other) else {
        return Some(one.as_ref().or(other.as_ref()).cloned());
    };
    let common = common(one, other);
    (!common.is_empty()).then_some(Some(common))
}

fn levels(one: &Option<Levels>, other: &Option<Levels>) -> Option<Option<Levels>> {
    let (Some(one), Some(other)) = (one, other) else {
        return Some(one.as_ref().or(other.as_ref()).cloned());
    };
    let allowed = common(&one.allowed, &other.allowed);
    if allowed.is_empty() {
        return None;
    }
    let both = Levels { order: one.order.clone(), allowed, over: over(one.over, other.over), default: None };
    // Who says nothing gets no more than either would give.
    let default = other.default.as_deref().or(one.default.as_deref());
    let default = default.and_then(|word| if both.allows(word) { Some(word) } else { both.nearest(word) });
    let default =
        default.or_else(|| both.allowed.first().map(String::as_str).filter(|_| one.default.is_some()));
    Some(Some(Levels { default: default.map(str::to_owned), ..both }))
}

fn shorter(one: PromptBounds, other: PromptBounds) -> PromptBounds {
    PromptBounds {
        bytes_max: least(one.bytes_max, other.bytes_max),
        messages_max: least(one.messages_max, other.messages_max),
        tokens_max: least(one.tokens_max, other.tokens_max),
    }
}

/// Where tools may be called: the hosts and the connectors that both know. Neither list says that there is no bound.
fn places(one: &Policy, other: &Policy) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let lists = |policy: &Policy| (policy.mcp_hosts.clone(), policy.mcp_connectors.clone());
    let is_bounded = |policy: &Policy| policy.mcp_hosts.is_some() || policy.mcp_connectors.is_some();
    match (is_bounded(one), is_bounded(other)) {
        (false, _) => lists(other),
        (_, false) => lists(one),
        (true, true) => {
            let hosts = |policy: &Policy| policy.mcp_hosts.clone().unwrap_or_default();
            let within = |inner: &Policy, outer: &Policy| -> Vec<String> {
                let outer = hosts(outer);
                hosts(inner)
                    .into_iter()
                    .filter(|host| {
                        outer.iter().any(|pattern| pattern == host || tools::matches(pattern, host))
                    })
                    .collect()
            };
            let mut both = within(one, other);
            both.extend(within(other, one));
            sorting::sort(&mut both);
            both.dedup();
            let connectors = |policy: &Policy| policy.mcp_connectors.clone().unwrap_or_default();
            (Some(both), Some(common(&connectors(one), &connectors(other))))
        }
    }
}
