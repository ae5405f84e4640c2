//! Where is what we need, and if it is nowhere, how do we get it?
//!
//! Everything is installed under the target directory, once, however many test processes ask at the same time. Every
//! failure is a sentence that says what to do.

mod build;
mod containers;
mod debian;
mod exports;
mod install;
mod kubernetes;
mod optimizer;
mod programs;

use std::path::{Path, PathBuf};

pub use build::{Build, Source};
pub use containers::{compose, container_packages};
pub use install::{Report, target_dir, workspace};
pub use kubernetes::{helm, kubectl, kubernetes_schemas};
pub use programs::{
    WASM_UNKNOWN, WASM_WASI, anthropic, cargo, chromium, drawing, envoy, envoy_of, form_readers, node,
    node_packages, prometheus, python, redis, rust_target, semantic_kernel, skopeo, tool, wasm,
    wasm_bindgen_runner,
};

/// What a binary's `main` does with its result: `error: ...` on standard error and exit code 1, never a backtrace.
pub fn exit(result: anyhow::Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// `path` as it reads from the workspace's root, for messages.
#[must_use]
pub fn shown(path: &Path) -> PathBuf {
    path.strip_prefix(workspace()).unwrap_or(path).to_owned()
}

/// What a test does that cannot run here: it says so where nobody misses it, which the test runner does not hide.
///
/// # Panics
/// If nothing may be skipped: `$TOLLGATE_NO_SKIP` is set, as it is by `.ci/run`.
pub fn skip(test: &str, why: &anyhow::Error) {
    let must_run = std::env::var_os("TOLLGATE_NO_SKIP").is_some_and(|value| !value.is_empty());
    assert!(!must_run, "{test} cannot run here: {why:#}");
    install::say(&format!("SKIPPED {test}, WHICH CANNOT RUN HERE: {why:#}"));
}
