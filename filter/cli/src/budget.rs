//! What of a fleet's budgets is used, and how does an operator change that?
//!
//! The store is asked itself, by its own address: no Envoy is needed. An Envoy notices a change with its next call.

mod record;
mod store;

use crate::arguments::{Act, Whose};
use crate::paint::{Look, paint, print, print_json};
use crate::store::Store;
use crate::{End, check};
use record::{Kind, Limit, Record};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;
use store::Seen;
use tollgate::allowance::{Allowance, Unit};
use tollgate::calendar::rfc3339;
use tollgate::gateway::Gateway;

/// Shows or changes what is used of an account.
pub(crate) fn budget(act: &Act) -> Result<End, String> {
    let (Act::Show(arguments) | Act::Give { account: arguments, .. } | Act::Reset(arguments)) = act;
    let name = account(&arguments.whose);
    let gateway = match arguments.config.as_deref().map(check::one).transpose()? {
        Some(Err(end)) => return Ok(end),
        Some(Ok(gateway)) => Some(gateway),
        None => None,
    };
    let rules = gateway.as_ref().map_or(Ok(Rules::default()), |gateway| Rules::of(gateway, &name))?;
    let mut store = Store::of(&arguments.address, gateway.as_ref())?;
    let seen = store.see(&name)?;
    let Some(record) = &seen.record else {
        if arguments.json {
            print_json(&Value::Null);
            return Ok(End::Found);
        }
        let (shown, prefix) = (&store.shown, &store.prefix);
        print(&format!("{name}: nothing stands in {shown} under {prefix}: no Envoy has asked for it yet\n"));
        return Ok(End::Found);
    };
    let changes = match act {
        Act::Show(_) => {
            if arguments.json {
                print_json(&as_json(record, &rules, seen.now_us));
            } else {
                print(&shown(&name, &store, record, &rules, seen.now_us));
            }
            return Ok(End::Well);
        }
        Act::Give { amount, .. } => {
            let (id, limit) = one(record, &rules, arguments.limit.as_deref())?;
            let amount = rules.amount(id, limit, amount)?;
            changed(&name, &mut store, &seen, &rules, vec![(id.clone(), Some(amount))])?
        }
        Act::Reset(_) => {
            let ids = match arguments.limit.as_deref() {
                Some(_) => vec![one(record, &rules, arguments.limit.as_deref())?.0.clone()],
                None => counted(record).map(|(id, _)| id.clone()).collect(),
            };
            changed(&name, &mut store, &seen, &rules, ids.into_iter().map(|id| (id, None)).collect())?
        }
    };
    if arguments.json {
        print_json(&changes);
    } else {
        print(&told(&name, &changes));
    }
    Ok(End::Well)
}

/// `client/NAME`, `group/NAME` or `spill/MODEL`.
fn account(whose: &Whose) -> String {
    let said = [("client", &whose.client), ("group", &whose.group), ("spill", &whose.spill)];
    let mut said = said.into_iter().filter_map(|(whose, name)| Some(format!("{whose}/{}", name.as_deref()?)));
    // The command line has just one of them.
    said.next().unwrap_or_default()
}

/// What a configuration knows of an account's limits, by their ids.
#[derive(Default)]
struct Rules(BTreeMap<String, Rc<Allowance>>);

impl Rules {
    fn of(gateway: &Gateway, name: &str) -> Result<Self, String> {
        // By either of the two keys that an Envoy has for it.
        let places = ["limits", "shared"];
        let account = places.iter().find_map(|place| gateway.account(&format!("tollgate/{place}/{name}")));
        let account = account.ok_or_else(|| format!("{name} has no limits in the configuration"))?;
        let limits = account.limits().map(|(id, allowance)| (format!("{id:016x}"), Rc::clone(allowance)));
        Ok(Self(limits.collect()))
    }

    /// What a limit is called.
    fn word(&self, id: &str, limit: &Limit) -> String {
        self.0.get(id).map_or_else(|| limit.word(), |allowance| allowance.word.to_string())
    }

    /// In what a limit is measured, where that is known.
    fn unit(&self, id: &str) -> Option<Unit> {
        self.0.get(id).and_then(|allowance| allowance.measure.unit())
    }

    fn text(&self, id: &str, amount: u64) -> String {
        self.unit(id).map_or_else(|| amount.to_string(), |unit| unit.text(amount))
    }

    /// An amount as whoever asks has written it: money in the currency where the configuration says that it is money.
    fn amount(&self, id: &str, limit: &Limit, text: &str) -> Result<u64, String> {
        let most = limit.size.max(limit.used);
        let expected = || format!("AMOUNT {text}: expected more than 0 and at most {}", self.text(id, most));
        let amount = match self.unit(id) {
            Some(Unit::Cost) => text.parse::<f64>().ok().map(|money| (money * 1e6).round()),
            _ => text.parse::<u64>().ok().map(|amount| amount as f64),
        };
        let amount = amount.filter(|amount| *amount >= 1.0 && *amount <= most as f64).ok_or_else(expected)?;
        Ok(amount as u64)
    }

    /// Where a limit holds, if not everywhere; and whether it only reports.
    fn scope(&self, id: &str) -> String {
        let Some(allowance) = self.0.get(id) else { return String::new() };
        let models = allowance.scope.models.iter().map(|models| format!(", models {}", models.join(" ")));
        let endpoints = allowance.scope.endpoints.iter().map(|endpoints| {
            let words: Vec<_> = endpoints.iter().map(|endpoint| endpoint.word()).collect();
            format!(", endpoints {}", words.join(" "))
        });
        let shadow = if allowance.shadow { ", shadow" } else { "" };
        models.chain(endpoints).collect::<String>() + shadow
    }
}

/// The limits of which something can be used: places are held and not used.
fn counted(record: &Record) -> impl Iterator<Item = (&String, &Limit)> {
    record.limits.iter().filter(|(_, limit)| limit.kind != Kind::Places)
}

/// The limit that is meant: by its id or its word; or the only one.
fn one<'r>(record: &'r Record, rules: &Rules, said: Option<&str>) -> Result<(&'r String, &'r Limit), String> {
    let is_meant =
        |id: &str, limit: &Limit| said.is_none_or(|said| said == id || said == rules.word(id, limit));
    let found: Vec<_> = counted(record).filter(|(id, limit)| is_meant(id, limit)).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        _ => {
            let all: Vec<_> =
                counted(record).map(|(id, limit)| format!("{} ({id})", rules.word(id, limit))).collect();
            Err(format!("--limit: expected one of {}", all.join(", ")))
        }
    }
}

fn ago(then_us: u64, now_us: u64) -> String {
    let millis = now_us.saturating_sub(then_us) / 1000;
    format!("{}.{} s ago", millis / 1000, millis % 1000 / 100)
}

/// All that stands there.
fn shown(name: &str, store: &Store, record: &Record, rules: &Rules, now_us: u64) -> String {
    let mut text =
        format!("account  {} in {} under {}\n", paint(Look::Title, name), store.shown, store.prefix);
    for (id, limit) in &record.limits {
        text +=
            &format!("limit    {} ({id}{}): ", paint(Look::Title, &rules.word(id, limit)), rules.scope(id));
        text += &state(id, limit, rules, now_us);
    }
    for holder in &record.holders {
        let held = holder.held.iter().filter(|(_, held)| **held > 0).filter_map(|(id, held)| {
            let limit = record.limits.get(id).filter(|limit| !limit.is_over(now_us))?;
            Some(format!("{} of {}", rules.text(id, *held), rules.word(id, limit)))
        });
        let held: Vec<_> = held.collect();
        let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
        text += &format!("holder   {}: called {}, holds {held}\n", holder.name, ago(holder.seen, now_us));
    }
    text
}

/// One line: how much is used, held and left.
fn state(id: &str, limit: &Limit, rules: &Rules, now_us: u64) -> String {
    let size = rules.text(id, limit.size);
    if limit.is_over(now_us) {
        let ended = limit.ends().map(rfc3339).unwrap_or_default();
        return format!("nothing of {size} used: its last window ended {ended}\n");
    }
    let held = rules.text(id, limit.held);
    let left = rules.text(id, limit.size.saturating_sub(limit.used).saturating_sub(limit.held));
    let used = rules.text(id, limit.used);
    match limit.kind {
        Kind::Places => format!("{held} of {size} held, {left} left\n"),
        Kind::Window(_) => {
            let ends = limit.ends().map(rfc3339).unwrap_or_default();
            format!("{used} of {size} used, {held} held, {left} left; ends {ends}\n")
        }
        Kind::Bucket(_) => {
            format!("{used} of {size} used {}, {held} held, {left} left\n", ago(limit.at, now_us))
        }
    }
}

/// The same for programs.
fn as_json(record: &Record, rules: &Rules, now_us: u64) -> Value {
    let limits = record.limits.iter().map(|(id, limit)| {
        let used = if limit.is_over(now_us) { 0 } else { limit.used };
        let held = if limit.is_over(now_us) { 0 } else { limit.held };
        json!({
            "limit": rules.word(id, limit),
            "id": id,
            "size": limit.size,
            "used": used,
            "held": held,
            "left": limit.size.saturating_sub(used).saturating_sub(held),
            "ends": limit.ends().map(rfc3339),
        })
    });
    let holders = record.holders.iter().map(|holder| {
        let held = holder.held.iter().filter_map(|(id, held)| Some((record.limits.get_key_value(id)?, held)));
        let held = held.filter(|((_, limit), held)| **held > 0 && !limit.is_over(now_us));
        let held: Map<_, _> =
            held.map(|((id, limit), held)| (rules.word(id, limit), Value::from(*held))).collect();
        json!({ "name": holder.name, "called_ms_ago": now_us.saturating_sub(holder.seen) / 1000, "holds": held })
    });
    json!({ "limits": limits.collect::<Vec<_>>(), "holders": holders.collect::<Vec<_>>() })
}

/// What has become of one limit.
#[derive(Serialize)]
struct Change {
    limit: String,
    /// As it is shown to people: money in its currency.
    before: String,
    now: String,
}

fn told(name: &str, changes: &[Change]) -> String {
    let line = |Change { limit, before, now }: &Change| {
        format!("{name}: {}: {now} used, and not {before}\n", paint(Look::Title, limit))
    };
    match changes {
        [] => format!("{name}: nothing is used\n"),
        changes => changes.iter().map(line).collect(),
    }
}

/// Changes it, and says what came of it.
fn changed(
    name: &str,
    store: &mut Store,
    seen: &Seen,
    rules: &Rules,
    mut less: Vec<(String, Option<u64>)>,
) -> Result<Vec<Change>, String> {
    let record = seen.record.clone().unwrap_or_default();
    let limit = |id: &String| record.limits.get(id).filter(|limit| !limit.is_over(seen.now_us));
    less.retain(|(id, _)| limit(id).is_some());
    let mut changes = Vec::new();
    for ((id, _), found) in less.iter().zip(store.change(name, &less)?) {
        let (Some(limit), Some((before, now))) = (limit(id), found) else { continue };
        let (before, now) = (rules.text(id, before), rules.text(id, now));
        changes.push(Change { limit: rules.word(id, limit), before, now });
    }
    Ok(changes)
}
