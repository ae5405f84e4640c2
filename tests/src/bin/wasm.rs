//! `cargo wasm`: builds the filter and says where it is and how big. Nothing else.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tollgate_tests::harness::tools;

fn main() -> ExitCode {
    tools::exit(build())
}

fn build() -> Result<()> {
    let module = tools::wasm()?;
    let bytes = std::fs::metadata(&module).context("the filter was built but is not there")?.len();
    println!("{}: {bytes} bytes ({} KB)", tools::shown(&module).display(), bytes.div_ceil(1024));
    Ok(())
}
