//! Do several Envoys share one budget, exactly, whatever dies?

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate::capacity::shared as capacity;
use tollgate::gateway::{CAPACITY_SHA1, PAUSES_SHA1, SCRIPT_SHA1, SPEND_SHA1};
use tollgate::limits::leases::SCRIPT;
use tollgate::resp::Reply;
use tollgate::route;
use tollgate::spending;
use tollgate_tests::harness::{Answer, Gateway, Redis};
use tollgate_tests::mock::{Fault, Settings};

use crate::fleets::{
    FIT, Fleet, Held, KINDS, PASSWORD, RECLAIMED_WITHIN, all_is_told, begins_anew, booked, budget_of,
    charged, client, lapses, small_chat, until, until_async, used_of,
};
use crate::requests::{CHAT, prompt_estimate};

#[tokio::test]
async fn three_envoys_admit_what_one_budget_holds_of_each_kind() {
    let Some(redis) =
        Redis::or_skip("three_envoys_admit_what_one_budget_holds_of_each_kind", Some(PASSWORD), &[])
    else {
        return;
    };
    // Who shares while a busy machine keeps the store from answering has more places than there are: they are rounded up.
    let denies = |config: &mut Value| config["on_store_failure"] = json!("deny");
    let fleet = Fleet::of_each_kind(&redis, denies).await;
    let before = Instant::now();
    let mut held = Held::default();
    held.ask(&fleet.0, &KINDS, 10);
    held.use_up(&fleet.0, |budget| fleet.received_of(budget) >= FIT).await;
    let earned = before.elapsed().as_secs_f64() / 60.0 * FIT as f64;
    // Whom a busy machine kept from the store for three seconds may have spent what others were granted.
    let is_exact = lapses(&redis) == 0;
    for budget in KINDS.map(budget_of) {
        let most = match budget {
            _ if !is_exact => usize::MAX,
            _ if budget.ends_with("minute") => FIT + earned.ceil() as usize,
            _ => FIT,
        };
        let admitted = fleet.received_of(budget);
        assert!((FIT..=most).contains(&admitted), "{budget}: {admitted}, expected {FIT} to {most}");
    }
    fleet.release();
    held.are_answered().await;
    // Places are free again, at every Envoy.
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    while fleet.admitted("concurrent", 10, &[429, 503]).await < 30 {
        assert!(Instant::now() < deadline, "places are missing");
    }
}

#[test]
fn the_store_knows_each_script_by_its_name() {
    let Some(redis) = Redis::or_skip("the_store_knows_each_script_by_its_name", Some(PASSWORD), &[]) else {
        return;
    };
    let scripts = [
        (SCRIPT, SCRIPT_SHA1),
        (route::SCRIPT, PAUSES_SHA1),
        (capacity::SCRIPT, CAPACITY_SHA1),
        (spending::SCRIPT, SPEND_SHA1),
    ];
    for (script, name) in scripts {
        assert_eq!(redis.ask(&["SCRIPT", "LOAD", script]).unwrap(), Reply::Bulk(name.into()));
    }
}

#[tokio::test]
async fn a_month_goes_on_when_all_envoys_are_new() {
    let Some(redis) = Redis::or_skip("a_month_goes_on_when_all_envoys_are_new", Some(PASSWORD), &[]) else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("monthly", json!([ { "requests": 20, "per": "month" } ]))]);
        config["on_store_failure"] = json!("deny");
    };
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    let served = fleet.serve("monthly", 6).await;
    charged(&redis, "tollgate:{client/monthly}", served).await;
    drop(fleet);
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    fleet.use_up(&redis, "monthly", (served, 20), &[429, 503]).await;
}

#[tokio::test]
async fn a_refund_after_its_windows_end_changes_nothing() {
    const USED_SINCE: usize = 500;
    let Some(redis) = Redis::or_skip("a_refund_after_its_windows_end_changes_nothing", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "tokens": 100_000, "per": "day" } ]))]);
        config["on_store_failure"] = json!("deny");
    };
    let hold = Settings { hold: true, ..Settings::default() };
    let fleet = Fleet::start(&redis, 1, config, &hold).await;
    let mut held = Held::default();
    held.ask(&fleet.0, &["daily"], 1);
    held.are_decided(&fleet.0).await;
    let daily = "tollgate:{client/daily}";
    let reserved = prompt_estimate(&small_chat()) + 10;
    charged(&redis, daily, usize::try_from(reserved).unwrap()).await;
    // The day ends, and others use some of the next one.
    begins_anew(&redis, daily, 86_400, USED_SINCE);
    all_is_told(&fleet.0[0]).await;
    // It has cost less than was reserved, of a day that is over.
    fleet.release();
    held.are_answered().await;
    all_is_told(&fleet.0[0]).await;
    charged(&redis, daily, USED_SINCE).await;
    // The next one is charged.
    assert_eq!(fleet.serve("daily", 1).await, 1);
    until(|| match used_of(&redis, daily) {
        used if used > USED_SINCE => Ok(()),
        used => Err(format!("{used} are used")),
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_dies_loses_no_budget_and_gives_none_twice() {
    let Some(mut redis) =
        Redis::or_skip("a_redis_that_dies_loses_no_budget_and_gives_none_twice", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "requests": 120, "per": "day" } ]))]);
        config["on_store_failure"] = json!("deny");
    };
    let fleet = Fleet::start(&redis, 3, config, &Settings::default()).await;
    let mut admitted = fleet.serve("daily", 10).await;
    let load = fleet.ask("daily", 20);
    redis.kill();
    admitted += load.join_all().await.iter().filter(|answer| answer.status == 200).count();
    admitted += fleet.admitted("daily", 5, &[429, 503]).await;
    redis.restart().unwrap();
    fleet.use_up(&redis, "daily", (admitted, 120), &[429, 503]).await;
}

#[tokio::test]
async fn what_is_shared_without_a_store_is_charged_when_it_is_back() {
    let Some(mut redis) =
        Redis::or_skip("what_is_shared_without_a_store_is_charged_when_it_is_back", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "requests": 120, "per": "day" } ]))]);
    };
    let fleet = Fleet::start(&redis, 3, config, &Settings::default()).await;
    let mut admitted = fleet.admitted("daily", 4, &[]).await;
    fleet.settled(&redis, "daily", 12).await;
    redis.kill();
    // Each has its part, and no more: all of it together is what was left.
    for _ in 0..4 {
        admitted += fleet.admitted("daily", 15, &[429]).await;
    }
    assert!((13..=120).contains(&admitted), "{admitted}");
    redis.restart().unwrap();
    // Until each has said what it owes, the store does not know of it.
    charged(&redis, "tollgate:{client/daily}", admitted).await;
    fleet.use_up(&redis, "daily", (admitted, 120), &[429]).await;
}

#[tokio::test]
async fn the_places_of_an_envoy_that_is_killed_are_free_again() {
    let Some(redis) =
        Redis::or_skip("the_places_of_an_envoy_that_is_killed_are_free_again", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("few", json!([ { "concurrent": 6 } ]))]);
    };
    // Who shares a store that seems gone on a busy machine has places that are not there.
    let denies = |whole: &mut Value| {
        config(whole);
        whole["on_store_failure"] = json!("deny");
    };
    let hold = Settings { hold: true, ..Settings::default() };
    let mut dying = Fleet::start(&redis, 1, config, &hold).await;
    let fleet = Fleet::start(&redis, 1, denies, &hold).await;
    let mut held = dying.ask("few", 6);
    dying.0[0].mock("ptu").wait_for_requests(6).await;
    until(|| {
        let used = booked(&redis, "client/few");
        if used >= FIT as f64 { Ok(()) } else { Err(format!("{used} of {FIT} parts are used")) }
    })
    .await;
    assert_eq!(fleet.admitted("few", 2, &[429, 503]).await, 0);
    drop(dying.0.pop());
    held.abort_all();
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    let mut kept = Vec::new();
    while fleet.received() < 6 {
        assert!(Instant::now() < deadline, "{} of 6 places", fleet.received());
        let (before, count) = (fleet.received(), 6 - fleet.received());
        let (mut asked, mut refused) = (fleet.ask("few", count), 0);
        while fleet.received() - before + refused < count {
            if let Some(answer) = asked.try_join_next() {
                let answer = answer.unwrap();
                assert!([429, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
                refused += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        kept.push(asked);
    }
    fleet.release();
    for asked in kept {
        assert!(asked.join_all().await.iter().all(|answer| answer.status == 200));
    }
}

#[tokio::test]
async fn what_an_envoy_does_not_need_goes_to_who_lacks_it() {
    let Some(redis) = Redis::or_skip("what_an_envoy_does_not_need_goes_to_who_lacks_it", Some(PASSWORD), &[])
    else {
        return;
    };
    let tokens = (prompt_estimate(&small_chat()) + 10) * FIT as u64;
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "tokens": tokens, "per": "day" } ]))]);
        // Who shared a store that seems gone would need nothing back.
        config["on_store_failure"] = json!("deny");
    };
    let hold = Settings { hold: true, ..Settings::default() };
    let fleet = Fleet::start(&redis, 2, config, &hold).await;
    let [holds, lacks] = &fleet.0[..] else { panic!("two") };
    // One holds a quarter of it, and is asked all the time, but what it is asked costs nothing.
    let refused = Fault::answer(400).always();
    holds
        .mock("ptu")
        .update(|settings| *settings = Settings { faults: [refused].into(), ..Settings::default() });
    let uses_nothing = async || {
        let answer = holds.post(CHAT, "daily", &small_chat()).await.unwrap();
        assert!([400, 429, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
    };
    uses_nothing().await;
    let mut held = Held::default();
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    // What one request needs is left to the other.
    while lacks.mock("ptu").received().len() < FIT - 4 {
        assert!(Instant::now() < deadline, "the other keeps what it does not need");
        held.ask(&fleet.0[1..], &["daily"], 4);
        let uses_nothing = async {
            for _ in 0..4 {
                uses_nothing().await;
            }
        };
        tokio::join!(held.are_decided(&fleet.0[1..]), uses_nothing);
    }
    until_async(async || {
        let waits = lacks.metric("tollgate_store_waited_requests", &[]).await.unwrap();
        let recalls = holds.metric("tollgate_store_recalls", &[]).await.unwrap();
        if waits > 0.0 && recalls > 0.0 { Ok(()) } else { Err(format!("{waits} waits, {recalls} recalls")) }
    })
    .await;
}

#[tokio::test]
async fn a_pause_that_one_envoy_is_told_holds_for_all() {
    let Some(redis) = Redis::or_skip("a_pause_that_one_envoy_is_told_holds_for_all", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "requests": 100000, "per": "day" } ]))]);
    };
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    let [told, hears] = &fleet.0[..] else { panic!("two") };
    // Each has backends of its own, and that of the other is not busy: so it knows by the store alone.
    let busy = Fault::answer(429).header("retry-after", "300").always();
    told.mock("ptu").update(|settings| settings.faults = [busy].into());
    let is_served_by_ptu = async |gateway: &Gateway| {
        let before = gateway.mock("ptu").received().len();
        assert_eq!(gateway.post(CHAT, "daily", &small_chat()).await.unwrap().status, 200);
        gateway.mock("ptu").received().len() > before
    };
    assert!(is_served_by_ptu(hears).await);
    assert!(is_served_by_ptu(told).await, "it is asked, and refuses");
    let deadline = Instant::now() + RECLAIMED_WITHIN / 2;
    while is_served_by_ptu(hears).await {
        assert!(Instant::now() < deadline, "nobody has told it");
    }
    assert!(!is_served_by_ptu(hears).await);
}

#[tokio::test]
async fn an_operators_order_that_one_envoy_is_told_holds_for_all() {
    let Some(redis) =
        Redis::or_skip("an_operators_order_that_one_envoy_is_told_holds_for_all", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        let mut daily = client("daily", json!([ { "requests": 1000000, "per": "day" } ]));
        daily["operator"] = json!(true);
        config["clients"] = json!([daily]);
    };
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    let [told, hears] = &fleet.0[..] else { panic!("two") };
    let order = async |gateway: &Gateway, method: &str, query: &str, body: Value| {
        let url = format!("{}/tollgate/v1/order{query}", gateway.url());
        let request = gateway.http().request(method.parse().unwrap(), url).bearer_auth("daily");
        let answer = Answer::read(request.json(&body).send().await.unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    // Who serves asks the store, and hears what the others have said.
    let until_first_is = async |gateway: &Gateway, backend: &str| {
        let deadline = Instant::now() + RECLAIMED_WITHIN / 2;
        loop {
            let before = gateway.mock(backend).received().len();
            assert_eq!(gateway.post(CHAT, "daily", &small_chat()).await.unwrap().status, 200);
            if gateway.mock(backend).received().len() > before {
                return;
            }
            assert!(Instant::now() < deadline, "nobody has told it of {backend}");
        }
    };
    until_first_is(hears, "ptu").await;
    let body = |backend: &str| json!({ "model": "gpt-4o", "order": [backend], "for_s": 3600 });
    order(told, "POST", "", body("payg-b")).await;
    until_first_is(hears, "payg-b").await;
    // The other takes its place, for both.
    order(hears, "POST", "", body("payg-a")).await;
    until_first_is(told, "payg-a").await;
    // And the first ends it.
    order(told, "DELETE", "?model=gpt-4o", json!({})).await;
    until_first_is(hears, "ptu").await;
    until_first_is(told, "ptu").await;
}

#[tokio::test]
async fn envoys_together_send_no_more_than_a_backend_takes() {
    let Some(redis) =
        Redis::or_skip("envoys_together_send_no_more_than_a_backend_takes", Some(PASSWORD), &[])
    else {
        return;
    };
    const FITS: usize = 6;
    let config = |config: &mut Value| {
        // Nothing that this is about is a client's: who has no limits tells and hears of capacity all the same.
        config["clients"] = json!([client("any", json!([]))]);
        let of_one = prompt_estimate(&small_chat()) + 10;
        config["priorities"] = json!({ "normal": { "headroom_min": 0 } });
        config["models"] =
            json!([ { "name": "gpt-4o", "backends": [ { "backend": "ptu" }, { "backend": "payg-b" } ] } ]);
        let credential = |env: &str| json!({ "header": "api-key", "env": env });
        config["backends"] = json!([
            { "name": "ptu", "cluster": "ptu", "style": "azure-v1", "credential": credential("PTU_KEY"),
              "tokens_per_minute": of_one * FITS as u64 + of_one / 2 },
            { "name": "payg-b", "cluster": "payg-b", "style": "openai", "credential": credential("PAYG_B_KEY") },
        ]);
    };
    let fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    let [first, second] = &fleet.0[..] else { panic!("two") };
    let at_ptu = |gateway: &Gateway| gateway.mock("ptu").received().len();
    let ask = async |gateway: &Gateway| {
        assert_eq!(gateway.post(CHAT, "any", &small_chat()).await.unwrap().status, 200);
    };
    ask(second).await;
    all_is_told(second).await;
    ask(first).await;
    all_is_told(first).await;
    for _ in 0..FITS {
        ask(first).await;
    }
    assert_eq!((at_ptu(first), at_ptu(second)), (FITS - 1, 1), "all but what the second uses");
    all_is_told(first).await;
    all_is_told(second).await;
    for _ in 0..FITS {
        ask(second).await;
    }
    assert_eq!((at_ptu(first), at_ptu(second)), (FITS - 1, 1), "the second knows that it is full");
    assert!(second.mock("payg-b").received().len() >= FITS, "the rest goes to the next backend");
}
