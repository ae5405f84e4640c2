//! Is a release what it says it is, and the same wherever it is made?

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Read;
use tollgate_tests::harness::tools::{self, Source, workspace};
use tollgate_tests::release::{self, File, SIGNATURE, SUMS, VERSION};

/// A release of this workspace, made once; without the tool, whose build takes as long as the module's.
fn dist() -> &'static Path {
    static DIST: OnceLock<PathBuf> = OnceLock::new();
    DIST.get_or_init(|| {
        let dist = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dist");
        release::write(release::of_module(&Source::here()).unwrap(), &dist, None).unwrap();
        dist
    })
}

fn read(name: &str) -> Vec<u8> {
    fs::read(dist().join(name)).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[track_caller]
fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The workspace's files, in another folder, with another home of cargo that has the same packages.
#[test]
fn a_release_is_the_same_from_another_folder() {
    let elsewhere = tempfile::tempdir_in(tools::target_dir()).unwrap();
    let (copy, home) = (elsewhere.path().join("a-copy"), elsewhere.path().join("home"));
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(workspace());
    for name in stdout(&mut git).split_terminator('\0') {
        // One that was removed, and not yet from git's list.
        if workspace().join(name).is_file() {
            fs::create_dir_all(copy.join(name).parent().unwrap()).unwrap();
            fs::copy(workspace().join(name), copy.join(name)).unwrap();
        }
    }
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"), PathBuf::from);
    fs::create_dir_all(&home).unwrap();
    for entry in fs::read_dir(cargo_home).unwrap().map(Result::unwrap) {
        symlink(entry.path(), home.join(entry.file_name())).unwrap();
    }
    let files = release::of_module(&Source::copied_to(&copy, &home)).unwrap();
    assert_eq!(files.len() + 1, fs::read_dir(dist()).unwrap().count());
    for file in files {
        assert!(file.bytes == read(&file.name), "{} is another one where it is made elsewhere", file.name);
    }
    // Nor does it tell where it was made.
    let module = read(&format!("tollgate-{VERSION}.wasm"));
    for place in [workspace().to_str().unwrap(), copy.to_str().unwrap(), "/registry/src/"] {
        assert!(
            !module.windows(place.len()).any(|bytes| bytes == place.as_bytes()),
            "{place} is in the module"
        );
    }
}

#[test]
fn the_sums_are_those_of_the_files() {
    let sums = String::from_utf8(read(SUMS)).unwrap();
    let checked = stdout(Command::new("sha256sum").args(["-c", SUMS]).current_dir(dist()));
    assert_eq!(checked.lines().count(), sums.lines().count());
    let named: BTreeSet<_> = sums.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect();
    let mut there: BTreeSet<_> =
        fs::read_dir(dist()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(there.remove(SUMS));
    assert_eq!(named, there);
    assert_eq!(read(&format!("tollgate-{VERSION}.wasm")), fs::read(tools::wasm().unwrap()).unwrap());
}

#[test]
fn the_images_digests_lead_to_the_module() {
    let archive = read(&format!("tollgate-{VERSION}.oci.tar"));
    let mut files = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().to_str().unwrap().to_owned(), bytes);
    }
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    assert_eq!(parse(&files["oci-layout"]), json!({ "imageLayoutVersion": "1.0.0" }));
    let mut seen = 2;
    let mut follow = |descriptor: &Value| {
        let name = descriptor["digest"].as_str().unwrap();
        let bytes = files[&format!("blobs/sha256/{}", name.strip_prefix("sha256:").unwrap())].clone();
        assert_eq!(
            (digest(&bytes).as_str(), bytes.len()),
            (name, descriptor["size"].as_u64().unwrap() as usize)
        );
        seen += 1;
        bytes
    };
    let entry = parse(&files["index.json"]);
    assert_eq!(entry["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], VERSION);
    let index = parse(&follow(&entry["manifests"][0]));
    let mut machines = Vec::new();
    let mut layers = BTreeSet::new();
    for described in index["manifests"].as_array().unwrap() {
        let manifest = parse(&follow(described));
        let config = parse(&follow(&manifest["config"]));
        assert_eq!(config["architecture"], described["platform"]["architecture"]);
        machines.push(config["architecture"].clone());
        // What Istio's fetcher takes: one layer of this type, with this one file.
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        assert!(manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json");
        let digest_of_layer = layer["digest"].as_str().unwrap().to_owned();
        let zipped = &files[&digest_of_layer.replace("sha256:", "blobs/sha256/")];
        assert_eq!(digest(zipped), digest_of_layer);
        assert_eq!(layer["size"], zipped.len());
        assert_eq!(zipped[4..8], [0; 4], "the time that gzip writes");
        layers.insert(digest_of_layer);
        let mut unzipped = Vec::new();
        GzDecoder::new(zipped.as_slice()).read_to_end(&mut unzipped).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&unzipped)]));
        let mut inside = tar::Archive::new(unzipped.as_slice());
        let mut entries = inside.entries().unwrap();
        let mut file = entries.next().unwrap().unwrap();
        assert_eq!(file.path().unwrap().to_str(), Some("plugin.wasm"));
        let mut module = Vec::new();
        file.read_to_end(&mut module).unwrap();
        assert!(module == read(&format!("tollgate-{VERSION}.wasm")));
        assert!(entries.next().is_none());
    }
    assert_eq!(machines, ["amd64", "arm64"]);
    assert_eq!(seen + layers.len(), files.len(), "a blob that nothing leads to");
}

/// By a tool that registries are filled with.
#[test]
fn skopeo_takes_the_image() {
    let skopeo = match tools::skopeo() {
        Ok(skopeo) => skopeo,
        Err(why) => return tools::skip("skopeo_takes_the_image", &why),
    };
    let image = format!("oci-archive:{}", dist().join(format!("tollgate-{VERSION}.oci.tar")).display());
    for machine in ["amd64", "arm64"] {
        let mut inspect = Command::new(&skopeo);
        inspect.args(["--override-os", "linux", "--override-arch", machine, "inspect", &image]);
        let about: Value = serde_json::from_str(&stdout(&mut inspect)).unwrap();
        assert_eq!((&about["Architecture"], &about["Os"]), (&json!(machine), &json!("linux")));
        assert_eq!(about["Labels"]["org.opencontainers.image.version"], VERSION);
    }
    let copied = tempfile::tempdir().unwrap();
    let mut copy = Command::new(&skopeo);
    copy.args(["--insecure-policy", "copy", "--all", &image]).arg(format!("dir:{}", copied.path().display()));
    stdout(&mut copy);
    let layers = fs::read_dir(copied.path()).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
    let mut inside = layers.filter(|bytes| bytes.starts_with(&[0x1f, 0x8b])).map(|zipped| {
        let mut unzipped = Vec::new();
        GzDecoder::new(zipped.as_slice()).read_to_end(&mut unzipped).unwrap();
        unzipped
    });
    let module = read(&format!("tollgate-{VERSION}.wasm"));
    let layer = inside.next().unwrap();
    assert!(layer.windows(64).any(|bytes| bytes == &module[..64]) && inside.next().is_none());
}

#[test]
fn the_bill_lists_what_is_in_the_module() {
    let bill: Value = serde_json::from_slice(&read(&format!("tollgate-{VERSION}.cdx.json"))).unwrap();
    let components = bill["components"].as_array().unwrap();
    let listed: BTreeSet<_> = components
        .iter()
        .filter(|component| component["bom-ref"] != "rust-std")
        .map(|component| {
            let text = |name: &str| component[name].as_str().unwrap();
            assert_eq!(component["purl"], format!("pkg:cargo/{}@{}", text("name"), text("version")));
            assert!(component["licenses"][0]["expression"].is_string(), "{component}");
            format!("{} v{}", text("name"), text("version"))
        })
        .collect();
    let mut tree = tools::cargo();
    tree.args(["tree", "--package", "tollgate-filter", "--target", tools::WASM_WASI]);
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    // `NAME vVERSION (PATH)`, and a mark where it stood before.
    let expected: BTreeSet<_> = stdout(&mut tree)
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split(" (").next().unwrap().to_owned())
        .collect();
    assert_eq!(listed, expected);
    assert_eq!(components.len(), listed.len() + 1, "and the standard library");
    assert_eq!(
        bill["metadata"]["component"]["hashes"][0]["content"],
        digest(&read(&format!("tollgate-{VERSION}.wasm"))).strip_prefix("sha256:").unwrap()
    );
    // Everything that is needed is there, and comes from the registry or from here.
    for dependency in bill["dependencies"].as_array().unwrap() {
        let mut references = dependency["dependsOn"].as_array().unwrap().iter().chain([&dependency["ref"]]);
        assert!(references.all(|reference| components.iter().any(|one| one["bom-ref"] == *reference)));
    }
    for component in components {
        let ours = component["name"].as_str().unwrap().starts_with("tollgate");
        assert_eq!(component["hashes"].is_array(), !ours && component["name"] != "rust-std", "{component}");
    }
}

/// By the commands of docs/install.md, with OpenSSL in the place of cosign, whose signature of a file is the same.
#[test]
fn the_sums_are_signed_where_there_is_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(dir.path()).output();
        output.map(|output| (output.status.success(), output.stdout))
    };
    let made = openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        "tollgate.key",
    ]);
    if let Err(why) = made {
        return tools::skip("the_sums_are_signed_where_there_is_a_key", &anyhow::anyhow!("openssl: {why}"));
    }
    assert!(openssl(&["pkey", "-in", "tollgate.key", "-pubout", "-out", "tollgate.pub"]).unwrap().0);
    let key = fs::read_to_string(dir.path().join("tollgate.key")).unwrap();
    let dist = dir.path().join("dist");
    let module = File { name: "tollgate.wasm".to_owned(), bytes: b"module".to_vec(), runs: false };
    let names = release::write(vec![module.clone()], &dist, Some(&key)).unwrap();
    assert_eq!(names, ["tollgate.wasm", SUMS, SIGNATURE]);
    assert!(openssl(&["base64", "-d", "-in", "dist/SHA256SUMS.sig", "-out", "signature"]).unwrap().0);
    let is_signed = || {
        let verify =
            ["dgst", "-sha256", "-verify", "tollgate.pub", "-signature", "signature", "dist/SHA256SUMS"];
        openssl(&verify).unwrap().0
    };
    assert!(is_signed());
    fs::write(dist.join(SUMS), "another").unwrap();
    assert!(!is_signed());
    // A key of another kind is refused in words, and nothing is written.
    assert!(openssl(&["genpkey", "-algorithm", "ed25519", "-out", "other.key"]).unwrap().0);
    let other = fs::read_to_string(dir.path().join("other.key")).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    for key in [other.as_str(), "no key"] {
        let why = release::write(vec![module.clone()], &elsewhere, Some(key)).unwrap_err();
        assert!(format!("{why:#}").contains("expected a private key of P-256 in PKCS #8"), "{why:#}");
    }
    assert!(!elsewhere.exists());
}

#[test]
fn the_dockerfile_makes_what_the_image_has() {
    let file = fs::read_to_string(workspace().join("filter/Dockerfile")).unwrap();
    let steps: Vec<_> = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(steps, ["FROM scratch", "COPY tollgate.wasm /plugin.wasm"]);
}
