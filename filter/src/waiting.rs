//! Streams that wait for something which no callback of theirs will announce.
//!
//! The worker's tick looks at them; it comes seldom, and often while somebody waits. A stream that ends meanwhile takes
//! itself out.

use crate::host;
use crate::http::Stream;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tollgate::journal::BEAT_EVERY;

/// How often a stream that waits is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

thread_local! {
    /// By the number of their context, which is the order in which they came.
    static WAITING: RefCell<BTreeMap<u32, Weak<RefCell<Stream>>>> = const { RefCell::new(BTreeMap::new()) };
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
    if was_last {
        host::tick_every(BEAT_EVERY);
    }
}

/// Goes on with those for which it has come.
pub(crate) fn tick() {
    // A stream that goes on leaves the list, so the list is not held meanwhile.
    let streams: Vec<_> =
        WAITING.with_borrow(|waiting| waiting.iter().map(|(id, stream)| (*id, stream.clone())).collect());
    for (id, stream) in streams {
        let goes_on = match stream.upgrade() {
            Some(stream) if host::act_for(id) => {
                let mut stream = stream.borrow_mut();
                stream.wake();
                !stream.is_waiting()
            }
            _ => true,
        };
        if goes_on {
            leave(id);
        }
    }
}
