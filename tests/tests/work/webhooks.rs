//! Is a client told that its job is over, by a notice that it can believe?

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tollgate_tests::harness::Redis;

use super::desk::{Desk, Say, well};
use super::gate::{Gate, Stops};
use super::queue::{AGE_MS, Queue, until};

/// As the variable has it.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn signature(id: &str, timestamp: &str, body: &str) -> String {
    let secret = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_by_signed_notices_until_it_has_heard() {
    let name = "a_client_is_told_by_signed_notices_until_it_has_heard";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let desk = Desk::start(|asked, _| match asked.body.contains("secret 2") {
        true => Say::This(500, ("x-said", "no"), vec![]),
        false => well(),
    })
    .await;
    // Whichever notice comes first, the first of this job is not taken.
    let has_refused = AtomicBool::new(false);
    let hook = Desk::start(move |asked, _| {
        match asked.body.contains("job.completed") && !has_refused.swap(true, Ordering::Relaxed) {
            true => Say::This(503, ("x-said", "later"), vec![]),
            false => well(),
        }
    })
    .await;
    let [done, others] = [(1, "shop"), (3, "lab")].map(|(number, client)| queue.enqueue(number, client));
    let failed = queue.enqueue_of("response", 2, "shop", AGE_MS, "{\"say\":\"secret 2\"}");
    let url = format!("shop=http://{}/hook", hook.address());
    let webhook = ["--tries", "1", "--webhook", &url, "--webhook-secret-env", "shop=HOOK"];
    let worker = queue.worker(desk.address(), &webhook);
    for (id, state) in [(&done, "done"), (&failed, "failed"), (&others, "done")] {
        queue.until_state(id, state).await;
    }
    until(|| match queue.number("ZCARD", ":notices", &[]) {
        0 => Ok(()),
        count => Err(format!("{count} notices are due\n{}", worker.log())),
    })
    .await;
    let notices = hook.asked();
    assert_eq!(notices.len(), 3, "{notices:?}");
    for notice in &notices {
        let (id, timestamp) = (notice.header("webhook-id"), notice.header("webhook-timestamp"));
        assert_eq!(notice.header("webhook-signature"), signature(id, timestamp, &notice.body));
        assert_eq!((notice.path.as_str(), notice.header("content-type")), ("/hook", "application/json"));
        assert_eq!(notice.header("authorization"), "");
    }
    let mut bodies: Vec<Value> =
        notices.iter().map(|notice| serde_json::from_str(&notice.body).unwrap()).collect();
    bodies.sort_by_key(|body| body["type"].to_string());
    // The same one twice, because the first was not taken.
    assert_eq!(bodies[0], bodies[1]);
    for (body, id, kind, data) in [
        (&bodies[1], &done, "job.completed", done.text().to_owned()),
        (&bodies[2], &failed, "response.failed", format!("resp_job_{}", failed.text())),
    ] {
        let ended = queue.field(id, "ended").parse::<u64>().unwrap();
        let name = format!("evt_{}_{ended}", id.text());
        let expected = json!({ "id": name, "object": "event", "type": kind, "created_at": ended / 1000,
            "data": { "id": data } });
        assert_eq!(body, &expected);
    }
    let metrics = worker.metrics().await;
    for line in [
        "tollgate_worker_notices_total{outcome=\"sent\"} 2",
        "tollgate_worker_notices_total{outcome=\"failed\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_sent_by_another_when_its_worker_dies() {
    let name = "a_notice_is_sent_by_another_when_its_worker_dies";
    let Some(redis) = Redis::or_skip(name, None, &[]) else { return };
    let queue = Queue::of(&redis, "tollgate");
    let [desk, hook] = [Desk::start(|_, _| well()).await, Desk::start(|_, _| well()).await];
    let id = queue.enqueue(1, "shop");
    let url = format!("shop=http://{}", hook.address());
    let webhook = ["--webhook", &url, "--webhook-secret-env", "shop=HOOK"];
    let mut gate = Gate::start(redis.address(), "finish", Stops::After).await;
    let worker = queue.worker_at(&gate.url(), desk.address(), &webhook);
    gate.reached().await;
    drop(worker);
    assert_eq!(hook.asked().len(), 0);
    let _other = queue.worker(desk.address(), &webhook);
    until(|| if hook.asked().is_empty() { Err("it is not told".to_owned()) } else { Ok(()) }).await;
    assert_eq!(desk.times(&id), 1);
}
