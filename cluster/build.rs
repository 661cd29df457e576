//! Stamps the crate with a hash of its own sources, by which the library tells a stale supervisor binary from a fresh one.

use std::{env, fs, io, path::Path};

use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    let root = env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?;
    let mut hash = Sha256::new();
    for part in ["Cargo.toml", "src", "tools"] {
        println!("cargo::rerun-if-changed={part}");
        absorb(&Path::new(&root).join(part), &mut hash)?;
    }
    let digest = hash.finalize();
    let stamp: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("cargo::rustc-env=ZENOP_CLUSTER_STAMP={stamp}");
    Ok(())
}

/// Adds the file, or all files below the folder in a fixed order, to the hash.
fn absorb(path: &Path, hash: &mut Sha256) -> io::Result<()> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| absorb(entry, hash));
    }
    hash.update(path.as_os_str().as_encoded_bytes());
    hash.update(fs::read(path)?);
    Ok(())
}
