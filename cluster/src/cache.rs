//! Where things that outlive one cluster are kept: built tools, and the note about the cluster that `up` left running.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The cache folder, made if missing: `$ZENOP_CACHE`, else `$XDG_CACHE_HOME/zenop`, else `~/.cache/zenop`.
///
/// It lies outside the source tree so that a fresh clone finds the tools that an earlier one built.
pub fn root() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = match (set("ZENOP_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(own), _, _) => own,
        (None, Some(cache), _) => cache.join("zenop"),
        (None, None, Some(home)) => home.join(".cache/zenop"),
        (None, None, None) => {
            bail!("no place for built tools: set ZENOP_CACHE, XDG_CACHE_HOME or HOME")
        }
    };
    make(&folder)?;
    folder
        .canonicalize()
        .with_context(|| format!("resolving {}", folder.display()))
}

/// The folder of built tools, made if missing.
pub fn bin() -> Result<PathBuf> {
    let folder = root()?.join("bin");
    make(&folder)?;
    Ok(folder)
}

/// Makes the folder and those above it.
pub fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}
