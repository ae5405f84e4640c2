//! `cargo test-wasm`: the core's own tests, run as wasm on Node: 32-bit arithmetic is where the core runs in production.
//! Arguments go to `cargo test`.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use tollgate_tests::harness::leash::Leashed;
use tollgate_tests::harness::tools;

fn main() -> ExitCode {
    tools::exit(test())
}

fn test() -> Result<()> {
    tools::rust_target(tools::WASM_UNKNOWN)?;
    let node = tools::node()?;
    let runner = tools::wasm_bindgen_runner()?;
    let mut cargo = tools::cargo();
    cargo
        .args(["test", "--package", "tollgate", "--lib", "--target", tools::WASM_UNKNOWN])
        // Of the module of the tests four fifths would be what a debugger needs, all of which the runner reads.
        .args(["--config", "profile.dev.debug=false"])
        .args(env::args_os().skip(1))
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner)
        // The runner looks for `node` there.
        .env("PATH", path_with(&node)?);
    let status = Leashed::spawn(&mut cargo).and_then(Leashed::wait).context("cargo cannot be run")?;
    ensure!(status.success(), "the core's tests do not pass as wasm: what failed stands above");
    Ok(())
}

/// The PATH with the program's directory before all others.
fn path_with(program: &Path) -> Result<OsString> {
    let dirs = env::var_os("PATH").unwrap_or_default();
    let first = program.parent().map(Path::to_owned);
    env::join_paths(first.into_iter().chain(env::split_paths(&dirs))).context("PATH cannot be extended")
}
