//! This VM's journal: its notes of requests under way, its sign of life, and what it takes over from dead ones.

use crate::host::{self, SharedData};
use crate::spending;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;
use tollgate::exchange::Exchange;
use tollgate::gateway::Gateway;
use tollgate::journal::{BEAT_EVERY, Journal, Note, Slot};
use tollgate::ledger::Series;
use tollgate::limits;
use tollgate::store::Moment;

/// What the log says of a store that does not answer.
const UNKEPT: &str = "the journal could not be kept";

thread_local! {
    static LAST_BEAT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static JOURNAL: RefCell<Journal> = RefCell::new(Journal::new(RandomState::new().build_hasher().finish()));
}

/// This VM's number, which no other has.
pub(crate) fn vm() -> u64 {
    JOURNAL.with_borrow(Journal::vm)
}

/// Notes a request that something has been reserved for.
pub(crate) fn enter(note: &Note, now: Duration) -> Option<Slot> {
    JOURNAL
        .with_borrow_mut(|journal| host::answered(journal.enter(Moment::new(&SharedData, now), note), UNKEPT))
        .flatten()
}

/// Notes of a request that has its note what has been reserved for it since. If another VM has taken the note,
/// [`leave`] tells.
pub(crate) fn renew(slot: &Slot, note: &Note) {
    JOURNAL.with_borrow(|journal| host::answered(journal.renew(&SharedData, slot, note), UNKEPT));
}

/// Takes the note back. False if another VM has written the request down already.
pub(crate) fn leave(slot: Slot, now: Duration) -> bool {
    JOURNAL
        .with_borrow_mut(|journal| host::answered(journal.leave(Moment::new(&SharedData, now), slot), UNKEPT))
        .unwrap_or(true)
}

/// Gives a sign of life, and writes down what dead VMs left behind. The tick comes more often than that while a stream
/// waits.
pub(crate) fn tick(gateway: &Gateway) {
    let now = host::now();
    // A tick that is a little early is due all the same.
    if now.abs_diff(LAST_BEAT.get()) < BEAT_EVERY / 2 {
        return;
    }
    LAST_BEAT.set(now);
    let left_behind = JOURNAL.with_borrow(|journal| {
        host::answered(journal.beat(Moment::new(&SharedData, now)), UNKEPT);
        host::answered(journal.adopt(Moment::new(&SharedData, now)), UNKEPT)
    });
    for note in left_behind.unwrap_or_default() {
        log::warn!(
            "a request of client {} for model {} was lost with its VM; {} tokens stay charged",
            note.client,
            note.model,
            note.prompt.saturating_add(note.completion),
        );
        if let Err(fault) = limits::return_slots(Moment::new(&SharedData, now), &note.slots) {
            log::error!("a lost request's place could not be returned: {fault:?}");
            host::count(Series::StoreFaults, 1);
        }
        let record = Exchange::lost(&note, gateway);
        spending::add(gateway, &record, now);
        for (series, amount) in record.additions() {
            host::count(series, amount);
        }
    }
}
