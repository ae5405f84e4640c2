//! How is the queue worked off?
//!
//! Jobs are taken one by one, as many at a time as the command line says, and sent to the gateway as their clients'. What becomes of
//! them is written down by one script each; `docs/queue.md` says what a crash between two of them costs. Logs name jobs and clients,
//! never what was asked or answered.

mod counts;
mod gateway;
mod held;
mod job;
mod link;
mod notices;
mod page;
mod tls;
mod trying;
mod waiting;
mod webhook;

use crate::End;
use crate::arguments::Work;
use crate::queue::{BEAT, Call, SWEEP, TAKE};
use crate::store::Address;
use counts::Counts;
use gateway::Gateway;
use held::{Held, Word};
use job::Job;
use link::Link;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{LocalSet, spawn_local};
use tollgate::calendar::rfc3339;
use tollgate::digest::hex;
use tollgate::job::Key;
use waiting::{Lane, Waiting};
use webhook::Webhooks;

/// How often a worker with room looks for a job while there is none.
const LOOKED_FOR: Duration = Duration::from_millis(200);

/// How often a worker says that it lives, and hears what was cancelled.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How often is looked for what has waited too long.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// After a store was away, for so long nobody's jobs are taken over: the others must say first that they live.
const OTHERS_SPEAK_IN: Duration = Duration::from_secs(3);

/// A job that is to wait so long at the most is waited for at its place; for a longer time it is put back.
const WAITS_IN_PLACE: Duration = Duration::from_secs(10);

/// What all parts of a worker share.
struct Worker {
    name: String,
    link: Link,
    gateway: Gateway,
    key: Option<Key>,
    webhooks: Webhooks,
    dead_after: Duration,
    tries: u32,
    dead_kept: Duration,
    dead_max: u32,
    held: Held,
    counts: Counts,
    /// Until when there is no room for a client and a model.
    full: RefCell<HashMap<Lane, Instant>>,
    /// The lanes of which a job waits at its place.
    waiting: Waiting,
    /// How often in a row the gateway could not be reached, and until when it is left alone.
    trouble: Cell<(u32, Option<Instant>)>,
    stop: watch::Receiver<bool>,
}

/// Works the queue off until it is told to stop; or, with `--once`, until nothing is left to be taken.
pub(crate) fn work(arguments: &Work) -> Result<End, String> {
    let address = Address::of(&arguments.address, None)?;
    let store = address.connect()?;
    let environment = |option: &str, name: &str| {
        std::env::var(name).map_err(|_| format!("{option}: the environment variable {name} is not set"))
    };
    let key = environment("--key-env", &arguments.key_env)?;
    let timeout = Duration::from_secs(arguments.timeout.into());
    let sealing = arguments.seal_env.as_ref().map(|name| {
        let text = environment("--seal-env", name)?;
        Key::read(&text)
            .ok_or_else(|| format!("the environment variable {name}: expected 32 bytes as base64"))
    });
    if arguments.seal_env.is_none() {
        crate::paint::warn("without --seal-env, what is asked and answered lies open in the store");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the worker cannot start: {error}"))?;
    let (stopped, stop) = watch::channel(false);
    let worker = Worker {
        name: name()?,
        gateway: Gateway::new(&arguments.gateway, key.trim(), timeout)?,
        key: sealing.transpose()?,
        webhooks: Webhooks::read(&arguments.webhooks, &arguments.webhook_secrets)?,
        dead_after: Duration::from_secs(arguments.dead_after.into()),
        tries: arguments.tries,
        dead_kept: Duration::from_secs(u64::from(arguments.keep_dead) * 86400),
        dead_max: arguments.dead_max,
        held: Held::default(),
        counts: Counts::default(),
        full: RefCell::default(),
        waiting: Waiting::default(),
        trouble: Cell::default(),
        stop,
        link: Link::new(address, store)?,
    };
    let run = run(Rc::new(worker), stopped, arguments);
    LocalSet::new().block_on(&runtime, run).map(|()| End::Well)
}

async fn run(worker: Rc<Worker>, stopped: watch::Sender<bool>, arguments: &Work) -> Result<(), String> {
    if let Some(address) = &arguments.metrics {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| format!("--metrics {address}: {error}"))?;
        let bound = listener.local_addr().map_err(|error| error.to_string())?;
        log(&format!("metrics are at http://{bound}/metrics"));
        spawn_local(page::serve(Rc::clone(&worker), listener));
    }
    let stopped = Rc::new(stopped);
    spawn_local(signals(Rc::clone(&stopped))?);
    spawn_local(beat(Rc::clone(&worker)));
    spawn_local(sweep(Rc::clone(&worker)));
    if worker.webhooks.clients().next().is_some() {
        spawn_local(notices::run(Rc::clone(&worker)));
    }
    log(&format!("{} takes jobs, {} at a time", worker.name, arguments.concurrency));
    let room = Arc::new(Semaphore::new(arguments.concurrency.into()));
    take_all(&worker, &room, arguments.once).await;
    // Whatever has the room still runs.
    let all = room.acquire_many(u32::from(arguments.concurrency));
    tokio::select! {
        _ = all => {}
        () = grace(&worker, Duration::from_secs(arguments.grace.into())) => {
            worker.held.tell_all(Word::Stop);
            let _ = room.acquire_many(u32::from(arguments.concurrency)).await;
        }
    }
    log(&format!("{} ends", worker.name));
    Ok(())
}

/// Takes what there is, until told to stop.
async fn take_all(worker: &Rc<Worker>, room: &Arc<Semaphore>, once: bool) {
    let mut is_silent = false;
    loop {
        let place = tokio::select! {
            () = worker.stopped() => return,
            place = Arc::clone(room).acquire_owned() => place,
        };
        // It is never closed.
        let Ok(place) = place else { return };
        let pause = worker.trouble.get().1.map(|until| until.saturating_duration_since(Instant::now()));
        let pause = match pause.filter(|pause| !pause.is_zero()) {
            Some(pause) => pause,
            None => match worker.take().await {
                Ok(Taken { job: Some(job), .. }) => {
                    is_silent = false;
                    let worker = Rc::clone(worker);
                    spawn_local(async move {
                        trying::run(&worker, job).await;
                        drop(place);
                    });
                    continue;
                }
                Ok(Taken { next, is_all, .. }) => {
                    is_silent = false;
                    let is_over = is_all && next.is_none_or(|next| next > WAITS_IN_PLACE);
                    if once && is_over && worker.held.len() == 0 {
                        return;
                    }
                    LOOKED_FOR
                }
                Err(error) => {
                    // Once, and not at each try.
                    if !is_silent {
                        log(&format!("no job can be taken: {error}"));
                    }
                    is_silent = true;
                    BEAT_EVERY
                }
            },
        };
        drop(place);
        tokio::select! {
            () = worker.stopped() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What the store gave.
struct Taken {
    job: Option<Job>,
    /// When the next of those is due that wait for their time.
    next: Option<Duration>,
    /// Whether those of dead workers were looked for as well.
    is_all: bool,
}

/// What became of a job on the way: a word, its client, its priority and itself.
type Event = (String, String, String, String);

impl Worker {
    async fn take(&self) -> Result<Taken, String> {
        let (name, tries) = (self.name.clone(), self.tries);
        let (dead_after, dead_kept) = (self.dead_after.as_millis() as u64, self.dead_kept.as_millis() as u64);
        let told: Vec<_> = self.webhooks.clients().map(str::to_owned).collect();
        let take = move |stood: Duration| {
            let takes_over = u8::from(stood >= OTHERS_SPEAK_IN);
            let call = Call::new(TAKE).with(name).with(dead_after).with(takes_over).with(tries);
            call.with(dead_kept).with_all(told)
        };
        let (events, next, is_all, job): (Vec<Event>, i64, bool, Option<Job>) =
            self.link.run_standing(take).await?;
        self.tell(events);
        let next = u64::try_from(next).ok().map(Duration::from_millis);
        Ok(Taken { job, next, is_all })
    }

    fn tell(&self, events: Vec<Event>) {
        for (word, client, priority, id) in events {
            self.counts.job(&word, &client, &priority);
            let what = match word.as_str() {
                "expired" => "has waited too long",
                "dropped" => "is dropped: it was the oldest of too many dead letters",
                "buried" => "is a dead letter: its workers died",
                _ => "was a dead worker's",
            };
            log(&format!("job {id} of {client} {what}"));
        }
    }

    async fn stopped(&self) {
        // Its sender lives as long as the worker.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}

/// Says that this worker lives, and hears which jobs are not its own any more.
async fn beat(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(BEAT_EVERY).await;
        let told = worker.held.told();
        if told.is_empty() {
            continue;
        }
        let gone = worker.link.run::<Vec<String>>(Call::new(BEAT).with(&worker.name).with_all(told)).await;
        // A store that is away takes nothing away.
        gone.unwrap_or_default().iter().for_each(|id| worker.held.tell(id, Word::Gone));
    }
}

async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let call = Call::new(SWEEP).with(worker.dead_kept.as_millis() as u64).with(worker.dead_max);
        let call = call.with_all(worker.webhooks.clients());
        if let Ok(events) = worker.link.run::<Vec<Event>>(call).await {
            worker.tell(events);
        }
    }
}

/// For how long is waited for what runs, when the worker is told to stop.
async fn grace(worker: &Worker, grace: Duration) {
    worker.stopped().await;
    tokio::time::sleep(grace).await;
}

/// Waits for the signals to stop.
#[cfg(unix)]
fn signals(stopped: Rc<watch::Sender<bool>>) -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let heard = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
    let (mut terminate, mut interrupt) = (heard(SignalKind::terminate())?, heard(SignalKind::interrupt())?);
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            log("told to stop: no job is taken any more");
            stopped.send_replace(true);
        }
    })
}

#[cfg(not(unix))]
fn signals(stopped: Rc<watch::Sender<bool>>) -> Result<impl Future<Output = ()>, String> {
    Ok(async move {
        let _ = tokio::signal::ctrl_c().await;
        stopped.send_replace(true);
        std::future::pending::<()>().await;
    })
}

/// One, two, four seconds and so on, a minute at the most.
fn backoff(times: u32) -> Duration {
    Duration::from_secs(1 << times.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

/// Nobody else's: that of the machine, and random digits.
fn name() -> Result<String, String> {
    let machine = std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned());
    Ok(format!("{machine}-{}", hex(&random::<4>()?)))
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| "this machine gives no random numbers".to_owned())?;
    Ok(bytes)
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Writes a line to standard error. If nobody reads it, the work goes on.
fn log(line: &str) {
    let _ = writeln!(std::io::stderr(), "{} {line}", rfc3339(now().as_secs()));
}
