//! How is a job tried, and what becomes of it?

use super::gateway::{Answer, Met};
use super::held::{Hold, Word};
use super::job::Job;
use super::waiting::Lane;
use super::{WAITS_IN_PLACE, Worker, backoff, log, random};
use crate::queue::{BACK, Call, FINISH};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tollgate::job::{ANSWER_BYTES_MAX, Id, Unopened, What, seal};

/// How often is tried to write down what became of a job, while the store is away.
const WRITTEN_AGAIN: Duration = Duration::from_millis(500);

/// For so long a job is put back whose client this worker may not stand for.
const NOT_FOR_AGAIN: Duration = Duration::from_secs(30);

/// What becomes of a job.
#[derive(Debug, PartialEq)]
enum Becomes {
    Answered(Answer),
    /// It may be taken again in so long; whether that was a try, and what it met.
    Back(Duration, bool, String),
    /// No try can help.
    Buried(String),
    /// It is none that could be sent: nothing of it is kept.
    Failed(String),
    /// It is not this worker's any more.
    Gone,
}

/// From when it was taken until the store knows what became of it.
pub(super) async fn run(worker: &Worker, job: Job) {
    let mut hold = worker.held.take(&job);
    let began = Instant::now();
    let becomes = tokio::select! {
        // What was cancelled is not sent.
        biased;
        word = hold.let_go() => match word {
            Word::Stop => Becomes::Back(Duration::ZERO, false, "its worker ends".to_owned()),
            _ => Becomes::Gone,
        },
        becomes = attempt(worker, &job) => becomes,
    };
    write_down(worker, &job, &hold, becomes, began.elapsed()).await;
}

/// Asks the gateway, and waits here for room that comes soon.
async fn attempt(worker: &Worker, job: &Job) -> Becomes {
    let body = match job.body(worker.key.as_ref()) {
        Ok(body) => Bytes::from(body),
        // Others may have the key.
        Err(Unopened::NoKey) => {
            let why = "what is asked is sealed, and this worker has no key";
            return worker.leave_to_others(why.to_owned());
        }
        Err(Unopened::Wrong) => {
            return Becomes::Back(backoff(job.tries), true, "unopened: it was sealed otherwise".to_owned());
        }
    };
    let lane = (job.client.clone(), job.model.clone());
    let until = Instant::now() + WAITS_IN_PLACE;
    loop {
        let full = worker.full.borrow().get(&lane).copied();
        if let Some(over) = full.filter(|over| *over > Instant::now()) {
            // One that waits is enough: it hears first when there is room, and the others' places are for other jobs.
            let place = worker.waiting.wait(&lane).filter(|_| over <= until);
            let Some(_place) = place else {
                return Becomes::Back(
                    over.saturating_duration_since(Instant::now()),
                    false,
                    "there is no room".to_owned(),
                );
            };
            tokio::time::sleep_until(over.into()).await;
        }
        let met = worker.gateway.ask(job, body.clone()).await;
        if !matches!(met, Met::Trouble(_)) {
            worker.trouble.set((0, None));
        }
        match met {
            Met::Answer(answer) => return Becomes::Answered(answer),
            Met::Full(wait) => {
                worker.counts.job("full", &job.client, &job.priority);
                worker.note_full(&lane, wait);
            }
            Met::Failed(why, told) => {
                return Becomes::Back(backoff(job.tries).max(told.unwrap_or_default()), true, why);
            }
            Met::Hopeless(why) => return Becomes::Buried(why),
            Met::Unsendable(why) => return Becomes::Failed(why),
            Met::NotFor => {
                let why = "the gateway does not let this worker stand for its client";
                return Becomes::Back(NOT_FOR_AGAIN, false, why.to_owned());
            }
            Met::Trouble(why) => return worker.leave_to_others(why),
        }
    }
}

impl Worker {
    fn note_full(&self, lane: &Lane, wait: Duration) {
        let mut full = self.full.borrow_mut();
        let now = Instant::now();
        full.retain(|_, over| *over > now);
        full.insert(lane.clone(), now + wait);
    }

    /// Puts a job back that this worker cannot send, and takes none for a while. Others can at once: were it to wait until this worker
    /// looks again, this one might take it each time.
    fn leave_to_others(&self, why: String) -> Becomes {
        let (times, until) = self.trouble.get();
        let now = Instant::now();
        // Jobs that run at once meet the same trouble.
        if until.is_none_or(|until| until <= now) {
            let wait = backoff(times + 1).min(Duration::from_secs(15));
            log(&format!("{why}; no job is taken for {} s", wait.as_secs()));
            self.trouble.set((times + 1, Some(now + wait)));
        }
        Becomes::Back(Duration::ZERO, false, why)
    }
}

/// Tells the store, until it knows: an answer that was paid for is not lost because the store was away.
async fn write_down(worker: &Worker, job: &Job, hold: &Hold<'_>, becomes: Becomes, took: Duration) {
    let Job { id, client, priority, tries, .. } = job;
    let count = |word: &str| worker.counts.job(word, client, priority);
    let (word, said) = match becomes {
        Becomes::Gone => ("gone", "is not wanted any more".to_owned()),
        Becomes::Answered(answer) => match sealed(worker, job, &answer) {
            Ok(sealed) => {
                let call = || {
                    Call::new(FINISH)
                        .with(id)
                        .with(&job.run)
                        .with(answer.status)
                        .with(&answer.media)
                        .with(&sealed)
                        .with(worker.webhooks.flag(client))
                };
                match told::<u64>(worker, job, hold, call).await {
                    Some(1) => ("done", format!("was answered with {}", answer.status)),
                    Some(_) => ("gone", "was answered, and is not wanted any more".to_owned()),
                    None => return,
                }
            }
            Err(why) => return buried(worker, job, hold, why, worker.dead_kept).await,
        },
        Becomes::Buried(why) => return buried(worker, job, hold, why, worker.dead_kept).await,
        Becomes::Failed(why) => return buried(worker, job, hold, why, Duration::ZERO).await,
        Becomes::Back(wait, is_try, why) => {
            let call = || back(worker, job, wait, is_try, worker.tries, &why, worker.dead_kept);
            match told::<String>(worker, job, hold, call).await.as_deref() {
                Some("later") => (if is_try { "failed" } else { "put_back" }, format!("is put back: {why}")),
                Some("buried") => ("buried", format!("is a dead letter: {why}")),
                Some(_) => ("gone", "is not wanted any more".to_owned()),
                None => return,
            }
        }
    };
    count(word);
    log(&format!("job {id} of {client} {said}; try {tries}, {} ms", took.as_millis()));
}

async fn buried(worker: &Worker, job: &Job, hold: &Hold<'_>, why: String, kept: Duration) {
    // No tries are left to it.
    let call = || back(worker, job, Duration::ZERO, true, 0, &why, kept);
    match told::<String>(worker, job, hold, call).await.as_deref() {
        Some("buried") => {
            worker.counts.job("buried", &job.client, &job.priority);
            log(&format!("job {} of {} is a dead letter: {why}", job.id, job.client));
        }
        Some("failed") => {
            worker.counts.job("unsendable", &job.client, &job.priority);
            log(&format!("job {} of {} has failed: {why}", job.id, job.client));
        }
        Some(_) => worker.counts.job("gone", &job.client, &job.priority),
        None => {}
    }
}

fn back(
    worker: &Worker,
    job: &Job,
    wait: Duration,
    is_try: bool,
    tries: u32,
    why: &str,
    kept: Duration,
) -> Call {
    Call::new(BACK)
        .with(&job.id)
        .with(&job.run)
        .with(wait.as_millis() as u64)
        .with(u8::from(is_try))
        .with(tries)
        .with(why)
        .with(kept.as_millis() as u64)
        .with(worker.webhooks.flag(&job.client))
}

/// `None` if the worker had to end before the store was there.
async fn told<T: redis::FromRedisValue>(
    worker: &Worker,
    job: &Job,
    hold: &Hold<'_>,
    call: impl Fn() -> Call,
) -> Option<T> {
    let mut is_silent = false;
    loop {
        match worker.link.run(call()).await {
            Ok(answer) => return Some(answer),
            Err(error) if hold.word() == Word::Stop => {
                log(&format!("job {} is left to the others: {error}", job.id));
                return None;
            }
            Err(error) => {
                if !is_silent {
                    log(&format!("what became of job {} waits for the store: {error}", job.id));
                }
                is_silent = true;
                tokio::time::sleep(WRITTEN_AGAIN).await;
            }
        }
    }
}

fn sealed(worker: &Worker, job: &Job, answer: &Answer) -> Result<Vec<u8>, String> {
    let id = Id::read(&job.id).ok_or("its name is none")?;
    let what = What::Answer { client: &job.client, kind: &job.kind };
    let sealed = seal(worker.key.as_ref(), &random()?, &id, what, &answer.body);
    if sealed.len() > ANSWER_BYTES_MAX {
        return Err(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"));
    }
    Ok(sealed)
}
