//! Container images of one static binary, made without a container engine, the same bytes every time.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Who runs in it: nobody in particular, as `runAsNonRoot` wants.
const USER: &str = "65532:65532";

/// Writes an OCI archive of an image that holds the static binary as `/zenop`, runs it, and is called `name`, which must
/// be whole: `zenop.dev/zenop:dev`. The same binary and name give the same bytes.
///
/// # Errors
///
/// If the binary cannot be read or the archive not written.
pub fn build(binary: &Path, name: &str, archive: &Path) -> Result<()> {
    save(binary, name, "/zenop", archive)
}

pub(crate) fn save(binary: &Path, name: &str, entrypoint: &str, archive: &Path) -> Result<()> {
    let program = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    let bytes = pack(&program, name, entrypoint)?;
    // Whoever loads it must never see half of it.
    let partial = archive.with_extension("partial");
    fs::write(&partial, bytes).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, archive).with_context(|| format!("writing {}", archive.display()))
}

fn pack(program: &[u8], name: &str, entrypoint: &str) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    file(
        &mut layer,
        entrypoint.trim_start_matches('/'),
        0o755,
        program,
    )?;
    let layer = Blob::new(
        "application/vnd.oci.image.layer.v1.tar",
        layer.into_inner()?,
    );
    let config = Blob::json(
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "User": USER, "Entrypoint": [entrypoint], "Env": ["PATH=/"], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        }),
    );
    let manifest = Blob::json(
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        }),
    );
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
            "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
        }],
    });

    let mut archive = Builder::new(Vec::new());
    file(
        &mut archive,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    file(
        &mut archive,
        "index.json",
        0o644,
        index.to_string().as_bytes(),
    )?;
    for blob in [config, layer, manifest] {
        let path = format!("blobs/{}", blob.digest.replace(':', "/"));
        file(&mut archive, &path, 0o644, &blob.bytes)?;
    }
    Ok(archive.into_inner()?)
}

/// One addressable part of an image.
struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        let hash = Sha256::digest(&bytes);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            media_type,
            digest: format!("sha256:{hash}"),
            bytes,
        }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// Of root, and from the beginning of time: nothing of the machine that makes it goes in.
fn file(archive: &mut Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes.len().try_into()?);
    archive
        .append_data(&mut header, path, bytes)
        .with_context(|| format!("adding {path}"))
}

/// Go's name for it, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_binary_gives_the_same_bytes() -> Result<()> {
        let once = pack(b"program", "zenop.dev/zenop:dev", "/zenop")?;
        assert_eq!(once, pack(b"program", "zenop.dev/zenop:dev", "/zenop")?);
        assert_ne!(once, pack(b"another", "zenop.dev/zenop:dev", "/zenop")?);
        Ok(())
    }
}
