//! How does the module become an image that Istio, Envoy Gateway and Kubernetes can pull?
//!
//! As the *compat* variant of the [Wasm image specification]: an ordinary image whose only layer has `plugin.wasm`. It is an
//! [OCI image layout] in one tar. There is one manifest for each kind of machine, though the layer is the same, because
//! Kubernetes mounts only what is for the machine it is on.
//!
//! [Wasm image specification]: https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md
//! [OCI image layout]: https://github.com/opencontainers/image-spec/blob/main/image-layout.md

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::{VERSION, sha256};

/// The machines that nodes are, by the names that images have for them.
const MACHINES: [&str; 2] = ["amd64", "arm64"];
/// No time of its own.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The image's blobs, by their digests.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Keeps it and describes it.
    fn add(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let digest = sha256(&bytes);
        let descriptor = json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{digest}"),
            "size": bytes.len(),
        });
        self.0.insert(digest, bytes);
        descriptor
    }
}

/// The image layout of a module, as a tar.
pub(super) fn archive(wasm: &[u8]) -> Result<Vec<u8>> {
    let files = tar(&[("plugin.wasm".to_owned(), wasm)])?;
    let diff_id = format!("sha256:{}", sha256(&files));
    let mut zipped = GzBuilder::new().write(Vec::new(), Compression::best());
    zipped.write_all(&files)?;

    let about = json!({
        "org.opencontainers.image.title": "tollgate",
        "org.opencontainers.image.description": "An OpenAI gateway inside Envoy: a proxy-wasm HTTP filter",
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.created": CREATED,
    });
    let mut blobs = Blobs::default();
    let layer = blobs.add("layer.v1.tar+gzip", zipped.finish()?);
    let mut manifests = Vec::new();
    for machine in MACHINES {
        let config = json!({
            "architecture": machine,
            "os": "linux",
            "created": CREATED,
            "config": { "Labels": about },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [ { "created": CREATED, "created_by": "COPY plugin.wasm /" } ],
        });
        let config = blobs.add("config.v1+json", serde_json::to_vec(&config)?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
            "annotations": about,
        });
        let mut manifest = blobs.add("manifest.v1+json", serde_json::to_vec(&manifest)?);
        manifest["platform"] = json!({ "architecture": machine, "os": "linux" });
        manifests.push(manifest);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
        "annotations": about,
    });
    let mut index = blobs.add("index.v1+json", serde_json::to_vec(&index)?);
    index["annotations"] = json!({ "org.opencontainers.image.ref.name": VERSION });
    let entry = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [index],
    });

    let mut files = vec![
        ("index.json".to_owned(), serde_json::to_vec(&entry)?),
        ("oci-layout".to_owned(), serde_json::to_vec(&json!({ "imageLayoutVersion": "1.0.0" }))?),
    ];
    files.extend(blobs.0.into_iter().map(|(digest, bytes)| (format!("blobs/sha256/{digest}"), bytes)));
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect();
    tar(&files)
}

/// Files in the given order, of nobody and of no time.
fn tar(files: &[(String, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, name, *bytes)?;
    }
    Ok(archive.into_inner()?)
}
