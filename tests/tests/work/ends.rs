//! How does a job end that has no answer?

use tollgate::job::ANSWER_BYTES_MAX;
use tollgate_tests::harness::Redis;

use super::desk::{Desk, Say, well};
use super::queue::{AGE_MS, Queue, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_too_often_is_a_dead_letter_and_goes_again() {
    let name = "a_job_that_fails_too_often_is_a_dead_letter_and_goes_again";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, before| match before {
        0 => Say::This(500, ("x-said", "no"), vec![]),
        1 => Say::This(409, ("x-said", "no"), vec![]),
        _ => well(),
    })
    .await;
    let id = queue.enqueue(1, "shop");
    let worker = queue.worker(desk.address(), &["--tries", "2"]);
    queue.until_state(&id, "failed").await;
    assert_eq!((desk.times(&id), queue.field(&id, "why").as_str()), (2, "status 409"));
    assert_eq!(queue.number("XLEN", ":dead", &[]), 1);
    queue.check_is_empty("shop");
    until(|| {
        let log = worker.log();
        if log.contains("is a dead letter: status 409; try 2") { Ok(()) } else { Err(log) }
    })
    .await;
    let metrics = worker.metrics().await;
    for line in [
        "tollgate_worker_jobs_total{outcome=\"buried\",client=\"shop\",priority=\"low\"} 1",
        "tollgate_worker_jobs_total{outcome=\"failed\",client=\"shop\",priority=\"low\"} 1",
        "tollgate_queue_dead 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let (code, listed, _) = queue.jobs(&["list", "--dead"]);
    assert!(code == 0 && listed.starts_with(id.text()) && listed.ends_with(": status 409\n"), "{listed}");
    let (code, printed, complaint) = queue.jobs(&["retry", id.text()]);
    assert_eq!((code, printed), (0, format!("{} is queued again\n", id.text())), "{complaint}");
    queue.until_state(&id, "done").await;
    assert_eq!(
        (queue.answer(&id).as_str(), queue.field(&id, "tries").as_str()),
        ("{\"said\":\"well\"}", "1")
    );
    assert_eq!(queue.number("XLEN", ":dead", &[]), 0);
    queue.check_is_empty("shop");
    // It is no dead letter any more.
    assert_eq!(queue.jobs(&["retry", id.text()]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_too_many_dead_letters_is_dropped() {
    let name = "the_oldest_of_too_many_dead_letters_is_dropped";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::This(500, ("x-said", "no"), vec![])).await;
    let worker = queue.worker(desk.address(), &["--tries", "1", "--dead-max", "2"]);
    let mut ids = Vec::new();
    for number in 1..=4 {
        ids.push(queue.enqueue(number, "shop"));
        queue.until_state(&ids[number - 1], "failed").await;
    }
    until(|| match queue.number("XLEN", ":dead", &[]) {
        2 => Ok(()),
        some => Err(format!("{some} dead letters")),
    })
    .await;
    let has_body: Vec<_> = ids.iter().map(|id| queue.bytes_of(id, "body").is_some()).collect();
    assert_eq!(has_body, [false, false, true, true]);
    for id in &ids {
        // Its client is told all the same, for as long as of others.
        assert_eq!(
            (queue.field(id, "state"), queue.field(id, "why")),
            ("failed".into(), "status 500".into())
        );
        assert!((1..=3_600_000).contains(&queue.number("PTTL", &format!(":job:{}", ids[0].text()), &[])));
    }
    // Nothing is left of it that could go again.
    assert_eq!((queue.jobs(&["retry", ids[0].text()]).0, queue.jobs(&["retry", ids[3].text()]).0), (1, 0));
    let line = "tollgate_worker_jobs_total{outcome=\"dropped\",client=\"shop\",priority=\"low\"} 2";
    let (log, metrics) = (worker.log(), worker.metrics().await);
    assert!(metrics.contains(line), "{metrics}");
    assert_eq!(log.matches("is dropped: it was the oldest of too many dead letters").count(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_while_it_runs_is_let_go_of() {
    let name = "a_job_that_is_cancelled_while_it_runs_is_let_go_of";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|asked, _| if asked.body.contains("secret 3") { well() } else { Say::Wait }).await;
    let [running, waits] = [1, 2].map(|number| queue.enqueue(number, "shop"));
    let worker = queue.worker(desk.address(), &["--concurrency", "1"]);
    desk.until_asked(&running, 1).await;
    queue.cancel(&waits, "shop");
    queue.cancel(&running, "shop");
    // The connection is dropped, so that nobody works for nobody.
    desk.until_left(1).await;
    let next = queue.enqueue(3, "shop");
    queue.until_state(&next, "done").await;
    assert_eq!((desk.times(&running), desk.times(&waits)), (1, 0));
    for id in [&running, &waits] {
        assert_eq!((queue.field(id, "state").as_str(), queue.bytes_of(id, "answer")), ("cancelled", None));
    }
    queue.check_is_empty("shop");
    assert!(worker.log().contains(&format!("job {} of shop is not wanted any more", running.text())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_too_long_expires_with_or_without_room() {
    let name = "a_job_that_waits_too_long_expires_with_or_without_room";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::Wait).await;
    // One is over before anybody looks, one while the only place is taken.
    let over = queue.enqueue_for(1, "shop", 1, "{}");
    let running = queue.enqueue(2, "shop");
    let worker = queue.worker(desk.address(), &["--concurrency", "1"]);
    desk.until_asked(&running, 1).await;
    let waits = queue.enqueue_for(3, "shop", 500, "{}");
    for id in [&over, &waits] {
        queue.until_state(id, "failed").await;
        assert_eq!((queue.field(id, "why").as_str(), desk.times(id)), ("expired", 0));
        assert_eq!(queue.bytes_of(id, "body"), None);
    }
    // What is left of the sum is what still runs.
    assert_eq!(queue.number("HGET", ":bytes", &["shop"]).to_string(), queue.field(&running, "bytes"));
    desk.go();
    queue.until_state(&running, "done").await;
    queue.check_is_empty("shop");
    assert_eq!(queue.number("XLEN", ":dead", &[]), 0);
    let line = "tollgate_worker_jobs_total{outcome=\"expired\",client=\"shop\",priority=\"low\"} 2";
    assert!(worker.metrics().await.contains(line));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_in_the_store_is_not_sent() {
    let name = "what_was_changed_in_the_store_is_not_sent";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| well()).await;
    // What lies open anybody may have written, and so may the rest.
    let changes = [("body", "\0{}"), ("path", "/v1/completions"), ("headers", "{}"), ("client", "lab")];
    let jobs = [1, 2, 3, 4].map(|number| queue.enqueue_for(number, "shop", AGE_MS, "{}"));
    for (id, (field, value)) in jobs.iter().zip(changes) {
        queue.set(id, field, value);
    }
    let _worker = queue.worker(desk.address(), &["--tries", "1"]);
    for id in &jobs {
        queue.until_state(id, "failed").await;
        let found = (queue.field(id, "why"), desk.times(id));
        assert_eq!(found, ("unopened: it was sealed otherwise".to_owned(), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_forgotten_jobs_is_cleared_away() {
    let name = "what_is_left_of_forgotten_jobs_is_cleared_away";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::Wait).await;
    let running = queue.enqueue(1, "shop");
    let worker = queue.worker(desk.address(), &["--concurrency", "1"]);
    desk.until_asked(&running, 1).await;
    let [gone, stays] = [2, 3].map(|number| queue.enqueue(number, "shop"));
    let job = |id: &tollgate::job::Id| format!(":job:{}", id.text());
    let bytes = |id| queue.field(id, "bytes").parse::<i64>().unwrap();
    let expected = bytes(&running) + bytes(&stays);
    assert_eq!(queue.number("DEL", &job(&gone), &[]), 1);
    until(|| match (queue.number("ZCARD", ":of:shop", &[]), queue.number("HGET", ":bytes", &["shop"])) {
        (2, held) if held == expected => Ok(()),
        other => Err(format!("{other:?}, not {expected}")),
    })
    .await;
    assert_eq!(queue.number("ZCARD", ":waiting:low", &[]), 1);
    desk.go();
    queue.until_state(&stays, "done").await;
    queue.check_is_empty("shop");
    assert!(!worker.log().contains(gone.text()), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_or_too_late_is_none() {
    let name = "an_answer_that_is_too_long_or_too_late_is_none";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let long: &'static str = "x".repeat(ANSWER_BYTES_MAX + 1).leak();
    let desk = Desk::start(move |asked, _| match asked.header("tollgate-act-for") {
        "long" => Say::This(200, ("content-type", "text/plain"), vec![long]),
        "late" => Say::Wait,
        _ => Say::This(302, ("location", "/elsewhere"), vec![]),
    })
    .await;
    let queue = Queue::of(&redis, "tollgate");
    let [long, late, elsewhere] =
        [(1, "long"), (2, "late"), (3, "shop")].map(|(number, client)| queue.enqueue(number, client));
    // Only what comes late has a second try that it could have had.
    let _worker = queue.worker(desk.address(), &["--tries", "2", "--timeout", "5"]);
    queue.until_state(&elsewhere, "done").await;
    assert_eq!((queue.field(&elsewhere, "status").as_str(), desk.times(&elsewhere)), ("302", 1));
    for (id, why, times) in [
        (&long, format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"), 1),
        (&late, "no whole answer in 5 s".to_owned(), 2),
    ] {
        queue.until_state(id, "failed").await;
        assert_eq!((queue.field(id, "why"), desk.times(id)), (why, times));
        assert_eq!(queue.bytes_of(id, "answer"), None);
    }
    assert_eq!(queue.number("XLEN", ":dead", &[]), 2);
}
