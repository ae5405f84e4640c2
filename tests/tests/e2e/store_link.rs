//! What becomes of budgets, and of those who wait, when the network before the fleet's store fails, or the store forgets?

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Gateway, Link, LinkFault, Redis};
use tollgate_tests::mock::Settings;

use crate::deaf::Deaf;
use crate::fleets::{
    Fleet, Held, PASSWORD, RECLAIMED_WITHIN, charged, client, lapses, received_from, told_in_time, until,
    until_async,
};

/// How many requests each client may make in a day.
const DAILY: usize = 60;

/// What goes wrong; the outcome that calls have; and whether the store carries out what nobody hears the answer of.
const FAULTS: [(&str, LinkFault, &str, bool); 5] = [
    ("slow", LinkFault::Slow(Duration::from_millis(40)), "ok", false),
    ("too-slow", LinkFault::Slow(Duration::from_secs(2)), "unreached", false),
    ("half-open", LinkFault::Silent, "unreached", false),
    ("cut-off", LinkFault::NoAnswer, "unreached", true),
    ("cut-short", LinkFault::CutAnswer(10), "garbled", true),
];

async fn calls(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("tollgate_store_calls", &[("outcome", outcome)]).await.unwrap()
}

/// Asks one request after another until one has this status; answers how many were served before.
async fn served_until(fleet: &Fleet, key: &str, status: u16) -> usize {
    let mut served = 0;
    until_async(async || {
        let answer = fleet.ask(key, 1).join_all().await.remove(0);
        served += usize::from(answer.status == 200);
        if answer.status == status { Ok(()) } else { Err(format!("{served} served, then {}", answer.status)) }
    })
    .await;
    served
}

/// One Envoy and a link that fails in each way, one after another.
async fn check_faults(redis: &Redis, on_failure: &str) {
    let link = Link::start(redis.address()).await.unwrap();
    let config = |config: &mut Value| {
        let daily = json!([ { "requests": DAILY, "per": "day" } ]);
        config["clients"] = json!(FAULTS.map(|(name, ..)| client(name, daily.clone())));
        config["store"]["redis"]["prefix"] = json!(on_failure);
        config["store"]["redis"]["timeout_ms"] = json!(1000);
        config["on_store_failure"] = json!(on_failure);
    };
    let fleet = Fleet::start_at(link.address(), 1, config, &Settings::default()).await;
    let gateway = &fleet.0[0];
    for (name, fault, outcome, is_done) in FAULTS {
        let mut served = fleet.serve(name, 4).await;
        let (lost, outcomes) = (link.answers_lost(), calls(gateway, outcome).await);
        let waited = gateway.metric("tollgate_store_ms_sum", &[]).await.unwrap();
        link.fails(fault);
        // Each gets an answer, whatever never comes. Who shares spends its part, which is what nobody holds.
        let refusal = if on_failure == "deny" && outcome != "ok" { 503 } else { 429 };
        served += served_until(&fleet, name, refusal).await;
        assert!(served <= DAILY, "{name}: {served}");
        until_async(async || {
            let counted = calls(gateway, outcome).await > outcomes;
            if counted { Ok(()) } else { Err(format!("no call of {name} is {outcome}")) }
        })
        .await;
        if is_done {
            until(|| if link.answers_lost() > lost { Ok(()) } else { Err(name.to_owned()) }).await;
        }
        if outcome == "ok" {
            // There and back, as Envoy's histogram rounds it; its page is some seconds behind.
            until_async(async || {
                let took = gateway.metric("tollgate_store_ms_sum", &[]).await.unwrap() - waited;
                if took >= 75.0 { Ok(()) } else { Err(format!("{name}: {took} ms")) }
            })
            .await;
        }
        link.fails(LinkFault::None);
        // What was done and not heard is charged once, and what was not done is not lost.
        let used = fleet.use_up(redis, name, (served, DAILY), &[429, 503]).await;
        charged(redis, &format!("{on_failure}:{{client/{name}}}"), used).await;
    }
}

#[tokio::test]
async fn whatever_the_network_loses_is_charged_once() {
    let Some(redis) = Redis::or_skip("whatever_the_network_loses_is_charged_once", Some(PASSWORD), &[])
    else {
        return;
    };
    join_all(["deny", "share"].map(|on_failure| check_faults(&redis, on_failure))).await;
}

/// One that answers no attempt to connect, as where a firewall drops them.
#[tokio::test]
async fn an_address_that_lets_nobody_connect_holds_nobody() {
    let deaf = Deaf::new().await;
    let config = |on_failure: &'static str| {
        move |config: &mut Value| {
            config["clients"] = json!([client("web", json!([ { "requests": DAILY, "per": "day" } ]))]);
            config["on_store_failure"] = json!(on_failure);
        }
    };
    let settings = Settings::default();
    let fleets =
        ["deny", "share"].map(|on_failure| Fleet::start_at(deaf.address, 1, config(on_failure), &settings));
    for (fleet, status) in join_all(fleets).await.iter().zip([503, 200]) {
        let answers = fleet.ask("web", 3).join_all().await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status; 3]);
        assert!(calls(&fleet.0[0], "unreached").await > 0.0);
    }
}

/// A budget of a day, and one of places.
fn days_and_places(config: &mut Value) {
    config["clients"] = json!([
        client("daily", json!([ { "requests": DAILY, "per": "day" } ])),
        client("few", json!([ { "concurrent": 6 } ])),
    ]);
    config["on_store_failure"] = json!("deny");
}

/// Waits until an Envoy has said that the store has lost what it had told.
async fn loss_is_told(fleet: &Fleet) {
    until_async(async || {
        let told = fleet.0.iter().map(|gateway| gateway.metric("tollgate_store_losses", &[]));
        let told: f64 = join_all(told).await.into_iter().map(Result::unwrap).sum();
        if told > 0.0 { Ok(()) } else { Err("nobody tells of a loss".to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn what_a_replica_lacks_of_a_day_is_told_to_it() {
    let test = "what_a_replica_lacks_of_a_day_is_told_to_it";
    let Some(mut primary) = Redis::or_skip(test, Some(PASSWORD), &[]) else { return };
    let port = primary.address().port().to_string();
    let of_primary = ["--replicaof", "127.0.0.1", &port, "--masterauth", PASSWORD];
    let Some(replica) = Redis::or_skip(test, Some(PASSWORD), &of_primary) else { return };
    let link = Link::start(primary.address()).await.unwrap();
    let fleet = Fleet::start_at(link.address(), 2, days_and_places, &Settings::default()).await;
    let daily = "tollgate:{client/daily}";
    let mut admitted = fleet.serve("daily", 10).await;
    charged(&primary, daily, admitted).await;
    // The replica has all that, and nothing that follows.
    charged(&replica, daily, admitted).await;
    replica.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    admitted += fleet.serve("daily", 5).await;
    charged(&primary, daily, admitted).await;

    // It is asked before it takes writes.
    link.leads_to(replica.address());
    primary.kill();
    admitted += fleet.admitted("daily", 4, &[429, 503]).await;
    for gateway in &fleet.0 {
        until_async(async || {
            if calls(gateway, "read_only").await > 0.0 {
                Ok(())
            } else {
                Err("no call is refused".to_owned())
            }
        })
        .await;
    }
    replica.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    // What was lost is told to it, and what was spent since. Before an Envoy has done so, another may be granted it on a machine
    // on which that takes longer than half a second.
    charged(&replica, daily, admitted).await;
    replica.ask(&["CONFIG", "RESETSTAT"]).unwrap();
    let used = fleet.use_up(&replica, "daily", (admitted, DAILY), &[429, 503]).await;
    charged(&replica, daily, used).await;
    loss_is_told(&fleet).await;
}

#[tokio::test]
async fn a_store_that_is_emptied_under_load_gives_nothing_twice() {
    let test = "a_store_that_is_emptied_under_load_gives_nothing_twice";
    let Some(redis) = Redis::or_skip(test, Some(PASSWORD), &[]) else { return };
    let hold = Settings { hold: true, ..Settings::default() };
    let fleet = Fleet::start(&redis, 2, days_and_places, &hold).await;
    // One has four of six places, and the other knows of that.
    let (one, other) = fleet.0.split_at(1);
    let (mut ones, mut others) = (Held::default(), Held::default());
    ones.ask(one, &["few"], 4);
    ones.are_decided(one).await;
    others.ask(other, &["few"], 1);
    others.are_decided(other).await;
    others.ask(other, &["daily"], 2);
    ones.ask(one, &["daily"], 20);
    assert_eq!(redis.ask(&["FLUSHALL"]).unwrap(), Reply::Simple("OK".into()));
    others.ask(other, &["daily"], 20);
    others.ask(other, &["few"], 6);
    let is_in_time = told_in_time(&redis, "tollgate:{client/few}", 2).await;
    let deadline = Instant::now() + RECLAIMED_WITHIN;
    let all = |key: &str| fleet.0.iter().map(|gateway| received_from(gateway, key)).sum::<usize>();
    loop {
        ones.are_decided(one).await;
        others.are_decided(other).await;
        // Places of which a busy machine lets an Envoy tell too late may be granted again.
        let is_exact = is_in_time && lapses(&redis) == 0;
        let (few, daily) = (all("few"), all("daily"));
        assert!(few <= 6 || !is_exact, "{few} of 6 places are used");
        assert!(daily <= DAILY || !is_exact, "{daily} of {DAILY}");
        if few >= 6 && daily >= DAILY {
            break;
        }
        assert!(Instant::now() < deadline, "{few} of 6 places, {daily} of {DAILY}");
        others.ask(other, &["few"], 1);
        ones.ask(one, &["daily"], 4);
    }
    loss_is_told(&fleet).await;
}
