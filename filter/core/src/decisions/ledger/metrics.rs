//! What does a record add to the metrics?

use super::series::{Kind, NONE, Series};
use super::{Name, Queued, Record, Source, Spill};
use crate::calendar::DAY_S;
use crate::finding::{self, Effect, Finding};
use crate::spend::{Row, Spend};
use crate::time::millis;
use std::rc::Rc;
use std::time::Duration;

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

    /// The group of whoever pays.
    pub(super) fn paying_group(&self) -> Option<&str> {
        self.charge.as_ref().map_or(self.group.as_deref(), |charge| charge.group.as_deref())
    }

    /// What it adds to what is kept of what was spent; `None` for what cost nothing. `now` is when it ended: it is of the day in which
    /// it began.
    #[must_use]
    pub fn spend(&self, now: Duration) -> Option<Row> {
        let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
        let client = word(Some(&self.payer()?.text));
        let spend = Spend::on(self.usage, self.price_micros);
        let spend = if self.source == Source::Estimated { spend.estimated() } else { spend };
        let spend = Spend { requests: u64::from(self.served.is_some()), ..spend };
        let row = Row {
            day: now.saturating_sub(self.duration).as_secs() / DAY_S,
            client,
            group: word(self.paying_group()),
            model: word(self.paid_model().map(|name| &*name.text)),
            backend: word(self.served.as_ref().map(|served| &*served.backend)),
            tier: word(self.service_tier.as_deref()),
            spend,
        };
        (spend != Spend::default()).then_some(row)
    }

    /// Who asked, where another one pays.
    pub(super) fn read_by(&self) -> Option<&Name> {
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
        if self.forgotten > 0 {
            found.push((Series::LimitValuesForgotten { client: client.clone() }, self.forgotten));
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
        if let Some(at_queue) = self.at_queue {
            found.push((Series::QueueOutcomes { client: client.clone(), outcome: at_queue.word() }, 1));
        }
        if let Some(pin) = self.pin {
            found.push((Series::Pinned { client: client.clone(), result: pin.word() }, 1));
        }
        if let Some(Spill { from, to, cause }) = self.spill.clone() {
            found.push((Series::Spills { model: model.clone(), from, to, reason: cause.word() }, 1));
        }
        if let Some(from) = self.refused_tier {
            found.push((Series::TierFallbacks { model: model.clone(), from }, 1));
        }
        for Finding { rule, effect } in &self.findings {
            let client = client.clone();
            let series = match effect {
                Effect::Clamped(_) => Series::PolicyClamps { client, rule },
                Effect::Refused => Series::PolicyRefusals { client, rule },
                Effect::Would(would) => {
                    Series::PolicyAudits { client, rule: (*rule).into(), effect: would.word() }
                }
                Effect::WouldBeside(would, policy) => {
                    let rule = finding::beside(policy, rule).into();
                    Series::PolicyAudits { client, rule, effect: would.word() }
                }
                // A client's own word is no label.
                Effect::Unknown(_) => continue,
            };
            found.push((series, 1));
        }
        // How long a conversation is says nothing of its backend.
        if self.served.is_some() && self.turns.is_none() {
            found.push((Series::Duration { model }, millis(self.duration)));
        }
        // Envoy takes a counter that grows by nothing for a fault.
        found.retain(|(series, amount)| *amount > 0 || series.kind() != Kind::Counter);
        found
    }
}

fn label(name: Option<&Name>) -> Rc<str> {
    name.map_or_else(|| NONE.into(), |name| name.label.clone())
}
