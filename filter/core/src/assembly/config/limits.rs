//! What a client may spend, and what a group of them.

pub(super) mod wire;

use super::clients;
use super::issuers::no_path;
use super::ways_in::{is_of_a_filter, no_header_of_a_filter};
use super::{Build, ModelsByName, one_of};
use crate::allowance::{Allowance, Flow, Measure, Scope, Unit, Weights, Whose};
use crate::calendar::Span;
use crate::endpoint::Operation;
use crate::gateway::{Model, Permitted};
use crate::identity::claims::Path;
use crate::limits::{Account, Split};
use crate::sorting;
use crate::value::{By, UserField};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::rc::Rc;

/// The most limits of one client or group: each is read and written with every request.
const LIMITS_MAX: usize = 32;

/// The most of anything that a limit may allow; more would be a slip of the pen.
const AMOUNT_MAX: u64 = 1_000_000_000_000_000;

/// The most parts of a limit that are told of.
const ALERTS_MAX: usize = 8;

/// The most that a token may weigh.
const WEIGHT_MAX: f64 = 1000.0;

/// What is counted in millionths: money and weights.
const MILLIONTHS: f64 = 1e6;

/// A limit on money.
pub(super) struct Money {
    /// Where it stands in the configuration.
    path: String,
    /// For which models it holds; `None` for all.
    models: Option<HashSet<Rc<str>>>,
}

/// What a list of limits is made to.
#[derive(Clone)]
pub(super) struct Limits {
    /// Those that all share,
    pub(super) account: Rc<Account>,
    /// and those of which each has its own.
    pub(super) splits: Vec<Rc<Split>>,
}

/// A group that clients may be in.
pub(super) struct Group {
    limits: Limits,
    money: Vec<Money>,
    /// The models whose prices have been looked at.
    seen: HashSet<Rc<str>>,
}

impl Group {
    /// What its clients share.
    pub(super) fn account(&self) -> &Rc<Account> {
        &self.limits.account
    }

    /// From now on it is as if none of its clients' prices had been looked at.
    pub(super) fn look_again(&mut self) {
        self.seen.clear();
    }
}

/// The groups by their names.
pub(super) type Groups = HashMap<String, Group>;

impl Build<'_> {
    pub(super) fn groups(&mut self, wire: &[wire::Group], by_name: &ModelsByName) -> Groups {
        let mut groups = Groups::new();
        for (at, group) in wire.iter().enumerate() {
            let path = format!("groups[{at}]");
            let name = self.name(format!("{path}.name"), &group.name);
            let path_of_limits = format!("{path}.limits");
            let (allowances, money) =
                self.allowances(&path_of_limits, &group.limits, &Whose::Group(name), by_name);
            let (allowances, splits) = split(allowances, |by, own| Split::of_group(&group.name, by, own));
            let account = Rc::new(self.shared(Account::of_group(&group.name, allowances)));
            let built = Group { limits: Limits { account, splits }, money, seen: HashSet::new() };
            if groups.insert(group.name.clone(), built).is_some() {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", group.name));
            }
        }
        groups
    }

    /// The account of a client's own limits.
    pub(super) fn account(
        &mut self,
        path: &str,
        client: &clients::wire::Client,
        permitted: &Permitted,
        by_name: &ModelsByName,
    ) -> Limits {
        let (allowances, money) = self.allowances(path, &client.limits, &Whose::Client, by_name);
        for model in met(permitted, by_name) {
            self.has_prices(&money, &model);
        }
        for (at, limit) in client.limits.iter().enumerate() {
            // Of whom it is never known all would share one.
            let lacks = match &limit.by {
                Some(wire::By::Key) if client.api_keys.is_empty() && !self.issues_keys => "api_keys",
                Some(wire::By::Claim(_)) if client.jwt.is_none() => "jwt",
                _ => continue,
            };
            self.fault(
                format!("{path}[{at}].by"),
                format!("the client has no {lacks}, so nobody has it: expected it, or another by"),
            );
        }
        let (allowances, splits) = split(allowances, |by, own| Split::of_client(&client.name, by, own));
        Limits { account: Rc::new(self.shared(Account::of_client(&client.name, allowances))), splits }
    }

    /// The account of what a model's requests may take at backends of a lower priority.
    pub(super) fn spill_account(&mut self, path: &str, wire: &[wire::Limit], model: &Model) -> Account {
        let name = model.name.text.clone();
        for (at, _) in wire.iter().enumerate().filter(|(_, limit)| limit.by.is_some()) {
            self.fault(format!("{path}[{at}].by"), "a limit on what spills is one for all: expected no by");
        }
        let (allowances, money) =
            self.allowances(path, wire, &Whose::Spill(name.clone()), &ModelsByName::new());
        self.has_prices(&money, model);
        self.shared(Account::of_spill(&name, allowances))
    }

    /// The account that a client shares with its group.
    pub(super) fn join(
        &mut self,
        path: String,
        name: &str,
        groups: &mut Groups,
        permitted: &Permitted,
        by_name: &ModelsByName,
    ) -> Option<Limits> {
        let Some(group) = groups.get_mut(name) else {
            let problem = format!("no group is named {name:?}: expected {}", one_of(groups.keys()));
            self.fault(path, problem);
            return None;
        };
        if !group.money.is_empty() {
            for model in met(permitted, by_name) {
                // One word for each model is enough, however many of the clients use it.
                if group.seen.insert(model.name.text.clone()) {
                    self.has_prices(&group.money, &model);
                }
            }
        }
        Some(group.limits.clone())
    }

    /// What a model costs must be known wherever a limit on money may meet it.
    pub(super) fn has_prices(&mut self, money: &[Money], model: &Model) {
        let Some(target) = model.targets.iter().find(|target| target.prices.is_none()) else { return };
        for Money { path, models } in money {
            if models.as_ref().is_none_or(|models| models.contains(&model.name.text)) {
                let problem = format!(
                    "model {:?} has no prices at backend {:?}: expected prices, or a limit with models that all have \
                     them",
                    model.name.text, target.word
                );
                self.fault(path.clone(), problem);
            }
        }
    }

    /// The limits of a list, and which of them are on money.
    pub(super) fn allowances(
        &mut self,
        path: &str,
        wire: &[wire::Limit],
        whose: &Whose,
        by_name: &ModelsByName,
    ) -> (Vec<Allowance>, Vec<Money>) {
        if wire.len() > LIMITS_MAX {
            self.fault(path.to_owned(), format!("{} limits, at most {LIMITS_MAX} are possible", wire.len()));
        }
        let (mut allowances, mut money): (Vec<Allowance>, _) = (Vec::new(), Vec::new());
        for (at, limit) in wire.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let scope = self.scope(&path, limit, by_name);
            let Some((measure, amount)) = self.measure(&path, limit) else { continue };
            if measure.unit() == Some(Unit::Cost) {
                let models = scope.models.as_ref().map(|models| models.iter().cloned().collect());
                money.push(Money { path: format!("{path}.cost"), models });
            }
            let alerts = self.alerts(&path, limit, measure, whose);
            let mut built =
                Allowance::new(whose.clone(), measure, amount, scope, limit.shadow).alerting(alerts);
            if let Some(by) = &limit.by {
                built = built.by(self.by(&format!("{path}.by"), by));
            }
            if allowances.iter().any(|other| other.counts_as(&built) && other.shadow == built.shadow) {
                self.fault(path, "an earlier limit counts the same: expected one of them");
            }
            allowances.push(built);
        }
        (allowances, money)
    }

    /// Of how many percent used a limit is to be told.
    fn alerts(&mut self, path: &str, wire: &wire::Limit, measure: Measure, whose: &Whose) -> Vec<u8> {
        if wire.alerts.is_empty() {
            return Vec::new();
        }
        let path = format!("{path}.alerts");
        let lacks = match (measure, &wire.by, whose) {
            (Measure::Concurrent | Measure::Rate(..), ..) => Some("per hour, day, week or month"),
            (_, Some(_), _) => Some("a limit without by"),
            (_, _, Whose::Spill(_)) => Some("a limit of a client or a group"),
            _ => None,
        };
        if let Some(lacks) = lacks {
            self.fault(path.clone(), format!("nobody could be told of this limit: expected {lacks}"));
        }
        if wire.alerts.len() > ALERTS_MAX {
            self.fault(
                path.clone(),
                format!("{} alerts, at most {ALERTS_MAX} are possible", wire.alerts.len()),
            );
        }
        for (at, share) in wire.alerts.iter().enumerate() {
            if !(0.01..=1.0).contains(share) {
                self.fault(format!("{path}[{at}]"), format!("{share}: expected 0.01 to 1"));
            }
        }
        wire.alerts.iter().map(|share| (share * 100.0).round() as u8).collect()
    }

    fn by(&mut self, path: &str, wire: &wire::By) -> By {
        let by = match wire {
            wire::By::Key => By::Key,
            wire::By::Claim(name) => {
                if Path::parse(name).is_none() {
                    self.fault(format!("{path}.claim"), no_path(name));
                }
                By::Claim(name.as_str().into())
            }
            wire::By::Header(name) => {
                let lower = name.to_ascii_lowercase();
                if !is_of_a_filter(&lower) {
                    self.fault(format!("{path}.header"), no_header_of_a_filter(name));
                }
                By::Header(lower.into())
            }
            wire::By::Field(wire::UserField::User) => By::Field(UserField::User),
            wire::By::Field(wire::UserField::SafetyIdentifier) => By::Field(UserField::SafetyIdentifier),
        };
        if !self.told.contains(&by) {
            self.told.push(by.clone());
        }
        by
    }

    fn scope(&mut self, path: &str, wire: &wire::Limit, by_name: &ModelsByName) -> Scope {
        let permitted =
            wire.models.as_ref().map(|names| self.permitted(&format!("{path}.models"), names, by_name));
        let models = match permitted {
            None | Some(Permitted::All) => None,
            Some(Permitted::Named(names)) => {
                let mut names: Vec<_> = names.into_iter().collect();
                sorting::sort(&mut names);
                Some(names)
            }
        };
        let mut endpoints = None;
        if let Some(words) = &wire.endpoints {
            let path = format!("{path}.endpoints");
            if words.is_empty() {
                self.fault(path.clone(), "empty: expected at least one endpoint, or no such field");
            }
            let mut found = Vec::new();
            for (at, word) in words.iter().enumerate() {
                match Operation::of_word(word).filter(|operation| operation.reaches_backends()) {
                    Some(operation) => found.push(operation),
                    None => {
                        let known = one_of(Operation::reaching_backends().map(Operation::word));
                        self.fault(
                            format!("{path}[{at}]"),
                            format!("no endpoint is named {word:?}: expected {known}"),
                        );
                    }
                }
            }
            sorting::sort_by_key(&mut found, |operation| operation.word());
            found.dedup();
            endpoints = Some(found);
        }
        Scope { models, endpoints }
    }

    /// Of what there is so much.
    pub(super) fn measure(&mut self, path: &str, wire: &wire::Limit) -> Option<(Measure, NonZeroU64)> {
        let given =
            [wire.tokens.is_some(), wire.requests.is_some(), wire.cost.is_some(), wire.concurrent.is_some()];
        if given.into_iter().filter(|given| *given).count() != 1 {
            self.fault(path.to_owned(), "expected exactly one of tokens, requests, cost, concurrent");
            return None;
        }
        if let (Some(_), None) = (wire.weights, wire.tokens) {
            self.fault(format!("{path}.weights"), "only a limit on tokens has weights");
        }
        let (unit, amount, field) = match *wire {
            wire::Limit { tokens: Some(tokens), .. } => {
                let weights = wire.weights.map(|weights| self.weights(path, weights, weights.prompt));
                (Some(Unit::Tokens(weights.unwrap_or(Weights::PLAIN))), tokens, "tokens")
            }
            wire::Limit { requests: Some(requests), .. } => (Some(Unit::Requests), requests, "requests"),
            wire::Limit { cost: Some(cost), .. } => {
                let micros = (cost * MILLIONTHS).round();
                if !(1.0..=AMOUNT_MAX as f64).contains(&micros) {
                    let most = AMOUNT_MAX / 1_000_000;
                    self.fault(format!("{path}.cost"), format!("{cost}: expected 0.000001 to {most}"));
                    return None;
                }
                (Some(Unit::Cost), micros as u64, "cost")
            }
            wire::Limit { concurrent, .. } => (None, concurrent.unwrap_or(0), "concurrent"),
        };
        let amount = match NonZeroU64::new(amount) {
            Some(amount) if amount.get() <= AMOUNT_MAX => amount,
            None => {
                self.fault(format!("{path}.{field}"), "0: expected at least 1");
                return None;
            }
            Some(amount) => {
                self.fault(format!("{path}.{field}"), format!("{amount}: expected at most {AMOUNT_MAX}"));
                return None;
            }
        };
        let measure = match (unit, wire.per) {
            (None, None) => Measure::Concurrent,
            (None, Some(_)) => {
                self.fault(format!("{path}.per"), "a limit on concurrent requests has none");
                return None;
            }
            (Some(_), None) => {
                let problem = "missing: expected second, minute, hour, day, week or month";
                self.fault(format!("{path}.per"), problem);
                return None;
            }
            (Some(unit), Some(wire::Period::Second)) => Measure::Rate(unit, Flow::Second),
            (Some(unit), Some(wire::Period::Minute)) => Measure::Rate(unit, Flow::Minute),
            (Some(unit), Some(wire::Period::Hour)) => Measure::Quota(unit, Span::Hour),
            (Some(unit), Some(wire::Period::Day)) => Measure::Quota(unit, Span::Day),
            (Some(unit), Some(wire::Period::Week)) => Measure::Quota(unit, Span::Week),
            (Some(unit), Some(wire::Period::Month)) => Measure::Quota(unit, Span::Month),
        };
        Some((measure, amount))
    }

    /// `cached` is what holds where nothing is said of it.
    pub(super) fn weights(&mut self, path: &str, wire: wire::Weights, cached: f64) -> Weights {
        let mut micros = |field: &str, weight: f64| {
            if !(0.0..=WEIGHT_MAX).contains(&weight) {
                self.fault(
                    format!("{path}.weights.{field}"),
                    format!("{weight}: expected 0 to {WEIGHT_MAX}"),
                );
            }
            (weight * MILLIONTHS).round() as u64
        };
        Weights {
            prompt: micros("prompt", wire.prompt),
            cached: micros("cached", wire.cached.unwrap_or(cached)),
            completion: micros("completion", wire.completion),
        }
    }
}

/// Takes those with `by` out of a list, and makes one split of those that have the same.
fn split(
    allowances: Vec<Allowance>,
    new: impl Fn(By, Vec<Allowance>) -> Split,
) -> (Vec<Allowance>, Vec<Rc<Split>>) {
    let (mut all, mut each): (Vec<Allowance>, Vec<(By, Vec<Allowance>)>) = (Vec::new(), Vec::new());
    for allowance in allowances {
        match allowance.by.clone() {
            None => all.push(allowance),
            Some(by) => match each.iter_mut().find(|(other, _)| *other == by) {
                Some((_, own)) => own.push(allowance),
                None => each.push((by, vec![allowance])),
            },
        }
    }
    (all, each.into_iter().map(|(by, own)| Rc::new(new(by, own))).collect())
}

/// The models that a client may call, in a fixed order.
pub(super) fn met(permitted: &Permitted, by_name: &ModelsByName) -> Vec<Rc<Model>> {
    let mut models: Vec<_> = by_name
        .iter()
        .filter(|(name, model)| **name == model.name.text)
        .map(|(_, model)| model.clone())
        .filter(|model| match permitted {
            Permitted::All => true,
            Permitted::Named(names) => names.contains(&model.name.text),
        })
        .collect();
    sorting::sort_by(&mut models, |one, other| one.name.text.cmp(&other.name.text));
    models
}
