//! What becomes of a job when a worker, or Redis, dies at any step?

use tollgate::resp::Reply;
use tollgate_tests::harness::Redis;

use super::desk::{Desk, Say, well};
use super::gate::{Gate, Stops};
use super::queue::Queue;

/// Kills a worker at a step, and lets another go on. How often the gateway is asked is all that may differ.
async fn dies(redis: &Redis, script: &'static str, stops: Stops, asked: usize) {
    let case = format!("{script}-{stops:?}");
    let queue = Queue::of(redis, &case);
    let desk = Desk::start(|_, _| well()).await;
    let id = queue.enqueue(1, "shop");
    let mut gate = Gate::start(redis.address(), script, stops).await;
    let worker = queue.worker_at(&gate.url(), desk.address(), &["--concurrency", "1"]);
    gate.reached().await;
    drop(worker);
    drop(gate);
    let _other = queue.worker(desk.address(), &[]);
    queue.until_state(&id, "done").await;
    assert_eq!(queue.answer(&id), "{\"said\":\"well\"}", "{case}");
    assert_eq!(desk.times(&id), asked, "{case}");
    queue.check_is_empty("shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_at_any_step_loses_no_job() {
    let name = "a_worker_that_dies_at_any_step_loses_no_job";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    tokio::join!(
        dies(&redis, "take", Stops::Before, 1),
        dies(&redis, "take", Stops::After, 1),
        // What was received and not kept is asked for again.
        dies(&redis, "finish", Stops::Before, 2),
        dies(&redis, "finish", Stops::After, 1),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_puts_back_loses_no_job() {
    let name = "a_worker_that_dies_while_it_puts_back_loses_no_job";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    for stops in [Stops::Before, Stops::After] {
        let queue = Queue::of(&redis, &format!("{stops:?}"));
        let desk = Desk::start(|_, before| match before {
            0 => Say::This(500, ("x-said", "no"), vec![]),
            _ => well(),
        })
        .await;
        let id = queue.enqueue(1, "shop");
        let mut gate = Gate::start(redis.address(), "back", stops).await;
        let worker = queue.worker_at(&gate.url(), desk.address(), &[]);
        gate.reached().await;
        drop(worker);
        let _other = queue.worker(desk.address(), &[]);
        queue.until_state(&id, "done").await;
        assert_eq!((desk.times(&id), queue.field(&id, "tries").as_str()), (2, "2"));
        queue.check_is_empty("shop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_workers_job_is_taken_over_and_its_deaths_are_tries() {
    let name = "a_dead_workers_job_is_taken_over_and_its_deaths_are_tries";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::Wait).await;
    let id = queue.enqueue(1, "shop");
    for times in 1..=2 {
        let worker = queue.worker(desk.address(), &["--tries", "2"]);
        desk.until_asked(&id, times).await;
        drop(worker);
    }
    let worker = queue.worker(desk.address(), &["--tries", "2"]);
    queue.until_state(&id, "failed").await;
    assert_eq!((queue.field(&id, "why").as_str(), desk.times(&id)), ("its workers died", 2));
    assert_eq!(queue.number("XLEN", ":dead", &[]), 1);
    queue.check_is_empty("shop");
    assert!(worker.log().contains("is a dead letter: its workers died"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_living_worker_is_not_taken_over() {
    let name = "a_job_of_a_living_worker_is_not_taken_over";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk =
        Desk::start(|asked, _| if asked.body.contains("secret 1\"") { Say::Wait } else { well() }).await;
    let long = queue.enqueue(1, "shop");
    let _workers = [(); 2].map(|()| queue.worker(desk.address(), &["--concurrency", "1"]));
    desk.until_asked(&long, 1).await;
    // For longer than a dead one is waited for, by Redis' own clock.
    let began = queue.number("HGET", &format!(":job:{}", long.text()), &["started"]);
    let mut number = 2;
    loop {
        let id = queue.enqueue(number, "shop");
        queue.until_state(&id, "done").await;
        if queue.number("HGET", &format!(":job:{}", id.text()), &["ended"]) - began > 8000 {
            break;
        }
        number += 1;
    }
    desk.go();
    queue.until_state(&long, "done").await;
    assert_eq!((desk.times(&long), queue.field(&long, "tries").as_str()), (1, "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_puts_no_answer_over_anothers() {
    let name = "a_worker_that_stood_still_puts_no_answer_over_anothers";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, before| if before == 0 { Say::Wait } else { Say::WaitLonger }).await;
    let id = queue.enqueue(1, "shop");
    let still = queue.worker(desk.address(), &[]);
    desk.until_asked(&id, 1).await;
    still.signal("-STOP");
    let _other = queue.worker(desk.address(), &[]);
    desk.until_asked(&id, 2).await;
    // Its answer is there when it wakes up, and the other one still waits for another.
    desk.go();
    still.signal("-CONT");
    super::queue::until(|| {
        let log = still.log();
        if log.contains("is not wanted any more") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(queue.field(&id, "state"), "running");
    desk.go();
    queue.until_state(&id, "done").await;
    assert_eq!(queue.answer(&id), "{\"said\":\"later\"}");
    queue.check_is_empty("shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_lets_go_of_what_another_has() {
    let name = "a_worker_that_stood_still_lets_go_of_what_another_has";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::Wait).await;
    let id = queue.enqueue(1, "shop");
    let still = queue.worker(desk.address(), &[]);
    desk.until_asked(&id, 1).await;
    still.signal("-STOP");
    let _other = queue.worker(desk.address(), &[]);
    desk.until_asked(&id, 2).await;
    still.signal("-CONT");
    desk.until_left(1).await;
    desk.go();
    queue.until_state(&id, "done").await;
    assert_eq!(desk.times(&id), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_outlives_a_redis_that_dies_under_way() {
    let name = "an_answer_outlives_a_redis_that_dies_under_way";
    let Some(mut redis) = Redis::or_skip(name, None, &[]) else { return };
    let desk = Desk::start(|_, _| Say::Wait).await;
    let ids: Vec<_> = {
        let queue = Queue::of(&redis, "tollgate");
        (1..=4).map(|number| queue.enqueue(number, "shop")).collect()
    };
    let workers = [(); 2].map(|()| {
        let queue = Queue::of(&redis, "tollgate");
        queue.worker(desk.address(), &["--concurrency", "2"])
    });
    for id in &ids {
        desk.until_asked(id, 1).await;
    }
    let idle = Queue::of(&redis, "tollgate").worker(desk.address(), &[]);
    super::queue::until(|| {
        let log = idle.log();
        if log.contains("takes jobs") { Ok(()) } else { Err(log) }
    })
    .await;
    redis.kill();
    // For longer than a dead worker is waited for.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    desk.go();
    // All answers are there, and there is nowhere to put them.
    super::queue::until(|| {
        let logs: String = workers.iter().map(super::queue::Worker::log).collect();
        if logs.matches("waits for the store").count() == 4 { Ok(()) } else { Err(logs) }
    })
    .await;
    redis.restart().unwrap();
    let queue = Queue::of(&redis, "tollgate");
    for id in &ids {
        queue.until_state(id, "done").await;
        assert_eq!((desk.times(id), queue.field(id, "tries").as_str()), (1, "1"));
        assert_eq!(queue.answer(id), "{\"said\":\"late\"}");
    }
    queue.check_is_empty("shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_gives_back_what_it_has() {
    let name = "a_worker_that_is_told_to_stop_gives_back_what_it_has";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, before| if before == 0 { Say::Wait } else { well() }).await;
    let id = queue.enqueue(1, "shop");
    let mut worker = queue.worker(desk.address(), &["--grace", "0", "--tries", "1"]);
    desk.until_asked(&id, 1).await;
    worker.signal("-TERM");
    assert!(worker.ended().await.success(), "{}", worker.log());
    desk.until_left(1).await;
    // It is in line again at once, and that was no try; nobody has to find out that its worker is gone.
    assert_eq!((queue.field(&id, "state").as_str(), queue.field(&id, "tries").as_str()), ("queued", "0"));
    assert_eq!(queue.number("ZCARD", ":waiting:low", &[]), 1);
    let _other = queue.worker(desk.address(), &["--tries", "1"]);
    queue.until_state(&id, "done").await;
    queue.check_is_empty("shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_ends_what_it_has_in_time() {
    let name = "a_worker_that_is_told_to_stop_ends_what_it_has_in_time";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::Wait).await;
    let id = queue.enqueue(1, "shop");
    let mut worker = queue.worker(desk.address(), &["--grace", "600"]);
    desk.until_asked(&id, 1).await;
    worker.signal("-TERM");
    super::queue::until(|| {
        let log = worker.log();
        if log.contains("told to stop") { Ok(()) } else { Err(log) }
    })
    .await;
    let not_taken = queue.enqueue(2, "shop");
    desk.go();
    assert!(worker.ended().await.success(), "{}", worker.log());
    assert_eq!(queue.answer(&id), "{\"said\":\"late\"}");
    assert_eq!((queue.field(&not_taken, "state").as_str(), desk.times(&not_taken)), ("queued", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full_keeps_the_answers_to_old_jobs() {
    let name = "a_store_that_is_full_keeps_the_answers_to_old_jobs";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| Say::Wait).await;
    let [held, waits] = [1, 2].map(|number| queue.enqueue(number, "shop"));
    let _worker = queue.worker(desk.address(), &["--concurrency", "1"]);
    desk.until_asked(&held, 1).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let refused = redis.ask(&["SET", "x", "y"]).unwrap();
    assert!(matches!(&refused, Reply::Error(error) if error.starts_with("OOM")), "{refused:?}");
    desk.go();
    for id in [&held, &waits] {
        queue.until_state(id, "done").await;
        assert_eq!((queue.answer(id).as_str(), desk.times(id)), ("{\"said\":\"late\"}", 1));
    }
    queue.check_is_empty("shop");
}
