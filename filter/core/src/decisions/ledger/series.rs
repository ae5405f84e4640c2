//! Which metrics are there, what are their labels, and how does each count? One row each.

use std::rc::Rc;

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

/// The enum, and what is told of each of its variants: how it counts, its metric's name, and its labels.
macro_rules! series {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $metric:literal $({
        $($(#[$of:meta])* $label:literal $field:ident: $type:ty,)*
    })?;)*) => {
        /// A metric and its labels. A label's values are names from the configuration and closed lists, never a client's words.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Series {
            $($(#[$doc])* $name $({ $($(#[$of])* $field: $type,)* })?,)*
        }

        impl Series {
            /// Every label that a metric has, some more than once.
            pub const LABELS: &[&str] = &[$($($($label,)*)?)*];

            /// How it counts.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name { .. } => Kind::$kind,)*
                }
            }

            /// The metric's name with its labels. `;` and `=` stand between them; names in a configuration have neither.
            #[must_use]
            pub fn name(&self) -> String {
                match self {
                    $(Self::$name $({ $($field,)* })? => {
                        [$metric.to_owned() $($(, format!(concat!(";", $label, "={}"), $field))*)?].concat()
                    })*
                }
            }
        }
    };
}

series! {
    /// Exchanges.
    Requests: Counter "tollgate_requests" {
        /// Who asked.
        "client" client: Rc<str>,
        /// For which model.
        "model" model: Rc<str>,
        /// For what.
        "operation" operation: &'static str,
        /// How it ended.
        "outcome" outcome: &'static str,
    };
    /// Tokens charged.
    Tokens: Counter "tollgate_tokens" {
        /// To whom.
        "client" client: Rc<str>,
        /// For which model.
        "model" model: Rc<str>,
        /// As in [`Usage::kinds`](crate::tokens::Usage::kinds).
        "kind" kind: &'static str,
    };
    /// The price of them, in millionths of the currency.
    Price: Counter "tollgate_price_micros" {
        /// Who pays.
        "client" client: Rc<str>,
        /// For which model.
        "model" model: Rc<str>,
    };
    /// Tokens that were charged by estimate; they are part of `Tokens`.
    EstimatedTokens: Counter "tollgate_estimated_tokens" {
        /// To whom.
        "client" client: Rc<str>,
        /// For which model.
        "model" model: Rc<str>,
    };
    /// Requests that a limit refused.
    LimitRefusals: Counter "tollgate_limit_refusals" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
    /// Requests that a limit would have refused that only reports.
    LimitShadowRefusals: Counter "tollgate_limit_shadow_refusals" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
    /// Values of limits with `by` that were forgotten though something of them was used, for want of room.
    LimitValuesForgotten: Counter "tollgate_limit_values_forgotten" {
        /// Who asked for another.
        "client" client: Rc<str>,
    };
    /// Answers whose usage could not be read.
    Unread: Counter "tollgate_unread_answers" {
        /// Why.
        "reason" reason: &'static str,
    };
    /// Estimated prompt tokens in percent of those that were then reported: 100 is exact.
    EstimatePercent: Histogram "tollgate_estimate_percent" {
        /// For which model.
        "model" model: Rc<str>,
    };
    /// Tokens of an exchange, as OpenTelemetry's `gen_ai.client.token.usage`.
    TokenUsage: Histogram "gen_ai.client.token.usage" {
        /// Who asked.
        "client" client: Rc<str>,
        /// For which model.
        "model" model: Rc<str>,
        /// `input` or `output`.
        "type" kind: &'static str,
    };
    /// Milliseconds until the first token of a stream, as `gen_ai.server.time_to_first_token`.
    TimeToFirstToken: Histogram "gen_ai.server.time_to_first_token_ms" {
        /// Of which model.
        "model" model: Rc<str>,
    };
    /// Milliseconds for each further token of a stream, as `gen_ai.server.time_per_output_token`.
    TimePerOutputToken: Histogram "gen_ai.server.time_per_output_token_ms" {
        /// Of which model.
        "model" model: Rc<str>,
    };
    /// Milliseconds from the first header to the end, as `gen_ai.server.request.duration`.
    Duration: Histogram "gen_ai.server.request.duration_ms" {
        /// Of which model.
        "model" model: Rc<str>,
    };
    /// Answers of backends, one for each attempt.
    UpstreamResponses: Counter "tollgate_upstream_responses" {
        /// Which.
        "backend" backend: Rc<str>,
        /// The HTTP status.
        "status" status: u16,
    };
    /// Pauses that backends asked for.
    Cooldowns: Counter "tollgate_cooldowns" {
        /// Which.
        "backend" backend: Rc<str>,
    };
    /// Answers of backends that do not have the deployment which the configuration names.
    MissingDeployments: Counter "tollgate_missing_deployments" {
        /// Which.
        "backend" backend: Rc<str>,
    };
    /// Answers of backends that refuse our credential.
    RefusedCredentials: Counter "tollgate_backend_auth_failures" {
        /// Which.
        "backend" backend: Rc<str>,
    };
    /// Requests with ids of what a backend keeps.
    Pinned: Counter "tollgate_pinned_requests" {
        /// Who asked.
        "client" client: Rc<str>,
        /// What came of them.
        "result" result: &'static str,
    };
    /// Work that goes on at a backend after its exchange.
    StoredWork: Counter "tollgate_stored_work" {
        /// Whose.
        "client" client: Rc<str>,
        /// What became of it.
        "result" result: &'static str,
    };
    /// Requests that had to wait for room at a backend.
    Queued: Counter "tollgate_queued_requests" {
        /// How important they were.
        "priority" priority: &'static str,
        /// How that ended.
        "result" result: &'static str,
    };
    /// Milliseconds that they waited.
    QueueTime: Histogram "tollgate_queue_ms" {
        /// How important they were.
        "priority" priority: &'static str,
    };
    /// Requests that the queue was asked to take or to end.
    QueueOutcomes: Counter "tollgate_queue_outcomes" {
        /// Whose.
        "client" client: Rc<str>,
        /// What came of it.
        "outcome" outcome: &'static str,
    };
    /// Requests that went to a backend of a lower priority.
    Spills: Counter "tollgate_spills" {
        /// For which model.
        "model" model: Rc<str>,
        /// Where they would have gone.
        "from" from: Rc<str>,
        /// Where they went.
        "to" to: Rc<str>,
        /// Why.
        "reason" reason: &'static str,
    };
    /// Requests whose tier of service was refused, and which were asked again as those for the default one.
    TierFallbacks: Counter "tollgate_tier_fallbacks" {
        /// For which model.
        "model" model: Rc<str>,
        /// The tier.
        "from" from: &'static str,
    };
    /// Requests that showed that Envoy has not all of the chain around.
    MissingLinks: Counter "tollgate_missing_links" {
        /// Which link is missing.
        "kind" kind: &'static str,
    };
    /// Fetches of an issuer's keys.
    JwksFetches: Counter "tollgate_jwks_fetches" {
        /// Whose.
        "issuer" issuer: Rc<str>,
        /// What came of it.
        "outcome" outcome: &'static str,
    };
    /// Keys that were looked up in the fleet's store, or were to be.
    KeyLookups: Counter "tollgate_key_lookups" {
        /// What came of it.
        "outcome" outcome: &'static str,
    };
    /// Fetches of the document with clients.
    DirectoryFetches: Counter "tollgate_directory_fetches" {
        /// What came of it.
        "outcome" outcome: &'static str,
    };
    /// Fetches of a backend's token.
    TokenFetches: Counter "tollgate_token_fetches" {
        /// Whose.
        "backend" backend: Rc<str>,
        /// What came of it.
        "outcome" outcome: &'static str,
    };
    /// Times that the shared store did not answer.
    StoreFaults: Counter "tollgate_store_faults";
    /// Calls to the fleet's store.
    StoreCalls: Counter "tollgate_store_calls" {
        /// What came of it.
        "outcome" outcome: &'static str,
    };
    /// Messages to the queue's broker.
    BrokerMessages: Counter "tollgate_broker_messages" {
        /// What came of it.
        "outcome" outcome: &'static str,
    };
    /// What was spent and has no row of its own in the fleet's store, for want of room.
    SpendMerged: Counter "tollgate_spend_merged";
    /// Milliseconds until such a call was answered.
    StoreTime: Histogram "tollgate_store_ms";
    /// Requests that were decided while the fleet's store did not answer, and their leases did not cover them.
    StoreUncovered: Counter "tollgate_store_uncovered_requests" {
        /// How.
        "outcome" outcome: &'static str,
    };
    /// Requests that waited for the fleet's store, because leases did not cover them.
    StoreWaits: Counter "tollgate_store_waited_requests";
    /// Times that the fleet's store asked this Envoy to give back what it does not need of a limit.
    StoreRecalls: Counter "tollgate_store_recalls";
    /// Times that the fleet's store had lost what it had told of a client, a group or a spill.
    StoreLosses: Counter "tollgate_store_losses";
    /// What this Envoy holds of a limit, spent or not, as the fleet's store last told.
    StoreLeased: Gauge "tollgate_store_leased" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
    /// What of that it has not spent.
    StoreIdle: Gauge "tollgate_store_idle" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
    /// What it has spent beyond that, and the store has not been told yet.
    StoreOwed: Gauge "tollgate_store_owed" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
    /// Values that a policy changed to what it allows.
    PolicyClamps: Counter "tollgate_policy_clamps" {
        /// Whose.
        "client" client: Rc<str>,
        /// By which rule.
        "rule" rule: &'static str,
    };
    /// Requests that a policy refused.
    PolicyRefusals: Counter "tollgate_policy_refusals" {
        /// Whose.
        "client" client: Rc<str>,
        /// By which rule.
        "rule" rule: &'static str,
    };
    /// What a policy that audits would have done.
    PolicyAudits: Counter "tollgate_policy_audits" {
        /// To whom.
        "client" client: Rc<str>,
        /// By which rule.
        "rule" rule: Rc<str>,
        /// What.
        "effect" effect: &'static str,
    };
    /// One for each client, to find its group by.
    ClientInfo: Gauge "tollgate_client_info" {
        /// Which.
        "client" client: Rc<str>,
        /// Its group.
        "group" group: Rc<str>,
    };
    /// How much a limit allows; money in millionths of the currency.
    LimitSize: Gauge "tollgate_limit_size" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
    /// How much of it is used, with what is reserved for requests under way.
    LimitUsed: Gauge "tollgate_limit_used" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
    /// Of the percents used of a limit that somebody wants to be told of, the most that was reached in this window.
    LimitAlert: Gauge "tollgate_limit_alert_percent" {
        /// Whose.
        "client" client: Rc<str>,
        /// Which: of what and in which time.
        "limit" limit: Rc<str>,
    };
}
