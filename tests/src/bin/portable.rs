//! Writes `envoy/portable-*.yaml`, `envoy/fleet.yaml` and `envoy/queue.yaml` from `envoy/envoy.yaml`.

use std::fs;
use std::process::ExitCode;
use tollgate_tests::harness::{portable, tools};

fn main() -> ExitCode {
    tools::exit(write())
}

fn write() -> anyhow::Result<()> {
    for (file, text) in portable::files()? {
        fs::write(tools::workspace().join(file), text)?;
    }
    Ok(())
}
