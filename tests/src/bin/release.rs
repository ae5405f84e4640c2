//! `cargo release-artefacts`: makes what belongs to a release in `target/dist`, and lists it.

use std::process::ExitCode;

use anyhow::Result;
use tollgate_tests::harness::tools::{self, Source};
use tollgate_tests::release;

fn main() -> ExitCode {
    tools::exit(make())
}

fn make() -> Result<()> {
    let dist = tools::target_dir().join("dist");
    let mut files = release::of_module(&Source::here())?;
    files.push(release::of_tool(&Source::here())?);
    let names: Vec<_> =
        files.iter().map(|file| file.name.clone()).chain([release::SUMS.to_owned()]).collect();
    release::write(files, &dist)?;
    for name in names {
        println!("{}", tools::shown(&dist.join(name)).display());
    }
    Ok(())
}
