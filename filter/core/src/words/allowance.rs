//! What does a limit allow: how much of what, in which time, to whom, for which requests?
//!
//! The facts of one limit, as the configuration says them; refusals, headers and the list of limits tell them. Not
//! decided here: whether there is any left.

use crate::calendar::Span;
use crate::endpoint::Operation;
use crate::tokens::Usage;
use crate::value::By;
use std::num::NonZeroU64;
use std::rc::Rc;

/// How long a bucket takes from empty to full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// One second.
    Second,
    /// Sixty.
    Minute,
}

impl Flow {
    /// The word in configurations and sentences.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
        }
    }

    /// Its length.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
        }
    }
}

/// What a token of each kind counts, in millionths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weights {
    /// Sent, and not found in the backend's cache.
    pub prompt: u64,
    /// Sent, and found there.
    pub cached: u64,
    /// Produced.
    pub completion: u64,
}

impl Weights {
    /// One for each.
    pub const PLAIN: Self = Self { prompt: 1_000_000, cached: 1_000_000, completion: 1_000_000 };

    /// One for each but those that the cache had, as backends count what they have room for.
    pub const UNCACHED: Self = Self { cached: 0, ..Self::PLAIN };

    /// One for each that is produced.
    pub const PRODUCED: Self = Self { prompt: 0, ..Self::UNCACHED };

    /// A usage in weighted tokens, rounded up.
    #[must_use]
    pub fn tokens(self, usage: Usage) -> u64 {
        if self == Self::PLAIN {
            return usage.total();
        }
        let cached = usage.cached.min(usage.prompt);
        let part = |tokens: u64, weight: u64| u128::from(tokens) * u128::from(weight);
        let sum = part(usage.prompt - cached, self.prompt)
            + part(cached, self.cached)
            + part(usage.completion, self.completion);
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// The most that a request with this usage can count, before it is known what the cache will have.
    #[must_use]
    pub fn tokens_max(self, usage: Usage) -> u64 {
        Self { prompt: self.prompt.max(self.cached), ..self }.tokens(Usage { cached: 0, ..usage })
    }
}

/// Of what there is so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Tokens, sent and produced.
    Tokens(Weights),
    /// Requests that reached a backend.
    Requests,
    /// Money, in millionths of the currency of the prices.
    Cost,
}

impl Unit {
    /// The word in configurations, labels and answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tokens(_) => "tokens",
            Self::Requests => "requests",
            Self::Cost => "cost",
        }
    }

    /// An amount as the configuration writes it: money with a point, and at least two places after it.
    #[must_use]
    pub fn text(self, amount: u64) -> String {
        if self != Self::Cost {
            return amount.to_string();
        }
        let (whole, micros) = (amount / 1_000_000, amount % 1_000_000);
        let places = format!("{micros:06}");
        let shown = places.trim_end_matches('0').len().max(2);
        format!("{whole}.{}", places.get(..shown).unwrap_or_default())
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// A bucket that flows full.
    Rate(Unit, Flow),
    /// A window of the calendar, in which so much may be used.
    Quota(Unit, Span),
    /// Requests under way at the same time.
    Concurrent,
}

impl Measure {
    /// Of what; `None` for requests under way.
    #[must_use]
    pub const fn unit(self) -> Option<Unit> {
        match self {
            Self::Rate(unit, _) | Self::Quota(unit, _) => Some(unit),
            Self::Concurrent => None,
        }
    }

    /// The word for what is counted.
    #[must_use]
    pub const fn unit_word(self) -> &'static str {
        match self.unit() {
            Some(unit) => unit.word(),
            None => "concurrent",
        }
    }

    /// The word for the time; `None` where there is none.
    #[must_use]
    pub const fn per(self) -> Option<&'static str> {
        match self {
            Self::Rate(_, flow) => Some(flow.word()),
            Self::Quota(_, span) => Some(span.word()),
            Self::Concurrent => None,
        }
    }
}

/// For which requests it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Those for these models, by their own names, sorted; `None` for all.
    pub models: Option<Vec<Rc<str>>>,
    /// Those for these endpoints, sorted by their words; `None` for all.
    pub endpoints: Option<Vec<Operation>>,
}

impl Scope {
    /// Whether it has a request for this model and endpoint. One that names no model is in no list of models.
    #[must_use]
    pub fn has(&self, model: Option<&str>, operation: Operation) -> bool {
        let has_model = |models: &Vec<Rc<str>>| models.iter().any(|name| Some(&**name) == model);
        self.models.as_ref().is_none_or(has_model)
            && self.endpoints.as_ref().is_none_or(|endpoints| endpoints.contains(&operation))
    }
}

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The client's own.
    Client,
    /// That of the group of this name, shared by all its clients.
    Group(Rc<str>),
    /// What of the model of this name goes to backends of a lower priority, whoever asks.
    Spill(Rc<str>),
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// To whom.
    pub whose: Whose,
    /// What each has a limit of its own by; `None` where all share one.
    pub by: Option<By>,
    /// In what it is measured.
    pub measure: Measure,
    /// How much; money in millionths.
    pub amount: NonZeroU64,
    /// For which requests.
    pub scope: Scope,
    /// Whether it only reports what it would refuse.
    pub shadow: bool,
    /// Of how many percent used it is to be told.
    pub alerts: Vec<u8>,
    /// Its label in metrics and logs: one of a closed list.
    pub word: Rc<str>,
}

impl Allowance {
    /// A limit with its label.
    #[must_use]
    pub fn new(whose: Whose, measure: Measure, amount: NonZeroU64, scope: Scope, shadow: bool) -> Self {
        Self { whose, by: None, measure, amount, scope, shadow, alerts: Vec::new(), word: "".into() }
            .labelled()
    }

    /// The same, for each of these.
    #[must_use]
    pub fn by(self, by: By) -> Self {
        Self { by: Some(by), ..self }.labelled()
    }

    /// The same, with so many percent used to be told of.
    #[must_use]
    pub fn alerting(self, alerts: Vec<u8>) -> Self {
        Self { alerts, ..self }
    }

    fn labelled(self) -> Self {
        let owner = match self.whose {
            Whose::Client => "",
            Whose::Group(_) => "group/",
            Whose::Spill(_) => "spill/",
        };
        let by = self.by.as_ref().map(|by| format!("{}/", by.word())).unwrap_or_default();
        let unit = self.measure.unit_word();
        let per = self.measure.per().map(|per| format!("/{per}")).unwrap_or_default();
        Self { word: format!("{owner}{by}{unit}{per}").into(), ..self }
    }

    /// Whether another limit counts the same requests in the same way, whatever the two allow.
    #[must_use]
    pub fn counts_as(&self, other: &Self) -> bool {
        self.whose == other.whose
            && self.by == other.by
            && self.measure == other.measure
            && self.scope == other.scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn tokens_count_what_their_kind_weighs() {
        let weights = Weights { prompt: 1_000_000, cached: 250_000, completion: 2_000_000 };
        let usage = |prompt, cached, completion| Usage { prompt, cached, completion, ..Usage::default() };
        assert_eq!(weights.tokens(usage(100, 40, 10)), 60 + 10 + 20);
        assert_eq!(weights.tokens(usage(100, 41, 10)), 59 + 11 + 20);
        assert_eq!(weights.tokens_max(usage(100, 40, 10)), 100 + 20);
        assert_eq!(Weights { cached: 3_000_000, ..weights }.tokens_max(usage(100, 0, 10)), 320);
        assert_eq!(Weights::PLAIN.tokens(usage(100, 40, 10)), 110);
        // A backend that says more was cached than was sent.
        assert_eq!(weights.tokens(usage(4, 9, 0)), 1);
        assert_eq!(weights.tokens(usage(u64::MAX, 0, u64::MAX)), u64::MAX);
    }

    #[test]
    fn a_scope_has_what_all_its_lists_have() {
        use Operation::{ChatCompletions, Embeddings, Other};
        let models = || Some(vec![Rc::from("a"), Rc::from("b")]);
        let endpoints = || Some(vec![ChatCompletions]);
        for (scope, model, operation, has) in [
            (Scope::default(), None, Other, true),
            (Scope { models: models(), endpoints: None }, Some("b"), Embeddings, true),
            (Scope { models: models(), endpoints: None }, Some("c"), Embeddings, false),
            (Scope { models: models(), endpoints: None }, None, Other, false),
            (Scope { models: None, endpoints: endpoints() }, Some("c"), ChatCompletions, true),
            (Scope { models: None, endpoints: endpoints() }, None, Other, false),
            (Scope { models: models(), endpoints: endpoints() }, Some("a"), ChatCompletions, true),
            (Scope { models: models(), endpoints: endpoints() }, Some("a"), Embeddings, false),
            (Scope { models: models(), endpoints: endpoints() }, Some("c"), ChatCompletions, false),
        ] {
            assert_eq!(scope.has(model, operation), has, "{scope:?} {model:?} {operation:?}");
        }
    }
}
