//! What does an Envoy do, and say, when its fleet's store cannot be used?

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tollgate_tests::harness::{Gateway, Redis, Setup};
use tollgate_tests::mock::{Mock, Settings};

use crate::requests::{CHAT, WEB_SHOP, chat, refusal};

const PASSWORD: &str = "a password";

/// More than anything takes here.
const PATIENCE: Duration = Duration::from_secs(180);

/// An Envoy that refuses what it cannot ask the store for, unless something else is said.
fn setup(store: SocketAddr, password: &str, on_failure: &'static str) -> Setup {
    Setup::new().redis(store, password).workers(1).edit(move |config| {
        config["clients"][0]["limits"] = json!([ { "requests": 5, "per": "day" } ]);
        config["on_store_failure"] = json!(on_failure);
        // So that a busy machine is not taken for a store that is gone.
        config["store"]["redis"]["timeout_ms"] = json!(4000);
    })
}

async fn asked_in_vain(gateway: &Gateway) {
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    let message = "The gateway cannot check this client's budget right now.";
    let expected = refusal(message, "server_error", None, "store_unavailable");
    assert_eq!((answer.status, answer.json()), (503, expected));
}

/// Waits until it is: a worker's counters reach the page a moment after its answer.
async fn counted(gateway: &Gateway, outcome: &str) {
    let deadline = Instant::now() + PATIENCE;
    let labels = [("outcome", outcome)];
    while gateway.metric("tollgate_store_uncovered_requests", &labels).await.unwrap() == 0.0 {
        assert!(Instant::now() < deadline, "none was {outcome}");
    }
}

#[tokio::test]
async fn each_trouble_of_a_store_has_a_name() {
    let of_kind =
        |words: &[&str]| Redis::or_skip("each_trouble_of_a_store_has_a_name", Some(PASSWORD), words);
    let replica_of_nobody = ["--replicaof", "127.0.0.1", "1"];
    let (Some(mut gone), Some(plain), Some(full), Some(replica), Some(newer), Some(stale), Some(strict)) = (
        of_kind(&[]),
        of_kind(&[]),
        of_kind(&["--maxmemory", "1"]),
        of_kind(&replica_of_nobody),
        of_kind(&[]),
        of_kind(&replica_of_nobody),
        of_kind(&[]),
    ) else {
        return;
    };
    gone.kill();
    newer.ask(&["HSET", "tollgate:{client/web-shop}", "v", "9"]).unwrap();
    // Later than its start, for it would not even say that it runs.
    stale.ask(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).unwrap();
    strict.ask(&["ACL", "SETUSER", "default", "-evalsha"]).unwrap();
    let no_redis = Mock::start("no-redis", Settings::default()).await.unwrap();
    let troubles = [
        ("unreached", gone.address(), PASSWORD),
        ("credentials", plain.address(), "another password"),
        ("full", full.address(), PASSWORD),
        ("read_only", replica.address(), PASSWORD),
        ("version", newer.address(), PASSWORD),
        ("loading", stale.address(), PASSWORD),
        ("refused", strict.address(), PASSWORD),
        ("garbled", no_redis.addr(), PASSWORD),
    ];
    join_all(troubles.map(async |(outcome, store, password)| {
        let gateway = Gateway::start(setup(store, password, "deny")).await.unwrap();
        // Where it takes too long once, it is unreached that time.
        let deadline = Instant::now() + PATIENCE;
        let calls = [("outcome", outcome)];
        while gateway.metric("tollgate_store_calls", &calls).await.unwrap() == 0.0 {
            assert!(Instant::now() < deadline, "no call is {outcome}: {}", gateway.log_text().unwrap());
            asked_in_vain(&gateway).await;
        }
        counted(&gateway, "denied").await;
        let said = "the fleet's store cannot be used (";
        assert!(gateway.log_text().unwrap().contains(said), "{outcome}");
    }))
    .await;
}

#[tokio::test]
async fn pauses_that_cannot_be_shared_stop_no_budget() {
    let Some(redis) = Redis::or_skip("pauses_that_cannot_be_shared_stop_no_budget", Some(PASSWORD), &[])
    else {
        return;
    };
    // The keys of accounts, and not that of pauses.
    redis.ask(&["ACL", "SETUSER", "default", "resetkeys", "~tollgate:{*"]).unwrap();
    let gateway = Gateway::start(setup(redis.address(), PASSWORD, "deny")).await.unwrap();
    let ask = async || gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status;
    assert_eq!(ask().await, 200);
    let (deadline, calls) = (Instant::now() + PATIENCE, [("outcome", "no_pauses")]);
    while gateway.metric("tollgate_store_calls", &calls).await.unwrap() == 0.0 {
        assert!(Instant::now() < deadline, "no call is no_pauses: {}", gateway.log_text().unwrap());
    }
    assert_eq!(ask().await, 200);
}

#[tokio::test]
async fn a_capacity_that_cannot_be_shared_stops_no_budget() {
    let Some(redis) = Redis::or_skip("a_capacity_that_cannot_be_shared_stops_no_budget", Some(PASSWORD), &[])
    else {
        return;
    };
    // The keys of clients' accounts, and not those of capacity.
    redis.ask(&["ACL", "SETUSER", "default", "resetkeys", "~tollgate:{client/*"]).unwrap();
    let setup = setup(redis.address(), PASSWORD, "deny").edit(|config| {
        for backend in config["backends"].as_array_mut().unwrap() {
            backend["tokens_per_minute"] = json!(1_000_000);
        }
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let ask = async || gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status;
    assert_eq!(ask().await, 200);
    let (deadline, calls) = (Instant::now() + PATIENCE, [("outcome", "no_capacity")]);
    while gateway.metric("tollgate_store_calls", &calls).await.unwrap() == 0.0 {
        assert!(Instant::now() < deadline, "no call is no_capacity: {}", gateway.log_text().unwrap());
    }
    assert_eq!(ask().await, 200);
}

#[tokio::test]
async fn what_is_not_there_at_the_start_is_done_without() {
    let Some(mut redis) =
        Redis::or_skip("what_is_not_there_at_the_start_is_done_without", Some(PASSWORD), &[])
    else {
        return;
    };
    redis.kill();
    // Of five that a day has: all, where nobody else is known; the half of two; or more, and all of them are owed.
    for (on_failure, envoys, served, outcome) in
        [("share", 1, 5, "shared"), ("share", 2, 2, "shared"), ("allow", 2, 8, "allowed")]
    {
        let setup = setup(redis.address(), PASSWORD, on_failure)
            .edit(move |config| config["store"]["envoys"] = json!(envoys));
        let gateway = Gateway::start(setup).await.unwrap();
        for at in 0..8 {
            let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
            assert_eq!(answer.status, if at < served { 200 } else { 429 }, "{on_failure} {envoys} {at}");
        }
        counted(&gateway, outcome).await;
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_used_again() {
    let Some(redis) = Redis::or_skip("a_store_that_hangs_is_used_again", Some(PASSWORD), &[]) else { return };
    let gateway = Gateway::start(setup(redis.address(), PASSWORD, "deny")).await.unwrap();
    redis.signal("STOP").unwrap();
    asked_in_vain(&gateway).await;
    gateway.wait_for_metric("tollgate_store_waited_requests", &[], 1.0).await.unwrap();
    redis.signal("CONT").unwrap();
    // Those that were refused meanwhile cost nothing: five are there, if perhaps not at once.
    let (mut served, deadline) = (0, Instant::now() + PATIENCE);
    while served < 5 {
        assert!(Instant::now() < deadline, "{served} of 5");
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        assert!([200, 429, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        served += usize::from(answer.status == 200);
    }
    assert_ne!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
}
