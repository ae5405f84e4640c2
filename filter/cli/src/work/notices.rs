//! When is a client told that its job is over, and when once more?
//!
//! A notice stands in the store from the moment in which its job ends, until it has arrived or was sent in vain too often: a worker
//! that dies in between loses none, and one may arrive twice.

use super::Worker;
use crate::queue::{Call, NOTICE, NOTICED};
use redis::{FromRedisValue, ParsingError, Value};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// How often the store is asked for notices.
const LOOKED_FOR: Duration = Duration::from_millis(500);

/// Who takes one sends it in this time, or has died.
const HIDDEN: Duration = Duration::from_secs(60);

/// So many are sent at a time: who does not answer keeps the others' waiting for no longer than one sending.
const AT_A_TIME: usize = 64;

/// So often it is sent. The last time is five minutes after the first.
const TIMES_MAX: u32 = 7;

/// The end of a job.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) id: String,
    pub(super) client: String,
    pub(super) state: String,
    pub(super) kind: String,
    pub(super) ended_ms: u64,
    /// How often it was sent, this time included.
    pub(super) times: u32,
}

impl FromRedisValue for Notice {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, client, state, kind, ended_ms, times) = redis::from_redis_value(value)?;
        Ok(Self { id, client, state, kind, ended_ms, times })
    }
}

/// Sends what is due, until the worker ends.
pub(super) async fn run(worker: Rc<Worker>) {
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match worker.link.run::<Option<Notice>>(Call::new(NOTICE).with(HIDDEN.as_millis() as u64)).await {
            Ok(Some(notice)) => {
                let worker = Rc::clone(&worker);
                spawn_local(async move {
                    send(&worker, &notice).await;
                    drop(place);
                });
            }
            // The queue says what is wrong with the store.
            Ok(None) | Err(_) => tokio::time::sleep(LOOKED_FOR).await,
        }
    }
}

async fn send(worker: &Worker, notice: &Notice) {
    let Notice { id, client, times, .. } = notice;
    let again_ms = match worker.webhooks.send(notice, super::now()).await {
        // Another worker may have the webhook.
        None => return,
        Some(Ok(())) => {
            worker.counts.notice("sent");
            0
        }
        Some(Err(why)) if *times >= TIMES_MAX => {
            worker.counts.notice("given_up");
            super::log(&format!("the webhook of {client} is not told of job {id}: {why}; {times} times"));
            0
        }
        Some(Err(why)) => {
            worker.counts.notice("failed");
            let wait = super::backoff(*times) * 5;
            super::log(&format!(
                "the webhook of {client} was not told of job {id}: {why}; again in {} s",
                wait.as_secs()
            ));
            wait.as_millis() as u64
        }
    };
    // If that is lost, the notice is sent once more.
    let _ = worker.link.run::<u64>(Call::new(NOTICED).with(id).with(again_ms)).await;
}
