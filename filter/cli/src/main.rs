//! What would Tollgate do, without an Envoy, a network or a secret?
//!
//! `tollgate check`, `prove`, `explain`, `replay`, `schema` and `hash-key`. All of them ask the core that serves; nothing is decided
//! a second time here. `tollgate budget` alone goes to a network: to the store of a fleet. Findings go to standard output with exit code 1, what is wrong with the call to standard error with exit code 2, as is a result that cannot
//! be written.

mod arguments;
mod budget;
mod check;
mod explain;
mod hash_key;
mod lines;
mod paint;
mod prove;
mod replay;
mod schema;
mod source;
mod surroundings;

use arguments::Arguments;
use std::process::ExitCode;

const HELP: &str = "\
Checks, proves and explains configurations of Tollgate, by the code that serves.

Usage: tollgate COMMAND

Commands:
  check FILE...       Tell every fault, with its path
  prove FILE          List which client may reach which backends in which regions, and go through all
                      failures to show that none leads out
  explain FILE --client NAME [--model NAME] [--endpoint NAME] [--body FILE]
                      Tell what becomes of a request: its policy's edits, and the backends in their order
  replay --old FILE --new FILE LOG
                      Tell which requests of an access log would be refused or moved under the new
                      configuration, and what all would have cost
  schema [--markdown] Print the JSON Schema of a configuration, for editors; or the reference of its fields
  budget show         Tell what a fleet has used and holds of a client's limits, a group's or what spills
  budget give AMOUNT  Make so much less used of one limit
  budget reset        Make nothing used, of one limit or of all
                      with --store URL, one of --client NAME, --group NAME, --spill MODEL, and where needed
                      --config FILE, --limit NAME, --prefix NAME, --password-env VARIABLE
  hash-key            Read an API key from standard input, and print the line for the configuration

FILE is YAML or JSON: a gateway configuration alone, or whatever has one in it: a configuration of Envoy, an
EnvoyFilter of Istio, a ConfigMap, a Compose file that has it inside or mounts it. - is standard input.
No network is used but by budget, and no secret is needed but there: a variable of the environment that is not
set is a warning.

Exit codes: 0 all is well, 1 something was found, 2 the call itself was wrong, or a file cannot be
read or the result not be written.
";

/// How a command ended.
enum End {
    /// All is well.
    Well,
    /// Something was found, and told.
    Found,
    /// The call was wrong, in this way.
    Misused(String),
}

fn main() -> ExitCode {
    match asked() {
        End::Well => ExitCode::SUCCESS,
        End::Found => ExitCode::from(1),
        End::Misused(problem) => {
            paint::complain(&format!("{problem}; `tollgate help` tells how it is used"));
            ExitCode::from(2)
        }
    }
}

/// Does what the command line asks for.
fn asked() -> End {
    let mut arguments = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.into_string() {
            Ok(argument) => arguments.push(argument),
            Err(argument) => return End::Misused(format!("{argument:?} is not UTF-8")),
        }
    }
    let command = if arguments.is_empty() { String::new() } else { arguments.remove(0) };
    match command.as_str() {
        "help" | "--help" | "-h" => tell(HELP),
        "version" | "--version" | "-V" => tell(&format!("tollgate {}\n", env!("CARGO_PKG_VERSION"))),
        "check" => run(arguments, &[], &[], check::check),
        "prove" => run(arguments, &[], &[], prove::prove),
        "explain" => run(arguments, &["client", "model", "endpoint", "body"], &[], explain::explain),
        "replay" => run(arguments, &["old", "new"], &[], replay::replay),
        "schema" => run(arguments, &[], &["markdown"], schema::schema),
        "budget" => run(arguments, &budget::OPTIONS, &[], budget::budget),
        "hash-key" => run(arguments, &[], &[], hash_key::hash_key),
        "" => End::Misused("no command is given".to_owned()),
        other => End::Misused(format!("there is no command {other:?}")),
    }
}

fn run(
    arguments: Vec<String>,
    options: &[&str],
    switches: &[&str],
    command: fn(&Arguments) -> Result<End, String>,
) -> End {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return tell(HELP);
    }
    let read = Arguments::read(arguments, options, switches);
    read.and_then(|arguments| command(&arguments)).unwrap_or_else(End::Misused)
}

fn tell(text: &str) -> End {
    paint::print(text);
    End::Well
}
