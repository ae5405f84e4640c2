//! Which fields are held by no more than their kind?
//!
//! A field that may be asked for or not, and one whose words are on a list: a row each, in the order in which they are
//! looked at.

use super::{Bound, Evaluation, Permission, Policy, Rule, Unknown, is_known_field};
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::finding::{Effect, Finding, Would};
use crate::request::{Field, Inner};

/// What may be asked for or not.
struct Switch {
    rule: Rule,
    field: Field,
    says: fn(&Policy) -> Permission,
    /// What is written in its place. `null` where the reference has it as a value, else what means the same.
    neutral: &'static str,
}

const SWITCHES: [Switch; 5] = [
    switch(Rule::DataSources, Field::DataSources, |policy| policy.data_sources, "null"),
    switch(Rule::ContextManagement, Field::ContextManagement, |policy| policy.context_management, "null"),
    switch(Rule::SafetyIdentifier, Field::SafetyIdentifier, |policy| policy.safety_identifier, "null"),
    switch(Rule::PromptCacheKey, Field::PromptCacheKey, |policy| policy.prompt_cache_key, "null"),
    switch(Rule::PromptCacheOptions, Field::PromptCacheOptions, |policy| policy.prompt_cache_options, "{}"),
];

const fn switch(rule: Rule, field: Field, says: fn(&Policy) -> Permission, neutral: &'static str) -> Switch {
    Switch { rule, field, says, neutral }
}

/// The most unknown fields that are named.
const NAMES_MAX: usize = 8;

/// The most characters that are told of each.
const NAME_CHARS_MAX: usize = 64;

impl Evaluation<'_, '_> {
    /// The fields that have a row.
    pub(super) fn fields(&mut self) -> Result<(), Denial> {
        let policy = self.policy;
        self.verbosity()?;
        if let Some(allowed) = policy.reasoning_mode.as_ref().filter(|_| self.is_applied(Rule::ReasoningMode))
            && let Some(mode) = self.request.inner(Inner::ReasoningMode)?
        {
            self.among(Rule::ReasoningMode, Inner::ReasoningMode.path(), &mode, allowed)?;
        }
        let retention = policy.prompt_cache_retention.as_ref();
        self.word(Rule::PromptCacheRetention, retention, Field::PromptCacheRetention)?;
        self.tool_calls()?;
        self.data_sources()?;
        for Switch { rule, field, says, neutral } in SWITCHES {
            self.permission(rule, says(policy), field, neutral)?;
        }
        Ok(())
    }

    /// A field whose words are on a list.
    pub(super) fn word(
        &mut self,
        rule: Rule,
        allowed: Option<&Vec<String>>,
        field: Field,
    ) -> Result<(), Denial> {
        let Some(allowed) = allowed.filter(|_| self.is_applied(rule)) else { return Ok(()) };
        match self.request.word(field)? {
            Some(word) => self.among(rule, field.name(), &word, allowed),
            None => Ok(()),
        }
    }

    /// How often the backend may call its own tools. Only Responses takes a default.
    fn tool_calls(&mut self) -> Result<(), Denial> {
        let rule = Rule::MaxToolCalls;
        let Some(bound) = self.policy.max_tool_calls.filter(|_| self.is_applied(rule)) else { return Ok(()) };
        let default = bound.default.filter(|_| self.asked.operation == Operation::Responses);
        let asked = self.request.count(Field::MaxToolCalls)?;
        self.bound(rule, Some(Bound { default, ..bound }), Field::MaxToolCalls, asked)?;
        Ok(())
    }

    /// Into which kinds of data the backend may look.
    fn data_sources(&mut self) -> Result<(), Denial> {
        const TYPE: &str = "data_sources.type";
        let policy = self.policy;
        let rule = Rule::DataSources;
        let Some(allowed) = policy.data_source_types.as_ref().filter(|_| self.is_applied(rule)) else {
            return Ok(());
        };
        let (mut has_none, mut other) = (false, None);
        self.request.types(Field::DataSources, &mut |kind| match kind {
            Some(kind) if other.is_none() && !allowed.iter().any(|word| *word == kind) => other = Some(kind),
            Some(_) => {}
            None => has_none = true,
        })?;
        match other {
            Some(kind) => self.among(rule, TYPE, &kind, allowed),
            None if has_none => Err(Denial::MissingField(TYPE)),
            None => Ok(()),
        }
    }

    /// Fields that the public reference does not have.
    pub(super) fn unknown_fields(&mut self) -> Result<(), Denial> {
        let switch = self.policy.unknown_fields;
        if switch == Unknown::Pass || !self.is_applied(Rule::UnknownFields) {
            return Ok(());
        }
        let allowed = &self.policy.allowed_fields;
        let is_known = |name: &str| {
            is_known_field(self.asked.operation, name) || allowed.iter().any(|other| other == name)
        };
        let (mut names, mut more) = (Vec::new(), 0);
        for name in self.request.names().filter(|name| !is_known(name)) {
            match names.len() {
                NAMES_MAX => more += 1,
                _ => names.push(plain(name)),
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        let named = names.iter().cloned().map(Effect::Unknown);
        self.findings.extend(named.map(|effect| Finding { rule: Rule::UnknownFields.name(), effect }));
        if switch == Unknown::Audit {
            self.would(Rule::UnknownFields, Would::Reject);
            return Ok(());
        }
        self.refuse(Rule::UnknownFields, Denial::UnknownFields { names, more })
    }
}

/// A name that a client made up, short, and with escapes for all that is no letter, digit or mark of ASCII.
fn plain(name: &str) -> String {
    let mut plain: String = name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_default).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        plain.push('…');
    }
    plain
}
