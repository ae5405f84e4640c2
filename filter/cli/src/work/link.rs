//! How does a worker reach the store, which may be away for a while?
//!
//! One thread asks, one call after the other, on one connection: whoever waits for an answer holds up nobody's request.

use crate::queue::Call;
use crate::store::{Address, Store};
use redis::{FromRedisValue, Value};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The way to the store.
pub(super) struct Link {
    calls: mpsc::Sender<Asked>,
}

struct Asked {
    /// What is asked may depend on how long the connection has stood.
    call: Box<dyn FnOnce(Duration) -> Call + Send>,
    answer: oneshot::Sender<Result<Value, String>>,
}

impl Link {
    /// Over a connection that stands.
    pub(super) fn new(address: Address, store: Store) -> Result<Self, String> {
        let (calls, asked) = mpsc::channel();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(&address, Connected { store, since: Instant::now() }, &asked))
            .map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(Self { calls })
    }

    /// Runs a script.
    pub(super) async fn run<T: FromRedisValue>(&self, call: Call) -> Result<T, String> {
        self.run_standing(|_| call).await
    }

    /// Runs a script, which is told for how long the connection has stood.
    pub(super) async fn run_standing<T: FromRedisValue>(
        &self,
        call: impl FnOnce(Duration) -> Call + Send + 'static,
    ) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "the way to the store has ended".to_owned();
        self.calls.send(Asked { call: Box::new(call), answer }).map_err(|_| gone())?;
        let value = answered.await.map_err(|_| gone())??;
        T::from_redis_value(value).map_err(|error| format!("the store's answer is no such one: {error}"))
    }
}

struct Connected {
    store: Store,
    since: Instant,
}

fn serve(address: &Address, connected: Connected, asked: &mpsc::Receiver<Asked>) {
    let mut connected = Some(connected);
    while let Ok(Asked { call, answer }) = asked.recv() {
        let result = ask(address, &mut connected, call);
        // After a fault nobody knows what comes next on that connection.
        if result.is_err() {
            connected = None;
        }
        let _ = answer.send(result);
    }
}

fn ask(
    address: &Address,
    connected: &mut Option<Connected>,
    call: impl FnOnce(Duration) -> Call,
) -> Result<Value, String> {
    let connected = match connected {
        Some(connected) => connected,
        None => connected.insert(Connected { store: address.connect()?, since: Instant::now() }),
    };
    connected.store.run(&call(connected.since.elapsed()))
}
