//! What do we write down?
//!
//! One record per exchange, whatever happened; what it adds to the metrics, and the fields it leaves for the access log.
//! Not decided here: where they are written.

use crate::decision::PassedOver;
use crate::finding::{Effect, Finding, Would};
use crate::time::millis;
use crate::tokens::Usage;
use std::rc::Rc;
use std::time::Duration;

/// How an exchange ended. A closed list: it is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A backend answered below 400.
    Served,
    /// Tollgate itself answered, as asked.
    Answered,
    /// A backend answered 400 or above, and no other was to be tried.
    BackendError,
    /// A backend's content filter refused the prompt, which it bills.
    ContentFilter,
    /// A backend refused an input as too long, which Azure may bill.
    InputTooLong,
    /// A backend ran out of its time, 408, which Azure may bill.
    BackendTimeout,
    /// Envoy answered in place of a backend.
    ProxyError,
    /// The client went away.
    ClientGone,
    /// The answer broke off, or the backend said in its midst that it failed.
    Broken,
    /// The VM that served it died.
    Lost,
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
            Self::ContentFilter => "content_filter",
            Self::InputTooLong => "input_too_long",
            Self::BackendTimeout => "backend_timeout",
            Self::ProxyError => "proxy_error",
            Self::ClientGone => "client_gone",
            Self::Broken => "broken",
            Self::Lost => "lost",
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

/// A name of the configuration, and the label value that stands for it.
///
/// They differ where there are more names than the configuration allows as label values: the rest share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it stands in the configuration and in logs.
    pub text: Rc<str>,
    /// As it stands in metrics.
    pub label: Rc<str>,
}

impl Name {
    /// A name that is its own label.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text: Rc<str> = text.into();
        Self { label: text.clone(), text }
    }
}

/// One try at one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Which.
    pub backend: Rc<str>,
    /// What it answered; `None` if it did not.
    pub status: Option<u16>,
}

/// What came of the ids in a request that refers to what a backend keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// They led to their backend.
    Followed,
    /// There is no seal on them, and they passed.
    Unsealed,
    /// They were refused.
    Refused,
}

impl Pin {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Unsealed => "unsealed",
            Self::Refused => "refused",
        }
    }
}

/// How the waiting for room at a backend ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// There was room.
    Went,
    /// There was none in time.
    Refused,
    /// The client did not wait for it.
    Left,
}

impl Wait {
    const fn word(self) -> &'static str {
        match self {
            Self::Went => "went",
            Self::Refused => "refused",
            Self::Left => "left",
        }
    }
}

/// How an exchange waited for room at a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// How important it was.
    pub priority: &'static str,
    /// How that ended.
    pub wait: Wait,
    /// How long it took.
    pub time: Duration,
}

/// Why a request went to a backend of a lower priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Those before had no room, or were to keep what they had.
    Capacity,
    /// They had asked for a pause.
    Paused,
    /// They answered this request 429.
    Throttled,
    /// They did not serve it for another reason.
    Failed,
}

impl Cause {
    const fn word(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Paused => "paused",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

/// A request that was served by, or tried last at, a backend of a lower priority than where it would have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// Where it would have gone.
    pub from: Rc<str>,
    /// Where it went.
    pub to: Rc<str>,
    /// Why.
    pub cause: Cause,
}

/// Where an exchange was served, or tried last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The backend.
    pub backend: Rc<str>,
    /// What the model is called there.
    pub deployment: Rc<str>,
    /// Where that is.
    pub region: Option<Rc<str>>,
}

/// What became of work that goes on at a backend after its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It goes on, and is charged later.
    Pending,
    /// It could not be noted, and was charged by what was reserved.
    Full,
    /// It was charged, by this answer.
    Charged,
    /// Nobody read in time how it ended, and what was reserved stays charged.
    Expired,
}

impl Stored {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Full => "full",
            Self::Charged => "charged",
            Self::Expired => "expired",
        }
    }
}

/// Who pays in the place of whoever asks: the one who made what an answer tells the end of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Who made it.
    pub client: Name,
    /// For which model; `None` if not known.
    pub model: Option<Name>,
    /// What it costs, in millionths of the currency; `None` without configured prices.
    pub price_micros: Option<u64>,
}

/// One exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was asked for; `none` if it was no endpoint of ours.
    pub operation: &'static str,
    /// Who asked; `None` if unknown.
    pub client: Option<Name>,
    /// For which model, as configured; `None` if not known or not allowed.
    pub model: Option<Name>,
    /// For which model, in the client's own word.
    pub asked: Option<String>,
    /// Which model answered, by its own word.
    pub answered: Option<String>,
    /// The name of the answer at its provider.
    pub provider_request_id: Option<String>,
    /// Where.
    pub served: Option<Served>,
    /// All tries, in their order.
    pub tries: Vec<Try>,
    /// Whether the answer was to come as a stream.
    pub stream: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What the client was charged.
    pub usage: Usage,
    /// By whose word.
    pub source: Source,
    /// What had been reserved.
    pub reserved: u64,
    /// What was estimated for the prompt, where the backend then reported it.
    pub estimated_prompt: Option<u64>,
    /// What it costs, in millionths of the currency; `None` without configured prices.
    pub price_micros: Option<u64>,
    /// The tier of service, by the backend's word.
    pub service_tier: Option<String>,
    /// Whether another deployment of the backend's own served it, as Azure's do.
    pub served_by_spillover: bool,
    /// Until the first text of a stream came.
    pub first_token: Option<Duration>,
    /// From the first header to the end.
    pub duration: Duration,
    /// Why the usage is not what the answer reports, or not all of that.
    pub unread: Option<&'static str>,
    /// How it waited for room at a backend, if it did.
    pub queued: Option<Queued>,
    /// What came of the ids in it, if it had any.
    pub pin: Option<Pin>,
    /// What the client's policy changed, or would have.
    pub findings: Vec<Finding>,
    /// The label of the limit that refused it.
    pub limit: Option<Rc<str>>,
    /// The labels of the limits that would have, if they were not only to report that.
    pub shadow_refusals: Vec<Rc<str>>,
    /// The backends in their order, if any was passed over.
    pub candidates: Vec<Rc<str>>,
    /// The backends that were passed over, and why.
    pub passed_over: Vec<PassedOver>,
    /// Whether it went to a backend of a lower priority.
    pub spill: Option<Spill>,
    /// What became of work that goes on after its exchange.
    pub stored: Option<Stored>,
    /// Who pays in the client's place.
    pub charge: Option<Charge>,
}

impl Record {
    /// A record of nothing but how it ended.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            operation: NONE,
            client: None,
            model: None,
            asked: None,
            answered: None,
            provider_request_id: None,
            served: None,
            tries: Vec::new(),
            stream: false,
            outcome,
            usage: Usage::default(),
            source: Source::Reported,
            reserved: 0,
            estimated_prompt: None,
            price_micros: None,
            service_tier: None,
            served_by_spillover: false,
            first_token: None,
            duration: Duration::ZERO,
            unread: None,
            queued: None,
            pin: None,
            findings: Vec::new(),
            limit: None,
            shadow_refusals: Vec::new(),
            candidates: Vec::new(),
            passed_over: Vec::new(),
            spill: None,
            stored: None,
            charge: None,
        }
    }
}

/// A metric and its labels. A label's values are names from the configuration and closed lists, never a client's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Series {
    /// Exchanges.
    Requests {
        /// Who asked.
        client: Rc<str>,
        /// For which model.
        model: Rc<str>,
        /// For what.
        operation: &'static str,
        /// How it ended.
        outcome: &'static str,
    },
    /// Tokens charged.
    Tokens {
        /// To whom.
        client: Rc<str>,
        /// For which model.
        model: Rc<str>,
        /// As in [`Usage::kinds`].
        kind: &'static str,
    },
    /// The price of them, in millionths of the currency.
    Price {
        /// Who pays.
        client: Rc<str>,
        /// For which model.
        model: Rc<str>,
    },
    /// Tokens that were charged by estimate; they are part of `Tokens`.
    EstimatedTokens {
        /// To whom.
        client: Rc<str>,
        /// For which model.
        model: Rc<str>,
    },
    /// Requests that a limit refused.
    LimitRefusals {
        /// Whose.
        client: Rc<str>,
        /// Which: of what and in which time.
        limit: Rc<str>,
    },
    /// Requests that a limit would have refused that only reports.
    LimitShadowRefusals {
        /// Whose.
        client: Rc<str>,
        /// Which: of what and in which time.
        limit: Rc<str>,
    },
    /// Answers whose usage could not be read.
    Unread {
        /// Why.
        reason: &'static str,
    },
    /// Estimated prompt tokens in percent of those that were then reported: 100 is exact.
    EstimatePercent {
        /// For which model.
        model: Rc<str>,
    },
    /// Tokens of an exchange, as OpenTelemetry's `gen_ai.client.token.usage`.
    TokenUsage {
        /// Who asked.
        client: Rc<str>,
        /// For which model.
        model: Rc<str>,
        /// `input` or `output`.
        kind: &'static str,
    },
    /// Milliseconds until the first token of a stream, as `gen_ai.server.time_to_first_token`.
    TimeToFirstToken {
        /// Of which model.
        model: Rc<str>,
    },
    /// Milliseconds for each further token of a stream, as `gen_ai.server.time_per_output_token`.
    TimePerOutputToken {
        /// Of which model.
        model: Rc<str>,
    },
    /// Milliseconds from the first header to the end, as `gen_ai.server.request.duration`.
    Duration {
        /// Of which model.
        model: Rc<str>,
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
    /// Answers of backends that do not have the deployment which the configuration names.
    MissingDeployments {
        /// Which.
        backend: Rc<str>,
    },
    /// Answers of backends that refuse our credential.
    RefusedCredentials {
        /// Which.
        backend: Rc<str>,
    },
    /// Requests with ids of what a backend keeps.
    Pinned {
        /// Who asked.
        client: Rc<str>,
        /// What came of them.
        result: &'static str,
    },
    /// Work that goes on at a backend after its exchange.
    StoredWork {
        /// Whose.
        client: Rc<str>,
        /// What became of it.
        result: &'static str,
    },
    /// Requests that had to wait for room at a backend.
    Queued {
        /// How important they were.
        priority: &'static str,
        /// How that ended.
        result: &'static str,
    },
    /// Milliseconds that they waited.
    QueueTime {
        /// How important they were.
        priority: &'static str,
    },
    /// Requests that went to a backend of a lower priority.
    Spills {
        /// For which model.
        model: Rc<str>,
        /// Where they would have gone.
        from: Rc<str>,
        /// Where they went.
        to: Rc<str>,
        /// Why.
        reason: &'static str,
    },
    /// Fetches of an issuer's keys.
    JwksFetches {
        /// Whose.
        issuer: Rc<str>,
        /// What came of it.
        outcome: &'static str,
    },
    /// Times that the shared store did not answer.
    StoreFaults,
    /// Calls to the fleet's store.
    StoreCalls {
        /// What came of it.
        outcome: &'static str,
    },
    /// Milliseconds until such a call was answered.
    StoreTime,
    /// Requests that were decided while the fleet's store did not answer, and their leases did not cover them.
    StoreUncovered {
        /// How.
        outcome: &'static str,
    },
    /// Values that a policy changed to what it allows.
    PolicyClamps {
        /// Whose.
        client: Rc<str>,
        /// By which rule.
        rule: &'static str,
    },
    /// Requests that a policy refused.
    PolicyRefusals {
        /// Whose.
        client: Rc<str>,
        /// By which rule.
        rule: &'static str,
    },
    /// What a policy that audits would have done.
    PolicyAudits {
        /// To whom.
        client: Rc<str>,
        /// By which rule.
        rule: &'static str,
        /// What.
        effect: &'static str,
    },
    /// One for each client, to find its group by.
    ClientInfo {
        /// Which.
        client: Rc<str>,
        /// Its group.
        group: Rc<str>,
    },
    /// How much a limit allows; money in millionths of the currency.
    LimitSize {
        /// Whose.
        client: Rc<str>,
        /// Which: of what and in which time.
        limit: Rc<str>,
    },
    /// How much of it is used, with what is reserved for requests under way.
    LimitUsed {
        /// Whose.
        client: Rc<str>,
        /// Which: of what and in which time.
        limit: Rc<str>,
    },
}

/// How a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It adds up.
    Counter,
    /// It keeps a distribution.
    Histogram,
    /// It is what it was last said to be.
    Gauge,
}

/// The label value where there is none.
pub(crate) const NONE: &str = "none";

impl Series {
    /// How it counts.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::EstimatePercent { .. }
            | Self::TokenUsage { .. }
            | Self::TimeToFirstToken { .. }
            | Self::TimePerOutputToken { .. }
            | Self::Duration { .. }
            | Self::QueueTime { .. }
            | Self::StoreTime => Kind::Histogram,
            Self::ClientInfo { .. } | Self::LimitSize { .. } | Self::LimitUsed { .. } => Kind::Gauge,
            _ => Kind::Counter,
        }
    }

    /// The metric's name with its labels. `;` and `=` stand between them; names in a configuration have neither.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Requests { client, model, operation, outcome } => {
                format!(
                    "tollgate_requests;client={client};model={model};operation={operation};outcome={outcome}"
                )
            }
            Self::Tokens { client, model, kind } => {
                format!("tollgate_tokens;client={client};model={model};kind={kind}")
            }
            Self::Price { client, model } => format!("tollgate_price_micros;client={client};model={model}"),
            Self::EstimatedTokens { client, model } => {
                format!("tollgate_estimated_tokens;client={client};model={model}")
            }
            Self::LimitRefusals { client, limit } => {
                format!("tollgate_limit_refusals;client={client};limit={limit}")
            }
            Self::LimitShadowRefusals { client, limit } => {
                format!("tollgate_limit_shadow_refusals;client={client};limit={limit}")
            }
            Self::Unread { reason } => format!("tollgate_unread_answers;reason={reason}"),
            Self::EstimatePercent { model } => format!("tollgate_estimate_percent;model={model}"),
            Self::TokenUsage { client, model, kind } => {
                format!("gen_ai.client.token.usage;client={client};model={model};type={kind}")
            }
            Self::TimeToFirstToken { model } => format!("gen_ai.server.time_to_first_token_ms;model={model}"),
            Self::TimePerOutputToken { model } => {
                format!("gen_ai.server.time_per_output_token_ms;model={model}")
            }
            Self::Duration { model } => format!("gen_ai.server.request.duration_ms;model={model}"),
            Self::UpstreamResponses { backend, status } => {
                format!("tollgate_upstream_responses;backend={backend};status={status}")
            }
            Self::Cooldowns { backend } => format!("tollgate_cooldowns;backend={backend}"),
            Self::MissingDeployments { backend } => {
                format!("tollgate_missing_deployments;backend={backend}")
            }
            Self::RefusedCredentials { backend } => {
                format!("tollgate_backend_auth_failures;backend={backend}")
            }
            Self::Pinned { client, result } => {
                format!("tollgate_pinned_requests;client={client};result={result}")
            }
            Self::StoredWork { client, result } => {
                format!("tollgate_stored_work;client={client};result={result}")
            }
            Self::Queued { priority, result } => {
                format!("tollgate_queued_requests;priority={priority};result={result}")
            }
            Self::QueueTime { priority } => format!("tollgate_queue_ms;priority={priority}"),
            Self::Spills { model, from, to, reason } => {
                format!("tollgate_spills;model={model};from={from};to={to};reason={reason}")
            }
            Self::JwksFetches { issuer, outcome } => {
                format!("tollgate_jwks_fetches;issuer={issuer};outcome={outcome}")
            }
            Self::StoreFaults => "tollgate_store_faults".to_owned(),
            Self::StoreCalls { outcome } => format!("tollgate_store_calls;outcome={outcome}"),
            Self::StoreTime => "tollgate_store_ms".to_owned(),
            Self::StoreUncovered { outcome } => {
                format!("tollgate_store_uncovered_requests;outcome={outcome}")
            }
            Self::PolicyClamps { client, rule } => {
                format!("tollgate_policy_clamps;client={client};rule={rule}")
            }
            Self::PolicyRefusals { client, rule } => {
                format!("tollgate_policy_refusals;client={client};rule={rule}")
            }
            Self::PolicyAudits { client, rule, effect } => {
                format!("tollgate_policy_audits;client={client};rule={rule};effect={effect}")
            }
            Self::ClientInfo { client, group } => {
                format!("tollgate_client_info;client={client};group={group}")
            }
            Self::LimitSize { client, limit } => {
                format!("tollgate_limit_size;client={client};limit={limit}")
            }
            Self::LimitUsed { client, limit } => {
                format!("tollgate_limit_used;client={client};limit={limit}")
            }
        }
    }
}

impl Record {
    /// Who pays.
    #[must_use]
    pub fn payer(&self) -> Option<&Name> {
        self.charge.as_ref().map_or(self.client.as_ref(), |charge| Some(&charge.client))
    }

    /// For which model.
    #[must_use]
    pub fn paid_model(&self) -> Option<&Name> {
        self.charge.as_ref().map_or(self.model.as_ref(), |charge| charge.model.as_ref())
    }

    /// Who asked, where another one pays.
    fn read_by(&self) -> Option<&Name> {
        self.client.as_ref().filter(|client| self.payer() != Some(*client))
    }

    /// What is charged, as the metrics count it: it may be for what another exchange began, or for none that is under way.
    #[must_use]
    pub fn charges(&self) -> Vec<(Series, u64)> {
        let (client, model) = (label(self.payer()), label(self.paid_model()));
        let pair = || (client.clone(), model.clone());
        let mut found = Vec::with_capacity(8);
        for (kind, tokens) in self.usage.kinds().into_iter().filter(|(_, tokens)| *tokens > 0) {
            let (client, model) = pair();
            found.push((Series::Tokens { client, model, kind }, tokens));
        }
        for (kind, tokens) in [("input", self.usage.prompt), ("output", self.usage.completion)] {
            if tokens > 0 {
                let (client, model) = pair();
                found.push((Series::TokenUsage { client, model, kind }, tokens));
            }
        }
        if self.source == Source::Estimated {
            let (client, model) = pair();
            found.push((Series::EstimatedTokens { client, model }, self.usage.total()));
        }
        if let Some(micros) = self.price_micros.filter(|micros| *micros > 0) {
            let (client, model) = pair();
            found.push((Series::Price { client, model }, micros));
        }
        if let Some(stored) = self.stored {
            found.push((Series::StoredWork { client, result: stored.word() }, 1));
        }
        found
    }

    /// What this exchange adds to the metrics.
    #[must_use]
    pub fn additions(&self) -> Vec<(Series, u64)> {
        let (client, model) = (label(self.client.as_ref()), label(self.model.as_ref()));
        let mut found = Vec::with_capacity(12);
        let (operation, outcome) = (self.operation, self.outcome.word());
        found
            .push((Series::Requests { client: client.clone(), model: model.clone(), operation, outcome }, 1));
        found.extend(self.charges());
        if let Some(limit) = self.limit.clone() {
            found.push((Series::LimitRefusals { client: client.clone(), limit }, 1));
        }
        for limit in self.shadow_refusals.iter().cloned() {
            found.push((Series::LimitShadowRefusals { client: client.clone(), limit }, 1));
        }
        if let Some(reason) = self.unread {
            found.push((Series::Unread { reason }, 1));
        }
        if let Some(estimated) = self.estimated_prompt.filter(|_| self.usage.prompt > 0) {
            let percent = estimated.saturating_mul(100) / self.usage.prompt;
            found.push((Series::EstimatePercent { model: model.clone() }, percent));
        }
        if let Some(first) = self.first_token {
            found.push((Series::TimeToFirstToken { model: model.clone() }, millis(first)));
            let further = self.usage.completion.saturating_sub(1);
            if let Some(each) = millis(self.duration.saturating_sub(first)).checked_div(further) {
                found.push((Series::TimePerOutputToken { model: model.clone() }, each));
            }
        }
        if let Some(Queued { priority, wait, time }) = self.queued {
            found.push((Series::Queued { priority, result: wait.word() }, 1));
            found.push((Series::QueueTime { priority }, millis(time)));
        }
        if let Some(pin) = self.pin {
            found.push((Series::Pinned { client: client.clone(), result: pin.word() }, 1));
        }
        if let Some(Spill { from, to, cause }) = self.spill.clone() {
            found.push((Series::Spills { model: model.clone(), from, to, reason: cause.word() }, 1));
        }
        for Finding { rule, effect } in &self.findings {
            let client = client.clone();
            let series = match effect {
                Effect::Clamped(_) => Series::PolicyClamps { client, rule },
                Effect::Refused => Series::PolicyRefusals { client, rule },
                Effect::Would(would) => Series::PolicyAudits { client, rule, effect: would.word() },
                // A client's own word is no label.
                Effect::Unknown(_) => continue,
            };
            found.push((series, 1));
        }
        if self.served.is_some() {
            found.push((Series::Duration { model }, millis(self.duration)));
        }
        // Envoy takes a counter that grows by nothing for a fault.
        found.retain(|(series, amount)| *amount > 0 || series.kind() != Kind::Counter);
        found
    }

    /// What the access log gets besides client, model, backend, tokens and outcome, which have fields of their own there.
    /// What is not known is left out.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, Detail)> {
        let served = self.served.as_ref();
        let text = |text: &str| Detail::Text(text.to_owned());
        let found = |wanted: fn(&Finding) -> Option<String>| {
            let found: Vec<_> = self.findings.iter().filter_map(wanted).collect();
            (!found.is_empty()).then_some(Detail::Words(found))
        };
        let words = |words: &[Rc<str>]| Detail::Words(words.iter().map(ToString::to_string).collect());
        let passed_over = &self.passed_over;
        // Most answers have none of these.
        let counted = |tokens: u64| (tokens > 0).then_some(Detail::Count(tokens));
        let optional = [
            ("model_asked", self.asked.clone().map(Detail::Text)),
            ("model_answered", self.answered.clone().map(Detail::Text)),
            ("provider_request_id", self.provider_request_id.as_deref().map(text)),
            ("deployment", served.map(|served| text(&served.deployment))),
            ("region", served.and_then(|served| served.region.as_deref()).map(text)),
            ("price_micros", self.price_micros.map(Detail::Count)),
            ("service_tier", self.service_tier.as_deref().map(text)),
            ("served_by_spillover", self.served_by_spillover.then_some(Detail::Flag(true))),
            ("first_token_ms", self.first_token.map(|first| Detail::Count(millis(first)))),
            ("cache_write_tokens", counted(self.usage.cache_write)),
            ("prompt_image_tokens", counted(self.usage.prompt_image)),
            ("completion_image_tokens", counted(self.usage.completion_image)),
            ("unread", self.unread.map(text)),
            ("priority", self.queued.map(|queued| text(queued.priority))),
            ("queued_ms", self.queued.map(|queued| Detail::Count(millis(queued.time)))),
            ("spilled_from", self.spill.as_ref().map(|spill| text(&spill.from))),
            ("spill_reason", self.spill.as_ref().map(|spill| text(spill.cause.word()))),
            ("clamped", found(Finding::clamped)),
            ("refused_by", found(Finding::refused)),
            ("would_refuse", found(|finding| finding.would(Would::Reject))),
            ("would_clamp", found(|finding| finding.would(Would::Clamp))),
            ("would_default", found(|finding| finding.would(Would::Default))),
            ("unknown_fields", found(Finding::unknown)),
            ("pinned", self.pin.map(|pin| text(pin.word()))),
            ("stored", self.stored.map(|stored| text(stored.word()))),
            ("read_by", self.read_by().map(|name| text(&name.text))),
            ("limit", self.limit.as_deref().map(text)),
            ("shadow_refusals", (!self.shadow_refusals.is_empty()).then(|| words(&self.shadow_refusals))),
            ("candidates", (!self.candidates.is_empty()).then(|| words(&self.candidates))),
            ("passed_over", (!passed_over.is_empty()).then(|| Detail::PassedOver(passed_over.clone()))),
        ];
        let always = [
            ("operation", text(self.operation)),
            ("stream", Detail::Flag(self.stream)),
            ("tries", Detail::Tries(self.tries.clone())),
            ("reserved_tokens", Detail::Count(self.reserved)),
            ("cached_tokens", Detail::Count(self.usage.cached)),
            ("prompt_audio_tokens", Detail::Count(self.usage.prompt_audio)),
            ("reasoning_tokens", Detail::Count(self.usage.reasoning)),
            ("completion_audio_tokens", Detail::Count(self.usage.completion_audio)),
            ("duration_ms", Detail::Count(millis(self.duration))),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        always.into_iter().chain(optional).collect()
    }
}

fn label(name: Option<&Name>) -> Rc<str> {
    name.map_or_else(|| NONE.into(), |name| name.label.clone())
}

/// A value in the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A word.
    Text(String),
    /// A number.
    Count(u64),
    /// Yes or no.
    Flag(bool),
    /// Several words.
    Words(Vec<String>),
    /// All tries, in their order.
    Tries(Vec<Try>),
    /// The backends that were passed over.
    PassedOver(Vec<PassedOver>),
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn record() -> Record {
        Record {
            operation: "chat/completions",
            client: Some(Name::new("web-shop")),
            model: Some(Name { text: "gpt-4.1".into(), label: "other".into() }),
            usage: Usage { prompt: 30, completion: 11, reasoning: 1, ..Usage::default() },
            ..Record::new(Outcome::Served)
        }
    }

    #[track_caller]
    fn check(record: &Record, expected: &[(&str, u64)]) {
        let found: Vec<_> =
            record.additions().iter().map(|(series, amount)| (series.name(), *amount)).collect();
        let found: Vec<_> = found.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_record_adds_what_it_says_and_nothing_that_is_zero() {
        check(
            &record(),
            &[
                (
                    "tollgate_requests;client=web-shop;model=other;operation=chat/completions;outcome=served",
                    1,
                ),
                ("tollgate_tokens;client=web-shop;model=other;kind=prompt", 30),
                ("tollgate_tokens;client=web-shop;model=other;kind=completion", 11),
                ("tollgate_tokens;client=web-shop;model=other;kind=reasoning", 1),
                ("gen_ai.client.token.usage;client=web-shop;model=other;type=input", 30),
                ("gen_ai.client.token.usage;client=web-shop;model=other;type=output", 11),
            ],
        );
    }

    #[test]
    fn no_counter_grows_by_nothing() {
        let record = Record {
            source: Source::Estimated,
            price_micros: Some(0),
            estimated_prompt: Some(0),
            first_token: Some(Duration::ZERO),
            ..Record::new(Outcome::Broken)
        };
        let names: Vec<_> = record.additions().iter().map(|(series, _)| series.name()).collect();
        assert_eq!(
            names,
            [
                "tollgate_requests;client=none;model=none;operation=none;outcome=broken",
                "gen_ai.server.time_to_first_token_ms;model=none"
            ]
        );
    }

    #[test]
    fn times_prices_and_estimates_are_added_where_they_are_known() {
        let record = Record {
            usage: Usage { prompt: 30, completion: 11, ..Usage::default() },
            source: Source::Estimated,
            estimated_prompt: Some(36),
            price_micros: Some(7),
            first_token: Some(Duration::from_millis(200)),
            duration: Duration::from_millis(700),
            served: Some(Served { backend: "a".into(), deployment: "d".into(), region: None }),
            unread: Some("compressed"),
            ..record()
        };
        let found: Vec<_> =
            record.additions().iter().map(|(series, amount)| (series.name(), *amount)).collect();
        let expected = [
            ("tollgate_estimated_tokens;client=web-shop;model=other", 41),
            ("tollgate_price_micros;client=web-shop;model=other", 7),
            ("tollgate_unread_answers;reason=compressed", 1),
            ("tollgate_estimate_percent;model=other", 120),
            ("gen_ai.server.time_to_first_token_ms;model=other", 200),
            ("gen_ai.server.time_per_output_token_ms;model=other", 50),
            ("gen_ai.server.request.duration_ms;model=other", 700),
        ];
        assert_eq!(found[5..], expected.map(|(name, amount)| (name.to_owned(), amount)));
    }

    #[test]
    fn what_a_policy_found_is_counted_and_written_down() {
        let findings = vec![
            Finding { rule: "n", effect: Effect::Clamped("n=2".to_owned()) },
            Finding { rule: "seed", effect: Effect::Refused },
            Finding { rule: "echo", effect: Effect::Would(Would::Reject) },
            Finding { rule: "max_tokens", effect: Effect::Would(Would::Clamp) },
            Finding { rule: "best_of", effect: Effect::Would(Would::Default) },
            Finding { rule: "unknown_fields", effect: Effect::Unknown("top_k".to_owned()) },
        ];
        let record = Record { findings, client: Some(Name::new("web")), ..Record::new(Outcome::Served) };
        check(
            &record,
            &[
                ("tollgate_requests;client=web;model=none;operation=none;outcome=served", 1),
                ("tollgate_policy_clamps;client=web;rule=n", 1),
                ("tollgate_policy_refusals;client=web;rule=seed", 1),
                ("tollgate_policy_audits;client=web;rule=echo;effect=reject", 1),
                ("tollgate_policy_audits;client=web;rule=max_tokens;effect=clamp", 1),
                ("tollgate_policy_audits;client=web;rule=best_of;effect=default", 1),
            ],
        );
        let words = |word: &str| Detail::Words(vec![word.to_owned()]);
        let expected = [
            ("clamped", words("n=2")),
            ("refused_by", words("seed")),
            ("would_refuse", words("echo")),
            ("would_clamp", words("max_tokens")),
            ("would_default", words("best_of")),
            ("unknown_fields", words("top_k")),
        ];
        assert_eq!(record.details()[9..], expected);
    }

    #[test]
    fn refusals_by_limits_are_counted_by_limit() {
        let record = Record {
            client: Some(Name::new("web-shop")),
            limit: Some("tokens/minute".into()),
            shadow_refusals: vec!["group/cost/day".into(), "concurrent".into()],
            ..Record::new(Outcome::Denied("rate_limit_exceeded"))
        };
        let found: Vec<_> =
            record.additions().iter().map(|(series, amount)| (series.name(), *amount)).collect();
        let expected = [
            ("tollgate_limit_refusals;client=web-shop;limit=tokens/minute", 1),
            ("tollgate_limit_shadow_refusals;client=web-shop;limit=group/cost/day", 1),
            ("tollgate_limit_shadow_refusals;client=web-shop;limit=concurrent", 1),
        ];
        assert_eq!(found[1..], expected.map(|(name, amount)| (name.to_owned(), amount)));
        let details = record.details();
        assert!(details.contains(&("limit", Detail::Text("tokens/minute".to_owned()))));
        let shadows = ["group/cost/day", "concurrent"].map(str::to_owned).to_vec();
        assert!(details.contains(&("shadow_refusals", Detail::Words(shadows))));
    }

    #[test]
    fn an_unknown_client_has_a_label_of_its_own() {
        check(
            &Record::new(Outcome::Denied("invalid_api_key")),
            &[("tollgate_requests;client=none;model=none;operation=none;outcome=invalid_api_key", 1)],
        );
    }

    #[test]
    fn the_log_leaves_out_what_is_not_known() {
        let names = |record: &Record| record.details().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&record()).len(), 9);
        let usage = Usage { cache_write: 3, prompt_image: 2, completion_image: 1, ..Usage::default() };
        let more = Record { asked: Some("x".to_owned()), price_micros: Some(1), usage, ..record() };
        let kinds = ["cache_write_tokens", "prompt_image_tokens", "completion_image_tokens"];
        assert_eq!(names(&more)[9..], [&["model_asked", "price_micros"][..], &kinds].concat());
    }
}
