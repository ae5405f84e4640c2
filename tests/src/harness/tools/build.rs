//! How are the same bytes built in every folder? Where sources lie is told to the compiler by another name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::exports;
use super::install::{printed, target_dir, workspace};
use super::optimizer::{self, Names};
use super::programs::{WASM_WASI, cargo, rust_target};

/// A workspace to build from.
#[derive(Clone, Debug)]
pub struct Source {
    workspace: PathBuf,
    target: PathBuf,
    cargo_home: Option<PathBuf>,
}

/// What cargo has built.
#[derive(Debug)]
pub struct Build {
    /// The file itself.
    pub file: PathBuf,
    /// The ids of the packages that were compiled for the same machine: those that are in it.
    pub packages: BTreeSet<String>,
}

impl Source {
    /// This workspace.
    #[must_use]
    pub fn here() -> Self {
        Self { workspace: workspace().to_owned(), target: target_dir(), cargo_home: None }
    }

    /// A copy of it, which builds in its own `target`, with another home of cargo.
    #[must_use]
    pub fn copied_to(workspace: &Path, cargo_home: &Path) -> Self {
        let target = workspace.join("target");
        Self { workspace: workspace.to_owned(), target, cargo_home: Some(cargo_home.to_owned()) }
    }

    /// The filter, as wasm.
    ///
    /// # Errors
    /// It does not build.
    pub fn module(&self) -> Result<Build> {
        self.filter(Names::Dropped)
    }

    /// The same with the names of its functions.
    ///
    /// # Errors
    /// It does not build.
    pub fn module_with_names(&self) -> Result<Build> {
        Self { target: self.target.join("names"), ..self.clone() }.filter(Names::Kept)
    }

    fn filter(&self, names: Names) -> Result<Build> {
        rust_target(WASM_WASI)?;
        let release = self.target.join(WASM_WASI).join("release");
        let built = self.build("tollgate-filter", WASM_WASI, &release, "tollgate_filter.wasm", names)?;
        let module = std::fs::read(&built.file).context("the filter was built but cannot be read")?;
        let file = release.join("tollgate.wasm");
        optimizer::write(&exports::without_uncalled(&module)?, &file, names)?;
        Ok(Build { file, ..built })
    }

    /// The tool, for this machine.
    ///
    /// # Errors
    /// It does not build.
    pub fn tool(&self) -> Result<Build> {
        self.build("tollgate-cli", &self.host()?, &self.target.join("release"), "tollgate", Names::Dropped)
    }

    /// The name of this machine's kind, as `rustc` has it.
    ///
    /// # Errors
    /// There is no `rustc`.
    pub fn host(&self) -> Result<String> {
        self.rustc("host: ")
    }

    /// The compiler's version.
    ///
    /// # Errors
    /// There is no `rustc`.
    pub fn compiler(&self) -> Result<String> {
        self.rustc("release: ")
    }

    /// What cargo knows of the packages and of who needs whom.
    ///
    /// # Errors
    /// The lock file is not current.
    pub fn metadata(&self) -> Result<Value> {
        let mut cargo = self.cargo();
        cargo.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", WASM_WASI]);
        let text = printed(&mut cargo, "cargo cannot tell the packages: what it says of it stands above")?;
        serde_json::from_slice(&text).context("cargo metadata")
    }

    /// The lock file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lock_file(&self) -> Result<String> {
        let file = self.workspace.join("Cargo.lock");
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    fn build(&self, package: &str, machine: &str, dir: &Path, name: &str, names: Names) -> Result<Build> {
        let mut cargo = self.cargo();
        cargo.args(["build", "--locked", "--release", "--message-format", "json-render-diagnostics"]);
        cargo.args(["--package", package, "--config", &self.names_of_paths(machine)?]);
        cargo.arg("--target-dir").arg(&self.target);
        if names == Names::Kept {
            cargo.args(["--config", "profile.release.strip = \"debuginfo\""]);
        }
        if machine == WASM_WASI {
            cargo.args(["--target", machine]);
        }
        let problem = format!("{package} does not build: what cargo says of it stands above");
        let messages = printed(&mut cargo, &problem)?;
        let mut packages = BTreeSet::new();
        for message in serde_json::Deserializer::from_slice(&messages).into_iter::<Value>() {
            let message = message.context("cargo build --message-format json")?;
            // What runs while others are compiled is built for this machine, in another directory.
            let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
            if files.into_iter().any(|file| Path::new(file).starts_with(dir)) {
                packages.extend(message["package_id"].as_str().map(str::to_owned));
            }
        }
        let file = dir.join(name);
        ensure!(file.is_file(), "cargo has built {package}, but there is no {}", file.display());
        Ok(Build { file, packages })
    }

    /// A setting of cargo: the directories of the packages, which a panic's message tells, have the same name everywhere.
    fn names_of_paths(&self, machine: &str) -> Result<String> {
        let metadata = self.metadata()?;
        let manifests = metadata["packages"].as_array().into_iter().flatten();
        let manifests = manifests.filter(|package| !package["source"].is_null());
        // `…/registry/src/INDEX/NAME-VERSION/Cargo.toml`
        let places: BTreeSet<_> = manifests
            .filter_map(|package| Path::new(package["manifest_path"].as_str()?).ancestors().nth(2))
            .collect();
        let flags: Vec<_> =
            places.iter().map(|place| format!("--remap-path-prefix={}=/registry", place.display())).collect();
        Ok(format!("target.{machine}.rustflags={}", serde_json::to_string(&flags)?))
    }

    fn cargo(&self) -> Command {
        let mut cargo = cargo();
        cargo.current_dir(&self.workspace);
        if let Some(home) = &self.cargo_home {
            cargo.env("CARGO_HOME", home);
        }
        cargo
    }

    fn rustc(&self, line: &str) -> Result<String> {
        let mut rustc = Command::new("rustc");
        rustc.arg("-vV").current_dir(&self.workspace);
        let text = printed(&mut rustc, "`rustc` does not run: install Rust with rustup, https://rustup.rs")?;
        let text = String::from_utf8_lossy(&text);
        let found = text.lines().find_map(|candidate| candidate.strip_prefix(line));
        Ok(found.with_context(|| format!("rustc -vV tells no {line:?}"))?.to_owned())
    }
}
