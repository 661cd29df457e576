//! Where the programs are that the tests need and do not build.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, ensure};

/// The client: `ZENOP_ZENML`, else where `make zenml` puts it.
pub fn client() -> Result<PathBuf> {
    cached("ZENOP_ZENML", "zenml-0.98.0/bin/zenml", "make zenml")
}

/// What a variable names, else what is at a place of the cache, where a command puts it.
pub fn cached(variable: &str, place: &str, made_by: &str) -> Result<PathBuf> {
    let cache = || {
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
        let root = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(home);
        env::var_os("ZENOP_CACHE")
            .map(PathBuf::from)
            .or(root.map(|root| root.join("zenop")))
    };
    let named = env::var_os(variable).map(PathBuf::from);
    let path = named
        .or(cache().map(|cache| cache.join(place)))
        .context("no HOME")?;
    ensure!(
        path.exists(),
        "nothing is at {}: run `{made_by}`",
        path.display()
    );
    Ok(path)
}
