//! A real browser that has opened a page.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::envoy::{RunDir, tail};
use super::leash::Leashed;
use super::tools;

/// Chromium without a window. It ends with this value, and all that it has kept with it.
pub struct Browser {
    // First, so that it is dropped before its files are.
    _process: Leashed,
    dir: RunDir,
}

/// What it says is kept there.
const LOG: &str = "chromium.log";

impl Browser {
    /// Opens a page. What the page does it has to tell itself.
    ///
    /// # Errors
    /// Chromium is not there and cannot be installed, or does not start.
    pub async fn open(page: &str) -> Result<Self> {
        let program = tokio::task::spawn_blocking(tools::chromium).await??;
        let dir = RunDir::new()?;
        let said = File::create(dir.file(LOG)).context("cannot create Chromium's log")?;
        let mut command = Command::new(program);
        command
            // Its sandbox needs rights that a container does not have; it opens only pages of the tests.
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--no-proxy-server", "--disable-background-networking"])
            .args(["--enable-logging=stderr"])
            .arg(format!("--user-data-dir={}", dir.file("profile").display()))
            .arg(page)
            .env("HOME", dir.file("home"))
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let process = Leashed::spawn(&mut command).context("Chromium cannot be started")?;
        Ok(Self { _process: process, dir })
    }

    /// The end of what it has said.
    #[must_use]
    pub fn said(&self) -> String {
        tail(&self.dir.file(LOG))
    }
}
