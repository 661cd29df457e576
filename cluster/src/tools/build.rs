//! Builds tools that are missing, once per machine.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use super::{Module, Tool};
use crate::{
    cache, process,
    progress::{self, Step},
};

/// A tool that is there to be run.
#[derive(Debug)]
pub struct Ready {
    /// The name to run it by.
    pub name: &'static str,
    /// The file, whose own name carries a hash.
    pub path: PathBuf,
}

/// The given tools, in the same order, after building those that are missing, with progress on stderr.
///
/// # Errors
///
/// If Go is missing or a build fails. The message says what to do.
pub async fn ensure(tools: &[&'static Tool]) -> Result<Vec<Ready>> {
    let mut missing = Vec::new();
    for tool in tools {
        if tool.given()?.is_none() && !tool.cached()?.is_file() {
            missing.push(*tool);
        }
    }
    announce(&missing);
    for (done, tool) in missing.iter().enumerate() {
        build_once(
            tool,
            &format!("[{}/{}] {}", done + 1, missing.len(), tool.name),
        )
        .await?;
    }
    let ready = |tool: &&'static Tool| {
        let path = tool.given()?.map_or_else(|| tool.cached(), Ok)?;
        Ok(Ready {
            name: tool.name,
            path,
        })
    };
    tools.iter().map(ready).collect()
}

/// Puts the given tools into the folder, by their plain names, after building those that are missing.
///
/// # Errors
///
/// As [`ensure`].
pub async fn install(tools: &[&'static Tool], folder: &Path) -> Result<()> {
    cache::make(folder)?;
    for tool in ensure(tools).await? {
        symlink(&tool.path, folder.join(tool.name))
            .with_context(|| format!("linking {}", tool.name))?;
    }
    Ok(())
}

fn announce(missing: &[&Tool]) {
    let minutes = missing
        .iter()
        .map(|tool| tool.cold_seconds)
        .sum::<u64>()
        .div_ceil(60);
    if minutes > 0 {
        progress::say(format_args!(
            "Building {} Kubernetes tools from source, once per machine: about {minutes} min on two cores, less with a warm \
             Go cache",
            missing.len()
        ));
    }
}

/// Builds the tool unless another process has done so by the time its lock is ours.
async fn build_once(tool: &Tool, label: &str) -> Result<()> {
    let target = tool.cached()?;
    let lock =
        File::create(target.with_extension("lock")).context("making the tool's lock file")?;
    let step = Step::start(label);
    let work = async {
        wait_for(&lock).await?;
        if target.is_file() {
            return Ok(());
        }
        go_build(tool, &target).await
    };
    tokio::select! {
        built = work => built?,
        () = step.tick() => {}
    }
    step.done();
    Ok(())
}

/// Takes the lock without blocking the thread, which also has signals to hear.
async fn wait_for(lock: &File) -> Result<()> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(500)).await,
            Err(TryLockError::Error(error)) => {
                return Err(error).context("locking the tool's build");
            }
        }
    }
}

async fn go_build(tool: &Tool, target: &Path) -> Result<()> {
    let source = write_module(tool.module)?;
    // We hold the tool's lock: what a killed build left under this name is nobody's.
    let partial = target.with_extension("partial");
    let output = process::tied("go".as_ref())
        .args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            tool.module.linker_flags,
            "-o",
        ])
        .arg(&partial)
        .arg(tool.package)
        .current_dir(&source)
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .output()
        .await;
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(NO_GO),
        other => other.context("running go build")?,
    };
    if output.status.code() == Some(process::NOT_FOUND.into()) {
        bail!(NO_GO);
    }
    if !output.status.success() {
        let _ = fs::remove_file(&partial);
        bail!(
            "go build of {} failed ({}):\n{}",
            tool.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::rename(&partial, target).with_context(|| format!("moving {} into the cache", tool.name))
}

const NO_GO: &str = "the local Kubernetes is built from source and needs Go 1.26 or newer on PATH: install your \
     distribution's package (golang-go) or the release from the Go project's download page";

/// Writes the module's files into the cache, where Go runs: the source tree stays untouched, and need not be there.
fn write_module(module: &Module) -> Result<PathBuf> {
    let folder = cache::root()?
        .join("src")
        .join(format!("{}-{}", module.name, module.hash()));
    cache::make(&folder)?;
    for (name, text) in module.files {
        fs::write(folder.join(name), text)
            .with_context(|| format!("writing {name} of {}", module.name))?;
    }
    Ok(folder)
}
