//! Container images of one static binary or of a root file system, made without a container engine, the same bytes every
//! time.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Who runs in it: nobody in particular, as `runAsNonRoot` wants.
const USER: &str = "65532:65532";

/// What containers of an image run as, where their pods do not say otherwise.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The user, by name or as `uid:gid`. A name that the image's own `/etc/passwd` has is enough for containers, but
    /// not for `runAsNonRoot`.
    pub user: String,
    /// The environment, each as `NAME=value`.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            user: USER.into(),
            env: Vec::new(),
            entrypoint: Vec::new(),
        }
    }
}

/// Writes an OCI archive of an image that holds the static binary as `/zenop`, runs it, and is called `name`, which must
/// be whole: `zenop.dev/zenop:dev`. The same binary and name give the same bytes.
///
/// # Errors
///
/// If the binary cannot be read or the archive not written.
pub fn build(binary: &Path, name: &str, archive: &Path) -> Result<()> {
    save(binary, name, "/zenop", archive)
}

/// Writes an OCI archive of an image called `name` whose files are those of the folder. They all belong to root and are
/// from the beginning of time, so that the same tree gives the same bytes.
///
/// # Errors
///
/// If something of the folder cannot be read, is neither file, folder nor link, or the archive cannot be written.
pub fn build_tree(root: &Path, name: &str, defaults: &Defaults, archive: &Path) -> Result<()> {
    // What a tree weighs is known only when it is packed, and the archive wants it first.
    let unpacked = archive.with_extension("layer");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&unpacked)
        .with_context(|| format!("writing {}", unpacked.display()))?;
    // Gone when it is closed, however this ends.
    fs::remove_file(&unpacked)?;
    let mut layer = Builder::new(Counted::new(BufWriter::new(file)));
    tree(&mut layer, root, Path::new(""))?;
    let layer = layer.into_inner()?;
    let (digest, size) = (layer.digest(), layer.size);
    let mut file = layer.inner.into_inner().context("writing the layer")?;
    file.rewind()?;
    let layer = Blob {
        media_type: LAYER,
        digest,
        size,
        content: Box::new(file),
    };
    publish(archive, |out| pack(out, layer, name, defaults))
}

pub(crate) fn save(binary: &Path, name: &str, entrypoint: &str, archive: &Path) -> Result<()> {
    let program = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    publish(archive, |out| pack_program(out, program, name, entrypoint))
}

/// Whoever loads an archive must never see half of it.
fn publish(archive: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let partial = archive.with_extension("partial");
    let create = || File::create(&partial);
    let mut out = create()
        .map(BufWriter::new)
        .with_context(|| format!("writing {}", partial.display()))?;
    write(&mut out).with_context(|| format!("writing {}", partial.display()))?;
    out.flush()?;
    fs::rename(&partial, archive).with_context(|| format!("writing {}", archive.display()))
}

fn pack_program(out: impl Write, program: Vec<u8>, name: &str, entrypoint: &str) -> Result<()> {
    let mut layer = Builder::new(Vec::new());
    file(
        &mut layer,
        entrypoint.trim_start_matches('/'),
        0o755,
        program.len() as u64,
        &*program,
    )?;
    let defaults = Defaults {
        env: vec!["PATH=/".into()],
        entrypoint: vec![entrypoint.into()],
        ..Defaults::default()
    };
    pack(out, Blob::new(LAYER, layer.into_inner()?), name, &defaults)
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn pack(out: impl Write, layer: Blob, name: &str, defaults: &Defaults) -> Result<()> {
    let mut run = json!({ "User": defaults.user, "Env": defaults.env, "WorkingDir": "/" });
    if let (false, Some(run)) = (defaults.entrypoint.is_empty(), run.as_object_mut()) {
        run.insert("Entrypoint".into(), json!(defaults.entrypoint));
    }
    let config = Blob::json(
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": architecture(),
            "os": "linux",
            "config": run,
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
            "size": manifest.size,
            "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
        }],
    });

    let mut archive = Builder::new(out);
    let layout: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let index = index.to_string();
    for (path, bytes) in [("oci-layout", layout), ("index.json", index.as_bytes())] {
        file(&mut archive, path, 0o644, bytes.len() as u64, bytes)?;
    }
    for blob in [config, layer, manifest] {
        let path = format!("blobs/{}", blob.digest.replace(':', "/"));
        file(&mut archive, &path, 0o644, blob.size, blob.content)?;
    }
    archive.finish()?;
    Ok(())
}

/// One addressable part of an image.
struct Blob {
    media_type: &'static str,
    digest: String,
    size: u64,
    content: Box<dyn Read>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: named(Sha256::digest(&bytes).as_slice()),
            size: bytes.len() as u64,
            content: Box::new(io::Cursor::new(bytes)),
        }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
}

/// A digest as images write it.
fn named(hash: &[u8]) -> String {
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}

/// Knows what was written, and how much.
struct Counted<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Counted<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn digest(&self) -> String {
        named(self.hash.clone().finalize().as_slice())
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What is in a folder of the tree, by name, so that no file system's order shows.
fn tree(layer: &mut Builder<impl Write>, root: &Path, folder: &Path) -> Result<()> {
    let here = root.join(folder);
    let entries = fs::read_dir(&here).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name()));
        names.collect::<io::Result<Vec<_>>>()
    });
    let mut names = entries.with_context(|| format!("reading {}", here.display()))?;
    names.sort();
    for name in names {
        let path = folder.join(name);
        add(layer, root, &path).with_context(|| format!("adding {}", path.display()))?;
    }
    Ok(())
}

fn add(layer: &mut Builder<impl Write>, root: &Path, path: &Path) -> Result<()> {
    let from: PathBuf = root.join(path);
    let meta = fs::symlink_metadata(&from)?;
    let (kind, mode) = (meta.file_type(), meta.permissions().mode() & 0o7777);
    if kind.is_symlink() {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, path, fs::read_link(&from)?)?;
    } else if kind.is_dir() {
        let mut header = header(EntryType::Directory, mode, 0);
        layer.append_data(&mut header, path, io::empty())?;
        tree(layer, root, path)?;
    } else if kind.is_file() {
        file(layer, path, mode, meta.len(), File::open(&from)?)?;
    } else {
        bail!("neither a file nor a folder nor a link");
    }
    Ok(())
}

fn file(
    archive: &mut Builder<impl Write>,
    path: impl AsRef<Path>,
    mode: u32,
    size: u64,
    content: impl Read,
) -> Result<()> {
    let path = path.as_ref();
    let mut header = header(EntryType::Regular, mode, size);
    archive
        .append_data(&mut header, path, content)
        .with_context(|| format!("adding {}", path.display()))
}

/// Of root, and from the beginning of time: nothing of the machine that makes it goes in.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
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
    use std::{collections::BTreeMap, os::unix::fs::symlink};

    use super::*;

    fn program(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        pack_program(&mut out, bytes.to_vec(), "zenop.dev/zenop:dev", "/zenop")?;
        Ok(out)
    }

    #[test]
    fn the_same_binary_gives_the_same_bytes() -> Result<()> {
        let once = program(b"program")?;
        assert_eq!(once, program(b"program")?);
        assert_ne!(once, program(b"another")?);
        Ok(())
    }

    /// A file, one in a folder, a program that others may run, and a link.
    fn plant(root: &Path) -> Result<()> {
        fs::create_dir_all(root.join("usr/bin"))?;
        fs::write(root.join("usr/bin/tool"), "tool")?;
        fs::set_permissions(
            root.join("usr/bin/tool"),
            fs::Permissions::from_mode(0o4755),
        )?;
        fs::write(root.join("motd"), "hello")?;
        fs::set_permissions(root.join("motd"), fs::Permissions::from_mode(0o640))?;
        Ok(symlink("usr/bin", root.join("bin"))?)
    }

    #[test]
    fn a_tree_keeps_modes_and_links_and_gives_the_same_bytes() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("zenop-image-{}", std::process::id()));
        let archives = ["one", "two"].map(|name| folder.join(format!("{name}.tar")));
        for archive in &archives {
            let root = archive.with_extension("");
            fs::create_dir_all(&root)?;
            plant(&root)?;
            build_tree(&root, "zenop.dev/tree:dev", &Defaults::default(), archive)?;
        }
        let [one, two] = archives.map(fs::read);
        fs::remove_dir_all(&folder)?;
        let one = one?;
        assert!(one == two?, "two archives of one tree differ");

        // The largest blob is the layer.
        let mut layer = Vec::new();
        for entry in tar::Archive::new(&*one).entries()? {
            let mut bytes = Vec::new();
            entry?.read_to_end(&mut bytes)?;
            layer = if bytes.len() > layer.len() {
                bytes
            } else {
                layer
            };
        }
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(&*layer).entries()? {
            let entry = entry?;
            let (header, path) = (entry.header(), entry.path()?.display().to_string());
            assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, 0));
            let link = entry.link_name()?.map(|to| to.display().to_string());
            found.insert(path, (header.mode()?, link));
        }
        let wanted = [
            ("bin", 0o777, Some("usr/bin")),
            ("motd", 0o640, None),
            ("usr", 0o755, None),
            ("usr/bin", 0o755, None),
            ("usr/bin/tool", 0o4755, None),
        ];
        let wanted = wanted.map(|(path, mode, link)| (path.into(), (mode, link.map(String::from))));
        assert_eq!(found, BTreeMap::from(wanted));
        Ok(())
    }
}
