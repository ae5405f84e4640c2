//! Is a peak worked off later, and nothing of it lost: neither a job, nor a token of the books, whoever is killed meanwhile?

use std::collections::BTreeSet;
use std::process::Command;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Answer, Gateway, Redis};
use tollgate_tests::mock::{Outcome, Settings};

use crate::fleets::{Fleet, PASSWORD, client, small_chat, until, until_async};
use crate::requests::{CHAT, details, with};
use crate::worked_off::{enqueue, fetched, fetched_by, start_many, used, worker};

/// What a backend takes in a window, as requests; how long that is, and what the unimportant leave free of it.
const CAPACITY: usize = 40;
const WINDOW_S: usize = 6;
const HEADROOM: f64 = 0.5;

/// What is asked, in so many rounds: in all twice of what the backend takes. However late the machine is, the
/// important have room, for all of them together ask for no more than is left free for them.
const ROUNDS: usize = 8;
const HIGH: usize = 2;
const LOW: usize = 8;

/// The important ask so much again while the rest is worked off.
const HIGH_LATER: usize = 4;

/// An Envoy with a backend that takes so much. Keys are names.
async fn start(redis: &Redis) -> Fleet {
    let config = |config: &mut Value| {
        let limits = || json!([ { "tokens": 1_000_000, "per": "day" } ]);
        let of = |name: &str| with(client(name, limits()), json!({ "priority": name }));
        let worker = with(client("worker", json!([])), json!({ "may_act_for": ["low"] }));
        config["clients"] = json!([of("high"), of("low"), worker]);
        config["models"] = json!([ { "name": "gpt-4o", "backends": [ { "backend": "ptu" } ] } ]);
        config["backends"] = json!([ {
            "name": "ptu", "cluster": "ptu", "style": "azure-v1",
            "credential": { "header": "api-key", "env": "PTU_KEY" },
            "requests_per_minute": CAPACITY * 60 / WINDOW_S, "requests_window_s": WINDOW_S,
        } ]);
        config["other_endpoints"] = json!([]);
        config["priorities"] = json!({ "low": { "headroom_min": HEADROOM } });
        config["queue"] = json!({ "for": "low" });
        // Longer than a busy machine takes for anything.
        config["store"]["redis"]["timeout_ms"] = json!(5000);
    };
    Fleet::start(redis, 1, config, &Settings::default()).await
}

async fn ask(gateway: &Gateway, key: &str) -> Answer {
    let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(key);
    let request = request.header("prefer", "respond-async").json(&small_chat());
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

fn tokens(answer: &Answer) -> u64 {
    answer.json()["usage"]["total_tokens"].as_u64().unwrap()
}

/// What was billed by the backend: how often, and how many tokens.
fn billed(gateway: &Gateway) -> (usize, u64) {
    let bill = gateway.mock("ptu").billed();
    assert!(bill.iter().all(|billed| billed.outcome == Outcome::Complete), "{bill:?}");
    (bill.len(), bill.iter().map(|billed| billed.usage.total()).sum())
}

/// The sum of a metric over its other labels.
async fn counted(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> u64 {
    let page = gateway.metrics().await.unwrap();
    page.iter().filter(|sample| sample.is(name, labels)).map(|sample| sample.value as u64).sum()
}

/// What is written down of a client: its tokens in three places, and how many of its requests were served and queued.
#[derive(Debug, PartialEq)]
struct Books {
    used: u64,
    counted: u64,
    recorded: u64,
    served: usize,
    waited: usize,
}

async fn books(gateway: &Gateway, key: &str) -> Books {
    let used = used(gateway, key).await;
    let counted = counted(gateway, "tollgate_tokens", &[("client", key)]).await;
    let mut records = gateway.access_log().unwrap();
    records.retain(|record| record["client"] == key);
    let ended = |outcome: &str| records.iter().filter(|record| record["outcome"] == outcome).count();
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok()).or(value.as_u64());
    let recorded = records
        .iter()
        .flat_map(|record| ["prompt_tokens", "completion_tokens"].map(|name| number(&record[name])))
        .flatten()
        .sum();
    Books { used, counted, recorded, served: ended("served"), waited: ended("queued") }
}

#[tokio::test]
async fn a_peak_is_worked_off_and_the_books_balance() {
    let name = "a_peak_is_worked_off_and_the_books_balance";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start(&redis).await;
    let gateway = &fleet.0[0];
    let _workers = [worker(&redis, gateway), worker(&redis, gateway)];
    let (mut high, mut low) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let round = |key: &'static str, each: usize| join_all((0..each).map(move |_| ask(gateway, key)));
        let (of_high, of_low) = tokio::join!(round("high", HIGH), round("low", LOW));
        high.extend(of_high);
        low.extend(of_low);
    }
    high.extend(join_all((0..HIGH_LATER).map(|_| ask(gateway, "high"))).await);

    // What is idle is used at once: the first round leaves room, the last ones do not.
    assert!(low[..LOW].iter().all(|answer| answer.status == 200));
    let (queued, at_once): (Vec<_>, Vec<_>) = low.iter().partition(|answer| answer.status == 202);
    assert!(!queued.is_empty());
    // All that is important was answered, and nothing of it waited.
    for answer in high.iter().chain(at_once.iter().copied()) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(counted(gateway, "tollgate_queued_requests", &[("priority", "high")]).await, 0);
    let fetched =
        join_all(queued.iter().map(|answer| fetched_by(gateway, "low", answer.header("location")))).await;
    for answer in &fetched {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    // What was answered is what the backends billed, the limits tell, the records say and the metrics count.
    let of_high: u64 = high.iter().map(tokens).sum();
    let of_low: u64 = at_once.into_iter().chain(&fetched).map(tokens).sum();
    assert_eq!(billed(gateway), (high.len() + low.len(), of_high + of_low));
    let of_each = [("high", of_high, high.len(), 0), ("low", of_low, low.len(), queued.len())];
    for (key, expected, served, waited) in of_each {
        let expected = Books { used: expected, counted: expected, recorded: expected, served, waited };
        until_async(async || {
            let found = books(gateway, key).await;
            if found == expected { Ok(()) } else { Err(format!("{key}: {found:?}, not {expected:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn an_envoy_that_is_killed_at_work_loses_no_job() {
    const JOBS: usize = 30;
    /// What a worker has at once.
    const AT_ONCE: usize = 4;
    let name = "an_envoy_that_is_killed_at_work_loses_no_job";
    let Some(redis) = Redis::or_skip(name, Some(PASSWORD), &[]) else { return };
    let fleet = start_many(&redis, 2, |_| {}).await;
    let [dying, living] = &fleet.0[..] else { panic!() };
    dying.mock("ptu").update(|settings| settings.hold = true);
    let places = join_all((0..JOBS).map(|_| enqueue(dying))).await;
    let _first = worker(&redis, dying);
    until(|| match dying.mock("ptu").received().len() {
        AT_ONCE => Ok(()),
        some => Err(format!("{some} are sent")),
    })
    .await;
    let killed = Command::new("kill").args(["-9", &dying.pid().to_string()]).status();
    assert!(killed.unwrap().success());
    let _other = worker(&redis, living);
    let answers = join_all(places.iter().map(|path| fetched(living, path))).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(redis.ask(&["XLEN", "tollgate:{jobs}:dead"]).unwrap(), Reply::Integer(0));
    // What the dead one had under way was asked for again, and nothing else was asked for twice.
    assert_eq!(dying.mock("ptu").received().len(), AT_ONCE);
    let expected = (JOBS, answers.iter().map(tokens).sum());
    assert_eq!(billed(living), expected);
    let log = living.wait_for_log_where(|log| served(log).len() >= JOBS).await.unwrap();
    let jobs: BTreeSet<_> = served(&log).iter().map(|job| format!("/tollgate/v1/jobs/{job}")).collect();
    assert_eq!((served(&log).len(), jobs), (JOBS, places.iter().cloned().collect()));
    // An answer stays what it is.
    for (path, answer) in places.iter().zip(&answers) {
        assert_eq!(fetched(living, path).await.body, answer.body);
    }
}

/// The jobs of which a worker was served, by the records.
fn served(log: &[Value]) -> Vec<String> {
    let served = log.iter().filter(|record| record["outcome"] == "served");
    served.filter_map(|record| details(record)["job"].as_str().map(str::to_owned)).collect()
}
