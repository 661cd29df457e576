//! The operator as a process of its own: the real binary, its log kept, gone when dropped.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::timeout,
};

use super::PATIENCE;

/// How to start one. Its delays are short, and nothing hides behind a resync.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kubeconfig: PathBuf,
    /// Where it works; `None` for everywhere.
    pub watch: Option<String>,
    pub lease_namespace: String,
    pub lease: String,
    pub identity: String,
    /// `RUST_LOG`.
    pub log: String,
    /// More arguments. They come last, so they win over ours.
    pub arguments: Vec<String>,
}

/// What a process wrote so far.
#[derive(Clone, Debug)]
pub struct Log(Arc<watch::Sender<String>>);

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    child: Mutex<Child>,
    pid: Pid,
    pub log: Log,
}

impl Launch {
    /// Starts it; does not wait for anything.
    pub fn start(&self) -> Result<Operator> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zenop"));
        command
            .args(["operator", "--image", "registry.invalid/zenop:test"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(
                self.watch
                    .iter()
                    .flat_map(|name| ["--watch-namespace", name]),
            )
            .args(["--identity", &self.identity])
            .args(["--lease-namespace", &self.lease_namespace])
            .args(["--lease-name", &self.lease])
            .args(["--retry-base", "50ms", "--retry-cap", "1s"])
            .args(&self.arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("RUST_LOG", &self.log);
        Operator::spawn(&mut command)
    }
}

async fn keep(stderr: ChildStderr, log: Log) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.0.send_modify(|all| {
            all.push_str(&line);
            all.push('\n');
        });
    }
}

impl Log {
    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until a line holds all of these.
    pub async fn says(&self, parts: &[&str]) -> Result<()> {
        let mut log = self.0.subscribe();
        let is = |line: &str| parts.iter().all(|part| line.contains(part));
        let said = log.wait_for(|text| text.lines().any(is));
        let said = timeout(PATIENCE, said).await;
        said.with_context(|| format!("the log does not say {parts:?}"))??;
        Ok(())
    }
}

impl Operator {
    /// Starts a command, which may be another one of the same program.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the program")?;
        let id = child.id().context("it ended at once")?;
        let stderr = child.stderr.take().context("no log")?;
        let log = Log(Arc::new(watch::Sender::new(String::new())));
        tokio::spawn(keep(stderr, log.clone()));
        Ok(Self {
            child: Mutex::new(child),
            pid: Pid::from_raw(id.try_into()?).context("no process")?,
            log,
        })
    }

    /// Waits until it leads.
    pub async fn leads(&self) -> Result<()> {
        self.log.says(&["\"leading\""]).await
    }

    /// What ends it as a crash would, whenever it is called.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        let pid = self.pid;
        move || {
            // It fails if the process has ended already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// Waits until it has ended.
    pub async fn ended(self) -> Result<ExitStatus> {
        let mut child = self
            .child
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let ended = timeout(PATIENCE, child.wait()).await;
        Ok(ended.context("the operator does not end")??)
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(child.try_wait(), Ok(None))
    }

    /// Ends it as a crash would.
    pub async fn crash(self) -> Result<()> {
        self.killer()();
        self.ended().await.map(drop)
    }

    /// Ends it in good order.
    pub async fn stop(self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .context("no VmRSS")?
            .trim()
            .trim_end_matches(" kB")
            .parse()?;
        Ok(kib * 1024)
    }
}
