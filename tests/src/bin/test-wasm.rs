//! `cargo test-wasm`: the core's own tests, run as wasm on Node, built for what the filter is built for: 32-bit arithmetic is
//! where the core runs in production. Arguments go to `cargo test`.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::tools;

fn main() -> ExitCode {
    tools::exit(test())
}

fn test() -> Result<()> {
    tools::rust_target(tools::WASM_WASI)?;
    let script = tools::workspace().join("tests/node/wasi.mjs");
    // Without the warning, in every run, that Node's WASI is an experiment.
    let runner = json!([tools::node()?, "--no-warnings", script]);
    let mut cargo = tools::cargo();
    cargo
        .args(["test", "--package", "tollgate", "--lib", "--target", tools::WASM_WASI])
        .arg("--config")
        .arg(format!("target.{}.runner={runner}", tools::WASM_WASI))
        .args(env::args_os().skip(1))
        // Where a panic ends the process, what was captured until then is lost.
        .env("RUST_TEST_NOCAPTURE", "1");
    let status = Leashed::spawn(&mut cargo).and_then(Leashed::wait).context("cargo cannot be run")?;
    ensure!(status.success(), "the core's tests do not pass as wasm: what failed stands above");
    Ok(())
}
