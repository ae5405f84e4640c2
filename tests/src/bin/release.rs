//! `cargo release-artefacts`: makes what belongs to a release in `target/dist`, and lists it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tollgate_tests::harness::tools::{self, Source};
use tollgate_tests::release;

/// Makes what belongs to a release in `target/dist`.
#[derive(Parser)]
struct Options {
    /// Signs the sums by this private key: P-256, PKCS #8, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

fn main() -> ExitCode {
    tools::exit(make(&Options::parse()))
}

fn make(options: &Options) -> Result<()> {
    let key = options
        .key
        .as_ref()
        .map(|file| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())));
    let key = key.transpose()?;
    let dist = tools::target_dir().join("dist");
    let mut files = release::of_module(&Source::here())?;
    files.push(release::of_tool(&Source::here())?);
    for name in release::write(files, &dist, key.as_deref())? {
        println!("{}", tools::shown(&dist.join(name)).display());
    }
    Ok(())
}
