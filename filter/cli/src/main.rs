//! What would Tollgate do, without an Envoy, a network or a secret?
//!
//! All commands ask the core that serves; nothing is decided a second time here. `budget`, `spend`, `keys`, `jobs` and `work` alone
//! go to a network: to the store of a fleet, and `work` to the gateway. Findings go to standard output with exit code 1; what is wrong with the call goes to standard error with
//! exit code 2, as does a result that cannot be written.

mod arguments;
mod bill;
mod budget;
mod check;
mod clients;
mod explain;
mod hash_key;
mod jobs;
mod key;
mod keys;
mod lines;
mod new;
mod paint;
mod prove;
mod queue;
mod render;
mod replay;
mod schema;
mod source;
mod spend;
mod statement;
mod store;
mod surroundings;
mod work;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

/// How a command ended.
enum End {
    /// All is well.
    Well,
    /// Something was found, and told.
    Found,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(End::Well) => ExitCode::SUCCESS,
        Ok(End::Found) => ExitCode::from(1),
        Err(problem) => {
            paint::complain(&problem);
            ExitCode::from(2)
        }
    }
}

/// Does what the command line asks for, or says why the call was wrong.
fn run(command: Command) -> Result<End, String> {
    match command {
        Command::New(arguments) => new::new(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Render(arguments) => render::render(&arguments),
        Command::Prove(arguments) => prove::prove(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Bill(arguments) => bill::bill(&arguments),
        Command::Spend(arguments) => spend::spend(&arguments),
        Command::Schema(arguments) => Ok(schema::schema(&arguments)),
        Command::Budget { act } => budget::budget(&act),
        Command::Keys { act } => keys::keys(&act),
        Command::Clients { act } => clients::clients(&act),
        Command::Work(arguments) => work::work(&arguments),
        Command::Jobs { act } => jobs::jobs(&act),
        Command::HashKey { key } => hash_key::hash_key(&key),
    }
}
