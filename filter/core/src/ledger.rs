//! What do we write down?
//!
//! One record per exchange, whatever happened, and what it adds to the metrics. Not decided here: where it is written.

use crate::tokens::Usage;
use std::rc::Rc;

/// How an exchange ended. A closed list: it is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A backend answered below 400.
    Served,
    /// Tollgate itself answered, as asked.
    Answered,
    /// A backend answered 400 or above, and no other was to be tried.
    BackendError,
    /// Envoy answered in place of a backend.
    ProxyError,
    /// The client went away.
    ClientGone,
    /// The answer broke off.
    Broken,
    /// Tollgate refused; the denial's code.
    Denied(&'static str),
}

impl Outcome {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Answered => "answered",
            Self::BackendError => "backend_error",
            Self::ProxyError => "proxy_error",
            Self::ClientGone => "client_gone",
            Self::Broken => "broken",
            Self::Denied(code) => code,
        }
    }
}

/// Where the number of tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The backend reported it, or nothing was billed.
    Reported,
    /// Nobody reported it.
    Estimated,
}

/// One exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who asked; `None` if unknown.
    pub client: Option<Rc<str>>,
    /// For which model, as configured; `None` if not known or not allowed.
    pub model: Option<Rc<str>>,
    /// The backend of the last attempt.
    pub backend: Option<Rc<str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// What the client was charged.
    pub usage: Usage,
    /// By whose word.
    pub source: Source,
}

/// A counter and its labels. A label's values are names from the configuration and closed lists, never a client's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Series {
    /// Exchanges.
    Requests {
        /// Who asked.
        client: Option<Rc<str>>,
        /// For which model.
        model: Option<Rc<str>>,
        /// How it ended.
        outcome: &'static str,
    },
    /// Tokens charged.
    Tokens {
        /// To whom.
        client: Option<Rc<str>>,
        /// For which model.
        model: Option<Rc<str>>,
        /// `prompt`, `cached`, `completion`, `reasoning`; the second and fourth are part of the first and third.
        kind: &'static str,
    },
    /// Exchanges that were charged by estimate.
    Estimated {
        /// Who asked.
        client: Option<Rc<str>>,
        /// For which model.
        model: Option<Rc<str>>,
    },
    /// Answers of backends, one for each attempt.
    UpstreamResponses {
        /// Which.
        backend: Rc<str>,
        /// The HTTP status.
        status: u16,
    },
    /// Pauses that backends asked for.
    Cooldowns {
        /// Which.
        backend: Rc<str>,
    },
    /// Times that the shared store did not answer.
    StoreFaults,
}

/// The label value where there is none.
const NONE: &str = "none";

impl Series {
    /// The metric's name with its labels. `;` and `=` stand between them; names in a configuration have neither.
    #[must_use]
    pub fn name(&self) -> String {
        let or_none = |name: &Option<Rc<str>>| name.as_deref().unwrap_or(NONE).to_owned();
        match self {
            Self::Requests { client, model, outcome } => {
                let (client, model) = (or_none(client), or_none(model));
                format!("tollgate_requests;client={client};model={model};outcome={outcome}")
            }
            Self::Tokens { client, model, kind } => {
                format!("tollgate_tokens;client={};model={};kind={kind}", or_none(client), or_none(model))
            }
            Self::Estimated { client, model } => {
                format!("tollgate_estimated_requests;client={};model={}", or_none(client), or_none(model))
            }
            Self::UpstreamResponses { backend, status } => {
                format!("tollgate_upstream_responses;backend={backend};status={status}")
            }
            Self::Cooldowns { backend } => format!("tollgate_cooldowns;backend={backend}"),
            Self::StoreFaults => "tollgate_store_faults".to_owned(),
        }
    }
}

impl Record {
    /// What this exchange adds to the metrics.
    pub fn additions(&self) -> impl Iterator<Item = (Series, u64)> + '_ {
        let (client, model) = (&self.client, &self.model);
        let requests =
            Series::Requests { client: client.clone(), model: model.clone(), outcome: self.outcome.word() };
        let tokens = [
            ("prompt", self.usage.prompt),
            ("cached", self.usage.cached),
            ("completion", self.usage.completion),
            ("reasoning", self.usage.reasoning),
        ];
        let tokens = tokens.into_iter().filter(|(_, tokens)| *tokens > 0).map(|(kind, tokens)| {
            (Series::Tokens { client: client.clone(), model: model.clone(), kind }, tokens)
        });
        let estimated = (self.source == Source::Estimated)
            .then(|| (Series::Estimated { client: client.clone(), model: model.clone() }, 1));
        std::iter::once((requests, 1)).chain(tokens).chain(estimated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_record_adds_what_it_says_and_nothing_that_is_zero() {
        let record = Record {
            client: Some("web-shop".into()),
            model: Some("gpt-4.1".into()),
            backend: None,
            outcome: Outcome::Served,
            usage: Usage { prompt: 3, cached: 0, completion: 4, reasoning: 1 },
            source: Source::Estimated,
        };
        let found: Vec<_> = record.additions().map(|(series, amount)| (series.name(), amount)).collect();
        let expected = [
            ("tollgate_requests;client=web-shop;model=gpt-4.1;outcome=served", 1),
            ("tollgate_tokens;client=web-shop;model=gpt-4.1;kind=prompt", 3),
            ("tollgate_tokens;client=web-shop;model=gpt-4.1;kind=completion", 4),
            ("tollgate_tokens;client=web-shop;model=gpt-4.1;kind=reasoning", 1),
            ("tollgate_estimated_requests;client=web-shop;model=gpt-4.1", 1),
        ];
        assert_eq!(found, expected.map(|(name, amount)| (name.to_owned(), amount)));
    }

    #[test]
    fn an_unknown_client_has_a_label_of_its_own() {
        let series = Series::Requests { client: None, model: None, outcome: "invalid_api_key" };
        assert_eq!(series.name(), "tollgate_requests;client=none;model=none;outcome=invalid_api_key");
    }
}
