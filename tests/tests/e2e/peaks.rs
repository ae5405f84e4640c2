//! Is nothing of the queue lost when an Envoy is killed at work?

use std::collections::BTreeSet;
use std::process::Command;

use futures_util::future::join_all;
use serde_json::Value;
use tollgate::resp::Reply;
use tollgate_tests::harness::{Answer, Gateway, Redis};
use tollgate_tests::mock::Outcome;

use crate::fleets::{PASSWORD, until};
use crate::requests::details;
use crate::worked_off::{enqueue, fetched, start_many, worker};

fn tokens(answer: &Answer) -> u64 {
    answer.json()["usage"]["total_tokens"].as_u64().unwrap()
}

/// What was billed by the backend: how often, and how many tokens.
fn billed(gateway: &Gateway) -> (usize, u64) {
    let bill = gateway.mock("ptu").billed();
    assert!(bill.iter().all(|billed| billed.outcome == Outcome::Complete), "{bill:?}");
    (bill.len(), bill.iter().map(|billed| billed.usage.total()).sum())
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
