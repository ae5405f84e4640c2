//! What did a policy do to a request, or would have done?
//!
//! The word for it in records, metrics and a header of the answer. Not decided here: when it does.

use std::rc::Rc;

/// One rule that a request did not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule, by its name in the configuration: a closed list, for it is a label.
    pub rule: &'static str,
    /// What came of it.
    pub effect: Effect,
}

/// What comes of a rule that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A value was changed to what is allowed: `max_tokens=512`, under the name that the client gave it.
    Clamped(String),
    /// The request was refused.
    Refused,
    /// The policy only looks on, and would have done this.
    Would(Would),
    /// A policy of this name looks on beside the client's own, and would have done this.
    WouldBeside(Would, Rc<str>),
    /// The request has this field, which is not known here.
    Unknown(String),
}

/// What a policy would do that only looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Would {
    /// Refuse the request.
    Reject,
    /// Change a value to what is allowed.
    Clamp,
    /// Write a value where there is none.
    Default,
}

impl Would {
    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Clamp => "clamp",
            Self::Default => "default",
        }
    }
}

impl Finding {
    /// What a value was changed to.
    #[must_use]
    pub fn clamped(&self) -> Option<String> {
        match &self.effect {
            Effect::Clamped(to) => Some(to.clone()),
            Effect::Refused | Effect::Would(_) | Effect::WouldBeside(..) | Effect::Unknown(_) => None,
        }
    }

    /// The field that is not known here.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        match &self.effect {
            Effect::Unknown(field) => Some(field.clone()),
            Effect::Clamped(_) | Effect::Refused | Effect::Would(_) | Effect::WouldBeside(..) => None,
        }
    }

    /// The rule, if it refused the request.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        (self.effect == Effect::Refused).then(|| self.rule.to_owned())
    }

    /// The rule, if it would have done this; behind the name of its policy, if that looks on beside another.
    #[must_use]
    pub fn would(&self, would: Would) -> Option<String> {
        match &self.effect {
            Effect::Would(known) if *known == would => Some(self.rule.to_owned()),
            Effect::WouldBeside(known, policy) if *known == would => Some(beside(policy, self.rule)),
            _ => None,
        }
    }

    /// As one of a policy of this name that looks on beside the client's own.
    #[must_use]
    pub fn beside(self, policy: &Rc<str>) -> Self {
        match self.effect {
            Effect::Would(would) => Self { effect: Effect::WouldBeside(would, policy.clone()), ..self },
            _ => self,
        }
    }
}

/// How a rule is called of a policy that looks on beside another.
#[must_use]
pub fn beside(policy: &str, rule: &str) -> String {
    format!("{policy}/{rule}")
}

/// The header that tells a client what was changed.
pub const CLAMPED: &str = "x-tollgate-clamped";

/// What the client is told of these; `None` if nothing was changed.
#[must_use]
pub fn header_value(findings: &[Finding]) -> Option<String> {
    let clamped: Vec<_> = findings.iter().filter_map(Finding::clamped).collect();
    (!clamped.is_empty()).then(|| clamped.join(", "))
}
