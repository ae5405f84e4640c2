//! What does the tool tell an operator of the queue, and what does it refuse?

use serde_json::{Value, json};
use tollgate_tests::harness::Redis;

use super::desk::{Desk, Say, well};
use super::queue::{Queue, WORKER_KEY};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_jobs_and_their_contents_with_the_key_only() {
    let name = "an_operator_sees_jobs_and_their_contents_with_the_key_only";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| well()).await;
    let [done, waits, others] =
        [(1, "shop"), (2, "shop"), (3, "lab")].map(|(number, client)| queue.enqueue(number, client));
    let listed = |words: &[&str]| -> Vec<String> {
        let (code, printed, complaint) = queue.jobs(&[&["list", "--json"], words].concat());
        assert_eq!(code, 0, "{complaint}");
        let jobs: Vec<Value> = serde_json::from_str(&printed).unwrap();
        jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let text = |ids: &[&tollgate::job::Id]| ids.iter().map(|id| id.text().to_owned()).collect::<Vec<_>>();
    assert_eq!(listed(&[]), text(&[&others, &done, &waits]));
    assert_eq!(listed(&["--client", "shop"]), text(&[&done, &waits]));
    assert_eq!(listed(&["--dead"]), text(&[]));
    let (code, printed, _) = queue.jobs(&["show", waits.text()]);
    assert!(
        code == 0 && printed.contains("path: /v1/chat/completions?x=1\n") && !printed.contains("secret"),
        "{printed}"
    );
    let (_, printed, _) = queue.jobs(&["show", waits.text(), "--seal-env", "SEAL"]);
    assert!(printed.contains("  body: {\"say\":\"secret 2\"}\n"), "{printed}");
    let (code, _, complaint) = queue.jobs(&["show", waits.text(), "--open"]);
    assert!(code == 2 && complaint.contains("the body does not open with this key"), "{complaint}");
    let dropped = format!("{} is removed\n", waits.text());
    assert_eq!(queue.jobs(&["drop", waits.text()]).1, dropped);
    let (code, printed, _) = queue.jobs(&["drop", waits.text(), "--json"]);
    assert_eq!(
        (code, serde_json::from_str::<Value>(&printed).unwrap()),
        (1, json!({ "id": waits.text(), "changed": false }))
    );
    assert_eq!(queue.jobs(&["show", waits.text()]).0, 1);
    assert_eq!(queue.jobs(&["show", "1"]).0, 2);
    // What was removed is not worked off; with --once a worker ends when all is done.
    let mut worker = queue.worker(desk.address(), &["--once"]);
    assert!(worker.ended().await.success(), "{}", worker.log());
    assert_eq!((desk.times(&done), desk.times(&others), desk.times(&waits)), (1, 1, 0));
    let (_, printed, _) = queue.jobs(&["show", done.text(), "--seal-env", "SEAL", "--json"]);
    let told: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&told["answer"], &told["status"]), (&json!("{\"said\":\"well\"}"), &json!("200")));
    queue.check_is_empty("shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_dropped_while_it_runs_is_let_go_of() {
    let name = "a_job_that_is_dropped_while_it_runs_is_let_go_of";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::Wait).await;
    let id = queue.enqueue(1, "shop");
    let _worker = queue.worker(desk.address(), &[]);
    desk.until_asked(&id, 1).await;
    assert_eq!(queue.jobs(&["drop", id.text()]).0, 0);
    desk.until_left(1).await;
    queue.check_is_empty("shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lacks_something_says_so_and_does_not_start() {
    let name = "a_worker_that_lacks_something_says_so_and_does_not_start";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let nobody = ([127, 0, 0, 1], 9).into();
    for (words, problem) in [
        (
            &["--webhook", "shop=http://x"][..],
            "--webhook shop: there is no --webhook-secret-env shop=VARIABLE",
        ),
        (&["--webhook-secret-env", "shop=HOOK"], "--webhook-secret-env shop: there is no --webhook shop=URL"),
        (
            &["--webhook", "shop=ftp://x", "--webhook-secret-env", "shop=HOOK"],
            "--webhook shop: expected http:// or https://",
        ),
        (
            &["--webhook", "shop=http://x", "--webhook-secret-env", "shop=WORKER_KEY"],
            "expected whsec_ and at least 24 bytes",
        ),
        (&["--concurrency", "0"], "0 is not in 1..=1000"),
    ] {
        let mut worker = queue.worker(nobody, words);
        assert_eq!(worker.ended().await.code(), Some(2), "{words:?}");
        let log = worker.log();
        assert!(log.contains(problem) && !log.contains(WORKER_KEY), "{log}");
    }
}
