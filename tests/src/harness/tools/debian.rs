//! Packages of the distribution, unpacked below the target directory.
//!
//! Installing them would start their services, and needs root. The lists of packages and the archives are our own, because
//! a fresh machine has none and only root may write them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::install::run;
use super::programs::on_path;

/// Which packages are meant.
pub(super) enum Packages<'a> {
    /// These, and no others.
    Only(&'a [&'a str]),
    /// This one, and what it needs that is not installed.
    WithNeeds(&'a str),
}

/// Adds what is in them to `dir/tree`.
///
/// # Errors
/// There is no `apt-get`, or a package cannot be had.
pub(super) fn unpack(dir: &Path, packages: &Packages<'_>) -> Result<()> {
    let (words, names): (&[&str], _) = match packages {
        Packages::Only(names) => (&["download"], *names),
        Packages::WithNeeds(name) => {
            (&["install", "--download-only", "--no-install-recommends", "--yes"], std::slice::from_ref(name))
        }
    };
    ensure!(on_path("apt-get").is_some(), "{} cannot be had without apt-get", names.join(", "));
    let apt = dir.join("apt");
    let archives = apt.join("cache/archives");
    fs::create_dir_all(apt.join("lists/partial"))?;
    fs::create_dir_all(archives.join("partial"))?;
    let get = |arguments: &[&str]| {
        let mut get = Command::new("apt-get");
        // Its other user could not read what is ours; and its lock is root's.
        get.args(["-qq", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1", "-o"])
            .arg(format!("Dir::State::Lists={}", apt.join("lists").display()))
            .arg("-o")
            .arg(format!("Dir::Cache={}", apt.join("cache").display()))
            .args(arguments)
            .current_dir(&archives);
        run(&mut get, &format!("`apt-get {}` fails: what it says stands above", arguments.join(" ")))
    };
    get(&["update"])?;
    get(&[words, names].concat())?;
    for entry in fs::read_dir(&archives)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let mut extract = Command::new("dpkg-deb");
            extract.arg("-x").arg(&file).arg(dir.join("tree"));
            run(&mut extract, &format!("{} cannot be unpacked", file.display()))?;
        }
    }
    fs::remove_dir_all(&apt).with_context(|| format!("cannot remove {}", apt.display()))
}
