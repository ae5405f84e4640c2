//! How do many Envoys share one budget? The store's script: its calls, a model of it, and what may happen to those who call.

pub mod call;
pub mod histories;
pub mod model;
pub mod simulation;

use anyhow::{Context, Result};

use crate::harness::tools::workspace;

/// The script of an account, as the filter sends it.
///
/// # Errors
/// It cannot be read.
pub fn script() -> Result<String> {
    let file = workspace().join("filter/core/src/decisions/limits/leases/account.lua");
    std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}
