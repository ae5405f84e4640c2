//! One question each, answered in words only: no decision knows another.

pub mod access;
pub mod capacity;
pub mod estimate;
pub mod identity;
pub mod journal;
pub mod ledger;
pub mod limits;
pub mod pending;
pub mod pinning;
pub mod policy;
pub mod route;
pub mod spending;
pub mod usage;
