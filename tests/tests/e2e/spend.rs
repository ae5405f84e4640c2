//! Is what was spent kept to the token, whatever the store and the network before it lose?

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tollgate_tests::harness::{Link, LinkFault, Redis, tools};
use tollgate_tests::mock::Settings;

use crate::fleets::{Fleet, PASSWORD, client, until_async};
use crate::requests::with;

/// One with a budget and one without.
const CLIENTS: [&str; 2] = ["budgeted", "free"];

/// What the tool says, as JSON.
async fn said(words: Vec<String>) -> Value {
    let run = move || {
        let tool = tools::tool().unwrap();
        let output = Command::new(tool).args(&words).env("REDIS_PASSWORD", PASSWORD).output().unwrap();
        (words, output)
    };
    let (words, output) = tokio::task::spawn_blocking(run).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words:?}: {error}"))
}

fn words(all: &[&str]) -> Vec<String> {
    let by = ["--json", "--by", "day,client,group,model,backend,tier"];
    all.iter().chain(&by).map(|word| (*word).to_owned()).collect()
}

/// Groups and total, by the store.
async fn by_store(redis: &Redis) -> [Value; 2] {
    let url = format!("redis://{}", redis.address());
    let told = said(words(&["spend", "--store", &url, "--password-env", "REDIS_PASSWORD"])).await;
    [told["groups"].clone(), told["total"].clone()]
}

/// The same by the access logs of all.
async fn by_logs(fleet: &Fleet) -> [Value; 2] {
    let mut log = String::new();
    for line in fleet.0.iter().flat_map(|gateway| gateway.access_log().unwrap()) {
        writeln!(log, "{line}").unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), log).unwrap();
    let told = said(words(&["bill", file.path().to_str().unwrap()])).await;
    [told["groups"].clone(), told["total"].clone()]
}

/// Tokens that the backends bill: sent and produced.
fn by_backends(fleet: &Fleet) -> [u64; 2] {
    let billed: Vec<_> = fleet.0.iter().flat_map(|gateway| gateway.mock("ptu").billed()).collect();
    let sum = |tokens: fn(&tollgate_tests::mock::Billed) -> u64| billed.iter().map(tokens).sum();
    [sum(|billed| billed.usage.prompt), sum(|billed| billed.usage.completion)]
}

/// Waits until the store has all that so many requests have cost.
async fn agree(redis: &Redis, fleet: &Fleet, requests: usize) {
    until_async(async || {
        let ([of_store, total], [of_logs, _]) = (by_store(redis).await, by_logs(fleet).await);
        let tokens = ["prompt_tokens", "completion_tokens"].map(|name| total[name].as_u64().unwrap());
        let is_all = total["requests"] == requests && tokens == by_backends(fleet);
        if is_all && of_store == of_logs { Ok(()) } else { Err(format!("{of_store} {of_logs} {requests}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_is_kept_once_whatever_is_lost() {
    let Some(mut redis) = Redis::or_skip("what_was_spent_is_kept_once_whatever_is_lost", Some(PASSWORD), &[])
    else {
        return;
    };
    let config = |config: &mut Value| {
        let limits = json!([ { "tokens": 100_000_000, "per": "day" } ]);
        let of_group = with(client(CLIENTS[0], limits), json!({ "group": "sales" }));
        config["clients"] = json!([of_group, client(CLIENTS[1], json!([]))]);
        config["groups"] = json!([{ "name": "sales", "limits": [] }]);
        config["on_store_failure"] = json!("allow");
        config["store"]["spend"] = json!({});
        config["store"]["redis"]["timeout_ms"] = json!(500);
    };
    let link = Link::start(redis.address()).await.unwrap();
    let fleet = Fleet::start_at(link.address(), 2, config, &Settings::default()).await;
    let mut served = 0;
    for name in CLIENTS {
        served += fleet.serve(name, 5).await;
    }
    agree(&redis, &fleet, served).await;

    // What the store does and nobody hears of is said again.
    let lost = link.answers_lost();
    link.fails(LinkFault::NoAnswer);
    for name in CLIENTS {
        served += fleet.serve(name, 5).await;
    }
    until_async(
        async || if link.answers_lost() > lost + 4 { Ok(()) } else { Err("no answer was lost".into()) },
    )
    .await;
    link.fails(LinkFault::None);
    agree(&redis, &fleet, served).await;

    // Nor does it matter when it dies.
    let load = CLIENTS.map(|name| fleet.ask(name, 20));
    redis.kill();
    for asked in load {
        served += asked.join_all().await.iter().filter(|answer| answer.status == 200).count();
    }
    served += fleet.serve(CLIENTS[1], 5).await;
    redis.restart().unwrap();
    agree(&redis, &fleet, served).await;

    // Who is let go nowhere spends nothing.
    let refused = fleet.ask("nobody", 3).join_all().await;
    assert!(refused.iter().all(|answer| answer.status == 401));
    served += fleet.serve(CLIENTS[0], 1).await;
    agree(&redis, &fleet, served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spend_that_cannot_be_kept_stops_no_budget() {
    let Some(redis) = Redis::or_skip("spend_that_cannot_be_kept_stops_no_budget", Some(PASSWORD), &[]) else {
        return;
    };
    let config = |config: &mut Value| {
        config["clients"] = json!([client("web", json!([ { "tokens": 100_000_000, "per": "day" } ]))]);
        config["on_store_failure"] = json!("deny");
        config["store"]["spend"] = json!({});
    };
    // The keys of accounts and of pauses, and not those of spend.
    redis.ask(&["ACL", "SETUSER", "default", "resetkeys", "~tollgate:{*", "~tollgate:routing"]).unwrap();
    let fleet = Fleet::start(&redis, 1, config, &Settings::default()).await;
    let mut served = fleet.serve("web", 3).await;
    until_async(async || {
        let calls = fleet.0[0].metric("tollgate_store_calls", &[("outcome", "no_spend")]).await.unwrap();
        if calls > 1.0 { Ok(()) } else { Err(fleet.0[0].log_text().unwrap()) }
    })
    .await;
    served += fleet.serve("web", 3).await;
    assert_eq!(served, 6);
    // It is said again until it can be.
    redis.ask(&["ACL", "SETUSER", "default", "allkeys"]).unwrap();
    agree(&redis, &fleet, served).await;
}
