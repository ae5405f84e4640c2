//! Adds what was spent to what the fleet's store is told, where it keeps that.

use crate::host::{self, SharedData};
use std::time::Duration;
use tollgate::gateway::Gateway;
use tollgate::ledger::{Record, Series};
use tollgate::spending;

/// What the log says where the memory of this process does not answer.
pub(crate) const UNKEPT: &str = "what was spent could not be kept for the fleet's store";

/// Adds what an exchange has cost.
pub(crate) fn add(gateway: &Gateway, record: &Record, now: Duration) {
    if gateway.store.as_ref().is_none_or(|store| store.spend_days.is_none()) {
        return;
    }
    if let Some(row) = record.spend(now)
        && host::answered(spending::add(&SharedData, &row), UNKEPT) == Some(false)
    {
        host::count(Series::SpendMerged, 1);
    }
}

/// Takes what the store has answered to a call.
pub(crate) fn answered(number: u64, reply: &[i64]) {
    match host::answered(spending::answered(&SharedData, number, reply), UNKEPT).flatten() {
        Some(0) => {}
        Some(merged) => host::count(Series::SpendMerged, merged),
        None => host::count(Series::StoreCalls { outcome: "no_spend" }, 1),
    }
}
