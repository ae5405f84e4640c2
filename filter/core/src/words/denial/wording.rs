//! How do a limit, a wait and a fault of a token read inside of a sentence?

use super::Flaw;
use super::retry::WAIT_MAX;
use crate::allowance::{Allowance, Unit, Weights, Whose};
use crate::value::By;
use std::time::Duration;

impl Flaw {
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::TooLong => "is too long",
            Self::Malformed => "is not a JSON Web Token in its compact form",
            Self::Algorithm => "has an algorithm that its issuer does not sign with",
            Self::Critical => "has a critical extension, and none is understood here",
            Self::UnknownKey => "names a key that its issuer does not publish",
            Self::Signature => "does not have its issuer's signature",
            Self::Times => "needs an `exp`, and times that are numbers",
        }
    }
}

/// A limit in a sentence: whose it is, how much of what, in which time, for what.
pub(super) fn limit(allowance: &Allowance, unit: &str) -> String {
    let owner = match &allowance.whose {
        Whose::Client => "this client's limit".to_owned(),
        Whose::Group(name) => format!("the limit of group `{name}`"),
        Whose::Spill(model) => format!("the spill limit of model `{model}`"),
    };
    let each = match &allowance.by {
        None => String::new(),
        Some(By::Key) => " for each key".to_owned(),
        Some(by) => format!(" for each `{}`", by.name().unwrap_or_default()),
    };
    let size = match allowance.measure.unit() {
        Some(unit) => unit.text(allowance.amount.get()),
        None => allowance.amount.to_string(),
    };
    let per = allowance.measure.per().map(|per| format!(" per {per}")).unwrap_or_default();
    let models = allowance.scope.models.as_ref().map(|names| format!(" for {}", names.join(", ")));
    let endpoints = allowance.scope.endpoints.as_ref().map(|endpoints| {
        let words: Vec<_> = endpoints.iter().map(|endpoint| endpoint.word()).collect();
        format!(" at {}", words.join(", "))
    });
    format!(
        "{owner} of {size}{unit}{per}{each}{}{}",
        models.unwrap_or_default(),
        endpoints.unwrap_or_default()
    )
}

/// A limit at the beginning of a sentence.
pub(super) fn capital(allowance: &Allowance) -> String {
    let text = limit(allowance, allowance.measure.unit().map_or(" concurrent requests", counted));
    match text.strip_prefix('t') {
        Some(rest) => format!("T{rest}"),
        None => text,
    }
}

/// A limit after its unit has been named.
pub(super) fn brief(allowance: &Allowance) -> String {
    limit(allowance, "")
}

/// The unit after a number; of money there is none, for the currency is not known.
pub(super) fn counted(unit: Unit) -> &'static str {
    match unit {
        Unit::Tokens(Weights::PLAIN) => " tokens",
        Unit::Tokens(_) => " weighted tokens",
        Unit::Requests => " requests",
        Unit::Cost => " in money",
    }
}

/// A wait, which may be one of days.
pub(super) fn long(wait: Duration) -> String {
    let minutes = wait.as_nanos().div_ceil(60_000_000_000);
    let hours = minutes.div_ceil(60);
    match minutes {
        _ if wait <= WAIT_MAX => seconds(wait),
        0..60 => format!("{minutes} min"),
        60..1440 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

pub(super) fn seconds(wait: Duration) -> String {
    let tenths = wait.as_nanos().div_ceil(100_000_000);
    format!("{}.{} s", tenths / 10, tenths % 10)
}
