//! A cluster that stays: `up`, `down`, `status`, `kubeconfig`.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Options, cache, folder, launch::Supervisor, progress, protocol::Running};

/// Starts one, unless it runs.
pub fn up(options: &Options) -> Result<ExitCode> {
    let starting = File::create(cache::root()?.join("up.lock")).context("making a lock file")?;
    starting
        .lock()
        .context("waiting for another zenop-cluster up")?;
    let running = match found()? {
        Some(running) if running.options == *options => running,
        Some(_) => bail!("one is up already, with other options: first run zenop-cluster down"),
        None => Supervisor::start_detached(options, &note()?)?,
    };
    describe(&running);
    println!("\nStop it with: zenop-cluster down");
    Ok(ExitCode::SUCCESS)
}

/// Stops it, and waits until everything is gone.
pub fn down() -> Result<ExitCode> {
    let Some(running) = found()? else {
        progress::say("No cluster is up.");
        return Ok(ExitCode::SUCCESS);
    };
    let lock = folder::lock(&running.folder).context("finding the cluster's folder")?;
    let pid = i32::try_from(running.supervisor)
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
    let Some(running) = found()? else {
        println!("No cluster is up. Start one with: zenop-cluster up");
        return Ok(ExitCode::FAILURE);
    };
    describe(&running);
    Ok(ExitCode::SUCCESS)
}

/// Prints the path of its kubeconfig.
pub fn kubeconfig() -> Result<ExitCode> {
    let running = found()?.context("no cluster is up: start one with zenop-cluster up")?;
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
}

fn note() -> Result<PathBuf> {
    Ok(cache::root()?.join("up.json"))
}

/// The cluster that is up. A note about one whose supervisor was killed, or that a reboot ended, counts for nothing.
fn found() -> Result<Option<Running>> {
    let text = match fs::read(note()?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.context("reading the note about the cluster")?,
    };
    let running: Option<Running> = serde_json::from_slice(&text).ok();
    Ok(running.filter(|running| folder::in_use(&running.folder)))
}
