//! Child processes that do not outlive us, whatever happens to us.

use std::{
    convert::Infallible,
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, getppid, kill_process};
use tokio::process::{Child, Command};

/// The exit code of a program that was not found, as shells have it.
pub const NOT_FOUND: u8 = 127;

/// How to start one part of a cluster.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What people call it; also its log's name.
    pub name: &'static str,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// What its `PATH` should have first.
    pub bin: PathBuf,
}

/// A running part of a cluster. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    /// What it was started from.
    pub spec: Spec,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts it, its output appended to `<logs>/<name>.log`.
    pub fn start(spec: Spec, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{}.log", spec.name));
        let open = || File::options().create(true).append(true).open(&log);
        let (program, args) = spec.command.split_first().context("no program")?;
        let child = tied(program)
            .args(args)
            .env("PATH", path_with(&spec.bin))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(open().context("opening a log")?)
            .stderr(open().context("opening a log")?)
            .spawn()
            .with_context(|| format!("starting {}", spec.name))?;
        Ok(Self { spec, log, child })
    }

    /// Sends the signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let pid = pid.with_context(|| format!("{} is not running", self.spec.name))?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.spec.name))
    }

    /// Kills it, paused or not, and waits until it is gone.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of its log, for a person.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        lines
            .into_iter()
            .rev()
            .fold(String::new(), |all, line| format!("{all}\n  {line}"))
    }
}

/// `PATH` with the folder first, and last those of administrators, which not every login has.
pub fn path_with(bin: &Path) -> OsString {
    let mut path = bin.as_os_str().to_owned();
    for more in [env::var_os("PATH"), Some("/usr/sbin:/sbin".into())]
        .into_iter()
        .flatten()
    {
        path.push(":");
        path.push(more);
    }
    path
}

/// A command that dies with the thread that starts it.
///
/// Linux ties a child's death to its parent's thread, so this is for single-threaded programs: this crate's binary.
pub fn tied(program: &OsStr) -> Command {
    let mut command = if cfg!(target_os = "linux") {
        // By this link and not by its path, it is still found after a new build replaced the file.
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["exec", "--parent", &std::process::id().to_string(), "--"])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.kill_on_drop(true);
    command
}

/// The other half of [`tied`], in the child: asks to die with `parent`, then becomes the program.
pub fn become_tied(parent: u32, program: &OsStr, args: &[OsString]) -> io::Result<Infallible> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above.
    if getppid().and_then(|pid| u32::try_from(pid.as_raw_pid()).ok()) != Some(parent) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Err(std::process::Command::new(program).args(args).exec())
}
