//! The temporary folder of one cluster: locked while its supervisor lives, so that a left-over can be told from one in use.

use std::{
    env,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const PREFIX: &str = "zenop-cluster-";
const LOCK: &str = "lock";

/// A folder that only its owner can read. Dropping it removes it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes a new one in the system's folder for temporary files.
    pub fn create() -> Result<Self> {
        let name = format!("{PREFIX}{}", random_hex::<4>()?);
        let path = env::temp_dir().join(&name);
        // It gets its name once its lock is held: a sweep never sees it unlocked.
        let hidden = env::temp_dir().join(format!(".{name}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&hidden)
            .with_context(|| format!("making {}", hidden.display()))?;
        let lock = File::create(hidden.join(LOCK)).context("making the lock file")?;
        lock.try_lock().context("locking a new folder")?;
        fs::rename(&hidden, &path).with_context(|| format!("naming {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The folder's lock, not taken. Its supervisor holds it until everything else is gone.
pub fn lock(folder: &Path) -> io::Result<File> {
    File::open(folder.join(LOCK))
}

/// Whether the folder's supervisor is alive.
pub fn in_use(folder: &Path) -> bool {
    lock(folder).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Our folders whose supervisor was killed before it could clean up.
pub fn abandoned() -> Vec<PathBuf> {
    let us = rustix::process::getuid().as_raw();
    let ours = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
            && fs::symlink_metadata(path).is_ok_and(|data| data.is_dir() && data.uid() == us)
            && path.join(LOCK).exists()
            && !in_use(path)
    };
    let entries = fs::read_dir(env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    entries.map(|entry| entry.path()).filter(ours).collect()
}

/// `BYTES` random bytes in hexadecimal.
pub fn random_hex<const BYTES: usize>() -> Result<String> {
    let mut bytes = [0; BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
