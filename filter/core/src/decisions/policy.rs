//! May the client ask for this?
//!
//! Holds a request to the rules of a policy, one after the other: a value out of its bounds is clamped or refused, an
//! absent one may get a default, a forbidden one is refused or taken back. A policy that audits notes what it would do
//! and does nothing. What cannot be read without doubt is refused in either mode. Not decided here: whether there is
//! budget for it.

mod drawing;
mod fields;
mod known;
mod levels;
mod narrowed;
mod production;
mod prompt;
mod rules;
mod sampling;
mod service;
mod table;
mod tools;

use known::is_known_field;
pub use rules::{
    Bound, EFFORTS, Levels, Mode, Over, Permission, Policy, PromptBounds, QUALITIES, Quota,
    REQUEST_BYTES_MAX, Range, SIZES, Streaming, Unknown, VERBOSITIES,
};
pub use table::Rule;
pub(crate) use tools::is_host;

use crate::denial::{Denial, shown};
use crate::endpoint::Operation;
use crate::finding::{Effect, Finding, Would};
use crate::request::{Ceiling, Family, Field, Request};

/// What a request that names no cap is taken to produce at the most, when the policy sets no default either. An
/// assumption for the reservation only: nothing is written into the body.
pub const COMPLETION_TOKENS_ASSUMED: u32 = 1024;

/// The same for legacy completions, whose API has a default of its own.
/// <https://platform.openai.com/docs/api-reference/completions/create#completions-create-max_tokens>
pub const LEGACY_COMPLETION_TOKENS: u32 = 16;

/// What is known of a request besides its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What for.
    pub operation: Operation,
    /// What kind of model.
    pub family: Family,
    /// The prompt, by estimate.
    pub prompt_tokens: u64,
}

/// What a policy says of a request that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The most that what goes upstream may produce.
    pub ceiling: Ceiling,
    /// What was changed, or would have been.
    pub findings: Vec<Finding>,
}

/// Why a request may not go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is told.
    pub denial: Denial,
    /// The rule that it did not keep; `None` if it is not the policy's: the body cannot be read without doubt.
    pub rule: Option<Rule>,
}

/// Holds a request to a policy, editing it where the policy says so.
pub fn apply(policy: &Policy, asked: &Asked, request: &mut Request<'_>) -> Result<Verdict, Refusal> {
    let mut evaluation = Evaluation { policy, asked, request, findings: Vec::new(), refused_by: None };
    match evaluation.apply() {
        Ok(ceiling) => Ok(Verdict { ceiling, findings: evaluation.findings }),
        Err(denial) => Err(Refusal { denial, rule: evaluation.refused_by }),
    }
}

/// The ceiling of an operation that reads no cap. Images have their own.
fn unread_ceiling(operation: Operation) -> Ceiling {
    let completion_tokens = match operation {
        Operation::Transcriptions | Operation::Translations | Operation::Compact => COMPLETION_TOKENS_ASSUMED,
        _ => 0,
    };
    Ceiling { completion_tokens, candidates: 1 }
}

/// One request before one policy.
struct Evaluation<'e, 'a> {
    policy: &'e Policy,
    asked: &'e Asked,
    request: &'e mut Request<'a>,
    findings: Vec<Finding>,
    refused_by: Option<Rule>,
}

impl Evaluation<'_, '_> {
    fn apply(&mut self) -> Result<Ceiling, Denial> {
        self.prompt()?;
        let ceiling = self.ceiling()?;
        self.sampling()?;
        self.tools_and_format()?;
        self.service()?;
        let drawn = self.images()?;
        self.fields()?;
        self.unknown_fields()?;
        Ok(Ceiling { completion_tokens: drawn.unwrap_or(ceiling.completion_tokens), ..ceiling })
    }

    fn is_applied(&self, rule: Rule) -> bool {
        rule.holds_at(self.asked.operation)
    }

    /// Refuses, or notes that it would.
    fn refuse(&mut self, rule: Rule, denial: Denial) -> Result<(), Denial> {
        match self.policy.mode {
            Mode::Enforce => {
                self.refused_by = Some(rule);
                Err(denial)
            }
            Mode::Audit => {
                self.would(rule, Would::Reject);
                Ok(())
            }
        }
    }

    fn would(&mut self, rule: Rule, would: Would) {
        self.findings.push(Finding { rule: rule.name(), effect: Effect::Would(would) });
    }

    /// Notes that a value is brought to what is allowed, and answers whether it is to be done.
    fn clamps(&mut self, rule: Rule, field: &str, to: &str) -> bool {
        match self.policy.mode {
            Mode::Enforce => {
                let effect = Effect::Clamped(format!("{field}={to}"));
                self.findings.push(Finding { rule: rule.name(), effect });
                true
            }
            Mode::Audit => {
                self.would(rule, Would::Clamp);
                false
            }
        }
    }

    fn clamp(&mut self, rule: Rule, field: Field, json: &str) -> bool {
        let clamps = self.clamps(rule, field.name(), json);
        if clamps {
            self.request.set(field, json.to_owned());
        }
        clamps
    }

    /// Notes that an absent value gets its default, and answers whether it is to be done.
    fn defaults(&mut self, rule: Rule) -> bool {
        let enforces = self.policy.mode == Mode::Enforce;
        if !enforces {
            self.would(rule, Would::Default);
        }
        enforces
    }

    /// The value that goes upstream, if one is known.
    fn bound(
        &mut self,
        rule: Rule,
        bound: Option<Bound>,
        field: Field,
        asked: Option<u32>,
    ) -> Result<Option<u32>, Denial> {
        let Some(Bound { default, max, over }) = bound.filter(|_| self.is_applied(rule)) else {
            return Ok(asked);
        };
        let max = max.unwrap_or(u32::MAX);
        match (asked, over) {
            (Some(asked), Over::Reject) if asked > max => {
                let denial = Denial::AboveMax { field: field.name(), max: max.into(), asked: asked.into() };
                self.refuse(rule, denial)?;
                Ok(Some(asked))
            }
            (Some(asked), Over::Clamp) if asked > max => {
                Ok(Some(if self.clamp(rule, field, &max.to_string()) { max } else { asked }))
            }
            (Some(asked), _) => Ok(Some(asked)),
            (None, _) => {
                let default = default.filter(|_| self.defaults(rule));
                if let Some(default) = default {
                    self.request.set(field, default.to_string());
                }
                Ok(default)
            }
        }
    }

    fn among(
        &mut self,
        rule: Rule,
        field: &'static str,
        word: &str,
        allowed: &[String],
    ) -> Result<(), Denial> {
        if allowed.iter().any(|other| other == word) {
            return Ok(());
        }
        self.refuse(rule, Denial::NotAllowed { field, asked: shown(word), allowed: allowed.to_vec() })
    }

    fn at_most(
        &mut self,
        rule: Rule,
        max: Option<u64>,
        field: &'static str,
        what: &'static str,
        found: u64,
    ) -> Result<(), Denial> {
        match max {
            Some(max) if found > max && self.is_applied(rule) => {
                self.refuse(rule, Denial::TooMany { field, what, max, found })
            }
            _ => Ok(()),
        }
    }

    fn quota(&mut self, rule: Rule, quota: Quota, field: Field, found: u64) -> Result<(), Denial> {
        match quota {
            Quota::Forbid if found > 0 && self.is_applied(rule) => {
                self.refuse(rule, Denial::Forbidden(field.name()))
            }
            Quota::Max(max) => self.at_most(rule, Some(max.into()), field.name(), "entries", found),
            _ => Ok(()),
        }
    }

    /// Whatever is neither null nor false nor what is written in its place is asked for, of whatever kind it is.
    fn permission(
        &mut self,
        rule: Rule,
        permission: Permission,
        field: Field,
        neutral: &str,
    ) -> Result<(), Denial> {
        let is_neutral = |value| value == "false" || value == neutral;
        if !self.is_applied(rule) || self.request.raw(field).is_none_or(is_neutral) {
            return Ok(());
        }
        match permission {
            Permission::Allow => Ok(()),
            Permission::Forbid => self.refuse(rule, Denial::Forbidden(field.name())),
            Permission::Drop => {
                self.clamp(rule, field, neutral);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
