//! What is done to the module after the compiler?
//!
//! Binaryen's wasm-opt makes it smaller. It comes from npm, at one version, so that the bytes are the same wherever they are
//! made. <https://github.com/WebAssembly/binaryen>

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::install::{Package, Report, run};
use super::programs::{Once, node, npm};

const VERSION: &str = "132.0.0";

/// How much it does. The next level takes half as long again for one hundredth less.
const LEVEL: &str = "-O2";

/// What rustc uses beyond the first version of wasm, and Envoy's V8 has.
const FEATURES: [&str; 7] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
];

/// What becomes of the functions' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// They stay out of the module: it is loaded once per worker.
    Dropped,
    /// They stay in it, for a profile.
    Kept,
}

/// Writes `module`, optimised, as `file`. Of the same module nothing is done a second time.
///
/// # Errors
/// wasm-opt cannot be had, or refuses the module.
pub(super) fn write(module: &[u8], file: &Path, names: Names) -> Result<()> {
    let made_of = file.with_extension("wasm.of");
    let by = FEATURES.join(" ");
    let of = format!("{} by binaryen {VERSION} {LEVEL} {by}\n", hex::encode(Sha256::digest(module)));
    if file.is_file() && fs::read_to_string(&made_of).is_ok_and(|before| before == of) {
        return Ok(());
    }
    let _report = Report::if_slow("optimising the filter (wasm-opt, half a minute)".to_owned());
    let (plain, half) = (file.with_extension("plain.wasm"), file.with_extension("half.wasm"));
    fs::write(&plain, module).with_context(|| format!("cannot write {}", plain.display()))?;
    let mut optimizer = Command::new(node()?);
    optimizer
        .arg(wasm_opt()?)
        .args((names == Names::Kept).then_some("-g"))
        .args(FEATURES)
        .arg(LEVEL)
        .arg(&plain)
        .arg("-o")
        .arg(&half);
    run(&mut optimizer, "wasm-opt does not take the filter: what it says stands above")?;
    // Whoever ends between these two does it again.
    let _ = fs::remove_file(&made_of);
    fs::rename(&half, file).with_context(|| format!("cannot write {}", file.display()))?;
    fs::write(&made_of, of).with_context(|| format!("cannot write {}", made_of.display()))
}

fn wasm_opt() -> Result<PathBuf> {
    static WASM_OPT: Once = Once::new();
    WASM_OPT.path(|| {
        Package {
            name: &format!("binaryen-{VERSION}"),
            proof: "node_modules/binaryen/bin/wasm-opt",
            what: &format!("wasm-opt (npm binaryen {VERSION})"),
        }
        .path_or(|dir| {
            let mut npm = npm()?;
            npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(dir);
            npm.arg(format!("binaryen@{VERSION}"));
            run(&mut npm, "npm cannot install binaryen: what it says stands above; is there a network?")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module of nothing.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_module_is_optimised_once_and_another_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tollgate.wasm");
        write(EMPTY, &file, Names::Dropped).unwrap();
        // What is done already is not looked at.
        fs::write(&file, "as it is").unwrap();
        write(EMPTY, &file, Names::Dropped).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"as it is");
        // A section that nobody needs: another module.
        let other = [EMPTY, b"\0\x02\x01x"].concat();
        write(&other, &file, Names::Dropped).unwrap();
        assert!(fs::read(&file).unwrap().starts_with(EMPTY));
        fs::remove_file(&file).unwrap();
        write(&other, &file, Names::Dropped).unwrap();
        assert!(file.is_file());
        // One that is refused changes nothing.
        let before = fs::read(&file).unwrap();
        assert!(write(b"no module", &file, Names::Dropped).is_err());
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}
