//! What do the gauges tell? Each client's group, and where its limits stand.
//!
//! Nothing here is asked while a request is served: one VM looks from time to time, and tells for all of them.

use crate::endpoint::Operation;
use crate::gateway::{Client, Gateway};
use crate::leader;
use crate::ledger::{NONE, Series};
use crate::limits::alerts::{self, Alert, Told};
use crate::limits::leases::Holding;
use crate::limits::{self, Inquiry, State};
use crate::store::{Moment, StoreFault};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How often they are told. A gauge is older than that only while nobody holds the lease.
pub const TELL_EVERY: Duration = Duration::from_secs(4);

/// A VM that has not told for so long does not any more.
const LEASE: Duration = Duration::from_secs(12);

/// Whether this VM is the one that tells.
pub fn is_ours(moment: Moment<'_>, vm: u64) -> Result<bool, StoreFault> {
    leader::leads(moment, "tollgate/standings", vm, LEASE)
}

/// Every gauge with its value. Which there are depends on the configuration alone. Clients that share a label have none:
/// so there are no more of them than the configuration allows label values.
pub fn gauges(gateway: &Gateway, moment: Moment<'_>) -> Result<Vec<(Series, u64)>, StoreFault> {
    let mut found = Vec::new();
    // Whoever wants to be told of nothing pays nothing for it.
    let told = if gateway.watched().is_empty() { Told::default() } else { alerts::told(moment.store)? };
    for client in gateway.roster.iter().filter(|client| client.name.label == client.name.text) {
        let name = client.name.label.clone();
        let group = client.group.clone().unwrap_or_else(|| NONE.into());
        found.push((Series::ClientInfo { client: name.clone(), group }, 1));
        for (limit, state) in tightest(client, moment)? {
            let (client, size) = (name.clone(), state.allowance.amount.get());
            found.push((Series::LimitSize { client: client.clone(), limit: limit.clone() }, size));
            found.push((Series::LimitUsed { client: client.clone(), limit: limit.clone() }, state.used));
            if let Some(Holding { leased, idle, owed }) = state.holding {
                let (client, limit) = (|| client.clone(), || limit.clone());
                found.push((Series::StoreLeased { client: client(), limit: limit() }, leased));
                found.push((Series::StoreIdle { client: client(), limit: limit() }, idle));
                found.push((Series::StoreOwed { client: client(), limit: limit() }, owed));
            }
        }
        for (limit, percent) in client.budget.alerted(&told) {
            found.push((Series::LimitAlert { client: name.clone(), limit }, percent.into()));
        }
    }
    Ok(found)
}

/// What is to be told now of limits that somebody wants to be told of.
pub fn alerts(gateway: &Gateway, moment: Moment<'_>) -> Result<Vec<Alert>, StoreFault> {
    let watched = gateway.watched();
    if watched.is_empty() { Ok(Vec::new()) } else { alerts::look(moment, watched.into_values()) }
}

/// Of the limits that share a label, which differ in their scope, the one of which most is used. None that only report.
fn tightest(client: &Client, moment: Moment<'_>) -> Result<BTreeMap<Rc<str>, State>, StoreFault> {
    let budget = client.budget.clone();
    // The report has all limits, whatever is asked for.
    let report = limits::read(moment, &Inquiry { budget, model: None, operation: Operation::Limits })?;
    let mut found: BTreeMap<Rc<str>, State> = BTreeMap::new();
    for state in report.states.into_iter().filter(|state| !state.allowance.shadow) {
        let share = |one: &State, other: &State| {
            u128::from(one.used).saturating_mul(u128::from(other.allowance.amount.get()))
        };
        let word = state.allowance.word.clone();
        if found.get(&word).is_none_or(|other| share(&state, other) > share(other, &state)) {
            found.insert(word, state);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::leases::{self, Due, Uncovered};
    use crate::limits::{Claim, Grant, Outcome, Part, reserve, reserve_or};
    use crate::store::MemoryStore;
    use crate::tokens::Usage;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn gateway(metrics: Value) -> Gateway {
        let config = json!({
            "metrics": metrics,
            "clients": [
                { "name": "web", "group": "sales", "api_keys": [{ "sha256": "0".repeat(64) }], "models": ["*"],
                  "limits": [
                      { "tokens": 1000, "per": "minute" },
                      { "tokens": 500, "per": "minute", "models": ["m"] },
                      { "tokens": 10, "per": "day", "shadow": true },
                      { "concurrent": 4 },
                  ] },
                { "name": "lab", "api_keys": [{ "sha256": "1".repeat(64) }], "models": ["*"] },
            ],
            "groups": [{ "name": "sales", "limits": [{ "cost": 2.5, "per": "month" }] }],
            "models": [{ "name": "m", "prices": { "prompt": 1 }, "backends": [{ "backend": "b" }] }],
            "backends": [{ "name": "b", "cluster": "b", "style": "openai" }],
        });
        crate::config::from_value(config, &|_| None).unwrap()
    }

    #[track_caller]
    fn check(gateway: &Gateway, store: &MemoryStore, expected: &[(&str, u64)]) {
        let found = gauges(gateway, Moment::new(store, NOW)).unwrap();
        let found: Vec<_> = found.iter().map(|(series, value)| (series.name(), *value)).collect();
        assert_eq!(
            found,
            expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn each_client_tells_its_group_and_the_tightest_of_its_limits() {
        let (gateway, store) = (gateway(json!({})), MemoryStore::default());
        let claim = Claim {
            part: Part::All,
            budget: gateway.roster[0].budget.clone(),
            model: Some("m".into()),
            operation: Operation::ChatCompletions,
            usage: Usage { prompt: 100, ..Usage::default() },
            cost: 100,
        };
        assert!(matches!(reserve(Moment::new(&store, NOW), claim), Ok(Grant::Granted(_))));
        check(
            &gateway,
            &store,
            &[
                ("tollgate_client_info;client=web;group=sales", 1),
                ("tollgate_limit_size;client=web;limit=concurrent", 4),
                ("tollgate_limit_used;client=web;limit=concurrent", 1),
                ("tollgate_limit_size;client=web;limit=group/cost/month", 2_500_000),
                ("tollgate_limit_used;client=web;limit=group/cost/month", 100),
                ("tollgate_limit_size;client=web;limit=tokens/minute", 500),
                ("tollgate_limit_used;client=web;limit=tokens/minute", 100),
                ("tollgate_client_info;client=lab;group=none", 1),
            ],
        );
    }

    #[test]
    fn of_a_limit_that_a_fleet_shares_what_is_held_is_told() {
        let config = json!({
            "store": { "redis": { "cluster": "s" } },
            "clients": [{ "name": "web", "api_keys": [{ "sha256": "0".repeat(64) }], "models": ["*"],
                          "limits": [{ "tokens": 1000, "per": "day" }] }],
            "models": [{ "name": "m", "backends": [{ "backend": "b" }] }],
            "backends": [{ "name": "b", "cluster": "b", "style": "openai" }],
        });
        let gateway = crate::config::from_value(config, &|_| None).unwrap();
        let (store, budget) = (MemoryStore::default(), gateway.roster[0].budget.clone());
        let account = budget.shared().next().unwrap().clone();
        let take = || {
            let claim = Claim {
                part: Part::All,
                budget: budget.clone(),
                model: Some("m".into()),
                operation: Operation::ChatCompletions,
                usage: Usage { prompt: 30, ..Usage::default() },
                cost: 0,
            };
            reserve_or(Moment::new(&store, NOW), claim, Uncovered::Waits).unwrap()
        };
        assert!(matches!(take(), Outcome::Uncovered(_)));
        let me = ("me", Due::ForRequests);
        let call =
            leases::call(Moment::new(&store, NOW), &account, me, Duration::from_secs(1)).unwrap().unwrap();
        let (now_us, today) = (NOW.as_micros() as i64, 1_699_920_000);
        let reply = [1, now_us, 1, 50, 0, 0, 50, 0, today, 0, 0];
        assert!(matches!(leases::answered(&store, &account, call.number, &reply, (NOW, NOW)), Ok(Some(_))));
        assert!(matches!(take(), Outcome::Decided(Grant::Granted(_))));
        check(
            &gateway,
            &store,
            &[
                ("tollgate_client_info;client=web;group=none", 1),
                ("tollgate_limit_size;client=web;limit=tokens/day", 1000),
                ("tollgate_limit_used;client=web;limit=tokens/day", 30),
                ("tollgate_store_leased;client=web;limit=tokens/day", 50),
                ("tollgate_store_idle;client=web;limit=tokens/day", 20),
                ("tollgate_store_owed;client=web;limit=tokens/day", 0),
            ],
        );
    }

    #[test]
    fn clients_that_share_a_label_have_no_gauges() {
        let gateway = gateway(json!({ "clients_max": 0 }));
        check(&gateway, &MemoryStore::default(), &[]);
    }

    #[test]
    fn one_vm_tells_until_it_does_no_more() {
        let store = MemoryStore::default();
        let at = |seconds| NOW + Duration::from_secs(seconds);
        for (vm, now, expected) in [
            (1, at(0), true),
            (2, at(1), false),
            (1, at(4), true),
            (2, at(15), false),
            (2, at(16), true),
            (1, at(17), false),
            // A clock that was put back stops nobody.
            (1, at(3), true),
        ] {
            assert_eq!(is_ours(Moment::new(&store, now), vm), Ok(expected), "{vm} at {now:?}");
        }
    }
}
