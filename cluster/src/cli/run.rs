//! `run`: a cluster for the length of one command.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Child,
    signal::unix::{SignalKind, signal},
};

use crate::{
    ControlPlane,
    folder::Folder,
    node, process,
    protocol::Wanted,
    tools::{self, Group},
};

/// Starts a cluster, runs the command with `KUBECONFIG` and `PATH` set, in the node's network if there is one, tears
/// down. The exit code is the command's.
pub async fn on_new(wanted: Wanted, command: &[OsString]) -> Result<ExitCode> {
    let plane = ControlPlane::start_wanted(wanted).await?;
    let running = plane.running().context("a cluster of ours runs")?;
    let command = if running.inside.is_some() {
        node::entered(running, command)?
    } else {
        command.to_vec()
    };
    let status = run(&command, &running.kubeconfig, &running.bin).await?;
    Ok(code(status))
}

/// Runs the command with kubectl and helm on `PATH`, on the cluster that `KUBECONFIG` names.
pub async fn on_existing(command: &[OsString]) -> Result<ExitCode> {
    let kubeconfig = env::var_os("KUBECONFIG")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let Some(kubeconfig) = kubeconfig else {
        bail!("--existing needs KUBECONFIG to name the cluster")
    };
    let folder = Folder::create()?;
    let wanted = tools::TOOLS
        .iter()
        .filter(|tool| tool.name == "kubectl" || tool.group == Group::Helm);
    tools::install(&wanted.collect::<Vec<_>>(), folder.path()).await?;
    let status = run(command, &kubeconfig, folder.path()).await?;
    Ok(code(status))
}

async fn run(command: &[OsString], kubeconfig: &Path, bin: &Path) -> Result<ExitStatus> {
    let (program, args) = command.split_first().context("no command given")?;
    let mut command = process::tied(program);
    command
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env("PATH", process::path_with(bin));
    let child = command
        .spawn()
        .with_context(|| format!("running {}", OsStr::display(program)))?;
    attend(child).await
}

/// Waits for the command. Ctrl-C reaches it by itself, and it is up to it what follows; SIGTERM is passed on.
async fn attend(mut child: Child) -> Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
                let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            }
        }
    }
}

/// As shells have it: 128 and the signal, if one ended it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
