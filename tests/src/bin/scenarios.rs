//! `cargo scenarios`: the scenarios of Microsoft's gateway toolkit, through a real Envoy with Tollgate in it.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tollgate_tests::harness::tools::{self, workspace};
use tollgate_tests::scenarios::{Pace, Scenario};

/// The scenarios of Microsoft's gateway toolkit: tables, and whether each passes. docs/scenarios.md says what they are.
#[derive(Parser)]
#[command(name = "cargo scenarios", bin_name = "cargo scenarios")]
struct Options {
    /// Which; all of them if none is named.
    #[arg(value_name = "NAME", value_parser = scenario)]
    scenarios: Vec<Scenario>,
    /// How many seconds of the toolkit's go by in one: 1, 2, 5 or 10
    #[arg(long, value_name = "N", default_value = "10", value_parser = scale)]
    scale: u32,
    /// Some seconds for each: shows that everything works.
    #[arg(long, conflicts_with_all = ["scale", "pictures"])]
    quick: bool,
    /// Draw docs/pictures/scenario-NAME.svg.
    #[arg(long)]
    pictures: bool,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let names = || Scenario::ALL.map(Scenario::name).join(", ");
    Scenario::named(name).ok_or_else(|| format!("expected one of {}", names()))
}

/// A window of ten seconds stays one of whole seconds.
fn scale(text: &str) -> Result<u32, String> {
    let known = [1, 2, 5, 10].into_iter().find(|scale| scale.to_string() == text);
    known.ok_or_else(|| "expected 1, 2, 5 or 10".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    tools::exit(run(&Options::parse()).await)
}

async fn run(options: &Options) -> Result<()> {
    let chosen = if options.scenarios.is_empty() { &Scenario::ALL[..] } else { &options.scenarios };
    let mut failed = Vec::new();
    for scenario in chosen {
        let pace = if options.quick { scenario.quick() } else { Pace { scale: options.scale, shortened: 1 } };
        let outcome = scenario.run(pace).await.with_context(|| scenario.name())?;
        println!("{}", outcome.table());
        if options.pictures {
            let file = workspace().join(format!("docs/pictures/scenario-{}.svg", scenario.name()));
            std::fs::write(&file, outcome.picture())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        if !outcome.passes() {
            failed.push(scenario.name());
        }
    }
    if !failed.is_empty() {
        bail!("not passed: {}", failed.join(", "));
    }
    Ok(())
}
