//! The gauges: one VM of all tells them from time to time, for the configuration that came last.

use crate::host::{self, SharedData};
use crate::{journal, pending};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use std::time::Duration;
use tollgate::digest::Fnv1a;
use tollgate::gateway::Gateway;
use tollgate::journal::BEAT_EVERY;
use tollgate::standings::{TELL_EVERY, alerts, gauges, is_ours};
use tollgate::store::Moment;

/// What the log says of a store that does not answer.
const UNREAD: &str = "where the limits stand could not be read";

thread_local! {
    static LAST_TOLD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// A configuration before it still ticks while its streams end.
    static CURRENT: RefCell<Option<Rc<Gateway>>> = const { RefCell::new(None) };
}

/// Tells of this configuration from now on. What the one before told of, and this one does not, is nothing.
pub(crate) fn configured(gateway: Rc<Gateway>) {
    if let Some(before) = CURRENT.replace(Some(gateway.clone())) {
        let series = |gateway| {
            host::answered(gauges(gateway, Moment::new(&SharedData, host::now())), UNREAD).unwrap_or_default()
        };
        let kept: HashSet<_, BuildHasherDefault<Fnv1a>> =
            series(&gateway).into_iter().map(|(series, _)| series).collect();
        for (series, _) in series(&before).into_iter().filter(|(series, _)| !kept.contains(series)) {
            host::count(series, 0);
        }
    }
    LAST_TOLD.set(Duration::ZERO);
    tick();
}

/// Tells, if it is time to and no other VM does. The tick comes more often than that.
pub(crate) fn tick() {
    let now = host::now();
    // A tick that is a little early is due all the same.
    if now.abs_diff(LAST_TOLD.get()) < TELL_EVERY - BEAT_EVERY / 2 {
        return;
    }
    LAST_TOLD.set(now);
    if host::answered(is_ours(Moment::new(&SharedData, now), journal::vm()), UNREAD) != Some(true) {
        return;
    }
    if let Some(gateway) = CURRENT.with_borrow(Clone::clone) {
        pending::tick(&gateway, now);
        let told = host::answered(alerts(&gateway, Moment::new(&SharedData, now)), UNREAD);
        told.unwrap_or_default().iter().for_each(|alert| log::warn!("{alert}"));
    }
    let found = CURRENT.with_borrow(|gateway| {
        gateway.as_ref().map(|gateway| gauges(gateway, Moment::new(&SharedData, now)))
    });
    for (series, value) in found.and_then(|found| host::answered(found, UNREAD)).unwrap_or_default() {
        host::count(series, value);
    }
}
