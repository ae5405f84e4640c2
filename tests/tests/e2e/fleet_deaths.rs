//! Do budgets of each kind outlive Redis and an Envoy that die while they are asked for?

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Redis};

use crate::fleets::{
    FIT, Fleet, Held, KINDS, PASSWORD, booked, budget_of, has_places, lapses, received_of, until,
};

/// What flows in by itself.
fn is_bucket(budget: &str) -> bool {
    budget.ends_with("minute")
}

fn budgets() -> BTreeSet<&'static str> {
    KINDS.into_iter().map(budget_of).collect()
}

/// Whether all of a budget is used, by the store's book.
fn is_used_up(redis: &Redis, budget: &str) -> bool {
    booked(redis, budget) > FIT as f64 - 1e-6
}

/// Waits until the store's book says that what is admitted is used, and nothing else.
async fn all_is_booked(redis: &Redis, fleet: &Fleet) {
    for budget in budgets().into_iter().filter(|budget| !is_bucket(budget)) {
        until(|| {
            let (booked, admitted) = (booked(redis, budget), fleet.received_of(budget));
            let is_booked = (booked - admitted as f64).abs() < 1e-6;
            if is_booked { Ok(()) } else { Err(format!("{budget}: {booked} booked, {admitted} admitted")) }
        })
        .await;
    }
}

fn kill(gateway: &Gateway) {
    let killed = Command::new("kill").args(["-9", &gateway.pid().to_string()]).status();
    assert!(killed.unwrap().success());
}

#[tokio::test]
async fn budgets_of_each_kind_outlive_redis_and_an_envoy() {
    const LAST: usize = 3;
    let Some(mut redis) =
        Redis::or_skip("budgets_of_each_kind_outlive_redis_and_an_envoy", Some(PASSWORD), &[])
    else {
        return;
    };
    let denies = |config: &mut Value| config["on_store_failure"] = json!("deny");
    let fleet = Fleet::of_each_kind(&redis, denies).await;
    let (living, dying) = fleet.0.split_at(2);
    let (mut held, mut lost) = (Held::default(), Held::default());
    let since = Instant::now();
    let most_of = |budget: &str| {
        let earned = since.elapsed().as_secs_f64() / 60.0 * FIT as f64;
        if is_bucket(budget) { FIT + earned.ceil() as usize } else { FIT }
    };
    let is_asked_for = async |more: usize| {
        let before = fleet.received();
        until(|| if fleet.received() >= before + more { Ok(()) } else { Err("it is not asked".to_owned()) })
            .await;
    };

    // Redis dies under 360 requests, and comes back with what it has written down.
    let mut ask = |each: usize| {
        held.ask(living, &KINDS, each);
        lost.ask(dying, &KINDS, each);
    };
    ask(3);
    is_asked_for(KINDS.len()).await;
    redis.kill();
    ask(3);
    redis.restart().unwrap();
    ask(4);
    held.are_decided(living).await;
    lost.are_decided(dying).await;
    // Whom a busy machine kept from the store for three seconds may have spent what others were granted.
    let was_exact = lapses(&redis) == 0;
    for budget in budgets() {
        let (admitted, most) = (fleet.received_of(budget), most_of(budget));
        assert!(admitted <= most || !was_exact, "{budget}: {admitted}, expected no more than {most}");
    }
    // Nothing was charged twice, and nothing was forgotten.
    all_is_booked(&redis, &fleet).await;

    // An Envoy dies under 108 more. What it has told stays spent; and what it was asked since, if it has told that.
    let told: BTreeMap<_, _> =
        budgets().into_iter().map(|budget| (budget, received_of(&dying[0], budget))).collect();
    lost.ask(dying, &KINDS, LAST);
    held.ask(living, &KINDS, LAST);
    is_asked_for(1).await;
    kill(&dying[0]);
    let admitted = |budget: &str| living.iter().map(|gateway| received_of(gateway, budget)).sum::<usize>();
    let has_all = |budget: &str| match budget {
        _ if is_bucket(budget) => admitted(budget) + told[budget] + 2 * LAST >= FIT,
        // Its places are free again.
        _ if has_places(budget) => admitted(budget) >= FIT,
        _ => is_used_up(&redis, budget),
    };
    held.use_up(living, has_all).await;
    held.ask(living, &KINDS, 1);
    held.are_decided(living).await;
    // The dead one has lapsed once for each budget.
    let is_exact = was_exact && lapses(&redis) <= budgets().len();
    for budget in budgets() {
        let (admitted, told) = (admitted(budget), told[budget]);
        let (least, most) = match budget {
            _ if has_places(budget) => (FIT, FIT),
            // The two clients of a group ask for the same.
            _ => (FIT.saturating_sub(told + 2 * LAST), most_of(budget).saturating_sub(told)),
        };
        let most = if is_exact { most } else { usize::MAX };
        assert!((least..=most).contains(&admitted), "{budget}: {admitted}, expected {least} to {most}");
    }
}
