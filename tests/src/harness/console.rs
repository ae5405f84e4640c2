//! Do a document's commands print what it shows?
//!
//! They are those of its `console` blocks: a command after `$ `, more lines of it after a `\` at the end, and below it what
//! it prints, where `…` stands for anything.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::document::{blocks, commands, fits};
use super::gateway::Gateway;

/// How long a worker's counters may take to be on the page of metrics.
const WITHIN: Duration = Duration::from_secs(15);
/// Where documents have the gateway, and its metrics.
const GATEWAY: &str = "http://localhost:10000";
const ADMIN: &str = "http://localhost:9901";
/// Where they have the first backend. The others follow.
const BACKENDS: u16 = 8081;

/// Runs a document's commands as a reader would, with the ports that this run has for these backends, and these variables.
/// Those of the tool `tollgate` are left to its own tests.
///
/// # Panics
/// There is no command, or one fails or prints something else.
pub async fn run(document: &str, gateway: &Gateway, backends: &[&str], variables: &[(&str, &str)]) {
    let mut ran = 0;
    let blocks = blocks(document, "console");
    let commands = blocks.iter().flat_map(|block| commands(block));
    for (command, expected) in commands.filter(|(command, _)| !command.starts_with("tollgate ")) {
        let mut script = command.replace(GATEWAY, gateway.url()).replace(ADMIN, gateway.admin_url());
        for (port, backend) in (BACKENDS..).zip(backends) {
            script = script.replace(&format!("http://localhost:{port}"), &gateway.backends()[*backend]);
        }
        let deadline = Instant::now() + WITHIN;
        loop {
            let output = output(&script, variables).await;
            let printed = String::from_utf8_lossy(&output.stdout);
            if output.status.success() && fits(printed.trim_end(), expected.trim_end()) {
                break;
            }
            let may_change = command.contains(ADMIN) && Instant::now() < deadline;
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(may_change, "{command}\nprinted {printed}{error}\nnot {expected}");
        }
        ran += 1;
    }
    assert!(ran > 0, "no command in the document");
}

async fn output(script: &str, variables: &[(&str, &str)]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || shell.output()).await;
    output.expect("nothing there panics").expect("there is a shell")
}
