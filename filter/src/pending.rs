//! Writes down work that nobody has read the end of in time.

use crate::host::{self, SharedData};
use crate::spending;
use std::cell::Cell;
use std::time::Duration;
use tollgate::exchange::Exchange;
use tollgate::gateway::Gateway;
use tollgate::pending::{BUCKETS, overdue};
use tollgate::store::Moment;

/// So many keys are looked at each time: all of them in half a minute.
const BUCKETS_AT_ONCE: u16 = 32;

thread_local! {
    static NEXT: Cell<u16> = const { Cell::new(0) };
}

/// Looks at some more of it. Only the VM that tells the gauges does.
pub(crate) fn tick(gateway: &Gateway, now: Duration) {
    for _ in 0..BUCKETS_AT_ONCE {
        let bucket = NEXT.get();
        NEXT.set((bucket + 1) % BUCKETS);
        let found = overdue(Moment::new(&SharedData, now), bucket);
        let Some(found) = host::answered(found, "work that goes on could not be looked for") else { return };
        for pending in found {
            let record = Exchange::expired(&pending, gateway);
            log::warn!(
                "nobody read how work of client {} at backend {} ended; {} tokens stay charged",
                pending.client,
                pending.backend,
                record.usage.total(),
            );
            spending::add(gateway, &record, now);
            for (series, amount) in record.charges() {
                host::count(series, amount);
            }
        }
    }
}
