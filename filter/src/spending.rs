//! Adds what was spent to what the fleet's store is told, where it keeps that.

use crate::host::{self, SharedData};
use std::time::Duration;
use tollgate::gateway::Gateway;
use tollgate::ledger::{Record, Series};
use tollgate::spending::Call;

/// What the log says where the memory of this process does not answer.
pub(crate) const UNKEPT: &str = "what was spent could not be kept for the fleet's store";

/// Adds what an exchange has cost.
pub(crate) fn add(gateway: &Gateway, record: &Record, now: Duration) {
    let store = gateway.store.as_ref().filter(|store| store.spend_days.is_some());
    if let Some(store) = store
        && let Some(row) = record.spend(now)
        && host::answered(store.book().add(&SharedData, &row), UNKEPT) == Some(false)
    {
        host::count(Series::SpendMerged, 1);
    }
}

/// Takes what the store has answered.
pub(crate) fn answered(call: &Call, reply: &[i64]) {
    match host::answered(call.answered(&SharedData, reply), UNKEPT).flatten() {
        Some(0) => {}
        Some(merged) => host::count(Series::SpendMerged, merged),
        None => host::count(Series::StoreCalls { outcome: "no_spend" }, 1),
    }
}
