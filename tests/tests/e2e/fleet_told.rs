//! Is what clients and operators are told of a fleet's budgets the fleet's, and does what they do then come out so?

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Redis, tools};
use tollgate_tests::mock::Settings;

use crate::fleets::{Fleet, PASSWORD, charged, client, small_chat, until_async};
use crate::requests::CHAT;

const USAGE: &str = "/tollgate/v1/usage";

/// A fleet of so many, with one client that may make ten requests a day, and one that may make one a second.
async fn start(redis: &Redis, envoys: usize) -> Fleet {
    let config = |config: &mut Value| {
        config["clients"] = json!([
            client("few", json!([ { "requests": 10, "per": "day" } ])),
            client("slow", json!([ { "requests": 1, "per": "second" } ])),
        ]);
        config["on_store_failure"] = json!("deny");
    };
    Fleet::start(redis, envoys, config, &Settings::default()).await
}

/// What an Envoy tells a client of its only limit.
async fn told(gateway: &Gateway, key: &str) -> Value {
    let asked = gateway.http().get(format!("{}{USAGE}", gateway.url())).bearer_auth(key);
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    answer["limits"][0].clone()
}

/// Waits until each Envoy tells a client, and its operator by the gauge, that so much is used.
async fn all_tell(fleet: &Fleet, key: &str, used: u64) {
    let labels = [("client", key), ("limit", "requests/day")];
    for gateway in &fleet.0 {
        until_async(async || match told(gateway, key).await {
            told if told["used"] == used && told["remaining"] == 10 - used => Ok(()),
            told => Err(format!("{used} are used: {told}")),
        })
        .await;
        gateway.wait_for_metric("tollgate_limit_used", &labels, used as f64).await.unwrap();
    }
}

#[tokio::test]
async fn each_envoy_tells_what_the_whole_fleet_has_used() {
    let Some(redis) = Redis::or_skip("each_envoy_tells_what_the_whole_fleet_has_used", Some(PASSWORD), &[])
    else {
        return;
    };
    let fleet = start(&redis, 2).await;
    let [first, second] = &fleet.0[..] else { panic!("two") };
    assert_eq!(fleet.serve("few", 3).await, 6);
    charged(&redis, "tollgate:{client/few}", 6).await;
    all_tell(&fleet, "few", 6).await;
    // The headers of an answer too, with that request.
    for (gateway, left) in [(first, "3"), (second, "2")] {
        until_async(async || {
            let listed = gateway.http().get(format!("{}/v1/models", gateway.url())).bearer_auth("few");
            let listed = listed.send().await.unwrap();
            let before = listed.headers()["x-ratelimit-remaining-requests"].to_str().unwrap().parse::<u64>();
            let expected = left.parse::<u64>().unwrap() + 1;
            if before == Ok(expected) { Ok(()) } else { Err(format!("{before:?} are left, not {expected}")) }
        })
        .await;
        let answer = gateway.post(CHAT, "few", &small_chat()).await.unwrap();
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining-requests")), (200, left));
    }
}

#[tokio::test]
async fn what_an_operator_changes_is_in_force_at_every_envoy() {
    let Some(redis) =
        Redis::or_skip("what_an_operator_changes_is_in_force_at_every_envoy", Some(PASSWORD), &[])
    else {
        return;
    };
    let fleet = start(&redis, 2).await;
    fleet.use_up(&redis, "few", (0, 10), &[429, 503]).await;
    charged(&redis, "tollgate:{client/few}", 10).await;
    let budget = |words: &[&str]| {
        let mut command = Command::new(tools::tool().unwrap());
        command.arg("budget").args(words).args(["--client", "few", "--store", &redis.url()]);
        let output = command.env("REDIS_PASSWORD", PASSWORD).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    budget(&["reset"]);
    all_tell(&fleet, "few", 0).await;
    fleet.use_up(&redis, "few", (0, 10), &[429, 503]).await;
    charged(&redis, "tollgate:{client/few}", 10).await;
}

#[tokio::test]
async fn who_waits_as_long_as_told_is_admitted_by_a_fleet() {
    let Some(redis) = Redis::or_skip("who_waits_as_long_as_told_is_admitted_by_a_fleet", Some(PASSWORD), &[])
    else {
        return;
    };
    let fleet = start(&redis, 2).await;
    let [first, second] = &fleet.0[..] else { panic!("two") };
    // Where a busy machine lets more than a second pass between two requests, nobody is refused: then once more.
    let mut refused = 0;
    for _ in 0..60 {
        let Ok(200) = first.post(CHAT, "slow", &small_chat()).await.map(|answer| answer.status) else {
            continue;
        };
        let answer = second.post(CHAT, "slow", &small_chat()).await.unwrap();
        if answer.status != 429 {
            continue;
        }
        let wait: f64 = answer.header("retry-after-ms").parse().unwrap();
        assert!(wait > 0.0 && wait <= 1000.0, "{wait}");
        // It is what the gateway says, not how long anything takes.
        tokio::time::sleep(Duration::from_secs_f64(wait / 1000.0)).await;
        let answer = second.post(CHAT, "slow", &small_chat()).await.unwrap();
        if answer.status == 503 {
            // A busy machine has made the store seem gone.
            continue;
        }
        assert_eq!(answer.status, 200, "after {wait} ms: {}", answer.text());
        refused += 1;
        if refused == 3 {
            return;
        }
    }
    assert!(refused > 0, "nobody was refused");
}
