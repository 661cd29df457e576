//! A cluster that stays: `up`, `down`, `status`, `kubeconfig`.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{
    cache, folder,
    launch::Supervisor,
    node, progress,
    protocol::{Running, Wanted},
};

/// Starts one, unless it runs.
pub fn up(wanted: &Wanted) -> Result<ExitCode> {
    let starting = File::create(cache::root()?.join("up.lock")).context("making a lock file")?;
    starting
        .lock()
        .context("waiting for another zenop-cluster up")?;
    let running = match found()? {
        None => Supervisor::start_detached(wanted, &note()?)?,
        Some(Found {
            running: Some(running),
            ..
        }) if running.wanted == *wanted => running,
        Some(_) => bail!(
            "one is up already, with other options or by another version: first run zenop-cluster down"
        ),
    };
    describe(&running);
    println!("\nStop it with: zenop-cluster down");
    Ok(ExitCode::SUCCESS)
}

/// Stops it, and waits until everything is gone.
pub fn down() -> Result<ExitCode> {
    let Some(found) = found()? else {
        progress::say("No cluster is up.");
        return Ok(ExitCode::SUCCESS);
    };
    let lock = folder::lock(&found.folder).context("finding the cluster's folder")?;
    let pid = i32::try_from(found.supervisor)
        .ok()
        .and_then(Pid::from_raw)
        .context("reading the note")?;
    kill_process(pid, Signal::TERM).context("stopping the supervisor")?;
    lock.lock().context("waiting for the supervisor's end")?;
    progress::say("The cluster is gone.");
    Ok(ExitCode::SUCCESS)
}

/// Says whether one is up, also by the exit code.
pub fn status() -> Result<ExitCode> {
    let Some(found) = found()? else {
        println!("No cluster is up. Start one with: zenop-cluster up");
        return Ok(ExitCode::FAILURE);
    };
    describe(&found.running.context(OTHER_VERSION)?);
    Ok(ExitCode::SUCCESS)
}

/// Becomes the command, or a shell, in the node's network.
pub fn enter(command: &[OsString]) -> Result<ExitCode> {
    let shell = [env::var_os("SHELL").unwrap_or_else(|| "sh".into())];
    let words = if command.is_empty() {
        &shell[..]
    } else {
        command
    };
    Err(node::command(&expected()?, words)?.exec()).context("entering the node's network")
}

/// Gives the node the images of an archive.
pub async fn load(archive: &Path) -> Result<ExitCode> {
    node::load_image(&expected()?, archive).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the path of its kubeconfig.
pub fn kubeconfig() -> Result<ExitCode> {
    let running = expected()?;
    println!("{}", running.kubeconfig.display());
    Ok(ExitCode::SUCCESS)
}

fn describe(running: &Running) {
    println!(
        "Kubernetes is up at {}. Its logs are in {}/logs. To use it:\n",
        running.server,
        running.folder.display()
    );
    println!("  export KUBECONFIG={}", running.kubeconfig.display());
    println!("  export PATH={}:$PATH", running.bin.display());
    if running.inside.is_some() {
        println!(
            "\nPods and Services are reached from the node's network: zenop-cluster enter [-- command]"
        );
    }
}

fn note() -> Result<PathBuf> {
    Ok(cache::root()?.join("up.json"))
}

const OTHER_VERSION: &str =
    "another version of zenop-cluster started the one that is up: run zenop-cluster down";

fn expected() -> Result<Running> {
    let found = found()?.context("no cluster is up: start one with zenop-cluster up")?;
    found.running.context(OTHER_VERSION)
}

/// A cluster that is up.
#[derive(Deserialize)]
struct Found {
    supervisor: u32,
    folder: PathBuf,
    /// `None` if another version of us wrote the note.
    #[serde(skip)]
    running: Option<Running>,
}

/// The cluster that is up. A note about one whose supervisor was killed, or that a reboot ended, counts for nothing.
fn found() -> Result<Option<Found>> {
    let text = match fs::read(note()?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.context("reading the note about the cluster")?,
    };
    let found: Option<Found> = serde_json::from_slice(&text).ok();
    let running = serde_json::from_slice(&text).ok();
    Ok(found
        .filter(|found| folder::in_use(&found.folder))
        .map(|found| Found { running, ..found }))
}
