//! What becomes of an Envoy's leases, places and requests under way when it ends in order, and of the capacity that it used?

use std::process::Command;

use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Gateway, Redis};
use tollgate_tests::mock::Settings;

use crate::fleet_moves::is_spent;
use crate::fleets::{
    FIT, Fleet, Held, PASSWORD, all_is_told, booked, client, last_replies, small_chat, until, until_async,
    used_of,
};
use crate::requests::{CHAT, prompt_estimate, with};

fn signal(gateway: &Gateway, signal: &str) {
    let sent = Command::new("kill").args([signal, &gateway.pid().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Ends it, and waits until it has ended.
async fn end(mut gateway: Gateway, by: &str) -> Gateway {
    signal(&gateway, by);
    until(|| if gateway.check_alive().is_err() { Ok(()) } else { Err("Envoy runs on".to_owned()) }).await;
    gateway
}

/// How much all Envoys hold of an account's only limit, as the store has told last.
fn held_of(redis: &Redis, key: &str) -> i64 {
    last_replies(&redis.ask(&["HGETALL", key]).unwrap()).iter().max().map_or(0, |reply| reply[6])
}

fn at_ptu(gateway: &Gateway) -> usize {
    gateway.mock("ptu").received().len()
}

#[tokio::test]
async fn an_envoy_that_drains_gives_back_what_others_lack() {
    let Some(redis) = Redis::or_skip("an_envoy_that_drains_gives_back_what_others_lack", Some(PASSWORD), &[])
    else {
        return;
    };
    const PLACES: usize = 6;
    let config = |config: &mut Value| {
        config["clients"] = json!([client("few", json!([ { "concurrent": PLACES } ]))]);
        // Who shared a store that seems gone would need nothing back.
        config["on_store_failure"] = json!("deny");
    };
    let hold = Settings { hold: true, ..Settings::default() };
    let mut fleet = Fleet::start(&redis, 2, config, &hold).await;
    let living = Fleet(vec![fleet.0.pop().unwrap()]);
    let mut held = Held::default();
    held.ask(&fleet.0, &["few"], PLACES);
    held.are_decided(&fleet.0).await;
    until_async(async || {
        match at_ptu(&fleet.0[0]) {
            PLACES => return Ok(()),
            fewer => held.ask(&fleet.0, &["few"], PLACES - fewer),
        }
        held.are_decided(&fleet.0).await;
        Err(format!("{} of {PLACES} places are in use", at_ptu(&fleet.0[0])))
    })
    .await;
    until(|| match booked(&redis, "client/few") {
        used if used >= FIT as f64 => Ok(()),
        used => Err(format!("{used} of {FIT} parts are used")),
    })
    .await;
    assert_eq!(living.admitted("few", 2, &[429, 503]).await, 0);

    // It drains, and its requests end. Nothing of it is waited for: it calls on, and gives back what the other lacks.
    let drain = fleet.0[0].http().post(format!("{}/drain_listeners?graceful", fleet.0[0].admin_url()));
    assert!(drain.send().await.unwrap().status().is_success());
    fleet.release();
    held.are_answered().await;
    let mut held = Held::default();
    until_async(async || {
        held.ask(&living.0, &["few"], 1);
        held.are_decided(&living.0).await;
        let taken = at_ptu(&living.0[0]);
        if taken == PLACES { Ok(()) } else { Err(format!("{taken} of {PLACES} places")) }
    })
    .await;
    assert!(fleet.0[0].metric("tollgate_store_recalls", &[]).await.unwrap() > 0.0, "nobody asked it");

    end(fleet.0.remove(0), "-TERM").await;
    living.release();
    held.are_answered().await;
}

#[tokio::test]
async fn what_ends_with_its_envoy_is_charged_as_reserved() {
    let Some(redis) = Redis::or_skip("what_ends_with_its_envoy_is_charged_as_reserved", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([
            client("daily", json!([ { "tokens": 1_000_000, "per": "day" } ])),
            client("few", json!([ { "concurrent": 1 } ])),
        ]);
        config["on_store_failure"] = json!("deny");
        config["store"]["spend"] = json!({});
    };
    let half = Settings { hold_after_events: Some(3), ..Settings::default() };
    let mut fleet = Fleet::start(&redis, 2, config, &half).await;
    let living = Fleet(vec![fleet.0.pop().unwrap()]);
    let ending = fleet.0.pop().unwrap();
    let stream = with(small_chat(), json!({ "stream": true }));
    let streams = ["daily", "few"].map(|key| {
        let request = ending.http().post(format!("{}{CHAT}", ending.url())).bearer_auth(key).json(&stream);
        request.send()
    });
    let streams = futures_util::future::join_all(streams).await;
    all_is_told(&ending).await;
    let ending = end(ending, "-TERM").await;
    for stream in streams {
        let stream = stream.unwrap();
        assert_eq!(stream.status(), 200);
        assert!(stream.bytes().await.is_err(), "the client takes half an answer for a whole one");
    }
    // The log has what came of them.
    let log = ending.access_log().unwrap();
    let outcomes: Vec<_> = log.iter().map(|line| (&line["outcome"], &line["estimated"])).collect();
    assert_eq!(outcomes, [(&json!("client_gone"), &json!("true")); 2]);
    let reserved = usize::try_from(prompt_estimate(&small_chat()) + 10).unwrap();

    // Its place is another's, and what it had reserved is spent.
    living.0[0].mock("ptu").update(|settings| settings.hold_after_events = None);
    until_async(async || match living.admitted("few", 1, &[429, 503]).await {
        1 => Ok(()),
        _ => Err("its place is not free".to_owned()),
    })
    .await;
    assert_eq!(living.serve("daily", 1).await, 1);
    let of_living = living.0[0].mock("ptu").billed().pop().unwrap().usage.total();
    until(|| {
        let used = used_of(&redis, "tollgate:{client/daily}");
        let expected = reserved + of_living as usize;
        if used == expected {
            Ok(())
        } else {
            Err(format!("{used} are used, expected {expected} of them {reserved} reserved"))
        }
    })
    .await;
    // Of that nothing was told any more.
    is_spent(&redis, "tollgate", "daily", 1).await;
}

#[tokio::test]
async fn what_a_dead_envoy_used_of_a_backend_counts_for_others() {
    const FITS: usize = 6;
    const BY_DEAD: usize = 3;
    let name = "what_a_dead_envoy_used_of_a_backend_counts_for_others";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let config = |config: &mut Value| {
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
    let ask = async |gateway: &Gateway, times: usize| {
        for _ in 0..times {
            assert_eq!(gateway.post(CHAT, "any", &small_chat()).await.unwrap().status, 200);
        }
    };
    let mut fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    let living = fleet.0.pop().unwrap();
    let dying = fleet.0.pop().unwrap();
    ask(&dying, BY_DEAD).await;
    all_is_told(&dying).await;
    assert_eq!(at_ptu(&dying), BY_DEAD);
    end(dying, "-KILL").await;
    let Reply::Array(parts) = redis.ask(&["ZRANGE", "tollgate:{capacity}:holders", "0", "-1"]).unwrap()
    else {
        panic!("no parts")
    };
    let [Reply::Bulk(of_dead)] = &parts[..] else { panic!("{parts:?}") };

    // One that comes in its place hears of it too, with the first thing that it uses itself.
    let new = Fleet::start(&redis, 1, config, &Settings::default()).await.0.pop().unwrap();
    for gateway in [&living, &new] {
        ask(gateway, 1).await;
        all_is_told(gateway).await;
    }
    all_is_told(&living).await;
    ask(&living, FITS).await;
    all_is_told(&living).await;
    all_is_told(&new).await;
    ask(&new, FITS).await;
    assert_eq!((at_ptu(&living), at_ptu(&new)), (FITS - BY_DEAD - 1, 1), "all but what the dead one used");

    // Its window ends.
    let of_dead = String::from_utf8(of_dead.clone()).unwrap();
    redis.ask(&["ZADD", "tollgate:{capacity}:holders", "1", &of_dead]).unwrap();
    all_is_told(&living).await;
    all_is_told(&new).await;
    ask(&new, FITS).await;
    all_is_told(&new).await;
    all_is_told(&living).await;
    ask(&living, FITS).await;
    assert_eq!((at_ptu(&living), at_ptu(&new)), (FITS - BY_DEAD - 1, 1 + BY_DEAD), "and that, but once");
}

#[tokio::test]
async fn an_envoy_that_stood_still_does_not_spend_what_it_had() {
    const DAILY: usize = 40;
    let name = "an_envoy_that_stood_still_does_not_spend_what_it_had";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("daily", json!([ { "requests": DAILY, "per": "day" } ]))]);
        config["on_store_failure"] = json!("deny");
    };
    let mut fleet = Fleet::start(&redis, 2, config, &Settings::default()).await;
    let still = Fleet(vec![fleet.0.pop().unwrap()]);
    let mut admitted = still.serve("daily", 1).await;
    all_is_told(&still.0[0]).await;
    assert!(held_of(&redis, "tollgate:{client/daily}") > 0, "it holds nothing");
    signal(&still.0[0], "-STOP");
    // What it held is the other's, once it has not been heard of for as long as a lease lasts.
    until_async(async || {
        admitted += fleet.admitted("daily", 4, &[429, 503]).await;
        if admitted == DAILY { Ok(()) } else { Err(format!("{admitted} of {DAILY}")) }
    })
    .await;
    signal(&still.0[0], "-CONT");
    // And not its own any more.
    assert_eq!(still.admitted("daily", 8, &[429, 503]).await, 0);
    all_is_told(&still.0[0]).await;
    assert_eq!(still.admitted("daily", 8, &[429, 503]).await, 0);
    assert_eq!(used_of(&redis, "tollgate:{client/daily}"), DAILY);
}
