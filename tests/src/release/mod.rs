//! What belongs to a release, and how does it come out the same wherever it is made?
//!
//! Nothing in it tells when or where it was made: paths are mapped to names ([`Source`]), archives have no times and no owners
//! ([`image`]), lists are sorted ([`bill`]). The same compiler and the same wasm-opt on the same lock file make the
//! same bytes.

mod bill;
mod image;
mod signature;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::harness::tools::Source;

/// The release's version: that of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The sums of all other files.
pub const SUMS: &str = "SHA256SUMS";

/// The signature of the sums, where there is a key.
pub const SIGNATURE: &str = "SHA256SUMS.sig";

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Whether it is a program.
    pub runs: bool,
}

/// The module, the image that has it, and the bill of what is in it: the same bytes wherever they are made.
///
/// # Errors
/// It does not build.
pub fn of_module(source: &Source) -> Result<Vec<File>> {
    let module = source.module()?;
    let wasm = read(&module.file)?;
    let bill = bill::of_materials(source, &module, &wasm)?;
    let image = image::archive(&wasm)?;
    let file = |end: &str, bytes| File { name: format!("tollgate-{VERSION}.{end}"), bytes, runs: false };
    Ok(vec![file("wasm", wasm), file("oci.tar", image), file("cdx.json", bill)])
}

/// The tool, for the machine that it is made on.
///
/// # Errors
/// It does not build.
pub fn of_tool(source: &Source) -> Result<File> {
    let bytes = read(&source.tool()?.file)?;
    Ok(File { name: format!("tollgate-{VERSION}-{}", source.host()?), bytes, runs: true })
}

/// Writes the files and their sums into `dist`, which is emptied before, and signs the sums by a key in PEM. What it has written is told
/// by name.
///
/// # Errors
/// It cannot be written, or the key is none.
pub fn write(mut files: Vec<File>, dist: &Path, key: Option<&str>) -> Result<Vec<String>> {
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let sums: String = files.iter().map(|file| format!("{}  {}\n", sha256(&file.bytes), file.name)).collect();
    let signature = key.map(|key| signature::of(sums.as_bytes(), key)).transpose()?;
    files.push(File { name: SUMS.to_owned(), bytes: sums.into_bytes(), runs: false });
    files.extend(signature.map(|text| File {
        name: SIGNATURE.to_owned(),
        bytes: text.into_bytes(),
        runs: false,
    }));
    if dist.exists() {
        fs::remove_dir_all(dist).with_context(|| format!("cannot empty {}", dist.display()))?;
    }
    fs::create_dir_all(dist).with_context(|| format!("cannot create {}", dist.display()))?;
    for file in &files {
        let place = dist.join(&file.name);
        let mode = fs::Permissions::from_mode(if file.runs { 0o755 } else { 0o644 });
        fs::write(&place, &file.bytes)
            .and_then(|()| fs::set_permissions(&place, mode))
            .with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(files.into_iter().map(|file| file.name).collect())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
