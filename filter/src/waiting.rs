//! Streams that wait for something which no callback of theirs will announce.
//!
//! The worker's tick looks at them; it comes seldom, and often while somebody waits. A stream that ends meanwhile takes
//! itself out.

use crate::host::{self, SharedData};
use crate::http::Stream;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tollgate::capacity::{Ask, Queue, Turn};
use tollgate::journal::BEAT_EVERY;
use tollgate::ledger::Series;
use tollgate::route::Cooldowns;
use tollgate::store::StoreFault;

/// How often a stream that waits is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

thread_local! {
    /// By the number of their context, which is the order in which they came.
    static WAITING: RefCell<BTreeMap<u32, Weak<RefCell<Stream>>>> = const { RefCell::new(BTreeMap::new()) };
    /// Those of them that wait for room at a backend.
    static QUEUE: RefCell<Queue> = RefCell::default();
}

/// How many may wait for room at a backend.
pub(crate) fn set_waiting_max(waiting_max: usize) {
    QUEUE.with_borrow_mut(|queue| queue.set_waiting_max(waiting_max));
}

/// Looks after a stream from now on.
pub(crate) fn enter(id: u32, stream: &Rc<RefCell<Stream>>) {
    let is_first = WAITING.with_borrow_mut(|waiting| {
        let is_first = waiting.is_empty();
        waiting.insert(id, Rc::downgrade(stream));
        is_first
    });
    if is_first {
        host::tick_every(LOOK_EVERY);
    }
}

/// Forgets a stream.
pub(crate) fn leave(id: u32) {
    let was_last = WAITING.with_borrow_mut(|waiting| waiting.remove(&id).is_some() && waiting.is_empty());
    QUEUE.with_borrow_mut(|queue| queue.leave(id));
    if was_last {
        host::tick_every(BEAT_EVERY);
    }
}

/// Asks for room at a backend.
pub(crate) fn admit(id: u32, ask: Ask) -> Result<Turn, StoreFault> {
    let (cooldowns, now) = (cooldowns(), host::now());
    let pause = |target| cooldowns.remaining(target, now);
    QUEUE.with_borrow_mut(|queue| queue.enter(id, ask, &pause, &SharedData, now))
}

/// Goes on with those whose waiting is over.
pub(crate) fn tick() {
    if !QUEUE.with_borrow(Queue::is_empty) {
        let (cooldowns, now) = (cooldowns(), host::now());
        let pause = |target| cooldowns.remaining(target, now);
        // The queue is not held while they go on.
        let turns = QUEUE.with_borrow_mut(|queue| queue.round(&pause, &SharedData, now));
        for (id, turn) in turns {
            go_on(id, |stream| stream.take_turn(turn));
        }
    }
    let ids: Vec<_> = WAITING.with_borrow(|waiting| waiting.keys().copied().collect());
    for id in ids {
        go_on(id, Stream::wake);
    }
}

/// Goes on with a stream, and forgets it unless it still waits.
fn go_on(id: u32, act: impl FnOnce(&mut Stream)) {
    let stream = WAITING.with_borrow(|waiting| waiting.get(&id).and_then(Weak::upgrade));
    let still_waits = match stream {
        Some(stream) if host::act_for(id) => {
            let mut stream = stream.borrow_mut();
            act(&mut stream);
            stream.is_waiting()
        }
        _ => false,
    };
    if !still_waits {
        leave(id);
    }
}

/// The pauses; without them every backend may be asked.
fn cooldowns() -> Cooldowns {
    Cooldowns::load(&SharedData).unwrap_or_else(|fault| {
        log::error!("the pauses could not be read: {fault:?}");
        host::count(Series::StoreFaults, 1);
        Cooldowns::default()
    })
}
