//! `cargo bench-envoy`: what does Tollgate cost an Envoy? Bare Envoy, twice, an Envoy with an empty Wasm filter and one
//! with Tollgate, side by side on this machine, loaded in turns through the same mock.

mod backend;
mod baseline;
mod credentials;
mod growth;
mod load;
mod markdown;
mod measure;
mod process;
mod profile;
mod report;
mod scenario;
mod variant;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tollgate_tests::harness::tools::{self, Source};

use crate::baseline::Baseline;
use crate::growth::{Growth, NEW_TOKENS};
use crate::load::Rate;
use crate::measure::{About, Bench, Pace, Plan};
use crate::scenario::Scenario;
use crate::variant::{Modules, Variant, empty_module};

/// Tollgate against bare Envoy, on this machine, in one run.
#[derive(Parser)]
#[command(name = "cargo bench-envoy", bin_name = "cargo bench-envoy")]
struct Options {
    /// A few seconds in all: shows that everything works, and says nothing about speed.
    #[arg(long)]
    quick: bool,
    /// Seconds of load for each Envoy in each round [default: 1]
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// How often each Envoy has its turn [default: 15, and 9 with --growth]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Connections, each with one request at a time [default: 16, and 64 for streams]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Requests per second, whether those before are answered or not, in place of as many as are answered; `half` is half of
    /// what is answered at most with Tollgate, found out in the same run
    #[arg(long, value_name = "N", value_parser = pace)]
    rate: Option<Pace>,
    /// Only this kind of request; may be given more than once.
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<Scenario>,
    /// Where to write the numbers [default: bench-envoy.json in the target directory]
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Another build of the filter, to compare with this one in the same run
    #[arg(long, value_name = "WASM")]
    beside: Option<PathBuf>,
    /// Not how much, but where: a profile of the module's functions, by Linux' `perf` (`cargo profile-envoy`)
    #[arg(long, conflicts_with_all = ["quick", "beside", "save", "json", "rounds"])]
    profile: bool,
    /// Not how much beside bare Envoy, but how that grows: with clients, backends, limits and tokens, beside Tollgate as it is
    /// measured otherwise, and latency at `--rate half` before that; prints tables for docs/performance.md
    #[arg(long, conflicts_with_all = ["profile", "beside", "save", "json", "rate", "scenarios"])]
    growth: bool,
    /// Keep the numbers in tests/fixtures/benchmark.json, which later runs show beside theirs
    #[arg(long, conflicts_with_all = ["quick", "rate"])]
    save: bool,
    /// Be the mock, and write its address there.
    #[arg(long, value_name = "PATH", hide = true)]
    serve_mock: Option<PathBuf>,
}

impl Options {
    fn plan(&self) -> Result<Plan> {
        let (seconds, rounds, streams) = match () {
            () if self.quick => (0.3, 2, 50),
            () if self.profile => (10.0, 1, 0),
            // More Envoys are measured than otherwise.
            () if self.growth => (1.0, 9, 0),
            () => (1.0, 15, 1000),
        };
        let seconds = self.seconds.unwrap_or(seconds);
        Ok(Plan {
            lasts: Duration::try_from_secs_f64(seconds).context("--seconds: expected a time")?,
            rounds: self.rounds.unwrap_or(rounds),
            connections: self.connections,
            pace: self.rate,
            scenarios: match self.scenarios.as_slice() {
                [] if self.profile || self.growth => vec![Scenario::Small],
                [] => Scenario::ALL.to_vec(),
                some => some.to_vec(),
            },
            streams,
            new_tokens: if self.quick { NEW_TOKENS_QUICK } else { NEW_TOKENS },
        })
    }
}

/// Code that is not optimised takes milliseconds to sign one.
const NEW_TOKENS_QUICK: usize = 100;

fn pace(text: &str) -> Result<Pace, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1e6).contains(&rate) => Ok(Pace::At(Rate(rate))),
        _ if text == "half" => Ok(Pace::Half),
        _ => Err("expected requests per second, 0.1 to 1000000, or half".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    tools::exit(match &options.serve_mock {
        Some(address) => backend::serve(address).await,
        None => run(&options).await,
    })
}

async fn run(options: &Options) -> Result<()> {
    let plan = options.plan()?;
    if !process::is_accounted() {
        eprintln!("tollgate: there is no /proc/PID/task/*/schedstat here: CPU and memory are left out");
    }
    let baseline = Baseline::load()?;
    if options.profile {
        return profile(&plan).await;
    }
    let empty = tokio::task::spawn_blocking(empty_module).await??;
    let beside = options.beside.as_deref().map(Path::canonicalize).transpose().context("--beside")?;
    let modules = Modules { empty, beside, are_profiled: false };
    if options.growth {
        return growth(&plan, modules, options.quick).await;
    }
    let mut bench = Bench::start(&plan, &Variant::all(&modules), modules).await?;
    let mut results = Vec::new();
    for scenario in &plan.scenarios {
        let result = bench.run(*scenario, &plan).await?;
        print!("{}", report::table(&result));
        print!("{}", baseline.as_ref().and_then(|kept| kept.line(scenario.name())).unwrap_or_default());
        results.push(result);
    }
    let memory = bench.memory(plan.streams).await?;
    print!("{}", report::memory_table(&memory, plan.streams));
    let path = options.json.clone().unwrap_or_else(|| tools::target_dir().join("bench-envoy.json"));
    let about = bench.about().await?;
    let json = report::json(&about, &plan, &results, &memory)?;
    std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nAll numbers, each round's too: {}", tools::shown(&path).display());
    if options.save {
        let file = Baseline::of(&results, &about.envoy)?.save()?;
        println!("The baseline: {}", tools::shown(&file).display());
    }
    Ok(())
}

/// Two benches, one after the other: idle Envoys wake now and then, and a 99th percentile would show it.
async fn growth(plan: &Plan, modules: Modules, is_quick: bool) -> Result<()> {
    let [scenario] = plan.scenarios.as_slice() else { bail!("there is one kind of request here") };
    let at_half = Plan { pace: Some(Pace::Half), scenarios: plan.scenarios.clone(), ..*plan };
    let beside_bare = [Variant::Bare, Variant::BareAgain, Variant::Tollgate];
    let mut bench = Bench::start(&at_half, &beside_bare, modules.clone()).await?;
    let About { envoy, cpus, .. } = bench.about().await?;
    // Where there is no git, the tables are for nobody's document.
    let commit = baseline::commit().unwrap_or_else(|_| "unknown".to_owned());
    // The hash of Envoy's own commit stands before its number, and how it was built behind it.
    let envoy = envoy.split('/').nth(1).unwrap_or(&envoy);
    println!("Commit {commit}, on {cpus} x {}, Envoy {envoy}.", baseline::cpu());
    print!("{}", markdown::latency(&bench.run(*scenario, &at_half).await?));
    drop(bench);

    let grown: &[Growth] = if is_quick { &Growth::QUICK } else { &Growth::ALL };
    let grown = grown.iter().copied().map(Variant::Grown);
    let variants: Vec<_> = [Variant::Tollgate].into_iter().chain(grown).collect();
    let mut bench = Bench::start(plan, &variants, modules).await?;
    let outcome = bench.run(*scenario, plan).await?;
    print!("{}", markdown::growth(&outcome, &bench.memory_of_growth().await?));
    Ok(())
}

async fn profile(plan: &Plan) -> Result<()> {
    let module = tokio::task::spawn_blocking(|| Source::here().module_with_names()).await??.file;
    let modules = Modules { empty: module.clone(), beside: Some(module), are_profiled: true };
    let mut bench = Bench::start(plan, &[Variant::Bare, Variant::Beside], modules).await?;
    for scenario in &plan.scenarios {
        let found = bench.profile(*scenario, plan).await?;
        if let [(_, bare_us), (profile, per_request_us)] = found.as_slice() {
            print!("\n{}\n{}", scenario.title(), profile.table(*per_request_us, *bare_us));
        }
    }
    Ok(())
}
