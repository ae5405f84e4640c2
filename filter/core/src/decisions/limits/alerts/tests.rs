use super::*;
use crate::allowance::{Measure, Scope, Unit, Weights, Whose};
use crate::calendar::Span;
use crate::codec::law;
use crate::endpoint::Operation;
use crate::limits::{Claim, Grant, Part, Spent, reserve, settle};
use crate::store::MemoryStore;
use crate::tokens::Usage;
use std::num::NonZeroU64;
use std::time::Duration;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const DAY: Duration = Duration::from_secs(86_400);

/// In the midst of a day.
const START: Duration = Duration::from_secs(1_795_490_661);

/// A limit of 1000 tokens a day.
fn day(whose: Whose, alerts: &[u8], shadow: bool) -> Allowance {
    let measure = Measure::Quota(Unit::Tokens(Weights::PLAIN), Span::Day);
    let amount = NonZeroU64::new(1000).unwrap();
    Allowance::new(whose, measure, amount, Scope::default(), shadow).alerting(alerts.to_vec())
}

fn web(alerts: &[u8]) -> Rc<Budget> {
    let allowances = vec![day(Whose::Client, alerts, false)];
    Rc::new(Budget::new([Rc::new(Account::of_client("web", allowances))]))
}

fn ask(store: &MemoryStore, budget: &Rc<Budget>, tokens: u64, now: Duration) -> Grant {
    let claim = Claim {
        budget: budget.clone(),
        part: Part::All,
        model: None,
        operation: Operation::ChatCompletions,
        usage: Usage { prompt: tokens, ..Usage::default() },
        cost: 0,
    };
    reserve(Moment::new(store, now), claim).unwrap()
}

fn take(store: &MemoryStore, budget: &Rc<Budget>, tokens: u64, now: Duration) {
    assert!(matches!(ask(store, budget, tokens, now), Grant::Granted(_)));
}

/// What is told at a look.
fn told(store: &MemoryStore, budget: &Budget, now: Duration) -> Vec<String> {
    let alerts = look(Moment::new(store, now), budget.watched()).unwrap();
    alerts.iter().map(ToString::to_string).collect()
}

fn line(percent: u64, used: u64) -> String {
    format!("alert of {percent} % for client/web: {used} of 1000 used of its limit tokens/day")
}

#[track_caller]
fn gauge(store: &MemoryStore, budget: &Budget, percent: u8) {
    let found = budget.alerted(&super::told(store).unwrap());
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("tokens/day".into(), percent)]);
}

#[test]
fn an_alert_is_told_once_in_each_window() {
    let (store, budget) = (MemoryStore::default(), web(&[50, 80]));
    take(&store, &budget, 499, START);
    assert_eq!(told(&store, &budget, START), [""; 0]);
    gauge(&store, &budget, 0);
    take(&store, &budget, 1, START);
    assert_eq!(told(&store, &budget, START), [line(50, 500)]);
    assert_eq!(told(&store, &budget, START), [""; 0]);
    gauge(&store, &budget, 50);
    take(&store, &budget, 350, START);
    assert_eq!(told(&store, &budget, START), [line(80, 850)]);
    gauge(&store, &budget, 80);
    let tomorrow = START + DAY;
    assert_eq!(told(&store, &budget, tomorrow), [""; 0]);
    gauge(&store, &budget, 0);
    // Of both the higher.
    take(&store, &budget, 900, tomorrow);
    assert_eq!(told(&store, &budget, tomorrow), [line(80, 900)]);
}

#[test]
fn what_is_given_back_is_not_told_anew() {
    let (store, budget) = (MemoryStore::default(), web(&[80]));
    let Grant::Granted(granted) = ask(&store, &budget, 900, START) else { panic!() };
    assert_eq!(told(&store, &budget, START), [line(80, 900)]);
    let settlement = granted.reservation.settle(Spent::default());
    settle(Moment::new(&store, START), &settlement).unwrap();
    assert_eq!(told(&store, &budget, START), [""; 0]);
    take(&store, &budget, 850, START);
    assert_eq!(told(&store, &budget, START), [""; 0]);
}

#[test]
fn a_limit_that_refuses_is_told_as_used_up() {
    let (store, budget) = (MemoryStore::default(), web(&[80, 100]));
    take(&store, &budget, 900, START);
    assert_eq!(told(&store, &budget, START), [line(80, 900)]);
    // What never fits says nothing of the window.
    assert!(matches!(ask(&store, &budget, 1001, START), Grant::Refused(Denial::NeverFits { .. }, ..)));
    assert_eq!(told(&store, &budget, START), [""; 0]);
    for _ in 0..2 {
        assert!(matches!(ask(&store, &budget, 101, START), Grant::Refused(..)));
    }
    assert_eq!(told(&store, &budget, START), [line(100, 900)]);
    assert_eq!(told(&store, &budget, START), [""; 0]);
    gauge(&store, &budget, 100);
    assert_eq!(told(&store, &budget, START + DAY), [""; 0]);
}

#[test]
fn a_refusal_by_a_group_is_told_of_the_group() {
    let store = MemoryStore::default();
    let own = Account::of_client("web", vec![day(Whose::Client, &[100], true)]);
    let group = Account::of_group("sales", vec![day(Whose::Group("sales".into()), &[100], false)]);
    let budget = Rc::new(Budget::new([Rc::new(own), Rc::new(group)]));
    take(&store, &budget, 900, START);
    assert!(matches!(ask(&store, &budget, 101, START), Grant::Refused(..)));
    let expected = "alert of 100 % for group/sales: 900 of 1000 used of its limit group/tokens/day";
    assert_eq!(told(&store, &budget, START), [expected]);
}

#[test]
fn a_limit_without_alerts_writes_nothing_down() {
    let (store, budget) = (MemoryStore::default(), web(&[]));
    take(&store, &budget, 900, START);
    assert!(matches!(ask(&store, &budget, 101, START), Grant::Refused(..)));
    assert!(store.load(KEY).unwrap().value.is_empty());
    assert_eq!(budget.watched().count(), 0);
    assert!(budget.alerted(&super::told(&store).unwrap()).is_empty());
}

#[test]
fn the_law_of_stored_values_holds() {
    let reached = |account: &str, is_refusing| Reached {
        window: Window { account: account.to_owned(), limit: u64::MAX, began: 1_795_000_000_000_000_000 },
        is_refusing,
        told: 80,
    };
    law::holds("alert_reached", &[reached("tollgate/limits/client/web", true), reached("", false)]);
}
