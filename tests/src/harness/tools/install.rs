//! How is something installed once, whole or not at all, by processes that do not know of each other?

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::harness::leash::Leashed;

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Where cargo builds; everything the harness installs or writes is below it, so `cargo clean` is the way to be rid of it.
#[must_use]
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => workspace().join(dir),
        _ => workspace().join("target"),
    }
}

/// A line of progress on standard error. Not `eprintln!`: the test runner would hide that until the test fails, and a
/// first run that installs for a minute in silence looks like one that hangs.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "tollgate: {line}");
}

/// Says `line` if this value lives longer than a moment: most calls find everything done and should be silent.
#[derive(Debug)]
pub struct Report {
    _done: mpsc::Sender<()>,
}

impl Report {
    /// Starts the clock.
    #[must_use]
    pub fn if_slow(line: String) -> Self {
        let (done, wait) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if wait.recv_timeout(Duration::from_millis(1500)) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(&line);
            }
        });
        Self { _done: done }
    }
}

/// One thing to install.
pub(super) struct Package<'a> {
    /// The directory under `target/tools`; another version is another name.
    pub(super) name: &'a str,
    /// The file whose being there means that the installation is whole.
    pub(super) proof: &'a str,
    /// For the progress line.
    pub(super) what: &'a str,
}

impl Package<'_> {
    /// The path of the proof. If it is not there, `install` fills an empty directory, which then becomes the package's
    /// in one step: a broken installation is never taken for a good one.
    pub(super) fn path_or(&self, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let tools = target_dir().join("tools");
        let home = tools.join(self.name);
        let found = home.join(self.proof);
        if found.exists() {
            return Ok(found);
        }
        let _lock = lock(self.name)?;
        if found.exists() {
            return Ok(found);
        }
        say(&format!("installing {} under {}", self.what, super::shown(&tools).display()));
        let place = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempdir_in(&tools)
            .with_context(|| format!("cannot write to {}", tools.display()))?;
        install(place.path())?;
        ensure!(
            place.path().join(self.proof).exists(),
            "{} was installed but has no {}: this machine needs another version of it",
            self.what,
            self.proof
        );
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
        }
        fs::rename(place.keep(), &home).with_context(|| format!("cannot write {}", home.display()))?;
        Ok(found)
    }
}

/// Waits until no other process installs the same; the lock ends with the value, and with the process.
pub(super) fn lock(name: &str) -> Result<File> {
    let dir = target_dir().join("tools");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let waiting = Report::if_slow(format!("waiting for another process that prepares {name}"));
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    drop(waiting);
    Ok(file)
}

/// Runs a command whose success is all that counts. On a terminal its own progress is shown; otherwise what it printed
/// is shown only if it fails, and then `problem` is the error.
pub(super) fn run(command: &mut Command, problem: &str) -> Result<()> {
    let mut transcript = tempfile::tempfile().context("cannot create a temporary file")?;
    command.stdin(Stdio::null());
    if io::stderr().is_terminal() {
        command.stdout(io::stderr()).stderr(Stdio::inherit());
    } else {
        command.stdout(transcript.try_clone()?).stderr(transcript.try_clone()?);
    }
    let status = start(command)?;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    transcript.rewind()?;
    transcript.read_to_end(&mut said)?;
    io::stderr().write_all(&said)?;
    bail!("{problem}");
}

/// What a command prints on standard output, if it succeeds. What else it says is shown as by [`run`].
pub(super) fn printed(command: &mut Command, problem: &str) -> Result<Vec<u8>> {
    let mut transcript = tempfile::tempfile().context("cannot create a temporary file")?;
    let mut printed = tempfile::tempfile().context("cannot create a temporary file")?;
    command.stdin(Stdio::null()).stdout(printed.try_clone()?);
    if !io::stderr().is_terminal() {
        command.stderr(transcript.try_clone()?);
    }
    if !start(command)?.success() {
        transcript.rewind()?;
        io::copy(&mut transcript, &mut io::stderr())?;
        bail!("{problem}");
    }
    let mut text = Vec::new();
    printed.rewind()?;
    printed.read_to_end(&mut text)?;
    Ok(text)
}

/// What a command prints on standard output; `None` if it is not there or fails.
pub(super) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn start(command: &mut Command) -> Result<ExitStatus> {
    let program = command.get_program().to_string_lossy().into_owned();
    Leashed::spawn(command)
        .and_then(Leashed::wait)
        .with_context(|| format!("`{program}` cannot be run: install it, or put it on PATH"))
}
