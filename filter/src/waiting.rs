//! Streams that wait for something which no callback of theirs will announce.
//!
//! The worker's tick looks at them; it comes seldom, and often while somebody waits. A stream that ends meanwhile takes
//! itself out.

use crate::host::{self, SharedData};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Weak;
use std::time::Duration;
use tollgate::attempt::Back;
use tollgate::capacity::{Ask, Queue, Turn};
use tollgate::journal::BEAT_EVERY;
use tollgate::route::Cooldowns;
use tollgate::store::{Moment, StoreFault};

/// How often a stream that waits is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the tick goes on with. All of it is called outside the callbacks of its stream.
pub(crate) trait Waiter {
    /// Whether the tick is to look at it.
    fn is_waiting(&self) -> bool;

    /// Goes on, if what it waits for has come.
    fn wake(&mut self) {}

    /// Goes on, for its turn has come.
    fn take_turn(&mut self, turn: Turn);
}

thread_local! {
    /// By the number of their context, which is the order in which they came.
    static WAITING: RefCell<BTreeMap<u32, Weak<RefCell<dyn Waiter>>>> = const { RefCell::new(BTreeMap::new()) };
    /// Those of them that wait for room at a backend.
    static QUEUE: RefCell<Queue> = RefCell::default();
    /// Whether the tick comes often.
    static IS_FAST: Cell<bool> = const { Cell::new(false) };
    static IS_TICKING: Cell<bool> = const { Cell::new(false) };
    /// How often it comes else.
    static TICK: Cell<Duration> = const { Cell::new(BEAT_EVERY) };
}

/// Begins the tick of a configuration, which is its own: another one's, that comes often, may end with its streams.
pub(crate) fn begin() {
    host::tick_every(TICK.get());
    IS_FAST.set(false);
}

/// How often the tick comes while nobody waits.
pub(crate) fn set_tick(period: Duration) {
    TICK.set(period);
    begin();
}

/// How many may wait for room at a backend.
pub(crate) fn set_waiting_max(waiting_max: usize) {
    QUEUE.with_borrow_mut(|queue| queue.set_waiting_max(waiting_max));
}

/// Looks after a stream from now on.
pub(crate) fn enter(id: u32, stream: Weak<RefCell<dyn Waiter>>) {
    WAITING.with_borrow_mut(|waiting| waiting.insert(id, stream));
    if !IS_FAST.replace(true) {
        host::tick_every(LOOK_EVERY);
    }
}

/// Forgets a stream.
pub(crate) fn leave(id: u32) {
    let is_empty = WAITING.with_borrow_mut(|waiting| {
        waiting.remove(&id);
        waiting.is_empty()
    });
    QUEUE.with_borrow_mut(|queue| queue.leave(id));
    // Not within a tick: Envoy would free the timer that is calling us. The next stream that ends slows it down.
    if is_empty && IS_FAST.get() && !IS_TICKING.get() {
        begin();
    }
}

/// Forgets a stream, unless another one has come in its place. The tick stays as it is until its request ends.
pub(crate) fn withdraw(id: u32, stream: &Weak<RefCell<dyn Waiter>>) {
    let is_it = WAITING.with_borrow(|waiting| waiting.get(&id).is_some_and(|other| other.ptr_eq(stream)));
    if is_it {
        WAITING.with_borrow_mut(|waiting| waiting.remove(&id));
        QUEUE.with_borrow_mut(|queue| queue.leave(id));
    }
}

/// Asks for room at a backend.
pub(crate) fn admit(id: u32, ask: Ask, now: Duration) -> Result<Turn, StoreFault> {
    let cooldowns = cooldowns();
    let pause = |target| cooldowns.remaining(target, now);
    QUEUE.with_borrow_mut(|queue| queue.enter(id, ask, &pause, Moment::new(&SharedData, now)))
}

/// Asks for room again, for a request that a backend has refused.
pub(crate) fn come_back(id: u32, back: Back, now: Duration) -> Result<Turn, StoreFault> {
    let cooldowns = cooldowns();
    let pause = |target| cooldowns.remaining(target, now);
    let Back { ask, had_turn, .. } = back;
    let moment = Moment::new(&SharedData, now);
    QUEUE.with_borrow_mut(|queue| queue.come_back(id, ask, had_turn, &pause, moment))
}

/// Goes on with those whose waiting is over.
pub(crate) fn tick() {
    IS_TICKING.set(true);
    look();
    IS_TICKING.set(false);
}

fn look() {
    if !QUEUE.with_borrow(Queue::is_empty) {
        let (cooldowns, now) = (cooldowns(), host::now());
        let pause = |target| cooldowns.remaining(target, now);
        // The queue is not held while they go on.
        let turns = QUEUE.with_borrow_mut(|queue| queue.round(&pause, Moment::new(&SharedData, now)));
        for (id, turn) in turns {
            go_on(id, |stream| stream.take_turn(turn));
        }
    }
    wake();
}

/// Goes on with those for whom something has come, in the order in which they came.
pub(crate) fn wake() {
    let ids: Vec<_> = WAITING.with_borrow(|waiting| waiting.keys().copied().collect());
    for id in ids {
        go_on(id, |stream| stream.wake());
    }
}

/// Goes on with a stream, and forgets it unless it still waits.
fn go_on(id: u32, act: impl FnOnce(&mut dyn Waiter)) {
    let stream = WAITING.with_borrow(|waiting| waiting.get(&id).and_then(Weak::upgrade));
    let still_waits = match stream {
        Some(stream) if host::act_for(id) => {
            let mut stream = stream.borrow_mut();
            act(&mut *stream);
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
    host::answered(Cooldowns::load(&SharedData), "the pauses could not be read").unwrap_or_default()
}
