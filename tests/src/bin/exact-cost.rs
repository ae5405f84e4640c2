//! Writes down what requests cost, in calls and bytes: `tests/fixtures/exact-cost.json`.

use std::process::ExitCode;
use tollgate_tests::{cost, harness::tools};

#[tokio::main]
async fn main() -> ExitCode {
    tools::exit(write().await)
}

async fn write() -> anyhow::Result<()> {
    let counted = cost::count().await?;
    for (name, cost) in &counted.requests {
        println!("{:3} calls, {:2} entries: {name}", cost.host_calls, cost.vm_entries);
    }
    println!("{} bytes: the module", counted.module_bytes);
    cost::write(&counted)
}
