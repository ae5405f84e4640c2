//! Is each job answered once, as its client's, and does a worker wait when it is told to?

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use tollgate_tests::harness::Redis;

use super::desk::{Desk, Say, well};
use super::queue::{AGE_MS, Queue, WORKER_KEY, until};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_asked_as_its_clients_and_answered_under_seal() {
    let name = "a_job_is_asked_as_its_clients_and_answered_under_seal";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| well()).await;
    let id = queue.enqueue(1, "shop");
    let worker = queue.worker(desk.address(), &[]);
    queue.until_state(&id, "done").await;
    let asked = &desk.asked()[0];
    // Nothing in the store says who asks.
    assert_eq!(asked.header("authorization"), format!("Bearer {WORKER_KEY}"));
    assert_eq!((asked.header("tollgate-act-for"), asked.job()), ("shop", id.text()));
    assert_eq!(
        (asked.path.as_str(), asked.body.as_str()),
        ("/v1/chat/completions?x=1", "{\"say\":\"secret 1\"}")
    );
    assert_eq!(asked.header("content-type"), "application/json");
    assert_eq!(queue.answer(&id), "{\"said\":\"well\"}");
    let kept = ["status", "answer_type", "tries"].map(|name| queue.field(&id, name));
    assert_eq!(kept, ["200", "application/json", "1"]);
    // At rest there is nothing that one could read, and nothing that nobody needs any more.
    let answer = queue.bytes_of(&id, "answer").unwrap();
    assert!(!answer.windows(4).any(|part| part == b"well"), "{answer:?}");
    assert_eq!(queue.bytes_of(&id, "body"), None);
    assert!((1..=3_600_000).contains(&queue.number("PTTL", &format!(":job:{}", id.text()), &[])));
    queue.check_is_empty("shop");
    let (log, metrics) = (worker.log(), worker.metrics().await);
    assert!(log.contains(&format!("job {} of shop was answered with 200", id.text())), "{log}");
    assert!(!log.contains("secret") && !log.contains("well") && !log.contains(WORKER_KEY), "{log}");
    for line in [
        "tollgate_worker_jobs_total{outcome=\"done\",client=\"shop\",priority=\"low\"} 1",
        "tollgate_queue_depth{priority=\"low\"} 0",
        "tollgate_queue_dead 0",
        "tollgate_queue_store_up 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_streams_is_kept_whole_and_a_bad_one_too() {
    let name = "an_answer_that_streams_is_kept_whole_and_a_bad_one_too";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let stream = ("content-type", "text/event-stream");
    let desk = Desk::start(move |asked, before| match (asked.body.contains("stream"), before) {
        // The first one breaks in its midst.
        (true, 0) => Say::Break,
        (true, _) => Say::This(200, stream, vec!["data: {\"a\":1}\n\n", "data: [DONE]\n\n"]),
        (false, _) => Say::This(404, JSON, vec!["{\"error\":{}}"]),
    })
    .await;
    let streams = queue.enqueue_for(1, "shop", AGE_MS, "{\"stream\":true}");
    let bad = queue.enqueue(2, "shop");
    let _worker = queue.worker(desk.address(), &[]);
    for id in [&streams, &bad] {
        queue.until_state(id, "done").await;
    }
    assert_eq!(queue.answer(&streams), "data: {\"a\":1}\n\ndata: [DONE]\n\n");
    assert_eq!(
        (queue.field(&streams, "answer_type"), queue.field(&streams, "tries")),
        (stream.1.to_owned(), "2".into())
    );
    assert_eq!(
        (queue.field(&bad, "status"), queue.answer(&bad)),
        ("404".to_owned(), "{\"error\":{}}".to_owned())
    );
    assert_eq!((desk.times(&streams), desk.times(&bad)), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_queue_and_ask_for_each_job_once() {
    const JOBS: usize = 60;
    let name = "two_workers_share_a_queue_and_ask_for_each_job_once";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    // Nobody is answered before both workers have asked, so that both have a part.
    let desk = Desk::start(|_, _| Say::Wait).await;
    let ids: Vec<_> = (0..JOBS).map(|number| queue.enqueue(number, ["shop", "lab"][number % 2])).collect();
    let workers = [(); 2].map(|()| queue.worker(desk.address(), &["--concurrency", "2"]));
    until(|| match desk.asked().len() {
        4 => Ok(()),
        asked => Err(format!("{asked} are asked")),
    })
    .await;
    let metrics = workers[0].metrics().await;
    for line in
        ["tollgate_worker_running 2", "tollgate_queue_running 4", "tollgate_queue_depth{priority=\"low\"} 56"]
    {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    desk.go();
    for id in &ids {
        queue.until_state(id, "done").await;
        assert_eq!((desk.times(id), queue.field(id, "tries").as_str()), (1, "1"));
    }
    let by: BTreeSet<_> = ids.iter().map(|id| queue.field(id, "worker")).collect();
    assert_eq!(by.len(), 2, "{by:?}");
    for client in ["shop", "lab"] {
        queue.check_is_empty(client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_gateway_is_asked_again_and_that_is_no_try() {
    let name = "a_full_gateway_is_asked_again_and_that_is_no_try";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|asked, before| match asked.header("tollgate-act-for") {
        "shop" if before < 8 => Say::This(429, ("retry-after-ms", "50"), vec![]),
        "lab" => Say::This(429, ("retry-after", "300"), vec![]),
        _ => well(),
    })
    .await;
    // More often than there are tries.
    let soon = queue.enqueue(1, "shop");
    let [late, behind] = [2, 3].map(|number| queue.enqueue(number, "lab"));
    let worker = queue.worker(desk.address(), &["--tries", "2", "--concurrency", "1"]);
    queue.until_state(&soon, "done").await;
    assert_eq!((desk.times(&soon), queue.field(&soon, "tries").as_str()), (9, "1"));
    // Others do not wait behind those for whom there is no room for long; and who has the same way is not even asked for.
    until(|| match queue.number("ZCARD", ":later", &[]) {
        2 => Ok(()),
        count => Err(format!("{count} wait for their time\n{}", worker.log())),
    })
    .await;
    let other = queue.enqueue(4, "till");
    queue.until_state(&other, "done").await;
    assert_eq!((desk.times(&late), desk.times(&behind)), (1, 0));
    for id in [&late, &behind] {
        assert_eq!(
            (queue.field(id, "state"), queue.field(id, "tries")),
            ("queued".to_owned(), "0".to_owned())
        );
    }
    assert_eq!(queue.number("ZCARD", ":waiting:low", &[]), 2);
    assert_eq!(queue.number("ZCARD", ":of:lab", &[]), 2);
    let line = "tollgate_worker_jobs_total{outcome=\"full\",client=\"lab\",priority=\"low\"} 1";
    assert!(worker.metrics().await.contains(line));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_or_refuses_the_worker_costs_no_try() {
    let name = "a_gateway_that_is_away_or_refuses_the_worker_costs_no_try";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let desk = Desk::start(move |_, before| match before {
        0 => Say::This(401, JSON, vec!["{}"]),
        _ => well(),
    })
    .await;
    let (refused, away) = (Queue::of(&redis, "refused"), Queue::of(&redis, "away"));
    let ids = [refused.enqueue(1, "shop"), away.enqueue(2, "shop")];
    let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed: SocketAddr = nobody.local_addr().unwrap();
    drop(nobody);
    let workers = [refused.worker(desk.address(), &["--tries", "1"]), away.worker(closed, &["--tries", "1"])];
    refused.until_state(&ids[0], "done").await;
    assert_eq!((desk.times(&ids[0]), refused.field(&ids[0], "tries").as_str()), (2, "1"));
    until(|| {
        let log = workers[1].log();
        if log.matches("the gateway cannot be reached; no job").count() > 1 { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(away.number("XLEN", ":dead", &[]), 0);
    assert!(["queued", "running"].contains(&away.field(&ids[1], "state").as_str()));
    let log = workers[0].log();
    assert!(log.contains("does not take this worker's key"), "{log}");
}

/// Were it to wait as long as that worker does, that one might be the first to take it, time after time.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_worker_is_in_trouble_is_the_others_at_once() {
    let name = "a_job_whose_worker_is_in_trouble_is_the_others_at_once";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let id = queue.enqueue(1, "shop");
    let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    let _in_trouble = queue.worker(closed, &[]);
    let mut due_in = None;
    until(|| {
        due_in = queue.due_in(&id);
        due_in.map(|_| ()).ok_or_else(|| "it was not put back".to_owned())
    })
    .await;
    assert!(due_in.is_some_and(|ms| ms <= 0), "{due_in:?}");
    let desk = Desk::start(move |_, _| well()).await;
    let _well = queue.worker(desk.address(), &[]);
    queue.until_state(&id, "done").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_a_worker_may_not_stand_for_holds_no_other_up() {
    let name = "a_client_that_a_worker_may_not_stand_for_holds_no_other_up";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let not_for = "{\"error\":{\"code\":\"act_for_not_allowed\"}}";
    let desk = Desk::start(move |asked, _| match asked.header("tollgate-act-for") {
        "lab" => Say::This(403, JSON, vec![not_for]),
        _ => well(),
    })
    .await;
    let lab = queue.enqueue(1, "lab");
    let shop = queue.enqueue(2, "shop");
    let worker = queue.worker(desk.address(), &["--concurrency", "1", "--tries", "1"]);
    queue.until_state(&shop, "done").await;
    assert_eq!(
        (queue.field(&lab, "state"), queue.field(&lab, "tries")),
        ("queued".to_owned(), "0".to_owned())
    );
    assert_eq!((desk.times(&lab), queue.number("XLEN", ":dead", &[])), (1, 0));
    assert!(!worker.log().contains("no job is taken"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_fits_is_answered_so_and_not_asked_again() {
    let name = "what_never_fits_is_answered_so_and_not_asked_again";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let never = "{\"error\":{\"code\":\"request_exceeds_limit\"}}";
    let desk = Desk::start(move |_, _| Say::This(429, JSON, vec![never])).await;
    let id = queue.enqueue(1, "shop");
    let _worker = queue.worker(desk.address(), &[]);
    queue.until_state(&id, "done").await;
    assert_eq!((queue.field(&id, "status").as_str(), queue.answer(&id).as_str()), ("429", never));
    assert_eq!(desk.times(&id), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_full_client_one_job_waits_and_others_go_past_it() {
    let name = "of_a_full_client_one_job_waits_and_others_go_past_it";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(move |asked, _| match asked.header("tollgate-act-for") {
        "shop" => Say::This(429, ("retry-after", "5"), vec!["{}"]),
        _ => well(),
    })
    .await;
    let full: Vec<_> = (1..=4).map(|number| queue.enqueue(number, "shop")).collect();
    let lab = queue.enqueue(9, "lab");
    let _worker = queue.worker(desk.address(), &["--concurrency", "2"]);
    queue.until_state(&lab, "done").await;
    // Two that were asked at once, and none again.
    let asked: usize = full.iter().map(|id| desk.times(id)).sum();
    assert!(asked <= 2, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_has_failed_and_is_not_kept() {
    let name = "what_cannot_be_sent_has_failed_and_is_not_kept";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|_, _| well()).await;
    let id = queue.enqueue_at("/v1/chat/completions?a=<", "job", 1, "shop", AGE_MS, "{}");
    let worker = queue.worker(desk.address(), &[]);
    queue.until_state(&id, "failed").await;
    assert_eq!(
        (queue.field(&id, "why").as_str(), queue.bytes_of(&id, "body")),
        ("its path cannot be sent", None)
    );
    assert_eq!((desk.times(&id), queue.number("XLEN", ":dead", &[])), (0, 0), "{}", worker.log());
    queue.check_is_empty("shop");
}
